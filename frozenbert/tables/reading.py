"""Read tables of texts: tsv, csv and jsonl (gzipped too), and parquet."""

from __future__ import annotations

import csv
import itertools
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd

from ..errors import InputError
from .columns import is_header
from .parquet import parquet_blocks, read_parquet
from .records import is_quoted, objects, records
from .table import Table, TableFile, Upload, check_distinct, table_format

__all__ = ["read_blocks", "read_table"]

_Record = TypeVar("_Record")

_DELIMITERS = {"tsv": "\t", "csv": ","}

_GUESS_ROWS = 1000  # that a guess at the header looks at


def read_table(
    path: str | os.PathLike[str], *, header: bool | None = None, columns: Iterable[str] = ()
) -> Table:
    r"""Read a table of texts; its format is told by the end of its name.

    Text files are UTF-8, with or without a byte order mark; lines end in LF, CRLF or CR.

    Parameters
    ----------
    path : str, path-like or frozenbert.tables.table.Upload
        A .tsv, .csv, .jsonl, .ndjson (each may have .gz after it) or .parquet file.
    header : bool, optional
        Whether the first row of a tsv or csv file holds the columns' names. By default
        that is guessed, and taken for data in doubt. Says nothing about other formats.
    columns : iterable of str, optional
        Names of columns that the caller is going to ask for: a first row that holds them
        all is a header. (Numbers are positions and prove nothing.)

    Returns
    -------
    Table
        The rows and their places in the file.

    Raises
    ------
    InputError
        If the file cannot be read, is no such table, or has no rows.

    Notes
    -----
    A csv file is read after RFC 4180. A tsv file is read literally, as a `"` has no
    meaning in many of them, unless all of it is well-formed with quotes and either the
    rows do not fit together without them, or there are as many rows both ways, or
    every single field is quoted. So a stray quote never swallows rows.

    Blank lines before the first and after the last row do not count. Between rows they
    are empty texts in a file of one column, and are skipped in others.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "reviews.tsv"
    >>> _ = file.write_text('a "great" film\t1\nso-so\t007\n', encoding="utf-8")
    >>> table = read_table(file)
    >>> table.header, table.frame.to_dict("list")
    (False, {'0': ['a "great" film', 'so-so'], '1': ['1', '007']})
    """
    [table] = _blocks(path, header, list(columns), None)
    return table


def read_blocks(
    path: str | os.PathLike[str],
    rows: int,
    *,
    header: bool | None = None,
    columns: Iterable[str] = (),
) -> Iterator[Table]:
    r"""Read a table that may be larger than memory, block by block.

        What `read_table` says of files holds here too, but for two things: the columns of a
        jsonl block are the keys in that block, and those of a parquet file have Arrow's types,
        in which it loses nothing.

    Parameters
    ----------
    path : str or path-like
        As for `read_table`.
    rows : int
        Rows of each block; the last may have fewer.
    header, columns
        As for `read_table`.

    Yields
    ------
    Table
        The next rows and their places in the file; at least one row.

    Raises
    ------
    InputError
        As by `read_table`; of a wrong row, when its block is asked for.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "reviews.csv"
    >>> _ = file.write_text("text\nfine\nso-so\ndull\n", encoding="utf-8")
    >>> [block.frame["text"].tolist() for block in read_blocks(file, 2, header=True)]
    [['fine', 'so-so'], ['dull']]
    """
    return _blocks(path, header, list(columns), rows)


def _blocks(
    path: str | os.PathLike[str], header: bool | None, columns: Sequence[str], rows: int | None
) -> Iterator[Table]:
    path = path if isinstance(path, Upload) else Path(path)
    match table_format(path):
        case "parquet":
            blocks = iter([read_parquet(path)]) if rows is None else parquet_blocks(path, rows)
        case "jsonl":
            blocks = _jsonl_blocks(path, rows)
        case delimited:
            blocks = _delimited_blocks(path, _DELIMITERS[delimited], header, columns, rows)
    for number, table in enumerate(blocks):
        if not number:
            if not len(table.frame):
                found = "has a header and no rows" if table.header else "is empty"
                raise InputError(f"{path}: the table {found}; it needs at least one row of data.")
            check_distinct(path, list(table.frame.columns))
        yield table


def _delimited_blocks(
    path: TableFile,
    delimiter: str,
    header: bool | None,
    columns: Sequence[str],
    rows: int | None,
) -> Iterator[Table]:
    quoted = delimiter == "," or is_quoted(path)
    dialect = {"strict": True} if quoted else {"quoting": csv.QUOTE_NONE}
    found = records(path, delimiter, **dialect)
    first = list(itertools.islice(found, 1 + _GUESS_ROWS))
    if not first:
        yield Table(path, pd.DataFrame(), [])
        return
    names = [str(position) for position in range(len(first[0][1]))]
    guessed = header is None
    if header is None:
        _, frame = _block(first, names)
        header = is_header(first[0][1], frame.iloc[1:], columns)
    if header:
        names = first.pop(0)[1]
    for block in _batches(itertools.chain(first, found), rows):
        lines, frame = _block(block, names)
        yield Table(path, frame, lines, header, guessed)


def _block(
    numbered: Iterable[tuple[int, list[str]]], names: list[str]
) -> tuple[Sequence[int], pd.DataFrame]:
    lines, rows = array("q"), []
    for line, row in numbered:
        lines.append(line)
        rows.append(row)
    # Renamed after, because two names may be the same, which is said in plain words later.
    frame = pd.DataFrame(rows, columns=range(len(names)), dtype="str")
    return lines, frame.set_axis(names, axis="columns")


def _batches(found: Iterator[_Record], rows: int | None) -> Iterator[Iterable[_Record]]:
    """Cut into lists of so many, and into at least one."""
    if rows is None:
        yield found
        return
    batch = list(itertools.islice(found, rows))
    yield batch
    while batch := list(itertools.islice(found, rows)):
        yield batch


def _jsonl_blocks(path: TableFile, rows: int | None) -> Iterator[Table]:
    for block in _batches(objects(path), rows):
        lines, found = array("q"), []
        for line, row in block:
            lines.append(line)
            found.append(row)
        try:
            # object, because pandas would make floats of integers where a key is missing
            yield Table(path, pd.DataFrame(found, dtype=object), lines)
        except UnicodeEncodeError as error:
            raise InputError(
                f"{path}: a key holds a lone surrogate; keys must be Unicode."
            ) from error
