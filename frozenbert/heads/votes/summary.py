"""The summary of a fitted head: what it chose, and the out-of-fold scores that decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.base import BaseEstimator, is_classifier
from sklearn.linear_model import LogisticRegression

from ..scoring import LABELS_SCORER
from ..search import FeatureSearch, fitted_grid, fitted_search
from .ladder import LadderStep

__all__ = ["describe_head"]

PARTS = {"vectors": "vectors", "words": "words", "vote": "a vote of vectors and words"}


def describe_head(head: BaseEstimator) -> dict[str, str]:
    """Return what a fitted head chose, as lines by their titles.

    Parameters
    ----------
    head : estimator
        Fitted, from `frozenbert.heads.logistic.make_head`.

    Returns
    -------
    dict of str to str
        `features` if layers were compared, `head`, and what out-of-fold scores decided:
        `decided by` and `out of fold`, which has several lines.
    """
    search, grid = fitted_search(head), fitted_grid(head)
    (name,) = grid.param_grid
    scoring = grid.scoring if isinstance(grid.scoring, str) else "score"
    if grid.scoring is None:
        scoring = "accuracy" if is_classifier(grid) else "R²"
    elif grid.scoring is LABELS_SCORER:
        scoring = "average precision"
    each = getattr(grid.estimator, "estimator", grid.estimator)
    kind = "logistic regression" if isinstance(each, LogisticRegression) else type(each).__name__
    spread = grid.cv_results_["std_test_score"][grid.best_index_]
    lines = {}
    if isinstance(search, FeatureSearch):
        layers = ", ".join(map(str, search.best_params_["layers"]))
        pooling = " and ".join(search.best_params_["pooling"])
        lines["features"] = (
            f"layer {layers}, pooling {pooling}: the best of {len(search.features_)} choices"
        )
    lines["head"] = (
        f"{kind}, {name.rpartition('__')[2]} = {grid.best_params_[name]:.2g}: {scoring} "
        f"{grid.best_score_:.4f} ± {spread:.4f} in {grid.n_splits_} folds"
    )
    parts = getattr(head, "parts_", None)
    if parts is not None:
        calibration = getattr(head, "calibration_", None)
        calibrated = f", calibrated ({calibration})" if calibration else ""
        weight = ", balanced class weights" if getattr(head, "class_weight_", None) else ""
        lines["answer by"] = f"{PARTS[parts]}{weight}{calibrated}"
    if ladder := getattr(head, "ladder_", None):
        lines["out of fold"] = _table(ladder, scoring)
        lines |= _gain(ladder, scoring)
    if never := list(getattr(head, "never_answered_", ())):
        shown = ", ".join(repr(str(label)[:40]) for label in never[:10])
        lines["never"] = f"answered out of fold: {shown}"
    return lines


def _table(ladder: Sequence[LadderStep], scoring: str) -> str:
    scored = [step for step in ladder if step["score"] is not None]
    width = max(len(step["step"]) for step in scored)
    column = max(9, len(scoring))
    lines = [f"{'':{width}}  {scoring:>{column}}  log loss"]
    for step in scored:
        kept = "  kept" if step["kept"] else ""
        lines.append(
            f"{step['step']:{width}}  {step['score']:{column}.4f}  {step['log_loss']:8.4f}{kept}"
        )
    return "\n".join(lines)


def _gain(ladder: Sequence[LadderStep], scoring: str) -> dict[str, str]:
    """Return what words and vectors add to each other."""
    scores: dict[str, Any] = {step["step"]: step["score"] for step in ladder}
    vote, vectors = scores.get("vote of vectors and words"), scores.get("vectors")
    words = scores.get("words")
    if vote is None or vectors is None or words is None:
        return {}
    return {
        "words add": f"{vote - vectors:+.4f} {scoring} to the vectors, and vectors "
        f"{vote - words:+.4f} to the words"
    }
