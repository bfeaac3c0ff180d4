"""The head of a text classifier: logistic regression, tuned by cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from ..errors import InputError
from .folds import CV, make_folds
from .multilabel import MultiLabelClassifier
from .scoring import LABELS_SCORER, ClassWeight, auto_scorer, check_scorer_name, is_auto
from .search import FeatureSearch, HeadSearch
from .stacking import StackedSearch

__all__ = ["CALIBRATIONS", "C_VALUES", "Head", "check_choice", "make_head"]

Head: TypeAlias = HeadSearch | FeatureSearch | StackedSearch | MultiLabelClassifier

# For standardised features. Below the smallest, a model is almost constant; above the largest,
# the score no longer rose on any data set that was tried.
C_VALUES = tuple(float(c) for c in np.logspace(-5, 1, 20))

# The time that recipe="auto" gives to layers and pooling, in searches of the plain recipe. Words
# and votes take about as long again on many classes.
PLAIN_SEARCHES = 1.5

CALIBRATIONS = ("sigmoid", "isotonic")


def make_head(
    *,
    C: Sequence[float] | float | None = None,
    search: str = "head",
    with_words: bool | str = False,
    calibrate: str | None = None,
    multi_label: bool = False,
    class_weight: ClassWeight = None,
    cv: CV | None = 5,
    scoring: str | None = None,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> Head:
    """Make a logistic regression whose C is chosen by cross-validation.

    Parameters
    ----------
    C : sequence of float, float or None, default=None
        Inverse strengths of regularisation to try. None tries 20 values from 1e-5 to 10,
        evenly spaced on a logarithmic scale; 7 of them with many labels.
    search : {"head", "features"}, default="head"
        "features" chooses layers and pooling too, by `FeatureSearch`.
    with_words : bool or "auto", default=False
        Whether the last columns are scores of words, as for `StackedSearch`.
    calibrate : {"auto", "sigmoid", "isotonic"} or None, default=None
        How probabilities are calibrated, out of fold; "auto": if that helps.
    multi_label : bool, default=False
        Whether a text may have any number of labels, as for `MultiLabelClassifier`.
    class_weight : dict, "balanced", "auto" or None, default=None
        As in scikit-learn; with many labels, a dict weighs 0 and 1 of each label. "auto"
        compares balanced weights of unbalanced classes out of fold.
    cv : int, "auto", splitter or iterable of splits, default=5
        As for `frozenbert.heads.folds.make_folds`.
    scoring : str or None, default=None
        The name of a scikit-learn scorer. None is accuracy, or the average precision of many
        labels; "auto" too, but macro F1 if the largest class has over 5 times the rows of the
        smallest.
    random_state : int or None, default=0
        Shuffles the folds.
    n_jobs : int or None, default=None
        Processes for the search, as in scikit-learn.

    Returns
    -------
    HeadSearch, FeatureSearch, StackedSearch or MultiLabelClassifier
        Each has `best_params_` and `cv_results_` once it is fitted.

    Raises
    ------
    InputError
        If a parameter has no legal value.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> X, y = make_classification(random_state=0)
    >>> head = make_head(C=[0.01, 1.0]).fit(X, y)
    >>> head.best_params_["C"] in (0.01, 1.0)
    True
    """
    check_choice("search", search, ("head", "features"))
    check_choice("calibrate", calibrate, (None, "auto", *CALIBRATIONS))
    check_choice("with_words", with_words, (True, False, "auto"))
    _check_class_weight(class_weight, calibrate)
    check_scorer_name(scoring)
    grid = _c_values(C, multi_label)
    estimator, name = _logistic(class_weight, multi_label)
    scorer = LABELS_SCORER if scoring is None and multi_label else scoring
    scorer = auto_scorer if is_auto(scorer) else scorer
    head: HeadSearch | FeatureSearch = HeadSearch(
        estimator, {name: grid}, cv=make_folds(cv, random_state), scoring=scorer, n_jobs=n_jobs
    )
    is_any_auto = "auto" in filter(is_auto, (cv, scoring, class_weight, calibrate, with_words))
    if search == "features":
        head = FeatureSearch(head, limit=PLAIN_SEARCHES if is_any_auto else None)
    if multi_label:
        return MultiLabelClassifier(head, with_words=with_words, calibrate=calibrate)
    if with_words or calibrate is not None or is_any_auto:
        return StackedSearch(head, with_words=with_words, calibrate=calibrate)
    return head


def _logistic(
    class_weight: ClassWeight, multi_label: bool
) -> tuple[LogisticRegression | OneVsRestClassifier, str]:
    """Return the classifier, and the name of its parameter C."""
    # Along a path of C, each fit starts from the last one's coefficients. From there lbfgs is
    # faster than Newton's method with conjugate gradients, at the same score.
    each = LogisticRegression(tol=1e-4, max_iter=1000, class_weight=class_weight)
    return (OneVsRestClassifier(each), "estimator__C") if multi_label else (each, "C")


def _c_values(C: Sequence[float] | float | None, multi_label: bool) -> list[float]:
    default = C_VALUES[::3] if multi_label else C_VALUES
    values = [float(c) for c in np.atleast_1d(default if C is None else C)]
    if not values or not all(0 < c < float("inf") for c in values):
        raise InputError("one or more numbers above 0.", parameter="C", value=C)
    return values


def check_choice(parameter: str, value: object, legal: Sequence[object]) -> None:
    """Raise `InputError` unless a value is one of those that are legal."""
    if value not in legal:
        raise InputError(f"one of {', '.join(map(repr, legal))}.", parameter=parameter, value=value)


def _check_class_weight(class_weight: ClassWeight, calibrate: str | None) -> None:
    weights = isinstance(class_weight, Mapping) and all(
        isinstance(weight, int | float | np.number) and weight >= 0
        for weight in class_weight.values()
    )
    if is_auto(class_weight):
        return
    if not (weights or class_weight is None or class_weight == "balanced"):
        raise InputError(
            "None, 'balanced', or a dict with a number for each class.",
            parameter="class_weight",
            value=class_weight,
        )
    if calibrate not in (None, "auto") and class_weight is not None:
        raise InputError(
            f"calibration would undo class_weight={class_weight!r}, because it maps "
            f"probabilities to the shares of the rows; choose one of the two.",
            parameter="calibrate",
            value=calibrate,
        )
