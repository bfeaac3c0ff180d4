"""Labelled texts as files: csv and jsonl, and the formats of Label Studio and Argilla."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

from ..errors import InputError
from ..tables.cells import texts_of
from ..tables.columns import find_columns
from ..tables.reading import read_table
from ..tables.table import table_format
from ..tables.writing import write_table
from ..utils.files import writing
from ..utils.texts import is_missing
from .store import Answer

__all__ = [
    "Format",
    "ImportedLabel",
    "LabelledText",
    "defused",
    "read_labels",
    "write_labels",
]

Format: TypeAlias = Literal["table", "label-studio", "argilla"]
Cell: TypeAlias = Any  # what a table or a JSON file may contain

MAX_BYTES = 512 * 2**20
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for a formula
SEPARATOR = "|"  # between several labels in a csv or tsv file
AGENT = "frozenbert"


@dataclass(frozen=True)
class LabelledText:
    """A text with its label, and the answers it follows from.

    Attributes
    ----------
    id, text : str
    labels : list of str
    answers : list of Answer
        Of each annotator the last one; those that skipped are included.
    """

    id: str
    text: str
    labels: list[str]
    answers: list[Answer]

    @property
    def answer(self) -> Answer:
        """The last answer with this label."""
        return max(
            (one for one in self.answers if one.labels == self.labels), key=lambda one: one.answered
        )


@dataclass(frozen=True)
class ImportedLabel:
    """A label from a file.

    Attributes
    ----------
    where : str
        Its place in the file, for messages.
    id : str or None
    text : str
    labels : list of str or None
        None if the text was skipped.
    annotator, answered : str or None
    """

    where: str
    id: str | None
    text: str
    labels: list[str] | None
    annotator: str | None = None
    answered: str | None = None


def write_labels(
    rows: Sequence[LabelledText],
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    multi_label: bool = False,
    raw: bool = False,
) -> None:
    """Write labelled texts to a file, whole or not at all.

    Parameters
    ----------
    rows : sequence of LabelledText
    path : path-like
    format : {"table", "label-studio", "argilla"}, optional
        "table" is a .csv, .tsv, .jsonl or .parquet file with a row for each text: `text`,
        `label`, and who answered, when, and what the model guessed then. "label-studio" is a
        .json file of annotated tasks; "argilla" is a .jsonl file with the columns of Argilla's
        records, which `datasets` reads too. By default "label-studio" for .json, else "table".
    multi_label : bool, default=False
    raw : bool, default=False
        Whether csv and tsv files contain texts as they are, also those that a spreadsheet
        takes for a formula; otherwise these get a quote in front.

    Raises
    ------
    InputError
        If the format is unknown, or the file cannot be written.
    """
    path = Path(path)
    kind = _check_format(path, format)
    if kind == "label-studio":
        tasks = [_task(number, row) for number, row in enumerate(rows, start=1)]
        _write_text(path, json.dumps(tasks, ensure_ascii=False, indent=1) + "\n")
    elif kind == "argilla":
        if path.suffix.lower() not in (".jsonl", ".ndjson"):
            raise InputError(f"{path}: an Argilla file must end in .jsonl.", parameter="path")
        records = (_record(row, multi_label) for row in rows)
        _write_text(path, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records))
    else:
        write_table(_columns(rows, path, multi_label, raw), path)


def _check_format(path: Path, format: str | None) -> Format:
    if format is None:
        return "label-studio" if path.suffix.lower() == ".json" else "table"
    if format not in get_args(Format):
        raise InputError(f"one of {', '.join(get_args(Format))}.", parameter="format", value=format)
    return cast(Format, format)


def _write_text(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as temporary:
            temporary.write_text(content, encoding="utf-8", errors="surrogatepass")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}.") from error


def _columns(
    rows: Sequence[LabelledText], path: Path, multi_label: bool, raw: bool
) -> dict[str, list[Cell]]:
    delimited = table_format(path) in ("csv", "tsv")
    labels: list[Cell] = [row.labels if multi_label else row.labels[0] for row in rows]
    if multi_label and delimited:
        if with_separator := next((one for row in rows for one in row.labels if "|" in one), None):
            raise InputError(
                f"{path}: the label {with_separator!r} contains the {SEPARATOR!r} that separates "
                f"labels: write a .jsonl file."
            )
        labels = [SEPARATOR.join(row.labels) for row in rows]
    columns: dict[str, list[Cell]] = {
        "text": [row.text for row in rows],
        "label": labels,
        "annotator": [row.answer.annotator for row in rows],
        "answered": [row.answer.answered for row in rows],
        "guess": [row.answer.guess for row in rows],
        "probability": [row.answer.probability for row in rows],
        "reason": [row.answer.reason for row in rows],
        "id": [row.id for row in rows],
    }
    if delimited and not raw:
        columns = {name: [defused(cell) for cell in cells] for name, cells in columns.items()}
    return columns


def defused(cell: object) -> object:
    """Return a cell with a quote in front if a spreadsheet would take it for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _task(number: int, row: LabelledText) -> dict[str, Cell]:
    """Return a task of Label Studio, for the labelling interface in the documentation."""

    def choices(labels: Sequence[str]) -> list[dict[str, Cell]]:
        value = {"choices": list(labels)}
        return [{"from_name": "label", "to_name": "text", "type": "choices", "value": value}]

    annotations = [
        {
            "result": [] if one.labels is None else choices(one.labels),
            "was_cancelled": one.labels is None,
            "created_at": one.answered,
            **({} if one.annotator is None else {"created_username": one.annotator}),
        }
        for one in row.answers
    ]
    guess, score = row.answer.guess, row.answer.probability
    guessed = choices([guess] if guess else [])
    predictions = [{"result": guessed, "score": score, "model_version": AGENT}]
    return {
        "id": number,
        "data": {"text": row.text, "frozenbert_id": row.id},
        "annotations": annotations,
        "predictions": predictions if guess else [],
    }


def _record(row: LabelledText, multi_label: bool) -> dict[str, Cell]:
    """Return a record with the columns that Argilla's `records.to_datasets()` makes."""
    answer = row.answer
    answers = [one for one in row.answers if one.labels is not None]
    return {
        "id": row.id,
        "status": "completed",
        "text": row.text,
        "label.responses": [
            one.labels if multi_label else one.labels[0]
            for one in answers
            if one.labels is not None
        ],
        "label.responses.users": [one.annotator or "" for one in answers],
        "label.responses.status": ["submitted"] * len(answers),
        "label.suggestion": [answer.guess] if multi_label and answer.guess else answer.guess,
        "label.suggestion.score": answer.probability,
        "label.suggestion.agent": AGENT if answer.guess else None,
        "answered": answer.answered,
    }


def read_labels(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    multi_label: bool = False,
    text_column: str | None = None,
    label_column: str | None = None,
) -> list[ImportedLabel]:
    """Read labelled texts from a file, of `write_labels` or of others.

    Parameters
    ----------
    path : path-like
    format : {"table", "label-studio", "argilla"}, optional
        By default "label-studio" for .json; "argilla" for a .jsonl file with the column
        `label.responses`; else "table".
    multi_label : bool, default=False
    text_column, label_column : str, optional
        Of a table; by default those with usual names.

    Raises
    ------
    InputError
        If the file is too large, cannot be read, or is malformed.
    """
    path = Path(path)
    kind = _check_format(path, format)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: is larger than {MAX_BYTES // 2**20:,} MB.")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if kind == "label-studio":
        return list(_read_tasks(path, _read_json(path)))
    table = read_table(path, header=True)
    if "label.responses" in table.columns or kind == "argilla":
        texts, answers = texts_of(table, "text"), table.cells("label.responses")
        users = (
            table.cells("label.responses.users") if "label.responses.users" in table.columns else []
        )
        ids = table.cells("id") if "id" in table.columns else [None] * len(texts)
        return [
            label
            for row, text in enumerate(texts)
            for label in _responses(
                table.where(row),
                _string(ids[row]),
                text,
                answers[row],
                users[row] if users else None,
            )
        ]
    text, label = find_columns(table, text_column, label_column, need_label=True)
    texts, cells = texts_of(table, text), table.cells(cast(str, label))

    def column(name: str) -> list[Cell]:
        return table.cells(name) if name in table.columns else [None] * len(texts)

    return [
        ImportedLabel(
            table.where(row),
            _string(id_),
            text,
            _labels(cell, multi_label),
            _string(who),
            _string(when),
        )
        for row, (text, cell, id_, who, when) in enumerate(
            zip(texts, cells, column("id"), column("annotator"), column("answered"), strict=True)
        )
    ]


def _string(cell: object) -> str | None:
    return None if is_missing(cell) or cell == "" else str(cell)


def _labels(cell: object, multi_label: bool) -> list[str]:
    """Return the labels of a cell: a string, a list, or a number."""
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, list):
        return [str(one) for one in cell]
    if is_missing(cell):
        return [""] if not multi_label else []
    label = str(cell)
    if not multi_label:
        return [label]
    return [one.strip() for one in label.split(SEPARATOR)] if label.strip() else []


def _responses(
    where: str, id_: str | None, text: str, answers: object, users: object
) -> Iterator[ImportedLabel]:
    answers = [] if is_missing(answers) else list(cast(Sequence[object], answers))
    names = [] if users is None or is_missing(users) else list(cast(Sequence[object], users))
    for place, answer in enumerate(answers):
        who = _string(names[place]) if place < len(names) else None
        yield ImportedLabel(where, id_, text, _labels(answer, isinstance(answer, list)), who)


def _read_json(path: Path) -> list[Cell]:
    try:
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        place = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"{path}: is no JSON file{place}.") from None
    if not isinstance(tasks, list):
        raise InputError(f"{path}: a list of Label Studio's tasks is expected.")
    return tasks


def _read_tasks(path: Path, tasks: list[Cell]) -> Iterator[ImportedLabel]:
    """Yield the labels of Label Studio's exports JSON and JSON-MIN."""
    for number, task in enumerate(tasks, start=1):
        where = f"{path}, task {number}"
        try:
            yield from _read_task(where, task)
        except (AttributeError, KeyError, TypeError):
            raise InputError(f"{where}: is no task of Label Studio.") from None


def _read_task(where: str, task: Cell) -> Iterator[ImportedLabel]:
    data = task.get("data", task)
    if not isinstance(data.get("text"), str):
        raise InputError(f"{where}: has no text in data.text.")
    id_ = _string(data.get("frozenbert_id"))
    if "annotations" not in task:  # JSON-MIN has one key for each control
        key = next((key for key in ("label", "choice", "sentiment") if key in task), None)
        if key is not None:
            cell = task[key]["choices"] if isinstance(task[key], dict) else task[key]
            yield ImportedLabel(where, id_, data["text"], _labels(cell, isinstance(cell, list)))
        return
    for one in task["annotations"]:
        choices = [
            str(choice)
            for result in one.get("result", [])
            if result.get("type") == "choices"
            for choice in result["value"]["choices"]
        ]
        who = one.get("created_username") or one.get("completed_by")
        who = who.get("email") if isinstance(who, dict) else who
        labels = None if one.get("was_cancelled") else choices
        when = _string(one.get("created_at"))
        yield ImportedLabel(where, id_, data["text"], labels, _string(who), when)
