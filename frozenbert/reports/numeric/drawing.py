"""Plots of predicted numbers, and of the search for the strength of regularisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..plots import ACCENT, INK, _figure, _save, plot_confusion_matrix
from .figures import NumberMetrics, NumberOutcome, NumberSearch

__all__ = ["draw_numbers", "plot_alpha", "plot_predicted"]

MANY_POINTS = 2000  # above, points hide each other


def draw_numbers(folder: Path, metrics: NumberMetrics, outcome: NumberOutcome) -> dict[str, Path]:
    """Draw the plots that suit the model; return the files by their titles.

    Parameters
    ----------
    folder : pathlib.Path
    metrics : dict
    outcome : NumberOutcome
    """
    plots = {}
    if outcome.grades:
        plots["Confusion matrix"] = folder / "confusion_matrix.png"
        plot_confusion_matrix(outcome.y_true, outcome.y_pred, folder / "confusion_matrix.png")
    else:
        plots["Predicted against true numbers"] = folder / "predicted.png"
        plot_predicted(outcome.y_true, outcome.y_pred, folder / "predicted.png")
    plots["Search for alpha"] = folder / "search.png"
    plot_alpha(metrics["search"], folder / "search.png")
    return plots


def plot_predicted(y_true: np.ndarray, y_pred: np.ndarray, path: str | Path) -> None:
    """Draw predicted against true numbers into a PNG file.

    Parameters
    ----------
    y_true, y_pred : numpy.ndarray of shape (n_samples,)
    path : path-like
    """
    figure, axes = _figure(5.0, 4.6)
    both = np.concatenate([y_true, y_pred])
    low, high = float(both.min()), float(both.max())
    margin = 0.03 * (high - low) or 1.0
    if len(y_true) > MANY_POINTS:
        drawn = axes.hexbin(y_true, y_pred, gridsize=40, bins="log", cmap="Blues", mincnt=1)
        figure.colorbar(drawn, ax=axes, label="rows")
    else:
        axes.plot(y_true, y_pred, "o", color=INK, alpha=0.35, markersize=4, markeredgewidth=0)
    axes.plot([low, high], [low, high], "--", color=ACCENT, linewidth=1)
    limits = (low - margin, high + margin)
    axes.set(
        xlabel="true",
        ylabel="predicted",
        xlim=limits,
        ylim=limits,
        aspect="equal",
        title="Test rows (dashed: no error)",
    )
    _save(figure, path)


def plot_alpha(search: NumberSearch, path: str | Path) -> None:
    """Draw the cross-validated score over alpha into a PNG file.

    Parameters
    ----------
    search : dict
        The `search` of the metrics.
    path : path-like
    """
    order = np.argsort(search["alpha"])
    values = (search["alpha"], search["mean_score"], search["std_score"])
    alpha, mean, std = (np.array(value)[order] for value in values)
    figure, axes = _figure()
    axes.fill_between(alpha, mean - std, mean + std, color=INK, alpha=0.15, linewidth=0)
    axes.plot(alpha, mean, "o-", color=INK, markersize=4)
    axes.axvline(search["best_alpha"], color=ACCENT, linestyle="--", linewidth=1)
    axes.annotate(
        f"alpha = {search['best_alpha']:,.6g}",
        (search["best_alpha"], 0.03),
        xycoords=("data", "axes fraction"),
        xytext=(5, 0),
        textcoords="offset points",
        color=ACCENT,
    )
    # A weak regularisation can be so bad that the others would look alike.
    top = float((mean + std).max())
    axes.set(
        xscale="log",
        ylim=(max(float((mean - std).min()), top - 1.0), top + 0.05),
        xlabel="alpha (strength of the regularisation)",
        ylabel=f"{search['scoring']} of the vectors, {search['folds']} folds",
        title="Search for alpha (band: one standard deviation)",
    )
    _save(figure, path)
