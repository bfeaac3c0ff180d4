"""Linear layers with weights that oneDNN has ordered: the same numbers as torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frozenbert.encoders import encoder as encoders
from frozenbert.encoders import packed
from frozenbert.encoders.encoder import load_encoder
from frozenbert.encoders.packed import PrepackedProducts, Products, Projections, can_prepack
from frozenbert.encoders.sources import find_encoder

# Not by `can_prepack`: products that are wrong would be skipped.
needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


@needs_onednn
def test_a_torch_with_onednn_can_prepack() -> None:
    assert can_prepack()


@needs_onednn
@settings(deadline=None)
@given(st.integers(1, 70), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_prepacked_weights_give_the_same_products(
    n_tokens: int, n_in: int, n_out: int, bias: bool
) -> None:
    torch.manual_seed(n_tokens)
    plain, prepacked = Products(), PrepackedProducts()
    layers = Projections(*(torch.nn.Linear(n_in, n_out, bias=bias) for _ in range(3)))
    layer = layers.value
    for rows in (n_tokens, 1, 2 * n_tokens):
        states, residual = torch.randn(rows, n_in), torch.randn(rows, n_out)
        with torch.inference_mode():
            for found, expected in (
                (prepacked.linear(layer, states), plain.linear(layer, states)),
                (prepacked.gelu(layer, states), plain.gelu(layer, states)),
                (prepacked.added(layer, states, residual), plain.added(layer, states, residual)),
                *zip(prepacked.stacked(layers, states), plain.stacked(layers, states), strict=True),
            ):
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@needs_onednn
@pytest.mark.numeric
@pytest.mark.parametrize("pooling", [("cls",), ("mean",), ("cls", "max")])
def test_an_encoder_gives_the_same_vectors_with_and_without(
    tiny: str, pooling: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [np.arange(5, 5 + n) for n in (3, 3, 9, 1)]
    vectors = []
    for can in (True, False):
        monkeypatch.setattr(encoders, "can_prepack", lambda can=can: can)
        encoder = load_encoder(find_encoder(tiny), "cpu")
        vectors.append(encoder.encode(ids, pooling, (encoder.n_layers,)))
    assert encoder._prepacked._weights, "no product was computed with them"
    np.testing.assert_allclose(*vectors, rtol=0, atol=1e-5)


def test_a_torch_without_the_operation_computes_as_it_does(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("not implemented for this build")

    monkeypatch.setattr(packed.PrepackedProducts, "linear", fail)
    can_prepack.cache_clear()
    try:
        assert not can_prepack()
        encoder = load_encoder(find_encoder(tiny), "cpu")
        vectors = encoder.encode([np.arange(5, 9)], ("mean",), (encoder.n_layers,))
        assert np.isfinite(vectors).all()
    finally:
        can_prepack.cache_clear()
