"""Classifiers of decisions: out-of-fold scores as the output of a classifier, and a vote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.optimize
import scipy.special
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import compute_sample_weight
from sklearn.utils.validation import check_is_fitted

from ..scoring import ClassWeight

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = ["DecisionClassifier", "SharedVote", "log_odds"]

TINY = 1e-12  # the smallest probability that has a logarithm here


class DecisionClassifier(ClassifierMixin, BaseEstimator):
    """Classifier whose columns are the decisions of another classifier already.

    It hands decisions on, so that out-of-fold scores can be scored, calibrated and compared
    as an estimator. Nothing is learned but the classes.

    Parameters
    ----------
    one_vs_rest : bool, default=False
        Whether the decisions on several classes are of one model against the rest each.
        Otherwise they are of a multinomial model.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_classes,)
        With many labels, their positions.

    Examples
    --------
    >>> model = DecisionClassifier().fit([[-2.0], [2.0]], ["bad", "good"])
    >>> model.predict([[-0.5], [0.1]]).tolist()
    ['bad', 'good']
    """

    def __init__(self, *, one_vs_rest: bool = False) -> None:
        self.one_vs_rest = one_vs_rest

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> DecisionClassifier:
        """Learn the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_decisions)
            One column for two classes, else one for each class or label.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        sample_weight : ignored

        Returns
        -------
        DecisionClassifier
            Itself.
        """
        labels = np.asarray(y)
        self.n_labels_ = labels.shape[1] if labels.ndim == 2 else 0
        self.classes_ = np.arange(self.n_labels_) if self.n_labels_ else np.unique(labels)
        return self

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Return the decisions, as scikit-learn's classifiers do."""
        check_is_fitted(self)
        decisions = np.asarray(X, dtype=np.float64)
        if self.n_labels_ or len(self.classes_) > 2:
            return decisions
        return decisions.reshape(len(decisions))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the class of each row; with many labels 0 or 1 for each label."""
        decisions = self.decision_function(X)
        if self.n_labels_:
            return (decisions > 0).astype(int)
        best = (decisions > 0).astype(int) if decisions.ndim == 1 else decisions.argmax(axis=1)
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each class or label, shape (n_samples, n_classes)."""
        decisions = self.decision_function(X)
        if self.n_labels_:
            return np.asarray(scipy.special.expit(decisions))
        if decisions.ndim == 1:
            p = scipy.special.expit(decisions)
            return np.column_stack([1 - p, p])
        if self.one_vs_rest:
            p = np.clip(scipy.special.expit(decisions), TINY, 1)
            return np.asarray(p / p.sum(axis=1, keepdims=True))
        return np.asarray(scipy.special.softmax(decisions, axis=1))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags


class SharedVote(ClassifierMixin, BaseEstimator):
    """Vote of several classifiers, each with one weight for all classes.

    The decision on a class is the weighted sum of the classifiers' decisions on it, and the
    weights maximize the likelihood of the labels (a conditional logit model [1]_). A logistic
    regression has a weight for each pair of classes instead: with many classes these are too
    many to learn, and take minutes.

    Parameters
    ----------
    class_weight : dict, "balanced" or None, default=None
        As in scikit-learn.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_classes,)
    coef_ : numpy.ndarray of shape (n_classifiers,)
        The weights.

    References
    ----------
    .. [1] McFadden 1973, "Conditional logit analysis of qualitative choice behavior".

    Examples
    --------
    >>> good = np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]])
    >>> vote = SharedVote().fit(np.hstack([good, -good[::-1]]), ["a", "b", "c"])
    >>> vote.predict(np.hstack([good, good])).tolist(), vote.coef_.shape
    (['a', 'b', 'c'], (2,))
    """

    def __init__(self, *, class_weight: ClassWeight = None) -> None:
        self.class_weight = class_weight

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> SharedVote:
        """Learn the weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_classifiers * n_classes)
            The decisions of each classifier on all classes, side by side.
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        SharedVote
            Itself.
        """
        self.classes_, coded = np.unique(np.asarray(y), return_inverse=True)
        decisions = self._by_classifier(X)
        weights = compute_sample_weight(self.class_weight, y)
        if sample_weight is not None:
            weights = weights * np.asarray(sample_weight)
        weights = weights / weights.sum()
        rows = np.arange(len(coded))

        def loss(coef: np.ndarray) -> tuple[float, np.ndarray]:
            log_p = scipy.special.log_softmax(np.tensordot(decisions, coef, (1, 0)), axis=1)
            residuals = np.exp(log_p)
            residuals[rows, coded] -= 1
            residuals *= weights[:, np.newaxis]
            # Hardly regularised, as scikit-learn's C=1 is; without it, separable rows have no best.
            value = -weights @ log_p[rows, coded] + coef @ coef / (2 * len(rows))
            slope = np.einsum("nk,nck->c", residuals, decisions) + coef / len(rows)
            return float(value), slope

        start = np.full(decisions.shape[1], 0.5)
        self.coef_ = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x
        return self

    def _by_classifier(self, X: ArrayLike) -> np.ndarray:
        return np.asarray(X, dtype=np.float64).reshape(len(np.asarray(X)), -1, len(self.classes_))

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Return the weighted decisions, shape (n_samples, n_classes)."""
        check_is_fitted(self)
        return np.tensordot(self._by_classifier(X), self.coef_, (1, 0))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the class of each row, shape (n_samples,)."""
        return np.asarray(self.classes_[self.decision_function(X).argmax(axis=1)])

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each class, shape (n_samples, n_classes)."""
        return np.asarray(scipy.special.softmax(self.decision_function(X), axis=1))


def log_odds(probabilities: np.ndarray, *, many: bool = False) -> np.ndarray:
    """Return decisions whose probabilities these are.

    Parameters
    ----------
    probabilities : numpy.ndarray of shape (n_samples, n_classes)
    many : bool, default=False
        Whether the columns are labels, each with a probability of its own.

    Examples
    --------
    >>> log_odds(np.array([[0.5, 0.5]])).tolist()
    [0.0]
    """
    p = np.clip(probabilities, TINY, 1 - TINY)
    if many:
        return np.asarray(np.log(p) - np.log1p(-p))
    return np.log(p[:, 1] / p[:, 0]) if p.shape[1] == 2 else np.log(p)
