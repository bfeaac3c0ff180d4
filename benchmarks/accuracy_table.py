"""The table of `accuracy.py`, from the files of its cells."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from classifiers import WAYS
from real import TASKS

from frozenbert.errors import InputError
from frozenbert.utils.files import writing

BEGIN, END = "<!-- accuracy.py --table -->", "<!-- end of the table -->"
QUIET = 0.1  # cores that other processes may use before a time is marked
HEAD = (
    "way",
    "{figure}",
    "95 %",
    "less than the best, points",
    "95 %",
    "s",
    "peak MB",
)

Cell = dict[str, Any]


def read(folder: Path) -> list[Cell]:
    """Return the cells in a folder whose data and way still exist."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [cell for cell in cells if cell["data"] in TASKS and cell["way"] in WAYS]


def to_markdown(cells: list[Cell]) -> str:
    """Return a table for each data set and figure, then where frozenbert loses."""
    if not cells:
        raise InputError("no cell is measured yet.")
    lines: list[str] = []
    lost: list[str] = []
    for data, task in TASKS.items():
        measured = [cell for cell in cells if cell["data"] == data]
        if len({cell["rows"] for cell in measured}) > 1:
            raise InputError(f"{data}: cells of different rows; measure them --again.")
        for figure in task.figures if measured else ():
            lines += [f"### {task.title}: {figure}", "", *_table(measured, figure), ""]
            lost += _lost(data, measured, figure)
        if not any(WAYS[cell["way"]].ours for cell in measured):
            lost.append(f"- {data}: not known, because no row of frozenbert is measured yet.")
    lines += ["### Where frozenbert loses", ""]
    lines += lost or ["Nowhere, in these rows."]
    lines += ["", *_notes(cells)]
    return "\n".join(lines)


def _table(cells: list[Cell], figure: str) -> list[str]:
    """Return rows, the best first; full training sets before draws of few rows."""
    lines = [
        "| " + " | ".join(HEAD).format(figure=figure) + " |",
        "|---" + "|--:" * (len(HEAD) - 1) + "|",
    ]
    best = _best(cells, figure)
    for cell in sorted(cells, key=lambda cell: -cell["figures"][figure]):
        way = WAYS[cell["way"]]
        value = f"{cell['figures'][figure]:.3f}"
        title = f"**{way.title}**" if way.ours else way.title
        columns = [
            title,
            f"**{value}**" if cell is best else value,
            _range(_resampled(cell, figure)),
        ]
        less = ["", ""]
        if cell is not best:
            behind = best["figures"][figure] - cell["figures"][figure]
            less = [f"{100 * behind:.1f}", _range(_difference(best, cell, figure), points=True)]
        lines.append("| " + " | ".join([*columns, *less, _seconds(cell), _peak(cell)]) + " |")
    return lines


def _lost(data: str, cells: list[Cell], figure: str) -> list[str]:
    """Return a line if the best of the others is better than the best of frozenbert's rows."""
    lines = []
    sizes = sorted({WAYS[cell["way"]].per_class for cell in cells} - {None})
    for size in (None, *sizes):
        same = [cell for cell in cells if WAYS[cell["way"]].per_class == size]
        ours, others = (
            [cell for cell in same if WAYS[cell["way"]].ours is own] for own in (True, False)
        )
        if not ours or not others:
            continue
        mine, best = _best(ours, figure), _best(others, figure)
        behind = best["figures"][figure] - mine["figures"][figure]
        if behind <= 0:
            continue
        low, high = np.quantile(_difference(best, mine, figure), [0.025, 0.975])
        certain = "more than chance explains" if low > 0 else "within chance"
        lines.append(
            f"- {data}, {figure}: {WAYS[best['way']].title} is {100 * behind:.1f} points "
            f"({100 * low:.1f} to {100 * high:.1f}) above {WAYS[mine['way']].title}: {certain}."
        )
    return lines


def _best(cells: Iterable[Cell], figure: str) -> Cell:
    return max(cells, key=lambda cell: cell["figures"][figure])


def _resampled(cell: Cell, figure: str) -> np.ndarray:
    return np.array(cell["resampled"][figure].split(), dtype=float)


def _difference(better: Cell, other: Cell, figure: str) -> np.ndarray:
    """Return the difference on each resample: the rows of a resample are the same for all cells."""
    return _resampled(better, figure) - _resampled(other, figure)


def _range(values: np.ndarray, *, points: bool = False) -> str:
    low, high = np.quantile(values, [0.025, 0.975])
    return f"{100 * low:.1f} to {100 * high:.1f}" if points else f"{low:.3f}–{high:.3f}"


def _seconds(cell: Cell) -> str:
    others = cell["cores_of_others"]
    marks = ("†" if others is None or others > QUIET else "") + (
        "‡" if cell["stored_vectors"] else ""
    )
    return f"{cell['seconds']:,.0f}{marks}"


def _peak(cell: Cell) -> str:
    return f"{cell['peak_mb']:,.0f}"


def _notes(cells: list[Cell]) -> list[str]:
    """Return what the marks mean, and where and when the cells were measured."""
    machines = sorted(
        {
            f"{cell['machine']['cpu']}, {cell['machine']['cores']} cores "
            f"({' '.join(cell['machine']['instructions'])})"
            for cell in cells
        }
    )
    commits = sorted({str(cell["machine"]["commit"]) for cell in cells})
    dates = sorted(cell["date"][:10] for cell in cells)
    notes = ["Seconds are for training and predicting the test rows, the encoder's pass included."]
    if any("†" in _seconds(cell) for cell in cells):
        notes.append("† Other work ran on the machine: the time is too long.")
    if any("‡" in _seconds(cell) for cell in cells):
        notes.append("‡ Vectors were stored before: the time is too short.")
    between = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    notes.append(f"Measured {between} on {'; '.join(machines)}; commits {', '.join(commits)}.")
    return [f"- {note}" for note in notes]


def replace(path: Path, table: str) -> None:
    """Write the table between the marks of a page."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(f"{path}: needs one line {BEGIN} and after it one line {END}.")
    before, rest = text.split(BEGIN)
    with writing(path) as temporary:
        temporary.write_text(
            f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}", encoding="utf-8"
        )
