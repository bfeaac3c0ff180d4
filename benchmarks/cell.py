"""Measure one cell of the table of `accuracy.py`, in a process of its own.

    python benchmarks/cell.py DATA WAY FILE [--cache FOLDER] [--minutes 30]

The seconds are those of training and of predicting the test rows, the encoder's loading included.
The cell has what intervals are computed from: whether each test row is right, and each figure on
1,000 resamples of the test rows. They are the same rows for every cell of the same data, so the
difference of two cells is paired.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import real
from classifiers import WAYS, Answer, Job
from report import machine, write_figures
from scipy.stats import bootstrap
from sklearn.metrics import accuracy_score, f1_score
from worker import versions

from frozenbert.encoders.sources import PACKAGED_ENCODER, find_encoder

RESAMPLES = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure one cell; return the exit code."""
    parser = argparse.ArgumentParser(prog="cell.py", description="Measure one cell.")
    parser.add_argument("data", choices=real.TASKS)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--cache", type=Path, help="of vectors (default: a temporary one)")
    parser.add_argument("--minutes", type=float, default=30, help="at most, for SetFit")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    write_figures(measure(options), options.file)
    return 0


def measure(options: Any) -> dict[str, Any]:
    """Train and predict; return the cell."""
    task, folder = real.TASKS[options.data], real.texts_folder("cell.py")
    split = task.load(folder)
    before = machine()
    encoder = str(find_encoder(PACKAGED_ENCODER).folder)
    with tempfile.TemporaryDirectory(prefix="frozenbert-bench-") as scratch:
        job = Job(split, encoder, Path(scratch), options.cache, 60 * options.minutes)
        begun = time.perf_counter()
        answer = WAYS[options.way].run(job)
        seconds = time.perf_counter() - begun
    return {
        "data": options.data,
        "way": options.way,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": split.fingerprint(),
        "n_train": len(split.texts),
        "n_test": len(split.test_texts),
        "encoder": PACKAGED_ENCODER,
        **_scores(answer, split.test_y, task.figures),
        "facts": answer.facts,
        "seconds": seconds / len(answer.predictions),
        "stored_vectors": options.cache is not None,
        "machine": before,
        "versions": versions(),
    }


def _scores(answer: Answer, truth: np.ndarray, figures: Sequence[str]) -> dict[str, Any]:
    def statistic(rows: np.ndarray) -> list[float]:
        return [
            float(np.mean([FIGURES[name](truth[rows], p[rows]) for p in answer.predictions]))
            for name in figures
        ]

    rows = np.arange(len(truth))
    resampled = bootstrap(
        (rows,),
        statistic,
        n_resamples=RESAMPLES,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).bootstrap_distribution
    return {
        "figures": dict(zip(figures, statistic(rows), strict=True)),
        "draws": [{name: FIGURES[name](truth, p) for name in figures} for p in answer.predictions],
        "resampled": {
            name: " ".join(f"{value:.4f}" for value in values)
            for name, values in zip(figures, resampled, strict=True)
        },
        "right": [_packed(p == truth) for p in answer.predictions],
        "predictions": [
            hashlib.sha256(json.dumps(p.tolist()).encode()).hexdigest()[:16]
            for p in answer.predictions
        ],
    }


def _packed(right: np.ndarray) -> str:
    """Return a hexadecimal digit for four rows, the first row its highest bit."""
    rows = right if right.ndim == 1 else right.all(axis=1)
    return np.packbits(rows).tobytes().hex()


def _macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(f1_score(truth, predicted, average="macro", zero_division=0))


def _micro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(f1_score(truth, predicted, average="micro", zero_division=0))


FIGURES = {real.ACCURACY: accuracy_score, real.MACRO_F1: _macro_f1, real.MICRO_F1: _micro_f1}


if __name__ == "__main__":
    sys.exit(main())
