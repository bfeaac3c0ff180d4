"""Labelled texts to look at again, and unlabelled texts to label together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.neighbors import NearestNeighbors

from ..items import Doubt

__all__ = ["Labelled", "contradictions", "doubtful", "groups_of", "outliers"]

DOUBT = 0.3  # by which another label's out-of-fold probability is above the given one's
ALIKE = 0.95  # cosine of near-duplicates
GROUP = 0.8  # cosine of a group's texts with its centre
NEIGHBOURS = 5
FAR = 4.0  # deviations, of the median distance to the nearest texts


def doubtful(probabilities: np.ndarray, flags: np.ndarray) -> list[tuple[float, int, int, bool]]:
    """Return labels that the model of other texts contradicts, the most doubtful first.

    Parameters
    ----------
    probabilities : numpy.ndarray of shape (n_texts, n_labels)
        Out of fold.
    flags : numpy.ndarray of int, shape (n_texts, n_labels)
        The given labels, 0 and 1.

    Returns
    -------
    list of (float, int, int, bool)
        How doubtful, the text, the label in question, and whether it should be given.

    Examples
    --------
    >>> doubtful(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([[0, 1], [0, 1]]))
    [(0.8, 0, 0, True)]
    """
    found = []
    for row, (p, given) in enumerate(zip(probabilities, flags, strict=True)):
        if given.sum() == 1 and abs(p.sum() - 1) < 1e-6:  # one label for each text
            best, present = int(p.argmax()), int(given.argmax())
            gap = float(p[best] - p[present])
            if gap > DOUBT:
                found.append((round(gap, 4), row, best, True))
            continue
        column = int(np.abs(p - given).argmax())
        gap = float(2 * abs(p[column] - given[column]) - 1)
        if gap > DOUBT:
            found.append((round(gap, 4), row, column, bool(p[column] > 0.5)))
    return sorted(found, key=lambda one: -one[0])


def contradictions(vectors: np.ndarray, flags: np.ndarray) -> list[tuple[float, int, int]]:
    """Return pairs of near-duplicates with different labels, the most alike first.

    Parameters
    ----------
    vectors : numpy.ndarray of shape (n_texts, n_features)
    flags : numpy.ndarray of int, shape (n_texts, n_labels)

    Returns
    -------
    list of (float, int, int)
        The cosine of the two vectors, and the two texts.

    Examples
    --------
    >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.01]])
    >>> [pair[1:] for pair in contradictions(vectors, np.array([[0, 1], [0, 1], [1, 0]]))]
    [(0, 2)]
    """
    if len(vectors) < 2:
        return []
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS + 1, len(vectors)), metric="cosine")
    distances, others = near.fit(vectors).kneighbors(vectors)
    found = {}
    for row in range(len(vectors)):
        for distance, other in zip(distances[row], others[row].tolist(), strict=True):
            if 1 - distance >= ALIKE and (flags[row] != flags[other]).any():
                found[min(row, other), max(row, other)] = float(1 - distance)
    return sorted(((alike, *pair) for pair, alike in found.items()), key=lambda one: -one[0])


def outliers(vectors: np.ndarray, of: Sequence[int] | np.ndarray) -> list[tuple[float, int]]:
    """Return texts that are unlike all others, the most unlike first.

    Parameters
    ----------
    vectors : numpy.ndarray of shape (n_texts, n_features)
        Of labelled texts, and of others to compare with.
    of : sequence of int
        The rows that may be outliers.

    Returns
    -------
    list of (float, int)
        By how many (robust) deviations the mean distance to the nearest texts is above the
        median, and the row.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> near = [1.0, 0, 0] + 0.1 * rng.normal(size=(50, 3))
    >>> found = outliers(np.vstack([near, [[-1.0, 0, 0]]]), range(51))
    >>> found[0][1]
    50
    """
    if len(vectors) < 4 * NEIGHBOURS:
        return []
    near = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, metric="cosine").fit(vectors)
    distance = near.kneighbors(vectors[of])[0][:, 1:].mean(axis=1)
    middle = np.median(distance)
    spread = 1.4826 * np.median(np.abs(distance - middle)) + 1e-9
    scores = (distance - middle) / spread
    found = [(float(scores[i]), int(np.asarray(of)[i])) for i in np.flatnonzero(scores > FAR)]
    return sorted(found, reverse=True)


def groups_of(
    vectors: np.ndarray, most: int = 10, size: int = 20, least: int = 3
) -> list[list[int]]:
    """Return groups of texts that are alike, the largest first.

    The text with the most others near it and those others are a group, and so on with the
    rest.

    Parameters
    ----------
    vectors : numpy.ndarray of shape (n_texts, n_features)
    most : int, default=10
        Groups.
    size : int, default=20
        The most texts of a group.
    least : int, default=3
        The fewest texts of a group.

    Examples
    --------
    >>> groups_of(np.array([[1.0, 0], [1, 0.1], [0, 1], [1, 0.2]]), least=2)
    [[0, 1, 3]]
    """
    if len(vectors) < least:
        return []
    near = NearestNeighbors(radius=1 - GROUP, metric="cosine").fit(vectors)
    distances, others = near.radius_neighbors(vectors)
    is_free = np.ones(len(vectors), dtype=bool)
    groups: list[list[int]] = []
    for row in np.argsort([-len(one) for one in others], kind="stable").tolist():
        if len(groups) == most:
            break
        if not is_free[row]:
            continue
        order = np.argsort(distances[row], kind="stable")
        members = [one for one in others[row][order].tolist() if is_free[one]][:size]
        if len(members) >= least:
            is_free[members] = False
            groups.append(members)
    return sorted(groups, key=len, reverse=True)


@dataclass(frozen=True)
class Labelled:
    """Labelled texts that are audited.

    Parameters
    ----------
    ids, texts : list of str
    labels : list of list of str
        Of each text.
    flags : numpy.ndarray of int, shape (n_texts, n_labels)
        The same as 0 and 1.
    vectors : numpy.ndarray of shape (n_texts, n_features)
    probabilities : numpy.ndarray of shape (n_texts, n_labels)
        Out of fold.
    names : list of str
        Of the labels.
    multi_label : bool
    """

    ids: list[str]
    texts: list[str]
    labels: list[list[str]]
    flags: np.ndarray
    vectors: np.ndarray
    probabilities: np.ndarray
    names: list[str]
    multi_label: bool

    def doubts(self, others: np.ndarray) -> list[Doubt]:
        """Return all doubts, of each kind the most doubtful first.

        Parameters
        ----------
        others : numpy.ndarray of shape (n_texts, n_features)
            Vectors of other texts, for outliers to be compared with.
        """
        found: list[Doubt] = []
        for _, row, column, give in doubtful(self.probabilities, self.flags):
            p = 100 * self.probabilities[row, column]
            why = f"A model of the other texts gives {self.names[column]!r} {p:.0f} %."
            found.append(self._doubt("label", [row], why, self.names[column] if give else None))
        for alike, *pair in contradictions(self.vectors, self.flags):
            why = f"Nearly the same text (cosine {alike:.2f}) with different labels."
            found.append(self._doubt("duplicate", pair, why, self._likelier(pair)))
        rows = range(len(self.ids))
        for far, row in outliers(np.vstack([self.vectors, others]), rows):
            why = f"Unlike all other texts ({far:.0f} deviations farther from its neighbours)."
            found.append(self._doubt("outlier", [row], why))
        return found

    def _doubt(
        self,
        kind: Literal["label", "duplicate", "outlier"],
        rows: Sequence[int],
        why: str,
        suggestion: str | None = None,
    ) -> Doubt:
        labels: list[str | list[str]] = [
            self.labels[row] if self.multi_label else self.labels[row][0] for row in rows
        ]
        ids, texts = [self.ids[row] for row in rows], [self.texts[row] for row in rows]
        return Doubt(kind, ids, texts, why, labels, suggestion)

    def _likelier(self, rows: Sequence[int]) -> str | None:
        """Return which of the rows' labels the models of other texts prefer."""
        if self.multi_label:
            return None
        p = self.probabilities[list(rows)].sum(axis=0)
        given = [self.labels[row][0] for row in rows]
        return max(given, key=lambda label: float(p[self.names.index(label)]))
