"""Scores of texts by one more classifier, as columns beside those of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ....errors import InputError
from ....heads.votes.decisions import log_odds
from ....utils.texts import check_texts
from ..candidates import Material, Member, take

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = ["ClassifierScores", "cross_fit"]


class ClassifierScores(TransformerMixin, BaseEstimator):
    """Scores of texts by a classifier that a step of a budget has trained.

    The classifier is trained on all training rows; their own scores, which a vote is learned
    from, are those of classifiers that have not seen them.

    Parameters
    ----------
    classifier : sklearn.pipeline.Pipeline
        Fitted.
    multi_label : bool, default=False
        Whether each column of probabilities is one of its own.
    missing : {"error", "empty"}, default="error"
        Whether None and NaN are an error or the empty text.

    Attributes
    ----------
    estimator_ : sklearn.pipeline.Pipeline
        The classifier.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> rare = make_pipeline(DummyClassifier()).fit([""] * 4, ["no", "no", "no", "yes"])
    >>> ClassifierScores.of(rare).transform(["a text"]).round(1) == np.float32(-1.1)
    array([[ True]])
    """

    def __init__(
        self, classifier: BaseEstimator, *, multi_label: bool = False, missing: str = "error"
    ) -> None:
        self.classifier = classifier
        self.multi_label = multi_label
        self.missing = missing

    @classmethod
    def of(
        cls, classifier: BaseEstimator, *, multi_label: bool = False, missing: str = "error"
    ) -> ClassifierScores:
        """Return the scores of a fitted classifier."""
        scores = cls(classifier, multi_label=multi_label, missing=missing)
        scores.estimator_ = classifier
        return scores

    def fit(self, X: Sequence[str], y: ArrayLike | None = None) -> ClassifierScores:
        """Raise an error: a training with a budget trains the classifier.

        Raises
        ------
        InputError
        """
        raise InputError(
            "fit() does not train the steps of a budget, which this model has. Call "
            "frozenbert.training.train with a budget."
        )

    def transform(self, X: Sequence[str]) -> np.ndarray:
        """Return the scores: log odds, one column for two classes, else one for each.

        Parameters
        ----------
        X : sequence of str
            The texts.

        Returns
        -------
        numpy.ndarray of float32, shape (n_samples, n_scores)
        """
        check_is_fitted(self)
        p = self.estimator_.predict_proba(check_texts(X, self.missing))
        return _as_scores(p, multi_label=self.multi_label)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the columns' names: `score_LABEL`.

        Parameters
        ----------
        input_features : ignored
        """
        check_is_fitted(self)
        classes = list(self.estimator_.classes_)
        if not self.multi_label and len(classes) == 2:
            classes = classes[1:]
        return np.array([f"score_{label}" for label in classes], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


def _as_scores(probabilities: np.ndarray, *, multi_label: bool) -> np.ndarray:
    """Return the log odds of probabilities, as columns of float32."""
    scores = log_odds(np.asarray(probabilities, dtype=np.float64), many=multi_label)
    return np.asarray(scores.reshape(len(scores), -1), dtype=np.float32)


def cross_fit(fit: Callable[[int, np.ndarray], Pipeline], material: Material) -> Member:
    """Train a classifier for each fold, which scores the rows that it has not seen, and one on all.

    Parameters
    ----------
    fit : callable
        From the number of a fold, from 1, and its training rows to a fitted classifier; the
        number is 0 for all rows.
    material : Material
    """
    last = fit(0, np.arange(len(material.y)))
    p = np.zeros((len(material.y), len(last.classes_)))
    for number, (train, test) in enumerate(material.splits, 1):
        one = fit(number, train)
        # A fold may lack a class of few rows.
        columns = np.searchsorted(last.classes_, one.classes_)
        p[np.ix_(test, columns)] = one.predict_proba(take(material.texts, test))
    scores = ClassifierScores.of(last, multi_label=material.many, missing=material.embed.missing)
    return Member(scores, _as_scores(p, multi_label=material.many))
