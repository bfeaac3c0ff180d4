"""Nearest neighbours of vectors, and texts that have none near."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors

from ..errors import InputError
from .cosines import unit_vectors

__all__ = ["MOST_COMPARED", "find_neighbours", "score_outliers"]

MOST_COMPARED = 10_000  # texts with which each text is compared for its outlier score


def find_neighbours(
    vectors: ArrayLike, queries: ArrayLike, n_neighbors: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Find the vectors that are most similar to some others.

    Parameters
    ----------
    vectors : array-like of shape (n_texts, n_features)
        Among which to look.
    queries : array-like of shape (n_queries, n_features)
    n_neighbors : int, default=10
        Most neighbours of each query.

    Returns
    -------
    rows : numpy.ndarray of int, shape (n_queries, n_neighbors)
        The most similar vector first; fewer columns if there are fewer vectors.
    similarity : numpy.ndarray of float32, shape (n_queries, n_neighbors)
        The cosines.

    Raises
    ------
    InputError
        If a parameter is illegal.

    Examples
    --------
    >>> rows, similarity = find_neighbours([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[1.0, 0.1]], 2)
    >>> rows.tolist(), similarity.round(2).tolist()
    ([[0, 2]], [[1.0, 0.7...]])
    """
    _check_number(n_neighbors)
    unit = unit_vectors(vectors, at_least=1)
    asked = unit_vectors(queries, at_least=1, parameter="queries")
    if asked.shape[1] != unit.shape[1]:
        raise InputError(
            f"{asked.shape[1]} columns, and the vectors have {unit.shape[1]}.", parameter="queries"
        )
    return _nearest(unit, asked, min(n_neighbors, len(unit)))


def score_outliers(
    vectors: ArrayLike,
    n_neighbors: int = 10,
    *,
    most_compared: int = MOST_COMPARED,
    random_state: int = 0,
) -> np.ndarray:
    """Return for each vector how far its nearest neighbours are.

    Parameters
    ----------
    vectors : array-like of shape (n_texts, n_features)
    n_neighbors : int, default=10
        Number of other vectors that count.
    most_compared : int, default=10_000
        With more vectors than that, each is compared with a random sample of this size.
    random_state : int, default=0
        Seed of the sample.

    Returns
    -------
    numpy.ndarray of float32, shape (n_texts,)
        1 less the mean cosine to the nearest other vectors: 0 if all are equal to it, 1 if it
        has nothing in common with any.

    Raises
    ------
    InputError
        If a parameter is illegal.

    Examples
    --------
    >>> score_outliers([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], n_neighbors=1).round(3).tolist()
    [0.0, 0.0, 1.0]
    """
    _check_number(n_neighbors)
    unit = unit_vectors(vectors)
    compared = np.arange(len(unit))
    if len(unit) > most_compared:
        random = np.random.default_rng(random_state)
        compared = np.sort(random.choice(len(unit), most_compared, replace=False))
    n_neighbors = min(n_neighbors, len(compared) - 1)
    places, similarity = _nearest(unit[compared], unit, n_neighbors + 1)
    # Each text is compared with itself too, if it is in the sample. Among equal texts it may
    # not be the nearest, nor one of these at all; then the last of them is left out.
    itself = compared[places] == np.arange(len(unit))[:, np.newaxis]
    itself[~itself.any(axis=1), -1] = True
    others = similarity[~itself].reshape(len(unit), n_neighbors)
    scores: np.ndarray = np.maximum(1 - others.mean(axis=1), 0)
    return scores


def _check_number(n_neighbors: int) -> None:
    whole = isinstance(n_neighbors, int | np.integer) and not isinstance(n_neighbors, bool)
    if not whole or n_neighbors < 1:
        raise InputError(
            "a whole number of at least 1.", parameter="n_neighbors", value=n_neighbors
        )


def _nearest(unit: np.ndarray, asked: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    # On vectors of length 1, Euclidean distances have the order of cosines. scikit-learn
    # computes them in blocks.
    index = NearestNeighbors(n_neighbors=number, algorithm="brute", metric="sqeuclidean")
    distances, rows = index.fit(unit).kneighbors(asked)
    return rows, np.float32(1) - distances.astype(np.float32) / 2
