"""Whether a ClientHello is whole: what a connection has to send before anything is spent on it."""

from __future__ import annotations

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_HEADER = 5
MAX_HELLO = 4096
"""What comes before the ServerHello is at most so long (B); a stock client's is of about 200."""

_MAX_RECORDS = 8


def is_whole(data: bytes) -> bool:
    """Whether the first bytes of a TLS connection hold a whole ClientHello, or can become none that is looked at here.

    Of the latter OpenSSL says what is wrong: they are no handshake, or too long, or in too many records.
    """
    if len(data) > MAX_HELLO:
        return True
    hello, at = b"", 0
    for _ in range(_MAX_RECORDS):
        head = data[at : at + _HEADER]
        if (head and head[0] != _HANDSHAKE) or (len(head) > 1 and head[1] != 3):
            return True
        if len(head) < _HEADER:
            return False
        start, at = at + _HEADER, at + _HEADER + (head[3] << 8 | head[4])
        hello += data[start:at]
        if at == start or (hello and hello[0] != _CLIENT_HELLO) or at > MAX_HELLO:
            return True
        if at > len(data):
            return False
        if len(hello) >= 4 and len(hello) >= 4 + int.from_bytes(hello[1:4], "big"):
            return True
    return True
