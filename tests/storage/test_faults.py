"""Faults of a medium: each breaks what it says, can be mended, and prints a code that breaks it again the same way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.clock import PowerLost, WallClock
from pdmlab.errors import ConfigError
from pdmlab.storage import Medium
from pdmlab.storage.faultcode import BLOCK_FAULTS, BlockFault
from pdmlab.storage.faults import MediumFaults
from pdmlab.storage.medium import MediumFault
from pdmlab.storage.supply import Supply

K = 1024


def broken(medium: Medium, seed: int = 0) -> MediumFaults:
    return MediumFaults.of(medium, seed)


def refused(work: object, *args: object) -> str:
    with pytest.raises(MediumFault) as caught:
        work(*args)  # type: ignore[operator]
    return caught.value.kind


# -- blocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BLOCK_FAULTS)
def test_a_bad_block_fails_as_littlefs_own_emulator_makes_it(kind: BlockFault) -> None:
    medium = Medium(64 * K)
    medium.program(7 * 4096, b"old " * 64)
    broken(medium).bad_block(7, kind)
    at, data = 7 * 4096 + 1024, b"new " * 64
    if kind == "readerror":
        assert refused(medium.read, at, 4) == "read error"
    if kind == "progerror":
        assert refused(medium.program, at, data) == "program error"
        assert medium.peek(at, 256) == b"\xff" * 256
    if kind == "prognoop":
        medium.program(at, data)
        assert medium.read(at, 256) == b"\xff" * 256
    if kind in ("eraseerror", "erasenoop"):
        if kind == "eraseerror":
            assert refused(medium.erase, 7 * 4096, 4096) == "erase error"
        else:
            medium.erase(7 * 4096, 4096)
        assert medium.read(7 * 4096, 4) == b"old "
    else:
        medium.erase(7 * 4096, 4096)
        assert medium.peek(7 * 4096, 4096) == b"\xff" * 4096
    for other in (6 * 4096, 8 * 4096):  # its neighbours are sound
        medium.erase(other, 4096)
        medium.program(other, data)
        assert medium.read(other, 256) == data


def test_a_write_over_several_blocks_leaves_out_the_one_that_does_nothing() -> None:
    medium = Medium(64 * K)
    broken(medium).bad_block(2, "prognoop")
    medium.program(4096, b"x" * 4096 * 3)
    assert medium.read(4096, 3 * 4096) == b"x" * 4096 + b"\xff" * 4096 + b"x" * 4096
    broken(medium).bad_block(3, "erasenoop")
    medium.erase(4096, 3 * 4096)
    assert medium.read(4096, 3 * 4096) == b"\xff" * 8192 + b"x" * 4096


def test_blocks_wear_out_at_their_endurance_more_or_less() -> None:
    lives = []
    for seed in (1, 1, 2):
        medium = Medium(32 * K)
        broken(medium, seed).limit_endurance(100, "eraseerror", spread=30)
        cycles = []
        for block in range(8):
            while True:
                try:
                    medium.erase(4096 * block, 4096)
                except MediumFault as fault:
                    assert (fault.kind, fault.offset) == ("worn out", 4096 * block)
                    break
            cycles.append(medium.wear[4096 * block])
        lives.append(cycles)
    assert lives[0] == lives[1] != lives[2]
    assert all(70 <= cycles <= 130 for cycles in lives[0] + lives[2]) and len(set(lives[0])) > 3


def test_a_card_wears_by_its_programs_and_a_large_sector_as_one() -> None:
    card = Medium(8 * K, erase_value=0)
    card.erase_block = 512
    broken(card).limit_endurance(3)
    for _ in range(3):
        card.program(512, bytes(512))
    assert refused(card.program, 512, bytes(512)) == "worn out"
    card.program(1024, bytes(512))
    flash = Medium(64 * K)
    flash.erase_block = 16 * K
    broken(flash).limit_endurance(2)
    for _ in range(2):
        flash.erase(0, 64 * K)
    assert refused(flash.program, 48 * K, b"x") == "worn out"


def test_endurance_counts_what_was_worn_before() -> None:
    medium = Medium(8 * K)
    for _ in range(5):
        medium.erase(0, 4096)
    broken(medium).limit_endurance(5)
    assert refused(medium.program, 0, b"x") == "worn out"
    medium.program(4096, b"x")


# -- bits --------------------------------------------------------------------------------------------


def test_bits_flip_at_rest_where_and_as_often_as_asked() -> None:
    images = []
    for seed in (5, 5, 6):
        medium = Medium(8 * K)
        broken(medium, seed).flip_bits(3, 0x1200, 512)
        image = medium.peek(0, 8 * K)
        assert bin(int.from_bytes(image, "little")).count("0") - 1 == 3  # less the 0 of "0b"
        assert image[:0x1200] == b"\xff" * 0x1200 and set(image[0x1400:]) == {0xFF}
        images.append(image)
    assert images[0] == images[1] != images[2]


def test_reads_are_wrong_at_about_the_rate_and_right_at_rest() -> None:
    medium = Medium(64 * K)
    broken(medium, 9).flip_reads(1000)
    wrong = sum(byte != 0xFF for _ in range(20) for at in range(0, 64 * K, 256) for byte in medium.read(at, 256))
    assert 1100 < wrong < 1500  # 1311 expected
    assert medium.peek(0, 64 * K) == b"\xff" * 64 * K


# -- the whole part ----------------------------------------------------------------------------------


def test_a_card_is_pulled_in_the_middle_of_a_write_and_comes_back() -> None:
    medium = Medium(8 * K, erase_value=0)
    faults = broken(medium)
    faults.pull_card(after=3)
    faults.seat_card(after=6)
    medium.program(0, b"a" * 512)
    medium.program(512, b"b" * 512)
    medium.require_answer()  # the card is still there between two operations
    medium.require_answer()
    assert refused(medium.program, 1024, b"c" * 512) == "not seated"
    assert medium.peek(1024, 512) == b"c" * 256 + bytes(256)
    assert not medium.seated
    assert refused(medium.read, 0, 512) == "not seated"
    medium.require_answer()  # a look and a refusal count as operations, so that it is back
    assert medium.read(0, 1024) == b"a" * 512 + b"b" * 512
    assert faults.code == "+3:pull!,+6:seat"


def test_a_locked_card_reads_and_refuses_writes() -> None:
    medium = Medium(8 * K, erase_value=0)
    faults = broken(medium)
    faults.lock_card()
    assert medium.read(0, 4) == bytes(4)
    assert refused(medium.program, 0, b"x") == refused(medium.erase, 0, 512) == "write protected"
    faults.unlock_card()
    medium.program(0, b"x")


def test_a_busy_part_says_how_long_and_is_ready_after_that() -> None:
    medium = Medium(8 * K)
    medium.clock = WallClock()
    faults = broken(medium)
    faults.stick_busy(for_s=700)
    with pytest.raises(MediumFault) as caught:
        medium.require_answer()
    assert caught.value.kind == "stuck busy" and caught.value.busy_ns == 700 * 10**9
    medium.clock.charge(400 * 10**9)
    with pytest.raises(MediumFault) as caught:
        medium.read(0, 1)
    assert caught.value.busy_ns is not None and 299 * 10**9 < caught.value.busy_ns <= 300 * 10**9
    medium.clock.charge(300 * 10**9)
    medium.read(0, 1)
    faults.stick_busy()
    with pytest.raises(MediumFault) as caught:
        medium.program(0, b"x")
    assert caught.value.busy_ns is None
    medium.powered = False
    medium.powered = True
    medium.program(0, b"x")


def test_a_part_without_contact_does_not_answer() -> None:
    medium = Medium(8 * K)
    faults = broken(medium)
    faults.lose_contact()
    assert refused(medium.require_answer) == refused(medium.read, 0, 1) == "no answer"
    faults.restore_contact()
    medium.read(0, 1)


# -- cuts of the power -------------------------------------------------------------------------------


def cut(medium: Medium) -> bytes:
    medium.powered = False
    medium.powered = True
    return medium.peek(0, medium.size)


def test_a_cut_tears_the_last_program_unless_it_was_synced() -> None:
    lengths = set()
    for seed in range(20):
        medium = Medium(4 * K, erase_value=0)
        broken(medium, seed).tear_programs()
        medium.program(0, b"a" * 512)
        medium.program(512, b"b" * 512)
        image = cut(medium)
        assert image[:512] == b"a" * 512
        length = image[512:].count(b"b")
        assert image[512:] == b"b" * length + bytes(3584 - length)
        lengths.add(length)
    assert len(lengths) > 10
    medium.program(1024, b"c" * 512)
    medium.sync()
    assert cut(medium)[1024:1536] == b"c" * 512


def test_a_supply_that_fails_in_an_operation_leaves_half_of_it_or_a_prefix_by_chance() -> None:
    lengths = set()
    for seed in range(10):
        medium = Medium(4 * K, name="card", supply=Supply())
        assert medium.supply is not None
        if seed:
            broken(medium, seed).tear_programs()
        medium.supply.writes_left = 1
        medium.program(0, b"a" * 100)
        with pytest.raises(PowerLost):
            medium.program(100, b"b" * 100)
        assert (medium.supply.operations, medium.supply.last) == (2, "program card")
        length = medium.peek(0, 4096).count(b"b")
        assert medium.peek(0, 4096) == b"a" * 100 + b"b" * length + b"\xff" * (3996 - length)
        lengths.add(length)
        if not seed:
            assert length == 50
    assert len(lengths) > 5


def test_a_cut_loses_and_reorders_unsynced_writes_only() -> None:
    images = set()
    for seed in range(30):
        medium = Medium(8 * K, erase_value=0)
        broken(medium, seed).reorder_writes(depth=8)
        medium.program(0, b"0" * 512)
        medium.sync()
        for n in range(1, 4):
            medium.program(512 * n, bytes([48 + n]) * 512)
        medium.program(512, b"x" * 512)  # over the first: either may be the later one
        assert medium.read(512, 512) == b"x" * 512
        image = cut(medium)
        assert image[:512] == b"0" * 512
        for n in range(1, 4):
            assert image[512 * n : 512 * n + 512] in (bytes(512), bytes([48 + n]) * 512, b"x" * 512)
        images.add(image)
    assert len(images) > 8
    assert any(image[512:1024] == b"1" * 512 for image in images)  # swapped, or the later one lost


def test_a_part_holds_back_no_more_than_its_depth() -> None:
    for seed in range(10):
        medium = Medium(8 * K, erase_value=0)
        broken(medium, seed).reorder_writes(depth=2)
        for n in range(6):
            medium.program(512 * n, b"x" * 512)
        assert cut(medium)[: 4 * 512] == b"x" * 2048


def test_a_cut_of_nor_flash_keeps_what_was_there_before_an_erase_that_is_lost() -> None:
    found = set()
    for seed in range(20):
        medium = Medium(4 * K)
        medium.program(0, b"kept")
        broken(medium, seed).reorder_writes()
        medium.erase(0, 4096)
        medium.program(0, b"new!")
        found.add(cut(medium)[:4])
    both = bytes(a & b for a, b in zip(b"kept", b"new!", strict=True))  # the program alone, over what was there
    assert found == {b"kept", b"new!", b"\xff" * 4, both}


# -- codes -------------------------------------------------------------------------------------------

VERBS = st.one_of(
    st.tuples(st.just("bad_block"), st.tuples(st.integers(0, 15), st.sampled_from(BLOCK_FAULTS))),
    st.tuples(st.just("wear_out"), st.tuples(st.integers(0, 16 * K - 1))),
    st.tuples(st.just("limit_endurance"), st.tuples(st.integers(1, 4), st.sampled_from(BLOCK_FAULTS))),
    st.tuples(st.just("flip_bits"), st.tuples(st.integers(1, 9), st.integers(0, 8 * K))),
    st.tuples(st.just("flip_reads"), st.tuples(st.integers(1, 3000))),
    st.tuples(st.just("reorder_writes"), st.tuples(st.integers(1, 9))),
    st.tuples(st.sampled_from(["stick_busy"]), st.tuples(st.sampled_from([None, 0.7, 3e-9, 2]))),
    st.tuples(
        st.sampled_from(
            ["lock_card", "unlock_card", "pull_card", "seat_card", "release_busy", "lose_contact", "restore_contact",
             "tear_programs"]
        ),
        st.just(()),
    ),
)  # fmt: skip
OPERATIONS = st.one_of(
    st.tuples(st.just("program"), st.integers(0, 31), st.binary(min_size=1, max_size=512)),
    st.tuples(st.just("erase"), st.integers(0, 31), st.none()),
    st.tuples(st.just("read"), st.integers(0, 31), st.none()),
    st.tuples(st.sampled_from(["sync", "cut", "require_answer"]), st.just(0), st.none()),
)


def live(medium: Medium, operation: tuple[str, int, bytes | None]) -> object:
    """Do one operation; return what came of it."""
    what, block, data = operation
    try:
        if what == "program":
            return medium.program(512 * block, data or b"")
        if what in ("erase", "read"):
            return getattr(medium, what)(512 * block, 512)
        return cut(medium) if what == "cut" else getattr(medium, what)()
    except MediumFault as fault:
        return fault.kind, fault.offset


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 1000),
    st.lists(st.one_of(st.tuples(VERBS, st.integers(0, 6)), OPERATIONS), max_size=25),
    st.sampled_from([0x00, 0xFF]),
)
def test_a_code_makes_the_same_faults_at_the_same_operations(
    seed: int, story: list[tuple[object, ...]], erase_value: int
) -> None:
    def blank() -> Medium:
        medium = Medium(16 * K, erase_value=erase_value)
        medium.erase_block = 512
        return medium

    first = blank()
    faults = broken(first, seed)
    seen: list[object] = []
    begun = False
    done: list[tuple[str, int, bytes | None]] = []
    for step in story:
        if len(step) == 2:
            (verb, arguments), after = step  # type: ignore[misc]
            getattr(faults, verb)(*arguments, after=after)
            begun = True
        else:
            came = live(first, step)  # type: ignore[arg-type]
            if begun:
                done.append(step)  # type: ignore[arg-type]
                seen.append(came)
            elif step[0] == "program":  # a code says nothing of what was before
                first = blank()
                faults = broken(first, seed)
    done.append(("read", 0, None))
    seen.append(live(first, done[-1]))
    second = blank()
    second.faults = MediumFaults.from_code(faults.code)
    assert [live(second, operation) for operation in done] == seen
    assert second.peek(0, 16 * K) == first.peek(0, 16 * K)
    assert second.faults.code == faults.code
    assert second.faults.broken == faults.broken


def test_replaying_begins_afresh_from_here() -> None:
    medium = Medium(8 * K)
    faults = broken(medium, 3)
    faults.bad_block(0)
    for _ in range(4):
        refused(medium.program, 0, b"x")
    faults.replay("seed:8,bad:1=readerror,+2:lock")
    medium.program(0, b"x")
    assert refused(medium.read, 4096, 1) == "read error"
    assert refused(medium.program, 0, b"x") == "write protected"
    assert faults.code == "seed:8,bad:1=readerror,+2:lock"
    faults.mend()
    medium.program(0, b"x")
    assert (faults.code, faults.broken) == ("", [])


@pytest.mark.parametrize(
    "code",
    [
        "bad:7",
        "bad:7=melt",
        "flip:3",
        "+x:pull",
        "pull:1",
        "busy:3",
        "busy:3h",
        "seat,seed:4",
        "worn:-1",
        "torn:17",
        "!",
    ],
)
def test_what_is_no_code_is_named(code: str) -> None:
    with pytest.raises(ConfigError, match=r"is no fault of a medium\nhint: .*faultcode.py"):
        MediumFaults.from_code(code)


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [("flip_bits", (0,)), ("flip_bits", (9, 0, 1)), ("flip_reads", (0,)), ("stick_busy", (0,)), ("stick_busy", (-1,)),
     ("reorder_writes", (0,)), ("limit_endurance", (5, "progerror", -1)), ("bad_block", (-1,)), ("pull_card", (-1,))],
)  # fmt: skip
def test_what_cannot_be_broken_so_is_refused(verb: str, arguments: tuple[object, ...]) -> None:
    faults = broken(Medium(4 * K))
    with pytest.raises(ConfigError):
        if verb == "pull_card":
            faults.pull_card(after=-1)
        elif verb == "limit_endurance":
            faults.limit_endurance(5, spread=-1)
        else:
            getattr(faults, verb)(*arguments)
    assert faults.code == ""


def test_faults_say_what_is_broken_and_how_to_break_it_again() -> None:
    medium = Medium(4 * K)
    faults = broken(medium, 17)
    assert repr(faults) == "<faults: none; met 0 times; code ''>"
    faults.bad_block(0, "prognoop")
    faults.pull_card(after=20)
    medium.read(0, 1)
    assert faults.broken == ["block 0: prognoop", "after 19 more operations: pull!"]
    assert "code 'seed:17,bad:0=prognoop,+20:pull!'" in repr(faults)
    assert "block 0: prognoop" in faults._repr_html_() and "SIMULATED" in faults._repr_html_()
    assert "seed:17" in repr(medium)
    with pytest.raises(ConfigError, match="belong to no medium yet"):
        MediumFaults().flip_bits(1)


IMPOSSIBLE = {
    "busy for ever, in seconds": lambda faults: faults.stick_busy(float("inf")),
    "busy for no number": lambda faults: faults.stick_busy(float("nan")),
    "busy for text": lambda faults: faults.stick_busy("long"),
    "no code": lambda faults: faults.replay(None),
    "an address that is text": lambda faults: faults.wear_out("x"),
    "an address past the end": lambda faults: faults.wear_out(8 * K),
    "a block past the end": lambda faults: faults.bad_block(10**12),
    "the first block past the end": lambda faults: faults.bad_block(2),
    "a code with a block past the end": lambda faults: faults.replay("+3:bad:2=progerror"),
    "bits past the end": lambda faults: faults.flip_bits(1, 8 * K - 1, 2),
    "bits of text": lambda faults: faults.flip_bits("3"),
    "a spread that is text": lambda faults: faults.limit_endurance(3, spread="x"),
    "a half operation": lambda faults: faults.lock_card(after=0.5),
    "a half depth": lambda faults: faults.reorder_writes(1.5),
    "a rate that is text": lambda faults: faults.flip_reads("x"),
    "a seed that is text": lambda faults: MediumFaults("x"),
}


@pytest.mark.parametrize("wrong", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_what_cannot_be_broken_is_refused_and_leaves_what_is_broken(wrong: Callable[[MediumFaults], object]) -> None:
    medium = Medium(8 * K)
    medium.clock = WallClock()  # as a driver leaves it
    faults = broken(medium, 3)
    faults.bad_block(1)
    with pytest.raises(ConfigError) as caught:
        wrong(faults)
    assert caught.value.hint
    assert faults.code == "seed:3,bad:1=progerror"


def test_a_code_of_a_larger_medium_is_refused_by_a_smaller_one() -> None:
    faults = MediumFaults.from_code("bad:7=progerror")
    small = Medium(1 * K)
    with pytest.raises(ConfigError, match="lies outside the medium"):
        small.faults = faults
    assert small.faults is None and small.sound
    Medium(64 * K).faults = faults
