"""What a log is told beside messages: handshakes, and where a socket is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import get_args

from pdmlab.capture import Event, Tap, Who
from pdmlab.coap.handshake import alert_name
from pdmlab.coap.security import HandshakeStep
from pdmlab.coap.transport import Address, DatagramSocket, Identity, Opener, Scheme


def tells(tap: Tap, who: Callable[[Identity], Who | None] | None = None) -> Callable[[Address, HandshakeStep], None]:
    """Return what a `Security.tells` may be; it is called on the loop that the connections are on.

    who: which device has proved to be somebody; by what its certificate says, unless somebody knows better whom to
    believe what.
    """

    def tell(peer: Address, step: HandshakeStep) -> None:
        tap.event(peer, _event(tap, step, who), round(asyncio.get_running_loop().time() * 1e9))

    return tell


def placed(opener: Opener, tap: Tap) -> Opener:
    """Return an opener of a client's socket that tells a tap where it is, for captures."""

    async def open_(on_message: Callable[[bytes, Address], None]) -> DatagramSocket:
        socket = await opener(on_message)
        tap.here = dict.fromkeys(get_args(Scheme), socket.address)
        return socket

    return open_


def _event(tap: Tap, step: HandshakeStep, knows: Callable[[Identity], Who | None] | None) -> Event:
    if step.what == "started":
        return Event("handshake started")
    if step.failure is not None:
        failure, words = step.failure, step.failure.message
        if failure.alert is not None and (alert := alert_name(failure.alert)) not in words:
            words += f"; it was told so by alert {alert}"
        return Event("handshake failed", words, failure.reason or "other", failure.hint or "")
    parts = [step.suite]
    who = None
    if step.identity is not None:
        who = knows(step.identity) if knows is not None else _who(tap, step.identity)
        parts.append(f"{'PSK identity' if step.identity.kind == 'psk' else 'certificate of'} {step.identity.name}")
    return Event("handshake completed", ", ".join(filter(None, parts)), resumed=step.resumed, who=who)


def _who(tap: Tap, identity: Identity) -> Who | None:
    """Return which device a peer is; to a device, its peers are servers."""
    if tap.own:
        return None
    if identity.kind == "psk":
        return Who(name=identity.name)
    found = tap.dialect.owner(identity.certificates[0]) if identity.certificates else None
    return found or Who(name=identity.name)
