"""Reading and writing tables: every cell unchanged, every error with its place."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from frozenbert.errors import InputError
from frozenbert.tables.reading import read_blocks, read_table
from frozenbert.tables.table import Table, table_format
from frozenbert.tables.writing import write_table

SUFFIXES = ["tsv", "csv", "jsonl", "parquet"]


@pytest.fixture
def put(tmp_path):
    """Write a file of this name and content."""

    def put(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put


def rows_of(table: Table) -> list[list[object]]:
    return table.frame.to_numpy(dtype=object).tolist()


def complaint(call, *args, **kwargs) -> str:
    """Return the message of the `InputError` that a call raises, checked to be one line."""
    with pytest.raises(InputError, match=r"\A.+\Z") as caught:
        call(*args, **kwargs)
    return str(caught.value)


# Reading


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", 'text,label\n"good, really",007\n,1\n'),
        ("x.CSV", 'text,label\r\n"good, really",007\r\n,1\r\n'),
        ("x.csv", 'text,label\r"good, really",007\r,1\r'),
        ("x.csv", '\ufefftext,label\n"good, really",007\n,1\n\n\n'),
        ("x.csv.gz", gzip.compress(b'text,label\n"good, really",007\n,1', mtime=0)),
        ("x.tsv", "text\tlabel\ngood, really\t007\n\t1\n"),
        ("x.tsv", '"text"\t"label"\n"good, really"\t"007"\n""\t"1"\n'),
        ("x.TSV.GZ", gzip.compress(b"text\tlabel\r\ngood, really\t007\r\n\t1\r\n", mtime=0)),
        ("x.jsonl", '{"text": "good, really", "label": "007"}\n\n{"label": "1", "text": ""}\n'),
        ("x.ndjson", '\ufeff{"text": "good, really", "label": "007"}\r{"text": "", "label": "1"}'),
    ],
)
def test_cells_are_read_unchanged(put, name, content):
    table = read_table(put(name, content))
    assert list(table.frame.columns) == ["text", "label"]
    assert rows_of(table) == [["good, really", "007"], ["", "1"]]


def test_values_of_jsonl_and_parquet_keep_their_types(put, tmp_path):
    table = read_table(put("x.jsonl", '{"a": 1, "b": true}\n{"a": 2.5, "c": [1]}\n{"a": null}'))
    assert [type(value) for value in table.frame["a"]] == [int, float, type(None)]
    assert table.frame["b"].isna().tolist() == [False, True, True]
    assert table.header is None
    pd.DataFrame({"a": [1, 2]}).to_parquet(tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.parquet").frame["a"].dtype == np.int64


def test_index_that_pandas_stored_in_parquet(tmp_path):
    frame = pd.DataFrame({"text": ["a", "b", "c"]})
    frame.iloc[1:].to_parquet(tmp_path / "unnamed.parquet")
    frame.iloc[1:].rename_axis("id").to_parquet(tmp_path / "named.parquet")
    unnamed = read_table(tmp_path / "unnamed.parquet")
    named = read_table(tmp_path / "named.parquet")
    assert rows_of(unnamed) == [["b"], ["c"]]
    assert rows_of(named) == [[1, "b"], [2, "c"]]
    assert named.frame.index.tolist() == [0, 1]


def test_only_line_ends_end_a_line(put):
    text = "form\x0cfeed, next\x85line, para\u2029graph"
    assert rows_of(read_table(put("x.tsv", f"{text}\t1\nb\t0\n"))) == [[text, "1"], ["b", "0"]]


@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_long_texts(put, name, quote):
    text = "long " * 100_000
    assert rows_of(read_table(put(name, f"{quote}{text}{quote}\nshort"))) == [[text], ["short"]]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        # stray quotes, as in SST-2 and GLUE
        ('a " b\t1\nc\t0\n', [['a " b', "1"], ["c", "0"]]),
        ('"a\t1\nb\t0\nc"\t1\n', [['"a', "1"], ["b", "0"], ['c"', "1"]]),
        ('"a" b\t1\n"c"\t0\n', [['"a" b', "1"], ['"c"', "0"]]),
        ('"a\t1\nb\t0\n', [['"a', "1"], ["b", "0"]]),
        # quoted, as pandas and csv write them
        ('"a ""b"""\t1\nc\t0\n', [['a "b"', "1"], ["c", "0"]]),
        ('"a\tb"\t1\nc\t0\n', [["a\tb", "1"], ["c", "0"]]),
        ('"a\r\nb"\t1\nc\t0\n', [["a\r\nb", "1"], ["c", "0"]]),
        ('"a\tb\nc\td"\t"1"\n', [["a\tb\nc\td", "1"]]),
    ],
)
def test_tsv_with_and_without_quotes(put, content, rows):
    assert rows_of(read_table(put("x.tsv", content), header=False)) == rows


def test_blank_lines(put):
    one = read_table(put("one.csv", "\n\ntext\na\n\nb\n\n\n"))
    assert rows_of(one) == [["a"], [""], ["b"]]
    assert list(one.lines) == [4, 5, 6]
    two = read_table(put("two.tsv", "\na\t1\n\nb\t0\n\n"))
    assert rows_of(two) == [["a", "1"], ["b", "0"]]
    assert list(two.lines) == [2, 4]


def test_where_names_the_line_a_row_starts_on(put, tmp_path):
    path = put("x.csv", 'text,label\n"a\nb\n",1\nc,0\n')
    table = read_table(path)
    assert [table.where(0), table.where(1)] == [f"{path}, line 2", f"{path}, line 5"]
    path = put("x.jsonl", '\n{"text": "a"}\n\n{"text": "b"}\n')
    assert read_table(path).where(1) == f"{path}, line 4"
    path = tmp_path / "x.parquet"
    write_table(pd.DataFrame({"text": ["a", "b"]}), path)
    assert read_table(path).where(1) == f"{path}, row 2"


def test_first_rows_of_a_table_keep_their_places(put):
    path = put("x.csv", "text\na\n\nb\n")
    table = read_table(path)
    first = table.head(2)
    assert (rows_of(first), first.where(1)) == ([["a"], [""]], f"{path}, line 3")
    assert (first.header, first.header_guessed) == (True, True)
    assert rows_of(table.head(99)) == rows_of(table) == [["a"], [""], ["b"]]


# The header


@pytest.mark.parametrize(
    "first",
    [
        "text,label",
        "Tweet,Class",
        "stars,phrase",
        ",text,x",
        "prediction,proba_a",
        "id,Überschrift",
    ],
)
def test_header_is_seen(put, first):
    rest = "1,a\n2,b\n" if first.count(",") == 1 else "0,a,b\n1,c,d\n"
    table = read_table(put("x.csv", f"{first}\n{rest}"))
    assert (table.header, table.header_guessed) == (True, True)
    assert list(table.frame.columns) == first.split(",")
    assert len(table.frame) == 2


@pytest.mark.parametrize(
    "content",
    [
        "a stirring film,1\nbad,0\n",
        "good,pos\nbad,neg\n",
        "nice one,comment\nwhy,question\nI see,comment\n",  # a label that sounds like a header
        "fine film,nan\nbad,1\nso-so,0\n",
        "a review of a text that says it all,label\nb,c\n",
        "I said: text.\ngood\n",
        "text,\na,1\n",
    ],
)
def test_no_row_is_eaten_in_doubt(put, content):
    table = read_table(put("x.csv", content))
    assert (table.header, table.header_guessed) == (False, True)
    assert list(table.frame.columns) == [str(i) for i in range(table.frame.shape[1])]
    assert len(table.frame) == content.count("\n")


def test_header_given_by_the_caller(put):
    path = put("x.csv", "text,label\ngood,pos\n")
    table = read_table(path, header=False)
    assert (rows_of(table)[0], table.header_guessed) == (["text", "label"], False)
    path = put("x.csv", "good,pos\nbad,neg\n")
    table = read_table(path, header=True)
    assert (list(table.frame.columns), table.header_guessed) == (["good", "pos"], False)


def test_columns_that_are_asked_for_make_a_header(put):
    path = put("x.csv", "what they said,stars\nbad,low\ngood,high\n")
    assert read_table(path).header is False
    assert read_table(path, columns=["what they said", "stars"]).header is True
    assert read_table(path, columns=["what they said", "mark"]).header is False
    # "1" is the second column's name where there is no header, and here a label as well
    path = put("x.csv", "a stirring film,1\nbad,0\n")
    assert read_table(path, columns=["1"]).header is False


# Bad files


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.csv", "", "is empty; it needs at least one row"),
        ("x.tsv", "\n\n", "is empty; it needs at least one row"),
        ("x.jsonl", "\n", "is empty; it needs at least one row"),
        ("x.csv.gz", gzip.compress(b"", mtime=0), "is empty; it needs at least one row"),
        ("x.csv", "text,label\n", "has a header and no rows"),
        ("x.csv", b"good,1\nPK\x00\x01,0", "x.csv, line 2: holds a NUL byte"),
        ("x.tsv", b"\x89PNG\r\n\x1a\n\x00", r"x.tsv, line 1: the byte 0x89 is not UTF-8"),
        ("x.csv", "text\nfine\nécrit\n".encode("latin-1"), "line 3: the byte 0xe9 is not UTF-8"),
        ("x.tsv", 'text\n"é"\n'.encode("latin-1"), "line 2: .* `iconv -f latin1 -t utf-8`"),
        ("x.jsonl", '{"text": "é"}\n'.encode("latin-1"), "line 1: the byte 0xe9 is not UTF-8"),
        ("x.csv", "text\na\n".encode("utf-16"), "is UTF-16, but must be .* `iconv -f utf-16"),
        ("x.csv", "text\na\n".encode("utf-16-le"), "line 1: holds a NUL byte"),
        ("x.csv.gz", b"text\na\n", "is damaged or not gzip"),
        ("x.csv.gz", gzip.compress(b"text\na\n" * 99, mtime=0)[:-12], "is damaged or not gzip"),
        ("x.csv", "text,label\na,1\nb,1,2\n", "line 3: the number of fields is 3, but 2 in"),
        ("x.tsv", "a\t1\nb\n", "line 2: the number of fields is 1, but 2 in"),
        ("x.csv", 'a,1\n"b"c,1\n', "line 2: text follows the quote that closes field 1; a field"),
        ("x.csv", 'a,1\n"b,1\nc,0\n', "line 2: a quote opens a field and is never closed"),
        ("x.csv", "text,id,text\na,1,b\n", "two columns named 'text'"),
        (
            "x.csv",
            "text,text\n",
            "two columns named 'text'; .* or say that the table has no header",
        ),
        ("x.tsv", "text\tlabel\ttext\na\t1\tb\n", "two columns named 'text'"),
        (
            "x.jsonl",
            '{"a": 1}\n{"a": 1, "b": {"c": 1, "c": 2}}',
            "line 2: an object has two keys 'c'",
        ),
        ("x.jsonl", '{"a": 1}\n{"a": 1\n', "line 2, column 8: is not JSON"),
        ("x.jsonl", '{"a": 1}\n[1]\n', "line 2: is of type list, but each line must be one whole"),
        ("x.jsonl", "[" * 100_000, "line 1: cannot be read"),
        ("x.jsonl", f'{{"a": {"1" * 5000}}}', "line 1: cannot be read"),
        ("x.jsonl", '{"\\ud83d": 1}', "a key contains a lone surrogate"),
        ("x.parquet", b"", "is damaged or not a parquet file"),
        ("x.parquet", b"PAR1, it says", "is damaged or not a parquet file"),
        ("x.xlsx", b"", r"must end in .tsv, .csv, .jsonl, .ndjson .* or .parquet"),
        ("x.parquet.gz", b"", "must end in .tsv"),
    ],
)
def test_malformed_files(put, name, content, says):
    path = put(name, content)
    message = complaint(read_table, path)
    assert message.startswith(str(path))
    assert re.search(says, message)
    assert complaint(lambda: list(read_blocks(path, 2))) == message


def test_parquet_without_rows(tmp_path):
    pd.DataFrame({"text": []}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="is empty"):
        read_table(tmp_path / "x.parquet")


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.csv.gz", "x.jsonl", "x.parquet"])
def test_missing_files_and_folders(tmp_path, name):
    with pytest.raises(InputError, match=f"{re.escape(name)}: there is no such file"):
        read_table(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{re.escape(name)}: is a folder"):
        read_table(tmp_path / name)


def test_no_text_is_quoted(put):
    for name, content in [
        ("x.csv", 'secret,1\n"secret"secret,1\n'),
        ("x.csv", "secret,1\nsecret\n"),
        ("x.tsv", "secret\t1\nsecret\n"),
        ("x.jsonl", '{"text": "secret"}\n{"text": "secret" "secret"}\n'),
        ("x.jsonl", '"secret"'),
        ("x.csv", "secret\nsecr\xe9t".encode("latin-1")),
    ]:
        assert "secret" not in complaint(read_table, put(name, content))
    mixed = pd.DataFrame({"a": pd.Series([1, "secret"], dtype=object)})
    assert "secret" not in complaint(write_table, mixed, put("x.parquet", ""))


# Writing

HARD_TEXTS = [
    "",
    " ",
    " both ends\t",
    'say "it"',
    '"',
    '""',
    "a\tb\nc\td",
    "\r",
    "a\r\nb\rc",
    "\n",
    ",",
    "007",
    "nan",
    "null",
    "🙂👨\u200d👩\u200d👧",
    "مرحبا \u200fשלום",
    "\x0b\x0c\x1c\x85\u2028\u2029",
    "\ufeff",
    "\\N \\t",
    "#",
]


def in_each_format(test):
    endings = [*SUFFIXES, "tsv.gz", "csv.gz", "jsonl.gz", "ndjson"]
    return pytest.mark.parametrize("suffix", endings)(test)


@in_each_format
def test_a_written_table_is_read_back(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    frame = pd.DataFrame({"text": HARD_TEXTS, "label": ["a"] * len(HARD_TEXTS)}, dtype="str")
    for written in (frame, frame[["text"]], frame[["label"]]):
        write_table(written, path)
        table = read_table(path)
        assert_frame_equal(table.frame, written, check_dtype=False)
        assert table.header is (None if table_format(path) in ("jsonl", "parquet") else True)
    for text in HARD_TEXTS:
        write_table(pd.DataFrame({"text": [text]}), path)
        assert rows_of(read_table(path, header=True)) == [[text]]


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_texts_come_back(tmp_path, suffix, data):
    # Few characters, so that delimiters, quotes and line ends meet often.
    characters = st.sampled_from('ab1 ,\t\n\r"🙂ש') | st.characters(
        exclude_categories=["Cs"], exclude_characters="\0"
    )
    texts = st.text(characters, max_size=8)
    n_columns = data.draw(st.integers(1, 3))
    rows = data.draw(st.lists(st.tuples(*[texts] * n_columns), min_size=1, max_size=5))
    frame = pd.DataFrame(rows, columns=["text", "label", "x"][:n_columns], dtype="str")
    write_table(frame, tmp_path / f"x.{suffix}")
    read = read_table(tmp_path / f"x.{suffix}", header=True)
    assert rows_of(read) == [list(row) for row in rows]


def test_numbers_and_nulls(tmp_path):
    frame = pd.DataFrame({"text": ["a", None], "n": [1, 2], "p": [0.1, np.nan], "b": [True, False]})
    for suffix in ("csv", "jsonl", "parquet"):
        write_table(frame, tmp_path / f"x.{suffix}")
    assert (tmp_path / "x.csv").read_bytes() == b"text,n,p,b\na,1,0.1,True\n,2,,False\n"
    assert [json.loads(line) for line in (tmp_path / "x.jsonl").read_bytes().splitlines()] == [
        {"text": "a", "n": 1, "p": 0.1, "b": True},
        {"text": None, "n": 2, "p": None, "b": False},
    ]
    parquet = read_table(tmp_path / "x.parquet").frame
    assert_frame_equal(parquet, frame, check_dtype=False)
    assert parquet.dtypes.astype(str).tolist()[1:] == ["int64", "float64", "bool"]


def test_tsv_has_no_quotes_where_none_are_needed(tmp_path):
    write_table(pd.DataFrame({"text": ["it's, like, fine"], "label": [1]}), tmp_path / "x.tsv")
    assert (tmp_path / "x.tsv").read_text("utf-8") == "text\tlabel\nit's, like, fine\t1\n"


def test_dates_and_lists_of_a_parquet_file_can_be_written_as_jsonl(tmp_path):
    frame = pd.DataFrame({"t": pd.to_datetime(["2024-05-06"]), "l": [[1, 2]]})
    write_table(frame, tmp_path / "x.parquet")
    write_table(read_table(tmp_path / "x.parquet").frame, tmp_path / "x.jsonl")
    row = json.loads((tmp_path / "x.jsonl").read_text("utf-8"))
    assert row == {"t": "2024-05-06 00:00:00", "l": [1, 2]}


@in_each_format
def test_characters_that_a_format_cannot_hold(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    frame = pd.DataFrame({"text": pd.Series(["a\ud83db", "🙂", "c\0d"], dtype=object)})
    write_table(frame, path)
    half = chr(0xD83D if table_format(path) == "jsonl" else 0xFFFD)
    nul = "\ufffd" if table_format(path) in ("csv", "tsv") else "\0"
    expected = [f"a{half}b", "🙂", f"c{nul}d"]
    assert rows_of(read_table(path)) == [[text] for text in expected]


def test_equal_tables_make_equal_gz_files(tmp_path):
    frame = pd.DataFrame({"text": ["a"]})
    write_table(frame, tmp_path / "x.csv.gz")
    write_table(frame, tmp_path / "y.csv.gz")
    assert (tmp_path / "x.csv.gz").read_bytes() == (tmp_path / "y.csv.gz").read_bytes()


class Unwritable:
    def __str__(self) -> str:
        raise RuntimeError("in the middle")


@in_each_format
def test_a_failure_on_the_way_leaves_the_old_file_alone(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_text("the old file")
    frame = pd.DataFrame({"text": pd.Series(["a" * 100] * 1000 + [Unwritable()], dtype=object)})
    with pytest.raises((RuntimeError, InputError), match=r"in the middle|cannot hold column 'text"):
        write_table(frame, path)
    assert path.read_text() == "the old file"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", ["csv", "tsv.gz", "jsonl", "parquet"])
def test_paths_that_cannot_be_written(tmp_path, suffix):
    frame = pd.DataFrame({"text": ["a"]})
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=rf"file/x\.{suffix}: cannot be written: "):
        write_table(frame, tmp_path / "file" / f"x.{suffix}")
    folder = tmp_path / f"folder.{suffix}"
    folder.mkdir()
    with pytest.raises(InputError, match=rf"folder\.{suffix}: cannot be written: Is a directory"):
        write_table(frame, folder)
    assert sorted(os.listdir(tmp_path)) == ["file", folder.name]


def test_frames_that_cannot_be_written(tmp_path):
    frame = pd.DataFrame([["a", "b"]], columns=["text", "text"])
    with pytest.raises(InputError, match="two columns named 'text'"):
        write_table(frame, tmp_path / "x.csv")
    mixed = pd.DataFrame({"m": pd.Series([1, "a"], dtype=object)})
    with pytest.raises(
        InputError, match=r"parquet cannot hold column 'm', .* write another format"
    ):
        write_table(mixed, tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"must end in .tsv"):
        write_table(mixed, tmp_path / "x.txt")
    assert os.listdir(tmp_path) == []


def test_missing_folders_are_made(tmp_path):
    write_table(pd.DataFrame({"text": ["a"]}), tmp_path / "new" / "folder" / "x.csv")
    assert (tmp_path / "new" / "folder" / "x.csv").read_text("utf-8") == "text\na\n"
