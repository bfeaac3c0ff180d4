"""Gradient boosting whose fitted trees are plain arrays."""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

__all__ = ["BoostedClassifier", "BoostedRegressor"]

MOST_LEAVES = 8
SETTINGS = {"learning_rate": 0.05, "max_leaf_nodes": MOST_LEAVES, "max_iter": 100}
ROWS = 1024  # that go through all trees at once

_Boosting: TypeAlias = HistGradientBoostingClassifier | HistGradientBoostingRegressor


class _BoostedTrees(BaseEstimator):
    """Base of models that scikit-learn's gradient boosting fits, and that predict with NumPy.

    scikit-learn follows a tree's links without checking them, so that the trees of a file from
    a stranger could read any memory, or never end.

    Parameters
    ----------
    random_state : int or None, default=0

    Attributes
    ----------
    features_, thresholds_, left_, right_, values_ : numpy.ndarray of shape (n_nodes,)
        The nodes of all trees: a row whose feature is up to the threshold goes left. Both links
        of a leaf lead to itself.
    roots_ : numpy.ndarray of int, shape (n_iterations, n_outputs)
    baseline_ : numpy.ndarray of shape (n_outputs,)
    """

    _kind: ClassVar[type[_Boosting]]

    def __init__(self, random_state: int | None = 0) -> None:
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> _BoostedTrees:
        """Fit the trees.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Without missing values.
        y : array-like of shape (n_samples,)

        Returns
        -------
        estimator
            Itself.
        """
        boosting = self._kind(**SETTINGS, random_state=self.random_state).fit(X, y)
        trees = [tree.nodes for iteration in boosting._predictors for tree in iteration]
        nodes = np.concatenate(trees)
        starts = np.cumsum([0, *map(len, trees[:-1])])
        self.roots_ = starts.reshape(len(boosting._predictors), -1)
        offset, is_leaf = np.repeat(starts, list(map(len, trees))), nodes["is_leaf"] != 0
        itself = np.arange(len(nodes))
        self.left_ = np.where(is_leaf, itself, nodes["left"] + offset)
        self.right_ = np.where(is_leaf, itself, nodes["right"] + offset)
        self.features_ = nodes["feature_idx"].astype(np.intp)
        self.thresholds_ = nodes["num_threshold"].copy()
        self.values_ = nodes["value"].copy()
        self.baseline_ = np.ravel(boosting._baseline_prediction)
        self.n_features_in_ = boosting.n_features_in_
        if isinstance(boosting, HistGradientBoostingClassifier):
            self.classes_ = boosting.classes_
        return self

    def _sums(self, X: ArrayLike) -> np.ndarray:
        """Return the sum of all trees, shape (n_samples, n_outputs)."""
        table = np.asarray(X, dtype=np.float64)
        sums = np.empty((len(table), len(self.baseline_)))
        for start in range(0, len(table), ROWS):
            cells = table[start : start + ROWS]
            rows = np.arange(len(cells))[:, np.newaxis]
            at = np.broadcast_to(self.roots_.ravel(), (len(cells), self.roots_.size))
            for _ in range(MOST_LEAVES - 1):  # no tree is deeper
                is_left = cells[rows, self.features_[at]] <= self.thresholds_[at]
                at = np.where(is_left, self.left_[at], self.right_[at])
            of_trees = self.values_[at].reshape(len(cells), *self.roots_.shape)
            sums[start : start + ROWS] = self.baseline_ + of_trees.sum(axis=1)
        return sums


class BoostedRegressor(RegressorMixin, _BoostedTrees):
    """Regression by gradient boosting, with trees as plain arrays.

    Parameters
    ----------
    random_state : int or None, default=0

    Examples
    --------
    >>> X = np.arange(100.0)[:, np.newaxis]
    >>> BoostedRegressor().fit(X, X.ravel() > 50).predict([[10], [90]]).round(1).tolist()
    [0.0, 1.0]
    """

    _kind = HistGradientBoostingRegressor

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the predicted number of each row, shape (n_samples,)."""
        return self._sums(X)[:, 0]


class BoostedClassifier(ClassifierMixin, _BoostedTrees):
    """Classification by gradient boosting, with trees as plain arrays.

    Parameters
    ----------
    random_state : int or None, default=0

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_classes,)

    Examples
    --------
    >>> X = np.arange(100.0)[:, np.newaxis]
    >>> BoostedClassifier().fit(X, X.ravel() > 50).predict([[10], [90]]).tolist()
    [False, True]
    """

    _kind = HistGradientBoostingClassifier

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each class, shape (n_samples, n_classes)."""
        sums = self._sums(X)
        if sums.shape[1] == 1:
            p = expit(sums)
            return np.hstack([1 - p, p])
        return np.asarray(softmax(sums, axis=1))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the most probable class of each row, shape (n_samples,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])
