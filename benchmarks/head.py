"""Compare the head's search with the tutorial's, in turn, on the same vectors and folds.

    python benchmarks/head.py [--rows 2000] [--values 20] [--rounds 3]

Both try 20 values of C over 5 folds. The tutorial's is GridSearchCV(LogisticRegression(), {"C":
np.linspace(0.0001, 100, 20)}) on the vectors as they are. Ours is make_head on standardised
vectors; standardising them is part of its time.

The texts are SST-2's from $FROZENBERT_TEXTS, or the sample reviews. Their vectors have the width
of DistilBERT-base, 768: the means of layers 5 and 6 of all-MiniLM-L6-v2 side by side, because
scores on vectors of random weights would be meaningless.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from report import machine, write_figures
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from worker import versions

from frozenbert import DistilBertVectorizer
from frozenbert.cli.arguments import Parser, positive
from frozenbert.encoders.sources import PACKAGED_ENCODER
from frozenbert.errors import InputError
from frozenbert.heads.logistic import C_VALUES, make_head
from frozenbert.tables.reading import read_table

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parent / "data" / "movie_reviews" / "train.tsv"
FOLDS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; return the exit code."""
    parser = Parser(prog="head.py", description="Compare the head's search with the tutorial's.")
    parser.add_argument("--rows", type=positive, default=2000, help="default: 2000")
    parser.add_argument("--values", type=positive, default=20, help="of C (default: 20)")
    parser.add_argument("--rounds", type=positive, default=3, help="default: 3")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args(arguments)
    try:
        X, y, source = vectors_and_labels(options.rows)
    except InputError as error:
        print(f"head.py: {error}", file=sys.stderr)
        return 2
    searches = {"tutorial": tutorial(options.values), "frozenbert": ours(options.values)}
    results: dict[str, dict[str, Any]] = {name: {"seconds": []} for name in searches}
    for number in range(options.rounds):
        for name, search in searches.items():
            seconds = timed_fit(search, X, y)
            print(f"  round {number + 1}, {name}: {seconds:.2f} s", file=sys.stderr)
            best = search[-1] if isinstance(search, Pipeline) else search
            results[name]["seconds"].append(seconds)
            results[name] |= {"score": float(best.best_score_), "C": float(best.best_params_["C"])}

    started = datetime.now(UTC)
    report = {
        "date": started.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "source": source,
        "rows": len(X),
        "columns": X.shape[1],
        "values": options.values,
        "folds": FOLDS,
        "results": results,
    }
    path = write_figures(report, options.out / started.strftime("head-%Y-%m-%d-%H%M%S.json"))
    print(to_markdown(report))
    print(f"\nWritten: {path}")
    return 0


def tutorial(n_values: int) -> GridSearchCV:
    """Make the tutorial's search; its folds are scikit-learn's default, five in a row."""
    return GridSearchCV(LogisticRegression(), {"C": np.linspace(0.0001, 100, n_values)})


def ours(n_values: int) -> Pipeline:
    """Make our search, on the tutorial's folds, so that the scores are comparable."""
    values = np.logspace(np.log10(min(C_VALUES)), np.log10(max(C_VALUES)), n_values)
    head = make_head(C=values).set_params(cv=StratifiedKFold(FOLDS))
    return Pipeline([("scale", StandardScaler()), ("classify", head)])


def timed_fit(search: Any, X: np.ndarray, y: np.ndarray) -> float:
    """Fit, and return the seconds."""
    with warnings.catch_warnings():
        # The tutorial's search does not converge in its 100 steps, and warns a hundred times.
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        search.fit(X, y)
        return time.perf_counter() - start


def vectors_and_labels(rows: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return vectors, labels and the name of the texts' source."""
    folder = os.environ.get("FROZENBERT_TEXTS")
    path = Path(folder) / "sst2" / "train.tsv" if folder else SAMPLE
    if not path.exists():
        raise InputError(f"{path}: no labelled texts; set FROZENBERT_TEXTS, or `make reviews`.")
    frame = read_table(path, header=False).frame.iloc[:rows]
    vectorizer = DistilBertVectorizer(
        PACKAGED_ENCODER, layers=(5, 6), pooling="mean", cache_dir=None, progress=False
    )
    X = vectorizer.fit_transform(frame.iloc[:, 0])
    return X, frame.iloc[:, 1].to_numpy(), "SST-2" if folder else "sample reviews"


def to_markdown(report: dict[str, Any]) -> str:
    """Return the table."""
    medians = {k: statistics.median(v["seconds"]) for k, v in report["results"].items()}
    lines = [
        f"Measured {report['date']}: {report['rows']} × {report['columns']} ({report['source']}, "
        f"layers 5 and 6 of {PACKAGED_ENCODER}), {report['values']} values of C, "
        f"{report['folds']} folds; {report['machine']['cpu']}, {report['machine']['cores']} cores.",
        "",
        "| search | median s | times faster | best cross-validated accuracy | C |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, result in report["results"].items():
        lines.append(
            f"| {name} | {medians[name]:.3g} | {medians['tutorial'] / medians[name]:.1f} "
            f"| {result['score']:.4f} | {result['C']:.3g} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
