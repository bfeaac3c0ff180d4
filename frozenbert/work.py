"""Texts on their way to vectors: what is known of each, computed in streams, kept as it comes."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal

import numpy as np

from .batching import in_streams, plan_batches
from .cache import VectorCache, text_keys
from .encoder import Encoder, set_threads
from .errors import InputError

__all__ = ["Work", "block_rows", "progress_bar"]

BLOCK_BYTES = 2**25  # of vectors

_Claimed = tuple[np.ndarray, contextlib.ExitStack]


class Work:
    """Distinct texts, and what is known of each so far.

    Parameters
    ----------
    texts : list of str
    n_features : int
        Columns of a vector.

    Attributes
    ----------
    vectors : numpy.ndarray of float32, shape (n_texts, n_features)
    n_tokens : numpy.ndarray of int64, shape (n_texts,)
        Lengths before cutting.
    missing : numpy.ndarray of bool, shape (n_texts,)
        Which vectors are not there yet.
    """

    def __init__(self, texts: list[str], n_features: int) -> None:
        self.texts = texts
        self.keys = text_keys(texts)
        self.vectors = np.empty((len(texts), n_features), dtype=np.float32)
        self.n_tokens = np.zeros(len(texts), dtype=np.int64)
        self.missing = np.ones(len(texts), dtype=bool)

    def read(self, cache: VectorCache | None) -> None:
        """Fill in what the cache has."""
        if cache is not None:
            cache.read(self.keys, self.vectors, self.n_tokens, self.missing)

    def tokenize(self, encoder: Encoder, max_length: int) -> dict[int, np.ndarray]:
        """Return the token ids of the missing texts by row, and note their lengths."""
        ids = {}
        for row in np.flatnonzero(self.missing).tolist():
            ids[row], self.n_tokens[row] = encoder.tokenize(self.texts[row], max_length)
        return ids

    def compute(
        self,
        ids: dict[int, np.ndarray],
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
        lengths = np.array([len(row) for row in ids.values()])
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
            self.vectors[rows] = encode([ids[row] for row in rows])
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


def progress_bar(shown: bool | Literal["auto"], total: int | None) -> Any:
    """Return a bar on stderr for texts; "auto" shows it in a terminal or a notebook."""
    from tqdm import tqdm

    if shown == "auto":
        # A worker's bar would be drawn over that of its neighbours.
        alone = multiprocessing.parent_process() is None
        shown = alone and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    return tqdm(total=total, desc="Vectors", unit=" texts", disable=not shown)
