"""A bounded queue before one model, which answers the texts of many requests in batches."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..errors import InputError

__all__ = ["BLOCK", "AnswerTimeoutError", "Columns", "Items", "QueueFullError", "RequestQueue"]

BLOCK = 64  # texts of one request that are in the queue at a time
LONG_REQUESTS = 8  # requests of more than BLOCK texts at a time
POLL_SECONDS = 0.01  # between looks at whether there is room, or at whether all are answered

Columns = dict[str, np.ndarray]
Items: TypeAlias = list[Any]  # texts, or whatever the function that is asked takes
Answer = Callable[[Items], Columns]


class QueueFullError(Exception):
    """The queue has no room for these texts now."""


class AnswerTimeoutError(Exception):
    """The model did not answer in time."""


@dataclass(eq=False)
class _Piece:
    """Texts of one request that go into the same batch, and their answer."""

    texts: Items
    by: Answer
    answer: asyncio.Future[Columns]

    def resolve(self, outcome: Columns | Exception) -> None:
        if self.answer.done():  # its caller has left
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


_Outcomes = list[tuple[_Piece, Columns | Exception]]


class RequestQueue:
    """Collect the texts of concurrent requests and answer them in batches.

    One batch is computed at a time, on all cores, in a thread of its own. Texts that arrive
    meanwhile make up the next batch, which the thread takes without waiting for the event loop.
    A text that finds the model idle is computed at once.

    Parameters
    ----------
    answer : callable
        Maps a list of texts to columns with one row per text. It is called in a thread of
        the queue. Its answer to a text must not depend on the other texts. A request may ask
        another function instead; a batch has the texts of one.
    max_waiting : int, default=1024
        Number of texts that may wait. Beyond it, requests are refused at once.
    max_batch : int, default=64
        Texts of a batch.
    seconds : float, default=60
        Time limit for each block of `BLOCK` texts.
    warm_up : callable, optional
        Is called in the thread of the queue before it takes requests.
    on_batch : callable, optional
        Receives the number of texts of each batch that the model has answered; called in the
        same thread.

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
        answer: Answer,
        *,
        max_waiting: int = 1024,
        max_batch: int = BLOCK,
        seconds: float = 60.0,
        warm_up: Callable[[], None] | None = None,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self.max_waiting = max_waiting
        self.max_batch = max_batch
        self.seconds = seconds
        self.waiting = 0
        self._n_requests = 0
        self._n_long = 0
        self._answer = answer
        self._warm_up = warm_up
        self._on_batch = on_batch
        # Of the pieces, `waiting` and `_closing`. The event loop never waits for it for long.
        self._changed = threading.Condition()
        self._pieces: deque[_Piece] = deque()
        self._closing = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[RequestQueue]:
        """Warm up, answer requests while the block runs, and drain pending requests on exit."""
        self._closing = False
        loop = asyncio.get_running_loop()
        is_warm: asyncio.Future[None] = loop.create_future()
        thread = threading.Thread(target=self._work, args=[loop, is_warm], name="model")
        thread.start()
        try:
            await is_warm
            yield self
            while self._n_requests:
                await asyncio.sleep(POLL_SECONDS)
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify()
            thread.join()

    def has_room(self, n_texts: int) -> bool:
        """Tell whether `n_texts` more texts may wait; an empty queue accepts any number."""
        return not self.waiting or self.waiting + n_texts <= self.max_waiting

    async def ask(
        self, texts: Items, by: Answer | None = None, *, wait_for_room: bool = False
    ) -> Columns:
        """Return the columns of answers to a few texts.

        A caller that is cancelled leaves the queue.

        Parameters
        ----------
        texts : list of str, or of what else is asked for
            They go into one batch.
        by : callable, optional
            What to ask; by default the queue's `answer`.
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
        loop = asyncio.get_running_loop()
        until = loop.time() + self.seconds
        while wait_for_room and not self.has_room(len(texts)):
            if loop.time() > until:
                raise self._timeout()
            await asyncio.sleep(POLL_SECONDS)
        try:
            return await self._enqueue(texts, by or self._answer, until)
        except InputError as error:
            # The texts were checked before: this is the model's error and not the client's.
            raise RuntimeError("the model cannot be used") from error

    def _timeout(self) -> AnswerTimeoutError:
        return AnswerTimeoutError(f"no answer within {self.seconds:g} seconds.")

    async def blocks(self, texts: Items, by: Answer | None = None) -> AsyncGenerator[Columns, None]:
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
                yield await self.ask(texts[start : start + BLOCK], by, wait_for_room=start > 0)
        finally:
            self._n_long -= is_long

    async def _enqueue(self, texts: Items, by: Answer, until: float) -> Columns:
        if not self.has_room(len(texts)):
            raise QueueFullError(f"{self.waiting:,} texts are waiting already")
        loop = asyncio.get_running_loop()
        piece = _Piece(texts, by, loop.create_future())
        # asyncio.timeout would do the same, and takes four times as long.
        timer = loop.call_at(until, lambda: piece.resolve(self._timeout()))
        with self._changed:
            self._pieces.append(piece)
            self.waiting += len(texts)
            self._changed.notify()
        self._n_requests += 1
        try:
            return await piece.answer
        except (asyncio.CancelledError, AnswerTimeoutError):
            self._remove(piece)
            raise
        finally:
            timer.cancel()
            self._n_requests -= 1

    def _remove(self, piece: _Piece) -> None:
        with self._changed:
            if piece in self._pieces:
                self._pieces.remove(piece)
                self.waiting -= len(piece.texts)

    # In the thread of the model

    def _work(self, loop: asyncio.AbstractEventLoop, is_warm: asyncio.Future[None]) -> None:
        try:
            if self._warm_up is not None:
                self._warm_up()
        except Exception as error:
            loop.call_soon_threadsafe(is_warm.set_exception, error)
            return
        loop.call_soon_threadsafe(is_warm.set_result, None)
        while batch := self._next_batch():
            loop.call_soon_threadsafe(_resolve_all, self._outcomes(batch))

    def _next_batch(self) -> list[_Piece]:
        """Wait for pieces, and take some of at most `max_batch` texts; none means the end.

        All of them ask the same function. A larger piece is a batch of its own.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._closing)
            batch: list[_Piece] = []
            n_texts = 0
            while self._pieces:
                piece = self._pieces[0]
                too_many = n_texts + len(piece.texts) > self.max_batch
                if batch and (too_many or piece.by != batch[0].by):
                    break
                self._pieces.popleft()
                n_texts += len(piece.texts)
                batch.append(piece)
            self.waiting -= n_texts
        return batch

    def _outcomes(self, batch: Sequence[_Piece]) -> _Outcomes:
        try:
            columns = batch[0].by([text for piece in batch for text in piece.texts])
        except Exception as error:
            if len(batch) == 1:
                return [(batch[0], error)]
            # Compute each piece alone, so that only the piece with the faulty text fails. Callers
            # may have left by now.
            asked = [piece for piece in batch if not piece.answer.done()]
            return [outcome for piece in asked for outcome in self._outcomes([piece])]
        if self._on_batch is not None:
            self._on_batch(sum(len(piece.texts) for piece in batch))
        outcomes: _Outcomes = []
        start = 0
        for piece in batch:
            end = start + len(piece.texts)
            outcomes.append((piece, {name: c[start:end] for name, c in columns.items()}))
            start = end
        return outcomes


def _resolve_all(outcomes: _Outcomes) -> None:
    for piece, outcome in outcomes:
        piece.resolve(outcome)
