"""What a trained model is worth: figures, plots, a page, and the sidecar file."""

from __future__ import annotations

import base64
import datetime
import importlib.metadata
import json
import platform
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    f1_score,
    precision_recall_fscore_support,
)

__all__ = [
    "describe_encoder",
    "plot_confusion_matrix",
    "plot_search",
    "read_sidecar",
    "score",
    "score_as_text",
    "short",
    "versions",
    "write_json",
    "write_report",
]

VERSIONED = (
    "frozenbert",
    "scikit-learn",
    "torch",
    "transformers",
    "tokenizers",
    "openvino",
    "numpy",
    "joblib",
)
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
    # Not the dict of `classification_report`: there, averages and a class of the name
    # "accuracy" or "macro avg" share their keys.
    labels = _labels_in(y_true, y_pred)
    columns = precision_recall_fscore_support(y_true, y_pred, labels=labels, zero_division=0)
    names = ("precision", "recall", "f1-score", "support")
    return {
        "accuracy": float(accuracy_score(y_true, y_pred)),
        "macro_f1": float(f1_score(y_true, y_pred, average="macro", zero_division=0)),
        "per_class": {
            str(label): dict(zip(names, row, strict=True))
            for label, *row in zip(labels, *(c.tolist() for c in columns), strict=True)
        },
    }


def score_as_text(y_true: ArrayLike, y_pred: ArrayLike) -> str:
    """Return scikit-learn's per-class report, a table in plain text.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n_samples,)
        True and predicted labels.

    Returns
    -------
    str
    """
    labels = _labels_in(y_true, y_pred)
    text: str = classification_report(
        y_true,
        y_pred,
        labels=labels,
        target_names=[short(label) for label in labels],
        digits=3,
        zero_division=0,
    )
    return text


def short(label: Any, length: int = 40) -> str:
    r"""Return a label on one line, cut if it is long: it may be a text by mistake.

    Examples
    --------
    >>> short("one\ntwo"), short("politics and society", length=9)
    ('one\\ntwo', 'politics…')
    """
    text = str(label)
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= length else text[: length - 1] + "…"


def _labels_in(y_true: ArrayLike, y_pred: ArrayLike) -> list[Any]:
    labels: list[Any] = np.union1d(np.asarray(y_true), np.asarray(y_pred)).tolist()
    return labels


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
    from matplotlib.figure import Figure

    labels = _labels_in(y_true, y_pred)
    places = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), dtype=int)
    for pair in zip(np.asarray(y_true).tolist(), np.asarray(y_pred).tolist(), strict=True):
        counts[places[pair[0]], places[pair[1]]] += 1
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    n_classes = len(labels)
    # More than sixty names would be too small to read.
    names = [short(label, 24) for label in labels] if n_classes <= 60 else []
    longest = max(map(len, names), default=0)
    # Inches; the names stand outside the square of half an inch a class.
    square = float(np.clip(0.5 * n_classes, 3, 10))
    margin = 0.9 + 0.08 * longest
    size = min(10.0, 60 * square / n_classes)  # points: no name is higher than its row
    figure = Figure(figsize=(square + margin, square + margin), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if n_classes <= 20:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=size)
    turned = 0 if n_classes <= 4 and longest <= 9 else 90
    # A label may hold a dollar sign, which would begin a formula.
    style: Any = {"parse_math": False, "fontsize": size}
    axes.set_xticks(range(len(names)), names, rotation=turned, **style)
    axes.set_yticks(range(len(names)), names, **style)
    unnamed = "" if names else f" ({n_classes} classes in the order of the report)"
    axes.set(xlabel=f"predicted{unnamed}", ylabel=f"true{unnamed}", title=title)
    _save(figure, path)


def plot_search(search: dict[str, Any], path: str | Path) -> None:
    """Draw the cross-validated score over C into a PNG file.

    Parameters
    ----------
    search : dict
        The `search` of a `Training`'s metrics.
    path : path-like
    """
    from matplotlib.figure import Figure

    order = np.argsort(search["C"])
    C, mean, std = (np.array(search[key])[order] for key in ("C", "mean_score", "std_score"))
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
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
        xlabel="C, the inverse of the regularisation",
        ylabel=f"{search['scoring']}, {search['folds']} folds",
        title="Search (band: one standard deviation)",
    )
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _save(figure: Any, path: str | Path) -> None:
    with warnings.catch_warnings():
        # A label in a script that matplotlib's font lacks shows as boxes.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(path, dpi=150, format="png")


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a dict as indented JSON."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    # A file's name that is not UTF-8 holds lone surrogates; JSON writes them so, too.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_sidecar(model: str | Path) -> dict[str, Any]:
    """Return what `model.json` says of a saved model; nothing where it is none.

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
    (folder / "report.html").write_text(page, encoding="utf-8", errors="replace")
