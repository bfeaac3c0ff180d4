"""Tables through standard input and output."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from frozenbert.cli.main import main
from frozenbert.errors import InputError
from frozenbert.tables.reading import read_blocks, read_table
from frozenbert.tables.table import Spool
from frozenbert.tables.writing import write_table

from .conftest import SECRET, rows

CSV = rows(5)[["text"]].to_csv(index=False)


@pytest.fixture
def pipe(monkeypatch, capfd):
    """Call `frozenbert` with standard input; return its exit code, stdout and stderr."""

    def pipe(content: str | bytes, *arguments: object) -> tuple[int, str, str]:
        content = content.encode() if isinstance(content, str) else content
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        capfd.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        return code, *capfd.readouterr()

    return pipe


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_rows_come_and_go_in_order(pipe, trained, name):
    write_table(rows(5)[["text"]], "new.csv")
    assert pipe("", "classify", "--model", trained, "--data", "new.csv", "--out", "out.csv")[0] == 0
    options = ["--model", trained, "--data", name, "--out", "-", "--format", "csv"]
    code, out, err = pipe(CSV, "classify", *options)
    assert code == 0
    assert out == Path("out.csv").read_text("utf-8")
    assert pd.read_csv(io.StringIO(out))["text"].tolist() == rows(5)["text"].tolist()
    assert err.startswith("data         standard input: 5 rows, ")
    assert "\nlabels " in err
    assert SECRET not in err


def test_jsonl_is_recognised(pipe, trained):
    content = "".join(json.dumps({"text": text, "n": 7}) + "\n" for text in rows(3)["text"])
    options = ["--model", trained, "--data", "-", "--out", "-", "--text-column", "text"]
    code, out, _ = pipe(content, "classify", *options)
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [list(row) for row in found] == [
        ["text", "n", "prediction", "proba_bad", "proba_good"]
    ] * 3
    assert [row["text"] for row in found] == rows(3)["text"].tolist()


def test_tsv_and_a_file_at_the_other_end(pipe, trained):
    options = ["--model", trained, "--out", "-", "--format", "tsv"]
    code, out, _ = pipe("text\nfine\n", "classify", "--data", "-", *options)
    assert (code, out.splitlines()[0]) == (0, "text\tprediction\tproba_bad\tproba_good")
    code, out, err = pipe(CSV, "classify", "--model", trained, "--data", "-", "--out", "x.jsonl",
                          "--format", "csv")  # fmt: skip
    assert code == 0
    assert out.endswith("written      x.jsonl\n")
    assert err == ""
    assert len(Path("x.jsonl").read_text("utf-8").splitlines()) == 5
    code, out, _ = pipe("", "classify", "--model", trained, "--data", "x.jsonl", "--out", "-",
                        "--text-column", "text")  # fmt: skip
    assert code == 2  # it has a column of predictions
    rows(3)[["text"]].to_csv("three.csv", sep=";", index=False)
    code, out, _ = pipe("", "classify", "--model", trained, "--data", "three.csv", "--out", "-",
                        "--header")  # fmt: skip
    assert (code, len(out.splitlines())) == (0, 4)


WRONG = {
    "no format": (CSV, [], "--format: name the format of standard input: csv, tsv or jsonl"),
    "empty": ("", ["--format", "csv"], "standard input: is empty"),
    "a header alone": ("text,n\n", ["--format", "csv", "--header"], "standard input: the table"),
    "too large": (CSV, ["--format", "csv", "--max-stdin", "20"], "--max-stdin: standard input "
                  "has more than 20 bytes"),
    "parquet": (b"PAR1" + bytes(20), ["--format", "csv"], "standard input: is parquet; write"),
    "gzip": (b"\x1f\x8b" + bytes(20), ["--format", "csv"], "standard input: is gzip; write it"),
    "asked for parquet": (CSV, ["--format", "parquet"], "invalid choice: 'parquet'"),
    "not utf-8": (b"text\n\xff\n", ["--format", "tsv"], "standard input, line 2: the byte 0xff"),
    "no json": ('{"text": "x"}\n{', [], "standard input, line 2, column 2: is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "options", "says"), WRONG.values(), ids=WRONG)
def test_wrong_input(pipe, trained, content, options, says):
    before = sorted(os.listdir())
    code, out, err = pipe(
        content, "classify", "--model", trained, "--data", "-", "--out", "-", *options
    )
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert sorted(os.listdir()) == before


def test_a_format_without_a_stream(refuses, trained):
    write_table(rows(5)[["text"]], "new.csv")
    options = ["--model", trained, "--data", "new.csv", "--out", "out.csv", "--format", "csv"]
    refuses("--format csv: requires standard input or output, named -", "classify", *options)
    write_table(rows(5)[["text"]], "new.parquet")
    options = ["--model", trained, "--data", "new.parquet", "--out", "-"]
    refuses("--format: name the format of standard output", "classify", *options)


def test_vectors_of_standard_input(pipe, tiny):
    Path("x.csv").write_text(CSV, encoding="utf-8")
    assert pipe("", "embed", "--data", "x.csv", "--out", "x.npy", "--encoder", tiny)[0] == 0
    options = ["--data", "-", "--encoder", tiny, "--format", "csv"]
    code, _, err = pipe(CSV, "embed", *options, "--out", "y.npy")
    assert (code, err) == (0, "")
    assert np.load("y.npy") == pytest.approx(np.load("x.npy"), abs=1e-5)
    data = [json.loads(Path(name).read_text("utf-8"))["data"] for name in ("x.json", "y.json")]
    assert data[0]["sha256"] == data[1]["sha256"]
    assert data[1]["file"] == "standard input"
    for out, says in (("-", "are written to files alone"), ("folder", "input is one table")):
        code, _, err = pipe(CSV, "embed", *options, "--out", out)
        assert code == 2
        assert f"--out {out}: " in err
        assert says in err


@pytest.mark.slow
def test_a_closed_pipe_ends_quietly(trained):
    write_table(pd.concat([rows(5)[["text"]]] * 5000), "new.csv")
    with open("new.csv", "rb") as content:
        process = subprocess.Popen(
            [sys.executable, "-c", "import sys; from frozenbert.cli.main import main;"
             "sys.exit(main())", "classify", "--model", trained, "--data", "-", "--out", "-",
             "--format", "csv"],
            stdin=content, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        first = process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read().decode()
        process.wait()
    assert (process.returncode, first) == (1, b"text,prediction,proba_bad,proba_good\n"), err
    assert [line.split()[0] for line in err.splitlines()] == ["data", "labels"]


def test_a_spool_is_private_and_is_read_by_many():
    content = "text\n" + "".join(f"film {i}\n" for i in range(3000))
    spool = Spool.of(io.BytesIO(content.encode()), "csv", name="standard input")
    status = os.fstat(spool._file.fileno())
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_nlink == 0
    one, two = read_blocks(spool, 700, header=True), read_blocks(spool, 900, header=True)
    blocks = [[next(reader).columns["text"][0] for reader in (one, two)] for _ in range(4)]
    assert blocks == [[f"film {700 * i}", f"film {900 * i}"] for i in range(4)]
    assert read_table(spool).columns["text"] == [f"film {i}" for i in range(3000)]


def test_a_disk_without_room(monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(InputError, match=r"cannot be stored in .*No space left on device.*TMPDIR"):
        Spool.of(io.BytesIO(b"text"), "csv", name="standard input")
