"""Cut long texts into pieces, plan batches of texts, and compute batches in parallel."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import groupby
from typing import TypeVar

import numpy as np

__all__ = ["LONG_TEXT", "fit_in", "in_streams", "of_one_length", "plan_batches"]

Batch = TypeVar("Batch")
Result = TypeVar("Result")

LONG_TEXT = ("truncate", "head_tail", "windows")
PADDING = -1  # no token has this id


def fit_in(
    ids: np.ndarray, first: int, last: int, max_length: int, long_text: str
) -> list[np.ndarray]:
    """Cut a text with more than `max_length` tokens into pieces.

    Parameters
    ----------
    ids : numpy.ndarray, shape (n_tokens,)
        Token ids of the text. The tokens before `first` and from `last` on are special
        tokens; each piece gets them.
    first, last : int
        Begin and end of the text itself in `ids`.
    max_length : int
        Most tokens of a piece, special tokens included.
    long_text : {"truncate", "head_tail", "windows"}
        "truncate" keeps the beginning. "head_tail" takes a quarter of the tokens from the
        beginning and the rest from the end, similar to the 128 and 382 tokens of [1]_.
        "windows" takes the whole text, in the fewest windows that overlap by an eighth or
        more. All windows are full and evenly spread, so each has the same weight in a mean.

    Returns
    -------
    list of numpy.ndarray
        One piece, or the windows.

    References
    ----------
    .. [1] Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?",
       https://arxiv.org/abs/1905.05583

    Examples
    --------
    >>> [piece.tolist() for piece in fit_in(np.arange(11), 1, 10, 6, "windows")]
    [[0, 1, 2, 3, 4, 10], [0, 3, 4, 5, 6, 10], [0, 6, 7, 8, 9, 10]]
    >>> fit_in(np.arange(11), 1, 10, 6, "head_tail")[0].tolist()
    [0, 1, 7, 8, 9, 10]
    """
    start, body, end = ids[:first], ids[first:last], ids[last:]
    room = max_length - len(start) - len(end)
    if room <= 0:  # the special tokens fill the piece
        return [np.concatenate([start, end])[:max_length]]
    if long_text == "truncate":
        parts = [body[:room]]
    elif long_text == "head_tail":
        head = room // 4
        parts = [np.concatenate([body[:head], body[len(body) - (room - head) :]])]
    else:
        step = room - room // 8
        n_windows = 1 + -(-(len(body) - room) // step)
        starts = np.linspace(0, len(body) - room, n_windows).round().astype(int)
        parts = [body[at : at + room] for at in starts]
    return [np.concatenate([start, part, end]) for part in parts]


def plan_batches(lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Order texts by length and cut them into batches of at most `max_tokens` tokens.

    Texts of one length share a batch as far as possible: they are computed together, without
    padding and mask. The longest texts come first, so that a batch that is too large for the
    memory fails at once, and the estimate of the remaining time is not too low.

    Parameters
    ----------
    lengths : numpy.ndarray of int, shape (n_texts,)
        Number of tokens of each text.
    max_tokens : int
        Largest size of a batch. A text that is longer gets a batch of its own.

    Returns
    -------
    list of numpy.ndarray of int
        Indices into `lengths`; each index is in exactly one batch.

    Examples
    --------
    >>> plan_batches(np.array([4, 9, 4, 3, 4]), max_tokens=10)
    [array([1]), array([0, 2]), array([4, 3])]
    """
    order = np.argsort(-lengths, kind="stable")
    batches: list[list[np.ndarray]] = []
    room = -1
    for rows in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        length = max(1, int(lengths[rows[0]])) if len(rows) else 1
        size = max(1, max_tokens // length)
        for part in np.split(rows, range(size, len(rows), size)):
            if len(part) * length > room:
                batches.append([])
                room = max_tokens
            batches[-1].append(part)
            room -= len(part) * length
    return [np.concatenate(parts) for parts in batches if sum(map(len, parts))]


def of_one_length(ids: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Stack neighbours of one length into arrays.

    Parameters
    ----------
    ids : sequence of numpy.ndarray, each of shape (n_tokens,)

    Returns
    -------
    list of numpy.ndarray of int64, each of shape (n_rows, n_tokens)

    Examples
    --------
    >>> [group.shape for group in of_one_length([np.ones(5), np.ones(2), np.ones(2)])]
    [(1, 5), (2, 2)]
    """
    return [np.stack(list(group)).astype(np.int64) for _, group in groupby(ids, key=len)]


def in_streams(
    compute: Callable[[Batch], Result],
    batches: Iterable[Batch | None],
    n_streams: int,
    prepare: Callable[[], None],
) -> Generator[list[tuple[Batch, Result]], None, None]:
    """Compute batches in parallel threads.

    On a CPU, several streams of one thread each are faster than one stream of several threads,
    which wait for each other after each matrix product.

    Parameters
    ----------
    compute : callable
        Function from a batch to its result.
    batches : iterable
        The next batch is drawn when a stream is about to become free. A None in `batches`
        is a barrier: all batches drawn so far are finished and yielded before the next one
        is drawn.
    n_streams : int
        Number of threads.
    prepare : callable
        Called once in each thread.

    Yields
    ------
    list of (batch, result)
        Batches finished since the last item, in arbitrary order.

    Examples
    --------
    >>> items = in_streams(lambda batch: 2 * batch, [1, 2, 3], n_streams=2, prepare=lambda: None)
    >>> sorted(result for finished in items for _, result in finished)
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
            # One more batch than streams, so that no stream waits for the caller.
            yield from finished(n_streams if batch is not None else 0)
        yield from finished(0)
    finally:
        pool.shutdown(cancel_futures=True)
