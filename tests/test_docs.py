"""The examples in README, documentation and notebooks run; the documentation is complete."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import frozenbert
from frozenbert import errors
from frozenbert.cli.main import main

REPO = Path(__file__).parents[1]
DOCS = REPO / "docs"
REVIEWS = REPO / "data" / "movie_reviews"

# Blocks marked `console` or `text` do not run: installations, servers, files that do not exist.
FENCED = re.compile(r"^```(python|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)

PAGES = sorted(
    str(page.relative_to(REPO))
    for page in [REPO / "README.md", *DOCS.rglob("*.md")]
    if "_build" not in page.parts and FENCED.search(page.read_text(encoding="utf-8"))
)

# Runs the blocks of a page in their order; those in Python share their names.
RUN_BLOCKS = """
import json, subprocess, sys, warnings
names = {"__name__": "__main__"}
for language, code in json.load(sys.stdin):
    if language == "bash":
        subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)
    else:
        exec(compile(code, "<example>", "exec"), names)
        sys.stdout.flush()
"""


@pytest.fixture(scope="module")
def shared_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's files; all pages share its cache."""
    folder = tmp_path_factory.mktemp("docs") / "checkout"
    ignored = (".*", "__pycache__", "_build", "cache", "tests", "*.egg-info", "build")
    shutil.copytree(REPO, folder, ignore=shutil.ignore_patterns(*ignored))
    return folder


@pytest.fixture
def checkout(shared_checkout: Path, packaged: str) -> Path:
    """A copy of the repository with the sample reviews, where the packaged encoder exists."""
    if not REVIEWS.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{REVIEWS} is missing: the set-up fetches it")
        pytest.skip("the sample reviews are missing: make reviews")
    return shared_checkout


def run_page(page: str, folder: Path) -> str:
    """Run the blocks of a page, and return what they print."""
    blocks = FENCED.findall((REPO / page).read_text(encoding="utf-8"))
    result = subprocess.run(
        [sys.executable, "-c", RUN_BLOCKS],
        cwd=folder,
        # `python` and `frozenbert` are those of the environment that runs the tests.
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "FROZENBERT_CACHE": str(folder / "artifacts" / "cache"),
        },
        input=json.dumps(blocks),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, f"{page}:\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_examples_run(page, checkout):
    (checkout / "artifacts").mkdir(exist_ok=True)
    run_page(page, checkout)


@pytest.mark.slow
def test_readme_does_what_it_says(checkout):
    printed = run_page("README.md", checkout)
    assert float(printed.splitlines()[0]) > 0.65
    assert re.search(r"^prediction\t[01]$", printed, re.MULTILINE)
    predictions = pd.read_csv(checkout / "artifacts" / "predictions.csv")
    labels = pd.read_csv(REVIEWS / "test.tsv", sep="\t", header=None, quoting=3)[1]
    assert (predictions["prediction"] == labels).mean() > 0.7
    features = np.load(checkout / "artifacts" / "features.npy")
    assert features.shape == (len(labels), 384)


def run_notebook(folder: Path, name: str, **replaced: str) -> tuple[int, str]:
    """Return the number of plots, and what was printed."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(folder / name, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs"
    for cell in notebook.cells:
        for old, new in replaced.items():
            cell["source"] = re.sub(rf"^{old} = .*$", f"{old} = {new}", cell["source"], flags=re.M)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    images = [out for out in outputs if "image/png" in out.get("data", {})]
    return len(images), "".join(o.get("text", "") for o in outputs if o.get("name") == "stdout")


@pytest.mark.slow
def test_quickstart_runs_from_start_to_end(checkout):
    plots, printed = run_notebook(checkout / "notebooks", "quickstart.ipynb")
    assert plots == 3
    accuracy = float(re.search(r"held-out quarter: (0\.\d+)", printed)[1])
    assert accuracy > 0.65


@pytest.mark.slow
def test_the_notebook_of_finetuning_runs_from_start_to_end(checkout):
    # Examples of the pages write an encoder of this name, too.
    shutil.rmtree(checkout / "artifacts" / "my-encoder", ignore_errors=True)
    plots, printed = run_notebook(
        checkout / "notebooks", "finetune.ipynb", **{"ROWS, EPOCHS": "200, 2"}
    )
    assert plots == 2
    assert float(re.search(r"^frozen: (0\.\d+)", printed, re.MULTILINE)[1]) > 0.5
    assert float(re.search(r"^fine-tuned: (0\.\d+)", printed, re.MULTILINE)[1]) > 0.5
    assert (checkout / "artifacts" / "my-encoder" / "finetune.json").is_file()


def test_readme_fits_on_one_page():
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 150
    assert readme.count("![") == 1


def test_the_parameter_table_is_complete():
    page = (DOCS / "guide" / "parameters.md").read_text(encoding="utf-8")
    table = page.partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)`.*\|$", table, re.MULTILINE)
    parameters = list(inspect.signature(frozenbert.DistilBertVectorizer).parameters)
    assert sorted(rows) == sorted(parameters)


def commands(capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out.partition("COMMAND\n")[2]
    return re.findall(r"^ {4}(\w+) ", listed, re.MULTILINE)


def test_every_command_has_a_section(capsys):
    page = (DOCS / "guide" / "command-line.md").read_text(encoding="utf-8")
    named = commands(capsys)
    assert {"train", "classify", "embed", "serve", "cache"} <= set(named)
    assert sorted(re.findall(r"^## frozenbert (\w+)$", page, re.MULTILINE)) == sorted(named)


def test_every_public_name_is_in_the_api_reference():
    page = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^ {3}~?(frozenbert[\w.]*)$", page, re.MULTILINE))
    assert "frozenbert.errors" in listed  # a page of all that its `__all__` names
    names = set(frozenbert.__all__) - set(errors.__all__)
    assert {f"frozenbert.{name}" for name in names} <= listed


def test_every_warning_is_described():
    page = (DOCS / "guide" / "notebook.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `(\w+Warning)` \|", page, re.MULTILINE)) | {
        "FrozenbertWarning"
    }
    assert {name for name in errors.__all__ if name.endswith("Warning")} <= described


# From STYLE: phrases that hide their meaning, and names that said nothing.
REJECTED = (
    "end after so many no better",
    "chances  Brier",
    "with the face of a scikit-learn transformer",
    "what they come to with an encoder",
    "where a worker has time; one that dies is made up for",
    "whoever still waits is answered first",
    "the rows they stand in are set aside",
    "are discarded, and it is said",
    "stands there already and is none of its",
    "left out, and said",
    "_knock",
    "settle(",
    "look_through",
    "strengths(",
    "_Desk",
    "_Turn",
)


def test_rejected_phrases_and_names_are_nowhere():
    if not (REPO / ".git").exists():
        pytest.skip("not a clone")
    patterns = [part for phrase in REJECTED for part in ("-e", phrase)]
    # The list above and what was true of older versions may name them.
    where = [":!CHANGELOG.md", ":!tests/test_docs.py"]
    found = subprocess.run(
        ["git", "grep", "-nIF", *patterns, "--", ".", *where],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1, found.stdout + found.stderr
