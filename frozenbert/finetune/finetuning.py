"""Fine-tune an encoder on labelled texts: what comes out is an encoder like any other."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from ..encoders.encoder import choose_device, load_encoder
from ..encoders.sources import (
    POOLING_FILE,
    TOKENIZER_FILES,
    WEIGHTS_FILE,
    EncoderFiles,
    quiet_transformers,
)
from ..errors import InputError
from ..reports.plots import plot_losses
from ..reports.sidecar import versions, write_json
from ..utils.cleaning import clean_texts
from ..utils.files import check_can_write, names_in
from ..utils.texts import check_texts
from ..vectors.settings import resolve_max_length, resolve_pooling
from .trainer import Recipe, Targets, fit

__all__ = ["FineTuned", "Recipe", "finetune", "n_trained_on", "training_folder"]

FACTS = "finetune.json"
LOSSES = "losses.png"
TRAINED_ON = "trained_on.npy"
# What a folder of ours holds; anything else in it is somebody else's.
OURS = {
    *(FACTS, LOSSES, TRAINED_ON, "config.json", Path(POOLING_FILE).parts[0]),
    *(WEIGHTS_FILE, *TOKENIZER_FILES),
}
FORMAT = 1  # of the training: another one starts anew and does not resume


@dataclass
class FineTuned:
    """A fine-tuned encoder.

    Attributes
    ----------
    folder : pathlib.Path
        `DistilBertVectorizer(folder)` takes it, as does `--model`.
    metrics : dict
        Of the kept epoch, on the validation texts, by the layer that was trained on top:
        `accuracy`, `macro_f1`, `loss` and `epoch`.
    history : list of dict
        The same for each epoch, with its `train_loss`.
    seconds : float
        What the training took, and of a resumed one the last part.
    skipped : bool
        Whether the same training was done already, and nothing had to be done.
    """

    folder: Path
    metrics: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    skipped: bool = False


def training_folder(out: str | os.PathLike[str]) -> Path:
    """Return the folder beside `out` that holds the checkpoints until `out` is whole."""
    out = Path(out).absolute()
    return out.with_name(f".{out.name}.training")


def finetune(
    files: EncoderFiles,
    texts: Sequence[str],
    labels: Any,
    valid_texts: Sequence[str],
    valid_labels: Any,
    out: str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    clean: bool = False,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    progress: bool = False,
) -> FineTuned:
    """Train all weights of an encoder, and a linear layer on top, with Hugging Face's Trainer.

    A call that was killed goes on, when repeated, after the last epoch that was finished.
    A call with the same texts, labels, encoder and recipe as those that made `out` does
    nothing.

    Parameters
    ----------
    files : EncoderFiles
        From `frozenbert.encoders.sources.find_encoder`.
    texts, valid_texts : sequence of str
    labels, valid_labels : array-like or pandas.DataFrame
        One class a text, shape (n_samples,). Or a DataFrame of shape (n_samples, n_labels):
        of integers 0 and 1, any number of labels a text; of floats, the probability of each
        class, whose sum is 1.
    out : path-like
        The folder for the encoder. It appears whole; an encoder in it that came from here is
        replaced, anything else in it is an error.
    recipe : Recipe, optional
    clean : bool, default=False
        Whether texts go through `frozenbert.utils.cleaning.clean_texts` first; it is noted in the
        folder, and up to whoever uses the encoder to do the same.
    on_epoch : callable, optional
        Is given each epoch's figures.
    progress : bool, default=False
        Whether a bar is shown.

    Returns
    -------
    FineTuned

    Raises
    ------
    InputError
        If a value is not legal, `out` is in use, the memory does not suffice, the training
        diverged, or a label stands among the validation rows alone.
    """
    recipe = recipe or Recipe()
    recipe.check(files)
    out = Path(out)
    make = clean_texts if clean else functools.partial(check_texts, missing="error")
    texts, valid_texts = make(texts), make(valid_texts)
    targets = Targets.of(labels, valid_labels)
    if len(texts) < 2 or not len(valid_texts):
        raise InputError(
            f"{len(texts)} training and {len(valid_texts)} validation texts: at least 2 and 1."
        )
    for several, numbers in ((texts, targets.train), (valid_texts, targets.valid)):
        if len(several) != len(numbers):
            raise InputError(f"{len(several):,} texts and {len(numbers):,} labels: one each.")
    facts: dict[str, Any] = {
        "format": FORMAT,
        "base": files.content_hash,
        "recipe": {k: v for k, v in asdict(recipe).items() if k != "device"},
        "clean": clean,
        "labels": targets.names,
        "kind": targets.kind,
        "n_train": len(texts),
        "n_valid": len(valid_texts),
        "texts_sha256": _hash(texts, valid_texts, targets.train.tolist(), targets.valid.tolist()),
    }
    key = _hash(json.loads(json.dumps(facts, default=str)))
    there = _facts_of(out)
    if there.get("key") == key:
        return FineTuned(out, there["metrics"], there["history"], skipped=True)
    _check_free(out)
    started = time.perf_counter()
    work = training_folder(out)
    _import_accelerate()
    encoder = load_encoder(files, choose_device(recipe.device))
    longest = resolve_max_length(recipe.max_length, files)
    pooling = resolve_pooling(recipe.pooling, files)

    def rows(several: Sequence[str], answers: np.ndarray) -> list[dict[str, Any]]:
        return [
            {"input_ids": encoder.tokenizer.split(text, longest)[0][0], "labels": answer}
            for text, answer in zip(several, answers, strict=True)
        ]

    with _alone(work, out), _said_if_no_room(recipe), quiet_transformers():
        _claim(work, key)
        history, best = fit(
            encoder,
            pooling,
            rows(texts, targets.train),
            rows(valid_texts, targets.valid),
            targets,
            recipe,
            work,
            on_epoch,
            progress,
        )
        kept = history[best["place"]]
        if not np.isfinite([kept["loss"], kept["train_loss"]]).all():
            shutil.rmtree(work, ignore_errors=True)
            raise InputError(
                f"lr={recipe.lr!r}: the training diverged, its loss is no number any more; take a "
                f"smaller one."
            )
        facts |= {"metrics": kept, "history": history, "versions": versions()}
        facts |= {"key": key, "seconds": time.perf_counter() - started}
        facts["base"] = {
            "name": files.name,
            "source": files.source,
            "revision": files.revision,
            "content_hash": files.content_hash,
        }
        _write(best["encoder"], files, pooling, facts, texts, out, work)
    return FineTuned(out, facts["metrics"], history, facts["seconds"])


def _import_accelerate() -> None:
    try:
        import accelerate  # noqa: F401
    except ImportError as error:
        raise InputError(
            'fine-tuning needs accelerate: pip install "frozenbert[finetune]".'
        ) from error


def _check_free(out: Path) -> None:
    """Raise `InputError` unless an encoder can be put at `out`, and nothing is lost by that."""
    check_can_write(training_folder(out))
    if not out.exists():
        return
    if out.is_dir() and (os.path.ismount(out) or out.resolve() == Path.cwd()):
        raise InputError(f"{out}: cannot be replaced as a whole; name a folder in it.")
    others = sorted(names_in(out) - OURS) if out.is_dir() else [out.name]
    if others or not (_facts_of(out) or not names_in(out)):
        holds = f"holds {others[0]!r}" if others and out.is_dir() else "stands there already"
        raise InputError(
            f"{out}: {holds} and is no encoder that was fine-tuned here; name another folder, or "
            f"remove it."
        )


@contextlib.contextmanager
def _alone(work: Path, out: Path) -> Iterator[None]:
    """Keep other processes from training for the same folder."""
    work.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(work.with_name(f"{work.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise InputError(f"{out}: another process is training an encoder for it.") from None
    try:
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)


def _claim(work: Path, key: str) -> None:
    """Make the folder of checkpoints; those of another training are discarded, and it is said."""
    stamp = work / "key"
    if work.exists() and (not stamp.is_file() or stamp.read_text() != key):
        if not stamp.is_file() and names_in(work):
            raise InputError(f"{work}: is in the way, and none of ours; move it.")
        if list(work.glob("checkpoint-*")):
            warnings.warn(
                f"{work}: holds the checkpoints of another training (other texts, encoder or "
                f"settings), which are discarded.",
                stacklevel=3,
            )
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    stamp.write_text(key)


@contextlib.contextmanager
def _said_if_no_room(recipe: Recipe) -> Iterator[None]:
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise InputError(
            f"the memory does not suffice for batches of {recipe.batch_size} texts: lower "
            f"batch_size (and raise gradient_accumulation_steps by as much, so that a step is as "
            f"large), or cut texts with max_length."
        ) from error


def _write(
    encoder: Any,
    files: EncoderFiles,
    pooling: tuple[str, ...],
    facts: dict[str, Any],
    texts: Sequence[str],
    out: Path,
    work: Path,
) -> None:
    """Put the encoder's folder together under another name, then in its place."""
    fresh = work / "result"
    shutil.rmtree(fresh, ignore_errors=True)
    with quiet_transformers():
        encoder.save_pretrained(fresh)
    for name in TOKENIZER_FILES:
        if (files.folder / name).is_file():
            shutil.copyfile(files.folder / name, fresh / name)
    declared = {f"pooling_mode_{how}_token{'' if how == 'cls' else 's'}": True for how in pooling}
    (fresh / POOLING_FILE).parent.mkdir()
    write_json(declared, fresh / POOLING_FILE)
    plot_losses(facts["history"], fresh / LOSSES)
    np.save(fresh / TRAINED_ON, np.unique(_digests(texts)))
    write_json(facts, fresh / FACTS)
    old = work / "before"
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(out, old)
    os.rename(fresh, out)
    shutil.rmtree(work, ignore_errors=True)


def n_trained_on(folder: str | os.PathLike[str], texts: Sequence[str]) -> int:
    """Return how many texts an encoder from here was fine-tuned on; 0 for any other encoder.

    Parameters
    ----------
    folder : path-like
    texts : sequence of str
        Cleaned, if the encoder was trained on cleaned ones.
    """
    path = Path(folder) / TRAINED_ON
    if not path.is_file():
        return 0
    return int(np.isin(_digests(texts), np.load(path)).sum())


def _digests(texts: Sequence[str]) -> np.ndarray:
    hashes = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(hashes), dtype=np.uint64)


def _facts_of(out: Path) -> dict[str, Any]:
    """Return what a fine-tuned encoder's folder says of itself, or nothing."""
    try:
        found = json.loads((out / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and "key" in found else {}


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
