"""The network that is trained: an encoder, a pooling, dropout and a linear layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from ..errors import InputError
from .recipe import Recipe
from .targets import Targets

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter

__all__ = ["Row", "freeze", "make_collator", "make_network", "parameter_groups"]


class Row(TypedDict):
    """A tokenized text and what is learned from it."""

    input_ids: np.ndarray
    labels: np.ndarray


def make_network(
    encoder: Module, pooling: tuple[str, ...], targets: Targets, dropout: float
) -> Module:
    """Put dropout and a linear layer on top of an encoder.

    Parameters
    ----------
    encoder : torch.nn.Module
        A transformers model; it becomes the module's `encoder`.
    pooling : tuple of {"cls", "mean", "max"}
        The pooled vectors are concatenated.
    targets : Targets
        Their kind decides the loss.
    dropout : float

    Returns
    -------
    torch.nn.Module
        Its output holds `logits` and, with labels, `loss`.
    """
    import torch
    from torch.nn import functional

    width = int(encoder.config.hidden_size) * len(pooling)  # type: ignore[union-attr, arg-type]
    n_outputs, kind = len(targets.names), targets.kind

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.dropout = torch.nn.Dropout(dropout)
            self.head = torch.nn.Linear(width, n_outputs)

        def forward(
            self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None
        ) -> dict[str, Tensor]:
            states = self.encoder(
                input_ids=input_ids, attention_mask=attention_mask, return_dict=True
            ).last_hidden_state
            pooled = torch.cat([_POOL[how](states, attention_mask) for how in pooling], dim=1)
            logits = self.head(self.dropout(pooled))
            if labels is None:
                return {"logits": logits}
            if kind == "labels":
                loss = functional.binary_cross_entropy_with_logits(logits, labels)
            else:  # of indices of classes, or of probabilities
                loss = functional.cross_entropy(logits, labels)
            return {"loss": loss, "logits": logits}

    return Network()


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    mask = mask[:, :, None].to(states.dtype)
    return (states * mask).sum(1) / mask.sum(1)


_POOL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": lambda states, mask: states[:, 0],
    "mean": _mean,
    "max": lambda states, mask: states.masked_fill(mask[:, :, None] == 0, float("-inf")).amax(1),
}


def freeze(encoder: Module, n_layers: int) -> None:
    """Exclude the embeddings and the lowest layers from training.

    Raises
    ------
    InputError
        If the layers of this kind of encoder are unknown.
    """
    import torch

    if not n_layers:
        return
    total = int(encoder.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    stacks = (part for part in encoder.modules() if isinstance(part, torch.nn.ModuleList))
    stack = next((part for part in stacks if len(part) == total), None)
    embeddings = getattr(encoder, "embeddings", None)
    if stack is None or embeddings is None:
        raise InputError(
            f"the layers of a {type(encoder).__name__} are unknown: use 0.",
            parameter="freeze_layers",
            value=n_layers,
        )
    for part in (embeddings, *stack[:n_layers]):
        part.requires_grad_(False)


def parameter_groups(network: Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return AdamW's groups of parameters: head and encoder, with and without weight decay."""
    groups: dict[tuple[float, float], list[Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            lr = recipe.head_lr if name.startswith("head.") else recipe.lr
            decay = recipe.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
    return [
        {"params": params, "lr": lr, "weight_decay": decay}
        for (lr, decay), params in groups.items()
    ]


def make_collator(pad_token_id: int) -> Callable[[list[Row]], dict[str, Tensor]]:
    """Return the function that pads rows to one batch."""
    import torch

    def collate(rows: list[Row]) -> dict[str, Tensor]:
        ids = [torch.from_numpy(row["input_ids"].astype(np.int64)) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(ids, True, pad_token_id)
        lengths = torch.tensor([len(one) for one in ids])
        mask = torch.arange(padded.shape[1])[None] < lengths[:, None]
        labels = torch.from_numpy(np.stack([row["labels"] for row in rows]))
        return {"input_ids": padded, "attention_mask": mask.long(), "labels": labels}

    return collate
