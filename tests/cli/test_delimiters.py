"""Tables with other delimiters, at each command that reads one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from frozenbert import DistilBertVectorizer

from .conftest import rows


@pytest.fixture(params=[";", "|", "\t"], ids=["semicolon", "bar", "tab"])
def delimiter(request):
    """Write `x.csv` with 48 rows, a column of notes, and a delimiter that is no comma."""
    frame = rows().assign(note="one, two")
    frame.to_csv("x.csv", sep=request.param, index=False)
    return request.param


def test_a_delimiter_is_recognised_and_printed(succeeds, tiny, delimiter):
    options = ["--encoder", tiny, "--C", 0.1, "--cv", 2]
    out = succeeds("train", "--data", "x.csv", "--label-column", "label", *options)
    name = "tab" if delimiter == "\t" else f"'{delimiter}'"
    assert f"48 rows, delimiter {name} (if that is wrong, use --delimiter), first row" in out
    out = succeeds("embed", "--data", "x.csv", "--encoder", tiny, "--out", "x.npy")
    assert f"delimiter {name} (if that is wrong" in out
    expected = DistilBertVectorizer(tiny, cache_dir=None).fit_transform(rows()["text"])
    np.testing.assert_allclose(np.load("x.npy"), expected, atol=1e-5)


def test_a_delimiter_is_named(succeeds, refuses, tiny, delimiter):
    named = {"\t": ["tab", r"\t", "\t"]}.get(delimiter, [delimiter])
    for name in named:
        options = ["--encoder", tiny, "--text-column", "text", "--delimiter", name]
        out = succeeds("embed", "--data", "x.csv", "--out", "x.npy", *options)
        assert "recognised" not in out
        assert len(np.load("x.npy")) == 48
    options = ["--encoder", tiny, "--delimiter", ":", "--out", "y.npy"]
    refuses("--text-column: x.csv: there is no column", "embed", "--data", "x.csv", *options,
            "--text-column", "text")  # fmt: skip


def test_a_comma_needs_no_words(succeeds, tiny):
    rows().to_csv("x.csv", index=False)
    out = succeeds("embed", "--data", "x.csv", "--encoder", tiny, "--out", "x.npy")
    assert "delimiter" not in out


def test_an_ambiguous_delimiter_names_both_and_the_option(refuses, succeeds, tiny):
    pd.DataFrame({"text;a": ["good;b"] * 9, "label": range(9)}).to_csv("x.csv", index=False)
    options = ["--data", "x.csv", "--encoder", tiny, "--out", "x.npy"]
    refuses("--delimiter: x.csv: .*','.*';'", "embed", *options)
    succeeds("embed", *options, "--delimiter", ";", "--text-column", "text")


def test_rows_to_test_on_may_have_another_delimiter(succeeds, tiny, delimiter):
    rows(8, start=100).to_csv("test.csv", index=False)
    options = ["--encoder", tiny, "--C", 0.1, "--cv", 2, "--text-column", "text"]
    options += ["--label-column", "label"]
    out = succeeds("train", "--data", "x.csv", "--test", "test.csv", *options)
    assert "test  test.csv: 8 rows, first row is the header" in out
