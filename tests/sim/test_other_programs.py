"""Independent programs read what a virtual board wrote: fsck.fat and mtools its card, littlefs-python its chip."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pdmlab.firmware.corpus import corpus
from pdmlab.firmware.device import Device
from pdmlab.sim import VirtualBoard
from pdmlab.storage import mount_or_format
from tests.tools import program

SUITE_FILE = "mbed-file-test-0.txt"


def run_suite(board: VirtualBoard) -> None:
    """Let the board run fs-single, as the seed does, without a host that measures."""
    board.flash_application("fs-single")
    board.console.write_line("{{__sync;00000000-0000-4000-8000-000000000000}}")
    board.console.expect(r"\{\{end;success\}\}", timeout=60)
    board.power_off()


@pytest.mark.debian
def test_fsck_and_mtools_accept_the_card_that_a_suite_wrote(desk: VirtualBoard, tmp_path: Path) -> None:
    fsck, mdir, mcopy = program("fsck.fat"), program("mdir"), program("mcopy")
    run_suite(desk)
    assert desk.folder is not None
    card = str(desk.folder / "sd.bin")  # FAT from its first sector on: no partition table
    checked = subprocess.run([fsck, "-n", card], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    listed = subprocess.run([mdir, "-i", card, "-b", "::"], capture_output=True, text=True, check=True)
    assert SUITE_FILE in listed.stdout
    copied = tmp_path / "copied.txt"
    subprocess.run([mcopy, "-i", card, f"::{SUITE_FILE}", str(copied)], capture_output=True, check=True)
    assert copied.read_bytes() == corpus()


@pytest.mark.debian
def test_a_board_reads_what_mtools_put_on_its_card(desk: VirtualBoard, tmp_path: Path) -> None:
    mcopy = program("mcopy")
    assert desk.folder is not None
    card = desk.folder / "sd.bin"

    def mounted(device: Device):
        fs = device.make_file_system()
        device.block_device.init()
        mount_or_format(fs, device.block_device)
        return fs

    desk.run(lambda device: mounted(device).unmount())
    desk.close()
    note = tmp_path / "note.txt"
    note.write_bytes(b"from the host\n")
    subprocess.run([mcopy, "-i", str(card), str(note), "::"], capture_output=True, check=True)

    def read(device: Device) -> bytes:
        with mounted(device).open("note.txt", "r") as file:
            return file.read(100)

    with VirtualBoard("K64F", id="desk1") as again:
        assert again.run(read) == b"from the host\n"


PLAIN_SCRIPT = """
import sys
from littlefs import LittleFS, UserContext

image, size, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with open(image, "rb") as file:
    content = bytearray(file.read(size))  # the file system begins where the chip begins

class Chip(UserContext):
    def __init__(self):
        self.buffer = content

fs = LittleFS(context=Chip(), read_size=1, prog_size=1, block_size=4096, block_count=size // 4096, mount=True)
with fs.open(name, "rb") as file:
    sys.stdout.buffer.write(file.read())
"""


def test_a_plain_littlefs_script_mounts_the_flash_chip_that_a_suite_wrote() -> None:
    with VirtualBoard("DISCO_L475VG_IOT01A", id="disco") as board:
        run_suite(board)
        assert board.folder is not None
        image, size = board.folder / "qspif.bin", board.layout.candidate.offset
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_SCRIPT, str(image), str(size), SUITE_FILE], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == corpus()
