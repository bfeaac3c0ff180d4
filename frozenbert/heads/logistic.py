"""The head of a text classifier: logistic regression, tuned by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from ..errors import InputError, LabelWarning
from ..utils.console import callers_level
from ..utils.texts import is_missing
from .folds import CV, AutoFolds, Folds, make_folds
from .multilabel import MultiLabelClassifier
from .scoring import LABELS_SCORER, ClassWeight, auto_scorer, check_scorer_name, is_auto
from .search import FeatureSearch, HeadSearch, base_search
from .stacking import StackedSearch

__all__ = ["CALIBRATIONS", "C_VALUES", "Head", "check_choice", "check_targets", "make_head"]

Head: TypeAlias = HeadSearch | FeatureSearch | StackedSearch | MultiLabelClassifier

# For standardised features. Below the smallest, a model is almost constant; above the largest,
# the score no longer rose on any data set that was tried. Two digits, because people read them.
C_VALUES = tuple(float(f"{c:.1e}") for c in np.logspace(-5, 1, 20))

MANY_NUMBERS = 20  # distinct numbers; more are hardly classes

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


def check_targets(head: Head, y: Any, n_texts: int) -> None:
    """Raise `InputError` unless a head can be fitted on these labels; say so in one line.

    Parameters
    ----------
    head : estimator
        From `make_head`.
    y : array-like of shape (n_texts,) or (n_texts, n_labels)
    n_texts : int

    Warns
    -----
    LabelWarning
        If the labels are many whole numbers, and no codes of classes.

    Examples
    --------
    >>> check_targets(make_head(cv=2), ["a", "b", "a", "b"], 4)
    >>> check_targets(make_head(), ["a", "a"], 2)
    Traceback (most recent call last):
    frozenbert.errors.InputError: y: there is only one class ('a'), and a classifier needs two.
    """
    if y is None:
        raise InputError("labels are needed: one for each text.", parameter="y")
    n_labels = y.shape[0] if hasattr(y, "shape") and len(y.shape) else len(y)
    if n_labels != n_texts:
        raise InputError(f"{n_labels:,} labels for {n_texts:,} texts.", parameter="y")
    many = isinstance(head, MultiLabelClassifier)
    labels = y if hasattr(y, "toarray") else _as_array(y, many)
    if many:
        if labels.ndim == 1:
            raise InputError(
                "one class for each text needs no multi_label=True. If texts have several labels, "
                "give a column of 0 and 1 for each.",
                parameter="y",
            )
        return
    if len(labels.shape) == 2 and labels.shape[1] > 1:
        one_hot = not hasattr(y, "toarray") and _is_one_hot(labels)
        remedy = "give the class of each row, such as y.argmax(axis=1)"
        raise InputError(
            f"has {labels.shape[1]} columns, and a classifier takes one class for each text. "
            f"{f'Each row has a single 1: {remedy}.' if one_hot else 'For columns of 0 and 1, one'}"
            f"{'' if one_hot else ' for each label, set multi_label=True.'}",
            parameter="y",
        )
    _check_classes_of(head, labels.reshape(len(labels)))


def _as_array(y: Any, many: bool) -> np.ndarray:
    try:
        labels = np.asarray(y)
    except ValueError:  # lists of different lengths
        labels = np.empty(0, dtype=object)
    first = next(iter(labels.tolist()), None) if labels.ndim == 1 else None
    if not labels.size or isinstance(first, list | tuple | set):
        raise InputError(
            "holds a list of labels for each text. scikit-learn's MultiLabelBinarizer makes a "
            "column of 0 and 1 for each label"
            + ("." if many else "; give these, and set multi_label=True."),
            parameter="y",
        )
    return labels


def _is_one_hot(labels: np.ndarray) -> bool:
    try:
        return bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all())
    except TypeError:
        return False


def _check_classes_of(head: Head, labels: np.ndarray) -> None:
    """Check one class for each text: none missing, no measurements, enough rows of each."""
    values = labels.tolist()
    missing = [row for row, value in enumerate(values) if is_missing(value)]
    if missing:
        raise InputError(
            f"{len(missing):,} of {len(values):,} labels are missing, the first in row "
            f"{missing[0]} (counted from 0): drop these rows.",
            parameter="y",
        )
    try:
        classes, counts = np.unique(labels, return_counts=True)
    except TypeError:
        kinds = sorted({type(value).__name__ for value in values})
        raise InputError(
            f"labels of several types ({', '.join(kinds)}): make them strings.", parameter="y"
        ) from None
    _check_no_measurements(classes, len(values))
    if len(classes) < 2:
        raise InputError(
            f"there is only one class ({str(classes[0])[:40]!r}), and a classifier needs two.",
            parameter="y",
        )
    folds = base_search(head).cv
    if isinstance(folds, AutoFolds):
        folds.for_rows(labels)
    elif isinstance(folds, Folds) and counts.min() < folds.n_splits:
        rare = str(classes[counts.argmin()])[:40]
        raise InputError(
            f"the class {rare!r} has {counts.min()} of {len(values):,} rows, fewer than the "
            f"{folds.n_splits} folds: add rows, drop the class, or use fewer folds.",
            parameter="cv",
            value=folds.n_splits,
        )


def _check_no_measurements(classes: np.ndarray, n_rows: int) -> None:
    """Refuse numbers of a scale; warn of whole numbers that are no codes of classes."""
    if classes.dtype.kind not in "fiu":
        return
    broken = classes.dtype.kind == "f" and (classes != np.floor(classes)).any()
    if broken or (classes.dtype.kind == "f" and len(classes) > MANY_NUMBERS):
        raise InputError(
            f"holds numbers ({len(classes):,} distinct ones in {n_rows:,} rows, such as "
            f"{classes[len(classes) // 2]:.4g}), and a classifier takes classes. "
            f"Predict numbers instead, with task regression (make_text_regressor); if each number "
            f"is a class, make it a string.",
            parameter="y",
        )
    start = int(classes[0])
    codes = start in (0, 1) and np.array_equal(classes, np.arange(start, start + len(classes)))
    if len(classes) > MANY_NUMBERS and not codes:
        warnings.warn(
            f"the labels are {len(classes):,} distinct whole numbers in {n_rows:,} rows, and each "
            f"is a class. Task regression (make_text_regressor) predicts numbers.",
            LabelWarning,
            stacklevel=callers_level(),
        )
