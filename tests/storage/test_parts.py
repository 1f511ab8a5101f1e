"""Parts: every figure with its source, sizes that go together, and rows that cannot be named for what they are."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pdmlab.boards import catalog
from pdmlab.errors import ConfigError
from pdmlab.storage.figures import MEANINGS, SET_BY_CALLER, meaning, shown
from pdmlab.storage.parts import Part, load_parts, part, part_from, parts, parts_frame

ALL = list(parts().values())
OWN = [row for row in ALL if row.kind == "internal"]


def each(rows):
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


def good(kind: str) -> dict[str, Any]:
    """A row of that kind to spoil."""
    return copy.deepcopy(next(row for row in ALL if row.kind == kind).row)


def test_the_parts_that_boards_carry_are_there() -> None:
    names = {kind: {row.name for row in ALL if row.kind == kind} for kind in MEANINGS}
    assert len(names["sd"]) >= 3
    assert names["nor"] >= {"MX25R6435F", "MX25L51245G", "N25Q128A", "W25Q64JV", "S25FL128S"}
    assert {row["page"] for row in ALL if row.kind == "dataflash"} == {264, 528}
    assert {each for row in OWN for _, each in row.sectors} >= {
        0x800,
        0x1000,
        0x4000,
        0x8000,
        0x10000,
        0x20000,
        0x40000,
    }


@each(ALL)
def test_every_figure_has_a_source_or_is_named_as_an_estimate(row: Part) -> None:
    assert set(row.sources) == set(row.figures) | ({"sectors"} if row.sectors else set())
    assert {name for name, source in row.sources.items() if not source} == set(row.unsourced)
    for name, figure in row.figures.items():
        # "recalled" says that a source was not opened again: an estimate has none that could be.
        assert figure.source or not figure.note.startswith("recalled"), name
        assert figure.source == figure.source.strip()
    assert "" not in (row.title, row.name)


@each(ALL)
def test_typical_figures_are_no_more_than_their_maxima(row: Part) -> None:
    for name in row.figures:
        assert 0 <= row[name] <= row.maximum(name), name


@each([row for row in ALL if row.kind != "sd"])
def test_units_divide_what_is_erased_and_that_divides_the_part(row: Part) -> None:
    unit = row["unit" if row.kind == "internal" else "page"]
    sizes = list(row.erases)
    assert sizes == sorted(sizes)
    for size in sizes:
        assert size % unit == 0 and row[row.erases[size]] > 0
    if row.kind == "nor":
        assert all(larger % smaller == 0 for smaller, larger in pairwise(sizes))
        assert row["capacity"] % sizes[-1] == 0
        assert row["program_byte"] <= row["program"]
        assert row["capacity"] <= 1 << 8 * row["address_bytes"]


@each([row for row in ALL if row.kind in ("nor", "internal")])
def test_a_larger_block_takes_no_longer_for_its_size(row: Part) -> None:
    times = [row[figure] / size for size, figure in row.erases.items()]
    assert row.name == "MX25R6435F_ULP" or times == sorted(times, reverse=True)


def test_32_kib_take_the_ultra_low_power_chip_longer_than_64() -> None:
    row = part("MX25R6435F_ULP", "nor")  # Macronix' data sheet has it so
    assert row["erase_32k"] > row["erase_64k"]


@each(OWN)
def test_an_internal_flash_has_a_time_for_each_of_its_sectors(row: Part) -> None:
    assert set(row.erases) == {size for _, size in row.sectors}
    assert {figure for figure in row.figures if figure.startswith("erase") and figure != "erase_value"} == set(
        row.erases.values()
    )


@pytest.mark.parametrize("target", catalog.boards())
def test_the_flash_of_a_board_is_that_of_its_part(target: str) -> None:
    board = catalog.find(target)
    flash = part(board.flash_part, "internal")
    assert flash.sectors == board.sectors
    assert sum(count * size for count, size in flash.sectors) == board.flash_size
    assert flash["unit"] % board.program_size == 0
    storage = part(board.storage_part, "sd" if board.storage == "SD" else "nor")
    assert board.storage == "SD" or storage["capacity"] == board.storage_size


def test_boards_of_the_same_controller_share_a_part_and_every_internal_part_has_a_board() -> None:
    used = {board.flash_part for board in catalog.boards().values()}
    assert {row.name for row in OWN} - used == {"STM32F767ZI_DUAL"}  # the other setting of the same controller
    assert catalog.find("K64F").flash_part == catalog.find("SDT64B").flash_part


def test_the_two_ways_to_bank_an_f767_are_the_same_flash() -> None:
    sizes = [
        sum(count * size for count, size in part(name, "internal").sectors)
        for name in ("STM32F767ZI", "STM32F767ZI_DUAL")
    ]
    assert sizes == [2 << 20, 2 << 20]


def test_at_the_maximum_times_are_the_maxima_and_sizes_stay() -> None:
    row = part("N25Q128A", "nor")
    slow = row.at("maximum")
    assert (slow["program"], slow["erase_4k"]) == (5_000_000, 800_000_000)
    assert slow.maximum("program") == row.maximum("program")
    assert (slow["page"], slow["max_clock"], slow.sources) == (row["page"], row["max_clock"], row.sources)
    assert row.at("typical") is row and row["program"] == 500_000
    card = part("SDHC", "sd").at("maximum")
    assert card["ncr"] == part("SDHC", "sd")["ncr"]  # a count of bytes, and no time
    with pytest.raises(ConfigError, match="no 'worst' times"):
        row.at("worst")  # type: ignore[arg-type]


def test_a_figure_without_a_maximum_is_its_own() -> None:
    row = part("AT45DB641E", "dataflash")
    assert row.maximum("page_erase") == row["page_erase"] == row.at("maximum")["page_erase"]


def test_changed_figures_say_who_set_them() -> None:
    row = part("SDHC", "sd").with_(program=300_000, stall=(1_000_000, 9_000_000), endurance=5, name="mine")
    assert (row.name, row["program"], row.maximum("program")) == ("mine", 300_000, 300_000)
    assert (row["stall"], row.maximum("stall")) == (1_000_000, 9_000_000)
    assert row.sources["program"] == SET_BY_CALLER
    assert "endurance" in part("SDHC", "sd").unsourced and "endurance" not in row.unsourced
    assert part("SDHC", "sd")["program"] == 4_000_000
    flash = part("K64F", "internal").with_(sectors=[(2, 8192)])
    assert (flash.sectors, flash.sources["sectors"]) == (((2, 8192),), SET_BY_CALLER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"program": -1}, "program is -1 ns"),
        ({"program": (5, 4)}, "typically 5 ns, but 4 ns at most"),
        ({"speed": 1}, "no sd part has a figure 'speed'"),
        ({"capacity": 1000}, "capacity is 1000 B"),
    ],
)
def test_a_change_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        part("SDHC", "sd").with_(**changes)


@pytest.mark.parametrize("kind", MEANINGS)
def test_a_missing_figure_is_named_with_what_it_is(kind: str) -> None:
    for figure, wanted in MEANINGS[kind].items():  # type: ignore[index]
        row = good(kind)
        if not wanted.required:
            continue
        del row[figure]
        with pytest.raises(ConfigError, match=f"mine has no {figure}") as caught:
            part_from(row, "mine")
        assert caught.value.hint and wanted.text in caught.value.hint and wanted.unit in caught.value.hint


@pytest.mark.parametrize("kind", MEANINGS)
def test_a_negative_figure_is_named_with_what_it_must_be(kind: str) -> None:
    for figure in part_from(good(kind), "mine").figures:
        row = good(kind)
        row[figure] = {"value": -5, "source": "a data sheet"}
        with pytest.raises(ConfigError, match=f"mine: {figure} is -5") as caught:
            part_from(row, "mine")
        assert caught.value.hint and "or more" in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "figure", "entry", "message"),
    [
        ("nor", "program", {"value": 0, "source": ""}, "mine: program is 0 ns"),
        ("nor", "program", {"value": 1.5, "source": ""}, r"mine: program is 1\.5"),
        ("nor", "program", {"value": True, "source": ""}, "mine: program is True"),
        ("nor", "program", {"value": "fast", "source": ""}, "mine: program is 'fast'"),
        ("nor", "program", {"typical": 9, "maximum": 8, "source": ""}, "typically 9 ns, but 8 ns at most"),
        ("nor", "program", {"maximum": 8, "source": ""}, "mine: program has maximum"),
        ("nor", "program", {"source": ""}, "mine: program has no number"),
        ("nor", "program", {"value": 1, "source": 3}, "the source of program is 3"),
        ("nor", "program", 500_000, "mine: program is 500000 without a source"),
        ("nor", "dummies", {"value": 1, "source": ""}, "mine: no nor part has a figure 'dummies'"),
        ("nor", "page", {"value": 192, "source": ""}, "a page of 192 B does not divide a sector of 4096 B"),
        ("nor", "capacity", {"value": 65537, "source": ""}, "mine: capacity is 65537 B"),
        ("nor", "sectors", {"value": [[1, 4096]], "source": ""}, "no nor part has a figure 'sectors'"),
        ("internal", "unit", {"value": 3, "source": ""}, "a unit of 3 B does not divide a sector of 4096 B"),
        ("internal", "sectors", None, "mine has no sectors|sectors is None"),
        ("internal", "sectors", {"value": [], "source": ""}, r"mine: sectors is \[\]"),
        ("internal", "sectors", {"value": [[1, -4096]], "source": ""}, r"mine: sectors is \[\[1, -4096\]\]"),
        ("internal", "sectors", {"value": [4096], "source": ""}, r"mine: sectors is \[4096\]"),
        ("internal", "sectors", {"values": [[1, 4096]]}, "mine: sectors is"),
        ("dataflash", "page_binary", {"value": 500, "source": ""}, "page_binary is 500 B"),
        ("dataflash", "page", {"value": 500, "source": ""}, "page_binary is 512 B, page 500 B"),
        ("dataflash", "sector", {"value": 12, "source": ""}, "sector 12 pages"),
        ("sd", "capacity", {"value": 513, "source": ""}, "mine: capacity is 513 B"),
    ],
)
def test_an_impossible_row_is_refused_by_part_and_figure(kind: str, figure: str, entry: Any, message: str) -> None:
    row = good(kind)
    row[figure] = entry
    with pytest.raises(ConfigError, match=message) as caught:
        part_from(row, "mine")
    assert caught.value.hint


def test_a_sector_without_a_time_is_named_with_its_size() -> None:
    row = part("STM32F429ZI", "internal").row
    del row["erase_65536"]
    with pytest.raises(ConfigError, match="mine: no erase_65536"):
        part_from(row, "mine")


def test_a_chip_that_nothing_erases_is_refused() -> None:
    row = {name: entry for name, entry in good("nor").items() if not name.startswith("erase_")}
    with pytest.raises(ConfigError, match="nothing erases it"):
        part_from(row, "mine")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"kind": "eeprom"}, "kind is 'eeprom'"),
        ({}, "kind is None"),
        ({"like": "nothing"}, "like = 'nothing'"),
        (5, "mine is 5, and no row"),
    ],
)
def test_a_row_of_no_kind_is_refused(row: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        part_from(row, "mine")


def test_parts_of_ones_own_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "parts.toml"
    path.write_text(
        """
        [mine]
        like = "SDHC"
        title = "the card on my desk"
        program = { typical = 900_000, maximum = 30_000_000, source = "measured on my desk", note = "at 25 °C" }

        [older]
        like = "mine"
        read_access = { value = 2_000_000, source = "" }
        """,
        encoding="utf-8",
    )
    found = load_parts(path)
    assert list(found) == ["mine", "older"] and "mine" not in parts()
    assert (found["mine"]["program"], found["mine"].maximum("program")) == (900_000, 30_000_000)
    assert found["mine"].figures["program"].note == "at 25 °C"
    assert found["mine"]["stall"] == part("SDHC", "sd")["stall"]
    assert found["older"]["program"] == 900_000 and "read_access" in found["older"].unsourced
    assert part(found["mine"], "sd") is found["mine"]
    with pytest.raises(ConfigError, match="mine is no nor part but sd"):
        part(found["mine"], "nor")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mine\n", "is no TOML"),
        ("mine = 5\n", "mine is 5, and no row"),
        ('[mine]\nlike = "SDHC"\nprogram = { value = -1, source = "" }\n', "mine: program is -1 ns"),
    ],
)
def test_a_bad_file_says_what_and_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_parts(path)
    assert "mine.toml" in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        load_parts(tmp_path / "gone.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.toml"):
        load_parts(tmp_path / "binary.toml")


@each(ALL)
def test_a_part_survives_its_row_its_toml_and_a_process(row: Part, tmp_path: Path) -> None:
    assert part_from(row.row, row.name) == row
    path = tmp_path / "one.toml"
    path.write_text(row.to_toml(), encoding="utf-8")
    assert load_parts(path) == {row.name: row}
    assert pickle.loads(pickle.dumps(row)) == row


def test_a_name_with_quotes_survives_toml(tmp_path: Path) -> None:
    odd = part("SDHC", "sd").with_(name='a "card"\\\n', title="\u00b5SD\t")
    path = tmp_path / "odd.toml"
    path.write_text(odd.to_toml(), encoding="utf-8")
    assert load_parts(path) == {odd.name: odd}


def test_an_unknown_part_or_figure_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no sd part 'SDXC'") as caught:
        part("SDXC", "sd")
    assert "SDHC" in str(caught.value) and "load_parts" in str(caught.value) and "K64F" not in str(caught.value)
    with pytest.raises(ConfigError, match="no part 'SDXC'") as caught:
        part("SDXC")
    assert "SDHC" in str(caught.value) and "K64F" in str(caught.value)
    assert part("K64F") is part("K64F", "internal")
    with pytest.raises(ConfigError, match="SDHC has no figure 'page'") as caught:
        part("SDHC", "sd")["page"]
    assert "read_access" in str(caught.value)
    assert "page" not in part("SDHC", "sd") and "program" in part("SDHC", "sd")


def test_the_frame_has_a_row_for_each_figure() -> None:
    frame = parts_frame()
    assert len(frame) == sum(len(row.figures) for row in ALL)
    assert not frame.duplicated(["part", "figure"]).any()
    assert (frame["estimate"] == (frame["source"] == "")).all()
    assert not (frame["estimate"] & frame["recalled"] & frame["note"].str.startswith("recalled")).any()
    erase = frame.set_index(["part", "figure"]).loc[("N25Q128A", "erase_4k")]
    assert (erase["typical"], erase["maximum"], erase["unit"]) == (250_000_000, 800_000_000, "ns")
    one = parts_frame([part("AT45DB641E", "dataflash")])
    assert set(one["part"]) == {"AT45DB641E"} and one["maximum"].isna().all()


def test_a_part_shows_its_figures_and_their_sources() -> None:
    row = part("STM32F429ZI", "internal").with_(title="<b> & co")
    assert repr(row) == f"<part STM32F429ZI (internal), 1 of {len(row.sources)} figures estimated>"
    html = row._repr_html_()
    assert "&lt;b&gt; &amp; co" in html and "<b>" not in html
    assert "4 x 16 KiB, 1 x 64 KiB, 7 x 128 KiB" in html
    assert "<td>1 s</td><td>2 s</td>" in html and "tERASE128KB" in html
    assert html.count("estimate") == len(row.unsourced)
    assert html.count("<tr") == 1 + len(row.sources)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "ns", "0 ns"),
        (999, "ns", "999 ns"),
        (81_690, "ns", "81.69 µs"),
        (45_000_000_000, "ns", "45 s"),
        (10_000, "ns/KiB", "10 µs/KiB"),
        (528, "B", "528 B"),
        (0x1000000, "B", "16 MiB"),
        (7_950_000_128, "B", "7.40401 GiB"),
        (100_000, "Hz", "100 kHz"),
        (255, "byte value", "0xff"),
        (100_000, "erases", "100000 erases"),
    ],
)
def test_figures_are_shown_as_a_person_writes_them(value: int, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_the_erase_of_a_sector_size_is_a_figure_of_internal_flash_only() -> None:
    found = meaning("internal", "erase_16384")
    assert found and found.text == "erasing a sector of 16 KiB"
    assert meaning("nor", "erase_16384") is None and meaning("internal", "erase_all") is None


def test_a_part_like_no_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[MINE]\nlike = ["SDHC"]\n')
    with pytest.raises(ConfigError, match="no such part comes before it"):
        load_parts(tmp_path / "own.toml")
