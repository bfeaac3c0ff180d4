"""Rows of text files: checked to be text, cut at delimiters, or one JSON object each."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from ..errors import InputError
from .table import TableFile, Upload, type_name

__all__ = ["is_quoted", "objects", "opened", "records"]

_UNDECODED = re.compile("[\udc80-\udcff]")  # what errors="surrogateescape" makes of a wrong byte


@contextlib.contextmanager
def opened(path: TableFile) -> Iterator[BinaryIO]:
    """Open a file, unpacked if it is gzipped, and put what goes wrong in plain words."""
    if isinstance(path, Upload):
        yield io.BufferedReader(io.BytesIO(path.content))
        return
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


def _lines(path: TableFile) -> Iterator[str]:
    """Yield the lines of a text file with their ends, checked to be UTF-8 text."""
    with opened(path) as binary:
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


def records(path: TableFile, delimiter: str, **dialect: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each row starts and its fields, the same number in each row."""
    # By default 131,072 characters, which a text may exceed; not without end, as one stray
    # quote would take all that follows into memory.
    csv.field_size_limit(2**24)
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


def is_quoted(path: TableFile) -> bool:
    """Whether a tsv file is to be read with quotes; see the notes of `read_table`."""
    if not any('"' in line for line in _lines(path)):
        return False
    try:
        n_quoted = sum(1 for _ in records(path, "\t", strict=True))
    except InputError:
        return False
    try:
        n_literal = sum(1 for _ in records(path, "\t", quoting=csv.QUOTE_NONE))
    except InputError:
        return True
    return n_quoted == n_literal or _is_all_quoted(path)


def _is_all_quoted(path: TableFile) -> bool:
    # QUOTE_NONNUMERIC makes a number of every field without quotes, or fails to.
    try:
        rows = records(path, "\t", strict=True, quoting=csv.QUOTE_NONNUMERIC)
        return all(isinstance(field, str) for _, row in rows for field in row)
    except ValueError:
        return False


def objects(path: TableFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line of each object of a jsonl file, and the object."""
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
                f"{path}, line {number}: is {type_name(row)}, but each line must be one whole JSON "
                f'object, such as {{"text": ..., "label": ...}}.'
            )
        yield number, row
