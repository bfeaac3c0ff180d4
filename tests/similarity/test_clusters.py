"""Clusters, and their typical texts and words."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from frozenbert.errors import InputError
from frozenbert.similarity import clusters, find_clusters
from frozenbert.similarity.clusters import find_words


def blobs(sizes=(40, 25, 15), width=80, noise=0.05, n_apart=4):
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.standard_normal((len(sizes), width)), sizes, axis=0)
    near = centres + noise * rng.standard_normal(centres.shape)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    apart = rng.standard_normal((n_apart, width))
    return np.concatenate([near, apart]), np.concatenate([truth, np.full(n_apart, -1)])


def test_few_texts_are_clustered_by_density():
    vectors, truth = blobs(n_apart=0)
    found = find_clusters(vectors)
    assert found.labels.tolist() == truth.tolist()
    assert found.method == "HDBSCAN on 20 principal components"


def test_texts_may_be_in_no_cluster():
    vectors, truth = blobs(sizes=(40, 40), width=20, noise=0.3, n_apart=30)
    labels = find_clusters(vectors).labels
    assert labels[:80].tolist() == truth[:80].tolist()
    assert set(labels[80:]) == {-1, 0, 1}
    assert (labels[80:] == -1).mean() > 0.5


def test_many_texts_are_clustered_by_means(monkeypatch):
    monkeypatch.setattr(clusters, "MOST_FOR_HDBSCAN", 50)
    vectors, _ = blobs()
    found = find_clusters(vectors)
    assert found.method == "mini-batch k-means with 6 clusters"
    assert set(found.labels) == set(range(len(found.typical)))


def test_a_number_of_clusters_can_be_asked_for():
    vectors, truth = blobs(n_apart=0)
    found = find_clusters(vectors, 3)
    assert adjusted_rand_score(truth, found.labels) == 1
    assert np.bincount(found.labels).tolist() == [40, 25, 15]
    assert found.method == "k-means with 3 clusters"
    assert find_clusters(vectors, 1).labels.tolist() == [0] * 80


def test_typical_texts_are_nearest_to_the_mean():
    vectors, truth = blobs(n_apart=0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for cluster, rows in enumerate(find_clusters(vectors, n_typical=4).typical):
        members = np.flatnonzero(truth == cluster)
        nearness = unit[members] @ unit[members].mean(axis=0)
        assert rows.tolist() == members[np.argsort(-nearness)[:4]].tolist()


@pytest.mark.parametrize("n", [2, 3, 6])
def test_a_handful_of_texts(n):
    found = find_clusters(np.random.default_rng(0).standard_normal((n, 5)))
    assert len(found.labels) == n
    assert len(found.typical) == found.labels.max() + 1


def test_equal_texts_are_one_cluster():
    found = find_clusters(np.ones((20, 4)))
    assert len(set(found.labels)) == 1


@pytest.mark.parametrize("n_clusters", [0, 85, 1.5, True])
def test_wrong_numbers(n_clusters):
    vectors, _ = blobs()
    with pytest.raises(InputError, match="a whole number from 1 to 84, the number of vectors"):
        find_clusters(vectors, n_clusters)


def test_words_distinguish_a_cluster():
    texts = ["the good film", "good film", "a good film"] + [
        "the bank card",
        "my bank",
        "the card is lost",
    ] * 2
    words = find_words([*texts, *["the end"] * 9], [0] * 3 + [1] * 6 + [-1] * 9)
    assert words[0][:2] == ["film", "good"]
    assert set(words[1]) >= {"bank", "card"}
    assert "the" not in words[0]
    assert "film" not in words[1]


def test_texts_without_common_words_have_none():
    assert find_words(["one", "two", "!"], [0, 0, 1]) == [[], []]
    assert find_words(["one", "two"], [-1, -1]) == []
