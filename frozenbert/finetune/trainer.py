"""Run Hugging Face's Trainer on an encoder with a linear layer on top."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from ..encoders.encoder import Encoder
from ..encoders.openvino.instructions import has_instructions
from ..utils.console import progress_bar
from .checkpoints import last_checkpoint
from .encoder_folder import EpochMetrics
from .network import Row, freeze, make_collator, make_network, parameter_groups
from .recipe import Recipe
from .targets import Targets

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import (
        EvalPrediction,
        PreTrainedModel,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

__all__ = ["Data", "Trained", "shared_settings", "show_steps", "train_network"]


@dataclass(frozen=True)
class Data:
    """Tokenized texts with their labels, to train on and to validate on."""

    train: list[Row]
    valid: list[Row]
    targets: Targets


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes
    ----------
    encoder : transformers.PreTrainedModel
        With the weights of the epoch that is kept.
    history : list of EpochMetrics
    kept : int
        The index of that epoch in `history`.
    """

    encoder: PreTrainedModel
    history: list[EpochMetrics]
    kept: int


def train_network(
    encoder: Encoder,
    pooling: tuple[str, ...],
    data: Data,
    recipe: Recipe,
    folder: Path,
    on_epoch: Callable[[EpochMetrics], None] | None = None,
    progress: bool | Literal["auto"] = "auto",
) -> Trained:
    """Train a copy of an encoder, from the last checkpoint if there is one.

    Parameters
    ----------
    encoder : Encoder
        Is not changed.
    pooling : tuple of str
    data : Data
    recipe : Recipe
    folder : pathlib.Path
        For the checkpoints.
    on_epoch : callable, optional
        Is called with each epoch's metrics.
    progress : {"auto", True, False}, default="auto"
        Whether to show a progress bar.

    Returns
    -------
    Trained
    """
    from transformers import set_seed

    set_seed(recipe.seed)
    # A copy: vectorizers share the loaded encoder, whose gradients an export may have turned off.
    model = copy.deepcopy(encoder.model).requires_grad_(True)
    network = make_network(model, pooling, data.targets, recipe.dropout)
    trained = cast("PreTrainedModel", network.encoder)
    freeze(trained, recipe.freeze_layers)
    quality = "macro_f1" if data.targets.kind == "labels" else "accuracy"
    arguments = _arguments(recipe, folder, quality, encoder.device == "cpu")
    trainer = _trainer(network, arguments, data, recipe, encoder.tokenizer.pad_token_id)
    trainer.add_callback(_epoch_callback(on_epoch))
    trainer.add_callback(show_steps(progress, "Fine-tuning"))
    checkpoint = last_checkpoint(folder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch|accelerate|transformers")
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    history = _history(trainer.state.log_history)
    kept = len(history) - 1
    if recipe.keep_epoch == "best":
        kept = int(np.argmax([epoch[quality] for epoch in history]))  # type: ignore[literal-required]
    return Trained(trained, history, kept)


def _arguments(recipe: Recipe, folder: Path, quality: str, use_cpu: bool) -> TrainingArguments:
    from transformers import TrainingArguments

    return TrainingArguments(
        **shared_settings(folder, recipe.precision, recipe.seed, use_cpu=use_cpu),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=4 * recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        learning_rate=recipe.lr,
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,  # it would hide that a training diverges
        save_total_limit=1,  # and the best one
        load_best_model_at_end=recipe.keep_epoch == "best",
        metric_for_best_model=quality,
        greater_is_better=True,
        label_names=["labels"],
        remove_unused_columns=False,
        data_seed=recipe.seed,
    )


def shared_settings(folder: Path, precision: str, seed: int, *, use_cpu: bool) -> dict[str, Any]:
    """Return the settings that all trainings here share, for `TrainingArguments`.

    Parameters
    ----------
    folder : pathlib.Path
        For what the Trainer writes.
    precision : {"auto", "float32", "bfloat16"}
    seed : int
    use_cpu : bool
    """
    return {
        "output_dir": str(folder),
        "warmup_steps": 0.1,
        "lr_scheduler_type": "linear",
        "dataloader_pin_memory": False,
        "bf16": _takes_bfloat16(precision, use_cpu=use_cpu),
        "seed": seed,
        "use_cpu": use_cpu,
        "disable_tqdm": True,  # the bars here are ours
        "report_to": "none",
    }


def _takes_bfloat16(precision: str, *, use_cpu: bool) -> bool:
    """Tell whether a training computes products in bfloat16."""
    import torch

    if precision != "auto":
        return precision == "bfloat16"
    return bool(has_instructions("bfloat16") if use_cpu else torch.cuda.is_bf16_supported())


def _trainer(
    network: Module,
    arguments: TrainingArguments,
    data: Data,
    recipe: Recipe,
    pad_token_id: int,
) -> Trainer:
    import torch
    from transformers import EarlyStoppingCallback, Trainer
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    def compute_metrics(predicted: EvalPrediction) -> dict[str, object]:
        # The Trainer groups validation texts by length, too: the order is its own.
        truth, logits = np.asarray(predicted.label_ids), np.asarray(predicted.predictions)
        return {**data.targets.score(truth, logits)}

    trainer = Trainer(
        network,
        arguments,
        data_collator=make_collator(pad_token_id),
        train_dataset=data.train,
        eval_dataset=data.valid,
        compute_metrics=compute_metrics,
        optimizers=(torch.optim.AdamW(parameter_groups(network, recipe), fused=True), None),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if recipe.early_stopping is not None:
        trainer.add_callback(EarlyStoppingCallback(recipe.early_stopping))
    return trainer


def _epoch_callback(on_epoch: Callable[[EpochMetrics], None] | None) -> TrainerCallback:
    from transformers import TrainerCallback

    class EpochCallback(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, **_: object) -> None:
            if on_epoch is not None:
                on_epoch(_history(state.log_history)[-1])

    return EpochCallback()


def show_steps(show: bool | Literal["auto"], what: str) -> TrainerCallback:
    """Return a callback that shows a training's steps as a progress bar."""
    from transformers import TrainerCallback

    class StepCallback(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: object) -> None:
            total, done = state.max_steps, state.global_step
            self.bar = progress_bar(show, total, what, "steps", done=done)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: object) -> None:
            self.bar.update(state.global_step - self.bar.n)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: object) -> None:
            self.bar.close()

    return StepCallback()


def _history(log: list[dict[str, float]]) -> list[EpochMetrics]:
    """Return the metrics of each epoch from the Trainer's log."""
    epochs: list[EpochMetrics] = []
    train_loss = float("nan")
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
