"""What a trained model is worth: figures, plots, a page, and the sidecar file."""

from __future__ import annotations

import base64
import datetime
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score, classification_report, f1_score

__all__ = [
    "describe_encoder",
    "plot_confusion_matrix",
    "plot_search",
    "read_sidecar",
    "score",
    "versions",
    "write_json",
    "write_report",
]

VERSIONED = ("frozenbert", "scikit-learn", "torch", "transformers", "tokenizers", "numpy", "joblib")
INK, ACCENT = "#1b3a4b", "#d1495b"


def score(y_true: ArrayLike, y_pred: ArrayLike) -> dict[str, Any]:
    """Return accuracy, macro-averaged F1 and the figures of each class.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n_samples,)
        True and predicted labels.

    Returns
    -------
    dict
        `accuracy` and `macro_f1` as fractions; `per_class` maps each label to
        `precision`, `recall`, `f1-score` and `support` (rows).

    Examples
    --------
    >>> figures = score([0, 0, 1, 1], [0, 0, 0, 1])
    >>> figures["accuracy"], round(figures["macro_f1"], 3), figures["per_class"]["1"]["recall"]
    (0.75, 0.733, 0.5)
    """
    per_class = classification_report(y_true, y_pred, output_dict=True, zero_division=0)
    for average in ("accuracy", "macro avg", "weighted avg", "micro avg"):
        per_class.pop(average, None)
    return {
        "accuracy": float(accuracy_score(y_true, y_pred)),
        "macro_f1": float(f1_score(y_true, y_pred, average="macro", zero_division=0)),
        "per_class": per_class,
    }


def describe_encoder(embed: Any) -> dict[str, Any]:
    """Return what a fitted `DistilBertVectorizer` computes, ready for JSON.

    Parameters
    ----------
    embed : DistilBertVectorizer
        Fitted.

    Returns
    -------
    dict
        Name, source, revision, content hash, pooling, layers, max_length, precision,
        n_features.
    """
    return {
        "name": embed.encoder_name_,
        "source": embed.encoder_source_,
        "revision": embed.encoder_revision_,
        "content_hash": embed.encoder_hash_,
        "pooling": list(embed.pooling_),
        "layers": list(embed.layers_),
        "max_length": embed.max_length_,
        "long_text": embed.long_text,
        "precision": embed.precision,
        "n_features": embed.n_features_out_,
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that shape a model."""
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            found[name] = "not installed"
    return found


def plot_confusion_matrix(
    y_true: ArrayLike, y_pred: ArrayLike, path: str | Path, title: str = "Test rows"
) -> None:
    """Draw true against predicted labels into a PNG file.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n_samples,)
    path : path-like
    title : str
    """
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay

    n_classes = len(set(np.asarray(y_true).tolist()) | set(np.asarray(y_pred).tolist()))
    side = min(3.2 + 0.5 * n_classes, 14)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    ConfusionMatrixDisplay.from_predictions(
        y_true,
        y_pred,
        ax=axes,
        cmap="Blues",
        colorbar=False,
        include_values=n_classes <= 20,
        xticks_rotation="horizontal" if n_classes <= 3 else "vertical",
    )
    axes.set(title=title)
    figure.savefig(path, dpi=150, format="png")


def plot_search(search: dict[str, Any], path: str | Path) -> None:
    """Draw the cross-validated score over C into a PNG file.

    Parameters
    ----------
    search : dict
        The `search` of a `Training`'s metrics.
    path : path-like
    """
    from matplotlib.figure import Figure

    C, mean, std = (np.array(search[key]) for key in ("C", "mean_score", "std_score"))
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(C, mean - std, mean + std, color=INK, alpha=0.15, linewidth=0)
    axes.plot(C, mean, "o-", color=INK, markersize=4)
    axes.axvline(search["best_C"], color=ACCENT, linestyle="--", linewidth=1)
    axes.annotate(
        f"C = {search['best_C']:.3g}",
        (search["best_C"], 0.03),
        xycoords=("data", "axes fraction"),
        xytext=(5, 0),
        textcoords="offset points",
        color=ACCENT,
    )
    axes.set(
        xscale="log",
        xlabel="C, the inverse of the regularisation",
        ylabel=f"{search['scoring']}, {search['folds']} folds",
        title="Search (band: one standard deviation)",
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, format="png")


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a dict as indented JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_sidecar(model: str | Path) -> dict[str, Any]:
    """Return what `model.json` says of a saved model; nothing where it is missing.

    Parameters
    ----------
    model : path-like
        The model's folder, or the `model.joblib` in it.
    """
    folder = Path(model) if Path(model).is_dir() else Path(model).parent
    try:
        content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_report(
    folder: Path, sidecar: dict[str, Any], y_true: ArrayLike, y_pred: ArrayLike
) -> None:
    """Write `model.json`, `metrics.json`, the plots and `report.html` into a folder.

    Parameters
    ----------
    folder : pathlib.Path
        It exists; files of these names are replaced.
    sidecar : dict
        The content of `model.json`; its `metrics` go into `metrics.json` too.
    y_true, y_pred : array-like, shape (n_test,)
        Labels of the test rows.
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
        "Confusion matrix": folder / "confusion_matrix.png",
        "Search for C": folder / "search.png",
    }
    plot_confusion_matrix(y_true, y_pred, plots["Confusion matrix"])
    plot_search(sidecar["metrics"]["search"], plots["Search for C"])

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("frozenbert"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        **sidecar,
        plots={
            title: base64.b64encode(path.read_bytes()).decode() for title, path in plots.items()
        },
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
