"""Figures: what predictions are worth, how sure that is, and what the data looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    classification_report,
    precision_recall_fscore_support,
)

__all__ = [
    "brier_score",
    "calibration_error",
    "doubtful_labels",
    "intervals",
    "labels_in",
    "mistakes",
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
    labels: Sequence[Any] | None = None,
) -> dict[str, Any]:
    """Return accuracy, averaged F1 and the figures of each class or label.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n_samples,) or (n_samples, n_labels)
        True and predicted classes; with many labels a text, a column of 0 and 1 each.
    probabilities : numpy.ndarray of shape (n_samples, n_labels), optional
        Of many labels, for their average precision.
    labels : sequence, optional
        Names of many labels.

    Returns
    -------
    dict
        `accuracy` (of many labels, rows with all of them right) and `macro_f1` as
        fractions; `per_class` maps each label to `precision`, `recall`, `f1-score` and
        `support` (rows). With many labels a text also `micro_f1`, `n_labels`,
        `macro_average_precision`, and `average_precision` for each (None for one without
        a row).

    Examples
    --------
    >>> figures = score([0, 0, 1, 1], [0, 0, 0, 1])
    >>> figures["accuracy"], round(figures["macro_f1"], 3), figures["per_class"]["1"]["recall"]
    (0.75, 0.733, 0.5)
    """
    # Not the dict of `classification_report`: there, averages and a class of the name
    # "accuracy" or "macro avg" share their keys.
    true, predicted = np.asarray(y_true), np.asarray(y_pred)
    many = true.ndim == 2
    names = list(range(true.shape[1])) if many else labels_in(true, predicted)
    columns = precision_recall_fscore_support(true, predicted, labels=names, zero_division=0)
    if many and labels is not None:
        names = list(labels)
    keys = ("precision", "recall", "f1-score", "support")
    figures: dict[str, Any] = {
        "accuracy": float(accuracy_score(true, predicted)),
        "macro_f1": float(columns[2].mean()),
        "per_class": {
            str(label): dict(zip(keys, row, strict=True))
            for label, *row in zip(names, *(c.tolist() for c in columns), strict=True)
        },
    }
    if many:
        hits, wrong = int((true & predicted).sum()), int((true ^ predicted).sum())
        figures["micro_f1"] = 2 * hits / max(2 * hits + wrong, 1)
        figures["n_labels"] = true.shape[1]
    if many and probabilities is not None:
        found = [
            float(average_precision_score(t, p)) if t.any() else None
            for t, p in zip(true.T, probabilities.T, strict=True)
        ]
        for label, precision in zip(names, found, strict=True):
            figures["per_class"][str(label)]["average_precision"] = precision
        known = [precision for precision in found if precision is not None]
        figures["macro_average_precision"] = float(np.mean(known)) if known else None
    return figures


def score_as_text(y_true: ArrayLike, y_pred: ArrayLike, labels: Sequence[Any] | None = None) -> str:
    """Return scikit-learn's per-class report, a table in plain text.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n_samples,) or (n_samples, n_labels)
        True and predicted labels.
    labels : sequence, optional
        Names of many labels a text.

    Returns
    -------
    str
    """
    places: list[Any] = labels_in(y_true, y_pred)
    names = places
    if np.ndim(y_true) == 2:
        places = list(range(np.shape(y_true)[1]))
        names = places if labels is None else list(labels)
    text: str = classification_report(
        y_true,
        y_pred,
        labels=places,
        target_names=[short(label) for label in names],
        digits=3,
        zero_division=0,
    )
    return text


def intervals(
    y_true: ArrayLike, y_pred: ArrayLike, baseline: ArrayLike | None = None
) -> dict[str, list[float]]:
    """Return 95 % intervals from resampled test rows (percentile bootstrap).

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
    >>> found = intervals([0, 1] * 50, [0, 1] * 45 + [1, 0] * 5)
    >>> low, high = found["accuracy"]
    >>> 0.8 < low < 0.9 < high < 1.0
    True
    """
    true, predicted = np.asarray(y_true), np.asarray(y_pred)
    several = [predicted] if baseline is None else [predicted, np.asarray(baseline)]
    hits = [p == true if true.ndim == 1 else (p == true).all(axis=1) for p in several]
    coded, n_labels = _coded(true, several)

    def statistic(rows: np.ndarray) -> np.ndarray:
        figures = np.array(
            [
                [hit[rows].mean(), _macro_f1(coded[0][rows], other[rows], n_labels)]
                for hit, other in zip(hits, coded[1:], strict=True)
            ]
        )
        return np.concatenate([figures[0], *(figures[:1] - figures[1:])])

    rows = np.arange(len(true))
    names = ["accuracy", "macro_f1", "accuracy_above_baseline", "macro_f1_above_baseline"]
    names = names[: 2 * len(several)]
    if len(rows) < 2:
        return {}
    found = bootstrap(
        (rows,),
        statistic,
        n_resamples=RESAMPLES,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return {
        name: [float(low), float(high)]
        for name, low, high in zip(names, found.low, found.high, strict=True)
    }


def _coded(true: np.ndarray, several: list[np.ndarray]) -> tuple[list[np.ndarray], int]:
    """Classes as whole numbers from 0; many labels as they are."""
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
        there = sums > 0  # a class that was not drawn counts for nothing
        hits, sums = hits[there], sums[there]
    return float((2 * hits / np.maximum(sums, 1)).mean())


def calibration_error(
    y_true: np.ndarray, probabilities: np.ndarray, classes: Sequence[Any], n_bins: int = 15
) -> float:
    """Return the expected calibration error.

    The rows are put into bins of equal width by the probability of their predicted class
    (of many labels, of each label); it is the mean distance between a bin's mean
    probability and its share of right answers, weighted by its rows (Guo et al., On
    Calibration of Modern Neural Networks, 2017).

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

    Examples
    --------
    >>> y, p = np.array([0, 0, 0, 1]), np.array([[0.75, 0.25]] * 4)
    >>> calibration_error(y, p, [0, 1])
    0.0
    """
    right, sure = confidences(y_true, probabilities, classes)
    bins = np.minimum((sure * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, weights=right - sure, minlength=n_bins)
    return float(np.abs(gaps).sum() / max(len(sure), 1))


def confidences(
    y_true: np.ndarray, probabilities: np.ndarray, classes: Sequence[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each answer is right (1 or 0), and how sure it was."""
    if y_true.ndim == 2:
        return y_true.ravel().astype(float), probabilities.ravel()
    top = probabilities.argmax(axis=1)
    right = (np.asarray(classes)[top] == y_true).astype(float)
    return right, probabilities[np.arange(len(top)), top]


def brier_score(y_true: np.ndarray, probabilities: np.ndarray, classes: Sequence[Any]) -> float:
    """Return the mean squared distance between probabilities and what was true.

    Parameters
    ----------
    y_true : numpy.ndarray, shape (n_samples,) or (n_samples, n_labels)
    probabilities : numpy.ndarray, shape (n_samples, n_classes)
    classes : sequence
        The classes in the order of the columns.

    Returns
    -------
    float
        Of two classes, of one column (0 to 1); of more, summed over columns (0 to 2);
        of many labels, their mean (0 to 1).

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
) -> dict[str, Any]:
    """Return what to know of the data before believing a figure.

    Parameters
    ----------
    texts : sequence of str
        The training texts.
    labels : numpy.ndarray, shape (n_samples,) or (n_samples, n_labels)
    test_texts : sequence of str
    n_longer : int
        Training texts over the encoder's limit.

    Returns
    -------
    dict
        `words` (median, 95th percentile and maximum of the training texts' words),
        `n_duplicates` (rows whose text stood before), `n_contradictions` (distinct texts
        with different labels), `n_in_both` (test rows whose text is among the training
        texts), `n_longer`.

    Examples
    --------
    >>> found = summarize(["a b", "a b", "c"], np.array([0, 1, 1]), ["c", "d"], 0)
    >>> found["n_duplicates"], found["n_contradictions"], found["n_in_both"], found["words"]
    (1, 1, 1, [2, 2, 2])
    """
    n_words = [len(text.split()) for text in texts]
    known: dict[str, set[Any]] = {}
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
    classes: Sequence[Any],
    most: int = EXAMPLES,
) -> list[dict[str, Any]]:
    """Return the wrong answers that were given with most confidence.

    Parameters
    ----------
    texts : sequence of str
    y_true, y_pred : numpy.ndarray, shape (n_samples,) or (n_samples, n_labels)
    probabilities : numpy.ndarray, shape (n_samples, n_classes)
    classes : sequence
        The classes, or labels, in the order of the columns.
    most : int, default=20

    Returns
    -------
    list of dict
        `text`, `label` (the true one), `found` (the answer) and `probability` of the
        answer, the most confident first. With many labels a text, one entry for each
        label that was wrong.

    Examples
    --------
    >>> p = np.array([[0.1, 0.9], [0.4, 0.6]])
    >>> mistakes(["a", "b"], np.array([0, 0]), np.array([1, 1]), p, [0, 1], most=1)
    [{'text': 'a', 'label': '0', 'found': '1', 'probability': 0.9}]
    """
    if y_true.ndim == 2:
        rows, columns = np.nonzero(y_true != y_pred)
        present = y_pred[rows, columns] == 1
        sure = np.where(present, probabilities[rows, columns], 1 - probabilities[rows, columns])
        names = np.array([str(name) for name in classes], dtype=object)[columns]
        yes, no = names, np.array([f"not {name}" for name in names], dtype=object)
        found, label = np.where(present, yes, no), np.where(present, no, yes)
    else:
        rows = np.flatnonzero(y_true != y_pred)
        places = {name: place for place, name in enumerate(np.asarray(classes).tolist())}
        at = np.array([places[name] for name in y_pred[rows].tolist()], dtype=int)
        sure = probabilities[rows, at]
        found, label = y_pred[rows], y_true[rows]
    order = np.argsort(-sure, kind="stable")[:most]
    return [
        {
            "text": texts[rows[i]],
            "label": str(label[i]),
            "found": str(found[i]),
            "probability": float(sure[i]),
        }
        for i in order
    ]


def doubtful_labels(
    texts: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[Any],
    most: int = EXAMPLES,
) -> list[dict[str, Any]]:
    """Return the training rows whose label is least likely to a model not trained on them.

    Parameters
    ----------
    texts, labels, most
        As for `mistakes`.
    probabilities : numpy.ndarray, shape (n_samples, n_classes)
        Out of fold.
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
    return mistakes(texts, labels, likely, probabilities, classes, most)


def short(label: Any, length: int = 40) -> str:
    r"""Return a label on one line, cut if it is long: it may be a text by mistake.

    Examples
    --------
    >>> short("one\ntwo"), short("politics and society", length=9)
    ('one\\ntwo', 'politics…')
    """
    text = str(label)
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= length else text[: length - 1] + "…"


def labels_in(y_true: ArrayLike, y_pred: ArrayLike) -> list[Any]:
    """Return the classes that stand in either, in their order."""
    labels: list[Any] = np.union1d(np.asarray(y_true), np.asarray(y_pred)).tolist()
    return labels
