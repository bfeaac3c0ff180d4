"""A trained model's sidecar file and its page."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .plots import (
    plot_confusion_matrix,
    plot_curves,
    plot_features,
    plot_labels,
    plot_reliability,
    plot_search,
)
from .sidecar import versions, write_json

__all__ = [
    "PLOTS",
    "Outcome",
    "write_report",
]

# Which of these there are depends on the model.
PLOTS = {
    "confusion_matrix.png",
    "features.png",
    "labels.png",
    "precision_recall.png",
    "reliability.png",
    "search.png",
}


@dataclass
class Outcome:
    """What a model answered on the test rows.

    Attributes
    ----------
    y_true, y_pred : numpy.ndarray, shape (n_test,) or (n_test, n_labels)
    classes : sequence
        The classes, or labels, in the order of the probabilities' columns.
    probabilities : numpy.ndarray of shape (n_test, n_classes), or None
    uncalibrated : numpy.ndarray of shape (n_test, n_classes), or None
        The same before calibration, if there was one.
    mistakes, doubtful : list of dict
        Texts with wrong answers, and of the training rows those with doubtful labels.
    """

    y_true: np.ndarray
    y_pred: np.ndarray
    classes: Sequence[Any]
    probabilities: np.ndarray | None = None
    uncalibrated: np.ndarray | None = None
    mistakes: list[dict[str, Any]] = field(default_factory=list)
    doubtful: list[dict[str, Any]] = field(default_factory=list)


def write_report(folder: Path, sidecar: dict[str, Any], outcome: Outcome) -> None:
    """Write `model.json`, `metrics.json`, the plots and `report.html` into a folder.

    Parameters
    ----------
    folder : pathlib.Path
        It exists; files of these names are replaced.
    sidecar : dict
        The content of `model.json`; its `metrics` go into `metrics.json` too.
    outcome : Outcome
        What came out on the test rows.
    """
    import jinja2

    sidecar = {
        **sidecar,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    write_json(sidecar, folder / "model.json")
    write_json(sidecar["metrics"], folder / "metrics.json")
    plots = {
        title: base64.b64encode(path.read_bytes()).decode()
        for title, path in _plots(folder, sidecar["metrics"], outcome).items()
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("frozenbert.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["passage"] = _passage
    page = environment.get_template("report.html").render(
        **sidecar, plots=plots, mistakes=outcome.mistakes, doubtful=outcome.doubtful
    )
    (folder / "report.html").write_text(page, encoding="utf-8", errors="replace")


def _plots(folder: Path, metrics: dict[str, Any], outcome: Outcome) -> dict[str, Path]:
    """Draw what there is to draw; return the files by their titles."""
    search, p = metrics["search"], outcome.probabilities
    plots = {}
    if outcome.y_true.ndim == 2:
        plots["Label by label"] = folder / "labels.png"
        plot_labels(metrics["per_class"], plots["Label by label"])
    else:
        plots["Confusion matrix"] = folder / "confusion_matrix.png"
        plot_confusion_matrix(outcome.y_true, outcome.y_pred, plots["Confusion matrix"])
    if p is not None:
        plots["Precision and recall"] = folder / "precision_recall.png"
        plot_curves(outcome.y_true, p, outcome.classes, plots["Precision and recall"])
        drawn = {"probabilities": p}
        if outcome.uncalibrated is not None:
            drawn = {"as they come": outcome.uncalibrated, "calibrated": p}
        plots["Reliability"] = folder / "reliability.png"
        plot_reliability(outcome.y_true, drawn, outcome.classes, plots["Reliability"])
    if "features" in search:
        plots["Layers and pooling"] = folder / "features.png"
        plot_features(search, plots["Layers and pooling"])
    plots["Search for C"] = folder / "search.png"
    plot_search(search, plots["Search for C"])
    return plots


def _passage(text: str, length: int = 300) -> str:
    """Shorten a text in its middle."""
    text = " ".join(text.split())
    half = length // 2
    return text if len(text) <= length else f"{text[:half]} […] {text[-half:]}"
