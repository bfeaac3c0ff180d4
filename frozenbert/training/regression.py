"""Fit a model of numbers or grades, and measure it on test rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.pipeline import Pipeline

from ..embed import DistilBertVectorizer
from ..errors import InputError
from ..heads.columns.joint import JointModel
from ..heads.numeric.ordinal import OrdinalHead, grades_of, learn_cut_points
from ..heads.numeric.ridge import RidgeHead
from ..heads.numeric.tasks import check_target, split_rows
from ..heads.numeric.word_regression import fit_words
from ..reports.metrics import summarize
from ..reports.numeric.figures import (
    NumberBaseline,
    NumberLadder,
    NumberMetrics,
    NumberOutcome,
    NumberSearch,
    largest_errors,
    number_intervals,
    score_numbers,
)
from ..reports.report import Outcome
from ..reports.schema import Metrics
from ..utils.steps import find_step
from .fitting import (
    Clock,
    Training,
    check_texts_of,
    fit_model,
    measure_agreement,
    warn_of_leakage,
)
from .rows import Rows

__all__ = [
    "add_examples",
    "describe_parameters",
    "grades_in",
    "hold_out_numbers",
    "measure_numbers",
    "ridge_of",
    "text_model",
    "train_numbers",
]

NumberHead: TypeAlias = RidgeHead | OrdinalHead


def hold_out_numbers(
    texts: Sequence[str],
    target: np.ndarray,
    random_state: int | None = 0,
    *,
    task: str = "regression",
    parts: int = 4,
) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """Split off a random part of the rows for testing; of grades a stratified one.

    Parameters
    ----------
    texts : sequence of str
    target : numpy.ndarray of shape (n_samples,)
    random_state : int or None, default=0
    task : {"regression", "ordinal"}, default="regression"
    parts : int, default=4
        One row of `parts` is held out.

    Returns
    -------
    texts_train, texts_test : list of str
    target_train, target_test : numpy.ndarray

    Raises
    ------
    InputError
        If there are too few rows for both parts.

    Examples
    --------
    >>> train, test, *_ = hold_out_numbers([*"abcdefghijkl"], np.arange(12.0))
    >>> len(train), len(test)
    (9, 3)
    """
    if len(target) < 3 * parts:
        raise InputError(
            f"too few rows to hold out one of {parts} for testing: {len(target)}. Add rows, or "
            f"give test rows of their own."
        )
    strata = None
    if task == "ordinal":
        rare, count = min(Counter(target.tolist()).items(), key=lambda item: item[1])
        if count < 2:
            raise InputError(
                f"the grade {rare} has one row, and testing needs another: add rows, or join it "
                f"with the next grade."
            )
        strata = target
    train, test, y_train, y_test = train_test_split(
        list(texts), target, test_size=1 / parts, stratify=strata, random_state=random_state
    )
    return train, test, y_train, y_test


def train_numbers(
    model: Pipeline,
    texts: Sequence[str],
    target: ArrayLike,
    test_texts: Sequence[str],
    test_target: ArrayLike,
    *,
    examples: bool = True,
    groups: ArrayLike | None = None,
    numbers: tuple[Sequence[int], Sequence[int]] | None = None,
) -> Training:
    """Fit a model of numbers or grades, and compare it with a regression on words.

    Parameters
    ----------
    model : sklearn.pipeline.Pipeline
        From `make_text_regressor`; is fitted.
    texts, test_texts : sequence of str
    target, test_target : array-like of shape (n_samples,)
    examples : bool, default=True
        Whether to collect texts with large errors.
    groups : array-like of shape (n_samples,), optional
        Groups of the training rows, for a model whose `cv` is a splitter such as `GroupKFold`.
    numbers : (sequence of int, sequence of int), optional
        Of the training and the test rows, such as their lines in a file: for the report's
        examples.

    Returns
    -------
    Training
        Its `metrics` are a `frozenbert.reports.numeric.figures.NumberMetrics`: `task`, `r2`,
        `mae`, `spearman`, of grades also `quadratic_kappa`; its `outcome` a `NumberOutcome`.

    Warns
    -----
    LeakageWarning
        If test texts are among the training texts, or the encoder was fine-tuned on them.

    Raises
    ------
    InputError
        If the model predicts classes; a target is no finite number; there is only one; or
        there are fewer rows than folds.
    """
    head = model[-1]
    if not isinstance(head, NumberHead):
        raise InputError("predicts classes; train it with train.", parameter="model")
    task = task_of(head)
    y, y_test = check_target(target, task), _check_test(test_target, task)
    rows = Rows.of(model, texts, y, test_texts, y_test, groups)
    rows.numbers, rows.test_numbers = numbers or (None, None)
    check_texts_of(rows)
    n_leaked = warn_of_leakage(model, rows)
    clock = Clock()
    fit_model(model, rows, clock)
    outcome = NumberOutcome(rows.test_truth, model.predict(rows.test_texts), grades_in(head))
    clock.lap("vectors and predictions of the test texts")
    metrics = measure_numbers(model, rows, outcome, clock)
    metrics["data"]["n_trained_on"] = n_leaked
    if examples:
        add_examples(outcome, rows, head.held_out())
    # The classes of a training are those of classifiers; saving and printing ask for the task.
    return Training(model, cast(Metrics, metrics), cast(Outcome, outcome), clock.seconds)


def measure_numbers(
    model: Pipeline, rows: Rows, outcome: NumberOutcome, clock: Clock
) -> NumberMetrics:
    """Return the metrics of a fitted model of texts, and of a baseline of words.

    Parameters
    ----------
    model : sklearn.pipeline.Pipeline
        Of texts; of a model with columns, the first of its models of texts.
    rows : Rows
    outcome : NumberOutcome
    clock : Clock
    """
    head, embed, grades = model[-1], find_step(model, DistilBertVectorizer), outcome.grades
    agreement = measure_agreement(model, rows.test_seen)
    if agreement:
        clock.lap("agreement with float32")
    baseline, by_words = _baseline(head, rows, outcome)
    clock.lap("baseline of words")
    metrics: NumberMetrics = {
        "task": "ordinal" if grades else "regression",
        **score_numbers(rows.test_truth, outcome.y_pred, grades),  # type: ignore[typeddict-item]
        "n_train": len(rows.truth),
        "n_test": len(rows.test_truth),
        "n_truncated": embed.n_truncated_,
        "unread": embed.unread_,
        "intervals": number_intervals(rows.test_truth, outcome.y_pred, by_words, grades),
        "baseline": baseline,
        "search": _describe_search(head),
        "data": summarize(rows.texts, rows.truth, rows.test_texts, embed.n_long_),
    }
    if agreement:
        metrics["agreement"] = agreement
    clock.lap("metrics")
    return metrics


def add_examples(outcome: NumberOutcome, rows: Rows, held_out: np.ndarray | None) -> None:
    """Set the outcome's `mistakes` and `doubtful`."""
    assert held_out is not None  # the model was fitted here
    outcome.mistakes = largest_errors(
        rows.test_texts, rows.test_truth, outcome.y_pred, numbers=rows.test_numbers
    )
    outcome.doubtful = largest_errors(rows.texts, rows.truth, held_out, numbers=rows.numbers)


def text_model(model: Pipeline) -> Pipeline:
    """Return a fitted model of texts; of a model with columns, the first one in it."""
    head = model[-1]
    return head.estimators_[0] if isinstance(head, JointModel) else model


def grades_in(head: object) -> list[float]:
    """Return the grades or classes that a fitted head predicts; none of a regression."""
    found: list[float] = np.asarray(getattr(head, "classes_", [])).tolist()
    return found


def task_of(head: NumberHead) -> str:
    """Return what a head predicts: "regression" or "ordinal"."""
    return "ordinal" if isinstance(head, OrdinalHead) else "regression"


def ridge_of(head: NumberHead) -> RidgeHead:
    """Return the fitted ridge regression of a head, or in it."""
    return head.ridge_ if isinstance(head, OrdinalHead) else head


def _check_test(target: ArrayLike, task: str) -> np.ndarray:
    """Return test targets, which may all be the same."""
    numbers = np.asarray(target, dtype=float)
    if not np.isfinite(numbers).all():
        raise InputError("contains a value that is no finite number.", parameter="test_target")
    return np.asarray(target) if task == "ordinal" else numbers


def _baseline(
    head: NumberHead, rows: Rows, outcome: NumberOutcome
) -> tuple[NumberBaseline, np.ndarray]:
    """Fit a ridge regression on words with the model's folds; return scores and predictions."""
    search = head.ridge if isinstance(head, OrdinalHead) else head
    y = rows.truth.astype(float)
    splits = split_rows(search.cv, y, rows.groups, search.random_state)
    model, words = fit_words(rows.seen, y, splits)
    predicted, name = np.asarray(model.predict(rows.test_seen)), "TF-IDF + ridge regression"
    if outcome.grades:
        held_out = cross_val_predict(model["regress"], words, y, cv=splits)
        grades = np.asarray(outcome.grades)
        codes = np.searchsorted(grades, rows.truth)
        scoring = head.scoring_ if isinstance(head, OrdinalHead) else "kappa_and_mae"
        cuts = learn_cut_points(held_out, codes, len(grades), scoring)
        predicted = grades[grades_of(predicted, cuts)]
        name += " with cut points"
    baseline: NumberBaseline = {
        **score_numbers(rows.test_truth, predicted, outcome.grades),
        "name": name,
        "intervals": number_intervals(rows.test_truth, predicted, None, outcome.grades),
    }
    return baseline, predicted


def _describe_search(head: NumberHead) -> NumberSearch:
    ridge = ridge_of(head)
    sign = -1 if ridge.scoring_ == "mae" else 1
    mean, std = sign * ridge.scores_.mean(axis=1), ridge.scores_.std(axis=1)
    best = ridge.alphas_.tolist().index(ridge.best_params_["alpha"])
    ladder: list[NumberLadder] = [
        {**step, "score": sign * step["score"], "step": f"{step['step']} ({ridge.scoring_})"}
        for step in ridge.ladder_
    ]
    kept = next(step["step"] for step in ridge.ladder_ if step["kept"])
    chosen = {"both": "Vectors and words predict together"}.get(
        kept, f"{kept.capitalize()} predict alone"
    )
    if isinstance(head, OrdinalHead):
        flip = -1 if head.scoring_ == "mae" else 1
        ladder += [
            {**step, "score": flip * step["score"], "step": f"{step['step']} ({head.scoring_})"}
            for step in head.ladder_
        ]
        chosen += ", by " + next(step["step"] for step in head.ladder_ if step["kept"])
    summary: NumberSearch = {
        "scoring": ridge.scoring_,
        "folds": ridge.n_folds_,
        "best_alpha": float(ridge.best_params_["alpha"]),
        "best_score": float(mean[best]),
        "best_score_std": float(std[best]),
        "alpha": ridge.alphas_.tolist(),
        "mean_score": mean.tolist(),
        "std_score": std.tolist(),
        "ladder": ladder,
        "chosen": chosen,
    }
    if "layers" in ridge.best_params_:
        summary["best_layers"] = list(ridge.best_params_["layers"])
        summary["best_pooling"] = list(ridge.best_params_["pooling"])
        summary["features"] = [
            {**one, "layers": [*one["layers"]], "pooling": [*one["pooling"]]}
            for one in ridge.features_
        ]
    return summary


def describe_parameters(model: Pipeline, with_words: bool) -> dict[str, object]:
    """Return the parameters of a training, for `model.json`."""
    head = model[-1]
    ridge = ridge_of(head)
    seed = ridge.random_state
    return {
        "recipe": "auto" if ridge.with_words == "auto" else "plain",
        "cv": ridge.n_folds_,
        "seed": seed if isinstance(seed, int) else None,
        "alpha": float(ridge.best_params_["alpha"]),
        "search": ridge.search,
        "with_tfidf": with_words,
        "clean": "clean" in model.named_steps,
        "multi_label": False,
        "calibrate": None,
        "class_weight": None,
    }
