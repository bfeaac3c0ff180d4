"""Vectors as a service: /v1/embeddings in the form that OpenAI's clients speak."""

from __future__ import annotations

import base64
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from serving import WordModel, serving, wait_until

from frozenbert import DistilBertVectorizer, make_text_classifier
from frozenbert.serve.guard import Limits
from frozenbert.serve.service import load_encoder_service

TEXTS = ["a stirring film", "a dull plot, and a slow one", "the cast is great"]
TOKEN = "a-token-of-enough-letters"


def fitted(tiny, **parameters):
    embed = DistilBertVectorizer(tiny, cache_dir=None, progress=False, **parameters)
    return embed.fit([""])


@pytest.fixture(scope="module")
def embed(tiny):
    return fitted(tiny)


@pytest.fixture(scope="module")
def client(embed):
    with serving(embed, None, limits=Limits(body=100_000, texts=200, characters=100)) as client:
        yield client


def ask(client, texts, *, headers=None, **fields):
    body = {"model": "tiny", "input": texts, **fields}
    return client("POST", "/v1/embeddings", body, headers)


def vectors_of(answer):
    assert answer.status == 200, answer.body
    assert [entry["index"] for entry in answer.json["data"]] == list(
        range(len(answer.json["data"]))
    )
    assert {entry["object"] for entry in answer.json["data"]} == {"embedding"}
    return np.array([entry["embedding"] for entry in answer.json["data"]])


def test_vectors_are_those_of_transform(client, embed):
    answer = ask(client, TEXTS)
    np.testing.assert_allclose(vectors_of(answer), embed.transform(TEXTS), rtol=0, atol=1e-6)
    assert answer.headers["content-type"] == "application/json"
    assert (answer.json["object"], answer.json["model"]) == ("list", "tiny")
    ((_, n_tokens),) = embed.transform_iter(TEXTS, return_n_tokens=True)
    n = int(n_tokens.sum())
    assert answer.json["usage"] == {"prompt_tokens": n, "total_tokens": n}


def test_a_single_text(client, embed):
    expected = embed.transform(TEXTS[:1])
    np.testing.assert_allclose(vectors_of(ask(client, TEXTS[0])), expected, rtol=0, atol=1e-6)


def test_base64_is_little_endian_float32(client, embed):
    entries = ask(client, TEXTS, encoding_format="base64").json["data"]
    found = [np.frombuffer(base64.b64decode(e["embedding"]), dtype="<f4") for e in entries]
    np.testing.assert_allclose(found, embed.transform(TEXTS), rtol=0, atol=1e-6)


def test_more_texts_than_a_block_keep_their_order(client, embed):
    texts = [f"a film of {i} scenes" for i in range(150)]
    found = vectors_of(ask(client, texts))
    np.testing.assert_allclose(found, embed.transform(texts), rtol=0, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_dimensions_are_the_first_ones(tiny, normalize):
    with serving(fitted(tiny, normalize=normalize), None) as client:
        found = vectors_of(ask(client, TEXTS, dimensions=8))
        assert vectors_of(ask(client, TEXTS, dimensions=32)).shape == (3, 32)
    expected = fitted(tiny, normalize=normalize, truncate_dim=8).transform(TEXTS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_dimensions_of_several_layers(tiny):
    with serving(fitted(tiny, layers=(2, 3)), None) as client:
        assert vectors_of(ask(client, TEXTS, dimensions=64)).shape == (3, 64)
        answer = ask(client, TEXTS, dimensions=32)
    assert answer.status == 400
    assert "several layers or poolings, and have 64" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"input": []}, "input", "input: is an empty list: send at least one text."),
        ({"input": [1, 2]}, "input", "input: token ids are not supported: send texts."),
        ({"input": [[1, 2], [3]]}, "input", "input: token ids are not supported: send texts."),
        ({"input": ["a", 3]}, "input", "input: must be a list of texts alone."),
        ({"input": 3}, "input", "input: must be a text or a list of texts."),
        ({"input": None}, "input", "input: must be a text or a list of texts."),
        ({"input": ["a"] * 201}, "input", "201 texts; the limit is 200: send them in parts."),
        ({"input": ["a", "b" * 101]}, "input", "text 1 (counted from 0) has 101 characters; the"),
        ({"input": "\ud800"}, "input", "text 0 (counted from 0) contains a lone surrogate"),
        ({"model": "other"}, "model", "this service has 'tiny' alone."),
        ({"model": None}, "model", "model: Input should be a valid string."),
        ({"encoding_format": "hex"}, "encoding_format", "Input should be 'float' or 'base64'."),
        ({"dimensions": 0}, "dimensions", "dimensions: Input should be greater than or equal to 1"),
        ({"dimensions": 33}, "dimensions", "dimensions=33: the vectors have 32 dimensions."),
    ],
)
def test_what_is_wrong_is_answered_in_openais_form(client, body, param, message):
    answer = client("POST", "/v1/embeddings", {"model": "tiny", "input": "a film", **body})
    assert answer.status == 400
    error = answer.json["error"]
    assert message in error["message"]
    expected = {"type": "invalid_request_error", "param": param}
    code = "model_not_found" if body == {"model": "other"} else None
    assert error == {"message": error["message"], **expected, "code": code}


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"", "application/json", "the body is empty."),
        (b"{", "application/json", "the body is not valid JSON."),
        (b'["a"]', "application/json", "send a JSON object, with Content-Type: application/json."),
        (b'{"input": "a"}', "text/plain", "send a JSON object, with Content-Type: application/"),
        (b'{"input": "a"}', "application/json", "model: Field required."),
    ],
)
def test_bodies_that_are_no_request(client, body, kind, message):
    answer = client("POST", "/v1/embeddings", body, {"Content-Type": kind})
    assert (answer.status, answer.json["error"]["param"]) in {(400, None), (400, "model")}
    assert message in answer.json["error"]["message"]


def test_refusals_of_the_guard_have_the_same_form(tiny):
    with serving(fitted(tiny), None, token=TOKEN, limits=Limits(body=100)) as client:
        answer = ask(client, TEXTS)
        assert (answer.status, answer.json["error"]["type"]) == (401, "invalid_request_error")
        assert client("GET", "/v1/models").status == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert client("GET", "/v1/models", headers=right).status == 200
        answer = ask(client, ["a film"] * 50, headers=right)
        assert answer.status == 413
        assert "larger than 100 bytes" in answer.json["error"]["message"]
        assert client("GET", "/v1/others", headers=right).json["error"]["message"] == "Not Found"
        assert client("GET", "/others", headers=right).json == {"detail": "Not Found"}
        answer = client("GET", "/v1/models", headers={**right, "Host": "elsewhere.example"})
        assert (answer.status, "Host header" in answer.json["error"]["message"]) == (400, True)


def test_models(client):
    answer = client("GET", "/v1/models").json
    (model,) = answer["data"]
    assert answer["object"] == "list"
    assert (model["id"], model["object"], model["owned_by"]) == ("tiny", "model", "frozenbert")
    assert model["created"] > 1_600_000_000


def test_one_model(client):
    (listed,) = client("GET", "/v1/models").json["data"]
    answer = client("GET", "/v1/models/tiny")
    assert (answer.status, answer.json) == (200, listed)
    for name in ("other", "an/other", "tiny/", "%20"):
        answer = client("GET", f"/v1/models/{name}")
        assert answer.status == 404
        error = answer.json["error"]
        assert error["message"] == "this service has 'tiny' alone."
        assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_an_encoder_has_no_labels_to_answer(client):
    assert client("POST", "/predict", {"texts": ["a film"]}).status == 404
    assert client("GET", "/model").status == 404
    page = client("GET", "/")
    assert (page.status, page.headers["location"]) == (307, "/docs")
    assert client("GET", "/readyz").json["status"] == "ok"
    described = client("GET", "/openapi.json").json
    paths = {"/v1/embeddings", "/v1/models", "/v1/models/{name}", "/metrics", "/healthz", "/readyz"}
    assert set(described["paths"]) == paths
    assert described["info"]["title"] == "frozenbert: tiny"


def test_the_description_names_the_model_and_its_dimensions(client):
    embeddings = client("GET", "/openapi.json").json["paths"]["/v1/embeddings"]["post"]
    body = embeddings["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert body["model"]["enum"] == ["tiny"]
    assert body["dimensions"]["anyOf"][0]["maximum"] == 32
    errors = {s: r for s, r in embeddings["responses"].items() if int(s) >= 400}
    assert set(map(int, errors)) == {400, 403, 408, 413, 500, 503, 504}
    for response in errors.values():
        schema = response["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ApiErrorAnswer"}


def test_requests_and_texts_are_counted(tiny):
    with serving(fitted(tiny), None) as client:
        ask(client, TEXTS)
        metrics = client("GET", "/metrics").body.decode()
    assert 'frozenbert_requests_total{path="/v1/embeddings",status="200"} 1.0' in metrics
    assert "frozenbert_texts_total 3.0" in metrics


def test_a_full_queue_refuses(tiny):
    embed = fitted(tiny)
    go, entered, transform_iter = threading.Event(), [], embed.transform_iter

    def wait(*arguments, **settings):
        entered.append(True)
        assert go.wait(60)
        return transform_iter(*arguments, **settings)

    with serving(embed, None, max_waiting=3) as client, ThreadPoolExecutor(2) as pool:
        wait_until(lambda: client("GET", "/readyz").status == 200)
        embed.transform_iter = wait  # not before: the service warms up with it
        first = pool.submit(ask, client, TEXTS)
        wait_until(lambda: entered)
        second = pool.submit(ask, client, TEXTS)
        wait_until(lambda: client("GET", "/readyz").status == 503)
        refused = ask(client, TEXTS)
        go.set()
        assert (first.result().status, second.result().status) == (200, 200)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.json["error"]["type"] == "server_error"


@pytest.fixture(scope="module")
def model(tiny):
    model = make_text_classifier(tiny, recipe="plain", C=0.1, cv=2, clean=True, cache_dir=None)
    model.set_params(embed__progress=False)
    return model.fit(["a good film", "a bad film"] * 4, ["good", "bad"] * 4)


def test_a_model_answers_labels_and_the_vectors_of_its_vectorizer(model, tmp_path):
    texts = ["a good film https://example.org", "a dull plot"]
    with serving(model, tmp_path / "films") as client, ThreadPoolExecutor(8) as pool:
        (served,) = client("GET", "/v1/models").json["data"]
        assert served["id"] == "films"
        both = [lambda: client.predict(*texts), lambda: ask(client, texts, model="films")] * 8
        answers = [future.result() for future in [pool.submit(one) for one in both]]
    expected = model[:2].transform(texts)
    for labels, vectors in zip(answers[::2], answers[1::2], strict=True):
        assert labels.json["predictions"] == model.predict(texts).tolist()
        np.testing.assert_allclose(vectors_of(vectors), expected, rtol=0, atol=1e-5)


def test_a_model_without_a_vectorizer_has_no_vectors(tmp_path):
    with serving(WordModel(), tmp_path) as client:
        answer = client("POST", "/v1/embeddings", {"model": "x", "input": "a film"})
    assert answer.status == 404


def test_an_encoder_is_loaded_with_the_parameters_of_the_vectorizer(tiny):
    asked = DistilBertVectorizer(tiny, pooling="mean", prompt="film ", normalize=True)
    service = load_encoder_service(asked)
    assert service.embedder.vectorizer.cache_dir is None, "requests are not stored"
    assert asked.cache_dir == "auto"
    assert (service.name, service.predicts) == ("tiny", False)
    found = service.embedder.embed(TEXTS)["vectors"]
    expected = fitted(tiny, pooling="mean").transform([f"film {text}" for text in TEXTS])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="precision='auto': there are no texts to compare"):
        load_encoder_service(DistilBertVectorizer(tiny, precision="auto"))


@pytest.mark.slow
def test_openais_own_client(packaged):
    if not os.environ.get("CI"):
        pytest.importorskip("openai", reason="the openai client is not installed")
    import openai

    embed = DistilBertVectorizer(packaged, cache_dir=None, progress=False).fit([""])
    texts = [f"{text} {i}" for i in range(40) for text in TEXTS]
    expected = embed.transform(texts)
    limits = Limits(texts=120)
    with serving(embed, None, token=TOKEN, limits=limits) as server:
        client = openai.OpenAI(api_key=TOKEN, base_url=f"{server.origin}/v1", max_retries=0)
        assert [model.id for model in client.models.list()] == [packaged]
        for form in ({}, {"encoding_format": "base64"}, {"encoding_format": "float"}):
            answer = client.embeddings.create(model=packaged, input=texts, **form)
            vectors = [entry.embedding for entry in answer.data]
            if form == {"encoding_format": "base64"}:  # the client leaves what is asked for
                vectors = [np.frombuffer(base64.b64decode(v), dtype="<f4") for v in vectors]
            np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-6)
            assert answer.usage.total_tokens > 4 * len(texts)
        assert client.models.retrieve(packaged).id == packaged
        with pytest.raises(openai.NotFoundError, match="alone"):
            client.models.retrieve("another")
        single = client.embeddings.create(model=packaged, input=texts[0], dimensions=64)
        np.testing.assert_allclose(single.data[0].embedding, expected[0, :64], rtol=0, atol=1e-6)
        for wrong, message in (
            ({"input": [[1, 2]]}, "token ids are not supported"),
            ({"input": []}, "is an empty list"),
            ({"input": ["a"] * 121}, "the limit is 120"),
            ({"model": "another"}, f"this service has '{packaged}' alone"),
        ):
            with pytest.raises(openai.BadRequestError, match=re.escape(message)) as raised:
                client.embeddings.create(**{"model": packaged, "input": "a", **wrong})
            assert raised.value.param == next(iter(wrong))
        stranger = client.with_options(api_key="a-token-of-other-letters")
        with pytest.raises(openai.AuthenticationError, match="requires its token"):
            stranger.embeddings.create(model=packaged, input="a")
