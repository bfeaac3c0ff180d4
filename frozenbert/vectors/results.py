"""Results of a job: vectors and lengths of texts, and how much of the texts was read."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import TruncationWarning
from ..utils.console import callers_level

__all__ = ["Reading", "Results", "cut_and_normalize", "sample_rows", "text_keys"]


def text_keys(texts: Sequence[str], kind: str = "") -> np.ndarray:
    """Hash texts (BLAKE2b, 128 bits) for looking them up.

    Parameters
    ----------
    texts : sequence of str
    kind : str, default=""
        Separates vectors of the same text that were made in different ways; at most 16
        ASCII characters.

    Returns
    -------
    numpy.ndarray of uint64, shape (n_texts, 2)

    Examples
    --------
    >>> keys = text_keys(["a", "b", "a"])
    >>> bool((keys[0] == keys[2]).all()), bool((keys[0] == keys[1]).any())
    (True, False)
    """
    person = kind.encode()
    digests = b"".join(
        hashlib.blake2b(t.encode(), digest_size=16, person=person).digest() for t in texts
    )
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2).copy()


def sample_rows(texts: Sequence[str], most: int) -> np.ndarray:
    """Return rows of distinct texts, at most `most`, selected by the hashes of the texts.

    The order of the texts does not matter, and the samples of two folds have most texts in
    common.

    Parameters
    ----------
    texts : sequence of str
    most : int

    Returns
    -------
    numpy.ndarray of int, shape (n_rows,)
        Ascending.

    Examples
    --------
    >>> sample_rows(["b", "a", "b"], 10).tolist(), len(sample_rows(list("abcdef"), 4))
    ([0, 1], 4)
    """
    _, rows = np.unique(text_keys(texts), axis=0, return_index=True)
    chosen: np.ndarray = np.sort(rows[:most])
    return chosen


def cut_and_normalize(
    vectors: np.ndarray, n_blocks: int, width: int, *, normalize: bool
) -> np.ndarray:
    """Cut each layer's and pooling's vector to its first columns, and scale it to length 1.

    Parameters
    ----------
    vectors : numpy.ndarray of float32, shape (n_texts, n_blocks * hidden_size)
    n_blocks : int
        Number of layers times that of poolings.
    width : int
        Columns of each that are kept.
    normalize : bool
        Whether to scale; a vector of zeros stays as it is.

    Returns
    -------
    numpy.ndarray of float32, shape (n_texts, n_blocks * width)

    Examples
    --------
    >>> vectors = np.array([[3, 4, 12, 0, 5, 9]], dtype=np.float32)
    >>> cut_and_normalize(vectors, n_blocks=2, width=2, normalize=False).tolist()
    [[3.0, 4.0, 0.0, 5.0]]
    >>> cut_and_normalize(vectors, n_blocks=2, width=2, normalize=True).round(2).tolist()
    [[0.6..., 0.8..., 0.0, 1.0]]
    """
    if not normalize and vectors.shape[1] == n_blocks * width:
        return vectors
    blocks = vectors.reshape(len(vectors), n_blocks, -1)[:, :, :width]
    if normalize:
        lengths = np.linalg.norm(blocks, axis=2, keepdims=True)
        blocks = blocks / np.where(lengths > 0, lengths, 1)
    return np.ascontiguousarray(blocks, dtype=np.float32).reshape(len(vectors), n_blocks * width)


class Results:
    """Vectors of distinct texts, filled in from the cache and by computing.

    Several threads may fill in different rows at once.

    Parameters
    ----------
    keys : numpy.ndarray of uint64, shape (n_texts, 2)
        From `text_keys`.
    n_features : int
        Columns of a vector.

    Attributes
    ----------
    vectors : numpy.ndarray of float32, shape (n_texts, n_features)
        Undefined where `missing`.
    n_tokens : numpy.ndarray of int64, shape (n_texts,)
        Lengths before cutting, special tokens included.
    missing : numpy.ndarray of bool, shape (n_texts,)

    Examples
    --------
    >>> results = Results(text_keys(["a", "b"]), n_features=2)
    >>> results.fill(np.array([1]), np.ones((1, 2), dtype=np.float32), np.array([3]))
    >>> results.missing.tolist(), results.n_tokens.tolist()
    ([True, False], [0, 3])
    """

    def __init__(self, keys: np.ndarray, n_features: int) -> None:
        self.vectors = np.empty((len(keys), n_features), dtype=np.float32)
        self.n_tokens = np.zeros(len(keys), dtype=np.int64)
        self.missing = np.ones(len(keys), dtype=bool)
        self.keys = keys

    @property
    def keys(self) -> np.ndarray:
        """Hashes by which the cache knows the texts, uint64 of shape (n_texts, 2)."""
        return self._keys

    @keys.setter
    def keys(self, keys: np.ndarray) -> None:
        self._keys = keys
        self._order = np.argsort(keys[:, 0])
        self._sorted = keys[self._order, 0]

    def fill(self, rows: np.ndarray, vectors: np.ndarray, n_tokens: np.ndarray) -> None:
        """Set the vectors and lengths of some rows, which are then no longer missing."""
        self.vectors[rows] = vectors
        self.n_tokens[rows] = n_tokens
        self.missing[rows] = False

    def may_be_in(self, hashes: np.ndarray) -> bool:
        """Tell whether a missing text may be among sorted first words of hashes."""
        wanted = self._sorted[self.missing[self._order]]
        at = np.searchsorted(hashes, wanted)
        return bool((hashes[np.minimum(at, len(hashes) - 1)] == wanted).any())

    def match(self, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the missing texts among stored hashes.

        Parameters
        ----------
        stored : numpy.ndarray of uint64, shape (2 or more, n_stored)
            The two words of each hash in the first two rows.

        Returns
        -------
        rows : numpy.ndarray of int
            Rows that are missing here and stored there.
        at : numpy.ndarray of int
            Their columns in `stored`.
        """
        # The stored hashes are looked up among the wanted ones: for a small file that is
        # little work however many are wanted, and damaged, unsorted hashes do no harm.
        start = np.searchsorted(self._sorted, stored[0], "left")
        counts = np.searchsorted(self._sorted, stored[0], "right") - start
        at = np.repeat(np.arange(stored.shape[1]), counts)
        within = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = self._order[np.repeat(start, counts) + within]
        fits = self.missing[rows] & (self._keys[rows, 1] == stored[1, at])
        return rows[fits], at[fits]


@dataclass
class Reading:
    """Counts of texts and tokens, and of those that the encoder does not read.

    Attributes
    ----------
    max_length : int
        Most tokens of a piece.
    long_text : {"truncate", "head_tail", "windows"}
        What happens to longer texts.
    n_texts, n_long : int
        All texts, and those longer than `max_length`.
    n_tokens, n_unread : int
        Tokens of all texts, and how many of them are left out.
    longest : int
        Tokens of the longest text.

    Examples
    --------
    >>> reading = Reading(max_length=10, long_text="truncate").add(np.array([5, 15]))
    >>> reading.n_truncated, reading.unread
    (1, 0.25)
    """

    max_length: int
    long_text: str
    n_texts: int = 0
    n_long: int = 0
    n_tokens: int = 0
    n_unread: int = 0
    longest: int = 0

    def add(self, n_tokens: np.ndarray) -> Reading:
        """Count more texts by their lengths in tokens, and return itself."""
        over = np.maximum(n_tokens - self.max_length, 0)
        self.n_texts += len(n_tokens)
        self.n_long += int(np.count_nonzero(over))
        self.n_tokens += int(n_tokens.sum())
        self.n_unread += 0 if self.long_text == "windows" else int(over.sum())
        self.longest = max(self.longest, int(n_tokens.max(initial=0)))
        return self

    @property
    def n_truncated(self) -> int:
        """Number of texts that are not read whole."""
        return 0 if self.long_text == "windows" else self.n_long

    @property
    def unread(self) -> float:
        """Share of all tokens that is left out, 0 to 1."""
        return self.n_unread / max(self.n_tokens, 1)

    def warn(self) -> None:
        """Issue a `TruncationWarning` with the counts if a text is not read whole."""
        if self.n_truncated:
            warnings.warn(
                TruncationWarning(
                    f"{self.n_truncated} of {self.n_texts} texts are longer than "
                    f"{self.max_length} tokens and were cut (the longest has {self.longest}): "
                    f"{100 * self.unread:.1f} % of all tokens are not read",
                    remedy="windows" if self.long_text == "truncate" else None,
                ),
                stacklevel=callers_level(),
            )
