"""Near-duplicates: all pairs of vectors whose cosine reaches a threshold."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from ..errors import InputError, PairLimitWarning
from ..utils.console import callers_level, shows_bar
from .cosines import unit_vectors

__all__ = ["MOST_PAIRS", "NearDuplicates", "find_near_duplicates"]

MOST_PAIRS = 1_000_000
BLOCK = (1024, 4096)  # rows and columns that are compared at a time: 16 MiB


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Pairs of similar texts, the most similar first.

    Attributes
    ----------
    first, second : numpy.ndarray of int, shape (n_pairs,)
        Rows of the vectors; `first` is the smaller.
    similarity : numpy.ndarray of float32, shape (n_pairs,)
        Their cosines.
    groups : numpy.ndarray of int, shape (n_texts,)
        For each text the first row of its group. Two texts are in one group if pairs connect
        them, directly or through other texts; all pairs count for that, also those beyond the
        limit.
    n_found : int
        Number of pairs at or above the threshold, of which `first` and `second` contain the
        most similar ones.
    """

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray
    groups: np.ndarray
    n_found: int


def find_near_duplicates(
    vectors: ArrayLike,
    threshold: float = 0.9,
    *,
    max_pairs: int = MOST_PAIRS,
    progress: bool | Literal["auto"] = "auto",
) -> NearDuplicates:
    """Find all pairs of vectors whose cosine is at least a threshold.

    No pair is missed: every vector is compared with every other one, block by block. Memory
    grows with the vectors and the pairs, and not with the square of the number of texts.

    Parameters
    ----------
    vectors : array-like of shape (n_texts, n_features)
        Such as `DistilBertVectorizer.transform` returns them.
    threshold : float, default=0.9
        From 0 to 1.
    max_pairs : int, default=1_000_000
        Most pairs to return; the most similar ones.
    progress : {"auto", True, False}, default="auto"
        Whether to show a progress bar on stderr after two seconds; "auto" shows it in a
        terminal or a notebook.

    Returns
    -------
    NearDuplicates

    Raises
    ------
    InputError
        If a parameter is illegal.

    Warns
    -----
    PairLimitWarning
        If there are more than `max_pairs`.

    Examples
    --------
    >>> found = find_near_duplicates([[1.0, 0.0], [0.0, 1.0], [0.99, 0.1], [1.0, 0.0]])
    >>> found.first.tolist(), found.second.tolist(), found.groups.tolist()
    ([0, 0, 2], [3, 2, 3], [0, 1, 0, 0])
    """
    _check(threshold, max_pairs)
    unit, given = unit_vectors(vectors), np.asarray(vectors)
    # A bound on what rounding does to a product of two vectors of float32.
    slack = (unit.shape[1] + 8) * float(np.finfo(np.float32).eps)
    best, groups, n_found = _BestPairs(max_pairs), np.arange(len(unit)), 0
    bar = tqdm(list(_blocks(len(unit))), "Pairs", disable=not shows_bar(progress), delay=2)
    for rows, columns in bar:
        first, second, cosines = _similar(unit, given, rows, columns, threshold, slack)
        n_found += len(first)
        groups = _join(groups, first, second)
        best.add(first, second, cosines)
    if n_found > max_pairs:
        warnings.warn(
            PairLimitWarning(
                f"{n_found:,} pairs are at or above the threshold of {threshold}; the "
                f"{max_pairs:,} most similar ones are listed. A higher threshold finds fewer."
            ),
            stacklevel=callers_level(),
        )
    return NearDuplicates(*best.sorted(), groups=groups, n_found=n_found)


def _check(threshold: float, max_pairs: int) -> None:
    # A comparison that NaN fails.
    if isinstance(threshold, bool) or not 0 <= threshold <= 1:
        raise InputError("a number from 0 to 1.", parameter="threshold", value=threshold)
    if isinstance(max_pairs, bool) or not isinstance(max_pairs, int | np.integer) or max_pairs < 1:
        raise InputError("a whole number of at least 1.", parameter="max_pairs", value=max_pairs)


def _blocks(n: int) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of rows and columns; each pair is in one, with the smaller row first."""
    height, width = BLOCK
    for top in range(0, n, height):
        for left in range(top - top % width, n, width):
            yield slice(top, min(top + height, n)), slice(left, min(left + width, n))


def _similar(
    unit: np.ndarray,
    given: np.ndarray,
    rows: slice,
    columns: slice,
    threshold: float,
    slack: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs of a block, each with the smaller row first, and their cosines."""
    products = unit[rows] @ unit[columns].T
    at = np.flatnonzero(products >= threshold - slack)
    cosines = products.ravel()[at]
    first, second = np.divmod(at, products.shape[1])
    first += rows.start
    second += columns.start
    keep = first < second
    # Rounding may have put these on the wrong side.
    unsure = np.flatnonzero(keep & (cosines < threshold + slack))
    for part in np.array_split(unsure, len(unsure) // BLOCK[1] + 1):
        exact = _exact_cosines(given[first[part]], given[second[part]])
        keep[part] = exact >= threshold - 1e-9
    return first[keep], second[keep], np.minimum(cosines[keep], 1)


def _exact_cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the cosines of pairs of vectors, computed in float64."""
    products, squares_left, squares_right = (
        np.einsum("ij,ij->i", a, b, dtype=np.float64)
        for a, b in ((left, right), (left, left), (right, right))
    )
    lengths = np.sqrt(squares_left * squares_right)
    cosines: np.ndarray = products / np.where(lengths > 0, lengths, 1)
    return cosines


def _join(groups: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the groups after pairs have connected some of them."""
    left, right = groups[first], groups[second]
    apart = left != right
    if not apart.any():
        return groups
    left, right = left[apart], right[apart]
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=2 * groups.shape)
    _, component = connected_components(graph, directed=False)
    _, smallest = np.unique(component, return_index=True)
    joined: np.ndarray = smallest[component[groups]]
    return joined


class _BestPairs:
    """The most similar pairs of those that are added; at most twice the limit are stored."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._floor = -np.inf  # cosine that a further pair must exceed

    def add(self, first: np.ndarray, second: np.ndarray, cosines: np.ndarray) -> None:
        """Add pairs."""
        keep = cosines > self._floor
        if keep.any():
            indices = (first[keep].astype(np.int32), second[keep].astype(np.int32))
            self._parts.append((*indices, cosines[keep]))
        if sum(len(part[0]) for part in self._parts) > 2 * self._limit:
            columns = self._columns()
            chosen = np.argpartition(columns[2], -self._limit)[-self._limit :]
            self._parts = [(columns[0][chosen], columns[1][chosen], columns[2][chosen])]
            self._floor = float(columns[2][chosen].min())

    def sorted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the pairs with the highest cosines, in descending order."""
        first, second, cosines = self._columns()
        order = np.lexsort((second, first, -cosines))[: self._limit]
        return first[order], second[order], cosines[order]

    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not self._parts:
            nothing = np.empty(0, dtype=np.int32)
            return nothing, nothing, np.empty(0, dtype=np.float32)
        first, second, cosines = (
            np.concatenate(column) for column in zip(*self._parts, strict=True)
        )
        return first, second, cosines
