"""Fine-tuning as a step: an encoder for each fold, trained on the rows of the others."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from ...embed import DistilBertVectorizer
from ...encoders.sources import EncoderFiles
from ...finetune.finetuning import finetune
from ...finetune.recipe import Recipe
from ...utils.extras import is_installed
from .candidates import MARGIN, Material, Member, held_out_part, take
from .members import TunedScores, as_scores

__all__ = ["FineTuning"]

SAMPLES = (32, 160)  # training rows by which the time of one is estimated
VALIDATION = 0.1  # share of the training rows that selects the epoch
PASS = 0.4  # time that computing a text's vector takes, in times of training on it once
C = 0.01  # of the logistic regression on the vectors of an encoder


@dataclass(frozen=True)
class FineTuning:
    """Fine-tuning with cross-entropy, by Hugging Face's Trainer.

    Parameters
    ----------
    name : str
    epochs : int
    lr : float
    seed : int
        Added to the model's own.
    """

    name: str = "fine-tuning"
    epochs: int = 4
    lr: float = 1e-4
    seed: int = 0

    def why_not(self, material: Material) -> str | None:
        """Return why the step cannot be taken, or None if it can."""
        if not is_installed("accelerate"):
            return 'it needs accelerate: pip install "frozenbert[finetune]"'
        return None

    def estimate(self, material: Material) -> float:
        """Return how many seconds the step takes, by a sample that is timed."""
        n = len(material.texts)
        rows = np.random.default_rng(material.seed).permutation(n)
        few, more = (rows[: min(size, n)] for size in SAMPLES)
        with tempfile.TemporaryDirectory(dir=material.scratch) as folder:
            seconds = []
            for number, some in enumerate((few, few, more)):  # the first imports libraries
                started = time.perf_counter()
                self._tune(material, some, Path(folder) / f"sample-{number}", 1)
                seconds.append(time.perf_counter() - started)
        each = max(seconds[2] - seconds[1], 0.0) / max(1, len(more) - len(few))
        each = each or seconds[1] / len(few)
        trained = sum(len(train) for train, _ in material.splits)
        per_row = self.epochs * (1 + VALIDATION * PASS) + PASS
        return MARGIN * (each * (trained * per_row + n * PASS) + len(material.splits) * seconds[1])

    def run(self, material: Material) -> Member:
        """Train an encoder for each fold, and let each score the rows that it has not seen."""
        models, p = [], None
        for number, (train, test) in enumerate(material.splits, 1):
            out = material.scratch / f"fold-{number}"
            self._tune(material, train, out, self.epochs)
            model = classifier_on(out, material).fit(take(material.texts, train), material.y[train])
            models.append(model)
            of_test = model.predict_proba(take(material.texts, test))
            p = np.zeros((len(material.y), of_test.shape[1])) if p is None else p
            p[test] = of_test
        assert p is not None
        scores = TunedScores.of(models, multi_label=material.many, missing=material.embed.missing)
        return Member(scores, as_scores(p, multi_label=material.many))

    def _tune(self, material: Material, rows: np.ndarray, out: Path, epochs: int) -> None:
        seed = material.seed + self.seed
        train, valid = held_out_part(material.y[rows], VALIDATION, seed)
        labels: Any = material.y[rows]
        texts = take(material.texts, rows)
        embed = material.embed
        recipe = Recipe(
            epochs=epochs,
            lr=self.lr,
            seed=seed,
            max_length=embed.max_length,
            device=embed.device,
        )
        files = encoder_of(embed)
        parts = (take(texts, train), labels[train], take(texts, valid), labels[valid])
        finetune(files, *parts, out, recipe)


def encoder_of(embed: DistilBertVectorizer) -> EncoderFiles:
    """Return the files of a fitted vectorizer's encoder."""
    return embed._fitted_files()


def classifier_on(folder: Path, material: Material) -> Pipeline:
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
