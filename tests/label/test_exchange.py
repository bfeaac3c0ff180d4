"""Labels as files: csv, jsonl, Label Studio, Argilla."""

from __future__ import annotations

import csv
import json

import pandas as pd
import pytest

from frozenbert.errors import InputError
from frozenbert.label import Session
from frozenbert.label.exchange import read_labels

TEXTS = ["=1+1", "plain", "two\nlines, with a comma", "plain", "@home", "ünïcödé"]
LABELS = ["good", "bad, very", "so-so"]


def session(texts=TEXTS, **options):
    return Session(texts, LABELS, learn=False, **options)


@pytest.fixture
def labelled():
    with session() as one:
        for place, name in enumerate(one._queue.ids[:5]):
            one.answer(name, LABELS[place % 3], annotator="anna" if place % 2 else "ben")
        one.answer(one._queue.ids[5], None)
        yield one


def found(one):
    return {name: one._queue.labels_of(name) for name in one._queue.ids}


FILES = [
    ("labels.csv", None),
    ("labels.tsv", None),
    ("labels.jsonl", None),
    ("labels.parquet", None),
    ("labels.json", None),
    ("argilla.jsonl", "argilla"),
]


@pytest.mark.parametrize(("name", "format"), FILES)
@pytest.mark.parametrize("raw", [False, True])
def test_an_export_is_an_import(tmp_path, labelled, name, format, raw):
    labelled.export(tmp_path / name, format, raw=raw)
    with session() as other:
        assert other.import_answers(tmp_path / name) == 5
        assert found(other) == found(labelled)
        who = {one.item_id: one.annotator for one in labelled.store.answers() if one.labels}
        assert {one.item_id: one.annotator for one in other.store.answers()} == who
        assert other.import_answers(tmp_path / name) == 0  # stored once
        assert other.undo("anna") is None  # imported labels are not undone


@pytest.mark.parametrize(("name", "format"), FILES)
def test_many_labels_come_back(tmp_path, name, format):
    names = ["x", "y", "z"]
    sets = [["x", "z"], [], ["y"]]
    with Session(TEXTS[:3], names, multi_label=True, learn=False) as one:
        for item, labels in zip(one._queue.ids, sets, strict=True):
            one.answer(item, labels)
        one.export(tmp_path / name, format)
    with Session(TEXTS[:3], names, multi_label=True, learn=False) as other:
        assert other.import_answers(tmp_path / name) == 3
        assert [other._queue.labels_of(item) for item in other._queue.ids] == sets


def test_csv_cells_that_a_spreadsheet_would_run_have_a_quote(tmp_path, labelled):
    labelled.export(tmp_path / "safe.csv")
    with open(tmp_path / "safe.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == ["'=1+1", *TEXTS[1:4], "'@home"]
    assert [row["label"] for row in rows] == [*LABELS, *LABELS[:2]]
    assert {row["annotator"] for row in rows} == {"anna", "ben"}
    assert all(row["answered"].startswith("20") and row["id"] for row in rows)
    labelled.export(tmp_path / "raw.csv", raw=True)
    assert [*pd.read_csv(tmp_path / "raw.csv")["text"]] == TEXTS[:5]


def test_label_studio_and_argilla_files_have_their_forms(tmp_path, labelled):
    labelled.answer(labelled._queue.ids[0], "so-so", annotator="carl")
    labelled.export(tmp_path / "tasks.json")
    task = json.loads((tmp_path / "tasks.json").read_text("utf-8"))[0]
    assert task["data"]["text"] == "=1+1"
    assert task["annotations"][0]["result"] == [
        {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["good"]}}
    ]
    assert [one["created_username"] for one in task["annotations"]] == ["ben", "carl"]
    labelled.export(tmp_path / "records.jsonl", "argilla")
    record = json.loads((tmp_path / "records.jsonl").read_text("utf-8").splitlines()[0])
    assert record["label.responses"] == ["good", "so-so"]
    assert record["label.responses.users"] == ["ben", "carl"]
    assert record["label.responses.status"] == ["submitted"] * 2


def test_files_of_others_are_read(tmp_path):
    (tmp_path / "min.json").write_text(
        json.dumps([{"id": 1, "text": "plain", "label": "good", "annotator": 1}]), "utf-8"
    )
    studio = [
        {
            "data": {"text": "plain"},
            "annotations": [
                {"completed_by": {"email": "a@b.c"}, "was_cancelled": False,
                 "result": [{"type": "choices", "value": {"choices": ["good"]}}]},
                {"completed_by": 7, "was_cancelled": True, "result": []},
            ],
        }
    ]  # fmt: skip
    (tmp_path / "full.json").write_text(json.dumps(studio), "utf-8")
    (tmp_path / "other.csv").write_text(
        'review,stars\nplain,good\n"two\nlines, with a comma",so-so\n'
    )
    assert [one.labels for one in read_labels(tmp_path / "min.json")] == [["good"]]
    full = read_labels(tmp_path / "full.json")
    assert [(one.labels, one.annotator) for one in full] == [(["good"], "a@b.c"), (None, "7")]
    with session() as one:
        options = {"text_column": "review", "label_column": "stars"}
        assert one.import_answers(tmp_path / "other.csv", annotator="old", **options) == 2
        assert one.progress().per_label == {"good": 1, "bad, very": 0, "so-so": 1}


def test_equal_texts_of_a_file_are_the_occurrences_of_the_pool(tmp_path):
    (tmp_path / "two.csv").write_text("text,label\nplain,good\nplain,so-so\n")
    with session() as one:
        assert one.import_answers(tmp_path / "two.csv") == 2
        assert [one._queue.labels_of(one._queue.ids[row]) for row in (1, 3)] == [
            ["good"],
            ["so-so"],
        ]


def test_unknown_texts_and_labels_are_listed_by_line_and_nothing_is_stored(tmp_path):
    lines = ["text,label", "plain,good", "secret text,good", "ünïcödé,secret label"]
    lines += [f"other {i},good" for i in range(20)]
    (tmp_path / "some.csv").write_text("\n".join(lines) + "\n", "utf-8")
    with session() as one:
        with pytest.raises(InputError, match="Nothing was imported") as error:
            one.import_answers(tmp_path / "some.csv")
        said = str(error.value)
        assert "21 rows have a text that is not in the pool: " in said
        assert "some.csv, line 3" in said
        assert "and 11 more" in said
        assert "1 row has a label that the project does not have" in said
        assert "some.csv, line 4" in said
        assert "secret" not in said
        assert list(one.store.answers()) == []


def test_an_import_does_not_replace_an_answer(tmp_path):
    (tmp_path / "one.csv").write_text("text,label\n@home,good\n")
    with session() as one:
        name = one._queue.ids[4]
        one.answer(name, "so-so")
        assert one.import_answers(tmp_path / "one.csv") == 0
        assert one._queue.labels_of(name) == ["so-so"]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.json", "{", r"a.json: is no JSON file \(line 1\)"),
        ("a.json", "{}", "a list of Label Studio's tasks is expected"),
        ("a.json", '[{"data": {}}]', "task 1: has no text in data.text"),
        ("a.json", '[{"data": {"text": "plain"}, "annotations": 3}]', "task 1: is no task"),
        ("a.csv", "text,label\n", "has a header and no rows"),
        ("a.xlsx", "x", "the name of a table must end in"),
        ("missing.csv", None, "cannot be read: No such file"),
    ],
)
def test_a_wrong_file_is_one_message(tmp_path, name, content, match):
    if content is not None:
        (tmp_path / name).write_text(content)
    with session() as one, pytest.raises(InputError, match=match):
        one.import_answers(tmp_path / name)


def test_a_large_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("frozenbert.label.exchange.MAX_BYTES", 2**20)
    (tmp_path / "large.csv").write_text("text,label\n" + "plain,good\n" * 100_000)
    with session() as one, pytest.raises(InputError, match="is larger than 1 MB"):
        one.import_answers(tmp_path / "large.csv")


def test_an_unknown_format_and_an_empty_export_are_errors(tmp_path, labelled):
    with pytest.raises(InputError, match="format='xml': one of table, label-studio, argilla"):
        labelled.export(tmp_path / "x.csv", "xml")
    with session() as one, pytest.raises(InputError, match="no text has a label yet"):
        one.export(tmp_path / "x.csv")
    with Session(["t"], ["a|b", "c"], multi_label=True, learn=False) as one:
        one.answer(one.next().id, ["a|b"])
        with pytest.raises(InputError, match=r"'a\|b' contains the '\|' that separates"):
            one.export(tmp_path / "x.csv")
