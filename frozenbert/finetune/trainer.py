"""The training itself: an encoder and a linear layer on top, on Hugging Face's Trainer."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..encoders.sources import POOLINGS, EncoderFiles
from ..errors import InputError
from ..reports.metrics import score, short
from ..vectors.settings import resolve_max_length, resolve_pooling

__all__ = ["Recipe", "Targets", "fit"]


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
    device : {"cpu", "cuda"} or None, default=None
        None is CUDA where torch has it, else the CPU.
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
        if self.device not in (None, "cpu", "cuda"):
            raise InputError(f"device={self.device!r}: 'cpu', 'cuda', or None to let torch choose.")
        pooling = resolve_pooling(self.pooling, files)
        if not pooling or not set(pooling) <= set(POOLINGS) or len(set(pooling)) < len(pooling):
            raise InputError(
                f"pooling={self.pooling!r}: 'auto', one of {list(POOLINGS)}, or a tuple of "
                f"different ones."
            )
        resolve_max_length(self.max_length, files)


@dataclass
class Targets:
    """Labels as numbers: places of classes, flags, or probabilities."""

    kind: str  # "classes", "labels" or "probabilities"
    names: list[str]
    train: np.ndarray
    valid: np.ndarray

    @classmethod
    def of(cls, labels: Any, valid_labels: Any) -> Targets:
        """Return labels as numbers; raise `InputError` if they are not what they should be."""
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
        valid_names = [str(name) for name in getattr(valid_labels, "columns", names)]
        if valid_names != names or valid.shape[1:] != train.shape[1:]:
            raise InputError(f"valid_labels has the columns {valid_names}, and labels {names}.")
        if len(names) < 2:
            raise InputError("there is only one label: with or without it are two classes.")
        if train.dtype.kind in "iub":
            unseen = np.flatnonzero(valid.any(axis=0) & ~train.any(axis=0))
            if len(unseen):
                raise InputError(
                    f"the label {short(names[unseen[0]])!r} stands in the validation rows alone: "
                    f"give it training rows, or leave it out."
                )
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


def fit(
    encoder: Any,
    pooling: tuple[str, ...],
    rows: list[dict[str, Any]],
    valid_rows: list[dict[str, Any]],
    targets: Targets,
    recipe: Recipe,
    work: Path,
    on_epoch: Callable[[dict[str, Any]], None] | None,
    progress: bool,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run the Trainer; return each epoch's figures, and the best epoch's place and weights."""
    import torch
    from transformers import EarlyStoppingCallback, Trainer, TrainingArguments, set_seed
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

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
        logging_nan_inf_filter=False,  # it would hide that a training diverged
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
        data_collator=_collator(encoder.tokenizer.pad_token_id),
        train_dataset=rows,
        eval_dataset=valid_rows,
        # The Trainer groups validation rows by length, too: their order is its own.
        compute_metrics=lambda found: targets.score(
            np.asarray(found.label_ids), np.asarray(found.predictions)
        ),
        optimizers=(torch.optim.AdamW(_groups(model, recipe), fused=True), None),
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


def _classifier(model: Any, pooling: tuple[str, ...], targets: Targets, dropout: float) -> Any:
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
