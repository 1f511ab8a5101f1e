"""What a session tells and asks of the application above it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from pdmlab.client.error import Error
from pdmlab.update.components import Component
from pdmlab.update.interface import ALLOWED, DEFERRED, Answer, rejected_for
from pdmlab.update.manifest import Manifest


class UpdateRequest(IntEnum):
    """What an application is asked to allow: MbedCloudClient::UpdateRequest*."""

    Invalid = 0
    Download = 1
    Install = 2


@dataclass(frozen=True)
class UpdateQuestion:
    """A question of an update, which the application answers when it knows, from any thread; the first answer counts.

    Meanwhile /10252/0/2 stays 3 or 6; after a reset it is asked again.

    request: what for, Download or Install. manifest: of which update, None for one of the older update hub's.
    """

    request: UpdateRequest
    manifest: Manifest | None
    settle: Callable[[Answer], object] = field(repr=False)

    def authorize(self) -> None:
        """Let the update go on."""
        self.settle(ALLOWED)

    def reject(self, reason: int = 0) -> None:
        """End the update, with result 38 or 37; reason goes to the console."""
        self.settle(rejected_for(reason))

    def defer(self) -> None:
        """Put the update off until the next start, or until update_resume(); its manifest is kept."""
        self.settle(DEFERRED)

    def __repr__(self) -> str:
        what = "" if self.manifest is None else f" of {self.manifest.component} {self.manifest.version}"
        return f"<{self.request.name}{what}?>"


@dataclass
class Hooks:
    """Functions that may block; each is called in a device thread.

    registered, unregistered: the server knows the device now, or does not any more.
    failed: something went wrong; takes its number and a sentence.
    authorize: may refuse an update by returning False.
    ask: gets the question, and may answer it later. Without either everything is allowed.
    progress: takes bytes downloaded, and how many there are.
    question: what ask was asked last and has not answered yet.
    components: what the application installs itself.
    confirm_when_registered: whether a firmware on trial is kept once it has registered; else the application says so.
    """

    registered: Callable[[], object]
    unregistered: Callable[[], object]
    failed: Callable[[Error, str], object]
    authorize: Callable[[UpdateRequest], object] | None = None
    ask: Callable[[UpdateQuestion], object] | None = None
    progress: Callable[[int, int], object] | None = None
    question: UpdateQuestion | None = None
    components: tuple[Component, ...] = ()
    confirm_when_registered: bool = True
