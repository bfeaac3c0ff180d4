"""Measure the accuracy of fine-tuned encoders beside frozen ones, on 2,000 rows.

    python benchmarks/finetune.py [--limit 2000] [--seeds 3]

Trained on the first rows of SST-2's train.tsv in $FROZENBERT_TEXTS, scored on dev.tsv. Learning
rate, epochs and pooling are chosen on a fifth of the training rows; then each seed trains on nine
tenths of them and uses the epoch that is best on the last tenth. The classifiers of the frozen
vectors are then trained on the new vectors.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import real
from report import write_figures

from frozenbert import make_text_classifier
from frozenbert.cli.arguments import Parser, positive
from frozenbert.encoders.sources import PACKAGED_ENCODER, find_encoder
from frozenbert.finetune.finetuning import finetune
from frozenbert.finetune.recipe import Recipe
from frozenbert.reports.metrics import intervals
from frozenbert.training import hold_out

HERE = Path(__file__).resolve().parent
# The best epoch is used, but the learning rate falls to 0 over all of them.
GRID: list[dict[str, Any]] = [
    {"lr": lr, "pooling": pooling, "epochs": epochs}
    for epochs in (6, 3)
    for pooling in ("mean", "cls")
    for lr in (1e-4, 5e-5, 2e-4)
]
HEADS: dict[str, dict[str, Any]] = {
    "last layer": {},
    "`--search features`": {"search": "features"},
    "`--search features --with-tfidf`": {"search": "features", "with_tfidf": True},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; return the exit code."""
    parser = Parser(prog="finetune.py", description="Measure the accuracy of fine-tuned encoders.")
    parser.add_argument("--limit", type=positive, default=2000, help="training rows")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args(arguments)
    folder = real.texts_folder("finetune.py")
    report, path = real.new_report(
        "finetune", options.out, model=PACKAGED_ENCODER, n_train=options.limit
    )
    texts, y = real.sst2(folder, "train", options.limit)
    dev, dev_y = real.sst2(folder, "dev")
    files = find_encoder(PACKAGED_ENCODER)
    found = {}
    frozen = {}
    for name, settings in HEADS.items():
        model = make_text_classifier(
            PACKAGED_ENCODER, recipe="plain", progress=False, **settings
        ).fit(texts, y)
        frozen[name] = model.predict(dev)
    best = max(frozen, key=lambda name: float(np.mean(frozen[name] == dev_y)))
    for name, answers in frozen.items():
        report["rows"].append(_row(f"frozen, {name}", None, answers, frozen[best], dev_y))
    with tempfile.TemporaryDirectory() as scratch:
        fit, valid, fit_y, valid_y = hold_out(texts, y, 0, parts=5)
        for settings in GRID:
            begun = time.perf_counter()
            recipe = Recipe(**settings)
            out = Path(scratch) / f"grid-{len(found)}"
            done = finetune(files, fit, fit_y, valid, valid_y, out, recipe)
            found[out.name] = (done.metrics["accuracy"], settings)
            seconds = time.perf_counter() - begun
            figures = {key: done.metrics[key] for key in ("accuracy", "loss")}
            figures["best_epoch"] = done.metrics["epoch"]
            report["rows"].append({"way": "search", **settings, **figures, "seconds": seconds})
            print(f"  {settings}: {figures}, {seconds:.0f} s", file=sys.stderr, flush=True)
            write_figures(report, path)
        _, chosen = max(found.values(), key=lambda one: one[0])
        for seed in range(options.seeds):
            begun = time.perf_counter()
            out = Path(scratch) / f"seed-{seed}"
            fit, valid, fit_y, valid_y = hold_out(texts, y, seed, parts=10)
            recipe = Recipe(seed=seed, **chosen)
            finetune(files, fit, fit_y, valid, valid_y, out, recipe)
            seconds = time.perf_counter() - begun
            for name, settings in HEADS.items():
                model = make_text_classifier(
                    str(out), recipe="plain", cache_dir=scratch, progress=False, **settings
                )
                answers = model.fit(texts, y).predict(dev)
                row = _row(f"fine-tuned, {name}", seed, answers, frozen[best], dev_y)
                report["rows"].append({**row, **chosen, "seconds": seconds})
                print(f"  seed {seed}, {name}: {row['value']:.4f}", file=sys.stderr, flush=True)
            write_figures(report, path)
    print(to_markdown(report))
    print(f"\nWritten: {path}")
    return 0


def _row(
    way: str, seed: int | None, answers: np.ndarray, base: np.ndarray, truth: np.ndarray
) -> dict[str, Any]:
    ends = intervals(truth, answers, base)
    return {
        "way": way,
        "seed": seed,
        "value": float(np.mean(answers == truth)),
        "interval": ends["accuracy"],
        "above_best_frozen": ends["accuracy_above_baseline"],
    }


def to_markdown(report: dict[str, Any]) -> str:
    """Return the tables."""
    found = [row for row in report["rows"] if row["way"] == "search"]
    search = [
        "Searched on a fifth of the training rows, seed 0:",
        "",
        "| lr | pooling | epochs | accuracy | best epoch | seconds |",
        "|--:|---|--:|--:|--:|--:|",
        *(
            f"| {row['lr']:g} | {row['pooling']} | {row['epochs']} | {row['accuracy']:.4f} "
            f"| {row['best_epoch']} | {row['seconds']:.0f} |"
            for row in found
        ),
        "",
    ]
    lines = [
        f"{real.measured(report)} {report['n_train']:,} training rows.",
        "",
        "| way | seed | accuracy on dev.tsv | 95 % | above the best frozen, points | seconds |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in report["rows"]:
        if row["way"] == "search":
            continue
        low, high = row["interval"]
        ends = row["above_best_frozen"]
        seed = "" if row["seed"] is None else row["seed"]
        lines.append(
            f"| {row['way']} | {seed} | {row['value']:.4f} | {low:.4f} to {high:.4f} "
            f"| {100 * ends[0]:+.1f} to {100 * ends[1]:+.1f} | {row.get('seconds', 0):.0f} |"
        )
    return "\n".join(search + lines)


if __name__ == "__main__":
    sys.exit(main())
