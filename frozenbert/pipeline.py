"""From texts and labels to a trained, measured and saved scikit-learn Pipeline."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import shutil
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from .classify import make_head, make_words_baseline
from .embed import DistilBertVectorizer, loaded_from, saved_for_elsewhere
from .errors import InputError
from .files import sha256_of_file, writing
from .report import describe_encoder, score, short, write_report

__all__ = [
    "Training",
    "hold_out",
    "load_model",
    "make_text_classifier",
    "predict",
    "save_model",
    "save_training",
    "train",
]


AGREEMENT_ON = 256  # test texts on which a reduced precision is held against float32


def make_text_classifier(
    model_name: str = "distilbert-base-uncased",
    *,
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
    C, cv, scoring, random_state, n_jobs
        The head's search, as for `frozenbert.classify.make_head`.
    **vectorizer
        Further parameters of `DistilBertVectorizer`.

    Returns
    -------
    sklearn.pipeline.Pipeline
        With the steps `embed`, `scale` and `classify`.

    Examples
    --------
    >>> model = make_text_classifier("all-MiniLM-L6-v2", cache_dir=None, cv=2, C=[0.01, 0.1])
    >>> texts = ["a stirring film", "what a delight", "a dull film", "what a bore"]
    >>> model.fit(texts, ["good", "good", "bad", "bad"]).predict(["so boring"]).tolist()
    ['bad']
    """
    return Pipeline(
        [
            ("embed", DistilBertVectorizer(model_name, **vectorizer)),
            ("scale", StandardScaler()),
            (
                "classify",
                make_head(C=C, cv=cv, scoring=scoring, random_state=random_state, n_jobs=n_jobs),
            ),
        ]
    )


@dataclass
class Training:
    """A trained model and what was found out about it.

    Attributes
    ----------
    model : sklearn.pipeline.Pipeline
        Fitted on the training rows.
    metrics : dict
        `accuracy`, `macro_f1` (fractions), `per_class`, `n_train`, `n_test`, the same
        figures of the `baseline`, and the `search`; for a reduced precision also the
        `agreement` with float32: `n_texts`, `mean_cosine`, `equal_predictions` (fraction).
    y_test, predicted : numpy.ndarray, shape (n_test,)
        The true and the predicted labels of the test rows.
    seconds : dict
        Where the time went.
    """

    model: Pipeline
    metrics: dict[str, Any]
    y_test: np.ndarray
    predicted: np.ndarray
    seconds: dict[str, float] = field(default_factory=dict)


def hold_out(
    texts: Sequence[str], labels: np.ndarray, random_state: int | None = 0
) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """Split off a stratified quarter of the rows for testing.

    Parameters
    ----------
    texts : sequence of str
    labels : numpy.ndarray, shape (n_samples,)
    random_state : int or None, default=0

    Returns
    -------
    texts_train, texts_test : list of str
    labels_train, labels_test : numpy.ndarray

    Raises
    ------
    InputError
        If a class has too few rows to stand on both sides.

    Examples
    --------
    >>> train, test, *_ = hold_out(["a", "b", "c", "d", "e", "f", "g", "h"], np.array([0, 1] * 4))
    >>> len(train), len(test)
    (6, 2)
    """
    rare, count = min(Counter(labels.tolist()).items(), key=lambda item: item[1])
    if count < 2 or len(labels) < 4 * len(set(labels.tolist())):
        raise InputError(
            f"too few rows to hold out a quarter for testing: {len(labels)} in all, and the class "
            f"{short(rare)!r} has {count}: add rows, or give a test file."
        )
    train_texts, test_texts, y_train, y_test = train_test_split(
        list(texts), labels, test_size=0.25, stratify=labels, random_state=random_state
    )
    return train_texts, test_texts, y_train, y_test


def train(
    model: Pipeline,
    texts: Sequence[str],
    labels: np.ndarray,
    test_texts: Sequence[str],
    test_labels: np.ndarray,
) -> Training:
    """Fit a text classifier and hold it against a baseline of words on the same rows.

    Parameters
    ----------
    model : sklearn.pipeline.Pipeline
        From `make_text_classifier`; is fitted.
    texts, test_texts : sequence of str
    labels, test_labels : numpy.ndarray

    Returns
    -------
    Training

    Raises
    ------
    InputError
        If there is only one class, a class has fewer rows than folds, or no text has a word.
    """
    head = model.named_steps["classify"]
    check_classes(labels, head.cv.get_n_splits())
    if not any(re.search(r"\w", text) for text in texts):
        raise InputError(
            "none of the training texts holds a letter or a digit. Is this the column of texts?"
        )
    seconds: dict[str, float] = {}
    clock = _Clock(seconds)

    vectors = model.named_steps["embed"].fit_transform(texts)
    clock.lap("vectors of the training texts")
    # A slice of a Pipeline shares its steps: fitting them fits the whole.
    model[1:].fit(vectors, labels)
    clock.lap("search for C")
    predicted = model[1:].predict(model.named_steps["embed"].transform(test_texts))
    clock.lap("vectors and labels of the test texts")
    agreement = _agreement(model, test_texts)
    if agreement:
        clock.lap("agreement with float32")
    baseline = make_words_baseline(
        cv=head.cv.get_n_splits(),
        scoring=head.scoring,
        random_state=head.cv.random_state,
        n_jobs=head.n_jobs,
    ).fit(texts, labels)
    baseline_score = score(test_labels, baseline.predict(test_texts))
    clock.lap("baseline of words")

    best = head.best_index_
    metrics = {
        **score(test_labels, predicted),
        "n_train": len(labels),
        "n_test": len(test_labels),
        "n_truncated": model.named_steps["embed"].n_truncated_,
        "baseline": {"name": "TF-IDF + logistic regression", **baseline_score},
        "search": {
            "scoring": head.scoring or "accuracy",
            "folds": head.cv.get_n_splits(),
            "best_C": head.best_params_["C"],
            "best_score": float(head.best_score_),
            "best_score_std": float(head.cv_results_["std_test_score"][best]),
            "C": [float(c) for c in head.cv_results_["param_C"]],
            "mean_score": head.cv_results_["mean_test_score"].tolist(),
            "std_score": head.cv_results_["std_test_score"].tolist(),
        },
    }
    if agreement:
        metrics["agreement"] = agreement
    return Training(model, metrics, np.asarray(test_labels), predicted, seconds)


def _agreement(model: Pipeline, texts: Sequence[str]) -> dict[str, Any]:
    """Hold a reduced precision against float32 on some texts; nothing if it is float32."""
    embed = model.named_steps["embed"]
    if embed.precision == "float32":
        return {}
    drawn = np.random.default_rng(0).permutation(len(texts))[:AGREEMENT_ON]
    some = [texts[i] for i in np.sort(drawn)]
    exact = copy.copy(embed).set_params(precision="float32")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*longer than max_length")  # said already
        vectors, expected = embed.transform(some), exact.transform(some)
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    head = model[1:]
    return {
        "n_texts": len(some),
        "mean_cosine": float(np.mean((vectors * expected).sum(axis=1) / norms)),
        "equal_predictions": float(np.mean(head.predict(vectors) == head.predict(expected))),
    }


class _Clock:
    """Writes down the seconds between one lap and the next."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self.last
        self.last = now


def check_classes(labels: np.ndarray, folds: int) -> None:
    """Raise `InputError` unless there are two classes, each with a row in every fold."""
    counts = Counter(np.asarray(labels).tolist())
    if len(counts) < 2:
        raise InputError(
            f"there is only one class ({short(next(iter(counts)))!r}) in the training rows: a "
            f"classifier needs two. Is this the label column?"
        )
    few = {label: n for label, n in counts.items() if n < folds}
    if few:
        label, n = min(few.items(), key=lambda item: item[1])
        raise InputError(
            f"{len(few)} of {len(counts)} classes have fewer training rows than the {folds} folds "
            f"of the search ({short(label)!r} has {n}): add rows, drop the class, or use fewer "
            f"folds (--cv). If that is a column's name, the file has a header (--header)."
        )


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


def save_training(
    training: Training, folder: str | os.PathLike[str], facts: dict[str, Any]
) -> None:
    """Save a trained model with its report: all files, or none.

    Parameters
    ----------
    training : Training
        From `train`.
    folder : path-like
        Files of the same names in it are replaced, others stay.
    facts : dict
        What else goes into `model.json`: `notice`, `training` and `test`.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    folder = Path(folder)
    model, search = training.model, training.metrics["search"]
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
        try:
            save_model(model, fresh / "model.joblib")
            sidecar = {
                **facts,
                "model_sha256": sha256_of_file(fresh / "model.joblib"),
                "encoder": describe_encoder(model.named_steps["embed"]),
                "labels": model.classes_.tolist(),
                "parameters": {
                    "cv": search["folds"],
                    "seed": model.named_steps["classify"].cv.random_state,
                    "C": search["best_C"],
                },
                "metrics": training.metrics,
                "seconds": training.seconds,
            }
            write_report(fresh, sidecar, training.y_test, training.predicted)
            files = list(fresh.iterdir())
            for file in files:
                if (folder / file.name).is_dir():
                    raise InputError(f"{folder / file.name}: is a folder, and in the way.")
            for file in files:
                os.replace(file, folder / file.name)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            if is_new:
                with contextlib.suppress(OSError):  # it holds the files
                    folder.rmdir()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}).") from error


def predict(model: Any, texts: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return labels and probabilities from one pass over the texts.

    Parameters
    ----------
    model : estimator
        A fitted Pipeline, or another classifier of texts.
    texts : sequence of str

    Returns
    -------
    labels : numpy.ndarray, shape (n_texts,)
    probabilities : dict of str to numpy.ndarray, shape (n_texts,)
        For each class a column `proba_LABEL`; empty if the model knows none.
    """
    features: Any = texts
    if isinstance(model, Pipeline) and len(model.steps) > 1:
        features, model = model[:-1].transform(texts), model[-1]
    labels = np.asarray(model.predict(features))
    if not hasattr(model, "predict_proba"):
        return labels, {}
    columns = np.asarray(model.predict_proba(features)).T
    names = [f"proba_{label}" for label in model.classes_]
    return labels, dict(zip(names, columns, strict=True))


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
