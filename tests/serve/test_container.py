"""The container: what its Dockerfile runs, run here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from serving import Client, save_films

from frozenbert import export_model

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    return export_model(save_films(models / "films"), models / "films-runtime")


def dockerfile() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each with its arguments."""
    text = re.sub(r"^#.*\n", "", (REPO / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def test_the_containers_commands_in_a_clean_folder(packaged, folder, tmp_path):
    """Run what the image build would run: tests cannot rely on a container engine."""
    source, opt = tmp_path / "src", tmp_path / "opt"
    instructions = dockerfile()
    for kind, rest in instructions:
        if kind == "COPY" and not rest.startswith("--from"):
            *names, target = rest.split()
            for name in names:
                where = source / target / ("" if target == "./" else ".")
                if (REPO / name).is_dir():
                    shutil.copytree(REPO / name, where, ignore=shutil.ignore_patterns("__*__"))
                else:
                    where.mkdir(parents=True, exist_ok=True)
                    shutil.copy(REPO / name, where)
    arguments = dict(rest.split("=", 1) for kind, rest in instructions if kind == "ARG")
    # The environment may name another index.
    arguments["PIP_EXTRA_INDEX_URL"] = os.environ.get("PIP_EXTRA_INDEX_URL", "")
    (command,) = (rest for kind, rest in instructions if kind == "RUN")
    done = subprocess.run(
        ["sh", "-ec", command.replace("/opt/venv", str(opt / "venv"))],
        cwd=source,
        env={**os.environ, **arguments},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    packages = {
        path.name for path in next((opt / "venv" / "lib").iterdir()).glob("site-packages/*")
    }
    assert not packages & {"torch", "transformers", "pandas", "pyarrow", "matplotlib"}

    of_kind = {kind: rest for kind, rest in instructions}
    program, *options = [*json.loads(of_kind["ENTRYPOINT"]), *json.loads(of_kind["CMD"])]
    options = [str(folder) if option == "/model" else option for option in options]
    python = opt / "venv" / "bin" / "python"
    environment = {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path / "nowhere"),
        "FROZENBERT_TOKEN": "a-token-that-is-long-enough",
    }
    server = subprocess.Popen(
        [python.parent / program, *options, "--port", "0"],
        cwd=opt,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output = [server.stdout.readline() for _ in range(2)]
        assert "serving" in output[-1], (output, server.stderr.read())
        client = Client(int(re.search(r":(\d+) ", output[-1])[1]))
        health = json.loads(of_kind["HEALTHCHECK"].partition("CMD ")[2])
        health = [word.replace("8000", str(client.port)) for word in health]
        subprocess.run(health, env=environment, check=True)
        right = {"Authorization": f"Bearer {environment['FROZENBERT_TOKEN']}"}
        assert client.predict("a dull film", headers=right).json["predictions"] == ["bad"]
        assert client.predict("a dull film").status == 401
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert server.returncode == 0


def test_the_container_is_small_and_runs_without_root():
    instructions = dockerfile()
    assert ("USER", "10001:10001") in instructions
    assert instructions[-1] == ("CMD", '["--model", "/model"]')
    (extras,) = (rest for kind, rest in instructions if rest.startswith("EXTRAS"))
    assert extras == "EXTRAS=runtime,serve"
    ignored = (REPO / ".dockerignore").read_text().split()
    assert ignored[0] == "*", "only named files are copied: no data, no models"
    copied = {name for kind, rest in instructions if kind == "COPY" for name in rest.split()[:-1]}
    assert {line[1:] for line in ignored if line.startswith("!")} <= copied
