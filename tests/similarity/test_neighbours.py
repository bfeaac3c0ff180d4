"""Nearest neighbours and outliers."""

from __future__ import annotations

import numpy as np
import pytest

from frozenbert.errors import InputError
from frozenbert.similarity import find_neighbours, score_outliers


def some_vectors(n=200, width=12, seed=0):
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def cosines(one, other):
    one, other = (
        v.astype(np.float64) / np.linalg.norm(v, axis=1, keepdims=True) for v in (one, other)
    )
    return one @ other.T


def test_neighbours_are_those_of_brute_force():
    vectors, queries = some_vectors(), some_vectors(7, seed=1) * 100
    rows, similarity = find_neighbours(vectors, queries, 5)
    expected = cosines(queries, vectors)
    best = np.argsort(-expected, axis=1)[:, :5]
    assert rows.tolist() == best.tolist()
    np.testing.assert_allclose(similarity, np.take_along_axis(expected, best, axis=1), atol=1e-5)


def test_there_are_no_more_neighbours_than_vectors():
    rows, similarity = find_neighbours(some_vectors(3), some_vectors(2), 10)
    assert rows.shape == similarity.shape == (2, 3)


def outlier_scores(vectors, n_neighbors):
    similar = cosines(vectors, vectors)
    np.fill_diagonal(similar, -np.inf)
    return 1 - np.sort(similar, axis=1)[:, -n_neighbors:].mean(axis=1)


@pytest.mark.parametrize("n_neighbors", [1, 10])
def test_an_outlier_is_far_from_its_nearest_neighbours(n_neighbors):
    vectors = some_vectors()
    vectors[:100] = vectors[0] + 0.1 * vectors[:100]
    scores = score_outliers(vectors, n_neighbors)
    np.testing.assert_allclose(scores, outlier_scores(vectors, n_neighbors), atol=1e-5)
    assert scores[:100].max() < scores[100:].min()


def test_equal_texts_are_no_outliers():
    vectors = np.repeat(some_vectors(3), 30, axis=0)
    np.testing.assert_allclose(score_outliers(vectors, 10), 0, atol=1e-6)


def test_many_vectors_are_compared_with_a_sample():
    vectors = some_vectors(600)
    vectors[0] = -5 * vectors[1:].mean(axis=0)
    vectors[1:] += 3
    scores = score_outliers(vectors, 3, most_compared=100)
    assert scores.shape == (600,)
    assert scores.argmax() == 0
    assert scores.tolist() == score_outliers(vectors, 3, most_compared=100).tolist()
    # None is compared with itself: with a sample of the others alone, scores are no lower.
    assert (scores >= score_outliers(vectors, 3) - 1e-6).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0, 0.0]], [[1.0]]), "queries: 1 columns, and the vectors have 2."),
        (([[1.0]], [[1.0]], 0), "n_neighbors=0: a whole number of at least 1."),
        (([[1.0]], []), "queries: one row of numbers for each text is needed."),
    ],
)
def test_wrong_input(arguments, message):
    with pytest.raises(InputError) as raised:
        find_neighbours(*arguments)
    assert str(raised.value) == message


def test_outliers_need_two_vectors():
    with pytest.raises(InputError, match="at least 2 are needed"):
        score_outliers([[1.0, 2.0]])
