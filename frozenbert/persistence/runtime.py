"""Exports: folders that contain a model and its encoder, and need neither torch nor transformers.

`runtime.json` lists the other files with their sizes and hashes. All of them are compared before
one is parsed. This shows damage and mixed-up files; it does not show who made the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import stat
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoders.exported import ExportedFiles, load_exported
from ..encoders.threads import usable_cores
from ..errors import InputError
from ..utils.console import first_line
from ..utils.deferred import deferred
from ..utils.extras import require
from .portable import portable_parts
from .safe_form import load_safe_form

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

    from ..embed import DistilBertVectorizer

__all__ = [
    "FORMAT",
    "GRAPH",
    "HEAD",
    "LIMITS",
    "MOST_ENCODERS",
    "RUNTIME",
    "TOKENIZER",
    "WEIGHTS",
    "encoder_kind",
    "encoder_names",
    "is_export",
    "load_export",
    "vectorizers_in",
]

FORMAT = 1  # of exports
RUNTIME = "runtime.json"
HEAD = "head.skops"
TOKENIZER = "tokenizer.json"
GRAPH = "graph.xml"
WEIGHTS = "graph.bin"
MOST_ENCODERS = 9
# The largest size of each file, in bytes.
LIMITS = {
    RUNTIME: 16 * 2**20,
    HEAD: 2 * 2**30,
    TOKENIZER: 256 * 2**20,
    GRAPH: 256 * 2**20,
    WEIGHTS: 64 * 2**30,
}

_NUMBER = re.compile(r"-[2-9](?=\.(?:xml|bin|json)$)")  # in the names of a further encoder


def encoder_names(index: int) -> tuple[str, str, str]:
    """Return the names of an encoder's graph, weights and tokenizer in an export.

    Parameters
    ----------
    index : int
        From 0; the first encoder's names have no number.

    Examples
    --------
    >>> encoder_names(0), encoder_names(1)[2]
    (('graph.xml', 'graph.bin', 'tokenizer.json'), 'tokenizer-2.json')
    """
    first = (GRAPH, WEIGHTS, TOKENIZER)
    if index == 0:
        return first
    graph, weights, tokenizer = (name.replace(".", f"-{index + 1}.") for name in first)
    return graph, weights, tokenizer


def load_export(folder: Path) -> BaseEstimator:
    """Load an exported model, and compile its encoder.

    The encoder's files are compared with their hashes and compiled on another thread, while
    scikit-learn is imported.

    Parameters
    ----------
    folder : pathlib.Path
        As `export_model` wrote it.

    Raises
    ------
    InputError
        If a file is missing, foreign, damaged, of another format or another export.
    MissingLibraryError
        If OpenVINO is not installed.
    """
    facts = _read_facts(folder)
    encoders = _encoder_files(folder, facts)
    require("openvino", purpose="an export")
    with ThreadPoolExecutor(1) as beside:
        checked = beside.submit(_check_hashes, folder, facts)
        compiled = beside.submit(_compile, encoders, checked)
        _import_estimators()
        checked.result()  # raises an error
        model = _load_head(folder / HEAD)
        compiled.result()
    by_kind = {(e.content_hash, e.pooling, e.layers, e.precision): e for e in encoders}
    vectorizers = vectorizers_in(model)
    if any(encoder_kind(embed) not in by_kind for embed in vectorizers):
        raise _damaged(folder, f"{HEAD} is of another encoder than {RUNTIME}")
    for embed in vectorizers:
        embed._use_exported(by_kind[encoder_kind(embed)])
    return model


def encoder_kind(embed: DistilBertVectorizer) -> tuple[str, tuple[str, ...], tuple[int, ...], str]:
    """Return what a graph is made for: vectorizers of one kind share it."""
    return embed.encoder_hash_, embed.pooling_, embed.layers_, embed.precision_


def _check_hashes(folder: Path, facts: _Facts) -> None:
    for name, content in facts.files.items():
        with open(folder / name, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != content.sha256:
                raise _damaged(
                    folder, f"{name} is not the file that was written (its SHA-256 differs)"
                )


def _compile(encoders: list[ExportedFiles], checked: Future[None]) -> None:
    """Compile the graphs, for the number of cores that a vectorizer uses by default."""
    for files in encoders if checked.exception() is None else ():
        encoder = load_exported(files)
        graph = encoder.graph(files.pooling, files.layers, files.precision, usable_cores())
        # The first prediction is mostly of one text.
        graph.encode_single([np.full(1, files.pad_token_id)])


def _import_estimators() -> None:
    """Import what nearly every model has."""
    # scikit-learn imports scipy.stats, which takes half a second, for functions that train.
    with deferred("scipy.stats"):
        from sklearn import linear_model, pipeline, preprocessing  # noqa: F401

        from .. import embed  # noqa: F401


def is_export(folder: Path) -> bool:
    """Tell whether a folder holds the files of an export, of any version, and no others."""
    try:
        _read_facts(folder, any_format=True)
    except InputError:
        return False
    return True


def vectorizers_in(model: BaseEstimator) -> list[DistilBertVectorizer]:
    """Return the fitted vectorizers in a model, at any depth."""
    from ..embed import DistilBertVectorizer

    parts = portable_parts(model)
    return [
        part
        for part in parts
        if isinstance(part, DistilBertVectorizer) and hasattr(part, "encoder_hash_")
    ]


@dataclass(frozen=True)
class _Content:
    size: int
    sha256: str


@dataclass(frozen=True)
class _Facts:
    """Checked content of a `runtime.json`."""

    files: dict[str, _Content]
    encoders: list[dict[str, Any]]


def _read_facts(folder: Path, *, any_format: bool = False) -> _Facts:
    """Read `runtime.json`, and check that the folder holds the files that it lists."""
    try:
        names = set(os.listdir(folder))
        for name in sorted(names):
            kind = _NUMBER.sub("", name)
            if kind not in LIMITS:
                raise _damaged(folder, f"{name!r} does not belong to an export")
            status = os.lstat(folder / name)
            if not stat.S_ISREG(status.st_mode):
                raise _damaged(folder, f"{name} is a link, or no file")
            if status.st_size > LIMITS[kind]:
                raise _damaged(folder, f"{name} is larger than {LIMITS[kind]:,} bytes")
        if RUNTIME not in names:
            raise InputError(f"{folder}: is no export: it contains no {RUNTIME}.")
        content = json.loads((folder / RUNTIME).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(folder, f"{RUNTIME} is not JSON") from error
    if not any_format:
        _check_format(folder, content)
    with _damage(folder):
        listed = content["files"]
        encoders = [dict(one) for one in (content["encoder"], *content.get("more_encoders", ()))]
        expected = {name for i in range(len(encoders)) for name in encoder_names(i)}
        if set(listed) != expected | {HEAD}:
            raise ValueError("other files than those of an export")
        files = {name: _Content(int(f["size"]), str(f["sha256"])) for name, f in listed.items()}
    for name, file in files.items():
        if name not in names:
            raise _damaged(folder, f"{name} is missing")
        if (folder / name).stat().st_size != file.size:
            raise _damaged(folder, f"{name} does not have the size that {RUNTIME} lists")
    if foreign := names - files.keys() - {RUNTIME}:
        raise _damaged(folder, f"{min(foreign)!r} does not belong to an export")
    return _Facts(files, encoders)


def _check_format(folder: Path, content: object) -> None:
    number = content.get("format") if isinstance(content, dict) else None
    if type(number) is not int or number < 1:
        raise _damaged(folder, f"{RUNTIME} has no number of a format")
    if number != FORMAT:
        what = "a newer version of frozenbert" if number > FORMAT else "an earlier layout"
        raise InputError(
            f"{folder}: written by {what} (format {number}, and this version reads {FORMAT}); "
            f"{'upgrade frozenbert, or ' if number > FORMAT else ''}export the model again."
        )


@contextlib.contextmanager
def _damage(folder: Path) -> Any:
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(folder, f"{RUNTIME}: {first_line(error)}") from error


def _damaged(folder: Path, problem: str) -> InputError:
    return InputError(
        f"{folder}: is no export, or a damaged one: {problem}. Export the model again."
    )


def _encoder_files(folder: Path, facts: _Facts) -> list[ExportedFiles]:
    found = []
    with _damage(folder):
        for i, encoder in enumerate(facts.encoders):
            graph, weights, tokenizer = encoder_names(i)
            found.append(
                ExportedFiles(
                    folder.absolute() / graph,
                    folder.absolute() / weights,
                    folder.absolute() / tokenizer,
                    facts.files[tokenizer].sha256,
                    str(encoder["content_hash"]),
                    tuple(map(str, encoder["pooling"])),
                    tuple(map(int, encoder["layers"])),
                    str(encoder["precision"]),
                    int(encoder["n_features"]),
                    int(encoder["pad_token_id"]),
                )
            )
    return found


def _load_head(path: Path) -> BaseEstimator:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        model = load_safe_form(path, io.BytesIO(path.read_bytes()))
        check_is_fitted(model)
    except (InputError, MemoryError):
        raise
    except NotFittedError:
        raise _damaged(path.parent, f"{path.name} holds a model that is not fitted") from None
    except Exception as error:
        raise _damaged(path.parent, f"{path.name}: {first_line(error)}") from error
    return model
