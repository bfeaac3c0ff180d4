"""Save and load models: a joblib file, which runs code when loaded, and a safe form beside it."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..reports.sidecar import read_sidecar
from ..utils.archives import read_archive
from ..utils.extras import EXTRAS, require
from ..utils.files import sha256_of_file, writing
from .portable import portable_copy, portable_parts
from .runtime import HEAD, RUNTIME, load_export
from .safe_form import EARLIER, LIMITS, PAIR, load_safe_form, of_earlier_layout, safe_form

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

__all__ = [
    "MODEL",
    "SAFE",
    "joblib_hash",
    "load_model",
    "safest",
    "save_model",
]

MODEL = "model.joblib"
SAFE = ".skops"


def save_model(model: BaseEstimator, path: str | os.PathLike[str]) -> Path:
    """Save a fitted model with joblib, for use anywhere, and in a safe form beside it.

    The saved copies have their vector cache turned off, name an encoder from a folder by
    the folder's name alone, and hold the encoder's content hash, so that another encoder
    under that name is refused. Weights are left out unless `store_weights=True`.

    Parameters
    ----------
    model : estimator
        A fitted Pipeline or any other estimator that holds a `DistilBertVectorizer`.
    path : str or path-like
        The file, such as `artifacts/NAME/model.joblib`. It appears whole or not at all, and so
        does the safe form beside it, `model.skops`. A model with classes that are not in
        `TRUSTED` has no safe form.

    Returns
    -------
    pathlib.Path
        The joblib file.

    Raises
    ------
    InputError
        If the file cannot be written.

    See Also
    --------
    load_model : Load either form.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.dummy import DummyClassifier
    >>> folder = Path(tempfile.mkdtemp())
    >>> model = DummyClassifier().fit(["a text"], ["label"])
    >>> save_model(model, folder / "model.joblib").name
    'model.joblib'
    >>> load_model(folder).predict(["another text"]).tolist()
    ['label']
    """
    import joblib

    path = Path(path)
    beside = path.with_suffix(SAFE)
    if beside == path:
        raise InputError(f"{path}: ends like the safe form; name the joblib file, such as {MODEL}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        portable = portable_copy(model)
        with writing(path) as fresh:
            joblib.dump(portable, fresh)
            safe = safe_form(portable, sha256_of_file(fresh))
            beside.unlink(missing_ok=True)  # so that no kill leaves a pair that does not match
        if safe is not None:
            with writing(beside) as fresh:
                fresh.write_bytes(safe)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from error
    return path


def safest(path: str | os.PathLike[str]) -> Path:
    """Return the safe form of a saved model if it exists, else the joblib file.

    Parameters
    ----------
    path : str or path-like
        Either file, or the folder that holds a `model.joblib` or a `model.skops`; or an export.

    Returns
    -------
    pathlib.Path
    """
    path = Path(path)
    if folder := _export_of(path):
        return folder / HEAD
    path = path / MODEL if path.is_dir() else path
    beside = path.with_suffix(SAFE)
    return beside if beside.is_file() else path


def load_model(path: str | os.PathLike[str]) -> Any:
    """Load a saved model.

    Loading a joblib file runs code that is in it: load only what you trust. The safe form
    holds no code, only classes on the list `TRUSTED`, and is read within bounds of memory.

    Parameters
    ----------
    path : str or path-like
        A joblib file, or a safe form (`.skops`); or the folder that holds a `model.skops` or
        a `model.joblib`, of which the first is taken. An encoder from a folder is also
        searched beside the file. Or a folder that `export_model` wrote, which contains its
        encoder and needs no torch.

    Returns
    -------
    estimator
        The model.

    Raises
    ------
    InputError
        If the file does not exist or holds no fitted model, a safe form holds what it must
        not or unpacks to far more than its size, the two forms side by side are of different
        models, an export is damaged or incomplete, or an earlier version with other modules
        saved the model.

    See Also
    --------
    save_model : Write both forms.
    """
    path = Path(path)
    if folder := _export_of(path):
        return load_export(folder)
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if path.is_dir():
        path = safest(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such model file.")
    _check_pair(path)
    read_sidecar(path, joblib_hash(path) or "")  # checks the format
    model = _load(path)
    if not (hasattr(model, "fit") and hasattr(model, "predict")):
        raise InputError(f"{path}: holds a {type(model).__name__}, which is no model.")
    try:
        check_is_fitted(model)
    except NotFittedError:
        raise InputError(
            f"{path}: holds a {type(model).__name__} that is not fitted: fit it, and save it again."
        ) from None
    for part in portable_parts(model):
        part._note_loaded_from(path.parent)
    return model


def _export_of(path: Path) -> Path | None:
    """Return the folder if a path is an export, or a file that only an export has."""
    folder = path if path.is_dir() else path.parent
    named = path.is_dir() or path.name in (HEAD, RUNTIME)
    return folder if named and os.path.lexists(folder / RUNTIME) else None


def _load(path: Path) -> Any:
    import joblib

    try:
        if path.suffix != SAFE:
            return joblib.load(path)
        with open(path, "rb") as file:
            return load_safe_form(path, file)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in EARLIER:
            raise InputError(of_earlier_layout(path)) from error
        if isinstance(error, ModuleNotFoundError):
            library = str(error.name).partition(".")[0]
            if library in EXTRAS:
                require(library, purpose=str(path))
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"{path}: is no saved model, or a damaged one ({type(error).__name__}: {reason}). A "
            f"model is a folder, a .joblib or a .skops file."
        ) from error


def joblib_hash(path: Path) -> str | None:
    """Return the SHA-256 of a joblib file, or of the one that a safe form was saved with.

    Parameters
    ----------
    path : pathlib.Path
        Either form.

    Returns
    -------
    str or None
        64 hexadecimal digits; None for a safe form that was not written by `save_model`.
    """
    if path.suffix != SAFE:
        return sha256_of_file(path)
    try:
        with open(path, "rb") as file:
            pair = read_archive(file, LIMITS, only=PAIR)[PAIR]
        return str(json.loads(pair)["joblib_sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, zipfile.BadZipFile):
        return None


def _check_pair(path: Path) -> None:
    """Raise `InputError` if a joblib file and the safe form beside it are of two models."""
    plain = path.with_suffix(".joblib") if path.suffix == SAFE else path
    safe = path.with_suffix(SAFE)
    if not (plain.is_file() and safe.is_file()):
        return
    if joblib_hash(safe) != joblib_hash(plain):
        raise InputError(
            f"{safe} and {plain.name} beside it are not of one model: train or save the model "
            f"again, or remove the file that you do not trust."
        )
