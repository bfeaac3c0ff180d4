"""Models loaded for serving, and `serve_model` with its parameters."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading

import numpy as np
import pytest
from serving import Client

from frozenbert import InputError, make_text_classifier, save_model
from frozenbert.embed import DistilBertVectorizer
from frozenbert.serve.process import host_names, serve_model
from frozenbert.serve.service import load_service
from frozenbert.utils.steps import find_steps

TEXTS, Y = ["good film", "bad film"] * 4, ["yes", "no"] * 4


@pytest.fixture
def folder(tiny, tmp_path):
    """A saved model on the tiny encoder, which lies beside it."""
    encoder = shutil.copytree(tiny, tmp_path / "encoder")
    model = make_text_classifier(str(encoder), recipe="plain", C=0.1, cv=2, cache_dir=None).fit(
        TEXTS, Y
    )
    save_model(model, tmp_path / "films" / "model.joblib")
    return tmp_path / "films"


def test_a_loaded_model_is_set_up_for_serving(folder, tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(tmp_path))
    service = load_service(folder, local_files_only=True, max_waiting=7, token="t", hosts=["a"])
    assert service.path == folder / "model.skops", "the safe form"
    assert (service.max_waiting, service.token, service.hosts) == (7, "t", ["a"])
    assert service.classes == ["no", "yes"]
    (vectorizer,) = find_steps(service.model, DistilBertVectorizer)
    assert (vectorizer.cache_dir, vectorizer.local_files_only) == (None, True)
    assert vectorizer.progress is False
    assert vectorizer.max_batch_tokens is None


def test_an_encoder_in_another_place(folder, tmp_path):
    (tmp_path / "encoder").rename(tmp_path / "moved")
    with pytest.raises(InputError, match="encoder"):
        load_service(folder)
    service = load_service(folder, encoder_path=tmp_path / "moved", cache_dir=tmp_path / "vectors")
    assert service.predict(["good film"])["prediction"].tolist() == ["yes"]
    assert (tmp_path / "vectors" / "vectors").is_dir(), "stored where it was asked"


def test_bfloat16_texts_share_batches(tiny, tmp_path):
    model = make_text_classifier(
        tiny, recipe="plain", C=0.1, cv=2, cache_dir=None, precision="bfloat16"
    )
    save_model(model.fit(TEXTS, Y), tmp_path / "model.joblib")
    service = load_service(tmp_path, encoder_path=tiny)
    (vectorizer,) = find_steps(service.model, DistilBertVectorizer)
    assert vectorizer.max_batch_tokens is None
    texts = [f"{word} film " * n for n in range(1, 8) for word in ("good", "bad")]
    together = service.predict(texts)
    alone = [service.predict([text]) for text in texts]
    assert together["prediction"].tolist() == [one["prediction"].item() for one in alone]
    np.testing.assert_allclose(
        together["proba_yes"], [one["proba_yes"].item() for one in alone], atol=0.02
    )


def test_serve_model_answers_until_it_is_stopped(folder, tiny, monkeypatch):
    monkeypatch.delenv("FROZENBERT_TOKEN", raising=False)
    answers = []

    def ask(client):
        answers.append(client.predict("good film"))
        os.kill(os.getpid(), signal.SIGINT)

    def on_ready(service, address):
        assert service.path == folder / "model.skops"
        client = Client(int(address.rpartition(":")[2]))
        threading.Thread(target=ask, args=[client]).start()

    serve_model(folder, port=0, encoder_path=tiny, on_ready=on_ready)
    assert [answer.json["predictions"] for answer in answers] == [["yes"]]


def test_beyond_loopback_a_token_is_required(monkeypatch):
    monkeypatch.delenv("FROZENBERT_TOKEN", raising=False)
    with pytest.raises(InputError, match="so FROZENBERT_TOKEN must contain a token") as caught:
        serve_model("x", host="0.0.0.0")
    assert caught.value.parameter == "host"
    for token in ("short", "with a space in it, and long", "é" * 20):
        monkeypatch.setenv("FROZENBERT_TOKEN", token)
        with pytest.raises(InputError, match="FROZENBERT_TOKEN: has") as caught:
            serve_model("x", host="0.0.0.0")
        assert token not in str(caught.value)


def test_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=r"\(Address already in use\); choose") as e:
            serve_model("x", port=port)
    assert str(e.value).startswith(f"port={port}: cannot listen on 127.0.0.1:{port} (")
    with pytest.raises(InputError, match="choose another port"):
        serve_model("x", port=70_000)


@pytest.mark.parametrize("name", ["max_body", "max_texts", "max_characters", "timeout"])
def test_limits_must_be_above_0(name):
    with pytest.raises(InputError, match=rf"{name}=0: must be above 0\."):
        serve_model("x", **{name: 0})


def test_names_of_the_service():
    assert host_names("127.0.0.1", ["*.example.org"])[-1] == "*.example.org"
    assert socket.gethostname() in host_names("0.0.0.0", [])
    assert "[::1]" in host_names("::1", [])
    with pytest.raises(InputError, match=r"allowed_hosts='foo\*': not a host's name"):
        host_names("127.0.0.1", ["foo*"])


def test_a_model_that_does_not_exist():
    with pytest.raises(InputError, match="nowhere"):
        serve_model("nowhere", port=0)


def test_forms_of_two_models_are_refused(folder):
    (folder / "model.joblib").write_bytes(b"another")
    with pytest.raises(InputError, match="model"):
        load_service(folder)


def test_missing_libraries_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "frozenbert.serve.process", raising=False)
    with pytest.raises(InputError, match=r'pip install "frozenbert\[serve\]"'):
        import frozenbert.serve.process  # noqa: F401
