"""Fine-tuning as a step of a budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ....finetune.finetuning import finetune
from ....finetune.recipe import Recipe
from ....utils.extras import is_installed
from ..candidates import Material, held_out_part, take
from .cross_fitting import PASS, EncoderStep

__all__ = ["FineTuning"]

VALIDATION = 0.01  # share of the training rows that a training is watched on


@dataclass(frozen=True)
class FineTuning(EncoderStep):
    """Fine-tuning with cross-entropy, by Hugging Face's Trainer."""

    name: str = "fine-tuning"
    lr: float = 1e-4
    # Of the layer on top: in few epochs, with many classes, it must learn quickly.
    head_lr: float = 1e-2

    def why_not(self, material: Material) -> str | None:
        """Return why the step cannot be taken, or None if it can."""
        if not is_installed("accelerate"):
            return 'it needs accelerate: pip install "frozenbert[finetune]"'
        return None

    def passes(self, n_rows: int) -> float:
        """Return how often a training on so many rows reads each of them."""
        return self.epochs * (1 + VALIDATION * PASS)

    def pass_once(self, material: Material, rows: np.ndarray, out: Path) -> None:
        """Train an encoder by reading each row once, to see how long it takes."""
        replace(self, epochs=1).tune(material, rows, out)

    def tune(self, material: Material, rows: np.ndarray, out: Path) -> None:
        """Fine-tune an encoder on some of the rows."""
        seed, embed = material.seed + self.seed, material.embed
        train, valid = held_out_part(material.y[rows], VALIDATION, seed)
        recipe = Recipe(
            epochs=self.epochs,
            keep_epoch="last",  # so few rows could not tell which one is best
            lr=self.lr,
            head_lr=self.head_lr,
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
