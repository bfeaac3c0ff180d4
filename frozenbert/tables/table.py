"""A table, the file it was read from, and how messages name its parts."""

from __future__ import annotations

import functools
import io
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TypeAlias

from ..errors import InputError
from ..utils.extras import require
from ..utils.texts import is_missing

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = [
    "Column",
    "Columns",
    "Spool",
    "Table",
    "TableFile",
    "Upload",
    "check_distinct",
    "list_columns",
    "quoted",
    "table_format",
    "type_name",
]

_TEXT_FORMATS = {".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_FORMATS = {
    **_TEXT_FORMATS,
    **{f"{suffix}.gz": name for suffix, name in _TEXT_FORMATS.items()},
    ".parquet": "parquet",
}
_CHUNK = 2**20  # bytes
_PACKED = {b"PAR1": "parquet", b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class Upload:
    """A table that arrived as bytes, without a file.

    Attributes
    ----------
    name : str
        The name in messages; its suffix tells the format.
    content : bytes
    """

    name: str
    content: bytes

    def __fspath__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


class Spool:
    """A table that came through a pipe, in a temporary file that no other process can open.

    The file has no name (on POSIX) and the mode 0600, and vanishes with this object. A table is
    read several times, which a pipe does not allow.

    Parameters
    ----------
    name : str
        What messages call it.
    kind : {"csv", "tsv", "jsonl"}
        The format of its content.
    file : file
        Opened for reading bytes, unbuffered.
    """

    def __init__(self, name: str, kind: str, file: IO[bytes]) -> None:
        self.name = name
        self.kind = kind
        self._file = file

    @classmethod
    def of(
        cls, stream: BinaryIO, kind: str | None = None, *, name: str, max_bytes: int | None = None
    ) -> Spool:
        r"""Read a stream to its end.

        Parameters
        ----------
        stream : file
            Opened for reading bytes.
        kind : {"csv", "tsv", "jsonl"}, optional
            Its format; by default "jsonl" if the first byte is `{`.
        name : str
        max_bytes : int, optional
            The limit of its size.

        Returns
        -------
        Spool

        Raises
        ------
        InputError
            If it is empty, larger than the limit, of unknown format, gzip or parquet, or there
            is no room for it on disk.

        Examples
        --------
        >>> spool = Spool.of(io.BytesIO(b'{"text": "fine"}\n'), name="standard input")
        >>> spool.kind, spool.open().read()
        ('jsonl', b'{"text": "fine"}\n')
        """
        first = stream.read(_CHUNK)
        kind = kind or ("jsonl" if first.startswith(b"{") else None)
        packed = next((what for magic, what in _PACKED.items() if first.startswith(magic)), None)
        if not first:
            raise InputError(f"{name}: is empty; it needs at least one row of data.")
        if packed is not None:
            raise InputError(f"{name}: is {packed}; write it to a file, and name that.")
        if kind is None:
            raise InputError(
                f"name the format of {name}: csv, tsv or jsonl (the last alone is recognised: "
                f"its first byte is {{).",
                parameter="format",
            )
        size, chunk = 0, first
        try:
            file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
            while chunk:
                size += len(chunk)
                if max_bytes is not None and size > max_bytes:
                    raise InputError(
                        f"{name} has more than {max_bytes:,} bytes; raise this limit, or write the "
                        f"table to a file and name that.",
                        parameter="max_bytes",
                    )
                left = memoryview(chunk)
                while left:
                    left = left[file.write(left) :]
                chunk = stream.read(_CHUNK)
        except OSError as error:
            raise InputError(
                f"{name}: cannot be stored in {tempfile.gettempdir()} ({error.strerror or error}); "
                f"make room there, or let TMPDIR name another folder."
            ) from error
        return cls(name, kind, file)

    def open(self) -> BinaryIO:
        """Return a new reader at the beginning; any number can read in turns."""
        return io.BufferedReader(_SpoolReader(self._file))

    def __fspath__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


class _SpoolReader(io.RawIOBase):
    """Reads a file that others read, too: it remembers its own place."""

    def __init__(self, file: IO[bytes]) -> None:
        self._shared = file
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._shared.seek(self._place)
        self._place = self._shared.seek(offset, whence)
        return self._place

    def readinto(self, buffer: Any) -> int:
        self._shared.seek(self._place)
        n: int = self._shared.readinto(buffer)  # type: ignore[attr-defined]
        self._place += n
        return n


TableFile = Path | Upload | Spool
Column: TypeAlias = "Sequence[Any] | np.ndarray"
Columns: TypeAlias = "Mapping[str, Column] | pd.DataFrame"


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of a table, and the line of its file on which each row starts.

    Attributes
    ----------
    path : pathlib.Path, frozenbert.tables.table.Upload or frozenbert.tables.table.Spool
        The file, as the caller named it.
    columns : dict of str to list, or pandas.DataFrame
        The cells of each column; a DataFrame for parquet. Every cell of a tsv or csv file is
        a string, exactly as in the file ("007" stays "007", an empty cell is ""). The values
        of jsonl and parquet keep their types; a key that a json line lacks is null.
    lines : sequence of int
        The line on which each row starts, counted from 1; for parquet the row's number.
    header : bool or None
        Whether the first row of a tsv or csv file was read as the columns' names. Without
        a header the columns are named "0", "1", ... None for jsonl and parquet, which name
        their columns.
    header_guessed : bool
        Whether `header` is a guess, because the caller did not say.
    delimiter : str or None
        The character between the fields of a tsv or csv file. None for jsonl and parquet,
        and for a csv file of one column that was read without a delimiter.
    delimiter_guessed : bool
        Whether `delimiter` was recognised from the rows: neither the caller, nor the
        suffix .tsv, nor a first line such as `sep=;` names it.
    """

    path: TableFile
    columns: Columns
    lines: Sequence[int]
    header: bool | None = None
    header_guessed: bool = False
    delimiter: str | None = None
    delimiter_guessed: bool = False

    def where(self, row: int) -> str:
        """Return a row's place in the file, for messages.

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
        >>> Table(Path("train.tsv"), {"0": ["good", "bad"]}, [1, 2]).where(1)
        'train.tsv, line 2'
        """
        unit = "row" if table_format(self.path) == "parquet" else "line"
        return f"{self.path}, {unit} {self.lines[row]}"

    def head(self, n: int) -> Table:
        """Return the table's first `n` rows, or all if it has fewer."""
        if isinstance(self.columns, Mapping):
            columns: Columns = {name: cells[:n] for name, cells in self.columns.items()}
        else:
            columns = self.columns.iloc[:n]
        return replace(self, columns=columns, lines=self.lines[:n])

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The rows as a DataFrame.

        Raises
        ------
        MissingLibraryError
            If pandas is not installed.
        """
        require("pandas", purpose="this use of a table")
        import pandas as pd

        if not isinstance(self.columns, Mapping):
            return self.columns
        # object, because pandas would turn integers into floats where a key is missing.
        return pd.DataFrame(dict(self.columns), dtype="str" if self.header is not None else object)

    def cells(self, name: str, parameter: str | None = None) -> list[Any]:
        """Return the cells of one column.

        Parameters
        ----------
        name, parameter
            As for `column`.

        Raises
        ------
        InputError
            If the table has no column of that name, or a value is out of range.
        """
        self.check_name(name, parameter)
        cells: Any = self.columns[name]
        try:
            return cells if isinstance(cells, list) else cells.tolist()
        except (OverflowError, ValueError):  # such as a date after the year 9999
            raise InputError(
                f"{self.path}, column {quoted(name)}: a value is outside the range of its type."
            ) from None

    def column(self, name: str, parameter: str | None = None) -> pd.Series:
        """Return one column as a Series.

        Parameters
        ----------
        name : str
        parameter : str, optional
            The parameter that named the column, for the error.

        Raises
        ------
        InputError
            If the table has no column of that name.
        """
        self.check_name(name, parameter)
        return self.frame[name]

    def check_name(self, name: str, parameter: str | None = None) -> None:
        """Raise `InputError` if the table has no column of that name."""
        if name not in self.columns:
            raise InputError(
                f"{self.path}: there is no column {quoted(name)}; {list_columns(self)}.",
                parameter=parameter,
            )


def table_format(path: str | os.PathLike[str]) -> str:
    """Return the format of a table, told by the end of its name in upper or lower case.

    Parameters
    ----------
    path : str or path-like
        The file; it need not exist. A `Spool` knows its format.

    Returns
    -------
    {"tsv", "csv", "jsonl", "parquet"}
        The format, the same with or without ".gz".

    Raises
    ------
    InputError
        If the name ends in none of .tsv, .csv, .jsonl, .ndjson (each may be followed by
        .gz) and .parquet.

    Examples
    --------
    >>> table_format("reviews.CSV.gz")
    'csv'
    """
    if isinstance(path, Spool):
        return path.kind
    name = Path(path).name.lower()
    for suffix, kind in _FORMATS.items():
        if name.endswith(suffix):
            return kind
    raise InputError(
        f"{path}: the name of a table must end in .tsv, .csv, .jsonl, .ndjson "
        f"(each may be followed by .gz) or .parquet."
    )


def check_distinct(path: TableFile, names: Iterable[str], header_guessed: bool = False) -> None:
    """Raise `InputError` if two columns have the same name."""
    seen = set[str]()
    for name in names:
        if name in seen:
            no_header = ", or say that the table has no header" if header_guessed else ""
            raise InputError(
                f"{path}: there are two columns named {quoted(name)}; give each its own "
                f"name{no_header}."
            )
        seen.add(name)


def list_columns(table: Table) -> str:
    """List the names of a table's columns, at most 20, for messages."""
    names = [quoted(name) for name in table.columns]
    listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    unnamed = (
        " (named by position, because the table was read without a header; if its first row "
        "holds the names, say that it has a header)"
    )
    return f"the columns are {listed or 'none'}{unnamed if table.header is False else ''}"


def quoted(name: object) -> str:
    """Quote a name or a label, cut to 60 characters: it may be a text by mistake."""
    name = str(name)
    return repr(name if len(name) <= 60 else name[:59] + "…")


def type_name(value: object) -> str:
    """Describe a cell's type, with the value of a number. A string may be someone's text."""
    if is_missing(value):
        return "null"
    if isinstance(value, (bool, int, float)):
        return f"{type(value).__name__} {quoted(value)}"
    return f"of type {type(value).__name__}"
