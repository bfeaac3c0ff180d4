"""Train a classifier on the probabilities of another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.validation import check_is_fitted

from ..errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DistilledClassifier", "sharpened"]

Matrix: TypeAlias = "ArrayLike | scipy.sparse.spmatrix | pd.DataFrame"


class DistilledClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Classifier that is trained on probabilities instead of labels.

    Each row is used once for each class, weighted by the class's probability; for logistic
    regression this is the cross-entropy with the probabilities. Copies are made in `fit`, so
    cross-validation never puts copies of a row into different folds.

    Parameters
    ----------
    estimator : estimator
        A classifier whose `fit` takes `sample_weight`.
    classes : sequence
        The class of each column of probabilities.
    temperature : float, default=1.0
        Probabilities are raised to the power `1 / temperature` first. Below 1 they become more
        certain, which helps where the teacher is underconfident. (G. Hinton, O. Vinyals and
        J. Dean, "Distilling the Knowledge in a Neural Network", 2015, use one above 1.)
    shares : sequence of float or None, default=None
        The share of each class in the weighted rows; None takes the sums of the
        probabilities.

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
        estimator: BaseEstimator,
        classes: Sequence[object],
        *,
        temperature: float = 1.0,
        shares: Sequence[float] | None = None,
    ) -> None:
        self.estimator = estimator
        self.classes = classes
        self.temperature = temperature
        self.shares = shares

    def fit(self, X: Matrix, y: ArrayLike) -> DistilledClassifier:
        """Train on probabilities.

        Parameters
        ----------
        X : array, sparse matrix or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples, n_classes)
            Probabilities; each row sums to 1.

        Returns
        -------
        DistilledClassifier
            Itself.

        Raises
        ------
        InputError
            If `y` does not contain a probability of each class, or `temperature` is not
            above 0.
        """
        P = sharpened(y, self.temperature)
        if P.shape[1] != len(self.classes):
            raise InputError(
                f"{P.shape[1]} columns of probabilities for {len(self.classes)} classes.",
                parameter="y",
            )
        weights = P.copy()
        if self.shares is not None:
            weights *= np.asarray(self.shares) * len(P) / np.maximum(P.sum(axis=0), 1e-12)
        self.classes_ = np.asarray(self.classes)
        # Copies with almost no weight would only cost time.
        place, row = np.nonzero(weights.T > 1e-6)
        self.estimator_ = clone(self.estimator).fit(
            _rows_of(X)[row], self.classes_[place], sample_weight=weights[row, place]
        )
        return self

    def predict_proba(self, X: Matrix) -> np.ndarray:
        """Return the probability of each class, in the order of `classes_`."""
        check_is_fitted(self)
        order = [self.estimator_.classes_.tolist().index(c) for c in self.classes_.tolist()]
        return np.asarray(self.estimator_.predict_proba(_rows_of(X)))[:, order]

    def labels_from_proba(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the most probable class of each row, shape (n_samples,)."""
        return self.classes_[np.argmax(probabilities, axis=1)]

    def predict(self, X: Matrix) -> np.ndarray:
        """Return the most probable class of each row, shape (n_samples,)."""
        return self.labels_from_proba(self.predict_proba(X))

    def score(self, X: Matrix, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the negative mean cross-entropy with probabilities `y`, in nats."""
        entropy = -np.log(np.maximum(self.predict_proba(X), 1e-12)) * np.asarray(y)
        weights = None if sample_weight is None else np.asarray(sample_weight)
        return -float(np.average(entropy.sum(axis=1), weights=weights))


def _rows_of(X: Matrix) -> Any:
    """Return a matrix whose rows can be repeated by an index array."""
    return scipy.sparse.csr_array(X) if scipy.sparse.issparse(X) else np.asarray(X)


def sharpened(P: ArrayLike, temperature: float) -> np.ndarray:
    """Return probabilities to the power `1 / temperature`, normalised to sum to 1 in each row.

    Parameters
    ----------
    P : array-like of shape (n_samples, n_classes)
    temperature : float

    Returns
    -------
    numpy.ndarray of float64, shape (n_samples, n_classes)

    Raises
    ------
    InputError
        If `P` does not contain probabilities, or `temperature` is not above 0.

    Examples
    --------
    >>> sharpened([[0.6, 0.4]], 0.5).round(3).tolist()
    [[0.692, 0.308]]
    """
    P = np.asarray(P, dtype=np.float64)
    if P.ndim != 2 or not np.isfinite(P).all() or P.min() < 0 or abs(P.sum(1) - 1).max() > 1e-3:
        raise InputError(
            "probabilities of the classes, shape (n_samples, n_classes), whose sum in a row is 1.",
            parameter="y",
        )
    if not temperature > 0:
        raise InputError("a number above 0.", parameter="temperature", value=temperature)
    # In logarithms: a small number to a large power would become 0.
    logs = np.log(np.maximum(P, 1e-300)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
