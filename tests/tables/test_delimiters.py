"""Which delimiter a csv file has, and what a wrong guess would cost."""

from __future__ import annotations

import csv
import gzip
import io
import re
import tracemalloc
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from frozenbert.errors import InputError
from frozenbert.tables.cells import texts_of
from frozenbert.tables.columns import find_columns
from frozenbert.tables.delimiters import CANDIDATES, check_delimiter, find_dialect
from frozenbert.tables.reading import read_blocks, read_table
from frozenbert.tables.table import Table, Upload
from frozenbert.tables.writing import write_table


@pytest.fixture
def put(tmp_path):
    """Write a file of this name and content."""

    def put(name: str, content: str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode())
        return path

    return put


def rows_of(table: Table) -> list[list[str]]:
    return table.frame.to_numpy(dtype=object).tolist()


def csv_text(rows: list[list[str]], delimiter: str) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return file.getvalue()


ROWS = [["text", "stars"], ["so, so; or 'so' | so\tso", "2,5"], ['a "fine"\nfilm', "5"], ["", "1"]]


# A delimiter is recognised


@pytest.mark.parametrize("delimiter", CANDIDATES)
@pytest.mark.parametrize("content", ["file", "gz", "upload", "upload gz"])
def test_each_delimiter_is_recognised(tmp_path, delimiter, content):
    written = csv_text(ROWS, delimiter).encode()
    name = "x.csv.gz" if "gz" in content else "x.csv"
    written = gzip.compress(written) if "gz" in content else written
    source = Upload(name, written)
    if "upload" not in content:
        source = tmp_path / name
        source.write_bytes(written)
    table = read_table(source)
    assert list(table.frame.columns) == ROWS[0]
    assert rows_of(table) == ROWS[1:]
    assert list(table.lines) == [2, 3, 5]
    assert (table.delimiter, table.delimiter_guessed) == (delimiter, True)
    [block] = read_blocks(source, 10)
    assert (rows_of(block), block.delimiter) == (ROWS[1:], delimiter)


def test_what_a_spreadsheet_writes(put):
    path = put("x.csv", "\ufeffText;Label\r\nSehr gut, gerne wieder;5\r\nNaja;2,5\r\n")
    table = read_table(path)
    assert find_columns(table, need_label=True) == ("Text", "Label")
    assert texts_of(table, "Text") == ["Sehr gut, gerne wieder", "Naja"]


@pytest.mark.parametrize(
    ("content", "delimiter", "columns"),
    [
        ("text,label\na;b,1\nc;d,0\n", ",", ["text", "label"]),  # the header has no semicolon
        ('"a; b",1\n"c; d",0\n', ",", ["0", "1"]),  # quotes hide the semicolons
        ("gut;3,5\nschlecht, sehr;1,0\n", ";", ["0", "1"]),
        ("a;b\n", ";", ["0", "1"]),
        ("Hello, world\n", ",", ["0", "1"]),
        ("a|b\n\n\nc|d\n", "|", ["0", "1"]),
    ],
)
def test_the_only_one_that_fits_is_taken(put, content, delimiter, columns):
    table = read_table(put("x.csv", content))
    assert table.delimiter == delimiter
    assert list(table.frame.columns) == columns


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("a;b,1\nc;d,0\n", "',' and ';'"),
        ("gut;3,5\nschlecht;1,0\n", "',' and ';'"),
        ("a;b\t1|x\nc;d\t0|y\n", "';' and tab and '\\|'"),
    ],
)
def test_two_that_fit_are_an_error_that_names_both(put, content, names):
    path = put("x.csv", content)
    with pytest.raises(InputError, match=rf"^delimiter: .*x\.csv: .* at {names}, each") as caught:
        read_table(path)
    assert caught.value.parameter == "delimiter"
    with pytest.raises(InputError, match=f"at {names}"):
        next(read_blocks(path, 2))
    assert read_table(path, delimiter=";").delimiter == ";"
    assert len(read_table(path, delimiter=";").frame.columns) == 2


def test_the_first_thousand_rows_decide(put):
    path = put("x.csv", "a b,1\n" * 1000 + "a;b,1\n" * 9)
    assert read_table(path).delimiter == ","
    path = put("x.csv", "a;b,1\n" * 1000 + "a b,1\n" * 9)
    with pytest.raises(InputError, match="at ',' and ';'"):
        read_table(path)


def test_long_texts_are_examined_in_little_memory(put):
    content = "text;stars\n" + f"{'so, ' * 10_000};5\n" * 100
    upload = Upload("x.csv", content.encode())
    tracemalloc.start()
    try:
        assert find_dialect(upload)[0].delimiter == ";"
        assert tracemalloc.get_traced_memory()[1] < len(content)
    finally:
        tracemalloc.stop()


# One column


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("text\nI like it, really\nno\nwell, yes, maybe\n", None),
        ("no\nwell; yes, maybe\nI like it, really, yes\n", None),
        ("text\nGood; bad\n", None),
        ("text\na;b\nc;d\n", None),
        ("fine\n", None),
        ("a | b | c\nd | e\nf\ng | h | i | j\n", None),
        ('text\n"a, b"\n"say ""it"""\nx\n', ["a, b", 'say "it"', "x"]),
        ('"a; b"\n"c; d"\n', ["a; b", "c; d"]),
        ("sep=;\ntext\na\nb\n", ["a", "b"]),
    ],
)
def test_a_file_of_one_column(put, content, texts):
    table = read_table(put("x.csv", content))
    assert table.frame.shape[1] == 1
    expected = texts if texts is not None else content.removeprefix("text\n").split("\n")[:-1]
    assert [row[0] for row in rows_of(table)] == expected
    if not content.startswith("sep="):
        assert (table.delimiter, table.delimiter_guessed) == (None, True)
    [block] = read_blocks(table.path, 10, header=table.header, delimiter=table.delimiter)
    assert rows_of(block) == rows_of(table)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("text,label\na,1\nb,1,2\n", r"line 3: .* is 3, but 2 in the rows above .* is ','\)"),
        ("text;label\na;1\nb;1;2\nc;0\n", r"line 3: .* is 3, but 2 in the rows above .* is ';'\)"),
        ("a,1\n" * 6 + "b\n" + "c,0\n" * 5, r"line 7: .* is 1, but 2 in .* is ','\)"),
        ("a|1\n" * 6 + "b|2|\n" + "c|0\n" * 5, r"line 7: .* is 3, but 2 in .* is '\|'\)"),
        ("a\t1\n" * 6 + "b\n" + "c\t0\n" * 5, r"line 7: .* is 1, but 2 in .* is tab\)"),
        # A header is a header, even if no row fits it.
        ("text;label\na;b;c\nd\n", r"line 2: .* is 3, but 2 in .* is ';'\)"),
        # Titles and notes above the table
        ("# notes\ntext,label\na,1\nb,0\n", r"line 2: .* is 2, but 1 in .* is ','\)"),
        ("# notes\n" + "a;1\n" * 10, r"line 2: .* is 2, but 1 in .* is ';'\)"),
        # Quotes
        ("a;1\nb;0\n" + '"c" d;1\n', r"line 3: text follows the quote that closes field 1"),
        ('a;1\nb;0\nc;"0\n', r"line 3: a quote opens a field and is never closed"),
        ('"Great" he said\n', r"line 1: text follows the quote that closes field 1"),
    ],
)
def test_a_damaged_table_does_not_become_one_column(put, content, says):
    path = put("x.csv", content)
    with pytest.raises(InputError, match=rf"x\.csv, {says}"):
        read_table(path)
    with pytest.raises(InputError, match=rf"x\.csv, {says}"):
        list(read_blocks(path, 2))


def test_expected_columns_tell_a_damaged_table_from_prose(put):
    path = put("x.csv", "what they said;mark\na;b;c\nd\ne;f;g;h\n")
    assert read_table(path).frame.shape == (4, 1)
    with pytest.raises(InputError, match="line 2: the number of fields is 3, but 2"):
        read_table(path, columns=["mark"])


# A delimiter that is named


@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
@pytest.mark.parametrize("delimiter", [*CANDIDATES, ":", "^", " "])
def test_a_first_line_names_it(put, name, delimiter):
    path = put(name, f"sep={delimiter}\r\ntext{delimiter}label\r\na,b{delimiter}1\r\n")
    if delimiter == ",":
        path = put(name, 'sep=,\r\ntext,label\r\n"a,b",1\r\n')
    table = read_table(path)
    assert rows_of(table) == [["a,b", "1"]]
    assert list(table.frame.columns) == ["text", "label"]
    assert (list(table.lines), table.where(0)) == ([3], f"{path}, line 3")
    assert (table.delimiter, table.delimiter_guessed) == (delimiter, False)


def test_it_is_overridden_by_the_callers_and_is_no_data_all_the_same(put):
    path = put("x.csv", "SEP=;\na;b,1\nc;d,0\n")
    assert rows_of(read_table(path)) == [["a", "b,1"], ["c", "d,0"]]
    assert rows_of(read_table(path, delimiter=",")) == [["a;b", "1"], ["c;d", "0"]]
    broken = put("y.csv", "sep=;\na;1\nb;1;2\n")
    with pytest.raises(InputError, match="line 3: the number of fields is 3, but 2"):
        read_table(broken)


@pytest.mark.parametrize("first", ["sep=", "sep=;;", "sep=a", '"sep=;"', " sep=;"])
def test_other_first_lines_are_data(put, first):
    table = read_table(put("x.csv", f"{first}\nb\n"), header=False, delimiter="\t")
    assert rows_of(table) == [[first.strip('"')], ["b"]]


def test_a_tsv_file_has_tabs(put):
    table = read_table(put("x.tsv", "a;b\nc;d\n"))
    assert (rows_of(table), table.delimiter) == ([["a;b"], ["c;d"]], "\t")
    assert not table.delimiter_guessed
    assert rows_of(read_table(table.path, delimiter=";")) == [["a", "b"], ["c", "d"]]


def test_formats_without_a_delimiter(put):
    table = read_table(put("x.jsonl", '{"text": "a;b"}\n'), delimiter=";")
    assert (rows_of(table), table.delimiter, table.delimiter_guessed) == ([["a;b"]], None, False)


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n", "\r", "\0", "tabs", "\ud83d"])
def test_illegal_delimiters(put, tmp_path, delimiter):
    says = rf"^delimiter={re.escape(repr(delimiter))}: must be one character, such as"
    with pytest.raises(InputError, match=says):
        read_table(put("x.csv", "a,b\n"), delimiter=delimiter)
    with pytest.raises(InputError, match=says):
        write_table(pd.DataFrame({"a": ["b"]}), tmp_path / "y.csv", delimiter=delimiter)
    assert not (tmp_path / "y.csv").exists()


def test_a_tab_has_a_name(put):
    assert check_delimiter("tab") == check_delimiter("\\t") == "\t"
    assert rows_of(read_table(put("x.csv", "a;b\tc\n"), delimiter="tab")) == [["a;b", "c"]]


# Columns that are missing


@pytest.mark.parametrize("content", ["text\na\n", "text;label\na;1\n", "a;1\nb;2\n"])
def test_a_column_that_is_asked_for_and_missing_is_an_error(put, content):
    table = read_table(put("x.csv", content), columns=["review"])
    says = "there is no column 'review'; the columns are '"
    with pytest.raises(InputError, match=f"^text_column: .*{says}"):
        find_columns(table, "review", need_label=False)
    with pytest.raises(InputError, match=f"^label_column: .*{says}"):
        find_columns(table, None, "review", need_label=False)
    with pytest.raises(InputError, match=f"^text_column: .*{says}"):
        texts_of(table, "review")


# Writing


@pytest.mark.parametrize("delimiter", CANDIDATES)
@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_a_table_is_written_with_the_delimiter_of_another(tmp_path, delimiter, name):
    frame = pd.DataFrame(ROWS[1:], columns=ROWS[0], dtype="str").assign(n=[0.5, 1.5, 2.5])
    write_table(frame, tmp_path / name, delimiter=delimiter)
    table = read_table(tmp_path / name)
    assert table.delimiter == delimiter
    assert rows_of(table) == [[*row, f"{n}"] for row, n in zip(ROWS[1:], frame["n"], strict=True)]


def test_a_tsv_file_is_written_with_tabs(tmp_path):
    write_table(pd.DataFrame({"a": ["x;y"], "b": ["z"]}), tmp_path / "x.tsv", delimiter=";")
    assert (tmp_path / "x.tsv").read_text() == "a\tb\nx;y\tz\n"


ODD = st.text(st.sampled_from('ab,;\t|"\n\r= '), max_size=6)


@pytest.mark.parametrize("delimiter", CANDIDATES)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_is_recognised_and_read_back(tmp_path, delimiter, data):
    n_columns = data.draw(st.integers(1, 3))
    names = data.draw(st.lists(ODD, min_size=n_columns, max_size=n_columns, unique=True))
    rows = data.draw(st.lists(st.lists(ODD, min_size=n_columns, max_size=n_columns), min_size=1))
    path = tmp_path / "x.csv"
    write_table(pd.DataFrame(rows, columns=names, dtype="str"), path, delimiter=delimiter)
    table = read_table(path, header=True)
    assert list(table.frame.columns) == names
    assert rows_of(table) == rows
    assert table.delimiter == (delimiter if n_columns > 1 else None)


@pytest.mark.parametrize("texts", [["a;b"] * 20, ["a;b", "c;d"], ["a\tb"] * 20, ["a|b,c"] * 20])
def test_texts_that_look_like_a_table_are_read_back(tmp_path, texts):
    write_table(pd.DataFrame({"text": texts}), tmp_path / "x.csv")
    assert [row[0] for row in rows_of(read_table(tmp_path / "x.csv"))] == texts


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(st.text('ab ,;"\n', max_size=5), min_size=2, max_size=2), min_size=1))
@example(rows=[["", ""], ["a;b", '"']])
def test_a_table_with_commas_and_a_header_is_read_as_before(tmp_path, rows):
    """As it was when each csv file had commas."""
    path = tmp_path / "x.csv"
    path.write_text(csv_text([["text", "label"], *rows], ","), newline="")
    assert rows_of(read_table(path)) == rows
