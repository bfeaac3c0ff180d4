"""Check the cells of a column and return them: texts, labels, probabilities."""

from __future__ import annotations

import itertools
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, LabelWarning
from ..utils.console import callers_level
from ..utils.extras import require
from ..utils.texts import is_missing
from .columns import is_numeric
from .table import Table, quoted, type_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "are_numbers",
    "has_lists",
    "label_sets_of",
    "labels_of",
    "numbers_of",
    "probabilities_of",
    "texts_of",
    "unknown_label",
]

_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGER = "0|-?[1-9][0-9]{0,17}"  # 18 digits always fit 64 bits
_FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


def texts_of(table: Table, column: str) -> list[str]:
    """Return the texts of a column.

    Parameters
    ----------
    table : Table
    column : str
        The column's name.

    Returns
    -------
    list of str
        The texts in the order of the rows. An empty one is a valid text.

    Raises
    ------
    InputError
        If the table has no such column, or a cell is no string, or contains a lone
        surrogate (half of a character beyond U+FFFF, from a json file), which is not
        Unicode text.

    Examples
    --------
    >>> from frozenbert.tables.table import Table
    >>> texts_of(Table("x.csv", {"text": ["good", ""]}, [2, 3]), "text")
    ['good', '']
    """
    texts = table.cells(column, "text_column")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"{table.where(row)}, column {quoted(column)}: the text is {type_name(text)}; "
                f"every text must be a string. Mend or remove the row, or name another column of "
                f"texts."
            )
        _check_unicode(table, row, column, text)
    return texts


def labels_of(table: Table, column: str) -> np.ndarray:
    """Return the labels of a column, each a class.

    Parameters
    ----------
    table : Table
    column : str
        The column's name.

    Returns
    -------
    numpy.ndarray of shape (n_rows,)
        From tsv and csv, int64 if each label is an integer as one writes it (at most 18
        digits, no leading zeros), else strings. From jsonl and parquet, strings, booleans
        and integers as they are; whole floats become integers. Strings have dtype object,
        which scikit-learn accepts and which cannot cut off a longer one.

    Raises
    ------
    InputError
        If the table has no such column, or a label is missing (empty, nan or null), is no
        class (a fraction, a list), differs in type from the others, or contains a lone
        surrogate.

    Warns
    -----
    LabelWarning
        If two labels differ only in case or surrounding spaces.

    Examples
    --------
    >>> from frozenbert.tables.table import Table
    >>> labels_of(Table("x.csv", {"y": ["1", "-1"]}, [2, 3], True), "y")
    array([ 1, -1])
    >>> labels_of(Table("x.csv", {"y": ["1", "01"]}, [2, 3], True), "y")
    array(['1', '01'], dtype=object)
    """
    labels = table.column(column, "label_column")
    all_strings = table.header is not None  # every cell of a tsv or csv file is one
    missing = labels.str.strip().isin(["", "nan", "NaN"]) if all_strings else labels.isna()
    if missing.any():
        row = int(missing.to_numpy().argmax())
        raise InputError(
            f"{table.where(row)}, column {quoted(column)}: the label is missing "
            f"({missing.sum():,} of {len(missing):,} are); label each row or remove it."
        )
    if all_strings and labels.str.fullmatch(_INTEGER).all():
        return np.asarray(labels.astype("int64"))

    values: list[Any] = [
        int(value) if isinstance(value, float) and value.is_integer() else value
        for value in table.cells(column)
    ]
    types = set(map(type, values))
    if types == {str}:
        for row, value in enumerate(values):
            _check_unicode(table, row, column, value)
        _warn_of_similar(table, column, values)
        return np.array(values, dtype=object)
    if types == {bool}:
        return np.array(values)
    if types == {int} and min(values) >= -(2**63) and max(values) < 2**63:
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
    """Return the labels of texts that may have several: a column of 0 and 1 for each label.

    Parameters
    ----------
    table : Table
    columns : str or sequence of str
        Several columns that contain 0 or 1 each; or one of lists of labels.
    separator : str, optional
        The string between the labels of one cell, such as "|".
    known : sequence of str, optional
        The only labels that a list may contain, in the order of the result's columns.

    Returns
    -------
    pandas.DataFrame of int64, shape (n_rows, n_labels)

    Raises
    ------
    InputError
        If the table lacks a column, or a cell is neither 0 nor 1, no list of labels, or
        contains a label that is not known.

    Warns
    -----
    LabelWarning
        If two labels differ only in case or surrounding spaces.

    Examples
    --------
    >>> from frozenbert.tables.table import Table
    >>> table = Table("x.csv", {"tags": ["a|b", "", "b"]}, [2, 3, 4], True)
    >>> label_sets_of(table, "tags", "|").to_numpy().tolist()
    [[1, 1], [0, 0], [0, 1]]
    """
    require("pandas", purpose="a column for each label")
    import pandas as pd

    if not isinstance(columns, str):
        return pd.DataFrame({column: _flags_of(table, column) for column in columns})
    sets = [
        _labels_in(table, row, columns, cell, separator)
        for row, cell in enumerate(table.cells(columns, "label_column"))
    ]
    if known is None:
        names = sorted(set().union(*sets))
        _warn_of_similar(table, columns, names)
    else:
        names = list(known)
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
    """Return the probabilities of the classes, one column each, with a sum of 1 in each row.

    Parameters
    ----------
    table : Table
    columns : sequence of str
        The name of a class each. A single one is the second of two classes; the first is
        then called "not" and that name.

    Returns
    -------
    pandas.DataFrame of float64, shape (n_rows, n_classes)

    Raises
    ------
    InputError
        If the table lacks a column, a cell is no number from 0 to 1, or a row's sum differs
        from 1 by more than 0.01.
    """
    require("pandas", purpose="a column for each class")
    import pandas as pd

    cells = pd.DataFrame({name: table.column(name, "label_column") for name in columns})
    numbers = cells.apply(pd.to_numeric, errors="coerce")
    wrong = np.argwhere(~numbers.ge(0).to_numpy() | ~numbers.le(1).to_numpy())
    if len(wrong):
        row, place = wrong[0]
        # A cell that is no number may be someone's text.
        is_number = pd.notna(numbers.iloc[row, place])
        cell = quoted(cells.iloc[row, place]) if is_number else "the cell"
        raise InputError(
            f"{table.where(int(row))}, column {quoted(columns[place])}: {cell} is no probability, "
            f"which is a number from 0 to 1."
        )
    if len(columns) == 1:
        positive = numbers[columns[0]]
        return pd.DataFrame({f"not {columns[0]}": 1 - positive, columns[0]: positive})
    sums = numbers.sum(axis=1).to_numpy()
    if len(off := np.flatnonzero(abs(sums - 1) > 0.01)):
        raise InputError(
            f"{table.where(int(off[0]))}: the probabilities of the classes sum to "
            f"{sums[off[0]]:.3f} and not to 1."
        )
    return numbers / sums[:, None]


def are_numbers(table: Table, column: str) -> bool:
    """Tell whether the cells of a column are numbers, but for those that are missing.

    Examples
    --------
    >>> from frozenbert.tables.table import Table
    >>> are_numbers(Table("x.csv", {"y": ["1", "2.5", ""]}, [2, 3, 4], True), "y")
    True
    """
    cells = [cell for cell in table.cells(column, "label_column") if not _is_empty(cell)]
    return bool(cells) and all(_number(cell) is not None for cell in cells)


def numbers_of(table: Table, column: str) -> np.ndarray:
    """Return the finite numbers of a column.

    Parameters
    ----------
    table : Table
    column : str

    Returns
    -------
    numpy.ndarray of float64, shape (n_rows,)

    Raises
    ------
    InputError
        If the table has no such column, or a cell is missing, infinite or no number.

    Examples
    --------
    >>> from frozenbert.tables.table import Table
    >>> numbers_of(Table("x.csv", {"y": ["1", "-2.5"]}, [2, 3], True), "y")
    array([ 1. , -2.5])
    """
    cells = table.cells(column, "label_column")
    missing = [row for row, cell in enumerate(cells) if _is_empty(cell)]
    if missing:
        raise InputError(
            f"{table.where(missing[0])}, column {quoted(column)}: the label is missing "
            f"({len(missing):,} of {len(cells):,} are); give each row one, or remove it."
        )
    numbers = [_number(cell) for cell in cells]
    for row, number in enumerate(numbers):
        if number is None:
            raise InputError(
                f"{table.where(row)}, column {quoted(column)}: the cell is no number. (A decimal "
                f"point is needed, and not a comma.)"
            )
        if not np.isfinite(number):
            raise InputError(
                f"{table.where(row)}, column {quoted(column)}: {quoted(cells[row])} is not finite."
            )
    return np.array(numbers, dtype=np.float64)


def _is_empty(cell: object) -> bool:
    return is_missing(cell) or (isinstance(cell, str) and cell.strip() in ("", "nan", "NaN"))


def _number(cell: object) -> float | None:
    """Return a cell as a number, or None; a boolean is none."""
    if isinstance(cell, bool) or not (
        isinstance(cell, int | float) or (isinstance(cell, str) and is_numeric(cell))
    ):
        return None
    try:
        return float(cell)
    except OverflowError:
        return float("inf")


def unknown_label(table: Table, row: int, label: object, known: Sequence[object]) -> InputError:
    """Return the error for a label that the training rows lack."""
    listed = ", ".join(map(quoted, known[:20])) + (" and others" if len(known) > 20 else "")
    return InputError(
        f"{table.where(row)}: the label {quoted(label)} does not occur in the training rows, whose "
        f"labels are {listed}."
    )


def has_lists(table: Table, column: str) -> bool:
    """Tell whether a column contains lists, as jsonl and parquet can."""
    return any(map(_is_list, table.cells(column)))


def _is_list(cell: object) -> bool:
    return isinstance(cell, list | tuple | np.ndarray)


def _flags_of(table: Table, column: str) -> np.ndarray:
    cells = table.cells(column, "label_column")
    flags = [_FLAGS.get(str(cell).strip().lower()) for cell in cells]
    if None in flags:
        row = flags.index(None)
        # A cell that is no number may be someone's text.
        is_number = is_numeric(str(cells[row]))
        cell = quoted(cells[row]) if is_number else "the cell"
        raise InputError(
            f"{table.where(row)}, column {quoted(column)}: {cell} is neither 0 nor 1; several "
            f"columns of labels contain 0 or 1 each. Name one column alone if it contains classes."
        )
    return np.array(flags, dtype=np.int64)


def _labels_in(
    table: Table, row: int, column: str, cell: object, separator: str | None
) -> set[str]:
    if isinstance(cell, str) and separator is not None:
        labels = {part.strip() for part in cell.split(separator)} - {""}
    elif isinstance(cell, list | tuple | np.ndarray) and all(isinstance(x, str) for x in cell):
        labels = set(cell)
    else:
        wanted = "a list of strings" if separator is None else f"labels separated by {separator!r}"
        raise InputError(
            f"{table.where(row)}, column {quoted(column)}: the labels are {type_name(cell)}, but "
            f"must be {wanted}, as in other rows."
        )
    for label in labels:
        _check_unicode(table, row, column, label)
    return labels


def _check_unicode(table: Table, row: int, column: str, cell: str) -> None:
    if not cell.isascii() and _SURROGATE.search(cell):
        raise InputError(
            f"{table.where(row)}, column {quoted(column)}: holds half of a surrogate pair, "
            f"which is no character; mend the row or remove it."
        )


def _warn_of_similar(table: Table, column: str, labels: Iterable[str]) -> None:
    spellings = defaultdict[str, list[str]](list)
    for label in sorted(set(labels)):
        spellings[label.strip().casefold()].append(label)
    similar = [" and ".join(map(quoted, group)) for group in spellings.values() if len(group) > 1]
    if similar:
        more = f" (and {len(similar) - 3} more such groups)" if len(similar) > 3 else ""
        warnings.warn(
            f"{table.path}, column {quoted(column)}: the labels {'; '.join(similar[:3])}{more} "
            f"differ only in case or surrounding spaces, but are separate classes; write them "
            f"alike if they mean the same.",
            LabelWarning,
            stacklevel=callers_level(),
        )
