"""How an encoder is fine-tuned: the settings of a training."""

from __future__ import annotations

from dataclasses import dataclass

from ..encoders.sources import POOLINGS, EncoderFiles
from ..errors import InputError
from ..vectors.settings import resolve_max_length, resolve_pooling

__all__ = ["Recipe"]

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """Settings for fine-tuning an encoder.

    Parameters
    ----------
    epochs : int, default=4
        Passes over the training texts.
    keep_epoch : {"best", "last"}, default="best"
        Whose weights are kept: those of the best epoch on the validation texts, or of the last
        one, for which few validation texts suffice.
    lr, head_lr : float, default=5e-5 and 1e-3
        Peak learning rates of the encoder and of the layer on top of it. They rise over the
        first tenth of the steps, then fall linearly to 0.
    dropout : float, default=0.1
        Dropout probability before the layer on top.
    weight_decay : float, default=0.01
        Of AdamW; biases and norms have none.
    batch_size : int, default=16
        Texts in a batch.
    gradient_accumulation_steps : int, default=1
        Batches in an optimizer step.
    early_stopping : int or None, default=None
        Stop after this many epochs without improvement; None trains all epochs. Needs
        `keep_epoch="best"`.
    max_length : int or None, default=None
        Tokens after which a text is cut; None is the encoder's limit.
    pooling : str or tuple of str, default="auto"
        As for `DistilBertVectorizer`; the fine-tuned encoder declares it as its own.
    freeze_layers : int, default=0
        The lowest layers to keep unchanged, with the embeddings.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        "bfloat16" is torch's autocast: products are computed in it, weights stay in float32.
        "auto" takes it where the CPU or GPU has instructions for it.
    seed : int, default=0
        Of the top layer's initial weights, the order of the texts and the dropout.
    device : {"cpu", "cuda"} or None, default=None
        None is CUDA if torch has it, else the CPU.

    Examples
    --------
    >>> Recipe(epochs=2).batch_size
    16
    """

    epochs: int = 4
    keep_epoch: str = "best"
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
    precision: str = "auto"
    seed: int = 0
    device: str | None = None

    def check(self, files: EncoderFiles) -> None:
        """Check the values for an encoder.

        Raises
        ------
        InputError
            If a value is illegal, with the field's name as its parameter.
        """
        for name in ("epochs", "batch_size", "gradient_accumulation_steps", "early_stopping"):
            value = getattr(self, name)
            self._require(
                name,
                value is None or (isinstance(value, int) and value >= 1),
                "a whole number of at least 1.",
            )
        for name in ("lr", "head_lr"):
            self._require(name, 0 < getattr(self, name) < float("inf"), "a number above 0.")
        self._require("dropout", 0 <= self.dropout < 1, "from 0 to below 1.")
        self._require("weight_decay", 0 <= self.weight_decay < float("inf"), "0 or above.")
        self._require(
            "freeze_layers",
            0 <= self.freeze_layers <= files.n_layers,
            f"0 to {files.n_layers}, the number of layers of the encoder {files.name!r}.",
        )
        self._require(
            "device",
            self.device in (None, "cpu", "cuda"),
            "'cpu', 'cuda', or None to let torch choose.",
        )
        self._require("keep_epoch", self.keep_epoch in ("best", "last"), "'best' or 'last'.")
        self._require(
            "early_stopping",
            self.early_stopping is None or self.keep_epoch == "best",
            "None, if the last epoch is kept.",
        )
        self._require("precision", self.precision in PRECISIONS, "'auto', 'float32' or 'bfloat16'.")
        pooling = resolve_pooling(self.pooling, files)
        self._require(
            "pooling",
            bool(pooling) and set(pooling) <= set(POOLINGS) and len(set(pooling)) == len(pooling),
            "must be 'auto', 'cls', 'mean' or 'max', or several of the last three, each once.",
        )
        resolve_max_length(self.max_length, files)

    def _require(self, name: str, legal: bool, allowed: str) -> None:
        if not legal:
            raise InputError(allowed, parameter=name, value=getattr(self, name))
