"""Texts on their way to vectors: what is known of each, computed in streams, kept as it comes."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..encoders.batching import in_streams, plan_batches
from ..encoders.encoder import Encoder, set_threads
from ..errors import InputError
from .cache import VectorCache, text_keys

__all__ = ["Reading", "Work", "block_rows"]

BLOCK_BYTES = 2**25  # of vectors

_Claimed = tuple[np.ndarray, contextlib.ExitStack]


@dataclass
class Reading:
    """How much of their texts an encoder is given.

    Attributes
    ----------
    max_length, long_text
        As for `Work`.
    n_texts, n_long : int
        All, and those longer than `max_length`.
    n_tokens, n_unread : int
        Tokens of all texts, and how many of them were left out.
    longest : int
        Tokens of the longest text.
    """

    max_length: int
    long_text: str
    n_texts: int = 0
    n_long: int = 0
    n_tokens: int = 0
    n_unread: int = 0
    longest: int = 0

    def add(self, n_tokens: np.ndarray) -> Reading:
        """Count further texts by their lengths in tokens."""
        over = np.maximum(n_tokens - self.max_length, 0)
        self.n_texts += len(n_tokens)
        self.n_long += int(np.count_nonzero(over))
        self.n_tokens += int(n_tokens.sum())
        self.n_unread += 0 if self.long_text == "windows" else int(over.sum())
        self.longest = max(self.longest, int(n_tokens.max(initial=0)))
        return self

    @property
    def n_truncated(self) -> int:
        """Texts that were not read whole."""
        return 0 if self.long_text == "windows" else self.n_long

    @property
    def unread(self) -> float:
        """Share of all tokens that was left out."""
        return self.n_unread / max(self.n_tokens, 1)

    def warn(self, stacklevel: int) -> None:
        """Say how much was left out, if anything was."""
        if self.n_truncated:
            other = "; long_text='windows' reads all" if self.long_text == "truncate" else ""
            warnings.warn(
                f"{self.n_truncated} of {self.n_texts} texts are longer than "
                f"max_length={self.max_length} tokens and were cut (the longest has "
                f"{self.longest}): {100 * self.unread:.1f} % of all tokens are not read{other}.",
                stacklevel=stacklevel + 1,
            )


class Work:
    """Distinct texts, and what is known of each so far.

    Parameters
    ----------
    texts : list of str
    n_features : int
        Columns of a vector.
    max_length : int
        The longest piece of a text that an encoder is given.
    long_text : {"truncate", "head_tail", "windows"}
        What becomes of longer texts.

    Attributes
    ----------
    vectors : numpy.ndarray of float32, shape (n_texts, n_features)
    n_tokens : numpy.ndarray of int64, shape (n_texts,)
        Lengths before cutting.
    missing : numpy.ndarray of bool, shape (n_texts,)
        Which vectors are not there yet.
    """

    def __init__(self, texts: list[str], n_features: int, max_length: int, long_text: str) -> None:
        self.texts = texts
        self.max_length = max_length
        self.long_text = long_text
        self.keys = text_keys(texts)
        self.vectors = np.empty((len(texts), n_features), dtype=np.float32)
        self.n_tokens = np.zeros(len(texts), dtype=np.int64)
        self.missing = np.ones(len(texts), dtype=bool)

    def read(self, cache: VectorCache | None) -> None:
        """Fill in what the cache has."""
        if cache is None:
            return
        cache.read(self.keys, self.vectors, self.n_tokens, self.missing)
        if self.long_text == "truncate":
            return
        # A text that fits has one vector, whatever becomes of long ones; so these alone have
        # another key. Which of the missing ones are long shows when they are tokenized.
        self.missing |= self.n_tokens > self.max_length
        rows = np.flatnonzero(self.missing)
        keys = self.keys.copy()
        keys[rows] = self._keys_of_long(rows)
        cache.read(keys, self.vectors, self.n_tokens, self.missing)
        found = rows[~self.missing[rows]]
        self.keys[found] = keys[found]

    def _keys_of_long(self, rows: np.ndarray) -> np.ndarray:
        return text_keys([self.texts[row] for row in rows.tolist()], self.long_text)

    def tokenize(self, encoder: Encoder) -> dict[int, list[np.ndarray]]:
        """Return the token ids of the missing texts by row, in pieces, and note their lengths."""
        ids = {}
        for row in np.flatnonzero(self.missing).tolist():
            ids[row], self.n_tokens[row] = encoder.tokenizer.split(
                self.texts[row], self.max_length, self.long_text
            )
        if self.long_text != "truncate":
            rows = np.flatnonzero(self.missing & (self.n_tokens > self.max_length))
            self.keys[rows] = self._keys_of_long(rows)
        return ids

    def compute(
        self,
        ids: dict[int, list[np.ndarray]],
        encode: Callable[[Sequence[np.ndarray]], np.ndarray],
        cache: VectorCache | None,
        bar: Any,
        *,
        max_tokens: int,
        n_cores: int,
    ) -> None:
        """Compute the missing vectors, and keep each batch as soon as it is there.

        Parameters
        ----------
        ids : dict
            As from `tokenize`.
        encode : callable
            From the token ids of a batch to its vectors; called from several threads.
        cache : VectorCache or None
            Where they are kept; other processes at the same texts share the work.
        bar : tqdm.tqdm
            Told of each text that is done.
        max_tokens : int
            Largest size of a batch.
        n_cores : int
            How many may be used.
        """
        todo = np.array(list(ids))
        lengths = np.array([sum(map(len, pieces)) for pieces in ids.values()])
        # So that a little work, too, is shared by all cores.
        max_tokens = min(max_tokens, -(-int(lengths.sum()) // n_cores))
        planned = [todo[batch] for batch in plan_batches(lengths, max_tokens)]
        n_streams = min(n_cores, len(planned))
        batches: Generator[_Claimed | None, None, None]
        if cache is None:
            batches = ((rows, contextlib.ExitStack()) for rows in planned)
        else:
            batches = cache.share_out(planned, self.keys, self.vectors, self.n_tokens, self.missing)

        def compute(batch: _Claimed) -> None:
            rows = batch[0]
            self.vectors[rows] = _mean_of_pieces([ids[row] for row in rows], encode, max_tokens)
            if cache is not None:
                # Here, and not where batches are collected: no more than what a stream is
                # at can be lost.
                cache.write(self.keys[rows], self.vectors[rows], self.n_tokens[rows])

        computed = in_streams(
            compute,
            batches,
            n_streams,
            prepare=functools.partial(set_threads, max(1, n_cores // n_streams)),
        )
        # Closed, so that after an error no other process waits for what is not coming.
        with contextlib.closing(batches), contextlib.closing(computed):
            left = len(todo)
            for finished in computed:
                for (rows, claim), _ in finished:
                    self.missing[rows] = False
                    claim.close()
                # Another process may have done some.
                now_left = int(self.missing.sum())
                bar.update(left - now_left)
                left = now_left


def _mean_of_pieces(
    texts: list[list[np.ndarray]],
    encode: Callable[[Sequence[np.ndarray]], np.ndarray],
    max_tokens: int,
) -> np.ndarray:
    """Encode a batch's texts piece by piece, and average each one's pieces.

    All windows of a text are of one length, so that none counts for more than another.
    """
    pieces = [piece for text in texts for piece in text]
    if len(pieces) == len(texts):
        return encode(pieces)
    at_once = max(1, max_tokens // max(map(len, pieces)))
    parts = [encode(pieces[at : at + at_once]) for at in range(0, len(pieces), at_once)]
    counts = np.array([len(text) for text in texts])
    sums = np.add.reduceat(np.concatenate(parts), np.cumsum(counts) - counts, axis=0)
    return np.asarray(sums / counts[:, np.newaxis], dtype=np.float32)


def block_rows(n_features: int, asked: int | None = None) -> int:
    """Return how many texts of a stream are taken at a time: by default 8,192, or 32 MiB.

    Raises
    ------
    InputError
        If what is asked for is no whole number of at least 1.
    """
    if asked is None:
        return max(1, min(8192, BLOCK_BYTES // (4 * n_features)))
    if not (isinstance(asked, int) and asked >= 1):
        raise InputError(f"block_size={asked!r}: a whole number of at least 1 is needed, or None.")
    return asked
