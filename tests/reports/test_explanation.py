"""The words behind an answer."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from frozenbert import InputError, MissingLibraryError, explain, make_text_classifier
from frozenbert.reports.explanation import explain_answer

VALUES = {"good": 1.0, "fine": 0.5, "bad": -1.0, "awful": -2.0}


class Counts:
    """A classifier that adds up the values of words."""

    classes_ = np.array(["bad", "good"])

    def predict_proba(self, texts):
        total = [sum(VALUES.get(word, 0) for word in text.split()) for text in texts]
        good = 1 / (1 + np.exp(-np.array(total)))
        return np.stack([1 - good, good], axis=1)


def weights(found):
    return {word.word: word.weight for word in found.words}


def test_words_for_and_against_a_label():
    found = explain(Counts(), "an awful plot, a fine cast", method="occlusion")
    assert found.label == "bad"
    p = Counts().predict_proba(["an awful plot, a fine cast", "an plot, a fine cast"])[:, 0]
    assert found.probability == pytest.approx(p[0])
    assert weights(found)["awful"] == pytest.approx(p[0] - p[1])
    assert weights(found)["fine"] < 0
    assert [found.text[word.start :][: len(word.word)] for word in found.words] == [
        word.word for word in found.words
    ]
    other = explain(Counts(), "an awful plot, a fine cast", "good", method="occlusion")
    assert weights(other)["awful"] == pytest.approx(-weights(found)["awful"])


def test_words_of_which_others_do_the_same():
    text = "good " * 5 + "film"
    found = explain(Counts(), text, method="occlusion")
    assert max(word.weight for word in found.words) < 0.05
    assert found.without == pytest.approx(0.5)
    pytest.importorskip("shap")
    state = np.random.get_state()[1].tolist()
    found = explain(Counts(), text, method="shapley")
    assert np.random.get_state()[1].tolist() == state
    *of_good, of_film = [word.weight for word in found.words]
    assert of_film == pytest.approx(0)
    assert min(of_good) > 0.05
    assert sum(of_good) == pytest.approx(found.probability - 0.5)
    assert found.method == "shapley"


def test_the_method(monkeypatch):
    from frozenbert.reports import explanation

    with pytest.raises(InputError, match="method='lime': 'auto', 'shapley' or 'occlusion'"):
        explain(Counts(), "a good film", method="lime")
    monkeypatch.setattr(explanation, "is_installed", lambda name: False)
    assert explain(Counts(), "a good film").method == "occlusion"
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(MissingLibraryError, match=r'pip install "frozenbert\[explain\]"'):
        explain(Counts(), "a good film", method="shapley")


@pytest.mark.parametrize("text", ["a film and a plot", "", "   "])
def test_nothing_is_shown_where_words_do_not_explain_the_answer(text):
    found = explain(Counts(), text)
    assert found.words == []
    assert "no single words explain it" in repr(found)
    assert "no single words explain it" in found._repr_html_()


def test_the_first_64_words_are_tried():
    asked = []

    def ask(texts):
        asked.extend(texts)
        return Counts().predict_proba(texts)

    text = "good " + " ".join(f"word{n}" for n in range(69))
    found = explain_answer(ask, ["bad", "good"], text, method="occlusion")
    assert (len(found.words), found.n_words) == (64, 70)
    assert len(asked) == len(set(asked)) == 65, "each part once"
    pytest.importorskip("shap")
    asked.clear()
    explain_answer(ask, ["bad", "good"], text, method="shapley")
    assert 200 < len(asked) <= 400


def test_wrong_input():
    with pytest.raises(InputError, match="text: one text, as a string"):
        explain(Counts(), ["a film"])
    with pytest.raises(InputError, match="label: this model has no such label; it has bad, good"):
        explain(Counts(), "a film", "ugly")
    with pytest.raises(InputError, match="predicts no probabilities"):
        explain(object(), "a film")
    with pytest.raises(NotFittedError, match="TextPipeline instance is not fitted yet"):
        explain(make_text_classifier("all-MiniLM-L6-v2"), "a film")


def test_a_page_escapes_the_text():
    found = explain(Counts(), "<b>awful</b> awful & bad")
    page = found._repr_html_()
    assert "<b>awful" not in page
    assert "&lt;b&gt;awful&lt;/b&gt;" in page
    assert repr(found).splitlines()[1].endswith("awful")


def test_parts_of_the_text_are_not_stored(tiny, tmp_path):
    texts = [f"a {word} film {n}" for n in range(8) for word in ("good", "bad")]
    cache = tmp_path / "cache"
    model = make_text_classifier(tiny, recipe="plain", C=1.0, cv=2, cache_dir=cache)
    model.fit(texts, ["yes", "no"] * 8)
    before = sorted(cache.rglob("*"))
    found = explain(model, "a good film, and fun")
    assert found.n_words == 5
    assert sorted(cache.rglob("*")) == before
    assert model["embed"].cache_dir == cache
