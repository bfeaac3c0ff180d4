"""Forward pass without padding, and without the parts that do not change its result.

The tokens of a batch's texts are the rows of one matrix, text after text. The steps of a layer
that treat each token by itself run on the whole matrix. Attention, which must stay within a
text, runs group by group; a group has the texts of one length. A graph that sees few lengths
takes texts with padding instead: then `bias` keeps attention off the padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear
    from transformers import PreTrainedModel

__all__ = ["can_be_packed", "hidden_states", "last_layer_of_first_position", "unpack"]

# Families whose layers differ in the names of their parts only, and the attribute with the
# stack of layers.
STACKS = {
    "bert": "encoder",
    "camembert": "encoder",
    "distilbert": "transformer",
    "electra": "encoder",
    "roberta": "encoder",
    "xlm-roberta": "encoder",
}

MASKED_SCORE = -1e9  # the softmax of such a score is 0, in bfloat16 too

# A layer of any of these families: its parts are looked up by name, so it has no common type.
Layer = Any


class Projections(NamedTuple):
    """Query, key and value matrices of a layer."""

    query: Linear
    key: Linear
    value: Linear


def can_be_packed(model: PreTrainedModel) -> bool:
    """Return whether the functions of this module are exact for the model's family."""
    return model.config.model_type in STACKS and not getattr(model.config, "is_decoder", False)


def hidden_states(
    model: PreTrainedModel,
    groups: Sequence[Tensor],
    n_layers: int,
    bias: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield the embeddings, then the output of each of the first `n_layers` layers.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model of a family that can be packed.
    groups : sequence of torch.Tensor of int64, each of shape (n_rows, n_tokens)
        Token ids; the texts of a group have one length.
    n_layers : int
        Number of layers to compute.
    bias : torch.Tensor of float32, shape (n_rows, 1, 1, n_tokens), or None
        Added to the attention scores of a single group; None is no padding.

    Yields
    ------
    torch.Tensor, shape (n_tokens of all groups, hidden_size)
    """
    parts: Any = model
    states = _concatenate([parts.embeddings(tokens).flatten(0, 1) for tokens in groups])
    if hasattr(model, "embeddings_project"):
        states = parts.embeddings_project(states)
    yield states
    n_heads = model.config.num_attention_heads
    for layer in _layers(model)[:n_layers]:
        projected = [unpack(part(states), groups) for part in _projections(layer)]
        context = [_attend(q, k, v, n_heads, bias) for q, k, v in zip(*projected, strict=True)]
        states = _after_attention(layer, _concatenate(context), states)
        yield states


def last_layer_of_first_position(
    model: PreTrainedModel,
    states: Tensor,
    groups: Sequence[Tensor],
    bias: Tensor | None = None,
) -> Tensor:
    """Compute the last layer for the first position of each text alone.

    This leaves out the queries, output projections and feed-forward steps of the other
    positions. Their keys and values are not computed either: (x K) q = x (K q), and a
    weighted sum of x V is the weighted sum of x, times V. It saves a sixth of the work of an
    encoder with six layers.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model of a family that can be packed.
    states : torch.Tensor, shape (n_tokens of all groups, hidden_size)
        Output of the last layer but one.
    groups : sequence of torch.Tensor
    bias : torch.Tensor or None
        As for `hidden_states`.

    Returns
    -------
    torch.Tensor, shape (n_texts, hidden_size)
    """
    layer = _layers(model)[-1]
    texts = unpack(states, groups)
    first = _concatenate([group[:, 0] for group in texts])
    n_heads = model.config.num_attention_heads
    query, key, value = _projections(layer)
    # The bias of the keys adds one number to all scores of a text: the softmax removes it.
    queries = query(first).unflatten(-1, (n_heads, -1)).transpose(0, 1)
    queries = (queries @ key.weight.unflatten(0, (n_heads, -1))).transpose(0, 1)
    queries = queries * (len(key.weight) // n_heads) ** -0.5
    sizes = [len(group) for group in texts]
    parts = queries.split(sizes) if len(sizes) > 1 else [queries]
    scores = [part @ group.transpose(1, 2) for part, group in zip(parts, texts, strict=True)]
    if bias is not None:
        scores = [part + bias[:, 0] for part in scores]
    context = _concatenate(
        [part.softmax(-1) @ group for part, group in zip(scores, texts, strict=True)]
    )
    context = context.transpose(0, 1) @ value.weight.unflatten(0, (n_heads, -1)).transpose(1, 2)
    return _after_attention(layer, context.transpose(0, 1).flatten(1) + value.bias, first)


def unpack(states: Tensor, groups: Sequence[Tensor]) -> list[Tensor]:
    """Return each group's part of the packed states, of shape (n_rows, n_tokens, hidden_size)."""
    # A single group is not split: a traced graph would store its size as a constant.
    sizes = [group.numel() for group in groups] if len(groups) > 1 else []
    parts = states.split(sizes) if sizes else [states]
    return [
        part.view(*group.shape, part.shape[-1]) for part, group in zip(parts, groups, strict=True)
    ]


def _layers(model: PreTrainedModel) -> Sequence[Layer]:
    layers: Sequence[Layer] = getattr(model, STACKS[model.config.model_type]).layer
    return layers


def _projections(layer: Layer) -> Projections:
    if hasattr(layer, "sa_layer_norm"):  # the names in DistilBERT
        attention = layer.attention
        return Projections(attention.q_lin, attention.k_lin, attention.v_lin)
    attention = layer.attention.self
    return Projections(attention.query, attention.key, attention.value)


def _attend(query: Tensor, key: Tensor, value: Tensor, n_heads: int, bias: Tensor | None) -> Tensor:
    from torch.nn.functional import scaled_dot_product_attention

    query, key, value = (
        states.unflatten(-1, (n_heads, -1)).transpose(1, 2) for states in (query, key, value)
    )
    context = scaled_dot_product_attention(query, key, value, bias)
    return context.transpose(1, 2).flatten(2).flatten(0, 1)


def _after_attention(layer: Layer, context: Tensor, states: Tensor) -> Tensor:
    """Compute the steps of a layer that treat each token by itself."""
    computed: Tensor
    if hasattr(layer, "sa_layer_norm"):
        states = layer.sa_layer_norm(layer.attention.out_lin(context) + states)
        computed = layer.output_layer_norm(layer.ffn.ff_chunk(states) + states)
    else:
        states = layer.attention.output(context, states)
        computed = layer.output(layer.intermediate(states), states)
    return computed


def _concatenate(parts: Sequence[Tensor]) -> Tensor:
    import torch

    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]
