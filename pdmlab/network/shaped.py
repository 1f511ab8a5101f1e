"""Real sockets behind a simulated link: what passes waits for its serialisation, latency, jitter and losses.

A datagram that the link loses is lost. The operating system's TCP cannot be made to lose a segment, so
a lost segment arrives one retransmission time-out later, and holds up those behind it. The receive
window is kept by reading no more from the real socket than the window has room for, and by returning
the room one way's time after the application has read: so throughput is bounded by window/round trip.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from pdmlab.clock import SECOND, DeviceClock
from pdmlab.errors import NetworkError
from pdmlab.network.bytestream import ByteStream
from pdmlab.network.fabric import UDP_HEADER, Direction, Packet, check_datagram
from pdmlab.network.link import Link, Pipe, pipes
from pdmlab.network.nsapi import NsapiError, nsapi_error
from pdmlab.network.recording import MadeUpStream, Recording
from pdmlab.network.segment import TCP_HEADER
from pdmlab.network.stacks import TcpStack
from pdmlab.prng import SplitMix64

if TYPE_CHECKING:
    from pdmlab.coap.transport import Address, DatagramSocket, Opener

CONNECT_TIMEOUT = 63.0  # s: 1 + 2 + 4 + 8 + 16 + 32, the six tries of a SYN


class Shaper:
    """The link of one interface towards real sockets."""

    def __init__(self, clock: DeviceClock, link: Link, random: SplitMix64) -> None:
        self.clock = clock
        self.watchers: list[Recording] = []
        self._random = random
        self._open: set[ShapedStream | ShapedDatagramSocket] = set()
        self.online = False
        """Whether anything passes."""
        self.set_link(link)

    def set_link(self, link: Link) -> None:
        """Use another link for what is sent from now on."""
        self.link = link
        self.up, self.down = pipes(link, self._random)

    def set_online(self, online: bool) -> None:
        """Let everything pass, or nothing: datagrams are lost, and TCP tries again as its stacks do."""
        if online != self.online:
            self.online = online
            for each in list(self._open):
                each.carrier_changed()

    def drop(self) -> None:
        """Close all real sockets at once."""
        for each in list(self._open):
            each.abort()

    def opener(self, remote: str, allow: Callable[[str], None]) -> Opener:
        """Return an opener of shaped UDP sockets; `allow` raises for addresses that may not be reached."""

        async def open_(on_datagram: Callable[[bytes, Address], None]) -> ShapedDatagramSocket:
            from pdmlab.coap.transport import udp

            allow(remote)
            shaped = ShapedDatagramSocket(self, on_datagram, allow)
            # Loopback answers loopback only; any other destination needs a socket on all addresses.
            local = "127.0.0.1" if remote.startswith("127.") or remote == "localhost" else "0.0.0.0"
            shaped.attach(await udp(local)(shaped.arrived))
            self._open.add(shaped)
            return shaped

        return open_

    async def connect(self, peer: Address, receive_buffer: int) -> ShapedStream:
        """Connect a real TCP socket behind the link.

        Raises:
            Unreachable: refused (NSAPI_ERROR_NO_CONNECTION). TimedOut: no answer (NSAPI_ERROR_CONNECTION_TIMEOUT).
        """
        loop = self.clock.loop
        asked = self.now()
        await self.cross(self.up, TCP_HEADER)
        name = f"{peer[0]}:{peer[1]}"
        try:
            family, *_, address = (await loop.getaddrinfo(*peer, type=socket.SOCK_STREAM))[0]
            real = socket.socket(family, socket.SOCK_STREAM)
            real.setblocking(False)
            # What the board's own TCP would hold back, the link's model does; the host's must not do it again.
            real.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                await asyncio.wait_for(loop.sock_connect(real, address), CONNECT_TIMEOUT)
                await self.cross(self.down, TCP_HEADER)
            except BaseException:
                real.close()
                raise
        except TimeoutError as error:
            what = f"{name} did not answer in {CONNECT_TIMEOUT:g} s"
            raise nsapi_error(NsapiError.CONNECTION_TIMEOUT, what) from error
        except socket.gaierror as error:
            raise nsapi_error(NsapiError.DNS_FAILURE, f"cannot resolve {peer[0]!r}") from error
        except OSError as error:
            await self.cross(self.down, TCP_HEADER)
            what = f"{name} refuses the connection: {error.strerror or error}"
            raise nsapi_error(NsapiError.NO_CONNECTION, what) from error
        stream = ShapedStream(self, real, peer, receive_buffer, asked)
        self._open.add(stream)
        return stream

    async def cross(self, pipe: Pipe, size: int) -> None:
        """Wait until a packet of a handshake, which is sent again when lost, has crossed the link one way.

        Raises:
            TimedOut: the carrier did not come back before the last try (NSAPI_ERROR_CONNECTION_TIMEOUT).
        """
        await asyncio.sleep((self.arrival(pipe, size) - self.now()) / SECOND)
        tries, wait = 0, self.link.tcp.first_rto
        while not self.online:
            tries += 1
            if tries > self.link.tcp.syn_tries:
                raise nsapi_error(NsapiError.CONNECTION_TIMEOUT, f"no carrier, and no answer to {tries} tries")
            await asyncio.sleep(wait / SECOND)
            wait *= 2 if self.link.tcp.backs_off_syn else 1

    def arrival(self, pipe: Pipe, size: int) -> int:
        """Return when a segment sent now arrives, with all retransmissions it takes (ns)."""
        late = 0
        sender = self.link.tcp if pipe is self.up else TcpStack.of("linux")
        while (arrival := pipe.send(size + self.link.ip_header, self.now())) is None:
            late += sender.usual_rto(self.link.mean_round_trip)
        return arrival + late

    def now(self) -> int:
        """Return the loop's time (ns)."""
        return round(self.clock.loop.time() * SECOND)

    def show(self, direction: Direction, source: Address, target: Address, data: bytes) -> None:
        """Show the captures under way a datagram that the board sends or receives now."""
        now = self.now()
        for watcher in self.watchers:
            watcher.packet(direction, Packet(source, target, data, now), now)

    def forget(self, each: ShapedStream | ShapedDatagramSocket) -> None:
        """Take note that a socket is closed."""
        self._open.discard(each)


class ShapedDatagramSocket:
    """A real UDP socket behind a link."""

    def __init__(
        self, shaper: Shaper, on_datagram: Callable[[bytes, Address], None], allow: Callable[[str], None]
    ) -> None:
        self._shaper = shaper
        self._on_datagram = on_datagram
        self._allow = allow
        self._real: DatagramSocket | None = None
        self._crossing = 0  # datagrams on their way to the real socket
        self._closed = False

    def attach(self, real: DatagramSocket) -> None:
        """Use this real socket."""
        self._real = real
        self.address = real.address

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram through the link.

        Raises:
            Unreachable: the address may not be reached, or the interface is down.
            NetworkError: the datagram is too large for the link (NSAPI_ERROR_PARAMETER).
        """
        shaper = self._shaper
        if self._real is not None and not shaper.online:
            return  # without a carrier it is lost
        self._allow(address[0])
        check_datagram(len(data), shaper.link)
        shaper.show("out", self.address, address, bytes(data))
        arrival = shaper.up.send(UDP_HEADER + len(data) + shaper.link.ip_header, shaper.now())
        if arrival is not None and not self._closed:
            self._crossing += 1
            shaper.clock.loop.call_at(arrival / SECOND, self._really_send, data, address)

    def _really_send(self, data: bytes, address: Address) -> None:
        self._crossing -= 1
        try:
            if self._real is not None:
                self._real.send(data, address)
        finally:
            if self._closed and not self._crossing:
                self.abort()

    def arrived(self, data: bytes, address: Address) -> None:
        """Take a datagram from the real socket into the link."""
        shaper = self._shaper
        if not shaper.online:
            return
        arrival = shaper.down.send(UDP_HEADER + len(data) + shaper.link.ip_header, shaper.now())
        if arrival is not None:
            shaper.clock.loop.call_at(arrival / SECOND, self._deliver, data, address)

    def _deliver(self, data: bytes, address: Address) -> None:
        if self._real is not None and not self._closed and self._shaper.online:
            self._shaper.show("in", address, self.address, data)
            self._on_datagram(data, address)

    def close(self) -> None:
        """Take nothing more; the real socket is closed when what was sent before, such as an alert, has crossed."""
        self._closed = True
        if not self._crossing:
            self.abort()

    def abort(self) -> None:
        """Close the real socket at once; what is on the link is lost."""
        self._closed = True
        if self._real is not None:
            self._real.close()
            self._real = None
            self._shaper.forget(self)

    def carrier_changed(self) -> None:
        """Nothing waits here: what meets no carrier is lost."""


class Way:
    """One direction of a shaped connection: what was sent into it while there was no carrier."""

    def __init__(self, stack: TcpStack) -> None:
        self.stack = stack
        """The TCP of who sends into it."""
        self.held: list[tuple[Callable[..., None], tuple[object, ...]]] = []
        self.since = 0
        """When the first of it was lost (ns)."""
        self.timer: asyncio.TimerHandle | None = None
        """When it is tried again."""
        self.end: asyncio.TimerHandle | None = None
        """When its sender gives up."""

    def settle(self) -> None:
        """Hold nothing, and wait for nothing."""
        self.held = []
        for timer in (self.timer, self.end):
            if timer is not None:
                timer.cancel()
        self.timer = self.end = None


class ShapedStream(ByteStream):
    """A real TCP connection behind a link."""

    def __init__(self, shaper: Shaper, real: socket.socket, peer: Address, receive_buffer: int, asked: int) -> None:
        super().__init__(shaper.clock.loop)
        self.peer = peer
        self._shaper = shaper
        self._real = real
        self._in = bytearray()
        self._credit = receive_buffer  # what the window still has room for (B)
        self._room = shaper.link.send_buffer
        self._ended = False
        self._closing = False
        self._gone = False
        self._last_arrival = {shaper.up: 0, shaper.down: 0}
        self._pipes = (shaper.up, shaper.down)
        self._ways = {self._pipes[0]: Way(shaper.link.tcp), self._pipes[1]: Way(TcpStack.of("linux"))}
        self._crossed: deque[bytes] = deque()  # across the link, on its way into the real socket
        self._credited = asyncio.Event()
        self._filled = asyncio.Event()
        local, remote = real.getsockname()[:2], real.getpeername()[:2]
        self._shown = MadeUpStream(shaper.watchers, local, remote, shaper.link.mss)
        self._shown.opened(asked, shaper.now())
        self._tasks = [self.loop.create_task(self._pump_in()), self.loop.create_task(self._pump_out())]

    def read_now(self, n: int) -> bytes | None:
        if self._in:
            data = bytes(self._in[:n])
            del self._in[:n]
            self._after(self._pipes[0], TCP_HEADER, self._give_credit, len(data))
            return data
        if self.error is not None:
            raise self.error
        return b"" if self._ended or self._gone else None

    def write_now(self, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        if self._closing or self._gone:
            raise nsapi_error(NsapiError.NO_CONNECTION, f"the stream to {self.peer[0]}:{self.peer[1]} is closed")
        taken = min(len(data), self._room)
        self._room -= taken
        mss = self._shaper.link.mss
        for start in range(0, taken, mss):
            part = bytes(data[start : min(start + mss, taken)])
            self._shown.data("out", part, self._shaper.now())
            self._after(self._pipes[0], TCP_HEADER + len(part), self._cross, part)
        return taken

    def close(self) -> None:
        if not self._closing and not self._gone:
            self._closing = True
            self._shown.data("out", b"", self._shaper.now())
            self._after(self._pipes[0], TCP_HEADER, self._cross, b"")

    def abort(self) -> None:
        self._vanish(None)

    def _after(self, pipe: Pipe, size: int, work: Callable[..., None], *args: object) -> None:
        """Do work when a segment of size bytes has crossed the pipe, after those before it."""
        when = max(self._shaper.arrival(pipe, size), self._last_arrival[pipe] + 1)
        self._last_arrival[pipe] = when
        self.loop.call_at(when / SECOND, self._land, pipe, work, *args)

    def _land(self, pipe: Pipe, work: Callable[..., None], *args: object) -> None:
        """Do what a segment does that has crossed, or keep it for a later try while there is no carrier."""
        way = self._ways[pipe]
        if self._shaper.online and not way.held:
            work(*args)
            return
        now = self._shaper.now()
        if not way.held:
            way.since = now
        way.held.append((work, args))
        # Who sends data tries again and at last gives up; it misses the ACK no less than the data.
        sender = self._ways[self._pipes[0 if work in (self._cross, self._acknowledged) else 1]]
        if sender.end is None:
            ends = now + sender.stack.gives_up_after(self._shaper.link.mean_round_trip)
            sender.end = self.loop.call_at(ends / SECOND, self._give_up, sender)

    def carrier_changed(self) -> None:
        """Try again what is held, once the carrier is back and the sender's timer has run out."""
        for pipe, way in self._ways.items():
            if way.timer is not None:
                way.timer.cancel()
                way.timer = None
            if way.held and self._shaper.online:
                now, round_trip = self._shaper.now(), self._shaper.link.mean_round_trip
                due = way.since + way.stack.next_try(now - way.since, round_trip)
                way.timer = self.loop.call_at(due / SECOND, self._try_again, pipe)

    def _try_again(self, pipe: Pipe) -> None:
        way = self._ways[pipe]
        way.timer = None
        held, way.held = way.held, []
        if not any(each.held for each in self._ways.values()):
            for each in self._ways.values():
                each.settle()
        for work, args in held:
            if not self._gone:
                work(*args)

    def _give_up(self, way: Way) -> None:
        who = f"{self.peer[0]}:{self.peer[1]}"
        tries = f"after {way.stack.data_tries + 1} tries without a carrier"
        if way is self._ways[self._pipes[0]]:
            self._vanish(nsapi_error(NsapiError.CONNECTION_TIMEOUT, f"{who} no longer answers, {tries}"))
        else:
            self._vanish(nsapi_error(NsapiError.CONNECTION_LOST, f"{who} has given up {tries}"))

    def _give_credit(self, n: int) -> None:
        self._credit += n
        self._credited.set()

    def _cross(self, part: bytes) -> None:
        self._crossed.append(part)
        self._filled.set()

    def _acknowledged(self, n: int) -> None:
        self._room += n
        self._notify()

    async def _pump_in(self) -> None:
        try:
            while True:
                while self._credit <= 0:
                    self._credited.clear()
                    await self._credited.wait()
                data = await self.loop.sock_recv(self._real, min(self._credit, self._shaper.link.mss))
                self._credit -= len(data)
                self._after(self._pipes[1], TCP_HEADER + len(data), self._deliver, data)
                if not data:
                    return
        except OSError as error:
            self._break(error)
        except asyncio.CancelledError:  # the board was reset
            self._vanish(None)
            raise

    def _deliver(self, data: bytes) -> None:
        self._shown.data("in", data, self._shaper.now())
        self._in += data
        self._ended = self._ended or not data
        self._notify()

    async def _pump_out(self) -> None:
        try:
            while True:
                while not self._crossed:
                    self._filled.clear()
                    await self._filled.wait()
                part = self._crossed.popleft()
                if not part:
                    self._vanish(None)
                    return
                await self.loop.sock_sendall(self._real, part)
                self._after(self._pipes[1], TCP_HEADER, self._acknowledged, len(part))
        except OSError as error:
            self._break(error)

    def _break(self, error: OSError) -> None:
        what = f"the connection to {self.peer[0]}:{self.peer[1]} broke: {error.strerror or error}"
        self._vanish(nsapi_error(NsapiError.CONNECTION_LOST, what))

    def _vanish(self, error: NetworkError | None) -> None:
        if self._gone:
            return
        self._gone = True
        self.error = error
        for way in self._ways.values():
            way.settle()
        self._shaper.forget(self)
        current = asyncio.current_task(self.loop) if self._shaper.clock.inside else None
        for task in self._tasks:
            if task is not current:
                task.cancel()
        self.loop.call_soon(self._real.close)  # after the tasks have let go of it
        self._notify()
