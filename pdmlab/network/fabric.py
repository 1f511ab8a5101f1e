"""An in-memory network of named hosts on one clock: datagrams and byte streams, deterministic by seed.

Every host hangs on a `Link` of its own to an ideal core. A packet from A to B queues for A's way up,
then for B's way down. Hosts made without a link are ideal: the figures are all in the board's link.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pdmlab.clock import SECOND, DeviceClock
from pdmlab.network.link import Link, pipes
from pdmlab.network.nsapi import NsapiError, nsapi_error
from pdmlab.network.segment import Segment
from pdmlab.network.stream import Stream
from pdmlab.prng import SplitMix64

if TYPE_CHECKING:
    from pdmlab.coap.streams import Accept
    from pdmlab.coap.transport import Address, Opener

UDP_HEADER = 8
MAX_DATAGRAM = 65507
"""RFC 768 over IPv4: 65535 less 20 B of IP and 8 B of UDP header (B)."""
FIRST_EPHEMERAL_PORT = 49152  # RFC 6335 §6

OnDatagram = Callable[[bytes, "Address"], None]
OnConnection = Callable[[Stream], None]
Direction = Literal["in", "out"]


@dataclass(frozen=True, slots=True)
class Packet:
    """A UDP datagram or a TCP segment, and when it was sent (ns)."""

    source: Address
    target: Address
    body: bytes | Segment
    sent: int

    @property
    def size(self) -> int:
        """Its size without the IP header (B)."""
        return UDP_HEADER + len(self.body) if isinstance(self.body, bytes) else self.body.size

    def __str__(self) -> str:
        body = f"UDP {len(self.body)} B" if isinstance(self.body, bytes) else str(self.body)
        return f"{self.source[0]}:{self.source[1]} -> {self.target[0]}:{self.target[1]} {body}"


@dataclass(slots=True)
class Traffic:
    """What a host has sent so far."""

    segments: int = 0
    """TCP segments, those sent again included."""
    retransmissions: int = 0
    """Segments sent again."""
    datagrams: int = 0


class Fabric:
    """An in-memory network; everything random in it comes from seed.

    >>> with DeviceClock() as clock:
    ...     Fabric(clock).host("cloud").address
    '198.18.0.1'
    """

    def __init__(self, clock: DeviceClock, seed: int = 0) -> None:
        self.clock = clock
        self.seed = seed
        self.hosts: dict[str, Host] = {}
        self.tap: Callable[[Packet, int | None], None] | None = None
        """Called for each packet when it arrives, with that time (ns), or when it is lost, with None."""
        self._random = SplitMix64(seed)
        self._by_address: dict[str, Host] = {}

    def host(self, name: str, link: Link | None = None) -> Host:
        """Return the host of that name; make it if need be. `link` (ideal unless given) replaces the one it has."""
        if name not in self.hosts:
            host = Host(self, name, len(self.hosts) + 1, link or Link(), self._random.split(name))
            self.hosts[name] = host
        elif link is not None:
            self.hosts[name].set_link(link)
        return self.hosts[name]

    def find(self, name: str) -> Host | None:
        """Return the host of that name or address, or None."""
        return self.hosts.get(name) or self._by_address.get(name)

    def name_address(self, host: Host, number: int) -> str:
        """Give a host the address of its number that its link's IP version has; older ones still lead to it."""
        # RFC 3849: for documentation; RFC 2544: for benchmarks
        v6, v4 = f"2001:db8::{number:x}", f"198.18.{number >> 8}.{number & 255}"
        address = v6 if host.link.ip_header == 40 else v4
        self._by_address[address] = host
        return address

    @property
    def traffic(self) -> Traffic:
        """What all hosts together have sent so far."""
        each = [host.traffic for host in self.hosts.values()]
        return Traffic(
            sum(one.segments for one in each),
            sum(one.retransmissions for one in each),
            sum(one.datagrams for one in each),
        )

    def now(self) -> int:
        """Return the time of the clock's loop (ns)."""
        return round(self.clock.loop.time() * SECOND)

    def carry(self, sender: Host, packet: Packet) -> None:
        """Take a packet from a host, and bring it or lose it on the way."""
        if sender.on_packet is not None and sender.online:
            sender.on_packet("out", packet, packet.sent)
        target = self.find(packet.target[0])
        at_core = sender.up.send(packet.size + sender.link.ip_header, packet.sent) if sender.online else None
        if at_core is None or target is None or not target.online:
            self._report(packet, None)
        elif at_core <= packet.sent:
            self.clock.loop.call_soon(self._down, target, packet)
        else:
            self.clock.loop.call_at(at_core / SECOND, self._down, target, packet)

    def _down(self, target: Host, packet: Packet) -> None:
        now = self.now()
        arrival = target.down.send(packet.size + target.link.ip_header, now) if target.online else None
        if arrival is None:
            self._report(packet, None)
        elif arrival <= now:
            self._arrive(target, packet)
        else:
            self.clock.loop.call_at(arrival / SECOND, self._arrive, target, packet)

    def _arrive(self, target: Host, packet: Packet) -> None:
        self._report(packet, self.now() if target.online else None)
        if target.online:
            if target.on_packet is not None:
                target.on_packet("in", packet, self.now())
            target.receive(packet)

    def _report(self, packet: Packet, arrived: int | None) -> None:
        if self.tap is not None:
            self.tap(packet, arrived)


class Host:
    """A machine in the fabric, with its ports."""

    def __init__(self, fabric: Fabric, name: str, number: int, link: Link, random: SplitMix64) -> None:
        self.fabric = fabric
        self.name = name
        self.online = True
        """Whether it sends and hears anything."""
        self.traffic = Traffic()
        self.on_packet: Callable[[Direction, Packet, int], None] | None = None
        """Called for each packet that it sends or receives, with the time (ns)."""
        self._number = number
        self._random = random
        self._datagrams: dict[int, OnDatagram] = {}
        self._listeners: dict[int, OnConnection] = {}
        self._streams: dict[tuple[int, Address], Stream] = {}
        self._next_port = FIRST_EPHEMERAL_PORT
        self.set_link(link)

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address} on {self.link.name}>"

    def set_link(self, link: Link) -> None:
        """Hang the host on another link; packets under way arrive as they would have."""
        self.link = link
        self.up, self.down = pipes(link, self._random)
        self.address = self.fabric.name_address(self, self._number)

    def forget(self) -> None:
        """Lose all sockets and connections without a word to anybody, as a reset does."""
        for stream in list(self._streams.values()):
            stream.vanish()
        self._streams.clear()
        self._datagrams.clear()
        self._listeners.clear()

    # -- datagrams -----------------------------------------------------------------------------------

    def open_datagram(self, on_datagram: OnDatagram, port: int = 0) -> FabricDatagramSocket:
        """Open a UDP port (any free one if 0).

        Raises:
            NetworkError: the port is taken (NSAPI_ERROR_ADDRESS_IN_USE).
        """
        if port in self._datagrams:
            raise nsapi_error(NsapiError.ADDRESS_IN_USE, f"UDP port {port} of {self.name} is taken")
        number = port or self._free_port()
        self._datagrams[number] = on_datagram
        return FabricDatagramSocket(self, number)

    def close_datagram(self, port: int) -> None:
        """Close a UDP port."""
        self._datagrams.pop(port, None)

    def opener(self, port: int = 0) -> Opener:
        """Return a datagram opener, as the CoAP endpoint takes it."""

        async def open_(on_datagram: OnDatagram) -> FabricDatagramSocket:
            return self.open_datagram(on_datagram, port)

        return open_

    # -- streams -------------------------------------------------------------------------------------

    def listen(self, port: int, on_connection: OnConnection) -> None:
        """Accept connections on a TCP port; a connection is handed over once it is established.

        Raises:
            NetworkError: the port is taken (NSAPI_ERROR_ADDRESS_IN_USE).
        """
        if port in self._listeners:
            raise nsapi_error(NsapiError.ADDRESS_IN_USE, f"TCP port {port} of {self.name} is taken")
        self._listeners[port] = on_connection

    def acceptor(self, port: int) -> Accept:
        """Return what takes connections on a TCP port, as servers of CoAP over TCP and TLS want it."""

        async def accept(on_connection: OnConnection) -> FabricListener:
            self.listen(port, on_connection)
            return FabricListener(self, port)

        return accept

    def stop_listening(self, port: int) -> None:
        """Accept no more connections on a TCP port; those that are there stay."""
        self._listeners.pop(port, None)

    async def connect(self, peer: Address, receive_buffer: int | None = None) -> Stream:
        """Connect to a TCP port of another host; receive_buffer (B) is the window offered, the link's unless given.

        Raises:
            Unreachable: refused (NSAPI_ERROR_NO_CONNECTION), or the name is not known (NSAPI_ERROR_DNS_FAILURE).
            TimedOut: nobody answers (NSAPI_ERROR_CONNECTION_TIMEOUT).
        """
        target = self.fabric.find(peer[0])
        if target is None:
            raise nsapi_error(NsapiError.DNS_FAILURE, f"no host {peer[0]!r} in the fabric")
        stream = self._stream(self._free_port(), (target.address, peer[1]), receive_buffer)
        stream.open()
        try:
            await stream.established()
        except BaseException:
            stream.abort()
            raise
        return stream

    def _stream(self, port: int, peer: Address, receive_buffer: int | None = None) -> Stream:
        local = (self.address, port)

        def send(segment: Segment, again: bool) -> None:
            self.traffic.segments += 1
            self.traffic.retransmissions += again
            self.fabric.carry(self, Packet(local, peer, segment, self.fabric.now()))

        def closed() -> None:
            if self._streams.get((port, peer)) is stream:
                del self._streams[port, peer]

        stream = Stream(
            self.fabric.clock.loop,
            send,
            closed,
            local=local,
            peer=peer,
            stack=self.link.tcp,
            mss=self.link.mss,
            receive_buffer=receive_buffer or self.link.receive_buffer,
            send_buffer=self.link.send_buffer,
        )
        self._streams[port, peer] = stream
        return stream

    def _free_port(self) -> int:
        taken = self._datagrams.keys() | {port for port, _ in self._streams}
        while self._next_port in taken:
            self._next_port += 1
        port = self._next_port
        self._next_port = port + 1 if port < 65535 else FIRST_EPHEMERAL_PORT
        return port

    # -- packets -------------------------------------------------------------------------------------

    def send_datagram(self, port: int, data: bytes, peer: Address) -> None:
        """Send a datagram; to a host that nobody knows it goes nowhere, as on a real network.

        Raises:
            NetworkError: it is larger than UDP, or this link, carries (NSAPI_ERROR_PARAMETER).
        """
        check_datagram(len(data), self.link)
        target = self.fabric.find(peer[0])
        address = target.address if target else peer[0]
        self.traffic.datagrams += 1
        packet = Packet((self.address, port), (address, peer[1]), bytes(data), self.fabric.now())
        self.fabric.carry(self, packet)

    def receive(self, packet: Packet) -> None:
        """Take a packet that has arrived."""
        port = packet.target[1]
        if isinstance(packet.body, bytes):
            if port in self._datagrams:
                self._datagrams[port](packet.body, packet.source)
            return
        segment = packet.body
        stream = self._streams.get((port, packet.source))
        if stream is None and segment.syn and not segment.acks and port in self._listeners:
            stream = self._stream(port, packet.source)
            stream.on_established = self._listeners[port]
        if stream is not None:
            stream.receive(segment)
        elif not segment.rst:
            self.traffic.segments += 1
            reset = Segment(seq=segment.ack, ack=segment.end, rst=True, acks=True)
            self.fabric.carry(self, Packet(packet.target, packet.source, reset, self.fabric.now()))


class FabricListener:
    """A TCP port that accepts connections."""

    def __init__(self, host: Host, port: int) -> None:
        self._host = host
        self._port = port

    @property
    def address(self) -> Address:
        """Where it is reached."""
        return self._host.address, self._port

    def close(self) -> None:
        """Accept no more; a second call does nothing."""
        self._host.stop_listening(self._port)


class FabricDatagramSocket:
    """A UDP port of a host."""

    def __init__(self, host: Host, port: int) -> None:
        self.address: Address = (host.address, port)
        self._host = host

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram; see Host.send_datagram."""
        self._host.send_datagram(self.address[1], data, address)

    def close(self) -> None:
        """Close the port; what is under way to it is lost."""
        self._host.close_datagram(self.address[1])


def check_datagram(size: int, link: Link) -> None:
    """Raise NSAPI_ERROR_PARAMETER if a datagram of size bytes cannot be sent over the link."""
    largest = MAX_DATAGRAM if link.oversize == "fragment" else link.mtu - link.ip_header - UDP_HEADER
    if size > largest:
        raise nsapi_error(
            NsapiError.PARAMETER,
            f"a datagram of {size} B is too large for {link.name}, which carries {largest} B",
            hint="send less at a time: CoAP's block-wise transfer is there for that",
        )
