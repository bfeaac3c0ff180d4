"""Stream a table's texts into a file of vectors; memory does not grow with the table."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from ..errors import InputError
from ..reports.sidecar import describe_encoder, versions, write_json
from ..tables.cells import texts_of
from ..tables.columns import find_columns
from ..tables.reading import read_blocks
from ..tables.table import Spool, Table, TableFile, quoted, table_format
from ..tables.writing import arrow_table
from ..utils.files import check_can_write, sha256_of_file, writing
from ..vectors.entries import LEFTOVERS_AFTER
from ..vectors.job import block_rows
from ..vectors.results import Reading

if TYPE_CHECKING:
    from ..embed import DistilBertVectorizer

__all__ = [
    "FORMATS",
    "CheckedTable",
    "EmbedResult",
    "ReadOptions",
    "embed_partition",
    "embed_table",
    "partition_targets",
    "validate",
]

FORMATS = (".npy", ".parquet")
VECTOR = "vector"  # the column of vectors in a parquet file
FACTS = b"frozenbert"  # the key of the vectors' description in a parquet file's metadata
VALIDATION_ROWS = 8192  # rows of a block

_Facts = dict[str, Any]  # becomes JSON
_Write = Callable[[pd.DataFrame, np.ndarray], None]


class ReadOptions(TypedDict, total=False):
    """How a table is read; see `read_table` and `find_columns`."""

    header: bool | None
    text_column: str | None
    label_column: str | Sequence[str] | None
    delimiter: str | None


@dataclass(frozen=True, eq=False)
class CheckedTable:
    """A table of texts whose rows `validate` has checked.

    Attributes
    ----------
    first : Table
        Its first rows.
    text_column : str
    n_rows : int
    options : ReadOptions
        The options the caller gave, each at its default if not.
    schema : pyarrow.Schema or None
        The types of its columns in parquet, if those were asked for.
    """

    first: Table
    text_column: str
    n_rows: int
    options: ReadOptions
    schema: pa.Schema | None = None

    def blocks(self, rows: int) -> Iterator[Table]:
        """Read the table again, `rows` rows at a time."""
        left = self.n_rows
        for block in read_blocks(
            self.first.path,
            rows,
            header=self.first.header,
            columns=[self.text_column],
            delimiter=self.first.delimiter,
        ):
            yield block.head(left)
            left -= len(block.lines)
            if left <= 0:
                return


@dataclass(frozen=True)
class EmbedResult:
    """How many vectors were written for a table, and how long it took.

    Attributes
    ----------
    n_texts, n_truncated, n_features : int
    seconds : float
    skipped : bool
        Whether the vectors already existed.
    """

    n_texts: int
    n_truncated: int
    n_features: int
    seconds: float
    skipped: bool = False


def validate(
    path: str | os.PathLike[str],
    *,
    header: bool | None = None,
    text_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    delimiter: str | None = None,
    limit: int | None = None,
    for_parquet: bool = False,
) -> CheckedTable:
    r"""Find the texts of a table, and check and count all rows before hours are spent on them.

    Parameters
    ----------
    path : str or path-like
        As for `read_table`.
    header, text_column, label_column, delimiter
        As for `read_table` and `find_columns`.
    limit : int or None
        The number of rows to use, from the first; by default all.
    for_parquet : bool
        Whether the columns are to be written beside the vectors in a parquet file.

    Returns
    -------
    CheckedTable

    Raises
    ------
    InputError
        If the table cannot be read, lacks a given column, a text is no string, or parquet
        cannot hold a column.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "reviews.csv"
    >>> _ = file.write_text("text;stars\nA fine, warm film.;5\nDull.;1\n", encoding="utf-8")
    >>> checked = validate(file)
    >>> checked.text_column, checked.n_rows, checked.first.delimiter
    ('text', 2, ';')
    """
    checked = None
    labels = [label_column] if isinstance(label_column, str) else list(label_column or ())
    names = [name for name in (text_column, *labels) if name]
    for block in read_blocks(
        path, VALIDATION_ROWS, header=header, columns=names, delimiter=delimiter
    ):
        left = limit - (checked.n_rows if checked else 0) if limit is not None else len(block.lines)
        block = block.head(left)
        if checked is None:
            texts, _ = find_columns(block, text_column, label_column, need_label=False)
            options = _with_defaults(
                header=header,
                text_column=text_column,
                label_column=label_column,
                delimiter=delimiter,
            )
            checked = CheckedTable(block, texts, 0, options)
        texts_of(_with_texts(block, checked.text_column), checked.text_column)
        schema = _unified_schema(checked, block) if for_parquet else None
        checked = replace(checked, n_rows=checked.n_rows + len(block.lines), schema=schema)
        if checked.n_rows == limit:
            break
    assert checked is not None  # `read_blocks` refuses a table without rows
    return checked


def embed_table(
    vectorizer: DistilBertVectorizer, checked: CheckedTable, out: Path, facts: Mapping[str, Any]
) -> EmbedResult:
    """Write the vectors of a table's texts; the file appears whole or not at all.

    Parameters
    ----------
    vectorizer : DistilBertVectorizer
        Fitted.
    checked : CheckedTable
    out : pathlib.Path
        A `.npy`: float32 (n_rows, n_features), with a `.json` of the same name that
        describes it. A `.parquet`: the table's columns, and `vector` with lists of
        n_features numbers; a row group for each block, and the description as metadata.
    facts : mapping
        Further entries of the description.

    Returns
    -------
    EmbedResult

    Raises
    ------
    InputError
        If the file cannot be written, or the table has lost rows since it was checked.
    """
    started = time.perf_counter()
    rows = block_rows(vectorizer.n_features_out_)
    frames: deque[pd.DataFrame] = deque()
    reading = Reading(vectorizer.max_length_, vectorizer.long_text)
    facts = {**facts, **_describe(vectorizer, checked)}
    writer = _parquet_writer if out.suffix.lower() == ".parquet" else _npy_writer
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with writer(out, checked, vectorizer.n_features_out_, facts) as write:
            for vectors, n_tokens in vectorizer.transform_iter(
                _Texts(checked, rows, frames), block_size=rows, return_n_tokens=True
            ):
                write(frames.popleft(), vectors)
                reading.add(n_tokens)
            if reading.n_texts != checked.n_rows:
                raise InputError(
                    f"{checked.first.path}: had {checked.n_rows:,} rows and now has "
                    f"{reading.n_texts:,}: it changed while it was read. Start again; cached "
                    f"vectors are not computed again."
                )
            facts["n_truncated"], facts["unread"] = reading.n_truncated, reading.unread
    except InputError:
        raise  # an EncoderNotFoundError is an OSError too
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error}).") from error
    _remove_leftovers(out)
    seconds = time.perf_counter() - started
    return EmbedResult(reading.n_texts, reading.n_truncated, vectorizer.n_features_out_, seconds)


def embed_partition(
    vectorizer: DistilBertVectorizer, path: Path, out: Path, **options: Unpack[ReadOptions]
) -> EmbedResult:
    """Write the vectors of one table of several, unless they already exist.

    Parameters
    ----------
    vectorizer : DistilBertVectorizer
        Fitted.
    path, out : pathlib.Path
        The table, and a `.parquet`.
    **options
        `header`, `text_column`, `label_column` and `delimiter` as for `validate`.

    Returns
    -------
    EmbedResult

    Raises
    ------
    InputError
        If `out` holds the vectors of another table, of other options or of another
        encoder, or as by `validate` and `embed_table`.
    """
    check_can_write(out)
    if not out.exists():
        checked = validate(path, for_parquet=True, **options)
        try:
            result = embed_table(vectorizer, checked, out, {})
        except InputError:
            if not out.exists():
                raise
            # Another process was faster, and has removed this one's temporary file.
        else:
            _remove_leftovers(out, 0)  # of a worker that was killed
            return result
    facts, n_rows = _read_facts(out)
    data, encoder = facts.get("data") or {}, facts.get("encoder") or {}
    differs = {
        "table": data.get("sha256") != sha256_of_file(path),
        "column, header or delimiter": _with_defaults(**(data.get("asked") or {}))
        != _with_defaults(**options),
        "encoder or setting": _of_content(encoder) != _of_content(describe_encoder(vectorizer)),
    }
    for what in differs:
        if differs[what]:
            raise InputError(
                f"{out} already exists, with vectors from another {what}; name another output, or "
                f"remove it.",
                parameter="out",
            )
    n_features = vectorizer.n_features_out_
    return EmbedResult(n_rows, facts["n_truncated"], n_features, 0.0, skipped=True)


def _describe(vectorizer: DistilBertVectorizer, checked: CheckedTable) -> _Facts:
    return {
        "data": {
            "file": checked.first.path.name,
            "sha256": _sha256(checked.first.path),
            "text_column": checked.text_column,
            "asked": checked.options,
        },
        "encoder": describe_encoder(vectorizer),
        "n_texts": checked.n_rows,
        "versions": versions(),
    }


def _sha256(path: TableFile) -> str:
    if not isinstance(path, Spool):
        return sha256_of_file(path)
    digest = hashlib.sha256()
    with path.open() as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _with_defaults(**options: Unpack[ReadOptions]) -> ReadOptions:
    labels = options.get("label_column")
    return {
        "header": options.get("header"),
        "text_column": options.get("text_column"),
        # A list, as JSON returns it.
        "label_column": labels if labels is None or isinstance(labels, str) else list(labels),
        "delimiter": options.get("delimiter"),
    }


def _of_content(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what does not shape vectors, and the encoder's place: its hash identifies it."""
    others = ("name", "source", "revision", "precision_trials")
    return {k: v for k, v in encoder.items() if k not in others}


def _remove_leftovers(out: Path, age: float = LEFTOVERS_AFTER) -> None:
    """Remove the temporary files of killed processes that were writing the same file."""
    name = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-f]{{12}}\.tmp")
    for path in out.parent.iterdir():
        with contextlib.suppress(OSError):
            if name.fullmatch(path.name) and time.time() - path.stat().st_mtime >= age:
                path.unlink()


def partition_targets(paths: list[Path], out: Path) -> dict[Path, Path]:
    """Return the file in folder `out` for the vectors of each table.

    Raises
    ------
    InputError
        If two tables would share a file, or a table would be overwritten.
    """
    tables: dict[Path, Path] = {}
    for path in paths:
        table_format(path)
        stem = path.name.removesuffix(".gz")
        target = out / f"{stem[: stem.rindex('.')]}.parquet"
        if target in tables:
            raise InputError(f"{tables[target]} and {path} would both be written to {target}.")
        if target.absolute() == path.absolute():
            raise InputError(
                f"{path} would be overwritten by its own vectors; name another folder.",
                parameter="out",
                value=str(out),
            )
        tables[target] = path
    return {path: target for target, path in tables.items()}


class _Texts(Iterator[str]):
    """Iterates over a table's texts, and queues each block's rows for the writer."""

    def __init__(self, checked: CheckedTable, rows: int, frames: deque[pd.DataFrame]) -> None:
        self._length = checked.n_rows
        self._texts = self._read(checked, rows, frames)

    @staticmethod
    def _read(checked: CheckedTable, rows: int, frames: deque[pd.DataFrame]) -> Iterator[str]:
        for block in checked.blocks(rows):
            block = _with_texts(block, checked.text_column)
            frames.append(block.frame)
            yield from texts_of(block, checked.text_column)

    def __next__(self) -> str:
        return next(self._texts)

    def __length_hint__(self) -> int:
        return self._length


def _with_texts(block: Table, column: str) -> Table:
    # A whole block of jsonl may lack the key; `texts_of` then reports a null text.
    if column in block.columns:
        return block
    return replace(block, columns=block.frame.assign(**{column: None}))


def _unified_schema(checked: CheckedTable, block: Table) -> pa.Schema:
    """Return the types that the columns of all blocks so far have in common."""
    path = checked.first.path
    if VECTOR in block.columns:
        raise InputError(
            f"{path}: already has a column {VECTOR!r}, which the vectors would overwrite: rename "
            f"it, or write a .npy."
        )
    schema = arrow_table(block.frame, path).schema.remove_metadata()
    if checked.schema is None:
        return schema
    try:
        return pa.unify_schemas([checked.schema, schema], promote_options="permissive")
    except pa.ArrowException:
        # Arrow's own message may quote a cell.
        names = [n for n in schema.names if n in checked.schema.names]
        differ = [n for n in names if schema.field(n).type != checked.schema.field(n).type]
        raise InputError(
            f"{path}: parquet cannot hold column {quoted(differ[0])}, whose values have several "
            f"types; make them one, or leave the column out."
        ) from None


@contextlib.contextmanager
def _npy_writer(
    out: Path, checked: CheckedTable, n_features: int, facts: _Facts
) -> Iterator[_Write]:
    header = {"descr": "<f4", "fortran_order": False, "shape": (checked.n_rows, n_features)}
    with writing(out) as temporary, writing(out.with_suffix(".json")) as beside:
        with open(temporary, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)

            def write(frame: pd.DataFrame, vectors: np.ndarray) -> None:
                file.write(np.ascontiguousarray(vectors, dtype="<f4").data)

            yield write
        write_json(facts, beside)


@contextlib.contextmanager
def _parquet_writer(
    out: Path, checked: CheckedTable, n_features: int, facts: _Facts
) -> Iterator[_Write]:
    columns = checked.schema
    assert columns is not None  # `validate` was called for parquet
    path = checked.first.path
    schema = columns.append(pa.field(VECTOR, pa.list_(pa.float32(), n_features)))
    with (
        writing(out) as temporary,
        pa.parquet.ParquetWriter(
            temporary,
            schema,
            # A dictionary of numbers that hardly repeat would only take time.
            use_dictionary=columns.names,
            write_page_checksum=True,
        ) as file,
    ):

        def write(frame: pd.DataFrame, vectors: np.ndarray) -> None:
            frame = frame.reindex(columns=columns.names)
            try:
                table = arrow_table(frame, path).cast(columns)
            except pa.ArrowException:  # its message may quote a cell
                raise InputError(
                    f"{path}: the values of a column have several types, which parquet cannot "
                    f"hold as one without loss; make them one, or leave the column out."
                ) from None
            lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), n_features)
            table = table.append_column(schema.field(VECTOR), lists)
            file.write_table(table, row_group_size=len(table))

        yield write
        file.add_key_value_metadata({FACTS: json.dumps(facts)})


def _read_facts(path: Path) -> tuple[_Facts, int]:
    """Read the description of a parquet file's vectors; empty if the file has none."""
    try:
        metadata = pa.parquet.read_metadata(path)
        facts = json.loads((metadata.metadata or {})[FACTS])
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return {}, 0
    return (facts, metadata.num_rows) if isinstance(facts, dict) else ({}, 0)
