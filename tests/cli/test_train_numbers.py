"""`train`, `classify` and `compare` with numbers, grades and other columns."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from frozenbert import load_model, make_text_regressor
from frozenbert.errors import InputError
from frozenbert.training import train, train_columns, train_numbers

from .conftest import SECRET, put

N = 80


def shop(n=N, start=0):
    """Texts and columns that each tell a part of the target."""
    rng = np.random.default_rng(start)
    words = ["bad dull poor", "slow cold hollow", "good fine warm", "great fun funny"]
    codes = rng.integers(0, 4, n)
    price = rng.normal(size=n).round(3)
    return pd.DataFrame(
        {
            "text": [f"{words[code]} film {i + start} {SECRET}" for i, code in enumerate(codes)],
            "price": price,
            "shop": rng.choice(["north", "south"], n),
            "day": [f"2024-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(n)],
            "id": range(n),
            "rating": (codes + price).round(3),
            "stars": codes + 1,
        }
    )


@pytest.fixture(autouse=True)
def tables(here):
    frame = shop()
    put("ratings.csv", frame[["text", "rating"]], header=True)
    put("stars.csv", frame[["text", "stars"]], header=True)
    put("shop.csv", frame.drop(columns="stars"), header=True)


def read(folder, name="metrics.json"):
    return json.loads((Path(folder) / name).read_text("utf-8"))


def test_numbers_are_a_regression_and_it_is_said(succeeds, tiny):
    out = succeeds("train", "--data", "ratings.csv", "--encoder", tiny, "--with-tfidf")
    metrics, model = read("artifacts/ratings"), read("artifacts/ratings", "model.json")
    assert f"task  regression: {shop()['rating'].nunique()} distinct numbers" in out
    assert (metrics["task"], metrics["n_train"], metrics["n_test"]) == ("regression", 60, 20)
    assert {"r2", "mae", "spearman"} <= metrics.keys() & metrics["baseline"].keys()
    assert "accuracy" not in metrics
    assert metrics["intervals"]["r2"][0] <= metrics["r2"] <= metrics["intervals"]["r2"][1]
    assert metrics["spearman"] > 0.3
    assert model["labels"] == []
    assert "seed 0" in model["test"]["description"]
    assert "random quarter" in model["test"]["description"]
    with Image.open("artifacts/ratings/predicted.png") as image:
        assert image.size[0] > 300
    report = Path("artifacts/ratings/report.html").read_text("utf-8")
    assert "ridge regression" in report
    assert "Largest errors" in report
    predicted = load_model("artifacts/ratings").predict(["great fun funny film"])
    assert predicted.dtype.kind == "f"


def test_a_regression_is_classified_without_probabilities(succeeds, tiny):
    succeeds("train", "--data", "ratings.csv", "--encoder", tiny)
    out = succeeds("classify", "--model", "artifacts/ratings", "--text", "a fine film")
    assert len(out.splitlines()) == 1
    predicted = load_model("artifacts/ratings").predict(["a fine film"]).item()
    assert float(out.split("\t")[1]) == pytest.approx(predicted, abs=1e-4)
    out = succeeds(
        "classify", "--model", "artifacts/ratings", "--data", "ratings.csv", "--out", "new.csv"
    )
    assert "numbers  " in out
    assert list(pd.read_csv("new.csv")) == ["text", "rating", "prediction"]


def test_grades_have_probabilities_and_a_hint_names_the_task(succeeds, tiny):
    out = succeeds("train", "--data", "stars.csv", "--encoder", tiny, "--cv", 3, "--out", "classes")
    assert "4 whole numbers are classes; if they are grades in an order, use --task ordinal" in out
    succeeds(
        "train", "--data", "stars.csv", "--encoder", tiny, "--task", "ordinal",
        "--with-tfidf", "--cv", 3, "--out", "grades",
    )  # fmt: skip
    metrics = read("grades")
    assert metrics["task"] == "ordinal"
    assert {"quadratic_kappa", "r2", "mae", "spearman"} <= metrics.keys()
    assert metrics["quadratic_kappa"] > 0.3
    assert read("grades", "model.json")["labels"] == [1, 2, 3, 4]
    assert Path("grades/confusion_matrix.png").exists()
    succeeds("classify", "--model", "grades", "--data", "stars.csv", "--out", "new.csv")
    labelled = pd.read_csv("new.csv")
    assert set(labelled["prediction"]) <= {1, 2, 3, 4}
    assert labelled.filter(like="proba_").sum(axis=1).to_numpy() == pytest.approx(1)


def test_compare_refuses_models_of_different_tasks(succeeds, refuses, tiny):
    for task in ("classification", "ordinal", "regression"):
        succeeds(
            "train", "--data", "stars.csv", "--encoder", tiny, "--task", task, "--cv", 3,
            "--out", task,
        )  # fmt: skip
    put("test.csv", shop(30, 500)[["text", "stars"]], header=True)
    refuses("one is of ordinal, the other of regression", "compare", "ordinal", "regression")
    refuses("one is of classification", "compare", "classification", "ordinal")
    out = succeeds("compare", "ordinal")
    assert "by  quadratic kappa" in out
    assert "by  MAE" in succeeds("compare", "regression", "--scoring", "mae")
    refuses("one of r2, mae, spearman", "compare", "regression", "--scoring", "accuracy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "words.csv", "--task", "regression"], "the cell is no number"),
        (["--data", "inf.csv"], "'inf' is not finite"),
        (["--data", "gap.csv", "--task", "regression"], "the label is missing (1 of 5 are)"),
        (["--data", "one.csv", "--task", "regression"], "--label-column: all 5 rows have the same"),
        (["--data", "stars.csv", "--task", "ordinal", "--class-weight", "balanced"],
         "--class-weight balanced: is for classifiers"),
        (["--data", "stars.csv", "--task", "ordinal", "--C", "1"], "is for classifiers"),
        (["--data", "stars.csv", "--alpha", "1"], "--alpha: is for a regression"),
        (["--data", "stars.csv", "--task", "regression", "--scoring", "f1"], "one of r2, mae"),
        (["--data", "stars.csv", "--task", "ordinal", "--label-separator", ","],
         "--task ordinal: requires one column of numbers"),
        (["--data", "few.csv", "--task", "regression"], "too few rows to hold out"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_one_line(refuses, tiny, arguments, message):
    texts = [f"film {i} {SECRET}" for i in range(5)]
    targets = {"words": ["a", "b", "c", "d", "e"], "inf": [0.5, "inf", 1.5, 2, 3],
               "gap": [0.5, "", 1.5, 2, 3], "one": [2] * 5, "few": range(5)}  # fmt: skip
    for name, target in targets.items():
        put(f"{name}.csv", pd.DataFrame({"text": texts, "label": target}), header=True)
    refuses(re.escape(message), "train", "--encoder", tiny, *arguments)


def test_a_new_grade_in_the_test_rows_is_named(refuses, tiny):
    put("test.csv", pd.DataFrame({"text": [SECRET], "stars": [9]}), header=True)
    arguments = ["--data", "stars.csv", "--test", "test.csv", "--task", "ordinal"]
    refuses(
        "test.csv, line 2: the label '9' does not occur", "train", "--encoder", tiny, *arguments
    )


def test_all_columns_are_found_and_the_report_shows_what_they_add(succeeds, refuses, tiny):
    pytest.importorskip("skrub")
    out = succeeds(
        "train", "--data", "shop.csv", "--label-column", "rating", "--columns", "all",
        "--encoder", tiny, "--out", "both", "--with-tfidf",
    )  # fmt: skip
    assert "columns  text 'text'; number 'price'; category 'shop'; date 'day'" in out
    assert "left out  'id': an id: each row has its own" in out
    added = read("both")["added"]
    assert added["both"] > max(added["text"], added["columns"])
    assert read("both", "model.json")["training"]["columns"] == {
        "text": ["text"], "number": ["price"], "category": ["shop"], "date": ["day"]
    }  # fmt: skip
    report = Path("both/report.html").read_text("utf-8")
    assert "What texts and other columns add" in report
    # On a narrow screen each cell of an example is a line, and has the name of its column.
    assert '<td class="n" data-name="rating">' in report
    assert Path("both/model.skops").exists()
    succeeds("classify", "--model", "both/model.skops", "--data", "shop.csv", "--out", "new.csv")
    labelled = pd.read_csv("new.csv")
    assert np.corrcoef(labelled["rating"], labelled["prediction"])[0, 1] > 0.7
    put("less.csv", shop().drop(columns="day"), header=True)
    less = ["--data", "less.csv", "--out", "other.csv"]
    refuses("there is no column 'day'", "classify", "--model", "both", *less)
    refuses("label a table", "classify", "--model", "both", "--text", "a film")
    refuses("which takes pandas and skrub", "export", "--model", "both", "--out", "exported")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--number-column", "nope"], "--number-column: shop.csv: there is no column 'nope'"),
        (["--number-column", "shop"], "is no number. Mend it, or name the column"),
        (["--number-column", "rating"], "--number-column rating: is the label"),
        (["--category-column", "text"], "'text' is named twice"),
    ],
)
def test_wrong_columns_are_one_line(refuses, tiny, arguments, message):
    pytest.importorskip("skrub")
    refuses(
        re.escape(message), "train", "--data", "shop.csv", "--label-column", "rating",
        "--text-column", "text", "--encoder", tiny, *arguments,
    )  # fmt: skip


def test_several_columns_need_a_label_that_is_named(refuses, tiny):
    refuses(
        "--label-column: name the one column to predict", "train", "--data", "shop.csv",
        "--text-column", "text", "--number-column", "price", "--encoder", tiny,
    )  # fmt: skip


def test_each_kind_of_model_has_its_own_training(tiny):
    frame = shop()
    texts, y = frame["text"].tolist(), frame["rating"].to_numpy()
    model = make_text_regressor(tiny, recipe="plain", cache_dir=None)
    with pytest.raises(InputError, match="predicts no classes; train it with train_numbers"):
        train(model, texts, y, texts, y)
    with pytest.raises(InputError, match="reads no columns"):
        train_columns(model, frame, y, frame, y)
    training = train_numbers(model, texts[:60], y[:60], texts[60:], y[60:], examples=False)
    assert training.metrics["task"] == "regression"
    assert training.outcome.mistakes == []
