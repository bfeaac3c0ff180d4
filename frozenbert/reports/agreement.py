"""Measure how far the vectors of a reduced precision agree with those of float32."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from .schema import PrecisionTrial

__all__ = ["agrees", "mean_cosine", "measure_trial"]

LEAST_COSINE = 0.999  # mean, of a precision that agrees
LEAST_EQUAL = 0.995  # fraction of labels
# Folds and their repeats: with one repeat, chance decides about the few texts near the boundary.
N_FOLDS, N_REPEATS = 5, 4
C = 0.01  # of the head that compares labels, on standardised vectors


def mean_cosine(vectors: np.ndarray, exact: np.ndarray) -> float:
    """Return the mean cosine of each row with the same row of `exact`.

    Examples
    --------
    >>> mean_cosine(np.eye(2), np.eye(2)), mean_cosine(np.eye(2), np.array([[2, 0], [0, -1]]))
    (1.0, 0.0)
    """
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(exact, axis=1)
    return float(np.mean((vectors * exact).sum(axis=1) / norms))


def measure_trial(
    vectors: np.ndarray, exact: np.ndarray, labels: np.ndarray | None
) -> PrecisionTrial:
    """Compare the vectors of some texts with their float32 vectors.

    Parameters
    ----------
    vectors, exact : numpy.ndarray, each of shape (n_texts, n_features)
        In the reduced precision and in float32.
    labels : numpy.ndarray or None
        Classes of shape (n_texts,), or 0 and 1 of shape (n_texts, n_labels).

    Returns
    -------
    dict
        Number of texts, mean cosine, and the fraction of equal labels that a logistic
        regression predicts from both. It is fitted on float32 vectors of other texts
        (repeated folds). None without labels, or if they are too few to fit on.

    Examples
    --------
    >>> exact = np.random.default_rng(0).normal(size=(60, 4)) + 1
    >>> trial = measure_trial(exact + 1e-6, exact, exact[:, 0] > 1)
    >>> trial["n_texts"], round(trial["mean_cosine"], 4), trial["equal_labels"]
    (60, 1.0, 1.0)
    """
    equal = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # many classes, few texts, slow convergence
        for column in _columns(labels):
            equal.extend(_compare_labels(vectors, exact, column))
    return {
        "n_texts": len(exact),
        "mean_cosine": mean_cosine(vectors, exact),
        "equal_labels": float(np.mean(equal)) if equal else None,
    }


def agrees(trial: PrecisionTrial) -> bool:
    """Tell whether a precision agrees with float32 as far as `precision="auto"` demands."""
    equal = trial["equal_labels"]
    return trial["mean_cosine"] >= LEAST_COSINE and (equal is None or equal >= LEAST_EQUAL)


def _columns(labels: np.ndarray | None) -> list[np.ndarray]:
    """Return classes as one column, several labels as many; none for anything else."""
    from sklearn.utils.multiclass import type_of_target

    if labels is None:
        return []
    kind = type_of_target(labels)
    if kind in ("binary", "multiclass"):
        return [np.unique(labels, return_inverse=True)[1].ravel()]
    return [*np.asarray(labels).T] if kind == "multilabel-indicator" else []


def _compare_labels(vectors: np.ndarray, exact: np.ndarray, classes: np.ndarray) -> list[float]:
    """Return the fraction of equal labels in each fold."""
    from sklearn.model_selection import KFold

    equal = []
    for seed in range(N_REPEATS if len(exact) >= N_FOLDS else 0):
        for train, rest in KFold(N_FOLDS, shuffle=True, random_state=seed).split(exact):
            if len(np.unique(classes[train])) < 2:
                continue
            head = _make_head().fit(exact[train], classes[train])
            equal.append(float(np.mean(head.predict(vectors[rest]) == head.predict(exact[rest]))))
    return equal


def _make_head() -> Pipeline:
    """Return a logistic regression that is quick on few texts with thousands of columns."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # With an L2 penalty, the weights are combinations of the texts' vectors: the projection on
    # those loses nothing.
    head = LogisticRegression(C=C, max_iter=1000)
    return make_pipeline(StandardScaler(), PCA(random_state=0), head)
