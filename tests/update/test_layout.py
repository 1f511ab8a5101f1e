from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import ConfigError
from pdmlab.update.expressions import Expressions, macro_name
from pdmlab.update.layout import Area, FlashGeometry, FlashLayout

K = 1024
# NXP MK64FN1M0 (256 sectors of 4 KiB); ST STM32F429ZI (RM0090 table 6: two banks of 4x16, 64, 7x128 KiB).
K64F = FlashGeometry(0, 1024 * K, ((256, 4 * K),), program_size=8)
F429ZI = FlashGeometry(0x0800_0000, 2048 * K, ((4, 16 * K), (1, 64 * K), (7, 128 * K)) * 2)
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"


def document(overrides: dict[str, Any]) -> dict[str, Any]:
    start = "MBED_CONF_APP_FLASH_START_ADDRESS"
    end = f"{start} + MBED_CONF_APP_FLASH_SIZE"
    row = {
        "target.components_add": ["SD"],
        "device-management.flash-start-address": "0x08000000",
        "device-management.flash-size": "(2048*1024)",
        "device-management.sotp-section-1-address": f"({end} - 2*(128*1024))",
        "device-management.sotp-section-1-size": "(128*1024)",
        "device-management.sotp-section-2-address": f"({end} - 1*(128*1024))",
        "device-management.sotp-section-2-size": "(128*1024)",
        "update-client.application-details": f"({start} + 64*1024)",
        "update-client.storage-address": "(64*1024*1024)",
        "update-client.storage-size": "(2*1024*1024)",
        "target.header_offset": "0x10000",
        "target.app_offset": "0x10400",
    }
    return {"target_overrides": {"*": {"update-client.storage-locations": "1"}, "NUCLEO_F429ZI": {**row, **overrides}}}


def layout_of(overrides: dict[str, Any] | None = None, **arguments: Any) -> FlashLayout:
    return FlashLayout.from_mbed_app(document(overrides or {}), "NUCLEO_F429ZI", F429ZI, **arguments)


def test_the_layout_of_the_configuration_guide_is_understood() -> None:
    layout = layout_of(storage_size=128 << 20)
    assert [str(area) for area in layout.areas()] == [
        "bootloader at 0x0..0x10000",
        "header at 0x10000..0x10400",
        "application at 0x10400..0x1c0000",
        "SOTP section 1 at 0x1c0000..0x1e0000",
        "SOTP section 2 at 0x1e0000..0x200000",
    ]
    assert (layout.candidate_on, layout.candidate) == ("SD", Area("candidate", 64 << 20, 2 << 20))
    assert layout.address(layout.application) == 0x0801_0400


def test_a_file_that_says_nothing_gets_the_stock_layout_in_internal_flash() -> None:
    layout = FlashLayout.from_mbed_app({"target_overrides": {"K64F": {}}}, "K64F", K64F)
    assert layout.candidate_on == "FLASHIAP" and layout.candidate.offset == 512 * K
    assert (layout.header_offset, layout.app_offset) == (0x10000, 0x10400)
    assert [area.offset for area in layout.sotp] == [1024 * K - 8 * K, 1024 * K - 4 * K]


def test_the_macros_of_the_bootloaders_own_configuration_are_known() -> None:
    config = {
        "target.components_add": [],
        "update-client.storage-address": "(MBED_ROM_START + MBED_ROM_SIZE/2)",
        "update-client.storage-size": "(MBED_CONF_UPDATE_CLIENT_STORAGE_ADDRESS/4 - 16*1024*1024/4)",
        "nvstore.area_1_address": "0xFC000",
    }
    layout = FlashLayout.from_config({**config, "update-client.storage-size": "64*1024"}, K64F)
    assert str(layout.candidate) == "candidate at 0x80000..0x90000"
    assert layout.sotp[0].offset == 0xFC000


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"device-management.sotp-section-1-size": "(192*1024)"}, "overlap"),
        ({"device-management.sotp-section-1-address": "0x081B0000"}, "overlap|edge of a flash sector"),
        ({"target.header_offset": "0x11000", "target.app_offset": "0x11400"}, "application-details"),
        ({"target.app_offset": "0x10080"}, "smaller than a firmware header"),
        ({"target.app_offset": "0x300000"}, "no room|outside|overlap"),
        ({"device-management.flash-size": "(1024*1024)"}, "0x100000 B of flash"),
        ({"update-client.storage-address": "(127*1024*1024)"}, "outside the SD medium"),
        ({"target.header_offset": "MBED_NOWHERE"}, "nothing says what MBED_NOWHERE is"),
        ({"target.header_offset": "__import__('os').getpid()"}, "not arithmetic"),
        ({"target.header_offset": "2 ** 64"}, "not arithmetic"),
        ({"target.header_offset": "1 << 500"}, "64 bits"),
        ({"target.header_offset": "1 / 0"}, "cannot be evaluated"),
        ({"target.header_offset": "((("}, "cannot be evaluated"),
        (
            {
                "target.components_add": [],
                "update-client.storage-address": "0x08010400",
                "update-client.storage-size": "65536",
            },
            "overlap",
        ),
    ],
)
def test_a_layout_that_would_destroy_itself_is_refused_with_the_reason(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        layout_of(overrides, storage_size=128 << 20)


def test_a_target_without_a_section_is_refused_and_the_others_are_named() -> None:
    with pytest.raises(ConfigError, match="it has: NUCLEO_F429ZI"):
        FlashLayout.from_mbed_app(document({}), "K64F", K64F)


def test_a_header_that_is_not_on_a_sector_is_refused() -> None:
    coarse = FlashGeometry(0, 1024 * K, ((8, 128 * K),))
    with pytest.raises(ConfigError, match=r"header .* not the edge of a flash sector"):
        FlashLayout.from_config({"target.header_offset": "0x8000", "target.app_offset": "0x8400"}, coarse)


def test_a_layout_in_text_has_a_line_an_area() -> None:
    lines = repr(layout_of()).splitlines()
    assert lines[0].startswith("FlashLayout: 2,048 KiB of flash at 0x08000000") and len(lines) == 7
    assert lines[1].split()[1].startswith("0x00000000..") and lines[1].endswith("bootloader")


def test_a_layout_shows_its_areas_in_a_cell() -> None:
    assert "<td>0x10400</td>" in layout_of()._repr_html_()


@given(st.integers(-1000, 1000), st.integers(-1000, 1000).filter(bool))
def test_division_truncates_as_in_c(left: int, right: int) -> None:
    value = Expressions({"A": left, "B": right}).value("A / B * B + A % B", of="test")
    assert value == left
    assert Expressions({"A": left, "B": right}).value("A / B", of="test") == int(left / right)


@given(st.text(max_size=40))
def test_any_text_is_a_number_or_a_config_error(text: str) -> None:
    try:
        Expressions({}).value(text, of="test")
    except ConfigError:
        pass


def test_symbols_that_refer_to_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="A -> B -> A"):
        Expressions({"A": "B + 1", "B": "A"}).value("A", of="test")


class Counted(dict[str, int | str]):
    """Symbols that count how often one is looked up."""

    looked_up = 0

    def __getitem__(self, name: str) -> int | str:
        self.looked_up += 1
        return super().__getitem__(name)


def test_a_macro_is_evaluated_once_however_often_it_is_said() -> None:
    symbols = Counted({f"A{n}": f"A{n + 1} + A{n + 1}" for n in range(18)} | {"A18": 1})
    expressions = Expressions(symbols)
    assert expressions.value("A0 + A0", of="test") == 1 << 19
    assert expressions.value("A0", of="another") == 1 << 18
    assert symbols.looked_up == 19


def test_macros_that_go_on_and_on_are_refused_with_the_first_of_them() -> None:
    symbols: dict[str, int | str] = {f"A{n}": f"A{n + 1}" for n in range(5000)} | {"A5000": 1}
    assert Expressions(symbols).value("A4990", of="test") == 1
    with pytest.raises(ConfigError, match=r"^test: A0 goes through more than 64 macros") as refused:
        Expressions(symbols).value("A0", of="test")
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("number", [10**300, -(10**300), 1 << 64], ids=["huge", "negative", "65 bits"])
def test_a_number_that_no_machine_has_is_refused_in_few_words(number: int) -> None:
    for said in ("A", number):
        with pytest.raises(ConfigError, match=r"a number of \d+ bits does not fit in 64 bits") as refused:
            Expressions({"A": number}).value(said, of="test")
        assert len(str(refused.value)) < 100


def test_numbers_keep_their_c_suffixes() -> None:
    assert Expressions({}).value("(0x10UL + 2u) << 1", of="test") == 36


def test_keys_become_the_macros_of_mbeds_configuration() -> None:
    assert macro_name("update-client.storage-address") == "MBED_CONF_UPDATE_CLIENT_STORAGE_ADDRESS"
    assert macro_name("flash-size") == "MBED_CONF_APP_FLASH_SIZE"


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the vendor's sample configurations are not on this machine")
@pytest.mark.parametrize(("target", "geometry"), [("K64F", K64F), ("NUCLEO_F429ZI", F429ZI)])
def test_the_vendors_example_configuration_is_understood(target: str, geometry: FlashGeometry) -> None:
    written = json.loads((SAMPLES / "pelion-ready-example.mbed_app.json").read_text())
    layout = FlashLayout.from_mbed_app(written, target, geometry)
    assert (layout.header_offset, layout.app_offset, layout.candidate_on) == (0x10000, 0x10400, "SD")
    assert layout.sotp[1].end == geometry.size
    assert dataclasses.replace(layout) == layout
