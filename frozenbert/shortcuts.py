"""What of an encoder's forward pass can be left out without changing its result."""

from __future__ import annotations

import copy
from collections import OrderedDict
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
    stack.layer = type(stack.layer)(_twin(layer) for layer in stack.layer[:n_layers])
    setattr(shorter, name, stack)
    if hasattr(shorter, "pooler"):
        shorter.pooler = None
    return shorter


def last_layer_of_first_position(model: Any, states: Any) -> Any:
    """Compute the last layer for the first position alone.

    The other positions' queries, output projections and feed-forward steps are left out,
    and by associativity their keys and values too: (x K) q is x (K q), and a weighted
    sum of x V is the weighted sum of x, times V. What is left costs next to nothing, so a
    sixth of a six-layer encoder's work is saved.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The whole model, of a family in `STACKS`.
    states : torch.Tensor, shape (rows, tokens, hidden)
        What the layer below the last gave.

    Returns
    -------
    torch.Tensor, shape (rows, hidden)
    """
    layer = getattr(model, STACKS[model.config.model_type]).layer[-1]
    first = states[:, 0]
    heads = model.config.num_attention_heads
    if model.config.model_type == "distilbert":
        attention = layer.attention
        context = _attend(states, heads, attention.q_lin, attention.k_lin, attention.v_lin)
        result = layer.sa_layer_norm(attention.out_lin(context) + first)
        return layer.output_layer_norm(layer.ffn.ff_chunk(result) + result)
    attention = layer.attention.self
    context = _attend(states, heads, attention.query, attention.key, attention.value)
    result = layer.attention.output(context, first)
    return layer.output(layer.intermediate(result), result)


def _attend(states: Any, heads: int, query: Any, key: Any, value: Any) -> Any:
    """Attend from the first position to all, (rows, tokens, hidden) to (rows, hidden)."""
    q = query(states[:, 0]).unflatten(-1, (heads, -1)).transpose(0, 1)
    # The keys' bias adds the same to each position's score, which the softmax takes out.
    q = (q @ key.weight.unflatten(0, (heads, -1))).transpose(0, 1)
    scores = q @ states.transpose(1, 2) * (len(value.weight) // heads) ** -0.5
    context = (scores.softmax(-1) @ states).transpose(0, 1)
    context = context @ value.weight.unflatten(0, (heads, -1)).transpose(1, 2)
    return context.transpose(0, 1).flatten(1) + value.bias


def _twin(module: Any) -> Any:
    """Copy a module but not its parts, so that parts can be replaced in the copy alone."""
    twin = copy.copy(module)
    twin.__dict__["_modules"] = dict(module._modules)
    # transformers puts hooks on layers to collect their states, once a model: those of one
    # twin must not be run in another.
    twin.__dict__["_forward_hooks"] = OrderedDict()
    twin.__dict__.pop("_output_capturing_hooks_installed", None)
    return twin
