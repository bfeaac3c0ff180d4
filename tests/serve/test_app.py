"""The web service: what it answers, what it refuses, and what it keeps to itself."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import logging
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from serving import LABELS, WordModel, serving

from frozenbert import InputError, make_text_classifier, save_model
from frozenbert.cli.main import main
from frozenbert.pipeline import predict
from frozenbert.serve.guard import Limits
from frozenbert.serve.request_queue import QueueFullError, RequestQueue

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
def test_a_model_of_ours_answers_as_in_python(many, tiny, tmp_path):
    texts = [f"{word} film {n}" for n in range(10) for word in ("good", "bad")]
    y = np.array([[1, 0], [0, 1]] * 10) if many else ["yes", "no"] * 10
    model = make_text_classifier(tiny, C=0.1, cv=2, multi_label=many, cache_dir=None).fit(texts, y)
    new = ["a good one", "a bad one", ""]
    expected = predict(model, new)
    with serving(model, tmp_path) as client:
        found = client.predict(*new).json
    if many:
        assert found["labels"] == [0, 1]
        flags = [[label in chosen for label in (0, 1)] for chosen in found["predictions"]]
        np.testing.assert_array_equal(
            flags, np.stack([expected["prediction_0"], expected["prediction_1"]], axis=1)
        )
    else:
        assert found["labels"] == ["no", "yes"]
        assert found["predictions"] == expected["prediction"].tolist()
    of_python = np.stack([expected[f"proba_{label}"] for label in found["labels"]], axis=1)
    np.testing.assert_allclose(found["probabilities"], of_python, atol=1e-6)


def test_odd_texts_are_texts(client):
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


def test_words_that_carry_an_answer(client, model):
    answer = client("POST", "/explain", {"text": "a good,  bad good"}).json
    assert answer["label"] == "good"
    assert answer["probability"] == pytest.approx(3 / 5)
    assert [(w["word"], w["start"]) for w in answer["words"]] == [
        ("a", 0), ("good,", 2), ("bad", 9), ("good", 13)
    ]  # fmt: skip
    weights = [w["weight"] for w in answer["words"]]
    assert weights == pytest.approx([0, 3 / 5 - 2 / 4, 3 / 5 - 3 / 4, 3 / 5 - 2 / 4])
    assert "approximate" in answer["method"]
    assert len(model.calls) == 1, "one batch"
    other = client("POST", "/explain", {"text": "a bad film", "label": "good"}).json
    assert other["label"] == "good"
    assert other["words"][1]["weight"] == pytest.approx(1 / 3 - 1 / 2)


def test_at_most_64_words_are_tried(client, model):
    answer = client("POST", "/explain", {"text": "word " * 100}).json
    assert (len(answer["words"]), answer["n_words"]) == (64, 100)
    assert len(model.calls[0]) == 65
    assert client("POST", "/explain", {"text": ""}).json["words"] == []
    wrong = client("POST", "/explain", {"text": "a", "label": "ugly"})
    assert (wrong.status, wrong.json["detail"][:26]) == (422, "label: is none of this mod")


# Tables


def rows_of(answer):
    return list(csv.reader(io.StringIO(answer.body.decode(), newline="")))


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


def test_tsv_and_named_columns(client):
    answer = send(client, 'a "good\tbad\n', "text/tab-separated-values", "?text_column=1")
    assert rows_of(answer)[1][:3] == ['a "good', "bad", "bad"]
    answer = send(client, "one,two\ngood,bad\n", query="?text_column=two&header=true")
    assert rows_of(answer)[1][2] == "bad"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            "text\n" + "a\n" * 30,
            "table.csv: has more than 20 rows, which is the limit: send parts.",
        ),
        ("text\nfine\n" + "x" * 60, "row 1 (counted from 0) has 60 characters; the limit is 50."),
        ("text,n\na,1\nb\n", "table.csv, line 3: the number of fields is 1, but 2 in the rows"),
        ('text\n"a\n', "table.csv, line 2: unexpected end of data"),
        ("text,prediction\na,1\n", "there is a column 'prediction' already"),
        ("one,two\na b,c d\n", "which column holds the texts? Say text_column=NAME; the columns"),
        ("", "table.csv: the table is empty"),
        (",".join(map(str, range(1001))) + "\n", "table.csv: has more than 1,000 columns."),
        ("text\n" + "a\n" * 20 + '"open', "table.csv, line 22: unexpected end of data"),
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
        (b'{"texts": ["a"', 400, "the body is no JSON"),
        (b"\xff\xfe", 400, ""),
        (b"[" * 100_000, 400, ""),
        (b"", 422, "body: Field required"),
        (b"3", 422, "body: Input should be a valid dictionary"),
        (b"{}", 422, "texts: Field required"),
        (b'{"texts": "a"}', 422, "texts: Input should be a valid list"),
        (b'{"texts": []}', 422, "texts: List should have at least 1 item"),
        (b'{"texts": ["a", 3]}', 422, "texts.1: Input should be a valid string"),
        (b'{"texts": [null]}', 422, "texts.0: Input should be a valid string"),
        (b'{"texts": ["\\ud800"]}', 422, "text 0 (counted from 0) holds a lone surrogate"),
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


def test_many_wrong_texts_are_said_as_one(client):
    begun = time.perf_counter()
    answer = client("POST", "/predict", {"texts": [1] * 1_000_000})
    assert answer.status == 422
    assert time.perf_counter() - begun < 5


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
    """Eight of the largest size at once; who comes later is told to try again."""
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


def wait_for(futures, n):
    until = time.monotonic() + 10
    while time.monotonic() < until:
        done = [f for f in futures if f.done()]
        if len(done) >= n:
            return done
        time.sleep(0.01)
    raise AssertionError(f"{len(done)} of {n} are done")


def test_slow_clients_are_let_go(model, tmp_path, monkeypatch):
    monkeypatch.setattr("frozenbert.serve.process.HEAD_SECONDS", 0.5)
    with serving(model, tmp_path, limits=Limits(seconds=0.5)) as client:
        with socket.create_connection(("127.0.0.1", client.port), timeout=10) as slow:
            slow.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"
            )
            assert b" 408 " in slow.recv(4096)
        for start in (b"", b"POST /pre", b"POST /predict HTTP/1.1\r\nHost: local"):
            with socket.create_connection(("127.0.0.1", client.port), timeout=10) as silent:
                silent.sendall(start)
                assert silent.recv(4096) == b""
        assert client.predict("fine").status == 200


def test_an_answer_that_takes_too_long(model, tmp_path):
    model.go.clear()
    with serving(model, tmp_path, limits=Limits(seconds=0.3)) as client:
        answer = client.predict("a")
        assert (answer.status, answer.json["detail"]) == (
            504,
            "no answer within 0.3 seconds.",
        )
        model.go.set()
        assert client.predict("fine").status == 200


def test_a_full_queue_says_so_at_once(model, tmp_path):
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


def test_more_texts_than_may_wait_are_answered_when_nobody_waits(model, tmp_path):
    with serving(model, tmp_path, max_waiting=4) as client:
        assert client.predict(*["good"] * 200).json["predictions"] == ["good"] * 200
        assert client("POST", "/explain", {"text": "word " * 64}).status == 200


def test_long_requests_are_few_at_a_time(model, tmp_path):
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
        # Their places are free again, those of tables too.
        for _ in range(10):
            assert client.predict(*["good"] * 65).status == 200
            assert send(client, "text\n" + "good\n" * 65).status == 200


def test_a_client_that_has_gone_leaves_the_queue(client, model):
    model.go.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.predict, "the model is busy")
        wait_until(lambda: model.entered == 1)
        body = json.dumps({"texts": ["never asked"] * 10}).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        with socket.create_connection(("127.0.0.1", client.port)) as going:
            going.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
            wait_until(lambda: client("GET", "/readyz").json["waiting_texts"] == 10)
        wait_until(lambda: client("GET", "/readyz").json["waiting_texts"] == 0)
        model.go.set()
        assert first.result().status == 200
    assert client.predict("fine").status == 200
    assert not any("never asked" in call for call in model.calls)


def test_a_client_that_does_not_read_is_let_go(model, tmp_path, log):
    with serving(model, tmp_path, limits=Limits(seconds=0.5)) as client:
        body = ("text\n" + f"{'good ' * 1000}\n" * 1900).encode()
        head = f"POST /predict.csv HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        with socket.create_connection(("127.0.0.1", client.port)) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(head.encode() + b"Content-Type: text/csv\r\n\r\n" + body)
            wait_until(lambda: "TimeoutError" in log.text, 30)
            assert client.predict("fine").status == 200


def test_names_that_are_not_ours(client):
    for host in ("evil.example", "localhost.evil.example", ""):
        assert client("GET", "/", headers={"Host": host}).status == 400
    for host in ("localhost", f"127.0.0.1:{client.port}", "[::1]:8000"):
        assert client("GET", "/", headers={"Host": host}).status == 200


def test_pages_of_other_sites(client):
    for site in ("cross-site", "same-site"):
        answer = client.predict("a", headers={"Sec-Fetch-Site": site})
        assert (answer.status, "other sites" in answer.json["detail"]) == (403, True)
    for site in ("same-origin", "none"):
        assert client.predict("a", headers={"Sec-Fetch-Site": site}).status == 200
    # Older browsers say only where the page is from.
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


# What it keeps to itself


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


def test_one_that_fails_spoils_no_other(client, model):
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
    assert answers[2].json == {"detail": "this went wrong here, and is noted in the log."}
    assert answers[3].json["predictions"] == ["good"]
    assert sorted(map(len, model.calls)) == [1, 1, 1, 1, 1, 4], "together, then each alone"


def wait_until(true, seconds=10):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


# The card, and figures for operators


def test_the_card_of_a_trained_model(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{w} film {n}\t{w}\n" for n in range(12) for w in ("good", "bad"))
    Path("train.tsv").write_text("text\tlabel\n" + rows, encoding="utf-8")
    options = ["--model", tiny, "--out", "films", "--cv", "2", "--C", "0.1", "--no-cache"]
    assert main(["train", "--data", "train.tsv", *options]) == 0
    with serving(WordModel(), tmp_path / "films") as client:
        card = client("GET", "/model").json
    assert (card["name"], card["file"], card["data"]) == ("films", "model.skops", "train.tsv")
    assert card["encoder"]["name"] == "tiny"
    assert card["figures"]["n_train"] == 18
    assert card["figures"]["accuracy"] <= 1
    assert card["limits"]["body"] == 10_000_000
    assert str(tmp_path) not in json.dumps(card)
    # Figures of another model are none of this one's.
    sidecar = json.loads(Path("films/model.json").read_text())
    Path("films/model.json").write_text(json.dumps({**sidecar, "model_sha256": "0" * 64}))
    with serving(WordModel(), tmp_path / "films") as client:
        assert client("GET", "/model").json["figures"] == {}


def test_figures_for_prometheus(client):
    client.predict("a", "b", "c")
    client("GET", "/nowhere")
    found = client("GET", "/metrics")
    assert found.headers["content-type"].startswith("text/plain")
    text = found.body.decode()
    for line in (
        'frozenbert_requests_total{path="/predict",status="200"} 1.0',
        'frozenbert_requests_total{path="other",status="404"} 1.0',
        "frozenbert_texts_total 3.0",
        "frozenbert_batch_texts_count 1.0",
        "frozenbert_waiting_texts 0.0",
    ):
        assert line in text.splitlines()


def test_the_description_of_the_api(client):
    found = client("GET", "/openapi.json").json
    assert {"/predict", "/predict.csv", "/explain", "/model", "/healthz", "/readyz"} <= set(
        found["paths"]
    )
    assert "text/csv" in found["paths"]["/predict.csv"]["post"]["requestBody"]["content"]


# The queue


def test_texts_that_arrive_together_share_a_batch():
    calls = []

    def lengths(texts):
        calls.append(list(texts))
        time.sleep(0.02)
        return {"n": np.array([len(text) for text in texts])}

    async def together():
        batcher = RequestQueue(lengths, max_batch=8)
        async with batcher.running():
            return await asyncio.gather(*(batcher.ask(["x" * n, ""]) for n in range(20)))

    found = asyncio.run(together())
    assert [answer["n"].tolist() for answer in found] == [[n, 0] for n in range(20)]
    assert [len(call) for call in calls] == [8] * 5


def test_whoever_gives_up_leaves_the_queue():
    go, calls = threading.Event(), []

    def lengths(texts):
        calls.append(list(texts))
        go.wait(10)
        return {"n": np.array([len(text) for text in texts])}

    async def given_up():
        batcher = RequestQueue(lengths, max_waiting=2, wait=0)
        async with batcher.running():
            busy = asyncio.create_task(batcher.ask(["first"]))
            await asyncio.sleep(0.05)
            tasks = [asyncio.create_task(batcher.ask([name])) for name in ("a", "b")]
            await asyncio.sleep(0.05)
            with pytest.raises(QueueFullError):
                await batcher.ask(["c"])
            tasks[0].cancel()
            await asyncio.sleep(0.05)
            assert batcher.waiting == 1
            last = asyncio.create_task(batcher.ask(["d"]))
            await asyncio.sleep(0.05)
            go.set()
            return await asyncio.gather(busy, tasks[1], last)

    assert [answer["n"].item() for answer in asyncio.run(given_up())] == [5, 1, 1]
    assert calls == [["first"], ["b", "d"]]


def test_nothing_is_computed_again_for_nobody():
    go, calls = threading.Event(), []

    def fails_together(texts):
        calls.append(list(texts))
        go.wait(10)
        if len(texts) > 1:
            raise ValueError
        return {"n": np.array([len(text) for text in texts])}

    async def given_up():
        batcher = RequestQueue(fails_together)
        async with batcher.running():
            tasks = [asyncio.create_task(batcher.ask([name])) for name in ("goes", "stays")]
            while not calls:
                await asyncio.sleep(0.01)
            tasks[0].cancel()
            await asyncio.sleep(0.05)
            go.set()
            return await tasks[1]

    assert asyncio.run(given_up())["n"].item() == 5
    assert calls == [["goes", "stays"], ["stays"]]


def test_the_end_waits_for_answers():
    async def ended():
        batcher = RequestQueue(lambda texts: (time.sleep(0.1), {"n": np.arange(len(texts))})[1])
        async with batcher.running():
            task = asyncio.create_task(batcher.ask(["a", "b"]))
            await asyncio.sleep(0.02)
        return await task

    assert asyncio.run(ended())["n"].tolist() == [0, 1]


# The command


def refused(capsys, *options):
    assert main(["serve", *map(str, options)]) == 2
    return capsys.readouterr().err


def test_beyond_loopback_a_token_is_demanded(capsys, monkeypatch):
    monkeypatch.delenv("FROZENBERT_TOKEN", raising=False)
    said = refused(capsys, "--model", "x", "--host", "0.0.0.0")
    assert "--host 0.0.0.0: others can reach that, so FROZENBERT_TOKEN must hold a token" in said
    for token in ("short", "with a space in it, and long", "é" * 20):
        monkeypatch.setenv("FROZENBERT_TOKEN", token)
        said = refused(capsys, "--model", "x", "--host", "0.0.0.0")
        assert "FROZENBERT_TOKEN: has" in said
        assert token not in said


def test_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(capsys, "--model", "x", "--port", port)
    assert f"--host 127.0.0.1 --port {port}: cannot be listened at (" in said
    assert "Address already in use" in said
    assert "choose another --port" in refused(capsys, "--model", "x", "--port", 70_000)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--allowed-host", "foo*"], "--allowed-host foo*: is no host's name"),
        (["--timeout", "0s"], "--timeout: must be above 0"),
        (["--max-body", "0"], "--max-body: must be above 0"),
        (["--host", "no such host.example"], "FROZENBERT_TOKEN must hold a token"),
    ],
)
def test_options_that_are_wrong(capsys, options, says):
    assert says in refused(capsys, "--model", "x", *options)


def test_a_model_that_is_not_there(capsys):
    said = refused(capsys, "--model", "nowhere", "--port", 0)
    assert "nowhere: there is no such model file" in said


def test_forms_that_do_not_belong_together_are_not_served(tiny, tmp_path, capsys):
    texts, y = ["good film", "bad film"] * 4, ["yes", "no"] * 4
    model = make_text_classifier(tiny, C=0.1, cv=2, cache_dir=None).fit(texts, y)
    save_model(model, tmp_path / "model.joblib")
    (tmp_path / "model.joblib").write_bytes(b"another")
    assert "are not of one model" in refused(capsys, "--model", tmp_path, "--port", 0)


def test_without_its_libraries_it_says_so(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "frozenbert.serve.process", raising=False)
    with pytest.raises(InputError, match=r'pip install "frozenbert\[serve\]"'):
        import frozenbert.serve.process  # noqa: F401
