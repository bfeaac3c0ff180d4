"""Write files whole or not at all, check paths, hash content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import InputError

__all__ = [
    "check_can_write",
    "check_is_no_device",
    "make_private_folder",
    "names_in",
    "note_use",
    "sha256_of_file",
    "write_array",
    "writing",
]

USED = 86_400.0  # seconds; precision of the time at which a file was last used


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to `path` at the end.

    The temporary file is in the same folder, so that the rename is atomic. It
    is flushed to the disk before the rename and removed when the block fails.

    Parameters
    ----------
    path : str or path-like
        The path of the finished file. An existing file is replaced.

    Yields
    ------
    pathlib.Path
        The temporary path; the block has to create it.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with writing(folder / "answer.txt") as temporary:
    ...     _ = temporary.write_text("42")
    >>> [p.name for p in folder.iterdir()]
    ['answer.txt']
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_can_write(path: str | os.PathLike[str]) -> None:
    """Raise `InputError` if no file or folder can be made at `path`.

    Commands call it before long work. Nothing is created.

    Parameters
    ----------
    path : str or path-like
        The file or folder that is to be written.

    Raises
    ------
    InputError
        If a parent of `path` is no folder or must not be written to, or `path` is a device.
    """
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
        # Root could: the rename would replace /dev/null by a file.
        raise InputError(f"{path}: cannot be written, because it is neither a file nor a folder.")
    parent = Path(path).absolute().parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise InputError(f"{path}: cannot be written, because {parent} is a file and no folder.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: cannot be written, because you may not write to {parent}.")


def check_is_no_device(path: str | os.PathLike[str]) -> None:
    """Raise `InputError` if `path` is a named pipe, a device or a socket.

    Opening a pipe waits for a writer, perhaps forever, and its content comes only once.

    Parameters
    ----------
    path : str or path-like
        A file or folder that is to be read.

    Raises
    ------
    InputError
        If it is a named pipe, a device or a socket.
    OSError
        If it does not exist or must not be looked at.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return
    kind = "named pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
    raise InputError(f"{path}: is a {kind}; write its content to a file first, and name that.")


def make_private_folder(
    path: str | os.PathLike[str], top: str | os.PathLike[str] | None = None
) -> Path:
    """Create a folder that only its owner can read (0700).

    Parameters
    ----------
    path : str or path-like
        The folder. An existing one is not changed.
    top : str or path-like, optional
        A folder above it: folders missing from `top` down are private too. Folders missing
        above `top`, or above `path` when it is None, get the ordinary mode.

    Returns
    -------
    pathlib.Path
        The folder.
    """
    path = Path(path)
    top = path if top is None else Path(top)
    if not path.is_dir():
        top.parent.mkdir(parents=True, exist_ok=True)
        # Path.mkdir(parents=True) would create the parents with the umask's mode.
        for folder in (*reversed(path.parents), path):
            if folder == top or top in folder.parents:
                folder.mkdir(mode=0o700, exist_ok=True)
    return path


def write_array(file: BinaryIO, array: np.ndarray) -> None:
    """Write an array as `.npy`, and raise an error if that fails.

    `numpy.save` writes through C's buffered output; on a full disk its last part can get
    lost without an error (NumPy 2.4).

    Parameters
    ----------
    file : file
        Opened for writing bytes.
    array : numpy.ndarray

    Raises
    ------
    OSError
        If the disk is full, at the latest when the file is closed.
    """
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(array.data)


def names_in(folder: str | os.PathLike[str]) -> set[str]:
    """Return the names in a folder; none if it does not exist."""
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def note_use(path: str | os.PathLike[str]) -> None:
    """Set a file's time to now, unless it is less than a day old: it tells the last use."""
    with contextlib.suppress(OSError):
        if time.time() - os.stat(path).st_mtime > USED:
            os.utime(path)


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits.

    Raises
    ------
    InputError
        If the file is a named pipe, a device or a socket.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "empty"
    >>> file.touch()
    >>> sha256_of_file(file)[:16]
    'e3b0c44298fc1c14'
    """
    check_is_no_device(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
