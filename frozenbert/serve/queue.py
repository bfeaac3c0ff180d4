"""Texts of many requests, answered together: a bounded queue before one model."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Batcher", "Columns", "QueueFullError"]

Columns = dict[str, np.ndarray]


class QueueFullError(Exception):
    """As many texts are waiting as may."""


@dataclass(eq=False)
class _Piece:
    texts: list[str]
    answer: asyncio.Future[Columns]


class Batcher:
    """Collect texts that arrive together, and answer them in one go.

    One batch is computed at a time, on all cores; what arrives meanwhile is the next one. An
    idle model waits a little, so that requests of the same moment meet.

    Parameters
    ----------
    answer : callable
        From a list of texts to columns, each with a value for each text; it is called in a
        thread of its own. Its answer to a text must not depend on the others.
    max_waiting : int, default=1024
        Texts that may wait; what is too much is refused at once.
    max_batch : int, default=64
        Texts of a batch. (Pieces are not cut: one that is larger is a batch alone.)
    wait : float, default=0.004
        Seconds that an idle model waits for company.
    on_batch : callable, optional
        Is given the number of texts and of requests of each batch.

    Examples
    --------
    >>> async def two_at_once():
    ...     batcher = Batcher(lambda texts: {"length": np.array([len(t) for t in texts])})
    ...     async with batcher.running():
    ...         return await asyncio.gather(batcher.ask(["a", "bcd"]), batcher.ask(["ef"]))
    >>> [found["length"].tolist() for found in asyncio.run(two_at_once())]
    [[1, 3], [2]]
    """

    def __init__(
        self,
        answer: Callable[[list[str]], Columns],
        *,
        max_waiting: int = 1024,
        max_batch: int = 64,
        wait: float = 0.004,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> None:
        self.max_waiting = max_waiting
        self.max_batch = max_batch
        self.wait = wait
        self.waiting = 0
        self._asking = 0
        self._answer = answer
        self._on_batch = on_batch
        self._pieces: deque[_Piece] = deque()
        self._arrived = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> Any:
        """Answer while the block runs; at its end, whoever still waits is answered first."""
        with ThreadPoolExecutor(1, "model") as thread:
            task = asyncio.create_task(self._work(thread))
            try:
                yield self
                while self._asking:
                    await asyncio.sleep(self.wait)
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def has_room(self, n_texts: int) -> bool:
        """Whether so many more texts may wait; when none do, any number may."""
        return not self.waiting or self.waiting + n_texts <= self.max_waiting

    async def ask(self, texts: list[str]) -> Columns:
        """Return the columns of answers to some texts.

        Who stops waiting (a timeout, a client that has gone) leaves the queue.

        Raises
        ------
        QueueFullError
            If so many texts find no room.
        """
        if not self.has_room(len(texts)):
            raise QueueFullError
        piece = _Piece(texts, asyncio.get_running_loop().create_future())
        self._pieces.append(piece)
        self.waiting += len(texts)
        self._asking += 1
        self._arrived.set()
        try:
            return await piece.answer
        finally:
            self._asking -= 1
            if piece in self._pieces:
                self._pieces.remove(piece)
                self.waiting -= len(texts)

    async def _work(self, thread: ThreadPoolExecutor) -> None:
        while True:
            if not self._pieces:
                self._arrived.clear()
                await self._arrived.wait()
                await asyncio.sleep(self.wait)
            batch = list(self._next())
            if not batch:
                continue
            try:
                await self._compute(batch, thread)
            except Exception as error:
                if len(batch) == 1:
                    _fail(batch[0], error)
                    continue
                # One of them is to blame, and no other is to suffer for it.
                for piece in batch:
                    if piece.answer.done():  # nobody waits for it any more
                        continue
                    try:
                        await self._compute([piece], thread)
                    except Exception as its_own:
                        _fail(piece, its_own)

    def _next(self) -> Iterator[_Piece]:
        n_texts = 0
        while self._pieces and (
            not n_texts or n_texts + len(self._pieces[0].texts) <= self.max_batch
        ):
            piece = self._pieces.popleft()
            self.waiting -= len(piece.texts)
            n_texts += len(piece.texts)
            yield piece

    async def _compute(self, batch: list[_Piece], thread: ThreadPoolExecutor) -> None:
        texts = [text for piece in batch for text in piece.texts]
        loop = asyncio.get_running_loop()
        columns = await loop.run_in_executor(thread, self._answer, texts)
        if self._on_batch is not None:
            self._on_batch(len(texts), len(batch))
        start = 0
        for piece in batch:
            end = start + len(piece.texts)
            if not piece.answer.done():
                piece.answer.set_result({name: c[start:end] for name, c in columns.items()})
            start = end


def _fail(piece: _Piece, error: Exception) -> None:
    if not piece.answer.done():
        piece.answer.set_exception(error)
