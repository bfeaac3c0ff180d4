"""Texts that are longer than the encoder's limit: cut, or read in windows."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenbert import DistilBertVectorizer
from frozenbert.encoders.batching import fit_in
from frozenbert.encoders.encoder import Encoder, load_encoder
from frozenbert.encoders.sources import find_encoder
from frozenbert.errors import TruncationWarning

SHORT = ["a good film", "a warm and funny film", ""]
LONG = ["a good film is not so bad , " * 12, "slow and cold ! " * 40, "dull " * 41]


def embed(encoder: str, **settings) -> DistilBertVectorizer:
    return DistilBertVectorizer(encoder, progress=False, **settings)


def pieces(n_body: int, max_length: int, long_text: str) -> list[list[int]]:
    """Split a text with tokens 1, 2, ... between the special tokens 0 and -1."""
    ids = np.array([0, *range(1, n_body + 1), -1])
    return [p.tolist() for p in fit_in(ids, 1, n_body + 1, max_length, long_text)]


@given(st.integers(1, 200), st.integers(3, 60))
def test_windows_read_all_of_a_text(n_more: int, max_length: int) -> None:
    room = max_length - 2
    windows = pieces(room + n_more, max_length, "windows")
    assert all(w[0] == 0 and w[-1] == -1 and len(w) == max_length for w in windows)
    bodies = [w[1:-1] for w in windows]
    assert bodies[0][0] == 1
    assert bodies[-1][-1] == room + n_more
    for body, following in itertools.pairwise(bodies):
        assert body == list(range(body[0], body[0] + room))
        # The next window overlaps this one by an eighth, apart from rounding.
        assert body[0] < following[0] <= body[-1] + 2 - room // 8
    fewer = (room - room // 8) * (len(windows) - 2) + room
    assert fewer < room + n_more


@given(st.integers(1, 200), st.integers(3, 60))
def test_head_and_tail(n_more: int, max_length: int) -> None:
    room = max_length - 2
    n_body = room + n_more
    (piece,) = pieces(n_body, max_length, "head_tail")
    head = room // 4
    assert piece[1 : head + 1] == list(range(1, head + 1))
    assert piece[head + 1 : -1] == list(range(n_body - (room - head) + 1, n_body + 1))


@pytest.mark.parametrize("long_text", ["truncate", "head_tail", "windows"])
def test_no_room_at_all(long_text: str) -> None:
    assert pieces(5, 2, long_text) == [[0, -1]]
    assert pieces(5, 1, long_text) == [[0]]


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_windows_are_averaged(tiny: str, pooling: str) -> None:
    encoder = load_encoder(find_encoder(tiny), "cpu")
    found = embed(tiny, pooling=pooling, long_text="windows", cache_dir=None).fit_transform(LONG)
    for text, vector in zip(LONG, found, strict=True):
        whole = encoder.tokenizer.backend.encode(text).ids
        windows = fit_in(np.array(whole), 1, len(whole) - 1, 40, "windows")
        assert len(windows) > 1
        expected = np.mean([encoder.encode([w], [pooling], [3])[0] for w in windows], axis=0)
        np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("long_text", ["head_tail", "windows"])
def test_texts_that_fit_share_their_vectors_with_other_ways(tiny: str, long_text: str, monkeypatch):
    texts = SHORT + LONG
    plain = embed(tiny, pooling="mean").fit_transform(texts)
    computed = []
    encode = Encoder.encode

    def counted(self, ids, *arguments):
        computed.extend(ids)
        return encode(self, ids, *arguments)

    monkeypatch.setattr(Encoder, "encode", counted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        vectors = embed(tiny, pooling="mean", long_text=long_text).fit_transform(texts)
        assert len(computed) == sum(len(w) for w in windows_of(tiny, LONG, long_text))
        np.testing.assert_array_equal(vectors[:3], plain[:3])
        assert not np.allclose(vectors[3:5], plain[3:5], atol=1e-3)
        computed.clear()
        again = embed(tiny, pooling="mean", long_text=long_text).fit_transform(texts)
        np.testing.assert_array_equal(again, vectors)
        cut = embed(tiny, pooling="mean").fit_transform(texts)
        np.testing.assert_array_equal(cut, plain)
        assert not computed


@pytest.mark.parametrize("long_text", ["head_tail", "windows"])
def test_long_texts_that_were_not_cut_are_cached(tiny: str, long_text: str, monkeypatch):
    settings = {"pooling": "mean", "long_text": long_text}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        first = embed(tiny, **settings).fit_transform(LONG + SHORT)
        monkeypatch.setattr(Encoder, "encode", None)
        np.testing.assert_array_equal(embed(tiny, **settings).fit_transform(LONG + SHORT), first)
        counted = embed(tiny, **settings).fit(LONG + SHORT)
    assert counted.n_long_ == 3


def windows_of(encoder: str, texts: list[str], long_text: str) -> list[list[np.ndarray]]:
    loaded = load_encoder(find_encoder(encoder), "cpu")
    return [loaded.tokenizer.split(text, 40, long_text)[0] for text in texts]


def test_a_very_long_text_never_makes_a_larger_batch(tiny: str, monkeypatch) -> None:
    sizes = []
    encode = Encoder.encode

    def sized(self, ids, *arguments):
        sizes.append(sum(map(len, ids)))
        return encode(self, ids, *arguments)

    monkeypatch.setattr(Encoder, "encode", sized)
    vectorizer = embed(tiny, long_text="windows", max_batch_tokens=100, cache_dir=None)
    vectors = vectorizer.fit_transform(["a film " * 2000, *SHORT])
    assert max(sizes) <= 100
    alone = vectorizer.transform(["a film " * 2000])
    np.testing.assert_allclose(vectors[:1], alone, rtol=0, atol=1e-5)


def test_unread_tokens_are_counted(tiny: str) -> None:
    texts = ["a " * 38, "a " * 58, "a " * 98]  # 40, 60 and 100 tokens
    with pytest.warns(
        TruncationWarning,
        match=r"2 of 3 texts are longer than 40 tokens .* \(the longest has 100\): "
        r"40.0 % of all tokens are not read; long_text='windows' reads them whole",
    ):
        cut = embed(tiny).fit(texts)
    assert (cut.n_long_, cut.n_truncated_, cut.unread_) == (2, 2, pytest.approx(0.4))
    with pytest.warns(TruncationWarning, match="40.0 % of all tokens are not read.$"):
        cut = embed(tiny, long_text="head_tail").fit(texts)
    assert (cut.n_long_, cut.n_truncated_, cut.unread_) == (2, 2, pytest.approx(0.4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = embed(tiny, long_text="windows").fit(texts)
        list(read.transform_iter(iter(texts), block_size=2))
    assert (read.n_long_, read.n_truncated_, read.unread_) == (2, 0, 0)
