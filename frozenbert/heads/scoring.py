"""Checks of labels, class weights and scorers; the default scorer for many labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.metrics import average_precision_score, get_scorer, get_scorer_names, make_scorer
from sklearn.multiclass import OneVsRestClassifier
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from ..errors import InputError

__all__ = [
    "LABELS_SCORER",
    "ClassWeight",
    "as_labels",
    "auto_scorer",
    "auto_scoring",
    "check_class_weight",
    "check_discrete",
    "check_scorer_name",
    "check_scoring",
    "is_auto",
    "is_unbalanced",
    "mean_average_precision",
]

ClassWeight: TypeAlias = Mapping[Any, float] | str | None


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


UNBALANCED = 5  # times as many rows in the largest class as in the smallest


def is_unbalanced(y: ArrayLike) -> bool:
    """Tell whether the largest class has over 5 times the rows of the smallest.

    Examples
    --------
    >>> is_unbalanced(["a"] * 5 + ["b"]), is_unbalanced(["a"] * 6 + ["b"])
    (False, True)
    """
    _, counts = np.unique(np.asarray(y), return_counts=True)
    return bool(counts.max() > UNBALANCED * counts.min())


def is_auto(given: object) -> bool:
    """Tell whether a parameter leaves a choice to the rows."""
    return isinstance(given, str) and given == "auto"


def auto_scoring(y: np.ndarray) -> str | Callable[..., float]:
    """Return the scorer that suits the labels.

    Parameters
    ----------
    y : numpy.ndarray of shape (n_samples,) or (n_samples, n_labels)

    Returns
    -------
    str or scorer
        The mean average precision of many labels; macro F1 of unbalanced classes; else
        accuracy.

    Examples
    --------
    >>> auto_scoring(np.array(["a"] * 100 + ["b"]))
    'f1_macro'
    """
    if y.ndim == 2:
        return LABELS_SCORER
    return "f1_macro" if is_unbalanced(y) else "accuracy"


def auto_scorer(estimator: BaseEstimator, X: ArrayLike, y: ArrayLike) -> float:
    """Return the score that suits the labels of these rows, as from a scorer of scikit-learn.

    A search whose `scoring` this is uses the scorer that suits all its training rows.

    Parameters
    ----------
    estimator : classifier
        Fitted.
    X, y : array-like
    """
    return float(get_scorer(auto_scoring(np.asarray(y)))(estimator, X, y))


def check_scorer_name(scoring: str | None) -> None:
    """Raise `InputError` unless this is the name of a scikit-learn scorer, "auto" or None."""
    if scoring not in (None, "auto") and scoring not in get_scorer_names():
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


def check_class_weight(class_weight: ClassWeight, y: np.ndarray) -> None:
    """Raise `InputError` if a dict of class weights has a key that is no class.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
    y : numpy.ndarray of shape (n_samples,) or (n_samples, n_labels)
        With many labels, the classes are 0 and 1.
    """
    if not isinstance(class_weight, Mapping):
        return
    classes = [0, 1] if y.ndim == 2 else np.unique(y).tolist()
    known = [_weight_key(label) for label in classes]
    for key in class_weight:
        if key in known:
            continue
        if key in classes:
            raise InputError(
                f"for the class {key!r} scikit-learn expects the key {_weight_key(key)!r}.",
                parameter="class_weight",
            )
        shown = ", ".join(repr(label) for label in known[:10])
        raise InputError(
            f"no training row has the class {key!r}; the classes are {shown}"
            f"{', ...' if len(known) > 10 else ''}.",
            parameter="class_weight",
        )


def _weight_key(label: Any) -> int | str:
    """Return the key by which scikit-learn finds a class in a dict of weights."""
    try:
        return int(label)
    except ValueError:
        return str(label)


def as_labels(y: ArrayLike | None) -> np.ndarray:
    """Return classes as an array of one dimension; many labels as an array of two."""
    labels = np.asarray(y)
    if labels.ndim != 2 or labels.shape[1] == 1:
        labels = column_or_1d(y, warn=True)
    check_discrete(labels)
    return labels


def check_discrete(y: np.ndarray) -> None:
    """Raise `ValueError` if labels are numbers of a continuous scale."""
    # `check_classification_targets` alone would also warn of many classes.
    if type_of_target(y, input_name="y", raise_unknown=True).startswith("continuous"):
        check_classification_targets(y)
