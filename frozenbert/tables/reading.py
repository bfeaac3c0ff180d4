"""Read tables of texts: tsv, csv and jsonl (gzipped too), and parquet."""

from __future__ import annotations

import itertools
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import InputError
from ..utils.extras import require
from .columns import is_header
from .delimiters import SAMPLE, check_delimiter, find_dialect
from .records import RowReader, objects, transposed
from .table import Spool, Table, TableFile, Upload, check_distinct, table_format

__all__ = ["read_blocks", "read_table"]

_Row = TypeVar("_Row")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_table(
    path: str | os.PathLike[str],
    *,
    header: bool | None = None,
    columns: Iterable[str] = (),
    delimiter: str | None = None,
) -> Table:
    r"""Read a table of texts; the end of its name tells its format.

    Text files are UTF-8, with or without a byte order mark; lines end in LF, CRLF or CR.

    Parameters
    ----------
    path : str, path-like, frozenbert.tables.table.Upload or frozenbert.tables.table.Spool
        A .tsv, .csv, .jsonl, .ndjson (each may be followed by .gz) or .parquet file.
    header : bool, optional
        Whether the first row of a tsv or csv file contains the columns' names. By default
        that is guessed; in doubt the row is data. Without effect on other formats.
    columns : iterable of str, optional
        Names of columns that the caller expects: a first row that contains them all is a
        header. (Numbers are positions and prove nothing.) A column that is missing is an
        error as soon as it is asked for, by `find_columns`, `texts_of` or `labels_of`.
    delimiter : str, optional
        The character between the fields of a tsv or csv file, or "tab". By default a tab in
        a .tsv file; in a .csv file it is recognised. Without effect on other formats.

    Returns
    -------
    Table
        The rows and their places in the file.

    Raises
    ------
    InputError
        If the file cannot be read, is malformed, has no rows, or more than one delimiter
        fits.

    Notes
    -----
    The delimiter of a csv file is the only one of `,` `;` tab and `|` that splits each of
    the first 1,000 rows into the same number of fields, at least 2. If none does, each row
    is one field; but a table with a few damaged rows is an error that names the first one.
    A first line such as `sep=;`, as Excel writes it, names the delimiter and is no data,
    also in a tsv file; the parameter `delimiter` overrides it.

    A csv file is read after RFC 4180, whatever its delimiter. A tsv file is read literally,
    because a `"` has no meaning in many of them, unless all of it is well-formed with quotes
    and either the rows have unequal numbers of fields without them, or there are as many
    rows both ways, or every single field is quoted. So a stray quote never swallows rows.

    Blank lines before the first and after the last row do not count. Between rows they
    are empty texts in a file of one column, and are skipped in others.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "x.tsv").write_text('a "great" film\t1\nso-so\t007\n', encoding="utf-8")
    >>> table = read_table(folder / "x.tsv")
    >>> table.header, table.columns
    (False, {'0': ['a "great" film', 'so-so'], '1': ['1', '007']})
    >>> _ = (folder / "x.csv").write_text("text;stars\nso, so;2,5\n", encoding="utf-8")
    >>> table = read_table(folder / "x.csv")
    >>> table.delimiter, table.columns
    (';', {'text': ['so, so'], 'stars': ['2,5']})
    """
    [table] = _blocks(path, header, list(columns), delimiter, None)
    return table


def read_blocks(
    path: str | os.PathLike[str],
    rows: int,
    *,
    header: bool | None = None,
    columns: Iterable[str] = (),
    delimiter: str | None = None,
) -> Iterator[Table]:
    r"""Read a table that may be larger than memory, block by block.

    Files are read as by `read_table`, with two exceptions: the columns of a jsonl block are
    the keys in that block, and those of a parquet file have Arrow's types, which preserve
    every value.

    Parameters
    ----------
    path : str, path-like or frozenbert.tables.table.Upload
        As for `read_table`.
    rows : int
        Rows of each block; the last may have fewer.
    header, columns, delimiter
        As for `read_table`.

    Yields
    ------
    Table
        The next rows and their places in the file; at least one row.

    Raises
    ------
    InputError
        As by `read_table`; for a malformed row, when its block is reached.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "reviews.csv"
    >>> _ = file.write_text("text\nfine\nso-so\ndull\n", encoding="utf-8")
    >>> [block.columns["text"] for block in read_blocks(file, 2, header=True)]
    [['fine', 'so-so'], ['dull']]
    """
    return _blocks(path, header, list(columns), delimiter, rows)


def _blocks(
    path: str | os.PathLike[str],
    header: bool | None,
    columns: Sequence[str],
    delimiter: str | None,
    rows: int | None,
) -> Iterator[Table]:
    path = path if isinstance(path, Upload | Spool) else Path(path)
    delimiter = check_delimiter(delimiter)
    match table_format(path):
        case "parquet":
            require("pandas", "pyarrow", purpose="a parquet file")
            from .parquet import parquet_blocks, read_parquet

            blocks = iter([read_parquet(path)]) if rows is None else parquet_blocks(path, rows)
        case "jsonl":
            blocks = _jsonl_blocks(path, rows)
        case _:
            blocks = _delimited_blocks(path, header, columns, delimiter, rows)
    for number, table in enumerate(blocks):
        if not number:
            check_distinct(path, table.columns, table.header_guessed)
            if not len(table.lines):
                reason = "has a header and no rows" if table.header else "is empty"
                raise InputError(f"{path}: the table {reason}; it needs at least one row of data.")
        yield table


def _delimited_blocks(
    path: TableFile,
    header: bool | None,
    columns: Sequence[str],
    delimiter: str | None,
    rows: int | None,
) -> Iterator[Table]:
    dialect, delimiter_guessed = find_dialect(path, delimiter, columns)
    rest = RowReader(path, dialect).records()
    first = list(itertools.islice(rest, 1 + SAMPLE))
    if not first:
        yield Table(path, {}, [])
        return
    names = [str(position) for position in range(len(first[0][1]))]
    header_guessed = header is None
    if header is None:
        below = transposed([row for _, row in first[1:]], len(names))
        header = is_header(first[0][1], below, columns)
    if header:
        names = first.pop(0)[1]
        check_distinct(path, names, header_guessed)
    for block in _batches(itertools.chain(first, rest), rows):
        lines, found = _columns(block, names)
        yield Table(
            path, found, lines, header, header_guessed, dialect.delimiter, delimiter_guessed
        )


def _columns(
    numbered: Iterable[tuple[int, list[str]]], names: list[str]
) -> tuple[Sequence[int], dict[str, list[str]]]:
    lines = array("q")
    columns: list[list[str]] = [[] for _ in names]
    for line, row in numbered:
        lines.append(line)
        for column, cell in zip(columns, row, strict=True):
            column.append(cell)
    return lines, dict(zip(names, columns, strict=True))


def _batches(rows: Iterator[_Row], size: int | None) -> Iterator[Iterable[_Row]]:
    """Cut rows into batches, at least one; without a size, into exactly one."""
    if size is None:
        yield rows
        return
    batch = list(itertools.islice(rows, size))
    yield batch
    while batch := list(itertools.islice(rows, size)):
        yield batch


def _jsonl_blocks(path: TableFile, rows: int | None) -> Iterator[Table]:
    for block in _batches(objects(path), rows):
        lines, found = array("q"), []
        for line, row in block:
            lines.append(line)
            found.append(row)
        names = list(dict.fromkeys(name for row in found for name in row))
        if any(map(_SURROGATE.search, names)):
            raise InputError(f"{path}: a key contains a lone surrogate; keys must be Unicode.")
        yield Table(path, {name: [row.get(name) for row in found] for name in names}, lines)
