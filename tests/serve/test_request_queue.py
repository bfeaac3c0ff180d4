"""The queue: batches, limits, callers that leave, and its end."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
from serving import DEADLINE

from frozenbert.errors import InputError
from frozenbert.serve.request_queue import (
    BLOCK,
    LONG_REQUESTS,
    AnswerTimeoutError,
    QueueFullError,
    RequestQueue,
)


class Lengths:
    """A model that counts characters, and waits until it may."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, texts: list[str]) -> dict[str, np.ndarray]:
        self.calls.append(list(texts))
        assert self.go.wait(DEADLINE)
        return {"n": np.array([len(text) for text in texts])}


async def until(true) -> None:
    """Let other tasks run until a condition is true."""
    async with asyncio.timeout(DEADLINE):
        while not true():
            await asyncio.sleep(0.001)


def test_an_idle_model_is_asked_at_once(monkeypatch):
    """No timer runs before a text is computed: time stands still here."""
    model = Lengths()

    async def ask_on_a_stopped_clock():
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: 0.0)
        queue = RequestQueue(model)
        async with queue.running():
            return [(await queue.ask(["x" * n]))["n"].item() for n in range(5)]

    assert asyncio.run(ask_on_a_stopped_clock()) == [0, 1, 2, 3, 4]
    assert [len(call) for call in model.calls] == [1] * 5


def test_a_batch_has_texts_of_one_function():
    model, other = Lengths(), Lengths()
    asked = [(["a"], None), (["bb"], None), (["ccc"], other), (["dddd"], other), (["e"], None)]

    async def run():
        queue = RequestQueue(model)
        async with queue.running():
            model.go.clear()
            first = asyncio.create_task(queue.ask(["first"]))
            await until(lambda: model.calls)
            rest = [asyncio.create_task(queue.ask(texts, by)) for texts, by in asked]
            await until(lambda: queue.waiting == 5)
            model.go.set()
            return [(await task)["n"].tolist() for task in [first, *rest]]

    assert asyncio.run(run()) == [[5], [1], [2], [3], [4], [1]]
    assert model.calls == [["first"], ["a", "bb"], ["e"]]
    assert other.calls == [["ccc", "dddd"]]


def test_requests_collect_while_a_batch_is_computed():
    model = Lengths()
    model.go.clear()
    sizes = []

    async def ask_while_busy():
        queue = RequestQueue(model, max_batch=8, on_batch=sizes.append)
        async with queue.running():
            first = asyncio.create_task(queue.ask(["first"]))
            await until(lambda: model.calls)
            tasks = [asyncio.create_task(queue.ask(["x" * n, ""])) for n in range(20)]
            await until(lambda: queue.waiting == 40)
            model.go.set()
            return await asyncio.gather(first, *tasks)

    first, *answers = asyncio.run(ask_while_busy())
    assert first["n"].tolist() == [5]
    assert [answer["n"].tolist() for answer in answers] == [[n, 0] for n in range(20)]
    assert [len(call) for call in model.calls] == sizes == [1, 8, 8, 8, 8, 8]


def test_the_next_batch_starts_before_the_event_loop_sees_the_last_answer():
    """A busy event loop, which parses requests, does not keep the model waiting."""
    model = Lengths()
    model.go.clear()

    async def ask_and_be_busy():
        queue = RequestQueue(model, max_batch=1)
        async with queue.running():
            tasks = [asyncio.create_task(queue.ask([text])) for text in ("a", "b", "c")]
            await until(lambda: queue.waiting == 2)
            model.go.set()
            begun = time.monotonic()
            while len(model.calls) < 3 and time.monotonic() - begun < DEADLINE:
                time.sleep(0.001)  # the loop does nothing else
            assert not any(task.done() for task in tasks)
            return await asyncio.gather(*tasks)

    assert len(asyncio.run(ask_and_be_busy())) == 3
    assert model.calls == [["a"], ["b"], ["c"]]


def test_a_cancelled_caller_leaves_the_queue():
    model = Lengths()
    model.go.clear()

    async def cancel_one():
        queue = RequestQueue(model, max_waiting=2)
        async with queue.running():
            busy = asyncio.create_task(queue.ask(["first"]))
            await until(lambda: model.calls)
            tasks = [asyncio.create_task(queue.ask([name])) for name in ("a", "b")]
            await until(lambda: queue.waiting == 2)
            with pytest.raises(QueueFullError, match="2 texts are waiting already"):
                await queue.ask(["c"])
            tasks[0].cancel()
            await until(lambda: queue.waiting == 1)
            last = asyncio.create_task(queue.ask(["d"]))
            await until(lambda: queue.waiting == 2)
            model.go.set()
            return await asyncio.gather(busy, tasks[1], last)

    assert [answer["n"].item() for answer in asyncio.run(cancel_one())] == [5, 1, 1]
    assert model.calls == [["first"], ["b", "d"]]


def test_a_failed_batch_is_not_repeated_for_callers_that_have_left():
    lengths = Lengths()
    lengths.go.clear()

    def fails_for_several(texts):
        columns = lengths(texts)
        if len(texts) > 1:
            raise ValueError
        return columns

    async def cancel_one():
        queue = RequestQueue(fails_for_several)
        async with queue.running():
            first = asyncio.create_task(queue.ask(["first"]))
            await until(lambda: lengths.calls)
            tasks = [asyncio.create_task(queue.ask([name])) for name in ("leaves", "stays")]
            await until(lambda: queue.waiting == 2)
            lengths.go.set()
            lengths.go = threading.Event()
            await until(lambda: len(lengths.calls) == 2)
            tasks[0].cancel()
            await until(tasks[0].done)
            lengths.go.set()
            await first
            return await tasks[1]

    assert asyncio.run(cancel_one())["n"].item() == 5
    assert lengths.calls == [["first"], ["leaves", "stays"], ["stays"]]


def test_pending_requests_are_drained_on_exit():
    model = Lengths()
    model.go.clear()

    async def leave_while_asking():
        queue = RequestQueue(model, max_batch=2)
        async with queue.running():
            tasks = [asyncio.create_task(queue.ask(["a", "bc"])) for _ in range(3)]
            await until(lambda: model.calls)
            threading.Timer(0.1, model.go.set).start()
        assert all(task.done() for task in tasks)
        return await asyncio.gather(*tasks)

    assert [answer["n"].tolist() for answer in asyncio.run(leave_while_asking())] == [[1, 2]] * 3


def test_blocks_of_a_long_request():
    model = Lengths()
    texts = ["x" * (n % 7) for n in range(2 * BLOCK + 3)]

    async def ask_in_blocks():
        queue = RequestQueue(model)
        async with queue.running():
            return [block["n"] async for block in queue.blocks(texts)]

    blocks = asyncio.run(ask_in_blocks())
    assert [len(block) for block in blocks] == [BLOCK, BLOCK, 3]
    assert np.concatenate(blocks).tolist() == [len(text) for text in texts]


def test_few_long_requests_at_a_time():
    model, texts = Lengths(), ["x"] * (BLOCK + 1)
    model.go.clear()

    async def ask_for_many():
        queue = RequestQueue(model, max_waiting=10_000)
        async with queue.running():
            iterators = [queue.blocks(texts) for _ in range(LONG_REQUESTS)]
            first = [asyncio.create_task(anext(blocks)) for blocks in iterators]
            await until(lambda: queue.waiting == BLOCK * (LONG_REQUESTS - 1))
            with pytest.raises(QueueFullError, match="8 requests of more than 64 texts"):
                await anext(queue.blocks(texts))
            short = asyncio.create_task(anext(queue.blocks(["short"])))
            model.go.set()
            await asyncio.gather(*first, short)
            await iterators[0].aclose()  # its place is free again
            assert len(await anext(iterators[0], {})) == 0
            assert [len(block["n"]) async for block in queue.blocks(texts)] == [BLOCK, 1]
            for blocks in iterators:
                await blocks.aclose()

    asyncio.run(ask_for_many())


def test_the_time_limit():
    model = Lengths()
    model.go.clear()

    async def ask():
        queue = RequestQueue(model, seconds=0.05)
        async with queue.running():
            try:
                with pytest.raises(AnswerTimeoutError, match=r"no answer within 0\.05 seconds"):
                    await queue.ask(["a"])
            finally:
                model.go.set()

    asyncio.run(ask())


def test_a_text_that_waits_too_long_leaves_the_queue():
    model = Lengths()
    model.go.clear()

    async def ask():
        queue = RequestQueue(model, seconds=0.05)
        async with queue.running():
            first = asyncio.create_task(queue.ask(["first"]))
            await until(lambda: model.calls)
            with pytest.raises(AnswerTimeoutError, match="no answer within"):
                await queue.ask(["second"])
            assert queue.waiting == 0
            model.go.set()
            with pytest.raises(AnswerTimeoutError, match="no answer within"):
                await first

    asyncio.run(ask())
    assert model.calls == [["first"]]


def test_room_that_does_not_come_in_time():
    model = Lengths()

    async def ask():
        queue = RequestQueue(model, seconds=0.2, max_waiting=1)
        async with queue.running():
            queue.waiting = 1  # of a request that waits longer
            with pytest.raises(AnswerTimeoutError, match="no answer within"):
                await queue.ask(["b"], wait_for_room=True)
            queue.waiting = 0
            return (await queue.ask(["cd"], wait_for_room=True))["n"].item()

    assert asyncio.run(ask()) == 2
    assert model.calls == [["cd"]]


def test_an_input_error_of_the_model_is_not_the_clients():
    def unusable(texts):
        raise InputError("the encoder does not exist.")

    async def ask():
        queue = RequestQueue(unusable)
        async with queue.running():
            await queue.ask(["a"])

    with pytest.raises(RuntimeError, match="the model cannot be used"):
        asyncio.run(ask())
