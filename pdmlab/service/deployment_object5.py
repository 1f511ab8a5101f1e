"""OMA's way: an image to /5/0/0, or its address to /5/0/1; state on /5/0/3, result on /5/0/5, and Update on /5/0/2.

A device gets the image that the campaign's manifest names, and not the manifest, of which it knows nothing: whether it
is for this vendor and class is what the service compares, where the directory knows them. A device counts as updated
when it reports result 1, or shows the manifest's version on /3/0/3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.errors import NetworkError
from pdmlab.lwm2m.content import OPAQUE, TEXT
from pdmlab.lwm2m.paths import Path
from pdmlab.service.campaign_questions import runs
from pdmlab.service.campaign_words import RETURNED, STEPS, object5_failure
from pdmlab.service.deployment_offer import Offer, Offers
from pdmlab.service.deployment_push import push
from pdmlab.service.deployment_ways import MAX_TRIES, number_of
from pdmlab.service.store import Row
from pdmlab.update import object5
from pdmlab.update.object5 import Result, State

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.service.deployments import Deployments

_FAILED = "failed_connector_channel_update"
_SENDS = {"pull": "Writes the image's address", "push": "Sends the image in blocks"}
DEFERRED = 11
"""On /5/0/5, of later devices: their users have put the update off."""


class ByFirmwareObject:
    """Conversations with devices that have object 5."""

    hears = frozenset((object5.STATE, object5.RESULT))
    looks_often = True

    def __init__(self, core: Core, deployments: Deployments) -> None:
        self._core = core
        self._rows = deployments
        self._ask = deployments.questions
        self._offers = Offers(core)
        self._pushing: set[str] = set()

    def __repr__(self) -> str:
        return f"<ByFirmwareObject /5, {len(self._pushing)} are sent an image>"

    # -- what it tells -------------------------------------------------------------------------------------

    def told(self, row: Row, path: str, number: int) -> None:
        """Follow what a device says on /5/0/3 and /5/0/5."""
        device_id, step = row["device_id"], row["step"]
        if step in ("waiting", "sending") or device_id in self._pushing:
            return  # that is of an update before, or looked at in a moment
        if path == object5.RESULT:
            if number == Result.SUCCESS and step in RETURNED:
                self._succeeded(row, "the device reports result 1: success")
            elif number == DEFERRED:
                self._rows.move(row, "install approval")
            elif number > Result.SUCCESS:
                self._rows.failed(row, number, object5_failure)
        elif number == State.UPDATING:
            self._rows.move(row, "installing")
        elif number in (State.DOWNLOADED, State.IDLE):
            self._rows.go_on(device_id, look=True)

    def _succeeded(self, row: Row, words: str) -> None:
        self._rows.end(row, "success", "deployed", "UPD4_SUCCESS_100", words)

    # -- what it is sent -----------------------------------------------------------------------------------

    async def send(self, row: Row) -> bool:
        """Send the image, or its address, to a device that does not run its version; see Way."""
        registration = self._core.registrations.find(row["device_id"])
        if registration is None:
            return False
        self._rows.found(registration)
        if row["tries"] == 0 and runs(await self._version(row), row):
            self._rows.end(row, "skipped", "deployed", "UPD4_SKIPPED_100", f"the device runs {row['version']} already")
            return True
        offer = self._offers.fault(row) or await self._offers.make(row, registration)
        if isinstance(offer, str):
            self._rows.end(row, "fail", _FAILED, "UPD4_FAIL_106", offer)
            return True
        tries, words = row["tries"] + 1, _SENDS[offer.how]
        if not self._rows.move(row, "sending", tries=tries, generation=registration.generation, description=words):
            return True
        await self._core.store.written()
        self._rows.anew(row["device_id"])
        self._watch(row)
        try:
            await self._reset(row)
            return await self._offer(row, offer)
        except NetworkError as error:
            self._unsent(row, error)
            return False

    async def _offer(self, row: Row, offer: Offer) -> bool:
        if offer.how == "pull":
            answer = await self._put(row, object5.PACKAGE_URI, offer.uri.encode(), TEXT)
            refused = _said(answer) if answer.code >= 128 else ""
        else:
            self._pushing.add(row["device_id"])
            try:
                refused = await push(self._core, self._rows, row, offer)
            finally:
                self._pushing.discard(row["device_id"])
        return await self._settle(row, refused)

    async def _settle(self, row: Row, refused: str) -> bool:
        """See what has become of a package that was sent, or of its address; refused: the device's words, if it was."""
        state, result = await self._state(row), await self._result(row)
        now = self._rows.still(row)
        if now is None or now["step"] not in ("sending", "downloading"):
            return now is None
        if result > Result.SUCCESS:
            self._rows.failed(now, result, object5_failure)
        elif refused:
            words = f"the device answered the package with {refused}"
            self._rows.end(now, "fail", _FAILED, "UPD4_FAIL_101", words)
        elif state == State.DOWNLOADED:
            return await self._execute(now)
        else:
            self._rows.move(now, "downloading")
            return False
        return True

    async def _execute(self, row: Row) -> bool:
        """Have a device install what it has; a device that restarts at once may not have answered."""
        registration = self._core.registrations.find(row["device_id"])
        if registration is None:
            return False
        if not self._rows.move(row, "installing", generation=registration.generation):
            return True
        await self._core.store.written()
        answer = await self._core.delivery.ask(row["device_id"], _message(codes.POST, object5.UPDATE))
        if answer.code < 128:
            return False
        result, now = await self._result(row), self._rows.still(row)
        if now is not None and result > Result.SUCCESS:
            self._rows.failed(now, result, object5_failure)
        elif now is not None and now["step"] == "installing":
            words = f"the device answered Update (/5/0/2) with {_said(answer)}"
            self._rows.end(now, "fail", _FAILED, "UPD4_FAIL_107", words)
        return True

    def _unsent(self, row: Row, error: NetworkError) -> None:
        """Note that a device was lost while it was sent something; it is looked at when it is back."""
        now = self._rows.still(row)
        if now is None or now["step"] not in ("sending", "downloading"):
            return
        if now["tries"] < MAX_TRIES:
            self._rows.move(now, "waiting", description=f"{STEPS['waiting']}; the last attempt: {error.message}")
            return
        words = f"the package did not reach the device in {MAX_TRIES} attempts: {error.message}"
        self._rows.end(now, "fail", _FAILED, "UPD4_FAIL_101", words)

    # -- what it is asked ----------------------------------------------------------------------------------

    async def look(self, row: Row) -> bool:
        """Find out where a device is that has registered or updated since, or was away as the service was; see Way."""
        registration = self._core.registrations.find(row["device_id"])
        if registration is None:
            return False
        self._rows.found(registration)
        self._watch(row)
        restarted = registration.generation > row["generation"]
        version, state, result = await self._version(row), await self._state(row), await self._result(row)
        fetches = state in (State.IDLE, State.DOWNLOADING) and bool(await self._ask.value(row, object5.PACKAGE_URI))
        now = self._rows.still(row)
        if now is None:
            return True
        step = now["step"]
        if runs(version, row):  # which it did not when the image went out
            self._succeeded(now, f"the device runs {row['version']}")
        elif step in ("waiting", "sending"):
            return await self._again(now)  # its result may be that of an earlier update
        elif result == Result.SUCCESS and step in RETURNED:
            self._succeeded(now, "the device reports result 1: success")
        elif result == DEFERRED:
            self._rows.move(now, "install approval")
            return False
        elif result > Result.SUCCESS:
            self._rows.failed(now, result, object5_failure)
        elif state == State.DOWNLOADED:
            return await self._execute(now)
        elif state == State.UPDATING:
            self._rows.move(now, "installing")
            return False
        elif step in RETURNED:
            self._rows.end(now, "fail", _FAILED, *_returned(row["version"], version, restarted=restarted))
        elif fetches and not (restarted and state == State.IDLE):
            self._rows.move(now, "downloading", generation=registration.generation)
            return False
        else:
            return await self._again(now)
        return True

    async def _again(self, row: Row) -> bool:
        if row["tries"] < MAX_TRIES:
            return await self.send(row)
        words = f"the device lost the package {MAX_TRIES} times"
        self._rows.end(row, "fail", _FAILED, "UPD4_FAIL_101", words)
        return True

    def _watch(self, row: Row) -> None:
        self._core.observations.watch(row["account_id"], row["device_id"], self.hears)

    async def _reset(self, row: Row) -> None:
        """Bring a device's state and result back to 0, where an update before has left others."""
        if await self._state(row) == State.IDLE and await self._result(row) == Result.INITIAL:
            return
        answer = await self._put(row, object5.PACKAGE_URI, b"", TEXT)
        if answer.code >= 128:
            await self._put(row, object5.PACKAGE, b"\0", OPAQUE)

    async def _put(self, row: Row, path: str, payload: bytes, content_format: int) -> Message:
        message = _message(codes.PUT, path)
        message.payload, message.opt.content_format = payload, content_format
        return await self._core.delivery.ask(row["device_id"], message)

    async def _version(self, row: Row) -> str | None:
        return await self._ask.value(row, "/3/0/3")

    async def _state(self, row: Row) -> int:
        return number_of(await self._ask.value(row, object5.STATE)) or State.IDLE

    async def _result(self, row: Row) -> int:
        return number_of(await self._ask.value(row, object5.RESULT)) or Result.INITIAL


def _message(code: Code, path: str) -> Message:
    message = Message(code=code)
    message.opt.uri_path = Path.parse(path).segments
    return message


def _said(answer: Message) -> str:
    return f"{answer.code} {answer.payload[:120].decode('utf-8', 'replace')}".strip()


def _returned(wanted: str, version: str | None, *, restarted: bool) -> tuple[str, str]:
    """Return the event type and the words of a device that is idle again, and gives no result."""
    if not restarted:
        return "UPD4_FAIL_105", "the device went idle and gave no result, at: the device prepares the installation"
    told = f"with version {version}" if version else "without telling its version (/3/0/3)"
    return "UPD4_FAIL_103", f"the device restarted to install {wanted} and came back {told}: see its bootloader's log"
