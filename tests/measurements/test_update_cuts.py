"""Power cuts of an update under all three bootloaders: a seeded sample, what is lost where, and broken ones found."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.errors import BootFailed, ConfigError, ImageRejected
from pdmlab.measurements.power_cuts import replay_code
from pdmlab.measurements.update_cuts.exploring import STORIES, CutPlan, explore_update
from pdmlab.measurements.update_cuts.faults import compare_bootloaders
from pdmlab.measurements.update_cuts.media import Cut, parse_cut
from pdmlab.measurements.update_cuts.reader import read_active
from pdmlab.measurements.update_cuts.rig import NEW, NOTHING, OLD, STEPS, UpdateRig
from pdmlab.measurements.update_cuts.setups import SETUPS, setup
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.interface import BootResult, Hardware, Kind, Print, ResetReason
from pdmlab.update.bootloaders.trial import TrialBootloader
from pdmlab.update.bootloaders.trial import bootloader as trial_bootloader
from pdmlab.update.bootloaders.trial import records as trial_records
from pdmlab.update.bootloaders.trial.choice import Choice, choose
from pdmlab.update.bootloaders.trial.installing import Installer
from pdmlab.update.bootloaders.trial.key import point_of
from pdmlab.update.bootloaders.trial.places import candidate_slot
from pdmlab.update.bootloaders.trial.records import TrialRecords
from pdmlab.update.bootloaders.trial.verify import Verifier
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.header import FirmwareHeader
from pdmlab.update.region import Region
from pdmlab.update.version import Version

Build = Callable[[Hardware, Mapping[str, Any]], Any]
SAMPLE = CutPlan(torn=1, second=1, share=10, seed=20261126)


@pytest.mark.parametrize("where", SETUPS)
def test_no_cut_in_a_sample_bricks_the_trial_bootloader_or_makes_it_start_what_is_not_verified(where: str) -> None:
    report = explore_update("trial", where, plan=SAMPLE)
    assert report.holds, report
    assert report.cuts > 40 and report.second_cuts > 40 and set(report.ends) == {"1.0.0", "2.0.0", "3.0.0"}


@pytest.mark.parametrize("options", [{"fate": "candidate spoiled"}, {"full": True}])
def test_nor_when_the_candidate_is_damaged_after_it_or_when_the_store_of_the_identity_is_collected(
    options: dict[str, Any],
) -> None:
    report = explore_update("trial", "K64F-SD", plan=SAMPLE, **options)
    assert report.holds, report


@pytest.mark.parametrize("room", [8, 24, 32, 40, 64])
def test_nor_when_nvstore_is_nearly_full_of_live_records(room: int) -> None:
    report = explore_update("trial", "K64F-SD", plan=CutPlan(torn=1, second=1, share=25, seed=room), room=room)
    assert report.holds, report
    assert report.ends["1.0.0"] and bool(report.ends["2.0.0"]) is (room >= 40), (
        "room for the record that it is on trial"
    )


@pytest.mark.parametrize("kind", ["fota", "mbed"])
def test_the_stock_bootloaders_survive_every_cut_as_long_as_the_candidate_does(kind: Kind) -> None:
    report = explore_update(kind, "K64F-SD", plan=CutPlan(torn=1, second=1))
    assert report.holds, report
    # mbed-bootloader writes the header before the image: until the copy is at its end it names what is not there.
    assert (report.false_headers > 50) is (kind == "mbed")


def test_what_is_switched_to_be_mended_is_mended() -> None:
    assert explore_update("mbed", "K64F-SD", options={"fixed": ["header-first"]}, plan=CutPlan()).false_headers < 5
    frame = compare_bootloaders(options={"mbed": {"fixed": True}, "fota": {"fixed": True}})
    found = frame.pivot(index="fault", columns="bootloader", values="outcome")
    assert found.loc["new image crashes", "mbed"] == "new", "and is not copied again and again"
    assert set(found.loc["application damaged, candidate older", ["mbed", "fota"]]) == {NOTHING}


def installing(kind: Kind, where: str) -> range:
    """Return the operations of the start that installs, from the first to the last that touches the application."""
    rig = UpdateRig(setup(where), kind)
    rig.take("download")
    rig.trace.take()
    rig.take("boot")
    end = rig.layout.app_offset + rig.image_B
    touched = [
        number
        for number, done in enumerate(rig.trace.take(), 1)
        if done.medium is rig.flash and rig.layout.header_offset <= done.offset < end
    ]
    return range(touched[0], touched[-1] + 1)


@pytest.mark.parametrize("where", ["K64F-SD", "K64F-flash", "STM32F4-SD"])
@pytest.mark.parametrize("kind", ["fota", "mbed"])
def test_without_the_candidate_they_are_bricked_by_every_cut_in_the_copy_and_by_no_other(
    kind: Kind, where: str
) -> None:
    report = explore_update(kind, where, fate="candidate spoiled", plan=CutPlan(torn=0, second=0))
    lost = {int(found[1]) for loss in report.losses if (found := re.search(r"boot!(\d+)b", loss.code))}
    assert {loss.fault for loss in report.losses} == {"nothing starts any more"}
    copy = installing(kind, where)
    assert lost == set(copy) - {copy[0]}, "before the first erase the old image is whole"
    assert len(report.losses) == len(lost), "and there are no others"


def test_codes_of_losses_replay_alone() -> None:
    losses = explore_update("fota", "K64F-NOR", fate="candidate spoiled").losses
    for loss in losses[:: len(losses) // 7]:
        story = replay_code(loss.code)
        assert story.running == NOTHING and story.cuts == 1, loss.code


# -- bootloaders that are wrong --------------------------------------------------------------------------


class MarksFirst:
    """Writes the header, which marks an image as whole, before the image, and believes it."""

    kind: Kind = "fota"

    def __init__(self, hardware: Hardware, options: Mapping[str, Any]) -> None:
        layout = hardware.layout
        slot = bootloaders.candidate_slot("fota", hardware)
        assert isinstance(slot, CandidateSlot)
        self.slot = slot
        self.head = layout.app_offset - layout.header_offset
        self.area = Region(hardware.flash, layout.header_offset, layout.application.end - layout.header_offset)

    def boot(self, write: Print, reason: ResetReason = "power-on") -> BootResult:
        active, candidate = self.active(), self.slot.read()
        if candidate is not None and (active is None or candidate.header.version > active.version):
            active = candidate.header
            self.area.erase(0, self.head + active.size)
            self.area.program(0, active.pack())
            at = self.head
            for piece in self.slot.image(active):
                self.area.program(at, piece)
                at += len(piece)
        if active is None:
            raise BootFailed("nothing there")
        return BootResult(active, False, None)

    def confirm(self) -> None:
        pass

    def active(self) -> FirmwareHeader | None:
        try:
            return FirmwareHeader.parse(self.area.read(0, 256))
        except ImageRejected:
            return None


class ConfirmsTooEarly(TrialBootloader):
    """Raises the counter before the new image has shown that it works."""

    def boot(self, write: Print, reason: ResetReason = "power-on") -> BootResult:
        result = super().boot(write, reason)
        self.confirm()
        return result


class ForgetsTheTrial(TrialBootloader):
    """Does not note that the new image had its start."""

    def _note_trial(self, active: FirmwareHeader, start: Any) -> bool:
        return True


def built_as(kind: type[TrialBootloader]) -> Build:
    return lambda hardware, options: kind(hardware, candidate_slot(hardware), point_of(options))


@pytest.mark.parametrize(
    ("kind", "build", "fault"),
    [
        ("fota", MarksFirst, "an image was started that is not whole"),
        ("trial", built_as(ConfirmsTooEarly), "an image that was not confirmed runs again"),
        ("trial", built_as(ForgetsTheTrial), "it is on trial for ever"),
    ],
)
def test_a_bootloader_that_is_wrong_is_found_and_its_codes_replay(kind: Kind, build: Build, fault: str) -> None:
    report = explore_update(kind, "K64F-SD", story="download boot boot", build=build, plan=CutPlan(second=0))
    assert fault in report.causes, report
    code = next(loss.code for loss in report.losses if loss.fault == fault)
    story, sound = replay_code(code, build=build), replay_code(code)
    if kind == "fota":
        assert story.fault == fault and not sound.fault
    else:
        assert story.running == NEW and sound.running == OLD


def test_a_bootloader_that_keeps_nothing_is_found_once_the_candidate_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Installer, "keep", lambda self, active: "")
    story, plan = "wipe-storage boot download boot", CutPlan(torn=0, second=0)
    report = explore_update("trial", "K64F-SD", story=story, fate="candidate spoiled", plan=plan)
    bricked = [loss.code for loss in report.losses if loss.fault == "nothing starts any more"]
    assert len(bricked) > 30 and {replay_code(code).running for code in bricked[::10]} == {NOTHING}
    assert "it is on trial for ever" in report.causes, "there is nothing to go back to"


class BelievesHeaders(Verifier):
    """Takes the version from the header, which nobody has signed."""

    def fault(self, header: FirmwareHeader, read: Any) -> str:
        fault = super().fault(header, read)
        return "" if "what was signed" in fault else fault


def test_one_that_believes_the_headers_version_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_bootloader, "Verifier", BelievesHeaders)
    report = explore_update("trial", "K64F-SD", story=STORIES["trial"]["forged"], plan=CutPlan(second=0, share=5))
    assert "0.9.0 was started, after 2.0.0 was confirmed" in report.causes, report
    code = "trial/K64F-SD: download boot confirm download-forged boot"
    assert replay_code(code).fault == "an image was started whose header says another version than was signed"


def test_one_that_sets_again_after_a_set_that_was_refused_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrialRecords, "make_ready", lambda self: None)
    monkeypatch.setattr(TrialBootloader, "_without_note", lambda *others: Choice("try"))
    monkeypatch.setattr(trial_records, "keep", lambda store, key, data: store.set(key, data))
    faults = [replay_code(f"trial/K64F-SD/room{room}: download boot confirm boot").fault for room in range(0, 64, 8)]
    assert any(fault.startswith("the identity is") for fault in faults), faults
    report = explore_update(
        "trial", "K64F-SD", room=faults.index(next(filter(None, faults))) * 8, plan=CutPlan(second=0, share=9)
    )
    assert any(fault.startswith("the identity is") for fault in report.causes), report


def test_one_that_does_not_see_whether_a_trial_can_be_noted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrialRecords, "make_ready", lambda self: None)
    monkeypatch.setattr(TrialBootloader, "_without_note", lambda *others: Choice("try"))
    report = explore_update("trial", "K64F-SD", story="download boot boot", room=24, plan=CutPlan(second=0, share=9))
    assert "it is on trial for ever" in report.causes, report


def test_one_that_does_not_look_at_a_newer_candidate_while_it_is_stranded_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stubborn(
        active: FirmwareHeader | None, candidate: Any, previous: Any, floor: int, tried: bytes | None
    ) -> Choice:
        chosen = choose(active, candidate, previous, floor, tried)
        had_its_trial = active is not None and active.version_number > floor and active.digest == tried
        return Choice("start again") if had_its_trial and chosen.step == "install" else chosen

    monkeypatch.setattr(trial_bootloader, "choose", stubborn)
    story = STORIES["trial"]["kept image lost"]
    report = explore_update("trial", "K64F-SD", story=story, plan=CutPlan(second=0, share=3))
    assert "a newer candidate does not come, though there is nothing to go back to" in report.causes, report


def test_what_nvstore_has_no_room_for_is_not_installed_and_the_board_goes_on() -> None:
    story = replay_code("trial/K64F-SD/room24: download boot boot confirm boot")
    assert story.running == OLD and not story.fault
    assert "that 2.0.0 is on trial could not be noted" in story.steps[1].outcome


# -- cuts, codes and the second reader ---------------------------------------------------------------------


@given(
    st.builds(Cut, st.integers(1, 999_999), st.just("p"), st.integers(1, 999))
    | st.builds(Cut, st.integers(1, 999_999), st.sampled_from("bao"), st.just(0))
    | st.builds(Cut, st.integers(1, 999_999), st.just("x"), st.integers(0, 99_999_999))
)
def test_a_cut_reads_as_it_is_written(cut: Cut) -> None:
    assert parse_cut(str(cut)) == cut


@pytest.mark.parametrize("text", ["", "0", "20.", "20.0", "20.0000", "20c", "x7", "20x", "-1", "1e3", "20.5b"])
def test_what_is_no_cut_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_cut(text)


@pytest.mark.parametrize(
    "code",
    ["download boot", "trial: download", "none/K64F-SD: boot", "trial/K65F: boot", "trial/K64F-SD: spoil-active!3"],
)
def test_a_code_that_does_not_say_everything_is_refused(code: str) -> None:
    with pytest.raises(ConfigError):
        replay_code(code)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=8), st.sampled_from(["fota", "mbed", "trial"]))
def test_no_story_starts_what_is_not_whole_or_loses_the_identity(words: list[str], kind: str) -> None:
    assert replay_code(f"{kind}/K64F-SD: {' '.join(words)} boot").fault == ""


def test_the_second_reader_sees_what_is_not_whole() -> None:
    image = bytes(range(256)) * 3
    header = FirmwareHeader(len(image), Version(1, 2, 3), hashlib.sha256(image).digest(), signature=b"s" * 64).pack()
    flash = b"\xff" * 512 + header.ljust(512, b"\xff") + image
    found = read_active(flash, 512, 1024, signed=True)
    assert found is not None and found.whole and found.signature == b"s" * 64 and found.size == len(image)
    torn = read_active(flash[:-1] + b"\0", 512, 1024, signed=True)
    assert torn is not None and not torn.whole
    assert read_active(b"\xff" * 2048, 512, 1024, signed=True) is None


# -- side by side --------------------------------------------------------------------------------------------

OUTCOMES = {
    # fault: fota, mbed, trial
    "power cut in the copy": ("new", "new", "new"),
    "power cut in the copy, torn trailer or header": ("new", "new", "new"),
    "power cut in the copy, then the candidate is damaged": ("nothing", "nothing", "old"),
    "candidate damaged": ("old", "old", "old"),
    "candidate older": ("old", "old", "old"),
    "application damaged, candidate older": ("older", "older", "old"),
    "application damaged, no candidate": ("nothing", "nothing", "old"),
    "application damaged after an update": ("new", "new", "new"),
    "new image crashes": ("new", "loops", "old"),
    "new image crashes, power goes each time": ("new", "new", "old"),
    "flash refuses a write in the copy": ("new", "new", "new"),
    "card pulled in the copy": ("new", "new", "new"),
    "image without a signature": ("new", "new", "old"),
    "downgrade": ("new", "new", "new"),
    "old release, header claims a higher version": ("older", "older", "new"),
    "new image not confirmed, kept image lost, a newer one comes": ("new", "new", "new"),
    "new image crashes, secure storage refuses writes": ("new", "new", "old"),
}


def test_the_three_bootloaders_under_the_same_faults_do_what_their_pages_say() -> None:
    frame = compare_bootloaders()
    found = frame.pivot(index="fault", columns="bootloader", values="outcome")
    assert {fault: tuple(found.loc[fault][["fota", "mbed", "trial"]]) for fault in found.index} == OUTCOMES
    assert set(frame[frame["bootloader"] == "MCUboot"]["source"]) - {""} and frame["words"].all()


def test_what_no_exploration_has_is_said() -> None:
    for wrong, word in (({"fate": "nope"}, "nope"), ({"story": "frob"}, "'frob'")):
        with pytest.raises(ConfigError, match=word):
            explore_update("fota", **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'nope'"):
        explore_update("nope")  # type: ignore[arg-type]


def test_a_crashing_image_that_stays_is_bad_and_an_old_one_that_comes_back_good() -> None:
    frame = compare_bootloaders().set_index(["fault", "bootloader"])
    assert frame.loc[("new image crashes", "fota"), "verdict"] == "bad"
    assert frame.loc[("new image crashes", "trial"), "verdict"] == "good"
    assert frame.loc[("power cut in the copy", "mbed"), "verdict"] == "good"
    assert frame.loc[("candidate older", "MCUboot"), "verdict"] == "not promised"
    assert (frame.xs("trial", level="bootloader")["verdict"] == "good").all()
