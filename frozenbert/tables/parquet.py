"""Read parquet files."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from ..errors import InputError
from .records import opened
from .table import Table, TableFile

__all__ = ["parquet_blocks", "read_parquet"]

_INDEX = re.compile(r"__index_level_\d+__")


def read_parquet(path: TableFile) -> Table:
    with _open(path) as file:
        frame = pd.read_parquet(file, engine="pyarrow")
    return _table(path, frame, 0)


def parquet_blocks(path: TableFile, rows: int) -> Iterator[Table]:
    with _open(path) as file:
        parquet = pa.parquet.ParquetFile(file)
        done, held = 0, parquet.schema_arrow.empty_table()
        for batch in parquet.iter_batches(batch_size=rows):
            # A batch ends where a row group does.
            held = pa.concat_tables([held, pa.Table.from_batches([batch])])
            while len(held) >= rows:
                yield _table(path, _with_arrow_types(held[:rows]), done)
                done, held = done + rows, held[rows:]
        if not done or len(held):
            yield _table(path, _with_arrow_types(held), done)


@contextlib.contextmanager
def _open(path: TableFile) -> Iterator[BinaryIO]:
    with opened(path) as file:
        try:
            yield file
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(
                f"{path}: is no whole parquet file that can be read; fetch or write it anew."
            ) from error


def _with_arrow_types(table: pa.Table) -> pd.DataFrame:
    # Without what pandas noted of an index, which it heeds only if the number of rows fits.
    names = [name for name in table.schema.names if not _INDEX.fullmatch(name)]
    plain = table.select(names).replace_schema_metadata(None)
    return plain.to_pandas(types_mapper=pd.ArrowDtype)


def _table(path: TableFile, frame: pd.DataFrame, start: int) -> Table:
    # An index that pandas kept is a column if it has a name, and else a mere count.
    frame = frame.reset_index(drop=frame.index.names == [None])
    frame = frame.set_axis(frame.columns.map(str), axis="columns")
    return Table(path, frame, range(start + 1, start + len(frame) + 1))
