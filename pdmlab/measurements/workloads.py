"""What a row of files was measured on, run once on the model and then played again with other figures of the part.

A file system does the same operations however long they take. So each workload is run once, as fs-single runs it,
over a driver that notes every operation and the time that passes between them. What another part would take is then
the time of the same operations on its driver, without the file system: a few milliseconds instead of seconds.

Busy times vary on the model (pdmlab/storage/driver.py). What is computed here is their mean: the operations are
played with `STRATA` equally likely values of each figure, so that what polls and ticks round is rounded as often up
as it is on a board.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pdmlab.clock import SECOND
from pdmlab.firmware.corpus import text_of
from pdmlab.firmware.stdio import CFile
from pdmlab.measurements.tracing import Blank, Counting, Kind, Step, Traced
from pdmlab.measurements.volumes import Bus, FileSystemName, VolumeSetup, make_volume
from pdmlab.storage.benchmark import read_all, write_all
from pdmlab.storage.driver import SPREAD, MediumDevice
from pdmlab.storage.figures import meaning
from pdmlab.storage.mcu import TICK, Mcu
from pdmlab.storage.parts import Part

if TYPE_CHECKING:
    from pdmlab.firmware.device import Device

STRATA = 5
MCU = "mcu."
"""Begins the names of the microcontroller's figures: mcu.byte is the cycles between two bytes of a transfer."""
Operation = Literal["write", "read"]
_BOTH: tuple[Operation, ...] = ("write", "read")


@dataclass(frozen=True, order=True)
class Workload:
    """A file of so many bytes written and read with calls of one size, through a C library's buffer or without (B)."""

    buffer: int
    bytes: int
    stdio: int
    sync_every: int = 0
    """Sync each time so much has been written; 0: only when the file is closed."""


@dataclass(frozen=True)
class Setting:
    """What the workloads are run on: a board of the catalogue with a part on a bus, and a volume on it."""

    target: str
    part: Part
    bus: Bus | None = None
    bus_Hz: int | None = None
    file_system: FileSystemName | None = None
    volume_B: int | None = None


@dataclass(frozen=True)
class Figures:
    """Values of figures: of the part in ns, and of the microcontroller in cycles, by names that begin with `mcu.`."""

    part: Part
    mcu: Mcu

    def __getitem__(self, name: str) -> int:
        return self.mcu.cycles[name.removeprefix(MCU)] if name.startswith(MCU) else self.part[name]

    def with_(self, values: Mapping[str, float]) -> Figures:
        """Return a copy with other typical figures; a maximum that leaves no room for a tenth more is raised."""
        changes: dict[str, Any] = {}
        cycles = dict(self.mcu.cycles)
        for name, value in values.items():
            if name.startswith(MCU):
                cycles[name.removeprefix(MCU)] = round(value)
            else:
                changes[name] = round(value), max(self.part.maximum(name), round(value * (1 + SPREAD)) + 1)
        part = self.part.with_(**changes) if changes else self.part
        return Figures(part, replace(self.mcu, cycles=cycles))


class Recording:
    """The operations of all workloads on one setting, and the driver that they were made for."""

    def __init__(self, setting: Setting, workloads: Sequence[Workload]) -> None:
        from pdmlab.sim import VirtualBoard

        self.setting = setting
        self._steps: list[Step] = []
        self._of: list[tuple[Workload, Operation]] = []
        with VirtualBoard(setting.target, memory=True, power=False) as board:
            self._driver: MediumDevice = board.run(self._run, board, setting, list(workloads))
        self._plan: list[tuple[int, int, int]] = []  # time (ns), then which of _counted, then which of _whats
        self._sum_up()
        self.figures = Figures(self._driver.part, self._driver.mcu)
        self.file_system: str = self._version

    @property
    def names(self) -> list[str]:
        """The figures that become time here: those of the part, then those of the microcontroller."""
        part = self.figures.part
        times = [
            name
            for name in self._driver.figures
            if name in part and (known := meaning(part.kind, name)) and known.unit == "ns"
        ]
        # A file system's own cycles pass between the operations, as they were recorded.
        cycles = [name for name in self._driver.cycles if name in self.figures.mcu.cycles and name != "file"]
        return [*times, *(f"{MCU}{name}" for name in cycles)]

    @property
    def estimates(self) -> str:
        """The figures without a source that the times are made of."""
        return self._driver.unsourced

    def seconds(self, figures: Figures) -> dict[tuple[Workload, Operation], float]:
        """Return how long each workload takes on average with these figures (s), stalls left out."""
        total = [0.0] * len(self._of)
        varied = [name for name in self.names if not name.startswith(MCU)]
        for stratum in range(STRATA):
            values = {
                name: round(_value(figures.part, name, ((stratum + 2 * place) % STRATA + 0.5) / STRATA))
                for place, name in enumerate(varied)
            }
            if "stall" in values:
                values["stall"] = 0  # when one comes cannot be known
            for place, took in enumerate(self._play(figures.part.with_(**values), figures.mcu)):
                total[place] += took
        return {of: total[place] / STRATA / SECOND for place, of in enumerate(self._of)}

    def _run(self, device: Device, board: Any, setting: Setting, workloads: list[Workload]) -> MediumDevice:
        volume = make_volume(board, device.clock, VolumeSetup(
            part=setting.part, bus=setting.bus, bus_Hz=setting.bus_Hz, file_system=setting.file_system,
            volume_B=setting.volume_B,
        ))  # fmt: skip
        clock, traced = device.clock, Traced(volume.driver, self._steps)
        volume.fs.unmount()
        # The suites mount what the board's configuration names; sweeps, which call it directly, what make_volume gives.
        fs = volume.fs if not any(work.stdio for work in workloads) else type(volume.fs)("fs")
        fs.reformat(traced)
        self._version = fs.version
        name = "mbed-file-test-0.txt"
        for work in workloads:
            data = text_of(work.bytes)
            if not work.stdio:  # each point of a sweep begins with a blank volume
                fs.reformat(traced)

            def opened(mode: str, work: Workload = work) -> Any:  # a File, or a FILE
                return CFile(fs, name, mode, clock) if work.stdio else fs.open(name, mode.rstrip("+"))

            for operation in _BOTH:
                file = opened("w+" if operation == "write" else "r")
                traced.note("begin")
                if operation == "write":
                    write_all(fs, file, data, work.buffer, sync_every=work.sync_every or None)
                else:
                    read_all(fs, file, data, work.buffer)
                traced.note("end")
                self._of.append((work, operation))
        return volume.driver

    def _play(self, part: Part, mcu: Mcu) -> list[int]:
        """Return how long each workload takes on the driver of a part (ns)."""
        clock = Counting()
        medium = Blank(self._driver.medium.size, erase_value=self._driver.medium.erase_value)
        options: dict[str, Any] = {"clock": clock, "part": part, "timing": "maximum", "mcu": mcu}
        if hasattr(self._driver, "frequency"):
            options["frequency"] = self._driver.frequency
        make: Any = type(self._driver)  # whichever driver it is
        driver = make(medium, **options)
        driver.init()

        def cost(what: _What, phase: int) -> int:
            kind, address, size = what
            start = clock.time = clock.time // TICK * TICK + TICK + phase
            if kind == "program":
                driver.program(address, bytes(size))
            elif kind == "read":
                driver.read(address, size)
            else:
                driver.erase(address, size)
            return clock.time - start

        single = {what: cost(what, 0) for counted in self._counted for what, _ in counted}
        between = [sum(count * single[what] for what, count in counted) for counted in self._counted]
        # The same operation takes the same time again, at the same place in a tick.
        known: list[dict[int, int]] = [{} for _ in self._whats]
        took, began, now = [], 0, 0
        for gap, counted_at, what_at in self._plan:
            now += gap + between[counted_at]
            what = self._whats[what_at]
            if what[0] == "begin":
                began = now
            elif what[0] == "end":
                took.append(now - began)
            else:
                phase = now % TICK
                spent = known[what_at].get(phase)
                if spent is None:
                    spent = known[what_at][phase] = cost(what, phase)
                now += spent
        return took

    def _sum_up(self) -> None:
        """Sum up what takes the same time whenever it is done: only what a tick ends has to be played in order."""
        kind = self._driver.part.kind
        whats: dict[_What, int] = {}
        counteds: dict[_Counted, int] = {}
        waited, counts = 0, Counter[_What]()
        for gap, done, address, size in self._steps:
            waited += gap
            what: _What = done, _place_in(self._driver.part, done, address), size
            ticking = kind == "dataflash" or (kind == "nor" and done != "read")  # Mbed looks at these once a tick
            if done in ("begin", "end") or ticking:
                counted = tuple(counts.items())
                self._plan.append(
                    (waited, counteds.setdefault(counted, len(counteds)), whats.setdefault(what, len(whats)))
                )
                waited, counts = 0, Counter()
            else:
                counts[what] += 1
        self._whats, self._counted = list(whats), list(counteds)


def _place_in(part: Part, kind: str, address: int) -> int:
    """Return what of an address can change how long an operation takes (B)."""
    if part.kind == "sd" or (part.kind == "nor" and kind == "read"):
        return 0
    if part.kind == "nor":
        return address % (part["page"] if kind == "program" else max(part.erases))
    return address


_What = tuple[Kind, int, int]
"""What is done, what of the address matters, size (B)."""
_Counted = tuple[tuple[_What, int], ...]
"""Operations, and how often each is done."""


def _value(part: Part, figure: str, place: float) -> float:
    """Return the busy time that so great a share of all are shorter than (ns), as drivers draw them."""
    typical = part[figure]
    spread = round(typical * SPREAD)
    return typical - spread + place * min(2 * spread, max(part.maximum(figure) - typical, 0) + spread)
