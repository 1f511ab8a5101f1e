"""The network suites print a stock board's lines, and compare every byte."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pdmlab.firmware.corpus import corpus
from pdmlab.firmware.net_suites import RECEIVE_BUFFERS, net_multi, net_single, stress_net_fs
from pdmlab.network.link import Link
from tests.firmware.boards import play

DOWNLOADED = re.compile(r"\[NET-(\d)\] Downloaded: 128\.00KB \((\d+\.\d\d)KB/s, (\d+\.\d\d) secs\)\r\n")
FINISH = re.compile(r"\{\{__testcase_finish;([^;]+);(\d);(\d)\}\}")
ROW = re.compile(r"\{\{pdmlab_row;([^}]+)\}\}")


def rows(text: str) -> list[dict[str, str]]:
    return [dict(pair.split("=") for pair in row.split(",")) for row in ROW.findall(text)]


def test_net_single_downloads_with_each_receive_buffer() -> None:
    text = play(net_single)
    assert FINISH.findall(text) == [
        ("Ethernet network setup", "1", "0"),
        *((f"Ethernet {size:5} buffer", "1", "0") for size in RECEIVE_BUFFERS),
    ]
    assert re.search(r"\[NET\] IP address is '[\d.]+'\r\n\[NET\] MAC address is '[0-9a-f:]{17}'\r\n", text)
    assert [thread for thread, _, _ in DOWNLOADED.findall(text)] == ["0"] * 5
    assert [int(row["receive_buffer_B"]) for row in rows(text)] == list(RECEIVE_BUFFERS)
    assert text.count("[NET-0] Registered socket callback function\r\n") == 5
    assert "[NET-0] Received bytes: 131072, (100.00%, " in text
    assert "{{__timeout;480}}" in text and text.endswith("{{end;success}}\r\n{{__exit;0}}\r\n")


def test_rows_of_downloads_name_the_window_and_the_estimates_behind_their_times() -> None:
    found = rows(play(net_single))
    assert {row["window_B"] for row in found} == {"2144"}
    assert {row["estimates"] for row in found} == {Link.of("ethernet").estimates.replace(",", "%2C")} != {""}


def test_net_multi_downloads_once_twice_and_thrice_at_a_time() -> None:
    text = play(net_multi, bearer="WIFI", before=lambda board: board.network.set_credentials("desk"))
    assert [name for name, _, _ in FINISH.findall(text)] == [
        "WiFi network setup", "WiFi 1 thread", "WiFi 2 threads", "WiFi 3 threads",
    ]  # fmt: skip
    assert sorted(thread for thread, _, _ in DOWNLOADED.findall(text)) == list("111223")
    assert "{{end;success}}" in text


def test_stress_mixes_files_and_downloads() -> None:
    text = play(stress_net_fs)
    names = [name for name, _, _ in FINISH.findall(text)]
    assert [name.rpartition("Ethernet ")[2] for name in names[2:]] == [
        "1 thread, dl, file seq.", "2 threads, dl, 1kb", "3 threads, dl, 256b, 1kb", "4 threads, dl, 1b, 256b, 1kb",
    ]  # fmt: skip
    assert len(DOWNLOADED.findall(text)) == 4
    assert len(re.findall(r"\[FS\] Wrote: ", text)) == 1 + 1 + 2 + 3
    assert "{{end;success}}" in text


def test_a_byte_that_differs_fails_the_case_and_ends_the_suite() -> None:
    text = play(net_single, content=corpus().replace(b"battery", b"battary"))
    assert re.search(r":\d+::FAIL: character mismatch in body.* \(net_suites\.py\)\r\n", text)
    assert FINISH.findall(text) == [("Ethernet network setup", "1", "0"), ("Ethernet   128 buffer", "0", "1")]
    assert "{{end;failure}}" in text


@pytest.mark.parametrize("suite", [net_single, stress_net_fs])
def test_a_board_without_a_network_tries_three_times(suite: Any) -> None:
    def unplug(board: Any) -> None:
        board.network.carrier = False

    text = play(suite, before=unplug)
    assert text.count("[ERROR] Connecting to network. Retrying ") == 2
    assert FINISH.findall(text) == [("Ethernet network setup", "0", "1")]
    assert "{{end;failure}}" in text


def test_the_same_suite_prints_the_same_bytes() -> None:
    assert play(net_multi) == play(net_multi)
