"""Devices of a few lines that come to a running service."""

from __future__ import annotations

from pdmlab.service import Service
from tests.service.restlab import Device


def registered(service: Service, name: str) -> Device:
    """Register a device of an endpoint name, without security."""
    host, _, port = str(service.plain_lwm2m_uri).removeprefix("coap://").partition(":")
    device = Device(lambda coroutine: service._thread.run(coroutine, timeout=30), (host, int(port)), name)
    device.register()
    return device
