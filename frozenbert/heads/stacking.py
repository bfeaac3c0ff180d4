"""What is learned from a search's scores out of fold: votes, probabilities, thresholds."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import TunedThresholdClassifierCV, check_cv
from sklearn.utils.validation import check_is_fitted

from ..errors import InputError
from .search import base_search, out_of_fold, tuned_estimator

__all__ = ["MultiLabelClassifier", "StackedSearch", "flags_of"]


class _OutOfFold(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """A search, then what is learned from its best estimator's scores out of fold."""

    def __init__(
        self, search: Any, *, with_words: bool = False, calibrate: str | None = None
    ) -> None:
        self.search = search
        self.with_words = with_words
        self.calibrate = calibrate

    def _search(self, X: Any, y: np.ndarray) -> np.ndarray:
        """Fit `search_`; return the scores, and those of words, shape (n_samples, n_scores)."""
        self._n_words = 0
        if self.with_words:
            self._n_words = y.shape[1] if y.ndim == 2 else len(np.unique(y))
            self._n_words = 1 if self._n_words == 2 and y.ndim == 1 else self._n_words
        vectors, words = self.split(X)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Label .* is present in all training")
            self.search_ = clone(self.search).fit(vectors, y)
        scores = out_of_fold(self.search_, vectors, y, "decision_function")
        return np.column_stack([scores, words])

    def _scores(self, X: Any) -> np.ndarray:
        vectors, words = self.split(X)
        return np.column_stack([tuned_estimator(self.search_).decision_function(vectors), words])

    def split(self, X: Any) -> tuple[Any, np.ndarray]:
        """Return the columns of vectors, and those of words' scores."""
        if not self._n_words:  # X may be sparse
            return X, np.empty((np.shape(X)[0], 0))
        n = np.shape(X)[1] - self._n_words
        if hasattr(X, "iloc"):
            return X.iloc[:, :n], np.asarray(X.iloc[:, n:])
        return X[:, :n], np.asarray(X[:, n:])


class StackedSearch(_OutOfFold):
    """Search, then learn out of fold what its scores are worth, alone or beside words'.

    Two classifiers, of vectors and of words, have a vote each, whose weights are those of
    a logistic regression on their scores out of fold.

    Parameters
    ----------
    search : estimator
        A `GridSearchCV` or `FeatureSearch`.
    with_words : bool, default=False
        Whether the last columns of `X` are scores of words, as from
        `frozenbert.heads.words.WordScores`: one of two classes, else one for each.
    calibrate : {"sigmoid", "isotonic"} or None, default=None
        How probabilities are mapped, out of fold, to shares of rows.

    Attributes
    ----------
    search_ : estimator
        The fitted search.
    best_estimator_ : estimator
        The classifier of scores.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.model_selection import GridSearchCV
    >>> X, y = make_classification(random_state=0)
    >>> search = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}, cv=5)
    >>> StackedSearch(search, calibrate="sigmoid").fit(X, y).predict_proba(X).shape
    (100, 2)
    """

    def fit(self, X: Any, y: Any) -> StackedSearch:
        """Search, then train on the scores out of fold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)

        Returns
        -------
        StackedSearch
            Itself.
        """
        y = np.asarray(y)
        scores = self._search(X, y)
        self.plain_ = self.best_estimator_ = _of_scores(self.search).fit(scores, y)
        if self.calibrate is not None:
            self.best_estimator_ = _calibrated(self.calibrate, self.search).fit(scores, y)
        return self

    @property
    def classes_(self) -> np.ndarray:
        """The classes."""
        check_is_fitted(self)
        return np.asarray(self.plain_.classes_)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores that decide, as scikit-learn's classifiers do."""
        check_is_fitted(self)
        return np.asarray(self.plain_.decision_function(self._scores(X)))

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each row, shape (n_samples,)."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.predict(self._scores(X)))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, shape (n_samples, n_classes)."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.predict_proba(self._scores(X)))

    def uncalibrated_proba(self, X: Any) -> np.ndarray:
        """Return what `predict_proba` would without calibration."""
        estimator = self.plain_ if self.with_words else tuned_estimator(self.search_)
        return np.asarray(estimator.predict_proba(self._scores(X) if self.with_words else X))


def _of_scores(search: Any) -> LogisticRegression:
    """Return a classifier of a few scores, hardly regularised."""
    estimator = base_search(search).estimator
    weight = getattr(estimator, "estimator", estimator).class_weight
    return LogisticRegression(max_iter=1000, class_weight=weight)


def _calibrated(method: str, search: Any) -> CalibratedClassifierCV:
    folds = base_search(search).cv
    return CalibratedClassifierCV(_of_scores(search), method=method, cv=folds, ensemble=False)


class MultiLabelClassifier(_OutOfFold):
    """Any number of labels a text: one search for all, then a threshold for each label.

    Each label has a logistic regression of its own, with the features and the C that are
    best for all together. A label is given where its probability reaches the threshold
    that had the best F1 out of fold.

    Parameters
    ----------
    search : estimator
        A `GridSearchCV` or `FeatureSearch` over a `OneVsRestClassifier`.
    with_words : bool, default=False
        Whether the last columns of `X` are scores of words, one for each label.
    calibrate : {"sigmoid", "isotonic"} or None, default=None
        How each label's probabilities are mapped, out of fold, to shares of rows.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_labels,)
        The labels: the columns' names where `y` has names, else their positions.
    thresholds_ : numpy.ndarray of float, shape (n_labels,)
        0.5 for a label with fewer rows, with it or without it, than folds.
    search_ : estimator
        The fitted search.
    estimators_ : list of estimator
        One for each label, from its scores out of fold.

    Examples
    --------
    >>> from sklearn.datasets import make_multilabel_classification
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.multiclass import OneVsRestClassifier
    >>> from frozenbert.heads.folds import Folds
    >>> X, Y = make_multilabel_classification(n_classes=3, random_state=0)
    >>> each = OneVsRestClassifier(LogisticRegression())
    >>> search = GridSearchCV(each, {"estimator__C": [0.1, 1.0]}, cv=Folds(5))
    >>> model = MultiLabelClassifier(search).fit(X, Y)
    >>> model.predict(X).shape, model.predict_proba(X).shape, model.thresholds_.shape
    ((100, 3), (100, 3), (3,))
    """

    def fit(self, X: Any, y: Any) -> MultiLabelClassifier:
        """Search, then tune a threshold for each label.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples, n_labels)
            0 and 1.

        Returns
        -------
        MultiLabelClassifier
            Itself.
        """
        names = getattr(y, "columns", None)
        flags = flags_of(y)
        labels = np.arange(flags.shape[1]) if names is None else np.asarray(names, dtype=object)
        scores = self._search(X, flags)
        self.estimators_ = [
            self._fit_label(scores[:, place :: len(labels)], flags[:, place], label)
            for place, label in enumerate(labels)
        ]
        self.plain_ = self.estimators_
        if self.calibrate is not None:
            self.plain_ = [
                (_of_scores(self.search) if 0 < column.sum() < len(column) else _constant()).fit(
                    scores[:, place :: len(labels)], column
                )
                for place, column in enumerate(flags.T)
            ]
        self.thresholds_ = np.array([getattr(e, "best_threshold_", 0.5) for e in self.estimators_])
        self._labels = labels
        return self

    def _fit_label(self, scores: np.ndarray, y: np.ndarray, label: Any) -> Any:
        folds = check_cv(base_search(self.search).cv, y, classifier=True)
        rows, n_folds = int(min(y.sum(), len(y) - y.sum())), folds.get_n_splits()
        if rows < n_folds:
            kind = "with" if y.sum() == rows else "without"
            fate = "its threshold stays 0.5" if rows else "all texts get the same answer"
            warnings.warn(
                f"label {str(label)!r} has {rows} training rows {kind} it, too few for {n_folds} "
                f"folds: {fate}.",
                stacklevel=4,
            )
            return (_of_scores(self.search) if rows else _constant()).fit(scores, y)
        estimator: Any = _of_scores(self.search)
        if self.calibrate is not None:
            estimator = _calibrated(self.calibrate, self.search)
        try:
            return TunedThresholdClassifierCV(
                clone(estimator), scoring="f1", response_method="predict_proba", cv=folds
            ).fit(scores, y)
        except ValueError as error:
            if "constant predictions" not in str(error):
                raise
            warnings.warn(
                f"label {str(label)!r} cannot be told from these features: every text gets the "
                f"same probability, and its threshold stays 0.5.",
                stacklevel=4,
            )
            return estimator.fit(scores, y)

    @property
    def classes_(self) -> np.ndarray:
        """The labels."""
        check_is_fitted(self)
        return self._labels

    def predict(self, X: Any) -> np.ndarray:
        """Return 0 or 1 for each label, shape (n_samples, n_labels)."""
        return (self.predict_proba(X) >= self.thresholds_).astype(int)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each label, shape (n_samples, n_labels)."""
        check_is_fitted(self)
        return self._proba(X, self.estimators_)

    def uncalibrated_proba(self, X: Any) -> np.ndarray:
        """Return what `predict_proba` would without calibration."""
        return self._proba(X, self.plain_)

    def _proba(self, X: Any, estimators: list[Any]) -> np.ndarray:
        scores = self._scores(X)
        columns = []
        for place, estimator in enumerate(estimators):
            classes = estimator.classes_.tolist()
            found = estimator.predict_proba(scores[:, place :: len(self._labels)])
            columns.append(found[:, classes.index(1)] if 1 in classes else np.zeros(len(found)))
        return np.column_stack(columns)


def _constant() -> DummyClassifier:
    return DummyClassifier(strategy="prior")


def flags_of(y: Any) -> np.ndarray:
    """Return many labels a text as an array of 0 and 1, or say what is wrong with them."""
    try:
        flags = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
    except ValueError:  # lists of different lengths
        flags = np.empty(0)
    if flags.ndim != 2 or not np.isin(flags, (0, 1)).all():
        raise InputError(
            "y: many labels a text are a column of 0 and 1 each, shape (n_samples, n_labels); "
            "scikit-learn's MultiLabelBinarizer makes that of lists of labels."
        )
    if flags.shape[1] < 2:
        raise InputError(
            "y has one label: with or without it are two classes; train on them as such, with "
            "multi_label=False."
        )
    return flags.astype(np.int64)
