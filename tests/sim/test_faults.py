"""What can be broken on a virtual board breaks as on a real one, and can be mended."""

from __future__ import annotations

import pytest

from pdmlab.errors import BoardError, ConfigError, ConsoleTimeout, StorageError, WornOut
from pdmlab.firmware.device import Device
from pdmlab.sim import VirtualBoard


def test_an_erased_sotp_forgets_the_root_of_trust(board: VirtualBoard) -> None:
    board.run(lambda device: device.nvstore.set(5, b"root of trust"))
    board.faults.erase_sotp()
    with pytest.raises(StorageError, match="NVSTORE_NOT_FOUND"):
        board.run(lambda device: device.nvstore.get(5))


def test_a_pulled_card_is_missed_by_the_bootloader_and_by_the_application(board: VirtualBoard) -> None:
    board.faults.pull_card()
    board.console.skip()
    board.reset()
    board.console.expect("^Failed to initialize update storage")
    with pytest.raises(StorageError, match=r"no card answers .*NO_DEVICE, -5005") as caught:
        board.run(lambda device: device.block_device.init())
    assert caught.value.code == -5005
    board.faults.seat_card()
    board.run(lambda device: device.block_device.init())


def test_a_worn_block_refuses_programs(board: VirtualBoard) -> None:
    board.faults.wear_out(0x400)

    def application(device: Device) -> None:
        device.block_device.init()
        device.block_device.program(0x0, bytes(512))
        device.block_device.program(0x400, bytes(512))

    with pytest.raises(WornOut, match="the block at 0x400 is worn out"):
        board.run(application)


def test_a_cut_wire_is_silent_and_the_other_one_still_works(board: VirtualBoard) -> None:
    board.console.expect("Type 'help'")
    board.faults.cut_wire("rx")
    board.console.write_line("version")
    with pytest.raises(ConsoleTimeout):
        board.console.expect("idle", timeout=0.02)
    board.reset()
    board.console.expect("Type 'help'")
    board.faults.mend_wires()
    board.faults.cut_wire("tx")
    board.reset()
    with pytest.raises(ConsoleTimeout):
        board.console.expect("booting", timeout=0.02)
    board.faults.mend_wires()
    board.reset()
    board.console.expect("Type 'help'")


def test_an_unplugged_network_does_not_connect(board: VirtualBoard) -> None:
    board.faults.unplug_network()
    with pytest.raises(Exception, match="NSAPI_ERROR"):
        board.run(lambda device: device.network.connect())
    board.faults.plug_network()
    board.run(lambda device: device.network.connect())


def test_what_a_board_has_not_cannot_be_broken(board: VirtualBoard) -> None:
    with pytest.raises(ConfigError, match="no wire 'gnd'"):
        board.faults.cut_wire("gnd")
    with pytest.raises(ConfigError, match="the supply fails once"):
        board.faults.cut_power(after_writes=1, after_s=1)
    for past in ({"after_writes": -4}, {"after_s": -0.5}):
        with pytest.raises(ConfigError, match="cannot fail in the past"):
            board.faults.cut_power(**past)  # type: ignore[arg-type]
    with (
        VirtualBoard("DISCO_L475VG_IOT01A", memory=True) as disco,
        pytest.raises(ConfigError, match="a DISCO_L475VG_IOT01A has no SD card"),
    ):
        disco.faults.pull_card()


def test_a_closed_board_has_no_faults(board: VirtualBoard) -> None:
    faults = board.faults
    board.close()
    for fault in (faults.pull_card, faults.erase_sotp, faults.cut_power, faults.unplug_network, faults.mend_wires):
        with pytest.raises(BoardError, match=r"'K64F' is closed\nhint: pdmlab.connect\("):
            fault()


def test_faults_list_themselves(board: VirtualBoard) -> None:
    assert "pull_card" in repr(board.faults) and "cut_power" in repr(board.faults)
