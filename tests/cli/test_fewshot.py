"""`fewshot`: what it suggests to label next."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from frozenbert.tables.writing import write_table

from .conftest import rows


def test_suggestions_carry_row_guess_probability_and_reason(run, tiny):
    write_table(rows(12, labels=("bad", "good")), "labelled.csv")
    pool = rows(30, start=100)[["text"]]
    pool.loc[3, "text"] = pool.loc[7, "text"] = pool.loc[0, "text"]
    pool.loc[5, "text"] = "film " * 60  # cut by each of several models
    write_table(pool, "pool.csv")
    options = ["--encoder", tiny, "--n-experts", 2, "--suggest", 6, "--out", "few"]
    code, out, err = run("fewshot", "--data", "labelled.csv", "--unlabelled", "pool.csv", *options)
    assert code == 0, err
    assert "suggest  6 texts to label next: few/suggest.csv" in out
    warned = [line for line in err.splitlines() if "were cut" in line]
    assert len(warned) == len(set(warned)) == 1
    assert warned[0].endswith("; --long-text windows reads them whole.")
    found = pd.read_csv("few/suggest.csv", keep_default_na=False)
    assert list(found) == ["text", "label", "row", "guess", "probability", "reason"]
    assert found["label"].tolist() == [""] * 6
    assert found["text"].tolist() == pool["text"].iloc[found["row"] - 1].tolist()
    assert not set(found["row"]) & {4, 8}  # the first of equal texts is named
    assert set(found["guess"]) <= {"bad", "good"}
    assert found["probability"].between(0.5, 1).all()
    for row in found.itertuples():
        percent = f"'{row.guess}' {100 * row.probability:.0f} %"
        assert row.reason.startswith(("unsure: ", "less certain than others: "))
        assert percent in row.reason or abs(100 * row.probability % 1 - 0.5) < 0.02


@pytest.mark.parametrize("command", ["classify", "embed", "train", "finetune", "fewshot"])
def test_a_missing_input_is_named_before_the_output(refuses, trained, command):
    Path("folder.npy").mkdir()
    options = {
        "classify": ["--model", trained],
        "embed": ["--out", "x.xyz"],
        "train": ["--out", "train.tsv"],
        "finetune": ["--out", "train.tsv"],
        "fewshot": ["--out", "train.tsv/x", "--unlabelled", "train.tsv"],
    }[command]
    says = r"--data nowhere\.csv: there is no such file\."
    refuses(says, command, "--data", "nowhere.csv", *options)


def test_a_folder_of_tables_needs_a_pattern(refuses, tiny):
    Path("tables").mkdir()
    for name in ("a.jsonl", "b.jsonl", "c.csv", "notes.txt"):
        Path("tables", name).touch()
    says = (
        r"--data tables: is a folder; name its tables by a pattern, in quotes: 'tables/\*\.jsonl'\."
    )
    refuses(says, "embed", "--data", "tables", "--out", "out", "--encoder", tiny)


def test_texts_of_several_options(succeeds, trained):
    both = ["a good film", "a bad plot"]
    out = succeeds("classify", "--model", trained, "--text", both[0], "--text", both[1])
    alone = [succeeds("classify", "--model", trained, "--text", text) for text in both]
    cells = [[line.split("\t")[1] for line in one.splitlines()] for one in alone]
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[0] for line in lines] == ["prediction", "proba_bad", "proba_good"]
    assert lines[0][1:] == [cells[0][0], cells[1][0]]
    for row in (1, 2):
        found = [float(cell) for cell in lines[row][1:]]
        assert found == pytest.approx([float(cells[0][row]), float(cells[1][row])], abs=2e-4)
