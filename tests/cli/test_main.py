"""What the commands take, print, write and refuse; in this process, with a tiny encoder."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
import shutil
import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from frozenbert import DistilBertVectorizer, __version__, load_model
from frozenbert.cli.main import classify, embed, main, train
from frozenbert.encoders.encoder import Encoder
from frozenbert.errors import InputError
from frozenbert.reports.plots import plot_confusion_matrix
from frozenbert.tables.reading import write_table
from frozenbert.utils.files import sha256_of_file

SECRET = "zyzzyva"  # stands in every text, and must turn up nowhere else
FILES = {
    "confusion_matrix.png",
    "metrics.json",
    "model.joblib",
    "model.skops",
    "model.json",
    "precision_recall.png",
    "reliability.png",
    "report.html",
    "search.png",
}


def rows(n: int = 48, labels: tuple[object, ...] = (0, 1)) -> pd.DataFrame:
    """Rows whose labels a TF-IDF of words can tell; no two texts are alike."""
    words = ["bad dull poor", "good fine warm", "slow cold hollow", "great fun funny"]
    texts = [f"{words[i % len(labels) % 4]} film {i} {SECRET}" for i in range(n)]
    return pd.DataFrame({"text": texts, "label": [labels[i % len(labels)] for i in range(n)]})


def put(name: str, frame: pd.DataFrame, header: bool = False) -> str:
    """Write a table, a tsv or csv without a header if none is asked for."""
    if header or "json" in name or "parquet" in name:
        write_table(frame, name)
    else:
        frame.to_csv(name, sep="\t" if ".tsv" in name else ",", header=False, index=False)
    return name


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, tiny):
    """A folder of our own to work in, with 48 rows of two classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(Path(tiny).parent))  # for saved models
    put("train.tsv", rows())
    return tmp_path


@pytest.fixture
def run(capsys):
    """Call a command; its exit code, stdout and stderr."""

    def run(command, *arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = command([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert SECRET not in out + err
        return code, out, err

    return run


@pytest.fixture
def succeeds(run):
    """Call a command that has to end with 0 and without a word on stderr; its stdout."""

    def succeeds(command, *arguments: object) -> str:
        code, out, err = run(command, *arguments)
        assert (code, err) == (0, "")
        return out

    return succeeds


def tree(folder: Path = Path()) -> dict[str, bytes | None]:
    """All files and folders in here, with their content."""
    return {str(path): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


@pytest.fixture
def refuses(run):
    """Call a command that has to end with 2, one line of this pattern, and no trace on disk."""

    def refuses(says: str, command, *arguments: object) -> None:
        before = tree()
        code, _, err = run(command, *arguments)
        assert code == 2, err
        assert re.fullmatch(rf"[^\n]*{says}[^\n]*\n", err), err
        assert tree() == before

    return refuses


@pytest.fixture
def handed_over(run, tiny, monkeypatch):
    """What `train` hands over to the training, which does not take place."""

    def handed_over(*arguments: object) -> SimpleNamespace:
        handed = SimpleNamespace()

        def instead(model, texts, labels, test_texts, test_labels, examples):
            handed.model, handed.texts, handed.test_texts = model, texts, test_texts
            handed.labels, handed.test_labels = labels.tolist(), test_labels.tolist()
            raise InputError("that will do")

        monkeypatch.setattr("frozenbert.cli.training_actions.train_model", instead)
        code, handed.out, err = run(train, "--model", tiny, *arguments)
        assert code == 2
        assert err.endswith(": that will do\n")
        return handed

    return handed_over


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory) -> Path:
    """The folder of a model of the classes 'bad' and 'good', from a column `review`."""
    folder = tmp_path_factory.mktemp("trained")
    frame = rows(labels=("bad", "good")).rename(columns={"text": "review"})
    write_table(frame, folder / "train.csv")
    arguments = ["--data", folder / "train.csv", "--out", folder / "model", "--model", tiny]
    arguments += ["--no-cache", "--cv", 2, "--C", "0.01,0.1", "--text-column", "review"]
    assert train([str(argument) for argument in arguments]) == 0
    return folder / "model"


# train


def test_train_prints_and_writes_everything(succeeds, tiny):
    out = succeeds(train, "--data", "train.tsv", "--model", tiny, "--cv", 3, "--C", "0.01,0.1")
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
        "data     train.tsv: 48 rows, no header (a guess; else --header), text in column '0', "
        "label in column '1'",
        "train    36 rows; ",
        "0: 18",
        "test     12 rows, a stratified quarter of train.tsv (seed 0)",
        f"encoder  tiny (folder, content {model['encoder']['content_hash'][:12]}): pooling cls, "
        "layer 3, at most 40 tokens, float32",
        f"head     C = {search['best_C']:.3g}, the best of 2: accuracy {search['best_score']:.4f}",
        f"tiny + logistic regression       {metrics['accuracy']:.4f}     "
        f"{metrics['macro_f1']:.4f}\n",
        "TF-IDF + logistic regression     1.0000     1.0000\n",
        f"chances  Brier score {metrics['calibration']['brier']:.4f}, calibration error ",
        f"95 % of resampled test rows: accuracy {metrics['intervals']['accuracy'][0]:.4f} to ",
        "precision    recall  f1-score   support",
        "time     reading ",
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
    options = ["--data", "train.tsv", "--model", tiny, "--cv", 3, "--C", "0.01,0.1"]
    out = succeeds(train, *options, "--precision", "int8", "--pooling", "mean")
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
    assert load_model(folder).named_steps["embed"].precision == "int8"


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
    out = succeeds(train, "--data", "my.reviews.CSV.GZ", "--model", tiny, "--C", 0.1, "--cv", 2)
    assert "written  artifacts/my.reviews: " in out
    assert set(os.listdir("artifacts/my.reviews")) == FILES


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["named.csv"], "first row is the header (a guess; else --no-header), text in column 'te"),
        (["named.csv", "--header"], "first row is the header, text in column 'text'"),
        (["train.tsv"], "no header (a guess; else --header), text in column '0'"),
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
    assert "train    48 rows; 0: 24, 1: 24\n" in handed.out
    says = "test     test.csv: 10 rows, first row is the header (a guess; else --no-header), text"
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
    put("test.tsv", rows(1))
    options = ["--data", "train.tsv", "--test", "test.tsv", "--model", tiny]
    out = succeeds(train, *options, "--cv", 2, "--C", 0.1, "--out", "one")
    assert "head     C = 0.1, the best of 1: accuracy" in out
    assert json.loads(Path("one/metrics.json").read_text())["n_test"] == 1


HARD_LABELS = ("<b>bold</b>", "$x_{$", "one\ntwo", 'a "&amp;"', "accuracy", "macro avg", "好", "ñ")


def test_hard_labels(succeeds, tiny):
    frame = rows(96, HARD_LABELS)
    write_table(frame, "train.csv")
    write_table(frame[["text"]], "new.csv")
    options = ["--model", tiny, "--C", 0.1]
    out = succeeds(train, "--data", "train.csv", *options, "--cv", 2, "--out", "hard")
    assert "one\\ntwo: 9" in out
    page = Path("hard/report.html").read_text("utf-8")
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;</td>" in page
    assert "a &#34;&amp;amp;&#34;</td>" in page
    metrics = json.loads(Path("hard/metrics.json").read_text("utf-8"))
    assert set(metrics["per_class"]) == set(HARD_LABELS)
    assert {figures["support"] for figures in metrics["per_class"].values()} == {3}

    succeeds(classify, "--model", "hard", "--data", "new.csv", "--out", "out.csv")
    found = pd.read_csv("out.csv")
    assert list(found.columns[2:]) == [f"proba_{label}" for label in sorted(HARD_LABELS)]
    assert found["prediction"].tolist() == load_model("hard").predict(frame["text"]).tolist()


def test_many_classes(succeeds, tiny):
    put("train.tsv", rows(176, tuple(f"class {i}" for i in range(22))))
    options = ["--model", tiny, "--C", 0.01, "--cv", 2]
    out = succeeds(train, "--data", "train.tsv", *options)
    assert re.search(r"train    132 rows; (class \d+: 6, ){19}class \d+: 6 and 2 more\n", out)
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
    options = ["--data", "train.tsv", "--model", tiny, "--C", 0.1, "--cv", 2]
    succeeds(train, *options, "--no-cache", "--out", "first")
    assert sum(encoded) == 48
    assert not Path("artifacts").exists()
    succeeds(train, *options, "--out", "second")
    assert sum(encoded) == 96
    assert os.listdir("artifacts/cache") == ["vectors"]
    succeeds(train, *options, "--out", "third")
    succeeds(classify, "--data", "train.tsv", "--model", "third", "--out", "out.tsv")
    succeeds(embed, "--data", "train.tsv", "--model", tiny, "--out", "out.npy", "--label-column", 1)
    assert sum(encoded) == 96
    succeeds(train, *options, "--cache-dir", "elsewhere", "--out", "fourth")
    assert sum(encoded) == 144
    assert os.listdir("elsewhere") == ["vectors"]
    metrics = [Path(name, "metrics.json").read_text() for name in ("first", "second", "third")]
    assert metrics[0] == metrics[1] == metrics[2]


def test_what_is_in_the_folder_already(succeeds, refuses, tiny):
    Path("mine/search.png").mkdir(parents=True)
    Path("mine/notes.txt").touch()
    options = ["--data", "train.tsv", "--model", tiny, "--C", 0.1, "--cv", 2, "--no-cache"]
    refuses("mine/search.png: is a folder, and in the way", train, *options, "--out", "mine")
    Path("mine/search.png").rmdir()
    Path("mine/model.json").write_text("the old one")
    succeeds(train, *options, "--out", "mine")
    assert set(os.listdir("mine")) == {*FILES, "notes.txt"}
    assert json.loads(Path("mine/model.json").read_text())["labels"] == [0, 1]


def test_a_model_is_saved_before_it_is_shown(run, tiny, monkeypatch):
    monkeypatch.setattr("frozenbert.cli.training_actions.print_training", None)  # calling it fails
    options = ["--data", "train.tsv", "--model", tiny, "--C", 0.1, "--cv", 2]
    assert run(train, *options)[0] == 1
    assert set(os.listdir("artifacts/train")) == FILES


def test_a_report_that_fails_leaves_nothing(run, tiny, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of\nluck")

    monkeypatch.setattr("frozenbert.training.write_report", broken)
    before = tree()
    options = ["--data", "train.tsv", "--model", tiny, "--C", 0.1, "--cv", 2, "--no-cache"]
    code, _, err = run(train, *options, "--out", "new")
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
    code, out, err = run(train, "--data", "train.tsv", "--C", 0.1, "--cv", 2)
    assert (code, err) == (0, f"{notice}\n")
    assert "encoder  all-MiniLM-L6-v2 (packaged, content " in out
    model = json.loads(Path("artifacts/train/model.json").read_text())
    assert (model["notice"], model["encoder"]["name"]) == (notice, packaged)
    assert notice in Path("artifacts/train/report.html").read_text()
    code, out, err = run(embed, "--data", "train.tsv", "--label-column", 1, "--out", "out.npy")
    assert (code, err) == (0, f"{notice}\n")
    assert json.loads(Path("out.json").read_text())["notice"] == notice


# classify


def test_classify_adds_columns(succeeds, trained):
    frame = rows(9)[["text"]].rename(columns={"text": "review"})
    frame.insert(0, "id", [f"00{i}" for i in range(9)])
    write_table(frame, "new.csv")
    out = succeeds(classify, "--model", trained, "--data", "new.csv", "--out", "deep/out.csv")
    found = pd.read_csv("deep/out.csv", dtype={"id": "str"})
    assert list(found.columns) == ["id", "review", "prediction", "proba_bad", "proba_good"]
    assert found[["id", "review"]].equals(frame)
    model = load_model(trained)
    assert found["prediction"].tolist() == model.predict(frame["review"]).tolist()
    probabilities = found[["proba_bad", "proba_good"]].to_numpy()
    assert probabilities == pytest.approx(model.predict_proba(frame["review"]), abs=1e-5)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert "data     new.csv: 9 rows, first row is the header (a guess; else --no-header)" in out
    counts = found["prediction"].value_counts()
    assert all(f"{label}: {n}" in out for label, n in counts.items())
    assert "written  deep/out.csv\n" in out
    # The same where the model is in memory, and named as a file.
    succeeds(
        classify, "--model", trained / "model.joblib", "--data", "new.csv", "--out", "again.csv"
    )
    assert Path("again.csv").read_bytes() == Path("deep/out.csv").read_bytes()


@pytest.mark.parametrize("name", ["out.tsv", "out.csv.gz", "out.jsonl", "out.parquet"])
def test_classify_writes_every_format(succeeds, trained, name):
    put("new.tsv", rows(5)[["text"]])
    succeeds(classify, "--model", trained, "--data", "new.tsv", "--out", name)
    read = {"tsv": pd.read_table, "gz": pd.read_csv, "parquet": pd.read_parquet}
    read["jsonl"] = lambda path: pd.read_json(path, lines=True)
    found = read[name.split(".")[-1]](name)
    assert list(found.columns.map(str)) == ["0", "prediction", "proba_bad", "proba_good"]
    assert found.iloc[:, 0].tolist() == rows(5)["text"].tolist()
    assert found.iloc[:, 2:].sum(axis=1).to_numpy() == pytest.approx(1)


def test_classify_one_text(succeeds, trained):
    out = succeeds(classify, "--model", trained, "--text", f"a good film, {SECRET}")
    model = load_model(trained)
    label = model.predict([f"a good film, {SECRET}"])[0]
    bad, good = model.predict_proba([f"a good film, {SECRET}"])[0]
    assert out == f"prediction\t{label}\nproba_bad\t{bad:.4f}\nproba_good\t{good:.4f}\n"
    assert succeeds(classify, "--model", trained, "--text", "").startswith("prediction\t")


def test_classify_remembers_the_column(succeeds, refuses, trained):
    frame = rows(5).rename(columns={"text": "review"}).assign(comment=rows(5)["text"])
    write_table(frame, "new.csv")
    options = ["--model", trained, "--data", "new.csv", "--out", "out.csv"]
    assert "text in column 'review'" in succeeds(classify, *options)
    other = succeeds(classify, *options, "--text-column", "comment")
    assert "text in column 'comment'" in other
    write_table(frame.rename(columns={"review": "text"}), "new.csv")
    refuses("which column holds the texts", classify, *options)
    # The name given counts, and not the one remembered, for what makes a header.
    write_table(frame[["comment"]].rename(columns={"comment": "what they said"}), "new.csv")
    said = succeeds(classify, *options, "--text-column", "what they said")
    assert "5 rows, first row is the header" in said


@pytest.mark.parametrize("name", ["prediction", "proba_good"])
def test_classify_overwrites_no_column(refuses, trained, monkeypatch, name):
    write_table(rows(5).rename(columns={"label": name}), "new.csv")
    monkeypatch.setattr(Encoder, "encode", None)  # said before anything is computed
    says = f"new.csv has a column '{name}' already, .*: rename it"
    refuses(says, classify, "--model", trained, "--data", "new.csv", "--out", "out.csv")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--pooling mean", "--pooling mean: this model was trained with cls; leave the option out"),
        ("--pooling cls,mean", "--pooling cls,mean: this model was trained with cls;"),
        ("--layers 1", "--layers 1: this model was trained with 3;"),
        ("--max-length 7", "--max-length 7: this model was trained with 40;"),
        ("--precision int8", "--precision int8: this model was trained with float32;"),
        ("--revision main", "--revision main: this model was trained with None;"),
        ("--backend x", "backend='x': one of 'auto', 'torch', 'openvino'"),
    ],
)
def test_classify_with_options_of_another_model(refuses, trained, options, says):
    refuses(says, classify, "--model", trained, "--text", "a film", *options.split())


def test_classify_with_options_of_the_model(succeeds, trained):
    options = [
        "--pooling",
        "cls",
        "--layers",
        "3",
        "--max-length",
        "40",
        "--precision",
        "float32",
        "--device",
        "cpu",
    ]
    plain = succeeds(classify, "--model", trained, "--text", "a film", "--no-cache")
    assert not Path("artifacts").exists()
    assert succeeds(classify, "--model", trained, "--text", "a film", *options) == plain
    assert Path("artifacts/cache/vectors").is_dir()
    assert succeeds(classify, "--model", trained, "--text", "a film", "--layers", -1) == plain


def test_classify_with_the_encoder_elsewhere(
    succeeds, refuses, trained, tiny, tmp_path_factory, monkeypatch
):
    monkeypatch.delenv("FROZENBERT_ENCODERS")
    away = tmp_path_factory.mktemp("away")
    shutil.copytree(trained, away / "model")
    shutil.copytree(tiny, away / "renamed")
    model = ["--model", away / "model", "--text", "a film", "--no-cache"]
    refuses("encoder 'tiny': there is no such folder", classify, *model)
    plain = succeeds(classify, *model, "--encoder", away / "renamed")
    shutil.copytree(tiny, away / "model" / "tiny")  # beside the model it is found unasked
    assert succeeds(classify, *model) == plain
    config = away / "renamed" / "config.json"
    config.write_text(config.read_text().replace('"dropout": 0.1', '"dropout": 0.2'))
    refuses("but this vectorizer was fitted", classify, *model, "--encoder", away / "renamed")


def test_classify_with_a_search_over_the_whole_pipeline(succeeds, tiny):
    from sklearn.model_selection import GridSearchCV

    from frozenbert import make_text_classifier, save_model

    whole = make_text_classifier(tiny, cv=2, C=0.1, cache_dir=None)
    search = GridSearchCV(whole, {"embed__pooling": ["cls", "mean"]}, cv=2)
    frame = rows(16)
    save_model(search.fit(frame["text"], frame["label"]), "model.joblib")
    options = ["--model", "model.joblib", "--text", "a good film"]
    out = succeeds(classify, *options)
    assert out.startswith(f"prediction\t{search.predict(['a good film'])[0]}\nproba_0\t0.")
    assert Path("artifacts/cache/vectors").is_dir()


def test_classify_without_probabilities(succeeds, tiny):
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline

    from frozenbert import save_model

    frame = rows(16)
    model = make_pipeline(DistilBertVectorizer(tiny, cache_dir=None), RidgeClassifier())
    save_model(model.fit(frame["text"], frame["label"]), "model.joblib")
    put("new.tsv", frame)
    options = ["--model", "model.joblib", "--data", "new.tsv", "--text-column", 0]
    succeeds(classify, *options, "--out", "out.csv")
    found = pd.read_csv("out.csv")
    assert list(found.columns) == ["0", "1", "prediction"]
    assert found["prediction"].tolist() == model.predict(frame["text"]).tolist()


# embed


def test_embed(succeeds, tiny):
    put("x.csv", rows(9), header=True)
    out = succeeds(embed, "--data", "x.csv", "--out", "deep/x.npy", "--model", tiny, "--limit", 7)
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
    succeeds(embed, "--data", "x.csv", "--out", "y.npy", "--model", tiny, "--pooling", "mean,max")
    assert np.load("y.npy").shape == (9, 64)


def test_long_texts_are_counted_in_a_warning(run, tiny):
    frame = rows(4)
    frame.loc[1, "text"] = "film " * 50
    put("x.tsv", frame)
    options = ["--data", "x.tsv", "--text-column", "0", "--out", "x.npy", "--model", tiny]
    code, _, err = run(embed, *options)
    assert code == 0
    says = "warning: 1 of 4 texts are longer than max_length=40 tokens and were cut (the longest"
    assert err.startswith(says)
    assert err.count("\n") == 1
    assert json.loads(Path("x.json").read_text())["n_truncated"] == 1


def test_embed_into_parquet(succeeds, tiny):
    put("x.csv", rows(9), header=True)
    out = succeeds(embed, "--data", "x.csv", "--out", "deep/x.parquet", "--model", tiny)
    assert "written  deep/x.parquet: float32 (9, 32)\n" in out
    found = pd.read_parquet("deep/x.parquet")
    assert list(found.columns) == ["text", "label", "vector"]
    assert found["text"].tolist() == rows(9)["text"].tolist()
    assert os.listdir("deep") == ["x.parquet"]


def test_embed_many_tables(succeeds, run, tiny):
    for name, n in {"a": 9, "b": 5}.items():
        put(f"{name}.csv", rows(n), header=True)
    options = ["--data", "?.csv", "--out", "out", "--model", tiny, "--text-column", "text"]
    out = succeeds(embed, *options)
    assert "data     ?.csv: 2 tables\n" in out
    assert "written  out: 2 parquet files, 14 texts\n" in out
    assert sorted(os.listdir("out")) == ["a.parquet", "b.parquet"]
    put("c.csv", pd.DataFrame({"text": ["fine"], "label": ["x"]}), header=True)
    Path("d.csv").write_text("text,label\nfine,x,y\n")
    code, out, err = run(embed, *options)
    assert code == 2
    assert "before   2 tables were done already\n" in out
    assert "1 of 4 tables failed, the others are done." in err
    assert "d.csv, line 2: the number of fields is 3, but 2" in err
    assert sorted(os.listdir("out")) == ["a.parquet", "b.parquet", "c.parquet"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--data", "none*.csv", "--out", "out"],
            r"--data none\*\.csv: no file's name is like that",
        ),
        (["--data", "*.tsv", "--out", "x.npy"], r"--out x\.npy: the vectors of several tables"),
        (["--data", "*.tsv", "--out", "out", "--limit", 3], "--limit: goes with one table"),
        (["--data", "train.tsv", "--out", "out"], r"--out out: the vectors of one table go into"),
    ],
)
def test_embed_many_tables_says_what_is_wrong(refuses, tiny, options, says):
    refuses(says, embed, *options, "--model", tiny, "--text-column", 0)


# Input that is wrong


def bad_files() -> dict[str, tuple[str, str | bytes, str]]:
    """Files that cannot be trained on: name, content, and what is said of them."""
    good = rows().to_csv(header=False, index=False)
    few = rows(8).to_csv(header=False, index=False)
    named = [json.dumps(row) for row in rows().to_dict("records")]
    return {
        "folder": ("data.csv/x", "", r"data\.csv: is a folder; name a file in it"),
        "suffix": ("data.txt", good, r"data\.txt: the name of a table must end in \.tsv"),
        "empty": ("data.csv", "", r"data\.csv: the table is empty"),
        "header": ("data.csv", "text,label\n", r"data\.csv: the table has a header and no rows"),
        "binary": ("data.csv", b"a\x00b,1\n", r"data\.csv, line 1: holds a NUL byte"),
        "latin1": (
            "data.csv",
            (good + f"caf\xe9 {SECRET},1\n").encode("latin-1"),
            r"data\.csv, line 49: the byte 0xe9 is not UTF-8; .*iconv",
        ),
        "gzip": ("data.csv.gz", gzip.compress(good.encode())[:-9], r"data\.csv\.gz: is no whole g"),
        "jsonl": (
            "data.jsonl",
            "\n".join([*named[:4], named[4][:-1]]),
            r"data\.jsonl, line 5, column \d+: is no JSON",
        ),
        "parquet": ("data.parquet", b"PAR1 PAR1", r"data\.parquet: is no whole parquet file"),
        "ragged": (
            "data.csv",
            f"{good}{SECRET},1,2\n",
            r"data\.csv, line 49: the number of fields is 3, but 2 in the rows above",
        ),
        "quote": ("data.csv", f'{good}"{SECRET},1\n', r"data\.csv, line 49: .*starts with a quote"),
        "nan": (
            "data.csv",
            f"{good}{SECRET},nan\n",
            r"data\.csv, line 49, column '1': the label is missing \(1 of 49 are\)",
        ),
        "null": (
            "data.jsonl",
            "\n".join([*named, f'{{"text": "{SECRET}", "label": null}}']),
            r"data\.jsonl, line 49, column 'label': the label is missing",
        ),
        "no text": (
            "data.jsonl",
            "\n".join([*named, '{"text": null, "label": 1}']),
            r"data\.jsonl, line 49, column 'text': the text is null",
        ),
        "half": (
            "data.jsonl",
            "\n".join([*named, '{"text": "\\ud83d", "label": 1}']),
            r"data\.jsonl, line 49, column 'text': holds half of a surrogate pair",
        ),
        "one class": (
            "data.csv",
            rows(labels=("same",)).to_csv(header=False, index=False),
            r"there is only one class \('same'\) in the training rows",
        ),
        "few rows": (
            "data.csv",
            rows(5).to_csv(header=False, index=False),
            "too few rows to hold out one of 4 for testing: 5, of which",
        ),
        "folds": (
            "data.csv",
            few,
            r"2 of 2 classes have fewer training rows than the 5 folds .*\('0' has 3\)",
        ),
        "no words": (
            "data.csv",
            "text,label\n" + "".join(f"{'!' * (i + 1)},{i % 2}\n" for i in range(48)),
            "none of the training texts contains a letter or a digit",
        ),
    }


@pytest.mark.parametrize("case", bad_files())
def test_bad_data_file(refuses, tiny, case):
    name, content, says = bad_files()[case]
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    data = name.removesuffix("/x")
    refuses(says, train, "--data", data, "--model", tiny, "--no-cache")


BAD_TABLES = ["folder", "suffix", "empty", "header", "binary", "latin1", "gzip", "jsonl", "parquet"]


@pytest.mark.parametrize("case", [*BAD_TABLES, "ragged", "no text"])
@pytest.mark.parametrize("command", [classify, embed])
def test_bad_data_file_elsewhere(refuses, trained, tiny, command, case):
    name, content, says = bad_files()[case]
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    options = ["--model", trained, "--out", "x.csv"]
    if command is embed:
        options = ["--model", tiny, "--out", "x.npy", "--label-column", "label"]
        options = options[: None if case == "no text" else -2]
    refuses(says, command, "--data", name.removesuffix("/x"), *options)


def test_missing_file(refuses, trained, tiny):
    says = r"none\.tsv: there is no such file"
    refuses(says, train, "--data", "none.tsv", "--model", tiny)
    refuses(says, train, "--data", "train.tsv", "--test", "none.tsv", "--model", tiny)
    refuses(says, classify, "--data", "none.tsv", "--model", trained, "--out", "x.csv")
    refuses(says, embed, "--data", "none.tsv", "--model", tiny, "--out", "x.npy")


def test_unknown_columns(refuses, trained, tiny):
    put("x.csv", rows(), header=True)
    says = r"x\.csv: there is no column 'review'; the columns are 'text', 'label'\."
    for column in ("--text-column", "--label-column"):
        refuses(says, train, "--data", "x.csv", "--model", tiny, column, "review")
    new = ["--data", "x.csv", "--text-column", "review"]
    refuses(says, classify, *new, "--model", trained, "--out", "y.csv")
    refuses(says, embed, *new, "--model", tiny, "--out", "y.npy")
    same = ["--text-column", "text", "--label-column", "text"]
    refuses("cannot be both", train, "--data", "x.csv", "--model", tiny, *same)


@pytest.mark.parametrize(
    ("frame", "header", "says"),
    [
        (rows(8, ("0", "2")), False, r"test\.csv, line 2: the label '2' does not stand in the tra"),
        (rows(8), True, r"test\.csv: there is no column '0'; the columns are 'text', 'label'"),
        (rows(8)[["text"]], False, r"test\.csv: there is no column '1'; the columns are '0'"),
    ],
)
def test_test_file_that_does_not_fit(refuses, tiny, frame, header, says):
    put("test.csv", frame, header=header)
    refuses(says, train, "--data", "train.tsv", "--test", "test.csv", "--model", tiny)


def test_test_file_without_the_header_of_the_data(refuses, tiny):
    put("train.csv", rows(), header=True)
    put("test.csv", rows(8))
    says = r"test\.csv: there is no column 'text'; the columns are '0', '1' \(named by position"
    refuses(says, train, "--data", "train.csv", "--test", "test.csv", "--model", tiny)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--cv 1", "argument --cv: 1 is not at least 2 folds"),
        ("--cv many", "argument --cv: invalid whole number value: 'many'"),
        ("--C 0", "argument --C: 0 holds a number that is not above 0"),
        ("--C 1,nan", "argument --C: 1,nan holds a number that is not above 0"),
        ("--C inf", "argument --C: inf holds a number that is not above 0"),
        ("--C abc", "argument --C: invalid list of numbers value: 'abc'"),
        ("--C 1,", "argument --C: invalid list of numbers value: '1,'"),
        ("--limit 0", "argument --limit: 0 is not at least 1"),
        ("--seed -1", "argument --seed: -1 is not between 0 and 4294967295"),
        ("--n-jobs 0", "argument --n-jobs: 0 is neither a number of processes nor -1"),
        ("--max-length 0", "argument --max-length: 0 is not at least 1"),
        ("--max-length 100000", "max_length=100000: encoder .*tiny' takes at most 40 tokens"),
        ("--pooling median", "pooling='median': 'auto', one of"),
        ("--layers 99", r"layers=99: 'all', a whole number from -4 to 3 \("),
        ("--layers last", "argument --layers: invalid list of layers value: 'last'"),
        ("--precision int3", "precision='int3': one of 'float32', 'bfloat16', 'int8'"),
        ("--backend onnx", "backend='onnx': one of 'auto', 'torch', 'openvino'"),
        ("--precision int8 --backend torch", "precision='int8' with backend='torch': int8 is Open"),
        ("--device nonsense", "device='nonsense': torch cannot use it here"),
        ("--lim 5", "unrecognized arguments: --lim 5"),
        ("--revision main", "revision='main': .*tiny' is a folder and has no revisions"),
    ],
)
def test_illegal_values(refuses, tiny, option, says):
    refuses(says, train, "--data", "train.tsv", "--model", tiny, *option.split(), "--no-cache")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("no-such-encoder", "encoder 'no-such-encoder' is not on disk and the hub may not be ask"),
        ("some/where/else", "encoder 'some/where/else': there is no such folder"),
        ("empty", "encoder 'empty': empty holds no config.json"),
        ("broken", "encoder 'broken': .*cannot be loaded"),
        ("json", "json/config.json: cannot be read as JSON"),
        ("pickled", "encoder 'pickled': pickled holds no model.safetensors; .* can run code"),
    ],
)
def test_encoders_that_cannot_be_had(refuses, tiny, model, says):
    Path("empty").mkdir()
    for name in ("broken", "json", "pickled"):
        shutil.copytree(tiny, name)
    Path("broken/model.safetensors").write_bytes(b"no weights")
    Path("json/config.json").write_text("{")
    Path("pickled/model.safetensors").rename("pickled/pytorch_model.bin")
    refuses(says, train, "--data", "train.tsv", "--model", model, "--no-cache")
    refuses(
        says,
        embed,
        "--data",
        "train.tsv",
        "--text-column",
        0,
        "--out",
        "x.npy",
        "--model",
        model,
        "--no-cache",
    )


@pytest.mark.parametrize("command", [train, embed])
def test_a_revision_is_never_replaced(refuses, command):
    options = [] if command is train else ["--out", "x.npy", "--text-column", 0]
    says = r"encoder 'distilbert-base-uncased' \(revision 'v9'\) is not on disk"
    refuses(says, command, "--data", "train.tsv", "--revision", "v9", *options)


def test_outputs_that_cannot_be_written(refuses, trained, tiny):
    Path("file").touch()
    for name in ("folder.csv", "folder.npy", "x.json"):
        Path(name).mkdir()
    below = "cannot be written, because .*file is a file and no folder"
    for command, options, cases in (
        (train, ["--model", tiny], {"file": "--out file: is a file", "file/x/y": below}),
        (
            classify,
            ["--model", trained],
            {
                "file/x.csv": below,
                "folder.csv": "--out: folder.csv is a folder; a file's name is needed",
                "x.txt": r"x\.txt: the name of a table must end in \.tsv",
            },
        ),
        (
            embed,
            ["--model", tiny, "--text-column", 0],
            {
                "file/x.npy": below,
                "folder.npy": "--out: folder.npy is a folder; a file's name is needed",
                "x.npy": "--out: x.json is a folder; a file's name is needed",
                "x.csv": r"--out x\.csv: .* a file whose name ends in \.npy or \.parquet",
            },
        ),
    ):
        for out, says in cases.items():
            refuses(says, command, "--data", "train.tsv", *options, "--out", out, "--no-cache")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.joblib", r"none\.joblib: there is no such model file"),
        ("folder", r"folder/model\.joblib: there is no such model file"),
        ("text.joblib", r"text\.joblib: is no saved model, or a damaged one"),
        ("cut.joblib", r"cut\.joblib: is no saved model, or a damaged one"),
        ("dict.joblib", r"dict\.joblib: holds a dict, which is no model"),
        ("pickle.joblib", r"pickle\.joblib: holds a list, which is no model"),
        ("raw.joblib", r"raw\.joblib: holds a Pipeline that is not fitted"),
    ],
)
def test_model_files_that_are_none(refuses, trained, tiny, name, says):
    from frozenbert import make_text_classifier

    Path("folder").mkdir()
    Path("text.joblib").write_text("a model, they said\n" * 9)
    whole = (trained / "model.joblib").read_bytes()
    Path("cut.joblib").write_bytes(whole[: len(whole) // 2])
    joblib.dump({"a": 1}, "dict.joblib")
    Path("pickle.joblib").write_bytes(pickle.dumps([1]))
    joblib.dump(make_text_classifier(tiny), "raw.joblib")
    refuses(says, classify, "--model", name, "--text", "a film")
    refuses(says, classify, "--model", name, "--data", "train.tsv", "--out", "x.csv")


def test_data_out_and_text_of_classify(refuses, trained):
    for options, says in (
        ([], "one of the arguments --data --text is required"),
        (["--data", "train.tsv"], "--out is missing"),
        (["--text", "a", "--out", "x.csv"], "--out goes with --data"),
        (["--text", "a", "--data", "train.tsv"], "not allowed with argument"),
    ):
        refuses(says, classify, "--model", trained, *options)
    refuses("the following arguments are required: --model", classify, "--text", "a")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"training": 1}', '{"training": {"text_column": 1}}']
)
def test_a_broken_model_json_is_no_harm(succeeds, trained, content):
    shutil.copytree(trained, "model")
    Path("model/model.json").write_text(content)
    put("new.csv", rows(4), header=True)
    options = ["--model", "model", "--data", "new.csv", "--out", "x.csv"]
    assert "text in column 'text'" in succeeds(classify, *options)


# How commands end


@pytest.mark.parametrize("debug", [False, True])
def test_other_failures(run, monkeypatch, tiny, debug):
    def broken(*_, **__):
        raise RuntimeError("out of\nluck")

    monkeypatch.setattr("frozenbert.cli.training_actions.train_model", broken)
    options = ["--data", "train.tsv", "--model", tiny] + ["--debug"] * debug
    code, _, err = run(train, *options)
    assert code == 1
    *before, last = err.splitlines()
    if debug:
        assert before[0].startswith("Traceback")
        assert last.endswith(": RuntimeError: out of luck")
    else:
        assert before == []
        assert last.endswith(": RuntimeError: out of luck (--debug shows where)")


def test_wrong_input_with_debug(run, tiny):
    code, _, err = run(train, "--data", "none.tsv", "--model", tiny, "--debug")
    assert code == 2
    assert err.startswith("Traceback")
    assert err.endswith(": none.tsv: there is no such file.\n")


@pytest.mark.parametrize(("options", "kept"), [([], True), (["--no-cache"], False)])
def test_ctrl_c(run, monkeypatch, tiny, options, kept):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Encoder, "encode", interrupted)
    before = {*tree(), "artifacts", "artifacts/cache"}
    code, _, err = run(train, "--data", "train.tsv", "--model", tiny, *options)
    assert code == 130
    assert re.fullmatch(r"\S+( \S+)?: interrupted(; vectors computed so far are kept)?\.\n", err)
    assert ("kept" in err) is kept
    assert not Path("artifacts/train").exists()
    assert {path for path in tree() if "/vectors" not in path} <= before


@pytest.mark.parametrize("command", ["train", "classify", "embed"])
def test_help(run, command):
    code, out, err = run(main, command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: frozenbert {command} [-h]")
    assert "--model" in out


def test_main(run, monkeypatch, trained):
    assert run(main, "--version") == (0, f"{__version__}\n", "")
    code, out, err = run(main, "--help")
    assert (code, err) == (0, "")
    for line in ("train .*Train a text classifier", "classify .*Label new", "embed .*Turn a file"):
        assert re.search(line, out)
    for arguments, says in (
        (["learn"], "invalid choice: 'learn'"),
        ([], "the following arguments are required: COMMAND"),
        (["--verbose", "train"], "required: COMMAND|unrecognized arguments: --verbose"),
    ):
        code, out, err = run(main, *arguments)
        assert (code, out) == (2, "")
        assert re.fullmatch(rf"frozenbert: .*({says}).*\n", err)
    code, out, _ = run(main, "classify", "--model", trained, "--text", "a film")
    assert (code, out[:11]) == (0, "prediction\t")
    monkeypatch.setattr("sys.argv", ["frozenbert", "classify"])
    code, _, err = run(lambda _: main())
    assert (code, err[:21]) == (2, "frozenbert classify: ")


def test_labels_that_the_terminal_cannot_show(monkeypatch, trained, tiny):
    import io
    import sys

    put("train.csv", rows(labels=("好", "ñ")))
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert train(["--data", "train.csv", "--model", tiny, "--C", "0.1", "--cv", "2"]) == 0
    written = stdout.buffer.getvalue().decode("latin-1")
    assert "\\u597d: 18" in written
    assert "ñ: 18" in written
