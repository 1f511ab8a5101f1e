"""DNS messages (RFC 1035), as far as a board asks for an address: a question, and an answer with one record."""

from __future__ import annotations

import ipaddress
import struct

PORT = 53
SERVER = "198.18.255.53"
"""The resolver that boards on a fabric ask: it is on no host, and always there."""
RECURSION = 0x0100
ANSWERED = 0x8180
A, AAAA, INTERNET = 1, 28, 1
TTL = 300  # s
POINTER = 0xC00C  # RFC 1035 §4.1.4: to the name in the question


def query(name: str, number: int, *, v6: bool) -> bytes:
    """Return a question for the address of a name."""
    return struct.pack("!HHHHHH", number, RECURSION, 1, 0, 0, 0) + _question(name, v6)


def answer(name: str, number: int, address: str, *, v6: bool) -> bytes:
    """Return the answer; an IPv4 host is answered to an IPv6 one through a NAT64's prefix (RFC 6147)."""
    found = ipaddress.ip_address(address)
    packed = found.packed
    if v6 and found.version == 4:
        packed = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) + int(found)).packed
    kind = AAAA if len(packed) == 16 else A
    record = struct.pack("!HHHIH", POINTER, kind, INTERNET, TTL, len(packed)) + packed
    return struct.pack("!HHHHHH", number, ANSWERED, 1, 1, 0, 0) + _question(name, v6) + record


def _question(name: str, v6: bool) -> bytes:
    labels = b"".join(bytes([len(label)]) + label for label in name.encode("idna").split(b"."))
    return labels + b"\0" + struct.pack("!HH", AAAA if v6 else A, INTERNET)
