"""CoAP's own parts in words: codes, options, and payloads that nobody else has words for."""

from __future__ import annotations

from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.optiontypes import OpaqueOption, StringOption, UintOption

from pdmlab.capture.parts import (
    ACCEPT,
    BLOCK1,
    BLOCK2,
    CONTENT_FORMAT,
    LOCATION_PATH,
    URI_PATH,
    URI_QUERY,
    Parts,
)

PREVIEW = 48  # B of a payload that are shown
LONGEST = 200  # characters that are shown of a path, a query and the options
TYPES = ("CON", "NON", "ACK", "RST")
EMPTY = ("ping", "EMPTY", "acknowledged", "reset")
"""What an empty message of each type is: a CON of nothing asks for a reset (RFC 7252 section 4.3)."""
_FORMATS = {  # IANA's CoAP Content-Formats, as far as devices under management meet them
    0: "text/plain",
    40: "application/link-format",
    42: "application/octet-stream",
    50: "application/json",
    60: "application/cbor",
    99: "TLV, by its old number",
    110: "application/senml+json",
    112: "application/senml+cbor",
    281: "application/pkcs7-mime",
    285: "application/pkcs10",
    287: "application/pkix-cert",
    11542: "application/vnd.oma.lwm2m+tlv",
    11543: "application/vnd.oma.lwm2m+json",
    11544: "application/vnd.oma.lwm2m+cbor",
}
# A table: aiocoap would remember every number that a peer ever made up.
_OPTIONS = {
    int(each): (each.name_printable, each.format)
    for each in vars(OptionNumber).values()
    if isinstance(each, OptionNumber)
}
_SHOWN_APART = (URI_PATH, URI_QUERY, LOCATION_PATH)


def code_in_words(parts: Parts) -> str:
    """Return "GET", "2.05 Content", or what an empty message is."""
    return str(Code(parts.code)) if parts.code else EMPTY[parts.type]


def format_in_words(number: int) -> str:
    """Return a content format's number with its name: 11542 (application/vnd.oma.lwm2m+tlv)."""
    name = _FORMATS.get(number, "")
    return f"{number} ({name})" if name else str(number)


def options_in_words(parts: Parts, about: int | None) -> str:
    """Return the options but path and query; `about` is how many blocks there are, if anybody said so."""
    said = []
    location = parts.texts(LOCATION_PATH)
    if location:
        said.append(f"Location-Path /{'/'.join(location)}")
    for number, values in parts.options.items():
        if number in _SHOWN_APART:
            continue
        name, kind = _OPTIONS.get(number, (f"Option {number}", OpaqueOption))
        for value in values:
            if number in (BLOCK1, BLOCK2):
                said.append(f"{name} {_block_in_words(parts, number, about)}")
            elif number in (CONTENT_FORMAT, ACCEPT):
                said.append(f"{name} {format_in_words(int.from_bytes(value, 'big'))}")
            elif kind is UintOption:
                said.append(f"{name} {int.from_bytes(value, 'big')}")
            elif kind is StringOption:
                said.append(f"{name} {value.decode(errors='replace')}")
            else:
                said.append(f"{name} {value.hex()}".rstrip())
    return shown(", ".join(said))


def _block_in_words(parts: Parts, number: int, about: int | None) -> str:
    block = parts.block(number)
    assert block is not None
    at, more, size = block
    text = f"{at}/{int(more)}/{size}"
    describes = (number == BLOCK1) == parts.is_request  # the payload beside it, and not the other's wish
    if not describes or (at == 0 and not more):
        return text
    if not more:
        return f"{text} (block {at + 1}, the last)"
    return f"{text} (block {at + 1} of about {about})" if about else f"{text} (block {at + 1})"


def shown(text: str, longest: int = LONGEST) -> str:
    """Return text as a line can hold it: what cannot be printed is escaped, and a long rest is left out."""
    if len(text) > longest:
        text = text[:longest] + "…"
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def preview(payload: bytes) -> str:
    """Return the beginning of a payload: as text if it is such, else in hex."""
    head = payload[:PREVIEW]
    rest = "…" if len(payload) > PREVIEW else ""
    text = as_text(head)
    return (text if text is not None else head.hex(" ")) + rest


def as_text(data: bytes) -> str | None:
    """Return what is text that can be printed; None otherwise."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None
