"""Turn the options of a command into tables, labels, encoder settings and loaded models."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Required, TypeAlias, TypedDict

import numpy as np
from sklearn.base import BaseEstimator

from ..embed import DistilBertVectorizer
from ..encoders.sources import DEFAULT_ENCODER, find_default_encoder
from ..errors import InputError
from ..heads.columns.kinds import KINDS, find_kinds, parse_columns
from ..heads.numeric.tasks import check_target, find_task
from ..tables.cells import (
    are_numbers,
    has_lists,
    label_sets_of,
    labels_of,
    numbers_of,
    probabilities_of,
    texts_of,
    unknown_label,
)
from ..tables.columns import check_label_column, find_columns, warn_of_numbers
from ..tables.reading import read_table
from ..tables.table import Table, list_columns
from ..utils.files import check_can_write
from ..utils.steps import find_steps
from .arguments import DEFAULT_CACHE

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "SETTINGS",
    "EncoderSettings",
    "Labels",
    "Rows",
    "cache_dir",
    "check_not_an_input",
    "check_output",
    "encoder_name",
    "encoder_settings",
    "label_columns",
    "move_here",
    "read_columns",
    "read_probabilities",
    "read_rows",
    "read_table_of",
    "read_test_rows",
    "read_texts",
]

# One class for each text; or a column of numbers for each label.
Labels: TypeAlias = "np.ndarray | pd.DataFrame"

INPUTS = ("data", "test", "valid", "unlabelled", "encoder", "model", "encoder_path")
SETTINGS = (
    "revision",
    "pooling",
    "layers",
    "max_length",
    "long_text",
    "precision",
    "backend",
    "device",
    "prompt",
    "normalize",
    "truncate_dim",
)


class EncoderSettings(TypedDict, total=False):
    """Parameters of `DistilBertVectorizer` that options set."""

    model_name: Required[str]
    revision: str
    pooling: str | tuple[str, ...]
    layers: int | tuple[int, ...] | str
    max_length: int
    long_text: str
    precision: str
    backend: str
    device: str
    prompt: str
    normalize: bool
    truncate_dim: int
    local_files_only: Required[bool]
    allow_remote: Required[bool]
    cache_dir: Required[str | Path | None]


@dataclass(frozen=True, eq=False)
class Rows:
    """A table with its columns found and its cells checked.

    Attributes
    ----------
    table : Table
    text_column : str
    label_column : str or sequence of str
        Several contain numbers, one column for each label or class.
    texts : list of str
    labels : numpy.ndarray of shape (n_rows,) or pandas.DataFrame of shape (n_rows, n_labels)
    task : {"classification", "regression", "ordinal"}
    frame : pandas.DataFrame or None
        The columns that a model of several columns reads.
    kinds : dict of str to list of str, or None
        Their names by their kind.
    """

    table: Table
    text_column: str
    label_column: str | Sequence[str]
    texts: list[str]
    labels: Labels
    task: str = "classification"
    frame: pd.DataFrame | None = None
    kinds: Mapping[str, list[str]] | None = None

    def take(self, places: Sequence[int], labels: Labels) -> Rows:
        """Return some of the rows, with their labels; the table keeps their line numbers alone."""
        table = replace(self.table, columns={}, lines=[self.table.lines[i] for i in places])
        texts = [self.texts[i] for i in places]
        frame = None if self.frame is None else self.frame.iloc[list(places)]
        return replace(self, table=table, texts=texts, labels=labels, frame=frame)


def check_output(arguments: argparse.Namespace, option: str, *paths: Path) -> None:
    """Raise `InputError` if an output cannot be written, or would overwrite an input.

    Parameters
    ----------
    arguments : argparse.Namespace
    option : str
        The option that names the output, such as "out".
    *paths : pathlib.Path
        The files that are written because of it; by default the one that it names. A link to
        an input, or another spelling of its name, is that input.

    Raises
    ------
    InputError
    """
    for path in paths or (Path(getattr(arguments, option)),):
        if path.is_dir():
            raise InputError("is a folder; name a file.", parameter=option, value=path)
        check_can_write(path)
        check_not_an_input(arguments, option, path)


def check_not_an_input(arguments: argparse.Namespace, option: str, path: Path) -> None:
    """Raise `InputError` if a command reads what it would overwrite.

    Parameters
    ----------
    arguments, option
        As for `check_output`.
    path : pathlib.Path
        The file or folder that is written.
    """
    for name in INPUTS:
        source = getattr(arguments, name, None)
        if source is not None and path.exists() and Path(source).exists() and path.samefile(source):
            raise InputError(
                f"--{name.replace('_', '-')} {source} reads the same file, which would be "
                f"overwritten; name another one.",
                parameter=option,
                value=path,
            )


def label_columns(arguments: argparse.Namespace) -> str | list[str] | None:
    """Return the column of labels, or several."""
    columns: list[str] | None = arguments.label_column
    return columns[0] if columns and len(columns) == 1 else columns


def read_rows(arguments: argparse.Namespace, path: str) -> Rows:
    """Read a table of texts and labels to train on."""
    table = _read(arguments, path, [arguments.text_column, *(arguments.label_column or ())])
    if arguments.limit is not None:
        table = table.head(arguments.limit)
    text, label = find_columns(
        table, arguments.text_column, label_columns(arguments), need_label=True
    )
    assert label is not None  # because it is needed
    labels, task = _target(arguments, table, label)
    texts = texts_of(table, text)
    if isinstance(label, str) and isinstance(labels, np.ndarray) and task == "classification":
        check_label_column(table, text, label, labels.tolist())
    warn_of_numbers(table, text, texts)
    return Rows(table, text, label, texts, labels, task)


def read_columns(arguments: argparse.Namespace, path: str) -> tuple[Rows, dict[str, str]]:
    """Read a table to train a model of several columns on.

    Returns
    -------
    rows : Rows
    left_out : dict of str to str
        With `--columns all`, the columns that are not used, and why.
    """
    asked = {kind: list(getattr(arguments, f"{kind}_column") or ()) for kind in KINDS}
    label = label_columns(arguments)
    if not isinstance(label, str):
        raise InputError(
            "name the one column to predict, beside several columns.", parameter="label_column"
        )
    table = _read(arguments, path, [label, *(name for names in asked.values() for name in names)])
    if arguments.limit is not None:
        table = table.head(arguments.limit)
    table.check_name(label, "label_column")
    for kind, names in asked.items():
        for name in names:
            table.check_name(name, f"{kind}_column")
            if name == label:
                raise InputError("is the label.", parameter=f"{kind}_column", value=name)
    labels, task = _target(arguments, table, label)
    frame = table.frame.drop(columns=label)
    left_out: dict[str, str] = {}
    if arguments.columns == "all":
        named = [name for names in asked.values() for name in names]
        found, left_out = find_kinds(frame.drop(columns=named), np.asarray(labels))
        asked = {kind: [*asked[kind], *found[kind]] for kind in KINDS}
    if not asked["text"]:
        raise InputError(
            f"{table.path}: which columns hold the texts? Name them; {list_columns(table)}.",
            parameter="text_column",
        )
    parse_columns(asked)
    texts = [str(place) for place in range(len(frame))]  # stand for the rows
    rows = Rows(table, asked["text"][0], label, texts, labels, task, frame, asked)
    return rows, left_out


def read_test_rows(arguments: argparse.Namespace, path: str, known: Rows) -> Rows:
    """Read rows to evaluate on: same columns as the training rows, and no other labels."""
    text, label = known.text_column, known.label_column
    columns = [label] if isinstance(label, str) else [*label]
    table = _read(arguments, path, [text, *columns])
    find_columns(table, text, label, need_label=True)
    if known.frame is not None:
        texts = [str(place) for place in range(len(table.lines))]
        numbers_or_classes = _known_labels(table, label, texts, known)
        return replace(numbers_or_classes, frame=table.frame, kinds=known.kinds)
    texts = texts_of(table, text)
    if not isinstance(known.labels, np.ndarray):
        names = known.labels.columns.tolist()
        labels = label_sets_of(table, label, arguments.label_separator, names)
        return Rows(table, text, label, texts, labels)
    return _known_labels(table, label, texts, known)


def _known_labels(table: Table, label: str | Sequence[str], texts: list[str], known: Rows) -> Rows:
    """Return rows whose labels are all among those of the training rows."""
    assert isinstance(label, str)  # several columns make a DataFrame
    assert isinstance(known.labels, np.ndarray)
    text = known.text_column
    if known.task != "classification":
        numbers = numbers_of(table, label)
        if known.task == "ordinal":
            new = np.flatnonzero(~np.isin(numbers, known.labels))
            if len(new):
                grades = [f"{grade:g}" for grade in np.unique(known.labels)]
                raise unknown_label(table, int(new[0]), f"{numbers[new[0]]:g}", grades)
        return Rows(table, text, label, texts, numbers.astype(known.labels.dtype), known.task)
    classes = {str(label): label for label in known.labels.tolist()}
    found = []
    for row, value in enumerate(labels_of(table, label).tolist()):
        if str(value) not in classes:
            raise unknown_label(table, row, value, sorted(classes))
        found.append(classes[str(value)])
    return Rows(table, text, label, texts, np.array(found, dtype=known.labels.dtype))


def read_probabilities(
    arguments: argparse.Namespace, path: str, text_column: str | None = None
) -> Rows:
    """Read a table of texts and of the probabilities of their classes.

    Parameters
    ----------
    arguments : argparse.Namespace
    path : str
    text_column : str, optional
        That of the training rows, for a table to validate on.
    """
    columns: list[str] = arguments.soft_label_column
    asked = text_column or arguments.text_column
    table = _read(arguments, path, [asked, *columns])
    if arguments.limit is not None and text_column is None:  # rows to train on
        table = table.head(arguments.limit)
    text, _ = find_columns(table, asked, columns, need_label=True)
    return Rows(table, text, columns, texts_of(table, text), probabilities_of(table, columns))


def read_texts(
    arguments: argparse.Namespace,
    path: str | os.PathLike[str],
    expected: str | None,
    label_column: str | Sequence[str] | None = None,
) -> tuple[Table, str, list[str]]:
    """Read a table of texts alone.

    Parameters
    ----------
    arguments : argparse.Namespace
    path : str, or path-like such as `frozenbert.tables.table.Spool`
    expected : str or None
        The column to use if the table has it and `--text-column` names no other.
    label_column : str or sequence of str, optional
        Columns that do not contain texts.

    Returns
    -------
    table : Table
    text_column : str
    texts : list of str
    """
    table = _read(arguments, path, [arguments.text_column or expected])
    column = arguments.text_column
    if column is None and expected in table.columns:
        column = expected
    column, _ = find_columns(table, column, label_column, need_label=False)
    texts = texts_of(table, column)
    warn_of_numbers(table, column, texts)
    return table, column, texts


def read_table_of(
    arguments: argparse.Namespace, path: str | os.PathLike[str], columns: Sequence[str]
) -> Table:
    """Read a table of the columns that a model reads; raise `InputError` if one is missing."""
    table = _read(arguments, path, columns)
    for name in columns:
        table.check_name(name)
    return table


def _read(
    arguments: argparse.Namespace, path: str | os.PathLike[str], columns: Iterable[str | None]
) -> Table:
    return read_table(
        path,
        header=arguments.header,
        columns=[name for name in columns if name],
        delimiter=arguments.delimiter,
    )


def _target(
    arguments: argparse.Namespace, table: Table, columns: str | Sequence[str]
) -> tuple[Labels, str]:
    """Return what is to be predicted, and the task; `--task auto` looks at the cells."""
    task = getattr(arguments, "task", "classification")
    separator = getattr(arguments, "label_separator", None)
    if not isinstance(columns, str) or separator is not None:
        if task in ("regression", "ordinal"):
            raise InputError(
                "requires one column of numbers, without a separator.", parameter="task", value=task
            )
        return _labels(arguments, table, columns), "classification"
    if task == "auto":
        numeric = not has_lists(table, columns) and are_numbers(table, columns)
        task = find_task(numbers_of(table, columns)) if numeric else "classification"
    if task == "classification":
        return _labels(arguments, table, columns), task
    return check_target(numbers_of(table, columns), task), task


def _labels(arguments: argparse.Namespace, table: Table, columns: str | Sequence[str]) -> Labels:
    """Return an array of classes; or, of several labels a text, columns of 0 and 1."""
    separator = getattr(arguments, "label_separator", None)
    if separator == "":
        raise InputError(
            "is empty; give the characters between two labels, such as '|'.",
            parameter="label_separator",
        )
    if not isinstance(columns, str):
        if separator is not None:
            raise InputError(
                "requires one column of labels, and several are named.",
                parameter="label_separator",
                value=separator,
            )
        return label_sets_of(table, columns)
    if separator is not None or has_lists(table, columns):
        return label_sets_of(table, columns, separator)
    return labels_of(table, columns)


def encoder_settings(arguments: argparse.Namespace) -> tuple[EncoderSettings, str | None]:
    """Return parameters for the vectorizer, and a notice if a default encoder is replaced."""
    name, notice = encoder_name(arguments)
    settings: EncoderSettings = {
        "model_name": name,
        "local_files_only": arguments.offline,
        "allow_remote": arguments.allow_remote,
        "cache_dir": cache_dir(arguments),
    }
    for option in SETTINGS:
        if getattr(arguments, option) is not None:
            settings[option] = getattr(arguments, option)  # type: ignore[literal-required]
    return settings, notice


def encoder_name(arguments: argparse.Namespace) -> tuple[str, str | None]:
    """Return the encoder to use, and a notice if it replaces the default one."""
    if arguments.encoder is not None:
        return arguments.encoder, None
    if arguments.revision is not None:
        return DEFAULT_ENCODER, None  # a revision is of this encoder, and of no other
    files, notice = find_default_encoder(local_files_only=arguments.offline)
    if notice:
        print(notice, file=sys.stderr)
    return files.name, notice


def cache_dir(arguments: argparse.Namespace) -> str | Path | None:
    """Return the folder for vectors, as `DistilBertVectorizer` takes it."""
    if getattr(arguments, "no_cache", False):
        return None
    return "auto" if arguments.cache_dir == "auto" else Path(arguments.cache_dir or DEFAULT_CACHE)


def move_here(
    model: BaseEstimator, arguments: argparse.Namespace, cache: str | Path | None
) -> None:
    """Set a loaded model's encoder path, device and cache to those of this machine.

    Parameters
    ----------
    model : estimator
        Fitted, with any number of vectorizers.
    arguments : argparse.Namespace
        With the options of `frozenbert.cli.arguments.add_model`.
    cache : str, pathlib.Path or None
        As for `DistilBertVectorizer(cache_dir=...)`.
    """
    vectorizers = list(find_steps(model, DistilBertVectorizer))
    several = len({embed.encoder_hash_ for embed in vectorizers}) > 1
    if several and arguments.encoder_path is not None:
        raise InputError(
            "this model has several encoders, one for each expert; put their folders beside the "
            "model, or into $FROZENBERT_ENCODERS.",
            parameter="encoder_path",
            value=arguments.encoder_path,
        )
    settings: dict[str, object] = {
        "cache_dir": cache,
        "local_files_only": arguments.offline,
        "allow_remote": arguments.allow_remote,
    }
    if arguments.encoder_path is not None:
        settings["model_name"] = arguments.encoder_path
    if arguments.device is not None:
        settings["device"] = arguments.device
    for embed in vectorizers:
        embed.set_params(**settings)
