"""Write tables: tsv, csv and jsonl (gzipped too), and parquet."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TextIO, cast

import numpy as np

from ..errors import InputError
from ..utils.extras import require
from ..utils.files import writing
from ..utils.texts import is_missing
from .delimiters import CANDIDATES, check_delimiter, is_declaration
from .table import Column, Columns, TableFile, check_distinct, quoted, table_format

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["arrow_table", "delimited_rows", "write_rows", "write_table"]

_NUMBERS = (int, float, complex, np.number, np.bool_)

_LINE_END = re.compile("[\r\n]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_OR_NUL = re.compile("[\0\ud800-\udfff]")


def write_table(
    columns: Columns, path: str | os.PathLike[str], *, delimiter: str | None = None
) -> None:
    r"""Write a table, whole or not at all; the end of the path tells the format.

    `read_table` returns the texts unchanged. Text files are UTF-8 with LF and a header; a
    missing value is an empty cell (jsonl: null). Two things that some formats cannot
    contain become U+FFFD there: lone surrogates (except in jsonl), and the NUL character
    in tsv and csv.

    Parameters
    ----------
    columns : mapping of str to list or array, pandas or polars DataFrame, or pyarrow.Table
        The cells of each column; an index is left out.
    path : str or path-like
        A .tsv, .csv, .jsonl, .ndjson (each may be followed by .gz) or .parquet file.
        Missing folders above it are created.
    delimiter : str, optional
        The character between the fields of a csv file, or "tab"; a comma by default.
        Without effect on other formats: a tsv file always has tabs.

    Raises
    ------
    InputError
        If the file cannot be written, the format cannot contain the table, or the
        delimiter is no character, a quote or a line end.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "out.csv"
    >>> write_table({"text": ["good, I think"], "proba_1": [0.75]}, file)
    >>> file.read_text(encoding="utf-8")
    'text,proba_1\n"good, I think",0.75\n'
    """
    path = Path(path)
    kind = table_format(path)
    by_name = _by_name(columns, path)
    delimiter = check_delimiter(delimiter)
    if kind == "parquet":
        require("pandas", "pyarrow", purpose="a parquet file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            file: IO[bytes] = stack.enter_context(open(stack.enter_context(writing(path)), "wb"))
            if path.suffix.lower() == ".gz":
                # Without name and time, equal tables make equal files.
                packed = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
                file = cast(IO[bytes], stack.enter_context(packed))
            if kind == "parquet":
                _write_parquet(by_name, file, path)
            else:
                _write_text(by_name, file, kind, delimiter)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}.") from error


def write_rows(
    columns: Columns, file: IO[bytes], kind: str, *, delimiter: str | None = None
) -> None:
    r"""Write a table to an open file, which is closed, in the format of `write_table`.

    Parameters
    ----------
    columns : mapping of str to list or array, or pandas.DataFrame
    file : file
        Opened for writing bytes.
    kind : {"csv", "tsv", "jsonl"}
    delimiter : str, optional
        As for `write_table`.

    Raises
    ------
    InputError
        If two columns have one name, or the delimiter is not valid.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "rows"
    >>> write_rows({"text": ["fine"]}, open(path, "wb"), "tsv")
    >>> path.read_text()
    'text\nfine\n'
    """
    _write_text(_by_name(columns, Path("the output")), file, kind, check_delimiter(delimiter))


def _by_name(columns: Columns, path: TableFile) -> dict[str, Column]:
    if hasattr(columns, "to_pydict"):  # of pyarrow
        columns = cast(Columns, columns.to_pydict())
    elif hasattr(columns, "get_columns"):  # of polars
        columns = {column.name: column.to_list() for column in columns.get_columns()}
    names = [str(name) for name in columns]
    check_distinct(path, names)
    return dict(zip(names, (columns[name] for name in columns), strict=True))


def _write_text(
    columns: Mapping[str, Column], file: IO[bytes], kind: str, delimiter: str | None
) -> None:
    match kind:
        case "jsonl":
            _write_jsonl(columns, file)
        case "tsv":
            _write_delimited(columns, file, "\t", guessed=False)
        case _:
            _write_delimited(columns, file, delimiter or ",", guessed=True)


def _write_delimited(
    columns: Mapping[str, Column], file: IO[bytes], delimiter: str, *, guessed: bool
) -> None:
    """Write a tsv or csv file; `guessed` tells whether a reader has to guess the delimiter."""
    names = list(columns)
    cells = [_printable(column) for column in columns.values()]
    texts = [cell for column in cells for cell in column if isinstance(cell, str)]
    # Quotes around every field tell `read_table` that lines of a tsv file belong together,
    # and before Python 3.13 csv does not see that a CR needs them.
    quote_all = _any_matches(_LINE_END, itertools.chain(names, texts))
    if guessed:
        # They also keep another character from looking like the delimiter.
        others = re.compile(f"[{''.join(set(CANDIDATES) - {delimiter})}]")
        looks_alike = itertools.chain(names, texts if len(names) == 1 else [])
        quote_all = quote_all or _any_matches(others, looks_alike) or is_declaration(names[0])
    quoting: Literal[0, 1] = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    with io.TextIOWrapper(file, "utf-8", newline="") as text:
        _write_rows(text, [names, *zip(*cells, strict=True)], delimiter, quoting)


def delimited_rows(
    columns: Mapping[str, Column], delimiter: str, *, header: bool, quote_all: bool
) -> str:
    r"""Return rows as the text of a csv or tsv file, for a part of an answer.

    Parameters
    ----------
    columns : mapping of str to sequence
    delimiter : str
    header : bool
        Whether the first line has the names.
    quote_all : bool
        Whether numbers have quotes, too.

    Examples
    --------
    >>> delimited_rows({"text": ["a film"], "p": [0.5]}, ",", header=True, quote_all=False)
    '"text","p"\n"a film",0.5\n'
    """
    text = io.StringIO(newline="")
    rows = zip(*map(_printable, columns.values()), strict=True)
    quoting: Literal[1, 2] = csv.QUOTE_ALL if quote_all else csv.QUOTE_NONNUMERIC
    _write_rows(text, [*([list(columns)] if header else []), *rows], delimiter, quoting)
    return text.getvalue()


def _write_rows(
    file: TextIO, rows: Iterable[Sequence[object]], delimiter: str, quoting: Literal[0, 1, 2]
) -> None:
    csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=quoting).writerows(rows)


def _printable(column: Column) -> list[object]:
    """Return a column's cells as numbers, and as strings that a text file can contain."""
    return [
        cell
        if isinstance(cell, _NUMBERS) and not is_missing(cell)
        else ""
        if is_missing(cell)
        else _SURROGATE_OR_NUL.sub("\ufffd", str(cell))
        for cell in _cells(column)
    ]


def _cells(column: Column) -> Column:
    """Return the cells of a list, an array or a Series; numbers keep their precision."""
    values = getattr(column, "values", column)  # a Series' array
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return list(values)
    return column.tolist() if hasattr(column, "tolist") else column


def _any_matches(pattern: re.Pattern[str], cells: Iterable[str]) -> bool:
    return any(map(pattern.search, cells))


def _write_jsonl(columns: Mapping[str, Column], file: IO[bytes]) -> None:
    names = list(columns)
    cells = [
        [None if is_missing(cell) else cell for cell in _cells(column)]
        for column in columns.values()
    ]
    # Only a lone surrogate is escaped, as "\ud83d", which is JSON.
    with io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="") as text:
        for row in zip(*cells, strict=True):
            record = dict(zip(names, row, strict=True))
            text.write(json.dumps(record, ensure_ascii=False, default=_to_json) + "\n")


def _write_parquet(columns: Mapping[str, Column], file: IO[bytes], path: Path) -> None:
    import pandas as pd
    import pyarrow.parquet

    # A list has objects, because pandas would turn integers into floats where one is missing.
    frame = pd.DataFrame(
        {
            name: pd.Series(column, dtype=object) if isinstance(column, list) else column
            for name, column in columns.items()
        }
    )
    # Checksums let a reader notice a damaged cell.
    pyarrow.parquet.write_table(arrow_table(frame, path), file, write_page_checksum=True)


def arrow_table(frame: pd.DataFrame, path: TableFile) -> pa.Table:
    """Turn a frame into the table of a parquet file.

    Parameters
    ----------
    frame : pandas.DataFrame
        The rows; the index is left out.
    path : TableFile
        The file, for messages.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    InputError
        If the values of a column have several types.
    """
    import pyarrow as pa

    columns = {}
    for name, column in frame.items():
        if column.dtype == object:
            column = _replaced(column, _SURROGATE)
        try:
            columns[name] = pa.Array.from_pandas(column)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            # Arrow's message, and so the chain of errors, would quote a cell.
            raise InputError(
                f"{path}: parquet cannot hold column {quoted(name)}, whose values have several "
                f"types; make them one, or write another format."
            ) from None
    return pa.table(columns)


def _replaced(column: pd.Series, characters: re.Pattern[str]) -> pd.Series:
    """Put U+FFFD in place of characters that a format cannot contain."""
    cells = [
        characters.sub("\ufffd", cell) if isinstance(cell, str) else cell
        for cell in column.tolist()
    ]
    import pandas as pd

    return pd.Series(cells, index=column.index, dtype=object)


def _to_json(value: object) -> object:
    """Convert a value that `json` does not know, such as a date or array of a parquet file."""
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)
