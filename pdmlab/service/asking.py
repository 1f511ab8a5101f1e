"""A queued request as the CoAP message that it becomes, and a device's answer as the JSON that it becomes."""

from __future__ import annotations

import base64

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.errors import Lwm2mError, NetworkError
from pdmlab.lwm2m import content
from pdmlab.lwm2m.paths import Path
from pdmlab.service.refusal import Refused
from pdmlab.service.store import Row
from pdmlab.service.values import as_json, format_number, max_age_of

METHODS: dict[str, Code] = {"GET": codes.GET, "PUT": codes.PUT, "POST": codes.POST, "DELETE": codes.DELETE}
TIMEOUT = {"status": 504, "error": "TIMEOUT"}
MAX_URI = 512  # characters


def timeout(error: NetworkError, hint: str = "") -> Row:
    """Return the async-response of a request that was sent and got no answer, with the reason in its payload."""
    said = f"{error.message}; {hint}" if hint else error.message
    return {**TIMEOUT, "payload": base64.b64encode(said.encode()).decode(), "ct": "text/plain"}


def hint_of(row: Row) -> str:
    """Say what an unanswered request may be for; nothing, mostly."""
    if row["method"] == "POST" and row["payload"] and format_number(row["content_type"]) not in (None, content.TEXT):
        # pelion-wire 4.3: acknowledged, and then nothing, ever
        return "resources that answer late never do if a Content-Format other than text/plain comes along: leave it out"
    return ""


def split_uri(uri: str) -> tuple[Path, list[str]]:
    """Return the path and the query parts of "/3/0/1?pmin=5".

    Raises:
        Refused: it is no LwM2M path (400).
    """
    text, _, query = uri.partition("?")
    try:
        path = Path.parse(text)
    except Lwm2mError as error:
        raise Refused(400, "MALFORMED_JSON_CONTENT", hint=str(error)) from error
    parts = [part for part in query.split("&") if part]
    if len(uri) > MAX_URI or any(len(part.encode()) > 255 for part in parts):
        raise Refused(400, "MALFORMED_JSON_CONTENT", hint="the uri is too long")
    return path, parts


def message_of(row: Row) -> Message:
    path, query = split_uri(row["uri"])
    message = Message(code=METHODS[row["method"]], payload=bytes(row["payload"]))
    message.opt.uri_path = path.segments
    if query:
        message.opt.uri_query = query
    format = format_number(row["content_type"])
    if format is not None and row["payload"]:
        message.opt.content_format = format
    return message


def result_of(row: Row, answer: Message) -> Row:
    """Return an async-response without its id: 200 for every 2.xx, c.dd as c·100 + dd otherwise."""
    code = int(answer.code)
    if code < 128:
        format = answer.opt.content_format
        path = str(split_uri(row["uri"])[0])
        number = None if format is None else int(format)
        return {"status": 200, **as_json(path, answer.payload, number, max_age_of(answer))}
    result: Row = {"status": (code >> 5) * 100 + (code & 31), "error": str(answer.code)}
    if answer.payload:
        result["payload"] = base64.b64encode(answer.payload).decode()
        result["ct"] = "text/plain"
    return result
