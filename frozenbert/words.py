"""What words alone tell: the baseline that an encoder has to beat, and its scores as features."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .classify import make_head
from .search import out_of_fold, tuned_estimator
from .texts import check_texts

__all__ = ["WordScores", "make_words_baseline"]

# TF-IDF rows have length 1, and therefore need less regularisation than standardised vectors.
BASELINE_C_VALUES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def make_words_baseline(
    *,
    cv: int = 5,
    scoring: str | None = None,
    multi_label: bool = False,
    class_weight: str | None = None,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> Pipeline:
    """Make what any encoder has to beat: TF-IDF of words and pairs, logistic regression.

    Parameters
    ----------
    cv, scoring, multi_label, class_weight, random_state, n_jobs
        As for `frozenbert.classify.make_head`.

    Returns
    -------
    sklearn.pipeline.Pipeline
        With the steps `tfidf` and `classify`; its C is tuned over the same folds.

    Examples
    --------
    >>> texts = ["good film", "fine film", "bad film", "poor film"] * 5
    >>> make_words_baseline(cv=2).fit(texts, [1, 1, 0, 0] * 5).predict(["a bad one"]).item()
    0
    """
    head = make_head(
        C=BASELINE_C_VALUES,
        cv=cv,
        scoring=scoring,
        multi_label=multi_label,
        class_weight=class_weight,
        random_state=random_state,
        n_jobs=n_jobs,
    )
    words = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", dtype=np.float32
    )
    return Pipeline([("tfidf", words), ("classify", head)])


class WordScores(TransformerMixin, BaseEstimator):
    """The scores of a classifier of words, as columns to stand beside vectors.

    `fit_transform` returns scores out of fold: each row is scored by a classifier that
    was not trained on it (as in scikit-learn's `TargetEncoder`). So what is trained on
    them learns what words are worth on new texts. `transform` uses all training rows.

    Parameters
    ----------
    cv, scoring, multi_label, class_weight, random_state, n_jobs
        As for `frozenbert.classify.make_head`.
    missing : {"error", "empty"}, default="error"
        Whether None and NaN are an error or the empty text.

    Attributes
    ----------
    words_ : sklearn.pipeline.Pipeline
        TF-IDF and its tuned classifier, fitted on all training rows.

    Examples
    --------
    >>> texts = ["good film", "fine film", "bad film", "poor film"] * 5
    >>> words = WordScores(cv=2).fit(texts, [1, 1, 0, 0] * 5)
    >>> (words.transform(["a good one", "a bad one"]) > 0).ravel().tolist()
    [True, False]
    """

    def __init__(
        self,
        *,
        cv: int = 5,
        scoring: str | None = None,
        multi_label: bool = False,
        class_weight: str | None = None,
        random_state: int | None = 0,
        n_jobs: int | None = None,
        missing: str = "error",
    ) -> None:
        self.cv = cv
        self.scoring = scoring
        self.multi_label = multi_label
        self.class_weight = class_weight
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.missing = missing

    def fit(self, X: Any, y: Any) -> WordScores:
        """Train the classifier of words.

        Parameters
        ----------
        X : sequence of str
            The texts.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)

        Returns
        -------
        WordScores
            Itself.
        """
        self._fit(check_texts(X, self.missing), y)
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> np.ndarray:
        """Train the classifier of words, and return scores out of fold.

        Parameters
        ----------
        X : sequence of str
            The texts.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        **fit_params : ignored

        Returns
        -------
        numpy.ndarray of float32, shape (n_samples, n_scores)
            One column of two classes, else one for each class or label.
        """
        texts = check_texts(X, self.missing)
        self._fit(texts, y)
        words = self.words_["tfidf"].transform(texts)
        head = self.words_["classify"]
        return _as_columns(out_of_fold(head, words, np.asarray(y), "decision_function"))

    def _fit(self, texts: list[str], y: Any) -> None:
        self.words_ = make_words_baseline(
            cv=self.cv,
            scoring=self.scoring,
            multi_label=self.multi_label,
            class_weight=self.class_weight,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
        ).fit(texts, y)

    def transform(self, X: Any) -> np.ndarray:
        """Score texts by their words.

        Parameters
        ----------
        X : sequence of str
            The texts.

        Returns
        -------
        numpy.ndarray of float32, shape (n_samples, n_scores)
        """
        check_is_fitted(self)
        words = self.words_["tfidf"].transform(check_texts(X, self.missing))
        return _as_columns(tuned_estimator(self.words_["classify"]).decision_function(words))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the columns' names: `score_LABEL`.

        Parameters
        ----------
        input_features : ignored
        """
        check_is_fitted(self)
        classes = list(self.words_.classes_)
        if not self.multi_label and len(classes) == 2:
            classes = classes[1:]
        return np.array([f"score_{label}" for label in classes], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        return tags


def _as_columns(scores: np.ndarray) -> np.ndarray:
    return np.asarray(scores.reshape(len(scores), -1), dtype=np.float32)
