"""Compare the head's search with the tutorial's; time the search for features, with words.

    python benchmarks/head.py [--rows 2000] [--values 20] [--rounds 3]
    FROZENBERT_TEXTS=FOLDER python benchmarks/head.py --searched sst2 banking77

Both try 20 values of C over 5 folds. The tutorial's is GridSearchCV(LogisticRegression(), {"C":
np.linspace(0.0001, 100, 20)}) on the vectors as they are. Ours is make_head on standardised
vectors; standardising them is part of its time.

The texts are SST-2's from $FROZENBERT_TEXTS, or the sample reviews. Their vectors have the width
of DistilBERT-base, 768: the means of layers 5 and 6 of all-MiniLM-L6-v2 side by side, because
scores on vectors of random weights would be meaningless.

With `--searched` it times `make_text_classifier(search="features", with_tfidf=True)` instead, on
vectors in the cache: all six layers, [CLS] and mean, 4,608 columns. Each data set has a process of
its own, for the peak of memory. SST-2 is scored on dev.tsv; of Banking77, whose test half is not
among the texts, a fifth of each class is held out.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from real import measured, new_report, sst2, texts_folder
from report import machine, write_figures
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from worker import forget_peak, memory_mb, versions

from frozenbert import DistilBertVectorizer, make_text_classifier
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
    parser.add_argument("--searched", nargs="+", choices=["sst2", "banking77"], metavar="NAME")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args(arguments)
    if options.searched:
        return time_searches(options.searched, options.out)
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


def time_searches(names: Sequence[str], out: Path) -> int:
    """Time the search for features with words on each data set, write and print the figures."""
    folder = texts_folder("head.py")
    report, path = new_report("head-searched", out, model=PACKAGED_ENCODER)
    for name in names:
        # A new process for each: memory that one has used would count for the next.
        with ProcessPoolExecutor(1) as pool:
            report["rows"].append(pool.submit(searched, name, folder).result())
    path = write_figures(report, path)
    lines = [
        measured(report),
        "",
        "| data | rows × columns | classes | vectors, MB | s | peak above the start, MB "
        "| accuracy | macro F1 | layers, pooling, C |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in report["rows"]:
        lines.append(
            f"| {row['data']} | {row['rows']} × {row['columns']} | {row['classes']} "
            f"| {row['vectors_mb']:.0f} | {row['seconds']:.1f} | {row['peak_mb']:.0f} "
            f"| {row['accuracy']:.4f} | {row['macro_f1']:.4f} | {row['best']} |"
        )
    print("\n".join(lines))
    print(f"\nWritten: {path}")
    return 0


def searched(name: str, folder: Path) -> dict[str, Any]:
    """Fit the searched classifier with words on cached vectors; return time, memory and scores."""
    if name == "sst2":
        texts, labels = sst2(folder, "train")
        held_out = sst2(folder, "dev")
    else:
        frame = read_table(folder / "banking77" / "train.csv").frame
        parts = train_test_split(
            frame["text"].tolist(),
            frame["category"].to_numpy(dtype=str),
            test_size=0.2,
            stratify=frame["category"],
            random_state=1,
        )
        texts, labels, held_out = parts[0], parts[2], (parts[1], parts[3])
    with tempfile.TemporaryDirectory() as cache:
        model = make_text_classifier(
            PACKAGED_ENCODER,
            recipe="plain",
            search="features",
            with_tfidf=True,
            cache_dir=cache,
            progress=False,
        )
        embed = model["features"].transformer_list[0][1]["embed"]
        vectors = embed.fit_transform(texts)  # into the cache
        n_columns, vectors_mb = vectors.shape[1], vectors.size * 4 / 1e6
        del vectors
        gc.collect()
        before = memory_mb("VmRSS")
        forget_peak()
        start = time.perf_counter()
        model.fit(texts, labels)
        seconds = time.perf_counter() - start
        peak = memory_mb("VmHWM")
        answers = model.predict(held_out[0])
    best = model[-1].best_params_
    return {
        "data": name,
        "rows": len(texts),
        "columns": n_columns,
        "classes": len(np.unique(labels)),
        "vectors_mb": vectors_mb,
        "seconds": seconds,
        "peak_mb": (peak or 0.0) - (before or 0.0),
        "accuracy": float(np.mean(answers == held_out[1])),
        "macro_f1": float(f1_score(held_out[1], answers, average="macro")),
        "best": f"{best['layers']}, {best['pooling']}, {best['C']:.2g}",
    }


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
