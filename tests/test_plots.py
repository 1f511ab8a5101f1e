"""Figures say their units, their clock, and that they are simulated; nothing is drawn that is not in the frame."""

from itertools import pairwise

import matplotlib

matplotlib.use("Agg")

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from pdmlab import plots
from pdmlab.capture import Event, LoggedMessage, MessageLog
from pdmlab.frames import Schema, to_frame


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def frame_of(*rows, factors=("buffer_B", "bus_Hz")):
    whole = [{"run": "r", "board": "K64F", "simulated": True, "clock": "device", "repeat": 0, **row} for row in rows]
    return to_frame(Schema.from_rows(list(factors), whole[0]), whole)


ROWS = frame_of(
    *(
        {"buffer_B": buffer, "bus_Hz": bus, "throughput_kBps": bus * buffer / 1e8}
        for buffer in (64, 1024)
        for bus in (1_000_000, 25_000_000)
    )
)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_lines_are_labelled_from_the_schema_and_say_simulated():
    ax = plots.lines(ROWS, "buffer_B", "throughput_kBps", by="bus_Hz", title="write")
    assert ax.get_ylabel() == "throughput (kB/s)" and ax.get_xlabel() == "buffer"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["64 B", "1 KiB"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["bus 1 MHz", "bus 25 MHz"]
    assert "SIMULATED, device clock" in texts(ax)


def test_a_measured_figure_does_not_say_simulated():
    ax = plots.lines(ROWS.assign(simulated=False, clock="host"), "buffer_B", "throughput_kBps")
    assert "host clock" in texts(ax)


def test_a_figure_of_a_board_of_which_nobody_knows_says_so():
    for unknown in (pd.array([None] * len(ROWS), dtype="boolean"), [None] * len(ROWS)):
        ax = plots.lines(ROWS.assign(simulated=unknown), "buffer_B", "throughput_kBps")
        assert "not known whether simulated, device clock" in texts(ax)


def test_estimates_stand_once_under_a_figure_whose_rows_hang_on_them():
    def footnote(*frames):
        _, axes = plt.subplots(1, 2, layout="constrained")
        for ax, frame in zip(axes, frames, strict=False):
            plots.lines(frame, "buffer_B", "throughput_kBps", ax=ax)
        label = axes[0].figure._supxlabel
        return label.get_text().replace("\n", " ") if label is not None else ""

    sourced, one = ROWS.assign(estimates=""), ROWS.assign(estimates="SDHC: stall; MK64FN1M0VLL12: call, byte")
    assert footnote(ROWS, sourced) == ""
    assert footnote(one, one).endswith("for: SDHC: stall; MK64FN1M0VLL12: call, byte")
    other = ROWS.assign(estimates="SDHC: program, stall")
    assert footnote(one, other).endswith("for: SDHC: stall, program; MK64FN1M0VLL12: call, byte")
    mixed = pd.concat([one, sourced, ROWS.assign(estimates=None)])
    assert footnote(mixed).endswith("MK64FN1M0VLL12: call, byte")


def test_words_keep_their_order_and_stand_alone_in_a_legend():
    rows = frame_of({"buffer_B": 1, "bearer": "wifi", "m": 1}, {"buffer_B": 1, "bearer": "ethernet", "m": 2})
    ax = plots.points(rows, "buffer_B", "m", by="bearer", diagonal="the bound")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["wifi", "ethernet", "the bound"]


def test_a_bound_is_dashed_in_its_own_lines_colour():
    rows = frame_of(*({"buffer_B": n, "m": n, "limit_B": 2 * n} for n in (1, 2)))
    ax = plots.lines(rows, "buffer_B", "m", bound="limit_B")
    measured, limit = ax.get_lines()[:2]
    assert limit.get_linestyle() == "--" and limit.get_color() == measured.get_color()
    assert list(limit.get_ydata()) == [2, 4]


def test_repeats_are_a_band():
    rows = frame_of({"buffer_B": 1, "m": 1.0}, {"buffer_B": 1, "m": 3.0}, {"buffer_B": 2, "m": 2.0})
    ax = plots.lines(rows, "buffer_B", "m")
    assert len(ax.collections) == 1 and list(ax.get_lines()[0].get_ydata()) == [2.0, 2.0]


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("buffer_B", 64, "64 B"), ("buffer_B", 4096, "4 KiB"), ("bus_Hz", 4_000_000, "4 MHz"), ("bus_Hz", 50, "50 Hz"),
        ("round_trip_ms", 20, "20 ms"), ("cut", 7, "7"), ("bearer", "6lowpan", "6lowpan"), ("simulated", True, "True"),
    ],
)  # fmt: skip
def test_a_value_is_shown_with_its_unit(column, value, text):
    assert plots.shown(column, value) == text


def test_a_timeline_has_a_bar_a_step_with_its_milliseconds():
    rows = pd.DataFrame({"step": ["boot", "link"], "start_ms": [0.0, 110.0], "duration_ms": [110.0, 2000.0]})
    ax = plots.timeline(rows.assign(simulated=True, clock="device"))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["boot", "link"]
    assert " 2,000 ms" in texts(ax) and ax.get_xlabel() == "time since reset (ms)"


def test_notifications_are_marked_by_the_rule_that_fired():
    rows = pd.DataFrame(
        {"time_s": [0, 1, 2], "value": [20, 21, 22], "known": [20, 20, 22], "told": [True, False, True],
         "reason": ["observe", "", "st"], "simulated": True, "clock": "device"}
    )  # fmt: skip
    ax = plots.notifications(rows, ylabel="temperature (°C)", gt=21.5)
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "st (1)" in shown and "observe (1)" in shown and not [text for text in shown if text.startswith("pmax")]
    assert " gt=21.5" in texts(ax) and ax.get_ylabel() == "temperature (°C)"


def message(number, endpoint, direction, code, path="", payload=0, type="CON", **more):
    return LoggedMessage(
        number=number, time_ns=1_000_000 * number, clock="host", endpoint=endpoint, device="", name="",
        direction=direction, scheme="coaps+tcp", peer="127.0.0.1:1", type=type, code=code, mid=number, token="aa",
        path=path, query="?ep=x" if path == "/rd" else "", options=more.pop("options", ""), payload_B=payload,
        payload=more.pop("payload_words", ""), **more,
    )  # fmt: skip


def test_a_sequence_has_a_lane_a_server_and_a_line_a_message():
    log = pd.DataFrame(
        [
            message(5, "bootstrap", "in", "POST", "/bs"),
            message(7, "lwm2m", "in", "POST", "/rd", 512, options="Content-Format 40, Block1 1/1/512 (block 2)"),
            message(9, "lwm2m", "out", "2.01 Created", "/rd", type="ACK"),
        ]
    )
    shown = texts(plots.sequence(log.assign(simulated=True)))
    assert [text for text in shown if text in ("board", "bootstrap", "lwm2m")] == ["board", "bootstrap", "lwm2m"]
    wanted = {"CON POST /rd?ep=x  block 2  512 B", "ACK 2.01 Created /rd", "0.0", "4.0", "SIMULATED, host clock"}
    assert wanted <= set(shown)


@pytest.mark.parametrize(
    ("code", "options", "shown"),
    [
        ("PUT", "Size1 1266, Block1 0/1/512 (block 1 of about 3)", "  block 1 of about 3"),
        ("PUT", "Block1 2/0/512 (block 3, the last), Max-Age 0", "  block 3, the last"),
        ("PUT", "Block1 0/0/512", ""),
        ("2.31 Continue", "Max-Age 0, Block1 1/1/512", ""),
        ("2.05 Content", "Block1 0/0/64, Block2 1/1/512 (block 2)", "  block 2"),
        ("GET", "Block2 3/0/512", "  block 4"),
    ],
)
def test_a_sequence_counts_blocks_as_the_log_does(code, options, shown):
    log = pd.DataFrame([message(1, "lwm2m", "out", code, "/0", 87, options=options)])
    assert f"CON {code} /0{shown}  87 B" in texts(plots.sequence(log.assign(simulated=True)))


def test_a_sequence_says_where_there_was_no_message_for_long():
    def since(first_ms, second_ms):
        rows = [message(first_ms, "lwm2m", "in", "POST", "/rd"), message(second_ms, "lwm2m", "out", "GET", "/3/0/0")]
        ax = plots.sequence(pd.DataFrame(rows).assign(simulated=True))
        return [text for text in texts(ax) if "without a message" in text]

    assert since(1, 1000) == []
    assert since(1, 12_001) == ["⋮  12 s without a message at the service"]


def test_a_sequence_has_the_colours_of_the_log_s_table():
    log = MessageLog()
    tap = log.of("lwm2m")
    peer = ("127.0.0.1", 5683)
    tap("in", peer, bytes.fromhex("40010001b16133"), 1)
    tap("out", peer, bytes.fromhex("40010002b16134"), 2)
    tap.event(peer, Event("closed", ""), 3)
    ax = plots.sequence(log.frame().assign(simulated=True))
    colours = [str(text.get_color()) for text in ax.texts if text.get_text().startswith(("CON", "UDP"))]
    assert len(set(colours)) == 3
    assert all(colour in log._repr_html_() for colour in colours)


def test_a_sequence_shows_handshakes_as_one_bar_what_was_sent_again_and_what_failed():
    log = pd.DataFrame(
        [
            message(1, "lwm2m", "", "handshake started", type="TLS"),
            message(2, "lwm2m", "", "step", type="TLS"),
            message(51, "lwm2m", "", "handshake completed", type="TLS", options="full", payload_words="CCM8, x of y"),
            message(52, "lwm2m", "out", "GET", "/3/0/0", transmission=2, transmissions=2, outcome="never acknowledged"),
            message(53, "lwm2m", "in", "acknowledged", type="ACK"),
            message(60, "lwm2m", "", "gave up", type="TLS", payload_words="GET was not acknowledged"),
            message(70, "lwm2m", "", "handshake failed", type="TLS", options="unknown CA"),
            message(80, "lwm2m", "", "closed", type="TLS"),
        ]
    )
    shown = texts(plots.sequence(log.assign(simulated=True)))
    for text in (
        "TLS handshake (50 ms at the service): CCM8, full", "CON GET /3/0/0  (again, 2)", "✗", "ACK",
        "GET was not acknowledged", "TLS handshake: failed, unknown CA", "TLS closed", "0.0", "51.0",
    ):  # fmt: skip
        assert text in shown
    assert not [text for text in shown if "step" in text]


def test_an_empty_log_is_an_empty_figure():
    assert plots.sequence(pd.DataFrame(columns=["time_ns", "endpoint", "simulated", "clock"])) is not None


def test_a_transcript_has_two_lanes_and_says_how_much_it_leaves_out():
    times = pd.to_datetime([0.0, 0.5, 1.0], unit="s", utc=True)
    rows = pd.DataFrame({"time": times, "direction": ["host", "board", "board"], "text": ["a", "b", "c" * 90]})
    shown = texts(plots.lanes(rows, simulated=True, most=2))
    assert {"host", "board", "0.500", "… and 1 more", "SIMULATED, host clock"} <= set(shown)
    assert not plots.lanes(rows.iloc[:0], simulated=False).lines[1:]


def test_strips_colour_each_cell_by_its_word():
    rows = pd.DataFrame({"cut": [1, 3, 5], "end": ["1.0.0", "2.0.0", "2.0.0"], "simulated": True, "clock": "device"})
    ax = plots.strips(rows, "cut", {"end": "runs"}, colours={"1.0.0": "blue", "2.0.0": "green"}, xlabel="operation")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1.0.0", "2.0.0"]
    assert ax.get_xlim() == (1, 7) and ax.get_xlabel() == "operation"


def test_regions_are_drawn_to_scale_with_hexadecimal_addresses():
    ax = plots.regions([("bootloader", 0, 0x8000, "4.0"), ("application", 0x10000, 0x80000, "1.0.0")], size=0x100000)
    assert ax.get_xlim() == (0, 0x100000) and "application\n1.0.0" in texts(ax) and "SIMULATED" not in texts(ax)


def test_labels_of_regions_lie_apart_and_in_the_figure():
    ends = [("a", 0, 8, ""), ("b", 8, 8, ""), ("c", 16, 968, ""), ("d", 984, 8, ""), ("e", 992, 8, "")]
    ax = plots.regions(ends, size=1000, simulated=True)
    places = [text.get_position()[0] for text in ax.texts if text.get_text() != "SIMULATED"]
    assert places[0] >= 50 and places[-1] <= 950
    assert all(b - a >= 100 for a, b in pairwise(places))
    assert "SIMULATED" in texts(ax)
