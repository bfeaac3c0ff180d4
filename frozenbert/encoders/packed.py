"""Forward pass without padding, and without the parts that do not change its result.

The tokens of a batch's texts are the rows of one matrix, text after text. The steps of a layer
that treat each token by itself run on the whole matrix. Attention, which must stay within a
text, runs group by group; a group has the texts of one length. A graph that sees few lengths
takes texts with padding instead: then `bias` keeps attention off the padding.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear
    from transformers import PreTrainedModel

__all__ = [
    "PrepackedProducts",
    "Products",
    "can_be_packed",
    "can_prepack",
    "hidden_states",
    "last_layer_of_first_position",
    "unpack",
]

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


class Products:
    """The linear layers of an encoder, as torch computes them."""

    def linear(self, layer: Linear, states: Tensor) -> Tensor:
        """Return the output of a linear layer."""
        output: Tensor = layer(states)
        return output

    def gelu(self, layer: Linear, states: Tensor) -> Tensor:
        """Return the exact GELU of a linear layer's output."""
        import torch

        return torch.nn.functional.gelu(layer(states))

    def added(self, layer: Linear, states: Tensor, residual: Tensor) -> Tensor:
        """Return the sum of a linear layer's output and `residual`."""
        output: Tensor = layer(states) + residual
        return output

    def stacked(self, layers: Projections, states: Tensor) -> Sequence[Tensor]:
        """Return the outputs of three linear layers with the same input."""
        return [layer(states) for layer in layers]


class PrepackedProducts(Products):
    """Linear layers in float32 on the CPU, in inference mode, with reordered weights.

    `torch.nn.functional.linear` orders the weights anew, as oneDNN reads them, in each product,
    which takes longer than the product itself if there are few tokens. Each layer that was used
    has a second copy of its weights here. GELU and sums are computed with the product, and
    three layers of one input in one product.
    """

    def __init__(self) -> None:
        self._weights: dict[Linear | Projections, tuple[Tensor, Tensor | None]] = {}

    def _prepared(self, layer: Linear | Projections) -> tuple[Tensor, Tensor | None]:
        import torch

        found = self._weights.get(layer)
        if found is None:
            if isinstance(layer, Projections):
                weight = torch.cat([part.weight for part in layer])
                biases = tuple(part.bias for part in layer if part.bias is not None)
                bias = torch.cat(biases) if biases else None
            else:
                weight, bias = layer.weight, layer.bias
            found = (torch.ops.mkldnn._reorder_linear_weight(weight, None), bias)
            self._weights[layer] = found
        return found

    def linear(self, layer: Linear | Projections, states: Tensor) -> Tensor:
        """Return the output of a linear layer, or of several side by side."""
        import torch

        weight, bias = self._prepared(layer)
        output: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
        return output

    def gelu(self, layer: Linear, states: Tensor) -> Tensor:
        """Return the exact GELU of a linear layer's output."""
        import torch

        weight, bias = self._prepared(layer)
        output: Tensor = torch.ops.mkldnn._linear_pointwise(
            states, weight, bias, "gelu", [], "none"
        )
        return output

    def added(self, layer: Linear, states: Tensor, residual: Tensor) -> Tensor:
        """Return the sum of a linear layer's output and `residual`."""
        import torch

        weight, bias = self._prepared(layer)
        output: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            states, residual, weight, bias, "add"
        )
        return output

    def stacked(self, layers: Projections, states: Tensor) -> Sequence[Tensor]:
        """Return the outputs of three linear layers with the same input."""
        return self.linear(layers, states).chunk(3, dim=-1)


@functools.lru_cache(maxsize=1)
def can_prepack() -> bool:
    """Tell whether `PrepackedWeights` works with this torch, which lists it in no reference."""
    import torch

    with torch.inference_mode():
        layer, states = torch.nn.Linear(8, 8), torch.linspace(-1, 1, 24).view(3, 8)
        plain, prepacked = Products(), PrepackedProducts()
        layers = Projections(layer, torch.nn.Linear(8, 8), layer)
        try:
            pairs = [
                (plain.linear(layer, states), prepacked.linear(layer, states)),
                (plain.gelu(layer, states), prepacked.gelu(layer, states)),
                (plain.added(layer, states, states), prepacked.added(layer, states, states)),
                *zip(plain.stacked(layers, states), prepacked.stacked(layers, states), strict=True),
            ]
        except (AttributeError, RuntimeError, TypeError):  # as of a build without oneDNN
            return False
    return all(torch.allclose(*pair, rtol=0, atol=1e-5) for pair in pairs)


PLAIN = Products()


def can_be_packed(model: PreTrainedModel) -> bool:
    """Return whether the functions of this module are exact for the model's family."""
    return model.config.model_type in STACKS and not getattr(model.config, "is_decoder", False)


def hidden_states(
    model: PreTrainedModel,
    groups: Sequence[Tensor],
    n_layers: int,
    bias: Tensor | None = None,
    products: Products = PLAIN,
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
    products : Products
        Computes the linear layers.

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
        stacked = products.stacked(_projections(layer), states)
        projected = [unpack(part, groups) for part in stacked]
        context = [_attend(q, k, v, n_heads, bias) for q, k, v in zip(*projected, strict=True)]
        states = _after_attention(layer, _concatenate(context), states, products)
        yield states


def last_layer_of_first_position(
    model: PreTrainedModel,
    states: Tensor,
    groups: Sequence[Tensor],
    bias: Tensor | None = None,
    products: Products = PLAIN,
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
    bias, products
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
    queries = products.linear(query, first).unflatten(-1, (n_heads, -1)).transpose(0, 1)
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
    context = context.transpose(0, 1).flatten(1) + value.bias
    return _after_attention(layer, context, first, products)


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


def _after_attention(layer: Layer, context: Tensor, states: Tensor, products: Products) -> Tensor:
    """Compute the steps of a layer that treat each token by itself."""
    if hasattr(layer, "sa_layer_norm"):  # the names in DistilBERT
        out, first_norm = layer.attention.out_lin, layer.sa_layer_norm
        inner, activation = layer.ffn.lin1, layer.ffn.activation
        outer, last_norm = layer.ffn.lin2, layer.output_layer_norm
    else:
        out, first_norm = layer.attention.output.dense, layer.attention.output.LayerNorm
        inner, activation = layer.intermediate.dense, layer.intermediate.intermediate_act_fn
        outer, last_norm = layer.output.dense, layer.output.LayerNorm
    states = first_norm(products.added(out, context, states))
    if _is_exact_gelu(activation):
        wide = products.gelu(inner, states)
    else:
        wide = activation(products.linear(inner, states))
    computed: Tensor = last_norm(products.added(outer, wide, states))
    return computed


def _is_exact_gelu(activation: object) -> bool:
    from transformers.activations import GELUActivation

    return isinstance(activation, GELUActivation)


def _concatenate(parts: Sequence[Tensor]) -> Tensor:
    import torch

    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]
