"""From a table file to a file of vectors, block by block: memory does not grow with the table."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from ..errors import InputError
from ..reports.sidecar import describe_encoder, versions, write_json
from ..tables.columns import find_columns, shown, texts_of
from ..tables.reading import Table, arrow_table, read_blocks, table_format
from ..utils.files import sha256_of_file, writing
from ..vectors.cache import LEFTOVERS_AFTER
from ..vectors.job import Reading, block_rows

if TYPE_CHECKING:
    from ..embed import DistilBertVectorizer

__all__ = [
    "FORMATS",
    "Source",
    "Written",
    "embed_partition",
    "embed_table",
    "partition_targets",
    "validate",
]

FORMATS = (".npy", ".parquet")
VECTOR = "vector"  # its column in a parquet file
FACTS = b"frozenbert"  # what the vectors are, in a parquet file's metadata
ROWS = 8192  # of a block on the first look

_Write = Callable[[pd.DataFrame, np.ndarray], None]


@dataclass(frozen=True, eq=False)
class Source:
    """A table of texts, looked through once.

    Attributes
    ----------
    first : Table
        Its first rows.
    text_column : str
    n_rows : int
    asked : dict
        What was asked for of `header`, `text_column` and `label_column`.
    schema : pyarrow.Schema or None
        What its columns are in parquet, if that was asked for.
    """

    first: Table
    text_column: str
    n_rows: int
    asked: dict[str, Any]
    schema: pa.Schema | None = None

    def blocks(self, rows: int) -> Iterator[Table]:
        """Read it again, so many rows at a time."""
        left = self.n_rows
        for block in read_blocks(
            self.first.path, rows, header=self.first.header, columns=[self.text_column]
        ):
            yield block.head(left)
            left -= len(block.frame)
            if left <= 0:
                return


@dataclass(frozen=True)
class Written:
    """What became of a table.

    Attributes
    ----------
    n_texts, n_truncated, n_features : int
    seconds : float
    skipped : bool
        Whether its vectors stood there already.
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
    limit: int | None = None,
    for_parquet: bool = False,
) -> Source:
    """Find the texts of a table, and check and count all rows before hours are spent on them.

    Parameters
    ----------
    path : str or path-like
        As for `read_table`.
    header, text_column, label_column
        As for `read_table` and `find_columns`.
    limit : int or None
        Leave out all rows after so many.
    for_parquet : bool
        Whether the columns are to stand beside the vectors in a parquet file.

    Raises
    ------
    InputError
        If a row or a text is not as it should be, or a column cannot stand in parquet.
    """
    source = None
    labels = [label_column] if isinstance(label_column, str) else list(label_column or ())
    names = [name for name in (text_column, *labels) if name]
    for block in read_blocks(path, ROWS, header=header, columns=names):
        left = limit - (source.n_rows if source else 0) if limit is not None else len(block.frame)
        block = block.head(left)
        if source is None:
            found, _ = find_columns(block, text_column, label_column, need_label=False)
            asked = _asked(header=header, text_column=text_column, label_column=label_column)
            source = Source(block, found, 0, asked)
        texts_of(_with_texts(block, source.text_column), source.text_column)
        schema = _unified(source, block) if for_parquet else None
        source = replace(source, n_rows=source.n_rows + len(block.frame), schema=schema)
        if source.n_rows == limit:
            break
    assert source is not None  # a table without rows is an error above
    return source


def embed_table(
    vectorizer: DistilBertVectorizer, source: Source, out: Path, facts: dict[str, Any]
) -> Written:
    """Write the vectors of a table's texts, whole or not at all.

    Parameters
    ----------
    vectorizer : DistilBertVectorizer
        Fitted.
    source : Source
    out : pathlib.Path
        A `.npy`: float32 (n_rows, n_features). A `.parquet`: the table's columns, and
        `vector` with lists of that length; a row group for each block.
    facts : dict
        More to be said in the JSON that goes beside a `.npy`, and into a `.parquet`.

    Raises
    ------
    InputError
        If the file cannot be written, or the table lost rows since it was looked through.
    """
    started = time.perf_counter()
    rows = block_rows(vectorizer.n_features_out_)
    frames: deque[pd.DataFrame] = deque()
    reading = Reading(vectorizer.max_length_, vectorizer.long_text)
    facts = {
        **facts,
        "data": {
            "file": source.first.path.name,
            "sha256": sha256_of_file(source.first.path),
            "text_column": source.text_column,
            "asked": source.asked,
        },
        "encoder": describe_encoder(vectorizer),
        "n_texts": source.n_rows,
        "versions": versions(),
    }
    opened = _parquet if out.suffix.lower() == ".parquet" else _npy
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with opened(out, source, facts) as write:
            for vectors, n_tokens in vectorizer.transform_iter(
                _Texts(source, rows, frames), block_size=rows, return_n_tokens=True
            ):
                write(frames.popleft(), vectors)
                reading.add(n_tokens)
            if reading.n_texts != source.n_rows:
                raise InputError(
                    f"{source.first.path}: had {source.n_rows:,} rows and now has "
                    f"{reading.n_texts:,}: it changed while it was read. Start again; cached "
                    f"vectors are kept."
                )
            facts["n_truncated"], facts["unread"] = reading.n_truncated, reading.unread
    except InputError:
        raise  # that the encoder is not found is an OSError, too
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error}).") from error
    _remove_leftovers(out)
    seconds = time.perf_counter() - started
    return Written(reading.n_texts, reading.n_truncated, vectorizer.n_features_out_, seconds)


def embed_partition(
    vectorizer: DistilBertVectorizer, path: Path, out: Path, **columns: Any
) -> Written:
    """Write the vectors of one table of many, unless they stand there already.

    Parameters
    ----------
    vectorizer : DistilBertVectorizer
        Fitted.
    path, out : pathlib.Path
        The table, and a `.parquet`.
    **columns
        `header`, `text_column`, `label_column` as for `validate`.

    Raises
    ------
    InputError
        If `out` holds the vectors of another table, other columns or another encoder, or
        as by `validate` and `embed_table`.
    """
    if not out.exists():
        source = validate(path, for_parquet=True, **columns)
        try:
            written = embed_table(vectorizer, source, out, {})
        except InputError:
            if not out.exists():
                raise
            # Somebody else was faster, and has removed what was written here.
        else:
            _remove_leftovers(out, 0)  # of a worker that was killed
            return written
    facts, n_rows = _facts_of(out)
    data = facts.get("data", {})
    differs = {
        "table": data.get("sha256") != sha256_of_file(path),
        "column or header": data.get("asked") != _asked(**columns),
        "encoder or setting": _shaping(facts.get("encoder", {}))
        != _shaping(describe_encoder(vectorizer)),
    }
    for what in differs:
        if differs[what]:
            raise InputError(
                f"{out}: stands there already, from another {what}; name another --out, or remove "
                f"it."
            )
    return Written(n_rows, facts["n_truncated"], vectorizer.n_features_out_, 0.0, skipped=True)


def _asked(**columns: Any) -> dict[str, Any]:
    return {name: columns.get(name) for name in ("header", "text_column", "label_column")}


def _shaping(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out where an encoder was found: its content tells."""
    return {k: v for k, v in encoder.items() if k not in ("name", "source", "revision")}


def _remove_leftovers(out: Path, age: float = LEFTOVERS_AFTER) -> None:
    """Remove what killed processes left that were writing the same file."""
    name = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-f]{{12}}\.tmp")
    for path in out.parent.iterdir():
        with contextlib.suppress(OSError):
            if name.fullmatch(path.name) and time.time() - path.stat().st_mtime >= age:
                path.unlink()


def partition_targets(paths: list[Path], out: Path) -> dict[Path, Path]:
    """Name the file in folder `out` for the vectors of each table.

    Raises
    ------
    InputError
        If two tables would get one.
    """
    tables: dict[Path, Path] = {}
    for path in paths:
        table_format(path)
        stem = path.name.removesuffix(".gz")
        target = out / f"{stem[: stem.rindex('.')]}.parquet"
        if target in tables:
            raise InputError(f"{tables[target]} and {path} would both be written to {target}.")
        if target.absolute() == path.absolute():
            raise InputError(f"--out {out}: {path} would be written over itself.")
        tables[target] = path
    return {path: target for target, path in tables.items()}


class _Texts(Iterator[str]):
    """The texts of a table, with their number; the rows they stand in are set aside."""

    def __init__(self, source: Source, rows: int, frames: deque[pd.DataFrame]) -> None:
        self._length = source.n_rows
        self._texts = self._read(source, rows, frames)

    @staticmethod
    def _read(source: Source, rows: int, frames: deque[pd.DataFrame]) -> Iterator[str]:
        for block in source.blocks(rows):
            block = _with_texts(block, source.text_column)
            frames.append(block.frame)
            yield from texts_of(block, source.text_column)

    def __next__(self) -> str:
        return next(self._texts)

    def __length_hint__(self) -> int:
        return self._length


def _with_texts(block: Table, column: str) -> Table:
    # In jsonl, a whole block may lack a key; then its texts are null, and the error says so.
    if column in block.frame.columns:
        return block
    return replace(block, frame=block.frame.assign(**{column: None}))


def _unified(source: Source, block: Table) -> pa.Schema:
    path = source.first.path
    if VECTOR in block.frame.columns:
        raise InputError(
            f"{path}: has a column {VECTOR!r} already, which the vectors would overwrite: rename "
            f"it, or write a .npy."
        )
    schema = arrow_table(block.frame, path).schema.remove_metadata()
    if source.schema is None:
        return schema
    try:
        return pa.unify_schemas([source.schema, schema], promote_options="permissive")
    except pa.ArrowException:
        # Arrow's own words may quote a cell.
        names = [n for n in schema.names if n in source.schema.names]
        differ = [n for n in names if schema.field(n).type != source.schema.field(n).type]
        raise InputError(
            f"{path}: parquet cannot hold column {shown(differ[0])}, whose values are of several "
            f"types; make them one, or leave the column out."
        ) from None


@contextlib.contextmanager
def _npy(out: Path, source: Source, facts: dict[str, Any]) -> Iterator[_Write]:
    shape = (source.n_rows, facts["encoder"]["n_features"])
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with writing(out) as temporary, writing(out.with_suffix(".json")) as beside:
        with open(temporary, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)

            def write(frame: pd.DataFrame, vectors: np.ndarray) -> None:
                file.write(np.ascontiguousarray(vectors, dtype="<f4").data)

            yield write
        write_json(facts, beside)


@contextlib.contextmanager
def _parquet(out: Path, source: Source, facts: dict[str, Any]) -> Iterator[_Write]:
    assert source.schema is not None
    width = facts["encoder"]["n_features"]
    columns = source.schema
    schema = columns.append(pa.field(VECTOR, pa.list_(pa.float32(), width)))
    with (
        writing(out) as temporary,
        # A dictionary of numbers that hardly come twice would only take time.
        pa.parquet.ParquetWriter(temporary, schema, use_dictionary=columns.names) as file,
    ):

        def write(frame: pd.DataFrame, vectors: np.ndarray) -> None:
            frame = frame.reindex(columns=columns.names)
            try:
                table = arrow_table(frame, source.first.path).cast(columns)
            except pa.ArrowException:  # whose words may quote a cell
                raise InputError(
                    f"{source.first.path}: the values of a column are of several types, which "
                    f"parquet cannot hold as one without loss; make them one, or leave it out."
                ) from None
            lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width)
            table = table.append_column(schema.field(VECTOR), lists)
            file.write_table(table, row_group_size=len(table))

        yield write
        file.add_key_value_metadata({FACTS: json.dumps(facts)})


def _facts_of(path: Path) -> tuple[dict[str, Any], int]:
    """Read what a parquet file says of its vectors; nothing where it is none of ours."""
    try:
        metadata = pa.parquet.read_metadata(path)
        return json.loads((metadata.metadata or {})[FACTS]), metadata.num_rows
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return {}, 0
