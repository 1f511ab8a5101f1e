"""A virtual board loses its power at any time; what had reached flash and card is still there, even after kill -9."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

from pdmlab.clock import DeviceClock
from pdmlab.errors import BoardError
from pdmlab.firmware.device import Device
from pdmlab.sim import VirtualBoard

BLOCK = 512


def write_blocks(device: Device, count: int) -> None:
    """Fill so many blocks of the card, each with its number, and print the number when it is there."""
    device.block_device.init()
    for number in range(count):
        device.block_device.program(number * BLOCK, bytes([number + 1]) * BLOCK)
        device.uart.write(f"block {number}\r\n")


def blocks(board: VirtualBoard, count: int) -> list[bytes]:
    return [board.media.storage.peek(number * BLOCK, BLOCK) for number in range(count)]


def test_without_power_it_does_nothing_and_says_so(board: VirtualBoard) -> None:
    board.power_off()
    assert not board.powered and "off" in repr(board)
    with pytest.raises(BoardError, match=r"has no power\nhint: call board.power_on\(\)"):
        board.reset()
    board.power_off()
    board.power_cycle()
    assert board.powered
    board.console.expect("Type 'help'")


def test_a_power_cycle_forgets_ram_and_keeps_the_media(board: VirtualBoard) -> None:
    board.run(write_blocks_of(2))
    board.power_cycle()
    assert board.machine.reset_reason == "power-on"
    assert blocks(board, 2) == [b"\x01" * BLOCK, b"\x02" * BLOCK]


def write_blocks_of(count: int):
    def application(device: Device) -> None:
        write_blocks(device, count)

    return application


@pytest.mark.parametrize("writes", range(5))
def test_power_lost_in_any_write_keeps_the_blocks_before_it_and_half_of_its_own(
    board: VirtualBoard, writes: int
) -> None:
    board.faults.cut_power(after_writes=writes)
    with pytest.raises(BoardError, match=r"application on K64F did not end: the board's power was cut after"):
        board.run(write_blocks_of(5))
    assert not board.powered
    whole = [bytes([number + 1]) * BLOCK for number in range(writes)]
    torn = bytes([writes + 1]) * (BLOCK // 2) + bytes(BLOCK // 2)
    assert blocks(board, 5) == [*whole, torn, *[bytes(BLOCK)] * (4 - writes)]
    board.power_on()  # boots the same application, which now goes through
    board.wait_for_end(20)
    assert blocks(board, 5) == [bytes([number + 1]) * BLOCK for number in range(5)]


def test_power_lost_in_an_erase_leaves_half_a_sector(board: VirtualBoard) -> None:
    top = board.layout.sotp[0].offset - 0x1000

    def application(device: Device) -> None:
        device.flash.program(top, bytes(8))
        device.flash.program(top + 0xFF8, bytes(8))
        device.flash.erase(top, 0x1000)

    board.faults.cut_power(after_writes=2)
    with pytest.raises(BoardError, match=r"power was cut"):
        board.run(application)
    assert board.media.flash.peek(top, 0x1000) == b"\xff" * 0xFF8 + bytes(8)


def test_power_is_lost_at_a_time_of_the_device(board: VirtualBoard) -> None:
    times = []

    def application(device: Device) -> None:
        board.faults.cut_power(after_s=1.5)
        while True:
            times.append(device.clock.now())
            device.clock.sleep(1_000_000_000)

    with pytest.raises(BoardError, match=r"power was cut"):
        board.run(application)
    assert len(times) == 2


def test_an_application_may_cut_its_own_power_and_a_later_one_runs(board: VirtualBoard) -> None:
    def application() -> None:
        board.power_off()
        raise AssertionError("code went on without power")

    with pytest.raises(BoardError, match=r"power was cut"):
        board.run(application)
    assert board.run(lambda: 5) == 5


def test_what_a_process_had_written_before_kill_9_is_there_afterwards() -> None:
    program = textwrap.dedent(
        """
        from pdmlab.sim import VirtualBoard
        from tests.sim.test_power import write_blocks

        def application(device):
            device.nvstore.set(5, b"root of trust")
            write_blocks(device, 3)
            print("written", flush=True)
            device.uart.readline()

        with VirtualBoard("K64F", id="killed") as board:
            board.run(application)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "written\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    with VirtualBoard("K64F", id="killed") as board:  # its lock went with its owner
        assert blocks(board, 3) == [bytes([number + 1]) * BLOCK for number in range(3)]
        assert board.run(lambda device: device.nvstore.get(5)) == b"root of trust"


def test_its_files_are_plain_images_of_flash_and_card(desk: VirtualBoard) -> None:
    desk.run(write_blocks_of(1))
    assert desk.folder is not None
    assert (desk.folder / "flash.bin").read_bytes()[desk.layout.app_offset :][0x200:0x208] == b"pdmlabFW"
    with (desk.folder / "sd.bin").open("rb") as card:
        assert card.read(BLOCK) == b"\x01" * BLOCK
    assert (desk.folder / "sd.bin").stat().st_size == desk.info.storage_size


def test_a_medium_of_another_size_is_refused_by_name(desk: VirtualBoard) -> None:
    folder = desk.folder
    desk.close()
    assert folder is not None
    (folder / "sd.bin").write_bytes(b"short")
    with pytest.raises(Exception, match=r"sd.bin holds 5 B, and the part 134217728 B"):
        VirtualBoard("K64F", id="desk1")
    (folder / "sd.bin").unlink()
    with VirtualBoard("K64F", id="desk1") as board:  # the refusal gave the directory back
        board.console.expect("Type 'help'")


def test_a_closed_board_says_how_to_open_it(board: VirtualBoard) -> None:
    board.close()
    board.close()
    for use in (board.power_on, board.reset, board.power_cycle, lambda: board.console, lambda: board.flash(b"x")):
        with pytest.raises(BoardError, match=r"is closed\nhint: pdmlab.connect\('sim://K64F"):
            use()


def test_a_reset_of_a_board_on_a_shared_clock_leaves_others_alone() -> None:
    with DeviceClock() as clock, VirtualBoard("K64F", memory=True, clock=clock) as board:
        ticks = []

        def ticker() -> None:
            for _ in range(5):
                clock.sleep(1_000_000)
                ticks.append(clock.now())

        def story() -> None:
            thread = clock.spawn(ticker)
            board.reset()
            thread.join()

        clock.call(story)
        assert len(ticks) == 5 and board.boots == 2
