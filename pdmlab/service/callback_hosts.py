"""Whom callbacks may reach: their targets are chosen by whoever has a key, and called by the service's own machine.

>>> hosts = CallbackHosts.parse("loopback, bench.example, 10.20.0.0/16")
>>> hosts.allows("192.168.1.1", "192.168.1.1"), hosts.allows("x.example", "10.20.3.4")
(False, True)
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass

from pdmlab.errors import ConfigError
from pdmlab.service.refusal import Refused

LOOPBACK = "loopback"
"""The word for this machine itself."""
NOBODY = "none"

_RESOLVING_S = 10.0

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class CallbackHosts:
    """Names, and networks of addresses; a name's addresses are its owner's affair, and are not looked at."""

    names: frozenset[str]
    networks: tuple[_Network, ...]
    text: str

    @classmethod
    def parse(cls, text: str) -> CallbackHosts:
        """Read a list of names, addresses, networks and the word loopback, with commas; "" or none allow nobody.

        Raises:
            ConfigError: something of it is neither.
        """
        names: set[str] = set()
        networks: list[_Network] = []
        for each in filter(None, (part.strip().lower() for part in text.split(","))):
            if each == NOBODY:
                continue
            if each == LOOPBACK:
                networks += [ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128")]
                continue
            try:
                networks.append(ipaddress.ip_network(each))
            except ValueError:
                if not all(part and part.replace("-", "").isalnum() for part in each.rstrip(".").split(".")):
                    raise ConfigError(
                        f"{each!r} in the hosts of callbacks is no name, address or network",
                        hint="such as loopback, bench.example, 192.168.1.7, 10.20.0.0/16",
                    ) from None
                names.add(each.rstrip("."))
        return cls(frozenset(names), tuple(networks), text.strip())

    def allows(self, host: str, address: str) -> bool:
        """Whether a host, at one of its addresses, may be called."""
        if host.lower().rstrip(".") in self.names:
            return True
        found = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self.networks if network.version == found.version)

    async def resolve(self, host: str, port: int) -> str:
        """Return the address to call a host at: looked up once, so that what was checked is what is called.

        Raises:
            Refused: the host is not known, or may not be called (400).
        """
        loop = asyncio.get_running_loop()
        try:
            looked_up = loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = await asyncio.wait_for(looked_up, _RESOLVING_S)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise Refused(400, "CALLBACK_URL_NOT_ACCESSIBLE", hint=f"no address of {host[:100]} is known") from error
        addresses = [str(each[4][0]) for each in found]
        refused = [address for address in addresses if not self.allows(host, address)]
        if refused or not addresses:
            raise Refused(
                400,
                "CALLBACK_URL_NOT_ALLOWED",
                hint=f"this service calls {self.text or 'nobody'}, and {host[:100]} is none of that:"
                " its operator can allow more with PDMLAB_CALLBACK_HOSTS",
            )
        return addresses[0]
