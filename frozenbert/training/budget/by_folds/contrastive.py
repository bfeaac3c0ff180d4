"""Contrastive tuning as a step of a budget: texts of one class come together."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....encoders.sources import quiet_transformers
from ....utils.extras import is_installed
from ....vectors.settings import resolve_pooling
from ..candidates import Material, Member, take
from .cross_fitting import cross_fit_encoders, seconds_of_cross_fitting

__all__ = ["ContrastiveTuning", "draw_pairs"]

LIBRARIES = ("accelerate", "datasets", "sentence_transformers")
LEAST_PAIRS = 2000  # few rows are drawn more often, as SetFit does
MOST_DRAWS = 20
LENGTH = 256  # tokens; pairs take twice the memory of texts


@dataclass(frozen=True)
class ContrastiveTuning:
    """Tuning on pairs of texts, by the trainer and a loss of sentence-transformers.

    The cosine of two texts' vectors is brought to 1 for two texts of one class, and to 0 for
    texts of two classes.

    Parameters
    ----------
    name : str
    lr : float
    batch_size : int
        Pairs in a batch.

    References
    ----------
    L. Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022 (SetFit).
    """

    name: str = "contrastive tuning"
    lr: float = 5e-5
    batch_size: int = 16

    def why_not(self, material: Material) -> str | None:
        """Return why the step cannot be taken, or None if it can."""
        if material.many:
            return "it needs one class for each text"
        if not all(map(is_installed, LIBRARIES)):
            return 'it needs sentence-transformers: pip install "frozenbert[contrastive]"'
        return None

    def n_encoders(self, material: Material) -> int:
        """Return how many encoders the step trains: one for each fold."""
        return material.folds.get_n_splits()

    def estimate(self, material: Material) -> float:
        """Return how many seconds the step takes, by a sample that is timed."""
        n_train = min(len(train) for train, _ in material.splits)

        def once(material: Material, rows: np.ndarray, out: Path) -> None:
            self._train(material, rows, out, draws=1)

        return seconds_of_cross_fitting(once, material, float(_draws(n_train)))

    def run(self, material: Material) -> Member:
        """Train."""
        return cross_fit_encoders(self.tune, material)

    def tune(self, material: Material, rows: np.ndarray, out: Path) -> None:
        """Tune an encoder on pairs of some of the rows."""
        if not out.exists():
            self._train(material, rows, out, _draws(len(rows)))

    def _train(self, material: Material, rows: np.ndarray, out: Path, draws: int) -> None:
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

        embed, files = material.embed, material.embed._fitted_files()
        first, second, same = draw_pairs(material.y[rows], draws, material.seed)
        texts = take(material.texts, rows)
        pairs = Dataset.from_dict(
            {"first": take(texts, first), "second": take(texts, second), "score": same.tolist()}
        )
        torch.manual_seed(material.seed)
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
                seed=material.seed,
                use_cpu=network.device.type == "cpu",
                disable_tqdm=True,
                report_to="none",
            )
            SentenceTransformerTrainer(
                network, arguments, train_dataset=pairs, loss=CosineSimilarityLoss(network)
            ).train()
            network.save_pretrained(str(fresh), create_model_card=False)
        fresh.rename(out)


def _draws(n_rows: int) -> int:
    """Return how often each row is drawn."""
    return int(np.clip(-(-LEAST_PAIRS // (2 * n_rows)), 1, MOST_DRAWS))


def draw_pairs(
    y: np.ndarray, draws: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw for each row as many rows of its own class as of another.

    Parameters
    ----------
    y : numpy.ndarray of shape (n_samples,)
    draws : int
        Of each kind.
    seed : int, default=0

    Returns
    -------
    first, second : numpy.ndarray of int, shape (n_pairs,)
        Row numbers. A class of one row has no pairs of its own.
    same : numpy.ndarray of float, shape (n_pairs,)
        1 for two rows of one class, else 0.

    Examples
    --------
    >>> first, second, same = draw_pairs(np.array(["a", "a", "b", "b"]), draws=3)
    >>> len(first), same.mean().item(), bool((first != second).all())
    (24, 0.5, True)
    """
    rng = np.random.default_rng(seed)
    _, coded, sizes = np.unique(y, return_inverse=True, return_counts=True)
    order = np.argsort(coded, kind="stable")  # class by class
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])[coded[order]]
    rows, size = np.arange(len(y)), sizes[coded[order]]
    first, second, same = [], [], []
    for _ in range(draws):
        # Places in the order: of another row of the class, and of a row of another class.
        own = begins + rng.integers(0, np.maximum(size - 1, 1))
        other = rng.integers(0, len(y) - size)
        places = (own + (own >= rows), other + np.where(other >= begins, size, 0))
        for place, score, exist in ((places[0], 1.0, size > 1), (places[1], 0.0, size > 0)):
            first.append(order[exist])
            second.append(order[place[exist]])
            same.append(np.full(exist.sum(), score))
    return np.concatenate(first), np.concatenate(second), np.concatenate(same)
