"""The folder of finished steps, by which a killed training goes on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
import joblib
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from ...embed import DistilBertVectorizer
from ...encoders.sources import find_encoder
from ...errors import InputError
from ...reports.sidecar import versions
from ...utils.files import make_private_folder, writing
from ...utils.steps import find_steps
from ..rows import Rows

__all__ = ["STEPS", "StepsFolder", "key_of"]

STEPS = ".steps"
FORMAT = 1  # of the files in the folder
# Where and how fast a model computes has no part in what it learns.
NOT_LEARNED = (
    "backend",
    "cache_dir",
    "device",
    "keep_layers",
    "local_files_only",
    "max_batch_tokens",
    "n_jobs",
    "num_threads",
    "progress",
)


class StepsFolder:
    """The folder `.steps` of a training, which only its owner can read.

    It contains what was trained, in joblib files, and no text but words in vocabularies.

    Parameters
    ----------
    out : pathlib.Path
        The folder of the model.

    Attributes
    ----------
    out, path : pathlib.Path
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out / STEPS

    @contextlib.contextmanager
    def claimed(self, key: str) -> Iterator[None]:
        """Make the folder for one training; no other process can write to it meanwhile.

        Parameters
        ----------
        key : str
            From `key_of`.

        Raises
        ------
        InputError
            If the folder is of another training or another user, in use, or cannot be written.
        """
        try:
            make_private_folder(self.path)
            self._check_owner()
            lock = filelock.FileLock(self.path / "lock", mode=0o600)
            lock.acquire(blocking=False)
        except filelock.Timeout:
            raise InputError(f"{self.path}: another process trains into this folder.") from None
        except OSError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror or error})."
            ) from error
        try:
            self._check_key(key)
            yield
        finally:
            lock.release()

    def _check_owner(self) -> None:
        # What is read from there runs code.
        status = os.lstat(self.path)
        others = hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077)
        if others or self.path.is_symlink():
            raise InputError(
                f"{self.path}: must be your own folder, which nobody else may enter: remove it."
            )

    def _check_key(self, key: str) -> None:
        file = self.path / "key.json"
        if file.exists():
            try:
                known = json.loads(file.read_text("utf-8"))
            except ValueError:
                known = None
            if known == {"format": FORMAT, "key": key}:
                return
            raise InputError(
                f"{self.path}: contains the steps of another training (other rows, options or "
                f"versions). Repeat that one, remove the folder, or name another one."
            )
        with writing(file) as fresh:
            fresh.write_text(json.dumps({"format": FORMAT, "key": key}), encoding="utf-8")

    def read(self, name: str) -> Any:
        """Return what a step left, or None if it is not finished."""
        file = self._file(name)
        return joblib.load(file) if file.is_file() else None

    def write(self, name: str, result: object) -> None:
        """Store what a finished step leaves."""
        with writing(self._file(name)) as fresh:
            joblib.dump(result, fresh)

    def scratch(self, name: str) -> Path:
        """Return the folder for the files of a step that runs."""
        return make_private_folder(self.path / name.replace(" ", "-"))

    def remove_scratch(self, name: str) -> None:
        """Remove the folder for the files of a step, once its result is stored."""
        shutil.rmtree(self.scratch(name), ignore_errors=True)

    def _file(self, name: str) -> Path:
        return self.path / f"{name.replace(' ', '-')}.joblib"


def key_of(model: Pipeline, rows: Rows, unlabelled: Sequence[str]) -> str:
    """Return the hash of all that a training depends on: rows, parameters, encoder, versions.

    Parameters
    ----------
    model : sklearn.pipeline.Pipeline
    rows : Rows
        Test rows have no part in it.
    unlabelled : sequence of str
    """
    parameters = {
        name: type(value).__name__ if isinstance(value, BaseEstimator) else value
        for name, value in model.get_params().items()
        if name.rpartition("__")[2] not in NOT_LEARNED and not isinstance(value, list)
    }
    encoders = [
        find_encoder(
            embed.model_name, embed.revision, local_files_only=embed.local_files_only
        ).content_hash
        for embed in find_steps(model, DistilBertVectorizer)
    ]
    groups = None if rows.groups is None else np.asarray(rows.groups).tolist()
    parts = (rows.texts, rows.truth.tolist(), list(map(str, getattr(rows.labels, "columns", ()))))
    return str(
        joblib.hash((FORMAT, *parts, groups, list(unlabelled), parameters, encoders, versions()))
    )
