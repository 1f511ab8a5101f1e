"""Ready stories for each store: seeded steps, made to fit the medium, or steps of your own.

>>> stories.littlefs("nor", size=65536)
>>> stories.fat(steps=["write /a 600", "append /a 100"])
>>> stories.nvstore("K64F")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

from pdmlab.errors import ConfigError
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.kv import NVStore
from pdmlab.storage.parts import Part, parts
from pdmlab.storage.powercuts import drawing, files, records
from pdmlab.storage.powercuts.cuts import as_code
from pdmlab.storage.powercuts.fitting import area, fat_medium, fitted, flash_medium, largest_value
from pdmlab.storage.powercuts.geometries import GEOMETRIES, Geometry, geometry
from pdmlab.storage.powercuts.places import in_fat, in_littlefs, in_securestore, in_tdbstore
from pdmlab.storage.powercuts.replaying import Instant, Player
from pdmlab.storage.powercuts.steps import KEYS, NUMBERS, STORE_VERBS, Step
from pdmlab.storage.powercuts.story import FILES, StoreStory, Story

Medium = str | Geometry | Part | BlockDevice
_FILE_STEPS, _RECORD_STEPS = 40, 30
_SOTP_STEPS = 170  # its records are small, and its area is to be full once
_FAT = (
    "FAT changes directory entry, allocation table and data each in its place and in a sector of its own: a cut "
    "between two of them leaves a change half done, a torn sector takes its neighbours with it, and nothing on the "
    "medium says so"
)
_SECURESTORE = (
    "a value protected from rollback, or set once, is stored first and its CMAC in the rollback protection store "
    "after it: between the two, the old value is gone and the new one is refused, until it is set again"
)
_ESFS = (
    "a file is made by its open, and its bytes come with its close: between the two it is there, empty, so that "
    "reading says torn and setting it again says that it exists; removing it first helps"
)


def littlefs(
    of: Medium = "nor",
    *,
    size: int | None = None,
    seed: int = 1,
    length: int = _FILE_STEPS,
    steps: Sequence[Step | str] | None = None,
    before: Sequence[Step | str] = (),
) -> StoreStory:
    """Tell a story of files and directories on littlefs (disk 2.0, as Mbed's LittleFileSystem2 writes it).

    Args:
        of, size: the medium: a name of GEOMETRIES, a part, a device or a Geometry; and its size (B).
        seed, length: which steps are drawn, and how many; or
        steps, before: steps of your own, and steps whose results are there beforehand.
    """
    medium = geometry(of, size=size)
    unit = medium.erase
    drawn = _steps(
        steps, seed, length, lambda: drawing.files(seed, length, room=medium.size // 2, unit=unit, overhead=2 * unit)
    )
    return StoreStory(
        _name("littlefs", of, size, seed, length, _FILE_STEPS, steps), medium, drawn, before=before,
        opens=files.open_littlefs, formats=files.format_littlefs, places=in_littlefs, invariant=FILES,
    )  # fmt: skip


def fat(
    of: Medium = "sd",
    *,
    size: int | None = None,
    seed: int = 1,
    length: int = _FILE_STEPS,
    steps: Sequence[Step | str] | None = None,
    before: Sequence[Step | str] = (),
) -> StoreStory:
    """Tell a story of files and directories on FAT, as Mbed's FATFileSystem has it; arguments as for littlefs.

    size: 128 KiB if None, or 1 MiB where sectors are 4096 B: FAT takes at least 128 sectors.
    """
    medium, other = fat_medium(of, size)
    sector = max(512, medium.erase)
    drawn = _steps(
        steps, seed, length,
        lambda: drawing.files(
            seed, length, room=medium.size // 2, unit=sector, overhead=sector, replacing=False
        ),
    )  # fmt: skip
    return StoreStory(
        _name("fat", of, other, seed, length, _FILE_STEPS, steps), medium, drawn,
        before=before, opens=files.open_fat, formats=files.format_fat, places=in_fat, invariant=FILES, weakness=_FAT,
    )  # fmt: skip


def nvstore(
    of: Medium = "K64F",
    *,
    size: int | None = None,
    seed: int = 1,
    length: int = _RECORD_STEPS,
    steps: Sequence[Step | str] | None = None,
    before: Sequence[Step | str] = (),
) -> StoreStory:
    """Tell a story of numbered records in NVStore, whose two areas are the two halves, or sectors, of the medium.

    size: two erase units if None, at least 8 KiB, so that its areas fill up; arguments as for littlefs.
    """
    medium, other = flash_medium(of, size)
    largest = min(min(length for _, length in records.areas(medium)) // 12, NVStore.max_data)
    keys = [str(key) for key in range(8)]
    drawn = _steps(steps, seed, length, lambda: drawing.records(seed, length, keys, largest=largest))
    return StoreStory(
        _name("nvstore", of, other, seed, length, _RECORD_STEPS, steps), medium, drawn, before=before,
        opens=records.open_nvstore, formats=records.format_nothing, places=records.in_nvstore,
        verbs=STORE_VERBS, names=NUMBERS,
    )  # fmt: skip


def sotp(
    of: Medium = "K64F",
    *,
    size: int | None = None,
    seed: int = 1,
    length: int = _SOTP_STEPS,
    steps: Sequence[Step | str] | None = None,
    before: Sequence[Step | str] = (),
) -> StoreStory:
    """Tell the story of a client's SOTP: the root of trust is set, times and versions change; size as for nvstore."""
    medium, other = flash_medium(of, size)
    drawn = _steps(steps, seed, length, lambda: drawing.sotp(seed, length))
    return StoreStory(
        _name("sotp", of, other, seed, length, _SOTP_STEPS, steps), medium, drawn, before=before,
        opens=records.open_sotp, formats=records.format_nothing, places=records.in_nvstore,
        verbs=STORE_VERBS, names=NUMBERS,
    )  # fmt: skip


def tdbstore(
    of: Medium = "nor",
    *,
    size: int | None = None,
    seed: int = 1,
    length: int = _RECORD_STEPS,
    steps: Sequence[Step | str] | None = None,
    before: Sequence[Step | str] = (),
) -> StoreStory:
    """Tell a story of values by key in TDBStore; size is two areas of 8 KiB if None, or more where units are large."""
    medium, other = fitted(of, size, lambda units: 2 * area(units))
    keys, largest = [f"key-{n}" for n in range(8)], largest_value(medium, areas=2)
    drawn = _steps(steps, seed, length, lambda: drawing.records(seed, length, keys, largest=largest))
    return StoreStory(
        _name("tdbstore", of, other, seed, length, _RECORD_STEPS, steps), medium, drawn,
        before=before, opens=records.open_tdbstore, formats=records.format_nothing, places=in_tdbstore,
        verbs=STORE_VERBS, names=KEYS,
    )  # fmt: skip


def securestore(
    of: Medium = "nor",
    *,
    size: int | None = None,
    seed: int = 1,
    length: int = _RECORD_STEPS,
    steps: Sequence[Step | str] | None = None,
    before: Sequence[Step | str] = (),
) -> StoreStory:
    """Tell a story of SecureStore over two TDBStores; secret-1 is encrypted, guarded-1 also protected from rollback.

    size: four areas of 8 KiB if None, or more where units are large; arguments as for littlefs.
    """
    medium, other = fitted(of, size, lambda units: 4 * area(units))
    keys = ["plain-1", "secret-1", "secret-2", "guarded-1", "guarded-2", "once-2", "once-1"]
    largest = largest_value(medium, areas=4)
    drawn = _steps(steps, seed, length, lambda: drawing.records(seed, length, keys, largest=largest))
    return StoreStory(
        _name("securestore", of, other, seed, length, _RECORD_STEPS, steps), medium,
        drawn, before=before, opens=records.open_securestore, formats=records.format_securestore,
        places=in_securestore, weakness=_SECURESTORE, verbs=STORE_VERBS, names=KEYS,
    )  # fmt: skip


def esfs(
    of: Medium = "nor",
    *,
    size: int | None = None,
    seed: int = 1,
    length: int = 20,
    steps: Sequence[Step | str] | None = None,
    before: Sequence[Step | str] = (),
) -> StoreStory:
    """Tell a story of the client's files in ESFS, on littlefs: set when they are not there, and removed.

    size: 32 erase units if None, at least 128 KiB; arguments as for littlefs.
    """
    medium, other = fitted(of, size, lambda units: 32 * max(units.erase, 4096))
    names = [f"mbed.{name}" for name in ("EndpointName", "LwM2MServerURI", "LwM2MDeviceCert", "LwM2MDevicePrivateKey")]
    drawn = _steps(steps, seed, length, lambda: drawing.sealed(seed, length, names, largest=600))
    told = StoreStory(
        _name("esfs", of, other, seed, length, 20, steps), medium, drawn, before=before,
        opens=partial(records.open_esfs, names=_names(drawn, before)), formats=records.format_esfs, places=in_littlefs,
        weakness=_ESFS, verbs=STORE_VERBS, names=KEYS,
    )  # fmt: skip
    return told


def _steps(
    steps: Sequence[Step | str] | None, seed: int, length: int, draw: Callable[[], Sequence[Step]]
) -> Sequence[Step | str]:
    """Return the steps that were given, or draw some."""
    for name, value, least in (("length", length, 1), ("seed", seed, 0)):
        if type(value) is not int or value < least:
            raise ConfigError(f"{name} is {value!r}", hint=f"a whole number, {least} or more")
    return steps if steps is not None else draw()


def _names(*steps: Sequence[Step | str]) -> list[str]:
    every = [each if isinstance(each, Step) else Step.parse(each) for some in steps for each in some]
    return sorted({each.name for each in every})


READY: dict[str, Callable[..., StoreStory]] = {
    "littlefs": littlefs,
    "fat": fat,
    "nvstore": nvstore,
    "sotp": sotp,
    "tdbstore": tdbstore,
    "securestore": securestore,
    "esfs": esfs,
}
_NAME = re.compile(r"(\w+)\((part )?([\w-]+)((?:, \w+=\d+)*)\)")


def ready(name: str) -> StoreStory:
    """Return the ready story of that name, such as `littlefs(nor, size=65536)`, as replay codes have it.

    Raises:
        ConfigError: there is none: it is a function's, has steps of its own, or a medium of its own.
    """
    match = _NAME.fullmatch(name.strip())
    known = {} if match is None else parts() if match[2] else GEOMETRIES
    if match is None or match[1] not in READY or match[3] not in known:
        raise ConfigError(
            f"{name!r} is no ready story", hint="hand in the story: replay(code, story), or report.replay(code)"
        )
    options = {key: int(value) for key, value in (each.split("=") for each in match[4].split(", ")[1:])}
    return READY[match[1]](known[match[3]] if match[2] else match[3], **options)


def replay(code: str, story: Story | None = None) -> Instant:
    """Return the medium at the instant of a cut, and what verification says; a ready story is found by its name.

    Raises:
        ConfigError: it is no code, or of a story that must be handed in.

    >>> replay("fat(sd)#832cc4:11b")
    """
    head, _, _ = as_code(code).rpartition(":")
    return Player(story if story is not None else ready(head.rpartition("#")[0])).at(code)


def _name(
    kind: str, of: Medium, size: int | None, seed: int, length: int, usual: int, steps: Sequence[Step | str] | None
) -> str:
    """Name a story by what makes it again, as ready() reads it; of steps or a medium of its own, by what it is."""
    name = of.name if isinstance(of, Part) else of
    part = isinstance(of, Part) or name not in GEOMETRIES
    if steps is not None or not isinstance(name, str) or (isinstance(of, Part) and parts().get(name) != of):
        return f"{kind} on {geometry(of).name}"
    options = [f"part {name}" if part else name]
    if size is not None:
        options.append(f"size={size}")
    options += [f"seed={seed}"] * (seed != 1) + [f"length={length}"] * (length != usual)
    return f"{kind}({', '.join(options)})"
