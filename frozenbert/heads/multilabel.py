"""A head for texts with any number of labels: one search, and a threshold for each label."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import (
    PredefinedSplit,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
)
from sklearn.utils.validation import check_is_fitted

from ..errors import InputError, RareClassWarning
from ..utils.console import callers_level, progress_bar
from .folds import Folds
from .stacking import OutOfFoldHead, calibrated, score_classifier
from .votes.choice import Choice, Predict
from .votes.out_of_fold import OutOfFold, cross_val_proba

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = ["MultiLabelClassifier", "check_flags"]


class MultiLabelClassifier(OutOfFoldHead):
    """Classify texts with any number of labels: one search, then a threshold for each label.

    Each label has a logistic regression of its own, with the features and the C that are
    best for all labels together. A label is predicted where its probability reaches the
    threshold that had the best F1 out of fold.

    Parameters
    ----------
    search : estimator
        A `GridSearchCV` or `FeatureSearch` over a `OneVsRestClassifier`.
    with_words : bool or "auto", default=False
        Whether the last columns of `X` are scores of words, one for each label. "auto" is as
        for `frozenbert.heads.stacking.StackedSearch`.
    calibrate : {"auto", "sigmoid", "isotonic"} or None, default=None
        How each label's probabilities are calibrated, out of fold.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_labels,)
        The labels: the columns' names if `y` has names, else their positions.
    thresholds_ : numpy.ndarray of float, shape (n_labels,)
        0.5 for a label with fewer rows, with it or without it, than folds.
    search_ : estimator
        The fitted search.
    estimators_ : list of estimator
        One for each label, trained on its out-of-fold scores.
    best_params_, cv_results_, best_score_, best_index_
        Those of `search_`.

    See Also
    --------
    frozenbert.heads.stacking.StackedSearch : The same for one class a text.

    Examples
    --------
    >>> from sklearn.datasets import make_multilabel_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.multiclass import OneVsRestClassifier
    >>> from frozenbert.heads.folds import Folds
    >>> X, Y = make_multilabel_classification(n_classes=3, random_state=0)
    >>> each = OneVsRestClassifier(LogisticRegression())
    >>> search = GridSearchCV(each, {"estimator__C": [0.1, 1.0]}, cv=Folds(5))
    >>> model = MultiLabelClassifier(search).fit(X, Y)
    >>> model.predict(X).shape, model.predict_proba(X).shape, model.thresholds_.shape
    ((100, 3), (100, 3), (3,))
    """

    def fit(self, X: Any, y: Any, **params: object) -> MultiLabelClassifier:
        """Search, then tune a threshold for each label.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples, n_labels)
            0 and 1.
        **params
            `groups`, for a splitter such as `GroupKFold`.

        Returns
        -------
        MultiLabelClassifier
            Itself.

        Raises
        ------
        InputError
            If `y` has other values or one column, or the test parts of `cv` are no partition
            of the rows.
        """
        names = getattr(y, "columns", None)
        flags = check_flags(y)
        labels = np.arange(flags.shape[1]) if names is None else np.asarray(names, dtype=object)
        self._labels = labels
        return self._fit_votes(self._fit_search(X, flags, params), flags)

    def _fit_votes(self, held_out: OutOfFold, flags: np.ndarray) -> MultiLabelClassifier:
        labels = self._labels
        self.parts_ = "vote" if self.with_words else "vectors"
        self.calibration_ = self.calibrate
        choice = self._compare(held_out, flags) if self.decides else None
        scores = held_out.of(self.parts_)
        of_label = [scores[:, place :: len(labels)] for place in range(len(labels))]
        self.estimators_ = []
        with progress_bar("auto", len(labels), "Thresholds", "labels") as bar:
            for own, column, label in zip(of_label, flags.T, labels, strict=True):
                self.estimators_.append(self._fit_label(own, column, label, held_out))
                bar.update()
        self.plain_ = self.estimators_
        if self.calibration_ is not None:
            self.plain_ = [
                self._uncalibrated(column).fit(own, column)
                for own, column in zip(of_label, flags.T, strict=True)
            ]
        self.thresholds_ = np.array([getattr(e, "best_threshold_", 0.5) for e in self.estimators_])
        if choice is not None:
            answered = (choice.probabilities >= self.thresholds_).any(axis=0)
            self._warn_of_never_answered(labels[~answered].tolist())
        return self

    def _predictor(self, held_out: OutOfFold, flags: np.ndarray) -> Predict:
        n_labels = flags.shape[1]

        def predict(
            part: str, *, balanced: bool = False, calibration: str | None = None
        ) -> np.ndarray:
            scores, of_label = held_out.of(part), []
            with progress_bar("auto", n_labels, "Out-of-fold scores", "labels") as bar:
                for place, flag in enumerate(flags.T):
                    own = scores[:, place::n_labels]
                    of_label.append(self._proba_out_of_fold(own, flag, held_out, calibration))
                    bar.update()
            return np.column_stack(of_label)

        return predict

    def _compare(self, held_out: OutOfFold, flags: np.ndarray) -> Choice:
        """Decide by out-of-fold scores of all labels together."""
        return self._choose(held_out, flags, self._predictor(held_out, flags), balance=False)

    def _proba_out_of_fold(
        self, scores: np.ndarray, flag: np.ndarray, held_out: OutOfFold, calibration: str | None
    ) -> np.ndarray:
        """Return a label's probability in each row, by a classifier of scores of other rows."""
        folds = held_out.folds
        rarer = min(_rarer(flag[train]) for train, _ in held_out.splits)
        if rarer == 0:
            return np.full(len(flag), flag.mean())
        classifier: BaseEstimator = score_classifier(self.search_)
        if calibration is not None and rarer >= folds.get_n_splits():
            classifier = calibrated(calibration, classifier, folds)
        return cross_val_proba(classifier, scores, flag, held_out.splits)[:, 1]

    def _uncalibrated(self, y: np.ndarray) -> BaseEstimator:
        if 0 < y.sum() < len(y):
            return score_classifier(self.search_)
        return DummyClassifier(strategy="prior")

    def _fit_label(
        self, scores: np.ndarray, y: np.ndarray, label: object, held_out: OutOfFold
    ) -> BaseEstimator:
        """Return a classifier of a label's scores, with a tuned threshold if possible."""
        folds = held_out.folds
        if reason := _why_untunable(folds, scores, y, self.calibration_ is not None):
            constant = y.min() == y.max()
            result = "all texts get the same answer" if constant else "its threshold stays 0.5"
            warnings.warn(
                f"label {str(label)!r} {reason}: {result}.", RareClassWarning, callers_level()
            )
            return self._uncalibrated(y).fit(scores, y)
        estimator: BaseEstimator = score_classifier(self.search_)
        if self.calibration_ is not None:
            # Calibrated within each training part, whose rows a PredefinedSplit does not know.
            inner = folds if isinstance(folds, StratifiedKFold) else Folds(folds.get_n_splits())
            estimator = calibrated(self.calibration_, estimator, inner)
        try:
            return TunedThresholdClassifierCV(
                clone(estimator), scoring="f1", response_method="predict_proba", cv=folds
            ).fit(scores, y)
        except ValueError:
            # Its error for equal probabilities in a fold has no class of its own.
            if not _is_constant_in_a_fold(estimator, scores, y, folds):
                raise
        warnings.warn(
            f"label {str(label)!r} cannot be predicted from these features: every text gets the "
            f"same probability, and its threshold stays 0.5.",
            RareClassWarning,
            stacklevel=callers_level(),
        )
        return estimator.fit(scores, y)

    @property
    def classes_(self) -> np.ndarray:
        """The labels."""
        check_is_fitted(self)
        return self._labels

    def predict(self, X: Any) -> np.ndarray:
        """Return 0 or 1 for each label, shape (n_samples, n_labels)."""
        return (self.predict_proba(X) >= self.thresholds_).astype(int)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each label, shape (n_samples, n_labels)."""
        check_is_fitted(self)
        return self._proba(X, self.estimators_)

    def uncalibrated_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities before calibration, shape (n_samples, n_labels)."""
        check_is_fitted(self)
        return self._proba(X, self.plain_)

    def _proba(self, X: Any, estimators: Sequence[BaseEstimator]) -> np.ndarray:
        scores = self._scores(X)
        columns = []
        for place, estimator in enumerate(estimators):
            classes = estimator.classes_.tolist()
            p = estimator.predict_proba(scores[:, place :: len(self._labels)])
            columns.append(p[:, classes.index(1)] if 1 in classes else np.zeros(len(p)))
        return np.column_stack(columns)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = False
        tags.target_tags.multi_output = True
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.multi_label = True
        return tags


def _why_untunable(
    folds: StratifiedKFold | PredefinedSplit, scores: np.ndarray, y: np.ndarray, calibrate: bool
) -> str | None:
    """Return why no threshold can be tuned on these folds, or None if it can."""
    n_folds = folds.get_n_splits()
    rows = _rarer(y)
    kind = "with" if y.sum() == rows else "without"
    if rows < n_folds:
        return f"has {rows} training rows {kind} it, too few for {n_folds} folds"
    least = min(_rarer(y[train]) for train, _ in folds.split(scores, y))
    if least == 0:
        return f"has all its {rows} training rows {kind} it in one fold"
    if calibrate and least < n_folds:
        return (
            f"has {rows} training rows {kind} it, too few to calibrate it in {n_folds} folds of "
            f"each fold's training rows"
        )
    return None


def _rarer(y: np.ndarray) -> int:
    """Return the number of rows with the label, or without it, whichever is smaller."""
    return int(min(y.sum(), len(y) - y.sum()))


def _is_constant_in_a_fold(
    estimator: BaseEstimator,
    scores: np.ndarray,
    y: np.ndarray,
    folds: StratifiedKFold | PredefinedSplit,
) -> bool:
    """Tell whether all rows of a test part get the same out-of-fold probability."""
    p = cross_val_predict(clone(estimator), scores, y, cv=folds, method="predict_proba")[:, 1]
    return any(np.isclose(p[test].min(), p[test].max()) for _, test in folds.split(scores, y))


def check_flags(y: Any) -> np.ndarray:
    """Return many labels as an array of 0 and 1.

    Parameters
    ----------
    y : array-like or sparse matrix of shape (n_samples, n_labels)

    Returns
    -------
    numpy.ndarray of int64, shape (n_samples, n_labels)

    Raises
    ------
    InputError
        If `y` has other values, or fewer than two columns.
    """
    try:
        flags = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
    except ValueError:  # lists of different lengths
        flags = np.empty(0)
    if flags.ndim != 2 or not np.isin(flags, (0, 1)).all():
        raise InputError(
            "many labels need a column of 0 and 1 for each, shape (n_samples, n_labels); "
            "scikit-learn's MultiLabelBinarizer makes them from lists of labels.",
            parameter="y",
        )
    if flags.shape[1] < 2:
        raise InputError(
            "one label is two classes, with and without it: train on them as such, with "
            "multi_label=False.",
            parameter="y",
        )
    return flags.astype(np.int64)
