"""Faults of a virtual board: pull the card, wear out a sector, lose the root of trust, cut a wire."""

from __future__ import annotations

import asyncio
import re
from html import escape
from typing import TYPE_CHECKING, Literal, get_args

from pdmlab.clock import SECOND
from pdmlab.errors import ConfigError
from pdmlab.storage.driver import MediumDevice
from pdmlab.storage.faultcode import UNITS, BlockFault, parse_code, span
from pdmlab.storage.faults import MediumFaults

if TYPE_CHECKING:
    from pdmlab.sim.board import VirtualBoard

PartName = Literal["storage", "flash"]
"""The card or flash chip, or the microcontroller's own flash."""


class Faults:
    """What can be broken on a virtual board, and mended again; each method says what a real desk would see.

    Faults of card and flash have a `code`, and `replay(code)` makes them again, on another board too. Those with
    `after` come after so many reads, programs and erases of their part.
    """

    def __init__(self, board: VirtualBoard) -> None:
        self._any_board = board
        self._cut = ""
        self._timer: asyncio.TimerHandle | None = None
        self._start = 0, 0  # writes, and device time (ns), when the first fault was asked for

    # -- the card or chip, and the internal flash ----------------------------------------------------

    def pull_card(self, *, after: int = 0) -> None:
        """Take the SD card out: its driver answers SD_BLOCK_DEVICE_ERROR_NO_DEVICE (-5005) until `seat_card`.

        With `after` it is pulled in the middle of a later operation: of a block under way, a part is written, and
        the file system on it may have to be repaired.
        """
        self._card().pull_card(after=after)

    def seat_card(self, *, after: int = 0) -> None:
        """Put the SD card back, with what was on it; the driver must init() it again."""
        self._card().seat_card(after=after)

    def lock_card(self, *, after: int = 0) -> None:
        """Let the card be read-only, as one at the end of its life: it reads, and every write is refused."""
        self._card().lock_card(after=after)

    def unlock_card(self, *, after: int = 0) -> None:
        """Let the card take writes again."""
        self._card().unlock_card(after=after)

    def wear_out(self, address: int, *, part: PartName = "storage", after: int = 0) -> None:
        """Wear out the erase block that holds address (B): it takes no more programs, and still reads."""
        self._of(part).wear_out(address, after=after)

    def limit_endurance(
        self,
        cycles: int | None = None,
        kind: BlockFault = "progerror",
        *,
        spread: int = 0,
        part: PartName = "storage",
        after: int = 0,
    ) -> None:
        """Let blocks wear out by use: after the part's own endurance, or after so many cycles.

        On a desk this takes months; the weakest blocks go first (spread: per cent more or less), and the file system
        moves away from them or fails.
        """
        if cycles is None:
            device = self._board.storage.device if part == "storage" else self._board.storage.flash
            assert isinstance(device, MediumDevice)
            cycles = device.part["endurance"]
        self._of(part).limit_endurance(cycles, kind, spread=spread, after=after)

    def bad_block(
        self, block: int, kind: BlockFault = "progerror", *, part: PartName = "storage", after: int = 0
    ) -> None:
        """Make an erase block, by its number, fail: a new part may have some, an old one gets more.

        progerror, eraseerror and readerror are answered with the driver's code; prognoop and erasenoop are silent,
        and what was written is not there when it is read.
        """
        self._of(part).bad_block(block, kind, after=after)

    def flip_bits(
        self, count: int = 1, address: int = 0, size: int | None = None, *, part: PartName = "storage", after: int = 0
    ) -> None:
        """Change bits of what is stored, as years at rest, heat or radiation do: checksums no longer fit."""
        self._of(part).flip_bits(count, address, size, after=after)

    def flip_reads(self, every: int, *, part: PartName = "storage", after: int = 0) -> None:
        """Let one bit be wrong in so many bytes read, as a bus that is too fast, too long or too noisy does."""
        self._of(part).flip_reads(every, after=after)

    def stick_busy(self, for_s: float | None = None, *, part: PartName = "storage", after: int = 0) -> None:
        """Let the part stay busy: for so many seconds (device), as a card that tidies up; or until the power is cut.

        Its driver waits, and after its time-out gives up with an error. `board.run()` starts the board anew, and a
        part that loses its power is ready again: call this from within the application, or with `after`.
        """
        self._of(part).stick_busy(for_s, after=after)

    def release_busy(self, *, part: PartName = "storage", after: int = 0) -> None:
        """Let a stuck part be ready again."""
        self._of(part).release_busy(after=after)

    def lose_contact(self, *, part: PartName = "storage", after: int = 0) -> None:
        """Break the wire to the part: its data line stays high, and every command goes without an answer."""
        self._of(part).lose_contact(after=after)

    def restore_contact(self, *, part: PartName = "storage", after: int = 0) -> None:
        """Mend the wire to the part."""
        self._of(part).restore_contact(after=after)

    def tear_programs(self, *, part: PartName = "storage", after: int = 0) -> None:
        """Let a power cut leave a prefix only of the last program: the part had said that it was done."""
        self._of(part).tear_programs(after=after)

    def reorder_writes(self, depth: int = 32, *, part: PartName = "storage", after: int = 0) -> None:
        """Let a power cut lose and swap the last writes that no sync has followed, as a card with a cache does."""
        self._of(part).reorder_writes(depth, after=after)

    @property
    def code(self) -> str:
        """The code that breaks card and flash again the same way; what is of the flash has `flash/` before it."""
        items: list[str] = []
        for prefix, medium in (("", self._board.media.storage), ("flash/", self._board.media.flash)):
            own = medium.faults.code.split(",") if medium.faults is not None and medium.faults.code else []
            if own and own[0].startswith("seed:"):
                items = [own[0], *items] if own[0] not in items else items
                own = own[1:]
            items += [prefix + item for item in own]
        return ",".join([*items, *([self._cut] if self._cut else [])])

    def replay(self, code: str) -> None:
        """Mend card and flash, and break them as a code says, from here on.

        Raises:
            ConfigError: the code has an item that is none, or of a place that the part does not have.
        """
        parse_code(code if not isinstance(code, str) else "")  # says what a code is
        items = [item.strip() for item in code.split(",") if item.strip()]
        seed = [item for item in items[:1] if item.startswith("seed:")]
        cuts = [item for item in items if item.startswith("cut:")]
        flash = [item.removeprefix("flash/") for item in items if item.startswith("flash/")]
        storage = [item for item in items if item not in seed + cuts and not item.startswith("flash/")]
        cut = re.fullmatch(r"cut:(\d+)(ns|us|ms|s)?", cuts[0]) if cuts else None
        if len(cuts) > 1 or (cuts and cut is None):
            raise ConfigError(f"{','.join(cuts)!r} is no cut of the power", hint="once: cut:20 (writes) or cut:700ms")
        checked = []
        for own, medium in ((storage, self._board.media.storage), (flash, self._board.media.flash)):
            made = MediumFaults.from_code(",".join(seed + own))
            made.require_room(medium)
            checked.append(made.code)
        self.mend()
        parts: tuple[PartName, PartName] = ("storage", "flash")
        for part, code_of_part in zip(parts, checked, strict=True):
            if code_of_part:
                self._of(part).replay(code_of_part)
        if cut is not None and cut[2] is not None:
            self.cut_power(after_s=int(cut[1]) * UNITS[cut[2]] / SECOND)
        elif cut is not None:
            self.cut_power(after_writes=int(cut[1]))

    def mend(self) -> None:
        """Mend card and flash, give contact and carrier back, and call a cut off that has not come.

        What was lost is not: flipped bits and an erased root of trust stay as they are.
        """
        for medium in (self._board.media.storage, self._board.media.flash):
            medium.faults = None
            medium.seated, medium.write_protected = True, False
        self._board.media.supply.writes_left = None
        self._cut = ""
        self._board.clock.on_loop(self._call_off)
        self.mend_wires()
        self.plug_network()

    # -- the rest of the board -----------------------------------------------------------------------

    def erase_sotp(self) -> None:
        """Erase the SOTP sectors, as a drag-and-drop over them does: the device has no identity after it."""
        for area in self._board.layout.sotp:
            self._board.media.flash.poke(area.offset, b"\xff" * area.size)

    def corrupt_application(self, offset: int = 0x1000, length: int = 16) -> None:
        """Zero bytes of the installed application (offset from its start, B): its digest is wrong at the next boot."""
        area = self._board.layout.application
        self._board.media.flash.poke(area.offset + offset, bytes(length))

    def cut_power(self, *, after_writes: int | None = None, after_s: float | None = None) -> None:
        """Let the supply fail once: now, in the middle of a later program or erase, or at a later time.

        Give it back with `board.power_on()`; what had reached flash and card is still there.

        Args:
            after_writes: programs and erases, of flash and storage part together, that still succeed; of the next
                one the first half takes effect, or with tear_programs() a part by chance.
            after_s: device time from now (s).
        """
        if after_writes is not None and after_s is not None:
            raise ConfigError("the supply fails once", hint="give after_writes or after_s")
        if (after_writes or 0) < 0 or (after_s or 0) < 0:
            raise ConfigError("the supply cannot fail in the past", hint="count from now: 0 or more")
        board = self._board
        board.media.supply.writes_left = None
        board.clock.on_loop(self._call_off)  # what was arranged before: the supply fails once
        if after_writes is not None:
            self._note_start()
            board.media.supply.writes_left = after_writes
            self._cut = f"cut:{board.media.supply.operations - self._start[0] + after_writes}"
        elif after_s is not None:
            self._note_start()
            self._cut = f"cut:{span(board.clock.now() - self._start[1] + round(after_s * SECOND))}"
            board.clock.on_loop(self._cut_later, after_s)
        else:
            board.power_off()

    def _cut_later(self, after_s: float) -> None:
        self._timer = self._board.clock.loop.call_later(after_s, self._board.power_off)

    def _call_off(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def cut_wire(self, which: str) -> None:
        """Cut `tx` (the board's output) or `rx` (its input) until `mend_wires`; the other side keeps talking."""
        if which not in ("tx", "rx"):
            raise ConfigError(f"a serial line has no wire {which!r}", hint="cut 'tx' or 'rx'")
        self._board.uart.mute_output |= which == "tx"
        self._board.uart.mute_input |= which == "rx"

    def mend_wires(self) -> None:
        """Mend both wires of the serial line."""
        self._board.uart.mute_output = self._board.uart.mute_input = False

    def unplug_network(self) -> None:
        """Take the network away, in the middle of anything: no carrier, no access point, no cell.

        Packets are lost both ways, and the interface's status is no longer NSAPI_STATUS_GLOBAL_UP. TCP goes on if the
        network is back before an end has given up: on lwIP after 6 retries.
        """
        self._board.network.carrier = False

    def plug_network(self) -> None:
        """Give the network back; an interface that was connected is so again once the bearer has attached."""
        self._board.network.carrier = True

    # -- what is broken ------------------------------------------------------------------------------

    @property
    def broken(self) -> list[str]:
        """What is broken now, a sentence each."""
        board = self._board
        found = []
        for name, medium in ((board.info.storage, board.media.storage), ("flash", board.media.flash)):
            found += [f"{name}: {row}" for row in (medium.faults.broken if medium.faults is not None else [])]
        if board.media.supply.writes_left is not None:
            found.append(f"the power goes in write {board.media.supply.writes_left + 1} from now")
        if self._timer is not None and not self._timer.cancelled():
            left = self._timer.when() - board.clock.loop.time()
            if left > 0:
                # Three digits: a board that boots uses up milliseconds while somebody looks.
                found.append(f"the power goes in {float(f'{left:.3g}'):g} s (device clock)")
        found += [
            f"{wire} is cut" for wire, cut in (("tx", board.uart.mute_output), ("rx", board.uart.mute_input)) if cut
        ]
        if not board.network.carrier:
            found.append("the network is unplugged")
        return found

    def __repr__(self) -> str:
        verbs = ", ".join(name for name in dir(self) if not name.startswith("_") and name not in ("broken", "code"))
        state = "; ".join(self.broken) or "nothing is broken"
        code = self.code
        return f"<faults of {self._board.id}, SIMULATED: {state}{f'; code {code!r}' if code else ''}>\nto call: {verbs}"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td style='text-align:left'>{escape(row)}</td></tr>" for row in self.broken or ["nothing"])
        code = f"<p>replay: <code>{escape(self.code)}</code></p>" if self.code else ""
        return f"<table><caption>Broken on {escape(self._board.id)} (SIMULATED)</caption>{rows}</table>{code}"

    @property
    def _board(self) -> VirtualBoard:
        self._any_board.require_open()
        return self._any_board

    def _of(self, part: PartName) -> MediumFaults:
        if part not in get_args(PartName):
            raise ConfigError(f"a board has no part {part!r} to break", hint="'storage' or 'flash'")
        self._note_start()
        media = self._board.media
        return MediumFaults.of(media.storage if part == "storage" else media.flash, self._board.seed)

    def _card(self) -> MediumFaults:
        if self._board.info.storage != "SD":
            raise ConfigError(f"a {self._board.target} has no SD card", hint="wear_out() works on soldered parts too")
        return self._of("storage")

    def _note_start(self) -> None:
        """Note when the first fault came: a code counts from there."""
        board = self._board
        if not self.code:
            self._start = board.media.supply.operations, board.clock.now()
