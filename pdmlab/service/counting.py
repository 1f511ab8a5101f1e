"""Counts what goes over the service's endpoints, by the account whose device it is: messages and handshakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pdmlab.capture import Event, Tap
from pdmlab.coap.security import HandshakeStep
from pdmlab.coap.transport import Address, Identity
from pdmlab.service.metrics import blocks
from pdmlab.service.pki import Role
from pdmlab.service.proof import proof_of

if TYPE_CHECKING:
    from pdmlab.service.core import Core


class Counting:
    """An endpoint's tap: it counts each message, and passes it on to the log's tap, if there is a log.

    Of whom nobody knows yet whose device it is, nothing is counted: mostly the first message of a registration.
    """

    def __init__(self, core: Core, role: Role, tap: Tap | None) -> None:
        self._core = core
        self._role = role
        self._tap = tap
        # An endpoint looks for these by their names.
        self.event: Callable[[Address, Event, int], None] | None = None if tap is None else tap.event
        self.unreadable: Callable[[Address, bytes, str, int], None] | None = None if tap is None else tap.unreadable

    def __repr__(self) -> str:
        return f"<Counting at the {self._role} server>"

    def __call__(self, direction: Literal["in", "out"], peer: Address, data: bytes, when: int) -> None:
        if self._tap is not None:
            self._tap(direction, peer, data, when)
        account_id = self._account_of(peer)
        if account_id is not None:
            self._core.metrics.count(account_id, "transactions", blocks(len(data)))

    def _account_of(self, peer: Address) -> str | None:
        core = self._core
        if self._role == "bootstrap":
            return core.bootstrap.account_of(peer)
        registration = core.registrations.at(peer)
        return None if registration is None else registration.account_id


def counted(
    core: Core, role: Role, tells: Callable[[Address, HandshakeStep], None] | None
) -> Callable[[Address, HandshakeStep], None]:
    """Return what counts the handshakes of a server, and passes them on to a log."""

    def tell(peer: Address, step: HandshakeStep) -> None:
        if tells is not None:
            tells(peer, step)
        if step.what == "completed" and step.identity is not None:
            account_id = _account_of(core, role, step.identity)
            if account_id is not None:
                core.metrics.count(account_id, "handshakes_successful")

    return tell


def _account_of(core: Core, role: Role, identity: Identity) -> str | None:
    """Return whose device has shaken hands; None where several accounts trust its factory, and it may be of any."""
    if identity.kind == "psk":
        return core.credentials.account_of(identity.name)
    proof = proof_of(identity, core.pki.certificate)
    if proof.kind == "certificate":
        return proof.account_id
    accounts = {row["account_id"] for row in core.belief.authorities(role, proof.certificates)}
    return accounts.pop() if len(accounts) == 1 else None
