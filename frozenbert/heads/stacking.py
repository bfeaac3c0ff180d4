"""Classifiers of a search's out-of-fold scores: votes with words, and calibration."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    PredefinedSplit,
    StratifiedKFold,
    check_cv,
    cross_val_predict,
)
from sklearn.utils.metadata_routing import MetadataRouter, process_routing
from sklearn.utils.validation import check_is_fitted, validate_data

from ..errors import InputError, NeverAnsweredWarning, RareClassWarning
from .folds import (
    AutoFolds,
    Folds,
    Splits,
    check_partition,
    cv_splits,
    fixed_folds,
    quiet_constant_labels,
    warn_many_classes,
)
from .scoring import as_labels, is_auto, is_unbalanced, weight_key
from .search import (
    CVResults,
    FeatureSearch,
    HeadSearch,
    base_search,
    class_weight_of,
    fitted_grid,
    fitted_search,
    resolve_search,
    search_routing,
    tuned_estimator,
)
from .selection import SelectVectors, take_columns
from .votes.choice import Choice, Predict, choose
from .votes.decisions import DecisionClassifier, SharedVote
from .votes.ladder import Ladder, LadderStep

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = [
    "OutOfFold",
    "OutOfFoldHead",
    "StackedSearch",
    "calibrated",
    "cross_val_proba",
    "out_of_fold",
    "out_of_fold_splits",
    "score_classifier",
    "score_folds",
]


MIN_TO_CALIBRATE = 10  # rows of the rarest class
MOST_TO_CALIBRATE = 20  # classes; the comparison fits dozens of classifiers of scores
MANY_CLASSES = 20  # above, the vote has too few rows to learn weights for each pair of classes
MIN_FOR_ISOTONIC = 1000  # rows; with fewer, isotonic regression overfits


class OutOfFoldHead(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
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

    _held_out_proba: np.ndarray | None = None
    search_: BaseEstimator
    parts_: str
    calibration_: str | None
    ladder_: list[LadderStep]

    def __init__(
        self, search: BaseEstimator, *, with_words: bool | str = False, calibrate: str | None = None
    ) -> None:
        self.search = search
        self.with_words = with_words
        self.calibrate = calibrate

    def _choose(
        self, held_out: OutOfFold, y: np.ndarray, predict: Predict, *, balance: bool
    ) -> Choice:
        """Compare what is to be decided; set `parts_`, `calibration_` and `ladder_`."""
        scorer = fitted_grid(self.search_).scorer_
        ladder = Ladder(y, held_out.splits, scorer)
        if held_out.last_layer is not None:
            p = DecisionClassifier().fit(y, y).predict_proba(held_out.last_layer)
            ladder.add("vectors of the last layer", p)
        given = None if self.with_words == "auto" else held_out.parts[-1]
        methods, why_not = self._calibrations(held_out, y)
        choice = choose(
            ladder, predict, held_out.parts, balance=balance, calibrations=methods, given=given
        )
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

    def __getstate__(self) -> dict[str, object]:
        state = {**super().__getstate__()}
        state.pop("_held_out_proba", None)
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
                stacklevel=4,
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
        self._n_words = self._count_word_columns(y) if self.with_words else 0
        vectors, words = self.split(X)
        search = resolve_search(self.search, y)
        _warn_of_fewer_folds(base_search(self.search).cv, base_search(search).cv, y)
        groups = routed.get("groups")
        splits = out_of_fold_splits(search, vectors, y, groups)
        with quiet_constant_labels():
            self.search_ = search.fit(vectors, y, **routed)
        scores = out_of_fold(self.search_, vectors, y, "decision_function", splits)
        folds = score_folds(self.search_, scores, y, groups)
        of_words = None if words is None else _columns(words)
        last = last_layer_scores(self.search_, vectors, y, splits) if self.decides else None
        return OutOfFold(_columns(scores), of_words, splits, folds, last)

    @staticmethod
    def _count_word_columns(y: np.ndarray) -> int:
        if y.ndim == 2:
            return int(y.shape[1])
        n_classes = len(np.unique(y))
        return 1 if n_classes == 2 else n_classes

    def _scores(self, X: Any) -> np.ndarray:
        vectors, words = self.split(X)
        if self.parts_ == "words":
            assert words is not None
            return _columns(words)
        scores = _columns(tuned_estimator(self.search_).decision_function(vectors))
        return scores if self.parts_ == "vectors" else _beside(scores, words)

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


def _columns(scores: np.ndarray) -> np.ndarray:
    # Float64, because a calibration in float32 differs in the fourth digit.
    return np.asarray(scores, dtype=np.float64).reshape(len(scores), -1)


def _beside(scores: np.ndarray, words: np.ndarray | None) -> np.ndarray:
    return _columns(scores) if words is None else np.hstack([_columns(scores), _columns(words)])


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
            stacklevel=4,
        )


@dataclass
class OutOfFold:
    """Out-of-fold scores of the training rows.

    Attributes
    ----------
    vectors : numpy.ndarray of float64, shape (n_samples, n_scores)
    words : numpy.ndarray of float64, shape (n_samples, n_scores), or None
    splits : list of (numpy.ndarray, numpy.ndarray)
    folds : splitter
        For classifiers of the scores.
    last_layer : numpy.ndarray of shape (n_samples, n_scores), or None
        Of vectors of the last layer alone.
    """

    vectors: np.ndarray
    words: np.ndarray | None
    splits: Splits
    folds: StratifiedKFold | PredefinedSplit
    last_layer: np.ndarray | None = None

    def of(self, part: str) -> np.ndarray:
        """Return the columns of "vectors", of "words", or of both for "vote"."""
        if part == "vectors":
            return self.vectors
        assert self.words is not None
        return self.words if part == "words" else _beside(self.vectors, self.words)

    @property
    def parts(self) -> list[str]:
        """The parts that may decide."""
        return ["vectors"] if self.words is None else ["words", "vectors", "vote"]


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

    def fit(self, X: Any, y: ArrayLike, **params: Any) -> StackedSearch:
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
        held_out = self._fit_search(X, y, params)
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

    def _compare(self, held_out: OutOfFold, y: np.ndarray) -> BaseEstimator:
        """Decide by out-of-fold scores; return the classifier of scores, not fitted."""

        def predict(
            part: str, *, balanced: bool = False, calibration: str | None = None
        ) -> np.ndarray:
            classifier: BaseEstimator = self._score_classifier(part, balanced, y)
            if calibration is not None:
                classifier = calibrated(calibration, classifier, held_out.folds)
            return cross_val_proba(classifier, held_out.of(part), y, held_out.splits)

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


def last_layer_scores(
    search: BaseEstimator, X: Any, y: np.ndarray, splits: Splits
) -> np.ndarray | None:
    """Return out-of-fold scores of the last layer's vectors, or None if no layers were compared.

    Parameters
    ----------
    search : FeatureSearch or GridSearchCV
        Fitted.
    X : pandas.DataFrame of shape (n_samples, n_features)
    y : numpy.ndarray of shape (n_samples,) or (n_samples, n_labels)
    splits : list of (numpy.ndarray, numpy.ndarray)
    """
    if not isinstance(search, FeatureSearch) or y.ndim == 2:
        return None
    last = max(max(one["layers"]) for one in search.features_)
    alone = [one for one in search.features_ if one["layers"] == (last,)]
    if not alone:
        return None
    best = max(alone, key=lambda one: one["score"])
    columns = SelectVectors(best["layers"], best["pooling"]).fit(X[:1]).columns_
    (name,), values = search.search.param_grid, next(iter(search.search.param_grid.values()))
    near = [C for C in values if best["C"] / 5 <= C <= best["C"] * 5] or values
    grid = clone(search.search).set_params(param_grid={name: near}, cv=splits)
    grid.fit(take_columns(np.asarray(X), columns), y)
    return out_of_fold(grid, take_columns(np.asarray(X), columns), y, "decision_function", splits)


def cross_val_proba(
    estimator: BaseEstimator, X: np.ndarray, y: np.ndarray, splits: Splits
) -> np.ndarray:
    """Return the probabilities of each row by an estimator that was fitted on the other folds."""
    estimator = clone(estimator)
    if y.ndim == 1:
        _code_class_weight(estimator, y)
    return np.asarray(cross_val_predict(estimator, X, y, cv=splits, method="predict_proba"))


def score_classifier(search: BaseEstimator, n_classes: int = 2) -> LogisticRegression | SharedVote:
    """Return a classifier of scores, hardly regularised."""
    class_weight = class_weight_of(base_search(search))
    if n_classes > MANY_CLASSES:
        return SharedVote(class_weight=class_weight)
    return LogisticRegression(max_iter=1000, class_weight=class_weight)


def score_folds(
    search: BaseEstimator, scores: np.ndarray, y: np.ndarray, groups: ArrayLike | None
) -> StratifiedKFold | PredefinedSplit:
    """Return the splitter for classifiers of scores, which is saved with them."""
    splitter = check_cv(base_search(search).cv, y, classifier=True)
    if isinstance(splitter, StratifiedKFold):
        return splitter
    # scikit-learn's calibration passes no groups on to the splitter.
    return fixed_folds(cv_splits(splitter, scores, y, groups), len(y))


def calibrated(
    method: str, classifier: BaseEstimator, folds: StratifiedKFold | PredefinedSplit
) -> CalibratedClassifierCV:
    """Return a calibrated classifier of scores."""
    return CalibratedClassifierCV(classifier, method=method, cv=folds, ensemble=False)


def out_of_fold_splits(
    head: BaseEstimator, X: Any, y: np.ndarray, groups: ArrayLike | None = None
) -> Splits:
    """Return the splits of a head's `cv`, after checking that predictions can be made of them.

    Parameters
    ----------
    head : estimator
        From `frozenbert.heads.logistic.make_head`; it need not be fitted.
    X, y, groups : array-like

    Raises
    ------
    InputError
        If the test parts are no partition of the rows, or a class is missing in a training
        part.
    """
    cv = base_search(head).cv
    splitter = check_cv(cv, y, classifier=True)
    with warnings.catch_warnings():
        # "The least populated class": reported below as an error, or before by the search.
        warnings.filterwarnings(
            "ignore", category=UserWarning, module=r"sklearn\.model_selection\._split"
        )
        splits = cv_splits(splitter, X, y, groups)
    check_partition(splits, len(y), cv)
    if y.ndim == 1:
        _check_class_in_folds(splits, y, isinstance(splitter, StratifiedKFold))
    return splits


def _check_class_in_folds(splits: Splits, y: np.ndarray, stratified: bool) -> None:
    classes, counts = np.unique(y, return_counts=True)
    if stratified and counts.min() < len(splits):
        raise InputError(
            f"class {str(classes[counts.argmin()])!r} has {counts.min()} training rows, and "
            f"predictions out of fold need one in each of the {len(splits)} folds: drop the "
            f"class, or use fewer folds.",
            parameter="cv",
        )
    for number, (train, _) in enumerate(splits):
        missing = np.setdiff1d(classes, y[train])
        if len(missing):
            raise InputError(
                f"the training part of fold {number} has no row of the class "
                f"{str(missing[0])!r}: drop the class, or use other folds.",
                parameter="cv",
            )


def out_of_fold(
    head: BaseEstimator, X: Any, y: np.ndarray, method: str, splits: Splits | None = None
) -> np.ndarray:
    """Predict each row by a fitted head's best estimator, trained on the other folds.

    Parameters
    ----------
    head : estimator
        From `frozenbert.heads.logistic.make_head`.
    X, y : array-like
        What it was fitted on.
    method : {"decision_function", "predict_proba"}
    splits : list of (numpy.ndarray, numpy.ndarray), optional
        From `out_of_fold_splits`; needed if the head's splitter needs groups.

    Returns
    -------
    numpy.ndarray of float, shape (n_samples,), (n_samples, n_classes) or (n_samples, n_labels)

    Raises
    ------
    InputError
        As from `out_of_fold_splits`.
    """
    search = base_search(head)
    splits = out_of_fold_splits(head, X, y) if splits is None else splits
    inner = getattr(fitted_search(head), "search_", fitted_search(head))
    if method == "decision_function" and isinstance(inner, HeadSearch):
        decisions = inner.held_out_decisions()
        if decisions is not None:
            return decisions
    estimator = clone(tuned_estimator(head))
    if y.ndim == 1:
        _code_class_weight(estimator, y)
    with warn_many_classes(y, len(splits), warn=False), quiet_constant_labels():
        return np.asarray(
            cross_val_predict(estimator, X, y, cv=splits, n_jobs=search.n_jobs, method=method)
        )


def _code_class_weight(estimator: BaseEstimator, y: np.ndarray) -> None:
    """Give class weights the keys of `cross_val_predict`, which codes classes from 0."""
    codes = {weight_key(label): code for code, label in enumerate(np.unique(y).tolist())}
    for name, value in estimator.get_params().items():
        if name.rpartition("__")[2] == "class_weight" and isinstance(value, Mapping):
            coded = {codes[key]: weight for key, weight in value.items()}
            estimator.set_params(**{name: coded})
