"""Standard input as a table, and standard output for rows alone."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import InputError
from ..tables.table import Spool, table_format

if TYPE_CHECKING:
    from ..tables.table import Columns, TableFile

__all__ = [
    "check_exists",
    "check_formats",
    "is_stdin",
    "is_stdout",
    "open_data",
    "rows_on_stdout",
    "stdout_format",
    "write_stdout",
]

STDIN = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def is_stdin(name: str | None) -> bool:
    """Tell whether `--data` names standard input."""
    return name in STDIN


def is_stdout(name: str | None) -> bool:
    """Tell whether `--out` names standard output."""
    return name in STDOUT


def check_exists(arguments: argparse.Namespace, *options: str) -> None:
    """Raise `InputError` for the first option whose file does not exist.

    Commands call it before they check what they write: a wrong input is the likelier mistake.
    """
    for option in options:
        name = getattr(arguments, option)
        if name is None or is_stdin(name):
            continue
        if not os.path.lexists(name):
            raise InputError("there is no such file.", parameter=option, value=name)


def check_formats(arguments: argparse.Namespace) -> None:
    """Raise `InputError` if `--format` is given, and neither input nor output is a stream."""
    if arguments.format is None or is_stdin(arguments.data):
        return
    if not is_stdout(arguments.out):
        raise InputError(
            "requires standard input or output, named -; the end of a file's name tells its "
            "format.",
            parameter="format",
            value=arguments.format,
        )


def open_data(arguments: argparse.Namespace) -> str | Spool:
    """Return the file that `--data` names; or read standard input to its end, if it names that.

    Raises
    ------
    InputError
        If standard input is empty, larger than `--max-stdin`, or of unknown format.
    """
    if not is_stdin(arguments.data):
        return str(arguments.data)
    if sys.stdin is None:
        raise InputError("there is no standard input.", parameter="data", value=arguments.data)
    if sys.stdin.isatty():
        print("reading rows from the terminal; Ctrl-D on an empty line ends them", file=sys.stderr)
    return Spool.of(
        sys.stdin.buffer,
        arguments.format,
        name="standard input",
        max_bytes=arguments.max_stdin,
    )


def stdout_format(arguments: argparse.Namespace, source: TableFile | str) -> str:
    """Return the format of rows on standard output: `--format`, else that of the input."""
    kind: str = arguments.format or table_format(source)
    if kind == "parquet":
        raise InputError(
            "name the format of standard output: csv, tsv or jsonl; it cannot be parquet.",
            parameter="format",
        )
    return kind


@contextlib.contextmanager
def rows_on_stdout(arguments: argparse.Namespace) -> Iterator[None]:
    """Let all that is printed go to stderr, if `--out` names standard output."""
    if not is_stdout(arguments.out):
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


def write_stdout(columns: Columns, kind: str, delimiter: str | None) -> None:
    """Write rows on standard output, in the formats of `frozenbert.tables.writing`.

    Raises
    ------
    BrokenPipeError
        If the reader has closed the pipe.
    """
    from ..tables.writing import write_rows

    assert sys.__stdout__ is not None
    # sys.stdout itself may be stderr now. Closing this object leaves the stream open.
    with open(sys.__stdout__.fileno(), "wb", closefd=False) as file:
        write_rows(columns, file, kind, delimiter=delimiter)
