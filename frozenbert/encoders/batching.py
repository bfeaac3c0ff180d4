"""Cut long texts into pieces, and plan batches of texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

__all__ = ["LADDER", "LONG_TEXT", "PADDING", "fit_in", "of_one_length", "pad", "plan_batches"]

LONG_TEXT = ("truncate", "head_tail", "windows")
PADDING = -1  # no token has this id
LADDER = "8-16"  # names the lengths of `pad`: change it with them


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


def pad(ids: np.ndarray, longest: int) -> np.ndarray:
    """Fill a piece with `PADDING` up to the next length of a fixed ladder.

    The length depends on the piece alone, so its vector does, too. A compiled graph keeps the
    kernels of each length that it has seen, and the ladder makes them few: the multiples of 8
    up to 64, then those of 16. Padding of a short text is a larger share of its work.

    Parameters
    ----------
    ids : numpy.ndarray, shape (n_tokens,)
    longest : int
        Most tokens of a piece; no piece is padded beyond it.

    Returns
    -------
    numpy.ndarray, shape (n_padded,)

    Examples
    --------
    >>> [len(pad(np.ones(n), longest=200)) for n in (3, 16, 17, 65, 195)]
    [8, 16, 24, 80, 200]
    """
    step = 8 if len(ids) <= 64 else 16
    n_padding = max(0, min(-(-len(ids) // step) * step, longest) - len(ids))
    return np.pad(ids, (0, n_padding), constant_values=PADDING) if n_padding else ids


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
