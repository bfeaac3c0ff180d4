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
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from ..errors import InputError
from ..utils.files import writing
from .table import TableFile, check_distinct, quoted, table_format

__all__ = ["arrow_table", "write_table"]

_DELIMITERS = {"tsv": "\t", "csv": ","}

_LINE_END = re.compile("[\r\n]")

_SURROGATE = re.compile("[\ud800-\udfff]")

_SURROGATE_OR_NUL = re.compile("[\0\ud800-\udfff]")


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
    check_distinct(path, list(frame.columns))
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


def arrow_table(frame: pd.DataFrame, path: TableFile) -> pa.Table:
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
                f"{path}: parquet cannot hold column {quoted(name)}, whose values are of several "
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
