"""Measure what reduced precision costs in accuracy: the same rows, folds and heads, paired.

    python benchmarks/precision.py [--texts imdb] [--rows 6920] [--pooling mean] [--repeats 5]

Each row is predicted by a head that was tuned on the other folds, with vectors of the same
precision. This is repeated with other folds, because another C changes as many predictions as
another precision does. The interval is that of the mean paired difference over the rows, each
averaged over the repeats (normal, 95 %).

The texts are SST-2's or IMDB's from $FROZENBERT_TEXTS, or the sample reviews. The report also
says which precision `precision="auto"` selects on them, and by which figures.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from report import machine, write_figures
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from worker import versions

from frozenbert import DistilBertVectorizer
from frozenbert.cli.arguments import Parser, folds, positive
from frozenbert.encoders.sources import PACKAGED_ENCODER
from frozenbert.errors import InputError
from frozenbert.heads.logistic import make_head
from frozenbert.tables.reading import read_table
from frozenbert.vectors.settings import PRECISIONS

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parent / "data" / "movie_reviews" / "train.tsv"


class Source(NamedTuple):
    """Labelled texts: text first, then the label."""

    title: str
    file: Path
    header: bool


SOURCES = {
    "sst2": Source("SST-2", Path("sst2/train.tsv"), header=False),
    "imdb": Source("IMDB", Path("imdb/train.csv.gz"), header=True),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; return the exit code."""
    parser = Parser(
        prog="precision.py", description="Measure what reduced precision costs in accuracy."
    )
    parser.add_argument("--model", default=PACKAGED_ENCODER, metavar="NAME")
    parser.add_argument("--texts", choices=SOURCES, default="sst2", help="default: sst2")
    parser.add_argument("--pooling", default="mean", help="default: mean")
    parser.add_argument(
        "--rows", type=positive, help="use the first N rows (default: all)", metavar="N"
    )
    parser.add_argument("--folds", type=folds, default=5, help="default: 5")
    parser.add_argument("--repeats", type=positive, default=5, help="of the folds (default: 5)")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args(arguments)
    try:
        texts, y, source = texts_and_labels(options.texts, options.rows)
        auto = choose(texts, y, options)
        results = {name: measure(name, texts, y, options) for name in PRECISIONS}
    except InputError as error:
        print(f"precision.py: {error}", file=sys.stderr)
        return 2

    vectors = {name: result.pop("vectors") for name, result in results.items()}
    right = {name: result.pop("right") for name, result in results.items()}
    for name, result in results.items():
        difference = right[name] - right["float32"]
        result["accuracy"] = float(right[name].mean())
        result["difference"] = float(difference.mean())
        result["interval"] = float(1.96 * difference.std(ddof=1) / len(y) ** 0.5)
        result["mean_cosine"] = float(cosines(vectors[name], vectors["float32"]).mean())
    started = datetime.now(UTC)
    report = {
        "date": started.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "model": options.model,
        "pooling": options.pooling,
        "source": source,
        "rows": len(y),
        "folds": options.folds,
        "repeats": options.repeats,
        "results": results,
        "auto": auto,
    }
    path = write_figures(report, options.out / started.strftime("precision-%Y-%m-%d-%H%M%S.json"))
    print(to_markdown(report))
    print(f"\nWritten: {path}")
    return 0


def choose(texts: list[str], y: np.ndarray, options: Any) -> dict[str, Any]:
    """Return what `precision="auto"` selects, and the trials that it was selected by."""
    vectorizer = DistilBertVectorizer(
        options.model, pooling=options.pooling, precision="auto", cache_dir=None, progress=False
    )
    vectorizer.fit(texts, y)
    return {"precision": vectorizer.precision_, "trials": vectorizer.precision_trials_}


def measure(precision: str, texts: list[str], y: np.ndarray, options: Any) -> dict[str, Any]:
    """Encode the texts and predict each row out of fold."""
    vectorizer = DistilBertVectorizer(
        options.model,
        pooling=options.pooling,
        precision=precision,
        cache_dir=None,
        progress=False,
    )
    vectorizer.fit_transform(texts[:8])  # exports the graph
    start = time.perf_counter()
    vectors = vectorizer.transform(texts)
    seconds = time.perf_counter() - start
    print(f"  {precision}: {len(texts) / seconds:,.0f} texts/s", file=sys.stderr)
    model = make_pipeline(StandardScaler(), make_head())
    right = np.zeros(len(y))
    for repeat in range(options.repeats):
        split = StratifiedKFold(options.folds, shuffle=True, random_state=repeat)
        right += (cross_val_predict(model, vectors, y, cv=split) == y) / options.repeats
    return {"seconds": seconds, "vectors": vectors, "right": right}


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of `a` with that of `b`."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / norms


def texts_and_labels(name: str, rows: int | None) -> tuple[list[str], np.ndarray, str]:
    """Return texts, labels and the name of their source."""
    folder = os.environ.get("FROZENBERT_TEXTS")
    source = SOURCES[name] if folder else Source("sample reviews", SAMPLE, header=False)
    path = Path(folder) / source.file if folder else source.file
    if not Path(path).exists():
        raise InputError(f"{path}: no labelled texts; set FROZENBERT_TEXTS, or `make reviews`.")
    frame = read_table(path, header=source.header).frame.iloc[:rows]
    return frame.iloc[:, 0].tolist(), frame.iloc[:, 1].to_numpy(), source.title


def to_markdown(report: dict[str, Any]) -> str:
    """Return the table."""
    lines = [
        f"Measured {report['date']}: {report['rows']} rows ({report['source']}), "
        f"{report['model']}, pooling {report['pooling']}, {report['folds']} folds, repeated "
        f"{report['repeats']} times; "
        f"{report['machine']['cpu']}, "
        f"{report['machine']['cores']} cores.",
        "",
        "| precision | accuracy | less float32's, points (95 %) | mean cosine with float32 |",
        "|---|--:|--:|--:|",
    ]
    for name, result in report["results"].items():
        against = f"{100 * result['difference']:+.2f} ± {100 * result['interval']:.2f}"
        lines.append(
            f"| {name} | {result['accuracy']:.4f} | {'' if name == 'float32' else against} "
            f"| {result['mean_cosine']:.4f} |"
        )
    auto = report["auto"]
    trials = "; ".join(
        f"{name}: mean cosine {trial['mean_cosine']:.4f}, {trial['equal_labels']:.1%} equal labels"
        for name, trial in auto["trials"].items()
    )
    lines += ["", f"auto selects {auto['precision']} ({trials or 'no trial'})."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
