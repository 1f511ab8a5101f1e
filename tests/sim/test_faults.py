"""What can be broken on a virtual board breaks as on a real one, and can be mended."""

from __future__ import annotations

import pytest

from pdmlab.errors import BoardError, ConfigError, ConsoleTimeout, StorageError, Unreachable, WornOut
from pdmlab.firmware.device import Device
from pdmlab.firmware.net_suites import DOWNLOAD_HOST, DOWNLOAD_PATH
from pdmlab.network.download import download
from pdmlab.sim import VirtualBoard
from pdmlab.storage import mount_or_format


def test_an_erased_sotp_forgets_the_root_of_trust(board: VirtualBoard) -> None:
    board.run(lambda device: device.nvstore.set(5, b"root of trust"))
    board.faults.erase_sotp()
    with pytest.raises(StorageError, match="NVSTORE_NOT_FOUND"):
        board.run(lambda device: device.nvstore.get(5))


def test_a_pulled_card_is_missed_by_the_bootloader_and_by_the_application(board: VirtualBoard) -> None:
    board.faults.pull_card()
    board.console.skip()
    board.reset()
    board.console.expect("Storage initialization failed!")
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


def test_a_network_that_is_unplugged_under_way_is_missed_at_once_and_comes_back(board: VirtualBoard) -> None:
    def main(device: Device) -> list[str]:
        net, seen = device.network, []
        net.connect()
        net.attach(lambda status: seen.append(status.name))
        work = device.clock.spawn(download, net, DOWNLOAD_HOST, DOWNLOAD_PATH, 1024)
        device.clock.sleep(20_000_000)
        board.faults.unplug_network()
        assert board.faults.broken == ["the network is unplugged"]
        with pytest.raises(Unreachable, match="NSAPI_ERROR_NO_CONNECTION"):
            download(net, DOWNLOAD_HOST, DOWNLOAD_PATH, 1024)
        device.clock.sleep(5_000_000_000)
        assert work.alive
        board.faults.plug_network()
        return [*seen, str(work.join().bytes), *seen]

    connecting, size, *both = board.run(main)
    assert (connecting, size) == ("NSAPI_STATUS_CONNECTING", "131072")
    assert both == ["NSAPI_STATUS_CONNECTING", "NSAPI_STATUS_GLOBAL_UP"]


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
    assert "nothing is broken" in repr(board.faults)
    assert "pull_card" in repr(board.faults) and "cut_power" in repr(board.faults)
    board.faults.bad_block(7, "prognoop")
    board.faults.cut_wire("tx")
    assert board.faults.broken == ["SD: block 7: prognoop", "tx is cut"]
    assert f"code {board.faults.code!r}" in repr(board.faults) and "SIMULATED" in repr(board.faults)
    assert "SD: block 7: prognoop" in board.faults._repr_html_() and board.faults.code in board.faults._repr_html_()
    board.faults.mend()
    assert (board.faults.broken, board.faults.code) == ([], "")


# -- codes -------------------------------------------------------------------------------------------


def write_logs(device: Device) -> list[str]:
    """Write logs on the card, as an application that carries on after an error; return what came of each write."""
    fs = device.make_file_system()
    came = []
    try:
        mount_or_format(fs, device.block_device)
    except StorageError as error:
        came.append(str(error.code))
    for n in range(12):
        try:
            with fs.open(f"/log{n % 3}", "a") as file:
                file.write(bytes([65 + n]) * 700)
            came.append("ok")
        except StorageError as error:
            came.append(str(error.code))
    return came


@pytest.mark.parametrize("seed", [1, 2])
def test_a_code_breaks_another_board_in_the_same_way(seed: int) -> None:
    """The same application meets the same faults at the same operations, and leaves the same card."""
    stories = []
    code = ""
    for first in (True, False):
        with VirtualBoard("K64F", memory=True, seed=seed) as board:
            board.run(write_logs)
            if first:
                board.faults.flip_bits(2, 0x4000, 4096)
                board.faults.reorder_writes(8)
                board.faults.bad_block(130, "readerror")
                board.faults.pull_card(after=40)
                board.faults.seat_card(after=90)
                board.faults.flip_bits(1, part="flash", address=0xC0000, size=64)
                code = board.faults.code
                assert code.startswith(f"seed:{seed},flip:2@0x4000+4096,reorder:8,bad:130=readerror,+40:pull!,+90:seat")
                assert "flash/flip:1@0xc0000+64" in code
            else:
                board.faults.replay(code)
                assert board.faults.code == code
            came = board.run(write_logs)
            board.power_off()
            stories.append((came, board.media.storage.peek(0, 2 << 20), board.media.flash.peek(0, 1 << 20)))
    assert stories[0] == stories[1]
    assert len(set(stories[0][0])) > 1  # some writes failed, and some did not


def test_a_cut_is_part_of_the_code(board: VirtualBoard) -> None:
    def application(device: Device) -> None:
        device.block_device.init()
        device.block_device.program(0, bytes(512 * 100))
        if codes:
            board.faults.replay(codes[0])
        else:
            board.faults.tear_programs()
            board.faults.cut_power(after_writes=7)
            assert "the power goes in write 8 from now" in board.faults.broken
        for n in range(100):
            device.block_device.program(512 * n, b"x" * 512)

    codes: list[str] = []
    images = []
    for _ in range(2):
        board.power_on()
        with pytest.raises(BoardError, match="power was cut"):
            board.run(application)
        codes.append(board.faults.code)
        images.append(board.media.storage.peek(0, 512 * 100).count(b"x"))
        board.faults.mend()
    assert codes == [f"seed:{board.seed},torn,cut:7"] * 2
    assert 7 * 512 <= images[0] == images[1] <= 8 * 512
    board.power_on()

    def sleeper(device: Device) -> None:
        board.faults.replay("cut:2s")
        assert board.faults.code == "cut:2s"
        device.clock.sleep(3_000_000_000)

    with pytest.raises(BoardError, match="power was cut"):
        board.run(sleeper)


def test_a_cut_that_was_called_off_does_not_come(board: VirtualBoard) -> None:
    def application(device: Device) -> int:
        board.faults.cut_power(after_writes=1)
        board.faults.mend()
        board.faults.cut_power(after_s=1)
        board.faults.mend()
        device.clock.sleep(2_000_000_000)
        device.block_device.init()
        device.block_device.program(0, bytes(2048))
        return board.boots

    assert board.run(application) == board.boots and board.powered


@pytest.mark.parametrize("code", ["melt", "flash/melt", "cut:x", "cut:1,cut:2", "torn,seed:3"])
def test_a_code_that_is_none_breaks_and_mends_nothing(board: VirtualBoard, code: str) -> None:
    board.faults.bad_block(3)
    before = board.faults.code
    with pytest.raises(ConfigError):
        board.faults.replay(code)
    assert board.faults.code == before


def test_blocks_wear_out_at_the_parts_own_endurance(board: VirtualBoard) -> None:
    board.faults.limit_endurance(spread=10)
    cycles = board.storage.device.part["endurance"]  # type: ignore[attr-defined]
    assert f"endurance:{cycles}~10=progerror" in board.faults.code
    board.faults.limit_endurance(3, part="flash")
    assert "flash/endurance:3~0=progerror" in board.faults.code
    with pytest.raises(ConfigError, match="no part 'ram'"):
        board.faults.wear_out(0, part="ram")  # type: ignore[arg-type]


def test_a_stuck_card_is_given_up_and_works_again_after_its_power_was_cut(board: VirtualBoard) -> None:
    def read(device: Device) -> bytes:
        device.block_device.init()
        board.faults.stick_busy()
        return device.block_device.read(0, 512)

    with pytest.raises(StorageError, match="-5008"):
        board.run(read)
    board.power_off()
    board.power_on()

    def write(device: Device) -> None:
        device.block_device.init()
        device.block_device.program(0, bytes(512))

    board.run(write)
    board.faults.lose_contact()
    with pytest.raises(StorageError, match="-5005"):
        board.run(write)
    board.faults.restore_contact()
    board.faults.lock_card()
    with pytest.raises(StorageError, match="-5011"):
        board.run(write)
    board.faults.unlock_card()
    board.run(write)


def test_a_part_stuck_before_a_run_is_ready_again_by_then_and_stuck_with_after(board: VirtualBoard) -> None:
    def read(device: Device) -> bytes:
        device.block_device.init()
        return device.block_device.read(0, 512)

    board.faults.stick_busy()
    assert board.run(read) == bytes(512)
    board.faults.mend()
    board.faults.stick_busy(after=3)  # operations of the start, or of the function
    with pytest.raises(StorageError, match="SD"):
        board.run(read)


def test_a_replay_of_no_code_says_what_one_is(board: VirtualBoard) -> None:
    with pytest.raises(ConfigError, match="no code of faults"):
        board.faults.replay(None)  # type: ignore[arg-type]


def test_a_replay_of_a_place_that_the_part_does_not_have_leaves_what_is_broken(board: VirtualBoard) -> None:
    board.faults.bad_block(3)
    before = board.faults.code
    for code in ("bad:1000000000000=progerror", "flash/worn:0x7fffffffff", "cut:1,flip:1@0x0+99999999999"):
        with pytest.raises(ConfigError, match="lies outside the medium"):
            board.faults.replay(code)
    assert board.faults.code == before


def test_a_supply_that_is_told_twice_when_to_fail_fails_once_and_then(board: VirtualBoard) -> None:
    board.faults.cut_power(after_writes=5)
    board.faults.cut_power(after_s=3600.0)
    assert board.media.supply.writes_left is None
    assert board.faults.broken == ["the power goes in 3600 s (device clock)"]
    assert "cut:" in board.faults.code and board.faults.code.endswith("s")
