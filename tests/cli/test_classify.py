"""`classify`: labels for tables and texts, and models that cannot be used."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import joblib
import pandas as pd
import pytest

from frozenbert import DistilBertVectorizer, load_model
from frozenbert.encoders.encoder import Encoder
from frozenbert.tables.writing import write_table

from .conftest import SECRET, put, rows


def test_classify_adds_columns(succeeds, trained):
    frame = rows(9)[["text"]].rename(columns={"text": "review"})
    frame.insert(0, "id", [f"00{i}" for i in range(9)])
    write_table(frame, "new.csv")
    out = succeeds("classify", "--model", trained, "--data", "new.csv", "--out", "deep/out.csv")
    found = pd.read_csv("deep/out.csv", dtype={"id": "str"})
    assert list(found.columns) == ["id", "review", "prediction", "proba_bad", "proba_good"]
    assert found[["id", "review"]].equals(frame)
    model = load_model(trained)
    assert found["prediction"].tolist() == model.predict(frame["review"]).tolist()
    probabilities = found[["proba_bad", "proba_good"]].to_numpy()
    assert probabilities == pytest.approx(model.predict_proba(frame["review"]), abs=1e-5)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert "data  new.csv: 9 rows, first row is the header (if it is data, use --no-header)" in out
    counts = found["prediction"].value_counts()
    assert all(f"{label}: {n}" in out for label, n in counts.items())
    assert "written  deep/out.csv\n" in out
    # The same where the model is in memory, and named as a file.
    succeeds(
        "classify", "--model", trained / "model.joblib", "--data", "new.csv", "--out", "again.csv"
    )
    assert Path("again.csv").read_bytes() == Path("deep/out.csv").read_bytes()


@pytest.mark.parametrize("name", ["out.tsv", "out.csv.gz", "out.jsonl", "out.parquet"])
def test_classify_writes_every_format(succeeds, trained, name):
    put("new.tsv", rows(5)[["text"]])
    succeeds("classify", "--model", trained, "--data", "new.tsv", "--out", name)
    read = {"tsv": pd.read_table, "gz": pd.read_csv, "parquet": pd.read_parquet}
    read["jsonl"] = lambda path: pd.read_json(path, lines=True)
    found = read[name.split(".")[-1]](name)
    assert list(found.columns.map(str)) == ["0", "prediction", "proba_bad", "proba_good"]
    assert found.iloc[:, 0].tolist() == rows(5)["text"].tolist()
    assert found.iloc[:, 2:].sum(axis=1).to_numpy() == pytest.approx(1)


def test_classify_one_text(succeeds, trained):
    out = succeeds("classify", "--model", trained, "--text", f"a good film, {SECRET}")
    model = load_model(trained)
    label = model.predict([f"a good film, {SECRET}"])[0]
    bad, good = model.predict_proba([f"a good film, {SECRET}"])[0]
    assert out == f"prediction\t{label}\nproba_bad\t{bad:.4f}\nproba_good\t{good:.4f}\n"
    assert succeeds("classify", "--model", trained, "--text", "").startswith("prediction\t")


def test_classify_remembers_the_column(succeeds, refuses, trained):
    frame = rows(5).rename(columns={"text": "review"}).assign(comment=rows(5)["text"])
    write_table(frame, "new.csv")
    options = ["--model", trained, "--data", "new.csv", "--out", "out.csv"]
    assert "text in column 'review'" in succeeds("classify", *options)
    other = succeeds("classify", *options, "--text-column", "comment")
    assert "text in column 'comment'" in other
    write_table(frame.rename(columns={"review": "text"}), "new.csv")
    refuses("which column holds the texts", "classify", *options)
    # The name given counts, and not the one remembered, for what makes a header.
    write_table(frame[["comment"]].rename(columns={"comment": "what they said"}), "new.csv")
    said = succeeds("classify", *options, "--text-column", "what they said")
    assert "5 rows, first row is the header" in said


@pytest.mark.parametrize("name", ["prediction", "proba_good"])
def test_classify_overwrites_no_column(refuses, trained, monkeypatch, name):
    write_table(rows(5).rename(columns={"label": name}), "new.csv")
    monkeypatch.setattr(Encoder, "encode", None)  # said before anything is computed
    says = f"new.csv: column '{name}' exists already, .* rename it"
    refuses(says, "classify", "--model", trained, "--data", "new.csv", "--out", "out.csv")


@pytest.mark.parametrize(
    "option",
    ["revision", "pooling", "layers", "max-length", "precision", "backend", "long-text"],
)
def test_classify_takes_no_options_that_the_model_settled(refuses, trained, option):
    says = f"unrecognized arguments: --{option} 1"
    refuses(says, "classify", "--model", trained, "--text", "a film", f"--{option}", "1")


def test_classify_on_a_device_with_and_without_a_cache(succeeds, refuses, trained):
    options = ["--model", trained, "--text", "a film"]
    plain = succeeds("classify", *options, "--no-cache")
    assert not Path("artifacts").exists()
    assert succeeds("classify", *options, "--device", "cpu", "--offline") == plain
    assert Path("artifacts/cache/vectors").is_dir()
    refuses("--device nonsense: ", "classify", *options, "--device", "nonsense", "--no-cache")


def test_the_output_has_the_delimiter_of_the_input(succeeds, trained):
    frame = rows(9)[["text"]].rename(columns={"text": "review"}).assign(note="a, b | c")
    frame.to_csv("new.csv", sep=";", index=False)
    options = ["--model", trained, "--data", "new.csv", "--out"]
    out = succeeds("classify", *options, "out.csv")
    assert "delimiter ';' (if that is wrong, use --delimiter)" in out
    found = pd.read_csv("out.csv", sep=";")
    assert found.columns.tolist()[:3] == ["review", "note", "prediction"]
    assert found[["review", "note"]].equals(frame)
    assert "delimiter ';'," in succeeds("classify", *options, "out.tsv", "--delimiter", ";")
    assert pd.read_table("out.tsv")[["review", "note"]].equals(frame)


def test_classify_with_the_encoder_elsewhere(
    succeeds, refuses, trained, tiny, tmp_path_factory, monkeypatch
):
    monkeypatch.delenv("FROZENBERT_ENCODERS")
    away = tmp_path_factory.mktemp("away")
    shutil.copytree(trained, away / "model")
    shutil.copytree(tiny, away / "renamed")
    model = ["--model", away / "model", "--text", "a film", "--no-cache"]
    refuses("'tiny': .*no such folder", "classify", *model)
    plain = succeeds("classify", *model, "--encoder-path", away / "renamed")
    assert succeeds("classify", *model, "--encoder", away / "renamed") == plain  # its former name
    shutil.copytree(tiny, away / "model" / "tiny")  # beside the model it is found unasked
    assert succeeds("classify", *model) == plain
    config = away / "renamed" / "config.json"
    config.write_text(config.read_text().replace('"dropout": 0.1', '"dropout": 0.2'))
    refuses("fitted", "classify", *model, "--encoder-path", away / "renamed")
    both = ["--encoder-path", tiny, "--encoder", tiny]
    refuses("argument --encoder: not allowed with argument", "classify", *model, *both)


def test_classify_with_a_search_over_the_whole_pipeline(succeeds, tiny):
    from sklearn.model_selection import GridSearchCV

    from frozenbert import make_text_classifier, save_model

    whole = make_text_classifier(tiny, recipe="plain", cv=2, C=0.1, cache_dir=None)
    search = GridSearchCV(whole, {"embed__pooling": ["cls", "mean"]}, cv=2)
    frame = rows(16)
    save_model(search.fit(frame["text"], frame["label"]), "model.joblib")
    options = ["--model", "model.joblib", "--text", "a good film"]
    out = succeeds("classify", *options)
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
    succeeds("classify", *options, "--out", "out.csv")
    found = pd.read_csv("out.csv")
    assert list(found.columns) == ["0", "1", "prediction"]
    assert found["prediction"].tolist() == model.predict(frame["text"]).tolist()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.joblib", r"none\.joblib: there is no such model file"),
        ("folder", r"folder/model\.joblib: there is no such model file"),
        ("text.joblib", r"text\.joblib: is no saved model, .* A model is a folder"),
        ("cut.joblib", r"cut\.joblib: is no saved model, or a damaged one"),
        ("dict.joblib", r"dict\.joblib: holds a dict, which is no model"),
        ("pickle.joblib", r"pickle\.joblib: holds a list, which is no model"),
        ("raw.joblib", r"raw\.joblib: holds a TextPipeline that is not fitted"),
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
    joblib.dump(make_text_classifier(tiny, recipe="plain"), "raw.joblib")
    refuses(says, "classify", "--model", name, "--text", "a film")
    refuses(says, "classify", "--model", name, "--data", "train.tsv", "--out", "x.csv")


def test_data_out_and_text_of_classify(refuses, trained):
    for options, says in (
        ([], "one of the arguments --data --text is required"),
        (["--data", "train.tsv"], "--out: name the file to write"),
        (["--text", "a", "--out", "x.csv"], "--out: requires --data"),
        (["--text", "a", "--data", "train.tsv"], "not allowed with argument"),
    ):
        refuses(says, "classify", "--model", trained, *options)
    refuses("the following arguments are required: --model", "classify", "--text", "a")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"training": 1}', '{"training": {"text_column": 1}}']
)
def test_a_broken_model_json_is_no_harm(succeeds, trained, content):
    shutil.copytree(trained, "model")
    Path("model/model.json").write_text(content)
    put("new.csv", rows(4), header=True)
    options = ["--model", "model", "--data", "new.csv", "--out", "x.csv"]
    assert "text in column 'text'" in succeeds("classify", *options)


def test_a_model_of_the_earlier_layout(refuses):
    earlier = Path(__file__).parents[1] / "saved" / "earlier"
    for name in ("model.joblib", "model.skops"):
        refuses("earlier layout.* train", "classify", "--model", earlier / name, "--text", "a film")
