"""Folds for cross-validation, stratified also where a text has many labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold

__all__ = ["Folds", "strata"]


class Folds(StratifiedKFold):
    """Stratified folds that also take many labels a text, and limited training parts.

    Parameters
    ----------
    n_splits, shuffle, random_state
        As in scikit-learn's `StratifiedKFold`.
    train_rows : int or None, default=None
        At most so many rows, with the shares of the classes, to train on.

    Examples
    --------
    >>> y = np.array([[1, 0]] * 10 + [[0, 1]] * 10)
    >>> [len(train) for train, test in Folds(2, train_rows=4).split(y, y)]
    [4, 4]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = False,
        random_state: int | None = None,
        train_rows: int | None = None,
    ) -> None:
        super().__init__(n_splits, shuffle=shuffle, random_state=random_state)
        self.train_rows = train_rows

    def split(self, X: Any, y: Any, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield training and test rows, as scikit-learn's splitters do."""
        classes = strata(y, self.n_splits)
        with warnings.catch_warnings():
            if np.ndim(y) == 2:
                warnings.filterwarnings("ignore", message="The least populated class")
            parts = list(super().split(np.zeros(len(classes)), classes))
        for train, test in parts:
            yield self._limited(train, classes), test

    def _limited(self, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
        if self.train_rows is None or len(rows) <= self.train_rows:
            return rows
        share = self.train_rows / len(rows)
        rng = np.random.default_rng(self.random_state)
        kept = []
        for label in np.unique(classes[rows]):
            of_label = rows[classes[rows] == label]
            kept.append(rng.permutation(of_label)[: max(1, round(share * len(of_label)))])
        return np.sort(np.concatenate(kept))


def strata(y: Any, n_splits: int = 1) -> np.ndarray:
    """Return one class a row: of many labels, the rarest that the row has.

    Those with fewer rows than splits are one class, which cannot be spread more evenly.

    Examples
    --------
    >>> strata(np.array([[1, 0], [1, 1], [1, 0], [0, 0]])).tolist()
    [0, 1, 0, -1]
    """
    y = np.asarray(y)
    if y.ndim == 1:
        return y
    counts = np.where(y > 0, (y > 0).sum(axis=0), len(y) + 1)
    rarest = np.where((y > 0).any(axis=1), counts.argmin(axis=1), -1)
    found, rows = np.unique(rarest, return_counts=True)
    return np.where(np.isin(rarest, found[rows < n_splits]), -2, rarest)
