"""Fit a model of texts and other columns, and measure it on test rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from ..errors import InputError
from ..heads.columns.joint import JointClassifier, JointModel, JointOrdinal
from ..heads.columns.kinds import as_frame
from ..heads.numeric.tasks import check_target
from ..reports.metrics import doubtful_labels, mistakes
from ..reports.numeric.figures import NumberOutcome
from ..reports.report import Outcome
from ..reports.schema import Added, Metrics
from .fitting import Clock, Training, check_texts_of, measure_classes, warn_of_leakage
from .regression import add_examples, grades_in, measure_numbers, text_model
from .rows import Rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["train_columns"]


def train_columns(
    model: Pipeline,
    X: pd.DataFrame,
    y: ArrayLike,
    X_test: pd.DataFrame,
    y_test: ArrayLike,
    *,
    examples: bool = True,
    numbers: tuple[Sequence[int], Sequence[int]] | None = None,
) -> Training:
    """Fit a model of texts and other columns, and compare it with a baseline of words.

    Parameters
    ----------
    model : sklearn.pipeline.Pipeline
        From `make_text_classifier` or `make_text_regressor` with `columns`; is fitted.
    X, X_test : DataFrame
    y, y_test : array-like of shape (n_samples,)
    examples : bool, default=True
        Whether to collect texts with wrong predictions and with doubtful labels.
    numbers : (sequence of int, sequence of int), optional
        Of the training and the test rows, such as their lines in a file: for the report's
        examples.

    Returns
    -------
    Training
        Its `metrics` are those of `train` or `train_numbers`, and `added`: the out-of-fold
        scores of texts alone, of the other columns alone, and of both; with several columns of
        texts also `without`, the score without each of them.

    Warns
    -----
    LeakageWarning
        If test texts are among the training texts.

    Raises
    ------
    InputError
        If the model has no columns, a column is missing, or a cell is not of its kind.
    """
    head = model[-1]
    if not isinstance(head, JointModel):
        raise InputError("reads no columns; train it with train.", parameter="model")
    task = "classification"
    if not isinstance(head, JointClassifier):
        task = "ordinal" if isinstance(head, JointOrdinal) else "regression"
    truth = np.asarray(y) if task == "classification" else check_target(y, task)
    frame, test_frame = as_frame(X), as_frame(X_test)
    clock = Clock()
    model.fit(frame, truth)
    clock.lap("vectors and searches")
    of_text = text_model(model)
    texts, test_texts = head.joined_texts(frame), head.joined_texts(test_frame)
    rows = Rows.of(of_text, texts, truth, test_texts, np.asarray(y_test), None)
    rows.numbers, rows.test_numbers = numbers or (None, None)
    check_texts_of(rows)
    n_leaked = warn_of_leakage(model, rows)
    outcome: Outcome | NumberOutcome
    if isinstance(head, JointClassifier):
        p = head.predict_proba(test_frame)
        outcome = Outcome(rows.test_truth, head.labels_from_proba(p), grades_in(head), p)
        clock.lap("vectors and labels of the test rows")
        metrics = measure_classes(of_text, rows, outcome, clock)
        if examples:
            _add_examples(head, rows, outcome)
    else:
        outcome = NumberOutcome(rows.test_truth, model.predict(test_frame), grades_in(head))
        clock.lap("vectors and predictions of the test rows")
        metrics = cast(Metrics, measure_numbers(of_text, rows, outcome, clock))
        if examples:
            add_examples(outcome, rows, head.held_out())
    metrics["data"]["n_trained_on"] = n_leaked
    metrics["added"] = cast(Added, {"scoring": head.scoring_, **head.added()})
    if without := head.without():
        metrics["added"]["without"] = without
    return Training(model, metrics, cast(Outcome, outcome), clock.seconds)


def _add_examples(head: JointClassifier, rows: Rows, outcome: Outcome) -> None:
    outcome.mistakes = mistakes(
        rows.test_texts,
        rows.test_truth,
        outcome.y_pred,
        outcome.probabilities,
        outcome.classes,
        numbers=rows.test_numbers,
    )
    held_out = head.held_out_proba()
    assert held_out is not None  # it was fitted here
    outcome.doubtful = doubtful_labels(
        rows.texts, rows.truth, held_out, outcome.classes, numbers=rows.numbers
    )
