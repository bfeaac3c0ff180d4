"""Fit a classifier, and measure it on test rows."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn import config_context
from sklearn.model_selection import StratifiedKFold, check_cv
from sklearn.pipeline import Pipeline

from ..embed import DistilBertVectorizer
from ..errors import InputError, LeakageWarning, TruncationWarning
from ..fewshot.pool import remove_known
from ..finetune.encoder_folder import n_trained_on
from ..heads.folds import AutoFolds, Splits
from ..heads.logistic import Head
from ..heads.multilabel import MultiLabelClassifier
from ..heads.numeric.word_regression import WordPredictions
from ..heads.scoring import check_class_weight, check_scoring
from ..heads.search import (
    FeatureSearch,
    base_search,
    class_weight_of,
    fitted_grid,
    fitted_search,
    resolve_search,
)
from ..heads.stacking import OutOfFoldHead
from ..heads.votes.ladder import describe_ladder
from ..heads.votes.out_of_fold import out_of_fold, out_of_fold_splits
from ..heads.words import WordScores, make_words_baseline
from ..reports.agreement import mean_cosine
from ..reports.metrics import (
    brier_score,
    calibration_error,
    doubtful_labels,
    intervals,
    mistakes,
    score,
    summarize,
)
from ..reports.report import Outcome
from ..reports.schema import (
    Agreement,
    Baseline,
    Calibration,
    Metrics,
    SearchSummary,
)
from ..utils.steps import find_step, find_steps
from .budget.clock import Deadline
from .rows import Labels, Rows, check_classes

if TYPE_CHECKING:
    from .budget.spending import Budget, OnStep

__all__ = [
    "Clock",
    "Training",
    "check_texts_of",
    "classifier_of",
    "fit_model",
    "measure_agreement",
    "measure_classes",
    "train",
    "warn_of_leakage",
]

AGREEMENT_ON = 256  # test texts on which a reduced precision is compared with float32


@dataclass
class Training:
    """A trained model and its metrics.

    Attributes
    ----------
    model : sklearn.pipeline.Pipeline
        Fitted on the training rows.
    metrics : frozenbert.reports.schema.Metrics
        `task`, `accuracy`, `macro_f1` (fractions), `per_class` and more from
        `frozenbert.reports.metrics.score`; `n_train`, `n_test`; 95 % `intervals`; the same of
        the `baseline`; the `search`, the `calibration` and the `data`. For a reduced
        precision also the `agreement` with float32. With many labels also `at_half`: F1 with
        thresholds of 0.5.
    outcome : frozenbert.reports.report.Outcome
        Labels and predictions of the test rows, and examples of texts.
    seconds : dict
        Duration of each part of the training.
    budget : float or None
        Seconds that the training might take, if it had a budget.
    """

    model: Pipeline
    metrics: Metrics
    outcome: Outcome
    seconds: dict[str, float] = field(default_factory=dict)
    budget: float | None = None


def train(
    model: Pipeline,
    texts: Sequence[str],
    labels: Labels,
    test_texts: Sequence[str],
    test_labels: Labels,
    *,
    examples: bool = True,
    groups: ArrayLike | None = None,
    numbers: tuple[Sequence[int], Sequence[int]] | None = None,
    budget: str | Deadline | None = None,
    folder: str | os.PathLike[str] | None = None,
    unlabelled: Sequence[str] = (),
    on_step: OnStep | None = None,
) -> Training:
    """Fit a text classifier, and compare it with a baseline of words on the same rows.

    Parameters
    ----------
    model : sklearn.pipeline.Pipeline
        From `make_text_classifier`; is fitted.
    texts, test_texts : sequence of str
    labels, test_labels : numpy.ndarray of shape (n_samples,), or DataFrame of 0 and 1
    examples : bool, default=True
        Whether to collect texts with wrong predictions and with doubtful labels.
    groups : array-like of shape (n_samples,), optional
        Groups of the training rows, for a model whose `cv` is a splitter such as
        `GroupKFold`.
    numbers : (sequence of int, sequence of int), optional
        Where the training rows and the test rows are in their tables, for the examples.
    budget : str or Deadline, optional
        Time for further steps, such as "15m", from now on. Those that help are kept.
    folder : path-like, optional
        With a budget, the folder that the model will be saved to. A training that was killed
        goes on from the steps in its `.steps`, and fine-tuned encoders go to its `encoders`.
    unlabelled : sequence of str, default=()
        With a budget, texts of the same kind. Test texts are removed from them.
    on_step : callable, optional
        Is called after each step with its row of the ladder, and the seconds that are left.

    Returns
    -------
    Training

    Warns
    -----
    LeakageWarning
        If test texts are among the training texts, or the encoder was fine-tuned on them.
    PoolWarning
        If test texts are among the unlabelled ones.
    BudgetWarning
        If the budget is too short, or one of its steps fails.

    Raises
    ------
    InputError
        If there is only one class, a class has fewer rows than folds (with `cv="auto"`: one
        row), the scoring does not suit the labels, no text contains a word, or out-of-fold
        predictions are needed and the test parts of `cv` are no partition of the rows. With a
        budget: if the model is not of the recipe auto, or the folder is of another training.
    """
    rows = Rows.of(model, texts, labels, test_texts, test_labels, groups)
    rows.numbers, rows.test_numbers = numbers or (None, None)
    splits = _check(model, rows, examples)
    spend = _budget(model, rows, budget, folder, unlabelled, on_step)
    n_leaked = warn_of_leakage(model, rows)
    clock = Clock()
    model, features = _fit_within(model, rows, clock, spend)
    outcome = _predict(model, rows, clock)
    metrics = measure_classes(model, rows, outcome, clock)
    metrics["data"]["n_trained_on"] = n_leaked
    if examples:
        _collect_examples(model, rows, features, splits, outcome)
        clock.lap("doubtful labels")
    return Training(
        model, metrics, outcome, clock.seconds, spend.deadline.seconds if spend else None
    )


def measure_classes(model: Pipeline, rows: Rows, outcome: Outcome, clock: Clock) -> Metrics:
    """Return the metrics of a fitted classifier of texts, and of a baseline of words.

    Parameters
    ----------
    model : sklearn.pipeline.Pipeline
        Of texts; of a model with columns, the first of its models of texts.
    rows : Rows
    outcome : Outcome
    clock : Clock
    """
    agreement = measure_agreement(model, rows.test_seen)
    if agreement:
        clock.lap("agreement with float32")
    baseline, baseline_predicted = _baseline(model, rows, clock)
    metrics = _metrics(model, rows, outcome, baseline, baseline_predicted)
    if agreement:
        metrics["agreement"] = agreement
    clock.lap("metrics")
    return metrics


def classifier_of(model: Pipeline) -> Head:
    """Return the last step of a classifier's Pipeline."""
    head = model.named_steps.get("classify")
    if head is None:
        raise InputError("predicts no classes; train it with train_numbers.", parameter="model")
    return cast(Head, head)


def _check(model: Pipeline, rows: Rows, examples: bool) -> Splits | None:
    """Raise `InputError` if the training cannot succeed; return the splits, if they are needed."""
    head = classifier_of(model)
    search = base_search(head)
    is_auto = isinstance(search.cv, AutoFolds)
    splitter = check_cv(search.cv, rows.truth, classifier=True)
    if is_auto:
        check_classes(rows.labels, 2)
    else:
        stratified = isinstance(splitter, StratifiedKFold)
        check_classes(rows.labels, splitter.n_splits if stratified else 1)
    search = resolve_search(search, rows.truth)
    check_scoring(search.scoring, rows.labels)
    check_class_weight(class_weight_of(search), rows.truth)
    check_texts_of(rows)
    if examples or isinstance(head, OutOfFoldHead):
        return out_of_fold_splits(head, np.zeros((len(rows.texts), 1)), rows.truth, rows.groups)
    return None


def check_texts_of(rows: Rows) -> None:
    """Raise `InputError` if no training text contains a word."""
    if not any(re.search(r"\w", text) for text in rows.seen):
        raise InputError(
            "none of the training texts contains a letter or a digit. Is this the column of texts?"
        )


def warn_of_leakage(model: Pipeline, rows: Rows) -> int:
    """Warn of test texts that were trained on; return how many the encoder was fine-tuned on."""
    n_tuned = n_trained_on(find_step(model, DistilBertVectorizer).model_name, rows.test_seen)
    if n_tuned:
        warnings.warn(
            f"the encoder was fine-tuned on {n_tuned:,} of the {len(rows.test_texts):,} test rows: "
            f"the scores do not hold for new texts. Measure on other rows.",
            LeakageWarning,
            stacklevel=3,
        )
    known = set(rows.texts)
    if n_both := sum(text in known for text in rows.test_texts):
        warnings.warn(
            f"{n_both:,} of the {len(rows.test_texts):,} test rows have a text that is also a "
            f"training text: the scores are too high. Remove them from one of the two.",
            LeakageWarning,
            stacklevel=3,
        )
    return n_tuned


@contextlib.contextmanager
def _routed(groups: ArrayLike | None) -> Iterator[dict[str, ArrayLike]]:
    """Yield the parameters of `fit` for scikit-learn to pass to the splitters."""
    if groups is None:
        yield {}
        return
    with config_context(enable_metadata_routing=True):
        yield {"groups": groups}


def fit_model(model: Pipeline, rows: Rows, clock: Clock) -> Any:
    """Fit the model; return the training texts' features."""
    words = find_step(model, WordScores) or find_step(model, WordPredictions)
    with _routed(rows.groups) as params:
        features = model[:-1].fit_transform(rows.texts, rows.labels, **(params if words else {}))
        clock.lap("features" if words else "vectors", "of the training texts")
        model[-1].fit(features, rows.labels, **params)
    clock.lap("search")
    return features


def _budget(
    model: Pipeline,
    rows: Rows,
    budget: str | Deadline | None,
    folder: str | os.PathLike[str] | None,
    unlabelled: Sequence[str],
    on_step: OnStep | None,
) -> Budget | None:
    """Check the parameters of a budget, and remove test texts from the unlabelled ones."""
    if budget is None:
        if len(unlabelled):
            raise InputError("are for a budget: give one.", parameter="unlabelled")
        return None
    from .budget.spending import Budget, check_can_spend

    deadline = budget if isinstance(budget, Deadline) else Deadline.of(budget)
    check_can_spend(model)
    if folder is None:
        raise InputError("name the folder for the steps.", parameter="folder", value=None)
    texts, cleaner = list(unlabelled), model.named_steps.get("clean")
    if cleaner is not None:
        texts = cleaner.transform(texts)
    texts = remove_known(texts, rows.test_seen, where="among the test texts")
    return Budget(deadline, Path(folder), texts, on_step)


def _fit_within(
    model: Pipeline, rows: Rows, clock: Clock, budget: Budget | None
) -> tuple[Pipeline, Any]:
    """Fit the model within a budget, if there is one; return it with its features."""
    if budget is None:
        return model, fit_model(model, rows, clock)
    from .budget.spending import fit_within

    fitted = fit_within(model, rows, budget, lambda: fit_model(model, rows, clock))
    clock.lap("steps of the budget")
    return fitted


def _predict(model: Pipeline, rows: Rows, clock: Clock) -> Outcome:
    head, features = classifier_of(model), model[:-1].transform(rows.test_texts)
    probabilities = head.predict_proba(features)
    outcome = Outcome(
        rows.test_truth, head.predict(features), head.classes_.tolist(), probabilities
    )
    clock.lap("vectors and labels of the test texts")
    if isinstance(head, OutOfFoldHead) and head.calibration_:
        outcome.uncalibrated = head.uncalibrated_proba(features)
    return outcome


def _baseline(model: Pipeline, rows: Rows, clock: Clock) -> tuple[Baseline, np.ndarray]:
    """Fit the baseline with the model's folds; return its scores and predictions."""
    search = fitted_grid(classifier_of(model))
    baseline = make_words_baseline(
        cv=search.cv,
        scoring=search.scoring if isinstance(search.scoring, str) else None,
        multi_label=rows.many,
        class_weight=class_weight_of(search),
        n_jobs=search.n_jobs,
    )
    with _routed(rows.groups) as params:
        baseline.fit(rows.seen, rows.labels, **params)
    predicted = baseline.predict(rows.test_seen)
    p = baseline.predict_proba(rows.test_seen) if rows.many else None
    clock.lap("baseline of words")
    classes = classifier_of(model).classes_.tolist()
    scores: Baseline = {
        **score(rows.test_truth, predicted, p, classes),
        "name": "TF-IDF + logistic regression",
        "intervals": intervals(rows.test_truth, predicted),
    }
    return scores, predicted


def _metrics(
    model: Pipeline,
    rows: Rows,
    outcome: Outcome,
    baseline: Baseline,
    baseline_predicted: np.ndarray,
) -> Metrics:
    head, embed = classifier_of(model), find_step(model, DistilBertVectorizer)
    classes, p = head.classes_.tolist(), outcome.probabilities
    scores = score(rows.test_truth, outcome.y_pred, p if rows.many else None, classes)
    metrics: Metrics = {
        "task": "classification",
        **scores,  # type: ignore[typeddict-item]  # mypy also asks for keys that may be missing
        "n_train": len(rows.truth),
        "n_test": len(rows.test_truth),
        "n_truncated": embed.n_truncated_,
        "unread": embed.unread_,
        "intervals": intervals(rows.test_truth, outcome.y_pred, baseline_predicted),
        "baseline": baseline,
        "search": _describe_search(head),
        "calibration": _calibration(outcome),
        "data": summarize(rows.texts, rows.truth, rows.test_texts, embed.n_long_),
    }
    if isinstance(head, MultiLabelClassifier):
        halves = score(rows.test_truth, (p >= 0.5).astype(int))
        metrics["at_half"] = {"macro_f1": halves["macro_f1"], "micro_f1": halves["micro_f1"]}
        for label, threshold in zip(classes, head.thresholds_.tolist(), strict=True):
            metrics["per_class"][str(label)]["threshold"] = threshold
    return metrics


def _describe_search(head: Head) -> SearchSummary:
    search, grid = fitted_search(head), fitted_grid(head)
    (name,) = grid.param_grid
    results, best = grid.cv_results_, grid.best_index_
    default = "accuracy" if grid.scoring is None else "average precision"
    summary: SearchSummary = {
        "scoring": grid.scoring if isinstance(grid.scoring, str) else default,
        "folds": int(grid.n_splits_),
        "best_C": grid.best_params_[name],
        "best_score": float(grid.best_score_),
        "best_score_std": float(results["std_test_score"][best]),
        "C": [float(c) for c in results[f"param_{name}"]],
        "mean_score": results["mean_test_score"].tolist(),
        "std_score": results["std_test_score"].tolist(),
    }
    if isinstance(search, FeatureSearch):
        summary["best_layers"] = list(search.best_params_["layers"])
        summary["best_pooling"] = list(search.best_params_["pooling"])
        summary["features"] = [
            {**result, "layers": [*result["layers"]], "pooling": [*result["pooling"]]}
            for result in search.features_
        ]
    if steps := getattr(head, "ladder_", None):
        summary["ladder"] = steps
        summary["chosen"] = describe_ladder(steps, summary["scoring"])
        summary["never_answered"] = [str(label) for label in head.never_answered_]
    return summary


def _calibration(outcome: Outcome) -> Calibration:
    """Return Brier score and expected calibration error, after and before calibration."""

    def errors(p: np.ndarray) -> Calibration:
        return {
            "brier": brier_score(outcome.y_true, p, outcome.classes),
            "ece": calibration_error(outcome.y_true, p, outcome.classes),
        }

    calibration = errors(outcome.probabilities)
    if outcome.uncalibrated is not None:
        calibration["before"] = errors(outcome.uncalibrated)
    return calibration


def measure_agreement(model: Pipeline, texts: Sequence[str]) -> Agreement | None:
    """Compare a reduced precision with float32 on a sample of texts; None for float32."""
    embed = find_step(model, DistilBertVectorizer)
    if embed.precision_ == "float32":
        return None
    rows = np.random.default_rng(0).permutation(len(texts))[:AGREEMENT_ON]
    sample = [texts[i] for i in np.sort(rows)]
    # What does not depend on the precision is shared, because it may be large.
    kinds = (WordScores, WordPredictions)
    shared = [model[-1], *(step for kind in kinds for step in find_steps(model, kind))]
    exact = copy.deepcopy(model, {id(step): step for step in shared})
    exact_embed = find_step(exact, DistilBertVectorizer).set_params(precision="float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # warned of for all test texts
        vectors, predicted = np.asarray(embed.transform(sample)), model.predict(sample)
        expected, exactly = np.asarray(exact_embed.transform(sample)), exact.predict(sample)
    return {
        "n_texts": len(sample),
        "mean_cosine": mean_cosine(vectors, expected),
        "equal_predictions": float(np.mean(_are_equal(predicted, exactly))),
    }


def _are_equal(predicted: np.ndarray, exactly: np.ndarray) -> np.ndarray:
    """Tell which predictions are equal; of numbers, within a hundredth of their deviation."""
    if exactly.dtype.kind == "f":
        return np.isclose(predicted, exactly, rtol=0, atol=0.01 * float(exactly.std()))
    return np.asarray(predicted == exactly)


def _collect_examples(
    model: Pipeline, rows: Rows, features: Any, splits: Splits | None, outcome: Outcome
) -> None:
    """Set the outcome's `mistakes` and `doubtful`."""
    head, classes = classifier_of(model), outcome.classes
    outcome.mistakes = mistakes(
        rows.test_texts,
        rows.test_truth,
        outcome.y_pred,
        outcome.probabilities,
        classes,
        numbers=rows.test_numbers,
    )
    p = head.held_out_proba() if isinstance(head, OutOfFoldHead) else None
    if p is None:
        vectors = head.split(features)[0] if isinstance(head, OutOfFoldHead) else features
        p = out_of_fold(head, vectors, rows.truth, "predict_proba", splits)
    outcome.doubtful = doubtful_labels(rows.texts, rows.truth, p, classes, numbers=rows.numbers)


class Clock:
    """Records the seconds from one lap to the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, *name: str) -> None:
        """Record the seconds since the last lap under a name."""
        now = time.perf_counter()
        self.seconds[" ".join(name)] = now - self.last
        self.last = now
