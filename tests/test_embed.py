"""`DistilBertVectorizer` as a scikit-learn transformer."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import make_encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from frozenbert import DistilBertVectorizer, EncoderMismatchError, EncoderNotFoundError, InputError
from frozenbert.encoders.encoder import Encoder
from frozenbert.errors import TruncationWarning
from frozenbert.vectors.cache import cache_root

SAME = {"rtol": 0, "atol": 1e-5}  # what computed vectors promise in float32
TEXTS = ["a good film", "so dull and slow", "", "the plot is not boring !", "warm , funny , fine"]


@pytest.fixture
def embed(tiny: str) -> DistilBertVectorizer:
    return DistilBertVectorizer(tiny, cache_dir=None)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of rows of each call of the encoder."""
    rows: list[int] = []
    encode = Encoder.encode

    def counting(self, ids, *args, **kwargs):
        rows.append(len(ids))
        return encode(self, ids, *args, **kwargs)

    monkeypatch.setattr(Encoder, "encode", counting)
    return rows


# scikit-learn's own checks, and counterparts for texts of those that need numbers.


@parametrize_with_checks([DistilBertVectorizer()])
def test_sklearn_checks(estimator, check):
    check(estimator)


def test_tags(embed):
    tags = embed.__sklearn_tags__()
    assert tags.input_tags.string
    assert tags.input_tags.one_d_array
    assert not tags.input_tags.two_d_array
    assert not tags.input_tags.sparse
    assert not tags.target_tags.required
    assert tags.requires_fit
    assert not tags.non_deterministic
    assert not tags.input_tags.allow_nan
    assert embed.set_params(missing="empty").__sklearn_tags__().input_tags.allow_nan


def test_init_only_stores_its_arguments():
    arguments = {"pooling": ["nonsense"], "layers": object(), "max_length": -1}
    embed = DistilBertVectorizer("no such encoder", **arguments)
    assert {k: v for k, v in embed.get_params().items() if k in arguments} == arguments
    assert set(vars(embed)) == set(embed.get_params())


def test_parameters_survive_a_round_trip(embed):
    other = DistilBertVectorizer().set_params(**embed.get_params())
    assert other.get_params() == embed.get_params()
    assert clone(embed).get_params() == embed.get_params()


def test_transform_needs_fit(embed):
    for call in (lambda: embed.transform(TEXTS), embed.get_feature_names_out):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call()


@pytest.mark.parametrize("fitted", [False, True])
def test_pickle(embed, fitted):
    if fitted:
        embed.fit(TEXTS)
    copy = pickle.loads(pickle.dumps(embed))
    assert copy.get_params() == embed.get_params()
    if fitted:
        np.testing.assert_allclose(copy.transform(TEXTS), embed.transform(TEXTS), **SAME)


def test_pickle_holds_no_weights_and_nothing_loaded(embed):
    embed.fit_transform(TEXTS)
    assert len(pickle.dumps(embed)) < 3_000


def test_fit_is_idempotent(embed):
    first = embed.fit(TEXTS).transform(TEXTS)
    state = dict(vars(embed))
    np.testing.assert_allclose(embed.fit(TEXTS).transform(TEXTS), first, **SAME)
    np.testing.assert_allclose(embed.fit_transform(TEXTS), first, **SAME)
    assert vars(embed) == state


def test_transform_changes_nothing_in_the_estimator(embed):
    embed.fit(TEXTS)
    state = dict(vars(embed))
    embed.transform(["another one", "x " * 100])
    assert vars(embed) == state


def test_input_is_not_changed(tiny):
    embed = DistilBertVectorizer(tiny, cache_dir=None, missing="empty").fit(TEXTS)
    texts = ["a film", None, np.nan, np.str_("b")]
    before = list(texts)
    embed.transform(texts)
    assert all(a is b for a, b in zip(texts, before, strict=True))


@pytest.mark.parametrize(
    "container",
    [
        tuple,
        np.array,
        lambda t: np.array(t, dtype=object),
        lambda t: np.array(t, dtype=object).reshape(-1, 1),
        pd.Series,
        lambda t: pd.Series(t, dtype="category", index=range(5, 0, -1)),
        lambda t: pd.DataFrame({"text": t}),
        pl.Series,
        lambda t: pl.DataFrame({"text": t}),
    ],
    ids=["tuple", "str", "object", "column", "Series", "category", "frame", "polars", "polars2"],
)
def test_containers(embed, container):
    expected = embed.fit_transform(TEXTS)
    assert expected.shape == (5, 32)
    assert expected.dtype == np.float32
    vectors = embed.fit(container(TEXTS)).transform(container(TEXTS))
    np.testing.assert_allclose(vectors, expected, **SAME)


def test_no_texts(embed):
    with pytest.raises(InputError, match="X holds no texts: at least one is needed to fit"):
        embed.fit([])
    assert embed.fit(TEXTS).transform([]).shape == (0, 32)


@pytest.mark.parametrize(
    ("X", "error", "match"),
    [
        ("one text", InputError, r"X is one string: .* \[text\]"),
        (b"bytes", TypeError, "X is a bytes: a list, array or Series"),
        (None, TypeError, "X is a NoneType: a list, array or Series"),
        (["a", b"b"], TypeError, r"X\[1\] is a bytes: .* decode it first"),
        (["a", "b", 3], TypeError, r"X\[2\] is a int: every text must be a string"),
        (np.array([1.5, 2.5]), TypeError, r"X\[0\] is a float64"),
        (["a", None], InputError, r"X\[1\] is None: drop such rows, .* missing='empty'"),
        (["a", float("nan")], InputError, r"X\[1\] is nan"),
        (pd.Series(["a", pd.NA]), InputError, r"X\[1\] is (nan|<NA>)"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), InputError, "X has 2 columns: pass the one"),
        (["a", "\ud83d"], InputError, r"X\[1\] cannot be encoded as UTF-8"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "transform", "fit_transform"])
def test_bad_input_says_which_row(tiny, embed, method, X, error, match):
    embed = embed.fit(TEXTS) if method == "transform" else DistilBertVectorizer(tiny)
    with pytest.raises(error, match=match):
        getattr(embed, method)(X)


def test_missing_as_empty(tiny):
    embed = DistilBertVectorizer(tiny, cache_dir=None, missing="empty")
    vectors = embed.fit_transform(["a", None, float("nan"), pd.NA, ""])
    for row in (1, 2, 3):
        np.testing.assert_array_equal(vectors[row], vectors[4])


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"model_name": ""}, "model_name='': a name or a folder"),
        ({"model_name": None}, "model_name=None"),
        ({"revision": 3}, "revision=3: a branch, tag or commit, or None"),
        ({"pooling": "median"}, r"pooling='median': must be 'auto', 'cls', 'mean' or 'max'"),
        ({"pooling": ()}, r"pooling=\(\)"),
        ({"pooling": ("cls", "cls")}, "several of the last three, each once"),
        ({"pooling": ("auto", "cls")}, "several of the last three, each once"),
        ({"pooling": 3}, "pooling=3"),
        ({"layers": 4}, r"layers=4: must be 'all', a whole number from -4 to 3 .* has 3 layers"),
        ({"layers": -5}, "layers=-5"),
        ({"layers": (3, -1)}, "or several, each once"),
        ({"layers": ()}, r"layers=\(\)"),
        ({"layers": "first"}, "layers='first'"),
        ({"layers": 1.0}, r"layers=1.0"),
        ({"layers": True}, "layers=True"),
        ({"max_length": 0}, "max_length=0: a whole number of at least 1, or None"),
        ({"max_length": 41}, r"max_length=41: encoder .* takes at most 40 tokens"),
        ({"max_length": 8.0}, "max_length=8.0"),
        ({"num_threads": 0}, "num_threads=0"),
        ({"max_batch_tokens": -1}, "max_batch_tokens=-1"),
        ({"missing": "drop"}, "missing='drop': one of 'error', 'empty'"),
        ({"progress": "no"}, "progress='no': one of 'auto', True, False"),
        ({"precision": "int3"}, "precision='int3': one of 'float32', 'bfloat16', 'int8'"),
        ({"precision": 8}, "precision=8: one of 'float32'"),
        ({"backend": "onnx"}, "backend='onnx': one of 'auto', 'torch', 'openvino'"),
        (
            {"precision": "int8", "backend": "torch"},
            "backend='torch': precision 'int8' is computed",
        ),
        ({"keep_layers": "some"}, "keep_layers='some': one of 'auto', 'asked', 'all'"),
        ({"long_text": "middle"}, "long_text='middle': one of 'truncate', 'head_tail', 'windows'"),
        ({"prompt": 3}, "prompt=3: a string that is put before each text"),
        ({"normalize": "yes"}, "normalize='yes': one of True, False"),
        ({"truncate_dim": 0}, "truncate_dim=0: a whole number of at least 1, or None"),
        ({"truncate_dim": 33}, "truncate_dim=33: the vectors of encoder .* have 32 columns"),
        ({"revision": "v1"}, "revision='v1': .* is a folder and has no revisions"),
        ({"device": "abacus"}, "device='abacus': torch cannot use it here"),
    ],
    ids=str,
)
def test_illegal_parameters(embed, parameters, match):
    with pytest.raises(InputError, match=match):
        embed.set_params(**parameters).fit_transform(TEXTS)


def test_feature_names_and_columns(embed):
    embed.set_params(pooling=("mean", "cls"), layers=(3, 1))
    vectors = embed.fit_transform(TEXTS)
    names = embed.get_feature_names_out()
    assert vectors.shape == (5, 4 * 32)
    assert names[[0, 32, 64, 127]].tolist() == [
        "layer3_mean_0",
        "layer3_cls_0",
        "layer1_mean_0",
        "layer1_cls_31",
    ]
    for block, (layer, how) in enumerate([(3, "mean"), (3, "cls"), (1, "mean"), (1, "cls")]):
        alone = clone(embed).set_params(pooling=how, layers=layer).fit_transform(TEXTS)
        np.testing.assert_allclose(vectors[:, 32 * block : 32 * block + 32], alone, **SAME)


def test_vectors_are_cut_and_then_normalised(embed):
    full = clone(embed).fit_transform(TEXTS)
    cut = clone(embed).set_params(truncate_dim=8)
    np.testing.assert_allclose(cut.fit_transform(TEXTS), full[:, :8], **SAME)
    assert (cut.n_features_out_, cut.hidden_size_) == (8, 32)
    assert cut.get_feature_names_out().tolist() == [f"layer3_cls_{i}" for i in range(8)]
    expected = full[:, :8] / np.linalg.norm(full[:, :8], axis=1, keepdims=True)
    cut.set_params(normalize=True).fit(TEXTS)
    for found in (cut.transform(TEXTS), cut.fit_transform(TEXTS), *cut.transform_iter(TEXTS)):
        np.testing.assert_allclose(found, expected, **SAME)
        assert found.dtype == np.float32


def test_each_layer_and_pooling_is_cut_and_normalised(embed):
    parameters = {"layers": (3, 1), "pooling": ("mean", "cls")}
    several = clone(embed).set_params(truncate_dim=5, normalize=True, **parameters)
    blocks = several.fit_transform(TEXTS).reshape(len(TEXTS), 4, 5)
    np.testing.assert_allclose(np.linalg.norm(blocks, axis=2), 1, **SAME)
    names = several.get_feature_names_out()
    assert names[[0, 4, 5, 19]].tolist() == [
        "layer3_mean_0",
        "layer3_mean_4",
        "layer3_cls_0",
        "layer1_cls_4",
    ]
    alone = clone(several).set_params(layers=1, pooling="cls").fit_transform(TEXTS)
    np.testing.assert_allclose(blocks[:, 3], alone, **SAME)


def test_what_is_cut_or_normalised_comes_from_the_same_cache(tiny, tmp_path, monkeypatch):
    full = DistilBertVectorizer(tiny, cache_dir=tmp_path).fit_transform(TEXTS)
    monkeypatch.setattr("frozenbert.embed.load_encoder", None)
    settings = {"cache_dir": tmp_path, "truncate_dim": 4, "normalize": True}
    found = DistilBertVectorizer(tiny, **settings).fit_transform(TEXTS)
    expected = full[:, :4] / np.linalg.norm(full[:, :4], axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    again = DistilBertVectorizer(tiny, cache_dir=tmp_path).fit_transform(TEXTS)
    assert (again == full).all()


def test_a_vectorizer_from_before_has_no_prompt_and_all_columns(embed):
    state = embed.set_params(layers=(3, 1)).fit(TEXTS).__getstate__()
    expected = embed.transform(TEXTS)
    for later in ("prompt", "normalize", "truncate_dim", "prompt_", "normalize_", "hidden_size_"):
        del state[later]
    old = DistilBertVectorizer.__new__(DistilBertVectorizer)
    old.__setstate__(state)
    np.testing.assert_allclose(old.transform(TEXTS), expected, **SAME)
    assert (old.prompt_, old.normalize_, old.hidden_size_) == ("", False, 32)
    np.testing.assert_allclose(clone(old).fit_transform(TEXTS), expected, **SAME)


def test_a_prompt_is_put_before_each_text(embed):
    texts = ["a good film", "", "dull"]
    found = clone(embed).set_params(prompt="the film: ").fit(texts)
    expected = clone(embed).fit([f"the film: {text}" for text in texts])
    prompted = [f"the film: {text}" for text in texts]
    np.testing.assert_allclose(found.transform(texts), expected.transform(prompted), **SAME)
    ((_, n_tokens),) = found.transform_iter(texts, return_n_tokens=True)
    ((_, n_expected),) = expected.transform_iter(prompted, return_n_tokens=True)
    assert n_tokens.tolist() == n_expected.tolist()


def test_layers_all_are_the_layers_without_the_embeddings(embed):
    assert embed.set_params(layers="all").fit(TEXTS).layers_ == (1, 2, 3)
    assert embed.set_params(layers=-4).fit(TEXTS).layers_ == (0,)


def test_set_output_keeps_the_index(embed):
    embed.set_output(transform="pandas")
    texts = pd.Series(TEXTS, index=list("vwxyz"))
    for frame in (embed.fit_transform(texts), embed.transform(texts)):
        assert frame.index.tolist() == list("vwxyz")
        assert frame.columns[0] == "layer3_cls_0"
    embed.set_output(transform="polars")
    assert embed.transform(TEXTS).columns[:2] == ["layer3_cls_0", "layer3_cls_1"]


def test_in_a_column_transformer(embed):
    frame = pd.DataFrame({"text": TEXTS, "n": range(5)})
    for column in ("text", ["text"]):
        both = ColumnTransformer([("words", embed, column)], remainder="passthrough")
        result = both.fit_transform(frame)
        assert result.shape == (5, 33)
        np.testing.assert_allclose(result[:, :32], embed.fit_transform(TEXTS), **SAME)


# Any order, duplicates, any batch.

words = st.sampled_from(["good", "bad", "film", "boring", "!", "naïve", "映画", "🙂", "xyzzy"])
texts = st.lists(st.lists(words, max_size=30).map(" ".join), min_size=1, max_size=12)


@settings(
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@pytest.mark.filterwarnings("ignore::frozenbert.errors.TruncationWarning")
@given(texts=texts, order=st.randoms(use_true_random=False), budget=st.integers(1, 300))
@pytest.mark.parametrize("pooling", ["cls", ("mean", "max")], ids=str)
def test_same_text_same_vector(tiny, pooling, texts, order, budget):
    many = DistilBertVectorizer(tiny, pooling=pooling, cache_dir=None, max_batch_tokens=budget)
    alone = clone(many.fit(["x"])).set_params(max_batch_tokens=1).fit(["x"])
    expected = np.vstack([alone.transform([text]) for text in texts])
    np.testing.assert_allclose(many.transform(texts), expected, **SAME)
    shuffled = order.sample(range(len(texts)), len(texts))
    np.testing.assert_allclose(
        many.transform([texts[i] for i in shuffled]), expected[shuffled], **SAME
    )
    twice = many.transform([*texts, *texts])
    np.testing.assert_array_equal(twice[: len(texts)], twice[len(texts) :])


def test_with_a_cache_the_same_text_has_exactly_the_same_vector(tiny):
    embed = DistilBertVectorizer(tiny)
    alone = embed.fit_transform(TEXTS[:1])
    np.testing.assert_array_equal(embed.transform([*TEXTS, "x " * 30])[:1], alone)


def test_equal_texts_are_encoded_once(embed, encoded):
    embed.fit_transform(["a", "b", "a", "a"])
    assert sum(encoded) == 2


# The cache.


def test_a_warm_cache_needs_no_encoder(tmp_path, encoded):
    folder = make_encoder(tmp_path / "mine")
    embed = DistilBertVectorizer(str(folder))
    expected = embed.fit_transform(TEXTS)
    shutil.rmtree(folder)
    np.testing.assert_array_equal(embed.transform(TEXTS), expected)
    assert sum(encoded) == len(TEXTS)
    with pytest.raises(EncoderNotFoundError, match=r"there is no such folder.*Fitted with 'mine'"):
        embed.transform(["a new text"])


def test_settings_and_encoders_do_not_share_vectors(tiny, tmp_path, encoded):
    other = make_encoder(tmp_path / "other", seed=1)
    seen = []
    for parameters in (
        {},
        {"model_name": str(other)},
        {"max_length": 5},
        {"precision": "bfloat16", "backend": "torch", "device": "cpu"},
    ):
        embed = DistilBertVectorizer(**{"model_name": tiny, **parameters})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seen.append(embed.fit_transform(TEXTS)[1].tolist())
    assert sum(encoded) == 4 * len(TEXTS)
    assert len({tuple(row) for row in seen}) == 4


def test_a_copy_of_an_encoder_shares_its_vectors(tiny, tmp_path, encoded):
    copy = shutil.copytree(tiny, tmp_path / "copy")
    first = DistilBertVectorizer(tiny).fit_transform(TEXTS)
    np.testing.assert_array_equal(DistilBertVectorizer(str(copy)).fit_transform(TEXTS), first)
    assert sum(encoded) == len(TEXTS)


def test_no_cache_writes_nothing(tiny):
    DistilBertVectorizer(tiny, cache_dir=None).fit_transform(TEXTS)
    assert not cache_root("auto").exists()


def test_an_interrupted_run_keeps_its_batches(tiny, monkeypatch, encoded):
    texts = ["good " * n for n in range(20)]
    embed = DistilBertVectorizer(tiny, max_batch_tokens=1, num_threads=1).fit(texts)
    encode = Encoder.encode

    def stopping(self, *args, **kwargs):
        if sum(encoded) >= 12:
            raise KeyboardInterrupt
        return encode(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode", stopping)
        with pytest.raises(KeyboardInterrupt):
            embed.transform(texts)
    assert sum(encoded) == 12
    embed.transform(texts)
    assert sum(encoded) <= 20 + 1, "more was lost than the batch in flight"


def test_after_an_error_no_text_is_waited_for(tiny, monkeypatch, encoded):
    embed = DistilBertVectorizer(tiny, max_batch_tokens=1).fit(TEXTS)

    def fail(*args, **kwargs):
        raise RuntimeError("the encoder failed")

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode", fail)
        with pytest.raises(RuntimeError, match="the encoder failed") as kept:
            embed.transform(TEXTS)
    in_another_thread(lambda: embed.transform(TEXTS))
    assert sum(encoded) == len(TEXTS)
    assert kept.value.__traceback__ is not None


# Texts that are too long.


def test_truncated_texts_are_counted_with_a_warning(tiny):
    texts = ["short", "x " * 50, "y " * 60]
    expected = r"2 of 3 texts are longer than 40 tokens .*the longest has 62"
    embed = DistilBertVectorizer(tiny)
    for call in (embed.fit, embed.fit_transform, embed.transform, embed.fit):
        with pytest.warns(TruncationWarning, match=expected) as caught:
            call(texts)
        assert len(caught) == 1
        assert embed.n_truncated_ == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embed.transform(["x " * 38])
        assert embed.fit(["x " * 38]).n_truncated_ == 0


# The encoder that was fitted with.


def test_another_encoder_under_the_name_is_refused(tmp_path):
    folder = make_encoder(tmp_path / "mine")
    embed = DistilBertVectorizer(str(folder)).fit(TEXTS)
    before = embed.encoder_hash_
    shutil.rmtree(folder)
    make_encoder(folder, seed=1)
    with pytest.raises(EncoderMismatchError, match=f"fitted with 'mine' of content {before[:12]}"):
        embed.transform(["not seen before"])
    assert embed.fit(TEXTS).encoder_hash_ != before


def test_an_encoder_that_moved_is_found_again(tmp_path, monkeypatch):
    folder = make_encoder(tmp_path / "mine")
    embed = DistilBertVectorizer(str(folder), cache_dir=None)
    expected = embed.fit_transform(TEXTS)
    moved = tmp_path / "elsewhere" / "mine"
    moved.parent.mkdir()
    folder.rename(moved)
    vectors = embed.set_params(model_name=str(moved)).transform(TEXTS)
    np.testing.assert_allclose(vectors, expected, **SAME)
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(moved.parent))
    vectors = embed.set_params(model_name="mine").transform(TEXTS)
    np.testing.assert_allclose(vectors, expected, **SAME)


def test_stored_weights_need_no_encoder(tmp_path):
    folder = make_encoder(tmp_path / "mine")
    embed = DistilBertVectorizer(str(folder), cache_dir=None, store_weights=True)
    expected = embed.fit_transform(TEXTS)
    stored = pickle.dumps(embed)
    assert len(stored) > (folder / "model.safetensors").stat().st_size
    shutil.rmtree(folder)
    copy = pickle.loads(stored)
    np.testing.assert_allclose(copy.transform(TEXTS), expected, **SAME)
    assert pickle.loads(pickle.dumps(copy)).transform(TEXTS).shape == expected.shape


# Whole searches.


def test_a_grid_search_over_the_pipeline_encodes_each_text_once(tiny, encoded):
    texts = [f"{'good' if i % 2 else 'bad'} film {i}" for i in range(200)]
    labels = [i % 2 for i in range(200)]
    pipeline = make_pipeline(DistilBertVectorizer(tiny), LogisticRegression())
    search = GridSearchCV(
        pipeline, {"logisticregression__C": [0.01, 0.1, 1, 10, 100]}, cv=5, error_score="raise"
    )
    search.fit(texts, labels)
    search.predict(texts)
    assert sum(encoded) == 200


@pytest.mark.slow
def test_a_grid_search_in_two_processes_encodes_at_most_one_text_in_ten_twice(tmp_path):
    script = tmp_path / "search.py"
    script.write_text(
        """
import os, sys
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from frozenbert import DistilBertVectorizer
from frozenbert.encoders.encoder import Encoder

class Counting(DistilBertVectorizer):
    def _encoder(self):
        encoder = super()._encoder()
        if not hasattr(Encoder, "plain"):
            Encoder.plain = Encoder.encode
            def encode(self, ids, *args, **kwargs):
                with open(sys.argv[2], "a") as file:
                    file.write("".join(f"{row.tolist()}\\n" for row in ids))
                return Encoder.plain(self, ids, *args, **kwargs)
            Encoder.encode = encode
        return encoder

if __name__ == "__main__":
    texts = [f"{'good' if i % 2 else 'bad'} film {i}" for i in range(200)]
    pipeline = make_pipeline(Counting(sys.argv[1], max_batch_tokens=200), LogisticRegression())
    grid = {
        "counting__layers": [1, 2, 3],
        "counting__pooling": ["cls", "mean"],
        "logisticregression__C": [0.1, 1],
    }
    search = GridSearchCV(pipeline, grid, cv=5, n_jobs=2, error_score="raise", refit=False)
    search.fit(texts, [i % 2 for i in range(200)])
""",
        encoding="utf-8",
    )
    encoder, log = make_encoder(tmp_path / "mine"), tmp_path / "log"
    result = subprocess.run(
        [sys.executable, str(script), str(encoder), str(log)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "fork" not in result.stderr
    counts = Counter(log.read_text().splitlines())
    assert len(counts) == 200
    assert sum(counts.values()) <= 220


def _transform_in_child(embed: DistilBertVectorizer, queue: multiprocessing.Queue) -> None:
    queue.put(embed.transform(["a new text in the child"]))


@pytest.mark.slow
def test_a_spawned_process_can_use_the_vectorizer(tiny):
    embed = DistilBertVectorizer(tiny).fit(TEXTS)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=_transform_in_child, args=(embed, queue))
    child.start()
    vectors = queue.get(timeout=120)
    child.join(timeout=60)
    np.testing.assert_array_equal(embed.transform(["a new text in the child"]), vectors)


# Progress.


def test_progress_bar_on_request(embed, capsys):
    embed.set_params(progress=True).fit_transform(TEXTS)
    shown = capsys.readouterr()
    assert "Vectors:" in shown.err
    assert "texts/s" in shown.err
    assert shown.err.endswith("\r"), "the bar is not removed at its end"
    assert shown.out == ""


def test_no_progress_bar_without_a_terminal(embed, capsys):
    embed.fit_transform(TEXTS)
    assert capsys.readouterr().err == ""


# Streams and threads.


def in_another_thread(call):
    """Return what a call returns in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(timeout=60)


@pytest.mark.parametrize(
    ("num_threads", "n_batches", "expected"),
    [(1, 5, [1]), (2, 5, [1, 1]), (4, 2, [2, 2]), (4, 1, [4]), (3, 2, [1, 1]), (9, 5, [1] * 4)],
)
def test_cores_are_divided_among_streams(embed, monkeypatch, num_threads, n_batches, expected):
    import torch

    threads_of: dict[int, int] = {}  # torch's setting in each thread that computes
    all_started = threading.Barrier(len(expected), timeout=60)
    encode = Encoder.encode

    def noting(self, *args, **kwargs):
        if threading.get_ident() not in threads_of:
            threads_of[threading.get_ident()] = torch.get_num_threads()
            all_started.wait()
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(Encoder, "encode", noting)
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    before = torch.get_num_threads()
    texts = ["good " * n for n in range(n_batches)]
    embed.set_params(num_threads=num_threads, device="cpu").fit_transform(texts)
    assert list(threads_of.values()) == expected
    assert torch.get_num_threads() == before


def test_other_threads_of_the_program_keep_torchs_setting(embed):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        embed.set_params(num_threads=1).fit_transform(TEXTS)
        assert in_another_thread(torch.get_num_threads) == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("cached", [False, True])
def test_two_threads_may_use_one_vectorizer(tiny, encoded, cached):
    texts = [f"a {'very ' * (n % 9)} good film {n}" for n in range(60)]
    expected = DistilBertVectorizer(tiny, cache_dir=None).fit_transform(texts)
    encoded.clear()
    embed = DistilBertVectorizer(
        tiny, max_batch_tokens=60, cache_dir="auto" if cached else None
    ).fit(texts)
    orders = [np.arange(60), np.arange(60)[::-1], np.arange(20, 60)]
    with ThreadPoolExecutor(3) as pool:
        found = pool.map(lambda order: embed.transform([texts[i] for i in order]), orders)
        for order, vectors in zip(orders, found, strict=True):
            np.testing.assert_allclose(vectors, expected[order], **SAME)
    assert sum(encoded) == (60 if cached else 160)


@pytest.mark.parametrize("options", [{"precision": "int8"}, {"backend": "openvino"}])
def test_openvino_takes_the_cpu_where_torch_would_take_a_gpu(tiny, monkeypatch, options):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    DistilBertVectorizer(tiny, cache_dir=None, **options).fit_transform(["a good film"])


def test_public_path_is_frozen():
    """Saved models contain this path."""
    assert DistilBertVectorizer.__module__ == "frozenbert.embed"
    assert DistilBertVectorizer.__qualname__ == "DistilBertVectorizer"


@pytest.mark.slow
def test_trained_weights_tell_good_from_bad(packaged):
    vectors = DistilBertVectorizer(packaged, cache_dir=tempfile.mkdtemp()).fit_transform(
        ["a wonderful film", "a delightful movie", "my bank sent the statement"]
    )
    assert vectors.shape == (3, 384)
    films, bank = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert films > 2 * bank


def test_names_of_the_packaged_encoder(packaged):
    short = DistilBertVectorizer(packaged).fit(["x"])
    long = DistilBertVectorizer(f"sentence-transformers/{packaged}").fit(["x"])
    assert short.encoder_hash_ == long.encoder_hash_
    assert (short.encoder_source_, short.pooling_, short.max_length_) == ("package", ("mean",), 512)
    assert Path(short.encoder_name_).name == packaged
