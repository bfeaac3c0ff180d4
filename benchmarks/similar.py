"""Time the search for similar texts, and compare it with brute force.

    FROZENBERT_TEXTS=FOLDER python benchmarks/similar.py [--rows 50000]

The texts are the comments of GoEmotions and the questions of Banking77, each once, in random order.
Their vectors are computed first, or come from the cache; that is not part of any time. Memory is
that of the whole process at its peak, with the vectors in it.

Of the first 5,000 texts, all pairs are compared in float64 as well: a pair that one way finds and
the other does not is counted.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from real import banking77, goemotions, measured, new_report, texts_folder
from report import write_figures
from worker import forget_peak, memory_mb

from frozenbert import DistilBertVectorizer
from frozenbert.cli.arguments import Parser, positive
from frozenbert.encoders.sources import PACKAGED_ENCODER
from frozenbert.errors import PairLimitWarning
from frozenbert.similarity import find_clusters, find_near_duplicates, score_outliers

HERE = Path(__file__).resolve().parent
THRESHOLDS = (0.95, 0.9, 0.8)
CHECKED = 5000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    parser = Parser(prog="similar.py", description="Time the search for similar texts.")
    parser.add_argument("--rows", type=positive, default=50_000, help="default: 50000")
    parser.add_argument("--cache-dir", default="auto", metavar="FOLDER", help="of the vectors")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args(arguments)
    texts = some_texts(texts_folder("similar.py"), options.rows)
    embed = DistilBertVectorizer(PACKAGED_ENCODER, cache_dir=options.cache_dir, progress=False)
    vectors = embed.fit_transform(texts)
    report, path = new_report("similar", options.out, model=PACKAGED_ENCODER)
    report |= {"n_texts": len(texts), "columns": vectors.shape[1]}
    for threshold in THRESHOLDS:
        row, found = timed(
            f"near-duplicates from {threshold}", lambda t=threshold: find_pairs(vectors, t)
        )
        report["rows"].append(row | {"found": found.n_found})
    row, _ = timed("outliers", lambda: score_outliers(vectors))
    report["rows"].append(row)
    row, clusters = timed("clusters", lambda: find_clusters(vectors))
    report["rows"].append(row | {"found": len(clusters.typical), "note": clusters.method})
    some = vectors[:10_000]
    row, clusters = timed("clusters of 10,000 texts", lambda: find_clusters(some))
    report["rows"].append(row | {"found": len(clusters.typical), "note": clusters.method})
    report["checked"] = [check(vectors[:CHECKED], threshold) for threshold in THRESHOLDS]
    path = write_figures(report, path)
    print(to_markdown(report))
    print(f"\nWritten: {path}")
    return 0


def some_texts(folder: Path, number: int) -> list[str]:
    """Return distinct texts in random order."""
    texts = [*goemotions(folder, "train")[0], *goemotions(folder, "dev")[0], *banking77(folder)[0]]
    texts = sorted({text for text in texts if text.strip()})
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:number]]


def find_pairs(vectors: np.ndarray, threshold: float) -> Any:
    """Find near-duplicates, without a warning of their number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PairLimitWarning)
        return find_near_duplicates(vectors, threshold, progress=False)


def timed(what: str, function: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """Return a row of the table, and the result."""
    forget_peak()
    start = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - start
    print(f"  {what}: {seconds:.1f} s", file=sys.stderr)
    return {"what": what, "seconds": seconds, "peak_mb": memory_mb("VmHWM")}, result


def check(vectors: np.ndarray, threshold: float) -> dict[str, Any]:
    """Compare with all cosines in float64."""
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    expected = np.argwhere(np.triu(unit @ unit.T >= threshold, 1))
    found = find_pairs(vectors, threshold)
    ours = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    theirs = set(map(tuple, expected.tolist()))
    return {
        "threshold": threshold,
        "pairs": len(theirs),
        "missed": len(theirs - ours),
        "wrong": len(ours - theirs),
    }


def to_markdown(report: dict[str, Any]) -> str:
    """Return the tables."""
    lines = [
        measured(report),
        f"{report['n_texts']:,} texts, {report['columns']} columns.",
        "",
        "| what | s | memory of the process, MB | found | |",
        "|---|--:|--:|--:|---|",
    ]
    for row in report["rows"]:
        found = f"{row['found']:,}" if "found" in row else ""
        lines.append(
            f"| {row['what']} | {row['seconds']:.1f} | {row['peak_mb'] or 0:.0f} | {found} "
            f"| {row.get('note', '')} |"
        )
    lines += ["", "| threshold | pairs by brute force | missed | wrong |", "|--:|--:|--:|--:|"]
    for row in report["checked"]:
        lines.append(
            f"| {row['threshold']} | {row['pairs']:,} | {row['missed']} | {row['wrong']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
