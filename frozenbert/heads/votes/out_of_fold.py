"""Out-of-fold scores and predictions of the training rows, and the folds that they need."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import PredefinedSplit, StratifiedKFold, check_cv
from sklearn.utils.parallel import Parallel, delayed

from ...errors import InputError
from ...utils.console import progress_bar
from ..folds import (
    Splits,
    check_partition,
    cv_splits,
    fixed_folds,
    quiet_constant_labels,
    warn_many_classes,
)
from ..search import FeatureSearch, HeadSearch, base_search, fitted_search, tuned_estimator
from ..selection import SelectVectors, take_columns

__all__ = [
    "OutOfFold",
    "as_columns",
    "beside",
    "cross_val_proba",
    "last_layer_scores",
    "out_of_fold",
    "out_of_fold_splits",
    "score_folds",
]


@dataclass
class OutOfFold:
    """Out-of-fold scores of the training rows.

    Attributes
    ----------
    vectors : numpy.ndarray of float64, shape (n_samples, n_scores)
    words : numpy.ndarray of float64, shape (n_samples, n_scores), or None
    splits : list of (numpy.ndarray, numpy.ndarray)
    folds : splitter
        For classifiers of the scores.
    last_layer : numpy.ndarray of shape (n_samples, n_scores), or None
        Of vectors of the last layer alone.
    """

    vectors: np.ndarray
    words: np.ndarray | None
    splits: Splits
    folds: StratifiedKFold | PredefinedSplit
    last_layer: np.ndarray | None = None

    def of(self, part: str) -> np.ndarray:
        """Return the columns of "vectors", of "words", or of both for "vote"."""
        if part == "vectors":
            return self.vectors
        assert self.words is not None
        return self.words if part == "words" else beside(self.vectors, self.words)

    @property
    def parts(self) -> list[str]:
        """The parts that may decide."""
        return ["vectors"] if self.words is None else ["words", "vectors", "vote"]


def as_columns(scores: np.ndarray) -> np.ndarray:
    """Return scores as float64 of shape (n_samples, n_scores)."""
    # Float64, because a calibration in float32 differs in the fourth digit.
    return np.asarray(scores, dtype=np.float64).reshape(len(scores), -1)


def beside(scores: np.ndarray, words: np.ndarray | None) -> np.ndarray:
    """Return the columns of both scores side by side."""
    return np.hstack([as_columns(each) for each in (scores, words) if each is not None])


def last_layer_scores(
    search: BaseEstimator, X: Any, y: np.ndarray, splits: Splits
) -> np.ndarray | None:
    """Return out-of-fold scores of the last layer's vectors, or None if no layers were compared.

    Parameters
    ----------
    search : FeatureSearch or GridSearchCV
        Fitted.
    X : pandas.DataFrame of shape (n_samples, n_features)
    y : numpy.ndarray of shape (n_samples,) or (n_samples, n_labels)
    splits : list of (numpy.ndarray, numpy.ndarray)
    """
    if not isinstance(search, FeatureSearch) or y.ndim == 2:
        return None
    last = max(max(one["layers"]) for one in search.features_)
    alone = [one for one in search.features_ if one["layers"] == (last,)]
    if not alone:
        return None
    best = max(alone, key=lambda one: one["score"])
    columns = SelectVectors(best["layers"], best["pooling"]).fit(X[:1]).columns_
    (name,), values = search.search.param_grid, next(iter(search.search.param_grid.values()))
    near = [C for C in values if best["C"] / 5 <= C <= best["C"] * 5] or values
    grid = clone(search.search).set_params(param_grid={name: near}, cv=splits)
    grid.fit(take_columns(np.asarray(X), columns), y)
    return out_of_fold(grid, take_columns(np.asarray(X), columns), y, "decision_function", splits)


def cross_val_proba(
    estimator: BaseEstimator, X: np.ndarray, y: np.ndarray, splits: Splits
) -> np.ndarray:
    """Return the probabilities of each row by an estimator that was fitted on the other folds."""
    return _cross_predict(estimator, X, y, splits, "predict_proba")


def _cross_predict(
    estimator: BaseEstimator,
    X: Any,
    y: np.ndarray,
    splits: Splits,
    method: str,
    n_jobs: int | None = None,
) -> np.ndarray:
    """Predict as `cross_val_predict` does, with a bar, and without changing the classes.

    Each row is in one test part, and each training part has all classes.
    """
    X = X.tocsr() if scipy.sparse.issparse(X) else X if hasattr(X, "shape") else np.asarray(X)
    parts = Parallel(n_jobs, return_as="generator")(
        delayed(_predict_part)(clone(estimator), X, y, *split, method) for split in splits
    )
    found: list[np.ndarray] = []
    with progress_bar("auto", len(splits), "Out-of-fold scores", "folds") as bar:
        for part in parts:
            found.append(part)
            bar.update()
    rows = np.concatenate([np.arange(len(y))[test] for _, test in splits])
    return np.asarray(np.concatenate(found)[np.argsort(rows)])


def _predict_part(
    estimator: BaseEstimator,
    X: Any,
    y: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    method: str,
) -> np.ndarray:
    rows, others = (X.iloc[of] if hasattr(X, "iloc") else X[of] for of in (train, test))
    predicted: np.ndarray = getattr(estimator.fit(rows, y[train]), method)(others)
    return predicted


def score_folds(
    search: BaseEstimator, scores: np.ndarray, y: np.ndarray, groups: ArrayLike | None
) -> StratifiedKFold | PredefinedSplit:
    """Return the splitter for classifiers of scores, which is saved with them."""
    splitter = check_cv(base_search(search).cv, y, classifier=True)
    if isinstance(splitter, StratifiedKFold):
        return splitter
    # scikit-learn's calibration passes no groups on to the splitter.
    return fixed_folds(cv_splits(splitter, scores, y, groups), len(y))


def out_of_fold_splits(
    head: BaseEstimator, X: object, y: np.ndarray, groups: ArrayLike | None = None
) -> Splits:
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
    head: BaseEstimator, X: object, y: np.ndarray, method: str, splits: Splits | None = None
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
    with warn_many_classes(y, len(splits), warn=False), quiet_constant_labels():
        return _cross_predict(tuned_estimator(head), X, y, splits, method, search.n_jobs)
