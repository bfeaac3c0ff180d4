"""From few labels and many texts: experts teach, and students learn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from ..embed import DistilBertVectorizer
from ..encoders.sources import EncoderFiles
from ..errors import InputError
from ..finetune.finetuning import Recipe, finetune
from ..heads.selection import SelectVectors, layout
from ..heads.words import NBLogisticRegression, make_tfidf
from ..utils.cleaning import clean_texts
from .distillation import DistilledClassifier
from .experts import Experts, bootstrap, views
from .suggestion import suggest

__all__ = ["FewShot", "finetuned_experts", "learn"]

# Found on draws of 100 tweets and of 100 reviews, none of which are reported on (CHANGELOG.md):
# of temperatures 1, 1/2, 1/4, 1/8 and 1/16 the last three are alike, and 1 is worse by several
# points where the pool has other shares of the classes than the labelled rows.
TEMPERATURE = 1 / 8
WORDS_C, VECTORS_C = 3.0, 0.003
ROUNDS = 2


@dataclass
class FewShot:
    """What was learned from few labels and a pool of texts without.

    Attributes
    ----------
    experts : estimator
        Texts in, the mean of the experts' probabilities out.
    teacher : sklearn.ensemble.VotingClassifier
        The experts, and the words that they taught on the pool; the mean of both.
    student : sklearn.pipeline.Pipeline
        One head on the encoder's vectors, taught by the teacher.
    student_words : sklearn.pipeline.Pipeline
        TF-IDF and logistic regression, taught by the teacher; needs no encoder.
    classes : list
    probabilities : numpy.ndarray of shape (n_pool, n_classes)
        The teacher's, of the pool.
    vectors : numpy.ndarray of shape (n_pool, n_features)
        Standardised, of the pool.
    """

    experts: Any
    teacher: Any
    student: Any
    student_words: Any
    classes: list[Any]
    probabilities: np.ndarray
    vectors: np.ndarray

    def suggest(self, n: int, random_state: int = 0) -> np.ndarray:
        """Return the places in the pool of the `n` texts to label next."""
        return suggest(self.vectors, self.probabilities, n, random_state)


def learn(
    texts: Sequence[str],
    labels: Any,
    pool: Sequence[str],
    vectorizer: DistilBertVectorizer,
    *,
    experts: Any = None,
    n_experts: int = 8,
    clean: bool = False,
    random_state: int = 0,
    n_jobs: int | None = None,
) -> FewShot:
    """Train experts on few labels, and students on what they say of a pool of texts.

    The experts see vectors; their mean teaches a classifier of words on the pool, and the
    mean of both teaches it once more (co-training: A. Blum and T. Mitchell, "Combining
    Labeled and Unlabeled Data with Co-Training", 1998). The mean of the experts and of those
    words is the teacher. What is taught has the labelled rows' shares of the classes,
    whatever the pool's.

    Parameters
    ----------
    texts : sequence of str
    labels : array-like of shape (n_texts,)
    pool : sequence of str
        Texts without labels, of the same kind. Those that are also among `texts` are left
        out by the caller.
    vectorizer : DistilBertVectorizer
        Of several layers, for experts that differ.
    experts : estimator, optional
        A fitted classifier of texts in place of `frozenbert.fewshot.experts.Experts`.
    n_experts : int, default=8
    clean : bool, default=False
        Whether texts go through `frozenbert.utils.cleaning.clean_texts` first.
    random_state : int, default=0
    n_jobs : int or None, default=None

    Returns
    -------
    FewShot

    Raises
    ------
    InputError
        If the pool is empty, or there are too few labels.
    """
    if not len(pool):
        raise InputError("the pool of texts without labels is empty: there is nothing to teach on.")
    texts, pool = list(texts), list(pool)
    if clean:
        texts, pool = clean_texts(texts), clean_texts(pool)
    y = np.asarray(labels)
    classes, counts = np.unique(y, return_counts=True)
    vectorizer = clone(vectorizer).set_output(transform="pandas").fit(pool)
    vectors, pool_vectors = vectorizer.transform(texts), vectorizer.transform(pool)
    if experts is None:
        head = Experts(n_experts, random_state=random_state, n_jobs=n_jobs).fit(vectors, y)
        experts = Pipeline([("embed", vectorizer), ("classify", head)])
        chances = head.predict_proba(pool_vectors)
    else:
        if list(experts.classes_) != classes.tolist():
            raise InputError(
                f"experts have the classes {list(experts.classes_)}, and the labels "
                f"{classes.tolist()}."
            )
        chances = experts.predict_proba(pool)
    shares = counts / counts.sum()
    own = np.eye(len(classes))[np.searchsorted(classes, y)]  # the labelled rows' own chances

    try:
        tfidf = make_tfidf(min_df=2)  # a word of one text alone teaches nothing about others
        counted = tfidf.fit_transform(texts + pool)
    except ValueError as error:
        raise InputError(
            "the texts and the pool share no word: students of words have nothing to learn from."
        ) from error

    def taught(head: Any, X: Any, P: np.ndarray) -> Any:
        student = DistilledClassifier(
            head, classes.tolist(), temperature=TEMPERATURE, shares=shares.tolist()
        )
        return student.fit(X, np.concatenate([own, P]))

    P = chances
    for _ in range(ROUNDS):
        head = NBLogisticRegression(C=WORDS_C, solver="newton-cg", tol=1e-3, max_iter=1000)
        words = taught(head, counted, P)
        P = (chances + words.predict_proba(counted[len(texts) :])) / 2

    select, scale = SelectVectors(*_student_view(vectorizer)), StandardScaler()
    of_pool = scale.fit_transform(select.fit_transform(pool_vectors))
    of_both = np.concatenate([scale.transform(select.transform(vectors)), of_pool])
    head = LogisticRegression(C=VECTORS_C, solver="newton-cg", tol=1e-3, max_iter=1000)
    on_vectors = taught(head, of_both, P)

    student_words = Pipeline([("tfidf", tfidf), ("classify", words.estimator_)])
    teacher = _mean_of({"experts": experts, "words": student_words}, y)
    student = Pipeline(
        [
            ("embed", vectorizer),
            ("select", select),
            ("scale", scale),
            ("classify", on_vectors.estimator_),
        ]
    )
    if clean:
        experts, teacher, student, student_words = (
            _cleaned(model) for model in (experts, teacher, student, student_words)
        )
    return FewShot(experts, teacher, student, student_words, classes.tolist(), P, of_pool)


def finetuned_experts(
    files: EncoderFiles,
    texts: Sequence[str],
    labels: Any,
    folder: Path,
    recipe: Recipe,
    n_experts: int,
    random_state: int = 0,
    *,
    on_expert: Callable[[str, dict[str, Any]], None] | None = None,
    **vectorizer: Any,
) -> VotingClassifier:
    """Fine-tune an encoder for each expert, on a bootstrap sample of the rows.

    The epoch is chosen on the rows that were not drawn.

    Parameters
    ----------
    files : EncoderFiles
    texts : sequence of str
    labels : array-like of shape (n_texts,)
    folder : pathlib.Path
        Where the encoders go: `expert-1` and so on.
    recipe : Recipe
    n_experts : int
    random_state : int, default=0
    on_expert : callable, optional
        Is given each expert's name and figures.
    **vectorizer
        Further parameters of `DistilBertVectorizer`.

    Returns
    -------
    sklearn.ensemble.VotingClassifier
        Texts in, the mean of their probabilities out.
    """
    texts, y = list(texts), np.asarray(labels)
    experts = {}
    for number in range(n_experts):
        weights = bootstrap(y, np.random.default_rng(random_state + number))
        drawn = np.repeat(np.arange(len(y)), weights.astype(int))
        left = np.flatnonzero(weights == 0)
        left = left if len(left) else drawn
        out = folder / f"expert-{number + 1}"
        done = finetune(
            files,
            [texts[i] for i in drawn],
            y[drawn],
            [texts[i] for i in left],
            y[left],
            out,
            recipe,
        )
        if on_expert is not None:
            on_expert(out.name, done.metrics)
        head = LogisticRegression(C=0.01, solver="newton-cg", tol=1e-3, max_iter=1000)
        embed = DistilBertVectorizer(str(out), **vectorizer)
        expert = Pipeline([("embed", embed), ("scale", StandardScaler()), ("classify", head)])
        experts[out.name] = expert.fit([texts[i] for i in drawn], y[drawn])
    return _mean_of(experts, y)


def _mean_of(models: dict[str, Any], y: np.ndarray) -> VotingClassifier:
    """Return fitted models as one, whose probabilities are their mean."""
    frozen = [(name, FrozenEstimator(model)) for name, model in models.items()]
    # Frozen estimators do not learn from this; it tells the vote what classes there are.
    return VotingClassifier(frozen, voting="soft").fit([""] * len(y), y)


def _student_view(vectorizer: Any) -> tuple[tuple[int, ...], tuple[str, ...]]:
    sets = views(*layout(vectorizer.get_feature_names_out()))
    return max(sets, key=lambda view: (len(view[0]), -len(view[1])))


def _cleaned(model: Any) -> Pipeline:
    return Pipeline([("clean", FunctionTransformer(clean_texts)), ("classify", model)])
