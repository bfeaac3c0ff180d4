"""Contrastive tuning as a step of a budget: texts of one class come together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....finetune.pairs import LIBRARIES, PairRecipe, tune_on_pairs
from ....utils.extras import is_installed
from ..candidates import Material, take
from .cross_fitting import EncoderStep

__all__ = ["ContrastiveTuning"]

LEAST_ROWS = 1000  # fewer are drawn more often, as SetFit does
MOST_PAIRS = 40  # for each row


@dataclass(frozen=True)
class ContrastiveTuning(EncoderStep):
    """Tuning on pairs of texts; an epoch reads as many texts as there are rows."""

    name: str = "contrastive tuning"

    def why_not(self, material: Material) -> str | None:
        """Return why the step cannot be taken, or None if it can."""
        if material.many:
            return "it needs one class for each text"
        if not all(map(is_installed, LIBRARIES)):
            return 'it needs sentence-transformers: pip install "frozenbert[contrastive]"'
        return None

    def passes(self, n_rows: int) -> float:
        """Return how often a training on so many rows reads each of them."""
        return 2 * self._n_pairs(n_rows) / n_rows

    def _n_pairs(self, n_rows: int) -> int:
        return min(max(n_rows, LEAST_ROWS) * self.epochs // 2, n_rows * MOST_PAIRS)

    def pass_once(self, material: Material, rows: np.ndarray, out: Path) -> None:
        """Train an encoder by reading each row once, to see how long it takes."""
        self._train(material, rows, out, len(rows) // 2)

    def tune(self, material: Material, rows: np.ndarray, out: Path) -> None:
        """Tune an encoder on pairs of some of the rows."""
        self._train(material, rows, out, self._n_pairs(len(rows)))

    def _train(self, material: Material, rows: np.ndarray, out: Path, n_pairs: int) -> None:
        embed = material.embed
        recipe = PairRecipe(
            n_pairs,
            max_length=embed.max_length_,
            seed=material.seed + self.seed,
            device=embed.device,
        )
        texts = take(material.texts, rows)
        tune_on_pairs(embed._fitted_files(), texts, material.y[rows], out, recipe)
