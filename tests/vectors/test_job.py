"""How often texts go through the encoder, and what is stored of them."""

from __future__ import annotations

import json
import pickle
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from frozenbert import DistilBertVectorizer
from frozenbert.encoders.encoder import Encoder
from frozenbert.errors import CacheWarning
from frozenbert.vectors import cache as cache_module
from frozenbert.vectors import job as job_module
from frozenbert.vectors.entries import KEYS, VECTORS, Entry, folder_name
from frozenbert.vectors.results import text_keys

TEXTS = ["a good film", "so dull and slow", "", "the plot is not boring !", "warm , funny , fine"]
ALL = [0, 1, 2, 3]


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


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def make(encoder: str, cache: Path | None, **parameters: object) -> DistilBertVectorizer:
    # One thread: the number of batches, and so of files, depends on the cores.
    settings = {"num_threads": 1, **parameters}
    return DistilBertVectorizer(encoder, cache_dir=cache, progress=False, **settings)


def as_loaded(embed: DistilBertVectorizer) -> DistilBertVectorizer:
    """Return the vectorizer as another process loads it."""
    return pickle.loads(pickle.dumps(embed))


def stored(cache: Path) -> dict[tuple[tuple[int, ...], tuple[str, ...]], int]:
    """Return the number of vectors that are stored for each layers and pooling."""
    found = {}
    for folder in (cache / "vectors").iterdir():
        facts = json.loads((folder / "settings.json").read_text())
        n = 0
        for path in folder.glob("*" + VECTORS):
            vectors = np.load(path, mmap_mode="r")
            assert vectors.shape[1] == 32 * len(facts["layers"]) * len(facts["pooling"])
            n += len(vectors)
        found[tuple(facts["layers"]), tuple(facts["pooling"])] = n
    return found


def folder_of(cache: Path, columns: tuple[tuple[int, ...], tuple[str, ...]]) -> Path:
    """Return the folder with the vectors of these layers and poolings."""
    for path in (cache / "vectors").glob("*/settings.json"):
        facts = json.loads(path.read_text())
        if (tuple(facts["layers"]), tuple(facts["pooling"])) == columns:
            return path.parent
    raise AssertionError(columns)


def assert_same_as_without_cache(embed: DistilBertVectorizer, vectors: np.ndarray) -> None:
    expected = make(embed.model_name, None, layers=embed.layers, pooling=embed.pooling)
    np.testing.assert_allclose(vectors, expected.fit_transform(TEXTS), rtol=0, atol=1e-5)


# Grid searches


def search(embed: DistilBertVectorizer, layers=(1, 2, 3), pooling=("cls", "mean")) -> GridSearchCV:
    texts = [f"{'good' if i % 2 else 'bad'} film {i}" for i in range(200)]
    grid = {
        "distilbertvectorizer__layers": list(layers),
        "distilbertvectorizer__pooling": list(pooling),
        "logisticregression__C": [0.1, 1],
    }
    pipeline = make_pipeline(embed, LogisticRegression())
    found = GridSearchCV(pipeline, grid, cv=5, error_score="raise")
    return found.fit(texts, [i % 2 for i in range(200)])


def test_a_grid_search_over_layers_and_pooling_encodes_each_text_once(
    tiny: str, cache: Path, encoded: list[int]
) -> None:
    found = search(make(tiny, cache))
    found.predict([f"good film {i}" for i in range(1, 200, 2)])
    assert sum(encoded) == 200
    assert stored(cache) == {((0, 1, 2, 3), ("cls", "mean")): 200}


def test_asked_encodes_each_text_once_for_each_choice(
    tiny: str, cache: Path, encoded: list[int]
) -> None:
    search(make(tiny, cache, keep_layers="asked"), layers=(2, 3))
    assert sum(encoded) == 2 * 2 * 200
    assert set(stored(cache).values()) == {200}
    assert len(stored(cache)) == 4


# What is stored, and what it serves


@pytest.mark.parametrize("layers", [0, -1, (3, 1), "all", (0, 1, 2, 3)], ids=str)
@pytest.mark.parametrize("pooling", ["mean", ("mean", "cls")], ids=str)
def test_one_fit_serves_every_choice(
    tiny: str, cache: Path, encoded: list[int], layers: object, pooling: object
) -> None:
    make(tiny, cache).fit_transform(TEXTS)
    embed = make(tiny, cache, layers=layers, pooling=pooling)
    vectors = embed.fit_transform(TEXTS[::-1])[::-1]
    assert sum(encoded) == 5
    assert len(stored(cache)) == 1
    assert_same_as_without_cache(embed, vectors)


def test_max_is_stored_once_it_is_asked_for(tiny: str, cache: Path, encoded: list[int]) -> None:
    make(tiny, cache, pooling="max").fit_transform(TEXTS)
    for layer in ALL:
        for pooling in ("cls", "mean", "max"):
            embed = make(tiny, cache, layers=layer, pooling=pooling)
            assert_same_as_without_cache(embed, embed.fit_transform(TEXTS))
    assert stored(cache) == {((0, 1, 2, 3), ("cls", "mean", "max")): 5}


def test_what_a_fitted_vectorizer_transforms_is_stored_with_all_layers(
    tiny: str, cache: Path, encoded: list[int]
) -> None:
    """As the two commands of the demo: plain, then searched, on training and test rows."""
    plain = make(tiny, cache)
    plain.fit_transform(TEXTS)
    plain.transform([*TEXTS, "test one", "test two"])
    searched = make(tiny, cache, layers="all", pooling=("cls", "mean"))
    searched.fit(TEXTS).transform(TEXTS)
    searched.transform(["test two", "test one"])
    assert sum(encoded) == 7


@pytest.mark.parametrize("how", ["loaded", "iter", "asked"])
def test_loaded_and_iterating_vectorizers_store_what_is_asked_for(
    tiny: str, cache: Path, encoded: list[int], how: str
) -> None:
    embed = make(tiny, cache, keep_layers="asked" if how == "asked" else "auto").fit([""])
    if how == "loaded":
        vectors = as_loaded(embed).transform(TEXTS)
    else:
        vectors = np.concatenate([*embed.transform_iter(TEXTS, block_size=2)])
    assert stored(cache) == {((3,), ("cls",)): 5}
    assert_same_as_without_cache(embed, vectors)


@pytest.mark.parametrize("how", ["loaded", "iter", "fit"])
def test_all_stores_all_layers_everywhere(
    tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(job_module, "MOST_TEXTS", 1)
    monkeypatch.setattr(cache_module, "MOST_BYTES", 1)
    embed = make(tiny, cache, keep_layers="all")
    if how == "fit":
        embed.fit_transform(TEXTS)
    elif how == "iter":
        list(embed.fit([""]).transform_iter(TEXTS))
    else:
        as_loaded(embed.fit([""])).transform(TEXTS)
    assert stored(cache) == {((0, 1, 2, 3), ("cls", "mean")): 5}


def test_more_texts_are_stored_as_asked(
    tiny: str, cache: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "MOST_TEXTS", 4)
    embed = make(tiny, cache)
    embed.fit_transform([*TEXTS, *TEXTS])
    embed.transform(["test one"])
    assert stored(cache) == {((3,), ("cls",)): 6}
    other = make(tiny, cache, layers=2)
    other.fit_transform([*TEXTS[:4], *TEXTS[:2]])  # four distinct ones
    assert stored(cache) == {((3,), ("cls",)): 6, ((0, 1, 2, 3), ("cls", "mean")): 4}
    other.transform(TEXTS)
    assert stored(cache)[(2,), ("cls",)] == 1
    assert sum(encoded) == 5 + 1 + 4 + 1


def test_beyond_a_size_only_what_is_asked_for_is_stored(
    tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_per_text = 4 * 32 * 4 * 2 + 8 * (2 + 4 * 2)
    monkeypatch.setattr(cache_module, "MOST_BYTES", 6 * bytes_per_text + 2 * 128)
    make(tiny, cache).fit_transform(TEXTS)
    make(tiny, cache).fit_transform(["one more", "and another"])
    make(tiny, cache).fit_transform(["one only"])
    assert stored(cache) == {((0, 1, 2, 3), ("cls", "mean")): 6, ((3,), ("cls",)): 2}


def test_narrow_first_then_wide(tiny: str, cache: Path, encoded: list[int]) -> None:
    narrow = as_loaded(make(tiny, cache).fit([""]))
    first = narrow.transform(TEXTS)
    make(tiny, cache, layers=1).fit_transform(TEXTS)
    assert sum(encoded) == 10
    for layer in ALL:
        for pooling in ("cls", "mean"):
            make(tiny, cache, layers=layer, pooling=pooling).fit_transform(TEXTS)
    assert sum(encoded) == 10
    assert stored(cache) == {((3,), ("cls",)): 5, ((0, 1, 2, 3), ("cls", "mean")): 5}
    np.testing.assert_array_equal(narrow.transform(TEXTS), first)


def test_narrow_entries_serve_what_they_contain(tiny: str, cache: Path, encoded: list[int]) -> None:
    wide = make(tiny, cache, layers=(3, 1), pooling=("mean", "cls"), keep_layers="asked")
    vectors = wide.fit_transform(TEXTS)
    assert stored(cache) == {((1, 3), ("cls", "mean")): 5}
    embed = make(tiny, cache, layers=1, pooling="mean")
    np.testing.assert_array_equal(embed.fit_transform(TEXTS), vectors[:, 64:96])
    assert sum(encoded) == 5
    make(tiny, cache, layers=(1, 2), pooling="mean").fit_transform(TEXTS)
    assert sum(encoded) == 10


def test_without_a_cache_only_what_is_asked_for_is_computed(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    encode = Encoder.encode

    def noting(self, ids, pooling, layers, *args):
        asked.append((pooling, layers))
        return encode(self, ids, pooling, layers, *args)

    monkeypatch.setattr(Encoder, "encode", noting)
    make(tiny, None, keep_layers="all").fit_transform(TEXTS)
    assert set(asked) == {(("cls",), (3,))}


def test_an_encoder_that_does_not_give_all_layers(
    tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled = Encoder.pooled

    def last_only(self, pooling, layers, **how):
        if layers != (3,):
            raise IndexError("tuple index out of range")
        return pooled(self, pooling, layers, **how)

    monkeypatch.setattr("frozenbert.vectors.engines.can_be_packed", lambda model: False)
    monkeypatch.setattr(Encoder, "pooled", last_only)
    embed = make(tiny, cache)
    assert_same_as_without_cache(embed, embed.fit_transform(TEXTS))
    assert stored(cache) == {((3,), ("cls",)): 5}


def test_bfloat16_stores_exactly_what_is_asked_for(
    tiny: str, cache: Path, encoded: list[int]
) -> None:
    settings = {"precision": "bfloat16", "backend": "torch", "device": "cpu", "keep_layers": "all"}
    both = make(tiny, cache, layers=(3, 2), **settings).fit_transform(TEXTS)
    make(tiny, cache, layers=3, **settings).fit_transform(TEXTS)
    again = make(tiny, cache, layers=(3, 2), **settings).fit_transform(TEXTS)
    np.testing.assert_array_equal(again, both)
    assert stored(cache) == {((3, 2), ("cls",)): 5, ((3,), ("cls",)): 5}
    assert sum(encoded) == 10


requests = st.lists(
    st.tuples(
        st.sampled_from([3, 1, (1, 3), (3, 1), "all"]),
        st.sampled_from(["cls", "mean", "max", ("cls", "mean"), ("mean", "max")]),
        st.sampled_from(["fit", "iter"]),
        st.lists(st.sampled_from(TEXTS), min_size=1, unique=True),
    ),
    max_size=12,
)


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(requests)
def test_the_same_request_always_has_the_same_answer(
    tiny: str, tmp_path_factory: pytest.TempPathFactory, asked: list
) -> None:
    cache, seen = tmp_path_factory.mktemp("cache"), {}
    for layers, pooling, how, texts in asked:
        embed = make(tiny, cache, layers=layers, pooling=pooling)
        if how == "fit":
            vectors = embed.fit_transform(texts)
        else:
            [vectors] = embed.fit([""]).transform_iter(texts)
        for text, vector in zip(texts, vectors, strict=True):
            first = seen.setdefault((layers, pooling, text), vector)
            np.testing.assert_array_equal(vector, first)


# Files


def test_blocks_are_checked_one_by_one(tiny: str, cache: Path, encoded: list[int]) -> None:
    """A request reads the blocks that it asks for, and no others."""
    make(tiny, cache).fit_transform(TEXTS)
    [path] = cache.rglob("*" + VECTORS)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # of the last row, layer 3, mean
    path.write_bytes(content)
    embed = make(tiny, cache)
    embed.fit_transform(TEXTS)
    assert sum(encoded) == 5
    with pytest.warns(UserWarning, match="contains damaged vectors: they are computed again"):
        vectors = make(tiny, cache, pooling="mean").fit_transform(TEXTS)
    assert sum(encoded) == 6
    assert_same_as_without_cache(make(tiny, cache, pooling="mean"), vectors)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pairs of files that are opened."""
    names: list[str] = []
    open_pair = Entry._open

    def noting(self, name):
        names.append(name)
        return open_pair(self, name)

    monkeypatch.setattr(Entry, "_open", noting)
    return names


def test_a_stream_opens_no_file_again_for_other_texts(
    tiny: str, cache: Path, opened: list[str]
) -> None:
    embed = make(tiny, cache).fit(TEXTS)
    embed.transform(TEXTS)
    opened.clear()
    list(embed.transform_iter([f"{number}" for number in range(6)], block_size=1))
    assert len(opened) == len(set(opened))


def test_a_stream_warns_once_that_the_cache_is_off(tiny: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    embed = make(tiny, tmp_path / "file").fit([""])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        blocks = list(embed.transform_iter(TEXTS, block_size=1))
    assert_same_as_without_cache(embed, np.concatenate(blocks))
    assert [warning.category for warning in caught] == [CacheWarning]


def test_no_file_is_opened_once_all_texts_are_read(
    tiny: str, cache: Path, opened: list[str]
) -> None:
    make(tiny, cache, keep_layers="asked").fit_transform(TEXTS)
    make(tiny, cache, layers=1).fit_transform([*TEXTS, "another text"])
    assert len(stored(cache)) == 2
    opened.clear()
    make(tiny, cache).fit(TEXTS).transform([TEXTS[0]])
    narrow = folder_of(cache, ((3,), ("cls",)))
    assert set(opened) == {path.name.removesuffix(KEYS) for path in narrow.glob("*" + KEYS)}


def test_entries_of_the_old_format_are_read(tiny: str, cache: Path, encoded: list[int]) -> None:
    """Columns as they were asked for, and one check over all of them."""
    embed = make(tiny, cache, layers=(3, 1), pooling=("mean", "cls")).fit([""])
    vectors = make(tiny, None, layers=(3, 1), pooling=("mean", "cls")).fit_transform(TEXTS)
    encoded.clear()
    keys = text_keys(TEXTS)
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    keys, vectors = keys[order], vectors[order]
    head = np.column_stack([keys, np.full(5, 7, dtype=np.uint64)])
    checks = [zlib.crc32(v, zlib.crc32(h)) for h, v in zip(head, vectors, strict=True)]
    packed = (np.uint64(7) << np.uint64(32)) | np.array(checks, dtype=np.uint64)
    columns = np.ascontiguousarray(np.stack([*keys.T, packed]))
    description = embed._settings().to_json()
    folder = cache / "vectors" / folder_name(description)
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(description + "\n")
    name = f"0123456789abcdef-{zlib.crc32(columns.tobytes()):08x}"
    np.save(folder / (name + VECTORS), vectors)
    np.save(folder / (name + KEYS), columns)
    for layer, pooling, block in ((3, "mean", 0), (1, "cls", 3)):
        found = make(tiny, cache, layers=layer, pooling=pooling).fit_transform(TEXTS)
        np.testing.assert_array_equal(found[order], vectors[:, 32 * block : 32 * block + 32])
    again = make(tiny, cache, layers=(3, 1), pooling=("mean", "cls")).fit_transform(TEXTS)
    np.testing.assert_array_equal(again[order], vectors)
    assert sum(encoded) == 0


def test_old_and_new_pairs_are_merged(cache: Path, tiny: str) -> None:
    embed = make(tiny, cache, layers=(1, 3), pooling=("cls", "mean"), keep_layers="asked")
    entry = Entry(cache, embed.fit([""])._settings())
    texts = [f"text {i}" for i in range(8)]
    vectors = np.arange(8 * 128, dtype=np.float32).reshape(8, 128)
    for i in range(8):
        name = entry.write(text_keys(texts[i : i + 1]), vectors[i : i + 1], np.array([i]))
        path = entry.folder / (name + KEYS)
        if i % 2 and path.exists():  # as it was before: one check over all columns
            stored = np.load(path)
            head = np.column_stack([stored[:2].T, stored[2] >> np.uint64(32)])
            check = np.uint64(zlib.crc32(vectors[i], zlib.crc32(head[0])))
            old = np.stack([*stored[:2], (head[:, 2] << np.uint64(32)) | check])
            path.unlink()
            renamed = f"{name.partition('-')[0]}-{zlib.crc32(old.tobytes()):08x}"
            np.save(entry.folder / (renamed + KEYS), old)
            (entry.folder / (name + VECTORS)).rename(entry.folder / (renamed + VECTORS))
    assert len(entry.names()) == 1
    found = embed.transform(texts)
    np.testing.assert_array_equal(found, vectors)


def test_a_damaged_description_serves_nothing(tiny: str, cache: Path, encoded: list[int]) -> None:
    make(tiny, cache, layers=(1, 3), keep_layers="asked").fit_transform(TEXTS)
    [path] = cache.rglob("settings.json")
    path.write_text(path.read_text().replace("[1, 3]", "[2, 3]"))
    embed = make(tiny, cache, layers=2, keep_layers="asked")
    assert_same_as_without_cache(embed, embed.fit_transform(TEXTS))


# Fitting


def test_fit_loads_no_weights(tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise AssertionError("the weights were loaded")

    monkeypatch.setattr(Encoder, "__init__", fail)
    monkeypatch.setattr("frozenbert.embed.load_encoder", fail)
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than 40 tokens"):
        embed = make(tiny, cache).fit(["a good film", "x " * 50])
    assert embed.n_truncated_ == 1
