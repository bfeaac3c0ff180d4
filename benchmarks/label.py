"""Simulate annotators: accuracy against the number of labels, by the way texts are chosen.

    python benchmarks/label.py [--only sst2,tweets] [--way ours,random] [--draws 10] [--quick]
    python benchmarks/label.py --table [--into docs/results/label.md]

The texts are those of $FROZENBERT_TEXTS. A draw is a seeded pool of at most 5,000 training rows;
each way chooses texts from it and is told their labels. At each step a head of the same kind is
fitted on the labels so far and scored on rows that are in no pool. Each data set and way has one
file in results/label, which is written after each draw; draws that it contains are skipped, so
that the same command resumes.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import label_table
import numpy as np
import real
from report import machine, write_figures

from frozenbert import DistilBertVectorizer
from frozenbert.cli.arguments import Parser, positive
from frozenbert.encoders.sources import PACKAGED_ENCODER
from frozenbert.errors import TruncationWarning
from frozenbert.label import Session
from frozenbert.label.learning.learner import batch_size
from frozenbert.label.learning.pool_vectors import Vectors
from frozenbert.label.learning.quick_head import C, fit_quick

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "label"
QUICK_RESULTS = HERE.parent / "artifacts" / "label-quick"
QUICK_DATA, QUICK_WAYS, QUICK_DRAWS, QUICK_LABELS = ("sst2", "banking20"), None, 2, 200
CACHE = HERE.parent / "artifacts" / "cache"
STEPS = (20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)
POOL = 5000
RESERVE = 10_000  # training rows that pools are drawn from
START = 20  # labels at random before the ways of others choose


@dataclass(frozen=True)
class Data:
    """Vectors and coded labels of a data set; names of its labels."""

    texts: list[str]
    X: np.ndarray
    y: np.ndarray
    vectors_test: np.ndarray
    y_test: np.ndarray
    names: list[str]


@dataclass(frozen=True)
class Draw:
    """A pool, scaled, with the rows to score on."""

    texts: list[str]
    raw: np.ndarray
    X: np.ndarray
    y: np.ndarray
    vectors_test: np.ndarray
    y_test: np.ndarray
    names: list[str]
    seed: int

    def accuracy(self, rows: Sequence[int]) -> float:
        """Return the accuracy on the rows to score on, of the head fitted on some rows."""
        head = fit_quick(self.X[rows], np.eye(len(self.names), dtype=int)[self.y[rows]])
        return float((head.predict_proba(self.vectors_test).argmax(axis=1) == self.y_test).mean())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the missing draws, and print the table; return the exit code."""
    options = _parser().parse_args(arguments)
    out = options.out or (QUICK_RESULTS if options.quick else RESULTS)
    if not options.table:
        folder = real.texts_folder("label.py")
        warnings.simplefilter("ignore", TruncationWarning)
        draws = options.draws or (QUICK_DRAWS if options.quick else 10)
        most = QUICK_LABELS if options.quick else max(STEPS)
        for name in options.only or (QUICK_DATA if options.quick else TASKS):
            data = None
            for way in options.way or WAYS:
                missing = _missing(out, name, way, draws)
                if missing and data is None:
                    data = TASKS[name](folder, options.cache)
                for seed in missing:
                    _measure(out, name, way, draw_of(data, seed), most)
    table = label_table.to_markdown(label_table.read(out), TITLES)
    if options.into:
        label_table.replace(options.into, table)
    print(table)
    return 0


def _missing(out: Path, name: str, way: str, draws: int) -> list[int]:
    path = out / f"{name}.{way}.json"
    done = json.loads(path.read_text("utf-8"))["draws"] if path.exists() else {}
    return [seed for seed in range(draws) if str(seed) not in done]


def _measure(out: Path, name: str, way: str, draw: Draw, most: int) -> None:
    path = out / f"{name}.{way}.json"
    figures: dict[str, Any] = {"data": name, "way": way, "machine": machine(), "draws": {}}
    if path.exists():
        figures = json.loads(path.read_text("utf-8"))
    begun = time.process_time()
    found = WAYS[way](draw, min(most, len(draw.y) - 1))
    found["seconds"] = time.process_time() - begun
    if way == "random":
        found["full"] = draw.accuracy(np.arange(len(draw.y)))
    figures["draws"][str(draw.seed)] = found
    write_figures(figures, path)
    print(
        f"  {name}, {way}, draw {draw.seed}: {found['seconds']:.0f} s", file=sys.stderr, flush=True
    )


def draw_of(data: Data, seed: int) -> Draw:
    """Return a seeded pool."""
    rows = np.random.default_rng(seed).permutation(len(data.y))[:POOL]
    texts, X = [data.texts[row] for row in rows], data.X[rows]
    mean, deviation = Vectors(texts, None, np.arange(len(rows)), X).scale()
    scaled, test = ((one - mean) / deviation for one in (X, data.vectors_test))
    return Draw(texts, X, scaled, data.y[rows], test, data.y_test, data.names, seed)


# The ways to choose.


def ours(draw: Draw, most: int) -> dict[str, Any]:
    """Answer what a session asks; record its estimate, its advice and the truth."""
    encoder = DistilBertVectorizer(PACKAGED_ENCODER, cache_dir=CACHE, progress=False)
    truth = {text: int(label) for text, label in zip(draw.texts, draw.y, strict=True)}
    session = Session(
        draw.texts, draw.names, encoder=encoder, vectors=draw.raw, seed=draw.seed, background=False
    )
    of_id = {name: row for row, name in enumerate(session._queue.ids)}
    labelled: list[int] = []
    steps, shown, stopped = {}, [], None
    while len(labelled) < most and (item := session.next()):
        labelled.append(of_id[item.id])
        session.answer(item.id, draw.names[truth[item.text]])
        if len(labelled) in STEPS:
            steps[str(len(labelled))] = draw.accuracy(labelled)
        if len(labelled) % 10 and len(labelled) not in STEPS:
            continue
        progress = session.progress()
        learned = session._model._learner.learned
        if stopped is None and progress.advice.stop:
            stopped = {"n": len(labelled), "accuracy": draw.accuracy(labelled)}
        if progress.estimate and learned is not None and len(labelled) in STEPS:
            shown.append(
                {
                    "n": len(labelled),
                    "estimate": list(progress.estimate),
                    "pool": _pool_accuracy(draw, session, learned),
                    "test": steps[str(len(labelled))],
                    "gain": learned.gain,
                }
            )
    session.close()
    return {"steps": steps, "estimates": shown, "stopped": stopped}


def _pool_accuracy(draw: Draw, session: Session, learned: Any) -> float:
    """Return the present model's accuracy on the pool; labelled texts by models without them."""
    right = learned.predict_proba(draw.raw).argmax(axis=1) == draw.y
    for row, p in session._model.out_of_fold().items():
        right[row] = p.argmax() == draw.y[row]
    return float(right.mean())


def at_random(draw: Draw, most: int) -> dict[str, Any]:
    """Choose at random."""
    rows = np.random.default_rng([draw.seed, 1]).permutation(len(draw.y))
    return {"steps": {str(n): draw.accuracy(rows[:n]) for n in STEPS if n <= most}}


def in_batches(query: Callable[[Draw, np.ndarray, int], np.ndarray]) -> Callable[..., Any]:
    """Return a way that starts at random and then asks for batches of the size of ours."""

    def way(draw: Draw, most: int) -> dict[str, Any]:
        labelled = np.random.default_rng([draw.seed, 1]).permutation(len(draw.y))[:START]
        while len(labelled) < most:
            n = min(batch_size(len(labelled)), most - len(labelled))
            labelled = np.append(labelled, query(draw, labelled, n))
        return {"steps": {str(n): draw.accuracy(labelled[:n]) for n in STEPS if n <= most}}

    return way


def _uncertainty(draw: Draw, labelled: np.ndarray, n: int) -> np.ndarray:
    """Choose the smallest margins of the two best classes."""
    free = np.setdiff1d(np.arange(len(draw.y)), labelled)
    head = fit_quick(draw.X[labelled], np.eye(len(draw.names), dtype=int)[draw.y[labelled]])
    best = np.sort(head.predict_proba(draw.X[free]), axis=1)[:, -2:]
    return free[np.argsort(best[:, 1] - best[:, 0], kind="stable")[:n]]


def _activeml(name: str) -> Callable[[Draw, np.ndarray, int], np.ndarray]:
    """Choose by a strategy of scikit-activeml, with the same classifier."""

    def query(draw: Draw, labelled: np.ndarray, n: int) -> np.ndarray:
        from skactiveml import pool
        from skactiveml.classifier import SklearnClassifier
        from sklearn.linear_model import LogisticRegression

        known = np.full(len(draw.y), np.nan)
        known[labelled] = draw.y[labelled]
        classifier = SklearnClassifier(
            LogisticRegression(C=C, tol=1e-3, max_iter=200), classes=range(len(draw.names))
        )
        strategy = getattr(pool, name)(random_state=draw.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(strategy.query(draw.X, known, clf=classifier, batch_size=n))

    return query


WAYS: dict[str, Callable[[Draw, int], dict[str, Any]]] = {
    "random": at_random,
    "ours": ours,
    "uncertainty": in_batches(_uncertainty),
    "falcun": in_batches(_activeml("Falcun")),
    "badge": in_batches(_activeml("Badge")),
}


# The data.


def _sst2(folder: Path, cache: Path) -> Data:
    texts, y = real.sst2(folder, "train")
    test_texts, y_test = real.sst2(folder, "dev")
    return _embedded(texts, y, test_texts, y_test, ["negative", "positive"], cache)


def _tweets(folder: Path, cache: Path) -> Data:
    return _in_fifths(*real.tweets(folder), cache)


def _banking77(folder: Path, cache: Path) -> Data:
    return _in_fifths(*real.banking77(folder), cache)


def _banking20(folder: Path, cache: Path) -> Data:
    texts, y = real.banking77(folder)
    chosen = np.random.default_rng(0).permutation(np.unique(y))[:20]
    rows = np.flatnonzero(np.isin(y, chosen))
    return _in_fifths([texts[row] for row in rows], y[rows], cache)


def _goemotions(folder: Path, cache: Path) -> Data:
    parts: list[Any] = []
    for part in ("train", "dev"):
        texts, flags = real.goemotions(folder, part)
        rows = np.flatnonzero(flags.to_numpy().sum(axis=1) == 1)
        parts += [[texts[row] for row in rows], flags.to_numpy()[rows].argmax(axis=1)]
    return _embedded(*parts, list(flags.columns), cache)


def _in_fifths(texts: list[str], y: np.ndarray, cache: Path) -> Data:
    split = real._in_fifths(lambda _: (texts, y))(Path())
    names = [str(name).replace("_", " ") for name in np.unique(y)]
    return _embedded(split.texts, split.y, split.test_texts, split.test_y, names, cache)


def _embedded(
    texts: list[str],
    y: np.ndarray,
    test_texts: list[str],
    y_test: np.ndarray,
    names: list[str],
    cache: Path,
) -> Data:
    embed = DistilBertVectorizer(
        PACKAGED_ENCODER, cache_dir=cache, progress=False, keep_layers="asked"
    )
    rows = np.random.default_rng(0).permutation(len(y))[:RESERVE]
    _, first = np.unique([texts[row] for row in rows], return_index=True)
    rows = rows[np.sort(first)]  # each text once: its answer is looked up by the text
    texts = [texts[row] for row in rows]
    X = embed.fit_transform(texts)
    return Data(
        texts, X, np.asarray(y)[rows], embed.transform(test_texts), np.asarray(y_test), names
    )


TASKS: dict[str, Callable[[Path, Path], Data]] = {
    "sst2": _sst2,
    "tweets": _tweets,
    "banking20": _banking20,
    "banking77": _banking77,
    "goemotions": _goemotions,
}
TITLES = {
    "sst2": "SST-2, two classes, scored on dev.tsv",
    "tweets": "Tweets, three classes, scored on a fifth",
    "banking20": "Banking77, 20 of its classes, scored on a fifth",
    "banking77": "Banking77, 77 classes, scored on a fifth",
    "goemotions": "GoEmotions' rows with one of seven labels, scored on dev.csv",
}


def _chosen(legal: Sequence[str]) -> Callable[[str], list[str]]:
    def names(value: str) -> list[str]:
        found = value.split(",")
        if unknown := [name for name in found if name not in legal]:
            raise ValueError(unknown[0])
        return found

    return names


def _parser() -> Parser:
    parser = Parser(prog="label.py", description="Simulate annotators.")
    for option, legal in (("--only", TASKS), ("--way", WAYS)):
        parser.add_argument(
            option, type=_chosen([*legal]), metavar="NAMES", help=f"of {', '.join(legal)}"
        )
    parser.add_argument("--draws", type=positive, metavar="N", help="pools (default: 10)")
    parser.add_argument("--quick", action="store_true", help="two data sets, two draws, 200 labels")
    parser.add_argument("--table", action="store_true", help="print the table, measure nothing")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="write the table between this file's marks"
    )
    parser.add_argument(
        "--cache", type=Path, default=CACHE, metavar="FOLDER", help="of stored vectors"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: results/label")
    return parser


if __name__ == "__main__":
    sys.exit(main())
