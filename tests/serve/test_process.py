"""The command in its own process: under load, and at its end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from serving import BAD, DEADLINE, FILMS, GOOD, NOUNS, Client, save_films, wait_until

from frozenbert import load_model
from frozenbert.pipeline import predict

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_films(tmp_path_factory.mktemp("models") / "films")


@contextlib.contextmanager
def process(folder: Path, *options: str, **environment: str) -> Iterator[tuple]:
    """Start the command, and stop it at the end if it still runs."""
    command = [shutil.which("frozenbert") or "frozenbert", "serve", "--model", str(folder)]
    server = subprocess.Popen(
        [*command, "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
    )
    errors: list[str] = []
    reader = threading.Thread(
        target=lambda: errors.extend(server.stderr)
    )  # a full pipe would block it
    reader.start()
    try:
        output = []
        for line in server.stdout:
            output.append(line)
            if line.startswith("serving"):
                break
        assert "serving" in "".join(output), (output, errors)
        port = int(re.search(r":(\d+) ", output[-1])[1])
        yield server, Client(port), output, errors
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
            server.wait(DEADLINE)
        reader.join(10)
        server.stdout.close()
        server.stderr.close()


def test_500_requests_of_50_clients(packaged, folder):
    texts = [f"a {a} {noun} with a {b} ending" for a in GOOD for b in BAD for noun in NOUNS]
    texts = (texts * 2)[:500]
    expected = predict(load_model(folder), texts)
    before = set(folder.iterdir())
    with process(folder) as (_, client, output, errors), ThreadPoolExecutor(50) as pool:
        assert output[0].split() == ["model", f"{folder}/model.skops"]
        answers = list(pool.map(client.predict, texts))
        metrics = client("GET", "/metrics").body.decode()
    assert {answer.status for answer in answers} == {200}
    probabilities = np.array([answer.json["probabilities"][0] for answer in answers])
    expected_probabilities = np.stack([expected["proba_bad"], expected["proba_good"]], axis=1)
    np.testing.assert_allclose(probabilities, expected_probabilities, atol=1e-5)
    assert [answer.json["predictions"][0] for answer in answers] == expected["prediction"].tolist()
    assert "frozenbert_texts_total 500.0" in metrics
    batches = float(re.search(r"^frozenbert_batch_texts_count (\S+)", metrics, re.MULTILINE)[1])
    assert batches < 250, "concurrent requests share batches"
    assert set(folder.iterdir()) == before, "nothing is stored"
    assert not any(word in "".join(errors) for word in (*GOOD, *BAD))


def test_a_small_queue_under_load_answers_or_refuses(packaged, folder):
    with process(folder, "--max-waiting", "8") as (_, client, _, _), ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(client.predict, [FILMS[i % 120] for i in range(300)]))
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {200, 503}
    assert {answer.headers["retry-after"] for answer in answers if answer.status == 503} == {"1"}


@pytest.mark.usefixtures("_heard_hangups")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_end_under_load_loses_no_accepted_request(packaged, folder, number):
    """Each accepted request gets a whole answer; later ones cannot connect."""
    answered, unanswered = [], []
    ended = threading.Event()

    def ask_on(i: int) -> None:
        """Ask until the service has ended; half of the clients keep their connection."""
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=DEADLINE)
        for n in range(10_000):
            body = json.dumps({"texts": [f"{FILMS[(i + n) % 120]} {n}"]})
            try:
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                assert response.status == 200
                answered.append(json.loads(response.read())["predictions"])
            except (ConnectionError, http.client.BadStatusLine) as error:
                unanswered.append((error, ended.is_set()))
                return
            if i % 2:
                connection.close()

    with process(folder) as (server, client, _, errors), ThreadPoolExecutor(16) as pool:
        done = [pool.submit(ask_on, i) for i in range(16)]
        wait_until(lambda: len(answered) > 50)
        ended.set()
        server.send_signal(number)
        last = server.stdout.read()
        assert server.wait(DEADLINE) == 0
        for future in done:
            future.result()
    assert last.split() == ["stopped", f"{folder}/model.skops"]
    assert len(answered) > 50
    # The last request of each client was not accepted: the service logs each request that it
    # accepts, and it has answered each of those.
    assert len(unanswered) == 16
    assert all(after for _, after in unanswered)
    assert sum("POST /predict 200" in line for line in errors) == len(answered)
    assert not any("no answer" in line for line in errors)


def test_the_service_starts_without_the_joblib_file(packaged, folder, tmp_path):
    shutil.copy(folder / "model.skops", tmp_path / "model.skops")
    token = "a-token-that-is-long-enough"
    with process(tmp_path, "--host", "127.0.0.1", FROZENBERT_TOKEN=token) as (_, client, _, _):
        assert client.predict("a dull film").status == 401
        answer = client.predict("a dull film", headers={"Authorization": f"Bearer {token}"})
        assert answer.json["predictions"] == ["bad"]


def test_vectors_are_stored_only_where_asked(packaged, folder, tmp_path):
    with process(folder, "--cache-dir", str(tmp_path / "vectors")) as (_, client, _, _):
        assert client.predict("a dull film").status == 200
    assert (tmp_path / "vectors" / "vectors").is_dir()
