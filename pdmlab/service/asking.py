"""A queued request as the CoAP message that it becomes, and a device's answer as the JSON that it becomes."""

from __future__ import annotations

import base64
import re

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.errors import Lwm2mError, NetworkError, TimedOut
from pdmlab.lwm2m import content
from pdmlab.lwm2m.paths import Path
from pdmlab.service.refusal import Refused
from pdmlab.service.store import Row
from pdmlab.service.values import as_it_came, as_json, format_number, max_age_of

METHODS: dict[str, Code] = {"GET": codes.GET, "PUT": codes.PUT, "POST": codes.POST, "DELETE": codes.DELETE}
TIMEOUT = {"status": 504, "error": "TIMEOUT"}
NOT_CONNECTED = {"status": 502, "error": "DEVICE_NOT_CONNECTED"}
BAD_GATEWAY = {"status": 502, "error": "BAD_GATEWAY"}
"""What came from the device is no answer: it has reset the request, say, or its blocks do not fit together."""
CLEARED = {"status": 429, "error": "QUEUE_CLEARED"}
"""The device's registration has ended, and what waited for it with that."""
MAX_URI = 512  # characters
_SLASHES = re.compile("/{2,}")  # the vendor's SDK doubles them

_DONE = {codes.CREATED, codes.DELETED, codes.CHANGED, codes.CONTENT}
_SUCCESSES = {method: {codes.CONTENT} if method == "GET" else _DONE for method in METHODS}


def cleared(why: str) -> Row:
    """Return the async-response of a request that ended with the registration of its device."""
    return {**CLEARED, **_words(why)}


def unanswered(error: NetworkError, hint: str = "", *, left: bool = False) -> Row:
    """Return the async-response of a request that was sent and got no answer, with the reason in its payload.

    left: the device is no longer where the request went.
    """
    what = TIMEOUT if isinstance(error, TimedOut) else NOT_CONNECTED if left else BAD_GATEWAY
    return {**what, **_words(f"{error.message}; {hint}" if hint else error.message)}


def _words(said: str) -> Row:
    return {"payload": base64.b64encode(said.encode()).decode(), "ct": "text/plain"}


def hint_of(row: Row) -> str:
    """Say what an unanswered request may be for; nothing, mostly."""
    if row["method"] == "POST" and row["payload"] and format_number(row["content_type"]) not in (None, content.TEXT):
        # docs/wire.md 4.3: acknowledged, and then nothing, ever
        return "resources that answer late never do if a Content-Format other than text/plain comes along: leave it out"
    return ""


def split_uri(uri: str) -> tuple[Path, list[str]]:
    """Return the path and the query parts of "/3/0/1?pmin=5".

    Raises:
        Refused: it is no LwM2M path, too long, or has characters that no URI has (400).
    """
    if not uri.isprintable():
        raise Refused(400, "MALFORMED_JSON_CONTENT", hint="the uri has control characters")
    text, _, query = uri.partition("?")
    try:
        path = Path.parse(_SLASHES.sub("/", text))
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
    # Only if the caller says so: the stock client goes on with the format that it was asked for (docs/wire.md 4.4).
    accept = format_number(row["accept"])
    if accept is not None:
        message.opt.accept = accept
    return message


def result_of(row: Row, answer: Message) -> Row:
    """Return an async-response without its id: 200 for a success of the method, c.dd as c·100 + dd for an error.

    Codes that answer nothing of the kind are an error too, and no empty value: 2.31 is for blocks, to begin with.
    """
    code = int(answer.code)
    if code not in _SUCCESSES[row["method"]] and code >> 5 not in (4, 5):
        said = f"the device answered {answer.code}, which is no answer to a {row['method']}"
        return {**BAD_GATEWAY, **_words(said)}
    if code < 128:
        format = answer.opt.content_format
        path = str(split_uri(row["uri"])[0])
        number = None if format is None else int(format)
        # Who asked for a format gets that one; else a single value is text, or as it came.
        show = as_json if row["accept"] is None else as_it_came
        return {"status": 200, **show(path, answer.payload, number, max_age_of(answer))}
    result: Row = {"status": (code >> 5) * 100 + (code & 31), "error": str(answer.code)}
    if answer.payload:
        result["payload"] = base64.b64encode(answer.payload).decode()
        result["ct"] = "text/plain"
    return result


def media_type(name: str | None) -> str | None:
    """Return a media type without its parameters, if devices know it; raise Refused if not."""
    return None if format_number(name) is None or name is None else name.partition(";")[0].strip().lower()
