"""What of an encoder's forward pass can be left out without changing its result."""

from __future__ import annotations

import copy
from typing import Any

__all__ = ["first_layers", "last_layer_of_first_position"]

# The attribute that holds the stack of layers, in families whose layers pass on one state.
STACKS = {
    "bert": "encoder",
    "camembert": "encoder",
    "distilbert": "transformer",
    "electra": "encoder",
    "roberta": "encoder",
    "xlm-roberta": "encoder",
}


def first_layers(model: Any, n_layers: int) -> Any | None:
    """Return the model without the layers above the first `n_layers`, sharing its weights.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    n_layers : int
        Layers to keep.

    Returns
    -------
    transformers.PreTrainedModel or None
        The shorter model; None for families where it is not known to be exact.
    """
    name = STACKS.get(model.config.model_type)
    if name is None or getattr(model.config, "is_decoder", False):
        return None
    shorter = _twin(model)
    stack = _twin(getattr(model, name))
    stack.layer = stack.layer[:n_layers]
    setattr(shorter, name, stack)
    if hasattr(shorter, "pooler"):
        shorter.pooler = None
    return shorter


def last_layer_of_first_position(model: Any, states: Any, mask: Any | None) -> Any:
    """Compute the last layer for the first position alone.

    For the [CLS] vector the other positions are needed in the last layer only as keys
    and values: their queries, output projections and feed-forward steps, about a seventh
    of a six-layer encoder's work, are left out.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The whole model, of a family in `STACKS`.
    states : torch.Tensor, shape (rows, tokens, hidden)
        What the layer below the last gave.
    mask : torch.Tensor of bool, shape (rows, tokens), or None
        True at tokens, False at padding; None if there is no padding.

    Returns
    -------
    torch.Tensor, shape (rows, hidden)
    """
    layer = getattr(model, STACKS[model.config.model_type]).layer[-1]
    first = states[:, :1]
    heads = model.config.num_attention_heads
    if model.config.model_type == "distilbert":
        attention = layer.attention
        context = _attend(
            attention.q_lin(first), attention.k_lin(states), attention.v_lin(states), mask, heads
        )
        result = layer.sa_layer_norm(attention.out_lin(context) + first)
        result = layer.output_layer_norm(layer.ffn(result) + result)
    else:
        attention = layer.attention.self
        context = _attend(
            attention.query(first), attention.key(states), attention.value(states), mask, heads
        )
        result = layer.attention.output(context, first)
        result = layer.output(layer.intermediate(result), result)
    return result[:, 0]


def _attend(query: Any, key: Any, value: Any, mask: Any | None, heads: int) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    if mask is not None:
        mask = mask[:, None, None, :]
    context = scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return context.transpose(1, 2).flatten(2)


def _twin(module: Any) -> Any:
    """Copy a module but not its parts, so that parts can be replaced in the copy alone."""
    twin = copy.copy(module)
    twin.__dict__["_modules"] = dict(module._modules)
    return twin
