"""A survey shows all that an mbed_app.json says of a flash, and all that is wrong with it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.boards.catalog import boards, find
from pdmlab.errors import ConfigError
from pdmlab.update.areas import Area, FlashGeometry
from pdmlab.update.layout import FlashLayout
from pdmlab.update.layout_settings import survey, survey_config
from pdmlab.update.survey import Survey

K = 1024
K64F = FlashGeometry(0, 1024 * K, ((256, 4 * K),), program_size=8)
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"


def faults(found: Survey) -> list[tuple[str, str, int, int]]:
    return [(fault.kind, fault.words, fault.start, fault.end) for fault in found.faults]


def test_a_bootloader_that_grew_into_sotp_is_said_and_placed() -> None:
    # PelionIoT/mbed-bootloader#1: SOTP begins where a debug build of the bootloader still goes on.
    found = survey_config(
        {
            "bootloader-size": "(40*1024)",
            "target.header_offset": "0xa000",
            "target.app_offset": "0xa400",
            "sotp-section-1-address": "0x8000",
            "sotp-section-1-size": "0x1000",
            "sotp-section-2-address": "0x9000",
            "sotp-section-2-size": "0x1000",
        },
        K64F,
    )
    assert faults(found) == [
        ("overlap", "bootloader at 0x0..0xa000 and SOTP section 1 at 0x8000..0x9000 overlap", 0x8000, 0x9000),
        ("overlap", "bootloader at 0x0..0xa000 and SOTP section 2 at 0x9000..0xa000 overlap", 0x9000, 0xA000),
    ]


def test_sotp_across_sectors_names_the_sector_that_an_erase_would_take() -> None:
    where = {"sotp-section-1-address": "0xfd800", "sotp-section-1-size": "0x1000"}
    found = survey_config({**where, "target.components_add": ["SD"]}, K64F)
    misaligned = [fault for fault in found.faults if fault.kind == "misaligned"]
    assert [(fault.start, fault.end, fault.edge) for fault in misaligned] == [
        (0xFD000, 0xFE000, 0xFD800),
        (0xFE000, 0xFF000, 0xFE800),
        (0xFD000, 0xFE000, 0xFD800),  # the application ends there as well
    ]
    assert "0xfd800 is not the edge of a flash sector" in misaligned[0].words
    assert "0xfd000..0xfe000" in misaligned[0].hint


def test_a_candidate_over_the_application_is_said_where_the_linker_is_told_how_large_that_is() -> None:
    found = survey_config(
        {
            "target.restrict_size": "0x80000",
            "update-client.storage-address": "0x80000",
            "update-client.storage-size": "(256*1024)",
        },
        K64F,
    )
    assert [(fault.kind, fault.start, fault.end) for fault in found.faults] == [("overlap", 0x80000, 0x90400)]


def test_what_cannot_be_read_is_a_fault_and_the_rest_is_shown() -> None:
    found = survey_config(
        {"target.header_offset": "MBED_NOWHERE", "update-client.storage-size": [1], "target.app_offset": "1 / 0"}, K64F
    )
    assert [fault.kind for fault in found.faults] == ["unreadable"] * 3
    assert "nothing says what MBED_NOWHERE is" in found.faults[0].words
    assert found.header == Area("header", 0x10000, 0x400)


def test_contradictions_are_said_with_both_numbers() -> None:
    found = survey_config({"target.header_offset": "0x8000", "update-client.application-details": "0x9000"}, K64F)
    assert found.faults[0].words == "update-client.application-details is 0x9000, but target.header_offset 0x8000"


def test_what_the_file_does_not_place_is_marked_as_assumed() -> None:
    assert survey_config({}, K64F).assumed == ("SOTP section 1", "SOTP section 2", "candidate")
    assert survey_config({"update-client.storage-address": "0x80000"}, K64F).assumed[-1] == "SOTP section 2"


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ({}, []),
        ({"sotp-section-1-address": "0x7e000", "sotp-section-2-address": "0x7f000"}, []),
        ({"sotp-section-1-address": "0x7e000"}, [(0xFF000, 0x100000)]),
        ({"update-client.storage-size": "0x7e000"}, []),
        ({"update-client.storage-size": "0x7f000"}, [(0xFE000, 0xFF000)]),
    ],
)
def test_a_candidate_where_sotp_lies_by_default_is_a_warning_and_no_fault(
    said: dict[str, Any], where: list[tuple[int, int]]
) -> None:
    taken = {"update-client.storage-address": "0x80000", "update-client.storage-size": "0x80000"} if said else {}
    found = survey_config({**taken, **said}, K64F)
    assert [(each.start, each.end) for each in found.warnings] == where
    assert not where or ("root of trust" in found._repr_html_() and found.faults == [])


def test_a_layout_without_faults_is_one_and_one_with_faults_is_none() -> None:
    for row in boards().values():
        found = survey_config(row.settings(), row.geometry(), candidate_on=row.storage, storage_size=row.storage_size)
        assert found.faults == found.warnings == [] and found.areas() == row.layout().areas()


def test_the_picture_in_a_cell_is_to_scale_and_says_what_is_wrong() -> None:
    found = survey_config({"target.components_add": ["SD"], "bootloader-size": "0x12000"}, K64F, storage_size=8 << 20)
    picture = found._repr_html_()
    drawn = re.findall(
        r'<rect x="([\d.]+)" y="\d+" width="([\d.]+)"[^>]* data-area="([^"]+)" data-offset="(\d+)" data-size="(\d+)"',
        picture,
    )
    assert {name: (int(at), int(size)) for _, _, name, at, size in drawn} == {
        area.name: (area.offset, area.size) for _, area in found.placed()
    }
    for x, width, name, at, size in drawn:
        medium = 8 << 20 if name == "candidate" else K64F.size
        assert float(x) == pytest.approx(8 + 904 * int(at) / medium, abs=0.01)
        assert float(width) == pytest.approx(904 * int(size) / medium, abs=0.01)
    assert picture.count('class="b"') == 2 and "overlap" in picture  # with the header, and with the application
    assert found.frame().set_index("area").loc["header", "faults"].startswith("bootloader at 0x0..0x12000 and header")


numbers = st.integers(-(1 << 20), 1 << 22) | st.sampled_from(
    ["0x8000", "(64*1024)", "MBED_ROM_SIZE/2", "x", "", [], None, 1.5]
)
KEYS = [
    "target.header_offset", "target.app_offset", "target.restrict_size", "bootloader-size", "flash-size",
    "update-client.storage-address", "update-client.storage-size", "update-client.application-details",
    "sotp-section-1-address", "sotp-section-1-size", "nvstore.area_2_address", "target.components_add",
    "mbed-bootloader.application-start-address", "target.extra_labels_add", "target.macros_add",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), numbers), st.sampled_from([None, "SD"]))
def test_a_survey_has_faults_exactly_where_there_is_no_layout(said: dict[str, Any], candidate_on: str | None) -> None:
    document = {"target_overrides": {"K64F": said}}
    found = survey(document, "K64F", K64F, candidate_on=candidate_on, storage_size=4 << 20)
    assert str(found) and found._repr_html_() and len(found.frame()) == 6
    try:
        layout = FlashLayout.from_mbed_app(document, "K64F", K64F, candidate_on=candidate_on, storage_size=4 << 20)
    except ConfigError as error:
        assert found.faults and found.faults[0].words == error.message
    else:
        assert found.faults == [] and layout.areas() == found.areas()


NAMES = ["target_overrides", "K64F", "*", "config", "macros", "value"]
anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner),
)


@given(anything)
def test_any_document_is_a_survey_or_a_config_error(document: Any) -> None:
    try:
        survey(document if isinstance(document, dict) else {"target_overrides": document}, "K64F", K64F)
    except ConfigError:
        pass


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the vendor's sample configurations are not on this machine")
def test_the_bootloaders_own_file_gives_all_of_the_second_half_to_the_candidate() -> None:
    row = find("K64F")
    written = json.loads((SAMPLES / "mbed-bootloader.mbed_app.json").read_text())
    found = survey(written, "K64F", row.geometry(), candidate_on=row.storage, storage_size=row.storage_size)
    assert (found.bootloader.end, found.header.offset, found.application.offset) == (0x8000, 0x8000, 0x8400)
    assert found.candidate_on == "FLASHIAP" and found.candidate == Area("candidate", 0x80000, 0x80000)
    # The file has its bootloader do without a root of trust: ours goes before the candidate. The default of an
    # application that is built without sotp keys is in the candidate: that is said.
    assert found.faults == [] and [area.offset for area in found.sotp] == [0x7E000, 0x7F000]
    [warned] = found.warnings
    assert (warned.kind, warned.start, warned.end) == ("warning", 0xFE000, 0x100000)
    assert "warning: candidate at 0x80000..0x100000 takes 0xfe000..0x100000" in str(found)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the vendor's sample configurations are not on this machine")
@pytest.mark.parametrize(
    ("target", "on", "bootloader", "header", "candidate"),
    [("K64F", "SD", 0x8000, 0xA000, 0), ("K66F", "FLASHIAP", 0x8000, 0x8000, 0x100000)],
)
def test_the_clients_example_is_understood(target: str, on: str, bootloader: int, header: int, candidate: int) -> None:
    row = find(target)
    written = json.loads((SAMPLES / "mbed-cloud-client-example.mbed_app.json").read_text())
    found = survey(written, target, row.geometry(), candidate_on=row.storage, storage_size=row.storage_size)
    assert found.faults == []
    assert (found.bootloader.end, found.header.offset, found.candidate_on) == (bootloader, header, on)
    assert found.candidate.offset == candidate
