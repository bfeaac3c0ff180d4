"""OpenVINO as the engine: vectors, stored graphs, and no telemetry."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from conftest import make_encoder, make_tokenizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from frozenbert import DistilBertVectorizer, InputError
from frozenbert.encoders.encoder import Encoder, load_encoder
from frozenbert.encoders.openvino import exporting as graphs
from frozenbert.encoders.openvino import quantization as quantize
from frozenbert.encoders.sources import find_encoder
from frozenbert.errors import CacheWarning, PrecisionWarning

TEXTS = ["a good film", "so dull and slow", "", "the plot is not boring !", "warm , funny , " * 20]
NEW = ["a new film", "an actor"]
SMALL = {
    "vocab_size": 160,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 42,
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_heads": 4, "vocab_size": 160}
FAMILIES: dict[str, dict[str, Any]] = {
    "albert": {**SMALL, "embedding_size": 16},
    "bert": SMALL,
    "camembert": SMALL,
    "deberta-v2": {**SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "distilbert": {"dim": 32, "n_heads": 4, "n_layers": 3, "hidden_dim": 64, "vocab_size": 160},
    "electra": {**SMALL, "embedding_size": 16},
    "mpnet": SMALL,
    "roberta": SMALL,
    "t5": T5,
    "xlm-roberta": SMALL,
}

pytestmark = [
    pytest.mark.slow,  # an export takes seconds, even of a tiny encoder
    pytest.mark.filterwarnings(
        "ignore::frozenbert.errors.TruncationWarning",
        "ignore::frozenbert.errors.PrecisionWarning",
    ),
]


@pytest.fixture(autouse=True)
def _nothing_loaded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs._load_once.cache_clear()
    # Other processes use the whole sample, so tests that compare with them do, too.
    if not {"packaged", "script"} & set(request.fixturenames):
        monkeypatch.setattr(graphs, "SAMPLE", quantize.SAMPLE[::8])  # most of an export's time


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List that gets one entry for each export."""
    calls: list[str] = []
    export = graphs._export

    def counting(*args: Any) -> Any:
        calls.append("export")
        return export(*args)

    monkeypatch.setattr(graphs, "_export", counting)
    return calls


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import torch
    from transformers import AutoConfig, AutoModel

    @functools.cache
    def make(family: str) -> str:
        folder = tmp_path_factory.mktemp(family)
        torch.manual_seed(1)
        model = AutoModel.from_config(AutoConfig.for_model(family, **FAMILIES[family]))
        if family != "t5":
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.dim() > 1:
                        parameter.mul_(8)
        model.save_pretrained(folder)
        make_tokenizer(folder)
        return str(folder)

    return make


def vectors(encoder: str, texts: list[str] = TEXTS, **parameters: Any) -> np.ndarray:
    parameters = {"cache_dir": None, "device": "cpu", **parameters}
    return DistilBertVectorizer(encoder, **parameters).fit_transform(texts)


# How far two computations of one text may lie apart. In bfloat16, a value that is summed in another
# order may be rounded to the next one, which is 2**-7 away between 1 and 2.
BOUND = {"float32": 1e-5, "int8": 1e-4, "bfloat16": 2**-6}


def assert_computed_alike(found: Any, expected: Any, precision: str = "int8") -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=BOUND[precision])


def the_export(cache: Path) -> Path:
    (folder,) = (cache / "exports").iterdir()
    return folder


def run(*arguments: Any, **environment: Any) -> str:
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


# Vectors equal to those of torch.


SHAPES: dict[str, dict[str, Any]] = {
    "cls": {"pooling": "cls"},
    "mean": {"pooling": "mean"},
    "max of two layers": {"pooling": "max", "layers": (0, 2)},
    "all of all": {"pooling": ("max", "cls", "mean"), "layers": "all"},
}
OTHERS = [
    pytest.param(family, marks=[] if family == "bert" else pytest.mark.slow)
    for family in FAMILIES
    if family != "distilbert"
]


def check_float32(folder: str, shape: str) -> None:
    expected = vectors(folder, backend="torch", **SHAPES[shape])
    found = vectors(folder, backend="openvino", **SHAPES[shape])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert len(np.unique(expected.round(3), axis=0)) == len(TEXTS), "the texts have to differ"


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_is_that_of_torch(tiny, shape):
    check_float32(tiny, shape)


@pytest.mark.parametrize("shape", ["cls", "all of all"])
@pytest.mark.parametrize("family", OTHERS)
def test_float32_is_that_of_torch_in_other_families(family_folder, family, shape):
    check_float32(family_folder(family), shape)


@pytest.mark.parametrize("family", OTHERS)
def test_int8_does_every_family(family_folder, family):
    exact = vectors(family_folder(family))
    found = vectors(family_folder(family), precision="int8")
    cosines = (exact * found).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.mean() > 0.98
    assert not np.allclose(found, exact, rtol=0, atol=1e-5), "that was not int8"


@pytest.mark.parametrize("family", ["distilbert", "bert", "electra", "roberta"])
def test_the_graph_of_a_cls_vector_does_the_last_layer_for_one_position(family_folder, family):
    encoder = load_encoder(find_encoder(family_folder(family)), "cpu")

    def products_over_all_positions(pooling: str) -> int:
        openvino = graphs.import_openvino()
        model = graphs._export(encoder, (pooling,), (3,), "float32")
        met = [source for source, products in quantize._products(model) for _ in products]
        shapes = [openvino.opset13.shape_of(source) for source in met]
        probe = openvino.Model(shapes, model.get_parameters(), "shapes")
        found = openvino.Core().compile_model(probe, "CPU")([np.full((2, 10), 7)])
        return sum(int(np.prod(shape[:-1])) == 20 for shape in found.values())

    n_embeddings = 1 if family == "electra" else 0
    assert products_over_all_positions("mean") == 3 * 6 + n_embeddings
    assert products_over_all_positions("cls") == 2 * 6 + n_embeddings


def test_layers_above_the_highest_are_not_in_the_graph(tiny):
    encoder = load_encoder(find_encoder(tiny), "cpu")
    sizes = [
        len(graphs._export(encoder, ("mean",), (layer,), "float32").get_ops())
        for layer in (1, 2, 3)
    ]
    assert sizes[0] < sizes[1] < sizes[2]


def test_what_openvino_does_otherwise_is_an_error(tiny, monkeypatch, tmp_path):
    encode = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda *args, **kwargs: encode(*args, **kwargs) + 1e-3)
    with pytest.raises(InputError, match=r"does not reproduce this encoder \(a text's vector"):
        vectors(tiny, backend="openvino", cache_dir=tmp_path)
    assert not (tmp_path / "exports").exists()


def test_what_openvino_cannot_do_is_an_error_with_its_cause(tiny, monkeypatch):
    encoder = load_encoder(find_encoder(tiny), "cpu")
    forward = type(encoder.model.embeddings).forward

    def forbidding(self: Any, *args: Any, **kwargs: Any) -> Any:
        import torch

        if torch.jit.is_tracing():
            raise NotImplementedError("no such operator")
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(encoder.model.embeddings), "forward", forbidding)
    with pytest.raises(InputError, match=r"does not reproduce this encoder \(no such operator"):
        vectors(tiny, backend="openvino")


# A text's vector does not depend on the other texts in the batch.


def shuffled(texts: list[str]) -> list[str]:
    return random.Random(3).sample(texts, len(texts))


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_a_vector_does_not_depend_on_the_other_texts(tiny, precision):
    texts = ["a film " * i + "is good" * (i % 2) + word for i in range(12) for word in ("", " !")]
    together = dict(zip(texts, vectors(tiny, texts, precision=precision), strict=True))
    for other in (shuffled(texts), texts[::3], texts[:1]):
        for tokens in (1, 64, 100_000):
            found = vectors(tiny, other, precision=precision, max_batch_tokens=tokens)
            expected = [together[text] for text in other]
            assert_computed_alike(found, expected, precision)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "pooling", "bound"),
    [
        ("int8", "mean", 1e-4),
        ("int8", "cls", 1e-4),
        ("bfloat16", "mean", 1e-4),
        ("bfloat16", "cls", 2**-7),
    ],
)
def test_a_vector_of_real_weights_does_not_depend_on_the_other_texts(
    packaged, precision, pooling, bound
):
    settings = {"precision": precision, "pooling": pooling}
    words = " ".join(quantize.SAMPLE).split()
    texts = [" ".join(words[i : i + 1 + 3 * i]) for i in range(16)] + [*quantize.SAMPLE[:16]]
    together = dict(zip(texts, vectors(packaged, texts, **settings), strict=True))
    for other, tokens in [(shuffled(texts), 300), (texts[::5], 1), (texts[3:4], 4096)]:
        found = vectors(packaged, other, **settings, max_batch_tokens=tokens)
        expected = [together[text] for text in other]
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


# The cache of vectors.


PRECISIONS = ("float32", "bfloat16", "int8")


@pytest.mark.parametrize("first", PRECISIONS)
def test_precisions_do_not_mix_in_one_cache(tiny, tmp_path, first):
    fresh = {precision: vectors(tiny, precision=precision) for precision in PRECISIONS}
    vectors(tiny, precision=first, cache_dir=tmp_path)
    for _ in range(2):
        for precision in PRECISIONS:
            found = vectors(tiny, precision=precision, cache_dir=tmp_path)
            far = {name: np.abs(found - other).mean() for name, other in fresh.items()}
            near = far.pop(precision)
            assert near < 0.1 * min(far.values())
    for other in PRECISIONS[1:]:
        assert not np.allclose(fresh["float32"], fresh[other], rtol=0, atol=1e-5)


def test_engines_share_the_float32_vectors_of_a_cache(tiny, tmp_path, exported):
    expected = vectors(tiny, backend="torch", cache_dir=tmp_path)
    found = vectors(tiny, backend="openvino", cache_dir=tmp_path)
    np.testing.assert_array_equal(found, expected)
    assert exported == []


def test_another_quantization_is_another_vector_and_another_graph(
    tiny, tmp_path, monkeypatch, exported
):
    vectors(tiny, precision="int8", cache_dir=tmp_path)
    monkeypatch.setattr(quantize, "VERSION", quantize.VERSION + 1)
    graphs._load_once.cache_clear()  # as in a new process
    vectors(tiny, precision="int8", cache_dir=tmp_path)
    assert len(exported) == 2
    assert len(list((tmp_path / "exports").iterdir())) == 2
    assert len(list((tmp_path / "vectors").iterdir())) == 2


# Graphs on disk.


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_an_export_is_stored_for_its_owner_and_used_again(tiny, tmp_path, exported, precision):
    settings = {"precision": precision, "backend": "openvino"}
    expected = vectors(tiny, NEW, **settings)
    cache = tmp_path / "cache"
    vectors(tiny, cache_dir=cache, **settings)
    folder = the_export(cache)
    assert {path.name for path in folder.iterdir()} == {"graph.xml", "graph.bin", "graph.json"}
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)] == [0o700] * 2
    del exported[:]
    graphs._load_once.cache_clear()
    found = vectors(tiny, NEW, cache_dir=cache, **settings)
    assert_computed_alike(found, expected, precision)
    assert exported == []


def test_an_export_is_found_by_what_the_encoder_holds(tiny, tmp_path, exported):
    copy = shutil.copytree(tiny, tmp_path / "another name")
    vectors(tiny, precision="int8", cache_dir=tmp_path / "cache")
    graphs._load_once.cache_clear()
    vectors(str(copy), NEW, precision="int8", cache_dir=tmp_path / "cache")
    assert len(exported) == 1
    other = make_encoder(tmp_path / "other weights", seed=1)
    vectors(str(other), NEW, precision="int8", cache_dir=tmp_path / "cache")
    assert len(exported) == 2


def test_without_a_cache_a_loaded_graph_is_used_again(tiny, tmp_path, exported):
    engine: dict[str, Any] = {"backend": "openvino", "device": "cpu"}
    model = DistilBertVectorizer(tiny, cache_dir=tmp_path, keep_layers="asked", **engine)
    expected = model.fit_transform(TEXTS)
    found = model.set_params(cache_dir=None).transform(TEXTS)
    assert len(exported) == 1
    assert_computed_alike(found, expected, "float32")
    assert_computed_alike(
        vectors(tiny, backend="openvino", pooling="max"),
        vectors(tiny, backend="torch", pooling="max"),
        "float32",
    )


def test_bfloat16_takes_the_float32_graph(tiny, tmp_path, exported):
    # Of float32, a graph of all layers is exported by default.
    vectors(tiny, backend="openvino", cache_dir=tmp_path, keep_layers="asked")
    vectors(tiny, precision="bfloat16", cache_dir=tmp_path)
    assert len(exported) == 1
    the_export(tmp_path)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


def other_version(path: Path) -> None:
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts["versions"]["openvino"] = "2020.1"
    path.write_text(json.dumps(facts), encoding="utf-8")


DAMAGES = {
    "a bit": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "foreign": lambda path: path.write_bytes(b'["not", "ours"]'),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *[(name, damage) for name in ("graph.bin", "graph.json") for damage in DAMAGES],
        ("graph.xml", "cut"),
        ("graph.xml", "gone"),
        ("graph.json", "other version"),
    ],
)
@pytest.mark.filterwarnings("ignore::frozenbert.errors.CacheWarning")  # for "a folder"
def test_a_damaged_export_is_made_again(tiny, tmp_path, exported, name, damage):
    expected = vectors(tiny, NEW, precision="int8")
    vectors(tiny, precision="int8", cache_dir=tmp_path)
    {**DAMAGES, "other version": other_version}[damage](the_export(tmp_path) / name)
    del exported[:]
    for _ in range(2):
        graphs._load_once.cache_clear()
        shutil.rmtree(tmp_path / "vectors")
        found = vectors(tiny, NEW, precision="int8", cache_dir=tmp_path)
        assert_computed_alike(found, expected)
    assert len(exported) == (2 if damage == "a folder" else 1)


def test_the_export_of_another_encoder_is_not_taken(tiny, tmp_path, exported):
    other = make_encoder(tmp_path / "other", seed=1)
    vectors(str(other), precision="int8", cache_dir=tmp_path / "other cache")
    vectors(tiny, precision="int8", cache_dir=tmp_path / "cache")
    foreign, own = the_export(tmp_path / "other cache"), the_export(tmp_path / "cache")
    for name in graphs.NAMES:
        shutil.copy(foreign / name, own / name)
    graphs._load_once.cache_clear()
    found = vectors(tiny, NEW, precision="int8", cache_dir=tmp_path / "cache")
    assert_computed_alike(found, vectors(tiny, NEW, precision="int8"))


def test_an_export_that_cannot_be_stored_is_one_warning(tiny, tmp_path):
    expected = vectors(tiny, precision="int8")
    (tmp_path / "exports").write_text("a file of this name")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        embed = DistilBertVectorizer(tiny, precision="int8", cache_dir=tmp_path).fit(TEXTS)
        found = embed.transform(TEXTS)
        embed.transform(NEW)
    assert_computed_alike(found, expected)
    said = [str(w.message) for w in caught if issubclass(w.category, CacheWarning)]
    assert len(said) == 1
    assert str(tmp_path / "exports") in said[0]
    assert "the graph is exported again next time" in said[0]


def test_a_full_disk_leaves_no_half_export(tiny, tmp_path):
    resource = pytest.importorskip("resource", reason="Windows")
    expected = vectors(tiny, precision="int8")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        with pytest.warns(CacheWarning, match="the graph is exported again next time"):
            found = vectors(tiny, precision="int8", cache_dir=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_computed_alike(found, expected)
    assert list(the_export(tmp_path).iterdir()) == []


def test_what_a_killed_export_left_does_not_matter(tiny, tmp_path, exported):
    vectors(tiny, precision="int8", cache_dir=tmp_path)
    folder = the_export(tmp_path)
    left = folder / ".left"
    left.mkdir()
    (folder / "graph.xml").rename(left / "graph.xml")
    (folder / "graph.json").unlink()
    for _ in range(2):
        graphs._load_once.cache_clear()
        found = vectors(tiny, NEW, precision="int8", cache_dir=tmp_path)
        shutil.rmtree(tmp_path / "vectors")
    assert len(exported) == 2
    assert_computed_alike(found, vectors(tiny, NEW, precision="int8"))


# Processes. The script's arguments: encoder, precision, cache or "none", where the vectors go.

SCRIPT = """
import sys

import numpy as np
import openvino_telemetry.main  # before all others, to see whether they use it

started = []
openvino_telemetry.main.Telemetry.init = lambda *args, **kwargs: started.append(args)

from frozenbert import DistilBertVectorizer

if __name__ == "__main__":
    encoder, precision, cache, out = sys.argv[1:]
    embed = DistilBertVectorizer(
        encoder, precision=precision, backend="openvino" if precision == "float32" else "auto",
        cache_dir=None if cache == "none" else cache, device="cpu",
    )
    np.save(out, embed.fit_transform(["a good film", "so dull and slow", "", "bad"]))
    assert not started, "telemetry"
"""
FOUR = ["a good film", "so dull and slow", "", "bad"]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_telemetry_and_no_file_outside_the_cache(tiny, tmp_path, script, precision, kept):
    homes: dict[str, Any] = {}
    names = ("HOME", "TMPDIR", "USERPROFILE", "LOCALAPPDATA", "APPDATA")
    for name in (*names, *(f"XDG_{kind}_HOME" for kind in ("CACHE", "CONFIG", "DATA", "STATE"))):
        homes[name] = tmp_path / "homes" / name
        homes[name].mkdir(parents=True)
    cache = tmp_path / "cache"
    run(script, tiny, precision, cache if kept else "none", tmp_path / "out.npy", **homes)
    left = [path for path in (tmp_path / "homes").rglob("*") if path not in homes.values()]
    assert left == []
    assert cache.exists() == kept
    expected = vectors(tiny, FOUR, precision=precision)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_two_processes_may_export_at_once(tiny, tmp_path, script, exported):
    arguments = [sys.executable, str(script), tiny, "int8", str(tmp_path / "cache")]
    outs = [tmp_path / f"{i}.npy" for i in range(2)]
    children = [subprocess.Popen([*arguments, str(out)]) for out in outs]
    assert [child.wait(timeout=300) for child in children] == [0, 0]
    expected = vectors(tiny, FOUR, precision="int8")
    for out in outs:
        assert_computed_alike(np.load(out), expected)
    del exported[:]
    graphs._load_once.cache_clear()
    found = vectors(tiny, NEW, precision="int8", cache_dir=tmp_path / "cache")
    assert exported == []
    assert_computed_alike(found, vectors(tiny, NEW, precision="int8"))


@pytest.mark.slow
def test_a_saved_model_predicts_the_same_in_another_process(tiny, tmp_path):
    model = make_pipeline(
        DistilBertVectorizer(tiny, precision="int8", cache_dir=tmp_path / "cache"),
        LogisticRegression(),
    )
    model.fit(TEXTS, [1, 0, 0, 1, 1])
    expected = model.predict_proba(NEW)
    joblib.dump(model, tmp_path / "model.joblib")
    code = (
        "import sys, joblib, numpy as np\n"
        f"np.save(sys.argv[2], joblib.load(sys.argv[1]).predict_proba({NEW!r}))"
    )
    run("-c", code, tmp_path / "model.joblib", tmp_path / "out.npy")
    assert_computed_alike(np.load(tmp_path / "out.npy"), expected)


@pytest.mark.slow
def test_a_grid_search_in_two_processes(tiny, tmp_path):
    texts = [f"{'good' if i % 2 else 'bad'} film {i}" for i in range(40)]
    labels = [i % 2 for i in range(40)]
    pipeline = make_pipeline(
        DistilBertVectorizer(tiny, precision="int8", cache_dir=tmp_path), LogisticRegression()
    )
    grid = {"logisticregression__C": [0.1, 10]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2, error_score="raise").fit(texts, labels)
    alone = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(texts, labels)
    assert search.cv_results_["mean_test_score"] == pytest.approx(
        alone.cv_results_["mean_test_score"]
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_after_a_fork_there_is_an_error_and_no_hang(tiny):
    code = f"""
import multiprocessing
from frozenbert import DistilBertVectorizer, InputError

def transform(embed, queue):
    try:
        queue.put(embed.transform(["a new text"]).shape)
    except InputError as error:
        queue.put(str(error))

embed = DistilBertVectorizer({tiny!r}, precision="int8", cache_dir=None)
context = multiprocessing.get_context("fork")
for used in (False, True):
    embed.fit_transform(["a"]) if used else embed.fit(["a"])
    queue = context.Queue()
    child = context.Process(target=transform, args=(embed, queue))
    child.start()
    print(queue.get(timeout=60), flush=True)
    child.join(timeout=60)
    assert child.exitcode == 0
"""
    before, after = run("-c", code).splitlines()
    assert before == "(1, 32)"
    assert "'spawn' or 'forkserver'" in after


# Threads.


@pytest.mark.parametrize("n_streams", [1, 2])
def test_several_threads_get_the_right_rows_of_one_graph(tiny, n_streams):
    encoder = load_encoder(find_encoder(tiny), "cpu")
    graph = graphs.load_graph(encoder, "x", ("mean",), (3,), "int8", None, n_streams)
    batches = [[np.array([2, 5 + i, *[9] * (i % 7), 3])] * (1 + i % 3) for i in range(24)]
    expected = [graph.encode(batch) for batch in batches]
    found: dict[int, np.ndarray] = {}

    def work(first: int) -> None:
        for i in range(first, len(batches), 4):
            found[i] = graph.encode(batches[i])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(found) == len(batches)
    for i, rows in found.items():
        assert_computed_alike(rows, expected[i])
    assert len(np.unique(np.round([rows[0] for rows in expected], 3), axis=0)) == len(batches)


def test_threads_that_ask_at_once_export_once(tiny, tmp_path, exported):
    embed = DistilBertVectorizer(tiny, precision="int8", cache_dir=tmp_path).fit(TEXTS)
    texts = [[f"a film {i}", "bad"] for i in range(4)]
    found: dict[int, np.ndarray] = {}

    def work(i: int) -> None:
        found[i] = embed.transform(texts[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(exported) == 1
    for i in range(4):
        assert_computed_alike(found[i], vectors(tiny, texts[i], precision="int8"))


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_one_thread_gives_what_two_give(tiny, precision):
    found = [vectors(tiny, precision=precision, num_threads=number) for number in (1, 2)]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-4)


def test_a_batch_does_not_overwrite_the_one_before(tiny):
    encoder = load_encoder(find_encoder(tiny), "cpu")
    graph = graphs.load_graph(encoder, "x", ("mean",), (3,), "float32", None, 1)
    first = graph.encode([np.array([2, 7, 3])])
    kept = first.copy()
    graph.encode([np.array([2, 9, 3])])
    np.testing.assert_array_equal(first, kept)


# Errors, warnings, and silence.


@pytest.mark.parametrize(
    "settings", [{"precision": "int8"}, {"precision": "bfloat16"}, {"backend": "openvino"}]
)
def test_without_openvino_the_error_says_what_to_install(tiny, monkeypatch, settings):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r'pip install "frozenbert\[openvino\]"'):
        vectors(tiny, **settings)
    assert vectors(tiny).shape == (len(TEXTS), 32), "torch does without"


@pytest.mark.parametrize("settings", [{"precision": "int8"}, {"backend": "openvino"}])
def test_on_another_device_than_the_cpu_it_is_an_error(tiny, monkeypatch, settings):
    embed = DistilBertVectorizer(tiny, cache_dir=None, **settings).fit(TEXTS)
    encoder = load_encoder(find_encoder(tiny), "cpu")
    fake = Encoder(encoder.model, encoder.tokenizer, "cpu")
    fake.device = "cuda:0"
    monkeypatch.setattr(DistilBertVectorizer, "_encoder", lambda self: fake)
    with pytest.raises(InputError, match=r"device='cuda:0'.*runs on the CPU here"):
        embed.transform(NEW)


def capabilities(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    import torch

    known = dict.fromkeys(names, True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)


@pytest.mark.parametrize(
    ("precision", "names", "warned"),
    [
        ("int8", ["avx2"], True),
        ("int8", ["avx512_vnni"], False),
        ("int8", ["amx_bf16"], True),
        ("bfloat16", ["avx2", "avx512_vnni"], True),
        ("bfloat16", ["amx_bf16"], False),
        ("float32", [], False),
    ],
)
def test_a_cpu_without_the_instructions_is_one_warning(tiny, monkeypatch, precision, names, warned):
    capabilities(monkeypatch, *names)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        embed = DistilBertVectorizer(
            tiny, precision=precision, backend="auto", cache_dir=None, device="cpu"
        )
        embed.fit_transform(TEXTS)
        embed.transform(NEW)
    said = [str(w.message) for w in caught if issubclass(w.category, PrecisionWarning)]
    assert len(said) == warned
    assert all("this CPU has no instructions for it" in text for text in said)
    assert all(f"precision={precision!r}" in text for text in said)


def test_a_precision_that_changes_vectors_a_lot_is_warned_of(tiny, monkeypatch):
    capabilities(monkeypatch, "avx512_vnni")
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        vectors(tiny, precision="int8")
    graphs._load_once.cache_clear()
    monkeypatch.setattr(graphs, "LEAST_COSINE", 1.1)
    vectors(tiny, backend="openvino")
    with pytest.warns(PrecisionWarning, match=r"precision='int8' changes .* is [01]\.\d+ on"):
        vectors(tiny, precision="int8")


@pytest.mark.parametrize("family", ["distilbert", "bert"])
def test_an_export_is_quiet(family_folder, capfd, caplog, family):
    folder = family_folder(family)
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", PrecisionWarning)
        # Without `progress=False`, a bar is shown after a test that loads ipykernel.
        vectors(folder, NEW, precision="int8", pooling="cls", progress=False)
        vectors(folder, NEW, backend="openvino", progress=False)
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
