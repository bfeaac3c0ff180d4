"""Shared by the benchmarks on $FROZENBERT_TEXTS: its tables, their splits, a report's head."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from report import machine
from sklearn.model_selection import train_test_split
from worker import versions

HERE = Path(__file__).resolve().parent
ACCURACY, MACRO_F1, MICRO_F1 = "accuracy", "macro F1", "micro F1"


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


def tweets(folder: Path) -> tuple[list[str], np.ndarray]:
    """Return the tweets, and their classes: hate, offensive or neither."""
    frame = pd.read_csv(folder / "hate" / "tweets.csv", keep_default_na=False)
    return frame["tweet"].tolist(), frame["class"].to_numpy()


def banking77(folder: Path) -> tuple[list[str], np.ndarray]:
    """Return the questions of Banking77's training half, and their 77 categories."""
    frame = pd.read_csv(folder / "banking77" / "train.csv", keep_default_na=False)
    return frame["text"].tolist(), frame["category"].to_numpy()


def goemotions(folder: Path, name: str, limit: int | None = None) -> tuple[list[str], pd.DataFrame]:
    """Return the comments of GoEmotions' train.csv or dev.csv, and a column of 0 and 1 a label."""
    frame = pd.read_csv(folder / "emotions" / f"{name}.csv", keep_default_na=False)
    frame = frame.head(limit or len(frame))
    return frame["text"].tolist(), frame.drop(columns="text")


@dataclass(frozen=True)
class Split:
    """Rows to train on and rows to score; classes as whole numbers, many labels as 0 and 1."""

    texts: list[str]
    y: np.ndarray
    test_texts: list[str]
    test_y: np.ndarray

    def fingerprint(self) -> str:
        """Return a hash of all texts and labels, by which other rows are noticed."""
        rows = (self.texts, self.y.tolist(), self.test_texts, self.test_y.tolist())
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Task:
    """A data set with its fixed split, and the figures that are compared on it."""

    title: str
    load: Callable[[Path], Split]
    figures: tuple[str, ...] = (ACCURACY,)
    many_labels: bool = False


def _with_dev(name: str, limit: int | None = None) -> Callable[[Path], Split]:
    """Return a loader: train on the training file, score on the dev file."""

    def load(folder: Path) -> Split:
        if name == "sst2":
            return _coded(*sst2(folder, "train", limit), *sst2(folder, "dev"))
        (texts, y), (test_texts, test_y) = (goemotions(folder, part) for part in ("train", "dev"))
        return Split(texts, y.to_numpy(), test_texts, test_y.to_numpy())

    return load


def _in_fifths(
    read: Callable[[Path], tuple[list[str], np.ndarray]], limit: int | None = None
) -> Callable[[Path], Split]:
    """Return a loader: score on a stratified fifth of the rows, train on others."""

    def load(folder: Path) -> Split:
        texts, y = read(folder)
        rows, held = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=0)
        rows = rows[:limit]
        return _coded([texts[i] for i in rows], y[rows], [texts[i] for i in held], y[held])

    return load


def _coded(
    texts: list[str], y: Sequence[object], test_texts: list[str], test_y: Sequence[object]
) -> Split:
    classes = np.unique(y)
    return Split(texts, np.searchsorted(classes, y), test_texts, np.searchsorted(classes, test_y))


TASKS = {
    "sst2-2000": Task("SST-2, the first 2,000 rows, scored on dev.tsv", _with_dev("sst2", 2000)),
    "sst2-6920": Task("SST-2, 6,920 rows, scored on dev.tsv", _with_dev("sst2")),
    "imdb-5000": Task("IMDB, 5,000 rows, scored on 5,000 others", _in_fifths(imdb, 5000)),
    "imdb-20000": Task("IMDB, 20,000 rows, scored on 5,000 others", _in_fifths(imdb)),
    "goemotions": Task(
        "GoEmotions, 43,410 rows, seven labels, scored on dev.csv",
        _with_dev("goemotions"),
        (MACRO_F1, MICRO_F1),
        many_labels=True,
    ),
    "tweets": Task(
        "Tweets, 19,826 rows, three classes, scored on 4,957 others",
        _in_fifths(tweets),
        (ACCURACY, MACRO_F1),
    ),
    "banking77": Task(
        "Banking77, 8,002 rows, 77 classes, scored on 2,001 others", _in_fifths(banking77)
    ),
}


def measured(report: dict[str, Any]) -> str:
    """Return a sentence with date, encoder and machine."""
    machine = report["machine"]
    return (
        f"Measured {report['date']} with {report['model']}; {machine['cpu']}, "
        f"{machine['cores']} cores."
    )
