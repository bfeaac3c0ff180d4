"""Rows of text files: lines checked to be UTF-8 text, split into fields or parsed as JSON."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import InputError
from ..utils.files import check_is_no_device
from .table import Spool, TableFile, Upload, quoted, type_name

__all__ = [
    "Dialect",
    "RowReader",
    "delimiter_name",
    "first_line_of",
    "objects",
    "opened",
    "transposed",
]

# Characters of a field. Without a limit, one stray quote would read the rest of a file into memory.
FIELD_LIMIT = 2**24

_UNDECODED = re.compile("[\udc80-\udcff]")  # a wrong byte, by errors="surrogateescape"
_IN_QUOTES = re.compile(r'((?:[^"]++|"")*+)("?)')


@contextlib.contextmanager
def opened(path: TableFile) -> Iterator[BinaryIO]:
    """Open a table's file or bytes, decompressed if the name ends in .gz.

    Raises
    ------
    InputError
        If the file does not exist or cannot be read, is a folder, a named pipe or a device,
        or is damaged.
    """
    try:
        if isinstance(path, Path):
            # Commands read a table several times, which a pipe does not allow.
            check_is_no_device(path)
        with _open(path) as file:
            packed = str(path).lower().endswith(".gz")
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"{path}: is damaged or not gzip ({error}); fetch or pack it again."
        ) from error
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; name a file in it.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from error


def _open(path: TableFile) -> BinaryIO:
    match path:
        case Upload():
            return io.BytesIO(path.content)
        case Spool():
            return path.open()
        case _:
            return open(path, "rb")


def _lines(path: TableFile) -> Iterator[str]:
    """Yield the lines of a text file with their line ends, checked to be UTF-8 text."""
    with opened(path) as binary:
        is_utf16 = binary.read(2) in (b"\xff\xfe", b"\xfe\xff")
        binary.seek(0)
        if is_utf16:
            raise InputError(
                f"{path}: is UTF-16, but must be UTF-8; convert it, for example with "
                f"`iconv -f utf-16 -t utf-8`."
            )
        # newline="" preserves the line ends inside quotes.
        text = io.TextIOWrapper(binary, "utf-8-sig", errors="surrogateescape", newline="")
        for number, line in enumerate(text, start=1):
            if "\0" in line:
                raise InputError(
                    f"{path}, line {number}: holds a NUL byte, so this is a binary file or "
                    f"UTF-16; a table must be UTF-8 text."
                )
            if not line.isascii() and (wrong := _UNDECODED.search(line)):
                raise InputError(
                    f"{path}, line {number}: the byte 0x{ord(wrong[0]) - 0xDC00:02x} is not UTF-8; "
                    f"convert the file, for example with `iconv -f latin1 -t utf-8`."
                )
            yield line


def first_line_of(path: TableFile) -> str:
    """Return the first line of a text file without its line end."""
    return next(_lines(path), "").rstrip("\r\n")


@dataclass(frozen=True)
class Dialect:
    """How the lines of a tsv or csv file are split into fields.

    Attributes
    ----------
    delimiter : str or None
        One character, or None: each row is one field.
    quoted : bool
        Whether a field that starts with a quote ends with one (RFC 4180). If not, quotes
        have no meaning and each line is a row.
    skip_first : bool
        Whether the first line, such as `sep=;`, is no row.
    """

    delimiter: str | None
    quoted: bool = True
    skip_first: bool = False


class RowReader:
    """Splits the lines of a file into rows of fields, a blank line into an empty row.

    Python's `csv` would do, but its limit on the length of a field is 131,072 characters,
    and can only be raised for the whole process.

    Parameters
    ----------
    path : TableFile
    dialect : Dialect

    Attributes
    ----------
    n_bare : int
        The number of fields without quotes read so far.
    """

    def __init__(self, path: TableFile, dialect: Dialect) -> None:
        self.path = path
        self.dialect = dialect
        self.n_bare = 0

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line on which each row starts, counted from 1, and its fields."""
        delimiter = self.dialect.delimiter
        lines = enumerate(_lines(self.path), start=1)
        if self.dialect.skip_first:
            next(lines, None)
        for number, line in lines:
            if self.dialect.quoted and '"' in line:
                yield number, self._split_quoted(line, lines, number)
                continue
            line = line.rstrip("\r\n")
            fields = line.split(delimiter) if delimiter and line else [line] if line else []
            if len(line) > FIELD_LIMIT and max(map(len, fields)) > FIELD_LIMIT:
                raise self._too_long(number)
            self.n_bare += len(fields)
            yield number, fields

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line on which each row starts and its fields, the same number in each row.

        Blank lines before the first and after the last row are skipped, and others too, but
        in a file of one column: there they are empty fields.

        Raises
        ------
        InputError
            If the file cannot be read, or a row is malformed or has another number of fields.
        """
        width = 0
        blank: list[int] = []
        for line, row in self:
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
                    f"{self.path}, line {line}: the number of fields is {len(row)}, but {width} in "
                    f"the rows above (the delimiter is {delimiter_name(self.dialect.delimiter)}); "
                    f"mend the row, quote a field that contains a delimiter or a line end, or name "
                    f"another delimiter."
                )
            yield line, row

    def _split_quoted(self, line: str, more: Iterator[tuple[int, str]], start: int) -> list[str]:
        delimiter = self.dialect.delimiter
        fields: list[str] = []
        at = 0
        while True:
            if line.startswith('"', at):
                field, line, at = self._read_quoted(line, at + 1, more, start)
                fields.append(field)
                # Not more of the line: it may have thousands of fields.
                if not line[at : at + 2].strip("\r\n"):
                    return fields
                if delimiter is None or not line.startswith(delimiter, at):
                    raise InputError(
                        f"{self.path}, line {start}: text follows the quote that closes field "
                        f"{len(fields)}; a field that starts with a quote must end with one, and "
                        f"quotes inside it must be doubled."
                    )
                at += 1
                continue
            end = -1 if delimiter is None else line.find(delimiter, at)
            field = line[at:].rstrip("\r\n") if end < 0 else line[at:end]
            if len(field) > FIELD_LIMIT:
                raise self._too_long(start)
            fields.append(field)
            self.n_bare += 1
            if end < 0:
                return fields
            at = end + 1

    def _read_quoted(
        self, line: str, at: int, more: Iterator[tuple[int, str]], start: int
    ) -> tuple[str, str, int]:
        """Return a field, the line on which it ends, and the place after its last quote."""
        parts: list[str] = []
        length = 0
        while True:
            match = _IN_QUOTES.match(line, at)
            assert match is not None  # the pattern matches the empty string
            parts.append(match[1])
            length += len(match[1])
            if length > FIELD_LIMIT:
                raise self._too_long(start)
            if match[2]:
                return "".join(parts).replace('""', '"'), line, match.end()
            _, line = next(more, (0, ""))
            if not line:
                raise InputError(
                    f"{self.path}, line {start}: a quote opens a field and is never closed; a "
                    f"field that starts with a quote must end with one, and quotes inside it must "
                    f"be doubled."
                )
            at = 0

    def _too_long(self, start: int) -> InputError:
        quote = "; or close its quote, if a stray one opens it" if self.dialect.quoted else ""
        return InputError(
            f"{self.path}, line {start}: a field is longer than the limit of {FIELD_LIMIT:,} "
            f"characters; shorten it{quote}."
        )


def delimiter_name(delimiter: str | None) -> str:
    r"""Return a delimiter as messages show it.

    Examples
    --------
    >>> delimiter_name("\t"), delimiter_name(";")
    ('tab', "';'")
    """
    return {None: "none", "\t": "tab"}.get(delimiter) or repr(delimiter)


def transposed(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Return the columns of rows, `width` of them even if there are no rows.

    Examples
    --------
    >>> transposed([["a", "b"], ["c", "d"]], 2), transposed([], 2)
    ([['a', 'c'], ['b', 'd']], [[], []])
    """
    return [[row[place] for row in rows] for place in range(width)]


def objects(path: TableFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line of each object of a jsonl file, and the object.

    Raises
    ------
    InputError
        If the file cannot be read, a line is no JSON object, or a key comes twice in one.
    """
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.rstrip(), object_pairs_hook=_distinct_keys)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}, line {number}, column {error.colno}: is not JSON ({error.msg}); each "
                f"line must be one whole JSON object."
            ) from error
        except _RepeatedKeyError as error:
            raise InputError(
                f"{path}, line {number}: an object has two keys {quoted(error.args[0])}; give each "
                f"its own name."
            ) from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: cannot be read ({error}).") from error
        if not isinstance(row, dict):
            raise InputError(
                f"{path}, line {number}: is {type_name(row)}, but each line must be one whole JSON "
                f'object, such as {{"text": ..., "label": ...}}.'
            )
        yield number, row


class _RepeatedKeyError(Exception):
    """A key comes twice in a JSON object."""


def _distinct_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        seen = set[str]()
        for name, _ in pairs:
            if name in seen:
                raise _RepeatedKeyError(name)
            seen.add(name)
    return row
