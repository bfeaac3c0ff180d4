"""The description of the API in /openapi.json, and whether the service keeps to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from serving import LABELS, WordModel, serving

from frozenbert import DistilBertVectorizer

REPO = Path(__file__).parents[2]
TOKEN = "a-token-of-enough-letters"


def test_paths_and_parameters(tmp_path):
    with serving(WordModel(), tmp_path) as client:
        paths = client("GET", "/openapi.json").json["paths"]
    assert set(paths) == {
        "/predict", "/predict.csv", "/explain", "/model", "/metrics", "/healthz", "/readyz",
    }  # fmt: skip
    table = paths["/predict.csv"]["post"]
    assert set(table["requestBody"]["content"]) == {"text/csv", "text/tab-separated-values"}
    parameters = {parameter["name"]: parameter["schema"] for parameter in table["parameters"]}
    assert set(parameters) == {"text_column", "header", "delimiter"}
    assert set(parameters["delimiter"]["anyOf"][0]["enum"]) == {",", ";", "\t", "|", "tab"}


@pytest.mark.parametrize("token", [None, TOKEN])
def test_errors_are_described(tmp_path, token):
    with serving(WordModel(), tmp_path, token=token) as client:
        described = client("GET", "/openapi.json").json
    error = described["components"]["schemas"]["ErrorAnswer"]["properties"]
    assert error["detail"]["type"] == "string"
    assert not any("Validation" in name for name in described["components"]["schemas"])
    expected = {
        "/predict": {400, 403, 408, 413, 422, 500, 503, 504},
        "/predict.csv": {400, 403, 408, 413, 422, 500, 503, 504},
        "/explain": {400, 403, 408, 413, 422, 500, 503, 504},
        "/model": {400, 500},
        "/metrics": {400, 500},
        "/healthz": {400, 500},
        "/readyz": {400, 500, 503},
    }
    for path, statuses in expected.items():
        if token and path not in ("/healthz", "/readyz"):
            statuses = statuses | {401}
        (operation,) = described["paths"][path].values()
        errors = {s: r for s, r in operation["responses"].items() if int(s) >= 400}
        assert set(map(int, errors)) == statuses, path
        for response in errors.values():
            schema = response["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}


def test_every_call_and_answer_has_an_example(tmp_path, tiny):
    embed = DistilBertVectorizer(tiny, cache_dir=None).fit([""])
    described = []
    for model, folder in ((WordModel(), tmp_path), (embed, None)):
        with serving(model, folder, token=TOKEN) as client:
            described.append(client("GET", "/openapi.json").json)
    for content in described:
        schemas = content["components"]["schemas"]
        tags = {tag["name"] for tag in content["tags"]}
        used = set()
        for path, operations in content["paths"].items():
            for operation in operations.values():
                used |= set(operation["tags"])
                parts = [operation["requestBody"]] if "requestBody" in operation else []
                for part in [*parts, *operation["responses"].values()]:
                    for media in part["content"].values():
                        schema = media.get("schema", {})
                        schema = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
                        assert "example" in media or schema.get("examples"), (path, part)
                    assert part.get("description") or part in parts
        assert used == tags
    error = described[1]["paths"]["/v1/embeddings"]["post"]["responses"]["503"]
    example = error["content"]["application/json"]["example"]
    assert "are waiting already" in example["error"]["message"]


def test_labels_of_the_model_are_described(tmp_path):
    with serving(WordModel(), tmp_path) as client:
        schemas = client("GET", "/openapi.json").json["components"]["schemas"]
    assert schemas["TextRequest"]["properties"]["label"]["anyOf"][0]["enum"] == LABELS


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, TOKEN])
def test_schemathesis_has_no_failures(tmp_path, token):
    with serving(WordModel(), tmp_path / "films", token=token) as client:
        assert "7 selected / 7 total" in run_schemathesis(client, tmp_path, token)


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, TOKEN])
def test_schemathesis_has_no_failures_with_vectors(tmp_path, tiny, token):
    embed = DistilBertVectorizer(tiny, cache_dir=None, progress=False).fit([""])
    with serving(embed, None, token=token) as client:
        assert "6 selected / 6 total" in run_schemathesis(client, tmp_path, token)


def run_schemathesis(client, folder, token):
    """Let schemathesis send requests by the description; return what it prints."""
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        assert not os.environ.get("CI"), "CI must have schemathesis, which is in the extra dev"
        pytest.skip("schemathesis is not installed")
    options = ["--seed", "1", "--max-examples", "10", "--suppress-health-check", "all"]
    if token:
        options += ["--header", f"Authorization: Bearer {token}"]
    command = [program, "--config-file", REPO / "schemathesis.toml", "run"]
    done = subprocess.run(
        [*command, f"{client.origin}/openapi.json", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert "Coverage" in done.stdout
    return done.stdout
