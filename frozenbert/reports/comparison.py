"""Trained models side by side, with the baseline, and which of them to use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from .sidecar import read_sidecar

__all__ = ["compare_models"]


def compare_models(folders: Sequence[str | Path]) -> list[str]:
    """Return a table of models that were measured on the same rows, and a verdict.

    Parameters
    ----------
    folders : sequence of path-like
        Of trained models, with their `model.json`.

    Returns
    -------
    list of str
        Lines.

    Raises
    ------
    InputError
        If a folder holds no model with figures, or they are of different rows.
    """
    sidecars = {str(folder): read_sidecar(folder) for folder in folders}
    for folder, sidecar in sidecars.items():
        if "intervals" not in sidecar.get("metrics", {}):
            raise InputError(
                f"{folder}: holds no model.json with figures: train a model there (pipeline.py)."
            )
    first, *others = sidecars
    for other in others:
        for part in ("training", "test"):
            if _rows(sidecars[first], part) != _rows(sidecars[other], part):
                raise InputError(
                    f"{first} and {other} were not measured on the same rows ({part}): figures of "
                    f"different rows say nothing about which is better."
                )
    rows = [_row(folder, sidecar["metrics"]) for folder, sidecar in sidecars.items()]
    for row, sidecar in zip(rows, sidecars.values(), strict=True):
        row["seconds"] = f"{sum(sidecar['seconds'].values()):9.1f}"
    baseline = sidecars[first]["metrics"]["baseline"]
    rows.append({**_row(baseline["name"], baseline), "seconds": ""})
    columns = {"accuracy": "accuracy", "macro_f1": "macro F1"}
    if "micro_f1" in baseline:
        columns = {"macro_f1": "macro F1", "micro_f1": "micro F1"}
    key, second = columns
    width = max(len(row["name"]) for row in rows)
    lines = [
        f"{'':{width}}  {columns[key]:>8}  {'95 %':16}  {columns[second]:>8}  seconds (less where "
        f"vectors were cached)"
    ]
    for row in rows:
        ends = row["intervals"].get(key)
        interval = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else ""
        lines.append(
            f"{row['name']:{width}}  {row[key]:8.4f}  {interval:16}  {row[second]:8.4f}"
            f"{row['seconds']}".rstrip()
        )
    return [*lines, "", _verdict(rows, key, columns[key])]


def _rows(sidecar: dict[str, Any], part: str) -> Any:
    columns = [sidecar["training"][name] for name in ("text_column", "label_column")]
    metrics = sidecar["metrics"]
    return (
        sidecar[part].get("sha256") or sidecar[part].get("description"),
        columns,
        metrics["n_train"],
        metrics["n_test"],
    )


def _row(name: str, metrics: dict[str, Any]) -> dict[str, Any]:
    keys = [key for key in ("accuracy", "macro_f1", "micro_f1") if key in metrics]
    return {"name": name, "intervals": metrics["intervals"], **{k: metrics[k] for k in keys}}


def _verdict(rows: list[dict[str, Any]], key: str, title: str) -> str:
    baseline = rows[-1]
    best = max(rows, key=lambda row: row[key])

    def may_be_as_good(row: dict[str, Any]) -> bool:
        if row is baseline:  # paired, row by row
            return bool(best["intervals"].get(f"{key}_above_baseline", [0])[0] <= 0)
        if best is baseline:
            return bool(row["intervals"].get(f"{key}_above_baseline", [0, 0])[1] >= 0)
        ends = [one["intervals"].get(key, [0, 1]) for one in (row, best)]
        return bool(ends[0][1] > ends[1][0])

    rivals = [row["name"] for row in rows if row is not best and may_be_as_good(row)]
    if not rivals:
        return f"use      {best['name']}: the best {title}, by more than chance explains"
    return (
        f"use      {best['name']}: the best {title}; {', '.join(rivals)} may do as well on other "
        f"rows"
    )
