"""Compare trained models of numbers or grades with each other and with the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import InputError
from .figures import NUMBER_TITLES

__all__ = ["check_number_metrics", "compare_numbers"]

LOWER_IS_BETTER = {"mae"}


def check_number_metrics(folder: str, metrics: Mapping[str, Any]) -> None:
    """Raise `InputError` if the metrics of a model of numbers are damaged.

    Parameters
    ----------
    folder : str
        The model's, for the message.
    metrics : mapping
        From its `model.json`.
    """
    wanted = ["r2", "mae", "spearman"]
    if metrics.get("task") == "ordinal":
        wanted.append("quadratic_kappa")
    for name, part in (("metrics", metrics), ("metrics.baseline", metrics.get("baseline"))):
        for key in wanted:
            value = part.get(key) if isinstance(part, Mapping) else None
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(
                    f"{folder}/model.json: damaged ('{name}.{key}' must be a finite number). Train "
                    f"the model again."
                )


def compare_numbers(
    models: Mapping[str, tuple[Mapping[str, Any], float]], scoring: str | None = None
) -> list[str]:
    """Return a table of models of numbers, measured on the same rows, and a verdict.

    Parameters
    ----------
    models : mapping of str to (metrics, seconds)
        All of one task.
    scoring : str, optional
        The score that decides: "r2" (the default), "mae" or "spearman"; of grades also
        "quadratic_kappa", which is then the default.

    Raises
    ------
    InputError
        If the models have no such score.
    """
    rows = {name: metrics for name, (metrics, _) in models.items()}
    baseline = next(iter(rows.values()))["baseline"]
    rows[baseline["name"]] = baseline
    keys = [key for key in NUMBER_TITLES if key in baseline]
    key = keys[0] if scoring is None else scoring
    if key not in keys:
        raise InputError(
            f"one of {', '.join(keys)}, which these models have.",
            parameter="scoring",
            value=scoring,
        )
    keys = [key, *(one for one in keys if one != key)]
    width = max(map(len, rows))
    heads = [NUMBER_TITLES[one] for one in keys]
    widths = [max(8, len(head)) for head in heads]
    first, *others = (f"{head:>{size}}" for head, size in zip(heads, widths, strict=True))
    lines = ["  ".join([" " * width, first, f"{'95 %':18}", *others, "seconds"])]
    for name, metrics in rows.items():
        cells = [f"{metrics[one]:{size}.4f}" for one, size in zip(keys, widths, strict=True)]
        ends = metrics["intervals"].get(key)
        interval = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else ""
        seconds = f"{models[name][1]:7.1f}" if name in models else ""
        line = "  ".join([f"{name:{width}}", cells[0], f"{interval:18}", *cells[1:], seconds])
        lines.append(line.rstrip())
    return [*lines, "", f"by       {NUMBER_TITLES[key]}", _verdict(rows, key, baseline["name"])]


def _verdict(rows: Mapping[str, Mapping[str, Any]], key: str, baseline: str) -> str:
    """Name the best model, and those that may be as good."""
    sign = -1 if key in LOWER_IS_BETTER else 1
    best = max(rows, key=lambda name: sign * rows[name][key])

    def ends(name: str, what: str, otherwise: Sequence[float]) -> list[float]:
        return sorted(sign * end for end in rows[name]["intervals"].get(what, otherwise))

    def may_be_as_good(name: str) -> bool:
        paired = f"{key}_above_baseline"
        if name == baseline:  # paired, row by row
            return ends(best, paired, [0, 0])[0] <= 0
        if best == baseline:
            return ends(name, paired, [0, 0])[1] >= 0
        unknown = [-math.inf, math.inf]
        return ends(name, key, unknown)[1] > ends(best, key, unknown)[0]

    rivals = [name for name in rows if name != best and may_be_as_good(name)]
    title = NUMBER_TITLES[key]
    if not rivals:
        return f"use      {best}: clearly the best {title} (95 % intervals)"
    return (
        f"use      {best}: the best {title}, without a clear difference from "
        f"{', '.join(rivals)} (95 % intervals)"
    )
