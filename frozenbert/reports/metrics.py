"""Metrics of predictions, their confidence intervals, and a summary of the data."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    classification_report,
    precision_recall_fscore_support,
)

from .schema import ClassScore, DataSummary, Example, Interval, Score

__all__ = [
    "brier_score",
    "calibration_error",
    "doubtful_labels",
    "intervals",
    "labels_in",
    "mistakes",
    "name_missed",
    "score",
    "score_as_text",
    "short",
    "summarize",
]

RESAMPLES = 1000
EXAMPLES = 20


def score(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    probabilities: np.ndarray | None = None,
    labels: Sequence[object] | None = None,
) -> Score:
    """Return accuracy, averaged F1, and precision, recall and F1 of each class or label.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n_samples,) or (n_samples, n_labels)
        True and predicted classes; with many labels, a column of 0 and 1 for each.
    probabilities : numpy.ndarray of shape (n_samples, n_labels), optional
        Only with many labels: for their average precision.
    labels : sequence, optional
        Names of many labels.

    Returns
    -------
    dict
        `accuracy` (with many labels, the share of rows with all labels right) and `macro_f1`
        as fractions; `per_class` maps each label to `precision`, `recall`, `f1-score` and
        `support` (rows). With many labels also `micro_f1`, `n_labels`,
        `macro_average_precision`, and `average_precision` of each label (None for a label
        without rows).

    Examples
    --------
    >>> scores = score([0, 0, 1, 1], [0, 0, 0, 1])
    >>> scores["accuracy"], round(scores["macro_f1"], 3), scores["per_class"]["1"]["recall"]
    (0.75, 0.733, 0.5)
    """
    # The dict of `classification_report` uses one key for an average and for a class whose name
    # is "accuracy" or "macro avg".
    true, predicted = np.asarray(y_true), np.asarray(y_pred)
    if true.ndim == 2:
        return _score_flags(true, predicted, probabilities, labels)
    classes = labels_in(true, predicted)
    with _many_classes_expected():
        columns = precision_recall_fscore_support(true, predicted, labels=classes, zero_division=0)
        accuracy = float(accuracy_score(true, predicted))
    return {
        "accuracy": accuracy,
        "macro_f1": float(columns[2].mean()),
        "per_class": _per_class(classes, columns),
    }


def _score_flags(
    true: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray | None,
    labels: Sequence[object] | None,
) -> Score:
    columns = precision_recall_fscore_support(true, predicted, zero_division=0)
    names = list(range(true.shape[1])) if labels is None else list(labels)
    hits, wrong = int((true & predicted).sum()), int((true ^ predicted).sum())
    scores: Score = {
        "accuracy": float(accuracy_score(true, predicted)),
        "macro_f1": float(columns[2].mean()),
        "per_class": _per_class(names, columns),
        "micro_f1": 2 * hits / max(2 * hits + wrong, 1),
        "n_labels": int(true.shape[1]),
    }
    if probabilities is not None:
        precisions = [
            float(average_precision_score(t, p)) if t.any() else None
            for t, p in zip(true.T, probabilities.T, strict=True)
        ]
        for label, precision in zip(names, precisions, strict=True):
            scores["per_class"][str(label)]["average_precision"] = precision
        known = [precision for precision in precisions if precision is not None]
        scores["macro_average_precision"] = float(np.mean(known)) if known else None
    return scores


def _per_class(names: Sequence[object], columns: Sequence[np.ndarray]) -> dict[str, ClassScore]:
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    return {
        str(name): {"precision": precision, "recall": recall, "f1-score": f1, "support": support}
        for name, precision, recall, f1, support in rows
    }


def name_missed(per_class: Mapping[str, ClassScore], most: int = 5) -> str:
    """Name the classes that have test rows of which a model recognises none.

    Parameters
    ----------
    per_class : dict
        Of `score`.
    most : int, default=5
        How many classes to name, those with the most rows first.

    Returns
    -------
    str
        Each with its number of test rows; empty if there is no such class.

    Examples
    --------
    >>> name_missed(score(["calm", "rude", "calm"], ["calm", "calm", "calm"])["per_class"])
    "'rude' (1)"
    """
    missed = [
        (one["support"], name)
        for name, one in per_class.items()
        if one["support"] and not one["recall"]
    ]
    missed.sort(key=lambda one: -one[0])
    named = ", ".join(f"{short(name)!r} ({count:,})" for count, name in missed[:most])
    return named + (f" and {len(missed) - most} more" if len(missed) > most else "")


@contextlib.contextmanager
def _many_classes_expected() -> Iterator[None]:
    """Silence scikit-learn's hint that labels of many classes may be numbers.

    Test rows may be few. That they have classes is known from training.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"sklearn\.")
        yield


def score_as_text(
    y_true: ArrayLike, y_pred: ArrayLike, labels: Sequence[object] | None = None
) -> str:
    """Return scikit-learn's per-class report, a table in plain text.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n_samples,) or (n_samples, n_labels)
        True and predicted labels.
    labels : sequence, optional
        Names of many labels.

    Returns
    -------
    str
    """
    columns: list[object] = labels_in(y_true, y_pred)
    names = columns
    if np.ndim(y_true) == 2:
        columns = list(range(np.shape(y_true)[1]))
        names = columns if labels is None else list(labels)
    with _many_classes_expected():
        text: str = classification_report(
            y_true,
            y_pred,
            labels=columns,
            target_names=[short(label) for label in names],
            digits=3,
            zero_division=0,
        )
    return text


def intervals(
    y_true: ArrayLike, y_pred: ArrayLike, baseline: ArrayLike | None = None
) -> dict[str, Interval]:
    """Return 95 % confidence intervals from resampled test rows (percentile bootstrap).

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n_samples,) or (n_samples, n_labels)
    baseline : array-like of the same shape, optional
        Another classifier's predictions for the same rows.

    Returns
    -------
    dict
        `accuracy`, `macro_f1` and, with a baseline, `accuracy_above_baseline` and
        `macro_f1_above_baseline`: each its lower and upper end.

    Examples
    --------
    >>> low, high = intervals([0, 1] * 50, [0, 1] * 45 + [1, 0] * 5)["accuracy"]
    >>> 0.8 < low < 0.9 < high < 1.0
    True
    """
    true, predicted = np.asarray(y_true), np.asarray(y_pred)
    several = [predicted] if baseline is None else [predicted, np.asarray(baseline)]
    hits = [p == true if true.ndim == 1 else (p == true).all(axis=1) for p in several]
    coded, n_labels = _coded(true, several)

    def statistic(rows: np.ndarray) -> np.ndarray:
        scores = np.array(
            [
                [hit[rows].mean(), _macro_f1(coded[0][rows], other[rows], n_labels)]
                for hit, other in zip(hits, coded[1:], strict=True)
            ]
        )
        return np.concatenate([scores[0], *(scores[:1] - scores[1:])])

    rows = np.arange(len(true))
    names = ["accuracy", "macro_f1", "accuracy_above_baseline", "macro_f1_above_baseline"]
    names = names[: 2 * len(several)]
    if len(rows) < 2:
        return {}
    interval = bootstrap(
        (rows,),
        statistic,
        n_resamples=RESAMPLES,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return {
        name: [float(low), float(high)]
        for name, low, high in zip(names, interval.low, interval.high, strict=True)
    }


def _coded(true: np.ndarray, several: list[np.ndarray]) -> tuple[list[np.ndarray], int]:
    """Return classes as whole numbers from 0, and their number; many labels as they are."""
    if true.ndim == 2:
        return [true, *several], true.shape[1]
    known, codes = np.unique(np.concatenate([true, *several]), return_inverse=True)
    return np.split(codes, len(several) + 1), len(known)


def _macro_f1(true: np.ndarray, predicted: np.ndarray, n_labels: int) -> float:
    if true.ndim == 2:
        hits, sums = (true & predicted).sum(axis=0), (true + predicted).sum(axis=0)
    else:
        hits = np.bincount(true[true == predicted], minlength=n_labels)
        sums = np.bincount(true, minlength=n_labels) + np.bincount(predicted, minlength=n_labels)
        drawn = sums > 0
        hits, sums = hits[drawn], sums[drawn]
    return float((2 * hits / np.maximum(sums, 1)).mean())


def calibration_error(
    y_true: np.ndarray, probabilities: np.ndarray, classes: Sequence[object], n_bins: int = 15
) -> float:
    """Return the expected calibration error.

    The rows are put into bins of equal width by the probability of their predicted class
    (with many labels, of each label). The error is the mean distance between a bin's mean
    probability and its share of right predictions, weighted by its rows.

    Parameters
    ----------
    y_true : numpy.ndarray, shape (n_samples,) or (n_samples, n_labels)
    probabilities : numpy.ndarray, shape (n_samples, n_classes)
    classes : sequence
        The classes in the order of the columns.
    n_bins : int, default=15

    Returns
    -------
    float

    References
    ----------
    C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Examples
    --------
    >>> y, p = np.array([0, 0, 0, 1]), np.array([[0.75, 0.25]] * 4)
    >>> calibration_error(y, p, [0, 1])
    0.0
    """
    right, confidence = confidences(y_true, probabilities, classes)
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / max(len(confidence), 1))


def confidences(
    y_true: np.ndarray, probabilities: np.ndarray, classes: Sequence[object]
) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each prediction is right (1 or 0), and its probability."""
    if y_true.ndim == 2:
        return y_true.ravel().astype(float), probabilities.ravel()
    top = probabilities.argmax(axis=1)
    right = (np.asarray(classes)[top] == y_true).astype(float)
    return right, probabilities[np.arange(len(top)), top]


def brier_score(y_true: np.ndarray, probabilities: np.ndarray, classes: Sequence[object]) -> float:
    """Return the mean squared distance between probabilities and true classes.

    Parameters
    ----------
    y_true : numpy.ndarray, shape (n_samples,) or (n_samples, n_labels)
    probabilities : numpy.ndarray, shape (n_samples, n_classes)
    classes : sequence
        The classes in the order of the columns.

    Returns
    -------
    float
        For two classes, of one column (0 to 1); for more, summed over the columns (0 to 2);
        for many labels, their mean (0 to 1).

    Examples
    --------
    >>> brier_score(np.array([0, 1]), np.array([[1.0, 0.0], [0.5, 0.5]]), [0, 1])
    0.125
    """
    if y_true.ndim == 2:
        return float(((probabilities - y_true) ** 2).mean())
    truth = y_true[:, np.newaxis] == np.asarray(classes)
    squares = (probabilities - truth) ** 2
    return float(squares[:, 1].mean() if len(classes) == 2 else squares.sum(axis=1).mean())


def summarize(
    texts: Sequence[str], labels: np.ndarray, test_texts: Sequence[str], n_longer: int
) -> DataSummary:
    """Return properties of the data that limit what the scores mean.

    Parameters
    ----------
    texts : sequence of str
        The training texts.
    labels : numpy.ndarray, shape (n_samples,) or (n_samples, n_labels)
    test_texts : sequence of str
    n_longer : int
        Training texts longer than the encoder's limit.

    Returns
    -------
    dict
        `words` (in a training text: median, 95th percentile and maximum), `n_duplicates`
        (training rows that repeat a text), `n_contradictions` (distinct texts with
        different labels), `n_in_both` (test rows whose text is also a training text),
        `n_longer`.

    Examples
    --------
    >>> data = summarize(["a b", "a b", "c"], np.array([0, 1, 1]), ["c", "d"], 0)
    >>> data["n_duplicates"], data["n_contradictions"], data["n_in_both"], data["words"]
    (1, 1, 1, [2, 2, 2])
    """
    n_words = [len(text.split()) for text in texts]
    known: dict[str, set[Hashable]] = {}
    for text, label in zip(texts, np.asarray(labels).tolist(), strict=True):
        known.setdefault(text, set()).add(tuple(label) if isinstance(label, list) else label)
    return {
        "words": [int(np.percentile(n_words, q)) for q in (50, 95, 100)],
        "n_duplicates": len(texts) - len(known),
        "n_contradictions": sum(len(different) > 1 for different in known.values()),
        "n_in_both": sum(text in known for text in test_texts),
        "n_longer": n_longer,
    }


def mistakes(
    texts: Sequence[str],
    y_true: np.ndarray,
    y_pred: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[object],
    most: int = EXAMPLES,
    numbers: Sequence[int] | None = None,
) -> list[Example]:
    """Return the wrong predictions with the highest probabilities.

    Parameters
    ----------
    texts : sequence of str
    y_true, y_pred : numpy.ndarray, shape (n_samples,) or (n_samples, n_labels)
    probabilities : numpy.ndarray, shape (n_samples, n_classes)
    classes : sequence
        The classes, or labels, in the order of the columns.
    most : int, default=20
    numbers : sequence of int, optional
        Where each text is: its line, or its number in the table.

    Returns
    -------
    list of dict
        `number` (if known), `text`, `label` (the true one), `predicted`, and the `probability` of
        the predicted one, the highest first. With many labels, one entry for each label that was
        wrong.

    Examples
    --------
    >>> p = np.array([[0.1, 0.9], [0.4, 0.6]])
    >>> mistakes(["a", "b"], np.array([0, 0]), np.array([1, 1]), p, [0, 1], most=1)
    [{'text': 'a', 'label': '0', 'predicted': '1', 'probability': 0.9}]
    """
    if y_true.ndim == 2:
        rows, columns = np.nonzero(y_true != y_pred)
        p, given = probabilities[rows, columns], y_pred[rows, columns] == 1
        confidence = np.where(given, p, 1 - p)
        yes = np.array([str(name) for name in classes], dtype=object)[columns]
        no = np.array([f"not {name}" for name in yes], dtype=object)
        predicted, label = np.where(given, yes, no), np.where(given, no, yes)
    else:
        rows = np.flatnonzero(y_true != y_pred)
        places = {name: place for place, name in enumerate(np.asarray(classes).tolist())}
        columns = np.array([places[name] for name in y_pred[rows].tolist()], dtype=int)
        confidence = probabilities[rows, columns]
        predicted, label = y_pred[rows], y_true[rows]
    order = np.argsort(-confidence, kind="stable")[:most]
    examples: list[Example] = [
        {
            "text": texts[rows[i]],
            "label": str(label[i]),
            "predicted": str(predicted[i]),
            "probability": float(confidence[i]),
        }
        for i in order
    ]
    if numbers is not None:
        for example, i in zip(examples, order, strict=True):
            example["number"] = numbers[rows[i]]
    return examples


def doubtful_labels(
    texts: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[object],
    most: int = EXAMPLES,
    numbers: Sequence[int] | None = None,
) -> list[Example]:
    """Return the training rows with the least likely labels, by a model trained on other rows.

    Parameters
    ----------
    texts, labels, most, numbers
        As for `mistakes`.
    probabilities : numpy.ndarray, shape (n_samples, n_classes)
        Out-of-fold probabilities.
    classes : sequence
        The classes, or labels, in the order of the columns.

    Returns
    -------
    list of dict
        As from `mistakes`.
    """
    if labels.ndim == 2:
        likely = (probabilities >= 0.5).astype(int)
    else:
        likely = np.asarray(classes)[probabilities.argmax(axis=1)]
    return mistakes(texts, labels, likely, probabilities, classes, most, numbers)


def short(label: object, length: int = 40) -> str:
    r"""Return a label on one line, shortened: a text may be taken for a label by mistake.

    Examples
    --------
    >>> short("one\ntwo"), short("politics and society", length=9)
    ('one\\ntwo', 'politics…')
    """
    text = str(label)
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= length else text[: length - 1] + "…"


def labels_in(y_true: ArrayLike, y_pred: ArrayLike) -> list[object]:
    """Return the classes that either contains, sorted."""
    labels: list[object] = np.union1d(np.asarray(y_true), np.asarray(y_pred)).tolist()
    return labels
