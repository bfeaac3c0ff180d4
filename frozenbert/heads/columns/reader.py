"""Read the columns of a table as a model was fitted on them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ...errors import InputError
from ...utils.extras import require
from .kinds import (
    ColumnSpec,
    as_dates,
    as_frame,
    as_numbers,
    find_kinds,
    parse_columns,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ColumnReader"]


class ColumnReader(TransformerMixin, BaseEstimator):
    """Transformer from a table to numbers: of all its columns but the texts.

    Numbers, dates and categories are encoded by skrub's `TableVectorizer`: dates as year,
    month, day, weekday and seconds, categories in one column each, or by their strings if there
    are many. Missing numbers and dates get the mean and a column that tells, a missing category is
    one of its own, and a new category is 0 in all columns.

    Parameters
    ----------
    columns : dict or "all"
        Names of the columns by their kind ("text", "number", "category", "date"), or "all":
        kinds are found, and ids, constants and copies of the target are left out.

    Attributes
    ----------
    kinds_ : dict of str to list of str
    left_out_ : dict of str to str
        With "all", the columns that are left out, and why.
    missing_ : dict of str to int
        Missing cells of each column that has some.
    encoder_ : sklearn.pipeline.Pipeline or None
        None if there are texts alone.

    Examples
    --------
    >>> import pandas as pd
    >>> X = pd.DataFrame({"review": ["a b", "c"], "price": [1.0, None], "shop": ["x", "y"]})
    >>> columns = {"text": "review", "number": "price", "category": "shop"}
    >>> reader = ColumnReader(columns).fit(X, [1, 2])
    >>> reader.transform(X).shape[0], reader.texts(X), reader.missing_
    (2, [['a b', 'c']], {'price': 1})
    """

    def __init__(self, columns: ColumnSpec = "all") -> None:
        self.columns = columns

    def fit(self, X: pd.DataFrame, y: ArrayLike | None = None) -> ColumnReader:
        """Find the kinds of the columns, and fit their encoders.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)
        y : array-like of shape (n_samples,)
            Copies of it are left out.

        Returns
        -------
        ColumnReader
            Itself.

        Raises
        ------
        InputError
            If a column is missing, or a cell is not of its column's kind.
        """
        require("pandas", purpose="a model of columns")
        frame = as_frame(X)
        kinds = parse_columns(self.columns)
        self.left_out_: dict[str, str] = {}
        if kinds is None:
            kinds, self.left_out_ = find_kinds(frame, np.asarray(y))
            if not kinds["text"]:
                raise InputError("the table has no column of texts.", parameter="columns")
        self.kinds_ = kinds
        read = self._read(frame)
        self.missing_ = {
            str(name): int(count) for name, count in read.isna().sum().items() if count
        }
        self.encoder_ = None
        others = read.drop(columns=kinds["text"])
        if others.shape[1]:
            self.encoder_ = _make_encoder()
            with _quiet():
                self.encoder_.fit(others)
        return self

    @property
    def names(self) -> list[str]:
        """The columns that are read, texts first."""
        return [name for names in self.kinds_.values() for name in names]

    def _read(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the columns, each in the type of its kind."""
        import pandas as pd

        lacking = [name for name in self.names if name not in frame.columns]
        if lacking:
            raise InputError(
                f"column {lacking[0]!r} is missing; the model reads {', '.join(self.names)}, and "
                f"the table has {', '.join(map(str, frame.columns))}."
            )
        read: dict[str, np.ndarray | pd.Series] = {}
        for kind, names in self.kinds_.items():
            for name in names:
                cells = frame[name].tolist()
                if kind == "number":
                    found: np.ndarray | pd.Series | None = as_numbers(cells)
                elif kind == "date":
                    found = as_dates(cells)
                else:
                    found = _strings(cells)
                if found is None:
                    row = _first_wrong(cells, as_numbers if kind == "number" else as_dates)
                    raise InputError(
                        f"column {name!r}, row {row} (counted from 0): is no {kind}, as the "
                        f"column was said to be; mend it, or name the column as a category."
                    )
                read[name] = found.to_numpy() if hasattr(found, "to_numpy") else found
        return pd.DataFrame(read)

    def texts(self, X: pd.DataFrame) -> list[list[str]]:
        """Return the texts of each column of texts; missing ones are empty."""
        check_is_fitted(self)
        frame = self._read(as_frame(X))
        return [
            ["" if cell is None or cell != cell else str(cell) for cell in frame[name].tolist()]
            for name in self.kinds_["text"]
        ]

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Return the encoded columns.

        Parameters
        ----------
        X : DataFrame
            With the columns of `fit`, in any order, and others.

        Returns
        -------
        numpy.ndarray of float64, shape (n_samples, n_features)

        Raises
        ------
        InputError
            If a column is missing, or a cell is not of its column's kind.
        """
        check_is_fitted(self)
        frame = self._read(as_frame(X))
        if self.encoder_ is None:
            return np.empty((len(frame), 0))
        with _quiet():
            found = self.encoder_.transform(frame.drop(columns=self.kinds_["text"]))
        return np.asarray(found, dtype=np.float64)


def _make_encoder() -> Pipeline:
    require("skrub", purpose="a model of columns")
    from sklearn.preprocessing import OneHotEncoder
    from skrub import DatetimeEncoder, StringEncoder, TableVectorizer

    vectorizer = TableVectorizer(
        low_cardinality=OneHotEncoder(
            handle_unknown="ignore", sparse_output=False, dtype="float32"
        ),
        high_cardinality=StringEncoder(n_components=20, random_state=0),
        datetime=DatetimeEncoder(add_weekday=True),
    )
    return Pipeline([("columns", vectorizer), ("fill", SimpleImputer(add_indicator=True))])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence hints about new categories and missing cells, which are expected."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"(sklearn|skrub)\.")
        yield


def _strings(cells: list[object]) -> np.ndarray:
    found = np.empty(len(cells), dtype=object)
    found[:] = [
        None if cell is None or cell != cell or str(cell) == "" else str(cell) for cell in cells
    ]
    return found


def _first_wrong(cells: list[object], read: Callable[[list[object]], object]) -> int:
    return next(row for row, cell in enumerate(cells) if read([cell]) is None)
