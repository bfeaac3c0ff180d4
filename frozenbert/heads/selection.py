"""Pick layers and poolings among the columns of a vectorizer that computed several."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..errors import InputError

__all__ = ["SelectVectors", "feature_sets", "layout"]

# As the vectorizer names them; a FeatureUnion puts the name of its part before.
_NAME = re.compile(r"(?:.*__)?layer(\d+)_(cls|mean|max)_\d+")


class SelectVectors(TransformerMixin, BaseEstimator):
    """Keep the columns of some layers and poolings, and all that are none of an encoder's.

    As a step of a Pipeline it makes layers and pooling a choice that a grid search can
    take, while each text goes through the encoder once.

    Parameters
    ----------
    layers : "all", int or sequence of int, default="all"
        Layers to keep, by their index into `hidden_states`.
    pooling : "all", str or sequence of str, default="all"
        Poolings to keep.

    Attributes
    ----------
    columns_ : numpy.ndarray of int
        The columns kept.
    n_features_in_ : int
    feature_names_in_ : numpy.ndarray of object

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

    def fit(self, X: Any, y: Any = None) -> SelectVectors:
        """Find the columns by their names.

        Parameters
        ----------
        X : pandas.DataFrame of shape (n_samples, n_features)
            With columns such as `layer6_mean_0`: what a `DistilBertVectorizer` returns
            after `set_output(transform="pandas")`.
        y : ignored

        Returns
        -------
        SelectVectors
            Itself.

        Raises
        ------
        InputError
            If `X` has no names, none of an encoder's, or not what is to be kept.
        """
        names = getattr(X, "columns", None)
        if names is None:
            raise InputError(
                f"X is a {type(X).__name__}, whose columns have no names: SelectVectors knows "
                f"them by their names, so call set_output(transform='pandas') on the steps before."
            )
        self.feature_names_in_ = np.asarray(names, dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)
        found = [_NAME.fullmatch(str(name)) for name in self.feature_names_in_]
        there = layout(self.feature_names_in_)
        if not there[0]:
            raise InputError("X has no columns of an encoder, such as 'layer6_mean_0'.")
        layers = _chosen("layers", self.layers, there[0])
        pooling = _chosen("pooling", self.pooling, there[1])
        self.columns_ = np.array(
            [
                i
                for i, match in enumerate(found)
                if match is None or (int(match[1]) in layers and match[2] in pooling)
            ]
        )
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the columns kept.

        Parameters
        ----------
        X : pandas.DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        numpy.ndarray of shape (n_samples, n_columns)
        """
        check_is_fitted(self)
        values = np.asarray(X)
        if values.shape[1] != self.n_features_in_:
            raise InputError(
                f"X has {values.shape[1]} columns, but SelectVectors was fitted on "
                f"{self.n_features_in_}."
            )
        return values[:, self.columns_]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns kept.

        Parameters
        ----------
        input_features : ignored
        """
        check_is_fitted(self)
        return self.feature_names_in_[self.columns_]


def layout(names: Iterable[Any]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the layers and the poolings that stand among columns, in their order.

    Examples
    --------
    >>> layout(["layer5_cls_0", "layer5_mean_0", "layer6_cls_0", "layer6_mean_0", "words__1"])
    ((5, 6), ('cls', 'mean'))
    """
    found = [match for name in names if (match := _NAME.fullmatch(str(name)))]
    layers = dict.fromkeys(int(match[1]) for match in found)
    return tuple(layers), tuple(dict.fromkeys(match[2] for match in found))


def feature_sets(
    layers: Sequence[int], pooling: Sequence[str]
) -> list[tuple[tuple[int, ...], tuple[str, ...]]]:
    """Return what a search tries: each layer, the upper half and all; each pooling, and all.

    Examples
    --------
    >>> feature_sets((1, 2), ("mean",))
    [((1,), ('mean',)), ((2,), ('mean',)), ((1, 2), ('mean',))]
    """
    upper = tuple(layers[len(layers) // 2 :])
    of_layers = dict.fromkeys([*((layer,) for layer in layers), upper, tuple(layers)])
    of_pooling = dict.fromkeys([*((how,) for how in pooling), tuple(pooling)])
    return list(itertools.product(of_layers, of_pooling))


def _chosen(name: str, asked: Any, there: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(asked, str) and asked == "all":
        return there
    chosen = (asked,) if isinstance(asked, str) or not hasattr(asked, "__iter__") else tuple(asked)
    if not chosen or not set(chosen) <= set(there):
        raise InputError(f"{name}={asked!r}: 'all', or some of those that X has: {list(there)}.")
    return chosen
