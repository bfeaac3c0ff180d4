"""Near-duplicates: every pair is found, in bounded memory, and the most similar are listed."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from frozenbert.errors import InputError, PairLimitWarning
from frozenbert.similarity import duplicates, find_near_duplicates


def groups_of_near_copies(n_groups=60, copies=4, width=24, noise=0.15, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n_groups, width))
    vectors = np.concatenate(
        [centres + noise * rng.standard_normal(centres.shape) for _ in range(copies)]
    )
    return rng.permutation(vectors).astype(np.float32)


def brute_force(vectors, threshold):
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    first, second = np.nonzero(np.triu(cosines >= threshold, 1))
    return dict(
        zip(
            zip(first.tolist(), second.tolist(), strict=True),
            cosines[first, second].tolist(),
            strict=True,
        )
    )


def as_dict(found):
    pairs = zip(found.first.tolist(), found.second.tolist(), strict=True)
    return dict(zip(pairs, found.similarity.tolist(), strict=True))


@pytest.mark.parametrize("block", [(1024, 4096), (16, 64), (50, 70), (240, 240), (7, 1000)])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.95, 0.99])
def test_no_pair_is_missed_whatever_the_blocks(monkeypatch, block, threshold):
    monkeypatch.setattr(duplicates, "BLOCK", block)
    vectors = groups_of_near_copies()
    expected = brute_force(vectors, threshold)
    assert len(expected) > 3
    found = find_near_duplicates(vectors, threshold)
    assert as_dict(found) == pytest.approx(expected, abs=1e-6)
    assert found.n_found == len(expected)
    assert (np.diff(found.similarity) <= 0).all()


def test_a_pair_on_the_threshold_is_found_whatever_float32_makes_of_it():
    rng = np.random.default_rng(1)
    for width in (3, 384, 4608):
        vectors = rng.standard_normal((40, width))
        for pair, cosine in list(brute_force(vectors, -1).items())[:50]:
            if cosine >= 0:
                assert pair in as_dict(find_near_duplicates(vectors, cosine))


def test_equal_vectors_are_duplicates_at_a_threshold_of_1():
    vectors = groups_of_near_copies(20, 1)
    doubled = np.concatenate([vectors, vectors[:5] * 7])
    found = find_near_duplicates(doubled, 1.0)
    pairs = sorted(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs == [(i, 20 + i) for i in range(5)]
    assert found.similarity.max() <= 1


def test_groups_are_those_that_pairs_connect():
    vectors = groups_of_near_copies(noise=0.3)
    found = find_near_duplicates(vectors, 0.9)
    smallest = list(range(len(vectors)))
    for _ in range(len(vectors)):
        for a, b in brute_force(vectors, 0.9):
            smallest[a] = smallest[b] = min(smallest[a], smallest[b])
    assert found.groups.tolist() == smallest
    assert len(set(smallest)) not in (1, len(vectors))


def test_beyond_the_limit_the_most_similar_are_listed(monkeypatch):
    monkeypatch.setattr(duplicates, "BLOCK", (16, 32))
    vectors = groups_of_near_copies()
    everything = find_near_duplicates(vectors, 0.3)
    with pytest.warns(PairLimitWarning, match="the 50 most similar ones are listed") as caught:
        found = find_near_duplicates(vectors, 0.3, max_pairs=50)
    assert f"{everything.n_found:,} pairs" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert as_dict(found) == dict(list(as_dict(everything).items())[:50])
    assert found.groups.tolist() == everything.groups.tolist()
    assert found.n_found == everything.n_found


def test_memory_does_not_grow_with_all_pairs():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((8000, 16), dtype=np.float32)
    tracemalloc.start()
    try:
        with pytest.warns(PairLimitWarning, match="pairs are at or above the threshold of 0.2"):
            find_near_duplicates(vectors, 0.2, max_pairs=1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8000 * 8000 * 4 / 2  # half of what all cosines take


@pytest.mark.parametrize(
    ("vectors", "settings", "message"),
    [
        ([[1.0, 0.0]], {}, "vectors: at least 2 are needed, and there are 1."),
        ([1.0, 0.0], {}, "vectors: one row of numbers for each text is needed."),
        ([["a"], ["b"]], {}, "vectors: one row of numbers for each text is needed."),
        ([[1.0], [float("nan")]], {}, "vectors: a value is no finite number."),
        ([[1.0], [float("inf")]], {}, "vectors: a value is no finite number."),
        ([[1.0], [2.0]], {"threshold": 1.1}, "threshold=1.1: a number from 0 to 1."),
        ([[1.0], [2.0]], {"threshold": -0.1}, "threshold=-0.1: a number from 0 to 1."),
        ([[1.0], [2.0]], {"threshold": float("nan")}, "threshold=nan: a number from 0 to 1."),
        ([[1.0], [2.0]], {"max_pairs": 0}, "max_pairs=0: a whole number of at least 1."),
    ],
)
def test_wrong_input(vectors, settings, message):
    with pytest.raises(InputError) as raised:
        find_near_duplicates(vectors, **settings)
    assert str(raised.value) == message


def test_a_vector_of_zeros_is_like_no_other():
    found = find_near_duplicates([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]], 0.5)
    assert (found.n_found, found.groups.tolist()) == (0, [0, 1, 2])
