"""`similar`: near-duplicates, neighbours, outliers and clusters of a table's texts."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from frozenbert import DistilBertVectorizer

from .conftest import SECRET, put, rows

FILES = {"near_duplicates.csv", "texts.csv", "clusters.csv", "similar.html"}


@pytest.fixture
def table():
    """Twelve texts; the last two repeat the first and the third."""
    frame = rows(10)
    frame.loc[4, "text"] = f"<b>film</b> & 'movie' {SECRET}"
    texts = [*frame["text"], frame["text"][0], frame["text"][2]]
    put("x.csv", pd.DataFrame({"text": texts}), header=True)
    return texts


def similar(*options, tiny):
    return ("similar", "--data", "x.csv", "--out", "out", "--encoder", tiny, *options)


def test_similar(succeeds, tiny, table):
    out = succeeds(*similar("--threshold", "0.999", tiny=tiny))
    assert {path.name for path in Path("out").iterdir()} == FILES
    vectors = DistilBertVectorizer(tiny, cache_dir=None).fit_transform(table).astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = np.nonzero(np.triu(unit @ unit.T >= 0.999, 1))
    pairs = pd.read_csv("out/near_duplicates.csv")
    assert {*zip(pairs["row_1"], pairs["row_2"], strict=True)} == {
        *zip(first + 1, second + 1, strict=True)
    }
    assert {(1, 11), (3, 12)} <= {*zip(pairs["row_1"], pairs["row_2"], strict=True)}
    assert pairs["text_1"].tolist() == [table[row - 1] for row in pairs["row_1"]]
    assert pairs["text_2"].tolist() == [table[row - 1] for row in pairs["row_2"]]
    assert f"duplicates  {len(pairs):,} pairs with a cosine of at least 0.999" in out

    texts = pd.read_csv("out/texts.csv")
    assert texts["row"].tolist() == list(range(1, 13))
    assert texts["text"].tolist() == table
    assert texts["near_duplicate_of"][[10, 11]].tolist() == [1, 3]
    assert texts["near_duplicate_of"].isna()[[0, 2]].all()
    assert texts["outlier_score"].between(0, 2).all()
    clusters = pd.read_csv("out/clusters.csv")
    sizes = texts["cluster"].value_counts()
    assert clusters["n_texts"].tolist() == [sizes[cluster] for cluster in clusters["cluster"]]


def test_the_page_shows_texts_escaped(succeeds, tiny, table):
    succeeds(*similar("--threshold", "0", "--text", table[4], tiny=tiny))
    page = Path("out/similar.html").read_text("utf-8")
    assert f"&lt;b&gt;film&lt;/b&gt; &amp; &#39;movie&#39; {SECRET}" in page
    assert "<b>film" not in page
    assert "Nearest neighbours of row 5" in page
    assert "The 50 most similar pairs; near_duplicates.csv lists 66." in page


def test_without_examples_no_text_is_written(succeeds, tiny, table):
    succeeds(*similar("--no-examples", "--threshold", "0", "--text", table[0], tiny=tiny))
    assert {path.name for path in Path("out").iterdir()} == {*FILES, "neighbours.csv"}
    for path in Path("out").iterdir():
        content = path.read_text("utf-8")
        assert SECRET not in content
        assert "film" not in content
    assert list(pd.read_csv("out/near_duplicates.csv")) == ["row_1", "row_2", "similarity"]
    assert "row 11" in Path("out/similar.html").read_text("utf-8")


def test_neighbours_of_texts(succeeds, tiny, table):
    asked = ("--text", table[2], "--text", table[5], "--n-neighbors", 3)
    out = succeeds(*similar(*asked, tiny=tiny))
    assert "neighbours  of row 3: row 12 (1.000), row " in out
    found = pd.read_csv("out/neighbours.csv")
    assert found["row"].tolist() == [3] * 3 + [6] * 3
    assert found["neighbour"][0] == 12
    assert not (found["row"] == found["neighbour"]).any()
    assert found["text"].tolist() == [table[row - 1] for row in found["neighbour"]]


def test_more_pairs_than_are_listed(run, tiny, table):
    code, _, err = run(*similar("--threshold", "0", "--max-pairs", "5", tiny=tiny))
    assert code == 0
    assert err.startswith("warning: 66 pairs are at or above the threshold of 0.0; the 5 most")
    assert len(pd.read_csv("out/near_duplicates.csv")) == 5


def test_a_number_of_clusters_and_a_limit(succeeds, tiny, table):
    out = succeeds(*similar("--n-clusters", "2", "--limit", "6", tiny=tiny))
    assert "x.csv: 6 rows" in out
    assert "clusters  2 (k-means with 2 clusters); 0 texts in none" in out
    assert len(pd.read_csv("out/texts.csv")) == 6


def test_vectors_come_from_the_cache(succeeds, tiny, table, monkeypatch):
    succeeds(*similar(tiny=tiny))

    def load(*_):
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr("frozenbert.embed.load_encoder", load)
    succeeds(*similar(tiny=tiny))


def test_from_standard_input(succeeds, tiny, table, monkeypatch):
    data = io.TextIOWrapper(io.BytesIO(Path("x.csv").read_bytes()))
    monkeypatch.setattr(sys, "stdin", data)
    options = ["--data", "-", "--format", "csv", "--out", "out", "--encoder", tiny]
    assert "12 rows" in succeeds("similar", *options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--threshold", "1.5"], "--threshold 1.5: a number from 0 to 1."),
        (["--threshold", "nan"], "--threshold nan: a number from 0 to 1."),
        (["--threshold", "high"], "argument --threshold: must be a number, not 'high'"),
        (["--max-pairs", "0"], "argument --max-pairs: must be at least 1, not 0"),
        (["--n-clusters", "13"], "--n-clusters 13: a whole number from 1 to 12"),
        (["--text", "an unknown text"], "--text: no row of x.csv has exactly this text"),
        (["--limit", "1"], "x.csv: there are fewer than two texts to compare."),
        (["--data", "y.csv"], "--data y.csv: there is no such file."),
        (["--out", "x.csv"], "--out x.csv: is a file; name a folder."),
        (["--out", "-"], "--out -: several files are written: name a folder."),
        (["--text-column", "texts"], "--text-column: x.csv: there is no column 'texts'"),
    ],
)
def test_wrong_input(refuses, tiny, table, options, says):
    refuses(says.replace("(", r"\("), *similar("--no-cache", *options, tiny=tiny))
