"""Scores of predicted numbers and grades, their intervals, and rows with large errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

import numpy as np
from scipy.stats import bootstrap, rankdata

from ..schema import Added, Agreement, DataSummary, Interval

__all__ = [
    "NUMBER_TITLES",
    "NumberBaseline",
    "NumberExample",
    "NumberLadder",
    "NumberMetrics",
    "NumberOutcome",
    "NumberSearch",
    "largest_errors",
    "number_intervals",
    "score_numbers",
]

RESAMPLES = 1000
EXAMPLES = 20

# In the order of tables; MAE is the only one of which less is better.
NUMBER_TITLES = {
    "quadratic_kappa": "quadratic kappa",
    "r2": "R²",
    "mae": "MAE",
    "spearman": "Spearman",
}


class NumberScore(TypedDict):
    """Scores of predicted numbers; `quadratic_kappa` only of grades."""

    r2: float
    mae: float
    spearman: float
    quadratic_kappa: NotRequired[float]


class NumberBaseline(NumberScore):
    """The score of a regression on words on the same rows."""

    name: str
    intervals: dict[str, Interval]


class NumberLadder(TypedDict):
    """The out-of-fold score of one part that was compared."""

    step: str
    score: float
    kept: bool
    note: NotRequired[str]


class NumberSearch(TypedDict):
    """The search by cross-validation: what was tried, and what was best."""

    scoring: str
    folds: int
    best_alpha: float
    best_score: float
    best_score_std: float
    alpha: list[float]
    mean_score: list[float]
    std_score: list[float]
    best_layers: NotRequired[list[int]]
    best_pooling: NotRequired[list[str]]
    features: NotRequired[list[dict[str, object]]]  # layers, pooling, alpha, score
    ladder: list[NumberLadder]
    chosen: str


class NumberMetrics(NumberScore):
    """The content of `metrics.json` of a model of numbers or grades."""

    task: str
    n_train: int
    n_test: int
    n_truncated: int
    unread: float
    intervals: dict[str, Interval]
    baseline: NumberBaseline
    search: NumberSearch
    data: DataSummary
    agreement: NotRequired[Agreement]
    added: NotRequired[Added]


class NumberExample(TypedDict):
    """A text with its number, another prediction, and the difference of the two."""

    text: str
    label: float
    predicted: float
    error: float
    number: NotRequired[int]


@dataclass
class NumberOutcome:
    """A model's predictions for the test rows.

    Attributes
    ----------
    y_true, y_pred : numpy.ndarray of shape (n_test,)
    grades : list of float
        The grades in their order; empty for a regression.
    mistakes, doubtful : list of dict
        Test texts with the largest errors, and training texts far from what other rows predict.
    """

    y_true: np.ndarray
    y_pred: np.ndarray
    grades: list[float]
    mistakes: list[NumberExample] = field(default_factory=list)
    doubtful: list[NumberExample] = field(default_factory=list)


def score_numbers(
    y_true: np.ndarray, y_pred: np.ndarray, grades: Sequence[float] = ()
) -> NumberScore:
    """Return R², mean absolute error and Spearman's correlation; of grades also kappa.

    Parameters
    ----------
    y_true, y_pred : numpy.ndarray of shape (n_samples,)
    grades : sequence of float, optional
        All grades, in their order.

    Examples
    --------
    >>> scores = score_numbers(np.array([1.0, 2, 3]), np.array([1.0, 2, 4]))
    >>> scores["r2"], round(scores["mae"], 3), round(scores["spearman"], 3)
    (0.5, 0.333, 1.0)
    """
    true, predicted = np.asarray(y_true, dtype=float), np.asarray(y_pred, dtype=float)
    scores: NumberScore = {
        "r2": _r2(true, predicted),
        "mae": float(np.abs(true - predicted).mean()),
        "spearman": _correlation(rankdata(true), rankdata(predicted)),
    }
    if len(grades):
        scores["quadratic_kappa"] = _kappa(_codes(true, grades), _codes(predicted, grades))
    return scores


def _codes(values: np.ndarray, grades: Sequence[float]) -> np.ndarray:
    return np.searchsorted(np.asarray(grades, dtype=float), values)


def _r2(true: np.ndarray, predicted: np.ndarray) -> float:
    total = float(((true - true.mean()) ** 2).sum())
    return 1 - float(((true - predicted) ** 2).sum()) / total if total else 0.0


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    divisor = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / divisor if divisor else 0.0


def _kappa(true: np.ndarray, predicted: np.ndarray) -> float:
    """Return Cohen's kappa with quadratic weights."""
    observed = float(((true - predicted) ** 2).mean())
    chance = true.var() + predicted.var() + (true.mean() - predicted.mean()) ** 2
    return 1 - observed / float(chance) if chance else 0.0


def number_intervals(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    baseline: np.ndarray | None = None,
    grades: Sequence[float] = (),
) -> dict[str, Interval]:
    """Return 95 % confidence intervals from resampled test rows (percentile bootstrap).

    Parameters
    ----------
    y_true, y_pred : numpy.ndarray of shape (n_samples,)
    baseline : numpy.ndarray of the same shape, optional
        Another model's predictions for the same rows.
    grades : sequence of float, optional
        As for `score_numbers`.

    Returns
    -------
    dict
        Lower and upper end of each score and, with a baseline, of its difference to that of
        the baseline, such as `r2_above_baseline`. (A better model has a lower `mae`.)
    """
    true = np.asarray(y_true, dtype=float)
    several = [np.asarray(one, dtype=float) for one in (y_pred, baseline) if one is not None]
    if len(true) < 2:
        return {}
    names = list(score_numbers(true, several[0], grades))

    def statistic(rows: np.ndarray) -> np.ndarray:
        scores = np.array(
            [list(score_numbers(true[rows], one[rows], grades).values()) for one in several],
            dtype=float,
        )
        return np.concatenate([scores[0], *(scores[:1] - scores[1:])])

    interval = bootstrap(
        (np.arange(len(true)),),
        statistic,
        n_resamples=RESAMPLES,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    if baseline is not None:
        names += [f"{name}_above_baseline" for name in names]
    return {
        name: [float(low), float(high)]
        for name, low, high in zip(names, interval.low, interval.high, strict=True)
    }


def largest_errors(
    texts: Sequence[str],
    y_true: np.ndarray,
    y_pred: np.ndarray,
    most: int = EXAMPLES,
    numbers: Sequence[int] | None = None,
) -> list[NumberExample]:
    """Return the rows with the largest differences, the largest first.

    Parameters
    ----------
    texts : sequence of str
    y_true, y_pred : numpy.ndarray of shape (n_texts,)
    most : int, default=20
    numbers : sequence of int, optional
        Where each text is: its line, or its number in the table.

    Returns
    -------
    list of dict
        `number` (if known), `text`, `label` (the true value), `predicted`, and `error`, the
        difference of the two.

    Examples
    --------
    >>> largest_errors(["a", "b"], np.array([1.0, 2.0]), np.array([1.0, 4.0]), most=1)
    [{'text': 'b', 'label': 2.0, 'predicted': 4.0, 'error': 2.0}]
    """
    differences = np.asarray(y_pred, dtype=float) - np.asarray(y_true, dtype=float)
    order = np.argsort(-np.abs(differences), kind="stable")[:most]
    rows = [row for row in order.tolist() if differences[row]]
    examples: list[NumberExample] = [
        {
            "text": texts[row],
            "label": float(y_true[row]),
            "predicted": float(y_pred[row]),
            "error": float(differences[row]),
        }
        for row in rows
    ]
    if numbers is not None:
        for example, row in zip(examples, rows, strict=True):
            example["number"] = numbers[row]
    return examples
