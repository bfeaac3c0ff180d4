"""Read and write tables of texts: tsv, csv and jsonl (gzipped too), and parquet."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import itertools
import json
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from ..errors import InputError
from ..utils.files import writing
from .columns import is_header, shown
from .records import Source, Upload, is_quoted, objects, opened, records

__all__ = ["Table", "arrow_table", "read_blocks", "read_table", "table_format", "write_table"]

_FORMATS = {".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_FORMATS |= {f"{end}.gz": kind for end, kind in _FORMATS.items()} | {".parquet": "parquet"}
_Record = TypeVar("_Record")
_DELIMITERS = {"tsv": "\t", "csv": ","}

_GUESS_ROWS = 1000  # that a guess at the header looks at

_INDEX = re.compile(r"__index_level_\d+__")
_LINE_END = re.compile("[\r\n]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_OR_NUL = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, eq=False)
class Table:
    """A table and where in its file each row stands.

    Attributes
    ----------
    path : pathlib.Path or frozenbert.tables.records.Upload
        The file, as it was named.
    frame : pandas.DataFrame
        The rows. Every cell of a tsv or csv file is a string, exactly as it stands
        there ("007" stays "007", an empty cell is ""). The values of jsonl and
        parquet are left as they are; a key that a json line lacks is null.
    lines : sequence of int
        The line on which each row starts, counted from 1; for parquet the row's number.
    header : bool or None
        Whether the first row of a tsv or csv file was taken as the columns' names. If not,
        they are named "0", "1", ... None for jsonl and parquet, which name their columns.
    header_guessed : bool
        Whether nobody said so, and `header` is a guess.
    """

    path: Source
    frame: pd.DataFrame
    lines: Sequence[int]
    header: bool | None = None
    header_guessed: bool = False

    def where(self, row: int) -> str:
        """Name a row's place in the file, for messages.

        Parameters
        ----------
        row : int
            The row, counted from 0.

        Returns
        -------
        str
            Such as "train.tsv, line 7", or "train.parquet, row 7".

        Examples
        --------
        >>> Table(Path("train.tsv"), pd.DataFrame({"0": ["good", "bad"]}), [1, 2]).where(1)
        'train.tsv, line 2'
        """
        unit = "row" if table_format(self.path) == "parquet" else "line"
        return f"{self.path}, {unit} {self.lines[row]}"

    def head(self, n: int) -> Table:
        """Return the table's first `n` rows, or all if it has fewer."""
        return replace(self, frame=self.frame.iloc[:n], lines=self.lines[:n])


def table_format(path: str | os.PathLike[str]) -> str:
    """Tell the format of a table from the end of its name, upper or lower case.

    Parameters
    ----------
    path : str or path-like
        The file; it need not exist.

    Returns
    -------
    {"tsv", "csv", "jsonl", "parquet"}
        The format, the same with or without ".gz".

    Raises
    ------
    InputError
        If the name ends in none of .tsv, .csv, .jsonl, .ndjson (each may have .gz after
        it) and .parquet.

    Examples
    --------
    >>> table_format("reviews.CSV.gz")
    'csv'
    """
    name = Path(path).name.lower()
    for suffix, kind in _FORMATS.items():
        if name.endswith(suffix):
            return kind
    raise InputError(
        f"{path}: the name of a table must end in .tsv, .csv, .jsonl, .ndjson "
        f"(each also with .gz after it) or .parquet."
    )


def read_table(
    path: str | os.PathLike[str], *, header: bool | None = None, columns: Iterable[str] = ()
) -> Table:
    r"""Read a table of texts; its format is told by the end of its name.

    Text files are UTF-8, with or without a byte order mark; lines end in LF, CRLF or CR.

    Parameters
    ----------
    path : str, path-like or frozenbert.tables.records.Upload
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
            blocks = iter([_read_parquet(path)]) if rows is None else _parquet_blocks(path, rows)
        case "jsonl":
            blocks = _jsonl_blocks(path, rows)
        case delimited:
            blocks = _delimited_blocks(path, _DELIMITERS[delimited], header, columns, rows)
    for number, table in enumerate(blocks):
        if not number:
            if not len(table.frame):
                found = "has a header and no rows" if table.header else "is empty"
                raise InputError(f"{path}: the table {found}; it needs at least one row of data.")
            _check_distinct(path, list(table.frame.columns))
        yield table


def write_table(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    r"""Write a table, whole or not at all; its format is told by the end of the path.

    `read_table` gives back the texts as they were. Text files are UTF-8 with LF and a
    header; they have empty cells (jsonl: null) for missing values. Two things have no
    place in some formats and become U+FFFD there: lone surrogates (but for jsonl), and
    the NUL character in tsv and csv.

    Parameters
    ----------
    frame : pandas.DataFrame
        The rows; the index is left out.
    path : str or path-like
        A .tsv, .csv, .jsonl, .ndjson (each may have .gz after it) or .parquet file.
        Missing folders above it are made.

    Raises
    ------
    InputError
        If the file cannot be written, or the format cannot hold the table.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "out.csv"
    >>> write_table(pd.DataFrame({"text": ["good, I think"], "proba_1": [0.75]}), file)
    >>> file.read_text(encoding="utf-8")
    'text,proba_1\n"good, I think",0.75\n'
    """
    path = Path(path)
    kind = table_format(path)
    frame = frame.set_axis(frame.columns.map(str), axis="columns")
    _check_distinct(path, list(frame.columns))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            file: Any = stack.enter_context(open(stack.enter_context(writing(path)), "wb"))
            if path.suffix.lower() == ".gz":
                # Without name and time, equal tables make equal files.
                packed = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
                file = stack.enter_context(packed)
            match kind:
                case "parquet":
                    pa.parquet.write_table(arrow_table(frame, path), file)
                case "jsonl":
                    _write_jsonl(frame, file)
                case delimited:
                    _write_delimited(frame, file, _DELIMITERS[delimited])
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}.") from error


# Reading


def _delimited_blocks(
    path: Source,
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


def _jsonl_blocks(path: Source, rows: int | None) -> Iterator[Table]:
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


def _read_parquet(path: Source) -> Table:
    with _parquet(path) as file:
        frame = pd.read_parquet(file, engine="pyarrow")
    return _of_parquet(path, frame, 0)


def _parquet_blocks(path: Source, rows: int) -> Iterator[Table]:
    with _parquet(path) as file:
        parquet = pa.parquet.ParquetFile(file)
        done, held = 0, parquet.schema_arrow.empty_table()
        for batch in parquet.iter_batches(batch_size=rows):
            # A batch ends where a row group does.
            held = pa.concat_tables([held, pa.Table.from_batches([batch])])
            while len(held) >= rows:
                yield _of_parquet(path, _with_arrow_types(held[:rows]), done)
                done, held = done + rows, held[rows:]
        if not done or len(held):
            yield _of_parquet(path, _with_arrow_types(held), done)


@contextlib.contextmanager
def _parquet(path: Source) -> Iterator[BinaryIO]:
    with opened(path) as file:
        try:
            yield file
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(
                f"{path}: is no whole parquet file that can be read; fetch or write it anew."
            ) from error


def _with_arrow_types(table: pa.Table) -> pd.DataFrame:
    # Without what pandas noted of an index, which it heeds only if the number of rows fits.
    names = [name for name in table.schema.names if not _INDEX.fullmatch(name)]
    plain = table.select(names).replace_schema_metadata(None)
    return plain.to_pandas(types_mapper=pd.ArrowDtype)


def _of_parquet(path: Source, frame: pd.DataFrame, start: int) -> Table:
    # An index that pandas kept is a column if it has a name, and else a mere count.
    frame = frame.reset_index(drop=frame.index.names == [None])
    frame = frame.set_axis(frame.columns.map(str), axis="columns")
    return Table(path, frame, range(start + 1, start + len(frame) + 1))


def _check_distinct(path: Source, names: list[str]) -> None:
    seen = set[str]()
    for name in names:
        if name in seen:
            raise InputError(
                f"{path}: there are two columns named {shown(name)}; give each its own name."
            )
        seen.add(name)


# Writing


def _write_delimited(frame: pd.DataFrame, file: BinaryIO, delimiter: str) -> None:
    numeric = pd.api.types.is_numeric_dtype
    frame = pd.DataFrame(
        {
            name: column if numeric(column) else _replaced(column, _SURROGATE_OR_NUL)
            for name, column in frame.items()
        }
    )
    # Quotes round every field tell `read_table` that lines of a tsv file belong together,
    # and before Python 3.13 csv does not see that a CR needs them.
    texts = (column for _, column in frame.items() if not numeric(column))
    cells = itertools.chain(frame.columns, *texts)
    quote_all = any(_LINE_END.search(str(cell)) for cell in cells)
    with io.TextIOWrapper(file, "utf-8", newline="") as text:
        frame.to_csv(
            text,
            sep=delimiter,
            index=False,
            lineterminator="\n",
            quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL,
        )


def _write_jsonl(frame: pd.DataFrame, file: BinaryIO) -> None:
    names = list(frame.columns)
    columns = [
        column.astype(object).where(column.notna(), None).tolist() for _, column in frame.items()
    ]
    # A lone surrogate, and nothing else, is escaped: "\ud83d" is how JSON writes it too.
    with io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="") as text:
        for row in zip(*columns, strict=True):
            record = dict(zip(names, row, strict=True))
            text.write(json.dumps(record, ensure_ascii=False, default=_plain) + "\n")


def arrow_table(frame: pd.DataFrame, path: Source) -> pa.Table:
    """Turn a frame into what a parquet file holds.

    Parameters
    ----------
    frame : pandas.DataFrame
        The rows; the index is left out.
    path : pathlib.Path
        Where they are to go, for messages.

    Raises
    ------
    InputError
        If the values of a column are of several types.
    """
    columns = {}
    for name, column in frame.items():
        if column.dtype == object:
            column = _replaced(column, _SURROGATE)
        try:
            columns[name] = pa.Array.from_pandas(column)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            # Arrow's own words, and so the chain of errors, would quote a cell.
            raise InputError(
                f"{path}: parquet cannot hold column {shown(name)}, whose values are of several "
                f"types; make them one, or write another format."
            ) from None
    return pa.table(columns)


def _replaced(column: pd.Series, characters: re.Pattern[str]) -> pd.Series:
    """Put U+FFFD for the characters that a format cannot hold."""
    cells = [
        characters.sub("\ufffd", cell) if isinstance(cell, str) else cell
        for cell in column.tolist()
    ]
    return pd.Series(cells, index=column.index, dtype=object)


def _plain(value: Any) -> Any:
    """Turn what `json` does not know (dates, arrays in a parquet file) into what it does."""
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)
