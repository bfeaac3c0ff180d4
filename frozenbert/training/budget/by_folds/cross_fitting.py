"""Train an encoder for each fold on the rows of the others, score the rest, and one on all rows."""

from __future__ import annotations

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from ....embed import DistilBertVectorizer
from ..candidates import MARGIN, Candidate, Material, Member, take
from .classifier_scores import cross_fit

__all__ = ["PASS", "EncoderStep"]

SAMPLES = (32, 160)  # training rows by which the time of one is estimated
PASS = 0.4  # time that the vector of a text takes, in times of training on it once
C = 0.01  # of the logistic regression on the vectors of an encoder
SIZES = ((3, 4), (3, 2), (2, 2), (2, 1))  # folds and epochs, the most thorough first


@dataclass(frozen=True)
class EncoderStep(ABC):
    """A step that trains the encoder.

    An encoder for each fold tells what such an encoder is worth on rows that it has not seen,
    and one that is trained on all rows becomes part of the model.

    Parameters
    ----------
    name : str
    seed : int
        Added to the model's own.
    n_folds, epochs : int
        At most; where the time does not suffice, there are fewer.
    """

    name: str
    seed: int = 0
    n_folds: int = SIZES[0][0]
    epochs: int = SIZES[0][1]

    @property
    def n_encoders(self) -> int:
        """How many encoders the step adds to the model."""
        return 1

    @abstractmethod
    def why_not(self, material: Material) -> str | None:
        """Return why the step cannot be taken, or None if it can."""

    @abstractmethod
    def tune(self, material: Material, rows: np.ndarray, out: Path) -> None:
        """Train an encoder on some of the rows; if the folder exists, it is complete."""

    @abstractmethod
    def passes(self, n_rows: int) -> float:
        """Return how often a training on so many rows reads each of them."""

    @abstractmethod
    def pass_once(self, material: Material, rows: np.ndarray, out: Path) -> None:
        """Train an encoder by reading each row once, to see how long it takes."""

    def sized(self, material: Material, seconds: float) -> tuple[Candidate, float]:
        """Return the most thorough size that takes at most `seconds`, and its seconds.

        If none does, it is the smallest.
        """
        each, start = _time_training(self.pass_once, material)
        step, expected = self, 0.0
        for n_folds, epochs in SIZES:
            if n_folds > self.n_folds or epochs > self.epochs:
                continue
            step = replace(self, n_folds=n_folds, epochs=epochs)
            expected = step._seconds(material, each, start)
            if expected <= seconds:
                break
        return step, expected

    def _seconds(self, material: Material, each: float, start: float) -> float:
        """Return how many seconds the step takes.

        Parameters
        ----------
        material : Material
        each, start : float
            Seconds of reading a row once, and of the start of a training.
        """
        n = len(material.y)
        sizes = [n, *(len(train) for train, _ in material.in_folds(self.n_folds).splits)]
        # What a killed training has left is not trained again.
        new = [size for i, size in enumerate(sizes) if not self._folder(material, i).exists()]
        trained = sum(size * self.passes(size) for size in new)
        return MARGIN * (each * (trained + (sum(sizes) + n) * PASS) + len(new) * start)

    def _folder(self, material: Material, number: int) -> Path:
        """Return where the encoder of a fold goes; those of other sizes are other encoders."""
        return material.scratch / f"{self.n_folds}-{self.epochs}-{number}"

    def run(self, material: Material) -> Member:
        """Train."""

        def fit(number: int, rows: np.ndarray) -> Pipeline:
            out = self._folder(material, number)
            self.tune(material, rows, out)
            return _classifier_on(out, material).fit(take(material.texts, rows), material.y[rows])

        return cross_fit(fit, material.in_folds(self.n_folds))


def _time_training(
    train: Callable[[Material, np.ndarray, Path], None], material: Material
) -> tuple[float, float]:
    """Return the seconds of reading a row once and of a start, by two small trainings."""
    n = len(material.texts)
    rows = np.random.default_rng(material.seed).permutation(n)
    few, more = (rows[: min(size, n)] for size in SAMPLES)
    with tempfile.TemporaryDirectory(dir=material.scratch) as folder:
        seconds = []
        for number, some in enumerate((few, few, more)):  # the first imports libraries
            started = time.perf_counter()
            train(material, some, Path(folder) / f"sample-{number}")
            seconds.append(time.perf_counter() - started)
    each = max(seconds[2] - seconds[1], 0.0) / max(1, len(more) - len(few))
    return each or seconds[1] / len(few), seconds[1]


def _classifier_on(folder: Path, material: Material) -> Pipeline:
    """Return a classifier on the vectors of an encoder, not fitted."""
    embed = material.embed
    vectorizer = DistilBertVectorizer(
        str(folder),
        max_length=embed.max_length,
        long_text=embed.long_text,
        missing=embed.missing,
        device=embed.device,
        num_threads=embed.num_threads,
        max_batch_tokens=embed.max_batch_tokens,
        prompt="",  # nothing was put before the texts that it was trained on
        cache_dir=None,
        local_files_only=True,
        progress=False,
    )
    head: Any = LogisticRegression(C=C, solver="newton-cg", tol=1e-3, max_iter=1000)
    if material.many:
        head = OneVsRestClassifier(head)
    return Pipeline([("embed", vectorizer), ("scale", StandardScaler()), ("classify", head)])
