"""How a peer frames its messages, told by its first bytes."""

from __future__ import annotations

from collections.abc import Callable

from pdmlab.coap.framing import BadFrame, Framing, Lengths, Records, Way
from pdmlab.coap.reliable import Reliable

_CSM = 0xE1
# How many bytes more of length there are before the code of an RFC 8323 message, by its first 4 bits.
_MORE = {13: 1, 14: 2, 15: 4}


def framing_of(start: bytes, *, records: bool) -> Framing | None:
    """Return how a peer that connected here frames its messages, by its first bytes; None if more of them must come.

    records: whether they are the plaintext of a TLS record. The stock client's first bytes are 00 00 hh ll 4x on plain
    TCP, and a message's own on TLS; everyone else's first message is a CSM (7.01).

    Raises:
        BadFrame: it is neither.
    """
    if len(start) < 2:
        return None
    more = _MORE.get(start[0] >> 4, 0)
    if len(start) < 2 + more:
        return None
    if start[1 + more] == _CSM and start[0] & 15 <= 8:
        return Reliable()
    if records and start[0] >> 6 == 1 and start[1] >> 5 in (0, 2, 4, 5):
        return Records()
    if not records and start[:2] == b"\0\0":
        if len(start) >= 5 and start[4] >> 6 != 1:
            raise BadFrame("behind a length comes no CoAP message")
        return Lengths() if len(start) >= 5 else None
    raise BadFrame(
        f"it spoke {_spoken(start, records)}", hint=None if records else "is it a port of coap+tcp://, plain?"
    )


def _spoken(start: bytes, records: bool) -> str:
    if not records and start[0] == 22 and start[1] == 3:
        return "TLS, on a port without security"
    if start[:4] in (b"GET ", b"POST", b"PUT ", b"HEAD"):
        return "HTTP"
    if start[0] >> 6 == 1 and not start[:8].isalpha():
        return "CoAP as in datagrams, without any length"
    return "something that is not CoAP"


def framing_for(way: Way) -> Framing:
    """Return the framing of a client that has been told which."""
    ways: dict[Way, Callable[[], Framing]] = {"length": Lengths, "record": Records, "rfc8323": Reliable}
    return ways[way]()
