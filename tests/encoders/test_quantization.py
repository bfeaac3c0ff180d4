"""Quantization to int8: its error, and the content of the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozenbert import DistilBertVectorizer
from frozenbert.encoders.openvino import exporting as graphs
from frozenbert.encoders.openvino import quantization as quantize

openvino = graphs.import_openvino()
opset13, Type = openvino.opset13, openvino.Type

N_IDS, N_IN, N_OUT = 40, 24, 16
IDS = np.arange(N_IDS, dtype=np.int64)[None]

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*longer than .* tokens:UserWarning", "ignore:.*no instructions:UserWarning"
)


def toy(table: np.ndarray, *weights: np.ndarray, transposed: bool = True) -> Any:
    """Make a graph that looks ids up in a table and multiplies the rows by each matrix."""
    ids = opset13.parameter([-1, -1], np.int64)
    rows = opset13.gather(opset13.constant(table), ids, opset13.constant(0))
    outputs = [
        opset13.matmul(rows, opset13.constant(w if transposed else w.T.copy()), False, transposed)
        for w in weights
    ]
    return openvino.Model(outputs, [ids], "toy")


def computed(model: Any, ids: np.ndarray = IDS) -> list[np.ndarray]:
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", exact)
    return [np.array(values) for values in compiled([ids]).values()]


def relative_error(table: np.ndarray, *weights: np.ndarray, transposed: bool = True) -> float:
    model = toy(table, *weights, transposed=transposed)
    expected = computed(model)
    found = computed(quantize.quantize(model, [IDS]))
    return max(
        float(np.linalg.norm(a - b) / np.linalg.norm(b))
        for a, b in zip(found, expected, strict=True)
    )


def one_sided(values: np.ndarray) -> np.ndarray:
    """Return values like those of GELU: large above zero, small below."""
    return (values / (1 + np.exp(-1.702 * values))).astype(np.float32)


def random(seed: int, n_products: int = 1) -> tuple[np.ndarray, list[np.ndarray]]:
    numbers = np.random.default_rng(seed)
    table = numbers.normal(size=(N_IDS, N_IN)).astype(np.float32)
    shape = (n_products, N_OUT, N_IN)
    return table, list(numbers.normal(size=shape).astype(np.float32))


SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, transposed=st.booleans(), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_the_product_is_within_two_percent(seed, transposed, scale):
    table, weights = random(seed, n_products=2)
    table *= np.float32(scale)
    assert relative_error(table, *weights, transposed=transposed) < 0.02


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, channel=st.integers(0, N_IN - 1), size=st.sampled_from([-100, 30, 300]))
def test_an_outlier_channel_does_not_drown_the_others(seed, channel, size):
    table, weights = random(seed)
    signs = np.sign(table[:, channel])
    table[:, channel] = signs * abs(size)
    for rows in weights:
        rows[:, channel] /= 3 * abs(size)  # as trained encoders do: it matters little
    assert relative_error(table, *weights) < 0.05


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_one_sided_inputs_use_all_levels(seed):
    table, weights = random(seed)
    table = one_sided(3 * table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize, "ONE_SIDED", 0)
        half_the_levels = relative_error(table, *weights)
    assert relative_error(table, *weights) < min(0.02, half_the_levels)


def test_a_channel_that_is_always_zero_is_no_problem():
    table, weights = random(1)
    table[:, 3] = 0
    weights[0][:, 5] = 0
    weights[0][7] = 0
    assert relative_error(table, *weights) < 0.02
    assert relative_error(np.ones_like(table), *weights) < 0.02


def test_values_beyond_the_sample_are_cut_off_and_stay_finite():
    table, weights = random(2)
    table[-1] *= 1000
    model = quantize.quantize(toy(table, *weights), [IDS[:, :-1]])
    (found,) = computed(model)
    assert np.isfinite(found).all()
    assert np.abs(found[0, -1]).max() < 100 * np.abs(found[0, :-1]).max()


def test_a_product_of_weights_alone_is_left():
    table, weights = random(3)
    ids = opset13.parameter([-1, -1], np.int64)
    fixed = opset13.matmul(opset13.constant(table), opset13.constant(weights[0]), False, True)
    model = openvino.Model([opset13.gather(fixed, ids, opset13.constant(0))], [ids], "fixed")
    expected = computed(model)
    found = computed(quantize.quantize(model, [IDS]))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_scheme_names_all_that_shapes_a_graph(monkeypatch):
    schemes = [quantize.scheme()]
    assert quantize.scheme() == schemes[0]
    for name, value in [
        ("VERSION", quantize.VERSION + 1),
        ("SMOOTHING", 0.5),
        ("ONE_SIDED", 0.1),
        ("SAMPLE", quantize.SAMPLE[:-1]),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(quantize, name, value)
            schemes.append(quantize.scheme())
    assert len(set(schemes)) == 5


# Content of an encoder's graph, and distance of its vectors.

# Texts that are not in the sample for the scales.
REAL = [
    "a gorgeous, witty, seductive movie .",
    "it 's slow -- very, very slow .",
    "one long string of cliches .",
    "The hotel was clean and the staff were friendly, but breakfast was poor value.",
    "Parliament rejected the proposal by a narrow majority late on Thursday evening.",
    "The new phone's camera is astonishing in low light, though it gets warm.",
    "My package has been stuck in customs for three weeks and support keeps closing my ticket.",
    "why does my loop never end when i is a float???",
    "Great game, the keeper saved two penalties!",
    "Add the onions and stir for ten minutes over a low heat.",
    "Die Lieferung kam zu spät, aber der Verkäufer war sehr freundlich.",
    "so proud of my little sister today :')",
]


def export(encoder: str, cache: Path, precision: str) -> tuple[Any, int]:
    """Return the graph that is stored for an encoder, and its size on disk."""
    DistilBertVectorizer(
        encoder,
        precision=precision,
        backend="openvino",
        cache_dir=cache,
        device="cpu",
        keep_layers="asked",
    ).fit_transform(["a"])
    (folder,) = (cache / "exports").iterdir()
    size = (folder / "graph.bin").stat().st_size
    return openvino.Core().read_model(folder / "graph.xml"), size


def weights_met(model: Any) -> list[Any]:
    """Return the element types of the matrices that activations are multiplied by."""
    found = []
    for node in model.get_ops():
        if node.get_type_name() == "MatMul" and not node.get_attributes()["transpose_a"]:
            weights = node.input_value(1).get_node()
            while weights.get_type_name() in ("Multiply", "Convert"):
                weights = weights.input_value(0).get_node()
            if weights.get_type_name() == "Constant" and len(weights.get_output_shape(0)) == 2:
                found.append(weights.get_output_element_type(0))
    return found


def test_no_weights_of_the_layers_are_left_in_float32(tiny, tmp_path):
    exact, exact_size = export(tiny, tmp_path / "exact", "float32")
    small, small_size = export(tiny, tmp_path / "small", "int8")
    assert set(weights_met(exact)) == {Type.f32}
    assert set(weights_met(small)) == {Type.i8}
    assert len(weights_met(small)) == len(weights_met(exact)) >= 2 * 6
    assert small_size < 0.7 * exact_size


@pytest.mark.slow
def test_quantizing_twice_gives_the_same_weights(tiny, tmp_path):
    weights = []
    for name in ("first", "second"):
        graphs._load_once.cache_clear()
        model, _ = export(tiny, tmp_path / name, "int8")
        constants = [node for node in model.get_ordered_ops() if node.get_type_name() == "Constant"]
        weights.append([np.asarray(node.data) for node in constants])
    assert sum(array.dtype == np.int8 for array in weights[0]) >= 2 * 6
    for first, second in zip(*weights, strict=True):
        assert first.dtype == second.dtype
        if first.dtype == np.int8:
            # The scales are computed, and a weight between two levels may be rounded to either.
            difference = np.abs(first.astype(int) - second.astype(int))
            assert difference.max() <= 1
            assert difference.mean() < 0.01
        else:
            np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "least"), [("int8", 0.99), ("bfloat16", 0.999)])
def test_real_weights_keep_their_vectors(packaged, precision, least):
    exact, found = (
        DistilBertVectorizer(
            packaged, precision=p, cache_dir=None, max_length=32, device="cpu"
        ).fit_transform(REAL)
        for p in ("float32", precision)
    )
    cosines = (exact * found).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.mean() > least
    assert cosines.min() > least - 0.02
