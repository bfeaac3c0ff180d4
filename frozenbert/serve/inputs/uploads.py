"""Tables that requests bring."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...errors import InputError
from ...tables.cells import texts_of
from ...tables.columns import find_columns
from ...tables.delimiters import CANDIDATES, is_declaration
from ...tables.reading import read_blocks
from ...tables.table import Upload
from ..request_queue import Items
from .record_form import RecordForm

__all__ = ["UploadedTable", "read_upload"]

MAX_COLUMNS = 1000


@dataclass(frozen=True, eq=False)
class UploadedTable:
    """A table of a request.

    Attributes
    ----------
    columns : mapping of str to list of str
        The cells of each column.
    items : list of str or list of mapping
        The texts of the rows; for a model of columns, the records.
    delimiter : str
        Of the table, and of the answer.
    """

    columns: Mapping[str, Sequence[str]]
    items: Items
    delimiter: str


def read_upload(
    content: bytes,
    kind: str,
    max_rows: int,
    *,
    text_column: str | None = None,
    header: bool | None = None,
    delimiter: str | None = None,
    form: RecordForm | None = None,
) -> UploadedTable:
    """Read a delimited table and find its column of texts, or the columns of a model.

    Parameters
    ----------
    content : bytes
    kind : {"csv", "tsv"}
    max_rows : int
        The limit.
    text_column, header, delimiter : optional
        As for `frozenbert.tables.reading.read_blocks` and `find_columns`.
    form : RecordForm, optional
        Of a model that reads columns.

    Raises
    ------
    frozenbert.InputError
        If it is not such a table, has too many rows or columns, or no such column.
    """
    upload = Upload(f"table.{kind}", content)
    # Before anything makes a column object for each of millions of delimiters. The first record
    # may come after a line `sep=;`.
    first_lines = re.split(rb"[\r\n]+", content.strip(b"\r\n"), maxsplit=3)[:3]
    declaration = first_lines[0].decode("utf-8-sig", errors="replace")
    possible = (delimiter,) if delimiter else ("\t",) if kind == "tsv" else CANDIDATES
    if is_declaration(declaration):
        possible = (*possible, declaration[-1])
    if max(line.count(d.encode()) for line in first_lines for d in possible) >= MAX_COLUMNS:
        raise InputError(f"{upload}: has more than {MAX_COLUMNS:,} columns.")
    expected = list(form.kinds) if form else [text_column] if text_column else []
    blocks = read_blocks(upload, max_rows, header=header, columns=expected, delimiter=delimiter)
    table = next(blocks)
    if len(table.lines) == max_rows and next(blocks, None) is not None:
        raise InputError(
            f"{upload}: has more than {max_rows:,} rows, which is the limit: send it in parts."
        )
    columns = {name: table.cells(name) for name in table.columns}
    delimiter = table.delimiter or ","
    if form is None:
        text_column, _ = find_columns(table, text_column, None, need_label=False)
        return UploadedTable(columns, texts_of(table, text_column), delimiter)
    if text_column is not None:
        raise InputError(
            f"this model reads the columns {', '.join(form.kinds)}, by their names.",
            parameter="text_column",
            value=text_column,
        )
    for name in form.kinds:
        table.check_name(name)
    rows = zip(*(columns[name] for name in form.kinds), strict=True)
    records = [dict(zip(form.kinds, row, strict=True)) for row in rows]
    return UploadedTable(columns, records, delimiter)
