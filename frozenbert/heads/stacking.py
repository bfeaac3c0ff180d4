"""Classifiers of a search's out-of-fold scores: votes with words, and calibration."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    PredefinedSplit,
    StratifiedKFold,
)
from sklearn.utils.metadata_routing import MetadataRouter, process_routing
from sklearn.utils.validation import check_is_fitted, validate_data

from ..errors import NeverAnsweredWarning, RareClassWarning
from ..utils.console import callers_level
from ..utils.steps import LinkedToDocs
from .folds import (
    AutoFolds,
    Folds,
    quiet_constant_labels,
    warn_many_classes,
)
from .scoring import as_labels, is_auto, is_unbalanced
from .search import (
    CVResults,
    base_search,
    class_weight_of,
    fitted_grid,
    resolve_search,
    search_routing,
    tuned_estimator,
)
from .votes.choice import Choice, Predict, choose
from .votes.decisions import DecisionClassifier, SharedVote
from .votes.ladder import Ladder, LadderStep
from .votes.out_of_fold import (
    OutOfFold,
    as_columns,
    beside,
    cross_val_proba,
    last_layer_scores,
    out_of_fold,
    out_of_fold_splits,
    score_folds,
)

if TYPE_CHECKING:
    from typing import Self

    from sklearn.utils import Tags

__all__ = ["OutOfFoldHead", "StackedSearch", "calibrated", "score_classifier"]


MIN_TO_CALIBRATE = 10  # rows of the rarest class
MOST_TO_CALIBRATE = 20  # classes; the comparison fits dozens of classifiers of scores
MANY_CLASSES = 20  # above, the vote has too few rows to learn weights for each pair of classes
MIN_FOR_ISOTONIC = 1000  # rows; with fewer, isotonic regression overfits


class OutOfFoldHead(LinkedToDocs, ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Base of heads that fit a search, then a classifier of its out-of-fold scores.

    Parameters
    ----------
    search : estimator
        A `GridSearchCV` or `FeatureSearch`.
    with_words : bool or "auto", default=False
        Whether the last columns of `X` are scores of words. With "auto" they are, and
        out-of-fold scores decide whether vectors, words or both are used.
    calibrate : {"auto", "sigmoid", "isotonic"} or None, default=None
        How probabilities are calibrated, out of fold. "auto" calibrates if that lowers the
        log loss out of fold by a hundredth, and not the score.
    n_scorers : int, default=1
        With words, the number of classifiers whose scores are the last columns.

    Attributes
    ----------
    search_ : estimator
        The fitted search.
    best_params_, cv_results_, best_score_, best_index_
        Those of `search_`.
    parts_ : {"vectors", "words", "vote"}
        The scores that decide; "vote" is both.
    calibration_ : {"sigmoid", "isotonic"} or None
        How probabilities are calibrated.
    ladder_ : list of dict
        What was compared, if anything was to be decided: `step`, its out-of-fold `score` and
        `log_loss`, whether it is `kept`, and a `note` if it was left out.
    """

    n_scorers: int = 1  # models saved before have one
    _held_out_proba: np.ndarray | None = None
    _held_out: OutOfFold | None = None
    search_: BaseEstimator
    parts_: str
    calibration_: str | None
    ladder_: list[LadderStep]

    def __init__(
        self,
        search: BaseEstimator,
        *,
        with_words: bool | str = False,
        calibrate: str | None = None,
        n_scorers: int = 1,
    ) -> None:
        self.search = search
        self.with_words = with_words
        self.calibrate = calibrate
        self.n_scorers = n_scorers

    @abstractmethod
    def _predictor(self, held_out: OutOfFold, y: np.ndarray) -> Predict:
        """Return the function that answers out of fold, by classifiers of scores."""

    @abstractmethod
    def _fit_votes(self, held_out: OutOfFold, y: np.ndarray) -> Self:
        """Decide by out-of-fold scores, and train the classifiers of scores."""

    def _choose(
        self, held_out: OutOfFold, y: np.ndarray, predict: Predict, *, balance: bool
    ) -> Choice:
        """Compare what is to be decided; set `parts_`, `calibration_` and `ladder_`."""
        scorer = fitted_grid(self.search_).scorer_
        ladder = Ladder(y, held_out.splits, scorer)
        if held_out.last_layer is not None:
            p = DecisionClassifier().fit(y, y).predict_proba(held_out.last_layer)
            ladder.add("vectors of the last layer", p)
        # Of the scores of several classifiers, none decides without the others.
        parts = held_out.parts if self.n_scorers == 1 else held_out.parts[1:]
        given = None if self.with_words == "auto" else parts[-1]
        methods, why_not = self._calibrations(held_out, y)
        choice = choose(ladder, predict, parts, balance=balance, calibrations=methods, given=given)
        if why_not:
            ladder.leave_out("calibration", why_not)
        if note := getattr(self.search_, "left_out_", None):
            ladder.note("vectors", note)
        self.parts_ = choice.part
        if self.calibrate == "auto":
            self.calibration_ = choice.calibration
        self.ladder_ = ladder.steps
        self._held_out_proba = choice.probabilities
        return choice

    def held_out_proba(self) -> np.ndarray | None:
        """Return the training rows' out-of-fold probabilities, or None.

        They are there until the head is saved, if out-of-fold scores decided anything.

        Returns
        -------
        numpy.ndarray of shape (n_samples, n_classes), or None
        """
        return self._held_out_proba

    def held_out(self) -> OutOfFold | None:
        """Return the training rows' out-of-fold scores; None once the head was saved."""
        return self._held_out

    def set_held_out(self, scores: OutOfFold, probabilities: np.ndarray) -> None:
        """Set what saving removes.

        Parameters
        ----------
        scores : OutOfFold
        probabilities : numpy.ndarray of shape (n_samples, n_classes)
        """
        self._held_out, self._held_out_proba = scores, probabilities

    def proba_of_votes(self, scores: np.ndarray | None, y: np.ndarray) -> np.ndarray:
        """Return out-of-fold probabilities of a vote with the scores of more classifiers.

        Parameters
        ----------
        scores : numpy.ndarray of shape (n_samples, n_scores), or None
            Out of fold, on the same folds. None is the vote as it is, without calibration.
        y : numpy.ndarray of shape (n_samples,) or (n_samples, n_labels)

        Returns
        -------
        numpy.ndarray of shape (n_samples, n_classes)
        """
        balanced = getattr(self, "class_weight_", None) == "balanced"
        part = self.parts_ if scores is None else "vote"
        return self._predictor(self._beside(scores), y)(part, balanced=balanced)

    def with_votes(self, scores: np.ndarray, y: np.ndarray, n_scorers: int) -> Self:
        """Return a fitted copy that votes with the scores of more classifiers.

        Parameters
        ----------
        scores : numpy.ndarray of shape (n_samples, n_scores)
            Out of fold, on the same folds.
        y : numpy.ndarray of shape (n_samples,) or (n_samples, n_labels)
        n_scorers : int
            Number of classifiers, that of words included, whose scores are the last columns of
            `X` from now on.
        """
        head = copy.copy(self)
        head.with_words, head.n_scorers = True, n_scorers
        head._n_words = n_scorers * self._columns_of_a_scorer(y)
        head._held_out = self._beside(scores)
        return head._fit_votes(head._held_out, y)

    def _beside(self, scores: np.ndarray | None) -> OutOfFold:
        assert self._held_out is not None  # it was fitted in this process
        if scores is None:
            return self._held_out
        words = self._held_out.words
        more = as_columns(scores) if words is None else beside(words, scores)
        return replace(self._held_out, words=more)

    def __getstate__(self) -> dict[str, object]:
        state = {**super().__getstate__()}
        for transient in ("_held_out_proba", "_held_out"):
            state.pop(transient, None)
        return state

    def _calibrations(self, held_out: OutOfFold, y: np.ndarray) -> tuple[list[str], str]:
        """Return the calibrations to compare; or none, and why not."""
        if self.calibrate != "auto":
            return [], ""
        if class_weight_of(base_search(self.search_)) is not None:
            return [], "it would undo the class weights"
        if not isinstance(held_out.folds, StratifiedKFold):
            return [], "it needs stratified folds"
        if y.ndim == 1:
            classes, counts = np.unique(y, return_counts=True)
            if counts.min() < MIN_TO_CALIBRATE:
                return [], f"the rarest class has {counts.min()} rows, under {MIN_TO_CALIBRATE}"
            if len(classes) > MOST_TO_CALIBRATE:
                return [], f"{len(classes)} classes would take too long"
        return ["sigmoid"] if len(y) < MIN_FOR_ISOTONIC else ["sigmoid", "isotonic"], ""

    def _warn_of_never_answered(self, labels: list[object]) -> None:
        """Set `never_answered_`, and warn if it is not empty."""
        self.never_answered_ = labels
        if labels:
            shown = ", ".join(repr(str(label)[:40]) for label in labels[:5])
            more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
            warnings.warn(
                f"never answered out of fold: {shown}{more}. Add rows of this class, join it with "
                f"another, or set class_weight='balanced'.",
                NeverAnsweredWarning,
                stacklevel=callers_level(),
            )

    @property
    def decides(self) -> bool:
        """Whether out-of-fold scores decide anything but the search's parameters."""
        weight = class_weight_of(base_search(self.search))
        return any(is_auto(given) for given in (self.with_words, self.calibrate, weight))

    def _fit_search(self, X: Any, y: np.ndarray, params: dict[str, Any]) -> OutOfFold:
        """Fit `search_`; return out-of-fold scores of vectors and of words."""
        if unknown := sorted(set(params) - {"groups"}):
            raise TypeError(f"fit() takes no metadata but groups, and got {', '.join(unknown)}.")
        routed = process_routing(self, "fit", **params).search.fit
        validate_data(self, X, skip_check_array=True)
        columns = self.n_scorers * self._columns_of_a_scorer(y)
        self._n_words = columns if self.with_words else 0
        vectors, words = self.split(X)
        search = resolve_search(self.search, y)
        _warn_of_fewer_folds(base_search(self.search).cv, base_search(search).cv, y)
        groups = routed.get("groups")
        splits = out_of_fold_splits(search, vectors, y, groups)
        with quiet_constant_labels():
            self.search_ = search.fit(vectors, y, **routed)
        scores = out_of_fold(self.search_, vectors, y, "decision_function", splits)
        folds = score_folds(self.search_, scores, y, groups)
        of_words = None if words is None else as_columns(words)
        last = last_layer_scores(self.search_, vectors, y, splits) if self.decides else None
        self._held_out = OutOfFold(as_columns(scores), of_words, splits, folds, last)
        return self._held_out

    @staticmethod
    def _columns_of_a_scorer(y: np.ndarray) -> int:
        if y.ndim == 2:
            return int(y.shape[1])
        n_classes = len(np.unique(y))
        return 1 if n_classes == 2 else n_classes

    def _scores(self, X: Any) -> np.ndarray:
        vectors, words = self.split(X)
        if self.parts_ == "words":
            assert words is not None
            return as_columns(words)
        scores = as_columns(tuned_estimator(self.search_).decision_function(vectors))
        return scores if self.parts_ == "vectors" else beside(scores, words)

    def split(self, X: Any) -> tuple[Any, np.ndarray | None]:
        """Return the columns of vectors, and those of words' scores.

        Parameters
        ----------
        X : array, DataFrame or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        vectors : of the type of `X`
        words : numpy.ndarray of shape (n_samples, n_scores), or None without words
        """
        if not self._n_words:  # X may be sparse
            return X, None
        n = np.shape(X)[1] - self._n_words
        if hasattr(X, "iloc"):
            return X.iloc[:, :n], np.asarray(X.iloc[:, n:])
        return X[:, :n], np.asarray(X[:, n:])

    def get_metadata_routing(self) -> MetadataRouter:
        """Return how metadata such as `groups` reaches the search.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
        """
        return search_routing(self)

    def __setstate__(self, state: dict[str, object]) -> None:
        if "search_" in state and "parts_" not in state:  # saved before there was a choice
            part = "vote" if state["with_words"] else "vectors"
            state = {**state, "parts_": part, "calibration_": state["calibrate"]}
        super().__setstate__(state)

    @property
    def best_params_(self) -> dict[str, Any]:
        """The parameters that the search chose."""
        check_is_fitted(self)
        return dict(self.search_.best_params_)

    @property
    def cv_results_(self) -> CVResults:
        """The search's results, as of `GridSearchCV`."""
        check_is_fitted(self)
        return dict(self.search_.cv_results_)

    @property
    def best_score_(self) -> float:
        """Mean cross-validated score of `best_params_`, before votes, calibration, thresholds."""
        check_is_fitted(self)
        return float(self.search_.best_score_)

    @property
    def best_index_(self) -> int:
        """Row of `best_params_` in `cv_results_`."""
        check_is_fitted(self)
        return int(self.search_.best_index_)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not self.with_words
        return tags


def _warn_of_fewer_folds(asked: object, folds: object, y: np.ndarray) -> None:
    """Warn if a rare class lowered the number of folds."""
    if not (isinstance(asked, AutoFolds) and isinstance(folds, Folds)) or y.ndim == 2:
        return
    classes, counts = np.unique(y, return_counts=True)
    if counts.min() < asked.n_splits and folds.n_splits == counts.min():
        warnings.warn(
            f"the class {str(classes[counts.argmin()])[:40]!r} has {counts.min()} training rows: "
            f"{folds.n_splits} folds instead of {asked.n_splits}. Scores out of fold are rough.",
            RareClassWarning,
            stacklevel=callers_level(),
        )


class StackedSearch(OutOfFoldHead):
    """Search, then learn from its out-of-fold scores: votes with words, and calibration.

    Two classifiers, of vectors and of words, have a vote each. The weights of the votes are
    those of a logistic regression on both out-of-fold scores.

    Parameters
    ----------
    search : estimator
        A `GridSearchCV` or `FeatureSearch`.
    with_words : bool, default=False
        Whether the last columns of `X` are scores of words, as from
        `frozenbert.heads.words.WordScores`: one column for two classes, else one for each.
    calibrate : {"sigmoid", "isotonic"} or None, default=None
        How probabilities are calibrated, out of fold.

    Attributes
    ----------
    search_ : estimator
        The fitted search.
    best_estimator_ : estimator
        The classifier of scores.
    best_params_, cv_results_, best_score_, best_index_
        Those of `search_`.
    classes_ : numpy.ndarray of shape (n_classes,)

    See Also
    --------
    frozenbert.heads.multilabel.MultiLabelClassifier : The same for many labels.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.model_selection import GridSearchCV
    >>> X, y = make_classification(random_state=0)
    >>> search = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}, cv=5)
    >>> StackedSearch(search, calibrate="sigmoid").fit(X, y).predict_proba(X).shape
    (100, 2)
    """

    def fit(self, X: Any, y: ArrayLike, **params: object) -> StackedSearch:
        """Search, then train on the out-of-fold scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        **params
            `groups`, for a splitter such as `GroupKFold`.

        Returns
        -------
        StackedSearch
            Itself.

        Raises
        ------
        InputError
            If the test parts of `cv` are no partition of the rows.
        """
        y = as_labels(y)
        return self._fit_votes(self._fit_search(X, y, params), y)

    def _fit_votes(self, held_out: OutOfFold, y: np.ndarray) -> StackedSearch:
        self.parts_ = "vote" if self.with_words else "vectors"
        self.calibration_ = self.calibrate
        classifier = score_classifier(self.search_, len(np.unique(y)))
        with warn_many_classes(y, held_out.folds.get_n_splits(), warn=False):
            if self.decides:
                classifier = self._compare(held_out, y)
            scores = held_out.of(self.parts_)
            self.plain_ = self.best_estimator_ = clone(classifier).fit(scores, y)
            if self.calibration_ is not None:
                calibrator = calibrated(self.calibration_, classifier, held_out.folds)
                self.best_estimator_ = calibrator.fit(scores, y)
        return self

    def _predictor(self, held_out: OutOfFold, y: np.ndarray) -> Predict:
        def predict(
            part: str, *, balanced: bool = False, calibration: str | None = None
        ) -> np.ndarray:
            classifier: BaseEstimator = self._score_classifier(part, balanced, y)
            if calibration is not None:
                classifier = calibrated(calibration, classifier, held_out.folds)
            return cross_val_proba(classifier, held_out.of(part), y, held_out.splits)

        return predict

    def _compare(self, held_out: OutOfFold, y: np.ndarray) -> BaseEstimator:
        """Decide by out-of-fold scores; return the classifier of scores, not fitted."""
        predict = self._predictor(held_out, y)
        choice = self._choose(held_out, y, predict, balance=self._weighs(y))
        missing = np.setdiff1d(np.arange(len(np.unique(y))), choice.probabilities.argmax(axis=1))
        self._warn_of_never_answered(np.unique(y)[missing].tolist())
        self.class_weight_ = "balanced" if choice.balanced else None
        return self._score_classifier(choice.part, choice.balanced, y)

    def _weighs(self, y: np.ndarray) -> bool:
        """Tell whether balanced class weights are to be compared."""
        weight = class_weight_of(base_search(self.search))
        if not (is_auto(weight) and self.calibrate in (None, "auto") and is_unbalanced(y)):
            return False
        return len(np.unique(y)) <= MANY_CLASSES

    def _score_classifier(self, part: str, balanced: bool, y: np.ndarray) -> BaseEstimator:
        """Return a classifier of a part's scores: a vote, or the scores as they are."""
        if balanced:
            return LogisticRegression(max_iter=1000, class_weight="balanced")
        if part == "vote":
            return score_classifier(self.search_, len(np.unique(y)))
        return DecisionClassifier(one_vs_rest=part == "words")

    @property
    def classes_(self) -> np.ndarray:
        """The classes."""
        check_is_fitted(self)
        return np.asarray(self.plain_.classes_)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores that decide, as scikit-learn's classifiers do.

        For a calibrated head, these are the logarithms of the odds of two classes, or of the
        probabilities of more.
        """
        check_is_fitted(self)
        if self.calibration_ is None:
            return np.asarray(self.plain_.decision_function(self._scores(X)))
        p = np.clip(self.predict_proba(X), 1e-12, 1)
        return np.log(p[:, 1] / p[:, 0]) if p.shape[1] == 2 else np.log(p)

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each row, shape (n_samples,)."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.predict(self._scores(X)))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, shape (n_samples, n_classes)."""
        check_is_fitted(self)
        return np.asarray(self.best_estimator_.predict_proba(self._scores(X)))

    def uncalibrated_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities before calibration, shape (n_samples, n_classes)."""
        check_is_fitted(self)
        if self.with_words or self.decides:
            return np.asarray(self.plain_.predict_proba(self._scores(X)))
        return np.asarray(tuned_estimator(self.search_).predict_proba(X))


def score_classifier(search: BaseEstimator, n_classes: int = 2) -> LogisticRegression | SharedVote:
    """Return a classifier of scores, hardly regularised."""
    class_weight = class_weight_of(base_search(search))
    if n_classes > MANY_CLASSES:
        return SharedVote(class_weight=class_weight)
    return LogisticRegression(max_iter=1000, class_weight=class_weight)


def calibrated(
    method: str, classifier: BaseEstimator, folds: StratifiedKFold | PredefinedSplit
) -> CalibratedClassifierCV:
    """Return a calibrated classifier of scores."""
    return CalibratedClassifierCV(classifier, method=method, cv=folds, ensemble=False)
