"""A saved log is a board: it can be read, reset and run as a suite, and says what it cannot do."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import pdmlab
from pdmlab.boards.logs import read_log
from pdmlab.boards.playback import Playback
from pdmlab.boards.replay import ReplayBoard, split
from pdmlab.errors import BoardError, BoardNotFound, ConfigError, ConsoleLost, ConsoleTimeout, FlashFailed
from pdmlab.greentea import run, run_suite

CASE = "SD+FAT 1 file, buff  1024"
SUITE = [
    "Mbed Bootloader", "booting...", "mbed" * 8, "{{__sync;0dd-5ync}}", "{{__version;1.3.0}}", "{{__timeout;300}}",
    "{{__host_test_name;default_auto}}", "{{__testcase_count;1}}", f"{{{{__testcase_name;{CASE}}}}}", "",
    f">>> Running case #1: '{CASE}'...", f"{{{{__testcase_start;{CASE}}}}}",
    '[FS] Wrote: "mbed-file-test-0.txt" 128.00KB (42.00KB/s, 3.05 secs)',
    '[FS] Read : "mbed-file-test-0.txt" 128.00KB (88.94KB/s, 1.44 secs)',
    f"{{{{__testcase_finish;{CASE};1;0}}}}", f">>> '{CASE}': 1 passed, 0 failed", "", "{{__testcase_summary;1;0}}",
    "{{end;success}}", "{{__exit;0}}",
]  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "suite.log"
    path.write_text("".join(f"{line}\r\n" for line in SUITE))
    return path


def htrun(path: Path, *, seconds: float = 0.5, lines: list[str] = SUITE) -> Path:
    path.write_text("".join(f"[{1000 + i * seconds:.2f}][CONN][RXD] {line}\n" for i, line in enumerate(lines)))
    return path


def test_connect_opens_a_log_and_reads_it_to_its_end(log: Path) -> None:
    with pdmlab.connect(f"replay://{log}?pace=0&board=frdm-k64f") as board:
        assert (board.target, board.simulated, board.info.target) == ("K64F", None, "K64F")
        assert board.console.expect("booting")
        assert list(board.console.lines(5))[-1] == "{{__exit;0}}"
        with pytest.raises(ConsoleLost, match=r"suite.log of K64F ends here, after 20 lines\nhint: board.reset\(\)"):
            board.console.read_line(5)
        assert len(board.console.transcript) == 20
    with pytest.raises(BoardError, match="is closed"):
        board.reset()


def test_a_log_of_no_known_board_is_not_called_its_own(log: Path) -> None:
    with ReplayBoard(log, pace=0) as board:
        assert list(board.console.lines(5))
        with pytest.raises(ConsoleLost, match=r"suite.log ends here, after 20 lines"):
            board.console.read_line(5)


def test_a_reset_plays_the_log_again(log: Path) -> None:
    with ReplayBoard(log, pace=0) as board:
        for _ in range(3):
            board.reset()
            assert board.console.expect("Mbed Bootloader")
            assert board.console.expect("booting")


def test_a_suite_runs_over_its_log_with_a_sync_of_todays(log: Path) -> None:
    with pdmlab.connect(f"replay://{log}?pace=0&board=K64F") as board:
        for _ in range(2):
            result = run_suite(board, "fs-single")
            assert result.ok, result
            assert result.cases[["case", "result"]].to_numpy().tolist() == [[CASE, "OK"]]
            assert result.rows["operation"].to_list() == ["write", "read"]
            assert result.rows["simulated"].isna().all() and set(result.rows["clock"]) == {"device"}
            assert result.transcript is not None and result.transcript["text"].iloc[-1] == "{{__exit;0}}"
            assert list(result.transcript["direction"]).count("host") == 2  # wake-up and sync


def test_the_times_of_a_log_are_those_of_its_cases(tmp_path: Path) -> None:
    with ReplayBoard(htrun(tmp_path / "a.log"), pace=0, target="K64F") as board:
        result = run_suite(board, "fs-single")
    assert result.ok and result.cases.loc[0, "host_s"] == 1.5  # three lines later
    assert result.transcript is not None
    assert result.transcript["time"].iloc[-1].timestamp() == pytest.approx(1000 + 0.5 * (len(SUITE) - 1))


def test_host_tests_stay_silent_over_a_log(tmp_path: Path) -> None:
    lines = [line.replace("default_auto", "sdk_host_tests") for line in SUITE]
    lines[11:11] = ["{{device_booted;1}}", "{{__sync;an0ther}}", "{{verify_identity;1}}"]
    with ReplayBoard(htrun(tmp_path / "a.log", lines=lines), pace=0) as board:
        result = run(board, "connect")  # and it needs no service
    assert result.ok, result


def test_a_log_that_breaks_off_ends_the_suite_with_what_there_is(log: Path) -> None:
    log.write_text("\n".join(SUITE[:13]))
    with ReplayBoard(log, pace=0) as board:
        result = run_suite(board, "fs-single")
    assert result.result == "IOERR_SERIAL" and "ends here, after 13 lines" in result.reason
    assert len(result.rows) == 1 and result.cases.loc[0, "result"] == "ERROR"


def test_a_log_without_a_handshake_gives_its_rows_too(log: Path) -> None:
    log.write_text("\n".join(SUITE[10:14]))
    with ReplayBoard(log, pace=0) as board:
        result = run_suite(board, "fs-single")
    assert result.result == "IOERR_SERIAL"
    assert result.rows["buffer_B"].to_list() == [1024, 1024]


def test_a_newer_htrun_that_shows_key_values_late_gives_the_same_rows(tmp_path: Path) -> None:
    texts = [line for line in SUITE if not line.startswith("{{")]
    values = [line for line in SUITE if line.startswith("{{")]
    sync, rest = values[:4], values[4:]
    lines = [
        *(f"[1.00][CONN][RXD] {line}" for line in texts[:3]),
        *(
            f"[1.01][CONN][INF] found {'SYNC' if 'sync' in line else 'KV pair'} in stream: {line}, queued..."
            for line in sync
        ),
        *(f"[2.00][CONN][RXD] {line}" for line in texts[3:]),
        *(f"[2.01][CONN][INF] found KV pair in stream: {line}, queued..." for line in rest),
    ]
    (tmp_path / "a.log").write_text("\n".join(lines))
    with ReplayBoard(tmp_path / "a.log", pace=0) as board:
        result = run_suite(board, "fs-single")
    assert result.ok, result
    assert result.rows["case"].to_list() == [CASE, CASE] and result.rows["buffer_B"].to_list() == [1024, 1024]


def test_lines_come_at_the_pace_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked against a clock that the test moves: nothing here waits."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    playback = Playback(read_log(htrun(tmp_path / "a.log", seconds=2.0, lines=["a", "b", "c"])), pace=4.0)

    def due() -> list[str]:
        said = []
        while (played := playback.next(0)) is not None:
            said.append(played.text)
        return said

    assert due() == ["a"]
    now[0] += 0.49
    assert due() == []
    now[0] += 0.02
    assert due() == ["b"] and not playback.ended
    now[0] += 10
    assert due() == ["c"]
    assert playback.next(0) is None


def test_after_a_reset_the_log_waits_for_a_sync_and_goes_on_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    playback = Playback(
        read_log(htrun(tmp_path / "a.log", lines=["boot", "{{__sync;old}}", "on"], seconds=0.0)), pace=1
    )
    playback.restart()
    assert [played.text for _ in range(2) if (played := playback.next(0))] == ["boot"]
    playback.hear("mbedmbed{{__sy")
    assert playback.next(0) is None
    playback.hear("nc;new}}\n")
    assert [played.text for _ in range(3) if (played := playback.next(0))] == ["{{__sync;new}}", "on"]
    playback.restart()
    assert [played.text for _ in range(2) if (played := playback.next(0))] == ["boot"]
    now[0] += 11
    assert [played.text for _ in range(3) if (played := playback.next(0))] == ["{{__sync;old}}", "on"]


def test_a_host_that_syncs_early_is_not_kept_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    playback = Playback(
        read_log(htrun(tmp_path / "a.log", lines=["boot", "{{__sync;old}}", "on"], seconds=60.0)), pace=1
    )
    playback.restart()
    playback.hear("{{__sync;new}}")
    assert [played.text for _ in range(3) if (played := playback.next(0))] == ["boot", "{{__sync;new}}"]
    now[0] += 60
    assert playback.next(0) is not None


def test_a_log_says_what_it_cannot_do(log: Path) -> None:
    with ReplayBoard(log, pace=0) as board:
        with pytest.raises(FlashFailed, match=r"cannot be flashed\nhint: connect to the board itself"):
            board.flash(b"")
        assert board.target == "unknown" and "add ?board=K64F" in board._repr_html_()
        assert not hasattr(board, "run") and "the log does not say" in board._repr_html_()
        assert repr(board).startswith("<board unknown, recorded in <log suite.log, plain text, 20 lines")
        with pytest.raises(AttributeError, match=r"suite.log, has no 'storage': only a virtual board .* sim://K64F"):
            _ = board.storage
        with pytest.raises(AttributeError, match=r"'ReplayBoard' object has no attribute 'colour'"):
            _ = board.colour
        with board.scratch(seed=1) as same:
            assert same is board
        with pytest.raises(ConsoleTimeout):
            board.reset()
            board.console.expect("never", timeout=0.01)


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("replay://", ConfigError, "names no log"),
        ("replay://?pace=0", ConfigError, "names no log"),
        ("replay://x.log?pace=fast", ConfigError, r"pace in .* is 'fast'\nhint: 1 as recorded"),
        ("replay://x.log?pace=-1", ConfigError, "pace in"),
        ("replay://x.log?pace=inf", ConfigError, "pace in"),
        ("replay://x.log?seed=1", ConfigError, "a replay has no seed"),
        ("replay://x.log?pace=1&pace=2", ConfigError, "says something twice"),
        ("replay://no-such.log", BoardNotFound, "there is no log no-such.log"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pdmlab.connect(url)


def test_a_board_that_is_not_in_the_catalogue_is_refused(log: Path) -> None:
    with pytest.raises(BoardNotFound, match="no board 'K99F'"):
        pdmlab.connect(f"replay://{log}?board=K99F")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("replay://a.log", "a.log"),
        ("replay://logs/A b.log?pace=1", "logs/A b.log"),
        ("replay:///tmp/a%3F%20b.log", "/tmp/a? b.log"),
        ("replay:///C:/logs/a.log", "C:/logs/a.log"),
        ("replay://~/a.log", str(Path.home() / "a.log")),
    ],
)
def test_files_are_named_as_people_name_them(url: str, path: str) -> None:
    assert split(url)[0] == Path(path)


@pytest.mark.parametrize("name", ["saved.parquet", "saved.csv", "saved.log"])
def test_what_a_console_saves_can_be_replayed(log: Path, tmp_path: Path, name: str) -> None:
    with ReplayBoard(log, pace=0) as board:
        assert list(board.console.lines(5)) == SUITE
        board.console.write_line("hello")
        path = board.console.save(tmp_path / name)
    assert path == tmp_path / name
    assert [(line.text, line.direction) for line in read_log(path).lines] == [
        *((line, "board") for line in SUITE), ("hello", "host"),
    ]  # fmt: skip
    with ReplayBoard(path, pace=0) as again:
        assert run_suite(again, "fs-single").ok
    with pytest.raises(BoardError, match=r"cannot be written: .*\nhint: is there such a folder"):
        board.console.save(tmp_path / "no" / f"folder{path.suffix}")
    (tmp_path / f"full{path.suffix}").symlink_to("/dev/full")
    with pytest.raises(BoardError, match=r"cannot be written: .*\nhint: the disk is full"):
        board.console.save(tmp_path / f"full{path.suffix}")
