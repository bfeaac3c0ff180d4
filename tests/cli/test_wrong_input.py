"""Wrong input: exit code 2, one line that says what to do, and nothing written."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from frozenbert.tables.writing import write_table

from .conftest import SECRET, put, rows


def bad_files() -> dict[str, tuple[str, str | bytes, str]]:
    """Files that cannot be trained on: name, content, and what is said of them."""
    good = rows().to_csv(header=False, index=False)
    few = rows(8).to_csv(header=False, index=False)
    named = [json.dumps(row) for row in rows().to_dict("records")]
    return {
        "folder": (
            "data.csv/x",
            "",
            r"data\.csv: is a folder; name (a file in it|its tables by a pattern)",
        ),
        "suffix": ("data.txt", good, r"data\.txt: the name of a table must end in \.tsv"),
        "empty": ("data.csv", "", r"data\.csv: the table is empty"),
        "header": ("data.csv", "text,label\n", r"data\.csv: the table has a header and no rows"),
        "binary": ("data.csv", b"a\x00b,1\n", r"data\.csv, line 1: holds a NUL byte"),
        "latin1": (
            "data.csv",
            (good + f"caf\xe9 {SECRET},1\n").encode("latin-1"),
            r"data\.csv, line 49: the byte 0xe9 is not UTF-8; .*iconv",
        ),
        "gzip": ("data.csv.gz", gzip.compress(good.encode())[:-9], r"data\.csv\.gz: .* gzip"),
        "jsonl": (
            "data.jsonl",
            "\n".join([*named[:4], named[4][:-1]]),
            r"data\.jsonl, line 5, column \d+: .*JSON",
        ),
        "parquet": ("data.parquet", b"PAR1 PAR1", r"data\.parquet: .* parquet file"),
        "ragged": (
            "data.csv",
            f"{good}{SECRET},1,2\n",
            r"data\.csv, line 49: the number of fields is 3, but 2 in the rows above",
        ),
        "quote": ("data.csv", f'{good}"{SECRET},1\n', r"data\.csv, line 49: .*starts with a quote"),
        "nan": (
            "data.csv",
            f"{good}{SECRET},nan\n",
            r"data\.csv, line 49, column '1': the label is missing \(1 of 49 are\)",
        ),
        "null": (
            "data.jsonl",
            "\n".join([*named, f'{{"text": "{SECRET}", "label": null}}']),
            r"data\.jsonl, line 49, column 'label': the label is missing",
        ),
        "no text": (
            "data.jsonl",
            "\n".join([*named, '{"text": null, "label": 1}']),
            r"data\.jsonl, line 49, column 'text': the text is null",
        ),
        "half": (
            "data.jsonl",
            "\n".join([*named, '{"text": "\\ud83d", "label": 1}']),
            r"data\.jsonl, line 49, column 'text': holds half of a surrogate pair",
        ),
        "one class": (
            "data.csv",
            rows(labels=("same",)).to_csv(header=False, index=False),
            r"there is only one class \('same'\) in the training rows",
        ),
        "few rows": (
            "data.csv",
            rows(5).to_csv(header=False, index=False),
            "classes: too few rows to hold out one of 4 for testing",
        ),
        "folds": (
            "data.csv",
            few,
            r"2 of 2 classes have fewer training rows than the 5 folds .*\('0' has 3\)",
        ),
        "no words": (
            "data.csv",
            "text,label\n" + "".join(f"{'!' * (i + 1)},{i % 2}\n" for i in range(48)),
            "a letter or a digit",
        ),
    }


@pytest.mark.parametrize("case", bad_files())
def test_bad_data_file(refuses, tiny, case):
    name, content, says = bad_files()[case]
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    data = name.removesuffix("/x")
    refuses(says, "train", "--data", data, "--encoder", tiny, "--no-cache")


BAD_TABLES = ["folder", "suffix", "empty", "header", "binary", "latin1", "gzip", "jsonl", "parquet"]


@pytest.mark.parametrize("case", [*BAD_TABLES, "ragged", "no text"])
@pytest.mark.parametrize("command", ["classify", "embed"])
def test_bad_data_file_elsewhere(refuses, trained, tiny, command, case):
    name, content, says = bad_files()[case]
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    options = ["--model", trained, "--out", "x.csv"]
    if command == "embed":
        options = ["--encoder", tiny, "--out", "x.npy", "--label-column", "label"]
        options = options[: None if case == "no text" else -2]
    refuses(says, command, "--data", name.removesuffix("/x"), *options)


def test_missing_file(refuses, trained, tiny):
    says = r"none\.tsv: .*no such file"
    refuses(says, "train", "--data", "none.tsv", "--encoder", tiny)
    refuses(says, "train", "--data", "train.tsv", "--test", "none.tsv", "--encoder", tiny)
    refuses(says, "classify", "--data", "none.tsv", "--model", trained, "--out", "x.csv")
    refuses(says, "embed", "--data", "none.tsv", "--encoder", tiny, "--out", "x.npy")


def test_unknown_columns(refuses, trained, tiny):
    put("x.csv", rows(), header=True)
    says = r"x\.csv: there is no column 'review'; the columns are 'text', 'label'\."
    for column in ("--text-column", "--label-column"):
        refuses(says, "train", "--data", "x.csv", "--encoder", tiny, column, "review")
    new = ["--data", "x.csv", "--text-column", "review"]
    refuses(says, "classify", *new, "--model", trained, "--out", "y.csv")
    refuses(says, "embed", *new, "--encoder", tiny, "--out", "y.npy")
    same = ["--text-column", "text", "--label-column", "text"]
    refuses("cannot be both", "train", "--data", "x.csv", "--encoder", tiny, *same)


@pytest.mark.parametrize(
    ("frame", "header", "says"),
    [
        (rows(8, ("0", "2")), False, r"test\.csv, line 2: the label '2' .* training rows"),
        (rows(8), True, r"test\.csv: there is no column '0'; the columns are 'text', 'label'"),
        (rows(8)[["text"]], False, r"test\.csv: there is no column '1'; the columns are '0'"),
    ],
)
def test_test_file_that_does_not_fit(refuses, tiny, frame, header, says):
    put("test.csv", frame, header=header)
    refuses(says, "train", "--data", "train.tsv", "--test", "test.csv", "--encoder", tiny)


def test_test_file_without_the_header_of_the_data(refuses, tiny):
    put("train.csv", rows(), header=True)
    put("test.csv", rows(8))
    says = r"test\.csv: there is no column 'text'; the columns are '0', '1' \(named by position"
    refuses(says, "train", "--data", "train.csv", "--test", "test.csv", "--encoder", tiny)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--cv 1", "argument --cv: must be at least 2, not 1"),
        ("--cv many", "argument --cv: must be a whole number, not 'many'"),
        ("--C 0", "argument --C: must be numbers above 0, not '0'"),
        ("--C 1,nan", "argument --C: must be numbers above 0, not '1,nan'"),
        ("--C inf", "argument --C: must be numbers above 0, not 'inf'"),
        ("--C abc", "argument --C: must be numbers such as .*, not 'abc'"),
        ("--C 1,", "argument --C: must be numbers such as .*, not '1,'"),
        ("--limit 0", "argument --limit: must be at least 1, not 0"),
        ("--seed -1", "argument --seed: must be from 0 to 4294967295, not -1"),
        ("--n-jobs 0", "argument --n-jobs: must be a number of processes or -1"),
        ("--max-length 0", "argument --max-length: must be at least 1, not 0"),
        ("--max-length 100000", "--max-length 100000: .*at most 40 tokens"),
        ("--pooling median", "--pooling median: .*'cls'"),
        ("--pooling cls,cls", "--pooling cls,cls: .*'cls'"),
        ("--layers 99", r"--layers 99: .*from -4 to 3 \("),
        ("--layers last", "argument --layers: must be 'all' or numbers .*, not 'last'"),
        ("--precision int3", "--precision int3: .*'float32', 'bfloat16', 'int8', 'auto'"),
        ("--backend onnx", "--backend onnx: .*'auto', 'torch', 'openvino'"),
        ("--long-text half", "--long-text half: .*'truncate', 'head_tail', 'windows'"),
        ("--precision int8 --backend torch", "--(precision int8|backend torch): .*OpenVINO"),
        ("--device nonsense", "--device nonsense: torch cannot use it here"),
        ("--lim 5", "unrecognized arguments: --lim 5"),
        ("--revision main", "--revision main: .*tiny' is a folder and has no revisions"),
        ("--scoring f0", "--scoring f0: .*scorer"),
        ("--label-separator=", "--label-separator: is empty"),
        ("--text-column 0 --label-column 1 --delimiter ab", "--delimiter ab: must be one char"),
        ("--model other", "argument --model: not allowed with argument --encoder"),
        ("--scheduler tcp://x:1 --workers 2", "--workers: not allowed with argument --sched"),
    ],
)
def test_illegal_values(refuses, tiny, option, says):
    refuses(says, "train", "--data", "train.tsv", "--encoder", tiny, *option.split(), "--no-cache")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("no-such-encoder", "--encoder no-such-encoder: .*is not on disk"),
        ("some/where/else", "--encoder some/where/else: .*no such folder"),
        ("empty", "--encoder empty: .* no config.json"),
        ("broken", "--encoder broken: .*cannot be loaded"),
        ("json", "json/config.json: .* JSON"),
        ("pickled", "--encoder pickled: .* no model.safetensors; .* can run code"),
    ],
)
def test_encoders_that_cannot_be_had(refuses, tiny, model, says):
    Path("empty").mkdir()
    for name in ("broken", "json", "pickled"):
        shutil.copytree(tiny, name)
    Path("broken/model.safetensors").write_bytes(b"no weights")
    Path("json/config.json").write_text("{")
    Path("pickled/model.safetensors").rename("pickled/pytorch_model.bin")
    refuses(says, "train", "--data", "train.tsv", "--encoder", model, "--no-cache")
    refuses(
        says,
        "embed",
        "--data",
        "train.tsv",
        "--text-column",
        0,
        "--out",
        "x.npy",
        "--encoder",
        model,
        "--no-cache",
    )


@pytest.mark.parametrize("command", ["train", "embed"])
def test_a_revision_is_never_replaced(refuses, command):
    options = [] if command == "train" else ["--out", "x.npy", "--text-column", 0]
    says = "--encoder distilbert-base-uncased: .*'v9'.* is not on disk"
    refuses(says, command, "--data", "train.tsv", "--revision", "v9", *options)


def test_outputs_that_cannot_be_written(refuses, trained, tiny):
    Path("file").touch()
    for name in ("folder.csv", "folder.npy", "x.json"):
        Path(name).mkdir()
    below = "cannot be written, because .*file is a file and no folder"
    for command, options, cases in (
        ("train", ["--encoder", tiny], {"file": "--out file: is a file", "file/x/y": below}),
        (
            "classify",
            ["--model", trained],
            {
                "file/x.csv": below,
                "folder.csv": r"--out folder\.csv: is a folder",
                "x.txt": r"x\.txt: the name of a table must end in \.tsv",
            },
        ),
        (
            "embed",
            ["--encoder", tiny, "--text-column", 0],
            {
                "file/x.npy": below,
                "folder.npy": r"--out folder\.npy: is a folder",
                "x.npy": r"--out x\.json: is a folder",
                "x.csv": r"--out x\.csv: .* a file whose name ends in \.npy or \.parquet",
            },
        ),
    ):
        for out, says in cases.items():
            refuses(says, command, "--data", "train.tsv", *options, "--out", out, "--no-cache")


def spellings(name: str) -> dict[str, str]:
    """Other names for a file: a link of each kind, and a way around to it."""
    suffix = "".join(Path(name).suffixes)
    os.symlink(name, f"symbolic{suffix}")
    os.link(name, f"hard{suffix}")
    Path("sub").mkdir()
    return {"itself": name, "symbolic": f"symbolic{suffix}", "hard": f"hard{suffix}",
            "around": f"sub/../{name}", "absolute": str(Path(name).absolute())}  # fmt: skip


@pytest.mark.parametrize("how", ["itself", "symbolic", "hard", "around", "absolute"])
def test_no_command_overwrites_what_it_reads(refuses, trained, tiny, how):
    put("pool.tsv", rows(9)[["text"]])
    write_table(rows(9), "x.parquet")
    same = spellings("train.tsv")[how]
    says = f"--out .*: --data {re.escape('train.tsv')} reads the same file"
    refuses(says, "classify", "--model", trained, "--data", "train.tsv", "--out", same)
    shutil.rmtree("sub")
    same = spellings("x.parquet")[how]
    options = ["--encoder", tiny, "--text-column", "text", "--data", "x.parquet"]
    refuses("--out .*: --data .* reads the same file", "embed", *options, "--out", same)
    shutil.rmtree("sub")
    for path in ("symbolic.tsv", "hard.tsv"):
        Path(path).unlink()
    same = spellings("pool.tsv")[how]
    few = ["--encoder", tiny, "--data", "train.tsv", "--unlabelled", "pool.tsv", "--out", "out"]
    says = "--soft-labels .*: --unlabelled pool.tsv reads the same file"
    refuses(says, "fewshot", *few, "--soft-labels", same)


def test_an_encoder_does_not_replace_itself(refuses, tiny):
    shutil.copytree(tiny, "encoder")
    options = ["--data", "train.tsv", "--encoder", "encoder", "--out", "./encoder"]
    refuses("--out encoder: --encoder encoder reads the same", "finetune", *options)


@pytest.mark.parametrize(
    "suffix",
    [
        ".csv",
        *(
            pytest.param(s, marks=pytest.mark.slow)
            for s in (".tsv", ".jsonl", ".csv.gz", ".parquet")
        ),
    ],
)
def test_a_named_pipe_does_not_hang(tiny, suffix):
    name = f"pipe{suffix}"
    os.mkfifo(name)  # nobody writes into it
    code = "import sys; from frozenbert.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "train", "--data", name, "--encoder", tiny]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert re.fullmatch(
        rf"frozenbert train: [^\n]*{re.escape(name)}: [^\n]* pipe[^\n]*\n", done.stderr
    )


@pytest.mark.parametrize("command", ["train", "classify", "embed", "fewshot", "finetune"])
@pytest.mark.parametrize("option", ["--text-column", "--label-column"])
def test_a_column_that_is_asked_for_must_exist(refuses, trained, tiny, command, option):
    put("x.csv", rows(), header=True)
    options = ["--model", trained, "--out", "y.csv"]
    if command != "classify":
        options = ["--encoder", tiny, "--out", "y.npy" if command == "embed" else "y"]
    if command == "fewshot":
        options += ["--unlabelled", "x.csv"]
    says = rf"{option}: x\.csv: there is no column 'nowhere'; the columns are 'text', 'label'\."
    refuses(says, command, "--data", "x.csv", option, "nowhere", *options)
