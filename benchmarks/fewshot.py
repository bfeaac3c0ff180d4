"""Measure F1 with a hundred labels, alone and with a pool of unlabelled texts.

    python benchmarks/fewshot.py [--only tweets,imdb] [--draws 10] [--labels 100]

The texts are those of $FROZENBERT_TEXTS. 4,000 rows, half of each class, are held out and scored;
each draw labels 100 others, half of each class, and all remaining rows are the pool. Settings were
chosen on rows outside the 4,000. Vectors are stored in artifacts/cache: the 25,000 reviews take
20 minutes the first time.
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
import real
from report import write_figures
from sklearn.metrics import precision_recall_fscore_support
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from frozenbert import DistilBertVectorizer
from frozenbert.cli.arguments import Parser, positive
from frozenbert.encoders.sources import PACKAGED_ENCODER
from frozenbert.errors import TruncationWarning
from frozenbert.fewshot import FewShotClassifier
from frozenbert.fewshot.experts import Experts
from frozenbert.heads.selection import SelectVectors
from frozenbert.heads.words import make_words_baseline
from frozenbert.utils.steps import find_step

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / "artifacts" / "cache"
N_TEST = 4000
SEED = 12345


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurements; return the exit code."""
    parser = Parser(prog="fewshot.py", description="Measure F1 with few labels.")
    parser.add_argument("--only", default="tweets,imdb", help="of tweets, imdb")
    parser.add_argument("--draws", type=positive, default=10)
    parser.add_argument("--labels", type=positive, default=100)
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args(arguments)
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(DATA):
        parser.error(f"--only {sorted(unknown)[0]}: of {', '.join(DATA)}")
    folder = real.texts_folder("fewshot.py")
    warnings.simplefilter("ignore", TruncationWarning)
    warnings.filterwarnings("ignore", message="(?i).*line search")
    report, path = real.new_report(
        "fewshot", options.out, model=PACKAGED_ENCODER, labels=options.labels
    )
    for name in chosen:
        texts, y = DATA[name](folder)
        rng = np.random.default_rng(SEED)
        n_test = min(N_TEST, len(y) // 4)
        halves = (rng.permutation(np.flatnonzero(y == c))[: n_test // 2] for c in (0, 1))
        test = np.concatenate(list(halves))
        rest = np.setdiff1d(np.arange(len(y)), test)
        for draw in range(options.draws):
            begun = time.perf_counter()
            rng = np.random.default_rng(draw)
            labelled = np.concatenate(
                [rng.permutation(rest[y[rest] == c])[: options.labels // 2] for c in (0, 1)]
            )
            pool = np.setdiff1d(rest, labelled)
            found = _draw(texts, y, labelled, pool, test, draw)
            report["rows"] += [{"data": name, "draw": draw, **row} for row in found]
            print(f"  {name}, draw {draw}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
            write_figures(report, path)
    print(to_markdown(report))
    print(f"\nWritten: {path}")
    return 0


def _draw(
    texts: list[str],
    y: np.ndarray,
    labelled: np.ndarray,
    pool: np.ndarray,
    test: np.ndarray,
    seed: int,
) -> list[dict[str, Any]]:
    few, many, asked = ([texts[i] for i in rows] for rows in (labelled, pool, test))
    few_y = y[labelled]
    vectorizer = DistilBertVectorizer(
        PACKAGED_ENCODER, layers="all", pooling=("cls", "mean"), cache_dir=CACHE, progress=False
    ).set_output(transform="pandas")
    vectors = vectorizer.fit_transform(few)
    of_test = vectorizer.transform(asked)
    learned = FewShotClassifier(vectorizer=vectorizer, random_state=seed).fit(few, few_y, many)
    (head,) = Experts(1, bootstrap=False, random_state=seed).fit(vectors, few_y).experts_
    experts = learned.experts_[-1]
    answers: dict[str, Any] = {
        "random": np.random.default_rng(seed).integers(0, 2, len(test)),
        "bag of words": make_words_baseline(random_state=seed).fit(few, few_y).predict(asked),
        "one expert": head.predict(of_test),
        "self-training": _self_training(head, vectorizer, few, few_y, many, asked),
        "one of the eight experts": [one.predict(of_test) for one in experts.experts_],
        "mean of the experts": experts.predict(of_test),
    }
    speeds = {}
    for name, model in (
        ("teacher: the experts and the words they taught", learned.teacher_),
        ("student a: vectors", learned.student_),
        ("student b: words", learned.student_words_),
    ):
        answers[name] = model.predict(asked)
        speeds[name] = _speed(model, asked[:200]) if seed == 0 else None
    rows = []
    for name, several in answers.items():
        figures = [
            precision_recall_fscore_support(y[test], found, average="binary")[:3]
            for found in (several if isinstance(several, list) else [several])
        ]
        precision, recall, f1 = np.mean(figures, axis=0)
        rows.append({"way": name, "f1": f1, "precision": precision, "recall": recall})
        rows[-1]["texts_per_second"] = speeds.get(name)
    return rows


def _self_training(
    head: Pipeline,
    vectorizer: Any,
    few: list[str],
    y: np.ndarray,
    pool: list[str],
    asked: list[str],
) -> np.ndarray:
    """Train the one expert further with scikit-learn's self-training; return its predictions."""
    select = SelectVectors(*(getattr(head["select"], name) for name in ("layers", "pooling")))
    known, unknown = (select.fit_transform(vectorizer.transform(t)) for t in (few, pool))
    scale = StandardScaler().fit(unknown)
    model = SelfTrainingClassifier(head["classify"], threshold=0.9)
    X = scale.transform(np.concatenate([known, unknown]))
    model.fit(X, np.concatenate([y, np.full(len(pool), -1)]))
    return np.asarray(model.predict(scale.transform(select.transform(vectorizer.transform(asked)))))


def _speed(model: Any, texts: list[str]) -> float:
    """Return texts per second without a cache: the median of three runs."""
    embed = find_step(model, DistilBertVectorizer)
    if embed is not None:
        embed.set_params(cache_dir=None)
    model.predict(texts[:8])
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        model.predict(texts)
        seconds.append(time.perf_counter() - begun)
    if embed is not None:
        embed.set_params(cache_dir=CACHE)
    return len(texts) / float(np.median(seconds))


def _tweets(folder: Path) -> tuple[list[str], np.ndarray]:
    texts, classes = real.tweets(folder)
    return texts, (classes != "neither").astype(int)


def _imdb(folder: Path) -> tuple[list[str], np.ndarray]:
    texts, labels = real.imdb(folder)
    return texts, (labels == max(labels)).astype(int)


DATA = {"tweets": _tweets, "imdb": _imdb}


def to_markdown(report: dict[str, Any]) -> str:
    """Return the table."""
    frame = pd.DataFrame(report["rows"])
    lines = [
        real.measured(report),
        "",
        "| data | way | F1 | ± | precision | recall | texts/s |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for (data, way), rows in frame.groupby(["data", "way"], sort=False):
        f1, precision, recall = (100 * rows[key].mean() for key in ("f1", "precision", "recall"))
        speed = rows["texts_per_second"].dropna()
        lines.append(
            f"| {data} | {way} | {f1:.1f} | {100 * rows['f1'].std():.1f} | {precision:.1f} "
            f"| {recall:.1f} | {f'{speed.iloc[0]:,.0f}' if len(speed) else ''} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
