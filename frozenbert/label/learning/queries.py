"""Which texts to ask next: near the names of rare labels, or uncertain."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

__all__ = ["by_name", "closeness", "least_clear", "uncertain"]

WIDTH = 2  # uncertain texts that are clustered for each one asked for


def closeness(vectors: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return how close texts are to names of labels, compared with the other texts.

    Parameters
    ----------
    vectors : numpy.ndarray of shape (n_texts, n_features)
        Scaled.
    names : numpy.ndarray of shape (n_labels, n_features)
        Vectors of the names, scaled alike.

    Returns
    -------
    numpy.ndarray of shape (n_texts, n_labels)
        Cosines, with mean 0 and deviation 1 for each name.

    Examples
    --------
    >>> closeness(np.array([[1.0, 0], [0, 1]]), np.array([[2.0, 0]])).ravel().tolist()
    [1.0, -1.0]
    """
    cosine = _unit(vectors) @ _unit(names).T
    deviation = cosine.std(axis=0)
    return np.asarray((cosine - cosine.mean(axis=0)) / np.where(deviation > 0, deviation, 1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1))


def by_name(close: np.ndarray, wanted: Sequence[int]) -> list[int]:
    """Return for each wanted label the text that is closest to its name; each text once.

    Parameters
    ----------
    close : numpy.ndarray of shape (n_texts, n_labels)
        From `closeness`.
    wanted : sequence of int
        Labels, in the order in which they choose.

    Examples
    --------
    >>> by_name(np.array([[2.0, 2.0], [0.0, 1.0]]), [0, 1])
    [0, 1]
    """
    chosen: list[int] = []
    for label in wanted[: len(close)]:
        score = close[:, label].copy()
        score[chosen] = -np.inf
        chosen.append(int(score.argmax()))
    return chosen


def least_clear(probabilities: np.ndarray) -> np.ndarray:
    """Return the probabilities with and without the label that is least clear in each row.

    Parameters
    ----------
    probabilities : numpy.ndarray of shape (n_texts, n_labels)
        Of labels that do not exclude one another.

    Returns
    -------
    numpy.ndarray of shape (n_texts, 2)

    Examples
    --------
    >>> least_clear(np.array([[0.75, 1.0], [0.0, 0.25]])).tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    p = probabilities[np.arange(len(probabilities)), np.abs(probabilities - 0.5).argmin(axis=1)]
    return np.column_stack([p, 1 - p])


def uncertain(vectors: np.ndarray, probabilities: np.ndarray, n: int, seed: int = 0) -> list[int]:
    """Return texts whose two best labels are close, and that are unlike one another.

    The texts with the smallest margins, two for each one asked for, are clustered by their
    vectors; the text nearest to the centre of each cluster is returned.

    Parameters
    ----------
    vectors : numpy.ndarray of shape (n_texts, n_features)
    probabilities : numpy.ndarray of shape (n_texts, n_labels)
    n : int
    seed : int, default=0

    Returns
    -------
    list of int
        Distinct rows, as many as asked for if there are so many; the smallest margin first.

    References
    ----------
    F. Zhdanov, "Diverse mini-batch Active Learning", 2019.

    Examples
    --------
    >>> vectors = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> uncertain(vectors, np.array([[0.5, 0.5], [0.6, 0.4], [0.55, 0.45], [1.0, 0.0]]), 2)
    [0, 2]
    """
    n = min(n, len(vectors))
    if not n:
        return []
    best = np.partition(probabilities, -2, axis=1)[:, -2:]
    margins = best[:, 1] - best[:, 0]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(margins))  # ties in random order
    rows = order[np.argsort(margins[order], kind="stable")]
    near = rows[: WIDTH * n]
    with warnings.catch_warnings():
        # Equal texts make fewer clusters than asked for; the rest is filled up below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = KMeans(n, n_init=1, random_state=seed).fit(vectors[near])
    distances = clusters.transform(vectors[near])
    found = []
    for cluster in range(n):
        of_cluster = np.flatnonzero(clusters.labels_ == cluster)
        if len(of_cluster):
            found.append(int(near[of_cluster[distances[of_cluster, cluster].argmin()]]))
    found.sort(key=lambda row: margins[row])
    known = set(found)
    return found + [row for row in rows.tolist() if row not in known][: n - len(found)]
