"""Cut texts into batches of one length, and compute batches side by side."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np

__all__ = ["in_streams", "plan_batches"]

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def plan_batches(lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Cut texts into batches of one length each, of at most `max_tokens` tokens.

    One length a batch means no padding, and so no mask: no time is spent on either, and
    a text's vector cannot depend on its company. The longest come first: too large a
    batch then shows at once, and the time left is at first over- and not underrated.

    Parameters
    ----------
    lengths : numpy.ndarray of int, shape (n_texts,)
        Tokens of each text.
    max_tokens : int
        Largest size of a batch. A text that is longer by itself gets a batch of its own.

    Returns
    -------
    list of numpy.ndarray of int
        Indices into `lengths`; each index stands in exactly one batch.

    Examples
    --------
    >>> plan_batches(np.array([4, 9, 4, 3, 4]), max_tokens=10)
    [array([1]), array([0, 2]), array([4]), array([3])]
    """
    order = np.argsort(-lengths, kind="stable")
    batches = []
    for rows in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        if len(rows):
            size = max(1, max_tokens // max(1, int(lengths[rows[0]])))
            batches += np.split(rows, range(size, len(rows), size))
    return batches


def in_streams(
    compute: Callable[[Batch], Result],
    batches: Iterable[Batch | None],
    n_streams: int,
    prepare: Callable[[], None],
) -> Generator[list[tuple[Batch, Result]], None, None]:
    """Compute batches in threads side by side.

    On a CPU, streams of one thread each get more done than one stream of several, which
    wait for each other after each matrix product; the more so when a core has other work.

    Parameters
    ----------
    compute : callable
        From a batch to its result.
    batches : iterable
        Drawn from one at a time, when a stream is about to be free. At a None, all that
        was drawn is finished and yielded before the next is drawn.
    n_streams : int
    prepare : callable
        Called once in each thread.

    Yields
    ------
    list of (batch, result)
        Those finished since the last time, in no certain order.

    Examples
    --------
    >>> found = in_streams(lambda batch: 2 * batch, [1, 2, 3], n_streams=2, prepare=lambda: None)
    >>> sorted(result for finished in found for _, result in finished)
    [2, 4, 6]
    """
    running: dict[Future[Result], Batch] = {}
    pool = ThreadPoolExecutor(n_streams, initializer=prepare)

    def finished(at_most: int) -> Generator[list[tuple[Batch, Result]], None, None]:
        while len(running) > at_most:
            done = wait(running, return_when=FIRST_COMPLETED).done
            yield [(running.pop(future), future.result()) for future in done]

    try:
        for batch in batches:
            if batch is not None:
                running[pool.submit(compute, batch)] = batch
            # One more than there are streams, so that none waits for the caller.
            yield from finished(n_streams if batch is not None else 0)
        yield from finished(0)
    finally:
        pool.shutdown(cancel_futures=True)
