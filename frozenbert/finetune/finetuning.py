"""Fine-tune an encoder on labelled texts: the result is an encoder like any other."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..encoders.encoder import Encoder, choose_device, load_encoder
from ..encoders.sources import EncoderFiles, quiet_transformers
from ..errors import InputError
from ..reports.sidecar import versions
from ..utils.cleaning import clean_texts
from ..utils.texts import check_texts
from ..vectors.settings import resolve_max_length, resolve_pooling
from .checkpoints import TrainingFolder
from .encoder_folder import (
    EpochMetrics,
    Facts,
    check_free,
    hash_of,
    name_training,
    read_facts,
    write_result,
)
from .network import Row
from .recipe import Recipe
from .targets import Targets
from .trainer import Data, train_network

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FineTuned", "finetune"]


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned encoder.

    Attributes
    ----------
    folder : pathlib.Path
        The encoder, for `DistilBertVectorizer(folder)`.
    metrics : EpochMetrics
        Of the selected epoch: `epoch`, `train_loss` and, on the validation texts by the layer
        that was trained on top, `loss`, `accuracy` and `macro_f1`.
    history : list of EpochMetrics
        Of each epoch.
    seconds : float
        Duration of the training; of a resumed one, of its last part.
    skipped : bool
        Whether the folder already held the result of the same training.
    """

    folder: Path
    metrics: EpochMetrics
    history: list[EpochMetrics] = field(default_factory=list)
    seconds: float = 0.0
    skipped: bool = False


def finetune(
    files: EncoderFiles,
    texts: Sequence[str],
    labels: ArrayLike | pd.DataFrame,
    valid_texts: Sequence[str],
    valid_labels: ArrayLike | pd.DataFrame,
    out: str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    clean: bool = False,
    on_epoch: Callable[[EpochMetrics], None] | None = None,
    progress: bool | Literal["auto"] = "auto",
) -> FineTuned:
    """Train the weights of an encoder, and a linear layer on top, with Hugging Face's Trainer.

    A call that was killed resumes after its last complete epoch when it is repeated. A call
    with the same texts, labels, encoder and recipe as those that made `out` does nothing.

    Parameters
    ----------
    files : EncoderFiles
        From `frozenbert.encoders.sources.find_encoder`.
    texts, valid_texts : sequence of str
    labels, valid_labels : array-like or pandas.DataFrame
        Of shape (n_samples,): one class for each text. Of shape (n_samples, n_labels) and
        integers 0 and 1: any number of labels; and floats: the probability of each class.
    out : path-like
        The folder for the encoder. It appears whole. Another encoder that was fine-tuned into
        it is replaced; a folder with anything else is an error.
    recipe : Recipe, optional
    clean : bool, default=False
        Whether texts are cleaned by `frozenbert.utils.cleaning.clean_texts` first. The folder
        records it; clean the texts that are embedded later, too.
    on_epoch : callable, optional
        Is called with each epoch's metrics.
    progress : {"auto", True, False}, default="auto"
        Whether to show a progress bar; "auto" shows it in a terminal or a notebook.

    Returns
    -------
    FineTuned

    Raises
    ------
    InputError
        If a value is illegal, `out` is in use, memory does not suffice, the training diverges,
        or a label exists only in the validation texts.
    """
    recipe, out = recipe or Recipe(), Path(out)
    recipe.check(files)
    texts, valid_texts = _checked(texts, clean), _checked(valid_texts, clean)
    targets = Targets.of(labels, valid_labels)
    _check_lengths(texts, valid_texts, targets)
    facts = _facts(files, recipe, clean, targets, texts, valid_texts)
    earlier = read_facts(out)
    if earlier is not None and earlier["key"] == facts["key"] and earlier["history"]:
        return FineTuned(out, earlier["metrics"], earlier["history"], skipped=True)
    check_free(out)
    started = time.perf_counter()
    _require_accelerate()
    encoder = load_encoder(files, choose_device(recipe.device))
    longest, folder = resolve_max_length(recipe.max_length, files), TrainingFolder(out)
    pooling = resolve_pooling(recipe.pooling, files)
    data = Data(
        _rows(encoder, texts, targets.train, longest),
        _rows(encoder, valid_texts, targets.valid, longest),
        targets,
    )
    with folder.locked(), _explain_lack_of_memory(recipe), quiet_transformers():
        folder.claim(facts["key"])
        trained = train_network(encoder, pooling, data, recipe, folder.path, on_epoch, progress)
        metrics = trained.history[trained.kept]
        _check_converged(metrics, recipe, folder)
        facts |= {"metrics": metrics, "history": trained.history, "versions": versions()}
        facts |= {"seconds": time.perf_counter() - started}
        write_result(trained.encoder, files, pooling, facts, texts, folder)
    return FineTuned(out, metrics, trained.history, facts["seconds"])


def _check_converged(metrics: EpochMetrics, recipe: Recipe, folder: TrainingFolder) -> None:
    if not np.isfinite([metrics["loss"], metrics["train_loss"]]).all():
        folder.discard()
        raise InputError(
            "the training diverged, its loss is not a number; use a smaller one.",
            parameter="lr",
            value=recipe.lr,
        )


def _checked(texts: Sequence[str], clean: bool) -> list[str]:
    return clean_texts(texts) if clean else check_texts(texts, missing="error")


def _check_lengths(texts: list[str], valid_texts: list[str], targets: Targets) -> None:
    if len(texts) < 2 or not len(valid_texts):
        raise InputError(
            f"{len(texts)} training and {len(valid_texts)} validation texts: at least 2 and 1 are "
            f"needed."
        )
    for several, numbers in ((texts, targets.train), (valid_texts, targets.valid)):
        if len(several) != len(numbers):
            raise InputError(f"{len(several):,} texts and {len(numbers):,} labels: one each.")


def _rows(encoder: Encoder, texts: list[str], answers: np.ndarray, longest: int) -> list[Row]:
    return [
        {"input_ids": encoder.tokenizer.split(text, longest)[0][0], "labels": answer}
        for text, answer in zip(texts, answers, strict=True)
    ]


def _facts(
    files: EncoderFiles,
    recipe: Recipe,
    clean: bool,
    targets: Targets,
    texts: list[str],
    valid_texts: list[str],
) -> Facts:
    """Return what names a training; its hash is the `key`."""
    facts: Facts = {
        "recipe": {k: v for k, v in asdict(recipe).items() if k != "device"},
        "clean": clean,
        "labels": targets.names,
        "kind": targets.kind,
        "n_train": len(texts),
        "n_valid": len(valid_texts),
        "texts_sha256": hash_of(texts, valid_texts, targets.train.tolist(), targets.valid.tolist()),
    }
    return name_training(facts, files)


def _require_accelerate() -> None:
    try:
        import accelerate  # noqa: F401
    except ImportError as error:
        raise InputError(
            'fine-tuning needs accelerate: pip install "frozenbert[finetune]".'
        ) from error


@contextlib.contextmanager
def _explain_lack_of_memory(recipe: Recipe) -> Iterator[None]:
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        # On a CPU, torch's allocator raises a plain RuntimeError.
        if not known and "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise InputError(
            "memory does not suffice for batches of this size: lower it (and raise "
            "gradient_accumulation_steps by the same factor, so that a step is as large), or cut "
            "texts with max_length.",
            parameter="batch_size",
            value=recipe.batch_size,
        ) from error
