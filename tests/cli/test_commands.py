"""The commands as processes of their own: by file, by name, in a terminal, in a pipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PYTHON = [sys.executable, "-W", "ignore"]
INSTALLED = [str(Path(sys.executable).with_name("frozenbert"))]
SMALL = ["--C", "0.1", "--cv", "2"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, tiny):
    """A folder of our own to work in, with 40 rows of two classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(Path(tiny).parent))
    lines = [f"a {('bad', 'good')[i % 2]} film {i}\t{i % 2}\n" for i in range(40)]
    Path("train.tsv").write_text("".join(lines))


def call(*command: str) -> str:
    """Run a command that ends with 0 and says nothing on stderr; its stdout."""
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("how", ["files", "installed"])
def test_train_classify_and_embed(tiny, how):
    if how == "installed":
        train, classify, embed = ([*INSTALLED, name] for name in ("train", "classify", "embed"))
    else:
        names = ("pipeline.py", "classify.py", "embed.py")
        train, classify, embed = ([sys.executable, str(ROOT / name)] for name in names)
    data = ["--data", "train.tsv"]
    assert " artifacts/train: " in call(*train, *data, "--encoder", tiny, *SMALL)
    out = call(*classify, *data, "--model", "artifacts/train", "--out", "out.csv")
    assert out.split()[-2:] == ["written", "out.csv"]
    assert Path("out.csv").read_text().startswith("0,1,prediction,proba_0,proba_1\n")
    call(*embed, *data, "--text-column", "0", "--encoder", tiny, "--out", "out.npy")
    assert np.load("out.npy").shape == (40, 32)


def test_wrong_input_and_ctrl_c(tiny):
    done = subprocess.run(
        [*INSTALLED, "train", "--data", "none.tsv", "--encoder", tiny],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "frozenbert train: --data none.tsv: there is no such file.\n"

    Path("many.tsv").write_text("".join(f"a film {i}\t0\n" for i in range(50_000)))
    options = ["--data", "many.tsv", "--text-column", "0", "--encoder", tiny, "--no-cache"]
    working = subprocess.Popen(
        [*INSTALLED, "embed", *options, "--out", "x.npy"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not working.stdout.readline().startswith("encoder"):
        assert working.poll() is None
    working.send_signal(signal.SIGINT)
    _, err = working.communicate(timeout=60)
    assert (working.returncode, err) == (130, "frozenbert embed: interrupted.\n")
    assert sorted(os.listdir()) == ["many.tsv", "train.tsv"]


def test_reader_that_has_seen_enough(tiny):
    reading, writing = os.pipe()
    os.close(reading)
    command = [
        *INSTALLED,
        "train",
        "--recipe=plain",
        "--data",
        "train.tsv",
        "--encoder",
        tiny,
        *SMALL,
    ]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_progress_bar_in_a_terminal(tiny):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    command = [*INSTALLED, "embed", "--data", "train.tsv", "--text-column", "0", "--no-cache"]
    command += ["--encoder", tiny, "--out", "out.npy"]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait() == 0
    assert b"Vectors" in shown
    assert b"40/40" in shown
    assert b" texts/s" in shown


@pytest.mark.parametrize("options", [["train", "--help"], ["embed", "--help"], ["--version"], []])
def test_help_loads_nothing_heavy(options):
    code = (
        "import sys, json\n"
        "from frozenbert.cli.main import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit:\n"
        "    heavy = {'torch', 'sklearn', 'pandas', 'numpy', 'transformers', 'matplotlib'}\n"
        "    print(json.dumps(sorted(heavy & set(sys.modules))), file=sys.stderr)\n"
    )
    done = subprocess.run([*PYTHON, "-c", code, *options], capture_output=True, text=True)
    assert json.loads(done.stderr.splitlines()[-1]) == []
