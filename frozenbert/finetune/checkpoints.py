"""The folder of checkpoints of one training, and who may write to it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import filelock

from ..errors import CheckpointWarning, InputError
from ..utils.console import callers_level
from ..utils.files import names_in

__all__ = ["TrainingFolder", "last_checkpoint"]

KEY = "key"  # the file that names the training


class TrainingFolder:
    """Folder beside the output that holds the checkpoints until the output is complete.

    Parameters
    ----------
    out : path-like
        The output folder of the training.

    Attributes
    ----------
    out : pathlib.Path
    path : pathlib.Path
        The folder, `.NAME.training` beside `out`.

    Examples
    --------
    >>> TrainingFolder("models/mine").path.name
    '.mine.training'
    """

    def __init__(self, out: str | os.PathLike[str]) -> None:
        self.out = Path(out)
        absolute = self.out.absolute()
        self.path = absolute.with_name(f".{absolute.name}.training")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude other processes from training for the same output.

        Raises
        ------
        InputError
            If another process holds the lock.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path.with_name(f"{self.path.name}.lock"))
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            raise InputError(
                f"{self.out}: another process is training an encoder for this folder."
            ) from None
        try:
            yield
        finally:
            lock.release()
            with contextlib.suppress(OSError):
                os.unlink(lock.lock_file)

    def claim(self, key: str) -> None:
        """Make the folder for a training, and discard another run's checkpoints with a warning.

        Parameters
        ----------
        key : str
            Names the training: texts, labels, encoder and settings.

        Raises
        ------
        InputError
            If the folder exists and was not made by a training.

        Warns
        -----
        CheckpointWarning
            If checkpoints of another training are discarded.
        """
        stamp = self.path / KEY
        if self.path.exists() and (not stamp.is_file() or stamp.read_text() != key):
            if not stamp.is_file() and names_in(self.path):
                raise InputError(
                    f"{self.path}: is needed for checkpoints, but contains other files: move it."
                )
            if list(self.path.glob("checkpoint-*")):
                warnings.warn(
                    f"{self.path}: the checkpoints of another training (other texts, encoder or "
                    f"settings) are discarded.",
                    CheckpointWarning,
                    stacklevel=callers_level(),
                )
            self.discard()
        self.path.mkdir(parents=True, exist_ok=True)
        stamp.write_text(key)

    def discard(self) -> None:
        """Remove the folder, if it exists."""
        shutil.rmtree(self.path, ignore_errors=True)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the last complete checkpoint, and remove incomplete ones."""
    complete = []
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            # The Trainer writes this file last.
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
            complete.append(checkpoint)
        except (OSError, ValueError):
            shutil.rmtree(checkpoint, ignore_errors=True)
    return max(complete, key=lambda f: int(f.name.rpartition("-")[2]), default=None)
