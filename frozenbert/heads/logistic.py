"""The heads: scikit-learn classifiers, tuned by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, get_scorer, get_scorer_names, make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier

from ..errors import InputError
from .folds import Folds
from .search import FeatureSearch
from .stacking import MultiLabelClassifier, StackedSearch

__all__ = ["CALIBRATIONS", "C_VALUES", "check_scoring", "make_head"]

# For standardised features: below the smallest a model is near constant, above the largest
# the score has long stopped rising on every data set this was tried on.
C_VALUES = tuple(float(c) for c in np.logspace(-5, 1, 20))

CALIBRATIONS = ("sigmoid", "isotonic")


def make_head(
    *,
    C: Sequence[float] | float | None = None,
    search: str = "head",
    with_words: bool = False,
    calibrate: str | None = None,
    multi_label: bool = False,
    class_weight: str | None = None,
    cv: int = 5,
    scoring: str | None = None,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> Any:
    """Make a logistic regression whose strength C is chosen by stratified folds.

    Newton's method with conjugate gradients: on vectors of encoders, whose columns go
    together, it ends in a few steps where lbfgs, scikit-learn's default, needs hundreds.
    The tolerance is looser than the default; further digits change no prediction.

    Parameters
    ----------
    C : sequence of float, float or None, default=None
        Inverse strengths of regularisation to try. None tries 20 values from 1e-5 to 10,
        evenly spaced in their logarithm; 7 with many labels a text.
    search : {"head", "features"}, default="head"
        "features" chooses layers and pooling too, as `FeatureSearch`.
    with_words : bool, default=False
        Whether the last columns are scores of words, as for `StackedSearch`.
    calibrate : {"sigmoid", "isotonic"} or None, default=None
        How probabilities are mapped, out of fold, to shares of rows.
    multi_label : bool, default=False
        Whether a text may have any number of labels, as `MultiLabelClassifier`.
    class_weight : "balanced" or None, default=None
        "balanced" lets rare classes count as much as frequent ones.
    cv : int, default=5
        Folds, shuffled. scikit-learn warns if a class has fewer rows than that, and
        raises an error if all have.
    scoring : str or None, default=None
        A scikit-learn scorer's name; None is accuracy, and with many labels a text their
        mean average precision, which needs no thresholds.
    random_state : int or None, default=0
        Shuffles the folds.
    n_jobs : int or None, default=None
        Processes for the search, as in scikit-learn.

    Returns
    -------
    sklearn.model_selection.GridSearchCV
        Or, around it, a `FeatureSearch`, `StackedSearch` or `MultiLabelClassifier`.

    Raises
    ------
    InputError
        If a value of `C` is not above 0, `cv` is under 2, or another one is not legal.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> X, y = make_classification(random_state=0)
    >>> head = make_head(C=[0.01, 1.0]).fit(X, y)
    >>> head.best_params_["C"] in (0.01, 1.0)
    True
    """
    default = C_VALUES[::3] if multi_label else C_VALUES
    values = [float(c) for c in np.atleast_1d(default if C is None else C)]
    if not values or not all(0 < c < float("inf") for c in values):
        raise InputError(f"C={C!r}: one or more numbers above 0.")
    if not cv >= 2:
        raise InputError(f"cv={cv!r}: at least 2 folds.")
    for name, value, legal in (
        ("search", search, ("head", "features")),
        ("calibrate", calibrate, (None, *CALIBRATIONS)),
        ("class_weight", class_weight, (None, "balanced")),
    ):
        if value not in legal:
            raise InputError(f"{name}={value!r}: one of {', '.join(map(repr, legal))}.")
    if calibrate is not None and class_weight is not None:
        raise InputError(
            f"calibrate={calibrate!r} with class_weight={class_weight!r}: calibration would undo "
            f"the weights, as it maps to the rows' own shares; choose one of them."
        )
    if scoring is not None and scoring not in get_scorer_names():
        raise InputError(
            f"scoring={scoring!r}: a scikit-learn scorer's name: accuracy, balanced_accuracy, "
            f"f1_macro, neg_log_loss, roc_auc, ... (sklearn.metrics.get_scorer_names() has all)."
        )
    estimator: Any = LogisticRegression(
        solver="newton-cg", tol=1e-3, max_iter=1000, class_weight=class_weight
    )
    name = "C"
    if multi_label:
        estimator, name = OneVsRestClassifier(estimator), "estimator__C"
    head: Any = GridSearchCV(
        estimator,
        {name: values},
        cv=Folds(cv, shuffle=True, random_state=random_state),
        scoring=LABELS_SCORER if multi_label and scoring is None else scoring,
        n_jobs=n_jobs,
    )
    if search == "features":
        head = FeatureSearch(head)
    if multi_label:
        return MultiLabelClassifier(head, with_words=with_words, calibrate=calibrate)
    if with_words or calibrate is not None:
        return StackedSearch(head, with_words=with_words, calibrate=calibrate)
    return head


def _average_precision(y_true: np.ndarray, y_score: np.ndarray) -> float:
    """Mean average precision of the labels that have a positive row."""
    there = np.asarray(y_true).any(axis=0)
    if not there.any():
        return 0.0
    return float(average_precision_score(y_true[:, there], y_score[:, there]))


LABELS_SCORER = make_scorer(
    _average_precision, response_method=("decision_function", "predict_proba")
)


def check_scoring(scoring: str | None, y: Any) -> None:
    """Raise `InputError` if a scorer cannot be used on such labels.

    Parameters
    ----------
    scoring : str or None
    y : array-like
        Labels of the training rows.

    Examples
    --------
    >>> check_scoring("f1_macro", ["good", "bad"])
    >>> check_scoring("f1", ["good", "bad"])
    Traceback (most recent call last):
    frozenbert.errors.InputError: scoring='f1': does not go with these labels (...
    """
    if not isinstance(scoring, str):
        return
    X, y, any_ = np.zeros((len(y), 1)), np.asarray(y), "balanced_accuracy and neg_log_loss"
    probe: Any = DummyClassifier(strategy="prior")
    if y.ndim == 2:
        probe, any_ = OneVsRestClassifier(probe), "f1_micro and average_precision"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            finite = np.isfinite(get_scorer(scoring)(probe.fit(X, y), X, y))
            reason = "it gives no number"
        except (ValueError, TypeError, AttributeError) as error:
            finite, reason = False, str(error).splitlines()[0]
    if not finite:
        raise InputError(
            f"scoring={scoring!r}: does not go with these labels ({reason}); f1_macro, {any_} do."
        )
