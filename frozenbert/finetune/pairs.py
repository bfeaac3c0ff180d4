"""Contrastive tuning: an encoder learns from pairs that texts of one class are alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from ..encoders.sources import EncoderFiles, quiet_transformers
from ..reports.sidecar import versions
from ..utils.extras import require
from ..vectors.settings import resolve_max_length, resolve_pooling
from .checkpoints import TrainingFolder
from .encoder_folder import (
    Facts,
    check_free,
    hash_of,
    name_training,
    read_facts,
    write_result,
)
from .trainer import shared_settings, show_steps

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["LIBRARIES", "PairRecipe", "draw_pairs", "tune_on_pairs"]

LIBRARIES = ("accelerate", "datasets", "sentence_transformers")
LENGTH = 256  # tokens; pairs take twice the memory of texts


@dataclass(frozen=True)
class PairRecipe:
    """Settings for contrastive tuning.

    Parameters
    ----------
    n_pairs : int
        Pairs to train on, once each.
    lr : float, default=1e-4
        Peak learning rate. It rises over the first tenth of the steps, then falls linearly to 0.
    batch_size : int, default=16
        Pairs in a batch.
    max_length : int or None, default=None
        Tokens after which a text is cut; at most 256, and None is the encoder's limit.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        As for `Recipe`.
    seed : int, default=0
        Of the pairs, their order and the dropout.
    device : {"cpu", "cuda"} or None, default=None
        None is CUDA if torch has it, else the CPU.

    Examples
    --------
    >>> PairRecipe(n_pairs=400).batch_size
    16
    """

    n_pairs: int
    lr: float = 1e-4
    batch_size: int = 16
    max_length: int | None = None
    precision: str = "auto"
    seed: int = 0
    device: str | None = None


def tune_on_pairs(
    files: EncoderFiles,
    texts: Sequence[str],
    labels: np.ndarray,
    out: Path,
    recipe: PairRecipe,
    *,
    progress: bool | Literal["auto"] = "auto",
) -> None:
    """Tune a copy of an encoder on pairs of texts, by a loss of sentence-transformers.

    The cosine of two texts' vectors is brought to 1 for two texts of one class, and to 0 for
    texts of two classes. A call with the same texts, labels, encoder and recipe as those that
    made `out` does nothing.

    Parameters
    ----------
    files : EncoderFiles
        The encoder to start from.
    texts : sequence of str
    labels : numpy.ndarray of shape (n_texts,)
    out : pathlib.Path
        The folder for the encoder. It appears whole. Another encoder that was trained into it
        is replaced; a folder with anything else is an error.
    recipe : PairRecipe
    progress : {"auto", True, False}, default="auto"
        Whether to show a progress bar.

    Raises
    ------
    MissingLibraryError
        Without sentence-transformers.
    InputError
        If `recipe.max_length` is above the encoder's limit, or `out` is in use.

    References
    ----------
    L. Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022 (SetFit).
    """
    require(*LIBRARIES, purpose="contrastive tuning")
    length = min(resolve_max_length(recipe.max_length, files), LENGTH)
    settings = {k: v for k, v in asdict(recipe).items() if k != "device"}
    classes, coded = np.unique(labels, return_inverse=True)
    facts: Facts = {
        "recipe": {**settings, "loss": "cosine similarity of pairs"},
        "labels": classes.astype(str).tolist(),
        "kind": "pairs",
        "n_train": len(texts),
        "texts_sha256": hash_of(list(texts), coded.tolist()),
    }
    facts = name_training(facts, files)
    earlier = read_facts(out)
    if earlier is not None and earlier["key"] == facts["key"]:
        return
    check_free(out)
    started, folder = time.perf_counter(), TrainingFolder(out)
    with folder.locked(), quiet_transformers():
        folder.claim(facts["key"])
        pooling = resolve_pooling("auto", files)
        encoder = _train(files, texts, labels, pooling, length, recipe, folder.path, progress)
        facts |= {"history": [], "versions": versions()}
        facts |= {"seconds": time.perf_counter() - started}
        write_result(encoder, files, pooling, facts, texts, folder)


def _train(
    files: EncoderFiles,
    texts: Sequence[str],
    labels: np.ndarray,
    pooling: tuple[str, ...],
    length: int,
    recipe: PairRecipe,
    folder: Path,
    progress: bool | Literal["auto"],
) -> PreTrainedModel:
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers.trainer_callback import PrinterCallback

    first, second, same = draw_pairs(labels, recipe.n_pairs, recipe.seed)
    columns = {"first": [texts[i] for i in first], "second": [texts[i] for i in second]}
    pairs = Dataset.from_dict({**columns, "score": same.tolist()})
    torch.manual_seed(recipe.seed)
    words = Transformer(str(files.folder), max_seq_length=length)
    network = SentenceTransformer(
        modules=[words, Pooling(files.hidden_size, pooling_mode=pooling)],
        device=recipe.device,
    )
    # With an example for its card, the trainer computes none, behind a bar of its own.
    network.model_card_data.widget = [{"source_sentence": ""}]
    on_cpu = network.device.type == "cpu"
    arguments = SentenceTransformerTrainingArguments(
        **shared_settings(folder, recipe.precision, recipe.seed, use_cpu=on_cpu),
        num_train_epochs=1,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.lr,
        save_strategy="no",
        logging_strategy="no",
        eval_strategy="no",
    )
    trainer = SentenceTransformerTrainer(
        network, arguments, train_dataset=pairs, loss=CosineSimilarityLoss(network)
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(show_steps(progress, "Contrastive tuning"))
    trainer.train()
    return cast("PreTrainedModel", words.auto_model)


def draw_pairs(
    y: np.ndarray, n_pairs: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw pairs of rows, half of them of one class and half of two.

    Each row is drawn about as often as any other.

    Parameters
    ----------
    y : numpy.ndarray of shape (n_samples,)
        At least two. With one class, no pair is of two.
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
    n_same = n_pairs if len(sizes) == 1 else n_same
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
