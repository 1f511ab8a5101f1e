"""One resource on the page: what it is called, the value that came last, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from nicegui import ui

from pdmlab.errors import ConfigError, PdmlabError
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.registry import core_objects
from pdmlab.page import words
from pdmlab.page.frame import Frame, button, heading
from pdmlab.page.seat import READ_ONLY, Sample
from pdmlab.page.values import decode

_SHORT = {"text/plain": "text", "application/octet-stream": "opaque", "application/vnd.oma.lwm2m+tlv": "TLV"}
SPARK = 60
"""Values in a sparkline."""


class Row:
    """A resource: what it is called, the value that came last, and what can be done."""

    def __init__(self, frame: Frame, device: str, listed: dict[str, Any], came: Callable[[str, Sample], None]) -> None:
        self._frame, self._device, self.path = frame, device, str(listed["path"])
        self._seat, self._came = frame.seat, came
        known = words.definition(self.path)
        operations = known.operations if known is not None and known.operations else "RWE"
        instance = "/".join(self.path.split("/")[:3])
        full = core_objects().name(Path.parse(self.path))
        self.name = known.name if known is not None else "" if full == self.path else full.partition(" / ")[2]
        self.name = "" if self.name.isdigit() else self.name
        if self.path == instance:
            self.name, operations = "whole instance", "R"
        self.readable = "R" in operations
        self._count = -1
        self._sample: Sample | None = None
        self._unit = ""
        self._observes = False
        with ui.element("div").classes("resource").props(f'data-path="{self.path}"') as self.box:
            ui.label(self.path).classes("mono path")
            ui.label(self.name or "–").classes("name" if self.name else "name quiet").tooltip(
                self.name or "not in the registry"
            )
            with ui.element("div").classes("acts"):
                self._obs = self._act("Obs", "Observe", "R", operations, self._toggle)
                self._act("R", "Read", "R", operations, self._read)
                self._act("W", "Write", "W", operations, self._ask_value)
                self._act("Exe", "Execute", "E", operations, self._ask_argument)
            self._value = ui.label("–").classes("value none")
            with ui.element("div").classes("meta"):
                self._meta = ui.label("")
            self._spark = ui.html("", sanitize=False).classes("spark-box")
            self._problem = ui.label("").classes("problem").props('role="alert"')
        self._problem.set_visibility(False)

    def _act(self, text: str, verb: str, operation: str, operations: str, work: Callable[[], Any]) -> ui.button:
        """Return a button; what the registry does not have may be tried as well: a device may allow more than that."""
        why_not = READ_ONLY if operation in "WE" and not self._seat.may_write else ""
        made = button(text, look="act", why_not=why_not, label=f"{verb} {self.path}")
        if operation not in operations:
            made.classes("unlikely")
            made.tooltip(f"the registry says: {' '.join(operations) or 'nothing'}")
        made.on_click(work)
        return made

    # -- showing ---------------------------------------------------------------------------------------------

    def known(self, row: dict[str, Any]) -> None:
        """Show what the service knows, as long as nothing newer came here."""
        if self._sample is None and self._count < 0 and row["payload"] is not None:
            value = decode(row["payload"], row["ct"], self.path)
            when = "The service keeps no time with it. Read asks the device."
            self._put(words.value(value, self.path), row["ct"], words.kept(row.get("fresh_for")), when)

    def set_unit(self, unit: str) -> None:
        """Say what the value is measured in, as the device does."""
        unit = f" {unit[:16]}"
        if unit != self._unit:
            self._unit = unit
            if self._sample is not None:
                self.show(self._sample)

    def follow(self) -> None:
        """Show the value that came last, if it is observed."""
        observed = self._seat.observed.get((self._device, self.path))
        if (observed is not None) != self._observes:
            self._observes = observed is not None
            self._obs.classes(add="on") if self._observes else self._obs.classes(remove="on")
            self._obs.props(f'aria-label="{"Stop observing" if self._observes else "Observe"} {self.path}"')
        if observed is None or observed.count == self._count:
            return
        self._count = observed.count
        if observed.trouble is not None:
            self._say(observed.trouble)
        if observed.history:
            self.show(observed.history[-1])
            numbers = [words.numeric(each.value) for each in list(observed.history)[-SPARK:]]
            self._spark.set_content(words.sparkline([each for each in numbers if each is not None]))

    def show(self, sample: Sample) -> None:
        """Show a value that has just come."""
        self._sample = sample
        self._came(self.path, sample)
        self._put(
            words.value(sample.value, self.path) + self._unit,
            sample.format,
            f"{words.moment(sample.at)} UTC, host clock",
            "When the page got it, by the clock of the machine that the page runs on",
        )

    def _put(self, value: str, format: str, at: str, about: str) -> None:
        self._value.set_text(value if value else "(empty)")
        self._value.classes(replace="value" if value else "value none")
        self._value.props["title"] = value
        self._value.update()
        self._meta.set_text(f"{_SHORT.get(format, format.removeprefix('application/'))} · {at}")
        self._meta.props["title"] = f"{self._meta.text}. {about}"
        self._meta.update()

    def _say(self, error: PdmlabError | None) -> None:
        self._problem.set_text(words.error(error) if error is not None else "")
        self._problem.set_visibility(error is not None)

    async def _try(self, work: Callable[[], Any]) -> bool:
        """Do something; show under the row why it failed."""
        self.box.classes("busy")
        try:
            await work()
        except PdmlabError as error:
            self._say(error)
            return False
        finally:
            self.box.classes(remove="busy")
        self._say(None)
        return True

    # -- doing -----------------------------------------------------------------------------------------------

    async def read(self) -> bool:
        """Read it; tell whether that went well."""

        async def work() -> None:
            self.show(await self._seat.read(self._device, self.path))

        return await self._try(work)

    async def _read(self) -> None:
        await self.read()

    async def _toggle(self) -> None:
        if (self._device, self.path) in self._seat.observed:
            await self._try(partial(self._seat.unobserve, self._device, self.path))
        else:
            await self._try(partial(self._seat.observe, self._device, self.path))
        self.follow()

    def _ask_value(self) -> None:
        known = words.definition(self.path)
        opaque = known is not None and known.type == "opaque"
        with ui.dialog() as dialog, ui.card().classes("dialog"):
            heading(2, f"Write {self.path}{f' {self.name}' if self.name else ''}")
            unit = f" ({known.unit})" if known is not None and known.unit else ""
            kind = f", {known.type}" if known is not None and known.type else ""
            value = ui.input(label=f"Value{unit}{kind}").props("outlined dense autofocus").classes("field")
            if self._sample is not None and isinstance(self._sample.value, str):
                value.value = self._sample.value
            as_hex = ui.checkbox("as bytes, in hex (opaque)", value=opaque)
            with ui.element("div").classes("buttons"):
                button("Cancel").on_click(dialog.close)
                go = button("Write", look="main")

            async def write() -> None:
                given: str | bytes = str(value.value or "")
                if as_hex.value:
                    given = _bytes_of(str(given))
                dialog.close()
                if await self._try(partial(self._seat.write, self._device, self.path, given)) and self.readable:
                    await self.read()

            go.on_click(self._frame.does(write, go))
            value.on("keydown.enter", self._frame.does(write, go))
            dialog.on("show", lambda: value.run_method("focus"))
        dialog.open()

    def _ask_argument(self) -> None:
        with ui.dialog() as dialog, ui.card().classes("dialog"):
            heading(2, f"Execute {self.path}{f' {self.name}' if self.name else ''}?")
            argument = ui.input(label="Argument, if it takes one").props("outlined dense").classes("field")
            with ui.element("div").classes("buttons"):
                button("Cancel").on_click(dialog.close)
                go = button("Execute", look="main")

            async def execute() -> None:
                dialog.close()

                async def work() -> None:
                    said = await self._seat.execute(self._device, self.path, str(argument.value or ""))
                    with self.box:
                        ui.notify(f"{self.path} executed{f': {said}' if said else ''}", type="positive",
                                  position="bottom-right")  # fmt: skip

                await self._try(work)

            go.on_click(self._frame.does(execute, go))
            argument.on("keydown.enter", self._frame.does(execute, go))
            dialog.on("show", lambda: argument.run_method("focus"))
        dialog.open()


def _bytes_of(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigError(f"{text[:40]!r} is no hex", hint="write bytes as 0a ff 00, or take the mark away") from None
