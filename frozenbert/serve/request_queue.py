"""A bounded queue before one model, which answers the texts of many requests in batches."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

__all__ = ["BLOCK", "AnswerTimeoutError", "Columns", "QueueFullError", "RequestQueue"]

BLOCK = 64  # texts of one request that are in the queue at a time
LONG_REQUESTS = 8  # requests of more than BLOCK texts at a time
POLL_SECONDS = 0.01

Columns = dict[str, np.ndarray]


class QueueFullError(Exception):
    """The queue has no room for these texts now."""


class AnswerTimeoutError(Exception):
    """The model did not answer in time."""


@dataclass(eq=False)
class _Piece:
    """Texts of one request that go into the same batch, and their answer."""

    texts: list[str]
    answer: asyncio.Future[Columns]

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class RequestQueue:
    """Collect the texts of concurrent requests and answer them in batches.

    One batch is computed at a time, on all cores. Texts that arrive meanwhile make up the next
    batch. An idle model waits a few milliseconds, so that concurrent requests share a batch.

    Parameters
    ----------
    answer : callable
        Maps a list of texts to columns with one value per text. It is called in its own
        thread. Its answer to a text must not depend on the other texts.
    max_waiting : int, default=1024
        Number of texts that may wait. Beyond it, requests are refused at once.
    max_batch : int, default=64
        Texts of a batch.
    wait : float, default=0.004
        Seconds that an idle model waits for further texts.
    seconds : float, default=60
        Time limit for each block of `BLOCK` texts.
    on_batch : callable, optional
        Receives the number of texts of each batch.

    Attributes
    ----------
    waiting : int
        Number of texts that wait.

    Examples
    --------
    >>> async def two_at_once():
    ...     queue = RequestQueue(lambda texts: {"length": np.array([len(t) for t in texts])})
    ...     async with queue.running():
    ...         return await asyncio.gather(queue.ask(["a", "bcd"]), queue.ask(["ef"]))
    >>> [columns["length"].tolist() for columns in asyncio.run(two_at_once())]
    [[1, 3], [2]]
    """

    def __init__(
        self,
        answer: Callable[[list[str]], Columns],
        *,
        max_waiting: int = 1024,
        max_batch: int = BLOCK,
        wait: float = 0.004,
        seconds: float = 60.0,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self.max_waiting = max_waiting
        self.max_batch = max_batch
        self.wait = wait
        self.seconds = seconds
        self.waiting = 0
        self._n_requests = 0
        self._n_long = 0
        self._answer = answer
        self._on_batch = on_batch
        self._pieces: deque[_Piece] = deque()
        self._arrived = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[RequestQueue]:
        """Answer requests while the block runs; drain pending requests on exit."""
        with ThreadPoolExecutor(1, "model") as thread:
            task = asyncio.create_task(self._work(thread))
            try:
                yield self
                while self._n_requests:
                    await asyncio.sleep(self.wait)
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def has_room(self, n_texts: int) -> bool:
        """Tell whether `n_texts` more texts may wait; an empty queue accepts any number."""
        return not self.waiting or self.waiting + n_texts <= self.max_waiting

    async def ask(self, texts: list[str], *, wait_for_room: bool = False) -> Columns:
        """Return the columns of answers to a few texts.

        A caller that is cancelled leaves the queue.

        Parameters
        ----------
        texts : list of str
            They go into one batch.
        wait_for_room : bool, default=False
            Whether to wait while the queue is full, instead of raising an error.

        Raises
        ------
        QueueFullError
            If there is no room for the texts.
        AnswerTimeoutError
            If there is no answer within the time limit.
        RuntimeError
            If the model cannot be used.
        """
        try:
            async with asyncio.timeout(self.seconds):
                while wait_for_room and not self.has_room(len(texts)):
                    await asyncio.sleep(POLL_SECONDS)
                return await self._enqueue(texts)
        except TimeoutError:
            raise AnswerTimeoutError(f"no answer within {self.seconds:g} seconds.") from None
        except InputError as error:
            # The texts were checked before: this is the model's error and not the client's.
            raise RuntimeError("the model cannot be used") from error

    async def blocks(self, texts: list[str]) -> AsyncGenerator[Columns, None]:
        """Yield the answers to many texts, at most `BLOCK` at a time.

        Other requests get their turn between the blocks. Once the first block is accepted, the
        further ones wait for room. Close the iterator if it is not read to its end.

        Raises
        ------
        QueueFullError
            If there is no room for the first block, or too many long requests are active.
        """
        is_long = len(texts) > BLOCK
        if is_long and self._n_long >= LONG_REQUESTS:
            raise QueueFullError(
                f"{LONG_REQUESTS} requests of more than {BLOCK} texts are active already"
            )
        self._n_long += is_long
        try:
            for start in range(0, len(texts), BLOCK):
                yield await self.ask(texts[start : start + BLOCK], wait_for_room=start > 0)
        finally:
            self._n_long -= is_long

    async def _enqueue(self, texts: list[str]) -> Columns:
        if not self.has_room(len(texts)):
            raise QueueFullError(f"{self.waiting:,} texts are waiting already")
        piece = _Piece(texts, asyncio.get_running_loop().create_future())
        self._pieces.append(piece)
        self.waiting += len(texts)
        self._n_requests += 1
        self._arrived.set()
        try:
            return await piece.answer
        finally:
            self._n_requests -= 1
            if piece in self._pieces:
                self._pieces.remove(piece)
                self.waiting -= len(texts)

    async def _work(self, thread: ThreadPoolExecutor) -> None:
        while True:
            if not self._pieces:
                self._arrived.clear()
                await self._arrived.wait()
                await asyncio.sleep(self.wait)
            if batch := self._next_batch():
                await self._answer_batch(batch, thread)

    def _next_batch(self) -> list[_Piece]:
        """Take pieces of at most `max_batch` texts; a larger piece is a batch of its own."""
        batch: list[_Piece] = []
        n_texts = 0
        while self._pieces and (
            not batch or n_texts + len(self._pieces[0].texts) <= self.max_batch
        ):
            piece = self._pieces.popleft()
            self.waiting -= len(piece.texts)
            n_texts += len(piece.texts)
            batch.append(piece)
        return batch

    async def _answer_batch(self, batch: list[_Piece], thread: ThreadPoolExecutor) -> None:
        try:
            await self._compute(batch, thread)
        except Exception as error:
            if len(batch) == 1:
                batch[0].fail(error)
                return
            # Compute each piece alone, so that only the piece with the faulty text fails.
            for piece in batch:
                if not piece.answer.done():
                    await self._answer_batch([piece], thread)

    async def _compute(self, batch: list[_Piece], thread: ThreadPoolExecutor) -> None:
        texts = [text for piece in batch for text in piece.texts]
        loop = asyncio.get_running_loop()
        columns = await loop.run_in_executor(thread, self._answer, texts)
        if self._on_batch is not None:
            self._on_batch(len(texts))
        start = 0
        for piece in batch:
            end = start + len(piece.texts)
            if not piece.answer.done():
                piece.answer.set_result({name: c[start:end] for name, c in columns.items()})
            start = end
