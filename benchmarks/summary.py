"""Join raw figures of `bench.py`, which may be of several runs, into the tables of the docs.

    python benchmarks/summary.py benchmarks/results/2026-*.json

A row per library with its texts per second (medians) on each encoder and kind of texts, and with
one text per call; then frozenbert's speed relative to the fastest other library of each precision.
Where several files measured the same, the last one counts.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What each row computes in. sentence-transformers' OpenVINO as it comes computes in bfloat16 on the
# CPUs that have it; elsewhere its row belongs to float32.
FLOAT32 = ("st", "st-compile", "st-onnx", "st-openvino-f32", "skrub", "embetter", "fastembed")
PRECISIONS = {
    "float32": (("ours-cls", "ours-mean", "ours-openvino"), FLOAT32),
    "bfloat16": (("ours-bfloat16",), ("st-bfloat16", "st-openvino")),
    "int8": (("ours-int8",), ("st-onnx-int8", "st-openvino-int8")),
}

BOTH_POOLINGS = ("ours-cls", "ours-mean")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return the exit code."""
    paths = sys.argv[1:] if arguments is None else arguments
    reports = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    print(to_markdown(reports))
    return 0


def to_markdown(reports: list[dict[str, Any]]) -> str:
    """Return both tables, with the machines and commits of the figures."""
    columns: dict[str, dict[str, float]] = {}
    titles: dict[str, str] = {}
    for report in reports:
        for found in report["comparisons"]:
            name = f"{found['encoder']}, {found['n_texts']} {found['kind']}"
            for row in found["rows"]:
                if "left_out" not in row:
                    # [CLS] and mean pooling have rows of their own with one title.
                    pooling = f" ({row['pooling']})" if row["key"] in BOTH_POOLINGS else ""
                    titles[row["key"]] = row["title"] + pooling
                    _add(row, found["n_texts"], name, columns)
    lines = []
    for report in reports:
        m = report["machine"]
        lines.append(f"{report['date']}, {m['cpu']}, {m['cores']} cores, "
                     f"{' '.join(m['instructions'])}, commit {m['commit']}.")  # fmt: skip
    lines += ["", "| library | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for key, title in titles.items():
        cells = (_written(values.get(key)) for values in columns.values())
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += ["", "| frozenbert, relative to the fastest other library | " + " | ".join(columns)
              + " |", "|---|" + "--:|" * len(columns)]  # fmt: skip
    for precision, (ours, others) in PRECISIONS.items():
        cells = (_relative(name, values, ours, others) for name, values in columns.items())
        lines.append(f"| {precision} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _add(
    row: dict[str, Any], n_texts: int, name: str, columns: dict[str, dict[str, float]]
) -> None:
    if row["seconds"]:
        speeds = columns.setdefault(f"{name}: texts/s", {})
        speeds[row["key"]] = n_texts / statistics.median(row["seconds"])
    for quantile in ("median", "p99"):
        if runs := row.get("one_text"):
            times = columns.setdefault(f"{name}, one per call: {quantile} ms", {})
            times[row["key"]] = statistics.median(run[f"{quantile}_ms"] for run in runs)


def _relative(
    name: str, values: dict[str, float], ours: Sequence[str], others: Sequence[str]
) -> str:
    """Return ours / theirs: above 1 is faster for texts per second, slower for milliseconds."""
    best = min if name.endswith(" ms") else max
    mine, theirs = ([values[key] for key in keys if key in values] for keys in (ours, others))
    return f"{best(mine) / best(theirs):.2f}" if mine and theirs else ""


def _written(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
