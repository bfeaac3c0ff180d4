"""Fine-tune an encoder on labelled texts: what comes out is an encoder like any other."""

from __future__ import annotations

import contextlib
import copy
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

import numpy as np

from .encoder import choose_device, load_encoder
from .errors import InputError
from .metrics import score, short
from .parameters import resolve_max_length, resolve_pooling
from .plots import plot_losses
from .report import versions, write_json
from .sources import POOLING_FILE, TOKENIZER_FILES, EncoderFiles, quiet_transformers

__all__ = ["FineTuned", "Recipe", "finetune", "training_folder"]

FACTS = "finetune.json"
LOSSES = "losses.png"
FORMAT = 1  # of the training: another one starts anew and does not resume


@dataclass(frozen=True)
class Recipe:
    """How an encoder is fine-tuned.

    Parameters
    ----------
    epochs : int, default=4
        Passes over the training texts. The best one on the validation texts is kept.
    lr, head_lr : float, default=5e-5 and 1e-3
        Largest learning rates of the encoder and of the layer on top of it; they rise over
        the first tenth of the steps and fall linearly to 0.
    dropout : float, default=0.1
        Share of each vector that is left out in training, before the layer on top.
    weight_decay : float, default=0.01
        Of AdamW; biases and norms have none.
    batch_size : int, default=16
        Texts that go through the encoder together.
    gradient_accumulation_steps : int, default=1
        Batches a step.
    early_stopping : int or None, default=None
        End after so many epochs that were no better than the best.
    max_length : int or None, default=None
        Tokens a text is cut at; None is the encoder's limit.
    pooling : str or tuple of str, default="auto"
        As for `DistilBertVectorizer`; the result declares it as its own.
    freeze_layers : int, default=0
        So many layers, from below, stay as they are, and the embeddings too.
    seed : int, default=0
        Of the top layer's first weights, the order of the texts and what is left out.
    device : str or None, default=None
        A torch device; None is CUDA where torch has it, else the CPU.
    """

    epochs: int = 4
    lr: float = 5e-5
    head_lr: float = 1e-3
    dropout: float = 0.1
    weight_decay: float = 0.01
    batch_size: int = 16
    gradient_accumulation_steps: int = 1
    early_stopping: int | None = None
    max_length: int | None = None
    pooling: str | tuple[str, ...] = "auto"
    freeze_layers: int = 0
    seed: int = 0
    device: str | None = None

    def check(self, files: EncoderFiles) -> None:
        """Raise `InputError` if a value is not legal for an encoder."""
        for name in ("epochs", "batch_size", "gradient_accumulation_steps", "early_stopping"):
            value = getattr(self, name)
            if not (value is None or (isinstance(value, int) and value >= 1)):
                raise InputError(f"{name}={value!r}: a whole number of at least 1.")
        for name in ("lr", "head_lr"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name}={getattr(self, name)!r}: a number above 0.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout={self.dropout!r}: a share from 0 to below 1.")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"weight_decay={self.weight_decay!r}: 0 or above.")
        if not 0 <= self.freeze_layers <= files.n_layers:
            raise InputError(
                f"freeze_layers={self.freeze_layers!r}: 0 to {files.n_layers}, which the encoder "
                f"{files.name!r} has."
            )


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
    before : bool
        Whether the same training was done already, and nothing had to be done.
    """

    folder: Path
    metrics: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    before: bool = False


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
        From `frozenbert.sources.find_encoder`.
    texts, valid_texts : sequence of str
    labels, valid_labels : array-like or pandas.DataFrame
        One class a text, shape (n_samples,). Or a DataFrame of shape (n_samples, n_labels):
        of integers 0 and 1, any number of labels a text; of floats, the probability of each
        class, whose sum is 1.
    out : path-like
        The folder for the encoder. It appears whole; an encoder in it that came from here is
        replaced, anything else is an error.
    recipe : Recipe, optional
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
        If a value is not legal, `out` is in use, the memory does not suffice, or a label
        stands among the validation rows alone.
    """
    recipe = recipe or Recipe()
    recipe.check(files)
    out = Path(out)
    targets = _Targets.of(labels, valid_labels)
    if len(texts) < 2 or not len(valid_texts):
        raise InputError(
            f"{len(texts)} training and {len(valid_texts)} validation texts: at least 2 and 1."
        )
    facts: dict[str, Any] = {
        "format": FORMAT,
        "base": {
            "name": files.name,
            "source": files.source,
            "revision": files.revision,
            "content_hash": files.content_hash,
        },
        "recipe": asdict(recipe),
        "labels": targets.names,
        "kind": targets.kind,
        "n_train": len(texts),
        "n_valid": len(valid_texts),
        "texts_sha256": _hash(texts, valid_texts, targets.train.tolist(), targets.valid.tolist()),
    }
    key = _hash(json.loads(json.dumps(facts, default=str)))
    there = _facts_of(out)
    if there.get("key") == key:
        return FineTuned(out, there["metrics"], there["history"], before=True)
    if out.exists() and not there and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(
            f"{out}: stands there already and is no encoder that was fine-tuned here; name "
            f"another folder, or remove it."
        )
    started = time.perf_counter()
    work = training_folder(out)
    _claim(work, key)
    encoder = load_encoder(files, choose_device(recipe.device))
    longest = resolve_max_length(recipe.max_length, files)
    pooling = resolve_pooling(recipe.pooling, files)

    def rows(several: Sequence[str], answers: np.ndarray) -> list[dict[str, Any]]:
        return [
            {"input_ids": encoder.tokenize(text, longest)[0][0], "labels": answer}
            for text, answer in zip(several, answers, strict=True)
        ]

    with _said_if_no_room(recipe), quiet_transformers():
        history, best = _fit(
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
    facts |= {
        "key": key,
        "metrics": history[best["place"]],
        "history": history,
        "seconds": time.perf_counter() - started,
        "versions": versions(),
    }
    _write(best["encoder"], files, pooling, facts, out, work)
    return FineTuned(out, facts["metrics"], history, facts["seconds"])


@dataclass
class _Targets:
    """Labels as numbers: places of classes, flags, or probabilities."""

    kind: str  # "classes", "labels" or "probabilities"
    names: list[str]
    train: np.ndarray
    valid: np.ndarray

    @classmethod
    def of(cls, labels: Any, valid_labels: Any) -> _Targets:
        if np.ndim(labels) == 1:
            classes = sorted(set(np.asarray(labels).tolist()), key=lambda label: (str(label),))
            places = {label: place for place, label in enumerate(classes)}
            valid = np.asarray(valid_labels).tolist()
            if alone := [label for label in valid if label not in places]:
                raise InputError(
                    f"the label {short(alone[0])!r} stands in the validation rows alone, and the "
                    f"training rows have {', '.join(map(short, classes[:20]))}: give it training "
                    f"rows, or leave those rows out."
                )
            if len(classes) < 2:
                raise InputError(f"all training rows have the label {short(classes[0])!r}.")
            train = np.array([places[label] for label in np.asarray(labels).tolist()])
            names = [str(label) for label in classes]
            return cls("classes", names, train, np.array([places[label] for label in valid]))
        train, valid = np.asarray(labels), np.asarray(valid_labels)
        names = [str(name) for name in getattr(labels, "columns", range(train.shape[1]))]
        if train.dtype.kind in "iub":
            return cls("labels", names, train.astype(np.float32), valid.astype(np.float32))
        for found in (train, valid):
            if found.min() < 0 or not np.allclose(found.sum(axis=1), 1, atol=1e-3):
                raise InputError("labels: probabilities are from 0 to 1, and a row's sum is 1.")
        return cls("probabilities", names, train.astype(np.float32), valid.astype(np.float32))

    def score(self, truth: np.ndarray, logits: np.ndarray) -> dict[str, float]:
        """Score the logits of some rows."""
        if self.kind == "labels":
            found = score(truth.astype(int), (logits > 0).astype(int))
        else:
            truth = truth if self.kind == "classes" else truth.argmax(axis=1)
            found = score(truth, logits.argmax(axis=1))
        return {"accuracy": found["accuracy"], "macro_f1": found["macro_f1"]}


def _fit(
    encoder: Any,
    pooling: tuple[str, ...],
    rows: list[dict[str, Any]],
    valid_rows: list[dict[str, Any]],
    targets: _Targets,
    recipe: Recipe,
    work: Path,
    on_epoch: Callable[[dict[str, Any]], None] | None,
    progress: bool,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run the Trainer; return each epoch's figures, and the best epoch's place and weights."""
    import torch

    try:
        import accelerate  # noqa: F401
        from transformers import EarlyStoppingCallback, Trainer, TrainingArguments, set_seed
        from transformers.trainer_callback import PrinterCallback, ProgressCallback
    except ImportError as error:
        raise InputError(
            'fine-tuning needs accelerate: pip install "frozenbert[finetune]".'
        ) from error
    set_seed(recipe.seed)
    # A copy: the loaded encoder is shared with vectorizers, for which it is frozen.
    model = _classifier(copy.deepcopy(encoder.model), pooling, targets, recipe.dropout)
    _freeze(model.encoder, recipe.freeze_layers)
    quality = "macro_f1" if targets.kind == "labels" else "accuracy"
    arguments = TrainingArguments(
        output_dir=str(work),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=4 * recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        learning_rate=recipe.lr,
        warmup_steps=0.1,
        lr_scheduler_type="linear",
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=1,  # and the best one
        load_best_model_at_end=True,
        metric_for_best_model=quality,
        greater_is_better=True,
        label_names=["labels"],
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=encoder.device == "cpu",
        disable_tqdm=not progress,
        report_to="none",
    )
    history: list[dict[str, Any]] = []
    trainer = Trainer(
        model,
        arguments,
        data_collator=_collator(encoder.pad_token_id),
        train_dataset=rows,
        eval_dataset=valid_rows,
        # The Trainer groups validation rows by length, too: their order is its own.
        compute_metrics=lambda found: targets.score(
            np.asarray(found.label_ids), np.asarray(found.predictions)
        ),
        optimizers=(torch.optim.AdamW(_groups(model, recipe)), None),
        callbacks=[_teller(history, on_epoch)],
    )
    trainer.remove_callback(PrinterCallback)
    if recipe.early_stopping is not None:
        trainer.add_callback(EarlyStoppingCallback(recipe.early_stopping))
    if progress:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(_bar())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch|accelerate|transformers")
        trainer.train(resume_from_checkpoint=_last_checkpoint(work))
    history[:] = _epochs(trainer.state.log_history)
    values = [epoch[quality] for epoch in history]
    return history, {"place": int(np.argmax(values)), "encoder": model.encoder}


def _classifier(model: Any, pooling: tuple[str, ...], targets: _Targets, dropout: float) -> Any:
    import torch
    from torch.nn import functional

    width = int(model.config.hidden_size) * len(pooling)

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = model
            self.dropout = torch.nn.Dropout(dropout)
            self.head = torch.nn.Linear(width, len(targets.names))

        def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> Any:
            states = self.encoder(
                input_ids=input_ids, attention_mask=attention_mask, return_dict=True
            ).last_hidden_state
            pooled = torch.cat([_POOL[how](states, attention_mask) for how in pooling], dim=1)
            logits = self.head(self.dropout(pooled))
            if labels is None:
                return {"logits": logits}
            if targets.kind == "labels":
                loss = functional.binary_cross_entropy_with_logits(logits, labels)
            else:  # of places of classes, or of probabilities
                loss = functional.cross_entropy(logits, labels)
            return {"loss": loss, "logits": logits}

    return Classifier()


def _mean(states: Any, mask: Any) -> Any:
    mask = mask[:, :, None].to(states.dtype)
    return (states * mask).sum(1) / mask.sum(1)


_POOL: dict[str, Callable[[Any, Any], Any]] = {
    "cls": lambda states, mask: states[:, 0],
    "mean": _mean,
    "max": lambda states, mask: states.masked_fill(mask[:, :, None] == 0, float("-inf")).amax(1),
}


def _freeze(model: Any, n_layers: int) -> None:
    """Keep the embeddings and the lowest layers as they are."""
    import torch

    if not n_layers:
        return
    total = int(model.config.num_hidden_layers)
    stacks = (part for part in model.modules() if isinstance(part, torch.nn.ModuleList))
    stack = next((part for part in stacks if len(part) == total), None)
    if stack is None or not hasattr(model, "embeddings"):
        raise InputError(
            f"freeze_layers={n_layers}: the layers of a {type(model).__name__} are not known here; "
            f"use 0."
        )
    for part in (model.embeddings, *stack[:n_layers]):
        part.requires_grad_(False)


def _groups(model: Any, recipe: Recipe) -> list[dict[str, Any]]:
    """Return AdamW's groups of parameters: head and encoder, with and without decay."""
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            lr = recipe.head_lr if name.startswith("head.") else recipe.lr
            decay = recipe.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
    return [
        {"params": params, "lr": lr, "weight_decay": decay}
        for (lr, decay), params in groups.items()
    ]


def _collator(pad_token_id: int) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    import torch

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        ids = [torch.from_numpy(row["input_ids"].astype(np.int64)) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(ids, True, pad_token_id)
        lengths = torch.tensor([len(one) for one in ids])
        mask = torch.arange(padded.shape[1])[None] < lengths[:, None]
        labels = torch.from_numpy(np.stack([row["labels"] for row in rows]))
        return {"input_ids": padded, "attention_mask": mask.long(), "labels": labels}

    return collate


def _teller(history: list[dict[str, Any]], on_epoch: Any) -> Any:
    from transformers import TrainerCallback

    class Teller(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            history[:] = _epochs(state.log_history)
            if on_epoch is not None:
                on_epoch(history[-1])

    return Teller()


def _bar() -> Any:
    from tqdm.auto import tqdm
    from transformers import TrainerCallback

    class Bar(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            total, done = state.max_steps, state.global_step
            self.bar = tqdm(total=total, initial=done, desc="Training", unit=" steps", leave=False)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.update(state.global_step - self.bar.n)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.close()

    return Bar()


def _epochs(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the figures of each epoch from what the Trainer wrote down."""
    epochs: list[dict[str, Any]] = []
    train_loss = None
    for entry in log:
        if "loss" in entry:
            train_loss = entry["loss"]
        elif "eval_loss" in entry:
            epochs.append(
                {
                    "epoch": round(entry["epoch"]),
                    "train_loss": train_loss,
                    "loss": entry["eval_loss"],
                    "accuracy": entry["eval_accuracy"],
                    "macro_f1": entry["eval_macro_f1"],
                }
            )
    return epochs


def _claim(work: Path, key: str) -> None:
    """Make the folder of checkpoints; those of another training are removed."""
    stamp = work / "key"
    if work.exists() and (not stamp.is_file() or stamp.read_text() != key):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    stamp.write_text(key)


def _last_checkpoint(work: Path) -> str | None:
    """Return the last whole checkpoint, and remove those that a kill cut short."""
    found = []
    for folder in work.glob("checkpoint-*"):
        try:
            # The Trainer writes it last.
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
            found.append(folder)
        except (OSError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
    return str(max(found, key=lambda f: int(f.name.rpartition("-")[2]))) if found else None


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
            f"batch_size (and raise gradient_accumulation_steps by as much, which keeps the "
            f"result), or cut texts with max_length. Finished epochs are kept."
        ) from error


def _write(
    encoder: Any,
    files: EncoderFiles,
    pooling: tuple[str, ...],
    facts: dict[str, Any],
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
    write_json(facts, fresh / FACTS)
    old = work / "before"
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(out, old)
    os.rename(fresh, out)
    shutil.rmtree(work, ignore_errors=True)


def _facts_of(out: Path) -> dict[str, Any]:
    """Return what a fine-tuned encoder's folder says of itself, or nothing."""
    try:
        found = json.loads((out / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and "key" in found else {}


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
