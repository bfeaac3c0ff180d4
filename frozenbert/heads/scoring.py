"""Scorers of a head's search: the default for many labels, and a check against the labels."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.metrics import average_precision_score, get_scorer, get_scorer_names, make_scorer
from sklearn.multiclass import OneVsRestClassifier

from ..errors import InputError

__all__ = ["LABELS_SCORER", "check_scorer_name", "check_scoring", "mean_average_precision"]


def mean_average_precision(y_true: np.ndarray, y_score: np.ndarray) -> float:
    """Return the mean average precision of the labels that have a positive row.

    Parameters
    ----------
    y_true : numpy.ndarray of 0 and 1, shape (n_samples, n_labels)
    y_score : numpy.ndarray of shape (n_samples, n_labels)

    Returns
    -------
    float
        0.0 if no label has a positive row.

    Examples
    --------
    >>> mean_average_precision(np.array([[1, 0], [0, 0]]), np.array([[0.9, 0.1], [0.2, 0.3]]))
    1.0
    """
    has_rows = np.asarray(y_true).any(axis=0)
    if not has_rows.any():
        return 0.0
    return float(average_precision_score(y_true[:, has_rows], y_score[:, has_rows]))


# It needs no thresholds, which are tuned after the search.
LABELS_SCORER = make_scorer(
    mean_average_precision, response_method=("decision_function", "predict_proba")
)


def check_scorer_name(scoring: str | None) -> None:
    """Raise `InputError` unless this is the name of a scikit-learn scorer, or None."""
    if scoring is not None and scoring not in get_scorer_names():
        raise InputError(
            "a scikit-learn scorer's name: accuracy, balanced_accuracy, f1_macro, neg_log_loss, "
            "roc_auc, ... (sklearn.metrics.get_scorer_names() lists all).",
            parameter="scoring",
            value=scoring,
        )


def check_scoring(scoring: object, y: ArrayLike) -> None:
    """Raise `InputError` if a scorer cannot be used on such labels.

    Parameters
    ----------
    scoring : str, scorer or None
        Only names are checked.
    y : array-like
        Labels of the training rows.

    Examples
    --------
    >>> check_scoring("f1_macro", ["good", "bad"])
    >>> check_scoring("f1", ["good", "bad"])
    Traceback (most recent call last):
    frozenbert.errors.InputError: scoring='f1': does not suit these labels (...
    """
    if not isinstance(scoring, str):
        return
    y = np.asarray(y)
    X, others = np.zeros((len(y), 1)), "f1_macro, balanced_accuracy and neg_log_loss"
    probe: BaseEstimator = DummyClassifier(strategy="prior")
    if y.ndim == 2:
        probe, others = OneVsRestClassifier(probe), "f1_macro, f1_micro and average_precision"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant prediction is the point of the probe
        try:
            finite = np.isfinite(get_scorer(scoring)(probe.fit(X, y), X, y))
            reason = "it gives no number"
        except (ValueError, TypeError, AttributeError) as error:
            finite, reason = False, str(error).splitlines()[0]
    if not finite:
        raise InputError(
            f"does not suit these labels ({reason}). Others do: {others}.",
            parameter="scoring",
            value=scoring,
        )
