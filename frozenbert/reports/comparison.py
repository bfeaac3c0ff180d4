"""Compare trained models with each other and with the baseline, and name the one to use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .metrics import name_missed, short
from .numeric.contrast import check_number_metrics, compare_numbers
from .schema import Baseline, ClassScore, Metrics, Sidecar
from .sidecar import load_sidecar

__all__ = ["compare_models"]

TITLES = {"accuracy": "accuracy", "macro_f1": "macro F1", "micro_f1": "micro F1"}
SCORERS = {"f1_macro": "macro_f1", "f1_micro": "micro_f1"}  # scikit-learn's names
NUMERIC = ("regression", "ordinal")  # tasks
MOST_CLASSES = 20  # in the table of classes
UNBALANCED = 2  # times as many test rows in the largest class as in the smallest


@dataclass
class _Row:
    name: str
    scores: dict[str, float]
    intervals: Mapping[str, Sequence[float]]
    per_class: Mapping[str, ClassScore]
    seconds: float | None = None
    baseline: _Row | None = None  # of a model; a baseline has none


def compare_models(folders: Sequence[str | Path], *, scoring: str | None = None) -> list[str]:
    """Return a table of models that were measured on the same rows, and a verdict.

    Parameters
    ----------
    folders : sequence of path-like
        Of trained models, with their `model.json`.
    scoring : {"accuracy", "macro_f1", "micro_f1"}, optional
        The score that decides; of models of numbers and grades as for
        `frozenbert.reports.numeric.contrast.compare_numbers`. By default macro F1 if a text may
        have several labels, or if the largest class has at least twice the test rows of the
        smallest; else accuracy, which a model can have without ever answering a rare class.
        scikit-learn's names `f1_macro` and `f1_micro` are accepted, too.

    Returns
    -------
    list of str
        The table's lines, the table of classes, classes that a model never recognises, and the
        verdict in the last one.

    Raises
    ------
    InputError
        If a folder contains no `model.json`, it is damaged or of another format, the models
        were measured on different rows, or they have no such score.
    """
    sidecars = {str(folder): _read(folder) for folder in folders}
    _check_same_rows(sidecars)
    if _task_of(next(iter(sidecars.values()))) in NUMERIC:
        for name, sidecar in sidecars.items():
            check_number_metrics(name, sidecar["metrics"])
        models = {
            name: (sidecar["metrics"], sum(sidecar["seconds"].values()))
            for name, sidecar in sidecars.items()
        }
        return compare_numbers(models, scoring)
    own = _rows_of_models(sidecars)
    baselines = list({id(model.baseline): model.baseline for model in own}.values())
    rows = [*own, *(row for row in baselines if row is not None)]
    key, reason = _choose(rows, scoring)
    return [
        *_table(rows, key),
        *_table_of_classes(rows),
        "",
        f"by       {TITLES[key]}{reason}",
        *_missed(own),
        _verdict(rows, key),
    ]


def _rows_of_models(sidecars: Mapping[str, Sidecar]) -> list[_Row]:
    """Return a row for each model, with its baseline's; baselines of equal scores share one.

    Balanced class weights hold for the baseline, too, so that models may have different ones:
    those after the first are named for their model.
    """
    distinct: dict[tuple[object, ...], _Row] = {}
    rows = {}
    for folder, sidecar in sidecars.items():
        row = _row(sidecar["metrics"]["baseline"]["name"], sidecar["metrics"]["baseline"])
        shown = (row.name, *(round(score, 4) for score in row.scores.values()))
        if distinct:
            row.name += f" (of {folder})"
        rows[folder] = distinct.setdefault(shown, row)
    return [
        _row(folder, sidecar["metrics"], sum(sidecar["seconds"].values()), rows[folder])
        for folder, sidecar in sidecars.items()
    ]


def _choose(rows: Sequence[_Row], scoring: str | None) -> tuple[str, str]:
    """Return the score that decides, and why it is that one."""
    known = [key for key in TITLES if all(key in row.scores for row in rows)]
    if scoring is not None:
        key = SCORERS.get(scoring, scoring)
        if key not in known:
            raise InputError(
                f"one of {', '.join(known)}, which these models have.",
                parameter="scoring",
                value=scoring,
            )
        return key, ""
    if "micro_f1" in known:
        return "macro_f1", ": a text may have several labels"
    counts = {name: score["support"] for name, score in rows[0].per_class.items()}
    counts = {name: count for name, count in counts.items() if count}
    if counts and max(counts.values()) >= UNBALANCED * min(counts.values()) and len(counts) > 1:
        large, small = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        return "macro_f1", (
            f", in which all classes count the same: {large!r} has {counts[large]:,} test rows, "
            f"{small!r} has {counts[small]:,}"
        )
    return "accuracy", ""


def _table(rows: Sequence[_Row], key: str) -> list[str]:
    others = ("macro_f1", "micro_f1", "accuracy")
    second = next(name for name in others if name != key and name in rows[-1].scores)
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
    return lines


def _table_of_classes(rows: Sequence[_Row]) -> list[str]:
    """Return the F1 of each class, the classes with the most test rows first."""
    names = sorted(rows[0].per_class, key=lambda name: -rows[0].per_class[name]["support"])
    if not names:
        return []
    shown = {name: short(name) for name in names[:MOST_CLASSES]}
    width = max(map(len, ["F1 of each class", *shown.values()]))
    columns = [row for row in rows if row.per_class]
    heads = [f"{row.name:>8}" for row in columns]
    lines = ["", "  ".join([f"{'F1 of each class':{width}}", "rows", *heads])]
    for name, label in shown.items():
        cells = [
            f"{row.per_class[name]['f1-score']:{len(head)}.4f}"
            if name in row.per_class
            else " " * len(head)
            for row, head in zip(columns, heads, strict=True)
        ]
        count = rows[0].per_class[name]["support"]
        lines.append("  ".join([f"{label:{width}}", f"{count:4}", *cells]).rstrip())
    if len(names) > MOST_CLASSES:
        lines.append(f"and {len(names) - MOST_CLASSES} more, with fewer rows; see the reports")
    return lines


def _missed(models: Sequence[_Row]) -> list[str]:
    """Return a line for each model that recognises no row of some class."""
    return [
        f"missed   {row.name} recognises none of the test rows of {named}: label more of them, or "
        f"train with balanced class weights"
        for row in models
        if (named := name_missed(row.per_class))
    ]


def _row(
    name: str,
    metrics: Metrics | Baseline,
    seconds: float | None = None,
    baseline: _Row | None = None,
) -> _Row:
    scores = {key: float(value) for key, value in metrics.items() if key in TITLES}  # type: ignore[arg-type]
    return _Row(name, scores, metrics["intervals"], metrics.get("per_class", {}), seconds, baseline)


def _check_same_rows(sidecars: Mapping[str, Sidecar]) -> None:
    first, *others = sidecars
    for other in others:
        tasks = [_task_of(sidecars[name]) for name in (first, other)]
        if tasks[0] != tasks[1]:
            raise InputError(f"{first} and {other}: one is of {tasks[0]}, the other of {tasks[1]}.")
        for part in ("training", "test"):
            if _rows_of(sidecars[first], part) != _rows_of(sidecars[other], part):
                raise InputError(
                    f"{first} and {other} were not measured on the same rows ({part}): scores on "
                    f"different rows do not tell which model is better."
                )
        if ("micro_f1" in sidecars[first]["metrics"]) != ("micro_f1" in sidecars[other]["metrics"]):
            raise InputError(f"{first} and {other}: one has classes, the other many labels.")


def _task_of(sidecar: Sidecar) -> str:
    return sidecar["metrics"].get("task", "classification")


def _rows_of(sidecar: Sidecar, part: str) -> tuple[object, ...]:
    source: Mapping[str, object] = sidecar["training"] if part == "training" else sidecar["test"]
    columns = (sidecar["training"]["text_column"], sidecar["training"]["label_column"])
    metrics = sidecar["metrics"]
    name = source.get("sha256") or source.get("description")
    return name, columns, metrics["n_train"], metrics["n_test"]


def _verdict(rows: Sequence[_Row], key: str) -> str:
    """Name the best model, and those that may be as good."""
    best = max(rows, key=lambda row: row.scores[key])

    def may_be_as_good(row: _Row) -> bool:
        if row is best.baseline:  # paired, row by row
            return best.intervals.get(f"{key}_above_baseline", [0])[0] <= 0
        if best is row.baseline:
            return row.intervals.get(f"{key}_above_baseline", [0, 0])[1] >= 0
        ends = [one.intervals.get(key, [0, 1]) for one in (row, best)]
        return ends[0][1] > ends[1][0]

    rivals = [row.name for row in rows if row is not best and may_be_as_good(row)]
    if not rivals:
        return f"use      {best.name}: clearly the best {TITLES[key]} (95 % intervals)"
    return (
        f"use      {best.name}: the best {TITLES[key]}, without a clear difference from "
        f"{', '.join(rivals)} (95 % intervals)"
    )


def _read(folder: str | Path) -> Sidecar:
    """Return a model's sidecar, after checking all that is compared."""
    content = load_sidecar(folder)
    metrics = content.get("metrics")
    numeric = isinstance(metrics, dict) and metrics.get("task") in NUMERIC
    for path, (is_legal, expected) in REQUIRED.items():
        if numeric and path in OF_CLASSES:
            continue
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
    if type(value) is int:
        return abs(value) < 2**53  # exact as a float
    return type(value) is float and math.isfinite(value)


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


def _is_per_class(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(score, dict)
        and all(_is_number(score.get(key)) for key in ("f1-score", "recall"))
        and _is_count(score.get("support"))
        for score in value.values()
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
PER_CLASS = (_is_per_class, "an object of scores for each class")
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
    "metrics.per_class": PER_CLASS,
    "metrics.task": TEXT,
    "metrics.baseline": OBJECT,
    "metrics.baseline.name": TEXT,
    "metrics.baseline.accuracy": NUMBER,
    "metrics.baseline.macro_f1": NUMBER,
    "metrics.baseline.micro_f1": NUMBER,
    "metrics.baseline.intervals": INTERVALS,
    "metrics.baseline.per_class": PER_CLASS,
    "training": OBJECT,
    "training.sha256": TEXT,
    "training.text_column": COLUMN,
    "training.label_column": COLUMN,
    "test": OBJECT,
    "test.sha256": TEXT,
    "test.description": TEXT,
    "seconds": (_is_seconds, "an object of finite numbers"),
}
OF_CLASSES = {
    f"metrics.{part}{name}" for part in ("", "baseline.") for name in ("accuracy", "macro_f1")
}
OPTIONAL = {
    "metrics.micro_f1",
    "metrics.per_class",
    "metrics.task",
    "metrics.baseline.micro_f1",
    "metrics.baseline.per_class",
    "test.sha256",
}
