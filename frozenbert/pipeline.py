"""The classifier as one scikit-learn Pipeline: built, saved, loaded, asked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.validation import check_is_fitted

from .classify import make_head
from .clean import clean_texts
from .embed import DistilBertVectorizer, loaded_from, saved_for_elsewhere
from .errors import InputError
from .files import writing
from .stacking import MultiLabelClassifier
from .words import WordScores

__all__ = [
    "column_names",
    "find_step",
    "find_steps",
    "load_model",
    "make_text_classifier",
    "predict",
    "save_model",
]


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
        Whether words have a say beside the vectors, as `frozenbert.words.WordScores`.
    clean : bool, default=False
        Whether texts go through `frozenbert.clean.clean_texts` first.
    multi_label : bool, default=False
        Whether a text may have any number of labels: `y` is then a column of 0 and 1
        for each.
    calibrate, class_weight, C, cv, scoring, random_state, n_jobs
        As for `frozenbert.classify.make_head`.
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
    if clean:
        cleaner = FunctionTransformer(clean_texts, kw_args={"missing": missing})
        model.steps.insert(0, ("clean", cleaner))
    return model


def find_step(model: Any, kind: type) -> Any:
    """Return the first step of a kind in a Pipeline, at whatever depth, or None.

    Examples
    --------
    >>> model = make_text_classifier("all-MiniLM-L6-v2", with_tfidf=True)
    >>> find_step(model, DistilBertVectorizer).model_name
    'all-MiniLM-L6-v2'
    """
    return next(find_steps(model, kind), None)


def find_steps(model: Any, kind: type) -> Iterator[Any]:
    """Yield the different steps of a kind in a Pipeline, at whatever depth."""
    seen = set()
    for step in _steps(model):
        if isinstance(step, kind) and id(step) not in seen:
            seen.add(id(step))
            yield step


def _steps(model: Any) -> Iterator[Any]:
    yield model
    for _, step in [*getattr(model, "steps", ()), *getattr(model, "transformer_list", ())]:
        yield from _steps(step)
    for part in getattr(model, "estimators_", ()):
        yield from _steps(part)
    if isinstance(model, FrozenEstimator):
        yield from _steps(model.estimator)


def save_model(model: Any, path: str | os.PathLike[str]) -> Path:
    """Save a fitted model with joblib, for use anywhere.

    The saved copy has its vector cache turned off, names an encoder from a folder by the
    folder's name alone, and holds the encoder's content hash, so that another encoder
    under that name is refused. Weights are left out unless `store_weights=True`.

    Parameters
    ----------
    model : estimator
        A fitted Pipeline or any other estimator that holds a `DistilBertVectorizer`.
    path : str or path-like
        The file, `artifacts/NAME/model.joblib` say. It appears whole or not at all.

    Returns
    -------
    pathlib.Path
        The file.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as temporary, saved_for_elsewhere():
            joblib.dump(model, temporary)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from error
    return path


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


def load_model(path: str | os.PathLike[str]) -> Any:
    """Load a saved model. Loading a joblib file runs code: load only what you trust.

    `joblib.load` does the same, but for one thing: an encoder from a folder is also
    looked for beside the file.

    Parameters
    ----------
    path : str or path-like
        The file, or the folder that holds a `model.joblib`.

    Returns
    -------
    estimator
        The model.

    Raises
    ------
    InputError
        If there is no such file, or it holds no fitted model.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "model.joblib"
    if not path.is_file():
        raise InputError(f"{path}: there is no such model file.")
    try:
        with loaded_from(path.parent):
            model = joblib.load(path)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"{path}: is no saved model, or a damaged one ({type(error).__name__}: {reason})."
        ) from error
    if not hasattr(model, "predict"):
        raise InputError(f"{path}: holds a {type(model).__name__}, which is no model.")
    try:
        check_is_fitted(model)
    except NotFittedError:
        raise InputError(
            f"{path}: holds a {type(model).__name__} that is not fitted: fit it, and save it again."
        ) from None
    return model
