"""Saved logs of every form are read as the same conversation."""

from __future__ import annotations

import random
from pathlib import Path

import pandas as pd
import pytest

from pdmlab.boards import logs
from pdmlab.boards.logs import Log, read_log
from pdmlab.errors import BoardNotFound, ConfigError
from pdmlab.sim.board import VirtualBoard

SAID = ["Mbed Bootloader", "", '[FS] Wrote: "a.txt" 1.00KB (2.00KB/s, 0.50 secs)', "{{end;success}}"]


def read(folder: Path, data: str | bytes, name: str = "a.log") -> Log:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_log(path)


def board(log: Log) -> list[str]:
    return [line.text for line in log.lines if line.direction == "board"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_plain_text_is_lines_however_they_end(tmp_path: Path, end: str, encoding: str) -> None:
    log = read(tmp_path, (end.join(SAID) + end).encode(encoding))
    assert (board(log), log.format, log.timed, log.seconds) == (SAID, "plain", False, 0.0)
    assert repr(log) == "<log a.log, plain text, 4 lines of the board>"


def test_bytes_that_are_no_text_are_shown_as_such_and_nothing_is_lost(tmp_path: Path) -> None:
    log = read(tmp_path, b"a\xff\xfeb\n\x00\x0c\x85line\rgoes on\nhalf a li")
    assert board(log) == ["a\ufffd\ufffdb", "\x00\x0c\ufffdline\rgoes on", "half a li"]


@pytest.mark.parametrize(
    ("before", "seconds"),
    [
        (["12:00:00.250 -> ", "12:00:00.500 -> ", "12:00:01.000 -> ", "12:00:02.250 -> "], 2.0),  # Arduino
        (["12:00:00.250 > ", "12:00:00.500 > ", "12:00:01.000 > ", "12:00:02.250 > "], 2.0),  # PlatformIO
        (["[12:00:00.250] ", "[12:00:00.500] ", "[12:00:01.000] ", "[12:00:02.250] "], 2.0),  # tio
        (["[2020-01-02 12:00:00] ", "[2020-01-02 12:00:00] ", "[2020-01-02 12:00:01] ", "[2020-01-02 12:00:02] "], 2.0),
        ([f"2020-01-02T12:00:0{second}Z " for second in ("0.250", "0.500", "1.0", "2.25")], 2.0),
        (["Jan 02 12:00:00 ", "Jan 02 12:00:00 ", "Jan 02 12:00:01 ", "Jan 02 12:00:02 "], 2.0),  # ts
        (["[0.250000 0.250000] ", "[0.500000 0.250000] ", "[1.000000 0.500000] ", "[2.250000 1.250000] "], 2.0),
        (["23:59:59.000 -> ", "23:59:59.500 -> ", "00:00:00.250 -> ", "00:00:01.000 -> "], 2.0),  # over midnight
    ],
)  # fmt: skip
def test_times_that_a_terminal_put_before_lines_are_taken_off_and_kept(
    tmp_path: Path, before: list[str], seconds: float
) -> None:
    log = read(tmp_path, "".join(f"{time}{text}\r\n" for time, text in zip(before, SAID, strict=True)))
    assert (board(log), log.format, log.timed) == (SAID, "timed", True)
    assert log.seconds == pytest.approx(seconds)


def test_a_day_in_the_prefix_makes_the_time_one_since_the_epoch(tmp_path: Path) -> None:
    log = read(tmp_path, "[2020-01-02 12:00:00.5] hello\n")
    assert log.lines[0].time == pd.Timestamp("2020-01-02T12:00:00.5Z").timestamp()


HTRUN_OLD = """\
mbedgt: processing target 'K64F' toolchain 'GCC_ARM' compatible platforms... (note: switch set to --parallel 1)
[1472.00][HTST][INF] host test executor ver. 1.1.6
[1472.50][SERI][TXD] {{__sync;11-22}}
[1472.75][CONN][RXD] {{__sync;11-22}}
[1472.75][CONN][INF] found SYNC in stream: {{__sync;11-22}} it is #0 sent, queued...
[1473.00][CONN][RXD] {{__testcase_start;adds up}}
[1473.00][CONN][INF] found KV pair in stream: {{__testcase_start;adds up}}, queued...
[1473.25][CONN][RXD]
"""
HTRUN_NEW = """\
1: [+10ms][HTST][INF] host test executor ver. 1.8
1: [+20ms][SERI][TXD] {{__sync;11-22}}
1: [+30ms][CONN][INF] found SYNC in stream: {{__sync;11-22}} it is #0 sent, queued...
1: [+1040ms][CONN][INF] found KV pair in stream: {{__testcase_start;adds up}}, queued...
1: [+1050ms][CONN][RXD] hello
"""


def test_the_log_of_htrun_shows_key_values_once(tmp_path: Path) -> None:
    old = read(tmp_path, HTRUN_OLD)
    assert board(old) == ["{{__sync;11-22}}", "{{__testcase_start;adds up}}", ""]
    assert [line.text for line in old.lines if line.direction == "host"] == ["{{__sync;11-22}}"]
    assert (old.format, old.target, old.seconds) == ("htrun", "K64F", 0.75)
    new = read(tmp_path, HTRUN_NEW)
    assert board(new) == ["{{__sync;11-22}}", "{{__testcase_start;adds up}}", "hello"]
    assert new.lines[-1].time == 1.05 and new.target == ""


def test_a_tab_before_htruns_lines_does_no_harm(tmp_path: Path) -> None:
    assert board(read(tmp_path, "".join(f"\t{line}\n" for line in HTRUN_OLD.splitlines())))[0] == "{{__sync;11-22}}"


@pytest.mark.parametrize(
    ("line", "target", "simulated"),
    [
        ("pdmlab: fs-single on SIMULATED K64F …", "K64F", True),
        ("pdmlab: fs-single on K64F …", "K64F", None),
        ("calling mbedhtrun: mbedhtrun -d E: -p COM6:9600 -m DISCO_L475VG_IOT01A -C 4", "DISCO_L475VG_IOT01A", None),
        ("mbedhtrun '-m', 'NO_SUCH_BOARD'", "", None),
        ("{{pdmlab_row;bytes=1,simulated=1}}", "", True),
        ("{{pdmlab_row;bytes=1,simulated=0}}", "", False),
        ("pdmlab idle 1.0.0 (0123abcd) on K64F. Type 'help'.", "K64F", True),
        ("[1.0][CONN][RXD] pdmlab idle 1.0.0 (0123abcd) on NO_SUCH_BOARD. Type 'help'.", "", True),
    ],
)
def test_a_log_may_name_its_board_and_say_that_it_is_simulated(
    tmp_path: Path, line: str, target: str, simulated: bool | None
) -> None:
    log = read(tmp_path, f"{line}\n[FS] x\n")
    assert (log.target, log.simulated) == (target, simulated)


def test_transcripts_are_read_and_other_tables_explained(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "time": pd.to_datetime([1.5, 2.0, 4.0], unit="s", utc=True),
            "direction": ["board", "host", "board"],
            "text": ['one, "two"', "", "NA"],
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    for name in ("a.parquet", "a.csv"):
        log = read_log(tmp_path / name)
        assert [(line.time, line.direction, line.text) for line in log.lines] == [
            (1.5, "board", 'one, "two"'), (2.0, "host", ""), (4.0, "board", "NA"),
        ]  # fmt: skip
        assert (log.format, log.seconds) == ("transcript", 2.5)
    frame.drop(columns="text").to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ConfigError, match=r"no transcript: its columns are time, direction\nhint: .*load_run"):
        read_log(tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_text("x")
    with pytest.raises(ConfigError, match="is no Parquet file"):
        read_log(tmp_path / "c.parquet")
    assert board(read(tmp_path, "a,b\n1,2,3,4\n", "d.csv")) == ["a,b", "1,2,3,4"]  # a capture in a .csv


def test_what_a_virtual_board_says_by_itself_is_recognised_in_every_form_of_log(tmp_path: Path) -> None:
    with VirtualBoard("K64F", id="logged", memory=True) as board:
        assert board.console.expect("Type 'help'")
        for name in ("a.log", "a.csv", "a.parquet"):
            log = read_log(board.console.save(tmp_path / name))
            assert (log.target, log.simulated) == ("K64F", True), name


@pytest.mark.parametrize("name", ["a.log", "a.csv", "a.parquet"])
def test_a_device_that_never_ends_is_refused_without_being_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match=r"cannot be read: it is no file, but a folder, device or pipe"):
        read_log(tmp_path / name)


def test_no_more_is_read_than_a_log_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LARGEST", 4)
    assert board(read(tmp_path, "abc\n")) == ["abc"]
    for name in ("a.log", "a.csv", "a.parquet"):
        with pytest.raises(ConfigError, match="has more than"):
            read(tmp_path, "abcd\n", name)
    monkeypatch.setattr(logs, "_require_file", lambda path: None)  # it has grown since
    with pytest.raises(ConfigError, match="has more than"):
        read(tmp_path, "abcd\n")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (random.Random(1).randbytes(20_000), r"hardly text: \d+ of its \d+ characters .*\nhint: .*baud rate"),
        (bytes(20_000), "holds zeros and no text"),
        (b'<?xml version="1.0"?>\n<svg></svg>\n', "is an XML or HTML document"),
        (b"\n<!DOCTYPE html>\n", "is an XML or HTML document"),
    ],
)
def test_what_is_no_text_or_a_document_is_no_log(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, data)


def test_zeros_after_a_log_and_colours_in_it_are_no_reason_to_refuse_it(tmp_path: Path) -> None:
    assert board(read(tmp_path, b"booting\n" + bytes(100)))[0] == "booting"
    assert board(read(tmp_path, "\x1b[1mü\x1b[0m\n")) == ["\x1b[1mü\x1b[0m"]


@pytest.mark.parametrize(("time", "message"), [("hello", "hello"), ("", "line 1 has no time")])
def test_a_transcript_whose_times_are_none_is_explained(tmp_path: Path, time: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"a.csv is no transcript: .*{message}.*\nhint: its column `time` is as"):
        read(tmp_path, f"time,direction,text\n{time},board,x\n", "a.csv")


def test_what_is_no_log_is_explained(tmp_path: Path) -> None:
    with pytest.raises(BoardNotFound, match="there is no log"):
        read_log(tmp_path / "none.log")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_log(tmp_path)
    with pytest.raises(ConfigError, match="holds no line"):
        read(tmp_path, "")
