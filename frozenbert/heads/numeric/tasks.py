"""What is to be predicted: classes, numbers or grades; and checks of such targets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    mean_absolute_error,
    r2_score,
)
from sklearn.model_selection import KFold, check_cv

from ...errors import InputError
from ..folds import CV, MANY_ROWS, MANY_ROWS_FOLDS, Splits, Splitter, make_folds

__all__ = [
    "NUMBER_SCORES",
    "TASKS",
    "Score",
    "check_target",
    "find_task",
    "kappa_and_mae",
    "quadratic_kappa",
    "score_function",
    "spearman",
    "split_rows",
]

TASKS = ("auto", "classification", "regression", "ordinal")
MOST_CLASSES = 20  # distinct whole numbers that `task="auto"` takes for classes
MOST_GRADES = 50

Score: TypeAlias = Callable[[np.ndarray, np.ndarray], float]


def find_task(target: ArrayLike) -> str:
    """Return the task that suits a target: "classification" or "regression".

    Up to 20 distinct whole numbers are classes, and so is anything that is no number.

    Parameters
    ----------
    target : array-like of shape (n_samples,) or (n_samples, n_labels)

    Examples
    --------
    >>> find_task([1, 2, 5, 5]), find_task(["good", "bad"]), find_task([0.5, 2.25])
    ('classification', 'classification', 'regression')
    """
    values = np.asarray(target)
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        return "classification"
    distinct = np.unique(values)
    whole = values.dtype.kind != "f" or bool((distinct == np.floor(distinct)).all())
    return "classification" if whole and len(distinct) <= MOST_CLASSES else "regression"


def check_target(y: ArrayLike | None, task: str) -> np.ndarray:
    """Return a target as an array of numbers.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
    task : {"regression", "ordinal"}

    Returns
    -------
    numpy.ndarray of shape (n_samples,)
        Floats for a regression; grades as they are.

    Raises
    ------
    InputError
        If a value is no number, missing or infinite; if there is one distinct value; or more
        than 50 grades.

    Examples
    --------
    >>> check_target([1, 2, 4], "regression")
    array([1., 2., 4.])
    >>> check_target([0.5, float("inf")], "regression")
    Traceback (most recent call last):
    frozenbert.errors.InputError: y: row 1 (counted from 0) is inf: every target must be a ...
    """
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise InputError(
            f"has the shape {values.shape}, but a {task} predicts one number for each text.",
            parameter="y",
        )
    try:
        numbers = values.astype(float)
    except (TypeError, ValueError):
        raise InputError(
            f"contains values that are no numbers, which a {task} needs; for classes use "
            f"make_text_classifier.",
            parameter="y",
        ) from None
    if len(wrong := np.flatnonzero(~np.isfinite(numbers))):
        row = int(wrong[0])
        raise InputError(
            f"row {row} (counted from 0) is {numbers[row]}: every target must be a finite number.",
            parameter="y",
        )
    distinct = np.unique(numbers)
    if len(distinct) < 2:
        raise InputError(
            f"all {len(numbers):,} rows have the same target; there is nothing to learn.",
            parameter="y",
        )
    if task == "regression":
        return numbers
    if len(distinct) > MOST_GRADES:
        raise InputError(
            f"has {len(distinct):,} distinct values; grades are at most {MOST_GRADES}. Predict "
            f"such numbers by a regression.",
            parameter="y",
        )
    return numbers.astype(np.int64) if (distinct == np.floor(distinct)).all() else numbers


def spearman(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Return Spearman's rank correlation; 0.0 if one of the two is constant.

    Examples
    --------
    >>> round(spearman(np.array([1, 2, 3]), np.array([1, 4, 9])), 6)
    1.0
    """
    from scipy.stats import spearmanr  # takes a while to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant input
        found = float(spearmanr(y_true, y_pred).statistic)
    return found if np.isfinite(found) else 0.0


def quadratic_kappa(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Return Cohen's kappa with quadratic weights; 0.0 if one of the two is constant.

    The weights are squared differences of the places of two grades in their order.

    Examples
    --------
    >>> quadratic_kappa(np.array([1, 2, 3]), np.array([1, 2, 3]))
    1.0
    """
    _, codes = np.unique(np.concatenate([y_true, y_pred]), return_inverse=True)
    n = len(y_true)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a division by zero, if all rows have one grade
        found = float(cohen_kappa_score(codes[:n], codes[n:], weights="quadratic"))
    return found if np.isfinite(found) else 0.0


def kappa_and_mae(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Return the mean of quadratic kappa and of the share of the absolute error that is saved.

    The error is compared with that of always answering the median grade. Kappa alone rewards
    extreme answers, the error alone cautious ones.

    Examples
    --------
    >>> kappa_and_mae(np.array([1, 2, 3]), np.array([1, 2, 3]))
    1.0
    """
    constant = float(np.abs(y_true - np.median(y_true)).mean())
    saved = 1 - float(np.abs(y_true - y_pred).mean()) / constant if constant else 0.0
    return (quadratic_kappa(y_true, y_pred) + saved) / 2


def _negative_error(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    return -float(mean_absolute_error(y_true, y_pred))


# What `scoring` may name; a higher score is better.
NUMBER_SCORES: dict[str, dict[str, Score]] = {
    "regression": {
        "r2": lambda true, pred: float(r2_score(true, pred)),
        "mae": _negative_error,
        "spearman": spearman,
    },
    "ordinal": {
        "kappa_and_mae": kappa_and_mae,
        "quadratic_kappa": quadratic_kappa,
        "mae": _negative_error,
        "accuracy": lambda true, pred: float(accuracy_score(true, pred)),
    },
}


def score_function(task: str, scoring: str | None) -> tuple[str, Score]:
    """Return the name of the score that decides, and the function.

    Parameters
    ----------
    task : {"regression", "ordinal"}
    scoring : str or None
        "auto" and None are R², or of grades `kappa_and_mae`.

    Raises
    ------
    InputError
        If there is no such score.
    """
    known = NUMBER_SCORES[task]
    name = next(iter(known)) if scoring in (None, "auto") else scoring
    if name not in known:
        raise InputError(f"one of {', '.join(known)}.", parameter="scoring", value=scoring)
    assert name is not None
    return name, known[name]


def split_rows(
    cv: CV | None, y: np.ndarray, groups: ArrayLike | None = None, random_state: int | None = 0
) -> Splits:
    """Return the splits of a target of numbers, whose test parts hold each row once.

    Parameters
    ----------
    cv : int, "auto", splitter, iterable of splits or None
        A number makes that many shuffled folds. "auto" makes 5, and 3 of more than 20,000
        rows.
    y : numpy.ndarray of shape (n_samples,)
    groups : array-like of shape (n_samples,), optional
    random_state : int or None, default=0

    Raises
    ------
    InputError
        If there are fewer rows than folds.
    """
    made = make_folds(cv, random_state)
    if not isinstance(made, Splitter):
        return made
    # What a number makes is stratified by class.
    if cv is None or isinstance(cv, int | np.integer | str):
        n_folds = made.get_n_splits()
        if isinstance(cv, str) and len(y) > MANY_ROWS:
            n_folds = MANY_ROWS_FOLDS
        if len(y) < 2 * n_folds:
            raise InputError(
                f"{len(y)} training rows are too few for {n_folds} folds: add rows, or use fewer "
                f"folds.",
                parameter="cv",
                value=cv,
            )
        made = KFold(n_folds, shuffle=True, random_state=random_state)
    splitter = check_cv(made, y, classifier=False)
    rows: Iterable[tuple[np.ndarray, np.ndarray]] = splitter.split(
        np.zeros((len(y), 1)), y, *(() if groups is None else (groups,))
    )
    return list(rows)
