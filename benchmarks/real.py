"""Shared by the benchmarks on $FROZENBERT_TEXTS: its tables, and the head of a report."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from report import machine
from worker import versions

HERE = Path(__file__).resolve().parent


def texts_folder(script: str) -> Path:
    """Return the folder of real texts, or exit with 2 and a message."""
    folder = os.environ.get("FROZENBERT_TEXTS")
    if not folder:
        print(f"{script}: set FROZENBERT_TEXTS to the folder of texts.", file=sys.stderr)
        raise SystemExit(2)
    return Path(folder)


def new_report(name: str, out: Path, **facts: Any) -> tuple[dict[str, Any], Path]:
    """Return a report without rows, and the path of its file."""
    started = datetime.now(UTC)
    report = {
        "date": started.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        **facts,
        "rows": [],
    }
    return report, out / started.strftime(f"{name}-%Y-%m-%d-%H%M%S.json")


def sst2(folder: Path, name: str, limit: int | None = None) -> tuple[list[str], np.ndarray]:
    """Return the texts and labels of SST-2's train.tsv or dev.tsv."""
    path = folder / "sst2" / f"{name}.tsv"
    frame = pd.read_csv(path, sep="\t", header=None, quoting=3, keep_default_na=False)
    frame = frame.head(limit or len(frame))
    return frame[0].tolist(), frame[1].to_numpy()


def imdb(folder: Path, limit: int | None = None) -> tuple[list[str], np.ndarray]:
    """Return the texts and labels of IMDB's training half."""
    frame = pd.read_csv(folder / "imdb" / "train.csv.gz")
    frame = frame.head(limit or len(frame))
    return frame["review"].tolist(), frame["sentiment"].to_numpy()


def measured(report: dict[str, Any]) -> str:
    """Return a sentence with date, encoder and machine."""
    machine = report["machine"]
    return (
        f"Measured {report['date']} with {report['model']}; {machine['cpu']}, "
        f"{machine['cores']} cores."
    )
