"""Models that read texts and other columns: scores of texts beside encoded columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import f1_score, log_loss
from sklearn.model_selection import check_cv, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from ...errors import InputError
from ...utils.console import progress_bar
from ..folds import CV, Folds, Splits, cv_splits, make_folds
from ..numeric.ordinal import CutPoints, check_grades
from ..numeric.ridge import NumberStep
from ..numeric.tasks import check_target, score_function, split_rows
from ..scoring import as_labels, auto_scoring
from ..stacking import OutOfFoldHead
from ..votes.out_of_fold import out_of_fold
from .boosting import BoostedClassifier, BoostedRegressor
from .kinds import ColumnSpec
from .reader import ColumnReader

if TYPE_CHECKING:
    import pandas as pd

    from ..logistic import Head
    from ..numeric.ridge import RidgeHead

__all__ = ["JointClassifier", "JointModel", "JointOrdinal", "JointRegressor"]

LEAST = 1e-6  # probability
ALPHAS = tuple(float(alpha) for alpha in np.logspace(-1, 4, 11))


class JointModel(BaseEstimator):
    """Base of models of texts and columns.

    Each column of texts has a model of its own. Its out-of-fold scores and the encoded other
    columns are the features of a linear model, or of gradient boosting: out-of-fold predictions
    decide which.

    Parameters
    ----------
    text_model : sklearn.pipeline.Pipeline
        A model of texts, which is copied for each column of texts; of grades a regression.
    columns : dict or "all"
        As for `frozenbert.heads.columns.reader.ColumnReader`.
    cv : int, "auto", splitter or iterable of splits, default="auto"
    scoring : str or None, default="auto"
        The score that is shown, and decides about grades and unbalanced classes.
    random_state : int or None, default=0

    Attributes
    ----------
    reader_ : ColumnReader
    estimators_ : list of sklearn.pipeline.Pipeline
        The fitted models of texts, one for each column.
    model_ : estimator
        Of scores and columns.
    ladder_ : list of dict
        Out-of-fold scores of texts alone, columns alone, both, and of several columns of texts
        without each; all by the model that is best for it: `step`, `score`, `kept`.
    """

    def __init__(
        self,
        text_model: Pipeline,
        columns: ColumnSpec = "all",
        *,
        cv: CV | None = "auto",
        scoring: str | None = "auto",
        random_state: int | None = 0,
    ) -> None:
        self.text_model = text_model
        self.columns = columns
        self.cv = cv
        self.scoring = scoring
        self.random_state = random_state

    def _fit(self, X: pd.DataFrame, y: np.ndarray, splits: Splits) -> np.ndarray:
        """Fit all parts; set `model_` and `ladder_`; return out-of-fold predictions."""
        self.reader_ = ColumnReader(self.columns).fit(X, y)
        encoded = self.reader_.transform(X)
        self.estimators_, scores = [], []
        for texts in self.reader_.texts(X):
            model = clone(self.text_model)
            features = model[:-1].fit_transform(texts, y)
            model[-1].fit(features, y)
            self.estimators_.append(model)
            scores.append(self._held_out_scores(model[-1], features, y, splits))
        features = self._feature_sets(scores, encoded)
        tried = {
            f"{part}, {name}": (model, columns)
            for part, columns in features.items()
            for name, model in self._models().items()
        }
        found = {}
        with progress_bar("auto", len(tried), "Texts and columns", "models") as bar:
            for name, (model, columns) in tried.items():
                p = cross_val_predict(model, columns, y, cv=splits, method=self._method)
                found[name] = np.asarray(p)
                bar.update()
        losses = {name: self._loss(y, predicted, splits) for name, predicted in found.items()}
        shown = [
            min((name for name in tried if name.startswith(f"{part}, ")), key=losses.__getitem__)
            for part in features
        ]
        kept = shown[-1]
        model, columns = tried[kept]
        self.model_ = clone(model).fit(columns, y)
        self.ladder_: list[NumberStep] = [
            {
                "step": name,
                "score": self._score_of(y, found[name], splits),
                "kept": name == kept,
            }
            for name in shown
        ]
        return found[kept]

    def _feature_sets(self, scores: list[np.ndarray], encoded: np.ndarray) -> dict[str, np.ndarray]:
        """Return the features of the models that are compared by their names; the last has all."""
        parts = np.hstack(scores)
        if not encoded.shape[1]:
            return {**self._without_each(scores, encoded), "text alone": parts}
        return {
            "text alone": parts,
            "other columns alone": encoded,
            **self._without_each(scores, encoded),
            "both": np.hstack([parts, encoded]),
        }

    def _without_each(self, scores: list[np.ndarray], encoded: np.ndarray) -> dict[str, np.ndarray]:
        if len(scores) == 1:
            return {}
        return {
            f"without {name!r}": np.hstack([*scores[:i], *scores[i + 1 :], encoded])
            for i, name in enumerate(self.text_columns)
        }

    _method = "predict"

    def _features(self, X: pd.DataFrame) -> np.ndarray:
        check_is_fitted(self)
        texts = self.reader_.texts(X)
        scores = [
            self._scores(model, of_column)
            for model, of_column in zip(self.estimators_, texts, strict=True)
        ]
        return np.hstack([*scores, self.reader_.transform(X)])

    @property
    def text_columns(self) -> list[str]:
        """The columns of texts."""
        return list(self.reader_.kinds_["text"])

    def joined_texts(self, X: pd.DataFrame) -> list[str]:
        """Return the texts of all columns, joined for each row."""
        return ["\n".join(cells) for cells in zip(*self.reader_.texts(X), strict=True)]

    def added(self) -> dict[str, float]:
        """Return the out-of-fold scores of text alone, of columns alone, and of both."""
        steps = {"text": "text alone", "columns": "other columns alone", "both": "both"}
        scores = self._scores_of_steps()
        return {part: scores[step] for part, step in steps.items() if step in scores}

    def without(self) -> dict[str, float]:
        """Return the out-of-fold score without each column of texts, if there are several."""
        scores = self._scores_of_steps()
        steps = {name: f"without {name!r}" for name in self.text_columns}
        return {name: scores[step] for name, step in steps.items() if step in scores}

    def _scores_of_steps(self) -> dict[str, float]:
        sign = -1 if self.scoring_ == "mae" else 1
        return {step["step"].rpartition(", ")[0]: sign * step["score"] for step in self.ladder_}

    def __getstate__(self) -> dict[str, object]:
        state = {**super().__getstate__()}
        state.pop("_held_out", None)
        return state


class JointClassifier(ClassifierMixin, JointModel):
    """Classifier of texts and columns; see `JointModel`.

    Parameters
    ----------
    text_model, columns, cv, scoring, random_state
        As for `JointModel`.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_classes,)
    """

    _method = "predict_proba"
    _held_out: np.ndarray | None = None

    def fit(self, X: pd.DataFrame, y: ArrayLike) -> JointClassifier:
        """Fit the models of texts, then the one of scores and columns.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)
        y : array-like of shape (n_samples,)

        Returns
        -------
        JointClassifier
            Itself.
        """
        labels = as_labels(y)
        if labels.ndim == 2:
            raise InputError(
                "several labels a text cannot be combined with columns.", parameter="y"
            )
        self.classes_ = np.unique(labels)
        name = auto_scoring(labels) if self.scoring in (None, "auto") else self.scoring
        self.scoring_ = "f1_macro" if name == "f1_macro" else "accuracy"
        splitter = check_cv(make_folds(self.cv, self.random_state), labels, classifier=True)
        self._held_out = self._fit(X, labels, cv_splits(splitter, labels, labels))
        return self

    def _models(self) -> dict[str, BaseEstimator]:
        # By l1_ratios, because `penalty` is on its way out of scikit-learn.
        search = LogisticRegressionCV(
            Cs=(1e-3, 1e-2, 1e-1, 1.0),
            cv=Folds(3, shuffle=True, random_state=0),
            scoring="neg_log_loss",
            max_iter=1000,
            l1_ratios=(0,),
            use_legacy_attributes=False,
        )
        models: dict[str, BaseEstimator] = {
            "linear": make_pipeline(StandardScaler(), search),
            "boosting": BoostedClassifier(),
        }
        if self.scoring_ == "f1_macro":
            balanced = clone(search).set_params(class_weight="balanced")
            models["balanced"] = make_pipeline(StandardScaler(), balanced)
        return models

    def _held_out_scores(
        self, head: Head, features: ArrayLike, y: np.ndarray, splits: Splits
    ) -> np.ndarray:
        p = head.held_out_proba() if isinstance(head, OutOfFoldHead) else None
        if p is None:
            vectors = head.split(features)[0] if isinstance(head, OutOfFoldHead) else features
            p = out_of_fold(head, vectors, y, "predict_proba", splits)
        return _logits(np.asarray(p))

    def _scores(self, model: Pipeline, texts: Sequence[str]) -> np.ndarray:
        return _logits(np.asarray(model.predict_proba(texts)))

    def _loss(self, y: np.ndarray, predicted: np.ndarray, splits: Splits) -> float:
        if self.scoring_ == "f1_macro":
            return -self._score_of(y, predicted, splits)
        return float(log_loss(y, predicted, labels=self.classes_))

    def _score_of(self, y: np.ndarray, predicted: np.ndarray, splits: Splits) -> float:
        labels = self.classes_[predicted.argmax(axis=1)]
        if self.scoring_ == "accuracy":
            return float(np.mean(labels == y))
        scores = [f1_score(y[t], labels[t], average="macro", zero_division=0) for _, t in splits]
        return float(np.mean(scores))

    def held_out_proba(self) -> np.ndarray | None:
        """Return the training rows' out-of-fold probabilities; None after loading."""
        return self._held_out

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Return the probability of each class, shape (n_samples, n_classes)."""
        return np.asarray(self.model_.predict_proba(self._features(X)))

    def labels_from_proba(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the most probable class of each row, shape (n_samples,)."""
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return the class of each row, shape (n_samples,)."""
        return self.labels_from_proba(self.predict_proba(X))


def _logits(p: np.ndarray) -> np.ndarray:
    """Return log-odds of two classes; of more, logarithms of probabilities."""
    logs = np.log(np.clip(p, LEAST, None))
    return logs[:, 1:] - logs[:, :1] if p.shape[1] == 2 else logs


class JointRegressor(RegressorMixin, JointModel):
    """Regression on texts and columns; see `JointModel`.

    Parameters
    ----------
    text_model, columns, cv, scoring, random_state
        As for `JointModel`.
    """

    _held_out: np.ndarray | None = None

    def fit(self, X: pd.DataFrame, y: ArrayLike) -> JointRegressor:
        """Fit the models of texts, then the one of predictions and columns.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)
        y : array-like of shape (n_samples,)

        Returns
        -------
        JointRegressor
            Itself.
        """
        target = check_target(y, "regression")
        self.scoring_, _ = score_function("regression", self.scoring)
        splits = split_rows(self.cv, target, None, self.random_state)
        self._held_out = self._fit(X, target, splits)
        return self

    def _models(self) -> dict[str, BaseEstimator]:
        return {
            "linear": make_pipeline(StandardScaler(), RidgeCV(ALPHAS)),
            "boosting": BoostedRegressor(),
        }

    def _held_out_scores(
        self, head: RidgeHead, features: ArrayLike, y: np.ndarray, splits: Splits
    ) -> np.ndarray:
        found = head.held_out()
        assert found is not None  # it was fitted just now
        return found[:, np.newaxis]

    def _scores(self, model: Pipeline, texts: Sequence[str]) -> np.ndarray:
        return np.asarray(model.predict(texts))[:, np.newaxis]

    def _loss(self, y: np.ndarray, predicted: np.ndarray, splits: Splits) -> float:
        return float(np.mean((y - predicted) ** 2))

    def _score_of(self, y: np.ndarray, predicted: np.ndarray, splits: Splits) -> float:
        _, score = score_function("regression", self.scoring_)
        return float(np.mean([score(y[test], predicted[test]) for _, test in splits]))

    def held_out(self) -> np.ndarray | None:
        """Return the training rows' out-of-fold predictions; None after loading."""
        return self._held_out

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return the predicted number of each row, shape (n_samples,)."""
        return np.asarray(self.model_.predict(self._features(X)))


class JointOrdinal(ClassifierMixin, JointRegressor):
    """Ordered grades from texts and columns: a `JointRegressor` with cut points.

    Parameters
    ----------
    text_model, columns, cv, scoring, random_state
        As for `JointModel`.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_grades,)
    cut_points_ : frozenbert.heads.numeric.ordinal.CutPoints
    """

    def fit(self, X: pd.DataFrame, y: ArrayLike) -> JointOrdinal:
        """Fit the regression, then the cut points.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)
        y : array-like of shape (n_samples,)
            At most 50 distinct numbers.

        Returns
        -------
        JointOrdinal
            Itself.
        """
        grades = check_target(y, "ordinal")
        self.scoring_, _ = score_function("ordinal", self.scoring)
        self.classes_, codes = np.unique(grades, return_inverse=True)
        splits = split_rows(self.cv, codes, None, self.random_state)
        check_grades(self.classes_, codes, splits)
        predicted = self._fit(X, grades.astype(float), splits)
        self.cut_points_ = CutPoints(self.scoring_).fit(predicted[:, np.newaxis], codes)
        self._held_out = self.classes_[self.cut_points_.cross_fitted(predicted, codes, splits)]
        return self

    def _score_of(self, y: np.ndarray, predicted: np.ndarray, splits: Splits) -> float:
        codes = np.searchsorted(self.classes_, y)
        decided = CutPoints(self.scoring_).cross_fitted(predicted, codes, splits)
        _, score = score_function("ordinal", self.scoring_)
        found = self.classes_[decided]
        return float(np.mean([score(y[test], found[test]) for _, test in splits]))

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Return the probability of each grade, shape (n_samples, n_grades)."""
        predicted = self.model_.predict(self._features(X))
        return self.cut_points_.predict_proba(predicted[:, np.newaxis])

    def labels_from_proba(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the grade of each row from its probabilities, shape (n_samples,)."""
        return np.asarray(self.classes_[self.cut_points_.codes_from_proba(probabilities)])

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return the grade of each row, shape (n_samples,)."""
        return self.labels_from_proba(self.predict_proba(X))
