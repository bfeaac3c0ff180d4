"""Searches: for the features and C that cross-validate best."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.model_selection import GridSearchCV, check_cv, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from ..errors import InputError
from .selection import SelectVectors, feature_sets, layout

__all__ = ["FeatureSearch", "base_search", "fitted_search", "out_of_fold", "tuned_estimator"]

# While features are compared, steps of half a decade are enough: the score is flat near its top.
FEATURE_C_VALUES = tuple(float(c) for c in np.logspace(-4, -2, 5))
FEATURE_ROWS = 4000  # training rows of a fold, from which on features keep their order


def base_search(head: Any) -> GridSearchCV:
    """Return the search for C that is within a head from `make_head`."""
    while not isinstance(head, GridSearchCV):
        head = head.search
    return head


def fitted_search(head: Any) -> Any:
    """Return the `FeatureSearch` or else the `GridSearchCV` within a fitted head."""
    while hasattr(head, "search_") and not isinstance(head, FeatureSearch):
        head = head.search_
    return head


def tuned_estimator(head: Any) -> Any:
    """Return a fitted head's best estimator, before calibration and thresholds."""
    return fitted_search(head).best_estimator_


def out_of_fold(head: Any, X: Any, y: np.ndarray, method: str) -> np.ndarray:
    """Return what a fitted head's best estimator says of each row, trained on other rows.

    Parameters
    ----------
    head : estimator
        From `frozenbert.heads.logistic.make_head`.
    X, y : array-like
        What it was fitted on.
    method : {"decision_function", "predict_proba"}

    Raises
    ------
    InputError
        If a class has fewer rows than there are folds: it would be missing in one.
    """
    search = base_search(head)
    if y.ndim == 1:
        classes, counts = np.unique(y, return_counts=True)
        n_folds = check_cv(search.cv, y, classifier=True).get_n_splits()
        if counts.min() < n_folds:
            raise InputError(
                f"class {str(classes[counts.argmin()])!r} has {counts.min()} training rows, and "
                f"predictions out of fold need one in each of the {n_folds} folds: drop the "
                f"class, or use fewer folds (cv)."
            )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Label .* is present in all training")
        return np.asarray(
            cross_val_predict(
                clone(tuned_estimator(head)),
                X,
                y,
                cv=search.cv,
                n_jobs=search.n_jobs,
                method=method,
            )
        )


class FeatureSearch(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Choose layers and pooling together with C; then C once more, finely, for those.

    Parameters
    ----------
    search : sklearn.model_selection.GridSearchCV
        The search for C, from `make_head`.
    train_rows : int, default=4000
        Features are compared on folds with at most so many training rows; C is chosen
        on all.

    Attributes
    ----------
    features_ : list of dict
        What was compared: `layers`, `pooling`, and of the best `C` the `score` and its
        standard deviation `std` over the folds.
    search_ : sklearn.model_selection.GridSearchCV
        The search for C with the best features, among the values within a factor of five
        of the one that was best in the comparison, or beyond it if it was the last.
    best_params_ : dict
        `layers`, `pooling` and `C`.
    best_estimator_ : sklearn.pipeline.Pipeline
        `select` and `classify`, fitted on all rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from frozenbert.heads.folds import Folds
    >>> rng = np.random.default_rng(0)
    >>> y = np.array([0, 1] * 50)
    >>> X = pd.DataFrame({"layer1_cls_0": rng.normal(size=100), "layer2_cls_0": y + 0.0})
    >>> search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=Folds(5))
    >>> FeatureSearch(search).fit(X, y).best_params_["layers"]
    (2,)
    """

    def __init__(self, search: GridSearchCV, *, train_rows: int = FEATURE_ROWS) -> None:
        self.search = search
        self.train_rows = train_rows

    def fit(self, X: Any, y: Any) -> FeatureSearch:
        """Search.

        Parameters
        ----------
        X : pandas.DataFrame of shape (n_samples, n_features)
            With columns such as `layer6_mean_0`, standardised.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)

        Returns
        -------
        FeatureSearch
            Itself.
        """
        y = np.asarray(y)
        (name,) = self.search.param_grid
        values = self.search.param_grid[name]
        folds = clone(check_cv(self.search.cv, y, classifier=True), safe=False)
        folds.train_rows = self.train_rows
        # Of many values, some suffice here.
        compared = [C for C in FEATURE_C_VALUES if min(values) <= C <= max(values)]
        compared = compared if len(values) > len(compared) > 1 else values
        compare = clone(self.search).set_params(param_grid={name: compared}, cv=folds, refit=False)
        sets = feature_sets(*layout(SelectVectors().fit(X).feature_names_in_))
        self.features_ = []
        # One search for each set of columns: a search over all of them would copy all columns
        # for each of its fits.
        for layers, pooling in tqdm(sets, desc="Features", unit=" sets", disable=None, leave=False):
            found = compare.fit(SelectVectors(layers, pooling).fit_transform(X), y)
            self.features_.append(
                {
                    "layers": layers,
                    "pooling": pooling,
                    "C": found.best_params_[name],
                    "score": float(found.best_score_),
                    "std": float(found.cv_results_["std_test_score"][found.best_index_]),
                }
            )
        best = max(self.features_, key=lambda one: one["score"])
        # Beyond the ends of what was compared, all values are still to be tried.
        low = best["C"] / 5 if best["C"] > min(compared) else 0
        high = best["C"] * 5 if best["C"] < max(compared) else float("inf")
        near = [C for C in values if low <= C <= high]
        select = SelectVectors(best["layers"], best["pooling"])
        self.search_ = clone(self.search).set_params(param_grid={name: near or values})
        self.search_.fit(select.fit_transform(X), y)
        self.best_params_ = {
            "layers": select.layers,
            "pooling": select.pooling,
            "C": self.search_.best_params_[name],
        }
        self.best_estimator_ = Pipeline(
            [("select", select), ("classify", self.search_.best_estimator_)]
        )
        return self

    @property
    def classes_(self) -> np.ndarray:
        """The classes."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.classes_)

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each row, shape (n_samples,)."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.predict(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, shape (n_samples, n_classes)."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.predict_proba(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores that decide, as scikit-learn's classifiers do."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.decision_function(X))
