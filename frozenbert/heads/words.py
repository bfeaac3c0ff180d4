"""What words alone tell: the baseline that an encoder has to beat, and its scores as features."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse
import scipy.special
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ..utils.texts import check_texts
from .logistic import make_head
from .search import base_search, out_of_fold, tuned_estimator
from .stacking import flags_of

__all__ = ["NBLogisticRegression", "WordScores", "make_tfidf", "make_words_baseline"]

# What a column is taken to have more in each class. A single word of a row that has a dozen weighs
# 0.1 to 0.3 in TF-IDF. Of 0.03, 0.1, 0.2 and 1, on folds of SST-2's training rows, the first
# three differ by less than 0.002 in the vote with vectors, and 1 is worse by 0.005.
SMOOTHING = 0.1

# TF-IDF rows have length 1, and therefore need less regularisation than standardised vectors.
BASELINE_C_VALUES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def make_words_baseline(
    *,
    cv: int = 5,
    scoring: str | None = None,
    multi_label: bool = False,
    class_weight: str | None = None,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> Pipeline:
    """Make what any encoder has to beat: TF-IDF of words and pairs, logistic regression.

    Parameters
    ----------
    cv, scoring, multi_label, class_weight, random_state, n_jobs
        As for `frozenbert.heads.logistic.make_head`.

    Returns
    -------
    sklearn.pipeline.Pipeline
        With the steps `tfidf` and `classify`; its C is tuned over the same folds.

    Examples
    --------
    >>> texts = ["good film", "fine film", "bad film", "poor film"] * 5
    >>> make_words_baseline(cv=2).fit(texts, [1, 1, 0, 0] * 5).predict(["a bad one"]).item()
    0
    """
    head = make_head(
        C=BASELINE_C_VALUES,
        cv=cv,
        scoring=scoring,
        multi_label=multi_label,
        class_weight=class_weight,
        random_state=random_state,
        n_jobs=n_jobs,
    )
    return Pipeline([("tfidf", make_tfidf()), ("classify", head)])


class CompactTfidfVectorizer(TfidfVectorizer):
    """TF-IDF whose vocabulary is saved as one array of characters.

    A dictionary is saved entry by entry in the safe form: the 1,455,053 words and pairs of
    words of 25,000 reviews took 6 GB of memory and 38 seconds to load so.

    Its parameters and attributes are those of
    `sklearn.feature_extraction.text.TfidfVectorizer`.

    Examples
    --------
    >>> import pickle
    >>> tfidf = CompactTfidfVectorizer().fit(["a fine film", "a dull one"])
    >>> pickle.loads(pickle.dumps(tfidf)).vocabulary_ == tfidf.vocabulary_
    True
    """

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__()}
        if "vocabulary_" in state:
            terms = sorted(state["vocabulary_"], key=state["vocabulary_"].__getitem__)
            joined = "\n".join(terms)
            if joined.count("\n") == len(terms) - 1:
                state["vocabulary_"] = np.frombuffer(joined.encode(), dtype=np.uint8)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state.get("vocabulary_"), np.ndarray):
            terms = state["vocabulary_"].tobytes().decode().split("\n")
            state = {**state, "vocabulary_": {term: i for i, term in enumerate(terms)}}
        # A safe form could otherwise have it read the files that texts name.
        super().__setstate__({**state, "input": "content"})


def make_tfidf(**settings: Any) -> CompactTfidfVectorizer:
    """Return TF-IDF of words and pairs of words, single letters too."""
    return CompactTfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        token_pattern=r"(?u)\b\w+\b",
        dtype=np.float32,
        **settings,
    )


class NBLogisticRegression(LogisticRegression):
    """Logistic regression on words that are weighted by how they tell classes apart.

    Each column is multiplied by the logarithm of the ratio of its shares in a class and in
    the rest, as naive Bayes would weigh it (S. Wang and C. D. Manning, "Baselines and
    Bigrams: Simple, Good Sentiment and Topic Classification", ACL 2012, section 2). The
    weights are part of `coef_` once it is fitted. Of more than two classes, each is held
    against the rest.

    Its parameters and attributes are those of `sklearn.linear_model.LogisticRegression`; it
    takes columns that are not negative.

    Examples
    --------
    >>> model = NBLogisticRegression(C=10.0).fit(np.array([[1, 0, 1], [0, 1, 1]]), ["a", "b"])
    >>> model.coef_.round(1).tolist()
    [[-2.6, 2.6, 0.0]]
    """

    coef_: np.ndarray
    intercept_: np.ndarray
    n_iter_: np.ndarray

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NBLogisticRegression:
        """Weigh the columns, and train.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Counts or TF-IDF.
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        NBLogisticRegression
            Itself.
        """
        X, y = scipy.sparse.csr_array(X), np.asarray(y)
        weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
        classes = np.unique(y)
        coefficients, intercepts, steps = [], [], []
        for label in classes[1:] if len(classes) == 2 else classes:
            there = y == label
            shares = (X.T @ (weight * of_class) + SMOOTHING for of_class in (there, ~there))
            ratios = np.subtract(*(np.log(found / found.sum()) for found in shares)).astype(X.dtype)
            target = y if len(classes) <= 2 else there
            super().fit(X.multiply(ratios).tocsr(), target, sample_weight)
            coefficients.append(self.coef_[0] * ratios)
            intercepts.append(self.intercept_[0])
            steps.append(self.n_iter_[0])
        self.coef_ = np.stack(coefficients)
        self.intercept_ = np.array(intercepts)
        self.n_iter_ = np.array(steps)
        self.classes_ = classes
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, shape (n_samples, n_classes)."""
        if len(self.classes_) == 2:
            return np.asarray(super().predict_proba(X))
        p = scipy.special.expit(self.decision_function(X))
        return np.asarray(p / p.sum(axis=1, keepdims=True))


class WordScores(TransformerMixin, BaseEstimator):
    """The scores of a classifier of words, as columns to stand beside vectors.

    TF-IDF of words and pairs, and an `NBLogisticRegression`.

    `fit_transform` returns scores out of fold: each row is scored by a classifier that
    was not trained on it (as in scikit-learn's `TargetEncoder`). So what is trained on
    them learns what words are worth on new texts. `transform` uses all training rows.

    Parameters
    ----------
    cv, scoring, multi_label, class_weight, random_state, n_jobs
        As for `frozenbert.heads.logistic.make_head`.
    missing : {"error", "empty"}, default="error"
        Whether None and NaN are an error or the empty text.

    Attributes
    ----------
    words_ : sklearn.pipeline.Pipeline
        TF-IDF and its tuned classifier, fitted on all training rows.

    Examples
    --------
    >>> texts = ["good film", "fine film", "bad film", "poor film"] * 5
    >>> words = WordScores(cv=2).fit(texts, [1, 1, 0, 0] * 5)
    >>> (words.transform(["a good one", "a bad one"]) > 0).ravel().tolist()
    [True, False]
    """

    def __init__(
        self,
        *,
        cv: int = 5,
        scoring: str | None = None,
        multi_label: bool = False,
        class_weight: str | None = None,
        random_state: int | None = 0,
        n_jobs: int | None = None,
        missing: str = "error",
    ) -> None:
        self.cv = cv
        self.scoring = scoring
        self.multi_label = multi_label
        self.class_weight = class_weight
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.missing = missing

    def fit(self, X: Any, y: Any) -> WordScores:
        """Train the classifier of words.

        Parameters
        ----------
        X : sequence of str
            The texts.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)

        Returns
        -------
        WordScores
            Itself.
        """
        self._fit(check_texts(X, self.missing), y)
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> np.ndarray:
        """Train the classifier of words, and return scores out of fold.

        Parameters
        ----------
        X : sequence of str
            The texts.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        **fit_params : ignored

        Returns
        -------
        numpy.ndarray of float32, shape (n_samples, n_scores)
            One column of two classes, else one for each class or label.
        """
        texts = check_texts(X, self.missing)
        y = self._fit(texts, y)
        words = self.words_["tfidf"].transform(texts)
        head = self.words_["classify"]
        return _as_columns(out_of_fold(head, words, y, "decision_function"))

    def _fit(self, texts: list[str], y: Any) -> np.ndarray:
        head = make_head(
            cv=self.cv,
            scoring=self.scoring,
            multi_label=self.multi_label,
            class_weight=self.class_weight,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
        )
        each = NBLogisticRegression(
            solver="newton-cg", tol=1e-3, max_iter=1000, class_weight=self.class_weight
        )
        name, estimator = "C", each
        if self.multi_label:
            name, estimator = "estimator__C", OneVsRestClassifier(each)
        search = base_search(head).set_params(
            estimator=estimator, param_grid={name: BASELINE_C_VALUES}
        )
        names = getattr(y, "columns", None)
        y = flags_of(y) if self.multi_label else np.asarray(y)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Label .* is present in all training")
            self.words_ = Pipeline([("tfidf", make_tfidf()), ("classify", search)]).fit(texts, y)
        self._labels = self.words_.classes_ if names is None else np.asarray(names, dtype=object)
        return y

    def transform(self, X: Any) -> np.ndarray:
        """Score texts by their words.

        Parameters
        ----------
        X : sequence of str
            The texts.

        Returns
        -------
        numpy.ndarray of float32, shape (n_samples, n_scores)
        """
        check_is_fitted(self)
        words = self.words_["tfidf"].transform(check_texts(X, self.missing))
        return _as_columns(tuned_estimator(self.words_["classify"]).decision_function(words))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the columns' names: `score_LABEL`.

        Parameters
        ----------
        input_features : ignored
        """
        check_is_fitted(self)
        classes = list(self._labels)
        if not self.multi_label and len(classes) == 2:
            classes = classes[1:]
        return np.array([f"score_{label}" for label in classes], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        return tags


def _as_columns(scores: np.ndarray) -> np.ndarray:
    return np.asarray(scores.reshape(len(scores), -1), dtype=np.float32)
