"""What the commands print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..embed import DistilBertVectorizer
from ..heads.words import WordScores
from ..reports.metrics import score_as_text, short
from ..utils.steps import find_step

if TYPE_CHECKING:
    from ..tables.reading import Table
    from ..training import Training

__all__ = ["count", "describe_table", "of_epoch", "pace", "print_training", "say", "say_encoder"]


def pace(n_texts: int, seconds: float) -> str:
    """Say how long it took, and how many texts that is a second."""
    return f"{seconds:.1f} s, {n_texts / seconds:,.0f} texts a second"


def of_epoch(epoch: dict[str, Any]) -> str:
    """Say what an epoch of fine-tuning came to."""
    return (
        f"loss {epoch['train_loss']:.4f}; validation: loss {epoch['loss']:.4f}, accuracy "
        f"{epoch['accuracy']:.4f}, macro F1 {epoch['macro_f1']:.4f}"
    )


def print_training(training: Training) -> None:
    """Print what came out of a training."""
    metrics, search = training.metrics, training.metrics["search"]
    embed = find_step(training.model, DistilBertVectorizer)
    say_encoder(embed)
    if agreement := metrics.get("agreement"):
        say(
            embed.precision,
            f"agrees with float32 on {agreement['n_texts']} test texts: mean cosine "
            f"{agreement['mean_cosine']:.4f}, {100 * agreement['equal_predictions']:.1f} % of the "
            f"predictions the same",
        )
    if "features" in search:
        layers = ", ".join(map(str, search["best_layers"]))
        say(
            "features",
            f"pooling {'+'.join(search['best_pooling'])}, layer {layers}: the best of "
            f"{len(search['features'])} choices",
        )
    say(
        "head",
        f"C = {search['best_C']:.3g}, the best of {len(search['C'])}: {search['scoring']} "
        f"{search['best_score']:.4f} ± {search['best_score_std']:.4f} in {search['folds']} folds",
    )
    calibration = metrics["calibration"]
    figures = f"Brier score {calibration['brier']:.4f}, calibration error {calibration['ece']:.4f}"
    if before := calibration.get("before"):
        figures += f"; before calibration {before['brier']:.4f}, {before['ece']:.4f}"
    say("chances", figures)
    many = "micro_f1" in metrics
    columns = {"accuracy": "accuracy", "macro_f1": "macro F1"}
    if many:
        columns = {"macro_f1": "macro F1", "micro_f1": "micro F1", "accuracy": "all right"}
    words = " and words" if find_step(training.model, WordScores) else ""
    ours = f"{embed.encoder_name_}{words} + logistic regression"
    rows: dict[str, Mapping[str, Any]] = {
        ours: metrics,
        metrics["baseline"]["name"]: metrics["baseline"],
    }
    if many:
        rows = {ours: metrics, "  with thresholds of 0.5": metrics["at_half"], **rows}
    width = max(map(len, rows))
    print(f"\n{'':{width}}" + "".join(f"  {title:>9}" for title in columns.values()))
    for name, found in rows.items():
        cells = "".join(f"  {found[key]:9.4f}" if key in found else f"  {'':9}" for key in columns)
        print(f"{name:{width}}{cells}")
    for key, title in (("accuracy", "accuracy"), ("macro_f1", "macro F1")):
        ranges = metrics["intervals"]
        if key in ranges:
            low, high = ranges[f"{key}_above_baseline"]
            print(
                f"95 % of resampled test rows: {title} {ranges[key][0]:.4f} to "
                f"{ranges[key][1]:.4f}, above the baseline by {low:+.4f} to {high:+.4f}"
            )
    outcome = training.outcome
    print(f"\n{score_as_text(outcome.y_true, outcome.y_pred, outcome.classes)}")
    say("time", ", ".join(f"{name} {s:.2f} s" for name, s in training.seconds.items()))


def say_encoder(embed: DistilBertVectorizer) -> None:
    """Print what an encoder computes."""
    origin = {"hub": f"revision {str(embed.encoder_revision_)[:12]}", "package": "packaged"}
    say(
        "encoder",
        f"{embed.encoder_name_} ({origin.get(embed.encoder_source_, embed.encoder_source_)}, "
        f"content {embed.encoder_hash_[:12]}): pooling {'+'.join(embed.pooling_)}, "
        f"layer {', '.join(map(str, embed.layers_))}, at most {embed.max_length_} tokens, "
        f"{embed.precision}",
    )


def describe_table(
    table: Table,
    text_column: str,
    label_column: str | Sequence[str] | None,
    n_rows: int | None = None,
) -> str:
    """Say what was read of a table."""
    header = {True: "first row is the header", False: "no header", None: None}[table.header]
    parts = [f"{len(table.frame) if n_rows is None else n_rows:,} rows"]
    if header:
        option = "--no-header" if table.header else "--header"
        parts.append(header + (f" (a guess; else {option})" if table.header_guessed else ""))
    parts.append(f"text in column {text_column!r}")
    if isinstance(label_column, str):
        parts.append(f"label in column {label_column!r}")
    elif label_column is not None:
        parts.append(f"labels in columns {', '.join(map(repr, label_column))}")
    return f"{table.path}: {', '.join(parts)}"


def count(labels: Any, most: int = 20) -> str:
    """Say how many rows each class, or label, has."""
    if np.ndim(labels) == 2:
        counts = Counter(dict(labels.sum(axis=0).items())).most_common()
    else:
        counts = Counter(labels.tolist()).most_common()
    more = f" and {len(counts) - most} more" if len(counts) > most else ""
    return ", ".join(f"{short(label)}: {n:,}" for label, n in counts[:most]) + more


def say(what: str, value: str) -> None:
    """Print a line at once."""
    print(f"{what:9}{value}", flush=True)
