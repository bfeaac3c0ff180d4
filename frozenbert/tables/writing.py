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
from collections.abc import Iterable
from pathlib import Path
from typing import IO, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from ..errors import InputError
from ..utils.files import writing
from .delimiters import CANDIDATES, check_delimiter, is_declaration
from .table import TableFile, check_distinct, quoted, table_format

__all__ = ["arrow_table", "write_table"]

_LINE_END = re.compile("[\r\n]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_OR_NUL = re.compile("[\0\ud800-\udfff]")


def write_table(
    frame: pd.DataFrame, path: str | os.PathLike[str], *, delimiter: str | None = None
) -> None:
    r"""Write a table, whole or not at all; the end of the path tells the format.

    `read_table` returns the texts unchanged. Text files are UTF-8 with LF and a header; a
    missing value is an empty cell (jsonl: null). Two things that some formats cannot
    contain become U+FFFD there: lone surrogates (except in jsonl), and the NUL character
    in tsv and csv.

    Parameters
    ----------
    frame : pandas.DataFrame
        The rows; the index is left out.
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
    >>> write_table(pd.DataFrame({"text": ["good, I think"], "proba_1": [0.75]}), file)
    >>> file.read_text(encoding="utf-8")
    'text,proba_1\n"good, I think",0.75\n'
    """
    path = Path(path)
    kind = table_format(path)
    delimiter = check_delimiter(delimiter) or ","
    frame = frame.set_axis(frame.columns.map(str), axis="columns")
    check_distinct(path, frame.columns)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            file: IO[bytes] = stack.enter_context(open(stack.enter_context(writing(path)), "wb"))
            if path.suffix.lower() == ".gz":
                # Without name and time, equal tables make equal files.
                packed = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
                file = cast(IO[bytes], stack.enter_context(packed))
            match kind:
                case "parquet":
                    # Checksums let a reader notice a damaged cell.
                    pa.parquet.write_table(arrow_table(frame, path), file, write_page_checksum=True)
                case "jsonl":
                    _write_jsonl(frame, file)
                case "tsv":
                    _write_delimited(frame, file, "\t", guessed=False)
                case "csv":
                    _write_delimited(frame, file, delimiter, guessed=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}.") from error


def _write_delimited(
    frame: pd.DataFrame, file: IO[bytes], delimiter: str, *, guessed: bool
) -> None:
    """Write a tsv or csv file; `guessed` tells whether a reader has to guess the delimiter."""
    numeric = pd.api.types.is_numeric_dtype
    frame = pd.DataFrame(
        {
            name: column if numeric(column) else _replaced(column, _SURROGATE_OR_NUL)
            for name, column in frame.items()
        }
    )
    names = list(frame.columns)
    texts = [column for _, column in frame.items() if not numeric(column)]
    # Quotes around every field tell `read_table` that lines of a tsv file belong together,
    # and before Python 3.13 csv does not see that a CR needs them.
    quote_all = _any_matches(_LINE_END, itertools.chain(names, *texts))
    if guessed:
        # They also keep another character from looking like the delimiter.
        others = re.compile(f"[{''.join(set(CANDIDATES) - {delimiter})}]")
        looks_alike = itertools.chain(names, *(texts if len(names) == 1 else []))
        quote_all = quote_all or _any_matches(others, looks_alike) or is_declaration(names[0])
    with io.TextIOWrapper(file, "utf-8", newline="") as text:
        frame.to_csv(
            text,
            sep=delimiter,
            index=False,
            lineterminator="\n",
            quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL,
        )


def _any_matches(pattern: re.Pattern[str], cells: Iterable[object]) -> bool:
    return any(pattern.search(str(cell)) for cell in cells)


def _write_jsonl(frame: pd.DataFrame, file: IO[bytes]) -> None:
    names = list(frame.columns)
    columns = [
        column.astype(object).where(column.notna(), None).tolist() for _, column in frame.items()
    ]
    # Only a lone surrogate is escaped, as "\ud83d", which is JSON.
    with io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="") as text:
        for row in zip(*columns, strict=True):
            record = dict(zip(names, row, strict=True))
            text.write(json.dumps(record, ensure_ascii=False, default=_to_json) + "\n")


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
    return pd.Series(cells, index=column.index, dtype=object)


def _to_json(value: object) -> object:
    """Convert a value that `json` does not know, such as a date or array of a parquet file."""
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)
