"""A text's vector depends on nothing but the text: 1,000 texts in batches of 1, 7 and 64."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from frozenbert import DistilBertVectorizer
from frozenbert.encoders.openvino.quantization import SAMPLE

N_TEXTS = 1000
WAYS = {
    "torch": {},
    "openvino": {"backend": "openvino"},
    "bfloat16": {"precision": "bfloat16"},
    "int8": {"precision": "int8"},
}
BOUNDS = {"torch": 1e-5, "openvino": 1e-5, "bfloat16": 2**-7, "int8": 1e-4}

pytestmark = pytest.mark.slow


def make_texts() -> list[str]:
    """Return distinct texts of 1 to 99 words: most are short, as sentences are."""
    random = np.random.default_rng(0)
    words = np.array(" ".join(SAMPLE).split())
    lengths = 1 + (98 * random.random(N_TEXTS) ** 3).astype(int)
    texts = [f"{i} " + " ".join(random.choice(words, n)) for i, n in enumerate(lengths)]
    assert len(set(texts)) == N_TEXTS
    return texts


TEXTS = make_texts()


@cache
def fitted(way: str) -> DistilBertVectorizer:
    if way != "torch":
        pytest.importorskip("openvino")
    embed = DistilBertVectorizer(
        "all-MiniLM-L6-v2", device="cpu", cache_dir=None, progress=False, **WAYS[way]
    )
    return embed.fit(TEXTS)


@cache
def alone(way: str) -> np.ndarray:
    return np.concatenate([fitted(way).transform([text]) for text in TEXTS])


@pytest.mark.filterwarnings("ignore::frozenbert.errors.PrecisionWarning")
@pytest.mark.parametrize("size", [7, 64, N_TEXTS])
@pytest.mark.parametrize("way", WAYS)
def test_a_vector_is_the_same_alone_and_among_others(way: str, size: int) -> None:
    order = np.random.default_rng(size).permutation(N_TEXTS)
    found = np.empty_like(alone(way))
    for start in range(0, N_TEXTS, size):
        rows = order[start : start + size]
        found[rows] = fitted(way).transform([TEXTS[row] for row in rows])
    np.testing.assert_allclose(found, alone(way), rtol=0, atol=BOUNDS[way])
    # Labels of about as many texts of each kind, by a head that has seen the vectors alone.
    middle = np.median(alone(way)[:, 0])
    head = LogisticRegression(C=10, max_iter=1000).fit(alone(way), alone(way)[:, 0] > middle)
    equal = head.predict(found) == head.predict(alone(way))
    assert equal.mean() >= 0.999


@pytest.mark.filterwarnings("ignore::frozenbert.errors.PrecisionWarning")
@pytest.mark.parametrize("way", ["openvino", "bfloat16", "int8"])
def test_the_number_of_threads_and_the_size_of_a_batch_do_not_matter(way: str) -> None:
    texts = TEXTS[::10]
    for parameters in ({"num_threads": 1}, {"max_batch_tokens": 64}):
        other = DistilBertVectorizer(
            "all-MiniLM-L6-v2",
            device="cpu",
            cache_dir=None,
            progress=False,
            **{**WAYS[way], **parameters},
        )
        found = other.fit_transform(texts)
        np.testing.assert_allclose(found, alone(way)[::10], rtol=0, atol=BOUNDS[way])
