"""Searches by cross-validation: for C, or for layers, pooling and C."""

from __future__ import annotations

import contextlib
import numbers
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import numpy as np
import scipy.sparse
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from ..utils.console import progress_bar
from ..utils.steps import LinkedToDocs
from .folds import (
    AutoFolds,
    FoldPath,
    Splits,
    cv_splits,
    fit_path,
    fold_threads,
    limit_train_rows,
    warn_many_classes,
)
from .scoring import (
    ClassWeight,
    as_labels,
    auto_scorer,
    auto_scoring,
    check_class_weight,
    check_discrete,
    is_auto,
)
from .selection import SelectVectors, feature_sets, plan_rounds, take_columns, vector_layout

if TYPE_CHECKING:
    import pandas as pd
    from tqdm import tqdm

__all__ = [
    "CVResults",
    "FeatureScore",
    "FeatureSearch",
    "HeadSearch",
    "base_search",
    "class_weight_of",
    "fitted_grid",
    "fitted_search",
    "resolve_search",
    "search_routing",
    "tuned_estimator",
]

CVResults: TypeAlias = dict[str, Any]  # columns of scikit-learn's `cv_results_`, by name

# While features are compared, steps of half a decade are enough: the score is flat near its top.
FEATURE_C_VALUES = tuple(float(c) for c in np.logspace(-4, -2, 5))
FEATURE_ROWS = 4000  # with more training rows, the order of the features hardly changes


class FeatureScore(TypedDict):
    """The cross-validated score of one choice of layers and pooling."""

    layers: tuple[int, ...]
    pooling: tuple[str, ...]
    C: float
    score: float
    std: float
    train_rows: int


class HeadSearch(LinkedToDocs, GridSearchCV):
    """`GridSearchCV` that fits all values of C on a fold in turn, each from the last.

    For a `LogisticRegression` and a grid of C alone, each fold's rows are copied once, and each
    fit starts from the coefficients of the next smaller C. For other estimators and grids it is
    `GridSearchCV`. It checks class weights against the classes.

    Its parameters and attributes are those of `sklearn.model_selection.GridSearchCV`.

    Examples
    --------
    >>> search = HeadSearch(LogisticRegression(class_weight={"c": 2.0}), {"C": [1.0]}, cv=2)
    >>> search.fit([[0.0], [1.0]] * 5, ["a", "b"] * 5)
    Traceback (most recent call last):
    frozenbert.errors.InputError: class_weight: no training row has the class 'c'; ...
    """

    _held_out: list[tuple[np.ndarray, np.ndarray]] | None = None
    _shows_bar = True

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, **params: object) -> HeadSearch:
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
        self._held_out = None
        if y is None:
            super().fit(X, y, **params)
            return self
        labels = np.asarray(y)
        check_discrete(labels)
        check_class_weight(class_weight_of(self), labels)
        splitter = check_cv(self.cv, y, classifier=True)
        n_splits = splitter.n_splits if hasattr(splitter, "n_splits") else 2
        with warn_many_classes(labels, n_splits):
            if not self._fit_paths(X, labels, params):
                super().fit(X, y, **params)
        return self

    def _fit_paths(self, X: Any, y: np.ndarray, params: dict[str, Any]) -> bool:
        """Search along the paths of C; return False where scikit-learn has to do it."""
        matrix = isinstance(X, np.ndarray) or (scipy.sparse.issparse(X) and X.format == "csr")
        one_scorer = self.scoring is None or isinstance(self.scoring, str) or callable(self.scoring)
        if not (
            matrix
            and np.ndim(X) == 2
            and X.shape[0] == len(y)
            and y.ndim == 1
            and isinstance(self.estimator, LogisticRegression)
            and isinstance(self.param_grid, dict)
            and set(self.param_grid) == {"C"}
            and one_scorer
            and isinstance(self.refit, bool)
            and set(params) <= {"groups"}
        ):
            return False
        values = list(self.param_grid["C"])
        scorer = check_scoring(self.estimator, self.scoring)
        try:
            splits = cv_splits(check_cv(self.cv, y, classifier=True), X, y, params.get("groups"))
            # Workers of a joblib backend are for the folds, too, whatever their number.
            threads = 0 if effective_n_jobs(self.n_jobs) > 1 else fold_threads(X, splits)
            run = Parallel(threads, prefer="threads") if threads else Parallel(self.n_jobs)
            limit = threadpool_limits(1) if threads > 1 else contextlib.nullcontext()
            with limit, self._bar(len(splits) * len(values)) as bar:
                on_fit = bar.update if threads else None  # no other process can move it
                paths = run(
                    delayed(fit_path)(self.estimator, X, y, split, values, scorer, on_fit)
                    for split in splits
                )
                if not all(np.isfinite(path["scores"]).all() for path in paths):
                    return False
                self._set_results(values, paths)
                if self.refit:
                    start = time.perf_counter()
                    best = clone(self.estimator).set_params(**self.best_params_)
                    self.best_estimator_ = best.fit(X, y)
                    self.refit_time_ = time.perf_counter() - start
        except ValueError:  # GridSearchCV tells which fits fail, and goes on with the others
            return False
        self.scorer_, self.n_splits_, self.multimetric_ = scorer, len(splits), False
        self._held_out = [(path["test"], path["decisions"][self.best_index_]) for path in paths]
        return True

    def _bar(self, total: int) -> tqdm:
        return progress_bar("auto" if self._shows_bar else False, total, "Search for C", "fits")

    def _run_search(self, evaluate_candidates: Callable[..., object]) -> None:
        """Search value by value, as scikit-learn's searches may, to show how far it is."""
        candidates = list(ParameterGrid(self.param_grid))
        if effective_n_jobs(self.n_jobs) > 1:
            evaluate_candidates(candidates)
            return
        with self._bar(len(candidates)) as bar:
            for candidate in candidates:
                evaluate_candidates([candidate])
                bar.update()

    def _set_results(self, values: Sequence[float], paths: list[FoldPath]) -> None:
        """Set `cv_results_` and the best, as `GridSearchCV` does."""
        from scipy.stats import rankdata  # takes a while to import

        scores = np.array([path["scores"] for path in paths])
        results: CVResults = {}
        for name in ("fit_time", "score_time"):
            seconds = np.array([path[name] for path in paths])
            results |= {f"mean_{name}": seconds.mean(axis=0), f"std_{name}": seconds.std(axis=0)}
        results["param_C"] = np.ma.MaskedArray(values, mask=[False] * len(values))
        results["params"] = [{"C": C} for C in values]
        results |= {f"split{i}_test_score": row for i, row in enumerate(scores)}
        results["mean_test_score"] = mean = scores.mean(axis=0)
        results["std_test_score"] = scores.std(axis=0)
        results["rank_test_score"] = rankdata(-mean, method="min").astype(np.int32)
        self.cv_results_ = results
        self.best_index_ = int(results["rank_test_score"].argmin())
        self.best_score_ = mean[self.best_index_]
        self.best_params_ = results["params"][self.best_index_]

    def held_out_decisions(self) -> np.ndarray | None:
        """Return the best C's decisions on the rows that each fold held out, or None.

        They are there until the search is saved, if it went along the paths of C and its test
        parts hold each row once.

        Returns
        -------
        numpy.ndarray of shape (n_samples,) or (n_samples, n_classes), or None
        """
        if self._held_out is None:
            return None
        rows = np.concatenate([test for test, _ in self._held_out])
        decisions = np.concatenate([decision for _, decision in self._held_out])
        if not np.array_equal(np.sort(rows), np.arange(len(rows))):
            return None
        return decisions[np.argsort(rows)]

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__()}
        for name in ("_held_out", "_shows_bar"):
            state.pop(name, None)
        return state


def base_search(head: BaseEstimator) -> GridSearchCV:
    """Return the search for C that is within a head from `make_head`."""
    while not isinstance(head, GridSearchCV):
        head = head.search
    return head


def fitted_search(head: BaseEstimator) -> FeatureSearch | GridSearchCV:
    """Return the `FeatureSearch`, or else the `GridSearchCV`, within a fitted head."""
    while hasattr(head, "search_") and not isinstance(head, FeatureSearch):
        head = head.search_
    return head


def fitted_grid(head: BaseEstimator) -> GridSearchCV:
    """Return the fitted search for C within a fitted head."""
    search = fitted_search(head)
    return search.search_ if isinstance(search, FeatureSearch) else search


def tuned_estimator(head: BaseEstimator) -> BaseEstimator:
    """Return a fitted head's best estimator, before calibration and thresholds."""
    return fitted_search(head).best_estimator_


def class_weight_of(search: GridSearchCV) -> ClassWeight:
    """Return the class weights of a search's classifier."""
    estimator = search.estimator
    weight: ClassWeight = getattr(getattr(estimator, "estimator", estimator), "class_weight", None)
    return weight


def resolve_search(search: BaseEstimator, y: np.ndarray) -> BaseEstimator:
    """Return an unfitted copy of a search in which the rows have decided what is "auto".

    Parameters
    ----------
    search : GridSearchCV or FeatureSearch
        Its `cv` may be `AutoFolds`, its `scoring` `auto_scorer`, and the class weights of its
        classifier "auto".
    y : numpy.ndarray of shape (n_samples,) or (n_samples, n_labels)

    Returns
    -------
    estimator
        Of the same type. Class weights that are "auto" become None: they are compared later,
        on out-of-fold scores.
    """
    resolved = clone(search)
    grid = base_search(resolved)
    if isinstance(grid.cv, AutoFolds):
        grid.cv = grid.cv.for_rows(y)
    if grid.scoring is auto_scorer:
        grid.scoring = auto_scoring(y)
    if is_auto(class_weight_of(grid)):
        getattr(grid.estimator, "estimator", grid.estimator).class_weight = None
    return resolved


class FeatureSearch(LinkedToDocs, ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Choose layers and pooling together with C, then C once more for the best features.

    Parameters
    ----------
    search : sklearn.model_selection.GridSearchCV
        The search for C, from `make_head`.
    train_rows : int, default=4000
        Features are compared on training parts of at most this many rows, whatever the
        splitter. With more than 2,000 there is a round before, on 1,000 rows (ten of each
        class, if that is more), and the best six sets of features go on. C is then chosen on
        all rows.
    limit : float or None, default=None
        The most work: as many times that of a search for C on one layer, or a minute's,
        whichever is more. A search that would exceed it compares features on fewer rows and
        values of C, and leaves out the widest. None is no limit.

    Attributes
    ----------
    left_out_ : str or None
        What `limit` left out.
    features_ : list of dict
        The features compared: `layers`, `pooling`, the best `C`, its `score`, the standard
        deviation `std` of the score over the folds, and the `train_rows` of a fold: those of
        the last round that the features took part in.
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
        As of `GridSearchCV`, one row for each candidate of each round, numbered by `iter`:
        first the comparison of features, last the search for C; with `param_layers`,
        `param_pooling` and `param_C`.
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

    limit: float | None = None  # models saved before have none
    left_out_: str | None

    def __init__(
        self,
        search: GridSearchCV,
        *,
        train_rows: int = FEATURE_ROWS,
        limit: float | None = None,
    ) -> None:
        self.search = search
        self.train_rows = train_rows
        self.limit = limit

    def fit(self, X: pd.DataFrame, y: ArrayLike, **params: object) -> FeatureSearch:
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
        arrays, names = np.asarray(X), X[:1]
        splitter = check_cv(self.search.cv, y, classifier=True)
        splits = cv_splits(splitter, arrays, y, routed.get("groups"))
        seed = getattr(splitter, "random_state", 0)
        seed = int(seed) if isinstance(seed, numbers.Integral) else 0
        results: list[CVResults] = []
        dropped: list[FeatureScore] = []
        plan = plan_rounds(
            sets, names, y, compared, len(values), splits, self.train_rows, self.limit
        )
        sets, self.left_out_ = plan.sets, plan.left_out
        for number, (most, tried, rows, n_folds) in enumerate(plan.rounds, start=1):
            if results:
                ranked = sorted(self.features_, key=lambda feature: -feature["score"])
                dropped += ranked[most:]
                sets = [(one["layers"], one["pooling"]) for one in ranked[:most]]
            parts = limit_train_rows(splits[:n_folds], y, rows, seed)
            title = f"Layers and pooling, round {number} of {len(plan.rounds)}"
            self._compare(arrays, names, y, sets, tried, parts, results, title)
        best = max(self.features_, key=lambda feature: feature["score"])
        self.features_ += dropped
        # Beyond the ends of what was compared, all values are still to be tried, if time allows.
        low = best["C"] / 5 if best["C"] > min(compared) or plan.left_out else 0
        high = best["C"] * 5 if best["C"] < max(compared) or plan.left_out else float("inf")
        near = [C for C in values if low <= C <= high] or values
        select = SelectVectors(best["layers"], best["pooling"]).fit(X)
        self.search_ = clone(self.search).set_params(param_grid={self._name(): near})
        self.search_.fit(take_columns(arrays, select.columns_), y, **routed)
        self._collect(results, best, select)
        return self

    def _name(self) -> str:
        (name,) = self.search.param_grid
        return str(name)

    def _c_values(self) -> list[float]:
        return list(self.search.param_grid[self._name()])

    def _compare(
        self,
        X: np.ndarray,
        names: pd.DataFrame,
        y: np.ndarray,
        sets: Sequence[tuple[tuple[int, ...], tuple[str, ...]]],
        values: list[float],
        splits: Splits,
        results: list[CVResults],
        title: str,
    ) -> None:
        """Set `features_`; append the search results of each set of features."""
        name, number = self._name(), results[-1]["iter"][0] + 1 if results else 0
        compare = clone(self.search).set_params(param_grid={name: values}, cv=splits, refit=False)
        self.features_: list[FeatureScore] = []
        # One search for each set of columns: a search over all of them would copy all columns
        # for each of its fits.
        compare._shows_bar = False
        chosen = [SelectVectors(*one).fit(names).columns_ for one in sets]
        bar = progress_bar("auto", sum(map(len, chosen)), title, "")
        for (layers, pooling), columns in zip(sets, chosen, strict=True):
            compare.fit(take_columns(X, columns), y)
            bar.update(len(columns))
            self.features_.append(
                {
                    "layers": layers,
                    "pooling": pooling,
                    "C": compare.best_params_[name],
                    "score": float(compare.best_score_),
                    "std": float(compare.cv_results_["std_test_score"][compare.best_index_]),
                    "train_rows": min(len(y[train]) for train, _ in splits),
                }
            )
            results.append(_results(compare, number, layers, pooling))
        bar.close()

    def _collect(self, results: list[CVResults], best: FeatureScore, select: SelectVectors) -> None:
        """Set the attributes that scikit-learn's searches have."""
        chosen = {"layers": best["layers"], "pooling": best["pooling"]}
        self.best_params_ = {**chosen, "C": self.search_.best_params_[self._name()]}
        self.best_estimator_ = Pipeline(
            [("select", select), ("classify", self.search_.best_estimator_)]
        )
        self.best_score_ = float(self.search_.best_score_)
        number = results[-1]["iter"][0] + 1
        tables = [*results, _results(self.search_, number, best["layers"], best["pooling"])]
        self.best_index_ = sum(len(table["params"]) for table in results) + int(
            self.search_.best_index_
        )
        self.cv_results_: CVResults = {
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
) -> CVResults:
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


def search_routing(estimator: BaseEstimator) -> MetadataRouter:
    """Return the routing of an estimator whose `fit` fits its `search`."""
    return MetadataRouter(owner=estimator).add(
        search=estimator.search, method_mapping=MethodMapping().add(caller="fit", callee="fit")
    )
