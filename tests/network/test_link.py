from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import ConfigError
from pdmlab.network.link import Link, bearers, bearers_frame, pipes
from pdmlab.network.stacks import TcpStack
from pdmlab.prng import SplitMix64

BEARERS = ("ethernet", "wifi", "cellular", "lte-m", "nb-iot", "6lowpan", "thread", "wi-sun")
MS = 1_000_000


def test_splitmix64_gives_its_published_numbers() -> None:
    # The first outputs for seed 1234567 of the authors' C code, as other implementations publish them.
    random = SplitMix64(1234567)
    assert [random.next() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_parts_split_off_a_generator_differ_and_draw_nothing_from_it() -> None:
    random = SplitMix64(5)
    up, down = random.split("up"), random.split("down")
    assert up.next() != down.next()
    assert random.next() == SplitMix64(5).next()


@pytest.mark.parametrize("bearer", BEARERS)
def test_every_figure_of_a_bearer_has_a_source_or_says_that_it_has_none(bearer: str) -> None:
    link = Link.of(bearer)
    for figure in ("up", "down", "latency", "jitter", "loss", "mtu", "mss", "receive_buffer", "overhead"):
        assert figure in link.sources
        assert bool(link.sources[figure]) != (figure in link.unsourced)
    assert link.attach_time == sum(step.time for step in link.attach) > 0


def test_a_changed_figure_is_no_longer_credited_to_the_specification() -> None:
    link = Link.of("nb-iot", jitter=5)
    assert link.sources["jitter"] == "set by the caller"
    assert "jitter" in Link.of("nb-iot").unsourced and "jitter" not in link.unsourced
    assert Link.of("nb-iot").estimates == "nb-iot: jitter, call_time" and link.estimates == "nb-iot: call_time"


def test_a_bearer_or_figure_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match="no bearer named 'token ring'") as error:
        Link.of("token ring")
    assert "6lowpan" in str(error.value)
    with pytest.raises(ConfigError, match="a link has no latancy"):
        Link.of("wifi", latancy=3)
    with pytest.raises(ConfigError, match="probability"):
        Link.of("wifi", loss=1.5)


def test_ethernet_serialises_a_full_frame_in_123_microseconds() -> None:
    # 1538 B on the wire (IEEE 802.3: 1500 + 38) at 100 Mbit/s.
    link = Link.of("ethernet")
    assert link.serialisation(1500, link.down) == 123_040


def test_6lowpan_counts_a_fragment_header_and_a_frame_header_for_each_fragment() -> None:
    link = Link.of("6lowpan")
    assert link.frames(80) == (1, 80 + 1 + 52)
    # RFC 4944: 72 B of a 1280 B datagram fit into a fragment (76 less what is no multiple of 8): 18 of them.
    assert link.frames(1280) == (18, 1280 + 4 + 17 * 5 + 18 * 52)


def test_an_ip_datagram_above_the_mtu_pays_for_its_fragments_headers() -> None:
    link = Link.of("ethernet")
    assert link.frames(1500) == (1, 1538)
    assert link.frames(1501) == (2, 1501 + 20 + 2 * 38)


@given(sizes=st.lists(st.integers(40, 1500), min_size=1, max_size=40), bandwidth=st.integers(9600, 10**9))
def test_a_queue_sends_one_packet_after_the_other(sizes: list[int], bandwidth: int) -> None:
    link = Link(down=bandwidth, latency=5 * MS)
    _, down = pipes(link, SplitMix64(0))
    arrivals = [down.send(size, 0) for size in sizes]
    busy = 0
    for size, arrival in zip(sizes, arrivals, strict=True):
        busy += link.serialisation(size, bandwidth)
        assert arrival is not None and busy + link.latency <= arrival <= busy + link.latency + len(sizes)
    assert arrivals == sorted(set(arrivals))


def test_both_directions_of_a_half_duplex_link_share_the_medium() -> None:
    for half, later in ((True, 2), (False, 1)):
        link = Link(up=8000, down=8000, half_duplex=half)
        up, down = pipes(link, SplitMix64(0))
        assert up.send(100, 0) == 100 * MS
        assert down.send(100, 0) == later * 100 * MS


def test_the_sides_of_a_half_duplex_link_take_turns() -> None:
    link = Link(up=8000, down=8000, half_duplex=True)  # a byte a millisecond
    up, down = pipes(link, SplitMix64(0))
    queued = [down.send(100, 0) for _ in range(4)]
    assert queued == [100 * MS, 200 * MS, 300 * MS, 400 * MS]
    assert up.send(10, 150 * MS) == 210 * MS  # after what is on the air, not after all that waits
    assert down.send(100, 160 * MS) == 510 * MS  # which pays for it
    assert up.send(10, 2000 * MS) == 2010 * MS


def test_a_datagram_is_lost_when_any_of_its_fragments_is() -> None:
    link = Link.of("6lowpan", loss=0.02, retries=0)
    _, down = pipes(link, SplitMix64(3))
    for size in (80, 1280):
        before, sent = down.lost, 4000
        for _ in range(sent):
            down.send(size, 0)
        expected = 1 - 0.98 ** link.frames(size)[0]
        assert (down.lost - before) / sent == pytest.approx(expected, abs=0.02)


def test_a_medium_that_repeats_turns_loss_into_time() -> None:
    frame = 1_000_000  # ns on the medium
    link = Link(down=8_000, loss=0.5, retries=3, access=0, backoff=0)
    _, down = pipes(link, SplitMix64(4))
    sent = 4000
    busy = [down.send(1, 0) for _ in range(sent)]
    assert down.lost / sent == pytest.approx(0.5**4, abs=0.01)
    last = max(arrival for arrival in busy if arrival is not None)
    # One to four tries: the mean of a geometric distribution that ends at the fourth.
    assert last / sent / frame == pytest.approx(1 + 0.5 + 0.25 + 0.125, rel=0.03)
    assert down.bytes_on_medium / sent == pytest.approx(1.875, rel=0.03)


def test_each_frame_pays_for_the_channel_and_waits_for_it() -> None:
    # IEEE 802.15.4-2006: 133 B at 250 kbit/s, 1504 us of access, and 0 to 2240 us of backoff.
    link = Link.of("6lowpan", loss=0.0, latency=0)
    assert link.serialisation(80, link.down) == 133 * 32_000 + 1_504_000
    _, down = pipes(link, SplitMix64(2))
    arrivals = [down.send(80, 0) or 0 for _ in range(1000)]
    mean = arrivals[-1] / len(arrivals)
    assert mean == pytest.approx(133 * 32_000 + 1_504_000 + 1_120_000, rel=0.02)


def test_jitter_stays_within_its_bounds_and_may_reorder_only_if_told_so() -> None:
    for in_order in (True, False):
        link = Link(latency=10 * MS, jitter=20 * MS, in_order=in_order)
        _, down = pipes(link, SplitMix64(8))
        arrivals = [down.send(100, 0) or 0 for _ in range(200)]
        assert all(10 * MS <= arrival <= 30 * MS + 200 for arrival in arrivals)
        assert (arrivals == sorted(arrivals)) == in_order


GOOD = """
[mine]
up = { value = 1000, source = "a page" }
down = { value = 1000, source = "a page" }
latency = { value = 5, source = "" }
jitter = { value = 0, source = "a page" }
loss = { value = 0.0, source = "a page" }
mtu = { value = 1500, source = "a page" }
mss = { value = 536, source = "a page" }
receive_buffer = { value = 2144, source = "a page" }
send_buffer = { value = 1072, source = "a page" }
overhead = { value = 0, source = "a page" }
half_duplex = { value = false, source = "a page" }
stack = { value = "lwip", source = "a page" }
call_time = { value = 0, source = "a page" }
attach = [{ name = "scan", time = 7, source = "" }]
"""


def test_bearers_of_ones_own_follow_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    link = bearers(path)["mine"]
    assert (link.name, link.latency, link.attach_time, link.estimates) == ("mine", 5, 7, "mine: latency")
    frame = bearers_frame(path)
    assert list(frame[frame["estimate"]]["figure"]) == ["latency", "attach: scan"]
    assert "<b>estimate</b>" in link._repr_html_() and "SIMULATED" in link._repr_html_()


@pytest.mark.parametrize(
    ("was", "is_", "said"),
    [
        ('up = { value = 1000, source = "a page" }', "", "the bearer mine has no up"),
        ("latency = { value = 5", "latency = { value = -5", "latency of the bearer mine is -5: it cannot be negative"),
        ("mtu = { value = 1500", 'mtu = { value = "1500"', "mtu of the bearer mine is '1500'"),
        ("mtu = { value = 1500", "mtu = { value = true", "mtu of the bearer mine is True"),
        ('overhead = { value = 0, source = "a page" }', "overhead = 0", "overhead of the bearer mine is 0"),
        (
            "latency = ",
            'colour = { value = 1, source = "" }\nlatency = ',
            "the bearer mine has an unknown figure colour",
        ),
        ('value = "lwip"', 'value = "uip"', "no TCP stack named 'uip'"),
        ("time = 7", "time = -7", "the bearer mine: the step 'scan' takes -7: it cannot be negative"),
        ("[mine]", "[mine", "is no TOML"),
    ],
)
def test_a_bad_row_is_refused_by_its_bearer_and_figure(tmp_path: Path, was: str, is_: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    assert was in GOOD
    path.write_text(GOOD.replace(was, is_, 1))
    with pytest.raises(ConfigError) as error:
        bearers(path)
    assert said in str(error.value) and error.value.hint


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read"):
        bearers(tmp_path / "none.toml")


@pytest.mark.parametrize("name", ["lwip", "nanostack", "linux"])
def test_every_figure_of_a_tcp_stack_has_a_source_or_says_that_it_has_none(name: str) -> None:
    stack = TcpStack.of(name)
    assert {field.name for field in fields(stack)} - {"name", "sources"} == set(stack.sources)
    assert stack.unsourced == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"latency": 0.3}, "latency of link ethernet is 0.3"),
        ({"latency": float("inf")}, "latency of link ethernet is inf"),
        ({"jitter": float("nan")}, "jitter of link ethernet is nan"),
        ({"loss": "x"}, "loss of link ethernet is 'x'"),
        ({"loss": True}, "loss of link ethernet is True"),
        ({"up": None}, "up of link ethernet is None"),
        ({"half_duplex": "no"}, "half_duplex of link ethernet is 'no'"),
        ({"attach": 3}, "attach of link ethernet is 3"),
        ({"attach": ("scan",)}, "attach of link ethernet is"),
        ({"ip_header": 2000}, "ip_header of link ethernet is 2000 B"),
        ({"receive_buffer": 1 << 20}, "a window of 1048576 B cannot be offered"),
        ({"mss": 9000}, "segments of 9000 B do not fit into an MTU of 1500 B"),
        ({"frame_payload": 9}, "a frame that holds 9 B"),
        ({"stack": 5}, "stack of link ethernet is 5"),
        ({"name": ""}, "a link is called ''"),
    ],
)
def test_a_callers_figures_are_checked_like_those_of_a_file(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        Link.of("ethernet", **changes)
    assert said in str(error.value) and error.value.hint


def test_whole_numbers_may_come_as_floats_and_from_numpy() -> None:
    link = Link.of("ethernet", latency=3e8, jitter=np.int64(5), loss=np.float64(0.5), mtu=1500.0)
    assert (link.latency, link.jitter, link.loss, link.mtu) == (300_000_000, 5, 0.5, 1500)
    assert {type(value) for value in (link.latency, link.jitter, link.mtu)} == {int} and type(link.loss) is float


@pytest.mark.parametrize(
    ("was", "is_", "said"),
    [
        ('[{ name = "scan", time = 7, source = "" }]', "3", "attach of the bearer mine is 3"),
        ("time = 7", "time = 1.5", "the bearer mine: the step 'scan' takes 1.5"),
        ('name = "scan"', 'name = ""', "the bearer mine: a step is called ''"),
        ("mss = { value = 536", "mss = { value = 9000", "segments of 9000 B do not fit"),
    ],
)
def test_a_file_is_checked_like_a_callers_figures(tmp_path: Path, was: str, is_: str, said: str) -> None:
    assert was in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(was, is_, 1))
    with pytest.raises(ConfigError) as error:
        bearers(path)
    assert said in str(error.value) and "negative" not in str(error.value)


def test_the_hint_for_an_unknown_figure_lists_only_what_may_be_written(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace("latency = ", 'colour = { value = 1, source = "" }\nlatency = ', 1))
    with pytest.raises(ConfigError) as error:
        bearers(path)
    assert error.value.hint is not None
    named = error.value.hint.removeprefix("known are ").split(", ")
    assert "latency" in named and "attach" in named and not {"name", "sources"} & set(named)
