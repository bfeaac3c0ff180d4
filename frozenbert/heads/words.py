"""Classifiers of words: the baseline for any encoder, and scores of words as features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
import scipy.special
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from ..utils.texts import check_texts
from .folds import CV, make_folds, quiet_constant_labels
from .logistic import make_head
from .multilabel import check_flags
from .scoring import ClassWeight, as_labels
from .search import base_search, resolve_search, tuned_estimator
from .votes.out_of_fold import out_of_fold, out_of_fold_splits

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = [
    "CompactTfidfVectorizer",
    "NBLogisticRegression",
    "WordScores",
    "make_tfidf",
    "make_words_baseline",
]

# Pseudo-weight of each column in each class. A single word of a row of a dozen words weighs 0.1
# to 0.3 in TF-IDF. Of 0.03, 0.1, 0.2 and 1, on folds of SST-2's training rows, the first three
# differ by less than 0.002 in the accuracy of the vote with vectors; 1 is worse by 0.005.
SMOOTHING = 0.1

# Sequences of characters, as TF-IDF takes them.
CHARACTERS = {"analyzer": "char_wb", "ngram_range": (2, 5), "token_pattern": None}

# TF-IDF rows have length 1, and therefore need less regularisation than standardised vectors.
BASELINE_C_VALUES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def make_words_baseline(
    *,
    cv: CV | None = 5,
    scoring: str | None = None,
    multi_label: bool = False,
    class_weight: ClassWeight = None,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> Pipeline:
    """Make the baseline for any encoder: TF-IDF of words and pairs, logistic regression.

    Parameters
    ----------
    cv, scoring, multi_label, class_weight, random_state, n_jobs
        As for `frozenbert.heads.logistic.make_head`.

    Returns
    -------
    sklearn.pipeline.Pipeline
        With the steps `tfidf` and `classify`, a head from `make_head`.

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
    words of 25,000 reviews took 6 GB of memory and 38 seconds to load.

    Its parameters and attributes are those of
    `sklearn.feature_extraction.text.TfidfVectorizer`.

    Examples
    --------
    >>> import pickle
    >>> tfidf = CompactTfidfVectorizer().fit(["a fine film", "a dull one"])
    >>> pickle.loads(pickle.dumps(tfidf)).vocabulary_ == tfidf.vocabulary_
    True
    """

    def __getstate__(self) -> dict[str, object]:
        state = {**super().__getstate__()}
        if "vocabulary_" in state:
            terms = sorted(state["vocabulary_"], key=state["vocabulary_"].__getitem__)
            joined = "\n".join(terms)
            if joined.count("\n") == len(terms) - 1:
                state["vocabulary_"] = np.frombuffer(joined.encode(), dtype=np.uint8)
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        vocabulary = state.get("vocabulary_")
        if isinstance(vocabulary, np.ndarray):
            terms = vocabulary.tobytes().decode().split("\n")
            state = {**state, "vocabulary_": {term: i for i, term in enumerate(terms)}}
        # With another `input`, a safe form could make it open files whose names are texts.
        super().__setstate__({**state, "input": "content"})


def make_tfidf(**settings: object) -> CompactTfidfVectorizer:
    """Return TF-IDF of words and pairs of words, single letters included.

    Parameters
    ----------
    **settings
        Further parameters of `sklearn.feature_extraction.text.TfidfVectorizer`.
    """
    words = {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
    return CompactTfidfVectorizer(sublinear_tf=True, dtype=np.float32, **{**words, **settings})


class NBLogisticRegression(LogisticRegression):
    """Logistic regression on columns weighted by naive Bayes.

    Each column is multiplied by the logarithm of the ratio of its shares in a class and in
    the other classes. The weights are part of `coef_` after fitting. With more than two
    classes, each has a model against the rest.

    Its parameters and attributes are those of `sklearn.linear_model.LogisticRegression`; its
    columns must not be negative.

    References
    ----------
    S. Wang and C. D. Manning, "Baselines and Bigrams: Simple, Good Sentiment and Topic
    Classification", ACL 2012, section 2.

    Examples
    --------
    >>> model = NBLogisticRegression(C=10.0).fit(np.array([[1, 0, 1], [0, 1, 1]]), ["a", "b"])
    >>> model.coef_.round(1).tolist()
    [[-2.9, 2.9, 0.0]]
    """

    classes_: np.ndarray
    coef_: np.ndarray
    intercept_: np.ndarray
    n_iter_: np.ndarray

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> NBLogisticRegression:
        """Weight the columns, and train.

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
        X, labels = validate_data(self, X, y, accept_sparse="csr", dtype=(np.float64, np.float32))
        check_non_negative(X, "NBLogisticRegression.fit")
        check_classification_targets(labels)
        classes = np.unique(labels)
        words = scipy.sparse.csr_array(X)
        shape = (1 if len(classes) == 2 else len(classes), words.shape[1])
        start = None
        if self.warm_start and getattr(self, "coef_", np.empty(0)).shape == shape:
            start = self.coef_, self.intercept_
        self.classes_ = classes
        weight = self.class_weight
        if len(classes) > 2 and isinstance(weight, dict):
            # Its keys are unknown to the models of one class.
            weights = compute_sample_weight(weight, labels)
            sample_weight = weights if sample_weight is None else weights * sample_weight
            weight = None
        models = [
            self._weighted(
                words,
                labels if len(classes) <= 2 else (labels == label).astype(int),
                sample_weight,
                weight,
                None if start is None else (start[0][[place]], start[1][[place]]),
            )
            for place, label in enumerate(classes[-shape[0] :])
        ]
        self.coef_ = np.concatenate([model.coef_ for model in models])
        self.intercept_ = np.concatenate([model.intercept_ for model in models])
        self.n_iter_ = np.concatenate([model.n_iter_ for model in models])
        return self

    def _weighted(
        self,
        X: scipy.sparse.csr_array,
        y: np.ndarray,
        sample_weight: ArrayLike | None,
        class_weight: ClassWeight,
        start: tuple[np.ndarray, np.ndarray] | None,
    ) -> LogisticRegression:
        """Return a logistic regression for two classes, the weights part of its `coef_`.

        `start` are the coefficients, so weighted, and the intercept to start from.
        """
        rows = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
        classes = np.unique(y)
        positive = y == classes[-1]
        shares = (X.T @ (rows * of_class) + SMOOTHING for of_class in (positive, ~positive))
        ratios = np.subtract(*(np.log(share / share.sum()) for share in shares)).astype(X.dtype)
        weighted = (X.data * ratios[X.indices], X.indices, X.indptr)
        model = LogisticRegression(**{**self.get_params(), "class_weight": class_weight})
        if start is not None:
            coef = np.divide(start[0], ratios, out=np.zeros_like(start[0]), where=ratios != 0)
            model.coef_, model.intercept_ = coef, start[1]
        model.fit(scipy.sparse.csr_array(weighted, shape=X.shape), y, sample_weight)
        model.coef_ = model.coef_ * ratios
        return model

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each class, shape (n_samples, n_classes)."""
        check_is_fitted(self)
        if len(self.classes_) == 2:
            return np.asarray(super().predict_proba(X))
        p = scipy.special.expit(self.decision_function(X))
        return np.asarray(p / p.sum(axis=1, keepdims=True))

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the logarithm of `predict_proba`, shape (n_samples, n_classes)."""
        return np.log(self.predict_proba(X))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags


class WordScores(TransformerMixin, BaseEstimator):
    """Scores of a classifier of words, as columns beside vectors.

    The classifier is TF-IDF of words and pairs, and an `NBLogisticRegression`.

    `fit_transform` returns out-of-fold scores: each row is scored by a classifier that was
    not trained on it, as in scikit-learn's `TargetEncoder`. A classifier trained on them
    learns the accuracy of words on new texts. `transform` uses all training rows.

    Parameters
    ----------
    cv, scoring, multi_label, class_weight, random_state, n_jobs
        As for `frozenbert.heads.logistic.make_head`.
    missing : {"error", "empty"}, default="error"
        Whether None and NaN are an error or the empty text.
    analyzer : {"word", "char_wb"}, default="word"
        Whether columns are words and pairs of words, or sequences of two to five characters
        within a word.

    Attributes
    ----------
    words_ : sklearn.pipeline.Pipeline
        TF-IDF and its tuned classifier, fitted on all training rows.
    best_params_, cv_results_
        Those of the search for the classifier's C.

    Examples
    --------
    >>> texts = ["good film", "fine film", "bad film", "poor film"] * 5
    >>> words = WordScores(cv=2).fit(texts, [1, 1, 0, 0] * 5)
    >>> (words.transform(["a good one", "a bad one"]) > 0).ravel().tolist()
    [True, False]
    """

    analyzer: str = "word"  # models saved before have no other

    def __init__(
        self,
        *,
        cv: CV | None = 5,
        scoring: str | None = None,
        multi_label: bool = False,
        class_weight: ClassWeight = None,
        random_state: int | None = 0,
        n_jobs: int | None = None,
        missing: str = "error",
        analyzer: str = "word",
    ) -> None:
        self.cv = cv
        self.scoring = scoring
        self.multi_label = multi_label
        self.class_weight = class_weight
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.missing = missing
        self.analyzer = analyzer

    def fit(self, X: Sequence[str], y: ArrayLike, **params: object) -> WordScores:
        """Train the classifier of words.

        Parameters
        ----------
        X : sequence of str
            The texts.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        **params
            `groups`, for a splitter such as `GroupKFold`.

        Returns
        -------
        WordScores
            Itself.
        """
        self._fit(X, y, process_routing(self, "fit", **params).splitter.split)
        return self

    def fit_transform(
        self, X: Sequence[str], y: ArrayLike | None = None, **params: object
    ) -> np.ndarray:
        """Train the classifier of words, and return out-of-fold scores.

        Parameters
        ----------
        X : sequence of str
            The texts.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        **params
            `groups`, for a splitter such as `GroupKFold`.

        Returns
        -------
        numpy.ndarray of float32, shape (n_samples, n_scores)
            One column for two classes, else one for each class or label.

        Raises
        ------
        InputError
            If the test parts of `cv` are no partition of the rows.
        """
        routed = process_routing(self, "fit_transform", **params).splitter.split
        words, labels = self._fit(X, y, routed)
        search = self.words_["classify"]
        splits = out_of_fold_splits(search, words, labels, routed.get("groups"))
        return _as_columns(out_of_fold(search, words, labels, "decision_function", splits))

    def _fit(
        self, X: Sequence[str], y: ArrayLike | None, routed: dict[str, ArrayLike]
    ) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
        """Set `words_`; return the texts' TF-IDF, and the checked labels."""
        texts = check_texts(X, self.missing)
        labels = check_flags(y) if self.multi_label else as_labels(y)
        tfidf = make_tfidf() if self.analyzer == "word" else make_tfidf(**CHARACTERS)
        words = tfidf.fit_transform(texts)
        search = resolve_search(self._search(), labels)
        with quiet_constant_labels():
            search.fit(words, labels, **routed)
        self.words_ = Pipeline([("tfidf", tfidf), ("classify", search)])
        names = getattr(y, "columns", None)
        self._labels = search.classes_ if names is None else np.asarray(names, dtype=object)
        return words, labels

    def _search(self) -> GridSearchCV:
        head = make_head(
            cv=self.cv,
            scoring=self.scoring,
            multi_label=self.multi_label,
            class_weight=self.class_weight,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
        )
        # With a tolerance of 1e-3, a fit that starts from the last one's coefficients stops there.
        each = NBLogisticRegression(
            solver="newton-cg", tol=1e-4, max_iter=1000, class_weight=self.class_weight
        )
        name, estimator = "C", each
        if self.multi_label:
            name, estimator = "estimator__C", OneVsRestClassifier(each)
        return base_search(head).set_params(
            estimator=estimator, param_grid={name: BASELINE_C_VALUES}
        )

    def transform(self, X: Sequence[str]) -> np.ndarray:
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

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
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

    def get_metadata_routing(self) -> MetadataRouter:
        """Return how metadata such as `groups` reaches the folds.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
        """
        methods = MethodMapping().add(caller="fit", callee="split")
        methods.add(caller="fit_transform", callee="split")
        return MetadataRouter(owner=self).add(
            splitter=make_folds(self.cv, self.random_state), method_mapping=methods
        )

    @property
    def best_params_(self) -> dict[str, Any]:
        """The parameters that the search chose."""
        check_is_fitted(self)
        return dict(self.words_["classify"].best_params_)

    @property
    def cv_results_(self) -> dict[str, Any]:
        """The search's results, as of `GridSearchCV`."""
        check_is_fitted(self)
        return dict(self.words_["classify"].cv_results_)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        return tags


def _as_columns(scores: np.ndarray) -> np.ndarray:
    return np.asarray(scores.reshape(len(scores), -1), dtype=np.float32)
