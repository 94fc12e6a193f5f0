"""Streams for asyncio: the same events, cancelled anywhere, from any loop in any thread."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import soxr

import mlx_kstt
from mlx_kstt import Event, Gap, Partial, Transcriber, Word
from mlx_kstt.audio import Lost

Item = np.ndarray | Lost


async def arriving(items: Iterable[Item]) -> AsyncIterator[Item]:
    """As from a device: other tasks run between the blocks."""
    for item in items:
        await asyncio.sleep(0)
        yield item


async def collected(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


def texts(events: Iterable[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Word)]


def in_blocks(pcm: np.ndarray, size: int = 5_000) -> list[Item]:
    return list(np.split(pcm, range(size, len(pcm), size)))


@pytest.fixture(scope="module")
def one(recordings) -> np.ndarray:
    return recordings[1].sound()


@pytest.fixture(scope="module")
def expected(tiny, one) -> list[Event]:
    return list(tiny.stream(in_blocks(one)))


def run(tiny: Transcriber, items: Any, **options: Any) -> list[Event]:
    return asyncio.run(collected(tiny.astream(items, **options)))


def test_the_events_are_the_streams(tiny, one, expected) -> None:
    assert run(tiny, arriving(in_blocks(one))) == expected
    assert run(tiny, in_blocks(one)) == expected, "plain iterables too"
    assert run(tiny, iter(in_blocks(one))) == expected


def test_other_rates_lost_time_and_options_too(tiny, one) -> None:
    fast = soxr.resample(one, 24_000, 48_000)
    items = [*in_blocks(fast[:70_001], 3_001), Lost(4.0, "unplugged"), *in_blocks(fast[70_001:], 7_000)]
    options = {"sampling_rate": 48_000, "start": 100.0, "turn_hold": 0.16}
    expected = list(tiny.stream(items, **options))
    assert run(tiny, arriving(items), **options) == expected
    gap = next(event for event in expected if isinstance(event, Gap))
    assert gap == Gap(round(100 + 70_001 / 48_000, 3), round(104 + 70_001 / 48_000, 3), "unplugged")
    assert min(event.start for event in expected if isinstance(event, Word)) >= 100


def test_two_lanes_too(tiny, one) -> None:
    both = np.stack([one, one[::-1]], axis=1)[:60_000]
    items: list[Item] = [*in_blocks(both), Lost(2.0, "unplugged", filled=0.1, lane=1)]
    expected = list(tiny.stream(items, lanes=("Ann", "Bob")))
    assert any(isinstance(event, Gap) and event.lane == "Bob" for event in expected)
    assert run(tiny, arriving(items), lanes=("Ann", "Bob")) == expected


def test_events_come_while_the_sound_comes(tiny, one, expected) -> None:
    async def main() -> None:
        events = tiny.astream(arriving(in_blocks(one)))
        first = await anext_of(events)
        assert first == expected[0]
        await events.aclose()

    asyncio.run(main())


async def anext_of(events: Any) -> Event:
    return await events.__anext__()


def test_the_loop_goes_on_while_the_model_works(tiny, one) -> None:
    async def main() -> int:
        task = asyncio.create_task(collected(tiny.astream([one])))
        turns = 0
        while not task.done():
            await asyncio.sleep(0.005)
            turns += 1
        assert texts(task.result())
        return turns

    assert asyncio.run(main()) > 5


def test_an_error_of_the_source_and_of_the_sound_reaches_the_caller(tiny, one) -> None:
    async def breaks_off() -> AsyncIterator[Item]:
        yield one[:10_000]
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        run(tiny, breaks_off())
    with pytest.raises(mlx_kstt.AudioError, match="NaN"):
        run(tiny, [np.full(1920, np.nan, np.float32)])
    with pytest.raises(mlx_kstt.OptionError, match="pause_head is 9"):
        run(tiny, [one], pause_head=9)


def test_cancelled_at_any_moment_it_leaves_nothing_behind(tiny, one, expected) -> None:
    rng = random.Random(3)
    threads = threading.active_count()

    async def main() -> int:
        cancelled = 0
        for _ in range(20):
            task = asyncio.create_task(collected(tiny.astream(arriving(in_blocks(one)))))
            await asyncio.sleep(rng.uniform(0, 0.25))
            cancelled += task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert asyncio.all_tasks() == {asyncio.current_task()}
            await asyncio.wait_for(asyncio.to_thread(tiny.open), 2)
        return cancelled

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(asyncio.run, main()).result(timeout=60) == 20
    assert threading.active_count() <= threads + 1, "the one thread of MLX may have begun"
    assert list(tiny.stream(in_blocks(one))) == expected


def test_a_timeout_stops_the_work_in_hand(tiny, one) -> None:
    """A minute of sound in one block: cancelled after a moment, the thread is free within a block."""

    async def main() -> float:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(collected(tiny.astream([np.tile(one, 40)])), 0.2)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await asyncio.to_thread(tiny.open)
        return loop.time() - begin

    assert asyncio.run(main()) < 2


def test_left_early_the_source_is_closed(tiny, one) -> None:
    """As with `async for ... break` under aclosing: a device must not go on recording."""
    closed = []

    async def device() -> AsyncIterator[Item]:
        try:
            for block in in_blocks(one):
                yield block
        finally:
            closed.append(True)

    async def main() -> None:
        events: Any = tiny.astream(device())
        async for event in events:
            if isinstance(event, Partial):
                break
        await events.aclose()
        assert closed == [True]

    asyncio.run(main())


def test_two_at_the_same_time(tiny, one, expected, recordings) -> None:
    other = recordings[2].sound()

    async def main() -> list[list[Event]]:
        streams = [tiny.astream(arriving(in_blocks(pcm))) for pcm in (one, other)]
        return list(await asyncio.gather(*map(collected, streams)))

    first, second = asyncio.run(main())
    assert first == expected
    assert " ".join(texts(second)) == recordings[2].reference_text


def test_many_loops_in_many_threads(tiny, one, expected) -> None:
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: run(tiny, arriving(in_blocks(one))), range(3)))
    assert found == [expected] * 3
