"""A board's layout comes from the project's mbed_app.json; its whole flash can be written to a file, and read back."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pdmlab.boards import catalog
from pdmlab.cli import main
from pdmlab.errors import BootFailed, ConfigError, FlashFailed
from pdmlab.sim import VirtualBoard
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.header import pack_ready
from pdmlab.update.manifest import Manifest

K = 1024
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
LAYOUT_4X: dict[str, Any] = {
    "mbed-bootloader.application-header-address": "(MBED_ROM_START + 0x8000)",
    "mbed-bootloader.application-start-address": "(MBED_ROM_START + 0x8200)",
    "target.header_offset": "0x8000",
    "target.app_offset": "0x8200",
    "fota.block-device-type": "FOTA_INTERNAL_FLASH_BD",
    "fota.storage-start-address": "MBED_ROM_START + MBED_ROM_SIZE/2 + MBED_CONF_STORAGE_TDB_INTERNAL_INTERNAL_SIZE",
    "fota.storage-size": "MBED_ROM_SIZE/2 - MBED_CONF_STORAGE_TDB_INTERNAL_INTERNAL_SIZE",
    "storage_tdb_internal.internal_base_address": "(MBED_ROM_START + MBED_ROM_SIZE/2)",
    "storage_tdb_internal.internal_size": "(32*1024)",
}
"""Header 0x8000, application 0x8200, KVStore 0x80000, candidate 0x88000, as builds of the 4.x clients have it."""
SEED_S: dict[str, Any] = {
    "target.header_offset": "0x8000",
    "target.app_offset": "0x8200",
    "target.components_add": ["FLASHIAP"],
    "update-client.application-details": "0x8000",
    "update-client.storage-address": "0x88000",
    "update-client.storage-size": "(448*1024)",
    "update-client.storage-locations": "1",
}
"""The same places in the keys of the seed's configuration guide."""
BARE: dict[str, Any] = {
    "update-client.application-details": "0x8000",
    "mbed-bootloader.application-start-address": "0x8200",
    "update-client.storage-address": "0x88000",
    "update-client.storage-size": "0x78000",
}
"""No more than the addresses: the candidate is in flash by where it lies, and takes SOTP's usual sectors."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def says(project: Path, overrides: dict[str, Any], target: str = "K64F") -> None:
    document = {"target_overrides": {target: overrides}}
    (project / "mbed_app.json").write_text(json.dumps(document), encoding="utf-8")


def offer(board: VirtualBoard, version: str) -> bytes:
    """Lay a whole candidate into the board's slot, as a download leaves it."""
    running = board.flash_image()[board.layout.app_offset :][: 192 * K]
    image = board.build("idle", version=version)
    slot = board.machine.candidate
    assert isinstance(slot, CandidateSlot)
    manifest = Manifest.for_image(image, version=version, uri="/fw", vendor_id=bytes(16), class_id=bytes(16))

    def download() -> None:
        slot.begin(manifest, precursor=hashlib.sha256(running).digest())
        slot.write(0, image)
        slot.finish()

    board.clock.call(download)  # its time passes on the board, which is running
    return image


@pytest.mark.parametrize("overrides", [LAYOUT_4X, SEED_S, BARE])
def test_in_the_layout_of_4x_a_board_boots_updates_and_has_everything_in_its_flash(
    project: Path, overrides: dict[str, Any]
) -> None:
    says(project, overrides)
    with VirtualBoard("K64F", memory=True) as board:
        board.console.expect(r"Jumping to application \(at address 0x8200\)")
        board.console.expect("^pdmlab idle 1.0.0")
        assert board.layout.candidate_on == "FLASHIAP" and board.layout.candidate.offset == 0x88000
        image = offer(board, "1.0.1")
        board.power_off()
        flash = board.flash_image()
        assert len(flash) == 1024 * K
        assert flash[0x8000:0x8004] == bytes.fromhex("a353025c")
        assert flash[0x88000:0x88018] == pack_ready() + b"\xff" * 4
        assert flash[0x88018 + 160 :][: len(image)] == image
        board.power_on()
        board.console.expect("Install done")
        board.console.expect("^pdmlab idle 1.0.1")
        assert board.flash_image()[0x8200:][: len(image)] == image


def test_such_a_flash_is_read_by_another_board(project: Path) -> None:
    says(project, LAYOUT_4X)
    with VirtualBoard("K64F", memory=True) as board:
        board.console.expect("^pdmlab idle")
        offer(board, "1.0.1")
        board.power_off()
        flash = board.flash_image()
    with VirtualBoard("K64F", memory=True) as other:
        other.load_flash(flash)
        other.console.expect("Install done")
        other.console.expect("^pdmlab idle 1.0.1")
        # A real bootloader's 32 KiB are nothing that a virtual board could run: it keeps its own.
        other.load_flash(bytes(range(256)) * 128 + flash[32 * K :])
        assert other.bootloader == "fota"
        other.console.expect("^pdmlab idle 1.0.1")


@pytest.mark.parametrize("size", [0, 1024 * K - 1, 1024 * K + 1])
def test_what_is_no_whole_flash_is_refused(size: int) -> None:
    with VirtualBoard("K64F", memory=True) as board, pytest.raises(FlashFailed, match="no image of a flash"):
        board.load_flash(bytes(size))


@pytest.mark.parametrize("data", [None, 5, "flash.bin"])
def test_what_is_no_bytes_is_refused_and_the_board_runs_on(data: Any) -> None:
    with VirtualBoard("K64F", memory=True) as board:
        with pytest.raises(FlashFailed, match=f"{type(data).__name__} is no image of a flash"):
            board.load_flash(data)
        assert board.powered
        board.console.expect("^pdmlab idle")
        board.load_flash(bytearray(board.flash_image()))


def test_a_configuration_that_is_nested_too_deep_is_refused_in_a_line(project: Path) -> None:
    (project / "mbed_app.json").write_text("[" * 5000)
    with pytest.raises(ConfigError, match=r"mbed_app.json is no JSON"):
        VirtualBoard("K64F", memory=True)


def test_an_erased_flash_has_nothing_to_start(project: Path) -> None:
    with VirtualBoard("K64F", memory=True) as board:
        board.load_flash(b"\xff" * 1024 * K)
        with pytest.raises(BootFailed, match="no firmware header v3"):
            board.wait_for_end(20)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({**SEED_S, "update-client.application-details": "0x9000"}, "application-details is 0x9000"),
        ({**LAYOUT_4X, "mbed-bootloader.application-start-address": "0x8400"}, "application-start-address is 0x8400"),
        ({**LAYOUT_4X, "mbed-bootloader.application-header-address": "0x9000"}, "header-address is 0x9000"),
        ({**LAYOUT_4X, "update-client.storage-address": "0x90000"}, "update-client.storage-address is 0x90000"),
        ({**SEED_S, "update-client.storage-locations": "0"}, "storage-locations is 0"),
        ({**SEED_S, "update-client.storage-address": "0x8000"}, "overlap"),
        ({**SEED_S, "target.components_add": ["QSPIF"]}, "to lie on QSPIF, but a K64F has SD"),
        ({"target.header_offset": "MBED_NOWHERE"}, "nothing says what MBED_NOWHERE is"),
        ({"mbed-bootloader.max-boot-retries": "many"}, "max-boot-retries in mbed_app.json is 'many'"),
    ],
)
def test_a_file_that_contradicts_itself_is_said_with_a_hint(
    project: Path, overrides: dict[str, Any], words: str
) -> None:
    says(project, overrides)
    with pytest.raises(ConfigError, match=words) as caught:
        VirtualBoard("K64F", memory=True, bootloader="mbed", power=False)
    assert caught.value.hint


def test_a_file_for_another_board_says_nothing(project: Path) -> None:
    says(project, SEED_S, "NUCLEO_F429ZI")
    with VirtualBoard("K64F", memory=True, power=False) as board:
        assert board.layout.header_offset == 0x10000


def test_a_file_places_what_it_names_and_the_rest_stays_where_the_board_has_it(project: Path) -> None:
    says(project, {"update-client.storage-address": "(32*1024*1024)", "update-client.storage-locations": 4})
    with VirtualBoard("K64F", memory=True, bootloader="mbed", power=False) as board:
        assert (board.layout.header_offset, board.layout.candidate_on) == (0x10000, "SD")
        assert (board.layout.candidate.offset, board.layout.storage_locations) == (32 << 20, 4)


def test_a_label_of_the_clients_example_puts_the_candidate_into_flash(project: Path) -> None:
    says(project, {"target.extra_labels_add": ["BL_INTERNAL_FLASH"], "update-client.application-details": None}, "K66F")
    with VirtualBoard("K66F", memory=True, power=False) as board:
        assert (board.layout.candidate_on, board.layout.candidate.offset) == ("FLASHIAP", 0x100000)


def test_sections_that_nvstore_does_not_take_are_the_catalogues(project: Path) -> None:
    end = 0x08100000
    small = {f"device-management.sotp-section-{at}-address": end - (3 - at) * 2048 for at in (1, 2)}
    small |= {f"device-management.sotp-section-{at}-size": 2048 for at in (1, 2)}
    says(project, {**small, "target.header_offset": "0x11800", "target.app_offset": "0x11A00"}, "DISCO_L475VG_IOT01A")
    with VirtualBoard("DISCO_L475VG_IOT01A", memory=True) as board:
        board.console.expect("^pdmlab idle")
        assert (board.layout.header_offset, board.layout.sotp[0].size) == (0x11800, 4096)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the vendor's sample configurations are not on this machine")
@pytest.mark.parametrize("name", ["mbed-bootloader", "mbed-cloud-client-example", "pelion-ready-example"])
def test_boards_start_by_the_vendors_own_files(project: Path, name: str) -> None:
    written = (SAMPLES / f"{name}.mbed_app.json").read_text(encoding="utf-8")
    (project / "mbed_app.json").write_text(written, encoding="utf-8")
    targets = [target for target in json.loads(written)["target_overrides"] if target in catalog.boards()]
    assert targets
    for target in targets[:4]:
        with VirtualBoard(target, memory=True) as board:
            board.console.expect("^pdmlab idle")


def test_a_changed_file_moves_application_and_root_of_trust(project: Path) -> None:
    def put(device: Any) -> None:
        device.nvstore.set(4, b"root of trust...")

    with VirtualBoard("K64F", id="moves", power=False) as board:
        board.run(put)
        board.flash_application("idle", version="2.0.0")
    says(project, {**LAYOUT_4X, "storage_tdb_internal.internal_size": "(8*1024)"})
    with VirtualBoard("K64F", id="moves") as board:
        board.console.expect(r"Jumping to application \(at address 0x8200\)")
        board.console.expect("^pdmlab idle 2.0.0")
        assert board.clock.call(board.machine.nvstore.get, 4) == b"root of trust..."
    (project / "mbed_app.json").unlink()
    with VirtualBoard("K64F", id="moves") as board:
        board.console.expect("^pdmlab idle 2.0.0")
        assert board.clock.call(board.machine.nvstore.get, 4) == b"root of trust..."


def test_a_bootloaders_build_is_what_the_file_says(project: Path) -> None:
    says(project, {"mbed-bootloader.max-boot-retries": 5, "mbed-bootloader.show-serial-output": 0})
    with VirtualBoard("K64F", memory=True, bootloader="mbed", power=False) as board:
        assert board.bootloader_image().options == {"max_boot_retries": 5, "show_serial_output": False}
        board.flash_bootloader("mbed", max_boot_retries=2)
        assert board.bootloader_image().options["max_boot_retries"] == 2


@pytest.mark.parametrize("kind", ["fota", "mbed"])
def test_a_board_with_either_bootloader_boots_what_was_flashed(project: Path, kind: Any) -> None:
    with VirtualBoard("K64F", memory=True, bootloader=kind) as board:
        board.console.expect("^pdmlab idle 1.0.0")
        board.flash_application("idle", version="1.2.3")
        board.console.expect("^pdmlab idle 1.2.3")
        other = "mbed" if kind == "fota" else "fota"
        board.flash_bootloader(other, fixed=True)
        board.console.expect("^pdmlab idle 1.2.3")
        assert board.bootloader == other


def test_the_command_writes_the_flash_of_a_board_and_of_one_with_state(project: Path) -> None:
    says(project, SEED_S)
    file = project / "flash.bin"
    file.write_bytes(b"of an afternoon before, for everyone to read")
    file.chmod(0o644)
    result = CliRunner().invoke(
        main, ["board", "K64F", "--id", "dumped", "--application", "idle", "-v", "1.2.3", "--flash-image", str(file)]
    )
    assert result.exit_code == 0, result.output
    assert "the flash of the SIMULATED K64F, 1048576 B" in result.output
    assert file.stat().st_mode & 0o777 == 0o600
    first = file.read_bytes()
    assert first[0x8000:0x8004] == bytes.fromhex("a353025c") and first[0x88000:0x88004] == b"\xff" * 4
    with VirtualBoard("K64F", id="dumped") as board:
        board.console.expect("^pdmlab idle 1.2.3")
        offer(board, "1.2.4")
    result = CliRunner().invoke(main, ["board", "K64F", "--id", "dumped", "--flash-image", str(file)])
    assert result.exit_code == 0, result.output
    second = file.read_bytes()
    assert second[0x88000:0x88014] == pack_ready() and second[:0x80000] == first[:0x80000]
