"""Clusters of vectors, with their typical texts and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.cluster import HDBSCAN, KMeans, MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer

from ..errors import InputError
from .cosines import unit_vectors

__all__ = ["MOST_FOR_HDBSCAN", "Clusters", "find_clusters", "find_words"]

MOST_FOR_HDBSCAN = 10_000
# On 4,000 questions of 77 kinds (Banking77), these agree with the kinds as well as any of 10, 20
# and 50 components, at least 5, 10 and 20 texts, and 3, 5, 10 and 20 neighbours. "eom", the other
# way to select clusters, agrees as well there, but joins most of 10,000 mixed texts into two.
N_COMPONENTS = 20
LEAST_TEXTS = 10  # of a cluster; 5 of fewer than 1,000 texts
N_NEIGHBOURS = 3  # by whose distance HDBSCAN tells how dense the texts are


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters, the largest first.

    Attributes
    ----------
    labels : numpy.ndarray of int, shape (n_texts,)
        The cluster of each text, from 0; -1 for texts in none.
    typical : list of numpy.ndarray of int
        For each cluster the rows whose vectors are nearest to its mean, the nearest first.
    method : str
        How they were found.
    """

    labels: np.ndarray
    typical: list[np.ndarray]
    method: str


def find_clusters(
    vectors: ArrayLike,
    n_clusters: int | None = None,
    *,
    n_typical: int = 5,
    random_state: int = 0,
) -> Clusters:
    """Find groups of texts on the same subject.

    Without a number of clusters, up to 10,000 vectors are clustered by HDBSCAN on their first
    20 principal components: it finds dense places, and leaves out the texts between them, often
    most. More vectors are clustered by mini-batch k-means, with as many clusters as the square
    root of half their number, but not more than 100.

    Parameters
    ----------
    vectors : array-like of shape (n_texts, n_features)
    n_clusters : int, optional
        Number of clusters, by k-means.
    n_typical : int, default=5
        Most typical texts of a cluster.
    random_state : int, default=0
        Seed of PCA and k-means.

    Returns
    -------
    Clusters

    Raises
    ------
    InputError
        If a parameter is illegal.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> centres = np.repeat(rng.normal(size=(3, 8)), [20, 15, 10], axis=0)
    >>> found = find_clusters(centres + rng.normal(scale=0.1, size=centres.shape))
    >>> np.bincount(found.labels).tolist(), found.method
    ([20, 15, 10], 'HDBSCAN on 8 principal components')
    """
    unit = unit_vectors(vectors)
    if n_clusters is not None and not (
        isinstance(n_clusters, int | np.integer)
        and not isinstance(n_clusters, bool)
        and 1 <= n_clusters <= len(unit)
    ):
        raise InputError(
            f"a whole number from 1 to {len(unit):,}, the number of vectors.",
            parameter="n_clusters",
            value=n_clusters,
        )
    if n_clusters is None and len(unit) <= MOST_FOR_HDBSCAN:
        labels, method = _by_density(unit, random_state)
    else:
        labels, method = _by_means(unit, n_clusters, random_state)
    labels = _by_size(labels)
    return Clusters(labels, _typical(unit, labels, n_typical), method)


def find_words(
    texts: Sequence[str], labels: Sequence[int] | np.ndarray, n_words: int = 8
) -> list[list[str]]:
    """Find the words that distinguish each cluster from the other texts.

    Parameters
    ----------
    texts : sequence of str
    labels : sequence of int
        The cluster of each text, from 0; -1 for texts in none.
    n_words : int, default=8
        Most words of a cluster.

    Returns
    -------
    list of list of str
        For each cluster the words that are in more of its texts than of all texts. They are
        ordered by their part in the Kullback-Leibler divergence between both shares. Words
        that are in one text alone do not count.

    Examples
    --------
    >>> texts = ["the dull film", "a dull film", "the film is dull", "my card is lost",
    ...          "the lost card", "a card was lost"]
    >>> find_words(texts, [0, 0, 0, 1, 1, 1], n_words=2)
    [['dull', 'film'], ['card', 'lost']]
    """
    clusters = np.asarray(labels)
    n_clusters = int(clusters.max(initial=-1)) + 1
    try:
        counter = CountVectorizer(binary=True, min_df=2, dtype=np.float32)
        flags = counter.fit_transform(texts)
    except ValueError:  # no word is in two texts
        return [[] for _ in range(n_clusters)]
    names = counter.get_feature_names_out()
    overall = np.asarray(flags.mean(axis=0)).ravel()
    words = []
    for cluster in range(n_clusters):
        within = np.asarray(flags[clusters == cluster].mean(axis=0)).ravel()
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = np.where(within > overall, within * np.log(within / overall), 0)
        best = np.argsort(-parts, kind="stable")[:n_words]
        words.append([str(names[i]) for i in best if parts[i] > 0])
    return words


def _by_density(unit: np.ndarray, random_state: int) -> tuple[np.ndarray, str]:
    n_components = min(N_COMPONENTS, *unit.shape)
    with np.errstate(invalid="ignore"):  # equal texts have no variance
        reduced = PCA(n_components, random_state=random_state).fit_transform(unit)
    least = min(LEAST_TEXTS if len(unit) >= 1000 else 5, len(unit))
    dense = HDBSCAN(
        least,
        min_samples=min(N_NEIGHBOURS, least),
        cluster_selection_method="leaf",
        copy=True,
    )
    labels: np.ndarray = dense.fit_predict(reduced)
    return labels, f"HDBSCAN on {n_components} principal components"


def _by_means(
    unit: np.ndarray, n_clusters: int | None, random_state: int
) -> tuple[np.ndarray, str]:
    if n_clusters is None:
        n_clusters = min(100, round(np.sqrt(len(unit) / 2)))
    few = len(unit) <= MOST_FOR_HDBSCAN
    kind, name = (KMeans, "k-means") if few else (MiniBatchKMeans, "mini-batch k-means")
    labels: np.ndarray = kind(n_clusters, n_init=3, random_state=random_state).fit_predict(unit)
    return labels, f"{name} with {n_clusters} clusters"


def _by_size(labels: np.ndarray) -> np.ndarray:
    """Return the labels renumbered: the largest cluster is 0; -1 stays."""
    names, counts = np.unique(labels[labels >= 0], return_counts=True)
    numbers = np.full(labels.max(initial=-1) + 2, -1)  # the last is that of -1
    numbers[names[np.argsort(-counts, kind="stable")]] = np.arange(len(names))
    renumbered: np.ndarray = numbers[labels]
    return renumbered


def _typical(unit: np.ndarray, labels: np.ndarray, most: int) -> list[np.ndarray]:
    typical = []
    for cluster in range(labels.max(initial=-1) + 1):
        rows = np.flatnonzero(labels == cluster)
        nearness = unit[rows] @ unit[rows].mean(axis=0)
        typical.append(rows[np.argsort(-nearness, kind="stable")[:most]])
    return typical
