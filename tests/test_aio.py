"""The bridge from blocking code to a loop: results, errors, time-outs, Ctrl-C, and an end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from pdmlab.aio import LoopThread
from pdmlab.errors import ConfigError, TimedOut


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    loop = LoopThread("test")
    yield loop
    loop.close()


def test_a_coroutine_runs_on_the_loop_and_its_result_comes_back(loop: LoopThread) -> None:
    async def where() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    assert loop.run(where()) == "pdmlab-test"


def test_an_error_comes_back_as_it_is(loop: LoopThread) -> None:
    async def fails() -> None:
        raise ConfigError("no", hint="yes")

    with pytest.raises(ConfigError, match="no"):
        loop.run(fails())


def test_a_coroutine_that_takes_too_long_is_cancelled(loop: LoopThread) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def waits() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    while not begun.is_set():  # on a busy machine it is over before it has begun
        with pytest.raises(TimedOut, match=r"no result from the loop 'test' in 0\.01 s"):
            loop.run(waits(), timeout=0.01)
    assert ended.wait(60)


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="no signals here")
def test_ctrl_c_cancels_the_coroutine_and_leaves_the_loop_usable(loop: LoopThread) -> None:
    started, ended = threading.Event(), threading.Event()

    async def waits() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    main = threading.get_ident()

    def interrupt() -> None:
        started.wait(60)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        loop.run(waits())
    thread.join()
    assert ended.wait(60)
    assert loop.run(asyncio.sleep(0, "still there")) == "still there"


@pytest.mark.parametrize("where", ["before it is scheduled", "after it is scheduled"])
def test_an_interrupt_before_the_wait_cancels_the_coroutine_too(
    loop: LoopThread, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = threading.Event(), threading.Event()

    async def waits() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    schedule = loop.loop.call_soon_threadsafe

    def interrupted(work: Callable[..., object], *args: object) -> None:
        monkeypatch.undo()
        if where.startswith("after"):
            schedule(work, *args)
            began.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.loop, "call_soon_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.run(waits())
    loop.run(asyncio.sleep(0))
    if where.startswith("after"):
        assert ended.wait(60)
    else:
        assert not began.is_set()


def test_a_coroutine_that_is_cancelled_there_says_so_here(loop: LoopThread) -> None:
    async def cancels_itself() -> None:
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(concurrent.futures.CancelledError):
        loop.run(cancels_itself())


def test_a_time_out_of_the_coroutine_itself_is_no_time_out_of_the_wait(loop: LoopThread) -> None:
    async def fails() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        loop.run(fails(), timeout=60)


def test_the_loop_cannot_wait_for_itself(loop: LoopThread) -> None:
    async def nested() -> None:
        with pytest.raises(ConfigError, match="cannot wait for itself"):
            loop.run(asyncio.sleep(0))
        with pytest.raises(ConfigError, match="cannot end its own thread"):
            loop.close()

    loop.run(nested())


def test_closing_ends_what_runs_and_the_thread() -> None:
    loop = LoopThread("short")
    ended = threading.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    loop.call_soon(lambda: setattr(loop, "task", asyncio.get_running_loop().create_task(waits())))
    loop.run(asyncio.sleep(0))
    loop.close()
    loop.close()
    assert ended.is_set() and not loop.running
    assert "pdmlab-short" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConfigError, match="is closed"):
        loop.run(asyncio.sleep(0))
    loop.call_soon(print)
    assert repr(loop) == "<LoopThread short, closed>"


def test_context_variables_of_the_caller_do_not_leak_into_the_loop(loop: LoopThread) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def sets() -> None:
        variable.set("inside")

    loop.run(sets())
    assert variable.get() == "none"
