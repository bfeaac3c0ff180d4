"""Ridge regression on vectors, whose layers, pooling and strength cross-validation chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import cross_val_predict
from sklearn.utils.validation import check_is_fitted, validate_data

from ...errors import InputError
from ..folds import CV, Splits, check_partition
from ..selection import SelectVectors, feature_sets, layout, take_columns
from .tasks import Score, check_target, score_function, split_rows

__all__ = [
    "ALPHAS",
    "NumberStep",
    "RidgeHead",
    "describe_numeric_head",
    "parse_alphas",
    "ridge_path",
]

# For standardised columns. The best of a thousand to ten thousand rows lies near the middle.
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 6, 13))
COMPARED_ALPHAS = (1e2, 1e3, 1e4, 1e5)
COMPARED_ROWS = 2000  # training rows on which layers and poolings are compared
COMPARED_FOLDS = 3
MOST_COLUMNS = 2400  # of several layers or poolings together; more take minutes, and gain little


class RidgeParams(TypedDict, total=False):
    """The choices of a `RidgeHead`; layers and pooling only if it chose them."""

    alpha: float
    layers: tuple[int, ...]
    pooling: tuple[str, ...]


class RidgeFeature(TypedDict):
    """The cross-validated score of one choice of layers and pooling."""

    layers: tuple[int, ...]
    pooling: tuple[str, ...]
    alpha: float
    score: float


class NumberStep(TypedDict):
    """The out-of-fold score of one part that was compared."""

    step: str
    score: float
    kept: bool
    note: NotRequired[str]


class RidgeHead(RegressorMixin, BaseEstimator):
    """Ridge regression on standardised vectors, and a vote with the predictions of words.

    Cross-validation chooses the strength of the regularisation and, with `search="features"`,
    layers and pooling. Out-of-fold predictions decide whether vectors, words or a weighted
    sum of both predict.

    Parameters
    ----------
    alpha : sequence of float, float or None, default=None
        Strengths of regularisation to try. None tries 13 from 1 to 1e6.
    search : {"head", "features"}, default="head"
        "features" chooses layers and pooling by the names of the columns of `X`.
    with_words : bool or "auto", default=False
        Whether the last column of `X` is predicted by words, as
        `frozenbert.heads.numeric.word_regression.WordPredictions` does. With "auto" it is, and
        out-of-fold predictions decide whether it is used.
    cv : int, "auto", splitter or iterable of splits, default=5
    scoring : {"r2", "mae", "spearman"}, "auto" or None, default=None
        The score that decides; "auto" and None are "r2".
    random_state : int or None, default=0
        Shuffles the folds.

    Attributes
    ----------
    best_params_ : dict
        `alpha`; with `search="features"` also `layers` and `pooling`.
    columns_ : numpy.ndarray of int
        The columns of vectors that are used.
    features_ : list of dict
        With `search="features"`, what was compared: `layers`, `pooling`, `alpha`, `score`.
    parts_ : {"vectors", "words", "vote"}
    ladder_ : list of dict
        What was compared out of fold: `step`, `score` and whether it is `kept`.
    ridge_ : sklearn.linear_model.Ridge
    vote_ : sklearn.linear_model.LinearRegression or None
    scores_ : numpy.ndarray of shape (n_alphas, n_folds)
        Scores of the vectors' predictions.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 5))
    >>> head = RidgeHead().fit(X, X @ np.arange(5) + 3)
    >>> head.best_params_, round(head.score(X, X @ np.arange(5) + 3), 2)
    ({'alpha': 1.0}, 1.0)
    """

    __metadata_request__fit = {"groups": True}  # noqa: RUF012  # scikit-learn's way
    _held_out: np.ndarray | None = None

    def __init__(
        self,
        *,
        alpha: Sequence[float] | float | None = None,
        search: str = "head",
        with_words: bool | str = False,
        cv: CV | None = 5,
        scoring: str | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.alpha = alpha
        self.search = search
        self.with_words = with_words
        self.cv = cv
        self.scoring = scoring
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> RidgeHead:
        """Search, and fit the best on all rows.

        Parameters
        ----------
        X : array or DataFrame of shape (n_samples, n_features)
            Standardised vectors; with words their predictions in the last column.
        y : array-like of shape (n_samples,)
        groups : array-like of shape (n_samples,), optional
            For a splitter such as `GroupKFold`.

        Returns
        -------
        RidgeHead
            Itself.

        Raises
        ------
        InputError
            If `y` is not made of finite numbers of more than one value, or the test parts of
            `cv` are no partition of the rows.
        """
        target = check_target(y, "regression")
        values = parse_alphas(self.alpha)
        self.scoring_, score = score_function("regression", self.scoring)
        names = getattr(X, "columns", None)
        array = validate_data(self, X, dtype=np.float64)
        if len(array) != len(target):
            raise InputError(f"{len(target):,} targets for {len(array):,} rows.", parameter="y")
        splits = split_rows(self.cv, target, groups, self.random_state)
        check_partition(splits, len(target), self.cv or 5)
        self.n_folds_ = len(splits)
        self._n_words = int(bool(self.with_words))
        width = array.shape[1] - self._n_words
        self.columns_ = np.arange(width)
        self.best_params_: RidgeParams = {}
        self.features_: list[RidgeFeature] = []
        if self.search == "features":
            self._choose_columns(array, target, names, splits, score)
        chosen = take_columns(array, self.columns_)
        held_out = ridge_path(chosen, target, values, splits)
        self.alphas_ = np.array(values)
        self.scores_ = np.array(
            [[score(target[test], one[test]) for _, test in splits] for one in held_out]
        )
        best = int(self.scores_.mean(axis=1).argmax())
        self.best_params_ = {"alpha": values[best], **self.best_params_}
        self.ridge_ = Ridge(alpha=values[best]).fit(chosen, target)
        self._choose_part(held_out[best], array, target, splits, score)
        return self

    def _choose_columns(
        self, X: np.ndarray, y: np.ndarray, names: Any, splits: Splits, score: Score
    ) -> None:
        """Set `columns_`, `features_`, and layers and pooling in `best_params_`."""
        layers, pooling = layout([] if names is None else names)
        if not layers:
            raise InputError(
                "the columns of X have no names such as 'layer6_mean_0': call "
                "set_output(transform='pandas') on the steps before, or use search='head'.",
                parameter="search",
                value=self.search,
            )
        import pandas as pd

        header = pd.DataFrame(
            np.zeros((1, X.shape[1] - self._n_words)), columns=names[: X.shape[1] - self._n_words]
        )
        rng = np.random.default_rng(self.random_state)
        few = [
            (
                np.sort(rng.permutation(train)[:COMPARED_ROWS]),
                np.sort(rng.permutation(test)[:COMPARED_ROWS]),
            )
            for train, test in splits[:COMPARED_FOLDS]
        ]
        compared = X.astype(np.float32)
        for one in feature_sets(layers, pooling):
            columns = SelectVectors(*one).fit(header).columns_
            if len(columns) > MOST_COLUMNS and len(one[0]) * len(one[1]) > 1:
                continue
            found = ridge_path(take_columns(compared, columns), y, COMPARED_ALPHAS, few)
            scores = [
                float(np.mean([score(y[test], each[test]) for _, test in few])) for each in found
            ]
            best = int(np.argmax(scores))
            self.features_.append(
                {
                    "layers": one[0],
                    "pooling": one[1],
                    "alpha": COMPARED_ALPHAS[best],
                    "score": scores[best],
                }
            )
        chosen = max(self.features_, key=lambda feature: feature["score"])
        self.columns_ = SelectVectors(chosen["layers"], chosen["pooling"]).fit(header).columns_
        self.best_params_ = {"layers": chosen["layers"], "pooling": chosen["pooling"]}

    def _choose_part(
        self, vectors: np.ndarray, X: np.ndarray, y: np.ndarray, splits: Splits, score: Score
    ) -> None:
        """Set `parts_`, `vote_` and `ladder_` by out-of-fold predictions."""
        predictions = {"vectors": vectors}
        self.vote_ = None
        if self._n_words:
            both = np.column_stack([vectors, X[:, -1]])
            vote = LinearRegression(positive=True)
            predictions = {
                "words": X[:, -1],
                "vectors": vectors,
                "vote": cross_val_predict(vote, both, y, cv=splits),
            }
            self.vote_ = vote.fit(both, y)
        scores = {
            part: float(np.mean([score(y[test], found[test]) for _, test in splits]))
            for part, found in predictions.items()
        }
        self.parts_ = max(scores, key=scores.__getitem__)
        if self._n_words and self.with_words != "auto":
            self.parts_ = "vote"
        self.ladder_: list[NumberStep] = [
            {
                "step": "both" if part == "vote" else part,
                "score": found,
                "kept": part == self.parts_,
            }
            for part, found in scores.items()
        ]
        self._held_out = predictions[self.parts_]

    def held_out(self) -> np.ndarray | None:
        """Return the training rows' out-of-fold predictions; None after loading."""
        return self._held_out

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the predicted number of each row, shape (n_samples,)."""
        check_is_fitted(self)
        array = validate_data(self, X, dtype=np.float64, reset=False)
        if self.parts_ == "words":
            return array[:, -1]
        found = np.asarray(self.ridge_.predict(take_columns(array, self.columns_)))
        if self.parts_ == "vectors":
            return found
        assert self.vote_ is not None
        return np.asarray(self.vote_.predict(np.column_stack([found, array[:, -1]])))

    def __getstate__(self) -> dict[str, object]:
        state = {**super().__getstate__()}
        state.pop("_held_out", None)
        return state


def parse_alphas(alpha: Sequence[float] | float | None) -> list[float]:
    """Return strengths of regularisation as a list of floats above 0."""
    values = [float(one) for one in np.atleast_1d(ALPHAS if alpha is None else alpha)]
    if not values or not all(0 < one < float("inf") for one in values):
        raise InputError("one or more numbers above 0.", parameter="alpha", value=alpha)
    return values


def ridge_path(X: np.ndarray, y: np.ndarray, alphas: Sequence[float], splits: Splits) -> np.ndarray:
    """Return the predictions of each strength for the test rows of each split.

    The strengths are fitted at once, as targets of one regression, because they share the
    product of the columns.

    Parameters
    ----------
    X : numpy.ndarray of shape (n_samples, n_features)
    y : numpy.ndarray of shape (n_samples,)
    alphas : sequence of float
    splits : list of (numpy.ndarray, numpy.ndarray)

    Returns
    -------
    numpy.ndarray of shape (n_alphas, n_samples)
        NaN for rows that are in no test part.

    Examples
    --------
    >>> X = np.arange(8.0)[:, np.newaxis]
    >>> rows = np.arange(8)
    >>> ridge_path(X, X[:, 0], [1e-9], [(rows[:4], rows[4:])])[0, 4:].round(3).tolist()
    [4.0, 5.0, 6.0, 7.0]
    """
    predictions = np.full((len(alphas), len(y)), np.nan)
    model = Ridge(alpha=np.asarray(alphas), solver="cholesky")
    for train, test in splits:
        targets = np.repeat(y[train][:, np.newaxis], len(alphas), axis=1)
        model.fit(X[train], targets)
        predictions[:, test] = np.asarray(model.predict(X[test])).reshape(-1, len(alphas)).T
    return predictions


def describe_numeric_head(head: BaseEstimator) -> dict[str, str]:
    """Return what a fitted head of numbers or grades chose, as lines by their titles.

    Parameters
    ----------
    head : estimator
        With `ladder_`: a `RidgeHead`, an `OrdinalHead`, or a model with other columns.
    """
    ridge = getattr(head, "ridge_", head)
    ridge = ridge if isinstance(ridge, RidgeHead) else head
    lines = {}
    if isinstance(ridge, RidgeHead):
        best = ridge.best_params_
        if "layers" in best:
            layers = ", ".join(map(str, best["layers"]))
            lines["features"] = (
                f"layer {layers}, pooling {' and '.join(best['pooling'])}: the best of "
                f"{len(ridge.features_)} choices"
            )
        lines["head"] = f"ridge regression, alpha = {best['alpha']:.2g}"
    lines["out of fold"] = _steps_table(ridge)
    if ridge is not head:
        lines["grades by"] = _steps_table(head)
    return lines


def _steps_table(head: BaseEstimator) -> str:
    """Return the steps that a head compared, with their scores."""
    steps: list[NumberStep] = head.ladder_
    width = max(len(step["step"]) for step in steps)
    sign = -1 if head.scoring_ == "mae" else 1  # the ladder's scores are the higher the better
    lines = [f"{'':{width}}  {head.scoring_}"]
    for step in steps:
        kept = "  kept" if step["kept"] else ""
        lines.append(f"{step['step']:{width}}  {sign * step['score']:.4f}{kept}")
    return "\n".join(lines)
