"""Experts: heads for few labels that differ in what they see, and their mean."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from ..errors import InputError
from ..heads.folds import Folds
from ..heads.selection import SelectVectors, layout

__all__ = ["Experts", "bootstrap", "views"]

# With a hundred rows the score is flat between neighbours of a finer grid.
C_VALUES = tuple(float(c) for c in np.logspace(-5, 1, 10))


class Experts(ClassifierMixin, BaseEstimator):
    """Logistic regressions on different layers, poolings and rows; the mean of their chances.

    Each expert sees a bootstrap sample of the rows and one of several sets of columns: the
    last layer, the one below, both, or the upper half; of the poolings, the last or all.
    Its strength C is chosen by cross-validation within its own rows.

    Parameters
    ----------
    n_experts : int, default=8
    bootstrap : bool, default=True
        Whether an expert sees a sample of the rows, or all.
    cv : int, default=5
        Folds for the choice of C; fewer where a class has fewer rows.
    random_state : int, default=0
        Draws the samples and shuffles the folds.
    n_jobs : int or None, default=None
        Processes, as in scikit-learn.

    Attributes
    ----------
    experts_ : list of sklearn.pipeline.Pipeline
        `select`, `scale` and `classify`.
    classes_ : numpy.ndarray of shape (n_classes,)

    Examples
    --------
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> y = np.array(["a", "b"] * 20)
    >>> names = ["layer1_mean_0", "layer2_mean_0"]
    >>> X = pd.DataFrame(rng.normal(size=(40, 2)) + (y == "b")[:, None], columns=names)
    >>> Experts(n_experts=3).fit(X, y).predict_proba(X).shape
    (40, 2)
    """

    def __init__(
        self,
        n_experts: int = 8,
        *,
        bootstrap: bool = True,
        cv: int = 5,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.n_experts = n_experts
        self.bootstrap = bootstrap
        self.cv = cv
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any) -> Experts:
        """Train each expert.

        Parameters
        ----------
        X : pandas.DataFrame of shape (n_samples, n_features)
            With columns such as `layer6_mean_0`.
        y : array-like of shape (n_samples,)

        Returns
        -------
        Experts
            Itself.

        Raises
        ------
        InputError
            If a class has fewer than two rows, or there is only one.
        """
        if self.n_experts < 1:
            raise InputError(f"n_experts={self.n_experts!r}: at least 1.")
        y = np.asarray(y)
        self.classes_, counts = np.unique(y, return_counts=True)
        if len(counts) < 2 or counts.min() < 2:
            rare = str(self.classes_[counts.argmin()])
            raise InputError(
                f"y: experts need two classes with two rows each, and the class {rare!r} has "
                f"{counts.min()} of {len(y)}."
            )
        sets = views(*layout(X.columns))
        chosen = itertools.islice(itertools.cycle(sets), self.n_experts)
        self.experts_ = Parallel(n_jobs=self.n_jobs)(
            delayed(self._fit_one)(X, y, view, self.random_state + number)
            for number, view in enumerate(chosen)
        )
        return self

    def _fit_one(
        self, X: Any, y: np.ndarray, view: tuple[tuple[int, ...], tuple[str, ...]], seed: int
    ) -> Pipeline:
        weights = np.ones(len(y))
        if self.bootstrap:
            weights = bootstrap(y, np.random.default_rng(seed))
        rows = np.flatnonzero(weights)
        steps: list[tuple[str, Any]] = [
            ("select", SelectVectors(*view)),
            ("scale", StandardScaler()),
        ]
        seen = X.iloc[rows]
        for place, (name, step) in enumerate(steps):
            steps[place] = (name, step.fit(seen))
            seen = step.transform(seen)
        folds = min(self.cv, int(np.unique(y[rows], return_counts=True)[1].min()))
        estimator = LogisticRegression(solver="newton-cg", tol=1e-3, max_iter=1000)
        search = GridSearchCV(
            estimator,
            {"C": C_VALUES},
            cv=Folds(folds, shuffle=True, random_state=seed),
            scoring="neg_log_loss",
        )
        with warnings.catch_warnings():
            # Where C is large, a few rows are told apart without an error, and no end is found.
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", message="(?i).*line search")
            # A row that was drawn several times is one row, or folds would share it.
            search.fit(seen, y[rows], sample_weight=weights[rows])
        return Pipeline([*steps, ("classify", search.best_estimator_)])

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the mean of the experts' probabilities, shape (n_samples, n_classes)."""
        check_is_fitted(self)
        return np.mean([expert.predict_proba(X) for expert in self.experts_], axis=0)

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class of each row, shape (n_samples,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def views(
    layers: tuple[int, ...], pooling: tuple[str, ...]
) -> list[tuple[tuple[int, ...], tuple[str, ...]]]:
    """Return the sets of columns that experts see, the first one the plainest.

    Examples
    --------
    >>> views((1, 2, 3, 4, 5, 6), ("cls", "mean"))[:3]
    [((6,), ('mean',)), ((4, 5, 6), ('mean',)), ((5,), ('mean',))]
    """
    layers = tuple(x for x in layers if 2 * x > max(layers)) or layers  # the upper half
    of_layers = dict.fromkeys([layers[-1:], layers, layers[-2:-1] or layers, layers[-2:]])
    of_pooling = dict.fromkeys([pooling[-1:], pooling])
    return [(some, how) for how in of_pooling for some in of_layers]


def bootstrap(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return how often each row is drawn, of each class as many as it has.

    Parameters
    ----------
    y : numpy.ndarray of shape (n_samples,)
        With two rows of each class at least; two different ones are drawn at least.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of float, shape (n_samples,)
    """
    weights = np.zeros(len(y))
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        drawn = rng.choice(rows, len(rows))
        while len(set(drawn.tolist())) < 2:
            drawn = rng.choice(rows, len(rows))
        np.add.at(weights, drawn, 1)
    return weights
