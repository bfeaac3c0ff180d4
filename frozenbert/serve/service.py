"""The served model or encoder: loaded and set up for serving, its card, and its answers."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Protocol

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from .. import __version__
from ..embed import DistilBertVectorizer
from ..errors import InputError, TruncationWarning
from ..heads.columns.joint import JointModel, JointOrdinal
from ..heads.multilabel import MultiLabelClassifier
from ..heads.numeric.ordinal import OrdinalHead
from ..heads.numeric.ridge import RidgeHead
from ..persistence.models import joblib_hash, load_model, safest
from ..pipeline import column_names, predict
from ..reports.sidecar import read_sidecar
from ..utils.steps import find_step, find_steps
from ..vectors.results import cut_and_normalize
from .guard import Limits
from .inputs.record_form import Cell, Record, find_form
from .request_queue import Columns, Items
from .schemas import EXPLAINED_WORDS, Label, ModelCard, RequestLimits

__all__ = [
    "LOCAL_HOSTS",
    "Embedder",
    "Service",
    "find_embedder",
    "load_encoder_service",
    "load_service",
]

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
FIRST_TEXT = "This first text loads the encoder."
# Words of a text, and texts: the engines prepare themselves for each size when they first meet it.
WARM_UP = ((4, 1), (10, 1), (24, 1), (60, 1), (150, 1), (12, 64))
SCORES = ("accuracy", "macro_f1", "r2", "mae", "spearman", "quadratic_kappa")
FIGURES = ("accuracy", "macro_f1", "micro_f1", *SCORES[2:], "n_train", "n_test")

_SURROGATE = re.compile("[\ud800-\udfff]")


class _TextStep(Protocol):
    """A transformer from texts to texts."""

    def transform(self, X: list[str]) -> list[str]: ...


@dataclass(frozen=True, eq=False)
class Embedder:
    """A fitted vectorizer, and what comes before it in its model.

    Parameters
    ----------
    name : str
        What clients call it.
    vectorizer : DistilBertVectorizer
        Fitted.
    before : sequence of transformers
        Steps that change the texts first, such as cleaning.
    """

    name: str
    vectorizer: DistilBertVectorizer
    before: Sequence[_TextStep] = ()

    @property
    def n_features(self) -> int:
        """Columns of a vector."""
        return self.vectorizer.n_features_out_

    @property
    def can_be_cut(self) -> bool:
        """Whether a vector is of one layer and pooling, so that its first columns are one too."""
        return len(self.vectorizer.layers_) == len(self.vectorizer.pooling_) == 1

    def embed(self, texts: list[str]) -> dict[str, np.ndarray]:
        """Return the texts' vectors, and their lengths in tokens before cutting.

        Parameters
        ----------
        texts : list of str
            At least one.

        Returns
        -------
        dict of str to numpy.ndarray
            `vectors` of shape (n_texts, n_features) and `n_tokens` of shape (n_texts,).
        """
        for step in self.before:
            texts = step.transform(texts)
        ((vectors, n_tokens),) = self.vectorizer.transform_iter(
            texts, block_size=len(texts), return_n_tokens=True
        )
        return {"vectors": vectors, "n_tokens": n_tokens}

    def check_dimensions(self, dimensions: int | None) -> int:
        """Return the columns of an answer; None is all.

        Raises
        ------
        InputError
            If the vectors cannot have so many.
        """
        if dimensions is None or dimensions == self.n_features:
            return self.n_features
        if not self.can_be_cut:
            raise InputError(
                f"the vectors consist of several layers or poolings, and have {self.n_features:,} "
                f"dimensions.",
                parameter="dimensions",
            )
        if dimensions > self.n_features:
            raise InputError(
                f"the vectors have {self.n_features:,} dimensions.",
                parameter="dimensions",
                value=dimensions,
            )
        return dimensions

    def cut(self, vectors: np.ndarray, dimensions: int) -> np.ndarray:
        """Return vectors of `embed` with fewer columns, normalised again if they were.

        Parameters
        ----------
        vectors : numpy.ndarray of float32, shape (n_texts, n_features)
        dimensions : int
            As from `check_dimensions`.
        """
        if dimensions == self.n_features:
            return vectors
        normalize = self.vectorizer.normalize_
        return cut_and_normalize(vectors, 1, dimensions, normalize=normalize)


def find_embedder(model: BaseEstimator, name: str) -> Embedder | None:
    """Return the embedder of a model, or None unless the model has exactly one vectorizer.

    Parameters
    ----------
    model : estimator
        A fitted vectorizer, or a model of texts that contains one.
    name : str
    """
    vectorizers = list(find_steps(model, DistilBertVectorizer))
    if len(vectorizers) != 1:
        return None
    if joint := find_step(model, JointModel):
        (model,) = joint.estimators_
    before = []
    for _, step in model.steps if isinstance(model, Pipeline) else ():
        if any(find_steps(step, DistilBertVectorizer)):
            break
        before.append(step)
    return Embedder(name, vectorizers[0], before)


@dataclass
class Service:
    """A fitted model, or an encoder alone, and how it is served.

    Parameters
    ----------
    model : estimator
        A fitted classifier of texts, as from `frozenbert.load_model`, or a fitted
        `DistilBertVectorizer`.
    path : pathlib.Path or None
        The model's file, for the card; None for a vectorizer.
    limits : frozenbert.serve.guard.Limits
    max_waiting : int, default=1024
        Number of texts that may wait in the queue.
    token : str, optional
        What clients have to send as `Authorization: Bearer`.
    hosts : sequence of str
        Values of the Host header that are accepted; `*.example.org` accepts all subdomains.
    title : str, optional
        What the page and the description of the API are called. Default: `name` in the
        `model.json`, else the model's folder, or the encoder.

    Attributes
    ----------
    classes : list
        The labels.
    multi_label : bool
        Whether a text may have any number of labels.
    name : str
        The model's folder, or the encoder.
    form : RecordForm or None
        Of a model that reads columns: what its records contain.
    embedder : Embedder or None
        Of a vectorizer, or of a model with exactly one.
    started : int
        When the service was made, in seconds since 1970.
    """

    model: BaseEstimator
    path: Path | None
    limits: Limits = field(default_factory=Limits)
    max_waiting: int = 1024
    token: str | None = None
    hosts: Sequence[str] = LOCAL_HOSTS
    title: str | None = None

    def __post_init__(self) -> None:
        self.multi_label = find_step(self.model, MultiLabelClassifier) is not None
        self.classes: list[Label] = np.asarray(getattr(self.model, "classes_", [])).tolist()
        if self.path is None:
            self.name = str(self.model.encoder_name_)
        else:
            self.name = self.path.absolute().parent.name
        if self.title is None:
            named = self._sidecar().get("name")
            self.title = named if isinstance(named, str) and named.strip() else self.name
        self.form = find_form(self.model)
        self.embedder = find_embedder(self.model, self.name)
        self.started = int(time.time())

    @property
    def predicts(self) -> bool:
        """Whether it predicts labels; an encoder alone does not."""
        return self.path is not None

    @property
    def has_probabilities(self) -> bool:
        """Whether the model predicts probabilities."""
        return hasattr(self.model, "predict_proba")

    @property
    def column_names(self) -> list[str]:
        """Names of the columns that the model adds to a table."""
        return column_names(self.model)

    @property
    def example(self) -> dict[str, list[str] | list[dict[str, Cell]]]:
        """A body of /predict."""
        if self.form is None:
            return {"texts": ["a stirring film"]}
        return {"records": [self.form.example()]}

    def predict(self, items: Items) -> Columns:
        """Return the model's answers as columns with one value per text or record."""
        return predict(self.model, items if self.form is None else self.form.frame(items))

    def _answer(self, texts: list[str]) -> None:
        """Compute what is asked for texts, whatever it is."""
        if self.form is not None:
            self.predict([self.form.example(text) for text in texts])
        elif self.predicts or self.embedder is None:
            self.predict(texts)
        else:
            self.embedder.embed(texts)

    def warm_up(self) -> None:
        """Answer texts of several sizes without the cache, so that the next answers are fast."""
        vectorizers = list(find_steps(self.model, DistilBertVectorizer))
        # A remote encoder is warm, and every text has its price there.
        if not vectorizers or any(v.encoder_source_ == "remote" for v in vectorizers):
            return
        caches = [vectorizer.cache_dir for vectorizer in vectorizers]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            try:
                for vectorizer in vectorizers:
                    vectorizer.set_params(cache_dir=None)
                for n_words, n_texts in WARM_UP:
                    self._answer([f"{number} {'film ' * n_words}" for number in range(n_texts)])
            finally:
                for vectorizer, cache_dir in zip(vectorizers, caches, strict=True):
                    vectorizer.set_params(cache_dir=cache_dir)

    def _sidecar(self) -> Mapping[str, object]:
        if self.path is None:
            return {}
        # A safe form that `save_model` did not write has no hash that a sidecar could name.
        sidecar: Mapping[str, object] = read_sidecar(self.path, joblib_hash(self.path) or "")
        return sidecar

    def card(self) -> ModelCard:
        """Return what is known of the model.

        Data and figures come from the `model.json` beside it, if that belongs to this model.
        """
        assert self.path is not None  # or there is no model
        sidecar = self._sidecar()
        metrics = _mapping(sidecar.get("metrics"))
        figures = {name: _number(metrics[name]) for name in FIGURES if name in metrics}
        if "baseline" in metrics:
            baseline = _mapping(metrics["baseline"])
            for name in SCORES:
                if name in metrics:
                    figures[f"baseline_{name}"] = _number(baseline.get(name))
        return ModelCard.model_validate(
            {
                "name": self.name,
                "title": self.title,
                "file": self.path.name,
                "labels": self.classes,
                "many_labels": self.multi_label,
                "task": self._task(),
                "columns": self.form.kinds if self.form is not None else {},
                "probabilities": self.has_probabilities,
                "encoder": _mapping(sidecar.get("encoder")) or None,
                "data": _mapping(sidecar.get("training")).get("file"),
                "tested_on": _mapping(sidecar.get("test")).get("description"),
                "figures": figures,
                "created": sidecar.get("created"),
                "frozenbert": __version__,
                "limits": RequestLimits(**asdict(self.limits), explained_words=EXPLAINED_WORDS),
            }
        )

    def _task(self) -> str:
        if find_step(self.model, OrdinalHead) or find_step(self.model, JointOrdinal):
            return "ordinal"
        is_regression = find_step(self.model, RidgeHead) is not None
        return "regression" if is_regression else "classification"

    def check(self, texts: Sequence[str], kind: str = "text") -> None:
        """Raise `InputError` if there are too many texts, or one is too long or not Unicode.

        Parameters
        ----------
        texts : sequence of str
        kind : str, default="text"
            What the message calls one of them.
        """
        self._check_count(len(texts), kind)
        for number, text in enumerate(texts):
            self._check_text(text, f"{kind} {number} (counted from 0)")

    def check_records(self, records: Sequence[Record], kind: str = "record") -> None:
        """Raise `InputError` if there are too many records, or one is not as the model needs it.

        Parameters
        ----------
        records : sequence of mapping
        kind : str, default="record"
            What the message calls one of them.
        """
        assert self.form is not None  # or it reads texts
        self._check_count(len(records), kind)
        for number, record in enumerate(records):
            for name, cell in record.items():
                if isinstance(cell, str) and name in self.form.kinds:
                    self._check_text(cell, f"{kind} {number} (counted from 0), column {name!r},")
        self.form.check(records)

    def _check_count(self, n_texts: int, kind: str) -> None:
        if n_texts > self.limits.texts:
            raise InputError(
                f"{n_texts:,} {kind}s; the limit is {self.limits.texts:,}: send them in parts."
            )

    def _check_text(self, text: str, name: str) -> None:
        limit = self.limits.characters
        if len(text) > limit:
            raise InputError(f"{name} has {len(text):,} characters; the limit is {limit:,}.")
        if _SURROGATE.search(text):
            raise InputError(f"{name} contains a lone surrogate, which is not valid Unicode.")

    def labels_of(self, columns: Columns) -> list[Label | list[Label]]:
        """Return the label of each text, or its list of labels."""
        if not self.multi_label:
            labels: list[Label | list[Label]] = columns["prediction"].tolist()
            return labels
        flags = np.stack([columns[f"prediction_{label}"] for label in self.classes], axis=1)
        return [
            [label for label, flag in zip(self.classes, row, strict=True) if flag] for row in flags
        ]

    def probabilities_of(self, columns: Columns) -> np.ndarray | None:
        """Return the probabilities, shape (n_texts, n_labels), if the model predicts them."""
        if not self.classes or f"proba_{self.classes[0]}" not in columns:
            return None
        return np.stack([columns[f"proba_{label}"] for label in self.classes], axis=1)


def load_service(
    path: str | PathLike[str],
    *,
    limits: Limits | None = None,
    max_waiting: int = 1024,
    token: str | None = None,
    hosts: Sequence[str] = LOCAL_HOSTS,
    encoder_path: str | PathLike[str] | None = None,
    device: str | None = None,
    local_files_only: bool = False,
    allow_remote: bool = False,
    cache_dir: str | PathLike[str] | None = None,
    title: str | None = None,
) -> Service:
    """Load a saved model and set it up for serving.

    The safe form of the model is preferred. One prediction is made, so that the encoder is
    loaded before the first request.

    Parameters
    ----------
    path : path-like
        A model's folder, or a file in it.
    limits : frozenbert.serve.guard.Limits, optional
    max_waiting, token, hosts
        As for `Service`.
    encoder_path : path-like, optional
        Where the model's encoder is now. Default: where the model says.
    device : str, optional
        The torch device. Default: the one that the model was saved with.
    local_files_only : bool, default=False
        Whether never to ask the hub.
    allow_remote : bool, default=False
        Whether texts of requests may be sent to the model's remote encoder, if it has one.
    cache_dir : path-like, optional
        Folder in which vectors of requests are stored. Default: they are not stored.
    title : str, optional
        As for `Service`.

    Returns
    -------
    Service

    Raises
    ------
    frozenbert.InputError
        If the model or its encoder does not exist or cannot be used.
    """
    file = safest(path)
    model = load_model(file)
    model = getattr(model, "best_estimator_", model)  # of a search over the whole Pipeline
    vectorizers = list(find_steps(model, DistilBertVectorizer))
    if encoder_path is not None and len({step.encoder_hash_ for step in vectorizers}) > 1:
        raise InputError(
            "this model uses several encoders, one for each expert; put their folders beside the "
            "model, or under $FROZENBERT_ENCODERS.",
            parameter="encoder_path",
            value=str(encoder_path),
        )
    for vectorizer in vectorizers:
        vectorizer.set_params(
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            allow_remote=allow_remote,
            progress=False,
        )
        if encoder_path is not None:
            vectorizer.set_params(model_name=str(encoder_path))
        if device is not None:
            vectorizer.set_params(device=device)
    service = Service(model, file, limits or Limits(), max_waiting, token, hosts, title)
    service._answer([FIRST_TEXT])
    return service


def load_encoder_service(
    vectorizer: DistilBertVectorizer,
    *,
    limits: Limits | None = None,
    max_waiting: int = 1024,
    token: str | None = None,
    hosts: Sequence[str] = LOCAL_HOSTS,
    cache_dir: str | PathLike[str] | None = None,
    title: str | None = None,
) -> Service:
    """Load an encoder and set it up for serving its vectors.

    Parameters
    ----------
    vectorizer : DistilBertVectorizer
        Names the encoder and what to compute; it is copied, and the copy is fitted.
    limits, max_waiting, token, hosts, cache_dir, title
        As for `load_service`; the vectorizer's own `cache_dir` does not count.

    Returns
    -------
    Service

    Raises
    ------
    frozenbert.InputError
        If the encoder does not exist or cannot be used, or a parameter is illegal.
    """
    if vectorizer.precision == "auto":
        raise InputError(
            "there are no texts to compare precisions on: name one.",
            parameter="precision",
            value="auto",
        )
    embed = clone(vectorizer).set_params(cache_dir=cache_dir, progress=False)
    embed.fit_transform([FIRST_TEXT])
    return Service(embed, None, limits or Limits(), max_waiting, token, hosts, title)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) else None
