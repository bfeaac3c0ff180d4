"""Contrastive tuning as a step of a budget: texts of one class come together."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....encoders.sources import quiet_transformers
from ....finetune.trainer import takes_bfloat16
from ....utils.extras import is_installed
from ....vectors.settings import resolve_pooling
from ..candidates import Material, take
from .cross_fitting import EncoderStep

__all__ = ["ContrastiveTuning", "draw_pairs"]

LIBRARIES = ("accelerate", "datasets", "sentence_transformers")
LEAST_ROWS = 1000  # fewer are drawn more often, as SetFit does
MOST_PAIRS = 40  # for each row
LENGTH = 256  # tokens; pairs take twice the memory of texts


@dataclass(frozen=True)
class ContrastiveTuning(EncoderStep):
    """Tuning on pairs of texts, by the trainer and a loss of sentence-transformers.

    The cosine of two texts' vectors is brought to 1 for two texts of one class, and to 0 for
    texts of two classes. An epoch reads as many texts as there are rows, in pairs.

    References
    ----------
    L. Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022 (SetFit).
    """

    name: str = "contrastive tuning"
    lr: float = 1e-4
    batch_size: int = 16  # pairs

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
        if not out.exists():
            self._train(material, rows, out, self._n_pairs(len(rows)))

    def _train(self, material: Material, rows: np.ndarray, out: Path, n_pairs: int) -> None:
        import torch
        from datasets import Dataset
        from sentence_transformers import (
            SentenceTransformer,
            SentenceTransformerTrainer,
            SentenceTransformerTrainingArguments,
        )
        from sentence_transformers.sentence_transformer.losses import (
            CosineSimilarityLoss,
        )
        from sentence_transformers.sentence_transformer.modules import (
            Pooling,
            Transformer,
        )
        from transformers.trainer_callback import PrinterCallback

        embed, files = material.embed, material.embed._fitted_files()
        seed = material.seed + self.seed
        first, second, same = draw_pairs(material.y[rows], n_pairs, seed)
        texts = take(material.texts, rows)
        pairs = Dataset.from_dict(
            {"first": take(texts, first), "second": take(texts, second), "score": same.tolist()}
        )
        torch.manual_seed(seed)
        fresh = out.with_name(f".{out.name}.{secrets.token_hex(6)}.tmp")
        with quiet_transformers():
            length = min(embed.max_length_, LENGTH)
            words: Any = Transformer(str(files.folder), max_seq_length=length)
            pooling = resolve_pooling("auto", files)
            network = SentenceTransformer(
                modules=[words, Pooling(files.hidden_size, pooling_mode=pooling)],
                device=embed.device,
            )
            arguments = SentenceTransformerTrainingArguments(
                output_dir=str(fresh),
                num_train_epochs=1,
                per_device_train_batch_size=self.batch_size,
                learning_rate=self.lr,
                warmup_steps=0.1,
                save_strategy="no",
                logging_strategy="no",
                eval_strategy="no",
                dataloader_pin_memory=False,
                seed=seed,
                bf16=takes_bfloat16("auto", use_cpu=network.device.type == "cpu"),
                use_cpu=network.device.type == "cpu",
                disable_tqdm=True,
                report_to="none",
            )
            trainer = SentenceTransformerTrainer(
                network, arguments, train_dataset=pairs, loss=CosineSimilarityLoss(network)
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            network.save_pretrained(str(fresh), create_model_card=False)
        fresh.rename(out)


def draw_pairs(
    y: np.ndarray, n_pairs: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw pairs of rows, half of them of one class and half of two.

    Each row is drawn about as often as any other.

    Parameters
    ----------
    y : numpy.ndarray of shape (n_samples,)
        Of at least two classes.
    n_pairs : int
    seed : int, default=0

    Returns
    -------
    first, second : numpy.ndarray of int, shape (n_pairs,)
        Row numbers. A class of one row has no pairs of its own.
    same : numpy.ndarray of float, shape (n_pairs,)
        1 for two rows of one class, else 0.

    Examples
    --------
    >>> first, second, same = draw_pairs(np.array(["a", "a", "b", "b"]), 24)
    >>> len(first), same.mean().item(), bool((first != second).all())
    (24, 0.5, True)
    """
    rng = np.random.default_rng(seed)
    _, coded, sizes = np.unique(y, return_inverse=True, return_counts=True)
    order = np.argsort(coded, kind="stable")  # class by class
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])[coded[order]]
    size = sizes[coded[order]]
    n_same = n_pairs // 2 if (size > 1).any() else 0
    # Places in the order: of rows, of another row of each one's class, and of another class.
    twins = _turns(np.flatnonzero(size > 1), n_same, rng)
    own = begins[twins] + rng.integers(0, size[twins] - 1)
    own += own >= twins
    rows = _turns(np.arange(len(y)), n_pairs - n_same, rng)
    other = rng.integers(0, len(y) - size[rows])
    other += np.where(other >= begins[rows], size[rows], 0)
    first, second = np.concatenate([twins, rows]), np.concatenate([own, other])
    same = np.repeat([1.0, 0.0], [len(twins), len(rows)])
    return order[first], order[second], same


def _turns(rows: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return `n` of the rows: all of them in some order, and again until there are enough."""
    rounds = [rng.permutation(rows) for _ in range(-(-n // max(1, len(rows))))]
    return np.concatenate([np.empty(0, dtype=np.intp), *rounds])[:n]
