"""Classifiers of a search's out-of-fold scores: votes with words, and calibration."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    PredefinedSplit,
    StratifiedKFold,
    check_cv,
    cross_val_predict,
)
from sklearn.utils.metadata_routing import MetadataRouter, process_routing
from sklearn.utils.validation import check_is_fitted, validate_data

from ..errors import InputError
from .folds import (
    Splits,
    check_partition,
    cv_splits,
    fixed_folds,
    quiet_constant_labels,
    warn_many_classes,
)
from .scoring import as_labels, weight_key
from .search import (
    CVResults,
    HeadSearch,
    base_search,
    class_weight_of,
    fitted_search,
    search_routing,
    tuned_estimator,
)

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = [
    "OutOfFoldHead",
    "StackedSearch",
    "calibrated",
    "out_of_fold",
    "out_of_fold_splits",
    "score_classifier",
    "score_folds",
]


class OutOfFoldHead(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Base of heads that fit a search, then a classifier of its out-of-fold scores.

    Parameters
    ----------
    search : estimator
        A `GridSearchCV` or `FeatureSearch`.
    with_words : bool, default=False
        Whether the last columns of `X` are scores of words.
    calibrate : {"sigmoid", "isotonic"} or None, default=None
        How probabilities are calibrated, out of fold.

    Attributes
    ----------
    search_ : estimator
        The fitted search.
    best_params_, cv_results_, best_score_, best_index_
        Those of `search_`.
    """

    search_: Any

    def __init__(
        self, search: Any, *, with_words: bool = False, calibrate: str | None = None
    ) -> None:
        self.search = search
        self.with_words = with_words
        self.calibrate = calibrate

    def _fit_search(
        self, X: Any, y: np.ndarray, params: dict[str, Any]
    ) -> tuple[np.ndarray, ArrayLike | None]:
        """Fit `search_`; return out-of-fold scores beside those of words, and the groups."""
        if unknown := sorted(set(params) - {"groups"}):
            raise TypeError(f"fit() takes no metadata but groups, and got {', '.join(unknown)}.")
        routed = process_routing(self, "fit", **params).search.fit
        validate_data(self, X, skip_check_array=True)
        self._n_words = self._count_word_columns(y) if self.with_words else 0
        vectors, words = self.split(X)
        splits = self._splits(vectors, y, routed.get("groups"))
        with quiet_constant_labels():
            self.search_ = clone(self.search).fit(vectors, y, **routed)
        scores = out_of_fold(self.search_, vectors, y, "decision_function", splits)
        return _beside(scores, words), routed.get("groups")

    def _splits(self, X: Any, y: np.ndarray, groups: ArrayLike | None) -> Splits:
        return out_of_fold_splits(self.search, X, y, groups)

    @staticmethod
    def _count_word_columns(y: np.ndarray) -> int:
        if y.ndim == 2:
            return int(y.shape[1])
        n_classes = len(np.unique(y))
        return 1 if n_classes == 2 else n_classes

    def _scores(self, X: Any) -> np.ndarray:
        vectors, words = self.split(X)
        return _beside(tuned_estimator(self.search_).decision_function(vectors), words)

    def split(self, X: Any) -> tuple[Any, np.ndarray | None]:
        """Return the columns of vectors, and those of words' scores.

        Parameters
        ----------
        X : array, DataFrame or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        vectors : of the type of `X`
        words : numpy.ndarray of shape (n_samples, n_scores), or None without words
        """
        if not self._n_words:  # X may be sparse
            return X, None
        n = np.shape(X)[1] - self._n_words
        if hasattr(X, "iloc"):
            return X.iloc[:, :n], np.asarray(X.iloc[:, n:])
        return X[:, :n], np.asarray(X[:, n:])

    def get_metadata_routing(self) -> MetadataRouter:
        """Return how metadata such as `groups` reaches the search.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
        """
        return search_routing(self)

    @property
    def best_params_(self) -> dict[str, Any]:
        """The parameters that the search chose."""
        check_is_fitted(self)
        return dict(self.search_.best_params_)

    @property
    def cv_results_(self) -> CVResults:
        """The search's results, as of `GridSearchCV`."""
        check_is_fitted(self)
        return dict(self.search_.cv_results_)

    @property
    def best_score_(self) -> float:
        """Mean cross-validated score of `best_params_`, before votes, calibration, thresholds."""
        check_is_fitted(self)
        return float(self.search_.best_score_)

    @property
    def best_index_(self) -> int:
        """Row of `best_params_` in `cv_results_`."""
        check_is_fitted(self)
        return int(self.search_.best_index_)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not self.with_words
        return tags


def _beside(scores: np.ndarray, words: np.ndarray | None) -> np.ndarray:
    # Float64, because a calibration in float32 differs in the fourth digit.
    columns = np.column_stack([scores] if words is None else [scores, words])
    return columns.astype(np.float64)


class StackedSearch(OutOfFoldHead):
    """Search, then learn from its out-of-fold scores: votes with words, and calibration.

    Two classifiers, of vectors and of words, have a vote each. The weights of the votes are
    those of a logistic regression on both out-of-fold scores.

    Parameters
    ----------
    search : estimator
        A `GridSearchCV` or `FeatureSearch`.
    with_words : bool, default=False
        Whether the last columns of `X` are scores of words, as from
        `frozenbert.heads.words.WordScores`: one column for two classes, else one for each.
    calibrate : {"sigmoid", "isotonic"} or None, default=None
        How probabilities are calibrated, out of fold.

    Attributes
    ----------
    search_ : estimator
        The fitted search.
    best_estimator_ : estimator
        The classifier of scores.
    best_params_, cv_results_, best_score_, best_index_
        Those of `search_`.
    classes_ : numpy.ndarray of shape (n_classes,)

    See Also
    --------
    frozenbert.heads.multilabel.MultiLabelClassifier : The same for many labels.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.model_selection import GridSearchCV
    >>> X, y = make_classification(random_state=0)
    >>> search = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}, cv=5)
    >>> StackedSearch(search, calibrate="sigmoid").fit(X, y).predict_proba(X).shape
    (100, 2)
    """

    def fit(self, X: Any, y: ArrayLike, **params: Any) -> StackedSearch:
        """Search, then train on the out-of-fold scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        **params
            `groups`, for a splitter such as `GroupKFold`.

        Returns
        -------
        StackedSearch
            Itself.

        Raises
        ------
        InputError
            If the test parts of `cv` are no partition of the rows.
        """
        y = as_labels(y)
        scores, groups = self._fit_search(X, y, params)
        folds = score_folds(self.search, scores, y, groups)
        with warn_many_classes(y, folds.get_n_splits(), warn=False):
            self.plain_ = self.best_estimator_ = score_classifier(self.search).fit(scores, y)
            if self.calibrate is not None:
                calibrator = calibrated(self.calibrate, self.search, folds)
                self.best_estimator_ = calibrator.fit(scores, y)
        return self

    @property
    def classes_(self) -> np.ndarray:
        """The classes."""
        check_is_fitted(self)
        return np.asarray(self.plain_.classes_)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores that decide, as scikit-learn's classifiers do.

        For a calibrated head, these are the logarithms of the odds of two classes, or of the
        probabilities of more.
        """
        check_is_fitted(self)
        if self.calibrate is None:
            return np.asarray(self.plain_.decision_function(self._scores(X)))
        p = np.clip(self.predict_proba(X), 1e-12, 1)
        return np.log(p[:, 1] / p[:, 0]) if p.shape[1] == 2 else np.log(p)

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each row, shape (n_samples,)."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.predict(self._scores(X)))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, shape (n_samples, n_classes)."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.predict_proba(self._scores(X)))

    def uncalibrated_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities before calibration, shape (n_samples, n_classes)."""
        check_is_fitted(self)
        if self.with_words:
            return np.asarray(self.plain_.predict_proba(self._scores(X)))
        return np.asarray(tuned_estimator(self.search_).predict_proba(X))


def score_classifier(search: Any) -> LogisticRegression:
    """Return a classifier of a few scores, hardly regularised."""
    return LogisticRegression(max_iter=1000, class_weight=class_weight_of(base_search(search)))


def score_folds(
    search: Any, scores: np.ndarray, y: np.ndarray, groups: ArrayLike | None
) -> StratifiedKFold | PredefinedSplit:
    """Return the splitter for classifiers of scores, which is saved with them."""
    splitter = check_cv(base_search(search).cv, y, classifier=True)
    if isinstance(splitter, StratifiedKFold):
        return splitter
    # scikit-learn's calibration passes no groups on to the splitter.
    return fixed_folds(cv_splits(splitter, scores, y, groups), len(y))


def calibrated(
    method: str, search: Any, folds: StratifiedKFold | PredefinedSplit
) -> CalibratedClassifierCV:
    """Return a calibrated classifier of scores."""
    return CalibratedClassifierCV(score_classifier(search), method=method, cv=folds, ensemble=False)


def out_of_fold_splits(head: Any, X: Any, y: np.ndarray, groups: ArrayLike | None = None) -> Splits:
    """Return the splits of a head's `cv`, after checking that predictions can be made of them.

    Parameters
    ----------
    head : estimator
        From `frozenbert.heads.logistic.make_head`; it need not be fitted.
    X, y, groups : array-like

    Raises
    ------
    InputError
        If the test parts are no partition of the rows, or a class is missing in a training
        part.
    """
    cv = base_search(head).cv
    splitter = check_cv(cv, y, classifier=True)
    with warnings.catch_warnings():
        # "The least populated class": reported below as an error, or before by the search.
        warnings.filterwarnings(
            "ignore", category=UserWarning, module=r"sklearn\.model_selection\._split"
        )
        splits = cv_splits(splitter, X, y, groups)
    check_partition(splits, len(y), cv)
    if y.ndim == 1:
        _check_class_in_folds(splits, y, isinstance(splitter, StratifiedKFold))
    return splits


def _check_class_in_folds(splits: Splits, y: np.ndarray, stratified: bool) -> None:
    classes, counts = np.unique(y, return_counts=True)
    if stratified and counts.min() < len(splits):
        raise InputError(
            f"class {str(classes[counts.argmin()])!r} has {counts.min()} training rows, and "
            f"predictions out of fold need one in each of the {len(splits)} folds: drop the "
            f"class, or use fewer folds.",
            parameter="cv",
        )
    for number, (train, _) in enumerate(splits):
        missing = np.setdiff1d(classes, y[train])
        if len(missing):
            raise InputError(
                f"the training part of fold {number} has no row of the class "
                f"{str(missing[0])!r}: drop the class, or use other folds.",
                parameter="cv",
            )


def out_of_fold(
    head: Any, X: Any, y: np.ndarray, method: str, splits: Splits | None = None
) -> np.ndarray:
    """Predict each row by a fitted head's best estimator, trained on the other folds.

    Parameters
    ----------
    head : estimator
        From `frozenbert.heads.logistic.make_head`.
    X, y : array-like
        What it was fitted on.
    method : {"decision_function", "predict_proba"}
    splits : list of (numpy.ndarray, numpy.ndarray), optional
        From `out_of_fold_splits`; needed if the head's splitter needs groups.

    Returns
    -------
    numpy.ndarray of float, shape (n_samples,), (n_samples, n_classes) or (n_samples, n_labels)

    Raises
    ------
    InputError
        As from `out_of_fold_splits`.
    """
    search = base_search(head)
    splits = out_of_fold_splits(head, X, y) if splits is None else splits
    inner = getattr(fitted_search(head), "search_", fitted_search(head))
    if method == "decision_function" and isinstance(inner, HeadSearch):
        decisions = inner.held_out_decisions()
        if decisions is not None:
            return decisions
    estimator = clone(tuned_estimator(head))
    if y.ndim == 1:
        _code_class_weight(estimator, y)
    with warn_many_classes(y, len(splits), warn=False), quiet_constant_labels():
        return np.asarray(
            cross_val_predict(estimator, X, y, cv=splits, n_jobs=search.n_jobs, method=method)
        )


def _code_class_weight(estimator: BaseEstimator, y: np.ndarray) -> None:
    """Give class weights the keys of `cross_val_predict`, which codes classes from 0."""
    codes = {weight_key(label): code for code, label in enumerate(np.unique(y).tolist())}
    for name, value in estimator.get_params().items():
        if name.rpartition("__")[2] == "class_weight" and isinstance(value, Mapping):
            coded = {codes[key]: weight for key, weight in value.items()}
            estimator.set_params(**{name: coded})
