"""A device-management service of one's own: bootstrap, LwM2M, directory, campaigns and REST.

>>> with serve() as service:  # doctest: +SKIP
...     service.url
'http://127.0.0.1:43211'
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdmlab.service.service import Service

__all__ = ["Service", "current", "serve"]

_running: dict[str, Service] = {}
"""This process's services by name, the one started last at the end."""


def serve(
    *,
    name: str = "default",
    database: str | None = None,
    host: str | None = None,
    address: str | None = None,
    port: int = 0,
    https_port: int = 0,
    coaps_port: int = 0,
    coaps_bootstrap_port: int = 0,
    coap_port: int = 0,
    bootstrap_port: int = 0,
    image_port: int = 0,
    keylog: Path | str | None = None,
) -> Service:
    """Start the service, or return it if this process runs it already.

    It keeps all it knows in the state folder under its name, and comes back with it, its CA, its keys and its devices.
    Several processes share all of that in a PostgreSQL database, each under a name of its own.

    Args:
        name: whose database it is; services of two names do not see each other, unless they share a database.
        database: the URL of another database than the one in the state folder, such as
            postgresql://user@host:5432/name; None takes the setting `database`. Passwords belong into PGPASSWORD or
            ~/.pgpass, or all of it into PDMLAB_DATABASE: what is on a command line, everybody on the machine can read.
        host: the address that devices reach it at: loopback, which is the default, one of this machine's, 0.0.0.0 or
            ::. Elsewhere than on loopback there is no transport without security: the REST API is HTTPS there, with a
            certificate of the service's CA (`ca_file`). By plain HTTP it is on loopback always.
        address: what devices are told, where it is not the host: an address of several, or a name they can resolve.
        port: of the REST API; 0 takes the one it had last, or any free one. So with the others.
        https_port: of the REST API by HTTPS, where the host is not loopback.
        coaps_port: of the LwM2M server (DTLS by UDP, TLS by TCP).
        coaps_bootstrap_port: of the bootstrap server (DTLS by UDP, TLS by TCP).
        coap_port: of the LwM2M server without security (UDP and TCP), on loopback alone.
        bootstrap_port: of the bootstrap server without security (UDP and TCP), on loopback alone.
        image_port: of the listener for firmware images (HTTP), where the host is not loopback.
        keylog: a file for the keys of the sessions with devices, with which Wireshark reads a capture of them. Whoever
            has both reads everything, and so it is for its owner only.

    Raises:
        PortBusy: another process runs the service of that name, on this machine or on that database.
        ServiceError: the database cannot be used (503).
        Unreachable: a port that was asked for is taken.
        ConfigError: host or address is none that boards reach; a port is asked for that is not opened there; the
            service runs in this process already, but otherwise; or the name is none, or the URL.
    """
    from pdmlab.service.service import Ports, Service

    ports = Ports(port, https_port, coaps_port, coaps_bootstrap_port, coap_port, bootstrap_port, image_port)
    running = _running.get(name)
    if running is not None:
        running.must_be(host, address, ports, keylog, database)
        return running
    return Service(name=name, database=database, host=host, address=address, ports=ports, keylog=keylog)


def current() -> Service | None:
    """Return the service of this process; of several, the one started last."""
    return next(reversed(_running.values()), None)


def __getattr__(name: str) -> Any:  # a module's attributes are of any type
    if name == "Service":
        from pdmlab.service.service import Service

        return Service
    raise AttributeError(f"module 'pdmlab.service' has no attribute {name!r}")
