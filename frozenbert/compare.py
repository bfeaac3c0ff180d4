"""Trained models side by side, with the baseline, and which of them to use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import InputError
from .report import read_sidecar

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
    rows = [
        _row(folder, s["metrics"], sum(s["seconds"].values())) for folder, s in sidecars.items()
    ]
    baseline = sidecars[first]["metrics"]["baseline"]
    rows.append(_row(baseline["name"], baseline, sidecars[first]["seconds"]["baseline of words"]))
    key = "macro_f1" if "micro_f1" in baseline else "accuracy"
    title = "macro F1" if key == "macro_f1" else "accuracy"
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'':{width}}  {title:>8}  {'95 %':16}  {'macro F1':>8}  seconds"]
    for row in rows:
        low, high = row[f"{key}_interval"]
        lines.append(
            f"{row['name']:{width}}  {row[key]:8.4f}  {low:.4f} to {high:.4f}  "
            f"{row['macro_f1']:8.4f}  {row['seconds']:7.1f}"
        )
    return [*lines, "", _verdict(rows, key, title)]


def _rows(sidecar: dict[str, Any], part: str) -> Any:
    columns = [sidecar["training"][name] for name in ("text_column", "label_column")]
    metrics = sidecar["metrics"]
    return (
        sidecar[part].get("sha256") or sidecar[part].get("description"),
        columns,
        metrics["n_train"],
        metrics["n_test"],
    )


def _row(name: str, metrics: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {
        "name": name,
        "seconds": seconds,
        **{key: metrics[key] for key in ("accuracy", "macro_f1")},
        **{f"{key}_interval": metrics["intervals"][key] for key in ("accuracy", "macro_f1")},
    }


def _verdict(rows: list[dict[str, Any]], key: str, title: str) -> str:
    best = max(rows, key=lambda row: row[key])
    # Whatever its interval does not tell from the best may be taken, if it is quicker.
    rivals = [
        row
        for row in rows
        if row is not best and row[f"{key}_interval"][1] > best[f"{key}_interval"][0]
    ]
    if not rivals:
        return f"use      {best['name']}: the best {title}, by more than chance explains"
    names = ", ".join(row["name"] for row in rivals)
    return (
        f"use      {best['name']}: the best {title}; but {names} may do as well on other rows "
        f"(the intervals overlap)"
    )
