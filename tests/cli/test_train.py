"""`train`: what it reads, prints and writes."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from frozenbert import load_model
from frozenbert.encoders.encoder import Encoder
from frozenbert.errors import InputError
from frozenbert.reports.plots import plot_confusion_matrix
from frozenbert.tables.writing import write_table
from frozenbert.utils.files import sha256_of_file

from .conftest import FILES, SECRET, put, rows, tree


@pytest.fixture
def handed_over(run, tiny, monkeypatch):
    """What `train` hands over to the training, which does not take place."""

    def handed_over(*arguments: object) -> SimpleNamespace:
        handed = SimpleNamespace()

        def instead(model, texts, labels, test_texts, test_labels, examples, numbers):
            handed.model, handed.texts, handed.test_texts = model, texts, test_texts
            handed.labels, handed.test_labels = labels.tolist(), test_labels.tolist()
            raise InputError("that will do")

        monkeypatch.setattr("frozenbert.training.train", instead)
        code, handed.out, err = run("train", "--encoder", tiny, *arguments)
        assert code == 2
        assert err.endswith(": that will do\n")
        return handed

    return handed_over


def test_train_prints_and_writes_everything(succeeds, tiny):
    out = succeeds("train", "--data", "train.tsv", "--encoder", tiny, "--cv", 3, "--C", "0.01,0.1")
    folder = Path("artifacts/train")
    assert set(os.listdir(folder)) == FILES
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    model = json.loads((folder / "model.json").read_text("utf-8"))
    search = metrics["search"]

    assert (metrics["n_train"], metrics["n_test"]) == (36, 12)
    assert metrics["per_class"]["1"]["support"] == 6
    assert metrics["baseline"]["accuracy"] == 1.0
    assert search["C"] == [0.01, 0.1]
    assert search["folds"] == 3
    assert search["best_score"] == max(search["mean_score"])
    for line in (
        "data  train.tsv: 48 rows, no header (if the first row names the columns, use --header), "
        "text in column '0', "
        "label in column '1'",
        "train  36 rows; ",
        "0: 18",
        "test  12 rows, a stratified quarter of train.tsv (seed 0)",
        f"encoder  tiny (folder, content {model['encoder']['content_hash'][:12]}): pooling cls, "
        "layer 3, at most 40 tokens, float32",
        f"head  C = {search['best_C']:.3g}, the best of 2: accuracy {search['best_score']:.4f}",
        f"tiny + logistic regression  {metrics['accuracy']:.4f}  {metrics['macro_f1']:.4f}\n",
        "TF-IDF + logistic regression  1.0000  1.0000\n",
        f"calibration  Brier score {metrics['calibration']['brier']:.4f}, calibration error ",
        f"95 % interval of the accuracy: {metrics['intervals']['accuracy'][0]:.4f} to ",
        "precision  recall  f1-score  support",
        "time  reading ",
        "vectors of the training texts ",
        "search ",
        "baseline of words ",
        "doubtful labels ",
        "written  artifacts/train: confusion_matrix.png, metrics.json, model.joblib, model.json, "
        "model.skops, ",
    ):
        assert line in out

    assert "agree" not in out
    assert "agreement" not in metrics
    assert model["metrics"] == metrics
    assert model["notice"] is None
    assert model["labels"] == [0, 1]
    assert model["parameters"] == {
        "recipe": "plain",
        "cv": 3,
        "seed": 0,
        "C": search["best_C"],
        "search": "head",
        "with_tfidf": False,
        "clean": False,
        "multi_label": False,
        "calibrate": None,
        "class_weight": None,
    }
    assert model["training"]["sha256"] == sha256_of_file("train.tsv")
    assert model["model_sha256"] == sha256_of_file(folder / "model.joblib")
    assert model["encoder"]["name"] == "tiny"
    assert model["encoder"]["revision"] is None
    assert model["versions"]["scikit-learn"]
    assert next(iter(model["seconds"])) == "reading"

    page = (folder / "report.html").read_text("utf-8")
    assert not re.search(r"https?://|file:|src=\"(?!data:)|<link|<script|@import|url\(", page)
    assert page.count('src="data:image/png;base64,') == 4
    assert f"{metrics['accuracy']:.4f}" in page
    for name in (name for name in FILES if name.endswith(".png")):
        with Image.open(folder / name) as image:
            image.load()
            assert min(image.size) > 300
    for name in ("model.json", "metrics.json"):
        assert SECRET not in (folder / name).read_text("utf-8")
    assert load_model(folder).predict(["a good fine warm film"]).shape == (1,)


def test_a_reduced_precision_is_held_against_float32(succeeds, tiny):
    options = ["--data", "train.tsv", "--encoder", tiny, "--cv", 3, "--C", "0.01,0.1"]
    out = succeeds("train", *options, "--precision", "int8", "--pooling", "mean")
    folder = Path("artifacts/train")
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    agreement = metrics["agreement"]
    assert agreement["n_texts"] == metrics["n_test"] == 12
    assert 0.99 < agreement["mean_cosine"] < 1
    assert 0.5 < agreement["equal_predictions"] <= 1
    assert f"mean cosine {agreement['mean_cosine']:.4f}, " in out
    assert "at most 40 tokens, int8\n" in out
    assert json.loads((folder / "model.json").read_text("utf-8"))["encoder"]["precision"] == "int8"
    assert "agreement with float32</th>" in (folder / "report.html").read_text("utf-8")
    # Trained and asked in the same precision, whoever loads it.
    assert load_model(folder).named_steps["embed"].precision_ == "int8"


@pytest.mark.parametrize("least", [0.9, 1.1])
def test_an_automatic_precision_is_printed_and_saved(succeeds, tiny, monkeypatch, least):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_vnni": True})
    monkeypatch.setattr("frozenbert.reports.agreement.LEAST_COSINE", least)
    monkeypatch.setattr("frozenbert.reports.agreement.LEAST_EQUAL", 0)
    options = ["--data", "train.tsv", "--encoder", tiny, "--cv", 3, "--C", "0.1"]
    out = succeeds("train", *options, "--precision", "auto", "--device", "cpu")
    chosen, says = ("int8", "chosen") if least < 1 else ("float32", "not close enough to float32")
    assert f"at most 40 tokens, {chosen}\n" in out
    facts = json.loads(Path("artifacts/train/model.json").read_text("utf-8"))["encoder"]
    trial = facts["precision_trials"]["int8"]
    assert (facts["precision"], trial["n_texts"]) == (chosen, 36)
    assert f"int8  {says}: mean cosine {trial['mean_cosine']:.4f}, " in out
    assert "of the labels equal on 36 of the texts\n" in out
    assert load_model("artifacts/train").named_steps["embed"].precision_ == chosen
    # Labels come from the test texts, too, if the precision is a reduced one.
    assert ("agrees with float32 on 12 test texts" in out) == (chosen == "int8")


@pytest.mark.parametrize(
    "name", ["x.tsv", "x.csv", "X.CSV.GZ", "x.jsonl", "x.jsonl.gz", "x.parquet"]
)
def test_every_format(handed_over, name):
    put(name, rows())
    handed = handed_over("--data", name)
    texts, labels = handed.texts + handed.test_texts, handed.labels + handed.test_labels
    assert len(handed.test_texts) == 12
    assert sorted(zip(texts, labels, strict=True)) == sorted(rows().itertuples(index=False))


def test_out_is_named_after_the_data(succeeds, tiny):
    put("my.reviews.CSV.GZ", rows())
    out = succeeds("train", "--data", "my.reviews.CSV.GZ", "--encoder", tiny, "--C", 0.1, "--cv", 2)
    assert "written  artifacts/my.reviews: " in out
    assert set(os.listdir("artifacts/my.reviews")) == FILES


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["named.csv"],
            "first row is the header (if it is data, use --no-header), text in column 'te",
        ),
        (["named.csv", "--header"], "first row is the header, text in column 'text'"),
        (
            ["train.tsv"],
            "no header (if the first row names the columns, use --header), text in column '0'",
        ),
        (["train.tsv", "--no-header"], "no header, text in column '0', label in column '1'"),
    ],
)
def test_header_is_guessed_or_said(handed_over, options, says):
    put("named.csv", rows(), header=True)
    handed = handed_over("--data", *options)
    assert len(handed.texts + handed.test_texts) == 48
    assert f": 48 rows, {says}" in handed.out


def test_columns_by_name_and_by_position(handed_over):
    frame = rows().assign(other=rows()["text"], stars=[i // 24 for i in range(48)])
    put("named.csv", frame, header=True)
    put("plain.csv", frame)
    for data, text, label in (("named.csv", "other", "stars"), ("plain.csv", "2", "3")):
        handed = handed_over("--data", data, "--text-column", text, "--label-column", label)
        assert f"text in column '{text}', label in column '{label}'" in handed.out
        assert Counter(handed.labels) == {0: 18, 1: 18}
        first = min(handed.texts + handed.test_texts, key=lambda text: int(text.split()[-2]))
        assert first == rows()["text"][0]


def test_a_header_of_unusual_names_is_one_if_they_are_asked_for(handed_over):
    frame = rows(labels=("bad", "good")).set_axis(["what they said", "stars"], axis="columns")
    put("x.csv", frame, header=True)
    named = ["--text-column", "what they said", "--label-column", "stars"]
    assert "48 rows, first row is the header" in handed_over("--data", "x.csv", *named).out


def test_split(handed_over):
    first = handed_over("--data", "train.tsv")
    assert Counter(first.test_labels) == {0: 6, 1: 6}
    assert len(first.texts) == 36
    assert not set(first.texts) & set(first.test_texts)
    assert handed_over("--data", "train.tsv").test_texts == first.test_texts
    assert handed_over("--data", "train.tsv", "--seed", 1).test_texts != first.test_texts


def test_test_file(handed_over):
    put("test.csv", rows(10), header=True)
    put("train.csv", rows(), header=True)
    handed = handed_over("--data", "train.csv", "--test", "test.csv")
    assert handed.texts == rows()["text"].tolist()
    assert handed.test_texts == rows(10)["text"].tolist()
    assert handed.test_labels == [0, 1] * 5
    assert "train  48 rows; 0: 24, 1: 24\n" in handed.out
    says = "test  test.csv: 10 rows, first row is the header (if it is data, use --no-header), text"
    assert says in handed.out


def test_labels_of_the_test_file_are_those_of_training(handed_over):
    put("train.jsonl", rows(labels=("0", "1")))  # strings, and in the csv file whole numbers
    put("test.csv", rows(10), header=True)
    assert handed_over("--data", "train.jsonl", "--test", "test.csv").test_labels == ["0", "1"] * 5


def test_limit_takes_the_first_rows(handed_over):
    handed = handed_over("--data", "train.tsv", "--limit", 20)
    assert sorted(handed.texts + handed.test_texts) == sorted(rows()["text"][:20])
    put("test.tsv", rows(30))
    limited = handed_over("--data", "train.tsv", "--limit", 20, "--test", "test.tsv")
    assert (len(limited.texts), len(limited.test_texts)) == (20, 30)


def test_options_reach_the_model(handed_over, tiny):
    options = "--cv 3 --C 0.5,2 --seed 7 --n-jobs 2 --pooling cls,mean --layers 1,-1 "
    options += "--max-length 12 --device cpu --backend auto --precision float32 --offline"
    parameters = handed_over("--data", "train.tsv", *options.split()).model.get_params()
    expected = {
        "classify__cv": parameters["classify__cv"],
        "classify__param_grid": {"C": [0.5, 2.0]},
        "classify__n_jobs": 2,
        "embed__model_name": tiny,
        "embed__pooling": ("cls", "mean"),
        "embed__layers": (1, -1),
        "embed__max_length": 12,
        "embed__device": "cpu",
        "embed__local_files_only": True,
        "embed__cache_dir": Path("artifacts/cache"),
    }
    assert {name: parameters[name] for name in expected} == expected
    assert (parameters["classify__cv"].n_splits, parameters["classify__cv"].random_state) == (3, 7)
    one = handed_over("--data", "train.tsv", "--C", 3).model.get_params()
    assert one["classify__param_grid"] == {"C": [3.0]}


def test_one_value_of_c_and_one_test_row(succeeds, tiny):
    put("test.tsv", rows(1, start=100))
    options = ["--data", "train.tsv", "--test", "test.tsv", "--encoder", tiny]
    out = succeeds("train", *options, "--cv", 2, "--C", 0.1, "--out", "one")
    assert "head  C = 0.1, the best of 1: accuracy" in out
    assert json.loads(Path("one/metrics.json").read_text())["n_test"] == 1


HARD_LABELS = ("<b>bold</b>", "$x_{$", "one\ntwo", 'a "&amp;"', "accuracy", "macro avg", "好", "ñ")


def test_hard_labels(succeeds, tiny):
    frame = rows(96, HARD_LABELS)
    write_table(frame, "train.csv")
    write_table(frame[["text"]], "new.csv")
    options = ["--encoder", tiny, "--C", 0.1]
    out = succeeds("train", "--data", "train.csv", *options, "--cv", 2, "--out", "hard")
    assert "one\\ntwo: 9" in out
    page = Path("hard/report.html").read_text("utf-8")
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;</td>" in page
    assert "a &#34;&amp;amp;&#34;</td>" in page
    metrics = json.loads(Path("hard/metrics.json").read_text("utf-8"))
    assert set(metrics["per_class"]) == set(HARD_LABELS)
    assert {figures["support"] for figures in metrics["per_class"].values()} == {3}

    succeeds("classify", "--model", "hard", "--data", "new.csv", "--out", "out.csv")
    found = pd.read_csv("out.csv")
    assert list(found.columns[2:]) == [f"proba_{label}" for label in sorted(HARD_LABELS)]
    assert found["prediction"].tolist() == load_model("hard").predict(frame["text"]).tolist()


def test_a_class_that_is_never_recognised_is_pointed_out(succeeds, tiny):
    calm = rows(44, ("calm",))
    write_table(pd.concat([calm, rows(4, ("rude",), start=100)]), "train.csv")
    options = ["--data", "train.csv", "--encoder", tiny, "--C", 1e-5, "--cv", 3, "--limit", 48]
    out = succeeds("train", *options, "--out", "deaf")
    assert "missed  no test row is recognised of 'rude' (1): label more such rows, " in out
    assert "--class-weight balanced\n" in out
    says = "recognises no test row of &#39;rude&#39; (1). Label more"
    assert says in Path("deaf/report.html").read_text("utf-8")
    out = succeeds("train", "--data", "train.tsv", "--encoder", tiny, "--C", 1, "--cv", 2)
    assert "missed" not in out
    assert "no test row" not in Path("artifacts/train/report.html").read_text("utf-8")


def test_many_classes(succeeds, tiny):
    put("train.tsv", rows(176, tuple(f"class {i}" for i in range(22))))
    options = ["--encoder", tiny, "--C", 0.01, "--cv", 2]
    out = succeeds("train", "--data", "train.tsv", *options)
    assert re.search(r"train  132 rows; (class \d+: 6, ){19}class \d+: 6 and 2 more\n", out)
    page = Path("artifacts/train/report.html").read_text("utf-8")
    figures = page.partition("<h2>Class by class</h2>")[2].partition("<h2>")[0]
    assert figures.count('<td class="wrap">class') == 22


@pytest.mark.parametrize("n", [1, 2, 30, 200])
def test_confusion_matrix_of_any_size(n):
    labels = np.array([f"$x_{{$ a long name\n好 {i}" for i in range(n)], dtype=object)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_confusion_matrix(labels, np.roll(labels, 1), "x.png")
    with Image.open("x.png") as image:
        image.load()
        assert 500 < image.size[0] == image.size[1] < 2500


def test_vectors_are_cached(succeeds, tiny, monkeypatch):
    encoded = []
    encode = Encoder.encode
    monkeypatch.setattr(
        Encoder, "encode", lambda *args: encoded.append(len(args[1])) or encode(*args)
    )
    options = ["--data", "train.tsv", "--encoder", tiny, "--C", 0.1, "--cv", 2]
    succeeds("train", *options, "--no-cache", "--out", "first")
    assert sum(encoded) == 48
    assert not Path("artifacts").exists()
    succeeds("train", *options, "--out", "second")
    assert sum(encoded) == 96
    assert os.listdir("artifacts/cache") == ["vectors"]
    succeeds("train", *options, "--out", "third")
    succeeds("classify", "--data", "train.tsv", "--model", "third", "--out", "out.tsv")
    succeeds(
        "embed", "--data", "train.tsv", "--encoder", tiny, "--out", "out.npy", "--label-column", 1
    )
    assert sum(encoded) == 96
    succeeds("train", *options, "--cache-dir", "elsewhere", "--out", "fourth")
    assert sum(encoded) == 144
    assert os.listdir("elsewhere") == ["vectors"]
    first, second, third = (
        json.loads(Path(name, "metrics.json").read_text()) for name in ("first", "second", "third")
    )
    assert second == third
    assert first["accuracy"] == second["accuracy"]
    assert first["calibration"] == pytest.approx(second["calibration"], abs=1e-5)


def test_what_is_in_the_folder_already(succeeds, refuses, tiny):
    Path("mine/search.png").mkdir(parents=True)
    Path("mine/notes.txt").touch()
    options = ["--data", "train.tsv", "--encoder", tiny, "--C", 0.1, "--cv", 2, "--no-cache"]
    refuses("mine/search.png: is a folder", "train", *options, "--out", "mine")
    Path("mine/search.png").rmdir()
    Path("mine/model.json").write_text("the old one")
    succeeds("train", *options, "--out", "mine")
    assert set(os.listdir("mine")) == {*FILES, "notes.txt"}
    assert json.loads(Path("mine/model.json").read_text())["labels"] == [0, 1]


def test_a_model_is_saved_before_it_is_shown(run, tiny, monkeypatch):
    monkeypatch.setattr("frozenbert.cli.output.print_training", None)  # calling it fails
    options = ["--data", "train.tsv", "--encoder", tiny, "--C", 0.1, "--cv", 2]
    assert run("train", *options)[0] == 1
    assert set(os.listdir("artifacts/train")) == FILES


def test_a_report_that_fails_leaves_nothing(run, tiny, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of\nluck")

    monkeypatch.setattr("frozenbert.training.saving.write_report", broken)
    before = tree()
    options = ["--data", "train.tsv", "--encoder", tiny, "--C", 0.1, "--cv", 2, "--no-cache"]
    code, _, err = run("train", *options, "--out", "new")
    assert code == 1
    assert re.fullmatch(r".*: RuntimeError: out of luck \(--debug shows where\)\n", err)
    assert tree() == before


@pytest.mark.slow
def test_packaged_encoder_stands_in_for_distilbert(run, packaged):
    import ipykernel  # noqa: F401 # as whoever starts a notebook has; no bar for that

    notice = (
        "distilbert-base-uncased is not on disk and the hub is out of reach: using the packaged "
        "encoder all-MiniLM-L6-v2."
    )
    code, out, err = run("train", "--data", "train.tsv", "--C", 0.1, "--cv", 2)
    assert (code, err) == (0, f"{notice}\n")
    assert "encoder  all-MiniLM-L6-v2 (packaged, content " in out
    model = json.loads(Path("artifacts/train/model.json").read_text())
    assert (model["notice"], model["encoder"]["name"]) == (notice, packaged)
    assert notice in Path("artifacts/train/report.html").read_text()
    code, out, err = run("embed", "--data", "train.tsv", "--label-column", 1, "--out", "out.npy")
    assert (code, err) == (0, f"{notice}\n")
    assert json.loads(Path("out.json").read_text())["notice"] == notice
