"""Object 5, OMA's firmware update: a package is sent (push) or fetched (pull), looked at, and installed on Update.

State 0 idle, 1 downloading, 2 downloaded, 3 updating; what a failure leaves is in `Result`. Writing "" to the URI or
NUL to the package brings both back to 0 (LwM2M 1.1, E.6). Where the specification leaves it open: a package is only
taken in state 0; a failed installation leaves state 2; an update that a restart has cut off before Update is gone, and
one that was downloaded is there again.

    client.firmware.fail_next(3)  # the next package ends with result 3, out of RAM: for training
"""

from __future__ import annotations

from html import escape

from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.client.plain.components import ComponentsObject
from pdmlab.client.plain.firmware_downloads import (
    NAME,
    PACKAGE,
    RAM,
    SILENCE_S,
    URI,
    VERSION,
    FirmwareDownloads,
)
from pdmlab.client.plain.firmware_store import Record
from pdmlab.client.plain.objects import Content, Refusal
from pdmlab.errors import ConfigError, PdmlabError, StorageError
from pdmlab.lwm2m.registry import ResourceDefinition
from pdmlab.update.object5 import MAX_URI, Delivery, Result, State
from pdmlab.update.packages import Firmware, PackageRejected, open_package

_RESETS = (b"", b"\0")


__all__ = ["RAM", "SILENCE_S", "FirmwareObject"]


class FirmwareObject(FirmwareDownloads):
    """One device's firmware object.

    store: where packages wait and what installs them; by default the board's that this runs on, else memory.
    delivery: what the device says and allows: "pull", "push" or "both"; protocols: by which it fetches.
    """

    def __repr__(self) -> str:
        return f"<FirmwareObject /5, state {self.state}, result {self.result}>"

    def _repr_html_(self) -> str:
        rows = {
            "state": str(self.state), "result": str(self.result), "why": self.reason,
            "package": str(self._values[NAME]) + " " + str(self._values[VERSION]),
            "URI": str(self._values[URI]), "runs": self.store.running.version, "delivery": self._delivery.name.lower(),
        }  # fmt: skip
        cells = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
        return f"<table><caption>Firmware update (/5)</caption>{cells}</table>"

    def fail_next(self, result: int) -> None:
        """Let the next package, or with 8 the next installation, end with a result (2 to 9), whatever it is; once.

        Raises:
            ConfigError: that is no failure.
        """
        if result not in range(Result.NO_STORAGE, Result.PROTOCOL + 1):
            raise ConfigError(
                f"an update does not fail with result {result}", hint="2 to 9: pdmlab.update.object5.Result"
            )
        self._forced = Result(result)

    def components(self) -> ComponentsObject:
        """Return object 33629, read-only: the same update as others' servers look for it."""
        mirror = ComponentsObject(lambda resource: self._values[resource], lambda: self.store.running.version)
        self._mirrors.append(mirror)
        return mirror

    # -- start and end ---------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Find out, before the device registers, what became of an update, and what waits."""
        try:
            record = await self.blocking(self.store.load)
            if record.state is State.UPDATING:
                await self._returned(record)
            elif record.state is State.DOWNLOADED:
                await self._found(record, record.result)
            else:
                self._show(State.IDLE, record.result)
        except StorageError as error:
            self.reason = error.message
            self._show(State.IDLE, Result.INITIAL)

    async def _returned(self, record: Record) -> None:
        if await self.blocking(self.store.runs, record):
            self._unconfirmed = True
            self.on_version(self.store.running.version)
            self._show(State.IDLE, Result.SUCCESS)
            return
        self.reason = "what runs is not what was to be installed: see the bootloader's log"
        await self.blocking(self.store.withdraw)
        await self._found(record, Result.FAILED)

    async def _found(self, record: Record, result: Result) -> None:
        """Take a package that was there before a restart."""
        try:
            package = await self.blocking(self.store.package, record.package_size)
            self._firmware = await self.blocking(open_package, package, self.store.kinds)
        except (PackageRejected, StorageError) as error:
            self.reason = error.message
            found = result or (error.result if isinstance(error, PackageRejected) else Result.NO_STORAGE)
            await self._keep(State.IDLE, found)
            return
        self._package_size = record.package_size
        await self._keep(State.DOWNLOADED, result)

    async def registered(self) -> None:
        """Keep the new firmware: it has come so far as to register."""
        if self._unconfirmed:
            self._unconfirmed = False
            try:
                await self.blocking(self.store.confirm)
                await self.blocking(self.store.save, Record(State.IDLE, self.result))
            except StorageError as error:
                self.reason = error.message

    def stop(self) -> None:
        """End what is under way: the device ends."""
        self._abandon()

    # -- what servers write and execute ------------------------------------------------------------------------

    def resources(self, instance: int) -> dict[int, ResourceDefinition]:
        """See Lwm2mObject."""
        return {PACKAGE: self._definitions[PACKAGE], **super().resources(instance)}

    def streams(self, resource: int) -> bool:
        """Whether a resource's blocks are taken one by one, by `take`."""
        return resource == PACKAGE

    def check(self, instance: int, resource: int, value: Content) -> None:
        """See Lwm2mObject."""
        if value in (*_RESETS, "") and resource in (PACKAGE, URI):
            self._may_reset()
            return
        self._may_begin(Delivery.PULL if resource == URI else Delivery.PUSH)
        if resource == URI and len(str(value)) > MAX_URI:
            raise Refusal(codes.BAD_REQUEST, f"a Package URI has at most {MAX_URI} characters")

    def write(self, instance: int, resource: int, value: Content | None) -> None:
        """See Lwm2mObject: what is written in one piece; a package in blocks comes by `take`."""
        if resource not in (PACKAGE, URI) or (value is None and resource == PACKAGE):
            return
        if value in (None, *_RESETS, ""):
            self._reset()
        elif isinstance(value, bytes):
            self._start(self._take_whole(value))
        else:
            self._set(URI, str(value))
            self._start(self._pull(str(value)))

    async def take(self, data: bytes, start: int, *, more: bool, total: int | None, sender: object) -> Code:
        """Take a block of a package that begins at `start`; return 2.31 or, after the last, 2.04.

        Raises:
            Refusal: it does not fit to what has come (4.08), is too much (4.13), or is not to be now (4.05).
        """
        if start == 0 and not more and data in _RESETS:
            self._may_reset()
            self._reset()
            return codes.CHANGED
        async with self._turn:
            if start == 0:
                if not (self.state is State.DOWNLOADING and self._sender == sender):  # who sends it may begin anew
                    self._may_begin(Delivery.PUSH)
                await self._begin(sender)
            elif self._sender != sender or self.state is not State.DOWNLOADING or start > self._received:
                raise Refusal(
                    codes.REQUEST_ENTITY_INCOMPLETE, f"{self._received} B of a package have come, not {start}"
                )
            elif start + len(data) <= self._received:
                return codes.CONTINUE if more else codes.CHANGED  # once more: the answer was lost
            await self._add(data[self._received - start :], total)
            if more:
                self._expect_more()
                return codes.CONTINUE
            await self._complete()
        return codes.CHANGED

    def _may_reset(self) -> None:
        if self.state is State.UPDATING:
            raise Refusal(codes.METHOD_NOT_ALLOWED, "an update that has begun goes on")

    async def _update(self, arguments: str = "") -> None:
        firmware = self._firmware
        if self.state is not State.DOWNLOADED or firmware is None:
            raise Refusal(codes.METHOD_NOT_ALLOWED, f"state {self.state}: there is nothing to install")
        self.reason = ""
        self._show(State.UPDATING, Result.INITIAL)
        self._start(self._install(firmware))

    async def _install(self, firmware: Firmware) -> None:
        """Hand the image over, and restart; the server has its answer to Update."""
        try:
            if self._forced is Result.FAILED:
                self._forced = None
                raise PackageRejected(Result.FAILED, "it was told to fail so")
            record = Record(State.UPDATING, Result.INITIAL, self._package_size, firmware.digest)
            await self.blocking(self.store.save, record)
            await self.blocking(self.store.install, firmware)
        except PdmlabError as error:
            self.reason = error.message
            await self._keep(State.DOWNLOADED, Result.FAILED)
            return
        if self.store.in_place:
            await self.prepare()
        self.restart()
