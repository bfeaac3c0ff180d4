"""The web service: answers, refusals, privacy, and the card."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from serving import DEADLINE, LABELS, WordModel, serving, wait_for, wait_until

from frozenbert import make_text_classifier, save_model
from frozenbert.cli.main import main
from frozenbert.encoders.encoder import Encoder
from frozenbert.persistence.models import joblib_hash
from frozenbert.pipeline import predict
from frozenbert.reports.explanation import explain_answer, prepare
from frozenbert.serve.guard import Limits
from frozenbert.serve.service import WARM_UP
from frozenbert.tables.reading import read_table

PAGE = Path(__file__).parents[2] / "frozenbert" / "serve" / "page"


@pytest.fixture
def model():
    return WordModel()


@pytest.fixture
def client(model, tmp_path):
    with serving(model, tmp_path) as client:
        yield client


# Answers


def test_labels_and_probabilities(client):
    answer = client.predict("a good film", "a bad film", "bad bad", "")
    assert answer.status == 200
    assert answer.json["labels"] == LABELS
    assert answer.json["predictions"] == ["good", "bad", "bad", "good"]
    expected = [[1 / 3, 2 / 3], [2 / 3, 1 / 3], [0.75, 0.25], [0.5, 0.5]]
    np.testing.assert_allclose(answer.json["probabilities"], expected)


@pytest.mark.parametrize("many", [False, True])
def test_answers_equal_those_of_python(many, tiny, tmp_path):
    texts = [f"{word} film {n}" for n in range(10) for word in ("good", "bad")]
    y = np.array([[1, 0], [0, 1]] * 10) if many else ["yes", "no"] * 10
    model = make_text_classifier(
        tiny, recipe="plain", C=0.1, cv=2, multi_label=many, cache_dir=None
    ).fit(texts, y)
    new = ["a good one", "a bad one", ""]
    expected = predict(model, new)
    with serving(model, tmp_path) as client:
        answer = client.predict(*new).json
    if many:
        assert answer["labels"] == [0, 1]
        flags = [[label in chosen for label in (0, 1)] for chosen in answer["predictions"]]
        np.testing.assert_array_equal(
            flags, np.stack([expected["prediction_0"], expected["prediction_1"]], axis=1)
        )
    else:
        assert answer["labels"] == ["no", "yes"]
        assert answer["predictions"] == expected["prediction"].tolist()
    probabilities = [expected[f"proba_{label}"] for label in answer["labels"]]
    np.testing.assert_allclose(answer["probabilities"], np.transpose(probabilities), atol=1e-5)


def test_many_texts_are_answered_in_their_order(client, model):
    """Texts of about one length go into the same batch."""
    texts = [("good" if n % 3 else "bad") + " film" * (n * 7 % 90) for n in range(1000)]
    answer = client.predict(*texts).json
    assert answer["predictions"] == ["good" if n % 3 else "bad" for n in range(1000)]
    expected = [[1 / 3, 2 / 3] if n % 3 else [2 / 3, 1 / 3] for n in range(1000)]
    np.testing.assert_allclose(answer["probabilities"], expected)
    assert [len(call) for call in model.calls] == [64] * 15 + [40]
    spans = [(min(map(len, call)), max(map(len, call))) for call in model.calls]
    assert all(least >= most for (least, _), (_, most) in pairwise(spans))


def test_no_request_to_predict_waits_for_another_thread(client):
    """FastAPI calls functions that are no coroutines in threads of AnyIO."""
    for _ in range(3):
        assert client.predict("a good film").status == 200
    client("GET", "/metrics")
    assert not any("AnyIO" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.api+json"])
def test_types_of_json(client, kind):
    answer = client("POST", "/predict", b'{"texts": ["good"]}', {"Content-Type": kind})
    assert (answer.status, answer.json["predictions"]) == (200, ["good"])
    assert answer.headers["content-type"] == "application/json"


def test_odd_texts_are_accepted(client):
    odd = [
        "<script>alert(1)</script>",
        "a\0b",
        "x" * 10_000,
        "日本 🙂 \r\n",
        '"',
        "a" * 9_999 + "é",
    ]
    answer = client.predict(*odd)
    assert answer.status == 200
    assert len(answer.json["predictions"]) == len(odd)


def test_effect_of_each_word(client, monkeypatch):
    monkeypatch.setattr("frozenbert.reports.explanation.is_installed", lambda name: False)
    answer = client("POST", "/explain", {"text": "a good,  bad good"}).json
    assert answer["label"] == "good"
    assert answer["probability"] == pytest.approx(3 / 5)
    assert [(w["word"], w["start"]) for w in answer["words"]] == [
        ("a", 0), ("good,", 2), ("bad", 9), ("good", 13)
    ]  # fmt: skip
    weights = [w["weight"] for w in answer["words"]]
    assert weights == pytest.approx([0, 3 / 5 - 2 / 4, 3 / 5 - 3 / 4, 3 / 5 - 2 / 4])
    assert answer["without"] == pytest.approx(1 / 3)
    assert "leave one word out" in answer["method"]
    other = client("POST", "/explain", {"text": "a bad film", "label": "good"}).json
    assert other["label"] == "good"
    assert other["words"][1]["weight"] == pytest.approx(1 / 3 - 1 / 2)


def test_the_page_has_the_better_method_if_it_is_installed(client, model):
    pytest.importorskip("shap")
    explain_answer(model.predict_proba, LABELS, "so good", method="shapley")  # it compiles once
    answer = client("POST", "/explain", {"text": "a good,  bad good"}).json
    assert answer["method"].startswith("Shapley values")
    assert sum(w["weight"] for w in answer["words"]) == pytest.approx(3 / 5 - 1 / 2)


def test_the_page_prepares_explanations_and_predictions_do_not(client, monkeypatch):
    prepared = threading.Event()
    monkeypatch.setattr("frozenbert.serve.routes.prepare", prepared.set)
    client("GET", "/readyz")
    client.predict("a good film")
    assert not prepared.is_set()
    assert client("GET", "/").status == 200
    assert prepared.wait(DEADLINE)


def test_preparing_asks_no_model_and_loads_the_library(monkeypatch):
    shap = pytest.importorskip("shap")
    explainers = []
    permutation = shap.explainers.Permutation

    def counted(*arguments, **parameters):
        explainers.append(permutation(*arguments, **parameters))
        return explainers[-1]

    monkeypatch.setattr(shap.explainers, "Permutation", counted)
    prepare.cache_clear()
    prepare()
    prepare()
    assert len(explainers) == 1


def test_words_that_do_not_explain_the_answer_are_not_shown(client):
    answer = client("POST", "/explain", {"text": "a film and a plot"}).json
    assert (answer["words"], answer["n_words"]) == ([], 5)
    assert answer["without"] == pytest.approx(answer["probability"])


def test_at_most_64_words_are_tried(client, model, monkeypatch):
    monkeypatch.setattr("frozenbert.reports.explanation.is_installed", lambda name: False)
    answer = client("POST", "/explain", {"text": "good " * 4 + "word " * 96}).json
    assert (len(answer["words"]), answer["n_words"]) == (64, 100)
    assert sum(map(len, model.calls)) == 4, "each text once: whole, without one good or word, ..."
    assert client("POST", "/explain", {"text": ""}).json["words"] == []
    wrong = client("POST", "/explain", {"text": "a", "label": "ugly"})
    assert wrong.status == 422
    assert "label: this model has no such label" in wrong.json["detail"]


# Tables


def rows_of(answer, delimiter=","):
    content = io.StringIO(answer.body.decode(), newline="")
    return list(csv.reader(content, delimiter=delimiter))


def send(client, content, kind="text/csv", query=""):
    if isinstance(content, str):
        content = content.encode()
    return client("POST", f"/predict.csv{query}", content, {"Content-Type": kind})


def test_a_table_comes_back_with_predictions(client):
    answer = send(client, 'id,text\n007,"good, ""very""\ngood"\n8,bad\r\n9,\n')
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["x-rows"] == "3"
    header, *rows = rows_of(answer)
    assert header == ["id", "text", "prediction", "proba_bad", "proba_good"]
    assert [row[:3] for row in rows] == [
        ["007", 'good, "very"\ngood', "good"], ["8", "bad", "bad"], ["9", "", "good"]
    ]  # fmt: skip
    assert float(rows[0][4]) == pytest.approx(0.75)


def test_a_long_table_goes_block_by_block(client, model):
    answer = send(client, "text\n" + "".join(f"good {n}\n" for n in range(1000)))
    assert [row[0] for row in rows_of(answer)[1:]] == [f"good {n}" for n in range(1000)]
    assert max(map(len, model.calls)) <= 64


def test_named_columns(client):
    answer = send(client, "one,two\ngood,bad\n", query="?text_column=two&header=true")
    assert rows_of(answer)[1][2] == "bad"
    for query in ("?text_column=three", "?text_column=", "?text_column=three&header=true"):
        answer = send(client, "one,two\ngood,bad\n", query=query)
        assert answer.status == 422, query
        assert "three" in answer.json["detail"] or "''" in answer.json["detail"]
        assert "--" not in answer.json["detail"]


TABS = "text/tab-separated-values"


@pytest.mark.parametrize(
    ("content", "kind", "query", "delimiter"),
    [
        ("id,text\n1,good\n", "text/csv", "", ","),
        ("id;text\n1;good, not bad\n2;bad\n", "text/csv", "", ";"),
        ("id|text\n1|good, not bad\n2|bad\n", "text/csv", "", "|"),
        ("id\ttext\n1\tgood, not bad\n2\tbad\n", "text/csv", "", "\t"),
        ("id\ttext\n1\tgood\n", TABS, "", "\t"),
        ("sep=;\nid;text\n1;good, not bad\n", "text/csv", "", ";"),
        ("id;text\n1;good, not bad\n2;bad\n", "text/csv", "?delimiter=%3B", ";"),
        ("id,x;text\n1,x;good\n", "text/csv", "?delimiter=%3B&header=true", ";"),
        ("id,x;text\n1,x;good\n", "text/csv", "?delimiter=;&header=true", ";"),
        ("id|text\n1|good\n", "text/csv", "?delimiter=%7C", "|"),
        ("id\ttext\n1\tgood\n", "text/csv", "?delimiter=%09", "\t"),
        ("id\ttext\n1\tgood\n", "text/csv", "?delimiter=tab", "\t"),
        ("id;text\n1;good\n", TABS, "?delimiter=;", ";"),
    ],
)
def test_the_answer_has_the_delimiter_of_the_table(client, content, kind, query, delimiter):
    answer = send(client, content, kind, query)
    assert answer.status == 200, answer.body
    expected = TABS if delimiter == "\t" else "text/csv"
    assert answer.headers["content-type"] == f"{expected}; charset=utf-8"
    header, first, *_ = rows_of(answer, delimiter)
    assert header[1:] == ["text", "prediction", "proba_bad", "proba_good"]
    assert first[1].startswith("good")
    assert first[2] == "good"


def test_a_tab_separated_answer_is_read_back(client, tmp_path):
    texts = ['a "good', "good\nbad", "good\tbad", "bad"]
    rows = "".join(
        f'"{n}"\t"{text.replace(chr(34), chr(34) * 2)}"\n' for n, text in enumerate(texts)
    )
    answer = send(client, f'"id"\t"text"\n{rows}', TABS)
    (tmp_path / "answer.tsv").write_bytes(answer.body)
    table = read_table(tmp_path / "answer.tsv", header=True)
    assert table.frame["text"].tolist() == texts


def test_a_quote_in_tab_separated_rows_is_text(client):
    answer = send(client, 'a "good\tbad\n', TABS, "?text_column=1")
    assert rows_of(answer, "\t")[1][:3] == ['a "good', "bad", "bad"]


@pytest.mark.parametrize("delimiter", ["", "x", ",,", "%22", "%0A"])
def test_other_delimiters_are_refused(client, delimiter):
    answer = send(client, "id,text\n1,good\n", query=f"?delimiter={delimiter}")
    assert answer.status == 422
    assert answer.json["detail"].startswith("delimiter: ")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            "text\n" + "a\n" * 30,
            "table.csv: has more than 20 rows, which is the limit: send it in parts.",
        ),
        ("text\nfine\n" + "x" * 60, "row 1 (counted from 0) has 60 characters; the limit is 50."),
        ("text,n\na,1\nb\n", "table.csv, line 3: the number of fields is 1, but 2 in the rows"),
        ('text\n"a\n', "table.csv, line 2: "),
        ("text,prediction\na,1\n", "the table has a column 'prediction' already"),
        ("one,two\na b,c d\n", "text_column"),
        ("a;b,c\nd;e,f\n", "delimiter: table.csv: its rows can be split at"),
        ("sep=^\n" + "^" * 1000 + "\n", "table.csv: has more than 1,000 columns."),
        ("\n\nsep=;\n" + ";" * 1000 + "\n", "table.csv: has more than 1,000 columns."),
        ("", "table.csv: the table is empty"),
        (",".join(map(str, range(1001))) + "\n", "table.csv: has more than 1,000 columns."),
        ("text\n" + "a\n" * 20 + '"open', "table.csv, line 22: "),
        (b"text\n\xff\n", "line 2: the byte 0xff is not UTF-8"),
        (b"text\na\0b\n", "line 2: holds a NUL byte"),
        (b"PK\x03\x04\x00", "holds a NUL byte"),
    ],
)
def test_tables_that_are_refused(model, tmp_path, content, says):
    with serving(model, tmp_path, limits=Limits(texts=20, characters=50)) as client:
        answer = send(client, content)
    assert answer.status == 422
    assert says in answer.json["detail"]


# Refusals


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b'{"texts": ["a"', 400, "the body is not valid JSON"),
        (b"\xff\xfe", 400, ""),
        (b"[" * 100_000, 400, ""),
        (b"", 422, "body: Field required"),
        (b"3", 422, "body: Input should be a valid dictionary"),
        (b"{}", 422, "texts: Field required"),
        (b'{"texts": "a"}', 422, "texts: Input should be a valid list"),
        (b'{"texts": []}', 422, "texts: List should have at least 1 item"),
        (b'{"texts": ["a", 3]}', 422, "texts.1: Input should be a valid string"),
        (b'{"texts": [null]}', 422, "texts.0: Input should be a valid string"),
        (b'{"texts": ["\\ud800"]}', 422, "text 0 (counted from 0) contains a lone surrogate"),
        (json.dumps({"texts": ["a"] * 21}).encode(), 422, "21 texts; the limit is 20"),
        (json.dumps({"texts": ["a" * 51]}).encode(), 422, "text 0 (counted from 0) has 51 char"),
    ],
)
def test_requests_that_are_wrong(model, tmp_path, body, status, says):
    with serving(model, tmp_path, limits=Limits(texts=20, characters=50)) as client:
        answer = client("POST", "/predict", body, {"Content-Type": "application/json"})
        assert (answer.status, model.calls) == (status, [])
        assert says in answer.json["detail"]
        assert client.predict("fine").status == 200


@pytest.mark.parametrize(
    ("path", "body", "kind", "says"),
    [
        ("/predict", b'{"texts": ["a film"]}', None, "which is missing: {\"texts\": [\"a stirring"),
        ("/predict", b'{"texts": ["a film"]}', "application/x-www-form-urlencoded",
         "Content-Type: application/json, and not application/x-www-form-urlencoded: {"),
        ("/predict", b'{"text": "a film"}', "application/json",
         'texts: Field required. The body is {"texts": ["a stirring film"]}, with a list of '),
        ("/predict", b'{"texts": "a film"}', "application/json",
         'texts: Input should be a valid list. The body is {"texts": ["a stirring film"]}'),
        ("/explain", b'{"text": "a film"}', None, "which is missing: {\"text\": \"a stirring"),
        ("/explain", b'{"texts": ["a film"]}', "application/json",
         'text: Field required. The body is {"text": "a stirring film"}, with one text.'),
    ],
)  # fmt: skip
def test_a_wrong_body_is_answered_with_the_right_one(client, path, body, kind, says):
    answer = client("POST", path, body, {} if kind is None else {"Content-Type": kind})
    assert answer.status == 422
    assert says in answer.json["detail"]


def test_of_many_wrong_texts_one_is_named(client):
    begun = time.perf_counter()
    answer = client("POST", "/predict", {"texts": [1] * 1_000_000})
    assert answer.status == 422
    assert time.perf_counter() - begun < 20


def test_other_methods_paths_and_types(client):
    assert client("GET", "/predict").status == 405
    assert client("GET", "/nowhere").status == 404
    assert (
        client("POST", "/predict", b'{"texts": ["a"]}', {"Content-Type": "text/plain"}).status
        == 422
    )


def test_bodies_beyond_the_limit(model, tmp_path):
    with serving(model, tmp_path, limits=Limits(body=1000)) as client:
        assert client.predict("a" * 900).status == 200
        answer = client.predict("a" * 200_000)
        assert answer.status == 413
        assert answer.json["detail"] == "the request is larger than 1,000 bytes: send it in parts."
        parts = iter([b"x" * 400] * 20)
        chunked = client("POST", "/predict", parts)
        assert chunked.status == 413
        assert client.predict("fine").status == 200


def test_memory_for_bodies_is_bounded(model, tmp_path, monkeypatch):
    """Eight bodies of the largest size at a time; further requests are refused."""
    monkeypatch.setattr("frozenbert.serve.guard.SMALL_BODIES", 1)
    model.go.clear()
    size = 100_000
    limits = Limits(body=size, characters=size)
    with serving(model, tmp_path, limits=limits) as client, ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(client.predict, "a" * (size - 100)) for _ in range(12)]
        refused = [f.result() for f in wait_for(asked, 4)]
        model.go.set()
        statuses = sorted(f.result().status for f in asked)
    assert statuses == [200] * 8 + [503] * 4
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}


def test_the_time_limit_of_an_answer(model, tmp_path):
    model.go.clear()
    with serving(model, tmp_path, limits=Limits(seconds=1.5)) as client:
        answer = client.predict("a")
        assert (answer.status, answer.json["detail"]) == (
            504,
            "no answer within 1.5 seconds.",
        )
        model.go.set()
        assert client.predict("fine").status == 200


def test_a_full_queue_refuses_at_once(model, tmp_path):
    model.go.clear()
    with serving(model, tmp_path, max_waiting=4) as client, ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(client.predict, "a") for _ in range(20)]
        refused = [f.result() for f in wait_for(asked, 12)]
        assert {answer.status for answer in refused} == {503}
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        assert "4 texts are waiting already" in refused[0].json["detail"]
        wait_until(lambda: client("GET", "/readyz").status == 503)
        assert client("GET", "/healthz").status == 200
        waiting = client("GET", "/metrics").body.decode()
        model.go.set()
        statuses = [f.result().status for f in asked]
        assert re.search(r"^frozenbert_waiting_texts 4\.0$", waiting, re.MULTILINE)
        assert set(statuses) == {200, 503}
        assert statuses.count(200) >= 4
        assert client("GET", "/readyz").status == 200


def test_an_empty_queue_accepts_any_number_of_texts(model, tmp_path):
    with serving(model, tmp_path, max_waiting=4) as client:
        assert client.predict(*["good"] * 200).json["predictions"] == ["good"] * 200
        assert client("POST", "/explain", {"text": "word " * 64}).status == 200


def test_few_long_requests_at_a_time(model, tmp_path):
    model.go.clear()
    with serving(model, tmp_path) as client, ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(client.predict, *["good"] * 100) for _ in range(10)]
        asked += [pool.submit(send, client, "text\n" + "good\n" * 100) for _ in range(2)]
        refused = [f.result() for f in wait_for(asked, 4)]
        assert {answer.status for answer in refused} == {503}
        assert "8 requests of more than 64 texts" in refused[0].json["detail"]
        short = pool.submit(client.predict, "good")
        model.go.set()
        assert short.result().status == 200
        assert sorted(f.result().status for f in asked) == [200] * 8 + [503] * 4
        # Their places are free again, those of tables included.
        for _ in range(10):
            assert client.predict(*["good"] * 65).status == 200
            assert send(client, "text\n" + "good\n" * 65).status == 200


def test_requests_from_other_sites_are_refused(client):
    for site in ("cross-site", "same-site"):
        answer = client.predict("a", headers={"Sec-Fetch-Site": site})
        assert (answer.status, "other sites" in answer.json["detail"]) == (403, True)
    for site in ("same-origin", "none"):
        assert client.predict("a", headers={"Sec-Fetch-Site": site}).status == 200
    # Older browsers send only the page's origin.
    for origin, status in (("https://evil.example", 403), ("null", 403), (client.origin, 200)):
        assert client.predict("a", headers={"Origin": origin}).status == status


def test_a_token(model, tmp_path):
    token = "a-token-of-enough-letters"
    with serving(model, tmp_path, token=token) as client:
        for path in ("/", "/healthz", "/readyz", "/docs", "/openapi.json", "/page/page.js"):
            assert client("GET", path).status == 200, path
        for method, path in (
            ("POST", "/predict"), ("POST", "/predict.csv"), ("POST", "/explain"),
            ("GET", "/model"), ("GET", "/metrics"), ("GET", "/nowhere"),
        ):  # fmt: skip
            for sent in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": token}):
                answer = client(method, path, b"{}" if method == "POST" else None, sent)
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert client.predict("a", headers={"Authorization": f"bearer {token}"}).status == 200
        right = {"Authorization": f"Bearer {token}"}
        assert client.predict("a", headers=right).status == 200
        assert client("GET", "/model", headers=right).status == 200
        assert "HTTPBearer" in client("GET", "/openapi.json").body.decode()
    assert len(model.calls) == 2, "only those with the token"


# Headers, logs and privacy


def test_headers_of_every_answer(client):
    for method, path in (
        ("GET", "/"), ("GET", "/docs"), ("GET", "/nowhere"), ("GET", "/page/page.js"),
        ("POST", "/predict"), ("GET", "/model"),
    ):  # fmt: skip
        headers = client(method, path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers
    assert "unsafe" not in client("GET", "/docs").headers["content-security-policy"]


def test_nothing_comes_from_other_hosts(client):
    for file in PAGE.iterdir():
        content = file.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|[\"'(]//", content), file
    for name in re.findall(r'(?:src|href)="(/[^"]+)"', client("GET", "/docs").body.decode()):
        assert client("GET", name).status == 200, name


@pytest.fixture
def log(caplog):
    logging.getLogger("frozenbert.serve").propagate = True
    caplog.set_level(logging.DEBUG)
    return caplog


def test_no_text_is_logged_or_written(client, log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    secret, as_json = "unbearable secret", {"Content-Type": "application/json"}
    statuses = [
        client.predict("a secret").status,
        client.predict(secret).status,
        client("POST", "/predict", b'{"texts": "secret', as_json).status,
        client("POST", "/predict", {"texts": ["secret", 3]}).status,
        send(client, "text\nsecret\n" * 2000).status,
        send(client, f"text\n{secret}\n").status,
        send(client, "text,secret\n1\n").status,
        client("GET", "/secret?secret").status,
        client("GET", "/model?secret=secret").status,
    ]
    assert statuses == [200, 500, 400, 422, 200, 500, 422, 404, 200]
    assert "secret" not in log.text
    assert "POST /predict 200" in log.text
    assert "GET other 404" in log.text
    assert re.search(r"ValueError at .*serving\.py:\d+", log.text)
    assert not list(tmp_path.rglob("*"))


def test_a_failing_text_does_not_affect_other_requests(client, model):
    model.go.clear()
    with ThreadPoolExecutor(10) as pool:
        texts = ["good", "bad", "unbearable", "good good"]
        first = pool.submit(client.predict, "the model is busy")
        wait_until(lambda: model.entered == 1)
        asked = [pool.submit(client.predict, text) for text in texts]
        wait_until(lambda: client("GET", "/readyz").json["waiting_texts"] == 4)
        model.go.set()
        answers = [f.result() for f in asked]
        assert first.result().status == 200
    assert [answer.status for answer in answers] == [200, 200, 500, 200]
    assert answers[2].json == {"detail": "internal error; see the service's log."}
    assert answers[3].json["predictions"] == ["good"]
    assert sorted(map(len, model.calls)) == [1, 1, 1, 1, 1, 4], "together, then each alone"


# The card and the counters


def test_the_card_of_a_trained_model(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{w} film {n}\t{w}\n" for n in range(12) for w in ("good", "bad"))
    Path("train.tsv").write_text("text\tlabel\n" + rows, encoding="utf-8")
    options = ["--model", tiny, "--out", "films", "--cv", "2", "--C", "0.1", "--no-cache"]
    assert main(["train", "--recipe=plain", "--data", "train.tsv", *options]) == 0
    with serving(WordModel(), tmp_path / "films") as client:
        card = client("GET", "/model").json
    assert (card["name"], card["file"], card["data"]) == ("films", "model.skops", "train.tsv")
    assert card["encoder"]["name"] == "tiny"
    assert card["figures"]["n_train"] == 18
    assert card["figures"]["accuracy"] <= 1
    assert card["limits"]["body"] == 10_000_000
    assert str(tmp_path) not in json.dumps(card)
    # Figures of another model are left out.
    sidecar = json.loads(Path("films/model.json").read_text())
    Path("films/model.json").write_text(json.dumps({**sidecar, "model_sha256": "0" * 64}))
    with serving(WordModel(), tmp_path / "films") as client:
        assert client("GET", "/model").json["figures"] == {}


def test_the_title(tiny, tmp_path):
    """It is the one given, else the name in `model.json`, else the folder's."""
    texts, labels = ["good film", "bad film"] * 4, ["good", "bad"] * 4
    model = make_text_classifier(tiny, recipe="plain", C=0.1, cv=2, cache_dir=None).fit(
        texts, labels
    )
    folder = tmp_path / "films"
    save_model(model, folder / "model.joblib")
    sidecar = {"format": 1, "model_sha256": joblib_hash(folder / "model.joblib")}
    for named, given, expected in (
        ({}, None, "films"),
        ({"name": "Reviews of films"}, None, "Reviews of films"),
        ({"name": 3}, None, "films"),
        ({"name": "Reviews of films"}, "Our films", "Our films"),
    ):
        (folder / "model.json").write_text(json.dumps(sidecar | named))
        with serving(model, folder, title=given) as client:
            card = client("GET", "/model").json
            described = client("GET", "/openapi.json").json
        assert (card["title"], card["name"]) == (expected, "films")
        assert described["info"]["title"] == f"frozenbert: {expected}"


def test_the_service_warms_up_without_its_cache(tiny, tmp_path, monkeypatch):
    texts, labels = ["good film", "bad film"] * 4, ["good", "bad"] * 4
    model = make_text_classifier(tiny, recipe="plain", C=0.1, cv=2, cache_dir=None).fit(
        texts, labels
    )
    cache = tmp_path / "cache"
    model.set_params(embed__cache_dir=cache)
    batches = []

    def encode(*arguments, **settings):
        batches.append(1)
        return original(*arguments, **settings)

    original = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", encode)
    with serving(model, tmp_path / "films") as client:
        counters = client("GET", "/metrics").body.decode()  # answered when it is warm
        n_before = len(batches)
        assert not list(cache.rglob("*.npy"))
        assert client.predict("a good film").status == 200
    assert n_before >= len(WARM_UP)
    assert len(batches) == n_before + 1
    assert "texts_total 0.0" in counters
    assert model.named_steps["embed"].cache_dir == cache
    assert list(cache.rglob("*.npy"))


def test_counters_for_prometheus(client):
    client.predict("a", "b", "c")
    client("GET", "/nowhere")
    answer = client("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    text = answer.body.decode()
    for line in (
        'frozenbert_requests_total{path="/predict",status="200"} 1.0',
        'frozenbert_requests_total{path="other",status="404"} 1.0',
        "frozenbert_texts_total 3.0",
        "frozenbert_batch_texts_count 1.0",
        "frozenbert_waiting_texts 0.0",
    ):
        assert line in text.splitlines()
