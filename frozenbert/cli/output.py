"""Print what the commands do, one line for each fact."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..embed import DistilBertVectorizer
from ..heads.columns.joint import JointModel
from ..reports.metrics import name_missed, score_as_text, short
from ..reports.numeric.figures import NUMBER_TITLES
from ..tables.table import table_format
from ..utils.steps import find_step

if TYPE_CHECKING:
    from ..finetune.encoder_folder import EpochMetrics
    from ..heads.votes.ladder import LadderStep
    from ..reports.schema import SearchSummary
    from ..tables.table import Table
    from ..training import Training
    from .options import Labels

__all__ = [
    "count",
    "describe_epoch",
    "describe_files",
    "describe_numbers",
    "describe_speed",
    "describe_table",
    "print_columns",
    "print_step",
    "print_training",
    "say",
    "say_encoder",
    "warn",
]

REMEDY = "label more such rows, join the class with another, or use --class-weight balanced"


def say(what: str, value: str) -> None:
    """Print a line at once: two columns, with two spaces between them at least."""
    print(f"{what:11}  {value}", flush=True)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    print(f"warning: {message}", file=sys.stderr)


def describe_files(folder: Path) -> str:
    """Return the name of a folder, and of the files and folders in it."""
    names = sorted(
        f"{path.name}/" if path.is_dir() else path.name
        for path in folder.iterdir()
        if not path.name.startswith(".")
    )
    return f"{folder}: {', '.join(names)}"


def describe_speed(n_texts: int, seconds: float) -> str:
    """Return the time it took, and the number of texts a second."""
    return f"{seconds:.1f} s, {n_texts / seconds:,.0f} texts a second"


def describe_epoch(epoch: EpochMetrics) -> str:
    """Return the figures of an epoch of fine-tuning."""
    return (
        f"loss {epoch['train_loss']:.4f}; validation: loss {epoch['loss']:.4f}, accuracy "
        f"{epoch['accuracy']:.4f}, macro F1 {epoch['macro_f1']:.4f}"
    )


def describe_table(
    table: Table,
    text_column: str,
    label_column: str | Sequence[str] | None = None,
    n_rows: int | None = None,
) -> str:
    """Return how a table was read, and which columns are used."""
    parts = [f"{len(table.lines) if n_rows is None else n_rows:,} rows"]
    usual = {"csv": ",", "tsv": "\t"}.get(table_format(table.path))
    if table.delimiter not in (None, usual):
        name = "tab" if table.delimiter == "\t" else f"'{table.delimiter}'"
        guess = " (if that is wrong, use --delimiter)" if table.delimiter_guessed else ""
        parts.append(f"delimiter {name}{guess}")
    if table.header is not None:
        header = "first row is the header" if table.header else "no header"
        hint = "if it is data, use --no-header"
        if not table.header:
            hint = "if the first row names the columns, use --header"
        parts.append(header + (f" ({hint})" if table.header_guessed else ""))
    parts.append(f"text in column {text_column!r}")
    if isinstance(label_column, str):
        parts.append(f"label in column {label_column!r}")
    elif label_column is not None:
        parts.append(f"labels in columns {', '.join(map(repr, label_column))}")
    return f"{table.path}: {', '.join(parts)}"


def count(labels: Labels | Mapping[str, np.ndarray], most: int = 20) -> str:
    """Return the number of rows of each class or label, the most frequent ones first."""
    if isinstance(labels, np.ndarray):
        counts = Counter(labels.tolist()).most_common()
    else:
        counts = Counter({name: int(sum(flags)) for name, flags in labels.items()}).most_common()
    more = f" and {len(counts) - most} more" if len(counts) > most else ""
    return ", ".join(f"{short(label)}: {n:,}" for label, n in counts[:most]) + more


def describe_numbers(numbers: Labels) -> str:
    """Return the range and the mean of numbers."""
    values = np.asarray(numbers, dtype=float)
    return f"{values.min():.6g} to {values.max():.6g}, mean {values.mean():.4g}"


def say_encoder(embed: DistilBertVectorizer) -> None:
    """Print what a fitted vectorizer computes."""
    if embed.encoder_source_ == "remote":
        say(
            "encoder",
            f"{embed.encoder_name_} (remote, content {embed.encoder_hash_[:12]}): "
            f"{embed.n_features_out_} columns",
        )
        return
    origin = {"hub": f"revision {str(embed.encoder_revision_)[:12]}", "package": "packaged"}
    prompt = f", prompt {embed.prompt_!r}" if embed.prompt_ else ""
    say(
        "encoder",
        f"{embed.encoder_name_} ({origin.get(embed.encoder_source_, embed.encoder_source_)}, "
        f"content {embed.encoder_hash_[:12]}): pooling {'+'.join(embed.pooling_)}, "
        f"layer {', '.join(map(str, embed.layers_))}, at most {embed.max_length_} tokens, "
        f"{embed.precision_}{prompt}",
    )
    if embed.precision == "auto":
        _say_trials(embed)


def _say_trials(embed: DistilBertVectorizer) -> None:
    """Print what `precision="auto"` compared."""
    for name, trial in embed.precision_trials_.items():
        equal = trial["equal_labels"]
        labels = "" if equal is None else f", {100 * equal:.1f} % of the labels equal"
        chosen = "chosen" if name == embed.precision_ else "not close enough to float32"
        say(
            name,
            f"{chosen}: mean cosine {trial['mean_cosine']:.4f}{labels} on {trial['n_texts']} "
            f"of the texts",
        )


def print_columns(kinds: Mapping[str, Sequence[str]], left_out: Mapping[str, str]) -> None:
    """Print what each column is taken for, and those that are left out, a line each."""
    named = [f"{kind} {', '.join(map(repr, names))}" for kind, names in kinds.items() if names]
    say("columns", "; ".join(named))
    for name, why in left_out.items():
        say("left out", f"{name!r}: {why}")


def print_added(training: Training) -> None:
    """Print what texts and other columns add to each other, if the model has both."""
    head = training.model[-1]
    if not isinstance(head, JointModel):
        return
    if head.reader_.missing_:
        cells = ", ".join(f"{n:,} of {name!r}" for name, n in head.reader_.missing_.items())
        say(
            "missing",
            f"{cells}: texts are empty; numbers and dates get the mean, and a column that tells; "
            f"categories have one of their own",
        )
    added: Mapping[str, Any] = training.metrics["added"]
    if len(added) == 2:  # there is one column of texts, and nothing to compare
        return
    scores = f"{added['scoring']} {added['text']:.4f} by text alone"
    if "both" in added:
        scores += (
            f", {added['columns']:.4f} by the other columns alone, {added['both']:.4f} by both "
            f"({head.ladder_[-1]['step'].rpartition(', ')[2]})"
        )
    for name, score in added.get("without", {}).items():
        scores += f", {score:.4f} without {name!r}"
    say("out of fold", scores)


def print_training(training: Training) -> None:
    """Print the choices and the figures of a training."""
    from ..training import uses_words

    print_added(training)
    if training.metrics["task"] != "classification":
        print_number_training(training)
        return
    metrics, search = training.metrics, training.metrics["search"]
    embed = find_step(training.model, DistilBertVectorizer)
    say_encoder(embed)
    if agreement := metrics.get("agreement"):
        say(
            embed.precision_,
            f"agrees with float32 on {agreement['n_texts']} test texts: mean cosine "
            f"{agreement['mean_cosine']:.4f}, {100 * agreement['equal_predictions']:.1f} % of the "
            f"predictions equal",
        )
    _print_features(search)
    say(
        "head",
        f"C = {search['best_C']:.3g}, the best of {len(search['C'])}: {search['scoring']} "
        f"{search['best_score']:.4f} ± {search['best_score_std']:.4f} in {search['folds']} folds",
    )
    if "ladder" in search:
        say("recipe", f"auto: {search['chosen']}")
        _print_ladder(search)
    calibration = metrics["calibration"]
    figures = f"Brier score {calibration['brier']:.4f}, calibration error {calibration['ece']:.4f}"
    if before := calibration.get("before"):
        figures += f"; before calibration {before['brier']:.4f}, {before['ece']:.4f}"
    say("calibration", figures)
    words = " and words" if uses_words(training.model) else ""
    columns = " and columns" if "added" in metrics else ""
    _print_scores(metrics, f"{embed.encoder_name_}{words}{columns} + logistic regression")
    _print_intervals(metrics["intervals"])
    outcome = training.outcome
    print(f"\n{score_as_text(outcome.y_true, outcome.y_pred, outcome.classes)}")
    if named := name_missed(metrics["per_class"]):
        say("missed", f"no test row is recognised of {named}: {REMEDY}")
    say("time", ", ".join(f"{name} {s:.2f} s" for name, s in training.seconds.items()))


def print_number_training(training: Training) -> None:
    """Print the choices and the figures of a training on numbers or grades."""
    from ..training import uses_words

    metrics: Mapping[str, Any] = training.metrics
    search, baseline = metrics["search"], metrics["baseline"]
    embed = find_step(training.model, DistilBertVectorizer)
    say_encoder(embed)
    _print_features(search)
    say(
        "head",
        f"alpha = {search['best_alpha']:,.6g}, the best of {len(search['alpha'])}: "
        f"{search['scoring']} {search['best_score']:.4f} ± {search['best_score_std']:.4f} in "
        f"{search['folds']} folds",
    )
    say("recipe", search["chosen"])
    width = max(len(step["step"]) for step in search["ladder"])
    print(f"\n{'out of fold':{width}}     score")
    for step in search["ladder"]:
        print(f"{step['step']:{width}}  {step['score']:8.4f}{'  kept' if step['kept'] else ''}")
    words = " and words" if uses_words(training.model) else ""
    columns = " and columns" if "added" in metrics else ""
    rows = {f"{embed.encoder_name_}{words}{columns}": metrics, baseline["name"]: baseline}
    titles = {key: title for key, title in NUMBER_TITLES.items() if key in metrics}
    width = max(map(len, rows))
    print(f"\n{'':{width}}" + "".join(f"  {title:>9}" for title in titles.values()))
    for name, scores in rows.items():
        cells = "".join(f"  {scores[key]:{max(9, len(titles[key]))}.4f}" for key in titles)
        print(f"{name:{width}}{cells}")
    _print_number_intervals(metrics["intervals"], next(iter(titles)))
    say("time", ", ".join(f"{name} {s:.2f} s" for name, s in training.seconds.items()))


def _print_number_intervals(intervals: Mapping[str, Sequence[float]], key: str) -> None:
    if key not in intervals:
        return
    low, high = intervals[f"{key}_above_baseline"]
    verdict = "no clear difference from the baseline"
    if low > 0 or high < 0:
        verdict = f"{'better' if low > 0 else 'worse'} than the baseline"
    print(
        f"95 % interval of {NUMBER_TITLES[key]}: {intervals[key][0]:.4f} to "
        f"{intervals[key][1]:.4f}; {verdict} ({low:+.4f} to {high:+.4f})\n"
    )


def print_step(step: LadderStep, left: float) -> None:
    """Print a step of a budget: its score, whether it is kept, and the time that is left."""
    from ..training.budget.clock import format_seconds

    rest = f"{format_seconds(left)} left"
    if step["score"] is None:
        say(step["step"], f"left out: {step.get('note', '')}; {rest}")
        return
    kept = "kept" if step["kept"] else "not kept"
    note = f" ({step['note']})" if "note" in step else ""
    took = format_seconds(step["seconds"])
    say(step["step"], f"{step['score']:.4f} out of fold{note}, {kept}, in {took}; {rest}")


def _print_features(search: Mapping[str, Any] | SearchSummary) -> None:
    if "best_layers" in search:
        layers = ", ".join(map(str, search["best_layers"]))
        say(
            "features",
            f"pooling {'+'.join(search['best_pooling'])}, layer {layers}: the best of "
            f"{len(search['features'])} choices",
        )


def _print_ladder(search: SearchSummary) -> None:
    """Print what each part of the recipe adds, out of fold."""
    ladder, title = search["ladder"], search["scoring"]
    width = max(len(step["step"]) for step in ladder)
    print(f"\n{'out of fold':{width}}  {title:>9}  {'log loss':>8}  {'seconds':>8}")
    for step in ladder:
        name = f"{step['step']:{width}}"
        if step["score"] is None or step["log_loss"] is None:
            print(f"{name}  left out: {step.get('note', '')}")
            continue
        note = f" ({step['note']})" if "note" in step else ""
        figures = f"{step['score']:{max(9, len(title))}.4f}  {step['log_loss']:8.4f}"
        figures += f"  {step['seconds']:8.1f}" if "seconds" in step else f"  {'':8}"
        print(f"{name}  {figures}{'  kept' if step['kept'] else ''}{note}")
    print()


def _print_scores(metrics: Mapping[str, Any], name: str) -> None:
    """Print the model's scores above those of the baseline of words."""
    baseline = metrics["baseline"]
    rows = {name: metrics, baseline["name"]: baseline}
    columns = {"accuracy": "accuracy", "macro_f1": "macro F1"}
    if "micro_f1" in metrics:  # many labels
        columns = {"macro_f1": "macro F1", "micro_f1": "micro F1", "accuracy": "all right"}
        rows = {name: metrics, "  with thresholds of 0.5": metrics["at_half"], **rows}
    width = max(map(len, rows))
    print(f"\n{'':{width}}" + "".join(f"  {title:>9}" for title in columns.values()))
    for name, found in rows.items():
        cells = "".join(f"  {found[key]:9.4f}" if key in found else f"  {'':9}" for key in columns)
        print(f"{name:{width}}{cells}")


def _print_intervals(intervals: Mapping[str, Sequence[float]]) -> None:
    for key, title in (("accuracy", "accuracy"), ("macro_f1", "macro F1")):
        if key in intervals:
            low, high = intervals[f"{key}_above_baseline"]
            verdict = "no clear difference from the baseline"
            if low > 0 or high < 0:
                verdict = f"{'better' if low > 0 else 'worse'} than the baseline"
            print(
                f"95 % interval of the {title}: {intervals[key][0]:.4f} to "
                f"{intervals[key][1]:.4f}; {verdict} ({low:+.4f} to {high:+.4f})"
            )
