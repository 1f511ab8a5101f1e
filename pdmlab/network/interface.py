"""Network interfaces with Mbed's names: what an application connects, and opens its sockets on.

An interface hangs on a `Link`. Towards a host that its fabric knows it stays inside the simulation, and
the clock stays as it is. Towards any other host it opens real sockets, shaped by the link, and the clock
goes live; unless told otherwise it reaches this machine only, so that no simulated board talks to the world.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import hashlib
import ipaddress
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pdmlab.clock import SECOND, DeviceClock
from pdmlab.errors import TimedOut
from pdmlab.network import dns
from pdmlab.network.bytestream import ByteStream
from pdmlab.network.fabric import Direction, Fabric, Host, Packet
from pdmlab.network.link import Link, Pipe, Step, as_link
from pdmlab.network.nsapi import ConnectionStatus, NsapiError, nsapi_error
from pdmlab.network.shaped import Shaper
from pdmlab.prng import SplitMix64

if TYPE_CHECKING:
    from pathlib import Path

    from pdmlab.capture import MessageLog
    from pdmlab.coap.transport import Address, Opener
    from pdmlab.network.recording import Recording

KEPT_STEPS = ("DHCP", "modem start")
"""Steps of a link that need not be done again once the carrier is back: the lease holds, the modem has its power."""
BUSY_HINT = "it goes on by itself: wait for NSAPI_STATUS_GLOBAL_UP, or disconnect() first"
DNS_TRIES = 3
DNS_WAIT = 5 * SECOND  # RFC 1035 §4.2.1 leaves it to the resolver; 5 s is resolv.conf's

default_interface: contextvars.ContextVar[Callable[[], NetworkInterface]] = contextvars.ContextVar("default_interface")
"""Gives the running board's interface; set by whoever boots the board."""
_fallback: Callable[[], NetworkInterface] | None = None


def set_default(interface: Callable[[], NetworkInterface] | None) -> None:
    """Set what get_default_instance() gives outside any board's own threads; None for nothing."""
    global _fallback
    _fallback = interface


@functools.lru_cache(64)
def _is_ours(address: str) -> bool:
    """Whether an address is this machine's: what goes there, to a service on the desk's network, leaves it not."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
            probe.connect((address, 9))  # a broadcast address may be bound to, but not this
    except OSError:
        return False
    return not ipaddress.ip_address(address).is_multicast


class NetworkInterface:
    """The way to the network; connect it from device code before any socket is opened.

    `link` is the bearer's own unless given; `fabric` the in-memory network it hangs on. With
    `beyond_loopback=True` real sockets may go to any address; otherwise to this machine's own alone.
    """

    type: ClassVar[str] = "Network"
    """What the seed's case names call it: Ethernet, WiFi, Cellular, Mesh."""
    bearer: ClassVar[str] = "ethernet"
    """Its row in bearers.toml."""
    without_carrier: ClassVar[ConnectionStatus] = ConnectionStatus.NSAPI_STATUS_CONNECTING
    """What becomes of the status when the carrier goes: lwIP and Nanostack try on by themselves."""

    def __init__(
        self,
        clock: DeviceClock,
        *,
        fabric: Fabric | None = None,
        link: Link | None = None,
        name: str = "board",
        mac: str | None = None,
        seed: int = 0,
        beyond_loopback: bool = False,
    ) -> None:
        self.clock = clock
        self.fabric = fabric
        self.name = name
        self.beyond_loopback = beyond_loopback
        self._carrier = True
        self._lost = False  # the carrier went while connected, and the interface comes back by itself
        self._back: asyncio.TimerHandle | None = None
        self.host: Host | None = None
        """This interface as a host of the fabric."""
        self._link = Link.of(self.bearer) if link is None else as_link(link)
        self._mac = mac or _make_mac(name, seed)
        self._shaper = Shaper(clock, self._link, SplitMix64(seed).split(name))
        self._status = ConnectionStatus.NSAPI_STATUS_DISCONNECTED
        self._on_status: Callable[[ConnectionStatus], None] | None = None
        self._on_status_context = contextvars.Context()
        self._resolved: dict[str, str] = {}
        self._asked = 0  # questions to DNS
        self.watchers: list[Recording] = []
        """Captures under way."""
        self._shaper.watchers = self.watchers
        if fabric is not None:
            self.host = fabric.host(name, self._link)
            self.host.online = False
            self.host.on_packet = self._show

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} on {self._link.name}, {self._status.name}>"

    @classmethod
    def get_default_instance(cls) -> NetworkInterface:
        """Return the running board's default interface.

        Raises:
            Unreachable: no board is running here (NSAPI_ERROR_NO_CONNECTION).
        """
        give = default_interface.get(_fallback)
        if give is None:
            raise nsapi_error(
                NsapiError.NO_CONNECTION,
                "there is no default network interface",
                hint="run this on a board (board.run(main)), or call pdmlab.network.interface.set_default first",
            )
        return give()

    # -- the link --------------------------------------------------------------------------------------

    @property
    def link(self) -> Link:
        """What stands between the board and the network; assign another to change it under way."""
        return self._link

    @link.setter
    def link(self, link: Link | str) -> None:
        link = as_link(link)
        self._link = link
        self._shaper.set_link(link)
        if self.host is not None:
            self.host.set_link(link)

    @property
    def carrier(self) -> bool:
        """Whether there is a network to connect to: a cable, an access point, a cell.

        Without one nothing is sent or heard. A connected interface says so (`attach`), and comes back by itself once
        the carrier has: sockets stay open meanwhile, and TCP goes on if neither end has given up.
        """
        return self._carrier

    @carrier.setter
    def carrier(self, there: bool) -> None:
        self.clock.on_loop(self._set_carrier, there)

    def _set_carrier(self, there: bool) -> None:
        if there == self._carrier:
            return
        self._carrier = there
        if self._back is not None:
            self._back.cancel()
            self._back = None
        if not there and self._status == ConnectionStatus.NSAPI_STATUS_GLOBAL_UP:
            self._lost = True
            self._set_online(False)
            self._set_status(self.without_carrier)
        elif there and self._lost:
            again = sum(step.time for step in self._link.attach if step.name not in KEPT_STEPS)
            self._back = self.clock.loop.call_later(again / SECOND, self._come_back)

    def _come_back(self) -> None:
        self._back = None
        self._lost = False
        self._set_online(True)
        self._set_status(ConnectionStatus.NSAPI_STATUS_GLOBAL_UP)

    def _set_online(self, online: bool) -> None:
        """Let packets pass, or be lost on both ways."""
        if self.host is not None:
            self.host.online = online
        self._shaper.set_online(online)

    # -- captures ----------------------------------------------------------------------------------------

    def capture(self, path: Path | str, *logs: MessageLog) -> Recording:
        """Write all that is sent and received to a pcapng file, for Wireshark; use it as a context manager.

        Logs, such as a client's `log`, add their messages in plain text, whatever secured them on the way.

        Raises:
            NetworkError: the file cannot be written; when it is closed, if the disk was full meanwhile.
        """
        from pdmlab.network.recording import Recording

        return Recording(self, path, logs)

    def _show(self, direction: Direction, packet: Packet, when: int) -> None:
        for watcher in self.watchers:
            watcher.packet(direction, packet, when)

    # -- Mbed's calls ----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Attach to the network and get an address; takes the bearer's steps in device time.

        Raises:
            NetworkError: connected already (NSAPI_ERROR_IS_CONNECTED), or connecting (NSAPI_ERROR_BUSY): while the
                carrier is away, too.
            Unreachable, NetworkError: no network, or it refuses; the code depends on the bearer.
        """
        if self._status == ConnectionStatus.NSAPI_STATUS_GLOBAL_UP:
            raise nsapi_error(NsapiError.IS_CONNECTED, f"{self.name} is connected already")
        if self._status == ConnectionStatus.NSAPI_STATUS_CONNECTING:
            why = "it waits for its carrier" if self._lost else "another thread does that"
            raise nsapi_error(NsapiError.BUSY, f"{self.name} is connecting: {why}", hint=BUSY_HINT)
        self._forget_carrier()
        self._set_status(ConnectionStatus.NSAPI_STATUS_CONNECTING)
        start = self.clock.now()
        try:
            for step in self._link.attach:
                self.clock.charge(step.time)
                self._check(step, (self.clock.now() - start) / SECOND)
            if not self._carrier:  # a link without steps, or the last moment
                raise nsapi_error(NsapiError.NO_CONNECTION, f"{self.name} finds no network")
        except BaseException:
            self._set_status(ConnectionStatus.NSAPI_STATUS_DISCONNECTED)
            raise
        self._set_online(True)
        self._set_status(ConnectionStatus.NSAPI_STATUS_GLOBAL_UP)

    def disconnect(self) -> None:
        """Leave the network; open sockets hear nothing more.

        Raises:
            Unreachable: not connected (NSAPI_ERROR_NO_CONNECTION).
        """
        if self._status == ConnectionStatus.NSAPI_STATUS_DISCONNECTED:
            self.require_connection()
        self.reset()
        self._set_status(ConnectionStatus.NSAPI_STATUS_DISCONNECTED)

    def reset(self) -> None:
        """Go down at once and forget all sockets, as a reset or a power cut does."""
        self._status = ConnectionStatus.NSAPI_STATUS_DISCONNECTED
        self._forget_carrier()
        self._resolved.clear()
        self._shaper.drop()
        if self.host is not None:
            self.host.forget()
        self._set_online(False)

    def _forget_carrier(self) -> None:
        """Come back by itself no more."""
        self._lost = False
        if self._back is not None:
            self._back.cancel()
            self._back = None

    def get_ip_address(self) -> str | None:
        """Return the address, or None while disconnected; towards real sockets it is loopback's."""
        if self._status != ConnectionStatus.NSAPI_STATUS_GLOBAL_UP:
            return None
        return self.host.address if self.host is not None else "127.0.0.1"

    def get_mac_address(self) -> str:
        """Return the hardware address, such as 02:4f:…; a locally administered one unless given."""
        return self._mac

    def get_connection_status(self) -> ConnectionStatus:
        """Return nsapi_connection_status."""
        return self._status

    def attach(self, on_status: Callable[[ConnectionStatus], None] | None) -> None:
        """Call on_status with each new status; when the carrier goes or comes, in a device thread of its own."""
        self._on_status = on_status
        self._on_status_context = contextvars.copy_context()

    def gethostbyname(self, name: str) -> str:
        """Resolve a name from device code; the first time takes a round trip.

        Raises:
            Unreachable: not connected, or nobody knows the name (NSAPI_ERROR_DNS_FAILURE).
        """
        return self.clock.run(self.resolve(name))

    # -- for sockets and endpoints, on the clock's loop ------------------------------------------------------

    def require_connection(self) -> None:
        """Raise NSAPI_ERROR_NO_CONNECTION unless connected."""
        if self._status != ConnectionStatus.NSAPI_STATUS_GLOBAL_UP:
            what, hint = ("has no carrier just now", BUSY_HINT) if self._lost else ("is not connected", None)
            raise nsapi_error(NsapiError.NO_CONNECTION, f"{self.name}'s {self.type} interface {what}", hint=hint)

    def inside(self, host: str) -> bool:
        """Whether the fabric knows the host, so that traffic to it needs no real socket."""
        return self.fabric is not None and self.fabric.find(host) is not None

    async def resolve(self, name: str) -> str:
        """Resolve a name on the loop; see gethostbyname."""
        self.require_connection()
        if self.fabric is not None and (known := self.fabric.find(name)) is not None:
            if name != known.address and name not in self._resolved:
                await self._ask_dns(name, known.address)
                self._resolved[name] = known.address
            return known.address
        address = "127.0.0.1" if name == "localhost" else name
        self._check_real(address)
        return address

    def opener(self, remote: Address) -> Opener:
        """Return a datagram opener towards remote: in the fabric if it knows the host, else a real, shaped socket.

        Raises, when it is used:
            Unreachable: not connected, or the destination is not allowed (NSAPI_ERROR_NO_CONNECTION, _DNS_FAILURE).
        """
        if self.host is not None and self.inside(remote[0]):
            return self.host.opener()
        return self._shaper.opener(remote[0], self._before_real_socket)

    async def connect_stream(self, remote: Address, receive_buffer: int | None = None) -> ByteStream:
        """Connect a byte stream to remote; receive_buffer (B) is the window offered, at most the link's, its default.

        Raises:
            Unreachable: not connected, unknown name, refused, or not allowed.
            TimedOut: nobody answers (NSAPI_ERROR_CONNECTION_TIMEOUT).
        """
        address = await self.resolve(remote[0])
        window = min(receive_buffer or self._link.receive_buffer, self._link.receive_buffer)
        if self.host is not None and self.inside(address):
            return await self.host.connect((address, remote[1]), window)
        self._before_real_socket(address)
        return await self._shaper.connect((address, remote[1]), window)

    def _before_real_socket(self, address: str) -> None:
        self.require_connection()
        self._check_real(address)
        if self.clock.pace != "live":
            self.clock.pace = "live"

    def _check_real(self, address: str) -> None:
        if address == "localhost":
            return
        try:
            allowed = self.beyond_loopback or ipaddress.ip_address(address).is_loopback or _is_ours(address)
        except ValueError:
            if self.beyond_loopback:
                return  # the operating system resolves it
            raise nsapi_error(
                NsapiError.DNS_FAILURE,
                f"{self.name} cannot resolve {address!r}",
                hint="its fabric knows no such host, and outside it a simulated board reaches this machine only; "
                "beyond_loopback=True lets its interface out",
            ) from None
        if not allowed:
            raise nsapi_error(
                NsapiError.NO_CONNECTION,
                f"{self.name} may not send to {address}",
                hint="a simulated board reaches this machine only; beyond_loopback=True lets its interface out",
            )

    async def _ask_dns(self, name: str, address: str) -> None:
        for _ in range(DNS_TRIES):
            if await self._ask_once(name, address):
                return
            await asyncio.sleep(DNS_WAIT / SECOND)
        raise TimedOut(
            f"no answer from DNS about {name!r} in {DNS_TRIES * DNS_WAIT // SECOND} s (NSAPI_ERROR_DNS_FAILURE, -3009)",
            code=NsapiError.DNS_FAILURE,
            hint=f"the link loses {self._link.loss:.0%} of its frames",
        )

    async def _ask_once(self, name: str, address: str) -> bool:
        """Carry a question to an ideal resolver, and its answer back; return whether both arrived."""
        host = self.host
        if host is None:
            return True
        v6 = self._link.ip_header == 40
        self._asked = (self._asked + 1) & 0xFFFF  # a DNS id has 16 bits (RFC 1035 §4.1.1)
        here, there = (host.address, 49152 + self._asked % 16384), (dns.SERVER, dns.PORT)
        now = self._shaper.now()
        question = Packet(here, there, dns.query(name, self._asked, v6=v6), now)
        self._show("out", question, now)
        if not await self._crosses(host.up, question):
            return False
        answer = Packet(there, here, dns.answer(name, self._asked, address, v6=v6), self._shaper.now())
        if not await self._crosses(host.down, answer):
            return False
        self._show("in", answer, self._shaper.now())
        return True

    async def _crosses(self, pipe: Pipe, packet: Packet) -> bool:
        arrival = pipe.send(packet.size + self._link.ip_header, packet.sent) if self._is_up else None
        if arrival is None:
            return False
        await asyncio.sleep((arrival - packet.sent) / SECOND)
        return self._is_up

    def _check(self, step: Step, seconds: float) -> None:
        """Raise if the network cannot be had, once `step` has taken its time."""
        if not self._carrier:
            raise nsapi_error(NsapiError.NO_CONNECTION, f"{self.name}: no network after {seconds:.1f} s ({step.name})")

    def _set_status(self, status: ConnectionStatus) -> None:
        self._status = status
        if self._on_status is None:
            return
        if self.clock.on_hub:  # the carrier's doing: no device thread is there to call from
            self._on_status_context.run(self.clock.spawn, self._on_status, status, name="status")
        else:
            self._on_status(status)

    @property
    def _is_up(self) -> bool:
        return self._status == ConnectionStatus.NSAPI_STATUS_GLOBAL_UP


def _make_mac(name: str, seed: int) -> str:
    digest = hashlib.sha256(f"{name} {seed}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))  # IEEE 802: locally administered
