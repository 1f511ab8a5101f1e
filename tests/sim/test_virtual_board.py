"""A virtual board boots, prints, resets, says that it is simulated, and belongs to one owner at a time."""

from __future__ import annotations

import errno
import io
import subprocess
import sys

import pytest

import pdmlab
from pdmlab.boards import catalog
from pdmlab.clock import DeviceClock
from pdmlab.errors import BoardError, BoardNotFound, ConfigError, FlashFailed, PortBusy
from pdmlab.network import NetworkInterface
from pdmlab.sim import VirtualBoard
from pdmlab.storage import BlockDevice

GREETING = "pdmlab idle 1.0.0 (build 0) on K64F. Type 'help'."
BOOT = [
    "[BOOT] Bootloader build at: SIMULATED",
    "[BOOT] Searching for candidate image...",
    "[BOOT] Candidate not found",
    "[BOOT] Validating image on flash...",
    "[BOOT] Current FW version is 1.0.0",
]


def jump(board: VirtualBoard) -> str:
    """Return the bootloader's last line."""
    address = board.layout.address(board.layout.application)
    return f"[BOOT] All clear. Jumping to application (at address 0x{address:x})."


def printed(board: VirtualBoard, until: str) -> list[str]:
    """Return what the board prints up to the line that begins so."""
    lines = []
    for line in board.console.lines(timeout=20):
        lines.append(line)
        if line.startswith(until):
            return lines
    raise AssertionError(f"no {until!r} in {lines}")


def test_it_prints_the_bootloaders_text_and_then_the_applications(board: VirtualBoard) -> None:
    assert printed(board, "pdmlab") == [*BOOT, jump(board), GREETING]


@pytest.mark.parametrize("target", catalog.boards())
def test_every_board_of_the_catalogue_boots_and_keeps_a_root_of_trust(target: str) -> None:
    with VirtualBoard(target, memory=True) as board:
        assert printed(board, "pdmlab idle") == [*BOOT, jump(board), GREETING.replace("K64F", target)]
        board.run(lambda device: device.nvstore.set(5, b"root of trust"))
        assert board.run(lambda device: device.nvstore.get(5)) == b"root of trust"


def test_its_idle_application_answers_on_the_serial_line(board: VirtualBoard) -> None:
    board.console.write_line("version")
    board.console.expect("^idle 1.0.0")
    board.console.write_line("jump")
    board.console.expect("unknown command 'jump'; try 'help'")


def test_a_reset_boots_it_again_and_says_why(board: VirtualBoard) -> None:
    printed(board, "pdmlab")
    board.reset()
    assert printed(board, "pdmlab") == [*BOOT, jump(board), GREETING]
    assert (board.machine.reset_reason, board.boots) == ("pin", 2)


def test_an_application_restarts_it_from_inside(board: VirtualBoard) -> None:
    printed(board, "pdmlab")
    board.console.write_line("reset")
    assert printed(board, "pdmlab") == ["restarting", *BOOT, jump(board), GREETING]
    assert board.machine.reset_reason == "software"


def test_its_steps_of_a_start_follow_each_other_in_device_time(board: VirtualBoard) -> None:
    printed(board, "pdmlab")
    steps = board.boot_steps
    assert [step.name for step in steps] == [
        "bootloader sets up the update storage",
        "bootloader checks what may start, and starts it",
        "the image says what it is",
    ]
    end = 0
    for step in steps:
        assert step.start_ns == end and step.duration_ns > 0
        end += step.duration_ns


def test_the_same_seed_starts_in_the_same_time_to_the_nanosecond() -> None:
    def start() -> list[tuple[str, int, int]]:
        with VirtualBoard("K64F", memory=True, seed=5) as board:
            printed(board, "pdmlab")
            return list(board.boot_steps)

    assert start() == start()


def test_it_says_simulated_wherever_it_is_shown(board: VirtualBoard) -> None:
    assert board.simulated
    assert repr(board).startswith("<SIMULATED K64F id=K64F seed=1, on, installed: idle 1.0.0")
    html = board._repr_html_()
    for part in ("SIMULATED K64F", "NXP FRDM-K64F", "idle 1.0.0 (build 0)", "SD of 128 MiB", "device clock"):
        assert part in html
    assert "<td>ethernet, not connected</td>" in html
    board.close()
    assert "closed" in repr(board) and "closed" in board._repr_html_()


def test_the_card_of_a_board_shows_names_as_text(board: VirtualBoard) -> None:
    board.run(lambda: None)
    assert "run:&lt;lambda&gt;" in board._repr_html_()


def test_its_row_of_the_catalogue_is_a_runs_provenance(board: VirtualBoard) -> None:
    row = board.info.row
    assert row["target"] == "K64F" and row["ram"] == 0x40000 and row["sectors"] == [[256, 0x1000]]
    assert row["sources"]["flash_base"].startswith("pelion-ready-example")


def test_a_second_process_is_told_who_has_the_board(desk: VirtualBoard) -> None:
    program = "import pdmlab; pdmlab.connect('sim://K64F?id=desk1')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"PortBusy: the virtual board 'desk1' is open in process {__import__('os').getpid()}" in done.stderr
    assert "close it there, or take another id" in done.stderr


def test_a_cell_that_is_run_again_gets_the_board_again(desk: VirtualBoard) -> None:
    again = VirtualBoard("K64F", id="desk1")
    try:
        assert again.run(lambda: 7) == 7
        with pytest.raises(BoardError, match=r"the virtual board 'desk1' is closed\nhint: pdmlab.connect\("):
            desk.run(lambda: 7)
    finally:
        again.close()
    with pdmlab.connect("sim://K64F?id=desk1") as third:
        assert third.console.expect("Type 'help'")


def test_boards_in_memory_are_as_many_as_one_likes() -> None:
    with VirtualBoard("K64F", memory=True) as one, VirtualBoard("K64F", memory=True) as two:
        assert one.url != two.url
        one.run(lambda device: device.uart.write("from one\r\n"))
        two.run(lambda device: device.uart.write("from two\r\n"))
        one.console.expect("^from one$")
        two.console.expect("^from two$")


def test_a_board_in_memory_leaves_nothing_behind(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path / "state"))
    with VirtualBoard("K64F", memory=True) as board:
        assert board.folder is None
        board.run(lambda device: device.nvstore.set(1, b"x"))
    assert not (tmp_path / "state").exists()


def test_a_scratch_board_is_blank_and_has_the_boards_link(board: VirtualBoard) -> None:
    board.run(lambda device: device.nvstore.set(1, b"x"))
    with board.scratch(seed=3) as fresh:
        assert (fresh.target, fresh.seed) == ("K64F", 3)
        assert fresh.network.link is board.network.link
        assert fresh.run(lambda device: device.nvstore.keys()) == []
    assert board.run(lambda device: device.nvstore.get(1)) == b"x"


def test_get_default_instance_means_the_board_opened_last_and_on_a_board_its_own(board: VirtualBoard) -> None:
    assert NetworkInterface.get_default_instance() is board.network
    with VirtualBoard("DISCO_L475VG_IOT01A", memory=True) as other:
        assert NetworkInterface.get_default_instance() is other.network
        assert BlockDevice.get_default_instance() is other.storage.file_system_part
        assert board.run(NetworkInterface.get_default_instance) is board.network
    assert NetworkInterface.get_default_instance() is board.network


def test_boards_share_a_clock_in_a_story_and_lose_power_alone() -> None:
    with (
        DeviceClock() as clock,
        VirtualBoard("K64F", id="a", memory=True, clock=clock) as one,
        VirtualBoard("K64F", id="b", memory=True, clock=clock) as two,
    ):
        printed(one, "pdmlab")
        printed(two, "pdmlab")

        def story() -> int:
            one.power_cycle()
            clock.sleep(1_000_000_000)
            one.power_off()
            return clock.now()

        assert clock.call(story) >= 1_000_000_000
        assert (one.boots, one.powered, two.boots, two.powered) == (2, False, 1, True)
        two.console.write_line("version")
        two.console.expect("idle 1.0.0")


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("sim://K64?id=x", BoardNotFound, "no board 'K64' in the catalogue\nhint: did you mean K64F?"),
        ("sim://K64F?sed=7", ConfigError, "a virtual board has no sed"),
        ("sim://K64F?seed=seven", ConfigError, "seed in 'sim://K64F?seed=seven' is no whole number"),
        ("sim://K64F?memory=maybe", ConfigError, "is no whole number\nhint: such as memory=1"),
        ("sim://K64F?id=a&id=b", ConfigError, "says something twice"),
        ("sim://", ConfigError, "names no virtual board"),
        ("sim://K64F/dev", ConfigError, "names no virtual board"),
        ("sim://K64F?id=../../etc", ConfigError, "is no id for a virtual board"),
    ],
)
def test_a_wrong_url_is_refused_with_what_is_wrong(url: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        pdmlab.connect(url)
    assert message in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_nobody_else_reads_what_is_on_a_board(desk: VirtualBoard) -> None:
    folder = desk.folder
    assert folder is not None
    desk.close()
    (folder / "flash.bin").chmod(0o644)  # as an older version left it
    with VirtualBoard("K64F", id="desk1"):
        modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, folder / "flash.bin", folder / "sd.bin")}
    assert modes == {"desk1": 0o700, "flash.bin": 0o600, "sd.bin": 0o600}


def test_a_full_disk_is_an_error_with_a_hint(desk: VirtualBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk(io.FileIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    flash = desk.media.flash
    assert flash.path is not None
    with FullDisk(flash.path, "r+") as image:
        monkeypatch.setattr(flash._image, "_file", image)
        with pytest.raises(BoardError, match=r"flash.bin cannot be written: No space left .*\nhint: make room"):
            desk.run(lambda: None)
        monkeypatch.undo()


def test_an_image_that_is_the_name_of_an_application_says_how_to_flash_it(board: VirtualBoard) -> None:
    with pytest.raises(FlashFailed, match=r"cannot be read: .*\nhint: board.flash_application\('fs-single'\)"):
        board.flash("fs-single")


def test_a_closed_board_says_so(desk: VirtualBoard) -> None:
    desk.close()
    with pytest.raises(BoardError, match="'desk1' is closed"):
        desk.installed()
    with pytest.raises(BoardError, match="'desk1' is closed"), desk.scratch(seed=1):
        raise AssertionError("it gave a board")


def test_a_state_directory_belongs_to_one_kind_of_board(desk: VirtualBoard) -> None:
    desk.close()
    with pytest.raises(ConfigError, match=r"holds the flash of a K64F, not of a NUCLEO_F429ZI"):
        VirtualBoard("NUCLEO_F429ZI", id="desk1")


def test_a_state_folder_that_cannot_be_written_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path / "file"))
    with pytest.raises(BoardError, match=r"set PDMLAB_STATE to a folder"):
        VirtualBoard("K64F")


def test_its_line_has_one_reader_in_a_process(board: VirtualBoard) -> None:
    assert board.console is board.console
    with pytest.raises(PortBusy, match=r"is open in this process already"):
        pdmlab.boards.Console(board.url)
