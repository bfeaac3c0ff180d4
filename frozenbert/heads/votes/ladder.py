"""The ladder: what each part of a classifier adds, by out-of-fold scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NotRequired, TypedDict

import numpy as np
from sklearn.metrics import log_loss

from ..folds import Splits
from .decisions import DecisionClassifier, log_odds

__all__ = ["Ladder", "LadderStep", "describe_ladder"]


class LadderStep(TypedDict):
    """A part of a classifier, and the classifier's out-of-fold score with it."""

    step: str
    score: float | None  # None: left out
    log_loss: float | None
    kept: bool
    seconds: NotRequired[float]
    note: NotRequired[str]


class Ladder:
    """Out-of-fold scores of the parts that were compared, in the order of the comparison.

    Parameters
    ----------
    y : numpy.ndarray of shape (n_samples,) or (n_samples, n_labels)
    splits : list of (numpy.ndarray, numpy.ndarray)
        Their test parts are a partition of the rows.
    scorer : callable
        As scikit-learn's.

    Attributes
    ----------
    steps : list of LadderStep

    Examples
    --------
    >>> from sklearn.metrics import get_scorer
    >>> from frozenbert.heads.folds import cv_splits
    >>> y = np.array([0, 1] * 4)
    >>> ladder = Ladder(y, cv_splits(2, y, y), get_scorer("accuracy"))
    >>> ladder.add("words", np.column_stack([1 - y, y]) * 0.8 + 0.1)["score"]
    1.0
    """

    def __init__(self, y: np.ndarray, splits: Splits, scorer: Callable[..., float]) -> None:
        self.y = y
        self.splits = splits
        self.scorer = scorer
        self.steps: list[LadderStep] = []
        self._classifier = DecisionClassifier().fit(y, y)
        self._last = time.perf_counter()

    def add(self, step: str, probabilities: np.ndarray, *, kept: bool = False) -> LadderStep:
        """Score out-of-fold probabilities; append and return the step.

        Parameters
        ----------
        step : str
        probabilities : numpy.ndarray of shape (n_samples, n_classes)
        kept : bool, default=False
        """
        many = self.y.ndim == 2
        decisions = log_odds(probabilities, many=many)
        scores = [
            self.scorer(self._classifier, decisions[test], self.y[test]) for _, test in self.splits
        ]
        now = time.perf_counter()
        self.steps.append(
            {
                "step": step,
                "score": float(np.mean(scores)),
                "log_loss": self._log_loss(probabilities),
                "kept": kept,
                "seconds": now - self._last,
            }
        )
        self._last = now
        return self.steps[-1]

    def leave_out(self, step: str, note: str) -> None:
        """Append a step that was not tried, and why."""
        left_out: LadderStep = {
            "step": step,
            "score": None,
            "log_loss": None,
            "kept": False,
            "note": note,
        }
        self.steps.append(left_out)

    def note(self, step: str, note: str) -> None:
        """Add a note to a step."""
        for one in self.steps:
            if one["step"] == step:
                one["note"] = note

    def _log_loss(self, probabilities: np.ndarray) -> float:
        if self.y.ndim == 1:
            return float(log_loss(self.y, probabilities, labels=self._classifier.classes_))
        columns = zip(self.y.T, probabilities.T, strict=True)
        return float(np.mean([log_loss(flags, p, labels=[0, 1]) for flags, p in columns]))


def describe_ladder(steps: Sequence[LadderStep], scoring: str) -> str:
    """Return one line: what was chosen, its score, and what each part adds.

    Parameters
    ----------
    steps : sequence of LadderStep
    scoring : str
        Name of the score.

    Examples
    --------
    >>> steps = [
    ...     {"step": "words", "score": 0.7, "log_loss": 0.5, "kept": False},
    ...     {"step": "vectors", "score": 0.8, "log_loss": 0.4, "kept": True},
    ...     {"step": "vote of vectors and words", "score": 0.79, "log_loss": 0.4, "kept": False},
    ... ]
    >>> print(describe_ladder(steps, "accuracy"))
    vectors alone, accuracy 0.8000 out of fold (vote of vectors and words -0.0100, words -0.1000)
    """
    scored = {one["step"]: one["score"] for one in steps if one["score"] is not None}
    kept = [one["step"] for one in steps if one["kept"]]
    final = scored[kept[-1]]
    parts = [name for name in ("vote of vectors and words", "words", "vectors") if name in scored]
    chosen = next(name for name in parts if name in kept)
    more = [name for name in kept if name not in parts]
    others = [f"{name} {scored[name] - final:+.4f}" for name in parts if name != chosen]
    alone = "" if chosen.startswith("vote") or len(parts) == 1 else " alone"
    with_more = f" with {' and '.join(more)}" if more else ""
    line = f"{chosen}{alone}{with_more}, {scoring} {final:.4f} out of fold"
    if others:
        line += f" ({', '.join(others)})"
    if chosen == "words" and len(parts) > 1:
        line += ". The encoder adds nothing to the words on these rows"
    return line
