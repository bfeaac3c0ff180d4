"""Select layers and poolings among the columns of a vectorizer that computed several."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from ..errors import InputError
from ..utils.steps import find_steps

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.utils import Tags

__all__ = [
    "Plan",
    "Round",
    "SelectVectors",
    "feature_sets",
    "layout",
    "plan_rounds",
    "predict_from_arrays",
    "take_columns",
    "vector_layout",
]

T = TypeVar("T", int, str)
FeatureSet: TypeAlias = tuple[tuple[int, ...], tuple[str, ...]]

# With many sets of features and rows, the first round compares all sets on few rows and every
# second C; the best ones go on. On folds of SST-2's training rows the set that is best on 4,000
# rows is also the best on 1,000.
SCREENING_ROWS = 1000
SCREENED_SETS = 6

# The rows × columns of all fits that take about a minute on one core. The models of several
# classes share the reading of the columns: each after the first adds a quarter.
MINUTE = 7e9
START = 3  # a path of C takes as long as this many more values, because the first fit is cold
NEAR = 5  # values of C that the best features are tuned with, at least

# As the vectorizer names them; a FeatureUnion prefixes the name of its part.
_NAME = re.compile(r"(?:.*__)?layer(\d+)_(cls|mean|max|remote)_\d+")


class SelectVectors(SelectorMixin, BaseEstimator):
    """Select the columns of some layers and poolings; columns of other origin stay.

    As a step of a Pipeline it makes layers and pooling parameters of a grid search, while
    each text goes through the encoder once.

    `fit` finds the columns by their names. `transform` takes them by their positions: it
    accepts arrays too, and checks the names of frames.

    Parameters
    ----------
    layers : "all", int or sequence of int, default="all"
        Layers to select, by their index into `hidden_states`.
    pooling : "all", str or sequence of str, default="all"
        Poolings to select.

    Attributes
    ----------
    columns_ : numpy.ndarray of int
        The selected columns.
    n_features_in_ : int
    feature_names_in_ : numpy.ndarray of object
        If `X` has names.

    Examples
    --------
    >>> import pandas as pd
    >>> names = ["layer5_cls_0", "layer5_mean_0", "layer6_cls_0", "layer6_mean_0"]
    >>> X = pd.DataFrame([[1, 2, 3, 4]], columns=names)
    >>> SelectVectors(layers=6).fit_transform(X)
    array([[3, 4]])
    >>> SelectVectors(pooling="mean").fit(X).get_feature_names_out().tolist()
    ['layer5_mean_0', 'layer6_mean_0']
    """

    def __init__(
        self, layers: int | Sequence[int] | str = "all", pooling: str | Sequence[str] = "all"
    ) -> None:
        self.layers = layers
        self.pooling = pooling

    def fit(self, X: pd.DataFrame | ArrayLike, y: object = None) -> SelectVectors:
        """Find the columns by their names.

        Parameters
        ----------
        X : pandas.DataFrame of shape (n_samples, n_features)
            With columns such as `layer6_mean_0`: the output of a `DistilBertVectorizer`
            after `set_output(transform="pandas")`. An array without names will do if all
            layers and poolings are selected.
        y : ignored

        Returns
        -------
        SelectVectors
            Itself.

        Raises
        ------
        InputError
            If `X` has no names, no columns of an encoder, or not the layers and poolings to
            select.
        """
        values = validate_data(self, X, ensure_all_finite=False)
        if not hasattr(X, "columns") and _is_all(self.layers) and _is_all(self.pooling):
            self.columns_ = np.arange(values.shape[1])
            return self
        known_layers, known_pooling = vector_layout(X)
        layers = _chosen("layers", self.layers, known_layers)
        pooling = _chosen("pooling", self.pooling, known_pooling)
        matches = [_NAME.fullmatch(str(name)) for name in X.columns]  # type: ignore[union-attr]
        self.columns_ = np.array(
            [
                i
                for i, match in enumerate(matches)
                if match is None or (int(match[1]) in layers and match[2] in pooling)
            ]
        )
        return self

    def transform(self, X: pd.DataFrame | ArrayLike) -> np.ndarray:
        """Return the selected columns.

        Parameters
        ----------
        X : array or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        numpy.ndarray of shape (n_samples, n_selected)
            A view of an array if the columns are adjacent.
        """
        check_is_fitted(self)
        if not isinstance(X, np.ndarray):
            return np.asarray(super().transform(X))
        values = check_array(X, dtype=None, ensure_all_finite=False)
        if values.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {values.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input."
            )
        return take_columns(values, self.columns_)

    def _get_support_mask(self) -> np.ndarray:
        check_is_fitted(self)
        mask = np.zeros(self.n_features_in_, dtype=bool)
        mask[self.columns_] = True
        return mask

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def take_columns(X: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return some columns: a view if they are adjacent, else a copy.

    Examples
    --------
    >>> X = np.arange(6).reshape(1, 6)
    >>> take_columns(X, np.array([1, 2])).base is X.base, take_columns(X, np.array([0, 2]))
    (True, array([[0, 2]]))
    """
    if len(columns) and (np.diff(columns) == 1).all():
        return X[:, columns[0] : columns[-1] + 1]
    return np.take(X, columns, axis=1)


def predict_from_arrays(model: BaseEstimator) -> None:
    """Let a fitted model's steps hand on arrays, and not DataFrames, from now on.

    Names of columns are needed to fit a search for features, and not to predict: its columns
    are stored by position. Predictions stay the same, are faster, and need no pandas.

    Parameters
    ----------
    model : Pipeline or other estimator
        Changed in place.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X = pd.DataFrame({"layer1_cls_0": [1.0, 3.0], "layer2_cls_0": [2.0, 4.0]})
    >>> model = make_pipeline(StandardScaler(), SelectVectors(2)).set_output(transform="pandas")
    >>> predict_from_arrays(model.fit(X))
    >>> model.transform(np.array([[1.0, 4.0]]))
    array([[1.]])
    """
    for step in find_steps(model, BaseEstimator):
        if hasattr(step, "set_output"):
            step.set_output(transform="default")
        # Steps of scikit-learn that remember names warn of arrays, which have none.
        if "feature_names_in_" in vars(step) and not isinstance(step, SelectVectors):
            del step.feature_names_in_


def vector_layout(X: object) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the layers and poolings of a frame's columns.

    Raises
    ------
    InputError
        If `X` has no names, or no columns of an encoder.
    """
    names = getattr(X, "columns", None)
    if names is None:
        raise InputError(
            f"X is a {type(X).__name__}, whose columns have no names. Layers and poolings are "
            f"selected by names: call set_output(transform='pandas') on the steps before."
        )
    layers, pooling = layout(names)
    if not layers:
        raise InputError("X has no columns of an encoder, such as 'layer6_mean_0'.")
    return layers, pooling


def layout(names: Iterable[object]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the layers and the poolings among columns' names, in their order.

    Examples
    --------
    >>> layout(["layer5_cls_0", "layer5_mean_0", "layer6_cls_0", "layer6_mean_0", "words__1"])
    ((5, 6), ('cls', 'mean'))
    """
    matches = [match for name in names if (match := _NAME.fullmatch(str(name)))]
    layers = dict.fromkeys(int(match[1]) for match in matches)
    return tuple(layers), tuple(dict.fromkeys(match[2] for match in matches))


def feature_sets(
    layers: Sequence[int], pooling: Sequence[str]
) -> list[tuple[tuple[int, ...], tuple[str, ...]]]:
    """Return what a search tries: each layer, the upper half, all; each pooling, and all.

    Examples
    --------
    >>> feature_sets((1, 2), ("mean",))
    [((1,), ('mean',)), ((2,), ('mean',)), ((1, 2), ('mean',))]
    """
    upper = tuple(layers[len(layers) // 2 :])
    of_layers = dict.fromkeys([*((layer,) for layer in layers), upper, tuple(layers)])
    of_pooling = dict.fromkeys([*((how,) for how in pooling), tuple(pooling)])
    return list(itertools.product(of_layers, of_pooling))


class Round(NamedTuple):
    """A round of a comparison: number of sets, values of C, training rows, number of folds."""

    n_sets: int
    values: list[float]
    rows: int
    folds: int


class Plan(NamedTuple):
    """What a search compares: sets of features, in rounds, and what it leaves out."""

    sets: list[FeatureSet]
    rounds: list[Round]
    left_out: str | None = None


def plan_rounds(
    sets: list[FeatureSet],
    X: pd.DataFrame,
    y: np.ndarray,
    values: list[float],
    n_values: int,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    most_rows: int,
    limit: float | None,
) -> Plan:
    """Return the rounds of a search for features: with a limit, the best ones within it.

    Parameters
    ----------
    sets : list of (layers, pooling)
    X : pandas.DataFrame
        Its columns' names tell how many columns a set has.
    y : numpy.ndarray of shape (n_samples,) or (n_samples, n_labels)
    values : list of float
        Values of C to compare features with.
    n_values : int
        Number of values of a search for C alone.
    splits : list of (numpy.ndarray, numpy.ndarray)
    most_rows : int
        The most training rows of a comparison.
    limit : float or None
        As of `FeatureSearch`.
    """
    all_rows, folds = min(len(y[train]) for train, _ in splits), len(splits)
    few = max(SCREENING_ROWS, 10 * len(np.unique(y)))
    screened = min(most_rows, all_rows) > 2 * few and len(sets) > SCREENED_SETS
    screening = [Round(len(sets), values[::2], few, folds)] if screened else []
    rounds = [*screening, Round(SCREENED_SETS if screened else len(sets), values, most_rows, folds)]
    if limit is None:
        return Plan(sets, rounds)
    widths = {one: len(SelectVectors(*one).fit(X).columns_) for one in sets}
    n_models = y.shape[1] if y.ndim == 2 else len(np.unique(y))
    share = 1 if n_models == 2 and y.ndim == 1 else (3 + n_models) / 4
    plain = share * all_rows * min(widths.values()) * (n_values + START) * folds
    allowed = max(limit * plain, MINUTE)

    def work(sets: list[FeatureSet], rounds: list[Round]) -> float:
        widest = sorted((widths[one] for one in sets), reverse=True)
        compared = sum(
            sum(widest[: one.n_sets])
            * min(one.rows, all_rows)
            * (len(one.values) + START)
            * one.folds
            for one in rounds
        )
        return share * (compared + widest[0] * all_rows * (NEAR + START) * folds)

    if work(sets, rounds) <= allowed:
        return Plan(sets, rounds)
    note = f"layers and pooling were compared on {few:,} rows, to save time"
    rounds = [*screening, Round(SCREENED_SETS // 2, values[1::2], 2 * few, folds)]
    if screened and work(sets, rounds) <= allowed:
        return Plan(sets, rounds, note)
    rounds, left = [Round(len(sets), values[2::2] or values, few, min(2, folds))], sets
    while len(left) > 1 and work(left, rounds) > allowed:
        widest = max(widths[one] for one in left)
        narrower = [one for one in left if widths[one] < widest]
        left = narrower or left[-1:]
    if len(left) < len(sets):
        note += f"; {len(sets) - len(left)} of {len(sets)} choices, of many columns, were left out"
    return Plan(left, rounds, note)


def _is_all(asked: Any) -> bool:
    return isinstance(asked, str) and asked == "all"


def _chosen(name: str, asked: Any, known: tuple[T, ...]) -> tuple[T, ...]:
    if _is_all(asked):
        return known
    chosen = (asked,) if isinstance(asked, str) or not hasattr(asked, "__iter__") else tuple(asked)
    if not chosen or not set(chosen) <= set(known):
        raise InputError(f"'all', or some of {list(known)}.", parameter=name, value=asked)
    return chosen
