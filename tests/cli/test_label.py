"""`label`: what starts the page, what ends it, and what is wrong with its input."""

from __future__ import annotations

import csv
import json
import os
import re
import stat
from pathlib import Path

import pytest

from frozenbert.label import Session
from frozenbert.label.web.finishing import finish

from .conftest import SECRET, put, rows

LABELS = ["--labels", "bad,good"]
START = ["--data", "pool.csv", "--text-column", "text", "--out", "films", "--port", 0]


@pytest.fixture(autouse=True)
def pool(here, tiny):
    """A pool of 48 texts, and the encoder for all of these tests."""
    put("pool.csv", rows(), header=True)
    START[6:] = ["--port", 0, "--encoder", tiny]


@pytest.fixture
def label(monkeypatch):
    """Label texts in place of serving the page; returns how many, by their words."""

    def label(n):
        def serve(app, *_, **__):
            session = app.state.service.session
            for _ in range(n):
                item = session.next()
                is_bad = "bad" in item.text or "slow" in item.text
                session.answer(item.id, "bad" if is_bad else "good")

        monkeypatch.setattr("frozenbert.label.web.site.run", serve)

    return label


def test_a_session_is_started_stopped_and_goes_on(succeeds, label):
    label(5)
    out = succeeds("label", *START, *LABELS)
    assert "project  films: 0 of 48 labelled\n" in out
    (token,) = re.findall(r"page  http://127\.0\.0\.1:\d+/#token=(\S+)\n", out)
    assert "stopped  5 of 48 texts labelled\n" in out
    assert "labels  films/labelled.csv\n" in out
    assert "model  none yet: --finish trains" in out
    assert stat.S_IMODE(os.stat("films").st_mode) == 0o700
    for file in Path("films").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert token.encode() not in file.read_bytes()
    label(3)
    out = succeeds("label", *START)  # the project has its labels
    assert "project  films: 5 of 48 labelled\n" in out
    assert token not in out
    assert "stopped  8 of 48 texts labelled\n" in out
    with Path("films/labelled.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {"bad", "good"}


@pytest.mark.slow
def test_finish_trains_by_the_recipe_of_train(run, succeeds, label):
    label(40)
    succeeds("label", *START, *LABELS)
    code, out, _ = run("label", *START, "--finish")
    assert code == 0
    assert re.search(r"accuracy  [0-9.]+ % of 10 held-out texts .*; 30 texts trained\n", out)
    assert "model  films/model.skops\n" in out
    files = {path.name for path in Path("films").iterdir()}
    assert {"model.skops", "model.joblib", "report.html", "labelled.csv"} <= files
    saved = json.loads(Path("films/model.json").read_text())
    assert saved["parameters"]["recipe"] == "auto"
    assert saved["training"]["file"] == "labelled.csv"
    classified = succeeds("classify", "--model", "films", "--data", "pool.csv", "--out", "out.csv")
    assert "out.csv" in classified


@pytest.mark.slow
def test_texts_to_label_next_are_named_where_texts_have_several_labels(here):
    texts = [f"a {word} film {n}" for n in range(16) for word in ("good", "bad", "slow")]
    truth = {text: [word for word in ("good", "slow") if word in text] for text in texts}
    labels = ["good", "slow"]
    options = {"folder": "films", "multi_label": True, "encoder": START[-1], "learn": False}
    with Session(texts, labels, **options) as session:
        for _ in range(36):
            item = session.next()
            session.answer(item.id, truth[item.text])
        done = finish(session, "films")
    assert done.n_suggested == 12
    with Path("films/suggest.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert {row["text"] for row in found} < truth.keys()
    assert len({row["text"] for row in found}) == 12
    assert {row["guess"] for row in found} <= {"", "good", "slow", "good|slow"}
    assert all(re.fullmatch(r"least clear: '(good|slow)' \d+ %", row["reason"]) for row in found)


def test_names_of_a_file_may_contain_commas(succeeds, label):
    Path("names.txt").write_text("news, local\tWhat happens in town.\n\nsports\n")
    label(0)
    succeeds("label", *START, "--labels-file", "names.txt")
    with Session(["a"], ["news, local", "sports"], folder="films", learn=False, encoder=START[-1]):
        pass  # the same labels


def test_each_person_has_an_address(succeeds, label):
    label(0)
    people = ["--annotator", "anna", "--annotator", "ben"]
    out = succeeds("label", *START, *LABELS, *people)
    tokens = dict(re.findall(r"^(anna|ben)  http://127\.0\.0\.1:\d+/#token=(\S+)$", out, re.M))
    assert tokens == json.loads(Path("films/annotators.json").read_text())
    out = succeeds("label", *START)
    assert dict(re.findall(r"^(anna|ben)  http://\S+/#token=(\S+)$", out, re.M)) == tokens


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "a new project needs the names of its labels: --labels positive,negative."),
        (["--labels", "good"], "--labels: 2 to 200 labels are needed, and there are 1."),
        (["--labels", "good,,bad"], "--labels: a label's name is empty."),
        (["--labels", "good,good"], " has 'good' twice."),
        (["--labels", "good,Good "], " has 'Good' and 'good'"),
        (["--labels-file", "none.txt"], "--labels-file none.txt: cannot be read"),
        (["--labels-file", "one.txt"], "--labels-file one.txt: 2 to 200 labels are needed"),
        ([*LABELS, "--text-column", "txt"], "--text-column: pool.csv: there is no column 'txt'"),
        ([*LABELS, "--data", "none.csv"], "--data none.csv: there is no such file."),
        ([*LABELS, "--data", "empty.csv"], "empty.csv: the table has a header and no rows"),
        ([*LABELS, "--out", "full"], "full: is no labelling project, and not empty"),
        ([*LABELS, "--out", "pool.csv"], "pool.csv: is a file, and a project is a folder"),
        ([*LABELS, "--host", "0.0.0.0"], "--annotator: other machines can reach this address"),
        ([*LABELS, "--annotator", ""], "a name of 1 to 60 characters."),
        ([*LABELS, "--allowed-host", "a b"], "--allowed-host a b: not a host's name"),
        ([*LABELS, "--export", "labels.txt"], "--export labels.txt: the name must end in .csv"),
        ([*LABELS, "--import", "labels.txt"], "--import labels.txt: the name must end in .csv"),
        (["--multi-label", "--labels", "a,b|c"], "--labels: 'b|c' contains '|'"),
        ([*LABELS, "--finish"], "label four texts or more of each of two labels first."),
        ([*LABELS, "--labels-file", "one.txt"], "not allowed with argument"),
        ([*LABELS, "--annotator", "anna", "--annotator", "Anna"], "Anna: is given twice."),
        ([*LABELS, "--import", "others.csv"], "2 rows have a text that is not in the pool"),
    ],
)
def test_wrong_input_is_one_line(run, label, options, message):
    label(0)
    Path("one.txt").write_text("good\n")
    Path("empty.csv").write_text("text,label\n")
    Path("others.csv").write_text(f"text,label\n{SECRET},bad\n{SECRET},good\n")
    Path("full").mkdir()
    Path("full", "thesis.txt").write_text(SECRET)
    code, _, err = run("label", *START, *options)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not Path("films").exists()


@pytest.mark.parametrize("name", ["labels.csv", "labels.json", "labels.jsonl"])
def test_labels_go_to_a_file_and_come_back(succeeds, label, name):
    put("pool.csv", rows().assign(text=[f"=1+{n} {SECRET}" for n in range(48)]), header=True)
    label(6)
    succeeds("label", *START, *LABELS)
    assert f"written  {name}\n" in succeeds("label", *START, "--export", name)
    if name.endswith(".csv"):
        with Path(name).open(newline="") as file:
            assert all(row["text"].startswith("'=1+") for row in csv.DictReader(file))
        succeeds("label", *START, "--export", "raw.csv", "--raw")
        with Path("raw.csv").open(newline="") as file:
            assert all(row["text"].startswith("=1+") for row in csv.DictReader(file))
    label(0)
    out = succeeds("label", *START, *LABELS, "--out", "again", "--import", name)
    assert f"imported  6 labels from {name}\n" in out
    assert "stopped  6 of 48 texts labelled" in out


def test_labels_of_other_texts_are_listed_by_line(run, label):
    label(0)
    Path("labels.csv").write_text(f"text,label\n{SECRET},bad\nb {SECRET},good\n")
    code, _, err = run("label", *START, *LABELS, "--import", "labels.csv")
    assert code == 2
    assert re.search(r"labels\.csv.*line 2\b.*line 3\b|labels\.csv.*lines? 2, 3", err), err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "good,bad,mixed"], "--add-label: is needed for labels that the project does"),
        (["--labels", "good,mixed"], "--labels good, mixed: the project has the labels 'bad'"),
        (["--labels", "Good", "--add-label"], "has 'Good' and 'good', which differ by"),
        ([*LABELS, "--encoder", "all-MiniLM-L6-v2"], "--encoder all-MiniLM-L6-v2: the project has"),
        ([*LABELS, "--multi-label"], "--multi-label: the project has"),
    ],
)
def test_a_project_keeps_its_labels_and_encoder(run, succeeds, label, options, message):
    label(0)
    succeeds("label", *START, *LABELS)
    code, _, err = run("label", *START, *options)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    succeeds("label", *START, "--labels", "mixed", "--add-label")
    succeeds("label", *START, "--labels", "mixed,good,bad")


def test_a_second_process_is_sent_to_the_first(run, succeeds, label, tiny):
    label(0)
    succeeds("label", *START, *LABELS)
    with Session(["a"], ["bad", "good"], folder="films", learn=False, encoder=tiny) as session:
        session.set_address("http://127.0.0.1:8001")
        code, _, err = run("label", *START, *LABELS)
    assert code == 2
    assert "films: another process has the project open at http://127.0.0.1:8001" in err


def test_a_damaged_project_is_named(run, succeeds, label):
    label(2)
    succeeds("label", *START, *LABELS)
    file = Path("films/project.sqlite")
    file.write_bytes(b"x" * file.stat().st_size)
    code, _, err = run("label", *START, *LABELS)
    assert code == 2
    assert err.startswith("frozenbert label: films/project.sqlite: is damaged")
