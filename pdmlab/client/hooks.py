"""What a session tells and asks of the application above it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from pdmlab.client.error import Error


class UpdateRequest(IntEnum):
    """What an application is asked to allow: MbedCloudClient::UpdateRequest*."""

    Invalid = 0
    Download = 1
    Install = 2


@dataclass
class Hooks:
    """Functions that may block; each is called in a device thread.

    registered, unregistered: the server knows the device now, or does not any more.
    failed: something went wrong; takes its number and a sentence.
    authorize: may refuse an update by returning False; None allows everything.
    progress: takes bytes downloaded, and how many there are.
    """

    registered: Callable[[], object]
    unregistered: Callable[[], object]
    failed: Callable[[Error, str], object]
    authorize: Callable[[UpdateRequest], object] | None = None
    progress: Callable[[int, int], object] | None = None
