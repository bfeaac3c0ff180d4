"""Train, measure and save a classifier of labelled texts."""

from __future__ import annotations

import contextlib
import copy
import datetime
import os
import re
import shutil
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import config_context
from sklearn.model_selection import StratifiedKFold, check_cv, train_test_split
from sklearn.pipeline import Pipeline

from .embed import DistilBertVectorizer
from .errors import InputError, LeakageWarning, TruncationWarning
from .finetune.encoder_folder import n_trained_on
from .heads.folds import AutoFolds, Folds, Splits
from .heads.logistic import Head
from .heads.multilabel import MultiLabelClassifier
from .heads.scoring import check_class_weight, check_scoring
from .heads.search import (
    FeatureSearch,
    base_search,
    class_weight_of,
    fitted_grid,
    fitted_search,
    resolve_search,
)
from .heads.stacking import OutOfFoldHead
from .heads.votes.ladder import describe_ladder
from .heads.votes.out_of_fold import out_of_fold, out_of_fold_splits
from .heads.words import WordScores, make_words_baseline
from .persistence.models import MODEL, SAFE, save_model
from .reports.agreement import mean_cosine
from .reports.metrics import (
    brier_score,
    calibration_error,
    doubtful_labels,
    intervals,
    mistakes,
    score,
    short,
    summarize,
)
from .reports.report import PLOTS, Outcome, write_report
from .reports.schema import (
    Agreement,
    Baseline,
    Calibration,
    Metrics,
    Parameters,
    SearchSummary,
    Sidecar,
)
from .reports.sidecar import FORMAT, describe_encoder, versions
from .utils.files import sha256_of_file
from .utils.steps import find_step

__all__ = ["Training", "check_classes", "hold_out", "save_training", "train", "uses_words"]

AGREEMENT_ON = 256  # test texts on which a reduced precision is compared with float32

Labels: TypeAlias = np.ndarray | pd.DataFrame


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
    """

    model: Pipeline
    metrics: Metrics
    outcome: Outcome
    seconds: dict[str, float] = field(default_factory=dict)


def hold_out(
    texts: Sequence[str], labels: Labels, random_state: int | None = 0, *, parts: int = 4
) -> tuple[list[str], list[str], Any, Any]:
    """Split off a stratified part of the rows for testing.

    Parameters
    ----------
    texts : sequence of str
    labels : numpy.ndarray of shape (n_samples,), or DataFrame of shape (n_samples, n_labels)
        Classes; or many labels, as columns of 0 and 1; or probabilities of classes.
    random_state : int or None, default=0
    parts : int, default=4
        One row of `parts` is held out.

    Returns
    -------
    texts_train, texts_test : list of str
    labels_train, labels_test : of the type of `labels`

    Raises
    ------
    InputError
        If a class has too few rows for both parts.

    Examples
    --------
    >>> train, test, *_ = hold_out(["a", "b", "c", "d", "e", "f", "g", "h"], np.array([0, 1] * 4))
    >>> len(train), len(test)
    (6, 2)
    """
    if isinstance(labels, pd.DataFrame):
        if len(labels) < 2 * parts:
            raise InputError(
                f"too few rows to hold out one of {parts} for testing: {len(labels)}. Add rows, "
                f"or give test rows of their own."
            )
        folds = Folds(parts, shuffle=True, random_state=random_state)
        flags = labels.to_numpy()
        if flags.dtype.kind == "f":  # probabilities: stratify by the likeliest class
            flags = np.eye(flags.shape[1], dtype=int)[flags.argmax(axis=1)]
        rows, held = next(folds.split(np.zeros(len(labels)), flags))
        return (
            [texts[i] for i in rows],
            [texts[i] for i in held],
            labels.iloc[rows],
            labels.iloc[held],
        )
    rare, count = min(Counter(labels.tolist()).items(), key=lambda item: item[1])
    if count < 2 or len(labels) < parts * len(set(labels.tolist())):
        raise InputError(
            f"too few rows to hold out one of {parts} for testing: {len(labels)}, of which the "
            f"class {short(rare)!r} has {count}. Add rows, or give test rows of their own."
        )
    train_texts, test_texts, y_train, y_test = train_test_split(
        list(texts), labels, test_size=1 / parts, stratify=labels, random_state=random_state
    )
    return train_texts, test_texts, y_train, y_test


def check_classes(labels: ArrayLike, folds: int) -> None:
    """Raise `InputError` unless there are two classes, each with a row in every fold.

    Parameters
    ----------
    labels : array-like of shape (n_samples,) or (n_samples, n_labels)
        Of many labels, one must have `folds` rows with it and as many without it.
    folds : int
        Number of folds of the search.
    """
    if np.ndim(labels) == 2:
        flags = np.asarray(labels)
        if flags.shape[1] < 2:
            raise InputError(
                "there is only one label. One label is two classes, with and without it: give "
                "them in one column, without a separator."
            )
        counts = flags.sum(axis=0)
        if not (np.minimum(counts, len(flags) - counts) >= folds).any():
            raise InputError(
                f"no label has {folds} training rows with it and {folds} without it, one for "
                f"each fold of the search: add rows, or use fewer folds.",
                parameter="cv",
                value=folds,
            )
        return
    rows = Counter(np.asarray(labels).tolist())
    if len(rows) < 2:
        raise InputError(
            f"there is only one class ({short(next(iter(rows)))!r}) in the training rows: a "
            f"classifier needs two. Is this the column of labels?"
        )
    few = {label: n for label, n in rows.items() if n < folds}
    if few:
        label, n = min(few.items(), key=lambda item: item[1])
        raise InputError(
            f"{len(few)} of {len(rows)} classes have fewer training rows than the {folds} folds "
            f"of the search ({short(label)!r} has {n}): add rows, drop the class, or use fewer "
            f"folds. If {short(label)!r} is a column's name, the file has a header.",
            parameter="cv",
            value=folds,
        )


def train(
    model: Pipeline,
    texts: Sequence[str],
    labels: Labels,
    test_texts: Sequence[str],
    test_labels: Labels,
    *,
    examples: bool = True,
    groups: ArrayLike | None = None,
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

    Returns
    -------
    Training

    Warns
    -----
    LeakageWarning
        If test texts are among the training texts, or the encoder was fine-tuned on them.

    Raises
    ------
    InputError
        If there is only one class, a class has fewer rows than folds (with `cv="auto"`: one
        row), the scoring does not suit the labels, no text contains a word, or out-of-fold
        predictions are needed and the test parts of `cv` are no partition of the rows.
    """
    rows = _Rows.of(model, texts, labels, test_texts, test_labels, groups)
    splits = _check(model, rows, examples)
    n_leaked = _warn_of_leakage(model, rows)
    clock = _Clock()
    features = _fit(model, rows, clock)
    outcome = _predict(model, rows, clock)
    agreement = _agreement(model, rows.test_seen)
    if agreement:
        clock.lap("agreement with float32")
    baseline, baseline_predicted = _baseline(model, rows, clock)
    metrics = _metrics(model, rows, outcome, baseline, baseline_predicted)
    metrics["data"]["n_trained_on"] = n_leaked
    if agreement:
        metrics["agreement"] = agreement
    clock.lap("metrics")
    if examples:
        _collect_examples(model, rows, features, splits, outcome)
        clock.lap("doubtful labels")
    return Training(model, metrics, outcome, clock.seconds)


@dataclass
class _Rows:
    """Training and test rows, as a training needs them."""

    texts: list[str]
    labels: Labels
    truth: np.ndarray
    seen: list[str]  # the texts as the vectorizer gets them: cleaned, if the model cleans
    test_texts: list[str]
    test_truth: np.ndarray
    test_seen: list[str]
    groups: ArrayLike | None

    @classmethod
    def of(
        cls,
        model: Pipeline,
        texts: Sequence[str],
        labels: Labels,
        test_texts: Sequence[str],
        test_labels: Labels,
        groups: ArrayLike | None,
    ) -> _Rows:
        texts, test_texts = list(texts), list(test_texts)
        truth, test_truth = np.asarray(labels), np.asarray(test_labels)
        if truth.ndim == 2:
            truth, test_truth = truth.astype(np.int64), test_truth.astype(np.int64)
        seen, test_seen = texts, test_texts
        if cleaner := model.named_steps.get("clean"):
            seen, test_seen = cleaner.transform(texts), cleaner.transform(test_texts)
        return cls(texts, labels, truth, seen, test_texts, test_truth, test_seen, groups)

    @property
    def many(self) -> bool:
        """Whether a text may have any number of labels."""
        return self.truth.ndim == 2


def _head(model: Pipeline) -> Head:
    head: Head = model.named_steps["classify"]
    return head


def _check(model: Pipeline, rows: _Rows, examples: bool) -> Splits | None:
    """Raise `InputError` if the training cannot succeed; return the splits, if they are needed."""
    head = _head(model)
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
    if not any(re.search(r"\w", text) for text in rows.seen):
        raise InputError(
            "none of the training texts contains a letter or a digit. Is this the column of texts?"
        )
    if examples or isinstance(head, OutOfFoldHead):
        return out_of_fold_splits(head, np.zeros((len(rows.texts), 1)), rows.truth, rows.groups)
    return None


def _warn_of_leakage(model: Pipeline, rows: _Rows) -> int:
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


def _fit(model: Pipeline, rows: _Rows, clock: _Clock) -> Any:
    """Fit the model; return the training texts' features."""
    words = find_step(model, WordScores)
    with _routed(rows.groups) as params:
        features = model[:-1].fit_transform(rows.texts, rows.labels, **(params if words else {}))
        clock.lap("features" if words else "vectors", "of the training texts")
        _head(model).fit(features, rows.labels, **params)
    clock.lap("search")
    return features


def _predict(model: Pipeline, rows: _Rows, clock: _Clock) -> Outcome:
    head, features = _head(model), model[:-1].transform(rows.test_texts)
    probabilities = head.predict_proba(features)
    outcome = Outcome(
        rows.test_truth, head.predict(features), head.classes_.tolist(), probabilities
    )
    clock.lap("vectors and labels of the test texts")
    if isinstance(head, OutOfFoldHead) and head.calibration_:
        outcome.uncalibrated = head.uncalibrated_proba(features)
    return outcome


def _baseline(model: Pipeline, rows: _Rows, clock: _Clock) -> tuple[Baseline, np.ndarray]:
    """Fit the baseline with the model's folds; return its scores and predictions."""
    search = fitted_grid(_head(model))
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
    classes = _head(model).classes_.tolist()
    scores: Baseline = {
        **score(rows.test_truth, predicted, p, classes),
        "name": "TF-IDF + logistic regression",
        "intervals": intervals(rows.test_truth, predicted),
    }
    return scores, predicted


def _metrics(
    model: Pipeline,
    rows: _Rows,
    outcome: Outcome,
    baseline: Baseline,
    baseline_predicted: np.ndarray,
) -> Metrics:
    head, embed = _head(model), find_step(model, DistilBertVectorizer)
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


def _agreement(model: Pipeline, texts: Sequence[str]) -> Agreement | None:
    """Compare a reduced precision with float32 on a sample of texts; None for float32."""
    embed = find_step(model, DistilBertVectorizer)
    if embed.precision_ == "float32":
        return None
    rows = np.random.default_rng(0).permutation(len(texts))[:AGREEMENT_ON]
    sample = [texts[i] for i in np.sort(rows)]
    # What does not depend on the precision is shared, because it may be large.
    shared = [step for step in (_head(model), find_step(model, WordScores)) if step is not None]
    exact = copy.deepcopy(model, {id(step): step for step in shared})
    exact_embed = find_step(exact, DistilBertVectorizer).set_params(precision="float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # warned of for all test texts
        vectors, predicted = np.asarray(embed.transform(sample)), model.predict(sample)
        expected, exactly = np.asarray(exact_embed.transform(sample)), exact.predict(sample)
    return {
        "n_texts": len(sample),
        "mean_cosine": mean_cosine(vectors, expected),
        "equal_predictions": float(np.mean(predicted == exactly)),
    }


def _collect_examples(
    model: Pipeline, rows: _Rows, features: Any, splits: Splits | None, outcome: Outcome
) -> None:
    """Set the outcome's `mistakes` and `doubtful`."""
    head, classes = _head(model), outcome.classes
    outcome.mistakes = mistakes(
        rows.test_texts, rows.test_truth, outcome.y_pred, outcome.probabilities, classes
    )
    p = head.held_out_proba() if isinstance(head, OutOfFoldHead) else None
    if p is None:
        vectors = head.split(features)[0] if isinstance(head, OutOfFoldHead) else features
        p = out_of_fold(head, vectors, rows.truth, "predict_proba", splits)
    outcome.doubtful = doubtful_labels(rows.texts, rows.truth, p, classes)


class _Clock:
    """Records the seconds from one lap to the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, *name: str) -> None:
        now = time.perf_counter()
        self.seconds[" ".join(name)] = now - self.last
        self.last = now


def save_training(
    training: Training, folder: str | os.PathLike[str], facts: Mapping[str, Any]
) -> None:
    """Save a trained model with its report: all files, or none.

    Parameters
    ----------
    training : Training
        From `train`.
    folder : path-like
        Files of the same names in it are replaced, others stay.
    facts : mapping
        What else `model.json` contains: `training` and `test`, where the rows are from
        (`TrainingFacts` and `TestFacts` in `frozenbert.reports.schema`), and `notice`, why
        the encoder is not the default one, or None.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
        try:
            save_model(training.model, fresh / MODEL)
            write_report(fresh, _sidecar(training, fresh / MODEL, facts), training.outcome)
            _replace_files(folder, fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            if is_new:
                with contextlib.suppress(OSError):  # it contains the files
                    folder.rmdir()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}).") from error


def _replace_files(folder: Path, fresh: Path) -> None:
    """Move the new files into the folder, and remove the plots of a former model."""
    # The safe form is removed first and moved last, so that no kill leaves a pair of two models.
    files = sorted(fresh.iterdir(), key=lambda file: file.suffix == SAFE)
    for file in files:
        if (folder / file.name).is_dir():
            raise InputError(
                f"{folder / file.name}: is a folder, and a file of this name is to be written: "
                f"remove it, or name another folder."
            )
    (folder / MODEL).with_suffix(SAFE).unlink(missing_ok=True)
    for file in files:
        os.replace(file, folder / file.name)
    for name in PLOTS - {file.name for file in files}:
        (folder / name).unlink(missing_ok=True)


def _sidecar(training: Training, model_file: Path, facts: Mapping[str, Any]) -> Sidecar:
    """Return the content of `model.json`."""
    test = dict(facts["test"])
    if n_leaked := training.metrics["data"].get("n_trained_on"):
        test["n_trained_on"] = n_leaked
    return {
        "format": FORMAT,
        "notice": facts.get("notice"),
        "training": facts["training"],
        "test": test,  # type: ignore[typeddict-item]
        "model_sha256": sha256_of_file(model_file),
        "encoder": describe_encoder(find_step(training.model, DistilBertVectorizer)),
        "labels": _head(training.model).classes_.tolist(),
        "parameters": _parameters(training.model, training.metrics["search"]),
        "metrics": training.metrics,
        "seconds": training.seconds,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def uses_words(model: Pipeline) -> bool:
    """Tell whether scores of words have a part in a fitted classifier's answers."""
    head = _head(model)
    return isinstance(head, OutOfFoldHead) and head.parts_ != "vectors"


def _parameters(model: Pipeline, search: SearchSummary) -> Parameters:
    head = _head(model)
    grid = fitted_grid(head)
    seed, weight = getattr(grid.cv, "random_state", None), class_weight_of(grid)
    if isinstance(weight, Mapping):
        weight = {str(label): float(value) for label, value in weight.items()}
    weight = getattr(head, "class_weight_", None) or weight
    return {
        "recipe": "auto" if "ladder" in search else "plain",
        "cv": search["folds"],
        "seed": seed if isinstance(seed, int) else None,
        "C": search["best_C"],
        "search": "features" if "features" in search else "head",
        "with_tfidf": uses_words(model),
        "clean": "clean" in model.named_steps,
        "multi_label": isinstance(head, MultiLabelClassifier),
        "calibrate": head.calibration_ if isinstance(head, OutOfFoldHead) else None,
        "class_weight": weight,
    }
