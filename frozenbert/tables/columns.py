"""Which column of a table holds what, and its cells checked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import InputError

if TYPE_CHECKING:
    from .reading import Table

__all__ = [
    "find_columns",
    "has_lists",
    "is_header",
    "kind_of",
    "label_sets_of",
    "labels_of",
    "probabilities_of",
    "shown",
    "texts_of",
    "unknown_label",
]

_TEXT_NAMES = {
    "text", "texts", "sentence", "review", "tweet", "comment", "content", "message", "post",
    "document",
}  # fmt: skip
_LABEL_NAMES = {"label", "labels", "class", "sentiment", "target", "category", "y"}
_HEADER_NAMES = _TEXT_NAMES | _LABEL_NAMES | {"id", "prediction"}


_COLUMN_NAME = re.compile(r"[^\W\d][\w .()#-]{0,39}(?<![. ])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGER = "0|-?[1-9][0-9]{0,17}"  # eighteen digits always fit 64 bits


def find_columns(
    table: Table,
    text_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    *,
    need_label: bool,
) -> tuple[str, str | Sequence[str] | None]:
    """Find the column of texts and that of labels, if there is only one sensible choice.

    Parameters
    ----------
    table : Table
        The table.
    text_column : str, optional
        Its name, where the user gave it.
    label_column : str or sequence of str, optional
        Likewise; several hold 0 or 1 each.
    need_label : bool
        Whether to look for a column of labels if none was given.

    Returns
    -------
    text_column : str
        The one given; or the only column there is besides a given label; or the only one
        with a usual name for texts, such as "text" or "review"; or the only one of prose;
        or, of two columns, the one beside a usual name for labels.
    label_column : str, sequence of str or None
        What was given; or, if needed, the only other column; or the only one with a usual
        name for labels, such as "label" or "class".

    Raises
    ------
    InputError
        If a given column is not there, or none was given and there is more than one
        choice, or none.

    Examples
    --------
    >>> from frozenbert.tables.reading import Table
    >>> frame = pd.DataFrame({"id": ["1"], "review": ["A fine film."], "stars": ["5"]})
    >>> table = Table("reviews.csv", frame, [2], header=True)
    >>> find_columns(table, label_column="stars", need_label=True)
    ('review', 'stars')
    >>> find_columns(table, need_label=False)
    ('review', None)
    """
    names = list(table.frame.columns)
    label_columns = _as_tuple(label_column)
    for given in (text_column, *label_columns):
        if given is not None and given not in names:
            raise InputError(
                f"{table.path}: there is no column {shown(given)}; {_columns_of(table)}."
            )
    if len(set(label_columns)) < len(label_columns):
        raise InputError(f"{table.path}: a column of labels is named twice.")
    if text_column is not None and text_column in label_columns:
        raise InputError(
            f"{table.path}: column {shown(text_column)} cannot be both the texts and the labels; "
            f"{_columns_of(table)}."
        )
    if text_column is None:
        text_column = _find_text(table, [name for name in names if name not in label_columns])
    if label_column is None and need_label:
        label_column = _find_label(table, [name for name in names if name != text_column])
    return text_column, label_column


def _as_tuple(columns: str | Sequence[str] | None) -> tuple[str, ...]:
    if columns is None:
        return ()
    return (columns,) if isinstance(columns, str) else tuple(columns)


def texts_of(table: Table, column: str) -> list[str]:
    """Return the texts of a column.

    Parameters
    ----------
    table : Table
        The table.
    column : str
        The column's name.

    Returns
    -------
    list of str
        The texts in the rows' order. An empty one is a valid text.

    Raises
    ------
    InputError
        If a cell is null or anything else but a string, or holds a lone surrogate (half
        of a character beyond U+FFFF, from a json file), which is no Unicode text.

    Examples
    --------
    >>> from frozenbert.tables.reading import Table
    >>> texts_of(Table("x.csv", pd.DataFrame({"text": ["good", ""]}), [2, 3]), "text")
    ['good', '']
    """
    texts: list[str] = table.frame[column].tolist()
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"{table.where(row)}, column {shown(column)}: the text is {kind_of(text)}, but "
                f"must be a string; mend the row, take it out, or name another --text-column."
            )
        _check_unicode(table, row, column, text)
    return texts


def labels_of(table: Table, column: str) -> np.ndarray[Any, Any]:
    """Return the labels of a column, each a class.

    Parameters
    ----------
    table : Table
        The table.
    column : str
        The column's name.

    Returns
    -------
    numpy.ndarray of shape (n_rows,)
        From tsv and csv, int64 if each label is an integer as one writes it (at most 18
        digits, no leading zeros), else strings. From jsonl and parquet, strings, booleans
        and integers as they are; whole floats become integers. Strings come with dtype
        object, which scikit-learn takes and which cannot cut off a longer one.

    Raises
    ------
    InputError
        If a label is missing (empty, nan or null), is no class (a fraction, a list), or
        is not of the same type as the others, or holds a lone surrogate.

    Examples
    --------
    >>> from frozenbert.tables.reading import Table
    >>> labels_of(Table("x.csv", pd.DataFrame({"y": ["1", "-1"]}), [2, 3], True), "y")
    array([ 1, -1])
    >>> labels_of(Table("x.csv", pd.DataFrame({"y": ["1", "01"]}), [2, 3], True), "y")
    array(['1', '01'], dtype=object)
    """
    labels = table.frame[column]
    written = table.header is not None  # in a text file, where every cell is a string
    missing = labels.str.strip().isin(["", "nan", "NaN"]) if written else labels.isna()
    if missing.any():
        row = int(missing.to_numpy().argmax())
        raise InputError(
            f"{table.where(row)}, column {shown(column)}: the label is missing "
            f"({missing.sum():,} of {len(missing):,} are); label each row or take it out."
        )
    if written and labels.str.fullmatch(_INTEGER).all():
        return np.asarray(labels.astype("int64"))

    values = [
        int(value) if isinstance(value, float) and value.is_integer() else value
        for value in labels.tolist()
    ]
    kinds = set(map(type, values))
    if kinds == {str}:
        for row, value in enumerate(values):
            _check_unicode(table, row, column, str(value))
        return np.array(values, dtype=object)
    if kinds == {bool}:
        return np.array(values)
    if kinds == {int} and min(values) >= -(2**63) and max(values) < 2**63:
        return np.array(values, dtype=np.int64)
    no_class = (
        row
        for row, value in enumerate(values)
        if type(value) not in (str, bool, int) or (type(value) is int and abs(value) >= 2**63)
    )
    other = (row for row, value in enumerate(values) if type(value) is not type(values[0]))
    row = next(itertools.chain(no_class, other))
    raise InputError(
        f"{table.where(row)}, column {shown(column)}: the label is {kind_of(values[row])}, but "
        f"labels must be classes: all strings, all integers (of 64 bits) or all booleans."
    )


def label_sets_of(
    table: Table,
    columns: str | Sequence[str],
    separator: str | None = None,
    known: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return many labels a text: a column of 0 and 1 for each label.

    Parameters
    ----------
    table : Table
        The table.
    columns : str or sequence of str
        Several columns that hold 0 or 1 each; or one of lists of labels.
    separator : str, optional
        What stands between the labels of a list in a text, such as "|".
    known : sequence of str, optional
        The only labels that a list may hold, in the order of the result's columns.

    Returns
    -------
    pandas.DataFrame of int64, shape (n_rows, n_labels)

    Raises
    ------
    InputError
        If a cell is not what it has to be.

    Examples
    --------
    >>> from frozenbert.tables.reading import Table
    >>> table = Table("x.csv", pd.DataFrame({"tags": ["a|b", "", "b"]}), [2, 3, 4], True)
    >>> label_sets_of(table, "tags", "|").to_numpy().tolist()
    [[1, 1], [0, 0], [0, 1]]
    """
    if not isinstance(columns, str):
        return pd.DataFrame({column: _flags_of(table, column) for column in columns})
    sets = [
        _labels_in(table, row, columns, cell, separator)
        for row, cell in enumerate(table.frame[columns].tolist())
    ]
    names = sorted(set().union(*sets)) if known is None else list(known)
    places = {name: place for place, name in enumerate(names)}
    flags = np.zeros((len(sets), len(names)), dtype=np.int64)
    for row, labels in enumerate(sets):
        for label in labels:
            if label not in places:
                raise unknown_label(table, row, label, names)
            flags[row, places[label]] = 1
    if not names:
        raise InputError(f"{table.path}, column {shown(columns)}: no row has a label.")
    return pd.DataFrame(flags, columns=names)


def probabilities_of(table: Table, columns: Sequence[str]) -> pd.DataFrame:
    """Return the probabilities of the classes, one column each; their sum in a row is 1.

    Parameters
    ----------
    table : Table
    columns : sequence of str
        One is the probability of the second of two classes, "not" and that column's name.

    Raises
    ------
    InputError
        If a cell is no number from 0 to 1, or a row's sum is not 1.
    """
    found = table.frame[list(columns)].apply(pd.to_numeric, errors="coerce")
    wrong = np.argwhere(~found.ge(0).to_numpy() | ~found.le(1).to_numpy())
    if len(wrong):
        row, place = wrong[0]
        raise InputError(
            f"{table.where(int(row))}, column {shown(columns[place])}: "
            f"{shown(table.frame[columns[place]].iloc[row])} is no probability, which is a number "
            f"from 0 to 1."
        )
    if len(columns) == 1:
        positive = found[columns[0]]
        return pd.DataFrame({f"not {columns[0]}": 1 - positive, columns[0]: positive})
    sums = found.sum(axis=1).to_numpy()
    if len(off := np.flatnonzero(abs(sums - 1) > 0.01)):
        raise InputError(
            f"{table.where(int(off[0]))}: the probabilities of the classes sum to "
            f"{sums[off[0]]:.3f} and not to 1."
        )
    return found / sums[:, None]


def unknown_label(table: Table, row: int, label: Any, known: Sequence[Any]) -> InputError:
    """Return the error of a label that was not trained on."""
    listed = ", ".join(map(shown, known[:20])) + (" and others" if len(known) > 20 else "")
    return InputError(
        f"{table.where(row)}: the label {shown(label)} does not stand in the training rows, whose "
        f"labels are {listed}."
    )


def has_lists(table: Table, column: str) -> bool:
    """Tell whether the cells of a column are lists, as jsonl and parquet can hold."""
    return bool(table.frame[column].map(_is_list).any())


def _is_list(cell: Any) -> bool:
    return isinstance(cell, list | tuple | np.ndarray)


def _flags_of(table: Table, column: str) -> np.ndarray[Any, Any]:
    legal = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
    flags = [legal.get(str(cell).strip().lower()) for cell in table.frame[column].tolist()]
    if None in flags:
        row = flags.index(None)
        raise InputError(
            f"{table.where(row)}, column {shown(column)}: {shown(table.frame[column].iloc[row])} "
            f"is neither 0 nor 1, which columns of labels hold when there are several; name one "
            f"column alone if it holds classes."
        )
    return np.array(flags, dtype=np.int64)


def _labels_in(table: Table, row: int, column: str, cell: Any, separator: str | None) -> set[str]:
    if isinstance(cell, str) and separator is not None:
        found = {part.strip() for part in cell.split(separator)} - {""}
    elif _is_list(cell) and all(isinstance(label, str) for label in cell):
        found = set(cell)
    else:
        wanted = "a list of strings" if separator is None else f"labels with {separator!r} between"
        raise InputError(
            f"{table.where(row)}, column {shown(column)}: the labels are {kind_of(cell)}, but must "
            f"be {wanted}, as in other rows."
        )
    for label in found:
        _check_unicode(table, row, column, label)
    return found


def _check_unicode(table: Table, row: int, column: str, cell: str) -> None:
    if not cell.isascii() and _SURROGATE.search(cell):
        raise InputError(
            f"{table.where(row)}, column {shown(column)}: holds half of a surrogate pair, which is "
            f"no character; mend the row or take it out."
        )


def is_header(first: list[str], below: pd.DataFrame, asked: Sequence[str]) -> bool:
    """Tell whether the first row of a file surely holds the columns' names.

    Parameters
    ----------
    first : list of str
        The cells of the first row.
    below : pandas.DataFrame
        The rows below it.
    asked : sequence of str
        Names of columns that the caller is going to ask for.

    Examples
    --------
    >>> is_header(["film", "stars"], pd.DataFrame({"0": ["Heat"], "1": ["5"]}), [])
    True
    >>> is_header(["good", "pos"], pd.DataFrame({"0": ["bad"], "1": ["neg"]}), [])
    False
    """
    names = {name for name in asked if not name.isdigit()}
    if names and names <= set(first):
        return True
    # pandas leaves the name of the index empty
    if len(set(first)) < len(first) or not all(map(_is_name, first[1:] if not first[0] else first)):
        return False
    for name, (_, column) in zip(first, below.items(), strict=True):
        # A label may have such a name too, but then it comes again.
        if name.casefold() in _HEADER_NAMES and not (column == name).any():
            return True
        if name and len(column) and pd.to_numeric(column, errors="coerce").notna().all():
            return True
    return False


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
    prose = [name for name in names if _is_prose(table.frame[name])]
    not_labels = [name for name in names if name.casefold() not in _LABEL_NAMES]
    for choice in (usual, prose, not_labels if len(names) == 2 else []):
        if len(choice) == 1:
            return choice[0]
        if choice:
            break
    raise InputError(
        f"{table.path}: which column holds the texts? Say --text-column NAME; {_columns_of(table)}."
    )


def _find_label(table: Table, names: list[str]) -> str:
    usual = [name for name in names if name.casefold() in _LABEL_NAMES]
    for choice in (names, usual):
        if len(choice) == 1:
            return choice[0]
    raise InputError(
        f"{table.path}: which column holds the labels? Say --label-column NAME; "
        f"{_columns_of(table)}."
    )


def _is_prose(column: pd.Series) -> bool:
    """Whether the cells are mostly distinct strings of more than three words on average."""
    cells = column.head(1000).tolist()
    if not all(isinstance(cell, str) for cell in cells):
        return False
    n_words = sum(len(cell.split()) for cell in cells)
    return n_words > 3 * len(cells) and len(set(cells)) > len(cells) / 2


def _columns_of(table: Table) -> str:
    names = [shown(name) for name in table.frame.columns]
    listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    unnamed = " (named by position, as the file was read without a header; --header forces one)"
    return f"the columns are {listed or 'none'}{unnamed if table.header is False else ''}"


def shown(name: Any) -> str:
    """Quote a name or a label, cut to 60 characters: it may be a text by mistake."""
    name = str(name)
    return repr(name if len(name) <= 60 else name[:59] + "…")


def kind_of(value: Any) -> str:
    """Say what a cell is. A string may be someone's text, so it is not shown."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "null"
    if isinstance(value, (bool, int, float)):
        return f"{type(value).__name__} {shown(value)}"
    return f"of type {type(value).__name__}"
