"""Damaged parquet files: an error without anybody's text, or a table."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frozenbert.errors import InputError
from frozenbert.tables.cells import labels_of, texts_of
from frozenbert.tables.reading import read_blocks, read_table
from frozenbert.tables.table import Table
from frozenbert.tables.writing import write_table

SECRET = "a patient's letter"


def strings(cells: list[bytes | None], kind: pa.DataType | None = None) -> pa.Array:
    """Make strings of bytes that need not be UTF-8."""
    raw = pa.array(cells, pa.large_binary() if kind == pa.large_string() else pa.binary())
    return pa.Array.from_buffers(kind or pa.string(), len(raw), raw.buffers())


def read_blocks_of_four(path: Path) -> list[Table]:
    return list(read_blocks(path, 4))


def read_whole(path: Path) -> list[Table]:
    return [read_table(path)]


both_ways = pytest.mark.parametrize("read", [read_whole, read_blocks_of_four])


@both_ways
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
def test_a_text_that_is_not_utf8_is_named_by_its_row(tmp_path, read, kind):
    path = tmp_path / "x.parquet"
    cells = [b"good", None, "très".encode()] * 3 + [f"{SECRET} ".encode() + b"\xff\xfe", b"fine"]
    table = pa.table({"n": range(len(cells)), "text": strings(cells, kind)})
    pq.write_table(table, path, row_group_size=3)
    with pytest.raises(
        InputError, match=r"x\.parquet, row 10, column 'text': the text is not UT"
    ) as caught:
        read(path)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@both_ways
@pytest.mark.parametrize("shape", ["categories", "lists"])
def test_nested_texts_that_are_not_utf8(tmp_path, read, shape):
    path = tmp_path / "x.parquet"
    cells = strings([b"good", f"{SECRET} ".encode() + b"\xff"])
    made = {
        "categories": pa.DictionaryArray.from_arrays(pa.array([0, 1, 1]), cells),
        "lists": pa.ListArray.from_arrays(pa.array([0, 1, 1, 2]), cells),
    }
    pq.write_table(pa.table({"x": made[shape]}), path)
    with pytest.raises(InputError, match=r"x\.parquet(, column 'x')?: is damaged") as caught:
        read(path)
    assert SECRET not in str(caught.value)


@both_ways
def test_two_columns_of_one_name(tmp_path, read):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), path)
    with pytest.raises(InputError, match=r"x\.parquet: there are two columns named 'text'"):
        read(path)


def table_with_secrets() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "text": [f"{SECRET} {i} ü" for i in range(10)],
            "label": [i % 3 for i in range(10)],
            "p": np.linspace(0, 1, 10),
            "kind": pd.Categorical([f"{SECRET} {i % 2}" for i in range(10)]),
            "tags": [[SECRET] * (i % 3) for i in range(10)],
            "when": pd.date_range("2024-01-01", periods=10),
        },
        index=pd.Index(range(5, 15), name="n"),
    )


def damage(good: bytes, rng: random.Random) -> bytes:
    """Flip a few bits, as often in the last part, which describes the others, as elsewhere."""
    bad = bytearray(good)
    for _ in range(rng.choice([1, 1, 2, 4])):
        start = rng.choice([0, max(0, len(bad) - 2500)])
        bad[rng.randrange(start, len(bad))] ^= 1 << rng.randrange(8)
    return bytes(bad)


@both_ways
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4"])
def test_flipped_bits_are_an_input_error_or_a_table(tmp_path, compression, read):
    path = tmp_path / "x.parquet"
    pq.write_table(
        pa.Table.from_pandas(table_with_secrets()), path, compression=compression, row_group_size=4
    )
    good, rng = path.read_bytes(), random.Random(0)
    errors = []
    for _ in range(60):
        path.write_bytes(damage(good, rng))
        try:
            for table in read(path):
                check_cells(table)
        except InputError as error:
            errors.append(error)
    assert len(errors) > 10
    assert [e for e in errors if SECRET in str(e) or not str(e).startswith(str(path))] == []
    assert [e for e in errors if e.__cause__ is not None or not e.__suppress_context__] == []


def check_cells(table: Table) -> None:
    for column in table.frame.columns:
        for check in (texts_of, labels_of):
            with contextlib.suppress(InputError):
                check(table, column)


@both_ways
def test_our_own_files_carry_checksums(tmp_path, read):
    path = tmp_path / "x.parquet"
    frame = pd.DataFrame({"text": [f"{SECRET} {i}" for i in range(100)]})
    write_table(frame, path)
    good = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    end = column.dictionary_page_offset + column.total_compressed_size
    for place in (column.data_page_offset - 20, end - 5):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(InputError, match=r"x\.parquet: is damaged or not a parquet file"):
            read(path)


def test_too_little_memory(tmp_path, monkeypatch):
    path = tmp_path / "x.parquet"
    write_table(pd.DataFrame({"text": ["a"]}), path)

    def fail(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 987654321 failed")

    monkeypatch.setattr(pa.parquet, "ParquetFile", fail)
    with pytest.raises(InputError, match=r"x\.parquet: needs more memory than is free, or is dam"):
        read_table(path)
