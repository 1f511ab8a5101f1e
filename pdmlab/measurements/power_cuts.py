"""A firmware update replayed in memory, with the supply cut at any program or erase.

The media are a board's own kind, with its drivers, candidate slot and bootloader; only the application is left
out. A replay code is a list of steps:

    download      fetch 2.0.0 into the candidate slot, or go on where a cut has left it
    boot          start: the bootloader checks, installs if it must, and starts what it may
    pull-card, seat-card, format-card     what people do to a card

A step that ends in !n loses power in the middle of its nth program or erase: `download boot!20 boot`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from pdmlab.clock import PowerLost, WallClock
from pdmlab.errors import BootFailed, ConfigError, PdmlabError
from pdmlab.firmware.image import ImageInfo, build_image
from pdmlab.measurements.bench import Bench, Row
from pdmlab.storage import FlashIAPBlockDevice, QSPIFBlockDevice, SDBlockDevice, SPIFBlockDevice
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.storage.medium import Medium
from pdmlab.storage.supply import Supply
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.fota import FotaBootloader
from pdmlab.update.bootloaders.interface import Hardware
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.header import FirmwareHeader
from pdmlab.update.manifest import Manifest
from pdmlab.update.version import Version

if TYPE_CHECKING:
    import pandas as pd

    from pdmlab.boards.catalog import BoardRow
    from pdmlab.storage.blockdevice import BlockDevice

OLD, NEW = "1.0.0", "2.0.0"
BLOCK = 1024
"""What one block of a download carries (B), as with Block2 of 1024."""
CELL = 4096
"""The slot map's resolution (B)."""
NOTHING = "nothing"
HALF = "half written"
_STEP = re.compile(r"(download|boot)(!([1-9]\d{0,5}))?|pull-card|seat-card|format-card")


@dataclass(frozen=True)
class StepOutcome:
    """A step of a replay: what came of it, and how many programs and erases it took."""

    step: str
    outcome: str
    operations: int
    running: str
    """The version that runs after it, or "nothing"."""
    cut_in: str = ""
    """The operation in which the power was lost."""


@dataclass
class Replay:
    """A replayed story: its steps, what runs now, and what lies in flash and candidate slot."""

    code: str
    steps: list[StepOutcome] = field(default_factory=list)
    active: str = OLD
    """Whether the application in flash is whole: its version, or "incomplete"."""
    candidate: str = "none"
    """none, incomplete, or its version if it is whole."""
    slots: list[Row] = field(default_factory=list)
    """What lies in each 4 KiB of both slots: 1.0.0, 2.0.0, blank or mixed."""

    @property
    def running(self) -> str:
        """The version that runs at the end, or "nothing"."""
        return self.steps[-1].running if self.steps else OLD

    @property
    def cuts(self) -> int:
        """How often the power was lost."""
        return sum(bool(step.cut_in) for step in self.steps)

    @property
    def frame(self) -> pd.DataFrame:
        """The steps as a frame."""
        import pandas as pd

        return pd.DataFrame([vars(step) for step in self.steps])

    @property
    def slot_map(self) -> pd.DataFrame:
        """Slot, offset_B and what lies there, a row for each 4 KiB."""
        import pandas as pd

        return pd.DataFrame(self.slots)

    def __repr__(self) -> str:
        lines = [f"{step.step:<14} {step.outcome}" for step in self.steps]
        return "\n".join([f"replay {self.code!r}: {self.running} runs", *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr style='text-align:left'><td><code>{escape(step.step)}</code></td><td>{escape(step.outcome)}</td>"
            f"<td>{step.operations}</td><td>{escape(step.running)}</td></tr>"
            for step in self.steps
        )
        return (
            f"<table><caption>SIMULATED, in memory: <code>{escape(self.code)}</code></caption>"
            f"<tr><th>step</th><th>what came of it</th><th>programs, erases</th><th>runs</th></tr>{rows}</table>"
        )


def replay(board: Bench, code: str, *, image_B: int = 48 * 1024) -> Replay:
    """Replay an update of a board of this kind from 1.0.0 to 2.0.0; see the module for what a code is.

    Raises:
        ConfigError: the code has a word that is no step, or a card is handled where there is none.
    """
    words = code.split()
    for word in words:
        if not _STEP.fullmatch(word):
            raise ConfigError(
                f"{word!r} is no step of a replay", hint="download, boot, boot!20, pull-card, seat-card, format-card"
            )
    if not 1 <= len(words) <= 20:
        raise ConfigError("a replay code has 1 to 20 steps", hint="such as: download boot!20 boot")
    return _Story(board, code, image_B).play(words)


def power_cut(board: Bench, cut: int, image_B: int) -> Row:
    """Cut the supply in the cut-th program or erase of a download and installation, and go on: one row.

    Afterwards the board starts, downloads what is missing, and starts again.
    """
    whole = replay(board, "download boot", image_B=image_B)
    downloading = whole.steps[0].operations
    if cut <= downloading:
        step, head = "download", f"download!{cut}"
    else:
        step, head = "install", f"download boot!{cut - downloading}"
    at_cut = replay(board, head, image_B=image_B)
    story = replay(board, f"{head} boot download boot", image_B=image_B)
    return {
        "step": step,
        "operation": at_cut.steps[-1].cut_in or "none",
        "active": at_cut.active,
        "candidate": at_cut.candidate,
        "first_start": story.steps[-3].running,
        "in_the_end": story.running,
    }


class _Story:
    def __init__(self, board: Any, code: str, image_B: int) -> None:  # Any: also its catalogue row, a BoardRow
        self._row: BoardRow = board.info
        self._layout = board.layout
        self._result = Replay(code)
        self._supply = Supply()
        self._running = OLD
        flash, row = self._layout.geometry, self._row
        self._flash = Medium(flash.size, name="flash", supply=self._supply)
        self._storage = Medium(
            row.storage_size, erase_value=0 if row.storage == "SD" else 0xFF, name=row.storage, supply=self._supply
        )
        self._images = {
            version: build_image(ImageInfo("example", version), size=image_B, load_address=flash.start)
            for version in (OLD, NEW)
        }
        self._manifest = Manifest.for_image(
            self._images[NEW], version=NEW, uri="/fw", vendor_id=bytes(16), class_id=bytes(16)
        )
        for at, data in bootloaders.programmed("fota", self._layout, self._images[OLD], Version.parse(OLD)):
            self._flash.poke(at, data)

    def play(self, words: list[str]) -> Replay:
        for word in words:
            name, _, cut = word.partition("!")
            self._supply.operations, cut_in = 0, ""
            self._supply.writes_left = int(cut) - 1 if cut else None
            try:
                outcome = self._take(name)
            except PowerLost:
                cut_in = self._supply.last
                outcome, self._running = f"power lost in operation {cut}: {cut_in}", NOTHING
            except PdmlabError as error:
                outcome = error.message
            if cut and not cut_in:
                outcome += f" (the step has only {self._supply.operations} operations: no cut)"
            self._result.steps.append(StepOutcome(word, outcome, self._supply.operations, self._running, cut_in))
        self._supply.writes_left = None
        self._look()
        return self._result

    def _take(self, name: str) -> str:
        if name == "boot":
            return self._boot()
        if name == "download":
            return self._download()
        if self._row.storage != "SD":
            raise ConfigError(f"a {self._row.target} has no card", hint="its candidate lies on a soldered part")
        if name == "format-card":
            # A PC writes a new file system; what lay in the candidate slot is gone with a full format.
            self._storage.poke(self._layout.candidate.offset, bytes(self._layout.candidate.size))
            return "everything on the card is gone"
        self._storage.seated = name == "seat-card"
        return "the card is in" if self._storage.seated else "the card is out"

    def _boot(self) -> str:
        self._running = NOTHING
        try:
            result = self._bootloader().boot(lambda text: None)
        except BootFailed as error:
            return error.message
        self._running = result.active.version_text
        return str(result)

    def _download(self) -> str:
        if self._running == NOTHING:
            return "nothing runs that could download"
        if self._running == NEW:
            return "2.0.0 runs already"
        slot = self._slot()
        start = slot.resume(self._manifest, precursor=hashlib.sha256(self._images[OLD]).digest())
        image = self._images[NEW]
        for at in range(start, len(image), BLOCK):
            slot.write(at, image[at : at + BLOCK])
        slot.finish()
        return f"whole, from {start} B on" if start else "whole"

    def _bootloader(self) -> FotaBootloader:
        flash = self._layout.geometry
        device = FlashIAPBlockDevice(
            self._flash,
            clock=WallClock(),
            part=self._row.flash_part,
            sectors=flash.sectors,
            program_size=flash.program_size,
        )
        nvstore = NVStore(device, [(area.offset, area.size) for area in self._layout.sotp])
        return FotaBootloader(Hardware(self._layout, device, self._slot().region.device, nvstore), self._slot())

    def _slot(self) -> CandidateSlot:
        kinds: dict[str, type[SDBlockDevice] | type[SPIFBlockDevice]] = {
            "SD": SDBlockDevice, "SPIF": SPIFBlockDevice, "QSPIF": QSPIFBlockDevice,
        }  # fmt: skip
        device: BlockDevice = kinds[self._row.storage](self._storage, clock=WallClock(), part=self._row.storage_part)
        if self._storage.seated:
            device.init()
        return CandidateSlot(device, offset=self._layout.candidate.offset, size=self._layout.candidate.size)

    def _look(self) -> None:
        """Note what lies in both slots now."""
        active = self._bootloader().active()
        self._result.active = active.version_text if active is not None else "incomplete"
        place = self._layout.app_offset
        self._result.slots = self._cells("application", self._flash, place)
        new = FirmwareHeader(len(self._images[NEW]), Version.parse(NEW), self._manifest.payload_digest)
        slot = self._slot()
        cells = self._cells("candidate", self._storage, slot.image_region(new).offset)
        self._result.slots += cells
        if self._storage.seated and slot.read() is not None:
            self._result.candidate = NEW
        elif any(cell["holds"] in (NEW, HALF) for cell in cells):
            self._result.candidate = "incomplete"

    def _cells(self, slot: str, medium: Medium, start: int) -> list[Row]:
        old, new = self._images[OLD], self._images[NEW]
        rows: list[Row] = []
        for at in range(0, len(new), CELL):
            here = medium.peek(start + at, min(CELL, len(new) - at))
            if here == new[at : at + CELL]:
                holds = NEW
            elif here == old[at : at + CELL]:
                holds = OLD
            else:
                holds = "blank" if set(here) <= {0x00, 0xFF} else HALF
            rows.append({"slot": slot, "offset_B": at, "holds": holds, "simulated": True, "clock": "device"})
        return rows
