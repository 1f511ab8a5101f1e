"""`pdmlab layout` says and draws where things lie, and ends with 1 where they cannot lie so."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from pdmlab.cli import main


def test_a_boards_own_layout_is_said_and_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    result = CliRunner().invoke(main, ["layout", "-t", "K64F", "-o", str(picture)])
    assert result.exit_code == 0, result.output
    assert "FLASHIAP  0x00010000..0x00010400        1,024 B  header" in result.output
    assert "SD        0x04000000..0x04200000    2,097,152 B  candidate" in result.output
    assert picture.read_text().startswith("<?xml")


def test_a_file_that_contradicts_itself_ends_with_1_and_says_why(tmp_path: Path) -> None:
    file = tmp_path / "mbed_app.json"
    file.write_text(json.dumps({"target_overrides": {"K64F": {"bootloader-size": "0x11000"}}}))
    result = CliRunner().invoke(main, ["layout", str(file), "-t", "K64F"])
    assert result.exit_code == 1
    assert "overlap: bootloader at 0x0..0x11000 and header at 0x10000..0x10400 overlap" in result.output
    assert "hint: move one of them in mbed_app.json" in result.output


def test_what_is_no_configuration_is_refused_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "mbed_app.json"
    for text, words in (
        ("[1", "is no JSON"),
        ("[]", "has no settings by name"),
        ("{}", "no target_overrides for K64F"),
    ):
        file.write_text(text)
        result = CliRunner().invoke(main, ["layout", str(file), "-t", "K64F"])
        assert result.exit_code == 1 and words in result.output, result.output
    file.write_text(json.dumps({"target_overrides": {"K64F": {}}}))
    result = CliRunner().invoke(main, ["layout", str(file), "-t", "K64F", "-o", str(tmp_path / "picture.what")])
    assert result.exit_code == 1 and "name a .svg, .png or .pdf" in result.output


def test_what_is_said_names_the_file_that_was_read_and_what_offsets_count_from(tmp_path: Path) -> None:
    file = tmp_path / "mbed_lib.json"
    file.write_text(json.dumps({"name": "device-management", "config": {}}))
    result = CliRunner().invoke(main, ["layout", str(file), "-t", "K64F"])
    assert result.exit_code == 1 and "mbed_lib.json has no target_overrides for K64F" in result.output
    result = CliRunner().invoke(main, ["layout", "-t", "NUCLEO_F429ZI"])
    assert "flash at 0x08000000; offsets count from there" in result.output


def test_a_hostile_file_is_read_at_once_and_said_in_few_words(tmp_path: Path) -> None:
    file, picture = tmp_path / "mbed_app.json", tmp_path / "picture.png"
    # Without a memo its value takes 2 ** 60 additions.
    macros = [f"A{n}=A{n + 1}+A{n + 1}" for n in range(60)] + ["A60=0"]
    for settings, words in (
        ({"update-client.storage-address": "A0"}, "SD        0x00000000..0x08000000"),
        ({"update-client.storage-size": 10**300, "target.app_offset": -(10**300)}, "does not fit in 64 bits"),
    ):
        file.write_text(json.dumps({"target_overrides": {"K64F": settings}, "macros": macros}))
        result = CliRunner().invoke(main, ["layout", str(file), "-t", "K64F", "-o", str(picture)])
        assert words in result.output and len(result.output) < 3000, result.output
        assert f"drawn in {picture}" in result.output
    file.write_bytes(b" " * (1 << 20) + b"{}")
    result = CliRunner().invoke(main, ["layout", str(file), "-t", "K64F"])
    assert result.exit_code == 1 and "has more than 1,048,576 B" in result.output


def test_a_file_for_whatever_board_it_is_built_for_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "mbed_app.json"
    file.write_text(json.dumps({"target_overrides": {"*": {"pdmlab.prefetch": True}}}), encoding="utf-8")
    done = CliRunner().invoke(main, ["layout", str(file), "-t", "K64F"])
    assert done.exit_code == 0, done.output
    assert "application" in done.output
