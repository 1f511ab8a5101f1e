"""The device clock: blocking device code and asyncio on one simulated time."""

import asyncio
import contextlib
import subprocess
import sys
import threading
import time

import pytest

from pdmlab.clock import MS, SECOND, DeviceClock, PowerLost, WallClock, halting, power_domain


@pytest.fixture
def clock():
    with DeviceClock() as clock:
        yield clock


def test_sleeping_takes_device_time_and_hardly_any_host_time(clock):
    before = time.monotonic()
    clock.call(clock.sleep, 3600 * SECOND)
    assert clock.now() == 3600 * SECOND
    assert time.monotonic() - before < 60


def test_threads_interleave_by_time_not_by_the_order_of_starting(clock):
    order = []

    def worker(name, ns):
        for _ in range(2):
            clock.charge(ns)
            order.append((name, clock.now()))

    def main():
        threads = [clock.spawn(worker, "slow", 30), clock.spawn(worker, "fast", 20)]
        for thread in threads:
            thread.join()

    clock.call(main)
    assert order == [("fast", 20), ("slow", 30), ("fast", 40), ("slow", 60)]


def test_a_mutex_excludes_greenlets_and_is_recursive_for_its_owner(clock):
    mutex, inside, most = clock.mutex(), [], []

    def worker():
        with mutex, mutex:
            inside.append(1)
            clock.sleep(MS)
            most.append(len(inside))
            inside.pop()

    def main():
        for thread in [clock.spawn(worker) for _ in range(5)]:
            thread.join()

    clock.call(main)
    assert most == [1] * 5
    assert clock.now() == 5 * MS


def test_time_passes_without_the_mutex_only_where_nobody_could_come_between(clock):
    mutex, told = clock.mutex(), []

    def holder():
        with mutex:
            clock.sleep(3 * MS)

    def main():
        told.append(mutex.charge_alone(MS))  # nobody else is there
        thread = clock.spawn(holder)
        told.append(mutex.charge_alone(MS))  # a thread is ready to run
        clock.sleep(MS)
        told.append(mutex.charge_alone(1))  # another holds it
        thread.join()
        timer = clock.loop.call_later(0.001, lambda: None)
        told.append(mutex.charge_alone(2 * MS))  # a timer is due by then
        told.append(mutex.charge_alone(MS // 2))
        timer.cancel()

    clock.call(main)
    assert told == [True, False, False, False, True]
    assert clock.now() == MS + 3 * MS + MS // 2
    clock.pace = "live"
    assert not mutex.charge_alone(MS)
    wall = WallClock()
    assert not wall.mutex().charge_alone(MS)
    wall.mutex().acquire_and_charge(5 * SECOND)
    assert 5 * SECOND <= wall.now() < 6 * SECOND


def test_a_mutex_that_is_taken_with_a_charge_is_given_back_if_the_charge_is_the_end(clock):
    mutex, order = clock.mutex(), []

    def first():
        mutex.acquire_and_charge(2 * MS)  # ended here

    def second():
        mutex.acquire_and_charge(MS)
        order.append(clock.now())
        mutex.release()

    def main():
        threads = [clock.spawn(first), clock.spawn(second)]
        clock.loop.call_later(0.001, threads[0].kill)
        threads[1].join()

    clock.call(main)
    assert order == [2 * MS]


def test_a_mutex_goes_to_who_waited_longest_and_not_back_to_who_gave_it(clock):
    mutex, order = clock.mutex(), []

    def worker(name):
        for _ in range(3):
            with mutex:
                order.append(name)
                clock.charge(MS)

    clock.call(lambda: [thread.join() for thread in [clock.spawn(worker, name) for name in "abc"]])
    assert "".join(order) == "abcabcabc" and clock.now() == 9 * MS


def test_a_thread_that_is_ended_as_its_turn_comes_gives_the_mutex_on(clock):
    mutex, seen = clock.mutex(), []

    def holder():
        with mutex:
            clock.sleep(MS)
            clock.loop.call_soon(waiters[0].kill)  # it will have been handed the mutex, and not have run since

    def waiter(name):
        with mutex:
            seen.append(name)

    def main():
        first = clock.spawn(holder)
        waiters.extend(clock.spawn(waiter, name) for name in "ab")
        first.join()
        waiters[1].join()

    waiters = []
    clock.call(main)
    assert seen == ["b"]


def test_device_code_awaits_coroutines_and_coroutines_run_device_code(clock):
    async def answer():
        await asyncio.sleep(1)
        return await clock.blocking(lambda: (clock.sleep(SECOND), 42)[1])

    assert clock.call(lambda: clock.run(answer())) == 42
    assert clock.now() == 2 * SECOND


def test_power_loss_ends_every_thread_even_in_an_except_clause(clock):
    seen = []

    def stubborn(name):
        try:
            try:
                clock.sleep(10 * SECOND)
            except Exception:
                seen.append("caught")
        finally:
            clock.charge(5)
            seen.append(name)

    def main():
        clock.spawn(stubborn, "a")
        clock.spawn(stubborn, "b")
        clock.sleep(SECOND)
        clock.halt()
        seen.append("never")

    with pytest.raises(PowerLost):
        clock.call(main)
    assert sorted(seen) == ["a", "b"]
    assert not clock._threads
    assert clock.call(lambda: "still usable") == "still usable"


def test_halting_from_outside_kills_a_thread_that_never_waits_for_the_loop(clock):
    started = threading.Event()

    def busy():
        while True:
            clock.charge(1000)
            started.set()

    clock.loop.call_soon_threadsafe(clock.spawn, busy)
    assert started.wait(10)
    clock.halt()
    assert not clock._threads


def test_the_clock_does_not_jump_while_somebody_outside_is_waited_for(clock):
    """A time-out of an hour on the serial line must not fire before the host has spoken."""
    answer = asyncio.Event()

    async def wait_for_host():
        with clock.outside():
            await asyncio.wait_for(answer.wait(), 3600)
            return clock.now()

    threading.Timer(0.05, lambda: clock.loop.call_soon_threadsafe(answer.set)).start()
    assert clock.call_async(wait_for_host()) < 60 * SECOND


def test_work_in_an_executor_thread_holds_the_clock_back(clock):
    async def story():
        work = clock.loop.run_in_executor(None, time.sleep, 0.02)
        await asyncio.wait_for(work, 3600)
        return clock.now()

    assert clock.call_async(story()) < 60 * SECOND


def test_going_live_keeps_time_continuous_and_charges_without_waiting(clock):
    def main():
        clock.sleep(5 * SECOND)
        clock.pace = "live"
        assert clock.name == "host"
        before = time.monotonic()
        clock.charge(1000 * SECOND)
        assert time.monotonic() - before < 60
        return clock.now()

    assert 1005 * SECOND <= clock.call(main) < 1065 * SECOND


def test_blocking_calls_from_a_foreign_thread_say_what_to_use_instead(clock):
    with pytest.raises(RuntimeError, match=r"board\.run"):
        clock.sleep(1)


def test_halting_one_power_domain_leaves_the_others_running(clock):
    ended = []

    def forever(name):
        try:
            clock.run(asyncio.Event().wait())
        except PowerLost:
            ended.append(name)
            raise

    def main():
        for name in ("a", "b"):
            power_domain.set(name)
            clock.spawn(forever, name)
        power_domain.set(None)
        clock.sleep(1)

    clock.call(main)
    clock.halt("a")
    assert ended == ["a"]
    clock.halt()
    assert ended == ["a", "b"]


def test_power_loss_drops_open_sockets_without_a_word(clock):
    clock.pace = "live"

    class Protocol(asyncio.DatagramProtocol):
        pass

    async def open_one():
        transport, _ = await clock.loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
        return transport

    transport = clock.call_async(open_one())
    clock.halt()
    assert transport.is_closing()


def test_closing_leaves_no_task_pending_not_even_one_that_began_with_the_halt():
    began = []

    async def late():
        await asyncio.Event().wait()

    async def first():
        try:
            await asyncio.Event().wait()
        finally:
            began.append(asyncio.ensure_future(late()))

    with DeviceClock() as clock:
        clock.call_soon(lambda: began.append(asyncio.ensure_future(first())))
        clock.call(clock.sleep, SECOND)
    assert [task.cancelled() for task in began] == [True, True]


def test_a_clock_may_be_collected_while_the_end_of_its_thread_is_taken_note_of():
    program = """
import gc, threading, time
from pdmlab.clock import DeviceClock

collecting = threading.Event()

class Holder:
    def __del__(self):
        collecting.set()  # the main thread wakes, and takes note of the thread that has ended
        time.sleep(0.2)

def discard():
    gc.disable()
    clock = DeviceClock()
    clock.close()
    clock.holder = Holder()
    clock.holder.clock = clock
    del clock
    gc.collect()
    gc.collect()

worker = threading.Thread(target=discard)
worker.start()
collecting.wait()
[None for _ in range(1000)]
worker.join()
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-2000:]


def test_errors_of_device_code_reach_the_caller(clock):
    with pytest.raises(ZeroDivisionError):
        clock.call(lambda: 1 // 0)


def test_the_wall_clock_adds_charged_time_without_waiting():
    clock = WallClock()
    clock.charge(3600 * SECOND)
    assert 3600 * SECOND <= clock.now() < 3660 * SECOND


def test_a_thread_that_is_ended_as_it_begins_to_wait_is_not_given_the_mutex(clock):
    mutex = clock.mutex()

    def main():
        waiter = None

        def wait():
            with mutex:
                pass

        with mutex:
            waiter = clock.spawn(wait)
            clock.loop.call_soon(waiter.kill)  # behind its start, before anything it began has had a turn
            clock.sleep(SECOND)
        assert not waiter.alive
        with mutex:
            return "free"

    assert clock.call(lambda: clock.spawn(main).join()) == "free"


def test_a_call_that_a_halt_ends_before_it_has_begun_comes_back(clock):
    def in_one_turn():
        spawn = clock.spawn

        def spawned(*args, **options):
            thread = spawn(*args, **options)
            thread.kill()  # before its start has had its turn
            return thread

        clock.spawn = spawned

    clock.on_loop(in_one_turn)
    with pytest.raises(PowerLost):
        clock.call(lambda: "never")


def test_a_coroutine_that_calls_device_code_in_blocking_style_is_told_how(clock):
    async def wrong():
        clock.call(lambda: None)

    with pytest.raises(RuntimeError, match=r"await clock\.blocking"):
        clock.call_async(wrong())


def test_a_halt_waits_for_a_loop_that_is_slow_and_throws_nothing_into_it(clock, monkeypatch):
    monkeypatch.setattr(halting, "HOGGED", 0.02)
    monkeypatch.setattr(halting, "PATIENCE", 10_000)
    asked, went_on = [], []
    runs = clock._halting.device_code_runs

    def watched():
        asked.append(runs())
        return asked[-1]

    def slow():
        while len(asked) < 3:
            pass
        went_on.append(True)

    monkeypatch.setattr(clock._halting, "device_code_runs", watched)
    clock.call_soon(slow)
    clock.halt()
    assert went_on and not any(asked)


def test_a_callback_of_the_loop_that_never_returns_is_ended_too(clock, monkeypatch):
    monkeypatch.setattr(halting, "HOGGED", 0.02)

    def never():
        while True:
            pass

    clock.call_soon(never)
    clock.halt()
    assert clock.call(lambda: 1) == 1


def test_device_code_that_swallows_its_end_is_ended_again(clock, monkeypatch):
    monkeypatch.setattr(halting, "HOGGED", 0.02)
    monkeypatch.setattr(halting, "PATIENCE", 10_000)
    began, swallowed = threading.Event(), threading.Event()

    def stubborn():
        began.set()
        with contextlib.suppress(PowerLost):
            while True:
                pass
        swallowed.set()
        while True:
            pass

    clock.call_soon(clock.spawn, stubborn)
    assert began.wait(60)
    clock.halt()
    assert swallowed.is_set() and clock.call(lambda: 1) == 1
