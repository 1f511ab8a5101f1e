"""The three bootloaders under the same faults, side by side, with what MCUboot's documents promise beside them.

frame = compare_bootloaders()
frame.pivot(index="fault", columns="bootloader", values="outcome")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pdmlab.measurements.power_cuts import Replay, replay_code
from pdmlab.measurements.update_cuts.rig import NEW, NEWER, NOTHING, OLD, OLDER, UpdateRig
from pdmlab.measurements.update_cuts.setups import setup as setup_named
from pdmlab.update.bootloaders.interface import KINDS, Kind

if TYPE_CHECKING:
    import pandas as pd

DESIGN = "mcuboot docs/design.md"


class Fault(NamedTuple):
    """A fault, the story of it, and what MCUboot's documents say of it, with their place.

    story: {n} is an operation in the middle of the copy, {last} its last one; a good new image is confirmed.
    mcuboot: old, new, nothing, or "not promised".
    """

    name: str
    story: str
    mcuboot: str
    words: str
    source: str


FAULTS = (
    Fault(
        "power cut in the copy", "download boot!{n} boot confirm boot", "new",
        "the swap goes on where the trailers say it was", f"{DESIGN}, Reset Recovery",
    ),
    Fault(
        "power cut in the copy, torn trailer or header", "download boot!{last}.6 boot confirm boot", "not promised",
        "a torn magic in the trailer was a brick in swap-move until mcuboot#2100", "mcuboot#1966, #2100",
    ),
    Fault(
        "power cut in the copy, then the candidate is damaged", "download boot!{n} spoil-candidate boot boot",
        "not promised", "half of each image is in either slot", f"{DESIGN}, Image Swapping",
    ),
    Fault(
        "candidate damaged", "download spoil-candidate boot", "old",
        "checked before the swap; an image that fails is erased", f"{DESIGN}, High-Level Operation",
    ),
    Fault(
        "candidate older", "download-older boot", "not promised",
        "refused if built with MCUBOOT_DOWNGRADE_PREVENTION", "mcuboot boot/zephyr/Kconfig",
    ),
    Fault(
        "application damaged, candidate older", "download-older spoil-active boot", "not promised",
        "refused if built with MCUBOOT_DOWNGRADE_PREVENTION", "mcuboot boot/zephyr/Kconfig",
    ),
    Fault(
        "application damaged, no candidate", "spoil-active boot", "nothing",
        "hangs rather than start it, if built with MCUBOOT_VALIDATE_PRIMARY_SLOT", f"{DESIGN}, Image Trailers",
    ),
    Fault(
        "application damaged after an update", "download boot confirm boot spoil-active boot", "nothing",
        "the other slot holds the old image; hangs rather than start a damaged one", f"{DESIGN}, Image Trailers",
    ),
    Fault(
        "new image crashes", "download boot reset reset reset reset reset reset", "old",
        "an image that did not set image_ok is swapped back at the next start", f"{DESIGN}, Image Trailers, state III",
    ),
    Fault(
        "new image crashes, power goes each time", "download boot boot boot", "old",
        "an image that did not set image_ok is swapped back at the next start", f"{DESIGN}, Image Trailers, state III",
    ),
    Fault(
        "flash refuses a write in the copy", "download wear-flash boot confirm boot", "not promised",
        "an error in a swap is BOOT_SWAP_TYPE_PANIC: it hangs", f"{DESIGN}, Image Trailers, state IV",
    ),
    Fault(
        "card pulled in the copy", "download boot!{n}o seat-card boot confirm boot", "not promised",
        "slots are flash areas; an error in a swap hangs", f"{DESIGN}, Image Trailers, state IV",
    ),
    Fault(
        "image without a signature", "download-unsigned boot", "old",
        "refused, and erased, if built with a signature type", f"{DESIGN}, Integrity Check",
    ),
    Fault(
        "downgrade", "download boot confirm download-older boot", "not promised",
        "refused if built with MCUBOOT_DOWNGRADE_PREVENTION", "mcuboot boot/zephyr/Kconfig",
    ),
    Fault(
        "old release, header claims a higher version", "download boot confirm download-forged boot", "new",
        "the signature covers the header, and the version in it", f"{DESIGN}, Image Format",
    ),
    Fault(
        "new image not confirmed, kept image lost, a newer one comes",
        "download boot format-card boot download-newer boot confirm boot", "not promised",
        "with one slot's image gone there is nothing to swap back", f"{DESIGN}, Image Swapping",
    ),
    Fault(
        "new image crashes, secure storage refuses writes", "download wear-nvstore boot boot boot", "not promised",
        "its state is in the slots' trailers; an error in a swap is a panic", f"{DESIGN}, Image Trailers, state IV",
    ),
)  # fmt: skip
"""mcuboot is what stands in its documents, not a measurement: none of it was run here."""


_MUST_BE_OLD = ("candidate older", "new image crashes", "image without a signature")
"""Of faults whose names begin so, the old image has to run in the end: the new one is bad, or nobody's."""


def compare_bootloaders(
    setup: str = "K64F-SD", *, options: Mapping[Kind, Mapping[str, Any]] | None = None
) -> pd.DataFrame:
    """Replay every fault under every bootloader: a row for each, and one for what MCUboot's documents say.

    options: what a bootloader is built with, such as {"mbed": {"fixed": True}}; the codes are then replayed with them.

    Columns: fault, bootloader, outcome (old, new, older, nothing, loops; for MCUboot also "not promised"), verdict
    (good, bad, not promised: new is bad where the new image crashes, or nobody has signed it), runs (the version at
    the end), words, code (replays the row; empty for MCUboot), source (its document), simulated, clock.

    Raises:
        ConfigError: there is no such setup.
    """
    import pandas as pd

    rows = []
    for fault in FAULTS:
        for kind in KINDS:
            given = (options or {}).get(kind, {})
            story = replay_code(f"{kind}/{setup}: {_filled(fault.story, kind, setup, given)}", options=given)
            rows.append(
                {
                    "fault": fault.name, "bootloader": kind, "outcome": outcome_of(story),
                    "verdict": _verdict(fault, outcome_of(story)), "runs": story.running,
                    "words": _words(story), "code": story.code, "source": "", "simulated": True, "clock": "device",
                }
            )  # fmt: skip
        rows.append(
            {
                "fault": fault.name, "bootloader": "MCUboot", "outcome": fault.mcuboot,
                "verdict": _verdict(fault, fault.mcuboot), "runs": "",
                "words": fault.words, "code": "", "source": fault.source, "simulated": False, "clock": "",
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def outcome_of(story: Replay) -> str:
    """Say in a word how a story ends: old, new, older, nothing, or loops if an image is installed again and again."""
    if sum("newly installed" in step.outcome for step in story.steps) > 2:
        return "loops"
    names = {OLD: "old", NEW: "new", NEWER: "new", OLDER: "older", NOTHING: "nothing"}
    return names.get(story.running, story.running)


def _verdict(fault: Fault, outcome: str) -> str:
    if outcome == "not promised":
        return outcome
    good = ("old",) if fault.name.startswith(_MUST_BE_OLD) else ("old", "new")
    return "good" if outcome in good else "bad"


def _filled(story: str, kind: Kind, setup: str, options: Mapping[str, Any]) -> str:
    """Put the middle, and the last, operation of this bootloader's copy into flash into a story."""
    rig = UpdateRig(setup_named(setup), kind, options=options)
    rig.take("download")
    rig.trace.take()
    rig.take("boot")
    layout = rig.layout
    copied = [
        number
        for number, done in enumerate(rig.trace.take(), 1)
        if done.medium is rig.flash and layout.header_offset <= done.offset < layout.app_offset + rig.image_B
    ]
    return story.format(n=copied[len(copied) // 2], last=copied[-1])


def _words(story: Replay) -> str:
    starts = [step.outcome for step in story.steps if step.step.startswith(("boot", "reset"))]
    return story.fault or "; ".join(dict.fromkeys(starts))
