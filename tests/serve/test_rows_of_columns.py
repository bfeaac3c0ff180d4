"""A served model of texts and other columns: its records, its tables, its page."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd
import pytest
from serving import serving

from frozenbert import make_text_classifier, make_text_regressor, save_model
from frozenbert.pipeline import predict
from frozenbert.serve.service import load_service

pytest.importorskip("skrub")

N = 60
KINDS = {"text": "review", "number": "price", "category": "shop", "date": "day"}
RECORD = {"review": "a good film", "price": 1.5, "shop": "north", "day": "2024-03-01"}


def table():
    rng = np.random.default_rng(0)
    words = np.array(["good film", "bad plot"])
    codes = rng.integers(0, 2, N)
    X = pd.DataFrame(
        {
            "review": [f"{words[code]} number {i}" for i, code in enumerate(codes)],
            "price": rng.normal(size=N).round(2),
            "shop": rng.choice(["north", "south"], N),
            "day": [f"2024-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(N)],
        }
    )
    return X, np.where(codes + X["price"] > 0.5, "up", "down")


@pytest.fixture(scope="module")
def model(tiny):
    X, y = table()
    how = {"recipe": "plain", "cache_dir": None, "cv": 3}
    return make_text_classifier(tiny, **how, columns=KINDS).fit(X, y)


@pytest.fixture(scope="module")
def client(model, tmp_path_factory):
    with serving(model, tmp_path_factory.mktemp("served")) as client:
        yield client


def ask(client, *records):
    return client("POST", "/predict", {"records": list(records)})


def test_records_are_answered_as_in_python(client, model):
    X, _ = table()
    expected = predict(model, X)
    answer = ask(client, *X.to_dict("records")).json
    assert answer["labels"] == ["down", "up"]
    assert answer["predictions"] == expected["prediction"].tolist()
    found = np.array(answer["probabilities"])[:, 1]
    np.testing.assert_allclose(found, expected["proba_up"], atol=1e-5)


def test_more_records_than_a_batch_has_are_answered_in_their_order(client, model):
    X = pd.concat([table()[0]] * 3)
    answer = ask(client, *X.to_dict("records")).json
    assert answer["predictions"] == predict(model, X)["prediction"].tolist()


def test_missing_cells_new_categories_and_further_columns_are_no_error(client):
    empty = dict.fromkeys(RECORD)
    answer = ask(client, {**RECORD, "shop": "east"}, empty, {**RECORD, "more": 1})
    assert answer.status == 200
    assert len(answer.json["predictions"]) == 3


def test_an_answer_depends_on_no_other_record(client):
    alone = ask(client, {**RECORD, "price": "1"}).json["probabilities"][0]
    others = [{**RECORD, "price": None, "day": "13/02/2024"}, {**RECORD, "shop": 7}]
    together = ask(client, {**RECORD, "price": 1}, *others).json["probabilities"][0]
    assert together == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"review": "a"}, "record 1 (counted from 0): column 'price' is missing; the model reads "
         "review, price, shop, day. Send null for a value that is not known."),
        ({**RECORD, "price": "much"}, "column 'price', row 1 (counted from 0): is no number."),
        ({**RECORD, "price": True}, "column 'price', row 1 (counted from 0): is no number."),
        ({**RECORD, "price": 1e999}, "column 'price', row 1 (counted from 0): is no number."),
        ({**RECORD, "day": "soon"}, "column 'day', row 1 (counted from 0): is no date."),
        ({**RECORD, "review": "a" * 10_001},
         "record 1 (counted from 0), column 'review', has 10,001 characters; the limit is 10,000."),
        ({**RECORD, "shop": "\ud800"},
         "record 1 (counted from 0), column 'shop', contains a lone surrogate, which is not valid "
         "Unicode."),
    ],
)  # fmt: skip
def test_a_wrong_record_is_refused(record, message, client):
    answer = ask(client, RECORD, record)
    assert (answer.status, answer.json["detail"]) == (422, message)


@pytest.mark.parametrize(
    "body", [{"texts": ["a film"]}, {"records": []}, {"records": [[1]]}, {"records": "a film"}, []]
)
def test_another_body_gets_an_example(body, client):
    answer = client("POST", "/predict", body)
    assert answer.status == 422
    expected = 'The body is {"records": [{"review": "a stirring film", "price": 4.5, '
    assert expected in answer.json["detail"]
    assert answer.json["detail"].endswith("with a list of records.")


def test_records_for_a_model_of_texts_are_refused(tmp_path):
    from serving import WordModel

    with serving(WordModel(), tmp_path) as client:
        answer = ask(client, RECORD)
    assert answer.status == 422
    assert answer.json["detail"].startswith("texts: Field required. The body is {")


def test_a_table_is_labelled(client, model):
    X, _ = table()
    body = X[X.columns[::-1]].to_csv(index=False).encode()
    answer = client("POST", "/predict.csv", body, {"Content-Type": "text/csv"})
    assert answer.status == 200
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert [row["prediction"] for row in rows] == predict(model, X)["prediction"].tolist()
    wrong = {
        "": (X.drop(columns="day"), "there is no column 'day'"),
        "?text_column=review": (X, "this model reads the columns review, price, shop, day"),
    }
    for query, (frame, message) in wrong.items():
        body = frame.to_csv(index=False).encode()
        answer = client("POST", f"/predict.csv{query}", body, {"Content-Type": "text/csv"})
        assert answer.status == 422
        assert message in answer.json["detail"]


def test_words_alone_explain_no_answer(client):
    answer = client("POST", "/explain", {"text": "a good film"})
    assert answer.status == 422
    assert answer.json["detail"].startswith("this model reads other columns too")


def test_the_card_and_the_description_name_the_columns(client):
    card = client("GET", "/model").json
    assert card["columns"] == {name: kind for kind, name in KINDS.items()}
    described = client("GET", "/openapi.json").json
    body = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    record = body["schema"]["properties"]["records"]["items"]
    assert record["required"] == ["review", "price", "shop", "day"]
    (example,) = body["schema"]["examples"]
    assert client("POST", "/predict", example).status == 200
    tables = described["paths"]["/predict.csv"]["post"]["requestBody"]["content"]
    for kind, content in tables.items():
        answer = client("POST", "/predict.csv", content["example"].encode(), {"Content-Type": kind})
        assert answer.status == 200
    assert "/explain" not in described["paths"]


def test_vectors_of_the_texts_are_served(client, model):
    answer = client("POST", "/v1/embeddings", {"input": "a film", "model": "served"})
    (embed,) = [
        step for _, step in model[-1].estimators_[0].steps if hasattr(step, "encoder_hash_")
    ]
    expected = embed.transform(["a film"])[0]
    model_name = client("GET", "/v1/models").json["data"][0]["id"]
    answer = client("POST", "/v1/embeddings", {"input": "a film", "model": model_name})
    assert answer.status == 200, answer.json
    assert answer.json["data"][0]["embedding"] == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_saved_model_of_grades_is_loaded_and_warm(tiny, tmp_path):
    X, _ = table()
    grades = np.digitize(X["price"], [-0.5, 0.5]) + 1
    how = {"recipe": "plain", "cache_dir": None, "cv": 3}
    model = make_text_regressor(tiny, **how, task="ordinal", columns=KINDS).fit(X, grades)
    save_model(model, tmp_path / "model.joblib")
    service = load_service(tmp_path, encoder_path=tiny)
    service.warm_up()
    assert service.path.name == "model.skops"
    assert service.card().task == "ordinal"
    assert set(service.predict([RECORD])) == {"prediction", "proba_1", "proba_2", "proba_3"}
