"""From labelled texts to a trained, measured and saved classifier."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from .embed import DistilBertVectorizer
from .errors import InputError
from .heads.folds import Folds
from .heads.multilabel import MultiLabelClassifier
from .heads.scoring import check_scoring
from .heads.search import FeatureSearch, base_search, fitted_search, out_of_fold
from .heads.words import WordScores, make_words_baseline
from .persistence import FORMAT, MODEL, SAFE, save_model
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
from .reports.sidecar import describe_encoder
from .utils.files import sha256_of_file
from .utils.steps import find_step

__all__ = ["Training", "check_classes", "hold_out", "save_training", "train"]

AGREEMENT_ON = 256  # test texts on which a reduced precision is held against float32


@dataclass
class Training:
    """A trained model and what was found out about it.

    Attributes
    ----------
    model : sklearn.pipeline.Pipeline
        Fitted on the training rows.
    metrics : dict
        `accuracy`, `macro_f1` (fractions), `per_class` and more from
        `frozenbert.reports.metrics.score`; `n_train`, `n_test`; 95 % `intervals`; the same figures
        of the `baseline`; the `search`, the `calibration` and the `data`. For a reduced
        precision also the `agreement` with float32: `n_texts`, `mean_cosine`,
        `equal_predictions` (fraction). With many labels a text also `at_half`: the F1
        that thresholds of 0.5 would give.
    outcome : frozenbert.reports.report.Outcome
        Labels and answers of the test rows, and texts worth a look.
    seconds : dict
        Where the time went.
    """

    model: Pipeline
    metrics: dict[str, Any]
    outcome: Outcome
    seconds: dict[str, float] = field(default_factory=dict)


def hold_out(
    texts: Sequence[str], labels: Any, random_state: int | None = 0, *, parts: int = 4
) -> tuple[list[str], list[str], Any, Any]:
    """Split off a stratified part of the rows for testing.

    Parameters
    ----------
    texts : sequence of str
    labels : numpy.ndarray of shape (n_samples,), or DataFrame of shape (n_samples, n_labels)
    random_state : int or None, default=0
    parts : int, default=4
        One row of so many is held out.

    Returns
    -------
    texts_train, texts_test : list of str
    labels_train, labels_test : of the type of `labels`

    Raises
    ------
    InputError
        If a class has too few rows to stand on both sides.

    Examples
    --------
    >>> train, test, *_ = hold_out(["a", "b", "c", "d", "e", "f", "g", "h"], np.array([0, 1] * 4))
    >>> len(train), len(test)
    (6, 2)
    """
    if np.ndim(labels) == 2:
        if len(labels) < 2 * parts:
            raise InputError(
                f"too few rows to hold out one of {parts} for testing: {len(labels)} in all; add "
                f"rows, or give a file of them."
            )
        folds = Folds(parts, shuffle=True, random_state=random_state)
        flags = np.asarray(labels)
        if flags.dtype.kind == "f":  # of probabilities, the likeliest class tells what a row is
            flags = np.eye(flags.shape[1], dtype=int)[flags.argmax(axis=1)]
        kept, held = next(folds.split(np.zeros(len(labels)), flags))
        return (
            [texts[i] for i in kept],
            [texts[i] for i in held],
            labels.iloc[kept],
            labels.iloc[held],
        )
    rare, count = min(Counter(labels.tolist()).items(), key=lambda item: item[1])
    if count < 2 or len(labels) < parts * len(set(labels.tolist())):
        raise InputError(
            f"too few rows to hold out one of {parts} for testing: {len(labels)} in all, and the "
            f"class {short(rare)!r} has {count}: add rows, or give a file of them."
        )
    train_texts, test_texts, y_train, y_test = train_test_split(
        list(texts), labels, test_size=1 / parts, stratify=labels, random_state=random_state
    )
    return train_texts, test_texts, y_train, y_test


def check_classes(labels: Any, folds: int) -> None:
    """Raise `InputError` unless there are two classes, each with a row in every fold.

    Of many labels a text, one has to have as many rows with it and without it.
    """
    if np.ndim(labels) == 2:
        if np.shape(labels)[1] < 2:
            raise InputError(
                "there is only one label: with or without it are two classes; give them in one "
                "column (--label-column alone, without --label-separator)."
            )
        counts = np.asarray(labels).sum(axis=0)
        if not (np.minimum(counts, len(labels) - counts) >= folds).any():
            raise InputError(
                f"no label has {folds} training rows with it and as many without it, one for "
                f"each fold of the search: add rows, or use fewer folds (--cv)."
            )
        return
    counts = Counter(np.asarray(labels).tolist())
    if len(counts) < 2:
        raise InputError(
            f"there is only one class ({short(next(iter(counts)))!r}) in the training rows: a "
            f"classifier needs two. Is this the label column?"
        )
    few = {label: n for label, n in counts.items() if n < folds}
    if few:
        label, n = min(few.items(), key=lambda item: item[1])
        raise InputError(
            f"{len(few)} of {len(counts)} classes have fewer training rows than the {folds} folds "
            f"of the search ({short(label)!r} has {n}): add rows, drop the class, or use fewer "
            f"folds (--cv). If that is a column's name, the file has a header (--header)."
        )


def train(
    model: Pipeline,
    texts: Sequence[str],
    labels: Any,
    test_texts: Sequence[str],
    test_labels: Any,
    *,
    examples: bool = True,
) -> Training:
    """Fit a text classifier and hold it against a baseline of words on the same rows.

    Parameters
    ----------
    model : sklearn.pipeline.Pipeline
        From `make_text_classifier`; is fitted.
    texts, test_texts : sequence of str
    labels, test_labels : numpy.ndarray of shape (n_samples,), or DataFrame of 0 and 1
    examples : bool, default=True
        Whether to look for texts with mistakes and with doubtful labels.

    Returns
    -------
    Training

    Raises
    ------
    InputError
        If there is only one class, a class has fewer rows than folds, the scoring does not
        go with the labels, or no text has a word.
    """
    head = model.named_steps["classify"]
    embed = find_step(model, DistilBertVectorizer)
    settings = base_search(head)
    folds = settings.cv.get_n_splits()
    check_classes(labels, folds)
    check_scoring(settings.scoring, labels)
    texts, test_texts = list(texts), list(test_texts)
    cleaner = model.named_steps.get("clean")
    seen, test_seen = (cleaner.transform(t) if cleaner else t for t in (texts, test_texts))
    if not any(re.search(r"\w", text) for text in seen):
        raise InputError(
            "none of the training texts holds a letter or a digit. Is this the column of texts?"
        )
    truth, test_truth = np.asarray(labels), np.asarray(test_labels)
    many = truth.ndim == 2
    if many:
        truth, test_truth = truth.astype(np.int64), test_truth.astype(np.int64)
    clock = _Clock()

    features = model[:-1].fit_transform(texts, labels)
    words = find_step(model, WordScores)
    clock.lap("features" if words else "vectors", "of the training texts")
    head.fit(features, labels)
    clock.lap("search")
    test_features = model[:-1].transform(test_texts)
    predicted = head.predict(test_features)
    probabilities = head.predict_proba(test_features)
    clock.lap("vectors and labels of the test texts")
    agreement = _agreement(model, embed, test_seen)
    if agreement:
        clock.lap("agreement with float32")
    baseline = make_words_baseline(
        cv=folds,
        scoring=settings.scoring if isinstance(settings.scoring, str) else None,
        multi_label=many,
        class_weight=_class_weight(head),
        random_state=settings.cv.random_state,
        n_jobs=settings.n_jobs,
    ).fit(seen, labels)
    baseline_predicted = baseline.predict(test_seen)
    baseline_p = baseline.predict_proba(test_seen) if many else None
    clock.lap("baseline of words")

    classes = head.classes_.tolist()
    outcome = Outcome(test_truth, predicted, classes, probabilities)
    if getattr(head, "calibrate", None):
        outcome.uncalibrated = head.uncalibrated_proba(test_features)
    p = probabilities if many else None
    metrics = {
        **score(test_truth, predicted, p, classes),
        "n_train": len(truth),
        "n_test": len(test_truth),
        "n_truncated": embed.n_truncated_,
        "unread": embed.unread_,
        "intervals": intervals(test_truth, predicted, baseline_predicted),
        "baseline": {
            "name": "TF-IDF + logistic regression",
            **score(test_truth, baseline_predicted, baseline_p, classes),
            "intervals": intervals(test_truth, baseline_predicted),
        },
        "search": _describe_search(head),
        "calibration": _calibration(outcome),
        "data": summarize(texts, truth, test_texts, embed.n_long_),
    }
    if agreement:
        metrics["agreement"] = agreement
    if many:
        halves = score(test_truth, (probabilities >= 0.5).astype(int))
        metrics["at_half"] = {name: halves[name] for name in ("macro_f1", "micro_f1")}
        for label, threshold in zip(classes, head.thresholds_.tolist(), strict=True):
            metrics["per_class"][str(label)]["threshold"] = threshold
    clock.lap("figures")
    if examples:
        outcome.mistakes = mistakes(test_texts, test_truth, predicted, probabilities, classes)
        vectors = head.split(features)[0] if hasattr(head, "split") else features
        others = out_of_fold(head, vectors, truth, "predict_proba")
        outcome.doubtful = doubtful_labels(texts, truth, others, classes)
        clock.lap("doubtful labels")
    return Training(model, metrics, outcome, clock.seconds)


def _describe_search(head: Any) -> dict[str, Any]:
    found = fitted_search(head)
    features = found if isinstance(found, FeatureSearch) else None
    found = found.search_ if features else found
    (name,) = found.param_grid
    results, best = found.cv_results_, found.best_index_
    described = {
        "scoring": found.scoring if isinstance(found.scoring, str) else _default_scoring(found),
        "folds": found.cv.get_n_splits(),
        "best_C": found.best_params_[name],
        "best_score": float(found.best_score_),
        "best_score_std": float(results["std_test_score"][best]),
        "C": [float(c) for c in results[f"param_{name}"]],
        "mean_score": results["mean_test_score"].tolist(),
        "std_score": results["std_test_score"].tolist(),
    }
    if features:
        described |= {
            "best_layers": list(features.best_params_["layers"]),
            "best_pooling": list(features.best_params_["pooling"]),
            "features": features.features_,
        }
    return described


def _default_scoring(search: Any) -> str:
    return "accuracy" if search.scoring is None else "average precision"


def _calibration(outcome: Outcome) -> dict[str, Any]:
    """Return the Brier score and the expected calibration error, before and after."""

    def figures(p: np.ndarray) -> dict[str, float]:
        return {
            "brier": brier_score(outcome.y_true, p, outcome.classes),
            "ece": calibration_error(outcome.y_true, p, outcome.classes),
        }

    assert outcome.probabilities is not None
    found: dict[str, Any] = figures(outcome.probabilities)
    if outcome.uncalibrated is not None:
        found["before"] = figures(outcome.uncalibrated)
    return found


def _agreement(model: Pipeline, embed: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Hold a reduced precision against float32 on some texts; nothing if it is float32."""
    precision = embed.precision
    if precision == "float32":
        return {}
    drawn = np.random.default_rng(0).permutation(len(texts))[:AGREEMENT_ON]
    some = [texts[i] for i in np.sort(drawn)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*longer than max_length")  # said already
        vectors, predicted = np.asarray(embed.transform(some)), model.predict(some)
        try:
            embed.set_params(precision="float32")
            expected, exactly = np.asarray(embed.transform(some)), model.predict(some)
        finally:
            embed.set_params(precision=precision)
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    return {
        "n_texts": len(some),
        "mean_cosine": float(np.mean((vectors * expected).sum(axis=1) / norms)),
        "equal_predictions": float(np.mean(predicted == exactly)),
    }


def _class_weight(head: Any) -> str | None:
    estimator = base_search(head).estimator
    weight: str | None = getattr(estimator, "estimator", estimator).class_weight
    return weight


class _Clock:
    """Writes down the seconds between one lap and the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, *name: str) -> None:
        now = time.perf_counter()
        self.seconds[" ".join(name)] = now - self.last
        self.last = now


def save_training(
    training: Training, folder: str | os.PathLike[str], facts: dict[str, Any]
) -> None:
    """Save a trained model with its report: all files, or none.

    Parameters
    ----------
    training : Training
        From `train`.
    folder : path-like
        Files of the same names in it are replaced, others stay.
    facts : dict
        What else goes into `model.json`: `notice`, `training` and `test`.

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
            sidecar = {
                "format": FORMAT,
                **facts,
                "model_sha256": sha256_of_file(fresh / MODEL),
                **_describe(training.model, training.metrics),
                "metrics": training.metrics,
                "seconds": training.seconds,
            }
            write_report(fresh, sidecar, training.outcome)
            # The safe form goes first and comes last, so that no kill leaves a pair that does
            # not match.
            files = sorted(fresh.iterdir(), key=lambda file: file.suffix == SAFE)
            for file in files:
                if (folder / file.name).is_dir():
                    raise InputError(f"{folder / file.name}: is a folder, and in the way.")
            (folder / MODEL).with_suffix(SAFE).unlink(missing_ok=True)
            for file in files:
                os.replace(file, folder / file.name)
            for name in PLOTS - {file.name for file in files}:
                (folder / name).unlink(missing_ok=True)  # of a model that was here before
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            if is_new:
                with contextlib.suppress(OSError):  # it holds the files
                    folder.rmdir()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}).") from error


def _describe(model: Pipeline, metrics: dict[str, Any]) -> dict[str, Any]:
    head, search = model.named_steps["classify"], metrics["search"]
    return {
        "encoder": describe_encoder(find_step(model, DistilBertVectorizer)),
        "labels": head.classes_.tolist(),
        "parameters": {
            "cv": search["folds"],
            "seed": base_search(head).cv.random_state,
            "C": search["best_C"],
            "search": "features" if "features" in search else "head",
            "with_tfidf": find_step(model, WordScores) is not None,
            "clean": "clean" in model.named_steps,
            "multi_label": isinstance(head, MultiLabelClassifier),
            "calibrate": getattr(head, "calibrate", None),
            "class_weight": _class_weight(head),
        },
    }
