"""From the commands' options to tables, labels and an encoder's settings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..encoders.sources import DEFAULT_ENCODER, find_default_encoder
from ..errors import InputError
from ..tables.cells import (
    has_lists,
    label_sets_of,
    labels_of,
    probabilities_of,
    texts_of,
    unknown_label,
)
from ..tables.columns import find_columns
from ..tables.reading import read_table
from ..utils.files import check_can_write
from .arguments import DEFAULT_CACHE

if TYPE_CHECKING:
    from ..tables.table import Table

__all__ = [
    "SHAPING",
    "cache_dir",
    "check_can_write_file",
    "encoder_name",
    "encoder_settings",
    "label_columns",
    "read_labels",
    "read_rows",
    "read_soft_rows",
    "read_test_rows",
]

# `--pooling mean` is a parameter of the vectorizer, and for `classify` part of the model.
SHAPING = ("revision", "pooling", "layers", "max_length", "long_text", "precision")


def check_can_write_file(path: Path) -> None:
    """Raise `InputError` if `--out` is no file that can be written."""
    if path.is_dir():
        raise InputError(f"--out: {path} is a folder; a file's name is needed.")
    check_can_write(path)


def label_columns(arguments: argparse.Namespace) -> str | list[str] | None:
    """Return the column of labels, or several."""
    columns: list[str] | None = arguments.label_column
    return columns[0] if columns and len(columns) == 1 else columns


def read_labels(arguments: argparse.Namespace, table: Table, columns: str | Sequence[str]) -> Any:
    """Return an array of classes, or many labels a text as columns of 0 and 1."""
    separator = arguments.label_separator
    if separator == "":
        raise InputError("--label-separator: is empty; give what stands between labels: '|'.")
    if not isinstance(columns, str):
        if separator is not None:
            raise InputError("--label-separator: goes with one --label-column, not with several.")
        return label_sets_of(table, columns)
    if separator is not None or has_lists(table, columns):
        return label_sets_of(table, columns, separator)
    return labels_of(table, columns)


def read_rows(
    arguments: argparse.Namespace, path: Path, need_label: bool
) -> tuple[Table, str, str | Sequence[str] | None]:
    """Read a table; return it with the names of its columns of texts and of labels."""
    text, label = arguments.text_column, label_columns(arguments)
    named = [name for name in (text, *(arguments.label_column or ())) if name]
    table = read_table(path, header=arguments.header, columns=named)
    if arguments.limit is not None:
        table = table.head(arguments.limit)
    return table, *find_columns(table, text, label, need_label=need_label)


def read_test_rows(
    arguments: argparse.Namespace,
    path: str,
    text_column: str,
    label_column: str | Sequence[str],
    known: Any,
) -> tuple[Table, list[str], Any]:
    """Read the rows to measure on; their labels have to be among those trained on."""
    columns = [label_column] if isinstance(label_column, str) else [*label_column]
    table = read_table(path, header=arguments.header, columns=[text_column, *columns])
    find_columns(table, text_column, label_column, need_label=True)
    if np.ndim(known) == 2:
        names = known.columns.tolist()
        sets = label_sets_of(table, label_column, arguments.label_separator, names)
        return table, texts_of(table, text_column), sets
    assert isinstance(label_column, str)
    classes = {str(label): label for label in known.tolist()}
    labels = []
    for row, label in enumerate(labels_of(table, label_column).tolist()):
        if str(label) not in classes:
            raise unknown_label(table, row, label, sorted(classes))
        labels.append(classes[str(label)])
    return table, texts_of(table, text_column), np.array(labels, dtype=known.dtype)


def read_soft_rows(
    arguments: argparse.Namespace, path: str, text_column: str | None = None
) -> tuple[Table, str, pd.DataFrame]:
    """Read a table with the probabilities of the classes; return its column of texts, and them."""
    columns = arguments.soft_label_column
    asked = text_column or arguments.text_column
    table = read_table(path, header=arguments.header, columns=[c for c in (asked, *columns) if c])
    if arguments.limit is not None and text_column is None:  # rows to train on
        table = table.head(arguments.limit)
    found, _ = find_columns(table, asked, columns, need_label=True)
    return table, found, probabilities_of(table, columns)


def encoder_settings(arguments: argparse.Namespace) -> tuple[dict[str, Any], str | None]:
    """Return parameters for the vectorizer, and why the encoder is not the default one."""
    name, notice = encoder_name(arguments)
    settings = {
        name: getattr(arguments, name)
        for name in (*SHAPING, "backend", "device")
        if getattr(arguments, name) is not None
    }
    settings["local_files_only"] = arguments.offline
    settings["cache_dir"] = cache_dir(arguments)
    return {"model_name": name, **settings}, notice


def encoder_name(arguments: argparse.Namespace) -> tuple[str, str | None]:
    """Return the encoder to use, and why it is not the default one."""
    if arguments.model is not None:
        return arguments.model, None
    if arguments.revision is not None:
        return DEFAULT_ENCODER, None  # it was asked for, so nothing may stand in for it
    files, notice = find_default_encoder(local_files_only=arguments.offline)
    if notice:
        print(notice, file=sys.stderr)
    return files.name, notice


def cache_dir(arguments: argparse.Namespace) -> str | Path | None:
    """Return where vectors are kept, as the vectorizer takes it."""
    if arguments.no_cache:
        return None
    return "auto" if arguments.cache_dir == "auto" else Path(arguments.cache_dir or DEFAULT_CACHE)
