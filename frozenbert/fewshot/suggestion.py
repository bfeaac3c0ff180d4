"""Choose which texts to label next, and say why."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from ..errors import InputError

__all__ = ["reasons", "suggest", "uncertainty"]

CLOSE = 0.2  # difference of the two highest probabilities below which two classes are close
CANDIDATES = 10  # uncertain rows that are clustered for each row asked for


def uncertainty(probabilities: ArrayLike) -> np.ndarray:
    """Return the entropy of each row of probabilities, from 0 (certain) to 1.

    Examples
    --------
    >>> uncertainty([[0.5, 0.5], [1.0, 0.0]]).tolist()
    [1.0, 0.0]
    """
    P = np.asarray(probabilities, dtype=np.float64)
    logs = np.log(np.where(P > 0, P, 1))
    return np.asarray(-(P * logs).sum(axis=1) / np.log(P.shape[1]) + 0.0)


def reasons(probabilities: ArrayLike, classes: Sequence[object]) -> dict[str, list[object]]:
    """Return what to tell somebody who labels suggested texts, as columns of a table.

    Parameters
    ----------
    probabilities : array-like of shape (n_texts, n_classes)
    classes : sequence

    Returns
    -------
    dict of str to list
        `guess`, the most probable class; its `probability`; and the `reason`.

    Examples
    --------
    >>> for column in reasons([[0.5, 0.4, 0.1], [0.65, 0.2, 0.15]], ["a", "b", "c"]).values():
    ...     print(column)
    ['a', 'a']
    [0.5, 0.65]
    ["unsure: 'a' 50 %, 'b' 40 %", "less certain than others: 'a' 65 %, 'b' 20 %"]
    """
    P = np.asarray(probabilities, dtype=np.float64)
    order = np.argsort(-P, axis=1, kind="stable")[:, :2]
    columns: dict[str, list[object]] = {"guess": [], "probability": [], "reason": []}
    for row, (first, second) in zip(P, order.tolist(), strict=True):
        guess, other = (str(classes[place])[:60] for place in (first, second))
        columns["guess"].append(classes[first])
        columns["probability"].append(round(float(row[first]), 4))
        is_close = row[first] - row[second] < CLOSE
        columns["reason"].append(
            f"{'unsure' if is_close else 'less certain than others'}: {guess!r} "
            f"{100 * row[first]:.0f} %, {other!r} {100 * row[second]:.0f} %"
        )
    return columns


def suggest(
    vectors: ArrayLike, probabilities: ArrayLike, n: int, random_state: int = 0
) -> np.ndarray:
    """Return rows to label next: uncertain and different from one another.

    The most uncertain rows, ten for each one asked for, are clustered by their vectors with
    their uncertainty as weight. The row nearest to the centre of each cluster is returned
    (F. Zhdanov, "Diverse mini-batch Active Learning", 2019).

    Parameters
    ----------
    vectors : array-like of shape (n_rows, n_features)
    probabilities : array-like of shape (n_rows, n_classes)
    n : int
        The number of rows.
    random_state : int, default=0
        Seed of the clustering, and of the order of equally uncertain rows.

    Returns
    -------
    numpy.ndarray of int, shape (min(n, n_rows),)
        Indices of distinct rows, the most uncertain first.

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
        raise InputError("at least 1.", parameter="n", value=n)
    if not len(doubt):
        raise InputError("no rows to suggest from.", parameter="vectors")
    n = min(n, len(doubt))
    order = np.random.default_rng(random_state).permutation(len(doubt))  # ties in random order
    rows = order[np.argsort(-doubt[order], kind="stable")][: CANDIDATES * n]
    with warnings.catch_warnings():
        # Equal rows make fewer clusters than asked for; the rest is filled up below.
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
