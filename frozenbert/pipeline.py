"""The classifier as one scikit-learn Pipeline: built and asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import VotingClassifier
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from .embed import DistilBertVectorizer
from .heads.logistic import make_head
from .heads.multilabel import MultiLabelClassifier
from .heads.words import WordScores
from .utils.cleaning import clean_texts
from .utils.steps import find_step

__all__ = ["column_names", "make_text_classifier", "predict"]


def make_text_classifier(
    model_name: str = "distilbert-base-uncased",
    *,
    search: str = "head",
    with_tfidf: bool = False,
    clean: bool = False,
    multi_label: bool = False,
    calibrate: str | None = None,
    class_weight: str | None = None,
    C: Sequence[float] | float | None = None,
    cv: int = 5,
    scoring: str | None = None,
    random_state: int | None = 0,
    n_jobs: int | None = None,
    **vectorizer: Any,
) -> Pipeline:
    """Make the whole classifier: texts in, labels out.

    Parameters
    ----------
    model_name : str, default="distilbert-base-uncased"
        The encoder, as for `DistilBertVectorizer`.
    search : {"head", "features"}, default="head"
        What is chosen by cross-validation: the strength C; or layers, pooling and C
        together. For "features" the vectorizer computes all layers, with the poolings
        "cls" and "mean", unless told otherwise; a text still goes through it once.
    with_tfidf : bool, default=False
        Whether words have a say beside the vectors, as `frozenbert.heads.words.WordScores`.
    clean : bool, default=False
        Whether texts go through `frozenbert.utils.cleaning.clean_texts` first.
    multi_label : bool, default=False
        Whether a text may have any number of labels: `y` is then a column of 0 and 1
        for each.
    calibrate, class_weight, C, cv, scoring, random_state, n_jobs
        As for `frozenbert.heads.logistic.make_head`.
    **vectorizer
        Further parameters of `DistilBertVectorizer`.

    Returns
    -------
    sklearn.pipeline.Pipeline
        With the steps `embed`, `scale` and `classify`; with words `features` (a
        FeatureUnion of `vectors`, which are the first two, and `words`) and `classify`.
        `clean` stands before them.

    Examples
    --------
    >>> model = make_text_classifier("all-MiniLM-L6-v2", cache_dir=None, cv=2, C=[0.01, 0.1])
    >>> texts = ["a stirring film", "what a delight", "a dull film", "what a bore"]
    >>> model.fit(texts, ["good", "good", "bad", "bad"]).predict(["so boring"]).tolist()
    ['bad']
    """
    if search == "features":
        vectorizer = {"layers": "all", "pooling": ("cls", "mean"), **vectorizer}
    shared: dict[str, Any] = {
        "multi_label": multi_label,
        "class_weight": class_weight,
        "cv": cv,
        "scoring": scoring,
        "random_state": random_state,
        "n_jobs": n_jobs,
    }
    steps: list[tuple[str, Any]] = [
        ("embed", DistilBertVectorizer(model_name, **vectorizer)),
        # Column by column, so before layers are picked it does the same as after, and once.
        ("scale", StandardScaler()),
    ]
    missing = vectorizer.get("missing", "error")
    if with_tfidf:
        words = WordScores(missing=missing, **shared)
        steps = [("features", FeatureUnion([("vectors", Pipeline(steps)), ("words", words)]))]
    head = make_head(C=C, search=search, with_words=with_tfidf, calibrate=calibrate, **shared)
    model = Pipeline([*steps, ("classify", head)])
    if search == "features":
        model.set_output(transform="pandas")  # layers and poolings are told by columns' names
        if with_tfidf:
            # Of frames alone, FeatureUnion keeps their Index, which has no safe form.
            words.set_output(transform="default")
    if clean:
        cleaner = FunctionTransformer(clean_texts, kw_args={"missing": missing})
        model.steps.insert(0, ("clean", cleaner))
    return model


def predict(model: Any, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return labels and probabilities from one pass over the texts, as columns.

    Parameters
    ----------
    model : estimator
        A fitted Pipeline, or another classifier of texts.
    texts : sequence of str

    Returns
    -------
    dict of str to numpy.ndarray, each of shape (n_texts,)
        `prediction` and, if the model knows probabilities, `proba_LABEL` for each class.
        With many labels a text `prediction_LABEL` (0 or 1) and `proba_LABEL` for each.
    """
    features: Any = texts
    while isinstance(model, Pipeline):
        if len(model.steps) > 1:
            features = model[:-1].transform(features)
        model = model[-1]
    if isinstance(model, VotingClassifier) and model.voting == "soft":
        # Its labels are the likeliest ones; asking for them too would be a second pass.
        found = np.asarray(model.predict_proba(features))
        named = {f"proba_{c}": p for c, p in zip(model.classes_, found.T, strict=True)}
        return {"prediction": model.classes_[found.argmax(axis=1)], **named}
    labels = np.asarray(model.predict(features))
    columns: dict[str, np.ndarray] = {"prediction": labels}
    if labels.ndim == 2:
        names = column_names(model)
        columns = dict(zip(names[: labels.shape[1]], labels.T, strict=True))
    if hasattr(model, "predict_proba"):
        found = np.asarray(model.predict_proba(features)).T
        columns |= {f"proba_{label}": p for label, p in zip(model.classes_, found, strict=True)}
    return columns


def column_names(model: Any) -> list[str]:
    """Return the names of the columns that `predict` gives, as far as the model tells."""
    classes = getattr(model, "classes_", ())
    many = find_step(model, MultiLabelClassifier) is not None
    answers = [f"prediction_{label}" for label in classes] if many else ["prediction"]
    return [*answers, *(f"proba_{label}" for label in classes)]
