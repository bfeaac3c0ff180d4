"""Read the columns of a table as a model was fitted on them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.validation import check_is_fitted

from ...errors import InputError
from ...utils.extras import require
from ..words import CompactTfidfVectorizer
from .kinds import (
    ColumnSpec,
    as_dates,
    as_frame,
    as_numbers,
    date_format,
    find_kinds,
    parse_columns,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ColumnReader"]

MANY_CATEGORIES = 40  # are encoded by their characters


class ColumnReader(TransformerMixin, BaseEstimator):
    """Transformer from a table to numbers: of all its columns but the texts.

    Numbers stay as they are. Dates become year, month, day, hour, weekday and seconds (skrub's
    `DatetimeEncoder`), categories one column each, or 20 columns by their characters if there
    are 40 or more. Missing numbers and dates get the mean and a column that tells, a missing
    category is one of its own, and a new category is 0 in all columns.

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
    date_formats_ : dict of str to str
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
        self._check_names(frame)
        self.date_formats_ = {name: date_format(frame[name].tolist()) for name in kinds["date"]}
        try:
            read = self._read(frame)
        except InputError as error:
            raise InputError(f"{error} Mend it, or name the column as a category.") from error
        self.missing_ = {
            str(name): int(count) for name, count in read.isna().sum().items() if count
        }
        self.encoder_ = None
        others = self._others(read)
        if others.shape[1]:
            self.encoder_ = _make_encoder(others, kinds)
            with _quiet():
                self.encoder_.fit(others)
        return self

    @property
    def names(self) -> list[str]:
        """The columns that are read, texts first."""
        return [name for names in self.kinds_.values() for name in names]

    def _check_names(self, frame: pd.DataFrame) -> None:
        lacking = [name for name in self.names if name not in frame.columns]
        if lacking:
            raise InputError(
                f"column {lacking[0]!r} is missing; the model reads {', '.join(self.names)}, and "
                f"the table has {', '.join(map(str, frame.columns))}."
            )

    def _read(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the columns, each in the type of its kind."""
        import pandas as pd

        self._check_names(frame)
        # Models saved before have no formats.
        formats: Mapping[str, str] = getattr(self, "date_formats_", {})
        read: dict[str, np.ndarray | pd.Series] = {}
        for kind, names in self.kinds_.items():
            for name in names:
                cells = frame[name].tolist()
                if kind == "number":
                    found: np.ndarray | pd.Series | None = as_numbers(cells)
                elif kind == "date":
                    found = as_dates(cells, formats.get(name))
                else:
                    found = _strings(cells)
                if found is None:
                    row = _first_wrong(cells, as_numbers if kind == "number" else as_dates)
                    raise InputError(f"column {name!r}, row {row} (counted from 0): is no {kind}.")
                read[name] = found.to_numpy() if hasattr(found, "to_numpy") else found
        return pd.DataFrame(read)

    def _others(self, read: pd.DataFrame) -> pd.DataFrame:
        """Return the columns that are no texts; missing categories are empty strings."""
        others = read.drop(columns=self.kinds_["text"])
        names = self.kinds_["category"]
        categories = others[names].astype(object)
        return others.assign(**categories.where(categories.notna(), ""))

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
            found = self.encoder_.transform(self._others(frame))
        return np.asarray(found, dtype=np.float64)


def _make_encoder(frame: pd.DataFrame, kinds: Mapping[str, Sequence[str]]) -> Pipeline:
    """Return the encoders of all columns but the texts, not fitted.

    Columns are named by their places, so that no name of a user's collides with those of
    scikit-learn.
    """
    places = {name: place for place, name in enumerate(frame.columns)}
    many = [name for name in kinds["category"] if frame[name].nunique() >= MANY_CATEGORIES]
    few = [places[name] for name in kinds["category"] if name not in many]
    encoders: list[tuple[str, object, int | list[int]]] = [
        ("numbers", "passthrough", [places[name] for name in kinds["number"]]),
        ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), few),
    ]
    encoders += [(f"strings_{places[name]}", _make_strings(), places[name]) for name in many]
    if kinds["date"]:
        require("skrub", purpose="a column of dates")
        from skrub import DatetimeEncoder

        encoders += [
            (f"date_{places[name]}", DatetimeEncoder(add_weekday=True), places[name])
            for name in kinds["date"]
        ]
    used = [encoder for encoder in encoders if encoder[2] != []]
    return Pipeline(
        [("columns", ColumnTransformer(used)), ("fill", SimpleImputer(add_indicator=True))]
    )


def _make_strings() -> Pipeline:
    """Return an encoder of categories by their characters, as skrub's `StringEncoder` does it.

    Of these, a safe form may hold the vectorizer.
    """
    tfidf = CompactTfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4))
    return make_pipeline(tfidf, TruncatedSVD(20, random_state=0))


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
