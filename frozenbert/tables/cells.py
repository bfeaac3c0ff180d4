"""The cells of a column, checked: texts, labels, probabilities."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from .table import Table, quoted, type_name

__all__ = [
    "has_lists",
    "label_sets_of",
    "labels_of",
    "probabilities_of",
    "texts_of",
    "unknown_label",
]

_SURROGATE = re.compile("[\ud800-\udfff]")

_INTEGER = "0|-?[1-9][0-9]{0,17}"  # eighteen digits always fit 64 bits
# eighteen digits always fit 64 bits


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
    >>> from frozenbert.tables.table import Table
    >>> texts_of(Table("x.csv", pd.DataFrame({"text": ["good", ""]}), [2, 3]), "text")
    ['good', '']
    """
    texts: list[str] = table.frame[column].tolist()
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"{table.where(row)}, column {quoted(column)}: the text is {type_name(text)}, but "
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
    >>> from frozenbert.tables.table import Table
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
            f"{table.where(row)}, column {quoted(column)}: the label is missing "
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
        f"{table.where(row)}, column {quoted(column)}: the label is {type_name(values[row])}, but "
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
    >>> from frozenbert.tables.table import Table
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
        raise InputError(f"{table.path}, column {quoted(columns)}: no row has a label.")
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
            f"{table.where(int(row))}, column {quoted(columns[place])}: "
            f"{quoted(table.frame[columns[place]].iloc[row])} is no probability, which is a number "
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
    listed = ", ".join(map(quoted, known[:20])) + (" and others" if len(known) > 20 else "")
    return InputError(
        f"{table.where(row)}: the label {quoted(label)} does not stand in the training rows, whose "
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
            f"{table.where(row)}, column {quoted(column)}: {quoted(table.frame[column].iloc[row])} "
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
            f"{table.where(row)}, column {quoted(column)}: the labels are {type_name(cell)}, but must "
            f"be {wanted}, as in other rows."
        )
    for label in found:
        _check_unicode(table, row, column, label)
    return found


def _check_unicode(table: Table, row: int, column: str, cell: str) -> None:
    if not cell.isascii() and _SURROGATE.search(cell):
        raise InputError(
            f"{table.where(row)}, column {quoted(column)}: holds half of a surrogate pair, which is "
            f"no character; mend the row or take it out."
        )
