"""A forward pass without what does not change its result: padding, masks, unused parts.

The texts of a batch stand one behind the other, as the rows of one matrix of all their
tokens. What a layer does to each token is done to the whole matrix; only attention, which
must not look beyond a text, goes group by group, a group being texts of one length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["can_be_packed", "hidden_states", "last_layer_of_first_position", "unpack"]

# The attribute that holds the stack of layers, in families whose layers are alike but for
# the names of their parts.
STACKS = {
    "bert": "encoder",
    "camembert": "encoder",
    "distilbert": "transformer",
    "electra": "encoder",
    "roberta": "encoder",
    "xlm-roberta": "encoder",
}


def can_be_packed(model: Any) -> bool:
    """Tell whether the model is of a family for which the functions below are exact."""
    return model.config.model_type in STACKS and not getattr(model.config, "is_decoder", False)


def hidden_states(model: Any, groups: Sequence[Any], n_layers: int) -> Iterator[Any]:
    """Yield the embeddings, then what each of the first `n_layers` layers makes of them.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Of a family that can be packed.
    groups : sequence of torch.Tensor, each of shape (rows, tokens)
        Token ids, in each group of texts of one length.
    n_layers : int
        Layers above are not computed.

    Yields
    ------
    torch.Tensor, shape (tokens of all groups, hidden)
    """
    states = _concatenate([model.embeddings(tokens).flatten(0, 1) for tokens in groups])
    if hasattr(model, "embeddings_project"):
        states = model.embeddings_project(states)
    yield states
    heads = model.config.num_attention_heads
    for layer in _layers(model)[:n_layers]:
        query, key, value = _projections(layer)
        projected = (unpack(part(states), groups) for part in (query, key, value))
        context = [_attend(q, k, v, heads) for q, k, v in zip(*projected, strict=True)]
        states = _after_attention(layer, _concatenate(context), states)
        yield states


def last_layer_of_first_position(model: Any, states: Any, groups: Sequence[Any]) -> Any:
    """Compute the last layer for the first position of each text alone.

    The other positions' queries, output projections and feed-forward steps are left out,
    and by associativity their keys and values too: (x K) q is x (K q), and a weighted
    sum of x V is the weighted sum of x, times V. What is left costs next to nothing, so a
    sixth of a six-layer encoder's work is saved.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Of a family that can be packed.
    states : torch.Tensor, shape (tokens of all groups, hidden)
        What the layer below the last gave.
    groups : sequence of torch.Tensor
        As for `hidden_states`.

    Returns
    -------
    torch.Tensor, shape (texts, hidden)
    """
    layer = _layers(model)[-1]
    texts = unpack(states, groups)
    first = _concatenate([group[:, 0] for group in texts])
    heads = model.config.num_attention_heads
    query, key, value = _projections(layer)
    # The keys' bias adds the same to each position's score, which the softmax takes out.
    queries = query(first).unflatten(-1, (heads, -1)).transpose(0, 1)
    queries = (queries @ key.weight.unflatten(0, (heads, -1))).transpose(0, 1)
    queries = queries * (len(key.weight) // heads) ** -0.5
    sizes = [len(group) for group in texts]
    parts = queries.split(sizes) if len(sizes) > 1 else [queries]
    context = _concatenate(
        [
            (part @ group.transpose(1, 2)).softmax(-1) @ group
            for part, group in zip(parts, texts, strict=True)
        ]
    )
    context = context.transpose(0, 1) @ value.weight.unflatten(0, (heads, -1)).transpose(1, 2)
    return _after_attention(layer, context.transpose(0, 1).flatten(1) + value.bias, first)


def unpack(states: Any, groups: Sequence[Any]) -> list[Any]:
    """Return each group's part of the packed states, of shape (rows, tokens, hidden)."""
    # One group is not split: its size would stand in a traced graph as a constant.
    sizes = [group.numel() for group in groups] if len(groups) > 1 else []
    parts = states.split(sizes) if sizes else [states]
    return [
        part.view(*group.shape, part.shape[-1]) for part, group in zip(parts, groups, strict=True)
    ]


def _layers(model: Any) -> Any:
    return getattr(model, STACKS[model.config.model_type]).layer


def _projections(layer: Any) -> tuple[Any, Any, Any]:
    if hasattr(layer, "sa_layer_norm"):  # DistilBERT's names
        return layer.attention.q_lin, layer.attention.k_lin, layer.attention.v_lin
    attention = layer.attention.self
    return attention.query, attention.key, attention.value


def _attend(query: Any, key: Any, value: Any, heads: int) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    context = scaled_dot_product_attention(query, key, value)
    return context.transpose(1, 2).flatten(2).flatten(0, 1)


def _after_attention(layer: Any, context: Any, states: Any) -> Any:
    """Do what a layer does to each token by itself."""
    if hasattr(layer, "sa_layer_norm"):
        states = layer.sa_layer_norm(layer.attention.out_lin(context) + states)
        return layer.output_layer_norm(layer.ffn.ff_chunk(states) + states)
    states = layer.attention.output(context, states)
    return layer.output(layer.intermediate(states), states)


def _concatenate(parts: Sequence[Any]) -> Any:
    import torch

    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]
