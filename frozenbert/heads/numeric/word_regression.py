"""Ridge regression on words: the baseline of numbers, and its predictions as a column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ...utils.texts import check_texts
from ..folds import CV, Splits, check_partition
from ..words import make_tfidf
from .tasks import check_target, split_rows

__all__ = ["WORD_ALPHAS", "WordPredictions", "fit_words"]

# TF-IDF rows have length 1.
WORD_ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def fit_words(texts: Sequence[str], y: np.ndarray, splits: Splits) -> tuple[Pipeline, np.ndarray]:
    """Fit TF-IDF of words and pairs with a tuned ridge regression.

    Parameters
    ----------
    texts : sequence of str
    y : numpy.ndarray of shape (n_samples,)
    splits : list of (numpy.ndarray, numpy.ndarray)

    Returns
    -------
    model : sklearn.pipeline.Pipeline
        With the steps `tfidf` and `regress`, fitted on all rows.
    words : scipy.sparse matrix
        The TF-IDF of the texts.

    Examples
    --------
    >>> rows = np.arange(4)
    >>> splits = [(rows[:2], rows[2:]), (rows[2:], rows[:2])]
    >>> model, _ = fit_words(["good", "bad", "good", "bad"], np.array([4.0, 1, 4, 1]), splits)
    >>> model.predict(["good"]) > model.predict(["bad"])
    array([ True])
    """
    tfidf = make_tfidf()
    words = tfidf.fit_transform(texts)
    search = GridSearchCV(
        Ridge(solver="sparse_cg", random_state=0),
        {"alpha": WORD_ALPHAS},
        cv=splits,
        scoring="neg_mean_squared_error",
    )
    search.fit(words, y)
    return Pipeline([("tfidf", tfidf), ("regress", search.best_estimator_)]), words


class WordPredictions(TransformerMixin, BaseEstimator):
    """Predictions of a ridge regression on words, as a column beside vectors.

    `fit_transform` returns out-of-fold predictions: each row is predicted by a regression that
    was not trained on it. `transform` uses all training rows.

    Parameters
    ----------
    cv : int, "auto", splitter or iterable of splits, default=5
    random_state : int or None, default=0
        Shuffles the folds.
    missing : {"error", "empty"}, default="error"
        Whether None and NaN are an error or the empty text.

    Attributes
    ----------
    words_ : sklearn.pipeline.Pipeline
        TF-IDF and its tuned ridge regression.

    Examples
    --------
    >>> texts = ["good film", "fine film", "bad film", "poor film"] * 5
    >>> words = WordPredictions(cv=2).fit(texts, [4.0, 4, 1, 1] * 5)
    >>> (words.transform(["a good one", "a bad one"]) > 2.5).ravel().tolist()
    [True, False]
    """

    __metadata_request__fit = {"groups": True}  # noqa: RUF012  # scikit-learn's way
    __metadata_request__fit_transform = {"groups": True}  # noqa: RUF012

    def __init__(
        self, *, cv: CV | None = 5, random_state: int | None = 0, missing: str = "error"
    ) -> None:
        self.cv = cv
        self.random_state = random_state
        self.missing = missing

    def fit(
        self, X: Sequence[str], y: ArrayLike, groups: ArrayLike | None = None
    ) -> WordPredictions:
        """Train the regression.

        Parameters
        ----------
        X : sequence of str
        y : array-like of shape (n_samples,)
        groups : array-like of shape (n_samples,), optional

        Returns
        -------
        WordPredictions
            Itself.
        """
        self._fit(X, y, groups)
        return self

    def _fit(
        self, X: Sequence[str], y: ArrayLike | None, groups: ArrayLike | None
    ) -> tuple[scipy.sparse.csr_matrix, np.ndarray, Splits]:
        texts, target = check_texts(X, self.missing), check_target(y, "regression")
        splits = split_rows(self.cv, target, groups, self.random_state)
        check_partition(splits, len(target), self.cv or 5)
        self.words_, words = fit_words(texts, target, splits)
        return words, target, splits

    def fit_transform(
        self, X: Sequence[str], y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> np.ndarray:
        """Train the regression, and return out-of-fold predictions.

        Parameters
        ----------
        X : sequence of str
        y : array-like of shape (n_samples,)
        groups : array-like of shape (n_samples,), optional

        Returns
        -------
        numpy.ndarray of float32, shape (n_samples, 1)
        """
        words, target, splits = self._fit(X, y, groups)
        found = cross_val_predict(self.words_["regress"], words, target, cv=splits)
        return np.asarray(found, dtype=np.float32).reshape(-1, 1)

    def transform(self, X: Sequence[str]) -> np.ndarray:
        """Return the predictions of words, shape (n_samples, 1)."""
        check_is_fitted(self)
        found = self.words_.predict(check_texts(X, self.missing))
        return np.asarray(found, dtype=np.float32).reshape(-1, 1)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the name of the column.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        numpy.ndarray of object
        """
        check_is_fitted(self)
        return np.array(["words"], dtype=object)
