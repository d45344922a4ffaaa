import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("fastapi")

from sk_ulmfit.serving.batching import BATCH_CHARACTERS, BATCH_ITEMS, Lane
from sk_ulmfit.serving.errors import RequestError


class Held:
    """A computation that waits until it may go on; it remembers its batches."""

    def __init__(self):
        self.may_go_on = threading.Event()
        self.batches = []

    def __call__(self, texts):
        self.batches.append(texts)
        assert self.may_go_on.wait(10)
        if "bad" in texts:
            raise ValueError("bad")
        return [text.upper() for text in texts]


def run(scenario, max_waiting=100):
    """Run ``scenario(lane, compute)`` while the lane runs."""

    async def body():
        compute = Held()
        with ThreadPoolExecutor(1) as executor:
            lane = Lane(compute, len, executor, max_waiting)
            task = asyncio.create_task(lane.run())
            try:
                return await scenario(lane, compute)
            finally:
                compute.may_go_on.set()
                task.cancel()

    return asyncio.run(body())


async def begun(compute, n=1):
    while len(compute.batches) < n:
        await asyncio.sleep(0.001)


async def hold(lane, compute):
    """Keep the lane busy with a first request, which is returned."""
    first = asyncio.create_task(lane.submit(["first"]))
    await begun(compute)
    return first


def test_requests_that_arrive_during_a_batch_are_computed_together():
    async def scenario(lane, compute):
        first = await hold(lane, compute)
        others = [asyncio.create_task(lane.submit([f"a{k}", f"b{k}"])) for k in range(5)]
        await asyncio.sleep(0.01)
        compute.may_go_on.set()
        assert await first == ["FIRST"]
        assert await asyncio.gather(*others) == [[f"A{k}", f"B{k}"] for k in range(5)]
        assert [len(batch) for batch in compute.batches] == [1, 10]
        assert lane.n_waiting == 0

    run(scenario)


def test_a_batch_is_bounded_in_texts_and_in_characters():
    async def scenario(lane, compute):
        first = await hold(lane, compute)
        many = asyncio.create_task(lane.submit([str(k) for k in range(150)]))
        long = asyncio.create_task(lane.submit(["x" * BATCH_CHARACTERS, "y" * 2 * BATCH_CHARACTERS, "z"]))
        await asyncio.sleep(0.01)
        compute.may_go_on.set()
        await first
        assert await many == [str(k) for k in range(150)]
        assert [len(text) for text in await long] == [BATCH_CHARACTERS, 2 * BATCH_CHARACTERS, 1]
        assert [len(batch) for batch in compute.batches] == [1, BATCH_ITEMS, BATCH_ITEMS, 22, 1, 1, 1]

    run(scenario, 1000)


def test_a_full_queue_refuses_a_request_as_a_whole():
    async def scenario(lane, compute):
        first = await hold(lane, compute)
        second = asyncio.create_task(lane.submit(["a", "b", "c"]))
        await asyncio.sleep(0.01)
        with pytest.raises(RequestError) as raised:
            await lane.submit(["d", "e"])
        assert raised.value.status == 503
        assert int(raised.value.headers["Retry-After"]) >= 1
        fits = asyncio.create_task(lane.submit(["d"]))
        await asyncio.sleep(0.01)
        compute.may_go_on.set()
        assert [await first, await second, await fits] == [["FIRST"], ["A", "B", "C"], ["D"]]

    run(scenario, max_waiting=4)


def test_what_nobody_waits_for_is_not_computed():
    async def scenario(lane, compute):
        first = await hold(lane, compute)
        gone, stays = (asyncio.create_task(lane.submit([text])) for text in ("gone", "stays"))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        compute.may_go_on.set()
        assert [await first, await stays] == [["FIRST"], ["STAYS"]]
        assert compute.batches == [["first"], ["stays"]]
        assert lane.n_waiting == 0

    run(scenario)


def test_an_error_befalls_only_the_request_at_fault():
    async def scenario(lane, compute):
        first = await hold(lane, compute)
        bad, good = (asyncio.create_task(lane.submit([text])) for text in ("bad", "good"))
        await asyncio.sleep(0.01)
        compute.may_go_on.set()
        assert [await first, await good] == [["FIRST"], ["GOOD"]]
        with pytest.raises(ValueError, match="bad"):
            await bad
        assert await lane.submit(["after"]) == ["AFTER"]

    run(scenario)
