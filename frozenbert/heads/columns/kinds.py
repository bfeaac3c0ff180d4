"""The kinds of a table's columns: texts, numbers, categories and dates."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ...errors import InputError
from ...utils.texts import is_missing

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "KINDS",
    "ColumnSpec",
    "as_dates",
    "as_frame",
    "as_numbers",
    "date_format",
    "find_kinds",
    "parse_columns",
]

KINDS = ("text", "number", "category", "date")
ColumnSpec: TypeAlias = Mapping[str, str | Sequence[str]] | str

_DATE = re.compile(r"\d.*[-/. :T].*\d|\d.*[A-Za-z]{3}.*\d|[A-Za-z]{3}.*\d")
_ID = re.compile(r"(.*[ _-])?(id|uuid|key|nr|index)", re.IGNORECASE)
_DATES = "datetime64[us]"
PROSE_WORDS = 3  # more on average


def parse_columns(columns: ColumnSpec) -> dict[str, list[str]] | None:
    """Return the names of the columns of each kind; None for "all".

    Parameters
    ----------
    columns : mapping or "all"
        From "text", "number", "category" and "date" to a name or names.

    Raises
    ------
    InputError
        If it is none of these, names no column of texts, or a column twice.

    Examples
    --------
    >>> parse_columns({"text": "review", "number": ["price"]})
    {'text': ['review'], 'number': ['price'], 'category': [], 'date': []}
    """
    if isinstance(columns, str):
        if columns != "all":
            raise InputError(
                "'all', or a dict such as {'text': 'review', 'category': ['product']}.",
                parameter="columns",
                value=columns,
            )
        return None
    if not isinstance(columns, Mapping) or not set(columns) <= set(KINDS):
        raise InputError(
            f"a dict with some of the keys {', '.join(KINDS)}, or 'all'.", parameter="columns"
        )
    found = {
        kind: [names] if isinstance(names := columns.get(kind, ()), str) else list(names)
        for kind in KINDS
    }
    named = [name for names in found.values() for name in names]
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise InputError(f"column {twice!r} is named twice.", parameter="columns")
    if not found["text"]:
        raise InputError("names no column of texts.", parameter="columns")
    return found


def as_frame(X: object) -> pd.DataFrame:
    """Return a table as a pandas DataFrame.

    Raises
    ------
    InputError
        If it is no table with names of columns.
    """
    import pandas as pd

    if isinstance(X, pd.DataFrame):
        return X
    if hasattr(X, "to_pandas") and hasattr(X, "columns"):  # polars, pyarrow
        return X.to_pandas()
    raise InputError(
        f"X is a {type(X).__name__}; a model of columns needs a DataFrame with their names."
    )


def find_kinds(X: pd.DataFrame, y: ArrayLike) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Find the kind of each column, and those that are of no use.

    Parameters
    ----------
    X : pandas.DataFrame
        Without the target.
    y : sequence
        The target, one for each row.

    Returns
    -------
    kinds : dict of str to list of str
        The names of the columns of each kind.
    left_out : dict of str to str
        The names of the others, and why they are left out.

    Examples
    --------
    >>> import pandas as pd
    >>> X = pd.DataFrame({"id": ["a", "b", "c"], "price": ["1", "2.5", "1"], "shop": ["x"] * 3})
    >>> find_kinds(X, [1, 2, 2])[1]
    {'id': 'an id: each row has its own', 'shop': 'constant'}
    """
    target = [str(value) for value in np.asarray(y).tolist()] if np.ndim(y) == 1 else None
    kinds: dict[str, list[str]] = {kind: [] for kind in KINDS}
    left_out = {}
    for name in X.columns:
        cells = [None if _is_empty(cell) else cell for cell in X[name].tolist()]
        kind, why = _kind_of(str(name), cells)
        if kind is not None and target is not None and _is_copy(cells, target):
            kind, why = None, "a copy of the target: each value has one"
        if kind is None:
            left_out[name] = why
        else:
            kinds[kind].append(name)
    return kinds, left_out


def _is_empty(cell: object) -> bool:
    return is_missing(cell) or (isinstance(cell, str) and cell.strip() in ("", "nan", "NaN"))


def _kind_of(name: str, cells: Sequence[object]) -> tuple[str | None, str]:
    """Return the kind of a column; or None, and why it is left out."""
    present = [cell for cell in cells if cell is not None]
    distinct = {str(cell) for cell in present}
    if len(distinct) < 2 and len(present) == len(cells):
        return None, "constant"
    if not present:
        return None, "empty"
    texts = [cell for cell in present if isinstance(cell, str)]
    n_words = sum(len(text.split()) for text in texts)
    is_prose = len(texts) == len(present) and n_words > PROSE_WORDS * len(texts)
    if is_prose and len(distinct) > len(present) / 2:
        return "text", ""
    unique = len(distinct) == len(present) == len(cells)
    numbers = as_numbers(present)
    if numbers is not None:
        whole = bool((numbers == np.floor(numbers)).all())
        if unique and whole and (_ID.fullmatch(name) or _is_counter(numbers)):
            return None, "an id: each row has its own"
        return "number", ""
    if as_dates(present) is not None:
        return "date", ""
    if not all(isinstance(cell, str | bool) for cell in present):
        return None, "contains neither texts nor numbers nor dates"
    if unique:
        return None, "an id: each row has its own"
    return "category", ""


def _is_counter(numbers: np.ndarray) -> bool:
    """Tell whether numbers count the rows, in any order."""
    return bool(numbers.max() - numbers.min() == len(numbers) - 1)


def _is_copy(cells: Sequence[object], target: Sequence[str]) -> bool:
    """Tell whether each value of a column has one value of the target, and the reverse."""
    pairs = set(zip(map(str, cells), target, strict=True))
    n = len({cell for cell, _ in pairs})
    # As many values as rows say nothing.
    return len(pairs) == n == len({value for _, value in pairs}) and 1 < n < len(cells)


def as_numbers(cells: Iterable[object]) -> np.ndarray | None:
    """Return cells as floats, NaN for missing ones; None if one is no finite number.

    Examples
    --------
    >>> as_numbers(["1", "2.5", None]), as_numbers(["1", "two"])
    (array([1. , 2.5, nan]), None)
    """
    numbers = []
    for cell in cells:
        if _is_empty(cell):
            numbers.append(np.nan)
            continue
        if not isinstance(cell, str | int | float | np.number) or isinstance(cell, bool):
            return None
        try:
            numbers.append(float(cell))
        except (ValueError, OverflowError):
            return None
    found = np.array(numbers, dtype=np.float64)
    return None if np.isinf(found).any() else found


def as_dates(cells: Iterable[object], form: str | None = None) -> pd.Series | None:
    """Return cells as dates, NaT for missing ones; None if one is no date.

    Strings of digits alone are no dates.

    Parameters
    ----------
    cells : iterable
        Dates, or strings.
    form : str, optional
        As from `date_format`. Strings in another format are read each for itself.

    Examples
    --------
    >>> as_dates(["26-Jul-18", None]).dt.year.tolist()[0], as_dates(["never"])
    (2018.0, None)
    """
    import pandas as pd

    values = [None if _is_empty(cell) else cell for cell in cells]
    for value in values:
        if isinstance(value, str) and not _DATE.search(value):
            return None
        if isinstance(value, bool | int | float | np.number):
            return None
    series = pd.Series(values, dtype=object)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # formats that differ from row to row
            if form is not None:
                found = pd.to_datetime(series, format=form, errors="coerce").astype(_DATES)
                others = found.isna() & series.notna()
                each = pd.to_datetime(series[others], format="mixed", utc=True)
                found[others] = each.dt.tz_convert(None)
                return found
            try:
                found = pd.to_datetime(series)
            except (ValueError, TypeError):
                found = pd.to_datetime(series, format="mixed")
    except (ValueError, TypeError, OverflowError):
        return None
    if not pd.api.types.is_datetime64_any_dtype(found):
        return None
    return found if found.dt.tz is None else found.dt.tz_convert("UTC").dt.tz_localize(None)


def date_format(cells: Iterable[object]) -> str:
    """Return the format that all strings among some dates have; if there is none, ISO 8601.

    Whether the day or the month comes first cannot be told from one date, so that a model keeps
    the format of its training rows.

    Examples
    --------
    >>> date_format(["2/1/2024", None, "31/1/2024"]), date_format(["1/31/2024", "2/1/2024"])
    ('%d/%m/%Y', '%m/%d/%Y')
    """
    import pandas as pd
    from pandas.tseries.api import guess_datetime_format

    strings = [cell for cell in cells if isinstance(cell, str) and not _is_empty(cell)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the day is first, though the month was assumed to be
        for text in strings[:1]:
            for dayfirst in (False, True):
                form = guess_datetime_format(text, dayfirst=dayfirst)
                if form and pd.to_datetime(strings, format=form, errors="coerce").notna().all():
                    return str(form)
    return "ISO8601"
