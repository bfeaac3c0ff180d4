"""Fine-tuning as a step of a budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ....finetune.finetuning import finetune
from ....finetune.recipe import Recipe
from ....utils.extras import is_installed
from ..candidates import Material, Member, held_out_part, take
from .cross_fitting import PASS, cross_fit_encoders, seconds_of_cross_fitting

__all__ = ["FineTuning"]

VALIDATION = 0.1  # share of the training rows that selects the epoch


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

    def n_encoders(self, material: Material) -> int:
        """Return how many encoders the step trains: one for each fold."""
        return material.folds.get_n_splits()

    def estimate(self, material: Material) -> float:
        """Return how many seconds the step takes, by a sample that is timed."""
        passes = self.epochs * (1 + VALIDATION * PASS)
        return seconds_of_cross_fitting(replace(self, epochs=1).tune, material, passes)

    def run(self, material: Material) -> Member:
        """Train."""
        return cross_fit_encoders(self.tune, material)

    def tune(self, material: Material, rows: np.ndarray, out: Path) -> None:
        """Fine-tune an encoder on some of the rows; part of them selects the epoch."""
        seed, embed = material.seed + self.seed, material.embed
        train, valid = held_out_part(material.y[rows], VALIDATION, seed)
        recipe = Recipe(
            epochs=self.epochs,
            lr=self.lr,
            seed=seed,
            max_length=embed.max_length,
            device=embed.device,
        )
        texts, labels = take(material.texts, rows), material.y[rows]
        finetune(
            embed._fitted_files(),
            take(texts, train),
            labels[train],
            take(texts, valid),
            labels[valid],
            out,
            recipe,
        )
