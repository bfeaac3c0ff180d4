"""The recipe auto, from texts to a saved model: nothing is learned from test rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV

from frozenbert import load_model, make_text_classifier, save_model
from frozenbert.cli.main import main
from frozenbert.encoders.sources import PACKAGED_ENCODER
from frozenbert.errors import InputError
from frozenbert.fewshot.classifier import FewShotClassifier
from frozenbert.heads.stacking import StackedSearch
from frozenbert.heads.words import WordScores
from frozenbert.pipeline import predict
from frozenbert.training import hold_out, train
from frozenbert.utils.steps import find_step

REVIEWS = Path(__file__).resolve().parents[1] / "data" / "movie_reviews"
WORDS = {"bad": ("bad", "dull", "slow", "cold"), "good": ("good", "fine", "warm", "funny")}
THINGS = ("film", "plot", "scene", "actor")


@pytest.fixture(autouse=True)
def _find_encoder(tiny, monkeypatch):
    """Let saved models find their encoder."""
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(Path(tiny).parent))


def rows(n=48, labels=("bad", "good")):
    """Return texts and labels that words tell, some of them wrong."""
    label_of = [labels[i % 2] for i in range(n)]
    texts = [
        f"a {WORDS[label][i % 4]} {THINGS[i // 4 % 4]} {i}" for i, label in enumerate(label_of)
    ]
    return texts, np.array([labels[(i + (i % 9 == 0)) % 2] for i in range(n)])


def put(name, texts, labels):
    pd.DataFrame({"text": texts, "label": labels}).to_csv(name, sep="\t", index=False)


def same_model(one, other):
    """Tell whether two saved models have the same parts, and coefficients within rounding."""
    first, second = (load_model(Path(folder) / "model.skops") for folder in (one, other))
    texts = [f"a {word} {thing}" for pair in WORDS.values() for word in pair for thing in THINGS]
    columns = predict(first, texts), predict(second, texts)
    heads = first["classify"], second["classify"]
    words = [find_step(model, WordScores).words_["classify"] for model in (first, second)]
    numbers = [
        [h.plain_.coef_ if hasattr(h.plain_, "coef_") else np.empty(0) for h in heads],
        [h.search_.best_estimator_[-1].coef_ for h in heads],
        [[step["score"] or 0.0 for step in h.ladder_] for h in heads],
        [one.best_estimator_.coef_ for one in words],
        [one["proba_good"] for one in columns],
    ]
    kinds = [(h.parts_, h.calibration_, repr(h.best_params_)) for h in heads]
    return kinds[0] == kinds[1] and all(
        np.shape(a) == np.shape(b) and np.allclose(a, b, atol=1e-6) for a, b in numbers
    )


def command(tiny, out, *options):
    arguments = ["train", "--data", "train.tsv", "--encoder", tiny, "--out", out, "--C", "0.1"]
    assert main([*arguments, "--no-cache", *options]) == 0


def test_auto_is_the_default_of_the_command(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    put("train.tsv", *rows())
    command(tiny, "auto")
    printed = capsys.readouterr().out
    assert "recipe       auto: " in printed
    for step in ("vectors of the last layer", "words", "vectors", "vote of vectors and words"):
        assert f"\n{step} " in printed
    facts = json.loads(Path("auto/model.json").read_text("utf-8"))
    search = facts["metrics"]["search"]
    assert facts["parameters"]["recipe"] == "auto"
    assert [step["step"] for step in search["ladder"]][1:4] == [
        "words",
        "vectors",
        "vote of vectors and words",
    ]
    assert search["chosen"] in printed
    page = Path("auto/report.html").read_text("utf-8")
    assert "What each part adds" in page
    assert f"{search['ladder'][1]['score']:.4f}" in page


def test_options_that_are_given_are_kept(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    put("train.tsv", *rows())
    command(
        tiny, "given", "--no-with-tfidf", "--search", "head", "--calibrate", "sigmoid", "--cv", "3"
    )
    parameters = json.loads(Path("given/model.json").read_text("utf-8"))["parameters"]
    assert parameters["with_tfidf"] is False
    assert parameters["search"] == "head"
    assert parameters["calibrate"] == "sigmoid"
    assert parameters["cv"] == 3
    command(tiny, "none", "--calibrate", "none", "--class-weight", "none")
    parameters = json.loads(Path("none/model.json").read_text("utf-8"))["parameters"]
    assert (parameters["calibrate"], parameters["class_weight"]) == (None, None)


def test_the_plain_recipe_has_three_steps(tiny):
    texts, labels = rows()
    model = make_text_classifier(tiny, recipe="plain", C=[0.01, 0.1], cv=2, cache_dir=None)
    assert list(model.named_steps) == ["embed", "scale", "classify"]
    assert isinstance(model["classify"], GridSearchCV)
    assert model.fit(texts, labels).score(texts, labels) > 0.5
    with pytest.raises(InputError, match=r"recipe='best': one of 'auto', 'plain'"):
        make_text_classifier(tiny, recipe="best")


def test_other_test_rows_give_the_same_model(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put("train.tsv", *rows())
    texts, labels = rows(24)
    put("one.tsv", [f"{text} again" for text in texts], labels)
    put("other.tsv", [f"no {text[::-1]} 77" for text in texts[:16]], labels[:16][::-1])
    put(
        "mixed.tsv",
        [f"{text} again" for text in texts],
        np.where(np.arange(24) < 20, "good", "bad"),
    )
    for name in ("one", "other", "mixed"):
        command(tiny, name, "--test", f"{name}.tsv")
    metrics = [json.loads(Path(n, "metrics.json").read_text("utf-8")) for n in ("one", "mixed")]
    assert metrics[0]["accuracy"] != metrics[1]["accuracy"]
    assert same_model("one", "other")
    assert same_model("one", "mixed")
    # The comparison can fail: other training rows are another model.
    put("train.tsv", *(part[:40] for part in rows()))
    command(tiny, "fewer", "--test", "one.tsv")
    assert not same_model("one", "fewer")


def test_labels_of_held_out_rows_are_not_learned(tiny):
    texts, labels = rows(64)
    train_texts, test_texts, y, test_y = hold_out(texts, labels)
    models = []
    for held_out in (test_y, test_y[::-1], np.where(test_y == "good", "bad", "good")):
        model = make_text_classifier(tiny, C=[0.01, 0.1], cache_dir=None)
        models.append(train(model, train_texts, y, test_texts, held_out).model)
    p = [model.predict_proba(texts) for model in models]
    for other, model in zip(p[1:], models[1:], strict=True):
        np.testing.assert_allclose(other, p[0], atol=1e-6)
        scores = [[step["score"] for step in m[-1].ladder_] for m in (models[0], model)]
        assert scores[0] == pytest.approx(scores[1])


def test_held_out_rows_are_not_learned_by_the_command(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts, labels = rows(64)
    put("train.tsv", texts, labels)
    _, held_out, _, _ = hold_out(texts, labels)
    # Labels of two held-out rows of different classes are exchanged: the same rows are held out.
    first, second = (
        next(t for t in held_out if labels[texts.index(t)] == c) for c in ("bad", "good")
    )
    other = labels.copy()
    other[[texts.index(first), texts.index(second)]] = ["good", "bad"]
    monkeypatch.setattr(
        "frozenbert.training.hold_out",
        lambda t, y, seed: (
            [a for a in t if texts[int(a)] not in held_out],
            [a for a in t if texts[int(a)] in held_out],
            np.array([b for a, b in zip(t, y, strict=True) if texts[int(a)] not in held_out]),
            np.array([b for a, b in zip(t, y, strict=True) if texts[int(a)] in held_out]),
        ),
    )
    command(tiny, "as is")
    put("train.tsv", texts, other)
    command(tiny, "exchanged")
    assert same_model("as is", "exchanged")


@pytest.mark.parametrize("many", [False, True])
def test_a_model_is_saved_loaded_and_asked(many, tiny, tmp_path):
    texts, labels = rows(60)
    y = np.column_stack([labels == "good", np.arange(60) % 3 == 0]).astype(int) if many else labels
    model = make_text_classifier(tiny, multi_label=many, C=[0.01, 0.1], cache_dir=None)
    model.fit(texts, y)
    path = save_model(model, tmp_path / "model.joblib")
    expected = predict(model, texts)
    for form in (path, path.with_suffix(".skops")):
        loaded = load_model(form)
        for name, column in predict(loaded, texts).items():
            if name.startswith("proba_"):
                np.testing.assert_allclose(column, expected[name], atol=1e-6)
            else:
                assert (column == expected[name]).all()


def test_few_rows(tiny):
    texts, labels = rows(20)
    model = make_text_classifier(tiny, cache_dir=None).fit(texts, labels)
    assert isinstance(model["classify"], StackedSearch)
    assert model.predict(texts).shape == (20,)
    with pytest.raises(InputError, match="has one training row, and two are needed"):
        make_text_classifier(tiny, cache_dir=None).fit(texts[:7], [*"abababc"])


def test_few_labels_go_on_without_the_recipe(tiny):
    texts, labels = rows(16)
    assert FewShotClassifier(tiny, n_experts=2).fit(texts, labels).predict(texts[:2]).shape == (2,)


@pytest.mark.slow
def test_the_demo_beats_tf_idf(packaged, tmp_path, capsys):
    if not REVIEWS.is_dir():
        pytest.skip("make reviews")
    out = tmp_path / "out"
    data = ["--data", str(REVIEWS / "train.tsv"), "--test", str(REVIEWS / "test.tsv")]
    assert (
        main(["train", *data, "--encoder", PACKAGED_ENCODER, "--no-cache", "--out", str(out)]) == 0
    )
    metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    assert metrics["accuracy"] - metrics["baseline"]["accuracy"] >= 0.04
    steps = {step["step"]: step["score"] for step in metrics["search"]["ladder"]}
    assert steps["vote of vectors and words"] > max(steps["vectors"], steps["words"])
    assert steps["vectors"] > steps["vectors of the last layer"]
    assert "vote of vectors and words" in capsys.readouterr().out


def test_an_auto_model_is_exported_served_and_compared(tiny, tmp_path, monkeypatch, capsys):
    from frozenbert import export_model
    from frozenbert.serve.service import load_service

    monkeypatch.chdir(tmp_path)
    texts, labels = rows()
    put("train.tsv", texts, labels)
    command(tiny, "auto", "--title", "Films, auto")
    command(tiny, "plain", "--recipe", "plain", "--cv", "2")
    saved = load_model("auto")
    expected = predict(saved, texts[:8])
    light = predict(load_model(export_model("auto", "light")), texts[:8])
    service = load_service("auto", local_files_only=True)
    for found in (light, service.predict(texts[:8])):
        assert found["prediction"].tolist() == expected["prediction"].tolist()
        np.testing.assert_allclose(found["proba_good"], expected["proba_good"], atol=1e-5)
    assert service.title == "Films, auto"
    assert "<h1>Films, auto</h1>" in Path("auto/report.html").read_text("utf-8")
    capsys.readouterr()
    assert main(["compare", "auto", "plain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("auto ")]
    accuracy = json.loads(Path("auto/metrics.json").read_text("utf-8"))["accuracy"]
    assert f"{accuracy:.4f}" in line
