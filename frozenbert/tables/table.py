"""A table, the file it was read from, and how messages name its parts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError

__all__ = ["Table", "TableFile", "Upload", "check_distinct", "quoted", "table_format", "type_name"]

_FORMATS = {".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}

_FORMATS |= {f"{end}.gz": kind for end, kind in _FORMATS.items()} | {".parquet": "parquet"}


@dataclass(frozen=True)
class Upload:
    """A table that came as bytes and stands in no file.

    Attributes
    ----------
    name : str
        For messages; its end tells the format.
    content : bytes
    """

    name: str
    content: bytes

    def __fspath__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


TableFile = Path | Upload


@dataclass(frozen=True, eq=False)
class Table:
    """A table and where in its file each row stands.

    Attributes
    ----------
    path : pathlib.Path or frozenbert.tables.table.Upload
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

    path: TableFile
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


def check_distinct(path: TableFile, names: list[str]) -> None:
    """Raise `InputError` if two columns have one name."""
    seen = set[str]()
    for name in names:
        if name in seen:
            raise InputError(
                f"{path}: there are two columns named {quoted(name)}; give each its own name."
            )
        seen.add(name)


def quoted(name: Any) -> str:
    """Quote a name or a label, cut to 60 characters: it may be a text by mistake."""
    name = str(name)
    return repr(name if len(name) <= 60 else name[:59] + "…")


def type_name(value: Any) -> str:
    """Say what a cell is. A string may be someone's text, so it is not shown."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "null"
    if isinstance(value, (bool, int, float)):
        return f"{type(value).__name__} {quoted(value)}"
    return f"of type {type(value).__name__}"
