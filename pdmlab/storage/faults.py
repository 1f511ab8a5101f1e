"""What can be broken on a medium, and mended; everything broken has a code that breaks it again the same way."""

from __future__ import annotations

from bisect import insort
from html import escape
from math import isfinite
from typing import TYPE_CHECKING

from pdmlab.clock import SECOND
from pdmlab.errors import ConfigError
from pdmlab.prng import SplitMix64
from pdmlab.storage.condition import Condition
from pdmlab.storage.faultcode import BlockFault, Item, format_code, parse_code, parse_item, span

if TYPE_CHECKING:
    from pdmlab.storage.medium import Medium


class MediumFaults(Condition):
    """The faults of one medium: `medium.faults = MediumFaults(seed=17)`.

    Each method breaks something at once, or after so many operations of the medium: its reads, programs, erases and
    syncs, each time that the driver looks whether it answers, and cuts of the power; refused ones count too. What
    is left to chance comes from the seed.

    >>> from pdmlab.storage import Medium
    >>> faults = Medium(1 << 20).faults = MediumFaults(seed=17)
    >>> faults.bad_block(7, "progerror")
    >>> faults.pull_card(after=20)
    >>> faults.code
    'seed:17,bad:7=progerror,+20:pull!'
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = _whole(seed, "seed")
        self.operations = 0
        self._forget()
        super().__init__()

    @classmethod
    def from_code(cls, code: str) -> MediumFaults:
        """Make the faults of a code again.

        Raises:
            ConfigError: the code has an item that is none.
        """
        seed, items = parse_code(code)
        faults = cls(seed)
        for item in items:
            faults._ask(item)
        return faults

    @classmethod
    def of(cls, medium: Medium, seed: int = 0) -> MediumFaults:
        """Return the medium's faults; where it has none, make some with that seed, nothing broken yet."""
        if medium.faults is None:
            medium.faults = cls(seed)
        return medium.faults

    def replay(self, code: str) -> None:
        """Mend everything, and make the faults of a code from here on."""
        seed, items = parse_code(code)
        self._check(items)
        self.mend()
        self.seed = seed
        for item in items:
            self._ask(item)

    # -- to break and to mend ------------------------------------------------------------------------

    def bad_block(self, block: int, kind: BlockFault = "progerror", *, after: int = 0) -> None:
        """Make an erase block, by its number, fail: progerror, eraseerror, readerror, prognoop or erasenoop."""
        self._do(f"bad:{block}={kind}", after)

    def wear_out(self, address: int, *, after: int = 0) -> None:
        """Wear out the erase block at address (B): it takes no more programs and erases."""
        self._do(f"worn:{_whole(address, 'address'):#x}", after)

    def limit_endurance(self, cycles: int, kind: BlockFault = "progerror", *, spread: int = 0, after: int = 0) -> None:
        """Let each block fail after so many erases (a card's: programs), `spread` per cent more or less by chance.

        What the medium has worn already counts: `medium.wear`.
        """
        if not 0 <= _whole(spread, "spread") <= 100:
            raise ConfigError(f"a spread of {spread} % is none", hint="0 to 100")
        self._do(f"endurance:{cycles}~{spread}={kind}", after)

    def flip_bits(self, count: int = 1, address: int = 0, size: int | None = None, *, after: int = 0) -> None:
        """Change so many bits, by chance, of the size bytes at address: of the whole rest if size is left out."""
        if size is None:
            size = self.medium.size - _whole(address, "address")
        if not 0 < _whole(count, "count") <= 8 * _whole(size, "size"):
            raise ConfigError(f"cannot flip {count} bits of {size} B", hint="at least one, and no more than there are")
        self._do(f"flip:{count}@{_whole(address, 'address'):#x}+{size}", after)

    def flip_reads(self, every: int, *, after: int = 0) -> None:
        """Let one bit be wrong in `every` bytes read, on average; it is right when it is read again."""
        if _whole(every, "every") < 1:
            raise ConfigError("a read byte has at most one wrong bit here", hint="one in 1 B read, or in more")
        self._do(f"reads:{every}", after)

    def lock_card(self, *, after: int = 0) -> None:
        """Refuse programs and erases, as a card does that has gone read-only at its end or is locked."""
        self._do("lock", after)

    def unlock_card(self, *, after: int = 0) -> None:
        """Take programs and erases again."""
        self._do("unlock", after)

    def pull_card(self, *, after: int = 0) -> None:
        """Take the card out: now, or in the middle of a later operation, of which a part takes effect."""
        self._do("pull!" if after else "pull", after)

    def seat_card(self, *, after: int = 0) -> None:
        """Put the card back, with what is on it."""
        self._do("seat", after)

    def stick_busy(self, for_s: float | None = None, *, after: int = 0) -> None:
        """Let the part stay busy from its next command on: for so many device seconds, or until its power is cut."""
        if for_s is not None and not (isinstance(for_s, int | float) and isfinite(for_s) and for_s > 0):
            raise ConfigError(f"a part cannot be busy for {for_s} s", hint="leave it out: busy for good")
        self._do("busy" if for_s is None else f"busy:{span(round(for_s * SECOND))}", after)

    def release_busy(self, *, after: int = 0) -> None:
        """Let a stuck part be ready again."""
        self._do("ready", after)

    def lose_contact(self, *, after: int = 0) -> None:
        """Let the part not answer at all, as with a broken wire or solder joint."""
        self._do("silent", after)

    def restore_contact(self, *, after: int = 0) -> None:
        """Let the part answer again."""
        self._do("answering", after)

    def tear_programs(self, *, after: int = 0) -> None:
        """Let a prefix only, by chance, of the last program survive a power cut, if no sync has followed it."""
        self._do("torn", after)

    def reorder_writes(self, depth: int = 32, *, after: int = 0) -> None:
        """Let a power cut lose some of the last programs and erases since a sync, and swap the others, by chance.

        depth: how many the part may hold back.
        """
        if _whole(depth, "depth") < 1:
            raise ConfigError("a part that holds nothing back reorders nothing", hint="a depth of 1 or more")
        self._do(f"reorder:{depth}", after)

    def mend(self) -> None:
        """Mend everything, and forget the code; bits that were flipped at rest stay as they are."""
        self._forget()
        self.recover()

    # -- what was asked for --------------------------------------------------------------------------

    @property
    def code(self) -> str:
        """The code that makes these faults again, in another medium that lives through the same operations."""
        return format_code(self.seed, self._items)

    @property
    def broken(self) -> list[str]:
        """What is broken now, and what will be, a sentence each."""
        later = [f"after {at - self.operations} more operations: {item.text}" for at, _, item in self._due]
        return super().broken + later

    def __repr__(self) -> str:
        return f"<faults: {'; '.join(self.broken) or 'none'}; met {self.met} times; code {self.code!r}>"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td style='text-align:left'>{escape(row)}</td></tr>" for row in self.broken or ["nothing"])
        caption = f"Broken now (SIMULATED), met {self.met} times: <code>{escape(self.code)}</code>"
        return f"<table><caption>{caption}</caption>{rows}</table>"

    # -- the medium's side ---------------------------------------------------------------------------

    def attach(self, medium: Medium) -> None:
        """Become that medium's faults; what is due at once takes effect.

        Raises:
            ConfigError: the medium has no such place.
        """
        self.require_room(medium)
        self._medium = medium
        self._let_happen()

    def begin(self, offset: int) -> bool:
        """Begin a read, program or erase; return whether the card is pulled in the middle of it.

        Raises:
            MediumFault: not seated, no answer or stuck busy.
        """
        pulled = self._count(inside=True)
        if not pulled:
            self.refuse(offset)
        return pulled

    def need_answer(self) -> None:
        """Refuse as begin() does, outside an operation.

        Raises:
            MediumFault: not seated, no answer or stuck busy.
        """
        self._count()
        self.refuse(0)

    def synced(self) -> None:
        """Hear that what was written must stay."""
        self._count()
        self.keep_writes()

    def power_lost(self) -> None:
        """Hear that the power went."""
        self._count()
        self.lose_writes()

    def _forget(self) -> None:
        self._start: int | None = None  # the operation at which the first item was asked for
        self._items: list[Item] = []
        self._due: list[tuple[int, int, Item]] = []

    def _do(self, text: str, after: int) -> None:
        if _whole(after, "after") < 0:
            raise ConfigError("nothing breaks in the past", hint="after: operations from now, 0 or more")
        passed = 0 if self._start is None else self.operations - self._start
        item = parse_item(text, passed + after)
        self._check([item])
        self._ask(item)

    def require_room(self, medium: Medium) -> None:
        """Look whether the medium has the places of all faults.

        Raises:
            ConfigError: it has not.
        """
        self._check(self._items, medium)

    def _check(self, items: list[Item], medium: Medium | None = None) -> None:
        """Refuse faults of places that the medium, if there is one yet, does not have."""
        medium = self._medium if medium is None else medium
        if medium is None:
            return
        # Before its driver has set them, blocks may be as small as the pages of DataFlash.
        block = medium.erase_block if medium.clock is not None else min(medium.erase_block, 256)
        for item in items:
            end = 0
            if item.word in ("bad", "worn"):
                end = item.numbers[0] * (block if item.word == "bad" else 1) + 1
            elif item.word == "flip":
                end = item.numbers[1] + item.numbers[2]
            if end > medium.size:
                hint = f"it has {medium.size} B, {-(-medium.size // block)} blocks of {block} B"
                raise ConfigError(f"{item.text!r} lies outside the medium", hint=hint)

    def _ask(self, item: Item) -> None:
        if self._start is None:
            self._start = self.operations
        insort(self._due, (self._start + item.after, len(self._items), item), key=lambda due: due[:2])
        self._items.append(item)
        if self._medium is not None:
            self._let_happen()

    def _count(self, *, inside: bool = False) -> bool:
        """Let happen what is due, and count; return whether the card is pulled inside this operation."""
        pulled = bool(self._due) and self._let_happen(inside=inside)
        self.operations += 1
        return pulled

    def _let_happen(self, *, inside: bool = False) -> bool:
        """Let everything happen that is due; return whether the card is pulled inside this operation."""
        pulled = False
        while self._due and self._due[0][0] <= self.operations:
            _, number, item = self._due[0]
            if item.text == "pull!":
                if not inside:
                    break
                pulled = True
            elif item.text == "pull":
                self.lose_writes()
            del self._due[0]
            self.happen(item, SplitMix64(self.seed).split(f"{number}:{item.text}"))
        return pulled


def _whole(value: object, what: str) -> int:
    """Refuse what is no whole number."""
    if type(value) is not int:
        raise ConfigError(f"{what} cannot be {value!r}", hint="a whole number")
    return value
