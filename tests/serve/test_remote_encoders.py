"""Remote encoders: the same cache, texts leave this process only if it allows that."""

from __future__ import annotations

import json
import pickle
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from serving import serving
from sklearn.base import clone

from frozenbert import (
    DistilBertVectorizer,
    FineTunedClassifier,
    export_model,
    load_model,
    make_text_classifier,
    save_model,
)
from frozenbert.cli.main import main
from frozenbert.encoders.remote import check_vectors, client
from frozenbert.encoders.sources import find_encoder
from frozenbert.errors import (
    EncoderMismatchError,
    EncoderNotFoundError,
    InputError,
    RemoteEncoderError,
)
from frozenbert.utils.steps import find_step
from frozenbert.vectors import engines

pytest.importorskip("openai", reason="the extra `remote` is not installed")

TEXTS = [f"a {word} film of {i} scenes" for i in range(20) for word in ("good", "bad", "slow")]
LABELS = ["yes", "no", "no"] * 20
SECRET = "zyzzyva"


class Stub:
    """A server whose vectors are drawn by a seed, and which fails when it is told to."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.headers: list[dict[str, str]] = []
        self.seed = 0
        self.noise = 0.0
        self.width = 8
        self.answer = None  # what to answer instead: status and body
        self.fails_after = None  # requests

    def vectors(self, texts):
        vectors = []
        for text in texts:
            rng = np.random.default_rng([self.seed, *text.encode()])
            vector = rng.standard_normal(self.width)
            vectors.append(vector + self.noise * np.random.default_rng().standard_normal(8))
        return vectors

    def respond(self, body, headers):
        self.requests.append(body["input"])
        self.headers.append(headers)
        late = self.fails_after is not None and len(self.requests) > self.fails_after
        if late or (self.answer is not None and self.fails_after is None):
            return self.answer
        # In any order: the client sorts by index.
        data = [
            {"object": "embedding", "index": i, "embedding": vector.tolist()}
            for i, vector in enumerate(self.vectors(body["input"]))
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return 200, {"object": "list", "data": data[::-1], "model": "m", "usage": usage}


@contextmanager
def listening(stub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, content = stub.respond(body, {k.lower(): v for k, v in self.headers.items()})
            content = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if status in (301, 307):
                self.send_header("Location", "http://127.0.0.1:9/v1/embeddings")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client, "RETRIES", 0)


@pytest.fixture
def stub(monkeypatch):
    stub = Stub()
    with listening(stub) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "a-key")
        yield stub


def remote(name="openai:m", **parameters):
    return DistilBertVectorizer(name, **{"allow_remote": True, "progress": False, **parameters})


def texts_sent(stub):
    return [text for texts in stub.requests for text in texts if text != check_vectors.CHECK_TEXT]


def test_vectors_are_those_of_the_encoder_behind_our_own_service(tiny, monkeypatch):
    token = "a-token-of-enough-letters"
    texts = [*TEXTS, "", "¡qué película! 🎬", *[f"film {i}" for i in range(300)]]
    served = DistilBertVectorizer(tiny, pooling="mean", cache_dir=None, progress=False).fit([""])
    with serving(served, None, token=token) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.origin}/v1/")
        monkeypatch.setenv("OPENAI_API_KEY", token)
        embed = remote("openai:tiny")
        found = embed.fit_transform(texts)
        np.testing.assert_allclose(found, served.transform(texts), rtol=0, atol=1e-6)
        assert (found.dtype, embed.n_features_out_, embed.encoder_name_) == (
            np.float32,
            32,
            "openai:tiny",
        )
        assert embed.get_feature_names_out()[[0, 31]].tolist() == ["remote_0", "remote_31"]
        with pytest.raises(EncoderNotFoundError, match="has no such model"):
            remote("openai:other").fit(TEXTS)
        monkeypatch.setenv("OPENAI_API_KEY", "a-wrong-token-of-letters")
        with pytest.raises(RemoteEncoderError, match=r"refuses the key in OPENAI_API_KEY \(401"):
            remote("openai:tiny").fit(TEXTS)


def test_each_text_is_sent_once(stub):
    embed = remote().fit([""])
    assert texts_sent(stub) == [], "fit needs the width alone"
    vectors = embed.transform([*TEXTS, *TEXTS])
    np.testing.assert_allclose(vectors, np.tile(stub.vectors(TEXTS), (2, 1)), atol=1e-6)
    assert sorted(texts_sent(stub)) == sorted(TEXTS)
    n_requests = len(stub.requests)
    assert (embed.transform(TEXTS) == vectors[: len(TEXTS)]).all()
    assert len(stub.requests) == n_requests
    # A new vectorizer asks for the check text alone.
    assert (remote().fit_transform(TEXTS) == vectors[: len(TEXTS)]).all()
    assert len(stub.requests) == n_requests + 1
    assert stub.headers[-1]["authorization"] == "Bearer a-key"


def test_requests_are_bounded(stub, monkeypatch):
    monkeypatch.setattr(engines, "REQUEST_TEXTS", 7)
    remote(cache_dir=None).fit_transform(TEXTS)
    assert max(map(len, stub.requests)) == 8  # and the check text
    stub.requests.clear()
    monkeypatch.setattr(engines, "REQUEST_BYTES", 100)
    remote(cache_dir=None).fit_transform(TEXTS)
    assert max(len("".join(texts[1:])) for texts in stub.requests) <= 100
    assert sorted(texts_sent(stub)) == sorted(TEXTS)


def test_prompt_cut_and_length_are_ours(stub):
    embed = remote(prompt="query: ", normalize=True, truncate_dim=3)
    found = embed.fit_transform(TEXTS)
    expected = np.array(stub.vectors([f"query: {text}" for text in TEXTS]))[:, :3]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    n_requests = len(stub.requests)
    remote(prompt="query: ").fit_transform(TEXTS)
    assert len(stub.requests) == n_requests + 1, "the cache stores whole vectors"


def test_nothing_is_sent_unless_that_is_allowed(stub):
    with pytest.raises(InputError, match="allow_remote=False: encoder 'openai:m' computes on"):
        remote(allow_remote=False).fit(TEXTS)
    with pytest.raises(InputError, match="local_files_only=True: encoder 'openai:m' computes on"):
        remote(local_files_only=True).fit(TEXTS)
    assert stub.requests == []


def test_the_permission_is_never_stored(stub, tmp_path):
    model = make_text_classifier("openai:m", allow_remote=True).fit(TEXTS, LABELS)
    embed = find_step(model, DistilBertVectorizer)
    assert clone(embed).allow_remote, "a copy for another fold of this process"
    assert not pickle.loads(pickle.dumps(embed)).allow_remote
    save_model(model, tmp_path / "model.joblib")
    expected = model.predict([SECRET])
    for name in ("model.joblib", "model.skops"):
        stub.requests.clear()
        loaded = load_model(tmp_path / name)
        with pytest.raises(InputError, match="allow_remote=False: encoder 'openai:m'") as raised:
            loaded.predict([SECRET])
        assert SECRET not in str(raised.value)
        assert stub.requests == []
        find_step(loaded, DistilBertVectorizer).set_params(allow_remote=True)
        assert loaded.predict([SECRET]).tolist() == expected.tolist()
        assert texts_sent(stub) == [SECRET]


def test_a_model_holds_neither_key_nor_address(stub, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    model = make_text_classifier("openai:m", allow_remote=True, recipe="plain", cache_dir=None)
    save_model(model.fit(TEXTS, LABELS), tmp_path / "model.joblib")
    plain = pickle.dumps(load_model(tmp_path / "model.joblib"))
    for secret in (b"sk-very-secret", b"127.0.0.1"):
        assert secret not in plain


def test_vectors_of_the_cache_need_no_permission_and_no_server(stub, monkeypatch):
    embed = remote()
    vectors = embed.fit_transform(TEXTS)
    embed.set_params(allow_remote=False, local_files_only=True)
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert (embed.transform(TEXTS) == vectors).all()


def test_another_encoder_under_the_same_name_is_refused(stub):
    embed = remote()
    vectors = embed.fit_transform(TEXTS)
    stub.seed = 1
    assert (embed.transform(TEXTS) == vectors).all()
    with pytest.raises(EncoderMismatchError, match="the vector of a fixed text has a cosine of"):
        embed.transform(["another text"])
    again = remote()
    assert not np.allclose(again.fit_transform(TEXTS), vectors)
    assert again.encoder_hash_ != embed.encoder_hash_
    stub.seed = 0
    assert (embed.transform(["another text"]) == remote().fit_transform(["another text"])).all()


def test_small_differences_between_answers_keep_the_cache(stub):
    stub.noise = 1e-4
    embed = remote()
    vectors = embed.fit_transform(TEXTS)
    n_requests = len(stub.requests)
    again = remote()
    assert (again.fit_transform(TEXTS) == vectors).all()
    assert (again.encoder_hash_, len(stub.requests)) == (embed.encoder_hash_, n_requests + 1)


@pytest.mark.parametrize("change", ["url", "model", "width"])
def test_what_the_key_of_the_cache_depends_on(stub, monkeypatch, change):
    first = remote().fit(TEXTS).encoder_hash_
    name = "openai:other" if change == "model" else "openai:m"
    if change == "width":
        monkeypatch.setattr(Stub, "vectors", lambda self, texts: np.ones((len(texts), 4)))
    if change == "url":
        base = client.os.environ["OPENAI_BASE_URL"].replace("127.0.0.1", "localhost")
        monkeypatch.setenv("OPENAI_BASE_URL", base)
    assert remote(name).fit(TEXTS).encoder_hash_ != first


def test_what_was_received_before_a_failure_is_in_the_cache(stub, monkeypatch):
    monkeypatch.setattr(engines, "REQUEST_TEXTS", 10)
    stub.answer, stub.fails_after = (429, {"error": {"message": SECRET, "code": "x"}}), 4
    embed = remote(num_threads=1).fit([""])
    with pytest.raises(RemoteEncoderError, match=r"no more requests for now.*\(429, x\)") as raised:
        embed.transform(TEXTS)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None, "the client's error contains the texts"
    stub.fails_after = stub.answer = None
    before = {text for texts in stub.requests[1:4] for text in texts[1:]}
    assert len(before) == 30
    stub.requests.clear()
    found = embed.transform(TEXTS)
    assert not before & set(texts_sent(stub))
    np.testing.assert_allclose(found, stub.vectors(TEXTS), atol=1e-6)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, {"error": {"message": SECRET}}, r"refuses the key in OPENAI_API_KEY \(401\)\.$"),
        (403, {}, r"refuses the key in OPENAI_API_KEY \(403\)\.$"),
        (400, {"error": {"code": "too_long"}}, r"refuses a request of 1 texts \(400, too_long\)"),
        (400, {"error": {"code": f"no {SECRET}"}}, r"refuses a request of 1 texts \(400\);"),
        (307, {}, r"failed \(307\)\.$"),
        (500, {"error": SECRET}, r"failed \(500\)\.$"),
        (200, {"data": []}, r"gave an answer that "),
        (200, {"data": [{"index": 0, "embedding": [float("nan")]}]}, "contains no vectors"),
        (200, {"data": [{"index": 0, "embedding": ["a"]}]}, "contains no vectors"),
        (200, {}, r"gave an answer that "),
        (200, [SECRET], r"gave an answer that "),
    ],
)
def test_refusals_are_one_line_without_the_servers_words(stub, status, body, message):
    stub.answer = status, body
    with pytest.raises(RemoteEncoderError, match=message) as raised:
        remote().fit(TEXTS)
    assert SECRET not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_server_that_does_not_answer(monkeypatch, stub):
    monkeypatch.setattr(client, "ANSWERS_WITHIN", 0.2)
    respond, go = stub.respond, threading.Event()
    stub.respond = lambda *request: (go.wait(30), respond(*request))[1]
    try:
        with pytest.raises(RemoteEncoderError, match="did not answer within 0 s, 1 times"):
            remote().fit(TEXTS)
    finally:
        go.set()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(RemoteEncoderError, match=r"127\.0\.0\.1:9 cannot be reached"):
        remote().fit(TEXTS)


def test_the_client_tries_again(stub, monkeypatch):
    monkeypatch.setattr(client, "RETRIES", 2)
    monkeypatch.setattr("openai._base_client.time.sleep", lambda _: None)
    answers = [(500, {}), (429, {}), None]

    def respond(body, headers):
        stub.answer = answers.pop(0) if answers else None
        return Stub.respond(stub, body, headers)

    stub.respond = respond
    assert remote().fit(TEXTS).n_features_out_ == 8
    assert len(stub.requests) == 3


def test_without_a_key(stub, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    with pytest.raises(RemoteEncoderError, match="OPENAI_API_KEY is not set, and 127"):
        remote().fit(TEXTS)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.org/v1", "https is needed for example.org"),
        ("http://127.0.0.1.example.org/v1", "https is needed for 127.0.0.1.example.org"),
        ("http://10.0.0.1:8000/v1", "https is needed for 10.0.0.1:8000"),
        ("ftp://127.0.0.1/v1", "https is needed for 127.0.0.1"),
        ("example.org", "an address such as https://api.openai.com/v1 is needed"),
        ("https://user:pass@example.org/v1", "an address such as"),
        ("https://example.org/v1?key=abc", "an address such as"),
        ("https://example.org:port/v1", "an address such as"),
    ],
)
def test_texts_are_sent_over_https_alone(monkeypatch, url, message):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    with pytest.raises(InputError, match=f"OPENAI_BASE_URL: {message}") as raised:
        remote().fit(TEXTS)
    assert "pass" not in str(raised.value)
    assert "abc" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://localhost:1/v1", "http://[::1]:1/v1", "http://127.8.0.1"])
def test_http_is_possible_on_this_machine(monkeypatch, url):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    assert client.RemoteClient("m").url == url


def test_no_proxy_carries_plain_http(stub, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert remote().fit_transform(TEXTS).shape == (60, 8)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("layers", 6),
        ("layers", (-1, -2)),
        ("pooling", "mean"),
        ("pooling", ("cls", "mean")),
        ("precision", "int8"),
        ("precision", "auto"),
        ("long_text", "windows"),
        ("long_text", "head_tail"),
        ("max_length", 20),
        ("backend", "openvino"),
        ("device", "cpu"),
        ("revision", "main"),
        ("max_batch_tokens", 10),
        ("store_weights", True),
    ],
)
def test_settings_that_a_remote_encoder_does_not_have(stub, parameter, value):
    with pytest.raises(InputError, match="a remote encoder returns one vector") as raised:
        remote(**{parameter: value}).fit(TEXTS)
    assert raised.value.parameter == parameter
    assert stub.requests == []


def test_fine_tuning_and_export_are_refused(stub, tmp_path):
    with pytest.raises(InputError, match="cannot be fine-tuned or exported"):
        FineTunedClassifier("openai:m", tmp_path / "tuned").fit(TEXTS, LABELS)
    with pytest.raises(InputError, match="a remote encoder has no files"):
        find_encoder("openai:m")
    model = make_text_classifier("openai:m", allow_remote=True, recipe="plain")
    save_model(model.fit(TEXTS, LABELS), tmp_path / "m" / "model.joblib")
    with pytest.raises(InputError, match="computes on another machine; there is nothing to export"):
        export_model(tmp_path / "m", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_remote_encoder_is_not_mixed_with_others(stub, tiny):
    embed = DistilBertVectorizer(tiny, cache_dir=None).fit(TEXTS)
    embed.set_params(model_name="openai:m", allow_remote=True)
    with pytest.raises(EncoderMismatchError, match="is not the one fitted with, 'tiny'"):
        embed.transform(TEXTS)
    embed = remote(cache_dir=None).fit(TEXTS).set_params(model_name=tiny)
    with pytest.raises(EncoderMismatchError, match="fitted with 'openai:m'"):
        embed.transform(TEXTS)
    assert remote("openai:").get_params()["model_name"] == "openai:"
    with pytest.raises(InputError, match="the model's name is missing after 'openai:'"):
        remote("openai:").fit(TEXTS)


def test_the_cache_may_be_damaged_or_read_only(stub, tmp_path):
    remote(cache_dir=tmp_path).fit(TEXTS)
    (file,) = tmp_path.glob("remote/*/*.npy")
    assert np.load(file).shape == (8,)
    assert file.parent.stat().st_mode & 0o777 == 0o700
    file.write_bytes(b"damaged")
    assert remote(cache_dir=tmp_path).fit_transform(TEXTS).shape == (60, 8)


def command(*arguments):
    return main([str(argument) for argument in arguments])


def test_the_commands(stub, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    lines = [f"{text} {SECRET},{label}" for text, label in zip(TEXTS, LABELS, strict=True)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines]), "utf-8")
    train = ["train", "--data", "train.csv", "--out", "m", "--recipe", "plain"]
    encoder = ["--encoder", "openai:m"]
    assert command(*train, *encoder) == 2
    assert "--allow-remote: encoder 'openai:m' computes on another" in capfd.readouterr().err
    assert command(*train, *encoder, "--allow-remote", "--offline") == 2
    assert "--offline: encoder 'openai:m' computes on another" in capfd.readouterr().err
    assert command(*train, *encoder, "--allow-remote", "--layers", "all") == 2
    assert "--layers all: a remote encoder returns one vector" in capfd.readouterr().err
    assert stub.requests == []
    assert command(*train, *encoder, "--allow-remote") == 0
    assert "encoder      openai:m (remote, content " in capfd.readouterr().out
    facts = json.loads((tmp_path / "m" / "model.json").read_text("utf-8"))
    assert (facts["encoder"]["name"], facts["encoder"]["source"]) == ("openai:m", "remote")
    assert "127.0.0.1" not in json.dumps(facts)

    classify = ["classify", "--model", "m", "--text", f"a new film {SECRET}"]
    stub.requests.clear()
    assert command(*classify) == 2
    assert "--allow-remote: encoder" in capfd.readouterr().err
    assert stub.requests == []
    assert command(*classify, "--allow-remote") == 0
    assert texts_sent(stub) == [f"a new film {SECRET}"]
    capfd.readouterr()

    stub.answer = 401, {"error": {"message": SECRET}}
    new = ["embed", "--data", "train.csv", "--out", "x.npy", *encoder, "--allow-remote"]
    assert command(*new) == 1
    out, err = capfd.readouterr()
    assert "RemoteEncoderError: 127.0.0.1:" in err
    assert "refuses the key in OPENAI_API_KEY (401)" in err
    assert err.count("\n") == 1
    assert SECRET not in out + err


def test_a_served_model_asks_only_if_that_is_allowed(stub, tmp_path):
    from frozenbert.serve.service import load_encoder_service, load_service

    model = make_text_classifier("openai:m", allow_remote=True, recipe="plain")
    save_model(model.fit(TEXTS, LABELS), tmp_path / "model.joblib")
    stub.requests.clear()
    with pytest.raises(InputError, match="allow_remote=False"):
        load_service(tmp_path)
    assert stub.requests == []
    assert load_service(tmp_path, allow_remote=True).predict(TEXTS[:2])["prediction"].shape == (2,)
    service, n_requests = load_service(tmp_path, allow_remote=True), len(stub.requests)
    service.warm_up()
    assert len(stub.requests) == n_requests
    with pytest.raises(InputError, match="allow_remote=False"):
        load_encoder_service(remote(allow_remote=False))
    assert load_encoder_service(remote()).embedder.embed(TEXTS)["vectors"].shape == (60, 8)
