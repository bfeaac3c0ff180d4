"""The heads: scikit-learn classifiers, tuned by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, get_scorer, get_scorer_names, make_scorer
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from .errors import InputError
from .folds import Folds
from .select import SelectVectors, feature_sets, layout

__all__ = [
    "CALIBRATIONS",
    "C_VALUES",
    "CalibratedSearch",
    "FeatureSearch",
    "MultiLabelClassifier",
    "base_search",
    "check_scoring",
    "make_head",
    "tuned_estimator",
]

# For standardised features: below the smallest a model is near constant, above the largest
# the score has long stopped rising on every data set this was tried on.
C_VALUES = tuple(float(c) for c in np.logspace(-5, 1, 20))

# While features are compared, steps of half a decade are enough: the score is flat near its top.
FEATURE_C_VALUES = tuple(float(c) for c in np.logspace(-4, -2, 5))
FEATURE_ROWS = 4000  # training rows of a fold, from which on features keep their order

CALIBRATIONS = ("sigmoid", "isotonic")


def make_head(
    *,
    C: Sequence[float] | float | None = None,
    search: str = "head",
    calibrate: str | None = None,
    multi_label: bool = False,
    class_weight: str | None = None,
    cv: int = 5,
    scoring: str | None = None,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> Any:
    """Make a logistic regression whose strength C is chosen by stratified folds.

    Newton's method with conjugate gradients: on vectors of encoders, whose columns go
    together, it ends in a few steps where lbfgs, scikit-learn's default, needs hundreds.
    The tolerance is looser than the default; further digits change no prediction.

    Parameters
    ----------
    C : sequence of float, float or None, default=None
        Inverse strengths of regularisation to try. None tries 20 values from 1e-5 to 10,
        evenly spaced in their logarithm; 7 with many labels a text.
    search : {"head", "features"}, default="head"
        "features" chooses layers and pooling too, as `FeatureSearch`.
    calibrate : {"sigmoid", "isotonic"} or None, default=None
        How probabilities are mapped, out of fold, to shares of rows.
    multi_label : bool, default=False
        Whether a text may have any number of labels, as `MultiLabelClassifier`.
    class_weight : "balanced" or None, default=None
        "balanced" lets rare classes count as much as frequent ones.
    cv : int, default=5
        Folds, shuffled. scikit-learn warns if a class has fewer rows than that, and
        raises an error if all have.
    scoring : str or None, default=None
        A scikit-learn scorer's name; None is accuracy, and with many labels a text their
        mean average precision, which needs no thresholds.
    random_state : int or None, default=0
        Shuffles the folds.
    n_jobs : int or None, default=None
        Processes for the search, as in scikit-learn.

    Returns
    -------
    sklearn.model_selection.GridSearchCV
        Or, around it, a `FeatureSearch`, `CalibratedSearch` or `MultiLabelClassifier`.

    Raises
    ------
    InputError
        If a value of `C` is not above 0, `cv` is under 2, or another one is not legal.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> X, y = make_classification(random_state=0)
    >>> head = make_head(C=[0.01, 1.0]).fit(X, y)
    >>> head.best_params_["C"] in (0.01, 1.0)
    True
    """
    default = C_VALUES[::3] if multi_label else C_VALUES
    values = [float(c) for c in np.atleast_1d(default if C is None else C)]
    if not values or not all(0 < c < float("inf") for c in values):
        raise InputError(f"C={C!r}: one or more numbers above 0.")
    if not cv >= 2:
        raise InputError(f"cv={cv!r}: at least 2 folds.")
    for name, value, legal in (
        ("search", search, ("head", "features")),
        ("calibrate", calibrate, (None, *CALIBRATIONS)),
        ("class_weight", class_weight, (None, "balanced")),
    ):
        if value not in legal:
            raise InputError(f"{name}={value!r}: one of {', '.join(map(repr, legal))}.")
    if scoring is not None and scoring not in get_scorer_names():
        raise InputError(
            f"scoring={scoring!r}: a scikit-learn scorer's name: accuracy, balanced_accuracy, "
            f"f1_macro, neg_log_loss, roc_auc, ... (sklearn.metrics.get_scorer_names() has all)."
        )
    estimator: Any = LogisticRegression(
        solver="newton-cg", tol=1e-3, max_iter=1000, class_weight=class_weight
    )
    name = "C"
    if multi_label:
        estimator, name = OneVsRestClassifier(estimator), "estimator__C"
    head: Any = GridSearchCV(
        estimator,
        {name: values},
        cv=Folds(cv, shuffle=True, random_state=random_state),
        scoring=LABELS_SCORER if multi_label and scoring is None else scoring,
        n_jobs=n_jobs,
    )
    if search == "features":
        head = FeatureSearch(head)
    if multi_label:
        return MultiLabelClassifier(head, calibrate=calibrate)
    return head if calibrate is None else CalibratedSearch(head, method=calibrate)


def _average_precision(y_true: np.ndarray, y_score: np.ndarray) -> float:
    """Mean average precision of the labels that have a positive row."""
    there = np.asarray(y_true).any(axis=0)
    if not there.any():
        return 0.0
    return float(average_precision_score(y_true[:, there], y_score[:, there]))


LABELS_SCORER = make_scorer(
    _average_precision, response_method=("decision_function", "predict_proba")
)


def check_scoring(scoring: str | None, y: Any) -> None:
    """Raise `InputError` if a scorer cannot be used on such labels.

    Parameters
    ----------
    scoring : str or None
    y : array-like
        Labels of the training rows.

    Examples
    --------
    >>> check_scoring("f1_macro", ["good", "bad"])
    >>> check_scoring("f1", ["good", "bad"])
    Traceback (most recent call last):
    frozenbert.errors.InputError: scoring='f1': does not go with these labels (...
    """
    if not isinstance(scoring, str):
        return
    X = np.zeros((len(y), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            get_scorer(scoring)(DummyClassifier(strategy="prior").fit(X, y), X, y)
        except (ValueError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"scoring={scoring!r}: does not go with these labels ({reason}); f1_macro, "
                f"balanced_accuracy and neg_log_loss go with any classes."
            ) from error


def base_search(head: Any) -> GridSearchCV:
    """Return the search for C that is within a head from `make_head`."""
    while not isinstance(head, GridSearchCV):
        head = head.search
    return head


def tuned_estimator(head: Any) -> Any:
    """Return a fitted head's best estimator, before calibration and thresholds."""
    while hasattr(head, "search_"):
        if isinstance(head, FeatureSearch):
            break
        head = head.search_
    return head.best_estimator_


def _has(method: str) -> Any:
    def check(self: Any) -> bool:
        check_is_fitted(self)
        getattr(self.best_estimator_, method)
        return True

    return check


class _Wrapped(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """What it predicts, its `best_estimator_` does."""

    best_estimator_: Any

    @property
    def classes_(self) -> np.ndarray:
        """The classes."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.classes_)

    def predict(self, X: Any) -> np.ndarray:
        """Return the label of each row, shape (n_samples,)."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.predict(X))

    @available_if(_has("predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, shape (n_samples, n_classes)."""
        return np.asarray(self.best_estimator_.predict_proba(X))

    @available_if(_has("decision_function"))  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores that decide, as scikit-learn's classifiers do."""
        return np.asarray(self.best_estimator_.decision_function(X))


class FeatureSearch(_Wrapped):
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
        of the one that was best in the comparison.
    best_params_ : dict
        `layers`, `pooling` and `C`.
    best_estimator_ : sklearn.pipeline.Pipeline
        `select` and `classify`, fitted on all rows.

    Examples
    --------
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> y = np.array([0, 1] * 50)
    >>> X = pd.DataFrame({"layer1_cls_0": rng.normal(size=100), "layer2_cls_0": y + 0.0})
    >>> FeatureSearch(make_head(C=[0.1, 1.0])).fit(X, y).best_params_["layers"]
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
        folds = clone(self.search.cv, safe=False)
        folds.train_rows = self.train_rows
        compare = clone(self.search).set_params(
            param_grid={name: list(FEATURE_C_VALUES)}, cv=folds, refit=False
        )
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
        near = [C for C in values if best["C"] / 5 <= C <= best["C"] * 5]
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


class CalibratedSearch(_Wrapped):
    """Search, then map the best estimator's scores to probabilities, out of fold.

    Parameters
    ----------
    search : estimator
        A `GridSearchCV` or `FeatureSearch`.
    method : {"sigmoid", "isotonic"}, default="sigmoid"
        As in scikit-learn's `CalibratedClassifierCV`.

    Attributes
    ----------
    search_ : estimator
        The fitted search.
    best_estimator_ : sklearn.calibration.CalibratedClassifierCV
        One classifier, fitted on all rows, and its calibration.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> X, y = make_classification(random_state=0)
    >>> CalibratedSearch(make_head(C=[0.01, 1.0])).fit(X, y).predict_proba(X).shape
    (100, 2)
    """

    def __init__(self, search: Any, *, method: str = "sigmoid") -> None:
        self.search = search
        self.method = method

    def fit(self, X: Any, y: Any) -> CalibratedSearch:
        """Search, then calibrate.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)

        Returns
        -------
        CalibratedSearch
            Itself.
        """
        self.search_ = clone(self.search).fit(X, y)
        folds = base_search(self.search).cv
        self.best_estimator_ = CalibratedClassifierCV(
            clone(self.search_.best_estimator_), method=self.method, cv=folds, ensemble=False
        ).fit(X, y)
        return self


class MultiLabelClassifier(_Wrapped):
    """Any number of labels a text: one search for all, then a threshold for each label.

    Each label has a logistic regression of its own, with the features and the C that are
    best for all together. A label is given where its probability reaches the threshold
    that had the best F1 out of fold.

    Parameters
    ----------
    search : estimator
        A `GridSearchCV` or `FeatureSearch` over a `OneVsRestClassifier`.
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
        One for each label.

    Examples
    --------
    >>> from sklearn.datasets import make_multilabel_classification
    >>> X, Y = make_multilabel_classification(n_classes=3, random_state=0)
    >>> model = make_head(multi_label=True, C=[0.1, 1.0]).fit(X, Y)
    >>> model.predict(X).shape, model.predict_proba(X).shape, model.thresholds_.shape
    ((100, 3), (100, 3), (3,))
    """

    def __init__(self, search: Any, *, calibrate: str | None = None) -> None:
        self.search = search
        self.calibrate = calibrate

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
        flags = np.asarray(y)
        if flags.ndim != 2 or not np.isin(flags, (0, 1)).all():
            raise InputError(
                f"y has the shape {flags.shape}: many labels a text are a column of 0 and 1 each."
            )
        labels = np.arange(flags.shape[1]) if names is None else np.asarray(names, dtype=object)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Label .* is present in all training")
            self.search_ = clone(self.search).fit(X, flags)
        best = self.search_.best_estimator_
        if isinstance(best, Pipeline):
            X, best = best[:-1].transform(X), best[-1]
        self.estimators_ = [
            self._fit_label(best.estimator, X, column, label)
            for label, column in zip(labels, flags.T, strict=True)
        ]
        self.thresholds_ = np.array([getattr(e, "best_threshold_", 0.5) for e in self.estimators_])
        self._labels = labels
        return self

    def _fit_label(self, estimator: Any, X: Any, y: np.ndarray, label: Any) -> Any:
        folds = base_search(self.search).cv
        rows, n_folds = int(min(y.sum(), len(y) - y.sum())), folds.get_n_splits()
        if rows < n_folds:
            kind = "with" if y.sum() == rows else "without"
            fate = "its threshold stays 0.5" if rows else "it is never told from the others"
            warnings.warn(
                f"label {str(label)!r} has {rows} training rows {kind} it, too few for {n_folds} "
                f"folds: {fate}.",
                stacklevel=3,
            )
            return (clone(estimator) if rows else DummyClassifier(strategy="prior")).fit(X, y)
        estimator = clone(estimator)
        if self.calibrate is not None:
            estimator = CalibratedClassifierCV(
                estimator, method=self.calibrate, cv=folds, ensemble=False
            )
        return TunedThresholdClassifierCV(
            estimator, scoring="f1", response_method="predict_proba", cv=folds
        ).fit(X, y)

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
        best = self.search_.best_estimator_
        if isinstance(best, Pipeline):
            X = best[:-1].transform(X)
        columns = []
        for estimator in self.estimators_:
            classes = estimator.classes_.tolist()
            found = estimator.predict_proba(X)
            columns.append(found[:, classes.index(1)] if 1 in classes else np.zeros(len(found)))
        return np.column_stack(columns)
