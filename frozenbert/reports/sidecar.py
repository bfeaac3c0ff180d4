"""A model's sidecar: the `model.json` beside it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from .schema import EncoderFacts

__all__ = ["FORMAT", "describe_encoder", "load_sidecar", "read_sidecar", "versions", "write_json"]

FORMAT = 1  # of saved models; models saved before there was a number have an earlier one

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


def describe_encoder(embed: Any) -> EncoderFacts:
    """Return what a fitted `DistilBertVectorizer` computes, ready for JSON.

    Parameters
    ----------
    embed : DistilBertVectorizer
        Fitted.

    Returns
    -------
    dict
        Name, source, revision, content hash, pooling, layers, max_length, long_text,
        precision, n_features; also the prompt, whether vectors are normalised and the columns
        of each layer if they are cut; with `precision="auto"` the trials of each precision.
    """
    facts: EncoderFacts = {
        "name": embed.encoder_name_,
        "source": embed.encoder_source_,
        "revision": embed.encoder_revision_,
        "content_hash": embed.encoder_hash_,
        "pooling": list(embed.pooling_),
        "layers": list(embed.layers_),
        "max_length": embed.max_length_,
        "long_text": embed.long_text,
        "precision": embed.precision_,
        "n_features": embed.n_features_out_,
    }
    # Only where they are used: files of vectors are compared with those of earlier versions.
    if embed.prompt_:
        facts["prompt"] = embed.prompt_
    if embed.normalize_:
        facts["normalize"] = True
    width = embed.n_features_out_ // (len(embed.layers_) * len(embed.pooling_))
    if width < embed.hidden_size_:
        facts["truncate_dim"] = width
    if embed.precision == "auto":
        facts["precision_trials"] = embed.precision_trials_
    return facts


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a model depends on."""
    installed = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            installed[name] = "not installed"
    return installed


def write_json(content: Mapping[str, object], path: Path) -> None:
    """Write a dict as indented JSON.

    Parameters
    ----------
    content : mapping
    path : pathlib.Path
        Is replaced.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    # The name of a file may not be UTF-8; its lone surrogates are written as JSON escapes.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_sidecar(model: str | Path, model_sha256: str | None = None) -> dict[str, Any]:
    """Return the content of a saved model's `model.json`, or an empty dict.

    The dict is empty if the file does not exist, is damaged, or is not one of this package:
    a model can be used without it.

    Parameters
    ----------
    model : path-like
        The model's folder, or the `model.joblib` in it.
    model_sha256 : str, optional
        SHA-256 of the joblib file. If it is given, the file of another model, which was in the
        folder before, counts as absent.

    Raises
    ------
    InputError
        If the model was saved by an earlier layout of this package, or a newer version.
    """
    path = _path(model)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    if model_sha256 is not None and content.get("model_sha256") != model_sha256:
        return {}
    # Other programs have files of this name.
    if "format" in content or {"model_sha256", "metrics"} <= set(content):
        _check_format(path, content)
    return content


def load_sidecar(model: str | Path) -> dict[str, Any]:
    """Return the content of a saved model's `model.json`, which must exist.

    Parameters
    ----------
    model : path-like
        The model's folder, or the `model.joblib` in it.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, or of another format.
    """
    path = _path(model)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"{model}: contains no model.json. Train a model into that folder first."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InputError(f"{path}: cannot be read ({reason}).") from error
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}: damaged, not JSON ({error.msg}). Train the model again."
        ) from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else "a number is too long"
        raise InputError(f"{path}: damaged ({reason}). Train the model again.") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: damaged (a {type(content).__name__}, and not an object). Train the model "
            f"again."
        )
    _check_format(path, content)
    return content


def _path(model: str | Path) -> Path:
    folder = Path(model).parent if Path(model).is_file() else Path(model)
    export = folder / "runtime.json"  # has some of the same keys
    return export if export.is_file() else folder / "model.json"


def _check_format(path: Path, content: dict[str, Any]) -> None:
    """Raise `InputError` unless the file has the format of this version."""
    number = content.get("format")
    if number is None:
        raise InputError(f"{path}: saved by an earlier layout, train again.")
    if type(number) is not int or number < 1:
        raise InputError(
            f"{path}: damaged ('format' must be a whole number, 1 or more). Train the model again."
        )
    if number > FORMAT:
        raise InputError(
            f"{path}: has format {number}, and this version of frozenbert reads formats up to "
            f"{FORMAT}: upgrade frozenbert, or train the model again."
        )
