"""Measure what windows over long texts and calibration add, in folds of real texts.

    python benchmarks/ablation.py [--only calibration,windows,windows-and-words] [--limit 2000]

The texts are those of $FROZENBERT_TEXTS: SST-2 and IMDB, each in five folds of its training file.
Nothing is tuned on what is scored: C, votes and calibration are chosen within the training rows.
Intervals are 95 % of resampled rows. Vectors are stored in artifacts/cache: the 25,000 reviews
take 20 minutes the first time, and their windows a few more.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import real
from joblib import Parallel, delayed
from report import write_figures
from scipy.stats import bootstrap
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from frozenbert import DistilBertVectorizer, make_text_classifier
from frozenbert.cli.arguments import Parser, jobs, positive
from frozenbert.encoders.sources import PACKAGED_ENCODER
from frozenbert.errors import InputError, TruncationWarning
from frozenbert.heads.logistic import make_head
from frozenbert.heads.search import tuned_estimator
from frozenbert.heads.selection import SelectVectors
from frozenbert.heads.words import WordScores, make_words_baseline
from frozenbert.reports.metrics import brier_score, calibration_error, intervals
from frozenbert.utils.steps import find_step

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / "artifacts" / "cache"
FOLDS = 5
PLAIN_C = 0.0144  # what the search for features chose in the first fold of IMDB


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurements; return the exit code."""
    parser = Parser(prog="ablation.py", description="Measure what windows and calibration add.")
    parser.add_argument("--model", default=PACKAGED_ENCODER, metavar="NAME")
    parser.add_argument("--only", default=",".join(MEASURES), help=f"of {', '.join(MEASURES)}")
    parser.add_argument(
        "--limit", type=positive, help="use the first N rows of each file", metavar="N"
    )
    parser.add_argument("--n-jobs", type=jobs, default=-1, help="processes (default: all cores)")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args(arguments)
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(MEASURES):
        parser.error(f"--only {sorted(unknown)[0]}: of {', '.join(MEASURES)}")
    folder = real.texts_folder("ablation.py")
    report, path = real.new_report(
        "ablation", options.out, model=options.model, limit=options.limit
    )
    for name in chosen:
        begun = time.perf_counter()
        try:
            rows = MEASURES[name](folder, options)
        except InputError as error:
            print(f"ablation.py: {error}", file=sys.stderr)
            return 2
        seconds = time.perf_counter() - begun
        print(f"  {name}: {seconds:.0f} s", file=sys.stderr, flush=True)
        report["rows"] += [{"measure": name, "seconds": seconds, **row} for row in rows]
        write_figures(report, path)
    print(to_markdown(report))
    print(f"\nWritten: {path}")
    return 0


def imdb(folder: Path, options: Any) -> list[dict[str, Any]]:
    """Score in five folds, and calibrate out of fold."""
    texts, y = real.imdb(folder, options.limit)
    settings = {"search": "features", "with_tfidf": True, "calibrate": "sigmoid"}
    found = _in_folds(texts, y, options, settings)
    data = f"IMDB, {FOLDS} folds of {len(y):,}"
    rows = [_accuracy(data, way, y, found[part], found["tfidf"]) for part, way in WAYS.items()]
    return rows + _calibration(data, WAYS["both"], y, found)


def windows(folder: Path, options: Any) -> list[dict[str, Any]]:
    """Score each handling of long texts in the same five folds."""
    texts, y = real.imdb(folder, options.limit)
    data = f"IMDB, {FOLDS} folds of {len(y):,}, means of all layers, C = {PLAIN_C}"
    rows: list[dict[str, Any]] = []
    base: np.ndarray | None = None
    for long_text in ("truncate", "head_tail", "windows"):
        found = _in_folds(texts, y, options, {"long_text": long_text}, _plain)["both"]
        base = found if base is None else base
        rows.append(_accuracy(data, f"`--long-text {long_text}`", y, found, base))
    return rows


def windows_and_words(folder: Path, options: Any) -> list[dict[str, Any]]:
    """Score words together with vectors of long texts that were read whole."""
    texts, y = real.imdb(folder, options.limit)
    data = f"IMDB, {FOLDS} folds of {len(y):,}, means of all layers, C = {PLAIN_C}"
    rows: list[dict[str, Any]] = []
    found = _in_folds(texts, y, options, {"long_text": "windows", "with_tfidf": True}, _plain)
    for part, way in (("tfidf", WAYS["tfidf"]), ("both", "`--long-text windows --with-tfidf`")):
        rows.append(_accuracy(data, way, y, found[part], found["tfidf"]))
    return rows


def _plain(options: Any, *, long_text: str, with_tfidf: bool = False) -> Pipeline:
    """Make a classifier of the mean vectors of all layers, which the searches have cached."""
    vectorizer = DistilBertVectorizer(
        options.model,
        layers="all",
        pooling=("cls", "mean"),
        long_text=long_text,
        cache_dir=CACHE,
        progress=False,
    ).set_output(transform="pandas")
    vectors = make_pipeline(vectorizer, SelectVectors(pooling="mean"), StandardScaler())
    features = FeatureUnion([("vectors", vectors)])
    if with_tfidf:
        features = FeatureUnion([("vectors", vectors), ("words", WordScores())])
    return make_pipeline(features, make_head(C=PLAIN_C, with_words=with_tfidf))


def calibration(folder: Path, options: Any) -> list[dict[str, Any]]:
    """Calibrate on SST-2's training file, out of fold."""
    texts, y = real.sst2(folder, "train", options.limit)
    found = _in_folds(texts, y, options, {"with_tfidf": True, "calibrate": "sigmoid"})
    return _calibration(f"SST-2, {FOLDS} folds of {len(y):,}", "`--with-tfidf`", y, found)


MEASURES = {
    "calibration": calibration,
    "imdb": imdb,
    "windows": windows,
    "windows-and-words": windows_and_words,
}
WAYS = {
    "tfidf": "TF-IDF alone",
    "words": "TF-IDF, weighted as in naive Bayes, alone",
    "vectors": "`--search features`",
    "both": "`--search features --with-tfidf`",
}


def _make(options: Any, **settings: Any) -> Any:
    return make_text_classifier(
        options.model, recipe="plain", cache_dir=CACHE, progress=False, **settings
    )


def _answers(model: Any, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return predictions of the model, of its vectors and of its words; probabilities."""
    head, words = model[-1], find_step(model, WordScores)
    features = model[:-1].transform(texts)
    if words is None:
        return {"both": head.predict(features)}
    vectors, _ = head.split(features)
    plain = head.uncalibrated_proba(features)
    return {
        "words": words.words_.predict(texts),
        "vectors": tuned_estimator(head).predict(vectors),
        "both": head.classes_[plain.argmax(axis=1)],
        "before": plain,
        "after": head.predict_proba(features),
    }


def _in_folds(
    texts: list[str],
    y: np.ndarray,
    options: Any,
    settings: dict[str, Any],
    make: Callable[..., Any] | None = None,
) -> dict[str, np.ndarray]:
    """Predict each row with a model that was trained on the other folds."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    parts = [test for _, test in folds.split(texts, y)]
    found = Parallel(n_jobs=options.n_jobs)(
        delayed(_fold)(texts, y, test, options, settings, make or _make) for test in parts
    )
    order = np.argsort(np.concatenate(parts))
    return {name: np.concatenate([f[name] for f in found])[order] for name in found[0]}


def _fold(
    texts: list[str],
    y: np.ndarray,
    test: np.ndarray,
    options: Any,
    settings: dict[str, Any],
    make: Callable[..., Any],
) -> dict[str, np.ndarray]:
    warnings.simplefilter("ignore", TruncationWarning)
    train = np.setdiff1d(np.arange(len(y)), test)
    model = make(options, **settings).fit([texts[i] for i in train], y[train])
    found = _answers(model, [texts[i] for i in test])
    if "words" in found:
        baseline = make_words_baseline().fit([texts[i] for i in train], y[train])
        found["tfidf"] = baseline.predict([texts[i] for i in test])
    print("    fold done", file=sys.stderr, flush=True)
    return found


def _accuracy(
    data: str,
    way: str,
    y: np.ndarray,
    predicted: np.ndarray,
    base: np.ndarray,
) -> dict[str, Any]:
    ends = intervals(y, predicted, base)
    return {
        "data": data,
        "way": way,
        "figure": "accuracy",
        "value": float(np.mean(predicted == y)),
        "interval": ends["accuracy"],
        "above_first": ends["accuracy_above_baseline"],
    }


def _calibration(
    data: str, name: str, y: np.ndarray, found: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    classes, rows = np.unique(y), []
    for when, way in (("before", "as they come"), ("after", "`--calibrate sigmoid`")):
        p = found[when]

        def error(at: np.ndarray, p: np.ndarray = p) -> float:
            return calibration_error(y[at], p[at], classes)

        ends = bootstrap(
            (np.arange(len(y)),),
            error,
            n_resamples=1000,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        rows.append(
            {
                "data": data,
                "way": f"{name}, {way}",
                "figure": "calibration error",
                "value": error(np.arange(len(y))),
                "interval": [float(ends.low), float(ends.high)],
                "brier": brier_score(y, p, classes),
            }
        )
    return rows


def to_markdown(report: dict[str, Any]) -> str:
    """Return the table."""
    lines = [
        real.measured(report),
        "",
        "| data | way | figure | value | 95 % | above the first, points |",
        "|---|---|---|--:|--:|--:|",
    ]
    for row in report["rows"]:
        low, high = row["interval"]
        above = ""
        if "above_first" in row:
            ends = row["above_first"]
            above = f"{100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}"
        lines.append(
            f"| {row['data']} | {row['way']} | {row['figure']} | {row['value']:.4f} "
            f"| {low:.4f} to {high:.4f} | {above} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
