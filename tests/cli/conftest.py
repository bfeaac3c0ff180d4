"""A folder with a small table, and ways to run a command in this process."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from frozenbert.cli.main import main
from frozenbert.tables.writing import write_table

SECRET = "zyzzyva"  # in every text, and never on a console
FILES = {
    "confusion_matrix.png",
    "metrics.json",
    "model.joblib",
    "model.skops",
    "model.json",
    "precision_recall.png",
    "reliability.png",
    "report.html",
    "search.png",
}


def rows(n: int = 48, labels: tuple[object, ...] = (0, 1), start: int = 0) -> pd.DataFrame:
    """Rows whose labels a TF-IDF of words can tell; no two texts are alike."""
    words = ["bad dull poor", "good fine warm", "slow cold hollow", "great fun funny"]
    texts = [f"{words[i % len(labels) % 4]} film {i + start} {SECRET}" for i in range(n)]
    return pd.DataFrame({"text": texts, "label": [labels[i % len(labels)] for i in range(n)]})


def put(name: str, frame: pd.DataFrame, header: bool = False) -> str:
    """Write a table, a tsv or csv without a header if none is asked for."""
    if header or "json" in name or "parquet" in name:
        write_table(frame, name)
    else:
        frame.to_csv(name, sep="\t" if ".tsv" in name else ",", header=False, index=False)
    return name


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, tiny):
    """A folder of our own to work in, with 48 rows of two classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(Path(tiny).parent))  # for saved models
    put("train.tsv", rows())
    return tmp_path


@pytest.fixture
def run(capsys):
    """Call `frozenbert` with arguments; return its exit code, stdout and stderr.

    `train` uses the plain recipe, which is faster, unless the arguments name one.
    Columns are two spaces apart in what is returned, however wide they were printed.
    """

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        if arguments[:1] == ("train",) and "--recipe" not in arguments:
            arguments = ("train", "--recipe", "plain", *arguments[1:])
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert SECRET not in out + err
        return code, re.sub(" {2,}", "  ", out), err

    return run


@pytest.fixture
def succeeds(run):
    """Call a command that must exit with 0 and an empty stderr; return its stdout."""

    def succeeds(*arguments: object) -> str:
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        return out

    return succeeds


def tree(folder: Path = Path()) -> dict[str, bytes | None]:
    """All files and folders in here, with their content."""
    return {str(path): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


@pytest.fixture
def refuses(run):
    """Call a command that must exit with 2, print one line of this pattern, and write nothing."""

    def refuses(says: str, *arguments: object) -> None:
        before = tree()
        code, _, err = run(*arguments)
        assert code == 2, err
        assert re.fullmatch(rf"[^\n]*{says}[^\n]*\n", err), err
        assert tree() == before

    return refuses


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory) -> Path:
    """The folder of a model of the classes 'bad' and 'good', from a column `review`."""
    folder = tmp_path_factory.mktemp("trained")
    frame = rows(labels=("bad", "good")).rename(columns={"text": "review"})
    write_table(frame, folder / "train.csv")
    arguments = ["--data", folder / "train.csv", "--out", folder / "model", "--encoder", tiny]
    arguments += ["--no-cache", "--cv", 2, "--C", "0.01,0.1", "--text-column", "review"]
    assert main(["train", *map(str, arguments)]) == 0
    return folder / "model"
