"""Texts in every container, and values that are no texts."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenbert.errors import InputError
from frozenbert.utils.texts import check_texts, distinct_texts, is_stream

TEXTS = ["one", "", "naïve café 🎬", "שלום", "two\nlines", "one"]
CONTAINERS: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda t: (x for x in t),
    "deque": deque,
    "keys of a dict": lambda t: dict(enumerate(t)).values(),
    "numpy str": np.array,
    "numpy object": lambda t: np.array(t, dtype=object),
    "numpy StringDType": lambda t: np.array(t, dtype=np.dtypes.StringDType()),
    "numpy str (n, 1)": lambda t: np.array(t)[:, None],
    "numpy object (n, 1)": lambda t: np.array(t, dtype=object)[:, None],
    "numpy StringDType (n, 1)": lambda t: np.array(t, dtype=np.dtypes.StringDType())[:, None],
    "pandas object": lambda t: pd.Series(t, dtype=object),
    "pandas str": lambda t: pd.Series(t, dtype="str"),
    "pandas string[python]": lambda t: pd.Series(t, dtype="string[python]"),
    "pandas string[pyarrow]": lambda t: pd.Series(t, dtype="string[pyarrow]"),
    "pandas categorical": lambda t: pd.Series(t, dtype="category"),
    "pandas odd index": lambda t: pd.Series(t, index=range(len(t), 0, -1)),
    "pandas Index": pd.Index,
    "pandas one column": lambda t: pd.DataFrame({"text": t}),
    "pandas one pyarrow column": lambda t: pd.DataFrame({"text": t}, dtype="string[pyarrow]"),
    "polars Series": lambda t: pl.Series("text", t),
    "polars categorical": lambda t: pl.Series("text", t, dtype=pl.Categorical),
    "polars one column": lambda t: pl.DataFrame({"text": t}),
    "pyarrow Array": pa.array,
    "pyarrow ChunkedArray": lambda t: pa.chunked_array([t[:2], t[2:]]),
    "pyarrow large_string": lambda t: pa.array(t, pa.large_string()),
    "pyarrow dictionary": lambda t: pa.array(t).dictionary_encode(),
    "pyarrow one column": lambda t: pa.table({"text": t}),
}
if not hasattr(np.dtypes, "StringDType"):  # numpy 1
    CONTAINERS = {name: make for name, make in CONTAINERS.items() if "StringDType" not in name}
MISSING = [None, float("nan"), np.float64("nan"), np.float32("nan"), pd.NA, pd.NaT]


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_plain_strings(name: str) -> None:
    texts = check_texts(CONTAINERS[name](TEXTS), "error")
    assert texts == TEXTS
    assert isinstance(texts, list)
    assert {type(text) for text in texts} == {str}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_every_text_of_utf8_passes_unchanged(texts: list[str]) -> None:
    assert check_texts(texts, "error") == texts
    assert check_texts(np.array(texts, dtype=object), "error") == texts


@pytest.mark.parametrize("name", ["list", "numpy object", "numpy object (n, 1)"])
def test_the_input_is_not_changed(name: str) -> None:
    given = CONTAINERS[name](["a", "b"])
    given[0] = None if given[0] == "a" else [None]
    before = copy.deepcopy(given)
    assert check_texts(given, "empty") == ["", "b"]
    assert np.array_equal(given, before)


@pytest.mark.parametrize("missing", MISSING, ids=lambda m: f"{type(m).__name__} {m}")
def test_a_missing_text_is_an_error_that_names_the_row_or_the_empty_text(missing: Any) -> None:
    with pytest.raises(InputError, match=r"X\[1\] is .*missing='empty'"):
        check_texts(["a", missing], "error")
    assert check_texts(["a", missing], "empty") == ["a", ""]


@pytest.mark.parametrize(
    "make",
    [
        lambda t: pd.Series(t, dtype="str"),
        lambda t: pd.Series(t, dtype="string[pyarrow]"),
        lambda t: pd.Series(t, dtype="category"),
        lambda t: pd.DataFrame({"text": t}),
        lambda t: pl.Series(t),
        lambda t: pl.DataFrame({"text": t}),
        pa.array,
    ],
    ids=["str", "string[pyarrow]", "categorical", "DataFrame", "polars", "polars frame", "pyarrow"],
)
def test_a_missing_text_in_a_table_is_found(make: Callable[[list[Any]], Any]) -> None:
    with pytest.raises(InputError, match=r"X\[1\] is"):
        check_texts(make(["a", None, "b"]), "error")
    assert check_texts(make(["a", None, "b"]), "empty") == ["a", "", "b"]


def test_a_pyarrow_array_of_wrong_bytes_or_numbers() -> None:
    wrong = pa.array([b"good", b"secret\xff"])
    with pytest.raises(InputError, match=r"X contains a text that is not UTF-8\.$"):
        check_texts(pa.Array.from_buffers(pa.string(), 2, wrong.buffers()), "error")
    with pytest.raises(TypeError, match=r"X\[0\] is a int"):
        check_texts(pa.array([1, 2]), "error")


def test_a_pyarrow_array_is_read_whole() -> None:
    assert not is_stream(pa.array(["a"]))


def test_one_string_is_an_error_with_a_remedy() -> None:
    with pytest.raises(InputError, match=r"X is one string.*\[text\]"):
        check_texts("a text", "error")


@pytest.mark.parametrize(
    "given",
    [b"bytes", bytearray(b"bytes"), {"a": 1}, {"a"}, frozenset("a"), 3, 2.5, None, object()],
    ids=lambda g: type(g).__name__,
)
def test_a_container_without_ordered_rows_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError, match=f"X is a {type(given).__name__}: a list, array or Series"):
        check_texts(given, "empty")


@pytest.mark.parametrize("row", [1, 1.5, np.int64(1), True, ["a"], ("a",), {"a": 1}])
def test_a_row_of_another_type_is_named(row: Any) -> None:
    with pytest.raises(TypeError, match=rf"X\[2\] is a {type(row).__name__}: .* a string\."):
        check_texts(["a", "b", row], "empty")


def test_bytes_in_a_row_are_to_be_decoded() -> None:
    with pytest.raises(TypeError, match=r"X\[0\] is a bytes: .*decode it first"):
        check_texts([b"a"], "error")


def test_numbers_in_an_array_are_an_error() -> None:
    with pytest.raises(TypeError, match=r"X\[0\] is a float"):
        check_texts(np.ones((3, 1)), "error")


@pytest.mark.parametrize(
    "given",
    [
        np.array([["a", "b"]]),
        pd.DataFrame({"a": ["x"], "b": ["y"]}),
        pl.DataFrame({"a": ["x"], "b": ["y"]}),
        pa.table({"a": ["x"], "b": ["y"]}),
    ],
    ids=["numpy", "pandas", "polars", "pyarrow"],
)
def test_two_columns_are_an_error(given: Any) -> None:
    with pytest.raises(InputError, match="X has 2 columns"):
        check_texts(given, "error")


def test_three_dimensions_are_an_error() -> None:
    with pytest.raises(InputError, match=r"X has the shape \(1, 1, 1\)"):
        check_texts(np.array([[["a"]]]), "error")


def test_half_of_a_surrogate_pair_is_an_error_with_its_place() -> None:
    with pytest.raises(InputError, match=r"X\[1\] cannot be encoded as UTF-8.*character 2"):
        check_texts(["good", "ab\ud83d"], "error")


@given(st.lists(st.sampled_from("abcdef") | st.text()))
def test_distinct_texts_can_be_put_back(texts: list[str]) -> None:
    distinct, inverse = distinct_texts(texts)
    assert [distinct[i] for i in inverse] == texts
    assert distinct == list(dict.fromkeys(texts))
