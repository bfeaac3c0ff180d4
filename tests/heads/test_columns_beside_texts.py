"""Other columns beside the texts: their kinds, how they are read, and models of both."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from frozenbert import InputError, load_model, make_text_classifier, make_text_regressor, save_model
from frozenbert.heads.columns.kinds import as_dates, find_kinds, parse_columns
from frozenbert.heads.columns.reader import ColumnReader
from frozenbert.pipeline import predict, read_columns

pytest.importorskip("skrub")

N = 60
KINDS = {"text": "review", "number": "price", "category": "shop", "date": "day"}


def table(n=N):
    rng = np.random.default_rng(0)
    words = np.array(["good film", "fine actor here", "bad plot", "dull movie scene"])
    codes = rng.integers(0, 4, n)
    X = pd.DataFrame(
        {
            "review": [f"{words[code]} was {i} so slow" for i, code in enumerate(codes)],
            "price": rng.normal(size=n).round(2),
            "shop": rng.choice(["north", "south", "west"], n),
            "day": [f"2024-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(n)],
        }
    )
    return X, codes


def target():
    """What the text says, and what the price does."""
    X, codes = table()
    return X, np.where(codes < 2, 1.0, -1.0) + 3 * X["price"].to_numpy()


def settings(tiny, **more):
    return {"model_name": tiny, "recipe": "plain", "cache_dir": None, "cv": 3, **more}


def test_kinds_are_found_and_what_is_of_no_use_is_left_out():
    X, codes = table()
    X["number"] = np.arange(N)[::-1]
    X["code"] = [f"x{i}" for i in range(N)]
    X["same"] = "a"
    X["copy"] = np.array(["no", "yes"])[codes // 2]
    X["empty"] = None
    X["price"] = X["price"].astype(str)
    kinds, left_out = find_kinds(X, codes // 2)
    assert kinds == {kind: [name] for kind, name in KINDS.items()}
    assert {name: why.split(":")[0] for name, why in left_out.items()} == {
        "number": "an id", "code": "an id", "same": "constant",
        "copy": "a copy of the target", "empty": "empty",
    }  # fmt: skip


@pytest.mark.parametrize(
    "cells", [["26-Jul-18", "1-Jul-18"], ["2024-01-31", None], ["31.1.2024 10:30", "2.2.2024"]]
)
def test_dates_are_recognised(cells):
    assert as_dates(cells) is not None


@pytest.mark.parametrize("cells", [["5", "7"], [5, 7], ["Heather Gray", "Black"], ["a-b"]])
def test_numbers_and_words_are_no_dates(cells):
    assert as_dates(cells) is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("some", "'all', or a dict"),
        ({"texts": "a"}, "some of the keys text, number, category, date"),
        ({"number": "a"}, "no column of texts"),
        ({"text": "a", "date": ["a"]}, "'a' is named twice"),
    ],
)
def test_wrong_columns_are_refused(columns, message, tiny):
    with pytest.raises(InputError, match=message):
        parse_columns(columns)
    with pytest.raises(InputError, match=message):
        make_text_classifier(tiny, columns=columns)


def test_missing_cells_are_filled_and_counted():
    X, _ = table()
    X.loc[3, ["price", "shop", "day"]] = None
    X.loc[4, "review"] = None
    reader = ColumnReader(KINDS).fit(X)
    assert reader.missing_ == {"review": 1, "price": 1, "shop": 1, "day": 1}
    assert np.isfinite(reader.transform(X)).all()
    assert reader.texts(X)[0][4] == ""


def test_a_new_category_is_no_error_and_a_missing_column_is():
    X, _ = table()
    reader = ColumnReader(KINDS).fit(X)
    assert np.isfinite(reader.transform(X.assign(shop="east"))).all()
    with pytest.raises(InputError, match="column 'day' is missing; the model reads review"):
        reader.transform(X.drop(columns="day"))
    with pytest.raises(InputError, match=r"column 'price', row 2 .*: is no number"):
        reader.transform(X.astype({"price": object}).assign(price=["1", "2", "three"] * 20))


def test_the_order_of_columns_and_others_do_not_matter():
    X, _ = table()
    reader = ColumnReader(KINDS).fit(X)
    mixed = X[X.columns[::-1]].assign(more=1)
    assert reader.transform(mixed) == pytest.approx(reader.transform(X))
    assert reader.transform(pl.DataFrame(X.to_dict("list"))) == pytest.approx(reader.transform(X))


def test_columns_add_what_texts_do_not_know(tiny):
    X, y = target()
    model = make_text_regressor(**settings(tiny), columns=KINDS).fit(X, y)
    added = model[-1].added()
    assert added["both"] > added["text"] + 0.2
    assert added["both"] >= added["columns"] - 0.05
    assert read_columns(model) == ["review", "price", "shop", "day"]
    with pytest.raises(InputError, match="needs a DataFrame"):
        model.predict(X["review"].tolist())


def test_a_classifier_reads_columns_and_predicts_probabilities(tiny):
    X, y = target()
    labels = np.where(y > 0, "up", "down")
    model = make_text_classifier(**settings(tiny), columns="all").fit(X, labels)
    found = predict(model, X)
    assert list(found) == ["prediction", "proba_down", "proba_up"]
    assert np.mean(found["prediction"] == labels) > 0.8
    assert found["proba_up"] + found["proba_down"] == pytest.approx(1)
    with pytest.raises(InputError, match=r"multi_label=True: cannot be combined with columns"):
        make_text_classifier(tiny, columns=KINDS, multi_label=True)


def test_grades_and_several_columns_of_texts(tiny, tmp_path):
    X, y = target()
    X["title"] = X["review"].str[:4]
    grades = np.digitize(y, [-2, 2]) + 1
    columns = {**KINDS, "text": ["review", "title"]}
    model = make_text_regressor(**settings(tiny), task="ordinal", columns=columns).fit(X, grades)
    assert len(model[-1].estimators_) == 2
    assert set(model.predict(X)) <= {1, 2, 3}
    assert model.predict_proba(X).sum(axis=1) == pytest.approx(1)
    save_model(model, tmp_path / "model.joblib")
    loaded = load_model(tmp_path)
    for part in loaded[-1].estimators_:
        part.set_params(embed__model_name=tiny)
    assert (loaded.predict(X) == model.predict(X)).all()


def test_texts_alone_need_no_other_columns(tiny):
    X, y = target()
    X["title"] = X["review"].str[:4]
    columns = {"text": ["review", "title"]}
    model = make_text_regressor(**settings(tiny), columns=columns).fit(X, y)
    assert list(model[-1].added()) == ["text"]
    assert model.predict(X[["review", "title"]]).shape == (N,)
