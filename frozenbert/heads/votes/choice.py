"""Choose by out-of-fold scores: vectors, words or both; class weights; calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .ladder import Ladder, LadderStep

__all__ = ["Choice", "Predict", "choose"]

LESS = 0.99  # calibration has to lower the log loss by a hundredth

STEPS = {"words": "words", "vectors": "vectors", "vote": "vote of vectors and words"}


class Predict(Protocol):
    """Function from a way of using scores to out-of-fold probabilities."""

    def __call__(
        self, part: str, *, balanced: bool = False, calibration: str | None = None
    ) -> np.ndarray:
        """Return probabilities of shape (n_samples, n_classes)."""


@dataclass
class Choice:
    """What was chosen.

    Attributes
    ----------
    part : {"vectors", "words", "vote"}
    balanced : bool
        Whether the classifier of scores has balanced class weights.
    calibration : {"sigmoid", "isotonic"} or None
    probabilities : numpy.ndarray of shape (n_samples, n_classes)
        Out of fold.
    """

    part: str
    balanced: bool
    calibration: str | None
    probabilities: np.ndarray


def choose(
    ladder: Ladder,
    predict: Predict,
    parts: Sequence[str],
    *,
    balance: bool,
    calibrations: Sequence[str],
    given: str | None = None,
) -> Choice:
    """Choose the best part, then class weights and calibration if they help.

    Parameters
    ----------
    ladder : Ladder
        Gets a step for each comparison.
    predict : callable
    parts : sequence of str
        Of which the one with the best score is chosen, and of equal ones that with the lowest
        log loss.
    balance : bool
        Whether balanced class weights are compared: by the score.
    calibrations : sequence of str
        Those to compare, if class weights are not balanced: by the log loss, which has to
        become lower by a hundredth. The score must not become lower.
    given : str or None, default=None
        A part that is chosen whatever its score is.

    Returns
    -------
    Choice
    """
    answers = {part: predict(part) for part in parts}
    steps = {part: ladder.add(STEPS[part], p) for part, p in answers.items()}
    best = given or max(parts, key=lambda part: (steps[part]["score"], -_log_loss(steps[part])))
    steps[best]["kept"] = True
    if best == "vote":
        for step in steps.values():
            step["kept"] = True
    choice, step = Choice(best, False, None, answers[best]), steps[best]
    if balance:
        p = predict(best, balanced=True)
        balanced = ladder.add("balanced class weights", p)
        if _score(balanced) > _score(step):
            balanced["kept"] = True
            return Choice(best, True, None, p)
    for method in calibrations:
        p = predict(best, calibration=method)
        tried = ladder.add(f"calibration ({method})", p)
        if _log_loss(tried) < LESS * _log_loss(step) and _score(tried) >= _score(step):
            for other in ladder.steps:
                other["kept"] &= not other["step"].startswith("calibration")
            tried["kept"] = True
            choice, step = Choice(best, False, method, p), tried
    return choice


def _score(step: LadderStep) -> float:
    assert step["score"] is not None
    return step["score"]


def _log_loss(step: LadderStep) -> float:
    assert step["log_loss"] is not None
    return step["log_loss"]
