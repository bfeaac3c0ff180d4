"""`embed`: vectors of one table and of many."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from frozenbert import DistilBertVectorizer

from .conftest import put, rows


def test_embed(succeeds, tiny):
    put("x.csv", rows(9), header=True)
    out = succeeds(
        "embed", "--data", "x.csv", "--out", "deep/x.npy", "--encoder", tiny, "--limit", 7
    )
    vectors = np.load("deep/x.npy")
    plain = DistilBertVectorizer(tiny, cache_dir=None).fit_transform(rows(9)["text"])
    assert (vectors.dtype, vectors.shape) == (np.float32, (7, 32))
    assert vectors == pytest.approx(plain[:7], abs=1e-5)
    assert sorted(os.listdir("deep")) == ["x.json", "x.npy"]
    facts = json.loads(Path("deep/x.json").read_text("utf-8"))
    assert (facts["notice"], facts["n_texts"], facts["n_truncated"]) == (None, 7, 0)
    assert facts["encoder"]["name"] == "tiny"
    assert facts["encoder"]["pooling"] == ["cls"]
    assert (facts["data"]["file"], facts["data"]["text_column"]) == ("x.csv", "text")
    assert "written  deep/x.npy: float32 (7, 32); x.json\n" in out
    succeeds(
        "embed", "--data", "x.csv", "--out", "y.npy", "--encoder", tiny, "--pooling", "mean,max"
    )
    assert np.load("y.npy").shape == (9, 64)


@pytest.mark.parametrize("several", [False, True])
def test_an_automatic_precision_is_chosen_on_the_table(succeeds, tiny, monkeypatch, several):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_vnni": True})
    monkeypatch.setattr("frozenbert.reports.agreement.LEAST_COSINE", 0.9)
    put("x.csv", rows(9), header=True)
    put("y.csv", rows(5, start=100), header=True)
    source, target = ("[xy].csv", "out") if several else ("x.csv", "x.npy")
    options = ["--data", source, "--out", target, "--encoder", tiny, "--device", "cpu"]
    out = succeeds("embed", *options, "--precision", "auto")
    assert "at most 40 tokens, int8\n" in out
    assert "int8  chosen: mean cosine " in out
    assert " on 9 of the texts\n" in out
    expected = DistilBertVectorizer(tiny, precision="int8", device="cpu", cache_dir=None)
    expected = expected.fit_transform(rows(9)["text"])
    if several:
        found = np.stack(pd.read_parquet("out/x.parquet")["vector"])
        again = succeeds("embed", *options, "--precision", "auto")
        assert "skipped  2 tables" in again
    else:
        found = np.load("x.npy")
        facts = json.loads(Path("x.json").read_text("utf-8"))["encoder"]
        assert facts["precision"] == "int8"
        assert facts["precision_trials"]["int8"]["n_texts"] == 9
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_long_texts_are_counted_in_a_warning(run, tiny):
    frame = rows(4)
    frame.loc[1, "text"] = "film " * 50
    put("x.tsv", frame)
    options = ["--data", "x.tsv", "--text-column", "0", "--out", "x.npy", "--encoder", tiny]
    code, _, err = run("embed", *options)
    assert code == 0
    says = "warning: 1 of 4 texts are longer than 40 tokens and were cut (the longest"
    assert err.startswith(says)
    assert err.count("\n") == 1
    assert json.loads(Path("x.json").read_text())["n_truncated"] == 1


def test_embed_into_parquet(succeeds, tiny):
    put("x.csv", rows(9), header=True)
    out = succeeds("embed", "--data", "x.csv", "--out", "deep/x.parquet", "--encoder", tiny)
    assert "written  deep/x.parquet: float32 (9, 32)\n" in out
    found = pd.read_parquet("deep/x.parquet")
    assert list(found.columns) == ["text", "label", "vector"]
    assert found["text"].tolist() == rows(9)["text"].tolist()
    assert os.listdir("deep") == ["x.parquet"]


def test_embed_many_tables(succeeds, run, tiny):
    for name, n in {"a": 9, "b": 5}.items():
        put(f"{name}.csv", rows(n), header=True)
    options = ["--data", "?.csv", "--out", "out", "--encoder", tiny, "--text-column", "text"]
    out = succeeds("embed", *options)
    assert "data  ?.csv: 2 tables\n" in out
    assert "written  out: 2 parquet files, 14 texts\n" in out
    assert sorted(os.listdir("out")) == ["a.parquet", "b.parquet"]
    put("c.csv", pd.DataFrame({"text": ["fine"], "label": ["x"]}), header=True)
    Path("d.csv").write_text("text,label\nfine,x,y\n")
    code, out, err = run("embed", *options)
    assert code == 2
    assert "skipped  2 tables" in out
    assert "1 of 4 tables failed, the others are done." in err
    assert "d.csv, line 2: the number of fields is 3, but 2" in err
    assert sorted(os.listdir("out")) == ["a.parquet", "b.parquet", "c.parquet"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--data", "none*.csv", "--out", "out"],
            r"--data none\*\.csv: no file has such a name",
        ),
        (["--data", "*.tsv", "--out", "x.npy"], r"--out x\.npy: the vectors of several tables"),
        (["--data", "*.tsv", "--out", "out", "--limit", 3], "--limit: requires a single table"),
        (
            ["--data", "train.tsv", "--out", "out"],
            r"--out out: the vectors of one table need",
        ),
    ],
)
def test_embed_many_tables_says_what_is_wrong(refuses, tiny, options, says):
    refuses(says, "embed", *options, "--encoder", tiny, "--text-column", 0)


def test_vectors_with_a_prompt_that_are_cut_and_normalised(succeeds, tiny):
    put("x.csv", rows(4), header=True)
    options = ["--prompt", "a film: ", "--normalize", "--truncate-dim", 8]
    out = succeeds("embed", "--data", "x.csv", "--out", "x.npy", "--encoder", tiny, *options)
    assert "prompt 'a film: '" in out
    settings = {"prompt": "a film: ", "normalize": True, "truncate_dim": 8}
    expected = DistilBertVectorizer(tiny, cache_dir=None, **settings)
    expected = expected.fit_transform(rows(4)["text"])
    np.testing.assert_allclose(np.load("x.npy"), expected, rtol=0, atol=1e-5)
    facts = json.loads(Path("x.json").read_text("utf-8"))["encoder"]
    assert {name: facts[name] for name in settings} == settings
    succeeds("embed", "--data", "x.csv", "--out", "y.npy", "--encoder", tiny, "--prompt", "")
    facts = json.loads(Path("y.json").read_text("utf-8"))["encoder"]
    assert not facts.keys() & settings.keys()
