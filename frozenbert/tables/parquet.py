"""Read parquet files, whole or in blocks, and check that they are intact."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from ..errors import InputError
from .records import opened
from .table import Table, TableFile, check_distinct, quoted

__all__ = ["parquet_blocks", "read_parquet"]

_INDEX = re.compile(r"__index_level_\d+__")


def read_parquet(path: TableFile) -> Table:
    """Read a parquet file whole, with the types that pandas gives its columns.

    Raises
    ------
    InputError
        If the file cannot be read or is damaged, or a text is not UTF-8.
    """
    with _opened_parquet(path) as file:
        table = file.read()
        _check_cells(path, table, 0)
        frame = table.to_pandas()
        return _to_table(path, frame, 0)


def parquet_blocks(path: TableFile, rows: int) -> Iterator[Table]:
    """Yield the rows of a parquet file in blocks, with Arrow's types.

    Raises
    ------
    InputError
        If the file cannot be read or is damaged, or a text is not UTF-8.
    """
    with _opened_parquet(path) as file:
        done, held = 0, file.schema_arrow.empty_table()
        for batch in file.iter_batches(batch_size=rows):
            # A batch ends where a row group does.
            held = pa.concat_tables([held, pa.Table.from_batches([batch])])
            while len(held) >= rows:
                yield _block(path, held[:rows], done)
                done, held = done + rows, held[rows:]
        if not done or len(held):
            yield _block(path, held, done)


@contextlib.contextmanager
def _opened_parquet(path: TableFile) -> Iterator[pa.parquet.ParquetFile]:
    with opened(path) as binary:
        try:
            file = pa.parquet.ParquetFile(binary, page_checksum_verification=True)
            check_distinct(path, file.schema_arrow.names)
            yield file
        except InputError:
            raise
        except MemoryError:
            raise InputError(
                f"{path}: needs more memory than is free, or is damaged; split it into smaller "
                f"files, or fetch or write it again."
            ) from None
        # A damaged file makes pyarrow and pandas raise nearly anything, and their messages
        # may quote a cell.
        except Exception:
            raise InputError(
                f"{path}: is damaged or not a parquet file; fetch or write it again."
            ) from None


def _check_cells(path: TableFile, table: pa.Table, start: int) -> None:
    """Raise `InputError` if a cell is damaged, such as a text that is not UTF-8."""
    for name, column in zip(table.schema.names, table.columns, strict=True):
        try:
            column.validate(full=True)
            continue
        except pa.ArrowInvalid:
            row = _first_undecodable(column)
        if row is None:
            raise InputError(
                f"{path}, column {quoted(name)}: is damaged; fetch or write the file again."
            ) from None
        raise InputError(
            f"{path}, row {start + row + 1}, column {quoted(name)}: the text is not UTF-8; write "
            f"the file again with UTF-8 texts."
        ) from None


def _first_undecodable(column: pa.ChunkedArray) -> int | None:
    """Return the first row whose text is not UTF-8; None if the damage is another one."""
    row = 0
    for chunk in column.chunks:
        try:
            chunk.cast(pa.binary()).validate(full=True)
        except pa.ArrowException:
            return None
        for cell in chunk.cast(pa.binary()):
            try:
                (cell.as_py() or b"").decode()
            except UnicodeDecodeError:
                return row
            row += 1
    return None


def _block(path: TableFile, table: pa.Table, start: int) -> Table:
    _check_cells(path, table, start)
    # Without pandas' notes on an index, which apply only if the number of rows fits.
    names = [name for name in table.schema.names if not _INDEX.fullmatch(name)]
    plain = table.select(names).replace_schema_metadata(None)
    return _to_table(path, plain.to_pandas(types_mapper=pd.ArrowDtype), start)


def _to_table(path: TableFile, frame: pd.DataFrame, start: int) -> Table:
    # An index that pandas stored is a column if it has a name, and else only a count.
    frame = frame.reset_index(drop=frame.index.names == [None])
    frame = frame.set_axis(frame.columns.map(str), axis="columns")
    return Table(path, frame, range(start + 1, start + len(frame) + 1))
