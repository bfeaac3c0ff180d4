"""Lines into rows of fields: as Python's `csv` splits them, without its limit."""

from __future__ import annotations

import csv
import gzip
import io
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenbert.errors import InputError
from frozenbert.tables import records
from frozenbert.tables.reading import read_blocks, read_table
from frozenbert.tables.records import Dialect, RowReader
from frozenbert.tables.table import Upload


def split_by_csv(text: str, delimiter: str, **dialect: object) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, **dialect)
    rows, start = [], 1
    for row in reader:
        rows.append((start, row))
        start = reader.line_num + 1
    return rows


@given(st.text(st.sampled_from('ab,\t"\n\r '), max_size=40), st.sampled_from(",\t"))
def test_rows_are_those_of_csv(text, delimiter):
    upload = Upload("x.csv", text.encode())
    reader = RowReader(upload, Dialect(delimiter))
    try:
        expected = split_by_csv(text, delimiter, strict=True)
    except csv.Error:
        with pytest.raises(InputError, match=r"x\.csv, line \d+: .* must be doubled"):
            list(reader)
    else:
        assert list(reader) == expected
    literal = RowReader(upload, Dialect(delimiter, quoted=False))
    assert list(literal) == split_by_csv(text, delimiter, quoting=csv.QUOTE_NONE)


def test_fields_without_quotes_are_counted():
    reader = RowReader(Upload("x.csv", b'"a",b\n"c","d"\ne,f\n'), Dialect(","))
    assert len(list(reader)) == 3
    assert reader.n_bare == 3


def test_a_line_of_very_many_quoted_fields():
    line = b'"",' * 400_000 + b'""\n'
    started = time.process_time()
    [(_, fields)] = RowReader(Upload("x.csv", line), Dialect(","))
    assert fields == [""] * 400_001
    assert time.process_time() - started < 5  # half a second; 15 if each field copies the rest


def test_csvs_own_limit_is_left_alone(tmp_path):
    before = csv.field_size_limit()
    path = tmp_path / "x.csv"
    path.write_text(f'text,label\n"{"long " * 100_000}",1\n')
    assert len(read_table(path).frame["text"][0]) == 500_000
    for block in read_blocks(path, 1):
        assert csv.field_size_limit() == before
        assert len(block.frame) == 1
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ("text,label\ngood,1\n{},0\n", ""),
        ('text,label\ngood,1\n"{}",0\n', "; or close its quote"),
        ('text,label\ngood,1\n"{}', "; or close its quote"),
        ('text,label\ngood,1\nx,"{}', "; or close its quote"),
    ],
)
def test_a_cell_above_the_limit_is_named_as_such(tmp_path, monkeypatch, content, advice):
    monkeypatch.setattr(records, "FIELD_LIMIT", 1000)
    path = tmp_path / "x.csv"
    path.write_text(content.format("secret\n" * 200 if "{}," not in content else "secret" * 200))
    says = rf"x\.csv, line 3: a field is longer than the limit of 1,000 characters; short.*{advice}"
    with pytest.raises(InputError, match=says) as caught:
        read_table(path)
    assert "secret" not in str(caught.value)


def test_a_cell_of_twenty_megabytes(tmp_path):
    for name in ("x.csv", "x.tsv"):
        path = tmp_path / name
        path.write_text("good,1\nbad,0\n".replace(",", "," if name == "x.csv" else "\t"))
        with path.open("a") as file:
            file.write("x" * 20_000_000)
            file.write(",1\n" if name == "x.csv" else "\t1\n")
        with pytest.raises(InputError, match="line 3: a field is longer than the limit of 16,777,"):
            read_table(path)


# What is no file


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path):
    for name in ("x.csv", "x.tsv", "x.jsonl", "x.parquet", "x.csv.gz"):
        os.mkfifo(tmp_path / name)
        assert stat.S_ISFIFO(os.stat(tmp_path / name).st_mode)
        with pytest.raises(InputError, match=f"{name}: is a named pipe; write its content to a f"):
            read_table(tmp_path / name)


def test_a_device_is_refused(tmp_path):
    (tmp_path / "x.csv").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"x\.csv: is a device; write its content to a file"):
        read_table(tmp_path / "x.csv")


def test_an_upload_is_decompressed():
    table = read_table(Upload("x.jsonl.gz", gzip.compress(b'{"text": "a"}\n')))
    assert table.frame["text"].tolist() == ["a"]
    with pytest.raises(InputError, match=r"x\.csv\.gz: is damaged or not gzip"):
        read_table(Upload("x.csv.gz", b"text\na\n"))


def test_a_file_that_must_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "x.csv"
    path.write_text("a,b\n")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Tests may run as root, whom no mode stops.
    monkeypatch.setattr(records, "open", refuse, raising=False)
    with pytest.raises(InputError, match=r"x\.csv: cannot be read: Permission denied"):
        read_table(Path(path))
