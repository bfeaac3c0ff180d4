"""Find the columns of texts and labels, and recognise a header."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

from ..errors import ColumnWarning, InputError
from ..utils.console import callers_level
from .table import Table, list_columns, quoted

__all__ = ["check_label_column", "find_columns", "is_header", "is_numeric", "warn_of_numbers"]

FEW_ROWS = 10  # of so few, each may have a label of its own

_TEXT_NAMES = {
    "text", "texts", "sentence", "review", "tweet", "comment", "content", "message", "post",
    "document",
}  # fmt: skip
_LABEL_NAMES = {"label", "labels", "class", "sentiment", "target", "category", "y"}
_HEADER_NAMES = _TEXT_NAMES | _LABEL_NAMES | {"id", "prediction"}
_NUMBER = re.compile(
    r"\s*[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|inf|infinity)\s*", re.I
)
_COLUMN_NAME = re.compile(r"[^\W\d][\w .()#-]{0,39}(?<![. ])")


def find_columns(
    table: Table,
    text_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    *,
    need_label: bool,
) -> tuple[str, str | Sequence[str] | None]:
    """Find the column of texts and that of labels, if only one choice is sensible.

    Parameters
    ----------
    table : Table
    text_column : str, optional
        The name of the column of texts, if the user gave it.
    label_column : str or sequence of str, optional
        The name of the column of labels, if the user gave it; several columns contain 0 or
        1 each.
    need_label : bool
        Whether to look for a column of labels if none was given.

    Returns
    -------
    text_column : str
        The one given; or the only column besides a given label; or the only one with a
        usual name for texts, such as "text" or "review"; or the only one of prose; or, of
        two columns, the one beside a usual name for labels.
    label_column : str, sequence of str or None
        The one given; or, if needed, the only other column; or the only one with a usual
        name for labels, such as "label" or "class".

    Raises
    ------
    InputError
        If the table lacks a given column, or none was given and more than one choice is
        sensible, or none.

    Examples
    --------
    >>> from frozenbert.tables.table import Table
    >>> columns = {"id": ["1"], "review": ["A fine film."], "stars": ["5"]}
    >>> table = Table("reviews.csv", columns, [2], header=True)
    >>> find_columns(table, label_column="stars", need_label=True)
    ('review', 'stars')
    >>> find_columns(table, need_label=False)
    ('review', None)
    """
    names = list(table.columns)
    label_columns = _as_tuple(label_column)
    if text_column is not None:
        table.check_name(text_column, "text_column")
    for name in label_columns:
        table.check_name(name, "label_column")
    if len(set(label_columns)) < len(label_columns):
        raise InputError(
            f"{table.path}: a column of labels is named twice.", parameter="label_column"
        )
    if text_column is not None and text_column in label_columns:
        raise InputError(
            f"{table.path}: column {quoted(text_column)} cannot be both the texts and the labels; "
            f"{list_columns(table)}.",
            parameter="label_column",
        )
    if text_column is None:
        text_column = _find_text(table, [name for name in names if name not in label_columns])
    if label_column is None and need_label:
        label_column = _find_label(table, [name for name in names if name != text_column])
    return text_column, label_column


def check_label_column(
    table: Table, text_column: str, label_column: str, labels: Sequence[object]
) -> None:
    """Raise `InputError` if a column of words has a label of its own in most rows.

    Parameters
    ----------
    table : Table
    text_column, label_column : str
    labels : sequence
        The cells of the label column.
    """
    n_labels = len(set(labels))
    if len(labels) < FEW_ROWS or 2 * n_labels <= len(labels) or all(map(_is_number, labels)):
        return
    others = {
        name: len(set(map(str, table.cells(name))))
        for name in table.columns
        if name not in (text_column, label_column)
    }
    fewer = [f"{name!r} has {n}" for name, n in others.items() if 2 <= n <= len(labels) // 5]
    raise InputError(
        f"{table.path}: column {label_column!r} has {n_labels:,} different labels in "
        f"{len(labels):,} rows: this is hardly the column of labels."
        + (f" Name another one: {', '.join(fewer[:3])}." if fewer else ""),
        parameter="label_column",
    )


def warn_of_numbers(table: Table, text_column: str, texts: Sequence[str]) -> None:
    """Warn if all texts are numbers.

    Parameters
    ----------
    table : Table
    text_column : str
    texts : sequence of str
        Its cells.

    Warns
    -----
    ColumnWarning
    """
    if texts and all(is_numeric(text.strip()) for text in texts):
        warnings.warn(
            f"{table.path}: column {text_column!r} holds numbers alone, and an encoder reads "
            f"them as words. Is this the column of texts?",
            ColumnWarning,
            stacklevel=callers_level(),
        )


def _is_number(label: object) -> bool:
    return isinstance(label, int | float) or is_numeric(str(label))


def _as_tuple(columns: str | Sequence[str] | None) -> tuple[str, ...]:
    if columns is None:
        return ()
    return (columns,) if isinstance(columns, str) else tuple(columns)


def is_header(first: list[str], below: Sequence[Sequence[str]], asked: Sequence[str]) -> bool:
    """Tell whether the first row of a file surely contains the columns' names.

    Parameters
    ----------
    first : list of str
        The cells of the first row.
    below : sequence of sequences of str
        The columns below it.
    asked : sequence of str
        Names of columns that the caller expects.

    Examples
    --------
    >>> is_header(["film", "stars"], [["Heat"], ["5"]], [])
    True
    >>> is_header(["good", "pos"], [["bad"], ["neg"]], [])
    False
    """
    names = {name for name in asked if not name.isdigit()}
    if names and names <= set(first):
        return True
    # pandas leaves the name of the index empty.
    if not all(map(_is_name, first if first[0] else first[1:])):
        return False
    for name, column in zip(first, below, strict=True):
        # A label may be such a word too, but then other rows have it as well.
        if name.casefold() in _HEADER_NAMES and name not in column:
            return True
        if name and len(column) and all(map(is_numeric, column)):
            return True
    return False


def is_numeric(cell: str) -> bool:
    """Tell whether a cell is a number as people and programs write it.

    Examples
    --------
    >>> [is_numeric(cell) for cell in ("5", "-0.5", "1e-3", "2,5", "nan", "")]
    [True, True, True, False, False, False]
    """
    return _NUMBER.fullmatch(cell) is not None


def _is_name(cell: str) -> bool:
    return (
        _COLUMN_NAME.fullmatch(cell) is not None
        and len(cell.split()) <= 3
        and cell.casefold() not in ("na", "nan", "null", "none")
    )


def _find_text(table: Table, names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    usual = [name for name in names if name.casefold() in _TEXT_NAMES]
    prose = [name for name in names if _is_prose(table.cells(name)[:1000])]
    not_labels = [name for name in names if name.casefold() not in _LABEL_NAMES]
    for choice in (usual, prose, not_labels if len(names) == 2 else []):
        if len(choice) == 1:
            return choice[0]
        if choice:
            break
    raise InputError(
        f"{table.path}: which column holds the texts? Name it; {list_columns(table)}.",
        parameter="text_column",
    )


def _find_label(table: Table, names: list[str]) -> str:
    usual = [name for name in names if name.casefold() in _LABEL_NAMES]
    for choice in (names, usual):
        if len(choice) == 1:
            return choice[0]
    raise InputError(
        f"{table.path}: which column holds the labels? Name it; {list_columns(table)}.",
        parameter="label_column",
    )


def _is_prose(cells: list[object]) -> bool:
    """Tell whether the cells are mostly distinct strings of more than 3 words on average."""
    texts = [cell for cell in cells if isinstance(cell, str)]
    if len(texts) < len(cells):
        return False
    n_words = sum(len(text.split()) for text in texts)
    return n_words > 3 * len(texts) and len(set(texts)) > len(texts) / 2
