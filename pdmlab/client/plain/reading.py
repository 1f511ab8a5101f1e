"""Values as the payload of an answer: which format, for a read, a composite read and a notification alike."""

from __future__ import annotations

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client.plain.objects import Refusal
from pdmlab.client.plain.tree import ObjectTree
from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import content
from pdmlab.lwm2m.content import JSON, OPAQUE, RECORDS, SENML_CBOR, SENML_JSON, SINGLE, TEXT, TLV, TLVS
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.payload import Values, encode_all

LISTED = {"1.0": JSON, "1.1": SENML_JSON}
"""The format that registration names (ct), by version of LwM2M, as its examples do; the client speaks all there are.

One only: Wakaama's server refuses a device that lists several.
"""


def default_format(version: str) -> int:
    """Return the format of an answer when the server accepts any."""
    return TLV if version == "1.0" else SENML_CBOR


def content_of(tree: ObjectTree, path: Path, format: int) -> Message:
    """Return the 2.05 that carries what can be read at or below a path.

    Raises:
        Refusal: the format is not known, or cannot carry this.
    """
    values = tree.values(path)
    try:
        return _content(_payload(tree, values, path, content.registered_format(format)), format)
    except Lwm2mError as error:
        raise Refusal(codes.NOT_ACCEPTABLE, error.message) from error


def _payload(tree: ObjectTree, values: Values, path: Path, format: int) -> bytes:
    if format in TLVS or format in RECORDS:
        return encode_all(values, tree.type_of, format, path)
    if format not in SINGLE:
        raise content.unknown_format(format)
    value = values.get(Path(path.ids[:3])) if path.resource is not None else None
    if isinstance(value, dict) and path.resource_instance is not None:
        value = value[path.resource_instance]
    if value is None or isinstance(value, dict):
        raise Lwm2mError(f"{path} has several values, which {content.FORMAT_NAMES[format]} cannot carry")
    type = tree.type_of(path) or "string"
    if format == OPAQUE and type != "opaque":
        raise Lwm2mError(f"{path} is no opaque")
    if format == TEXT and type == "opaque" and isinstance(value, bytes):
        return content.to_text(value, type).encode()
    return content.encode(value, type, format, path)


def composite_content_of(tree: ObjectTree, paths: list[Path | None], format: int) -> Message:
    """Return the 2.05 that carries what can be read at several paths (None: the root), without those that are not.

    Raises:
        Refusal: the format is not SenML.
    """
    if format not in RECORDS - {JSON}:
        raise Refusal(codes.NOT_ACCEPTABLE, f"format {format}; several paths are answered in SenML")
    return _content(encode_all(values_at(tree, paths), tree.type_of, format, None), format)


def values_at(tree: ObjectTree, paths: list[Path | None]) -> Values:
    """Return what can be read at several paths, each value once."""
    values: Values = {}
    for path in paths:
        for where, value in tree.values(path).items():
            known = values.get(where)
            values[where] = known | value if isinstance(known, dict) and isinstance(value, dict) else value
    return values


def _content(payload: bytes, format: int) -> Message:
    return Message(code=codes.CONTENT, payload=payload, content_format=format)
