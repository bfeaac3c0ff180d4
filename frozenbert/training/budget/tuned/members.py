"""Scores of a classifier of texts, as columns beside those of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ....errors import InputError
from ....heads.votes.decisions import log_odds
from ....utils.texts import check_texts

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = ["TunedScores", "as_scores"]


class TunedScores(TransformerMixin, BaseEstimator):
    """Scores of texts by classifiers on fine-tuned encoders: the mean of their probabilities.

    Each encoder was fine-tuned on the training rows of one fold, so that all training rows have
    scores by an encoder that has not seen them.

    Parameters
    ----------
    classifiers : list of sklearn.pipeline.Pipeline
        Fitted, one for each fold.
    multi_label : bool, default=False
        Whether each column of probabilities is one of its own.
    missing : {"error", "empty"}, default="error"
        Whether None and NaN are an error or the empty text.

    Attributes
    ----------
    estimators_ : list of sklearn.pipeline.Pipeline
        The classifiers.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> rare = make_pipeline(DummyClassifier()).fit([""] * 4, ["no", "no", "no", "yes"])
    >>> TunedScores.of([rare]).transform(["a text"]).round(1) == np.float32(-1.1)
    array([[ True]])
    """

    def __init__(
        self,
        classifiers: Sequence[BaseEstimator],
        *,
        multi_label: bool = False,
        missing: str = "error",
    ) -> None:
        self.classifiers = classifiers
        self.multi_label = multi_label
        self.missing = missing

    @classmethod
    def of(
        cls,
        classifiers: Sequence[BaseEstimator],
        *,
        multi_label: bool = False,
        missing: str = "error",
    ) -> TunedScores:
        """Return the scores of fitted classifiers."""
        scores = cls(classifiers, multi_label=multi_label, missing=missing)
        scores.estimators_ = list(classifiers)
        return scores

    def fit(self, X: Sequence[str], y: ArrayLike | None = None) -> TunedScores:
        """Raise an error: encoders are fine-tuned by a training with a budget.

        Raises
        ------
        InputError
        """
        raise InputError(
            "this model has fine-tuned encoders, which fit() does not train. Call "
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
        texts = check_texts(X, self.missing)
        p = np.mean([model.predict_proba(texts) for model in self.estimators_], axis=0)
        return as_scores(p, multi_label=self.multi_label)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the columns' names: `score_LABEL`.

        Parameters
        ----------
        input_features : ignored
        """
        check_is_fitted(self)
        classes = list(self.estimators_[0].classes_)
        if not self.multi_label and len(classes) == 2:
            classes = classes[1:]
        return np.array([f"score_{label}" for label in classes], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


def as_scores(probabilities: np.ndarray, *, multi_label: bool) -> np.ndarray:
    """Return the log odds of probabilities, as columns of float32."""
    scores = log_odds(np.asarray(probabilities, dtype=np.float64), many=multi_label)
    return np.asarray(scores.reshape(len(scores), -1), dtype=np.float32)
