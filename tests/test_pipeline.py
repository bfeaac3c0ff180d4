"""The classifier as a Pipeline: labels that cannot be fitted, what it shows of itself."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from frozenbert import (
    DistilBertVectorizer,
    HubUnreachableError,
    InputError,
    LabelWarning,
    load_model,
    make_text_classifier,
    save_model,
)
from frozenbert.pipeline import TextPipeline

TEXTS = [f"a {word} film {n}" for n in range(10) for word in ("good", "bad")]
LABELS = np.array(["good", "bad"] * 10)
FLAGS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]] * 5)
FLOATS = np.random.default_rng(0).normal(size=20)

MISTAKES = {
    "one class": (
        ["a"] * 20,
        {},
        r"y: there is only one class \('a'\), and a class",
    ),
    "one-hot": (FLAGS, {}, r"y: has 3 columns, .* Each row has a single 1: .* y\.argmax\(axis=1\)"),
    "flags": (FLAGS | FLAGS[::-1], {}, "y: has 3 columns, .* one for each label, set multi_label"),
    "frame": (pd.DataFrame(FLAGS), {}, "y: has 3 columns, and a classifier takes one class"),
    "lists": ([["a", "b"], ["a"]] * 10, {}, "y: holds a list of labels .* set multi_label=True"),
    "classes": (LABELS, {"multi_label": True}, "y: one class for each text needs no multi_label"),
    "floats": (FLOATS, {}, r"y: holds numbers \(20 distinct ones in 20 rows.* task regression \("),
    "rounded": (FLOATS.round(1), {}, r"y: holds numbers .* task regression \("),
    "missing": ([None, *LABELS[1:]], {}, "y: 1 of 20 labels are missing, the first in row 0"),
    "NaN": ([0.0, float("nan")] * 10, {}, "y: 10 of 20 labels are missing, the first in row 1"),
    "fewer": (LABELS[:9], {}, "y: 9 labels for 20 texts"),
    "none": (None, {}, "y: labels are needed: one for each text"),
    "mixed": (
        np.array(["a", 1] * 10, object),
        {},
        r"y: labels of several types \(int, str\)",
    ),
    "few": (["a"] * 18 + ["b"] * 2, {"recipe": "plain"}, "cv=5: the class 'b' has 2 of 20 rows"),
    "alone": (["a"] * 19 + ["b"], {}, "the class 'b' has one training row, and two are needed"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_labels_that_cannot_be_fitted_are_one_line(tiny, mistake, monkeypatch):
    y, settings, message = MISTAKES[mistake]
    monkeypatch.setattr(DistilBertVectorizer, "_encoder", lambda self: pytest.fail("encoded"))
    model = make_text_classifier(tiny, cache_dir=None, **settings)
    with pytest.raises(InputError, match=message) as error:
        model.fit(TEXTS, y)
    assert "\n" not in str(error.value)


def test_whole_numbers_are_classes_and_said_to_be(tiny):
    texts, y = [f"film {n}" for n in range(60)], np.arange(60) // 2 * 3
    model = make_text_classifier(tiny, recipe="plain", C=0.1, cv=2, cache_dir=None)
    with pytest.warns(LabelWarning, match="30 distinct whole numbers in 60 rows") as record:
        model.fit(texts, y)
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", LabelWarning)
        model.fit(texts, np.arange(60) // 2)  # codes of classes


def test_few_rows_warn_in_the_users_file(tiny):
    model = make_text_classifier(tiny, cache_dir=None)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        model.fit(TEXTS[:4], LABELS[:4])
    assert any("2 folds instead of 5" in str(one.message) for one in record)
    assert {one.filename for one in record} == {__file__}


def test_cleaned_texts_and_frames_warn_of_nothing(tiny):
    model = make_text_classifier(tiny, search="features", clean=True, C=0.1, cache_dir=None)
    model.set_output(transform="pandas")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(TEXTS, LABELS)
        model.predict(TEXTS[:1])


def test_without_the_hub_the_error_says_what_to_write(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = make_text_classifier(local_files_only=True)
    with pytest.raises(HubUnreachableError, match="Without the hub, write 'all-MiniLM-L6-v2'"):
        model.fit(TEXTS, LABELS)


# What it shows


@pytest.fixture(scope="module")
def fitted(tiny):
    return make_text_classifier(tiny, cache_dir=None).fit(TEXTS, LABELS)


def test_summary_is_one_screen_with_what_was_chosen(fitted):
    shown = fitted.summary()
    lines = shown.splitlines()
    assert len(lines) < 25
    assert max(map(len, lines)) <= 120
    titles = [line.split("  ")[0] for line in lines if line[0] != " "]
    assert titles[:5] == ["encoder", "features", "head", "answer by", "out of fold"]
    head = fitted["classify"]
    best = head.best_params_
    assert f"layer {', '.join(map(str, best['layers']))}, pooling" in shown
    assert f"C = {best['C']:.2g}: accuracy {head.best_score_:.4f}" in shown
    for step in head.ladder_:
        if step["score"] is not None:
            (line,) = [line for line in lines if line.strip().startswith(f"{step['step']}  ")]
            assert f"{step['score']:.4f}" in line
            assert line.endswith("kept") == step["kept"]
    assert lines[-1] == "classes      2: 'bad', 'good'"
    assert repr(shown) == str(shown)


@pytest.mark.parametrize(
    "settings",
    [
        {"recipe": "plain", "C": 0.1, "cv": 2},
        {"multi_label": True, "C": 0.1, "cv": 2},
        {"recipe": "plain", "calibrate": "sigmoid", "C": 0.1, "cv": 2},
    ],
    ids=str,
)
def test_every_kind_of_model_has_a_summary(tiny, settings):
    y = FLAGS if "multi_label" in settings else LABELS
    model = make_text_classifier(tiny, cache_dir=None, **settings).fit(TEXTS, y)
    shown = model.summary()
    assert "C = 0.1" in shown
    assert len(shown.splitlines()) < 25


def test_a_saved_model_sums_itself_up_too(fitted, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(Path(tiny).parent))
    save_model(fitted, tmp_path / "model.joblib")
    for name in ("model.joblib", "model.skops"):
        loaded = load_model(tmp_path / name)
        assert isinstance(loaded, TextPipeline)
        assert loaded.summary() == fitted.summary()


def test_values_of_c_are_abridged(fitted):
    shown = repr(fitted)
    assert "[1e-05, ..., 10.0]" in shown
    assert len(shown.splitlines()) < 30
    page = fitted._repr_mimebundle_()["text/html"]
    assert page.startswith('<pre style="font-family: monospace">encoder')
    assert "[1e-05, ..., 10.0]" in page
    assert not clone(fitted)._repr_mimebundle_()["text/html"].startswith("<pre")
