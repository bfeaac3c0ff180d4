"""Claims of processes on the texts that they are computing.

Claims keep two processes from computing the same text. No vector depends on them.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import filelock
import numpy as np

from ..utils.files import make_private_folder, names_in

__all__ = ["Claims", "lock"]

ALL = "all.lock"
LOCKED = 10.0  # seconds to wait for a lock that others hold for milliseconds


class Claims:
    """Claims in one folder, read by one process at a time.

    A claim is a file with hashes, beside a file that its process holds a lock on. The lock
    ends with the process, and the claim with it. No process waits while it holds this lock,
    so there is no deadlock.

    Parameters
    ----------
    folder : pathlib.Path or None
        None where claims cannot be written: then there are none.
    """

    # Claims of this process by thread. A loop that failed may leave one behind for as long as
    # its traceback exists, and its thread must not wait for itself.
    threads: ClassVar[dict[str, int]] = {}

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    @contextlib.contextmanager
    def looked_at(cls, vectors: Path | None, root: Path) -> Iterator[Claims]:
        """Lock the claims on a folder of vectors, so that reading and claiming are one step.

        Parameters
        ----------
        vectors : pathlib.Path or None
            Folder of the vectors; None for no claims.
        root : pathlib.Path
            Folder of the cache.
        """
        folder = None
        if vectors is not None:
            with contextlib.suppress(OSError):
                folder = make_private_folder(vectors / "claims", root)
        if folder is None:
            yield cls(None)
            return
        with lock(folder / ALL, wait=True) as held:
            yield cls(folder if held else None)

    def of_others(self) -> np.ndarray:
        """Return the first words of the hashes that live processes have claimed, uint64 (n,)."""
        claimed = [np.empty(0, dtype=np.uint64)]
        if self.folder is None:
            return claimed[0]
        for name in names_in(self.folder) - {ALL}:
            file = self.folder / name
            path = file.with_suffix(".npy")
            if file.suffix != ".lock" or self.threads.get(path.name) == threading.get_ident():
                continue
            with lock(file, wait=False) as dead:
                if dead:
                    _remove_claim(path)
                    continue
            with contextlib.suppress(OSError, ValueError, EOFError):
                claimed.append(np.load(path))
        return np.concatenate(claimed)

    def make(self, keys: np.ndarray) -> contextlib.ExitStack:
        """Claim texts by the first words of their hashes, until the returned context is closed."""
        claim = contextlib.ExitStack()
        if self.folder is None:
            return claim
        path = self.folder / f"{secrets.token_hex(8)}.npy"
        self.threads[path.name] = threading.get_ident()
        claim.callback(self.threads.pop, path.name)
        claim.enter_context(lock(path.with_suffix(".lock"), wait=True))
        claim.callback(_remove_claim, path)
        with contextlib.suppress(OSError):
            np.save(path, keys)
        return claim


def _remove_claim(path: Path) -> None:
    for file in (path, path.with_suffix(".lock")):
        with contextlib.suppress(OSError):
            file.unlink()


@contextlib.contextmanager
def lock(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock that ends with the process; yield False if it cannot be acquired."""
    file = filelock.FileLock(path, mode=0o600)
    try:
        # With a limit, because its holder may have been stopped. Locks only save work.
        file.acquire(timeout=LOCKED if wait else 0, poll_interval=0.002)
    except (OSError, NotImplementedError, filelock.Timeout):
        yield False
        return
    try:
        yield True
    finally:
        file.release()
