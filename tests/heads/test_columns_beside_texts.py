"""Other columns beside the texts: their kinds, how they are read, and models of both."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from frozenbert import InputError, load_model, make_text_classifier, make_text_regressor, save_model
from frozenbert.heads.columns.boosting import SETTINGS, BoostedClassifier, BoostedRegressor
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
    assert list(model[-1].added()) == ["text", "columns", "both"]
    assert list(model[-1].without()) == ["review", "title"]
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
    assert list(model[-1].without()) == ["review", "title"]
    assert model.predict(X[["review", "title"]]).shape == (N,)


def test_a_date_is_read_as_those_of_the_training_rows():
    days = [f"{1 + i % 28}/{1 + i % 12}/2024" for i in range(N)]
    days[7] = "31/1/2024"
    X = pd.DataFrame({"review": ["a b"] * N, "day": days})
    reader = ColumnReader({"text": "review", "date": "day"}).fit(X)
    assert reader.date_formats_ == {"day": "%d/%m/%Y"}
    new = pd.DataFrame({"review": ["a"] * 3, "day": ["2/3/2024", "2024-03-02", None]})
    found = reader.transform(new)
    assert found[0, 1] == 3  # the month, though nothing in the date tells
    assert found[1] == pytest.approx(found[0])
    assert found[:1] == pytest.approx(reader.transform(new[:1]))


def test_categories_that_look_like_numbers_stay_categories():
    X = pd.DataFrame({"review": ["a b"] * N, "size": [str(n % 3) for n in range(N)]})
    reader = ColumnReader({"text": "review", "category": "size"}).fit(X)
    assert reader.transform(X[:3]).tolist() == np.eye(3).tolist()


def test_many_categories_are_encoded_by_their_characters():
    X = pd.DataFrame({"review": ["a b"] * N, "city": [f"city {n}" for n in range(N)]})
    reader = ColumnReader({"text": "review", "category": "city"}).fit(X)
    missing = X.assign(city=None)
    assert reader.transform(X).shape == (N, 20)
    assert np.ptp(reader.transform(missing), axis=0).max() == 0
    near, far = reader.transform(X.assign(city=["cities"] + ["quux"] * (N - 1)))[:2]
    assert np.linalg.norm(near) > 0.1 > np.linalg.norm(far)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_trees_as_arrays_predict_what_scikit_learn_predicts(n_classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = X[:, 0] * X[:, 1]
    library = HistGradientBoostingRegressor(**SETTINGS, random_state=0).fit(X, y)
    assert BoostedRegressor().fit(X, y).predict(X) == pytest.approx(library.predict(X), abs=1e-9)
    classes = np.digitize(y, [-0.2, 0.2][: n_classes - 1])
    expected = HistGradientBoostingClassifier(**SETTINGS, random_state=0).fit(X, classes)
    found = BoostedClassifier().fit(X, classes)
    assert found.predict_proba(X) == pytest.approx(expected.predict_proba(X), abs=1e-9)
    assert (found.predict(X) == expected.predict(X)).all()


def test_trees_of_a_stranger_end_and_read_no_other_memory():
    X = np.arange(100.0)[:, np.newaxis]
    model = BoostedRegressor().fit(X, X[:, 0])
    model.left_[:] = model.right_[:] = 0  # in a circle
    assert np.isfinite(model.predict(X)).all()
    model.left_[:] = 10**12
    with pytest.raises(IndexError, match="out of bounds"):
        model.predict(X)


@pytest.mark.parametrize("last", ["linear", "boosting"])
@pytest.mark.parametrize("task", ["classification", "regression", "ordinal"])
def test_the_safe_form_predicts_what_the_joblib_file_predicts(
    task, last, tiny, tmp_path, monkeypatch
):
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(Path(tiny).parent))
    X, y = target()
    X["city"] = [f"city {n % 45}" for n in range(N)]
    X.loc[3, ["price", "shop", "day"]] = None
    y = np.nan_to_num(y)
    columns = {**KINDS, "category": ["shop", "city"]}
    if task == "classification":
        model = make_text_classifier(**settings(tiny), columns=columns)
        y = np.digitize(y, [-2, 2])
    else:
        model = make_text_regressor(**settings(tiny), columns=columns, task=task)
        y = y if task == "regression" else np.digitize(y, [-2, 2])
    head = model.fit(X, y)[-1]
    head.model_ = head._models()[last].fit(head._features(X), y)
    save_model(model, tmp_path / "model.joblib")
    assert (tmp_path / "model.skops").is_file()
    new = X.assign(shop="east")
    found = [predict(load_model(tmp_path / f"model.{form}"), new) for form in ("joblib", "skops")]
    expected = predict(model, new)
    assert list(found[1]) == list(expected)
    for one in found:
        for name, cells in one.items():
            if cells.dtype.kind == "f":
                assert cells == pytest.approx(expected[name], abs=1e-5)
            else:
                assert (cells == expected[name]).all()


def test_a_model_with_dates_names_the_extra_that_it_lacks(tiny, tmp_path, monkeypatch):
    X, y = target()
    model = make_text_regressor(**settings(tiny), columns=KINDS).fit(X, y)
    save_model(model, tmp_path / "model.joblib")
    for name in [name for name in sys.modules if name.partition(".")[0] == "skrub"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "skrub", None)
    for form in ("joblib", "skops"):
        with pytest.raises(InputError, match=r'needs skrub.*: pip install "frozenbert\[columns\]"'):
            load_model(tmp_path / f"model.{form}")


def test_what_each_of_several_columns_of_texts_adds(tiny):
    X, codes = table()
    X["title"] = [f"number {n % 7}" for n in range(N)]
    labels = np.where(codes < 2, "good", "bad")
    model = make_text_classifier(**settings(tiny), columns={"text": ["review", "title"]})
    head = model.fit(X, labels)[-1]
    without = head.without()
    assert without["review"] < without["title"]  # the review tells
    assert head.added()["text"] == next(step["score"] for step in head.ladder_ if step["kept"])
