"""The README's use sections and the notebook do what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

REPO = Path(__file__).parents[1]
REVIEWS = REPO / "data" / "movie_reviews"

# Blocks that are indented and not fenced are exempt: they set up what runs these tests.
FENCED = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    use = readme.partition("\n## Use\n")[2].partition("\n## ")[0]
    return [code for name, code in FENCED.findall(use) if name == language]


@pytest.fixture
def checkout(tmp_path: Path, packaged: str) -> Path:
    """A copy of the repository's files, with the sample reviews."""
    if not REVIEWS.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{REVIEWS} is missing: the set-up fetches it")
        pytest.skip("the sample reviews are not there: make reviews")
    folder = tmp_path / "checkout"
    shutil.copytree(
        REPO,
        folder,
        ignore=shutil.ignore_patterns(".*", "__pycache__", "cache", "tests", "*.egg-info", "build"),
    )
    return folder


def run(command: list[str], folder: Path) -> str:
    # `python` and `frozenbert` are those of the environment that runs the tests.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
def test_readme_commands(checkout):
    (commands,) = blocks("bash")
    assert commands.count("\n") == 4
    printed = run(["bash", "-euo", "pipefail", "-c", commands], checkout)
    assert re.search(r"^prediction\t[01]$", printed, re.MULTILINE)
    predictions = pd.read_csv(checkout / "artifacts" / "predictions.csv")
    labels = pd.read_csv(
        checkout / "data" / "movie_reviews" / "test.tsv", sep="\t", header=None, quoting=3
    )[1]
    assert (predictions["prediction"] == labels).mean() > 0.7
    features = np.load(checkout / "artifacts" / "features.npy")
    assert features.shape == (len(labels), 384)

    # The third way of use takes the model that the second has made.
    *notebook, elsewhere = blocks("python")
    assert "joblib.load" in elsewhere
    assert run([sys.executable, "-c", elsewhere], checkout).strip() == "[0]"
    lines = run([sys.executable, "-c", "\n".join(notebook)], checkout).splitlines()
    assert float(lines[0]) > 0.65
    assert "best_params_" not in lines[-1]
    assert "'distilbertvectorizer__pooling': 'mean'" in lines[-1]


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
    plots, printed = run_notebook(
        checkout / "notebooks", "finetune.ipynb", **{"ROWS, EPOCHS": "200, 2"}
    )
    assert plots == 2
    assert float(re.search(r"^frozen: (0\.\d+)", printed, re.MULTILINE)[1]) > 0.5
    assert float(re.search(r"^fine-tuned: (0\.\d+)", printed, re.MULTILINE)[1]) > 0.5
    assert (checkout / "artifacts" / "my-encoder" / "finetune.json").is_file()


def test_the_parameter_table_is_complete():
    import inspect

    from frozenbert import DistilBertVectorizer

    readme = (REPO / "README.md").read_text(encoding="utf-8")
    table = readme.partition("\n## Parameters\n")[2].partition("\n## ")[0]
    named = set(
        re.findall(
            r"`(\w+)`",
            "".join(row.split("|")[1] for row in re.findall(r"^\| `.*$", table, re.MULTILINE)),
        )
    )
    assert named == set(inspect.signature(DistilBertVectorizer).parameters)


def test_modules_import_downwards_in_the_order_of_the_readme():
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    order = re.findall(r"^\| `frozenbert/(\w+)\.py` \|", readme, re.MULTILINE)
    modules = {path.stem: path for path in (REPO / "frozenbert").glob("[!_]*.py")}
    assert sorted(order) == sorted(modules)
    for place, name in enumerate(order):
        code = modules[name].read_text(encoding="utf-8")
        code = re.sub(r"^if TYPE_CHECKING:\n(?:    .*\n|\n)+", "", code, flags=re.MULTILINE)
        imported = set(re.findall(r"^\s*from \.(\w+) import", code, re.MULTILINE))
        assert imported <= set(order[place + 1 :]), f"{name} imports from above"
