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
NAT64 = int(ipaddress.IPv6Address("64:ff9b::"))  # RFC 6052 §2.1
IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def as_v6(address: IP) -> IP:
    """Return the address by which an IPv6 host knows it, through a NAT64 if it is one of IPv4."""
    return address if address.version == 6 else ipaddress.IPv6Address(NAT64 + int(address))


def query(name: str, number: int, *, v6: bool) -> bytes:
    """Return a question for the address of a name."""
    return struct.pack("!HHHHHH", number, RECURSION, 1, 0, 0, 0) + _question(name, v6)


def answer(name: str, number: int, address: str, *, v6: bool) -> bytes:
    """Return the answer; an IPv4 host is answered to an IPv6 one through a NAT64's prefix (RFC 6147)."""
    found = ipaddress.ip_address(address)
    packed = (as_v6(found) if v6 else found).packed
    kind = AAAA if len(packed) == 16 else A
    record = struct.pack("!HHHIH", POINTER, kind, INTERNET, TTL, len(packed)) + packed
    return struct.pack("!HHHHHH", number, ANSWERED, 1, 1, 0, 0) + _question(name, v6) + record


def _question(name: str, v6: bool) -> bytes:
    labels = b"".join(bytes([len(label)]) + label for label in name.encode("idna").split(b"."))
    return labels + b"\0" + struct.pack("!HH", AAAA if v6 else A, INTERNET)
