"""A trained model's report: `model.json`, `metrics.json`, plots and a page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from .metrics import name_missed
from .numeric.drawing import draw_numbers
from .numeric.figures import NumberMetrics, NumberOutcome
from .plots import (
    plot_confusion_matrix,
    plot_curves,
    plot_features,
    plot_labels,
    plot_reliability,
    plot_search,
)
from .schema import Example, Metrics, Sidecar
from .sidecar import write_json

__all__ = ["PLOTS", "Outcome", "render_page", "write_report"]

# All files that `write_report` may draw; which of them depends on the model.
PLOTS = {
    "confusion_matrix.png",
    "features.png",
    "labels.png",
    "predicted.png",
    "precision_recall.png",
    "reliability.png",
    "search.png",
}


@dataclass
class Outcome:
    """A model's predictions for the test rows.

    Attributes
    ----------
    y_true, y_pred : numpy.ndarray, shape (n_test,) or (n_test, n_labels)
    classes : sequence
        The classes, or labels, in the order of the probabilities' columns.
    probabilities : numpy.ndarray of shape (n_test, n_classes)
    uncalibrated : numpy.ndarray of shape (n_test, n_classes), or None
        The probabilities before calibration, if the model is calibrated.
    mistakes, doubtful : list of dict
        Test texts with wrong predictions, and training texts with doubtful labels.
    """

    y_true: np.ndarray
    y_pred: np.ndarray
    classes: Sequence[object]
    probabilities: np.ndarray
    uncalibrated: np.ndarray | None = None
    mistakes: list[Example] = field(default_factory=list)
    doubtful: list[Example] = field(default_factory=list)


def write_report(folder: Path, sidecar: Sidecar, outcome: Outcome | NumberOutcome) -> None:
    """Write `model.json`, `metrics.json`, the plots and `report.html` into a folder.

    Parameters
    ----------
    folder : pathlib.Path
        It must exist. Files of these names are replaced.
    sidecar : dict
        The content of `model.json`; its `metrics` are also written to `metrics.json`.
    outcome : Outcome or NumberOutcome
        The predictions for the test rows.
    """
    write_json(sidecar, folder / "model.json")
    write_json(sidecar["metrics"], folder / "metrics.json")
    plots = {
        title: base64.b64encode(path.read_bytes()).decode()
        for title, path in _draw(folder, sidecar["metrics"], outcome).items()
    }
    (folder / "report.html").write_text(
        _render(sidecar, outcome, plots), encoding="utf-8", errors="replace"
    )


def _render(sidecar: Sidecar, outcome: Outcome | NumberOutcome, plots: dict[str, str]) -> str:
    """Return the page; `plots` are PNG files in base64 by their titles."""
    return render_page(
        "numbers.html" if isinstance(outcome, NumberOutcome) else "report.html",
        **sidecar,
        plots=plots,
        mistakes=outcome.mistakes,
        doubtful=outcome.doubtful,
    )


def render_page(template: str, **content: object) -> str:
    """Return a page in the style of the report; all text in it is escaped.

    Parameters
    ----------
    template : str
        Name of a file in `templates/`.
    **content
        Its variables.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("frozenbert.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"passage": _passage, "missed": name_missed}
    return environment.get_template(template).render(**content)


def _draw(folder: Path, metrics: Metrics, outcome: Outcome | NumberOutcome) -> dict[str, Path]:
    """Draw the plots that suit the model; return the files by their titles."""
    if isinstance(outcome, NumberOutcome):
        return draw_numbers(folder, cast(NumberMetrics, metrics), outcome)
    search, p = metrics["search"], outcome.probabilities
    plots = {}
    if outcome.y_true.ndim == 2:
        plots["Scores of each label"] = folder / "labels.png"
        plot_labels(metrics["per_class"], folder / "labels.png")
    else:
        plots["Confusion matrix"] = folder / "confusion_matrix.png"
        plot_confusion_matrix(outcome.y_true, outcome.y_pred, folder / "confusion_matrix.png")
    plots["Precision-recall curves"] = folder / "precision_recall.png"
    plot_curves(outcome.y_true, p, outcome.classes, folder / "precision_recall.png")
    curves = {"probabilities": p}
    if outcome.uncalibrated is not None:
        curves = {"before calibration": outcome.uncalibrated, "after calibration": p}
    plots["Calibration"] = folder / "reliability.png"
    plot_reliability(outcome.y_true, curves, outcome.classes, folder / "reliability.png")
    if "features" in search:
        plots["Search for layers and pooling"] = folder / "features.png"
        plot_features(search, folder / "features.png")
    plots["Search for C"] = folder / "search.png"
    plot_search(search, folder / "search.png")
    return plots


def _passage(text: str, length: int = 300) -> str:
    """Shorten a text in its middle."""
    text = " ".join(text.split())
    half = length // 2
    return text if len(text) <= length else f"{text[:half]} […] {text[-half:]}"
