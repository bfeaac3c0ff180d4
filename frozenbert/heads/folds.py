"""Folds for cross-validation: stratified for many labels too, their checks, fits along them."""

from __future__ import annotations

import contextlib
import copy
import numbers
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypedDict, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, StratifiedKFold, check_cv
from threadpoolctl import threadpool_info

from ..errors import InputError, RareClassWarning
from ..utils.console import callers_level

__all__ = [
    "CV",
    "AutoFolds",
    "FoldPath",
    "Folds",
    "Splits",
    "Splitter",
    "check_partition",
    "cv_splits",
    "fit_path",
    "fixed_folds",
    "fold_threads",
    "limit_train_rows",
    "make_folds",
    "quiet_constant_labels",
    "strata",
    "warn_many_classes",
]


@runtime_checkable
class Splitter(Protocol):
    """A cross-validation splitter, as scikit-learn's."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Any]:
        """Yield training and test rows."""

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits."""


MANY_ROWS = 20_000  # above, `AutoFolds` makes fewer folds: each trains on enough rows
MANY_ROWS_FOLDS = 3
SMALL_COPIES = 128 * 2**20  # bytes of folds' copies that need no limit

Splits: TypeAlias = list[tuple[np.ndarray, np.ndarray]]
CV: TypeAlias = int | str | Splitter | Iterable[tuple[ArrayLike, ArrayLike]]


class Folds(StratifiedKFold):
    """Stratified folds for classes, and for rows with many labels.

    Parameters
    ----------
    n_splits, shuffle, random_state
        As in scikit-learn's `StratifiedKFold`.

    Examples
    --------
    >>> y = np.array([[1, 0]] * 10 + [[0, 1]] * 10)
    >>> [y[test].sum(axis=0).tolist() for train, test in Folds(2).split(y, y)]
    [[5, 5], [5, 5]]
    """

    def __init__(
        self, n_splits: int = 5, *, shuffle: bool = False, random_state: int | None = None
    ) -> None:
        super().__init__(n_splits, shuffle=shuffle, random_state=random_state)

    def split(
        self, X: Any, y: ArrayLike, groups: ArrayLike | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield training and test rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Only its length could matter, and that of `y` is the same.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Classes, or a column of 0 and 1 for each label.
        groups : ignored

        Yields
        ------
        train, test : numpy.ndarray of int
            Row numbers.
        """
        classes = strata(y, self.n_splits)
        with warnings.catch_warnings():
            if np.ndim(y) == 2:  # the strata of many labels may be small; no user chose them
                warnings.filterwarnings(
                    "ignore", category=UserWarning, module=r"sklearn\.model_selection\._split"
                )
            parts = list(super().split(np.zeros(len(classes)), classes))
        yield from parts


class AutoFolds(Folds):
    """As many stratified folds as the rarest class has rows, within a limit.

    Parameters
    ----------
    n_splits : int, default=5
        The limit. With more than 20,000 rows it is 3.
    shuffle, random_state
        As in scikit-learn's `StratifiedKFold`.

    Examples
    --------
    >>> AutoFolds().for_rows(["a"] * 10 + ["b"] * 10).n_splits
    5
    >>> AutoFolds().get_n_splits(None, ["a"] * 10 + ["b"] * 2)
    2
    """

    def for_rows(self, y: ArrayLike) -> Folds:
        """Return the folds for these labels.

        Parameters
        ----------
        y : array-like of shape (n_samples,) or (n_samples, n_labels)

        Raises
        ------
        InputError
            If a class has only one row; or, of many labels, none has two rows with it and
            two without it.
        """
        labels = np.asarray(y)
        most = min(self.n_splits, MANY_ROWS_FOLDS) if len(labels) > MANY_ROWS else self.n_splits
        if labels.ndim == 2:
            with_it = (labels > 0).sum(axis=0)
            least = int(np.minimum(with_it, len(labels) - with_it).max(initial=0))
            if least < 2:
                raise InputError(
                    "no label has two training rows with it and two without it, one for each of "
                    "two folds: add rows."
                )
        else:
            classes, counts = np.unique(labels, return_counts=True)
            least = int(counts.min())
            if least < 2:
                raise InputError(
                    f"the class {str(classes[counts.argmin()])[:40]!r} has one training row, and "
                    f"two are needed, one for each of two folds: add rows, or drop the class."
                )
        folds = min(most, least)
        return Folds(folds, shuffle=self.shuffle, random_state=self.random_state)

    def split(
        self, X: Any, y: ArrayLike, groups: ArrayLike | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield training and test rows, as `Folds` does."""
        yield from self.for_rows(y).split(X, y, groups)

    def get_n_splits(
        self, X: object = None, y: ArrayLike | None = None, groups: object = None
    ) -> int:
        """Return the number of folds for these labels, or without labels the limit."""
        return int(self.n_splits if y is None else self.for_rows(y).n_splits)


def strata(y: ArrayLike, n_splits: int = 1) -> np.ndarray:
    """Return one class for each row: with many labels, the rarest label of the row.

    Labels with fewer rows than splits share one class, -2, because they cannot be in every
    fold. Rows without a label have the class -1.

    Examples
    --------
    >>> strata(np.array([[1, 0], [1, 1], [1, 0], [0, 0]])).tolist()
    [0, 1, 0, -1]
    """
    y = np.asarray(y)
    if y.ndim == 1:
        return y
    counts = np.where(y > 0, (y > 0).sum(axis=0), len(y) + 1)
    rarest = np.where((y > 0).any(axis=1), counts.argmin(axis=1), -1)
    classes, rows = np.unique(rarest, return_counts=True)
    return np.where(np.isin(rarest, classes[rows < n_splits]), -2, rarest)


def make_folds(cv: CV | None, random_state: int | None = 0) -> Splitter | Splits:
    """Return a splitter, or a list of splits, that can be used several times.

    Parameters
    ----------
    cv : int, splitter, iterable of splits or None
        As scikit-learn's `cv`. A number makes that many stratified, shuffled `Folds`; None
        makes 5; "auto" makes `AutoFolds`: 5, fewer if a class has fewer rows, and 3 of more
        than 20,000 rows.
    random_state : int or None, default=0
        Shuffles the folds that a number makes.

    Returns
    -------
    splitter or list of (numpy.ndarray, numpy.ndarray)

    Raises
    ------
    InputError
        If `cv` is a number under 2, or none of these.

    Examples
    --------
    >>> make_folds(3)
    Folds(n_splits=3, random_state=0, shuffle=True)
    """
    cv = 5 if cv is None else cv
    if isinstance(cv, str) and cv == "auto":
        return AutoFolds(shuffle=True, random_state=random_state)
    if isinstance(cv, numbers.Integral) and not isinstance(cv, bool):
        if cv < 2:
            raise InputError("at least 2 folds.", parameter="cv", value=cv)
        return Folds(int(cv), shuffle=True, random_state=random_state)
    if isinstance(cv, Splitter):
        return cv
    try:
        splits = [(np.asarray(train), np.asarray(test)) for train, test in cv]  # type: ignore[union-attr, str-unpack]
    except (TypeError, ValueError):
        splits = []
    if not splits:
        raise InputError(
            "a number of folds, a splitter of scikit-learn, or an iterable of pairs of training "
            "and test rows.",
            parameter="cv",
            value=cv,
        )
    return splits


def cv_splits(cv: CV, X: Any, y: ArrayLike, groups: ArrayLike | None = None) -> Splits:
    """Return the training and test rows of each split.

    Parameters
    ----------
    cv : int, splitter or iterable of splits
    X, y : array-like
    groups : array-like of shape (n_samples,), optional
        For splitters such as `GroupKFold`.
    """
    splitter = check_cv(cv, y, classifier=True)
    if groups is None:
        return list(splitter.split(X, y))
    return list(splitter.split(X, y, groups))


def check_partition(splits: Splits, n_rows: int, cv: CV) -> None:
    """Raise `InputError` unless each row is in exactly one test part.

    Parameters
    ----------
    splits : list of (numpy.ndarray, numpy.ndarray)
    n_rows : int
    cv : splitter or iterable
        Where the splits are from, for the message.
    """
    counts = np.zeros(n_rows, dtype=np.intp)
    for _, test in splits:
        rows = np.flatnonzero(test) if np.asarray(test).dtype == bool else test
        np.add.at(counts, rows, 1)
    if (counts == 1).all():
        return
    raise InputError(
        f"of {n_rows} rows, {(counts == 0).sum()} are in no test part and {(counts > 1).sum()} in "
        f"several. Predictions out of fold need each row in exactly one: use KFold, "
        f"StratifiedKFold or GroupKFold, or a number of folds.",
        parameter="cv",
        value=cv if isinstance(cv, Splitter) else f"{len(splits)} splits",
    )


def fixed_folds(splits: Splits, n_rows: int) -> PredefinedSplit:
    """Return a splitter with the test parts of a partition.

    It holds one number for each row, so that it can be saved with a model.
    """
    folds = np.empty(n_rows, dtype=np.intp)
    for number, (_, test) in enumerate(splits):
        folds[test] = number
    return PredefinedSplit(folds)


def limit_train_rows(
    splits: Splits, y: ArrayLike, train_rows: int, random_state: int | None = 0
) -> Splits:
    """Return splits whose training parts are samples with the same shares of the classes.

    Parameters
    ----------
    splits : list of (numpy.ndarray, numpy.ndarray)
        From any splitter.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
    train_rows : int
        Size of a sample, but for rounding: each class keeps at least one row.
    random_state : int or None, default=0

    Examples
    --------
    >>> y = np.array([0] * 10 + [1] * 10)
    >>> splits = cv_splits(2, y, y)
    >>> [len(train) for train, test in limit_train_rows(splits, y, 4)]
    [4, 4]
    """
    classes = strata(y, len(splits))
    return [(_sample(train, classes, train_rows, random_state), test) for train, test in splits]


def _sample(
    rows: np.ndarray, classes: np.ndarray, n_rows: int, random_state: int | None
) -> np.ndarray:
    if len(rows) <= n_rows:
        return rows
    share = n_rows / len(rows)
    rng = np.random.default_rng(random_state)
    drawn = []
    for label in np.unique(classes[rows]):
        of_label = rows[classes[rows] == label]
        drawn.append(rng.permutation(of_label)[: max(1, round(share * len(of_label)))])
    return np.sort(np.concatenate(drawn))


@contextlib.contextmanager
def warn_many_classes(y: np.ndarray, n_splits: int, *, warn: bool = True) -> Iterator[None]:
    """Replace scikit-learn's hint about many classes, given at each fit, by a single one.

    scikit-learn suspects a regression problem where more than half of the rows have a class
    of their own. A part of a split may be so small even if all rows together are not.

    Parameters
    ----------
    y : numpy.ndarray of shape (n_samples,) or (n_samples, n_labels)
    n_splits : int
    warn : bool, default=True
        Whether to emit a `RareClassWarning` in its place.
    """
    n_classes = len(np.unique(y)) if y.ndim == 1 else 0
    with warnings.catch_warnings():
        if n_classes > len(y) / n_splits / 2:  # in a test part, the smallest
            # It has no class of its own. The splitter's warning about rare classes stays.
            warnings.filterwarnings(
                "ignore", category=UserWarning, module=r"sklearn\.(?!model_selection\._split)"
            )
        yield
    if warn and n_classes > len(y) * (1 - 1 / n_splits) / 2:  # in a training part
        warnings.warn(
            f"{n_classes} classes have {len(y)} rows together: too few to compare settings by "
            f"cross-validation. Are these classes, and not numbers or names?",
            RareClassWarning,
            stacklevel=callers_level(),
        )


@contextlib.contextmanager
def quiet_constant_labels() -> Iterator[None]:
    """Silence `OneVsRestClassifier` where a label is the same in all rows of a fold.

    `MultiLabelClassifier` warns of such a label once, after the search.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"sklearn\.multiclass")
        yield


def fold_threads(X: Any, splits: Splits) -> int:
    """Return how many folds to fit at once, each in one thread of BLAS.

    That is as many as BLAS has threads, or 1 where the folds' copies would take more memory
    than `X`.
    """
    threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
    size = X.nbytes if isinstance(X, np.ndarray) else X.data.nbytes
    n_rows = max(len(train) if train.dtype != bool else train.sum() for train, _ in splits)
    copies = min(threads, len(splits)) * size * n_rows / max(1, X.shape[0])
    return min(threads, len(splits)) if copies <= max(size, SMALL_COPIES) else 1


class FoldPath(TypedDict):
    """What the fits of all values of C on one fold gave, in the order of the values."""

    test: np.ndarray
    scores: list[float]
    decisions: list[np.ndarray]
    fit_time: list[float]
    score_time: list[float]


def fit_path(
    estimator: LogisticRegression,
    X: Any,
    y: np.ndarray,
    split: tuple[np.ndarray, np.ndarray],
    values: Sequence[float],
    scorer: Callable[..., float],
    on_fit: Callable[[], object] | None = None,
) -> FoldPath:
    """Fit the values of C on one fold, from the smallest; score each on the rows held out.

    After each fit `on_fit` is called.
    """
    train, test = (np.flatnonzero(rows) if rows.dtype == bool else rows for rows in split)
    n = len(values)
    path: FoldPath = {
        "test": test,
        "scores": [0.0] * n,
        "decisions": [np.empty(0)] * n,
        "fit_time": [0.0] * n,
        "score_time": [0.0] * n,
    }
    model = clone(estimator).set_params(warm_start=True)
    rows, labels = X[train], y[train]
    models = {}
    for place in np.argsort(values):
        start = time.perf_counter()
        model.set_params(C=values[place]).fit(rows, labels)
        path["fit_time"][place] = time.perf_counter() - start
        models[place] = copy.copy(model)  # a fit replaces the coefficients, not their values
        if on_fit is not None:
            on_fit()
    del rows  # one copy of columns at a time
    rows, labels = X[test], y[test]
    for place, model in models.items():
        start = time.perf_counter()
        path["scores"][place] = scorer(model, rows, labels)
        path["score_time"][place] = time.perf_counter() - start
        path["decisions"][place] = model.decision_function(rows)
    return path
