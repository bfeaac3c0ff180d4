"""Columns of texts and labels, and the checks of their cells."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frozenbert.errors import ColumnWarning, InputError, LabelWarning
from frozenbert.tables.cells import label_sets_of, labels_of, probabilities_of, texts_of
from frozenbert.tables.columns import check_label_column, find_columns, warn_of_numbers
from frozenbert.tables.reading import read_blocks, read_table
from frozenbert.tables.writing import write_table


@pytest.fixture
def put(tmp_path):
    """Write a file of this name and content."""

    def put(name: str, content: str) -> Path:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return put


def complaint(call, *args, **kwargs) -> str:
    """Return the message of the `InputError` that a call raises, checked to be one line."""
    with pytest.raises(InputError, match=r"\A.+\Z") as caught:
        call(*args, **kwargs)
    return str(caught.value)


# Finding the columns


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("tweet,class\na,x\nb,y\n", ("tweet", "class")),
        ("id,Review,SENTIMENT\n1,a,x\n2,b,y\n", ("Review", "SENTIMENT")),
        ("one two three four,x\nfive six seven eight,x\n", ("0", "1")),
        ("x,one two three four\nx,five six seven eight\n", ("1", "0")),
        ("id,label,said\n1,x,no\n2,y,yes\n", None),
        ("id,text,a,b\n1,x,0,1\n", None),
        ("label,said\nx,no\ny,yes\n", ("said", "label")),
        ("text,comment,label\none two three four,x,1\n", None),
        ("one two three four,it is not so\nfive six seven eight,it is not so\n", ("0", "1")),
    ],
)
def test_columns_are_found_if_there_is_one_choice(put, content, found):
    table = read_table(put("x.csv", content))
    if found is None:
        assert re.search(
            r"(text|label)_column: .*which column holds the \1s\? Name it; the columns are '\w+', "
            r"'\w+', '\w+'",
            complaint(find_columns, table, need_label=True),
        )
    else:
        assert find_columns(table, need_label=True) == found
        assert find_columns(table, need_label=False) == (found[0], None)


def test_columns_that_are_given(put):
    table = read_table(put("x.csv", "id,a,b\n1,x,y\n2,z,w\n"))
    assert find_columns(table, "b", "a", need_label=True) == ("b", "a")
    assert find_columns(table, "b", "a", need_label=False) == ("b", "a")
    assert find_columns(table, "b", need_label=False) == ("b", None)
    two = read_table(put("y.csv", "id,b\n1,y\n2,w\n"))
    assert find_columns(two, label_column="b", need_label=True) == ("id", "b")


def test_wrong_columns(put):
    table = read_table(put("x.csv", "id,a,b\n1,x,y\n2,z,w\n"))
    with pytest.raises(InputError, match=r"no column 'c'; the columns are 'id', 'a', 'b'\.$"):
        find_columns(table, "c", need_label=False)
    with pytest.raises(InputError, match="no column 'c'"):
        find_columns(table, "a", "c", need_label=False)
    with pytest.raises(InputError, match="'a' cannot be both the texts and the labels"):
        find_columns(table, "a", "a", need_label=True)
    unnamed = read_table(put("y.csv", "x y z,1\n"))
    with pytest.raises(InputError, match=r"the columns are '0', '1' \(.* that it has a header\)"):
        find_columns(unnamed, "review", need_label=False)
    one = read_table(put("z.csv", "text\na\n"))
    with pytest.raises(InputError, match="which column holds the labels"):
        find_columns(one, need_label=True)


def test_many_or_long_names_make_no_long_message(put):
    names = ["x" * 1000, *(f"c{i}" for i in range(99))]
    table = read_table(put("x.csv", ",".join(names) + "\n" + ",".join("a" * 100)), header=True)
    message = complaint(find_columns, table, need_label=False)
    assert len(message) < 500
    assert message.endswith("'c18' and 80 more.")


# Texts and labels


def test_texts(put):
    table = read_table(put("x.jsonl", '{"t": ""}\n{"t": "007"}\n{"t": "\\ud83d\\ude42"}'))
    assert texts_of(table, "t") == ["", "007", "🙂"]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ('{"t": null}', "null"),
        ('{"x": "no t"}', "null"),
        ('{"t": 7}', "int '7'"),
        ('{"t": ["a"]}', "of type list"),
    ],
)
def test_cells_that_are_no_texts(put, row, kind):
    path = put("x.jsonl", f'{{"t": "good"}}\n{row}\n')
    message = complaint(texts_of, read_table(path), "t")
    assert message.startswith(f"{path}, line 2, column 't': the text is {kind}; every text must be")


def test_nested_or_null_texts_in_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    write_table(pd.DataFrame({"a": [["x"], ["y"]], "b": ["x", None]}), path)
    with pytest.raises(InputError, match="row 1, column 'a': the text is of type ndarray"):
        texts_of(read_table(path), "a")
    with pytest.raises(InputError, match="row 2, column 'b': the text is null"):
        texts_of(read_table(path), "b")


def test_halves_of_characters(put):
    path = put("x.jsonl", '{"t": "good", "label": "x"}\n{"t": "a \\ud83d", "label": "\\ud83d"}')
    table = read_table(path)
    says = "holds half of a surrogate pair"
    assert f"{path}, line 2, column 't': {says}" in complaint(texts_of, table, "t")
    assert f"{path}, line 2, column 'label': {says}" in complaint(labels_of, table, "label")


def labels_from(put, cells: list[str], suffix: str) -> list[object]:
    if suffix == "csv":
        content = "".join(f"a,{cell}\n" for cell in cells)
        return labels_of(read_table(put("x.csv", content), header=False), "1")
    content = "".join(f'{{"label": {cell}}}\n' for cell in cells)
    return labels_of(read_table(put("x.jsonl", content)), "label")


@pytest.mark.parametrize(
    ("suffix", "cells", "labels", "kind"),
    [
        ("csv", ["1", "0", "-12"], [1, 0, -12], "i"),
        ("csv", ["1", "01"], ["1", "01"], "O"),
        ("csv", ["1", "1.0"], ["1", "1.0"], "O"),
        ("csv", ["1", "-0"], ["1", "-0"], "O"),
        ("csv", ["1", "9" * 19], ["1", "9" * 19], "O"),
        ("csv", ["1", "\u0661"], ["1", "\u0661"], "O"),
        ("csv", ["pos", "None"], ["pos", "None"], "O"),
        ("jsonl", ['"1"', '"0"'], ["1", "0"], "O"),
        ("jsonl", ["1", "0"], [1, 0], "i"),
        ("jsonl", ["1.0", "2", str(-(2**63))], [1, 2, -(2**63)], "i"),
        ("jsonl", ["true", "false"], [True, False], "b"),
    ],
)
def test_labels(put, suffix, cells, labels, kind):
    found = labels_from(put, cells, suffix)
    assert found.tolist() == labels
    assert found.dtype.kind == kind


@pytest.mark.parametrize(
    ("suffix", "cells", "says"),
    [
        ("csv", ["a", "", "b", " "], r"line 2, column '1': the label is missing \(2 of 4 are\)"),
        ("csv", ["a", "NaN"], r"line 2, column '1': the label is missing \(1 of 2"),
        ("csv", ["a", "b", "nan"], r"line 3, column '1': the label is missing \(1 of 3"),
        ("jsonl", ["1", "null"], r"line 2, column 'label': the label is missing \(1 of 2"),
        ("jsonl", ["1", "NaN"], r"line 2, column 'label': the label is missing \(1 of 2"),
        ("jsonl", ["1", "2.0", "0.5"], r"line 3, .* the label is float '0.5', but labels must be"),
        ("jsonl", ["1", "true"], r"line 2, column 'label': the label is bool 'True', but"),
        ("jsonl", ["1", "2", '"x"'], r"line 3, column 'label': the label is of type str, but"),
        ("jsonl", ["[1]", "[2]"], r"line 1, column 'label': the label is of type list, but"),
        ("jsonl", ["1", str(2**63)], r"line 2, .* the label is int '9223372036854775808', but"),
    ],
)
def test_cells_that_are_no_labels(put, suffix, cells, says):
    with pytest.raises(InputError, match=says):
        labels_from(put, cells, suffix)


def test_labels_in_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    frame = pd.DataFrame({"n": [1, None, 3], "c": pd.Categorical(["x", "y", "x"])})
    frame["d"] = pd.to_datetime(["2024-01-01"] * 3)
    write_table(frame, path)
    table = read_table(path)
    assert labels_of(table, "c").tolist() == ["x", "y", "x"]
    with pytest.raises(InputError, match=r"row 2, column 'n': the label is missing \(1 of 3"):
        labels_of(table, "n")
    with pytest.raises(InputError, match="row 1, column 'd': the label is of type Timestamp"):
        labels_of(table, "d")


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        ([" 1", "1", "2"], "' 1' and '1'"),
        (["Good", "good", "GOOD ", "bad"], "'GOOD ' and 'Good' and 'good'"),
        (["ß", "SS"], "'SS' and 'ß'"),
        (["a", "A", "b", "B", "c", "C", "d", "D"], "'A' and 'a'; .* (and 1 more such groups)"),
    ],
)
def test_labels_that_look_alike_are_warned_about(put, cells, names):
    says = (
        rf"x\.csv, column '1': the labels {names.replace('(', '.').replace(')', '.')} differ only"
    )
    with pytest.warns(LabelWarning, match=says):
        found = labels_from(put, cells, "csv")
    assert found.tolist() == cells
    path = put("y.jsonl", "".join(json.dumps({"tags": [cell, "x"]}) + "\n" for cell in cells))
    with pytest.warns(LabelWarning, match=r"y\.jsonl, column 'tags': the labels .* differ only"):
        flags = label_sets_of(read_table(path), "tags")
    assert flags.shape == (len(cells), len(cells) + 1)


def test_other_labels_are_not_warned_about(put, recwarn):
    labels_from(put, ["1", "2", "a b", "ab", "A-b"], "csv")
    labels_from(put, ['"a"', '"b"'], "jsonl")
    # Spaces around a separator mean nothing.
    table = read_table(put("z.csv", "text,tags\na,x | y\nb,y\n"))
    label_sets_of(table, "tags", "|")
    assert not recwarn.list


def test_dates_beyond_pythons_are_an_input_error(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"when": pa.array([0, 2**60], pa.timestamp("us"))}), path)
    [block] = read_blocks(path, 10)
    with pytest.raises(InputError, match="column 'when': a value is outside the range"):
        labels_of(block, "when")


def test_no_text_is_quoted(put):
    table = read_table(put("x.jsonl", '{"text": ["secret"], "label": 1}\n{"label": "secret"}\n'))
    assert "secret" not in complaint(texts_of, table, "text")
    assert "secret" not in complaint(labels_of, table, "label")


# The real texts


@pytest.mark.parametrize(
    ("name", "n_rows", "columns", "labels"),
    [
        ("sst2/train.tsv", 6920, ("0", "1"), {0, 1}),
        ("sst2/dev.tsv", 872, ("0", "1"), {0, 1}),
        ("imdb/train.csv.gz", 25_000, ("review", "sentiment"), {"positive", "negative"}),
        ("hate/tweets.csv", 24_783, ("tweet", "class"), {"hate", "offensive", "neither"}),
        ("emotions/dev.csv", 5426, None, None),
    ],
)
def test_real_texts_work_unasked(real_texts, name, n_rows, columns, labels):
    table = read_table(real_texts / name)
    assert len(table.frame) == n_rows
    if columns is None:
        with pytest.raises(InputError, match="which column holds the labels"):
            find_columns(table, need_label=True)
        columns = find_columns(table, label_column="joy", need_label=True)
        assert columns == ("text", "joy")
        labels = {0, 1}
    assert find_columns(table, columns[0], columns[1], need_label=True) == columns
    assert set(labels_of(table, columns[1]).tolist()) == labels
    assert all(texts_of(table, columns[0]))


def test_a_text_among_probabilities_is_not_shown(put):
    table = read_table(put("soft.csv", "text,p\na private matter,0.5\n"))
    with pytest.raises(InputError, match="the cell is no probability") as caught:
        probabilities_of(table, ["text"])
    assert "private" not in str(caught.value)
    with pytest.raises(InputError, match="the cell is neither 0 nor 1") as caught:
        label_sets_of(table, ["text", "p"])
    assert "private" not in str(caught.value)


# Columns of something else


def test_a_column_of_ids_is_no_column_of_labels(put):
    rows = [f"x{n},film {n},{'ab'[n % 2]},{n % 4}" for n in range(12)]
    table = read_table(put("films.csv", "code,text,mood,stars\n" + "\n".join(rows) + "\n"))
    message = complaint(check_label_column, table, "text", "code", table.cells("code"))
    assert "column 'code' has 12 different labels in 12 rows" in message
    assert message.endswith("Name another one: 'mood' has 2.")
    check_label_column(table, "text", "mood", table.cells("mood"))
    numbers = [str(n / 7) for n in range(12)]
    check_label_column(table, "text", "stars", numbers)  # a regression takes these
    check_label_column(table, "text", "code", table.cells("code")[:9])  # of few rows


def test_a_column_of_numbers_is_hardly_one_of_texts(put):
    table = read_table(put("films.csv", "text,stars\nfine,1\nworse,2.5\n"))
    with pytest.warns(ColumnWarning, match="column 'stars' holds numbers alone") as record:
        warn_of_numbers(table, "stars", ["1", " 2.5"])
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_numbers(table, "text", ["fine", "1984"])
        warn_of_numbers(table, "text", [])
