"""CoAP's own parts in words: codes, options, and payloads that nobody else has words for."""

from __future__ import annotations

from aiocoap.numbers.codes import Code
from aiocoap.numbers.contentformat import ContentFormat
from aiocoap.numbers.optionnumbers import OptionNumber

from pdmlab.capture.kept import Kept, Options

PREVIEW = 48  # B of a payload that are shown
LONGEST = 200  # characters that are shown of a path, a query and the options
TYPES = ("CON", "NON", "ACK", "RST")
EMPTY = {0: "ping", 1: "EMPTY", 2: "acknowledged", 3: "reset"}
"""What an empty message of each type is: a CON of nothing asks for a reset (RFC 7252 section 4.3)."""
_OLD_FORMATS = {99: "TLV, by its old number"}  # not in IANA's registry: LwM2M drafts, and the stock client
_SHOWN_APART = (OptionNumber.URI_PATH, OptionNumber.URI_QUERY, OptionNumber.LOCATION_PATH)
_FORMATS = (OptionNumber.CONTENT_FORMAT, OptionNumber.ACCEPT)
_BLOCKS = (OptionNumber.BLOCK1, OptionNumber.BLOCK2)


def strings(options: Options, number: OptionNumber) -> tuple[str, ...]:
    """Return the values of a repeated option of text."""
    return tuple(str(each.value) for each in options.get(number, ()))


def whole_number(options: Options, number: OptionNumber) -> int | None:
    """Return the value of an option that holds a number."""
    values = options.get(number)
    return int(values[0].value) if values else None


def block_of(options: Options, number: OptionNumber) -> tuple[int, bool, int] | None:
    """Return a block option as its number, whether more follow, and its size (B)."""
    values = options.get(number)
    if not values:
        return None
    block = values[0].value
    return block.block_number, bool(block.more), block.size


def code_in_words(kept: Kept) -> str:
    """Return "GET", "2.05 Content", or what an empty message is."""
    if kept.code == 0:
        return EMPTY.get(kept.type if kept.type is not None else 1, "EMPTY")
    return str(Code(kept.code))


def format_in_words(number: int) -> str:
    """Return a content format's number with its name: 11542 (application/vnd.oma.lwm2m+tlv)."""
    known = ContentFormat(number)
    name = _OLD_FORMATS.get(number) or (known.media_type.partition(";")[0] if known.is_known() else "")
    return f"{number} ({name})" if name else str(number)


def options_in_words(kept: Kept, about: int | None) -> str:
    """Return the options but path and query; `about` is how many blocks there are, if anybody said so."""
    parts = []
    location = strings(kept.options, OptionNumber.LOCATION_PATH)
    if location:
        parts.append(f"Location-Path /{'/'.join(location)}")
    for number, values in kept.options.items():
        for option in values:
            if number in _BLOCKS:
                parts.append(_block_in_words(kept, number, option.value, about))
            elif number in _FORMATS:
                parts.append(f"{number.name_printable} {format_in_words(int(option.value))}")
            elif number not in _SHOWN_APART:
                name = number.name_printable if hasattr(number, "name") else f"Option {int(number)}"
                value = option.value
                parts.append(f"{name} {value.hex() if isinstance(value, bytes) else value}".rstrip())
    return shown(", ".join(parts))


def _block_in_words(kept: Kept, number: OptionNumber, block: tuple[int, bool, int], about: int | None) -> str:
    at, more, exponent = block
    text = f"{number.name_printable} {at}/{int(more)}/{2 ** (min(exponent, 6) + 4)}"
    describes = (number == OptionNumber.BLOCK1) == (0 < kept.code < 32)  # the payload beside it, not the other's wish
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
