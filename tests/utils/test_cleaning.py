"""Addresses, mentions and markup are removed from texts."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenbert import (
    DistilBertVectorizer,
    InputError,
    load_model,
    make_text_classifier,
    save_model,
)
from frozenbert.cli.main import main
from frozenbert.utils.cleaning import clean_texts
from frozenbert.utils.steps import find_step


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see https://example.org/a?b=c#d now", "see now"),
        ("WWW.Example.org", ""),
        ("@anna_b, thanks", ", thanks"),
        ("write to anna@example.org", "write to anna@example.org"),
        ("a &lt;b&gt; &amp;amp;amp; c &#128514;", "a <b> & c 😂"),
        ("one<br /><BR>two\n\tthree\u00a0four", "one two three four"),
        ("#good 1 @ 2", "#good 1 @ 2"),
        ("Awww...so cute, ewww.gross", "Awww...so cute, ewww.gross"),
        ("black&notwhite &times", "black&notwhite &times"),
        ("", ""),
        ("한국어 @사용자 العربية", "한국어 العربية"),
    ],
)
def test_cleaned_texts(text, expected):
    assert clean_texts([text]) == [expected]


ODD = st.lists(st.sampled_from(["&", "amp;", "lt;", "#38;", "@a", "www.", " ", "<br>", "x", "é"]))


@given(st.one_of(st.text(), ODD.map("".join)))
def test_cleaned_texts_stay_as_they_are(text):
    (once,) = clean_texts([text])
    assert clean_texts([once]) == [once]
    assert once == " ".join(once.split())
    assert "<br>" not in once.lower()


def test_a_text_escaped_100_000_times_is_cleaned_fast():
    for again in ("amp;", "#38;", "#x26;"):
        assert clean_texts(["&" + again * 100_000 + "lt;"]) == ["<"]


def test_missing_texts():
    with pytest.raises(InputError, match=r"X\[1\] is None: drop such rows"):
        clean_texts(["a", None])
    assert clean_texts(["a", None], "empty") == ["a", ""]


TEXTS = ["good film @anna", "bad film https://x.org/good"] * 10


@pytest.mark.parametrize("settings", [{}, {"with_tfidf": True}, {"search": "features"}])
def test_it_is_part_of_the_saved_model(tiny, tmp_path, settings):
    model = make_text_classifier(
        tiny, recipe="plain", clean=True, cv=2, C=0.1, progress=False, **settings
    )
    model.fit(TEXTS, [1, 0] * 10)
    loaded = load_model(save_model(model, tmp_path / "model.joblib"))
    find_step(loaded, DistilBertVectorizer).set_params(model_name=tiny)
    noisy, plain = ["good  film @someone"], ["good film"]
    np.testing.assert_allclose(
        loaded.predict_proba(noisy), model.predict_proba(plain), rtol=0, atol=1e-5
    )


def test_the_command(tiny, tmp_path, capsys):
    path = tmp_path / "train.csv"
    pd.DataFrame({"text": TEXTS, "label": [1, 0] * 10}).to_csv(path, index=False)
    arguments = ["--data", str(path), "--model", tiny, "--cv", "2", "--clean"]
    assert main(["train", *arguments, "--out", str(tmp_path / "model")]) == 0
    sidecar = json.loads((tmp_path / "model" / "model.json").read_text())
    assert sidecar["parameters"]["clean"] is True
    capsys.readouterr()
    for text in ("good film @anna @berta", "good film"):
        model = ["--model", str(tmp_path / "model"), "--encoder", tiny]
        assert main(["classify", *model, "--text", text]) == 0
    first, second = capsys.readouterr().out.split("prediction")[1:]
    assert first == second
