"""Where boards reach this machine: its interfaces' addresses, found without sending anything.

>>> Reach.at("127.0.0.1")
<Reach 127.0.0.1, this machine only>
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from pdmlab.errors import ConfigError, Unreachable

LOOPBACK = "127.0.0.1"
ANY = ("0.0.0.0", "::")

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.I)
# Addresses that nobody has (RFC 5737, RFC 3849): asked for the way there, the system names the one to the world.
_ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


@dataclass(frozen=True, repr=False)
class Reach:
    """An address that the service listens on, and what boards are told.

    host        the address that is listened on; 0.0.0.0 stands for all of IPv4, :: for all of IPv6
    address     what boards are told: an address, or a host name that they can resolve
    addresses   all by which boards reach this machine so, `address` first
    """

    host: str
    address: str
    addresses: tuple[str, ...]

    @classmethod
    def at(cls, host: str, address: str | None = None) -> Reach:
        """Check an address to listen on; without an address to tell boards, find the one that leads to the world.

        Raises:
            ConfigError: it is no address of this machine, or one that boards cannot be told.
            Unreachable: the machine has no network.
        """
        bound = _literal(host)
        if bound.is_link_local or bound.is_multicast:
            kind = "link-local" if bound.is_link_local else "multicast"
            raise ConfigError(f"boards cannot be told {host}: it is {kind}", hint=_hint())
        _try(str(bound), host)
        if str(bound) in ANY:
            addresses = tuple(
                each for each in machine_addresses() if ipaddress.ip_address(each).version == bound.version
            )
            if not addresses and address is None:
                raise Unreachable(
                    f"this machine has no IPv{bound.version} address that boards could reach",
                    hint="connect it to the boards' network; or name the address: --address 192.168.1.2",
                )
        else:
            addresses = (str(bound),)
        told = addresses[0] if address is None else _told(address)
        if bound.is_loopback and _is_elsewhere(told):
            raise ConfigError(
                f"nobody reaches {told} here: the service is at {host}, which is this machine's alone",
                hint="open it to the boards' network: --host 0.0.0.0, or an address of this machine",
            )
        return cls(str(bound), told, tuple(dict.fromkeys((told, *addresses))))

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine reaches it."""
        return ipaddress.ip_address(self.host).is_loopback

    def __repr__(self) -> str:
        return f"<Reach {self.host}, {'this machine only' if self.loopback else ', '.join(self.addresses)}>"


def machine_addresses() -> tuple[str, ...]:
    """Return the addresses of this machine that others can be told, the one that leads to the world first."""
    first = [way for family in _ELSEWHERE if (way := _way_out(family)) is not None]
    found = []
    for each in dict.fromkeys([*first, *_interface_addresses()]):
        address = ipaddress.ip_address(each)
        if not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified):
            found.append(str(address))
    return tuple(sorted(found, key=lambda each: ":" in each))


def url_host(address: str) -> str:
    """Return an address as URIs carry it: IPv6 in []."""
    return f"[{address}]" if ":" in address else address


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise ConfigError(f"{host!r} is no address", hint=_hint()) from None


def _is_elsewhere(told: str) -> bool:
    """Whether it is an address that is not this machine's alone; of a name nobody knows."""
    try:
        return not ipaddress.ip_address(told.strip("[]")).is_loopback
    except ValueError:
        return False


def _told(address: str) -> str:
    bare = address.removeprefix("[").removesuffix("]")
    try:
        told = ipaddress.ip_address(bare)
    except ValueError:
        if not _NAME.fullmatch(bare):
            raise ConfigError(f"{address!r} is neither an address nor a host name", hint=_hint()) from None
        return bare
    if told.is_unspecified or told.is_link_local or told.is_multicast:
        raise ConfigError(f"boards cannot be told {address}: it names no machine", hint=_hint())
    return str(told)


def _hint() -> str:
    here = ", ".join(machine_addresses()) or "none but loopback"
    return f"this machine's addresses are: {here}; 0.0.0.0 takes all of IPv4, :: all of IPv6"


def _try(bound: str, host: str) -> None:
    """Bind to an address, without a port of its own."""
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((bound, 0))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL):
            raise ConfigError(f"{host} is no address of this machine", hint=_hint()) from error
        raise Unreachable(f"cannot listen on {host}: {error.strerror}", hint=_hint()) from error


def _way_out(family: socket.AddressFamily) -> str | None:
    """Return the address that packets to the world would carry; connecting a datagram socket sends none."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_ELSEWHERE[family], 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def _interface_addresses() -> Iterator[str]:
    """Give what addresses the interfaces have: Linux is asked, other systems say it under their own host name."""
    if sys.platform == "linux":
        yield from _netlink_addresses()
        return
    try:
        for _, _, _, _, address in socket.getaddrinfo(socket.gethostname(), None):
            yield str(address[0]).partition("%")[0]
    except OSError:
        pass


# linux/rtnetlink.h and linux/if_addr.h
_RTM_GETADDR, _RTM_NEWADDR, _NLMSG_DONE = 22, 20, 3
_REQUEST_DUMP = 0x301
_IFA_ADDRESS, _IFA_LOCAL = 1, 2


def _netlink_addresses() -> Iterator[str]:
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:  # NETLINK_ROUTE
            kernel.settimeout(2)
            kernel.send(struct.pack("=IHHII8x", 24, _RTM_GETADDR, _REQUEST_DUMP, 1, 0))
            while True:
                data = kernel.recv(1 << 16)
                while len(data) >= 16:
                    length, kind = struct.unpack_from("=IH", data)
                    if kind == _NLMSG_DONE or length < 16:
                        return
                    if kind == _RTM_NEWADDR:
                        yield from _address_in(data[16:length])
                    data = data[(length + 3) & ~3 :]
    except OSError:
        return


def _address_in(message: bytes) -> Iterator[str]:
    """Give the address of one RTM_NEWADDR; on a link between two, the one of this end."""
    size = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}.get(message[0])
    found: dict[int, bytes] = {}
    attributes = message[8:]
    while len(attributes) >= 4:
        length, kind = struct.unpack_from("=HH", attributes)
        if length < 4:
            break
        found[kind] = attributes[4:length]
        attributes = attributes[(length + 3) & ~3 :]
    address = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))
    if address is not None and len(address) == size:
        yield str(ipaddress.ip_address(address))
