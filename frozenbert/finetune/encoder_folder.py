"""The folder of a fine-tuned encoder: what it contains, and how it is written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

import numpy as np

from ..encoders.sources import (
    POOLING_FILE,
    TOKENIZER_FILES,
    WEIGHTS_FILE,
    EncoderFiles,
    quiet_transformers,
)
from ..errors import InputError
from ..reports.plots import plot_losses
from ..reports.sidecar import write_json
from ..utils.files import check_can_write, names_in
from .checkpoints import TrainingFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "EpochMetrics",
    "Facts",
    "check_free",
    "hash_of",
    "n_trained_on",
    "name_training",
    "read_facts",
    "write_result",
]

FORMAT = 1  # of the training: with another one it starts anew instead of resuming
FACTS = "finetune.json"
LOSSES = "losses.png"
TRAINED_ON = "trained_on.npy"
# All that a training writes; a folder with other files is not replaced.
FILES = {
    *(FACTS, LOSSES, TRAINED_ON, "config.json", Path(POOLING_FILE).parts[0]),
    *(WEIGHTS_FILE, *TOKENIZER_FILES),
}


class EpochMetrics(TypedDict):
    """Metrics of one epoch, on the validation texts but for `train_loss`."""

    epoch: int
    train_loss: float
    loss: float
    accuracy: float
    macro_f1: float


class Facts(TypedDict, total=False):
    """The content of `finetune.json`."""

    format: int
    key: str
    base: dict[str, str | None]
    recipe: dict[str, Any]
    clean: bool
    labels: list[str]
    kind: str
    n_train: int
    n_valid: int
    texts_sha256: str
    metrics: EpochMetrics  # none of a contrastive tuning, whose history is empty
    history: list[EpochMetrics]
    versions: dict[str, str]
    seconds: float


def name_training(facts: Facts, files: EncoderFiles) -> Facts:
    """Return what names a training, with its hash as `key`.

    Parameters
    ----------
    facts : Facts
        Settings, and hashes of texts and labels.
    files : EncoderFiles
        The encoder to start from.
    """
    facts = {"format": FORMAT, **facts}
    named = {**facts, "base": files.content_hash}  # by content: the same under another name
    facts["key"] = hash_of(json.loads(json.dumps(named, default=str)))
    facts["base"] = {
        "name": files.name,
        "source": files.source,
        "revision": files.revision,
        "content_hash": files.content_hash,
    }
    return facts


def hash_of(*parts: object) -> str:
    """Return the SHA-256 hash of what JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_facts(folder: Path) -> Facts | None:
    """Return `finetune.json` of a fine-tuned encoder's folder; None for any other folder."""
    try:
        content = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not {"key", "history"} <= set(content):
        return None
    facts: Facts = content  # type: ignore[assignment]
    return facts


def check_free(out: Path) -> None:
    """Raise `InputError` unless an encoder can be written to `out` and nothing else is lost."""
    check_can_write(TrainingFolder(out).path)
    if not out.exists():
        return
    if out.is_dir() and (os.path.ismount(out) or out.resolve() == Path.cwd()):
        raise InputError(f"{out}: cannot be replaced as a whole; name a folder in it.")
    others = sorted(names_in(out) - FILES) if out.is_dir() else [out.name]
    if others or not (read_facts(out) or not names_in(out)):
        contains = f"contains {others[0]!r}" if others and out.is_dir() else "already exists"
        raise InputError(
            f"{out}: {contains} and is not an encoder that was fine-tuned here; name another "
            f"folder, or remove it."
        )


def write_result(
    encoder: PreTrainedModel,
    files: EncoderFiles,
    pooling: tuple[str, ...],
    facts: Facts,
    texts: Sequence[str],
    folder: TrainingFolder,
) -> None:
    """Write an encoder's folder beside the checkpoints, and rename it to the output.

    Parameters
    ----------
    encoder : transformers.PreTrainedModel
        The fine-tuned encoder.
    files : EncoderFiles
        The encoder it was made from; the tokenizer is copied from there.
    pooling : tuple of str
        What the encoder declares.
    facts : Facts
        The content of `finetune.json`.
    texts : sequence of str
        The training texts, of which hashes are stored.
    folder : TrainingFolder
        Is removed in the end.
    """
    fresh, out = folder.path / "result", folder.out
    shutil.rmtree(fresh, ignore_errors=True)
    with quiet_transformers():
        encoder.save_pretrained(fresh)
    for name in TOKENIZER_FILES:
        if (files.folder / name).is_file():
            shutil.copyfile(files.folder / name, fresh / name)
    declared = {f"pooling_mode_{how}_token{'' if how == 'cls' else 's'}": True for how in pooling}
    (fresh / POOLING_FILE).parent.mkdir()
    write_json(declared, fresh / POOLING_FILE)
    if facts["history"]:
        plot_losses(cast("list[Mapping[str, float]]", facts["history"]), fresh / LOSSES)
    np.save(fresh / TRAINED_ON, np.unique(_digests(texts)))
    write_json({**facts}, fresh / FACTS)
    replaced = folder.path / "replaced"
    if out.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        os.rename(out, replaced)
    os.rename(fresh, out)
    folder.discard()


def n_trained_on(folder: str | os.PathLike[str], texts: Sequence[str]) -> int:
    """Return how many texts an encoder was fine-tuned on; 0 for an encoder from elsewhere.

    Parameters
    ----------
    folder : path-like
        The encoder's folder.
    texts : sequence of str
        Cleaned, if the encoder was trained on cleaned ones.

    Returns
    -------
    int
    """
    path = Path(folder) / TRAINED_ON
    if not path.is_file():
        return 0
    return int(np.isin(_digests(texts), np.load(path)).sum())


def _digests(texts: Sequence[str]) -> np.ndarray:
    hashes = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(hashes), dtype=np.uint64)
