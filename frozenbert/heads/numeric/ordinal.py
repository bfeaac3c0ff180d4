"""Classifiers of ordered grades, such as 1 to 5 stars."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from ...errors import InputError
from ..folds import Splits
from ..selection import take_columns
from .ridge import NumberStep, RidgeHead
from .tasks import Score, check_target, score_function, split_rows

__all__ = [
    "CumulativeClassifier",
    "CutPoints",
    "OrdinalHead",
    "check_grades",
    "grades_of",
    "learn_cut_points",
]

C_VALUES = (1e-4, 1e-3, 1e-2, 1e-1)
POSITIONS = 60  # places of a cut point that are tried
ROUNDS = 4
WEAK = 1e4  # C of a logistic regression on one column: hardly any regularisation


class CumulativeClassifier(ClassifierMixin, BaseEstimator):
    """Logistic regressions, one for each border between two grades.

    Parameters
    ----------
    C : float, default=0.01
        Inverse strength of regularisation, the same for all.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_grades,)
        In their order.
    models_ : list of sklearn.linear_model.LogisticRegression
        One for each grade but the last: the probability of a higher one.

    References
    ----------
    E. Frank and M. Hall, "A Simple Approach to Ordinal Classification", ECML 2001.

    Examples
    --------
    >>> X = np.arange(9.0)[:, np.newaxis]
    >>> model = CumulativeClassifier(C=10.0).fit(X, [1, 1, 1, 2, 2, 2, 3, 3, 3])
    >>> model.predict([[0.0], [4.0], [8.0]]).tolist()
    [1, 2, 3]
    """

    def __init__(self, C: float = 0.01) -> None:
        self.C = C

    def fit(self, X: ArrayLike, y: ArrayLike) -> CumulativeClassifier:
        """Fit a regression for each border.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)

        Returns
        -------
        CumulativeClassifier
            Itself.
        """
        array, grades = validate_data(self, X, y, dtype=np.float64)
        self.classes_ = np.unique(grades)
        self.models_ = [
            LogisticRegression(C=self.C, tol=1e-3, max_iter=1000).fit(array, grades > grade)
            for grade in self.classes_[:-1]
        ]
        return self

    def above(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of a grade above each but the last, never rising.

        Returns
        -------
        numpy.ndarray of shape (n_samples, n_grades - 1)
        """
        check_is_fitted(self)
        array = validate_data(self, X, dtype=np.float64, reset=False)
        p = np.column_stack([model.predict_proba(array)[:, 1] for model in self.models_])
        return np.minimum.accumulate(p, axis=1)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each grade, shape (n_samples, n_grades)."""
        return probabilities(self.above(X))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the most probable grade of each row."""
        found = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return np.asarray(found)


def probabilities(above: np.ndarray) -> np.ndarray:
    """Return the probability of each grade, from those of a higher one.

    Examples
    --------
    >>> probabilities(np.array([[0.75, 0.25]])).tolist()
    [[0.25, 0.5, 0.25]]
    """
    ends = np.ones((len(above), 1))
    return np.hstack([ends, above]) - np.hstack([above, 0 * ends])


class CutPoints(BaseEstimator):
    """Grades, as whole numbers from 0, from the predictions of a regression.

    Parameters
    ----------
    scoring : str, default="kappa_and_mae"
        As for `OrdinalHead`.

    Attributes
    ----------
    model_ : CumulativeClassifier
    cut_points_ : numpy.ndarray of shape (n_grades - 1,)

    Examples
    --------
    >>> cuts = CutPoints().fit(np.arange(8.0)[:, np.newaxis], np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    >>> cuts.codes_from_proba(cuts.predict_proba([[0.0], [7.0]])).tolist()
    [0, 1]
    """

    def __init__(self, scoring: str = "kappa_and_mae") -> None:
        self.scoring = scoring

    def fit(self, X: ArrayLike, y: np.ndarray) -> CutPoints:
        """Fit on out-of-fold predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, 1)
        y : numpy.ndarray of int, shape (n_samples,)
            Grades, from 0.

        Returns
        -------
        CutPoints
            Itself.
        """
        self.model_ = CumulativeClassifier(C=WEAK).fit(X, y)
        places = self.model_.above(X).sum(axis=1)
        self.cut_points_ = learn_cut_points(places, y, len(self.model_.classes_), self.scoring)
        return self

    def cross_fitted(self, predicted: np.ndarray, codes: np.ndarray, splits: Splits) -> np.ndarray:
        """Return the grades of each fold by cut points that were chosen on the others.

        Parameters
        ----------
        predicted : numpy.ndarray of shape (n_samples,)
            Out-of-fold predictions.
        codes : numpy.ndarray of int, shape (n_samples,)
        splits : list of (numpy.ndarray, numpy.ndarray)

        Returns
        -------
        numpy.ndarray of int, shape (n_samples,)
        """
        weak = CumulativeClassifier(C=WEAK)
        above = _held_out_above(weak, predicted[:, np.newaxis], codes, splits)
        return _cross_fitted(above.sum(axis=1), codes, splits, self.scoring)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each grade, shape (n_samples, n_grades)."""
        return probabilities(self.model_.above(X))

    def codes_from_proba(self, p: np.ndarray) -> np.ndarray:
        """Return the grades, from 0, from the probabilities of all, shape (n_samples,)."""
        return grades_of(p @ np.arange(p.shape[1]), self.cut_points_)


class OrdinalHead(ClassifierMixin, BaseEstimator):
    """Ordered grades: a ridge regression with cut points, or cumulative logistic regressions.

    Out-of-fold predictions decide which of the two. Both give the probability of each grade;
    the grade that is predicted is where the expected grade lies between cut points, which are
    chosen for the score that decides. It need not be the most probable one.

    Parameters
    ----------
    ridge : RidgeHead
        Chooses layers, pooling, words and the strength of its own regularisation.
    C : sequence of float or None, default=None
        Values of C for the cumulative regressions; None tries 4 from 1e-4 to 0.1.
    scoring : {"kappa_and_mae", "quadratic_kappa", "mae", "accuracy"}, "auto" or None, default=None
        The score that decides; "auto" and None are "kappa_and_mae", the mean of quadratic kappa
        and of the share of the absolute error that is saved against always answering the median.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_grades,)
    ridge_ : RidgeHead
        Predicts the grade as a number.
    method_ : {"cut points", "cumulative"}
    model_ : estimator
        A `CumulativeClassifier` of the ridge's predictions or, if that is the method, of the
        vectors.
    cut_points_ : numpy.ndarray of shape (n_grades - 1,)
        Between expected places of grades, which begin with 0.
    ladder_ : list of dict
        What was compared out of fold: `step`, `score` and whether it is `kept`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3))
    >>> y = np.digitize(X[:, 0], [-0.5, 0.5]) + 1
    >>> head = OrdinalHead(RidgeHead()).fit(X, y)
    >>> bool(np.mean(head.predict(X) == y) > 0.9)
    True
    """

    __metadata_request__fit = {"groups": True}  # noqa: RUF012  # scikit-learn's way
    _held_out: np.ndarray | None = None

    def __init__(
        self,
        ridge: RidgeHead,
        *,
        C: Sequence[float] | None = None,
        scoring: str | None = None,
    ) -> None:
        self.ridge = ridge
        self.C = C
        self.scoring = scoring

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> OrdinalHead:
        """Search, and fit the best on all rows.

        Parameters
        ----------
        X : array or DataFrame of shape (n_samples, n_features)
            As for `RidgeHead`.
        y : array-like of shape (n_samples,)
            At most 50 distinct numbers.
        groups : array-like of shape (n_samples,), optional

        Returns
        -------
        OrdinalHead
            Itself.

        Raises
        ------
        InputError
            If `y` is not made of such numbers, or a grade is missing in the training part of
            a fold.
        """
        grades = check_target(y, "ordinal")
        self.scoring_, score = score_function("ordinal", self.scoring)
        self.classes_, codes = np.unique(grades, return_inverse=True)
        splits = split_rows(self.ridge.cv, codes, groups, self.ridge.random_state)
        check_grades(self.classes_, codes, splits)
        self.ridge_ = clone(self.ridge).set_params(cv=splits).fit(X, grades)
        self.ridge_.cv = self.ridge.cv  # row numbers are not saved
        predicted = self.ridge_.held_out()
        assert predicted is not None
        array = validate_data(self, X, dtype=np.float64)
        columns = self._columns(array)
        weak = CumulativeClassifier(C=WEAK)
        held_out = {"cut points": _held_out_above(weak, predicted[:, np.newaxis], codes, splits)}
        self.C_, held_out["cumulative"] = self._tune(columns, codes, splits, score)
        decided = {
            name: _cross_fitted(above.sum(axis=1), codes, splits, self.scoring_)
            for name, above in held_out.items()
        }
        scores = {
            name: float(np.mean([self._score(score, codes, one, test) for _, test in splits]))
            for name, one in decided.items()
        }
        self.method_ = max(scores, key=scores.__getitem__)
        if self.method_ == "cut points":
            self.model_ = weak.fit(predicted[:, np.newaxis], codes)
        else:
            self.model_ = _scaled(self.C_).fit(columns, codes)
        self.cut_points_ = learn_cut_points(
            held_out[self.method_].sum(axis=1), codes, len(self.classes_), self.scoring_
        )
        titles = {
            "cut points": "regression with cut points",
            "cumulative": "cumulative logistic regressions",
        }
        self.ladder_: list[NumberStep] = [
            {"step": titles[name], "score": found, "kept": name == self.method_}
            for name, found in scores.items()
        ]
        self._held_out = self.classes_[decided[self.method_]]
        return self

    def _score(self, score: Score, codes: np.ndarray, found: np.ndarray, rows: np.ndarray) -> float:
        return score(self.classes_[codes[rows]], self.classes_[found[rows]])

    def _columns(self, X: np.ndarray) -> np.ndarray:
        """Return the columns that the ridge regression uses: vectors, words, or both."""
        ridge = self.ridge_
        if ridge.parts_ == "words":
            return X[:, -1:]
        vectors = take_columns(X, ridge.columns_)
        return vectors if ridge.parts_ == "vectors" else np.hstack([vectors, X[:, -1:]])

    def _tune(
        self, X: np.ndarray, codes: np.ndarray, splits: Splits, score: Score
    ) -> tuple[float, np.ndarray]:
        """Return the best C of cumulative regressions, and its out-of-fold probabilities."""
        best: tuple[float, float, np.ndarray] | None = None
        for C in C_VALUES if self.C is None else self.C:
            above = _held_out_above(_scaled(C), X, codes, splits)
            decided = _cross_fitted(above.sum(axis=1), codes, splits, self.scoring_)
            found = float(np.mean([self._score(score, codes, decided, t) for _, t in splits]))
            if best is None or found > best[0]:
                best = found, C, above
        assert best is not None
        return best[1:]

    def held_out(self) -> np.ndarray | None:
        """Return the training rows' out-of-fold grades; None after loading."""
        return self._held_out

    def _above(self, X: ArrayLike) -> np.ndarray:
        check_is_fitted(self)
        array = validate_data(self, X, dtype=np.float64, reset=False)
        if self.method_ == "cut points":
            return np.asarray(self.model_.above(self.ridge_.predict(X)[:, np.newaxis]))
        scaled = self.model_[0].transform(self._columns(array))
        return np.asarray(self.model_[1].above(scaled))

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each grade, shape (n_samples, n_grades)."""
        return probabilities(self._above(X))

    def expected(self, X: ArrayLike) -> np.ndarray:
        """Return the expected grade of each row, shape (n_samples,)."""
        return np.asarray(self.predict_proba(X) @ self.classes_)

    def labels_from_proba(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the grade of each row from its probabilities, shape (n_samples,)."""
        places = probabilities @ np.arange(len(self.classes_))
        return np.asarray(self.classes_[grades_of(places, self.cut_points_)])

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the grade of each row, shape (n_samples,)."""
        return self.labels_from_proba(self.predict_proba(X))

    def __getstate__(self) -> dict[str, object]:
        state = {**super().__getstate__()}
        state.pop("_held_out", None)
        return state


def _scaled(C: float) -> Pipeline:
    # The vectors have one scale, the predictions of words another.
    return Pipeline([("scale", StandardScaler()), ("classify", CumulativeClassifier(C=C))])


def check_grades(classes: np.ndarray, codes: np.ndarray, splits: Splits) -> None:
    """Raise `InputError` if a grade is missing in the training part of a fold."""
    for train, _ in splits:
        missing = np.setdiff1d(np.arange(len(classes)), codes[train])
        if len(missing):
            grade = missing[0]
            raise InputError(
                f"the grade {classes[grade]} has {int((codes == grade).sum())} training row, and "
                f"is missing in a fold: add rows, or join it with the next grade.",
                parameter="y",
            )


def _held_out_above(
    model: BaseEstimator, X: np.ndarray, codes: np.ndarray, splits: Splits
) -> np.ndarray:
    """Return the out-of-fold probabilities of a higher grade."""
    found = np.empty((len(codes), codes.max()))
    for train, test in splits:
        fitted = clone(model).fit(X[train], codes[train])
        p = fitted.predict_proba(X[test])
        found[test] = p[:, ::-1].cumsum(axis=1)[:, -2::-1]
    return found


def _cross_fitted(
    places: np.ndarray, codes: np.ndarray, splits: Splits, scoring: str
) -> np.ndarray:
    """Return the grades of each fold by cut points that were chosen on the others."""
    decided = np.empty(len(codes), dtype=np.int64)
    for train, test in splits:
        cuts = learn_cut_points(places[train], codes[train], codes.max() + 1, scoring)
        decided[test] = grades_of(places[test], cuts)
    return decided


def grades_of(places: np.ndarray, cut_points: np.ndarray) -> np.ndarray:
    """Return the grades, as whole numbers from 0, that lie between cut points.

    Examples
    --------
    >>> grades_of(np.array([0.1, 0.5, 1.9]), np.array([0.5, 1.5])).tolist()
    [0, 1, 2]
    """
    return np.searchsorted(cut_points, places, side="right")


def learn_cut_points(
    places: np.ndarray, codes: np.ndarray, n_grades: int, scoring: str
) -> np.ndarray:
    """Return the cut points that are best for a score.

    Each is moved in turn to the best of 60 places, from two beginnings: halfway between grades,
    and where as many rows lie below as have a lower grade.

    Parameters
    ----------
    places : numpy.ndarray of shape (n_samples,)
        Expected grades, from 0.
    codes : numpy.ndarray of int, shape (n_samples,)
        True grades, from 0.
    n_grades : int
    scoring : {"kappa_and_mae", "quadratic_kappa", "mae", "accuracy"}

    Returns
    -------
    numpy.ndarray of shape (n_grades - 1,)

    Examples
    --------
    >>> places = np.array([0.1, 0.2, 0.3, 0.9, 1.0, 1.1])
    >>> cuts = learn_cut_points(places, np.array([0, 0, 0, 1, 1, 1]), 2, "quadratic_kappa")
    >>> bool(0.3 < cuts[0] <= 0.9)
    True
    """
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    # counts[i, k]: rows of the true grade k among the first i.
    counts = np.zeros((len(codes) + 1, n_grades))
    counts[1:] = np.cumsum(codes[order][:, np.newaxis] == np.arange(n_grades), axis=0)
    tried = np.unique(np.linspace(0, len(codes), POSITIONS + 1).astype(int))
    value = _SCORES[scoring]
    shares = np.concatenate([[0.0], counts[-1].cumsum()[:-1]])[1:].astype(int)
    halfway = np.searchsorted(ordered, np.arange(n_grades - 1) + 0.5)
    best, best_value = halfway, -np.inf
    for start in (halfway, shares):
        cuts = np.array(start)
        for _ in range(ROUNDS):
            before = cuts.copy()
            for place in range(n_grades - 1):
                low = cuts[place - 1] if place else 0
                high = cuts[place + 1] if place < n_grades - 2 else len(codes)
                choices = [cuts[place], *tried[(tried >= low) & (tried <= high)]]
                values = []
                for choice in choices:
                    cuts[place] = choice
                    values.append(value(_confusion(counts, cuts)))
                cuts[place] = choices[int(np.argmax(values))]
            if (before == cuts).all():
                break
        if (found := value(_confusion(counts, cuts))) > best_value:
            best, best_value = cuts, found
    return _between(ordered, best)


def _between(ordered: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return values halfway between the rows before and after each position."""
    padded = np.concatenate([[-np.inf], ordered, [np.inf]])
    low, high = padded[positions], padded[positions + 1]
    finite = np.isfinite(low) & np.isfinite(high)
    found = np.where(np.isfinite(low), low + 1, high - 1)
    found[finite] = (low[finite] + high[finite]) / 2
    return np.maximum.accumulate(found)


def _confusion(counts: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Return the number of rows of each predicted grade (first axis) and true grade."""
    return np.diff(counts[np.concatenate([[0], cuts, [len(counts) - 1]])], axis=0)


def _distances(n: int) -> np.ndarray:
    return np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


def _kappa(table: np.ndarray) -> float:
    weights = _distances(len(table)) ** 2
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    divisor = float((weights * expected).sum())
    return 1 - float((weights * table).sum()) / divisor if divisor else 0.0


def _kappa_and_mae(table: np.ndarray) -> float:
    distances, grades = _distances(len(table)), table.sum(axis=0)
    median = int(np.searchsorted(grades.cumsum(), grades.sum() / 2))
    constant = float((distances[median] * grades).sum())
    saved = 1 - float((distances * table).sum()) / constant if constant else 0.0
    return (_kappa(table) + saved) / 2


_SCORES: dict[str, Callable[[np.ndarray], float]] = {
    "kappa_and_mae": _kappa_and_mae,
    "quadratic_kappa": _kappa,
    "mae": lambda table: -float((_distances(len(table)) * table).sum()),
    "accuracy": lambda table: float(np.trace(table)),
}
