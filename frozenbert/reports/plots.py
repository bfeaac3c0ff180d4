"""Plots of a trained model's search, predictions and probabilities, as PNG files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix

from .metrics import confidences, labels_in, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .schema import ClassScore, SearchSummary

__all__ = [
    "plot_confusion_matrix",
    "plot_curves",
    "plot_features",
    "plot_labels",
    "plot_losses",
    "plot_reliability",
    "plot_search",
]

INK, ACCENT = "#1b3a4b", "#d1495b"
COLORS = (INK, ACCENT, "#edae49", "#00798c", "#8d6a9f", "#66a182", "#9c6644", "#5c6f7b")


def _figure(width: float = 5.6, height: float = 3.8) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def plot_confusion_matrix(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    path: str | Path,
    title: str = "Test rows (shade: share of the true class)",
) -> None:
    """Draw true against predicted labels into a PNG file.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n_samples,)
    path : path-like
    title : str
    """
    labels = labels_in(y_true, y_pred)
    with warnings.catch_warnings():
        # Of many classes for few rows, scikit-learn warns that they may be numbers.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"sklearn\.")
        counts = confusion_matrix(np.asarray(y_true), np.asarray(y_pred), labels=labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    n_classes = len(labels)
    # More than sixty names would be too small to read.
    names = [short(label, 24) for label in labels] if n_classes <= 60 else []
    longest = max(map(len, names), default=0)
    # Inches: half an inch a class, and the names outside the square.
    square = float(np.clip(0.5 * n_classes, 3, 10))
    margin = 0.9 + 0.08 * longest
    size = min(10.0, 60 * square / n_classes)  # points: no name is higher than its row
    figure, axes = _figure(square + margin, square + margin)
    axes.spines[["top", "right"]].set_visible(True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if n_classes <= 20:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=size)
    turned = 0 if n_classes <= 4 and longest <= 9 else 90
    # Without parse_math, a dollar sign in a label would begin a formula.
    axes.set_xticks(range(len(names)), names, rotation=turned, fontsize=size, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=size, parse_math=False)
    unnamed = "" if names else f" ({n_classes} classes in the order of the report)"
    axes.set(xlabel=f"predicted{unnamed}", ylabel=f"true{unnamed}", title=title)
    _save(figure, path)


def plot_search(search: SearchSummary, path: str | Path) -> None:
    """Draw the cross-validated score over C into a PNG file.

    Parameters
    ----------
    search : dict
        The `search` of a `Training`'s metrics.
    path : path-like
    """
    order = np.argsort(search["C"])
    values = (search["C"], search["mean_score"], search["std_score"])
    C, mean, std = (np.array(value)[order] for value in values)
    figure, axes = _figure()
    axes.fill_between(C, mean - std, mean + std, color=INK, alpha=0.15, linewidth=0)
    axes.plot(C, mean, "o-", color=INK, markersize=4)
    axes.axvline(search["best_C"], color=ACCENT, linestyle="--", linewidth=1)
    left = search["best_C"] > np.sqrt(C.min() * C.max())  # the right half of the axis
    axes.annotate(
        f"C = {search['best_C']:.3g}",
        (search["best_C"], 0.03),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        color=ACCENT,
    )
    axes.set(
        xscale="log",
        xlabel="C (inverse of the regularisation strength)",
        ylabel=f"{search['scoring']}, {search['folds']} folds",
        title="Search for C (band: one standard deviation)",
    )
    if len(C) <= 8:  # they may lie within one decade, which would have one tick
        axes.set_xticks(C, [f"{c:.2g}" for c in C])
        axes.set_xticks([], minor=True)
    _save(figure, path)


def plot_features(search: SearchSummary, path: str | Path) -> None:
    """Draw the cross-validated score of layers and poolings into a PNG file.

    Parameters
    ----------
    search : dict
        The `search` of a `Training`'s metrics, with `features`.
    path : path-like
    """
    results = search["features"]
    sets = list(dict.fromkeys(tuple(result["layers"]) for result in results))
    poolings = list(dict.fromkeys(tuple(result["pooling"]) for result in results))
    figure, axes = _figure(max(5.6, 0.55 * len(sets) + 2), 4.2)
    single = [place for place, layers in enumerate(sets) if len(layers) == 1]
    several = [place for place in range(len(sets)) if place not in single]
    for color, pooling in zip(COLORS, poolings, strict=False):
        scores = {tuple(r["layers"]): r for r in results if tuple(r["pooling"]) == pooling}
        mean = np.array([scores[layers]["score"] for layers in sets])
        std = np.array([scores[layers]["std"] for layers in sets])
        # Single layers have an order, sets of layers have none.
        axes.plot(single, mean[single], "-", color=color, alpha=0.5)
        axes.errorbar(
            range(len(sets)), mean, std, fmt="o", color=color, markersize=5,
            elinewidth=0.8, alpha=0.9, label=" + ".join(pooling),
        )  # fmt: skip
    if several:
        axes.axvline(several[0] - 0.5, color="#9fb0b9", linewidth=0.8)
    best = max(results, key=lambda result: result["score"])
    place, top = sets.index(tuple(best["layers"])), best["score"]
    axes.plot(place, top, "o", markersize=13, fillstyle="none", color=ACCENT, markeredgewidth=1.5)
    axes.set_xticks(range(len(sets)), [_name_layers(layers) for layers in sets])
    axes.set(
        xlabel="layers",
        ylabel=f"{search['scoring']}, {search['folds']} folds",
        title="Search for layers and pooling (ring: the best; bars: one standard deviation)",
    )
    axes.title.set_fontsize(10)
    axes.legend(title="pooling", frameon=False)
    _save(figure, path)


def _name_layers(layers: tuple[int, ...]) -> str:
    if len(layers) > 2 and layers == tuple(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]} to {layers[-1]}"
    return ",".join(map(str, layers))


def plot_curves(
    y_true: np.ndarray, probabilities: np.ndarray, classes: Sequence[object], path: str | Path
) -> None:
    """Draw precision over recall, a curve for each class, into a PNG file.

    Parameters
    ----------
    y_true : numpy.ndarray, shape (n_samples,) or (n_samples, n_labels)
    probabilities : numpy.ndarray, shape (n_samples, n_classes)
    classes : sequence
        The classes, or labels, in the order of the columns. Of more than eight, only the
        most frequent are drawn.
    path : path-like
    """
    from sklearn.metrics import PrecisionRecallDisplay

    truth = y_true if y_true.ndim == 2 else y_true[:, np.newaxis] == np.asarray(classes)
    drawn = [i for i in np.argsort(-truth.sum(axis=0), kind="stable") if truth[:, i].any()]
    figure, axes = _figure(5.6, 4.4)
    for color, i in zip(COLORS, drawn, strict=False):
        PrecisionRecallDisplay.from_predictions(
            truth[:, i], probabilities[:, i], ax=axes, name=short(classes[i], 24)
        )
        axes.lines[-1].set_color(color)
    more = len(drawn) - len(COLORS)
    axes.set(
        xlabel="recall",
        ylabel="precision",
        title="Precision-recall curves" + (f" (without {more} rarer classes)" if more > 0 else ""),
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
    )
    axes.set_aspect("auto")
    legend = axes.legend(loc="lower left", fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    _save(figure, path)


def plot_reliability(
    y_true: np.ndarray,
    probabilities: dict[str, np.ndarray],
    classes: Sequence[object],
    path: str | Path,
) -> None:
    """Draw a calibration plot, the accuracy over the probability, into a PNG file.

    Parameters
    ----------
    y_true : numpy.ndarray, shape (n_samples,) or (n_samples, n_labels)
    probabilities : dict of numpy.ndarray, each of shape (n_samples, n_classes)
        By their names in the legend.
    classes : sequence
        The classes, or labels, in the order of the columns.
    path : path-like
    """
    many = y_true.ndim == 2
    figure, (axes, below) = _two(5.6, 4.8, rows=(3, 1))
    axes.plot([0, 1], [0, 1], ":", color="#5b6b75", linewidth=1)
    for color, (name, p) in zip((INK, ACCENT), probabilities.items(), strict=False):
        right, confidence = confidences(y_true, p, classes)
        bins = np.minimum((confidence * 15).astype(int), 14)
        counts = np.bincount(bins, minlength=15)
        filled = counts > 0
        mean = np.bincount(bins, weights=confidence, minlength=15)[filled] / counts[filled]
        share = np.bincount(bins, weights=right, minlength=15)[filled] / counts[filled]
        axes.plot(mean, share, "o-", color=color, markersize=4, label=name)
        below.stairs(counts, np.linspace(0, 1, 16), color=color)
    what = "label" if many else "predicted class"
    axes.set(ylabel="share of right predictions", title="Calibration")
    below.set(xlabel=f"probability of the {what}", ylabel="rows")
    low = 0 if many else min(0.5, 1 / max(len(classes), 1))
    axes.set(xlim=(low - 0.02, 1.02), ylim=(low - 0.02, 1.02))
    axes.legend(frameon=False)
    _save(figure, path)


def _two(
    width: float, height: float, rows: tuple[float, float] | None = None
) -> tuple[Figure, tuple[Axes, Axes]]:
    """Return a figure with two axes: of these heights one above the other, or side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    if rows is None:
        first, second = figure.subplots(1, 2)
    else:
        first, second = figure.subplots(2, 1, sharex=True, height_ratios=rows)
    for axes in (first, second):
        axes.spines[["top", "right"]].set_visible(False)
    return figure, (first, second)


def plot_labels(per_class: Mapping[str, ClassScore], path: str | Path) -> None:
    """Draw each label's precision, recall and F1 into a PNG file.

    Parameters
    ----------
    per_class : dict
        The `per_class` of `frozenbert.reports.metrics.score`.
    path : path-like
    """
    shown = dict(sorted(per_class.items(), key=lambda item: -item[1]["support"])[:40])
    figure, axes = _figure(5.6, 1.2 + 0.32 * len(shown))
    places = np.arange(len(shown))
    columns = {
        "precision": [scores["precision"] for scores in shown.values()],
        "recall": [scores["recall"] for scores in shown.values()],
        "F1": [scores["f1-score"] for scores in shown.values()],
    }
    style = zip("<>o", ("#00798c", "#edae49", INK), strict=True)
    for (marker, color), (name, values) in zip(style, columns.items(), strict=True):
        axes.plot(values, places, marker, color=color, label=name)
    names = [f"{short(label, 24)} ({f['support']:,})" for label, f in shown.items()]
    axes.set_yticks(places, names, parse_math=False)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set(xlim=(-0.02, 1.02), title="Scores of each label (number of test rows)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False)
    _save(figure, path)


def plot_losses(history: Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Draw the losses and validation scores of a fine-tuning into a PNG file.

    Parameters
    ----------
    history : sequence of dict
        Each epoch's `epoch`, `train_loss`, `loss`, `accuracy` and `macro_f1`, as from
        `frozenbert.finetune.finetuning.finetune`.
    path : path-like
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = _two(8.4, 3.4)
    epochs = [epoch["epoch"] for epoch in history]
    for place, curves in enumerate(
        (
            {"train_loss": "training", "loss": "validation"},
            {"accuracy": "accuracy", "macro_f1": "macro F1"},
        )
    ):
        for (key, name), color in zip(curves.items(), COLORS, strict=False):
            values = [epoch[key] for epoch in history]
            axes[place].plot(epochs, values, color=color, marker="o", markersize=4, label=name)
        axes[place].set_xlabel("epoch")
        axes[place].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[place].legend(frameon=False)
    axes[0].set_title("Loss")
    axes[1].set_title("Scores on the validation texts")
    _save(figure, path)


def _save(figure: Figure, path: str | Path) -> None:
    with warnings.catch_warnings():
        # matplotlib's font lacks some scripts; labels in them show as boxes.
        warnings.filterwarnings("ignore", category=UserWarning, module="matplotlib|frozenbert")
        figure.savefig(path, dpi=150, format="png")
