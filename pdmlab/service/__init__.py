"""A device-management service of one's own: bootstrap, LwM2M, directory, campaigns and REST, on this machine only.

>>> with serve() as service:  # doctest: +SKIP
...     service.url
'http://127.0.0.1:43211'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdmlab.service.service import Service

__all__ = ["Service", "current", "serve"]

_running: dict[str, Service] = {}
"""This process's services by name, the one started last at the end."""


def serve(*, name: str = "default", port: int = 0, coap_port: int = 0, bootstrap_port: int = 0) -> Service:
    """Start the service, or return it if this process runs it already.

    It keeps all it knows in the state folder under its name, and comes back with it, its keys and its devices.

    Args:
        name: whose database it is; services of two names do not see each other.
        port: of the REST API; 0 takes the one it had last, or any free one. So with the two others.
        coap_port: of the LwM2M server (UDP).
        bootstrap_port: of the bootstrap server (UDP).

    Raises:
        PortBusy: another process runs the service of that name.
        Unreachable: a port that was asked for is taken.
        ConfigError: it runs in this process already, but on other ports; or the name is none.
    """
    from pdmlab.service.service import Service

    running = _running.get(name)
    if running is not None:
        running.must_be_at(port, coap_port, bootstrap_port)
        return running
    return Service(name=name, port=port, coap_port=coap_port, bootstrap_port=bootstrap_port)


def current() -> Service | None:
    """Return the service of this process; of several, the one started last."""
    return next(reversed(_running.values()), None)


def __getattr__(name: str) -> Any:  # a module's attributes are of any type
    if name == "Service":
        from pdmlab.service.service import Service

        return Service
    raise AttributeError(f"module 'pdmlab.service' has no attribute {name!r}")
