"""Packets of the fabric as bytes on a wire: Ethernet, IPv4 or IPv6, TCP and UDP, with their checksums."""

from __future__ import annotations

import ipaddress
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from pdmlab.network.dns import IP, as_v6
from pdmlab.network.fabric import UDP_HEADER, Packet
from pdmlab.network.segment import Segment

if TYPE_CHECKING:
    from pdmlab.coap.transport import Address

TCP, UDP, FRAGMENT = 6, 17, 44
HOP_LIMIT = 64
DONT_FRAGMENT, MORE_FRAGMENTS = 0x4000, 0x2000


def ip_packets(packet: Packet, mtu: int, number: int) -> Iterator[bytes]:
    """Yield the packet as IP packets of at most mtu bytes; `number` identifies its fragments.

    Between hosts of both IP versions the IPv4 one is seen through a NAT64 (RFC 6052), as a mesh node sees it.
    """
    source, target = ip(packet.source[0]), ip(packet.target[0])
    if source.version != target.version:
        source, target = as_v6(source), as_v6(target)
    if isinstance(packet.body, Segment):
        protocol, payload = TCP, _tcp(packet.body, packet.source, packet.target, source, target)
    else:
        protocol, payload = UDP, _udp(packet.body, packet.source[1], packet.target[1], source, target)
    make = _ipv4 if source.version == 4 else _ipv6
    yield from make(source, target, protocol, payload, mtu, number & 0xFFFF)


def ethernet(data: bytes, source: bytes, target: bytes) -> bytes:
    """Return an IP packet in an Ethernet frame (RFC 894, 2464), without its FCS."""
    return target + source + (b"\x86\xdd" if data[0] >> 4 == 6 else b"\x08\x00") + data


def mac_bytes(mac: str) -> bytes:
    """Return the six bytes of 02:4f:…"""
    return bytes.fromhex(mac.replace(":", ""))


def mac_of(address: str) -> bytes:
    """Return a locally administered hardware address for a host of the fabric."""
    return b"\x02" + zlib.crc32(address.encode()).to_bytes(5, "big")


@cache
def ip(address: str) -> IP:
    """Return an address; a name that is none gets one of TEST-NET-1 (RFC 5737)."""
    try:
        return ipaddress.ip_address("127.0.0.1" if address == "localhost" else address)
    except ValueError:
        return ipaddress.IPv4Address(int(ipaddress.IPv4Address("192.0.2.0")) + 1 + zlib.crc32(address.encode()) % 254)


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    # 65535 divides 2^16 - 1: the number's remainder is the ones' complement sum of its 16-bit words.
    total = int.from_bytes(data + bytes(len(data) % 2), "big") % 0xFFFF
    return 0xFFFF - (total or (0xFFFF if any(data) else 0))


def _tcp(segment: Segment, source: Address, target: Address, from_: IP, to: IP) -> bytes:
    options = struct.pack("!BBH", 2, 4, min(segment.mss, 0xFFFF)) if segment.syn else b""
    flags = segment.fin | segment.syn << 1 | segment.rst << 2 | segment.push << 3 | segment.acks << 4
    head = struct.pack(
        "!HHIIBBHHH",
        source[1],
        target[1],
        (_first(source, target) + segment.seq) & 0xFFFFFFFF,
        (_first(target, source) + segment.ack) & 0xFFFFFFFF if segment.acks else 0,
        (5 + len(options) // 4) << 4,
        flags,
        min(segment.window, 0xFFFF),
        0,
        0,
    )
    whole = head + options + segment.data
    return whole[:16] + struct.pack("!H", _transport_checksum(from_, to, TCP, whole)) + whole[18:]


@cache
def _first(source: Address, target: Address) -> int:
    """Return the number that a direction's sequence numbers are counted from."""
    return zlib.crc32(repr((source, target)).encode())


def _udp(data: bytes, source_port: int, target_port: int, from_: IP, to: IP) -> bytes:
    length = UDP_HEADER + len(data)
    head = struct.pack("!HHHH", source_port, target_port, length, 0)
    sum_ = _transport_checksum(from_, to, UDP, head + data) or 0xFFFF  # RFC 768: 0 means none
    return head[:6] + struct.pack("!H", sum_) + data


def _transport_checksum(source: IP, target: IP, protocol: int, data: bytes) -> int:
    """Return the checksum with the pseudo header of RFC 9293 §3.1 or RFC 8200 §8.1."""
    if source.version == 4:
        pseudo = source.packed + target.packed + struct.pack("!BBH", 0, protocol, len(data))
    else:
        pseudo = source.packed + target.packed + struct.pack("!IHBB", len(data), 0, 0, protocol)
    return checksum(pseudo + data)


def _ipv4(source: IP, target: IP, protocol: int, payload: bytes, mtu: int, number: int) -> Iterator[bytes]:
    room = len(payload) if len(payload) + 20 <= mtu else (mtu - 20) // 8 * 8
    for start in range(0, max(len(payload), 1), max(room, 1)):
        part = payload[start : start + room]
        more = start + room < len(payload)
        flags = (DONT_FRAGMENT if room == len(payload) else MORE_FRAGMENTS if more else 0) | start // 8
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(part), number, flags, HOP_LIMIT, protocol, 0)
        head += source.packed + target.packed
        yield head[:10] + struct.pack("!H", checksum(head)) + head[12:] + part


def _ipv6(source: IP, target: IP, protocol: int, payload: bytes, mtu: int, number: int) -> Iterator[bytes]:
    if len(payload) + 40 <= mtu:
        yield _ipv6_head(source, target, protocol, len(payload)) + payload
        return
    room = (mtu - 48) // 8 * 8
    for start in range(0, len(payload), room):
        part = payload[start : start + room]
        more = start + room < len(payload)
        fragment = struct.pack("!BBHI", protocol, 0, start | more, number)  # RFC 8200 §4.5; start is a multiple of 8
        yield _ipv6_head(source, target, FRAGMENT, 8 + len(part)) + fragment + part


def _ipv6_head(source: IP, target: IP, following: int, length: int) -> bytes:
    return struct.pack("!IHBB", 6 << 28, length, following, HOP_LIMIT) + source.packed + target.packed
