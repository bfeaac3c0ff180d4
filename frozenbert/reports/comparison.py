"""Compare trained models with each other and with the baseline, and name the one to use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .schema import Baseline, Metrics, Sidecar
from .sidecar import load_sidecar

__all__ = ["compare_models"]

TITLES = {"accuracy": "accuracy", "macro_f1": "macro F1", "micro_f1": "micro F1"}


@dataclass
class _Row:
    name: str
    scores: dict[str, float]
    intervals: Mapping[str, Sequence[float]]
    seconds: float | None = None


def compare_models(folders: Sequence[str | Path]) -> list[str]:
    """Return a table of models that were measured on the same rows, and a verdict.

    Parameters
    ----------
    folders : sequence of path-like
        Of trained models, with their `model.json`.

    Returns
    -------
    list of str
        The table's lines, and the verdict in the last one.

    Raises
    ------
    InputError
        If a folder contains no `model.json`, it is damaged or of another format, or the
        models were measured on different rows.
    """
    sidecars = {str(folder): _read(folder) for folder in folders}
    _check_same_rows(sidecars)
    rows = [
        _row(folder, sidecar["metrics"], sum(sidecar["seconds"].values()))
        for folder, sidecar in sidecars.items()
    ]
    baseline = next(iter(sidecars.values()))["metrics"]["baseline"]
    rows.append(_row(baseline["name"], baseline))
    key, second = ("macro_f1", "micro_f1") if "micro_f1" in baseline else ("accuracy", "macro_f1")
    width = max(len(row.name) for row in rows)
    lines = [
        f"{'':{width}}  {TITLES[key]:>8}  {'95 %':16}  {TITLES[second]:>8}  seconds (fewer with "
        f"cached vectors)"
    ]
    for row in rows:
        ends = row.intervals.get(key)
        interval = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else ""
        seconds = "" if row.seconds is None else f"{row.seconds:9.1f}"
        lines.append(
            f"{row.name:{width}}  {row.scores[key]:8.4f}  {interval:16}  {row.scores[second]:8.4f}"
            f"{seconds}".rstrip()
        )
    return [*lines, "", _verdict(rows, key)]


def _row(name: str, metrics: Metrics | Baseline, seconds: float | None = None) -> _Row:
    scores = {key: float(value) for key, value in metrics.items() if key in TITLES}  # type: ignore[arg-type]
    return _Row(name, scores, metrics["intervals"], seconds)


def _check_same_rows(sidecars: Mapping[str, Sidecar]) -> None:
    first, *others = sidecars
    for other in others:
        for part in ("training", "test"):
            if _rows_of(sidecars[first], part) != _rows_of(sidecars[other], part):
                raise InputError(
                    f"{first} and {other} were not measured on the same rows ({part}): scores on "
                    f"different rows do not tell which model is better."
                )
        if ("micro_f1" in sidecars[first]["metrics"]) != ("micro_f1" in sidecars[other]["metrics"]):
            raise InputError(f"{first} and {other}: one has classes, the other many labels.")


def _rows_of(sidecar: Sidecar, part: str) -> tuple[object, ...]:
    source: Mapping[str, object] = sidecar["training"] if part == "training" else sidecar["test"]
    columns = (sidecar["training"]["text_column"], sidecar["training"]["label_column"])
    metrics = sidecar["metrics"]
    name = source.get("sha256") or source.get("description")
    return name, columns, metrics["n_train"], metrics["n_test"]


def _verdict(rows: Sequence[_Row], key: str) -> str:
    """Name the best model, and those that may be as good."""
    baseline = rows[-1]
    best = max(rows, key=lambda row: row.scores[key])

    def may_be_as_good(row: _Row) -> bool:
        if row is baseline:  # paired, row by row
            return best.intervals.get(f"{key}_above_baseline", [0])[0] <= 0
        if best is baseline:
            return row.intervals.get(f"{key}_above_baseline", [0, 0])[1] >= 0
        ends = [one.intervals.get(key, [0, 1]) for one in (row, best)]
        return ends[0][1] > ends[1][0]

    rivals = [row.name for row in rows if row is not best and may_be_as_good(row)]
    if not rivals:
        return f"use      {best.name}: the best {TITLES[key]}, by more than chance explains"
    return (
        f"use      {best.name}: the best {TITLES[key]}; {', '.join(rivals)} may do as well on "
        f"other rows"
    )


def _read(folder: str | Path) -> Sidecar:
    """Return a model's sidecar, after checking all that is compared."""
    content = load_sidecar(folder)
    for path, (is_legal, expected) in REQUIRED.items():
        *parents, key = path.split(".")
        place: Any = content
        for parent in parents:
            place = place[parent]  # is required before its entries
        if key not in place:
            if path in OPTIONAL:
                continue
            problem = "is missing"
        elif not is_legal(place[key]):
            problem = f"must be {expected}"
        else:
            continue
        raise InputError(
            f"{folder}/model.json: damaged ({path!r} {problem}). Train the model again."
        )
    return content  # type: ignore[return-value]


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_intervals(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(ends, list) and len(ends) == 2 and all(map(_is_number, ends))
        for ends in value.values()
    )


def _is_seconds(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_column(value: object) -> bool:
    return isinstance(value, str | int | list)


NUMBER = (_is_number, "a finite number")
COUNT = (_is_count, "a whole number")
TEXT = (_is_text, "a string")
OBJECT = (_is_object, "an object")
INTERVALS = (_is_intervals, "an object of pairs of finite numbers")
COLUMN = (_is_column, "a column's name")

# What a comparison reads from `model.json`. An object comes before its entries.
REQUIRED: dict[str, tuple[Callable[[object], bool], str]] = {
    "metrics": OBJECT,
    "metrics.accuracy": NUMBER,
    "metrics.macro_f1": NUMBER,
    "metrics.micro_f1": NUMBER,
    "metrics.n_train": COUNT,
    "metrics.n_test": COUNT,
    "metrics.intervals": INTERVALS,
    "metrics.baseline": OBJECT,
    "metrics.baseline.name": TEXT,
    "metrics.baseline.accuracy": NUMBER,
    "metrics.baseline.macro_f1": NUMBER,
    "metrics.baseline.micro_f1": NUMBER,
    "metrics.baseline.intervals": INTERVALS,
    "training": OBJECT,
    "training.sha256": TEXT,
    "training.text_column": COLUMN,
    "training.label_column": COLUMN,
    "test": OBJECT,
    "test.sha256": TEXT,
    "test.description": TEXT,
    "seconds": (_is_seconds, "an object of finite numbers"),
}
OPTIONAL = {"metrics.micro_f1", "metrics.baseline.micro_f1", "test.sha256"}
