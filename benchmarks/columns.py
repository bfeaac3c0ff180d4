"""Measure models of numbers, grades and other columns on shop reviews and sample reviews.

    python benchmarks/columns.py [--only shop,ratings] [--recipe auto] [--cache FOLDER]

The shop reviews (`alexa/train.csv` in $FROZENBERT_TEXTS: stars from 1 to 5, a date, a product and
a text) are predicted in five folds, stratified by the stars; everything that is tuned is tuned
within the training rows of a fold. The peer is skrub's `tabular_pipeline` on the same folds. The
mean ratings of the sample reviews (data/movie_reviews/ratings-*.tsv) have one split. Raw
predictions and figures go into results/columns-DATE.json.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from real import new_report, texts_folder
from report import write_figures
from sklearn.base import clone
from sklearn.model_selection import KFold, StratifiedKFold
from skrub import tabular_pipeline

from frozenbert import make_text_regressor
from frozenbert.cli.arguments import Parser
from frozenbert.heads.columns.joint import JointRegressor
from frozenbert.heads.columns.reader import ColumnReader
from frozenbert.heads.numeric.ordinal import CutPoints
from frozenbert.heads.numeric.word_regression import fit_words
from frozenbert.reports.numeric.figures import number_intervals, score_numbers

HERE = Path(__file__).resolve().parent
REVIEWS = HERE.parent / "data" / "movie_reviews"
ENCODER = "all-MiniLM-L6-v2"
TEXT = "verified_reviews"
KINDS = {"text": TEXT, "category": "variation", "date": "date"}
Settings = dict[str, Any]
GRADES = [1.0, 2.0, 3.0, 4.0, 5.0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the tables; return the exit code."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="shop,ratings", metavar="NAMES")
    parser.add_argument("--cache", default="artifacts/cache", metavar="FOLDER")
    parser.add_argument("--recipe", choices=("auto", "plain"), default="auto")
    options = parser.parse_args(arguments)
    # The plain recipe with words: the last layer, and no search for layers and pooling.
    plain = {"recipe": "plain", "with_tfidf": True} if options.recipe == "plain" else {}
    settings = {"cache_dir": options.cache, **plain}
    folder = texts_folder("columns.py")
    report, path = new_report("columns", HERE / "results", encoder=ENCODER, recipe=options.recipe)
    warnings.simplefilter("ignore")
    if "shop" in options.only.split(","):
        report["shop"] = shop(folder, settings)
        write_figures(report, path)
    if "ratings" in options.only.split(","):
        report["ratings"] = ratings(settings)
    write_figures(report, path)
    print(path)
    return 0


def shop(folder: Path, settings: Settings) -> dict[str, Any]:
    """Return the predictions and scores of the stars, out of fold."""
    table = pd.read_csv(folder / "alexa" / "train.csv", keep_default_na=False)
    X, y = table.drop(columns="rating"), table["rating"].to_numpy()
    found: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for number, (train, test) in enumerate(folds.split(X, y)):
        for predict in (_columns_alone, _ours, _peers):
            start = time.perf_counter()
            for name, predicted in predict(X.iloc[train], y[train], X.iloc[test], settings).items():
                found.setdefault(name, np.zeros(len(y)))[test] = predicted
            name = predict.__name__.strip("_")
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
        print(f"fold {number + 1} of 5", {k: round(v) for k, v in seconds.items()}, flush=True)
    true = y.astype(float)
    scores = {name: dict(score_numbers(true, one, GRADES)) for name, one in found.items()}
    pairs = {
        "regression": ("both, regression", "skrub tabular_pipeline, regressor"),
        "ordinal": ("both, ordinal", "skrub tabular_pipeline, classifier"),
        "ordinal, and the regressor rounded": (
            "both, ordinal",
            "skrub tabular_pipeline, regressor rounded",
        ),
        "text adds to columns, regression": ("both, regression", "columns alone, regression"),
        "columns add to text, regression": ("both, regression", "text alone, regression"),
        "columns add to text, ordinal": ("both, ordinal", "text alone, ordinal"),
    }
    differences = {
        title: {
            key: ends
            for key, ends in number_intervals(true, found[a], found[b], GRADES).items()
            if key.endswith("_above_baseline")
        }
        for title, (a, b) in pairs.items()
    }
    for name, one in scores.items():
        # A kappa of predictions that are no grades means nothing.
        if "regress" in name and "rounded" not in name:
            del one["quadratic_kappa"]
        print(f"{name:50}", {key: round(value, 3) for key, value in one.items()})
    for title, ends in differences.items():
        print(f"{title:50}", {key: [round(e, 3) for e in pair] for key, pair in ends.items()})
    predictions = {name: one.round(4).tolist() for name, one in found.items()}
    return {
        "n": len(y),
        "scores": scores,
        "differences": differences,
        "seconds": seconds,
        "true": y.tolist(),
        "predictions": predictions,
    }


def _columns_alone(X: Any, y: np.ndarray, X_test: Any, settings: Settings) -> dict[str, np.ndarray]:
    reader = ColumnReader(KINDS).fit(X, y)
    columns, of_test = reader.transform(X), reader.transform(X_test)
    folds = list(KFold(5, shuffle=True, random_state=0).split(columns))
    best: tuple[float, Any, np.ndarray] | None = None
    for model in JointRegressor(None)._models().values():
        held_out = np.zeros(len(y))
        for train, test in folds:
            held_out[test] = clone(model).fit(columns[train], y[train]).predict(columns[test])
        loss = float(np.mean((held_out - y) ** 2))
        if best is None or loss < best[0]:
            best = loss, clone(model).fit(columns, y), held_out
    assert best is not None
    predicted = best[1].predict(of_test)
    grades, codes = np.unique(y, return_inverse=True)
    cuts = CutPoints().fit(best[2][:, np.newaxis], codes)
    found = cuts.codes_from_proba(cuts.predict_proba(predicted[:, np.newaxis]))
    return {"columns alone, regression": predicted, "columns alone, ordinal": grades[found]}


def _ours(X: Any, y: np.ndarray, X_test: Any, settings: Settings) -> dict[str, np.ndarray]:
    model = make_text_regressor(ENCODER, task="ordinal", columns=KINDS, **settings).fit(X, y)
    head = model[-1]
    # Texts alone: the model of texts within it, which has seen nothing else.
    of_text = head.estimators_[0]
    predicted = of_text.predict(X_test[TEXT].tolist())
    grades, codes = np.unique(y, return_inverse=True)
    cuts = CutPoints().fit(of_text[-1].held_out()[:, np.newaxis], codes)
    found = cuts.codes_from_proba(cuts.predict_proba(predicted[:, np.newaxis]))
    return {
        "text alone, regression": predicted,
        "text alone, ordinal": grades[found],
        # The regression is that of the grades; only the cut points come on top of it.
        "both, regression": JointRegressor.predict(head, X_test),
        "both, ordinal": head.predict(X_test),
    }


def _peers(X: Any, y: np.ndarray, X_test: Any, settings: Settings) -> dict[str, np.ndarray]:
    regressor = tabular_pipeline("regressor").fit(X, y)
    classifier = tabular_pipeline("classifier").fit(X, y)
    text = tabular_pipeline("regressor").fit(X[[TEXT]], y)
    predicted = regressor.predict(X_test)
    return {
        "skrub tabular_pipeline, regressor": predicted,
        "skrub tabular_pipeline, regressor rounded": np.clip(np.round(predicted), 1, 5),
        "skrub tabular_pipeline, classifier": classifier.predict(X_test),
        "skrub tabular_pipeline, regressor, text alone": text.predict(X_test[[TEXT]]),
    }


def ratings(settings: Settings) -> dict[str, Any]:
    """Return the scores of the sample reviews' mean ratings."""
    parts = [
        pd.read_csv(REVIEWS / f"ratings-{part}.tsv", sep="\t", header=None, quoting=3)
        for part in ("train", "test")
    ]
    (texts, y), (test_texts, truth) = ((part[0].tolist(), part[1].to_numpy()) for part in parts)
    start = time.perf_counter()
    model = make_text_regressor(ENCODER, **settings).fit(texts, y)
    predicted = model.predict(test_texts)
    seconds = time.perf_counter() - start
    splits = list(KFold(5, shuffle=True, random_state=0).split(y))
    words, _ = fit_words(texts, y, splits)
    by_words = words.predict(test_texts)
    scores = {
        "vectors and words": dict(score_numbers(truth, predicted)),
        "TF-IDF + ridge regression": dict(score_numbers(truth, by_words)),
    }
    for name, one in scores.items():
        print(f"{name:50}", {key: round(value, 4) for key, value in one.items()})
    head = model[-1]
    return {
        "n_train": len(y),
        "n_test": len(truth),
        "scores": scores,
        "intervals": number_intervals(truth, predicted, by_words),
        "best_params": {key: str(value) for key, value in head.best_params_.items()},
        "ladder": head.ladder_,
        "seconds": seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
