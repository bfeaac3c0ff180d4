"""Check texts, in any container that users pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError

__all__ = ["check_texts", "distinct_texts", "is_missing", "is_stream"]

NO_SEQUENCES = (bytes, bytearray, dict, set, frozenset)


def check_texts(X: Any, missing: str, start: int = 0) -> list[str]:
    """Return the texts of any container that scikit-learn and its users pass.

    Parameters
    ----------
    X : list, tuple, numpy.ndarray, Series, pyarrow.Array, one-column DataFrame or other iterable
        The texts.
    missing : {"error", "empty"}
        Whether None and NaN are an error or the empty text.
    start : int, default=0
        The number of the first row in messages.

    Returns
    -------
    list of str

    Raises
    ------
    InputError
        If a text is missing or cannot be encoded as UTF-8, or `X` is one string.
    TypeError
        If `X` or one of its rows is of another type.

    Examples
    --------
    >>> check_texts(np.array([["one"], ["two"]]), "error")
    ['one', 'two']
    """
    if isinstance(X, str):
        raise InputError("X is one string: texts come in a list, even a single one: [text].")
    if isinstance(X, NO_SEQUENCES) or not (hasattr(X, "__iter__") or _is_arrow(X)):
        raise TypeError(f"X is a {type(X).__name__}: a list, array or Series of strings is needed.")
    texts = _rows(X)
    for at, text in enumerate(texts):
        if type(text) is str and text.isascii():
            continue
        row = start + at
        if isinstance(text, str):
            texts[at] = str(text)
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    f"X[{row}] cannot be encoded as UTF-8 (half of a surrogate pair at character "
                    f"{error.start}): mend it with text.encode('utf-8', 'replace').decode()."
                ) from None
        elif is_missing(text):
            if missing == "error":
                raise InputError(
                    f"X[{row}] is {text!r}: drop such rows, or read them as empty texts with "
                    f"missing='empty'."
                )
            texts[at] = ""
        else:
            raise TypeError(
                f"X[{row}] is a {type(text).__name__}: every text must be a string"
                + (", decode it first." if isinstance(text, bytes) else ".")
            )
    return texts


def _rows(X: Any) -> list[Any]:
    """Return the rows of a container of one column."""
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) == 2:
        if shape[1] != 1:
            raise InputError(f"X has {shape[1]} columns: pass the one that holds the texts.")
        X = X.column(0) if _is_arrow(X) else np.asarray(X, dtype=object)[:, 0]
    elif shape is not None and len(shape) > 2:
        raise InputError(f"X has the shape {shape}: one text a row is needed.")
    if not _is_arrow(X):
        return list(X)
    try:
        return X.to_pylist()
    except UnicodeDecodeError:
        raise InputError("X contains a text that is not UTF-8.") from None


def _is_arrow(X: object) -> bool:
    """Tell whether `X` is an array or table of pyarrow, whose cells are not Python's strings."""
    return hasattr(X, "to_pylist")


def is_stream(X: object) -> bool:
    """Tell whether `X` can be read block by block; else `check_texts` reads it whole.

    Examples
    --------
    >>> is_stream(["a", "b"]), is_stream(np.array([["a"], ["b"]])), is_stream("one string")
    (True, False, False)
    """
    whole = hasattr(X, "shape") or _is_arrow(X) or isinstance(X, (str, *NO_SEQUENCES))
    return hasattr(X, "__iter__") and not whole


def is_missing(value: object) -> bool:
    """Tell whether a cell is None, NaN, or pandas' NA or NaT.

    Examples
    --------
    >>> is_missing(None), is_missing(float("nan")), is_missing("")
    (True, True, False)
    """
    # pandas' NA equals nothing; its name identifies it without importing pandas.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def distinct_texts(texts: list[str]) -> tuple[list[str], np.ndarray]:
    """Return each text once, and for every text its index among those.

    Examples
    --------
    >>> distinct_texts(["b", "a", "b"])
    (['b', 'a'], array([0, 1, 0]))
    """
    places: dict[str, int] = {}
    inverse = [places.setdefault(text, len(places)) for text in texts]
    return list(places), np.array(inverse, dtype=np.intp)
