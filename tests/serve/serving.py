"""A model behind a real server on loopback, and a client for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from loopback import DEADLINE, Answer, on_loopback, request
from sklearn.base import BaseEstimator, ClassifierMixin

LABELS = ["bad", "good"]
NOUNS = ["film", "plot", "cast", "score", "scene", "script", "ending", "camera", "hero", "joke"]
GOOD = ["stirring", "warm", "funny", "clever", "moving", "graceful"]
BAD = ["dull", "hollow", "clumsy", "tired", "boring", "lifeless"]
FILMS = [
    f"a {word} {noun}" for noun in NOUNS for pair in zip(GOOD, BAD, strict=True) for word in pair
]


class WordModel(ClassifierMixin, BaseEstimator):
    """A classifier that counts words, waits until `go` is set, and fails on "unbearable"."""

    def __init__(self) -> None:
        self.classes_ = np.array(LABELS)
        self.calls: list[list[str]] = []
        self.entered = 0
        self.go = threading.Event()
        self.go.set()

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        self.entered += 1
        assert self.go.wait(2 * DEADLINE)
        self.calls.append(list(texts))
        if any("unbearable" in text for text in texts):
            raise ValueError(f"cannot label {texts}")
        n_good = np.array([text.count("good") for text in texts])
        n_bad = np.array([text.count("bad") for text in texts])
        good = (1 + n_good) / (2 + n_good + n_bad)
        return np.stack([1 - good, good], axis=1)

    def predict(self, texts: list[str]) -> np.ndarray:
        good = np.array([t.count("good") >= t.count("bad") for t in texts])
        return self.classes_[good.astype(int)]


@dataclass
class Client:
    port: int

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __call__(
        self,
        method: str,
        path: str,
        body: bytes | dict | list | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
        seconds: float = DEADLINE,
    ) -> Answer:
        return request(self.port, method, path, body, headers, seconds)

    def predict(self, *texts: str, **options: Any) -> Answer:
        return self("POST", "/predict", {"texts": list(texts)}, **options)


def save_films(folder: Path) -> Path:
    """Save a model on trained weights in both forms; return the folder."""
    from frozenbert import make_text_classifier, save_model
    from frozenbert.encoders.sources import PACKAGED_ENCODER

    model = make_text_classifier(PACKAGED_ENCODER, recipe="plain", C=0.01, cv=2, cache_dir=None)
    model.fit(FILMS, ["good", "bad"] * (len(FILMS) // 2))
    save_model(model, folder / "model.joblib")
    return folder


@contextlib.contextmanager
def serving(model: BaseEstimator, folder: Path | None, **settings: Any) -> Iterator[Client]:
    """Serve a model, or without a folder a vectorizer; `settings` are those of `Service`."""
    from frozenbert.serve.app import make_app
    from frozenbert.serve.service import Service

    path = None if folder is None else folder / "model.skops"
    with on_loopback(make_app(Service(model, path, **settings))) as port:
        yield Client(port)


def wait_until(true: Callable[[], bool], seconds: float = DEADLINE) -> None:
    """Poll a condition; fail if it is still false at the deadline."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "the deadline has passed"
        time.sleep(0.005)


def wait_for(futures: list[Future], n: int) -> list[Future]:
    """Wait until `n` of some futures are done, and return those that are."""
    wait_until(lambda: sum(future.done() for future in futures) >= n)
    return [future for future in futures if future.done()]
