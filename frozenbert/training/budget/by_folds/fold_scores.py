"""Scores of texts by one classifier for each fold, as columns beside those of words."""

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

__all__ = ["FoldScores", "cross_fit"]


class FoldScores(TransformerMixin, BaseEstimator):
    """Scores of texts by the classifiers of all folds: the mean of their probabilities.

    Each classifier was trained on the training rows of one fold, so that all training rows have
    scores by a classifier that has not seen them.

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
    >>> FoldScores.of([rare]).transform(["a text"]).round(1) == np.float32(-1.1)
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
    ) -> FoldScores:
        """Return the scores of fitted classifiers."""
        scores = cls(classifiers, multi_label=multi_label, missing=missing)
        scores.estimators_ = list(classifiers)
        return scores

    def fit(self, X: Sequence[str], y: ArrayLike | None = None) -> FoldScores:
        """Raise an error: a training with a budget trains the classifiers.

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
        texts = check_texts(X, self.missing)
        p = np.mean([model.predict_proba(texts) for model in self.estimators_], axis=0)
        return _as_scores(p, multi_label=self.multi_label)

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


def _as_scores(probabilities: np.ndarray, *, multi_label: bool) -> np.ndarray:
    """Return the log odds of probabilities, as columns of float32."""
    scores = log_odds(np.asarray(probabilities, dtype=np.float64), many=multi_label)
    return np.asarray(scores.reshape(len(scores), -1), dtype=np.float32)


def cross_fit(fit: Callable[[int, np.ndarray], Pipeline], material: Material) -> Member:
    """Train a classifier for each fold; each scores the rows that it has not seen.

    Parameters
    ----------
    fit : callable
        From the number of a fold, from 1, and its training rows to a fitted classifier.
    material : Material
    """
    models, p = [], None
    for number, (train, test) in enumerate(material.splits, 1):
        model = fit(number, train)
        models.append(model)
        of_test = model.predict_proba(take(material.texts, test))
        p = np.zeros((len(material.y), of_test.shape[1])) if p is None else p
        p[test] = of_test
    assert p is not None
    scores = FoldScores.of(models, multi_label=material.many, missing=material.embed.missing)
    return Member(scores, _as_scores(p, multi_label=material.many))
