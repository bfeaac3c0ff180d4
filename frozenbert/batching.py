"""Cut texts of different lengths into batches that waste little padding."""

from __future__ import annotations

import numpy as np

__all__ = ["plan_batches"]


def plan_batches(lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Order texts by length and cut them into batches of at most `max_tokens` tokens.

    A batch is padded to its longest text, so its size is that length times the number
    of its texts. The longest come first: too large a batch then shows at once, and the
    time left is at first over- and not underrated.

    Parameters
    ----------
    lengths : numpy.ndarray of int, shape (n_texts,)
        Tokens of each text.
    max_tokens : int
        Largest size of a batch, padding included. A text that is longer by itself gets
        a batch of its own.

    Returns
    -------
    list of numpy.ndarray of int
        Indices into `lengths`; each index stands in exactly one batch.

    Examples
    --------
    >>> plan_batches(np.array([3, 9, 4, 4]), max_tokens=12)
    [array([1]), array([2, 3, 0])]
    """
    order = np.argsort(-lengths, kind="stable")
    batches = []
    start = 0
    while start < len(order):
        size = max(1, max_tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches
