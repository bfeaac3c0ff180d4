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
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from .columns import is_header, kind_of, shown
from .errors import InputError
from .files import writing

__all__ = ["Table", "read_table", "table_format", "write_table"]

_FORMATS = {
    ".tsv": "tsv",
    ".tsv.gz": "tsv",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson": "jsonl",
    ".ndjson.gz": "jsonl",
    ".parquet": "parquet",
}
_DELIMITERS = {"tsv": "\t", "csv": ","}

_UNDECODED = re.compile("[\udc80-\udcff]")  # what errors="surrogateescape" makes of a wrong byte
_LINE_END = re.compile("[\r\n]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_OR_NUL = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, eq=False)
class Table:
    """A table and where in its file each row stands.

    Attributes
    ----------
    path : pathlib.Path
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

    path: Path
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
    path : str or path-like
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
    path = Path(path)
    match table_format(path):
        case "parquet":
            table = _read_parquet(path)
        case "jsonl":
            table = _read_jsonl(path)
        case delimited:
            table = _read_delimited(path, _DELIMITERS[delimited], header, list(columns))
    if not len(table.frame):
        found = "has a header and no rows" if table.header else "is empty"
        raise InputError(f"{path}: the table {found}; it needs at least one row of data.")
    _check_distinct(path, list(table.frame.columns))
    return table


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
                    _write_parquet(frame, file, path)
                case "jsonl":
                    _write_jsonl(frame, file)
                case delimited:
                    _write_delimited(frame, file, _DELIMITERS[delimited])
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}.") from error


# Reading


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, unpacked if it is gzipped, and put what goes wrong in plain words."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb") as file:
            yield file  # type: ignore[misc]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"{path}: is no whole gzip file ({error}); fetch or pack it anew."
        ) from error
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; name a file in it.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from error


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file with their ends, checked to be UTF-8 text."""
    with _opened(path) as binary:
        if binary.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff"):  # type: ignore[attr-defined]
            raise InputError(
                f"{path}: is UTF-16, but must be UTF-8; convert it, say with "
                f"`iconv -f utf-16 -t utf-8`."
            )
        # newline="" so that csv sees the line ends that stand in quotes as they are
        text = io.TextIOWrapper(binary, "utf-8-sig", errors="surrogateescape", newline="")
        for number, line in enumerate(text, start=1):
            if "\0" in line:
                raise InputError(
                    f"{path}, line {number}: holds a NUL byte, so this is a binary file, or "
                    f"UTF-16; a table must be UTF-8 text."
                )
            if not line.isascii() and (wrong := _UNDECODED.search(line)):
                raise InputError(
                    f"{path}, line {number}: the byte 0x{ord(wrong[0]) - 0xDC00:02x} is not UTF-8; "
                    f"convert the file, say with `iconv -f latin1 -t utf-8`."
                )
            yield line


def _records(path: Path, delimiter: str, **dialect: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each row starts and its fields, the same number in each row."""
    csv.field_size_limit(2**31 - 1)  # by default 131,072 characters, which a text may exceed
    reader = csv.reader(_lines(path), delimiter=delimiter, **dialect)
    width = 0
    blank: list[int] = []
    start = 1
    try:
        for row in reader:
            line, start = start, reader.line_num + 1
            if not row:
                blank.append(line)
                continue
            if not width:
                width = len(row)
            elif width == 1:
                yield from ((number, [""]) for number in blank)
            blank.clear()
            if len(row) != width:
                raise InputError(
                    f"{path}, line {line}: the number of fields is {len(row)}, but {width} in the "
                    f"rows above; mend the row, or quote what holds a delimiter or a line end."
                )
            yield line, row
    except csv.Error as error:
        raise InputError(
            f"{path}, line {start}: {error}; a field that starts with a quote must end with "
            f"one, and quotes inside it must be doubled."
        ) from error


def _is_quoted(path: Path) -> bool:
    """Whether a tsv file is to be read with quotes; see the notes of `read_table`."""
    if not any('"' in line for line in _lines(path)):
        return False
    try:
        n_quoted = sum(1 for _ in _records(path, "\t", strict=True))
    except InputError:
        return False
    try:
        n_literal = sum(1 for _ in _records(path, "\t", quoting=csv.QUOTE_NONE))
    except InputError:
        return True
    return n_quoted == n_literal or _is_all_quoted(path)


def _is_all_quoted(path: Path) -> bool:
    # QUOTE_NONNUMERIC makes a number of every field without quotes, or fails to.
    try:
        rows = _records(path, "\t", strict=True, quoting=csv.QUOTE_NONNUMERIC)
        return all(isinstance(field, str) for _, row in rows for field in row)
    except ValueError:
        return False


def _read_delimited(
    path: Path, delimiter: str, header: bool | None, columns: Sequence[str]
) -> Table:
    quoted = delimiter == "," or _is_quoted(path)
    dialect = {"strict": True} if quoted else {"quoting": csv.QUOTE_NONE}
    lines, rows = array("q"), []
    for line, row in _records(path, delimiter, **dialect):
        lines.append(line)
        rows.append(row)
    guessed = header is None
    if not rows:
        return Table(path, pd.DataFrame(), lines)
    names = [str(position) for position in range(len(rows[0]))]
    frame = pd.DataFrame(rows, columns=names, dtype="str")
    if header is None:
        header = is_header(rows[0], frame.iloc[1:], columns)
    if header:
        frame = frame.iloc[1:].reset_index(drop=True).set_axis(rows[0], axis="columns")
        lines = lines[1:]
    return Table(path, frame, lines, header, guessed)


def _read_jsonl(path: Path) -> Table:
    lines, rows = array("q"), []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.rstrip())
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}, line {number}, column {error.colno}: is no JSON ({error.msg}); each "
                f"line must be one whole JSON object."
            ) from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: cannot be read ({error}).") from error
        if not isinstance(row, dict):
            raise InputError(
                f"{path}, line {number}: is {kind_of(row)}, but each line must be one whole JSON "
                f'object, such as {{"text": ..., "label": ...}}.'
            )
        lines.append(number)
        rows.append(row)
    try:
        # object, because pandas would make floats of integers where a key is missing
        return Table(path, pd.DataFrame(rows, dtype=object), lines)
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: a key holds a lone surrogate; keys must be Unicode.") from error


def _read_parquet(path: Path) -> Table:
    with _opened(path) as file:
        try:
            frame = pd.read_parquet(file, engine="pyarrow")
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(
                f"{path}: is no whole parquet file that can be read; fetch or write it anew."
            ) from error
    # An index that pandas kept is a column if it has a name, and else a mere count.
    frame = frame.reset_index(drop=frame.index.names == [None])
    frame = frame.set_axis(frame.columns.map(str), axis="columns")
    return Table(path, frame, range(1, len(frame) + 1))


def _check_distinct(path: Path, names: list[str]) -> None:
    for position, name in enumerate(names):
        if name in names[:position]:
            raise InputError(
                f"{path}: there are two columns named {shown(name)}; give each its own name."
            )


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


def _write_parquet(frame: pd.DataFrame, file: BinaryIO, path: Path) -> None:
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
                f"types; write .jsonl instead."
            ) from None
    pa.parquet.write_table(pa.table(columns), file)


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
