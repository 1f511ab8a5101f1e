"""Exploring: a sound store passes, a broken one is caught and its code replays the loss, and nothing passes unseen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pdmlab.clock import WallClock
from pdmlab.errors import ConfigError, CorruptMedium, ExperimentError
from pdmlab.storage import HeapBlockDevice, LittleFileSystem2, mount_or_format
from pdmlab.storage.parts import parts
from pdmlab.storage.powercuts import Geometry, explore, geometry, replay, stories
from pdmlab.storage.powercuts.cuts import Cut, parse
from tests.storage.conftest import DEVICES
from tests.storage.powercuts import broken
from tests.watching import alive, until

ROOT = Path(__file__).parents[3]

FLASH = Geometry("flash", 1, 1, 512, 4096)
CARD = Geometry("card", 512, 512, 512, 4096, erase_value=-1, cache=8)


def test_a_store_that_writes_its_header_first_is_caught_and_its_codes_replay_the_losses():
    report = explore(broken.fill_header_first, broken.check_header_first, geometry=FLASH, progress=False)
    assert report.lost and not report.holds
    for loss in report.losses[:: max(len(report.losses) // 12, 1)]:
        instant = report.replay(loss.code)
        assert instant.finding.outcome == "lost" and instant.finding.words == loss.what
    after_header = [loss for loss in report.losses if loss.code.endswith(":3b")]
    assert after_header[0].what == "after the cut: slot 2 is torn"
    assert "on the medium: erase 512 B at 0x400, program 8 B at 0x400; missing: program 100 B" in after_header[0].cause
    with pytest.raises(ExperimentError, match="cuts lose something"):
        report.require()


def test_a_store_that_writes_in_the_right_order_loses_nothing_on_a_card_that_reorders():
    report = explore(broken.fill_two_slots, broken.check_two_slots, geometry=CARD, reorder=4, torn=0, progress=False)
    assert report.require().lost == 0
    assert report.cuts > report.operations and report.second_cuts > report.operations


def test_a_missing_sync_is_caught_by_reordered_programs_and_by_nothing_else():
    fill, check = broken.fill_two_slots_unsynced, broken.check_two_slots
    in_order = explore(fill, check, geometry=CARD, reorder=0, torn=0, progress=False)
    assert in_order.lost == 0
    report = explore(fill, check, geometry=CARD, reorder=4, torn=0, progress=False)
    assert report.lost and {parse(loss.code.rpartition(":")[2])[-1].kind for loss in report.losses} == {"r"}
    assert all(report.replay(loss.code).finding.outcome == "lost" for loss in report.losses)
    assert "never left the cache" in report.losses[0].cause


def test_every_operation_is_cut_before_in_and_after():
    report = explore(stories.littlefs("default", size=64 * 512, length=6), progress=False)
    kinds = {number: set() for number in range(1, report.operations + 1)}
    for row in report.rows:
        kinds[row.cut.operation].add(row.cut.kind)
    assert all("b" in each for each in kinds.values())
    changed = [number for number, each in enumerate(report.trace.operations, 1) if each.old != each.new]
    assert all({"p", "x"} <= kinds[number] for number in changed)
    assert {number for number, each in kinds.items() if "a" in each} == set(report.trace.ends)


def test_all_pairs_are_cut_on_a_small_trace():
    report = explore(stories.nvstore(steps=["set 1 20", "once 4 16"]), second="all", progress=False)
    by_cut = {row.cut: row.second for row in report.rows}
    # after a cut before the first operation, recovery makes all of that step's: before (but the first), p, x, after
    first_step = report.trace.ends[0]
    changed = sum(each.old != each.new for each in report.trace.operations[:first_step])
    assert by_cut[Cut(1, "b")] == (first_step - 1) + 2 * changed + 1
    assert report.holds and "all pairs" in report.summary


def test_no_second_cut_is_a_failure_of_the_test_and_is_said():
    def write(device):
        device.erase(0, 512)
        device.program(0, b"x" * 16)

    report = explore(write, lambda device: True, geometry=FLASH, again=False, progress=False)
    assert report.second_cuts == 0 and not report.holds
    assert "no second cut was made (recovery programs and erases nothing)" in repr(report)
    with pytest.raises(ExperimentError, match="recovery itself is untested"):
        report.require()
    assert "none was asked for" in explore(stories.nvstore(length=3), second=0, progress=False).problem


def test_a_story_that_touches_nothing_cannot_be_cut():
    with pytest.raises(ConfigError, match="nothing to cut"):
        explore(lambda device: None, lambda device: True, geometry=FLASH, progress=False)


def test_a_check_may_raise_return_false_or_words():
    def write(device):
        device.erase(0, 512)
        device.program(0, b"x" * 16)

    def words(device):
        return "" if device.read(0, 1) == b"x" else "it says no"

    def raises(device):
        assert device.read(0, 1) == b"x"

    for check, said in ((words, "it says no"), (raises, "AssertionError"), (lambda device: False, "the check says no")):
        report = explore(write, check, geometry=FLASH, progress=False)
        assert report.lost and said in report.losses[0].what


def test_ctrl_c_keeps_what_was_found():
    story = stories.littlefs("emmc", size=64 * 512, length=12)
    made = []

    class Interrupting:
        """The story, with somebody at the keyboard."""

        def __getattr__(self, name):
            return getattr(story, name)

        def recover(self, device, done, seen="before"):
            made.append(done)
            if len(made) == 20:
                os.kill(os.getpid(), signal.SIGINT)
            return story.recover(device, done, seen)

        prepare, play, look, places = story.prepare, story.play, story.look, story.places

    before = signal.getsignal(signal.SIGINT)
    report = explore(Interrupting(), second=0, progress=False)
    assert report.interrupted and 19 <= report.cuts <= 21 < report.planned
    assert "interrupted" in report.problem and signal.getsignal(signal.SIGINT) is before


def test_a_stop_that_is_set_ends_it():
    stop = threading.Event()
    stop.set()
    assert explore(stories.nvstore(length=3), stop=stop, progress=False).cuts == 0


def test_two_processes_find_what_one_finds():
    story = stories.fat(length=8)
    alone, shared = (explore(story, workers=n, progress=False) for n in (1, 2))
    assert alone.rows == shared.rows and alone.lost == shared.lost > 0


def test_what_belongs_to_this_process_cannot_be_sent_to_others_and_that_is_said():
    lock = threading.Lock()

    def write(device):
        with lock:
            device.program(0, b"x")

    with pytest.raises(ConfigError, match="the story write cannot be sent to other processes"):
        explore(write, lambda device: True, geometry=FLASH, workers=2, progress=False)


def test_an_error_in_another_process_comes_back_with_where_it_was_raised():
    story = stories.nvstore(length=3)
    story.recover = lambda *args: 1 / 0  # what a story of somebody else may do wrong
    with pytest.raises(ZeroDivisionError) as error:
        explore(story, workers=2, progress=False)
    assert "in cut_all" in error.value.__notes__[0]


def test_a_process_that_dies_is_named():
    here = os.getpid()

    def check(device):
        if os.getpid() != here:
            os._exit(3)

    with pytest.raises(ExperimentError, match="a process that cut the power of fill_two_slots ended with exit code 3"):
        explore(broken.fill_two_slots, check, geometry=FLASH, workers=2, progress=False)


UNGUARDED = """
from pdmlab.storage.powercuts import explore

print("begun")

def save(device):
    device.erase(0, 4096)
    device.program(0, b"x")

print(explore(save, lambda device: True, geometry="nor", size=8192, workers=2, progress=False).cuts, "cuts")
"""


def test_a_script_without_a_main_guard_may_use_several_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, cwd=ROOT, env=_env())
    assert ended.stderr == "" and ended.stdout.split() == ["begun", "4", "cuts"]


BLOCKED = """
import os, sys, threading
from pathlib import Path
from pdmlab.storage.powercuts import explore

here = os.getpid()

def save(device):
    for number in range(100):
        device.program(number, b"x")

def check(device):
    if os.getpid() != here:
        (Path(sys.argv[1]) / str(os.getpid())).touch()
        threading.Event().wait()  # until it is ended

explore(save, check, geometry="nor", size=8192, workers=2, progress=False)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="there is no /proc to look at processes")
def test_the_processes_end_with_the_program_that_explores(tmp_path):
    with subprocess.Popen([sys.executable, "-c", BLOCKED.replace("sys.argv[1]", repr(str(tmp_path)))],
                          env=_env(), cwd=ROOT) as program:  # fmt: skip
        until(lambda: len(list(tmp_path.iterdir())) == 2)
        program.kill()
    until(lambda: not any(alive(int(mark.name)) for mark in tmp_path.iterdir()))


def _env():
    return os.environ | {"PYTHONPATH": str(ROOT)}


def test_the_same_seed_makes_the_same_cuts_and_another_others():
    story = stories.littlefs("default", size=64 * 512, length=8)
    one, same, other = (explore(story, second=1, seed=seed, progress=False).rows for seed in (1, 1, 2))
    assert one == same != other


def test_a_code_is_refused_by_another_story_and_by_a_trace_that_has_changed():
    report = explore(stories.fat(length=6), progress=False)
    code = report.losses[0].code
    assert replay(code).finding == report.replay(code).finding
    with pytest.raises(ConfigError, match="is of another story"):
        replay(code, stories.nvstore())
    with pytest.raises(ConfigError, match="are not those"):
        replay(code.replace(report.trace.digest, "000000"))
    with pytest.raises(ConfigError, match="no ready story"):
        replay("mine#000000:1b")
    with pytest.raises(ConfigError, match="no operation 99999"):
        report.replay("99999b")


@pytest.mark.parametrize("code", ["", "b", "0b", "1p", "1b3", "1b+2b+3b", "1q", "one", "1b+"])
def test_what_is_no_code_is_said(code):
    with pytest.raises(ConfigError):
        parse(code)


@pytest.mark.parametrize("options", [{"second": "some"}, {"second": -1}, {"torn": -1}, {"workers": 0}])
def test_arguments_that_say_nothing_are_refused(options):
    with pytest.raises(ConfigError):
        explore(stories.nvstore(length=2), progress=False, **options)


@pytest.mark.parametrize(
    "options",
    [{"seed": "x"}, {"workers": 1.5}, {"workers": True}, {"torn": "x"}, {"reorder": 0.5}, {"second": 1.5}],
    ids=str,
)
def test_what_is_no_whole_number_is_refused_by_name(options):
    (name,) = options
    with pytest.raises(ConfigError, match=f"{name} is "):
        explore(stories.nvstore(length=2), progress=False, **options)


@pytest.mark.parametrize(
    "given",
    [{"check": lambda device: True}, {"geometry": "sd"}, {"size": 8192}, {"prepare": lambda device: None},
     {"again": False}],
    ids=lambda given: next(iter(given)),
)  # fmt: skip
def test_a_ready_story_takes_no_check_and_no_other_medium(given):
    (name,) = given
    with pytest.raises(ConfigError, match=rf"{name}: the story nvstore\(K64F, length=2\) has its own"):
        explore(stories.nvstore(length=2), progress=False, **given)


def test_a_function_that_does_something_else_each_time_is_refused():
    runs = []

    def write(device):
        runs.append(device)
        device.erase(0, 512)
        device.program(0, bytes([len(runs)]) * 16)

    with pytest.raises(ConfigError, match="write does not do the same each time: operation 2 is another"):
        explore(write, lambda device: True, geometry=FLASH, progress=False)

    def fill(device):
        device.program(0, bytes([len(runs)]))
        runs.append(device)

    with pytest.raises(ConfigError, match="what is there beforehand is another"):
        explore(lambda device: device.erase(0, 512), lambda device: True, geometry=FLASH, prepare=fill, progress=False)


@pytest.mark.parametrize(("cut", "said"), [("1p9999", "operation 1 has 21 B"), ("1b+1p9999", "has 21 B"),
                                           ("2r7", "geometry nor holds no programs back")])  # fmt: skip
def test_a_cut_that_its_operation_cannot_have_is_refused(cut, said):
    report = explore(stories.littlefs("nor", size=65536, steps=["write /a 900"]), torn=0, second=0, progress=False)
    with pytest.raises(ConfigError, match=said):
        report.replay(cut)


def test_replay_refuses_what_is_no_text():
    for code in (None, 7):
        with pytest.raises(ConfigError, match="is no code of a cut"):
            replay(code)
        with pytest.raises(ConfigError, match="is no code of a cut"):
            replay(code, stories.nvstore(length=2))


@pytest.mark.parametrize("numbers", [(1.5, 3, 3, 9), (1, 1, 512, "4096"), (True, 1, 1, 1)], ids=str)
def test_a_geometry_of_broken_numbers_is_refused(numbers):
    with pytest.raises(ConfigError, match="is no number of bytes"):
        Geometry("x", *numbers)


def test_a_geometry_with_an_impossible_erase_value_or_cache_is_refused():
    for more in ({"erase_value": -2}, {"erase_value": 256}, {"erase_value": -1, "cache": -1}):
        with pytest.raises(ConfigError, match="erase_value is"):
            Geometry("x", 1, 1, 512, 512, **more)


def test_a_part_is_found_by_its_name_and_its_codes_replay():
    report = explore(stories.littlefs("W25Q64JV", size=65536, length=3), torn=0, second=0, progress=False)
    assert report.story.name == "littlefs(part W25Q64JV, size=65536, length=3)"
    code = f"{report.player.prefix}1b"
    assert replay(code).finding == report.replay(code).finding
    assert geometry("W25Q64JV") == geometry(parts()["W25Q64JV"])
    with pytest.raises(ConfigError) as error:
        geometry("floppy")
    assert "W25Q64JV" in error.value.hint


def test_what_is_printed_says_that_it_is_simulated_and_that_no_time_was_measured():
    report = explore(stories.fat(length=2), torn=0, second=0, progress=False)
    assert repr(report).startswith("SIMULATED power cuts: fat(sd, length=2)")
    assert repr(report.replay("1b")).startswith("SIMULATED fat(sd, length=2)#")
    for frame in (report.frame, report.outcomes, report.replay("1b").frame):
        assert frame["simulated"].all() and set(frame["clock"]) == {"none"}
    assert report.counts["clock"] == "none"


def test_geometries_come_from_names_parts_devices_and_numbers():
    assert geometry("nand").units == "4096/4096/32768"
    assert geometry(HeapBlockDevice(65536, 16, 16, 512)).units == "16/16/512"
    assert geometry(geometry("nor"), size=65536).size == 65536
    with pytest.raises(ConfigError, match="no geometry 'floppy'"):
        geometry("floppy")
    with pytest.raises(ConfigError, match="cannot have units"):
        Geometry("odd", 16, 8, 512, 4096)
    with pytest.raises(ConfigError, match="holds no programs back"):
        Geometry("odd", 1, 1, 512, 4096, cache=4)


def test_a_report_looks_good_in_a_log_and_in_a_cell():
    report = explore(stories.fat(length=4), progress=False)
    assert "operations" in repr(report) and "verdict:" in repr(report) and "cause: FAT changes" in repr(report)
    html = report._repr_html_()
    assert "SIMULATED" in html and report.losses[0].code in html
    frame = report.frame
    assert len(frame) == report.cuts and set(frame["clock"]) == {"none"} and frame["simulated"].all()
    assert frame["place"].isin(["the root directory", "the allocation table", "file data", "a directory"]).all()


@pytest.mark.parametrize("part", parts().values(), ids=lambda part: part.name)
def test_every_part_has_a_geometry_that_can_be_cut(part):
    found = geometry(part)
    assert found.size >= 4096 and found.name == part.name
    assert found.overwrites is (part.kind == "sd") and bool(found.cache) is (part.kind == "sd")


@pytest.mark.parametrize("make", DEVICES.values(), ids=DEVICES)
def test_every_device_has_a_geometry_of_its_own_units(make):
    device = make(WallClock())
    device.init()
    found = geometry(device)
    assert (found.read, found.program, found.size) == (device.read_size, device.program_size, device.size)


def log_on_littlefs(device):
    fs = LittleFileSystem2("fs")
    mount_or_format(fs, device)
    with fs.open("/log", "a") as file:
        for line in (b"one\n", b"two\n"):
            file.write(line)
            file.sync()
            yield
    fs.unmount()


def check_log(device, done):
    """The log has whole lines, and at least those that were synced."""
    fs = LittleFileSystem2("fs")
    try:
        fs.mount(device)
    except CorruptMedium:
        assert not done, "the file system is gone"
        return
    found = b""
    if "log" in fs.listdir():
        with fs.open("/log") as file:
            found = file.read()
    fs.unmount()
    lines = found.split(b"\n")
    assert lines.pop() == b"" and set(lines) <= {b"one", b"two"} and len(lines) >= done, found


def test_a_function_may_use_a_file_system_over_its_device():
    report = explore(log_on_littlefs, check_log, geometry="nor", size=16 * 4096, second=2, progress=False)
    assert report.require().operations > 6 and len(report.story.steps) >= 2
