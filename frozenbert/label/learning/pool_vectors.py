"""Vectors of the pool, which are computed while texts are labelled already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ...embed import DistilBertVectorizer

__all__ = ["Scale", "Vectors"]

BLOCK = 256  # texts that are embedded between two looks at new labels
SCALED_BY = 20_000  # vectors that means and deviations are computed of

Scale = tuple[np.ndarray, np.ndarray]


class Vectors:
    """Vectors of the pool, filled block by block; rows can be used before all are there.

    Parameters
    ----------
    texts : list of str
    vectorizer : DistilBertVectorizer or None
        Fitted; None if `rows` are given.
    order : numpy.ndarray of int
        Rows, in the order in which they are filled.
    rows : numpy.ndarray of shape (n_texts, n_features), optional
        Vectors that are there already.
    """

    def __init__(
        self,
        texts: list[str],
        vectorizer: DistilBertVectorizer | None,
        order: np.ndarray,
        rows: np.ndarray | None = None,
    ) -> None:
        self.texts = texts
        self.vectorizer = vectorizer
        self._order = order
        self._blocks: Iterator[np.ndarray] | None = None
        self._scale: tuple[int, Scale] | None = None
        self._n_filled = 0
        if rows is not None:
            self.rows = np.asarray(rows, dtype=np.float32)
            self.ready = np.ones(len(texts), dtype=bool)
            self._n_filled = len(texts)
        else:
            assert vectorizer is not None
            self.rows = np.zeros((len(texts), vectorizer.n_features_out_), dtype=np.float32)
            self.ready = np.zeros(len(texts), dtype=bool)

    @property
    def is_complete(self) -> bool:
        """Whether each text has its vector."""
        return self._n_filled == len(self.rows)

    def fill(self) -> None:
        """Compute the next block."""
        assert self.vectorizer is not None
        if self._blocks is None:
            ordered = (self.texts[row] for row in self._order)
            self._blocks = self.vectorizer.transform_iter(ordered, block_size=BLOCK)
        block = next(self._blocks)
        rows = self._order[self._n_filled : self._n_filled + len(block)]
        self.rows[rows] = block
        self.ready[rows] = True
        self._n_filled += len(block)

    def ensure(self, rows: Sequence[int]) -> None:
        """Compute the vectors of these rows now."""
        missing = [row for row in rows if not self.ready[row]]
        if missing:
            assert self.vectorizer is not None
            self.rows[missing] = self.vectorizer.transform([self.texts[row] for row in missing])
            self.ready[missing] = True

    def scale(self) -> Scale:
        """Return means and deviations of the pool, as far as it is filled."""
        n = min(int(self.ready.sum()), SCALED_BY)
        if self._scale is None or n > 1.5 * self._scale[0]:
            known = self.rows[np.flatnonzero(self.ready)[:SCALED_BY]]
            deviation = known.std(axis=0)
            self._scale = n, (known.mean(axis=0), np.where(deviation > 0, deviation, 1))
        return self._scale[1]
