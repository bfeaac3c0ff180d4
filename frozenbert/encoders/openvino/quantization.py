"""Quantize the matrix products of a float32 graph to int8.

Each activation that is multiplied by a weight matrix is mapped to 256 levels. Its scale is
fixed in advance, from a sample of texts. A text's vector therefore does not depend on the other
texts in the batch, as it does with scales that are taken from the batch. Weights have one scale
for each output.

Before that, each input channel is divided by a factor, and its weights are multiplied by the
factor. This moves the outliers of the activations, which are in a few channels, into the weights
(Xiao et al. 2023, "SmoothQuant", https://arxiv.org/abs/2211.10438).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from openvino import Model, Node, Output

__all__ = ["SAMPLE", "quantize", "scheme"]

# Share of an outlier that moves into the weights: alpha in the paper, 0.5 to 0.75 for most models.
SMOOTHING = 0.75
# Almost all outputs of GELU are positive. Shifted up by their minimum they use all 256 levels
# instead of half. Activations are shifted if the minimum is within this share of the maximum.
ONE_SIDED = 0.25
VERSION = 1  # raise it with every change that changes vectors

# Texts that the scales are measured on. They are of many kinds and languages, so that the
# activations of few other texts exceed them.
SAMPLE = (
    "The film is a slow, tender look at three sisters who inherit a farm nobody wants.",
    "Terrible. I want those two hours of my life back.",
    "Not bad at all, but not quite as good as everyone says, either.",
    "An absolute delight from start to finish!!! Go and see it NOW.",
    "I ordered the blue one in size 42 and got a red one in 38; customer service never answered.",
    "Battery lasts about 6 hours, the screen is bright, the keyboard feels cheap. 3/5 stars.",
    "Shares of the company fell 4.7 % on Tuesday after it lowered its forecast for the year.",
    "The committee will vote on the amended bill (No. 2291-B) in its session on 14 March.",
    "Scientists found traces of water vapour in the planet's atmosphere, 124 light years away.",
    "lol you guys are unbelievable 😂😂 can't even...",
    "@anna thx for the tip!! see http://example.org/a?id=12&x=3 #monday #coffee",
    "you are an idiot and nobody here cares what you think",
    "Dear Sir or Madam, I am writing to ask about the status of my application of last month.",
    "Where can I buy a second-hand bicycle near the station?",
    "How do I undo the last commit without losing my changes?",
    "def area(r): return 3.14159 * r ** 2  # the circle's",
    "ERROR 2031-05-17 03:12:44,918 worker-7: connection refused (10.0.0.12:5432), retry 3 of 5",
    "Preheat the oven to 180 °C. Beat the eggs with the sugar until pale, then fold in the flour.",
    "The patient, a 64-year-old man, presented with chest pain that had begun two hours before.",
    "The lessee shall keep the premises in good repair and shall not sublet without consent.",
    "It was long past midnight when the last of the guests had gone and the house fell silent.",
    "In the beginning of the nineteenth century the town had four mills, two of them idle.",
    "She scored twice in the second half, and the visitors never found their way back.",
    "We propose a method that is simple, fast, and needs no labels; code is available.",
    "Yes.",
    "no",
    "...",
    "?!",
    "A",
    "42",
    "",
    "hello hello hello hello hello hello hello hello hello hello hello hello hello hello",
    "WHY IS EVERYTHING IN THIS SHOP SO EXPENSIVE AND WHY IS THERE NOBODY TO ASK",
    "the   text  has\todd \n spacing , and punctuation .It ends without",
    "Qwzx vrrtl ploomf -- grbhh; zzkt! xqj 0x7f3a9c1e",
    "Der Zug nach Hamburg fällt heute leider aus, bitte achten Sie auf die Durchsagen.",
    "Je n'ai jamais rien mangé d'aussi bon, et le service était parfait.",
    "La película es demasiado larga, aunque los actores están muy bien.",
    "Il museo è chiuso il lunedì e nei giorni festivi.",
    "O livro chegou atrasado e com a capa rasgada.",
    "Погода сегодня хорошая, пойдём гулять в парк.",
    "今天的会议改到下午三点。",
    "この店のラーメンはとても美味しかったです。",
    "배송이 빠르고 품질도 좋아요.",
    "الخدمة ممتازة والأسعار معقولة.",
    "यह फिल्म मुझे बहुत पसंद आई।",
    "Hizmet iyi değildi ama yemekler güzeldi.",
    "Ik vind dit een prachtig boek, al is het einde wat zwak.",
    "I had read a good deal about this place before we went, most of it praise, and I will say at "
    "once that the room was lovely and the view all that was promised. But the kitchen! We waited "
    "fifty minutes for a soup that was cold, the fish was dry, my wife's risotto had been salted "
    "twice, and when we said so, politely, the waiter shrugged and brought the bill. For what we "
    "paid we could have eaten very well for three evenings elsewhere. The wine was good. The bread "
    "was good. I cannot think of a third thing, and I have tried.",
    "The report covers the twelve months to 30 June. Revenue rose by 11 % to 482.6 million, mainly "
    "because of higher volumes in the northern region, while costs rose by 14 %, of which about "
    "half was due to energy. The board proposes a dividend of 0.85 a share (previous year: 0.80). "
    "Capital expenditure was 61.3 million, less than planned, as two projects were put off. For "
    "the current year the company expects growth of between 3 and 5 % and a slightly lower margin; "
    "this outlook assumes stable exchange rates and no further change in tariffs.",
)


def scheme() -> str:
    """Return a hash of the settings of the quantization; it is part of a vector's cache key."""
    return _hash_of(VERSION, SMOOTHING, ONE_SIDED, SAMPLE)


@functools.lru_cache(maxsize=1)  # each call of `transform` asks
def _hash_of(*settings: object) -> str:
    return hashlib.blake2b(repr(settings).encode(), digest_size=8).hexdigest()


def quantize(model: Model, sample: Sequence[np.ndarray]) -> Model:
    """Quantize the products with weight matrices to int8.

    Parameters
    ----------
    model : openvino.Model
        Graph with one input, token ids of shape (n_rows, n_tokens). It is changed in place.
    sample : sequence of numpy.ndarray of int64, shape (1, n_tokens)
        Token ids that the activations are measured on.

    Returns
    -------
    openvino.Model
        The same object. `openvino.Core.compile_model` makes int8 products of it.
    """
    ranges = _measure(model, sample)
    for source, products in _products(model):
        _quantize_products(source, products, *ranges[_key(source)])
    model.validate_nodes_and_infer_types()
    return model


def _quantize_products(
    source: Output, products: list[Node], low: np.ndarray, high: np.ndarray
) -> None:
    """Replace the products of one activation, whose channels range from `low` to `high`."""
    from openvino import Type, opset13

    weights = [_rows_of(product) for product in products]
    factors = _smooth(np.maximum(high, -low), weights)
    least, most = (low / factors).min(), (high / factors).max()
    shift = -least if -least < ONE_SIDED * most else np.float32(0)
    if shift:
        least, most = np.float32(0), most + shift
    else:
        most = max(most, -least)
        least = -most * np.float32(128 / 127)
    scaled = opset13.multiply(source, _constant(1 / factors))
    if shift:
        scaled = opset13.add(scaled, _constant(shift))
    ends = _constant(least), _constant(most)
    levels = opset13.fake_quantize(scaled, *ends, *ends, 256)
    for product, rows in zip(products, weights, strict=True):
        rows = rows * factors
        scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-8) / np.float32(127)
        whole = np.round(rows / scale).astype(np.int8)
        matrix = opset13.multiply(
            opset13.convert(opset13.constant(whole), Type.f32), _constant(scale)
        )
        new = opset13.matmul(levels, matrix, False, True)
        if shift:
            # Subtract what the shift adds to each output.
            new = opset13.subtract(new, _constant(shift * (whole * scale).sum(axis=1)))
        for user in product.output(0).get_target_inputs():
            user.replace_source_output(new.output(0))


def _key(source: Output) -> tuple[str, int]:
    return source.get_node().get_friendly_name(), source.get_index()


def _products(model: Model) -> Iterator[tuple[Output, list[Node]]]:
    """Yield each activation that is multiplied by weight matrices, with its products."""
    by_source: dict[tuple[str, int], list[Node]] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul" or node.get_attributes()["transpose_a"]:
            continue
        weights = node.input_value(1).get_node()
        if weights.get_type_name() == "Constant" and len(weights.get_output_shape(0)) == 2:
            source = node.input_value(0)
            if source.get_partial_shape().is_static:
                continue  # computed from weights alone, like DeBERTa's positions
            by_source.setdefault(_key(source), []).append(node)
    for products in by_source.values():
        yield products[0].input_value(0), products


def _rows_of(product: Node) -> np.ndarray:
    """Return the weights of a product, float32 of shape (n_outputs, n_inputs)."""
    weights = np.asarray(product.input_value(1).get_node().data, dtype=np.float32)
    return weights if product.get_attributes()["transpose_b"] else weights.T


def _measure(
    model: Model, sample: Sequence[np.ndarray]
) -> dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]:
    """Return the minimum and maximum of each channel of each activation, over the sample."""
    import openvino
    from openvino import opset13

    probe = model.clone()
    keys, outputs = [], []
    for source, _ in _products(probe):
        keys.append(_key(source))
        axes = opset13.constant(np.arange(len(source.get_partial_shape()) - 1))
        outputs += [opset13.reduce_min(source, axes), opset13.reduce_max(source, axes)]
    probe = openvino.Model(outputs, probe.get_parameters(), "ranges")
    compiled = openvino.Core().compile_model(probe, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    values = [[np.array(v) for v in compiled([ids]).values()] for ids in sample]
    low = [np.min([ends[i] for ends in values], axis=0) for i in range(0, 2 * len(keys), 2)]
    high = [np.max([ends[i] for ends in values], axis=0) for i in range(1, 2 * len(keys), 2)]
    return dict(zip(keys, zip(low, high, strict=True), strict=True))


def _smooth(largest: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    """Return the divisors of the input channels, with a mean of 1."""
    in_weights = np.max([np.abs(rows).max(axis=0) for rows in weights], axis=0)
    tiny = np.float32(1e-5)  # a channel that is always zero
    factors = np.maximum(largest, tiny) ** SMOOTHING
    factors /= np.maximum(in_weights, tiny) ** (1 - SMOOTHING)
    smooth: np.ndarray = (factors / factors.mean()).astype(np.float32)
    return smooth


def _constant(value: ArrayLike) -> Node:
    from openvino import opset13

    return opset13.constant(np.asarray(value, dtype=np.float32))
