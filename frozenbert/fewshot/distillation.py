"""Learn from another model's probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.validation import check_is_fitted

from ..errors import InputError

__all__ = ["DistilledClassifier", "sharpened"]


class DistilledClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """A classifier trained on probabilities, and not on labels.

    Each row is trained on once for each class, weighted by its probability; for logistic
    regression that is exactly the cross-entropy with the probabilities. As a row is one row
    of `X`, all its copies stand in one fold of a cross-validation.

    Parameters
    ----------
    estimator : estimator
        Whatever takes `sample_weight`.
    classes : sequence
        The class of each column of probabilities.
    temperature : float, default=1.0
        Probabilities are raised to the power of its inverse first: below 1 they become more
        certain, which counts where the teacher's are timid (G. Hinton, O. Vinyals and J. Dean,
        "Distilling the Knowledge in a Neural Network", 2015, has it above 1).
    shares : sequence of float or None, default=None
        The share of each class that the rows are weighted to have together; None leaves
        them as the probabilities say.

    Attributes
    ----------
    estimator_ : estimator
        Fitted.
    classes_ : numpy.ndarray of shape (n_classes,)

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, P = np.array([[0.0], [1.0]]), np.array([[0.8, 0.2], [0.2, 0.8]])
    >>> student = DistilledClassifier(LogisticRegression(C=1e6), ["no", "yes"]).fit(X, P)
    >>> student.predict_proba(X).round(2).tolist()
    [[0.8, 0.2], [0.2, 0.8]]
    """

    def __init__(
        self,
        estimator: Any,
        classes: Sequence[Any],
        *,
        temperature: float = 1.0,
        shares: Sequence[float] | None = None,
    ) -> None:
        self.estimator = estimator
        self.classes = classes
        self.temperature = temperature
        self.shares = shares

    def fit(self, X: Any, y: Any) -> DistilledClassifier:
        """Train on probabilities.

        Parameters
        ----------
        X : array, sparse matrix or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples, n_classes)
            Probabilities, whose sum in a row is 1.

        Returns
        -------
        DistilledClassifier
            Itself.

        Raises
        ------
        InputError
            If `y` holds no probabilities of the classes.
        """
        P = sharpened(y, self.temperature)
        if P.shape[1] != len(self.classes):
            raise InputError(
                f"y has {P.shape[1]} columns of probabilities, and there are {len(self.classes)} "
                f"classes."
            )
        weights = P.copy()
        if self.shares is not None:
            weights *= np.asarray(self.shares) * len(P) / np.maximum(P.sum(axis=0), 1e-12)
        self.classes_ = np.asarray(self.classes)
        # Where a class is out of the question, its copy would only take room.
        place, row = np.nonzero(weights.T > 1e-6)
        self.estimator_ = clone(self.estimator).fit(
            _plain(X)[row], self.classes_[place], sample_weight=weights[row, place]
        )
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, in the order of `classes_`."""
        check_is_fitted(self)
        order = [self.estimator_.classes_.tolist().index(c) for c in self.classes_.tolist()]
        return np.asarray(self.estimator_.predict_proba(_plain(X)))[:, order]

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class of each row, shape (n_samples,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return minus the mean cross-entropy (nats) with probabilities; 0 is the best."""
        entropy = -np.log(np.maximum(self.predict_proba(X), 1e-12)) * np.asarray(y)
        return -float(np.average(entropy.sum(axis=1), weights=sample_weight))


def _plain(X: Any) -> Any:
    return X.tocsr() if scipy.sparse.issparse(X) else np.asarray(X)


def sharpened(P: Any, temperature: float) -> np.ndarray:
    """Return probabilities to the power of `1 / temperature`, with a row's sum of 1.

    Examples
    --------
    >>> sharpened([[0.6, 0.4]], 0.5).round(3).tolist()
    [[0.692, 0.308]]
    """
    P = np.asarray(P, dtype=np.float64)
    if P.ndim != 2 or not np.isfinite(P).all() or P.min() < 0 or abs(P.sum(1) - 1).max() > 1e-3:
        raise InputError(
            "y: probabilities of the classes, shape (n_samples, n_classes), whose sum in a row is "
            "1."
        )
    if not temperature > 0:
        raise InputError(f"temperature={temperature!r}: a number above 0.")
    # In logarithms, where a small number to a large power stays one.
    logs = np.log(np.maximum(P, 1e-300)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
