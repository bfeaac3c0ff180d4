"""Train an encoder for each fold on the rows of the others, and score the rows it has not seen."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from ....embed import DistilBertVectorizer
from ..candidates import MARGIN, Material, Member, take
from .fold_scores import cross_fit

__all__ = ["Tune", "cross_fit_encoders", "seconds_of_cross_fitting"]

# Trains an encoder on the rows of these numbers, into a folder; the rest is its own affair.
Tune: TypeAlias = Callable[[Material, np.ndarray, Path], None]

SAMPLES = (32, 160)  # training rows by which the time of one is estimated
PASS = 0.4  # time that the vector of a text takes, in times of training on it once
C = 0.01  # of the logistic regression on the vectors of an encoder


def cross_fit_encoders(tune: Tune, material: Material) -> Member:
    """Train an encoder for each fold, and a classifier on its vectors.

    Parameters
    ----------
    tune : callable
        If the folder exists, it is complete.
    material : Material
    """

    def fit(number: int, rows: np.ndarray) -> Pipeline:
        out = material.scratch / f"fold-{number}"
        tune(material, rows, out)
        return _classifier_on(out, material).fit(take(material.texts, rows), material.y[rows])

    return cross_fit(fit, material)


def seconds_of_cross_fitting(tune: Tune, material: Material, passes: float) -> float:
    """Return how many seconds `cross_fit_encoders` takes, by two small trainings of one pass.

    Parameters
    ----------
    tune : callable
        Trains for one pass over the rows.
    material : Material
    passes : float
        How often the real one goes over the rows.
    """
    n = len(material.texts)
    rows = np.random.default_rng(material.seed).permutation(n)
    few, more = (rows[: min(size, n)] for size in SAMPLES)
    with tempfile.TemporaryDirectory(dir=material.scratch) as folder:
        seconds = []
        for number, some in enumerate((few, few, more)):  # the first imports libraries
            started = time.perf_counter()
            tune(material, some, Path(folder) / f"sample-{number}")
            seconds.append(time.perf_counter() - started)
    each = max(seconds[2] - seconds[1], 0.0) / max(1, len(more) - len(few))
    each = each or seconds[1] / len(few)
    splits = material.splits
    trained = sum(len(train) for train, _ in splits)
    return MARGIN * (each * (trained * (passes + PASS) + n * PASS) + len(splits) * seconds[1])


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
