"""What time a device thinks it is: nobody's, a server's, the saved one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from pdmlab.client.secure_time import DAY, EARLIEST, SecureTime
from pdmlab.clock import SECOND
from pdmlab.errors import StorageError
from pdmlab.storage import NVStore
from pdmlab.storage.kv.sotp import SotpType
from tests.client.bench import Bench

T = TypeVar("T")
NOW = 1_767_225_600  # 2026-01-01


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.clock.close()


def on(bench: Bench, work: Callable[[SecureTime], T]) -> T:
    """Run on a fresh start of the board."""
    return bench.clock.call_async(bench.device(lambda: work(SecureTime(bench.clock, bench.nvstore))))


def saved(bench: Bench) -> int:
    def read() -> int:
        try:
            return int.from_bytes(bench.nvstore.get(SotpType.SAVED_TIME), "little")
        except StorageError:
            return 0

    return bench.clock.call_async(bench.device(read))


def test_a_fresh_device_lives_in_1970_until_it_is_told_and_the_time_outlives_a_reset(bench: Bench) -> None:
    def first(time: SecureTime) -> None:
        assert (time.now(), time.known) == (0, False)
        assert time.hear(NOW, trusted=True) and time.known
        bench.clock.sleep(100 * SECOND)
        assert time.now() == NOW + 100
        assert "s since 1970" in repr(time)

    on(bench, first)
    assert on(bench, lambda time: time.now()) == NOW, "it has no battery: it goes on from what was saved"


def test_who_says_that_it_is_before_2017_is_not_believed(bench: Bench) -> None:
    def story(time: SecureTime) -> None:
        assert not time.hear(EARLIEST - 1, trusted=True) and not time.known
        assert time.hear(EARLIEST, trusted=False) and time.now() == EARLIEST

    on(bench, story)


@pytest.mark.parametrize("trusted", [True, False])
def test_flash_is_written_only_when_the_time_has_moved_by_a_day(bench: Bench, trusted: bool) -> None:
    on(bench, lambda time: time.hear(NOW, trusted=True))
    on(bench, lambda time: time.hear(NOW + DAY - 1, trusted=trusted))
    assert saved(bench) == NOW
    on(bench, lambda time: time.hear(NOW + DAY + 1, trusted=trusted))
    assert saved(bench) == NOW + DAY + 1


def test_the_bootstrap_server_may_set_the_clock_back_and_others_a_little_only(bench: Bench) -> None:
    def story(time: SecureTime) -> None:
        assert time.hear(NOW, trusted=True)
        assert not time.hear(NOW - DAY, trusted=False) and time.now() == NOW
        assert time.hear(NOW + 10 * DAY, trusted=False)
        assert time.hear(NOW + 10 * DAY - 1000, trusted=False), "three minutes for each day since it went back"
        assert time.now() == NOW + 10 * DAY - 1000
        assert not time.hear(NOW + 10 * DAY - 1100, trusted=False), "and not again at once"
        assert time.hear(NOW - DAY, trusted=True) and time.now() == NOW - DAY

    on(bench, story)
    assert saved(bench) == NOW - DAY


@pytest.mark.parametrize("writes", range(3))
def test_a_power_cut_between_its_writes_leaves_one_of_the_times(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    on(bench, lambda time: time.hear(NOW, trusted=True))
    keep, left = NVStore.set, [None] * writes

    def cut(self: NVStore, key: int, data: bytes, **options: int) -> None:
        if not left:
            raise StorageError("cut")
        left.pop()
        keep(self, key, data, **options)

    def later(time: SecureTime) -> None:
        if writes < 2:
            with pytest.raises(StorageError):
                time.hear(NOW + 9 * DAY, trusted=True)
        else:
            time.hear(NOW + 9 * DAY, trusted=True)

    with monkeypatch.context() as patch:
        patch.setattr(NVStore, "set", cut)
        on(bench, later)
    assert on(bench, lambda time: time.now()) == (NOW if writes == 0 else NOW + 9 * DAY)
    assert saved(bench) == on(bench, lambda time: time.now())


def test_what_a_cut_tore_counts_as_no_time(bench: Bench) -> None:
    on(bench, lambda time: time.hear(NOW, trusted=True))
    bench.clock.call_async(bench.device(lambda: bench.nvstore.set(SotpType.SAVED_TIME, b"\1\2")))
    bench.clock.call_async(bench.device(lambda: bench.nvstore.set(SotpType.LAST_TIME_BACK, b"")))
    assert on(bench, lambda time: time.known) is False
