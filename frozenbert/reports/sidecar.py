"""A model's sidecar: what is stored beside it as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

__all__ = ["describe_encoder", "read_sidecar", "versions", "write_json"]

VERSIONED = (
    "frozenbert",
    "scikit-learn",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "openvino",
    "numpy",
    "joblib",
)


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
