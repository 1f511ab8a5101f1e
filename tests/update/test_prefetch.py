"""The next blocks are asked for when one is handed over: not before, and no more of them than there is room for."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pdmlab.client.prefetching import KEY, OPTION, prefetch, prefetch_of
from pdmlab.clock import PowerLost
from pdmlab.errors import ConfigError, NetworkError
from pdmlab.firmware.image import read_image
from pdmlab.sim.board import VirtualBoard
from pdmlab.update.prefetch import Prefetch


class Source:
    """Hands out blocks when told to."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.answers: dict[int, asyncio.Future[str]] = {}

    async def __call__(self, number: int) -> str:
        self.asked.append(number)
        return await self.answers.setdefault(number, asyncio.get_running_loop().create_future())

    async def arrives(self, number: int, error: BaseException | None = None) -> None:
        answer = self.answers[number]
        if error is None:
            answer.set_result(f"block {number}")
        else:
            answer.set_exception(error)
        await settled()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_one_request_is_under_way_while_one_block_is_written_and_no_more() -> None:
    async def story() -> None:
        source = Source()
        async with Prefetch(source, range(7, 10)) as block:
            writer = asyncio.create_task(block(7))
            await settled()
            assert source.asked == [7]
            await source.arrives(7)
            assert await writer == "block 7" and source.asked == [7, 8], "asked for while 7 is written"
            await source.arrives(8)
            assert source.asked == [7, 8], "8 waits; a third block would be more than there is room for"
            assert await block(8) == "block 8"
            await settled()
            assert source.asked == [7, 8, 9]
            await source.arrives(9)
            assert await block(9) == "block 9"
        assert source.asked == [7, 8, 9], "there is nothing behind the last"

    asyncio.run(story())


def test_as_many_requests_as_there_are_blocks_ahead_are_under_way_and_may_be_answered_in_any_order() -> None:
    async def story() -> None:
        source = Source()
        async with Prefetch(source, range(6), 3) as block:
            await settled()
            assert source.asked == [0, 1, 2]
            await source.arrives(2)
            await source.arrives(1)
            writer = asyncio.create_task(block(0))
            await settled()
            assert source.asked == [0, 1, 2], "0 is not there yet"
            await source.arrives(0)
            assert await writer == "block 0" and await block(1) == "block 1" and await block(2) == "block 2"
            await settled()
            assert source.asked == [0, 1, 2, 3, 4, 5], "three more, and nothing behind the last"
            await source.arrives(4, NetworkError("no answer"))
            await source.arrives(3)
            assert await block(3) == "block 3", "what comes before an error is had"
            with pytest.raises(NetworkError):
                await block(4)
        assert source.answers[5].cancelled() and len(asyncio.all_tasks()) == 1

    asyncio.run(story())


@pytest.mark.parametrize("error", [NetworkError("no answer"), PowerLost(), asyncio.CancelledError()])
@pytest.mark.parametrize("early", [False, True])
def test_what_asking_raises_is_raised_where_the_block_is_wanted(error: BaseException, early: bool) -> None:
    async def story() -> None:
        source = Source()
        async with Prefetch(source, range(3)) as block:
            first = asyncio.create_task(block(0))
            await settled()
            await source.arrives(0)
            assert await first == "block 0"
            if early:
                await settled()
                await source.arrives(1, error)  # while block 0 is written, which goes on
            with pytest.raises(type(error)):
                if not early:
                    asyncio.get_running_loop().call_soon(source.answers[1].set_exception, error)
                await block(1)
        assert source.asked == [0, 1]

    asyncio.run(story())


def test_whoever_stops_writing_stops_the_asking() -> None:
    async def story() -> None:
        source = Source()
        with pytest.raises(RuntimeError):
            async with Prefetch(source, range(3)) as block:
                writer = asyncio.create_task(block(0))
                await settled()
                await source.arrives(0)
                await writer
                await settled()
                raise RuntimeError("the card is gone")
        assert source.answers[1].cancelled()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(story())


def test_a_cancelled_download_leaves_nothing_behind() -> None:
    async def story() -> None:
        source = Source()

        async def download() -> None:
            async with Prefetch(source, range(3)) as block:
                await block(0)

        task = asyncio.create_task(download())
        await settled()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert source.answers[0].cancelled() and len(asyncio.all_tasks()) == 1

    asyncio.run(story())


def test_a_build_prefetches_if_its_mbed_app_json_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = {"target_overrides": {"K64F": {KEY: 4}, "*": {KEY: 0}}}
    Path("mbed_app.json").write_text(json.dumps(document), encoding="utf-8")
    with VirtualBoard("K64F", memory=True, power=False) as board:
        assert read_image(board.build("example")).options[OPTION] == 4
    assert prefetch_of(document, "K66F") == 0 and prefetch_of({}, "K64F") is None


@pytest.mark.parametrize("said", [True, -1, 17, 1.0, "1"])
def test_what_is_no_number_of_blocks_is_refused_by_its_name(said: object) -> None:
    with pytest.raises(ConfigError, match=r"pdmlab\.prefetch in mbed_app\.json is .*\nhint: .*blocks, 0 to 16"):
        prefetch_of({"target_overrides": {"*": {KEY: said}}}, "K64F")
    with pytest.raises(ConfigError, match="an image's option 'prefetch' is"):
        prefetch({OPTION: said})
