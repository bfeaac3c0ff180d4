"""Which texts to label next."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from ..errors import InputError

__all__ = ["suggest", "uncertainty"]

TAKEN = 10  # times as many uncertain rows are looked at as are asked for


def uncertainty(probabilities: Any) -> np.ndarray:
    """Return the entropy of each row of probabilities, from 0 (certain) to 1.

    Examples
    --------
    >>> uncertainty([[0.5, 0.5], [1.0, 0.0]]).tolist()
    [1.0, 0.0]
    """
    P = np.asarray(probabilities, dtype=np.float64)
    logs = np.log(np.where(P > 0, P, 1))
    return np.asarray(-(P * logs).sum(axis=1) / np.log(P.shape[1]) + 0.0)


def suggest(vectors: Any, probabilities: Any, n: int, random_state: int = 0) -> np.ndarray:
    """Return the rows whose labels would tell most: uncertain ones, unlike one another.

    The most uncertain rows, ten for each one asked for, are put into `n` clusters by their
    vectors, weighted by their uncertainty, and of each cluster the row nearest to its centre
    is taken (F. Zhdanov, "Diverse mini-batch Active Learning", 2019).

    Parameters
    ----------
    vectors : array-like of shape (n_rows, n_features)
    probabilities : array-like of shape (n_rows, n_classes)
    n : int
    random_state : int, default=0

    Returns
    -------
    numpy.ndarray of int, shape (min(n, n_rows),)
        Places of different rows, the most uncertain first.

    Raises
    ------
    InputError
        If `n` is not at least 1, or there are no rows.

    Examples
    --------
    >>> vectors = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> suggest(vectors, [[0.5, 0.5], [0.6, 0.4], [0.55, 0.45], [1.0, 0.0]], 2).tolist()
    [0, 2]
    """
    vectors, doubt = np.asarray(vectors), uncertainty(probabilities)
    if n < 1:
        raise InputError(f"n={n!r}: at least 1 text is suggested.")
    if not len(doubt):
        raise InputError("there are no rows to suggest from.")
    n = min(n, len(doubt))
    order = np.random.default_rng(random_state).permutation(len(doubt))  # equals by chance
    rows = order[np.argsort(-doubt[order], kind="stable")][: TAKEN * n]
    with warnings.catch_warnings():
        # Rows that are alike make fewer clusters; the rest is filled up below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = KMeans(n, n_init=1, random_state=random_state).fit(
            vectors[rows], sample_weight=doubt[rows] + 1e-6
        )
    distances = clusters.transform(vectors[rows])
    found: list[int] = []
    for cluster in range(n):
        of_cluster = np.flatnonzero(clusters.labels_ == cluster)
        if len(of_cluster):
            found.append(int(of_cluster[distances[of_cluster, cluster].argmin()]))
    found += [place for place in range(len(rows)) if place not in found][: n - len(found)]
    return rows[np.sort(found)]
