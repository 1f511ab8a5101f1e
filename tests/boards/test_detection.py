"""What is plugged in is recognised by its USB ids and its volume, and what is not says why."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from serial.tools import list_ports

import pdmlab
from pdmlab.boards import detection, volumes
from pdmlab.boards.detection import COLUMNS, Found, find_boards, table
from pdmlab.boards.volumes import Volume, mounted_volumes, read_volume

DAPLINK_ID = "0240000034544E45001900048E3800525A91000097969900"
STLINK_SERIAL = "066BFF343633464257255335"


@dataclass
class Port:
    """What pyserial tells of a port."""

    device: str
    vid: int | None = None
    pid: int | None = None
    serial_number: str | None = None
    description: str = "n/a"


K64F = Port("/dev/ttyACM0", 0x0D28, 0x0204, DAPLINK_ID.lower(), "DAPLink CMSIS-DAP")
STLINK = Port("/dev/ttyACM1", 0x0483, 0x374B, STLINK_SERIAL, "STM32 STLink")
CABLE = Port("/dev/ttyUSB0", 0x1A86, 0x7523, None, "USB Serial")
BUILT_IN = Port("/dev/ttyS0")
DAPLINK_VOLUME = Volume(Path("/media/DAPLINK"), DAPLINK_ID, "0244", DAPLINK_ID)
STLINK_VOLUME = Volume(Path("/media/DIS_L4IOT"), "07640221A2B3C4D5E6F70819", "0221", STLINK_SERIAL)


def found(ports: list[Port], mounted: list[Volume] | None = None) -> list[Found]:
    return find_boards(ports, mounted or [])


def test_a_daplink_board_is_recognised_by_its_serial_number_and_has_its_volume() -> None:
    (board,) = found([K64F], [DAPLINK_VOLUME])
    assert board.row is not None and board.row.target == "K64F"
    assert (board.serial_port, board.mount_point) == ("/dev/ttyACM0", Path("/media/DAPLINK"))
    assert (board.target_id, board.interface_version, board.reason) == (DAPLINK_ID, "0244", "")


def test_a_daplink_board_needs_no_volume_to_be_recognised() -> None:
    (board,) = found([K64F])
    assert board.row is not None and board.row.target == "K64F" and board.mount_point is None


def test_an_stlink_board_is_recognised_by_what_its_volume_says() -> None:
    (board,) = found([STLINK], [STLINK_VOLUME])
    assert board.row is not None and board.row.target == "DISCO_L475VG_IOT01A"
    assert board.serial_number == STLINK_SERIAL


def test_an_stlink_board_without_its_volume_says_to_mount_it() -> None:
    (board,) = found([STLINK])
    assert board.row is None
    assert board.reason == "ST-Link tells the board on its volume, which is not mounted: mount it, or name the board"


def test_where_the_system_does_not_tell_the_only_volume_goes_with_the_only_port() -> None:
    anonymous = Volume(STLINK_VOLUME.mount_point, STLINK_VOLUME.target_id, "0221")
    (board,) = found([STLINK, CABLE], [anonymous])[:1]
    assert board.row is not None and board.row.target == "DISCO_L475VG_IOT01A"
    assert board.mount_point == anonymous.mount_point and board.serial_port == "/dev/ttyACM1"


def test_two_volumes_that_could_both_be_a_ports_are_not_guessed() -> None:
    one = Volume(Path("/media/A"), STLINK_VOLUME.target_id)
    two = Volume(Path("/media/B"), "0796" + STLINK_VOLUME.target_id[4:])
    boards = found([STLINK], [one, two])
    assert [board.serial_port for board in boards if board.mount_point is None] == ["/dev/ttyACM1"]
    assert len(boards) == 3


def test_a_volume_of_another_kind_of_chip_is_not_given_to_a_port() -> None:
    anonymous = Volume(DAPLINK_VOLUME.mount_point, DAPLINK_ID)
    boards = found([STLINK], [anonymous])
    assert [(board.serial_port, board.mount_point) for board in boards] == [
        (None, anonymous.mount_point),
        ("/dev/ttyACM1", None),
    ]
    assert "no serial port belongs to it" in boards[0].reason


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        (BUILT_IN, "not a USB port"),
        (CABLE, "USB id 1a86:7523 belongs to no board in the catalogue"),
        (Port("/dev/ttyACM9", 0x0D28, 0x0204, "9999AAAA"), "target id 9999 is in no row of the catalogue; name the"),
    ],
)
def test_what_is_not_recognised_says_why(port: Port, reason: str) -> None:
    (board,) = found([port])
    assert board.row is None and board.reason.startswith(reason)


def test_a_port_that_may_not_be_opened_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = tmp_path / "ttyACM0"
    device.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(device))
    (board,) = found([Port(str(device), 0x0D28, 0x0204, DAPLINK_ID)])
    assert board.row is not None and "sudo usermod -aG dialout $USER" in board.reason


def test_boards_of_one_kind_are_counted_as_mbedls_does() -> None:
    second = Port("/dev/ttyACM3", 0x0D28, 0x0204, "0240" + "F" * 44)
    rows = table(found([second, K64F, CABLE]))
    assert [row["platform_name_unique"] for row in rows] == ["K64F[0]", "K64F[1]"]
    assert [row["serial_port"] for row in rows] == ["/dev/ttyACM0", "/dev/ttyACM3"]
    assert tuple(rows[0]) == COLUMNS and COLUMNS[:6] == (
        "platform_name", "platform_name_unique", "mount_point", "serial_port", "target_id", "interface_version",
    )  # fmt: skip


def test_detect_gives_a_frame_of_boards_and_of_everything_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_ports, "comports", lambda: [K64F, BUILT_IN])
    monkeypatch.setattr(detection, "mounted_volumes", lambda: [DAPLINK_VOLUME])
    frame = pdmlab.detect()
    assert list(frame.columns) == list(COLUMNS) and frame["platform_name"].to_list() == ["K64F"]
    everything = pdmlab.detect(everything=True)
    assert everything["serial_port"].to_list() == ["/dev/ttyACM0", "/dev/ttyS0"]
    assert everything["reason"].fillna("").to_list()[1].startswith("not a USB port")
    monkeypatch.setattr(list_ports, "comports", list)
    assert pdmlab.detect().empty is False  # a volume alone is a board, whose port is missing


def test_a_daplink_volume_tells_its_id_and_version(tmp_path: Path) -> None:
    (tmp_path / "DETAILS.TXT").write_text(
        "# DAPLink Firmware - see https://mbed.com/daplink\r\n"
        f"Unique ID: {DAPLINK_ID.lower()}\r\nHIC ID: 97969900\r\nAuto Reset: 0\r\nInterface Version: 0244\r\n"
    )
    volume = read_volume(tmp_path)
    assert volume == Volume(tmp_path, DAPLINK_ID, "0244")


def test_an_stlink_volume_tells_its_id_in_its_page(tmp_path: Path) -> None:
    (tmp_path / "MBED.HTM").write_text('<meta content="0; url=https://mbed.org/device/?code=07640221A2B3C4D5"/>')
    (tmp_path / "DETAILS.TXT").write_text("Version: 0221\nBuild:   Nov  7 2016 15:25:56\n")
    assert read_volume(tmp_path) == Volume(tmp_path, "07640221A2B3C4D5", "0221")


def test_a_folder_that_is_no_interface_volume_is_none(tmp_path: Path) -> None:
    assert read_volume(tmp_path) is None
    assert read_volume(tmp_path / "missing") is None


@pytest.mark.skipif(not os.path.exists("/proc/self/mounts"), reason="only Linux lists its mounts there")
def test_linux_tells_which_volume_belongs_to_which_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "DAP LINK"
    folder.mkdir()
    (folder / "MBED.HTM").write_text(f"?code={DAPLINK_ID}")
    disk, by_id, mounts = tmp_path / "sdb", tmp_path / "by-id", tmp_path / "mounts"
    disk.touch()
    by_id.mkdir()
    (by_id / f"usb-MBED_VFS_{DAPLINK_ID.lower()}-0:0").symlink_to(disk)
    (by_id / "ata-Some_Disk").symlink_to(tmp_path / "sda")
    mounts.write_text(f"proc /proc proc rw 0 0\n{disk} {str(folder).replace(' ', chr(92) + '040')} vfat rw 0 0\n")
    monkeypatch.setattr(volumes, "_BY_ID", by_id)
    monkeypatch.setattr(volumes, "_MOUNTS", mounts)
    assert mounted_volumes() == [Volume(folder, DAPLINK_ID, "", DAPLINK_ID.lower())]
