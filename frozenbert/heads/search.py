"""Searches by cross-validation: for C, or for layers, pooling and C."""

from __future__ import annotations

import contextlib
import numbers
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold, check_cv, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d
from tqdm import tqdm

from ..errors import InputError
from .folds import (
    Splits,
    check_partition,
    cv_splits,
    limit_train_rows,
    warn_many_classes,
)
from .selection import SelectVectors, feature_sets, vector_layout

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ClassWeight",
    "FeatureScore",
    "FeatureSearch",
    "HeadSearch",
    "as_labels",
    "base_search",
    "check_class_weight",
    "class_weight_of",
    "fitted_search",
    "out_of_fold",
    "out_of_fold_splits",
    "quiet_constant_labels",
    "search_routing",
    "tuned_estimator",
]

# While features are compared, steps of half a decade are enough: the score is flat near its top.
FEATURE_C_VALUES = tuple(float(c) for c in np.logspace(-4, -2, 5))
FEATURE_ROWS = 4000  # with more training rows, the order of the features hardly changes


ClassWeight: TypeAlias = Mapping[Any, float] | str | None


class FeatureScore(TypedDict):
    """The cross-validated score of one choice of layers and pooling."""

    layers: tuple[int, ...]
    pooling: tuple[str, ...]
    C: float
    score: float
    std: float


class HeadSearch(GridSearchCV):
    """`GridSearchCV` that checks class weights against the classes.

    Its parameters and attributes are those of `sklearn.model_selection.GridSearchCV`.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> search = HeadSearch(LogisticRegression(class_weight={"c": 2.0}), {"C": [1.0]}, cv=2)
    >>> search.fit([[0.0], [1.0]] * 5, ["a", "b"] * 5)
    Traceback (most recent call last):
    frozenbert.errors.InputError: class_weight: no training row has the class 'c'; ...
    """

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, **params: Any) -> HeadSearch:
        """Search.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        **params
            As in scikit-learn, `groups` for a splitter such as `GroupKFold`.

        Returns
        -------
        HeadSearch
            Itself.

        Raises
        ------
        InputError
            If `class_weight` is a dict with a key that is no class.
        """
        if y is None:
            super().fit(X, y, **params)
            return self
        labels = np.asarray(y)
        _check_discrete(labels)
        check_class_weight(class_weight_of(self), labels)
        splitter = check_cv(self.cv, y, classifier=True)
        n_splits = splitter.n_splits if hasattr(splitter, "n_splits") else 2
        with warn_many_classes(labels, n_splits):
            super().fit(X, y, **params)
        return self


def check_class_weight(class_weight: ClassWeight, y: np.ndarray) -> None:
    """Raise `InputError` if a dict of class weights has a key that is no class.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
    y : numpy.ndarray of shape (n_samples,) or (n_samples, n_labels)
        With many labels, the classes are 0 and 1.
    """
    if not isinstance(class_weight, Mapping):
        return
    classes = [0, 1] if y.ndim == 2 else np.unique(y).tolist()
    known = [_weight_key(label) for label in classes]
    for key in class_weight:
        if key in known:
            continue
        if key in classes:
            raise InputError(
                f"for the class {key!r} scikit-learn expects the key {_weight_key(key)!r}.",
                parameter="class_weight",
            )
        shown = ", ".join(repr(label) for label in known[:10])
        raise InputError(
            f"no training row has the class {key!r}; the classes are {shown}"
            f"{', ...' if len(known) > 10 else ''}.",
            parameter="class_weight",
        )


def _weight_key(label: Any) -> int | str:
    """Return the key by which scikit-learn finds a class in a dict of weights."""
    try:
        return int(label)
    except ValueError:
        return str(label)


def base_search(head: Any) -> GridSearchCV:
    """Return the search for C that is within a head from `make_head`."""
    while not isinstance(head, GridSearchCV):
        head = head.search
    return head


def fitted_search(head: Any) -> FeatureSearch | GridSearchCV:
    """Return the `FeatureSearch`, or else the `GridSearchCV`, within a fitted head."""
    while hasattr(head, "search_") and not isinstance(head, FeatureSearch):
        head = head.search_
    return head


def tuned_estimator(head: Any) -> Any:
    """Return a fitted head's best estimator, before calibration and thresholds."""
    return fitted_search(head).best_estimator_


def class_weight_of(search: GridSearchCV) -> ClassWeight:
    """Return the class weights of a search's classifier."""
    estimator = search.estimator
    weight: ClassWeight = getattr(getattr(estimator, "estimator", estimator), "class_weight", None)
    return weight


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
    estimator = clone(tuned_estimator(head))
    if y.ndim == 1:
        _code_class_weight(estimator, y)
    with warn_many_classes(y, len(splits), warn=False), quiet_constant_labels():
        return np.asarray(
            cross_val_predict(estimator, X, y, cv=splits, n_jobs=search.n_jobs, method=method)
        )


def _code_class_weight(estimator: BaseEstimator, y: np.ndarray) -> None:
    """Give class weights the keys of `cross_val_predict`, which codes classes from 0."""
    codes = {_weight_key(label): code for code, label in enumerate(np.unique(y).tolist())}
    for name, value in estimator.get_params().items():
        if name.rpartition("__")[2] == "class_weight" and isinstance(value, Mapping):
            coded = {codes[key]: weight for key, weight in value.items()}
            estimator.set_params(**{name: coded})


@contextlib.contextmanager
def quiet_constant_labels() -> Iterator[None]:
    """Silence `OneVsRestClassifier` where a label is the same in all rows of a fold.

    `MultiLabelClassifier` warns of such a label once, after the search.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"sklearn\.multiclass")
        yield


class FeatureSearch(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Choose layers and pooling together with C, then C once more for the best features.

    Parameters
    ----------
    search : sklearn.model_selection.GridSearchCV
        The search for C, from `make_head`.
    train_rows : int, default=4000
        Features are compared on training parts of at most this many rows, whatever the
        splitter. C is then chosen on all rows.

    Attributes
    ----------
    features_ : list of dict
        The features compared: `layers`, `pooling`, the best `C`, its `score`, and the
        standard deviation `std` of the score over the folds.
    search_ : sklearn.model_selection.GridSearchCV
        The search for C with the best features. It tries the values within a factor of
        five of the C that was best in the comparison; if that was the first or last value
        compared, also all values beyond it.
    best_params_ : dict
        `layers`, `pooling` and `C`.
    best_estimator_ : sklearn.pipeline.Pipeline
        `select` and `classify`, fitted on all rows.
    best_score_ : float
        Mean cross-validated score of `best_params_`.
    best_index_ : int
        Row of `best_params_` in `cv_results_`.
    cv_results_ : dict of numpy.ndarray
        As of `GridSearchCV`, one row for each candidate of the comparison (`iter` 0) and of
        the search for C (`iter` 1), with `param_layers`, `param_pooling` and `param_C`.
    classes_ : numpy.ndarray of shape (n_classes,)

    See Also
    --------
    frozenbert.heads.selection.SelectVectors : Selects the columns, also in a grid search
        over a Pipeline.

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

    def fit(self, X: pd.DataFrame, y: ArrayLike, **params: Any) -> FeatureSearch:
        """Search.

        Parameters
        ----------
        X : pandas.DataFrame of shape (n_samples, n_features)
            With columns such as `layer6_mean_0`, standardised.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        **params
            `groups`, for a splitter such as `GroupKFold`.

        Returns
        -------
        FeatureSearch
            Itself.

        Raises
        ------
        InputError
            If the columns of `X` have no names, or none of an encoder's.
        """
        routed = process_routing(self, "fit", **params).search.fit
        sets = feature_sets(*vector_layout(X))
        y = as_labels(y)
        values = self._c_values()
        # Of many values, a few suffice to compare features.
        compared = [C for C in FEATURE_C_VALUES if min(values) <= C <= max(values)]
        compared = compared if len(values) > len(compared) > 1 else values
        results = self._compare(X, y, sets, compared, routed.get("groups"))
        best = max(self.features_, key=lambda feature: feature["score"])
        # Beyond the ends of what was compared, all values are still to be tried.
        low = best["C"] / 5 if best["C"] > min(compared) else 0
        high = best["C"] * 5 if best["C"] < max(compared) else float("inf")
        near = [C for C in values if low <= C <= high] or values
        select = SelectVectors(best["layers"], best["pooling"])
        self.search_ = clone(self.search).set_params(param_grid={self._name(): near})
        self.search_.fit(select.fit_transform(X), y, **routed)
        self._collect(results, best, select)
        return self

    def _name(self) -> str:
        (name,) = self.search.param_grid
        return str(name)

    def _c_values(self) -> list[float]:
        return list(self.search.param_grid[self._name()])

    def _compare(
        self,
        X: pd.DataFrame,
        y: np.ndarray,
        sets: list[tuple[tuple[int, ...], tuple[str, ...]]],
        values: list[float],
        groups: ArrayLike | None,
    ) -> list[dict[str, Any]]:
        """Set `features_`; return the search results of each set of features."""
        name = self._name()
        splitter = check_cv(self.search.cv, y, classifier=True)
        seed = getattr(splitter, "random_state", 0)
        splits = limit_train_rows(
            cv_splits(splitter, X, y, groups),
            y,
            self.train_rows,
            int(seed) if isinstance(seed, numbers.Integral) else 0,
        )
        compare = clone(self.search).set_params(param_grid={name: values}, cv=splits, refit=False)
        self.features_: list[FeatureScore] = []
        results = []
        # One search for each set of columns: a search over all of them would copy all columns
        # for each of its fits.
        for layers, pooling in tqdm(sets, desc="Features", unit=" sets", disable=None, leave=False):
            compare.fit(SelectVectors(layers, pooling).fit_transform(X), y)
            self.features_.append(
                {
                    "layers": layers,
                    "pooling": pooling,
                    "C": compare.best_params_[name],
                    "score": float(compare.best_score_),
                    "std": float(compare.cv_results_["std_test_score"][compare.best_index_]),
                }
            )
            results.append(_results(compare, 0, layers, pooling))
        return results

    def _collect(
        self, results: list[dict[str, Any]], best: FeatureScore, select: SelectVectors
    ) -> None:
        """Set the attributes that scikit-learn's searches have."""
        chosen = {"layers": best["layers"], "pooling": best["pooling"]}
        self.best_params_ = {**chosen, "C": self.search_.best_params_[self._name()]}
        self.best_estimator_ = Pipeline(
            [("select", select), ("classify", self.search_.best_estimator_)]
        )
        self.best_score_ = float(self.search_.best_score_)
        tables = [*results, _results(self.search_, 1, best["layers"], best["pooling"])]
        self.best_index_ = sum(len(table["params"]) for table in results) + int(
            self.search_.best_index_
        )
        self.cv_results_: dict[str, Any] = {
            name: np.concatenate([table[name] for table in tables])
            for name in tables[0]
            if name != "params"
        }
        from scipy.stats import rankdata  # takes a while to import

        scores = np.nan_to_num(self.cv_results_["mean_test_score"], nan=-np.inf)
        self.cv_results_["rank_test_score"] = rankdata(-scores, method="min").astype(np.int32)
        self.cv_results_["params"] = [params for table in tables for params in table["params"]]
        self.n_features_in_ = select.n_features_in_
        self.feature_names_in_ = select.feature_names_in_

    def get_metadata_routing(self) -> MetadataRouter:
        """Return how metadata such as `groups` reaches the search.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
        """
        return search_routing(self)

    @property
    def classes_(self) -> np.ndarray:
        """The classes."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.classes_)

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return the class of each row, shape (n_samples,)."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.predict(X))

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Return the probability of each class, shape (n_samples, n_classes)."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.predict_proba(X))

    def decision_function(self, X: pd.DataFrame) -> np.ndarray:
        """Return the scores that decide, as scikit-learn's classifiers do."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.decision_function(X))


def _results(
    search: GridSearchCV, number: int, layers: tuple[int, ...], pooling: tuple[str, ...]
) -> dict[str, Any]:
    """Return a search's `cv_results_`, with the features it was made on."""
    (name,) = search.param_grid
    results = dict(search.cv_results_)
    values = [float(C) for C in results.pop(f"param_{name}")]
    params = [{"layers": layers, "pooling": pooling, "C": C} for C in values]
    columns = {key: _objects([one[key] for one in params]) for key in ("layers", "pooling")}
    return {
        "iter": np.full(len(values), number),
        **results,
        "param_layers": columns["layers"],
        "param_pooling": columns["pooling"],
        "param_C": np.array(values),
        "params": params,
    }


def _objects(values: Sequence[object]) -> np.ndarray:
    """Return an array of objects, of one dimension even if they are sequences."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def search_routing(estimator: Any) -> MetadataRouter:
    """Return the routing of an estimator whose `fit` fits its `search`."""
    return MetadataRouter(owner=estimator).add(
        search=estimator.search, method_mapping=MethodMapping().add(caller="fit", callee="fit")
    )


def as_labels(y: ArrayLike | None) -> np.ndarray:
    """Return classes as an array of one dimension; many labels as an array of two."""
    labels = np.asarray(y)
    if labels.ndim != 2 or labels.shape[1] == 1:
        labels = column_or_1d(y, warn=True)
    _check_discrete(labels)
    return labels


def _check_discrete(y: np.ndarray) -> None:
    # `check_classification_targets` alone would also warn of many classes.
    if type_of_target(y, input_name="y", raise_unknown=True).startswith("continuous"):
        check_classification_targets(y)
