"""Cache of vectors: read what is stored, write what is computed, share the work out.

A request names the columns that are asked for: layers and poolings. Every entry (folder) of
the same encoder and settings that contains these columns serves it, so one pass that stores
all layers serves every later choice of layers and pooling.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import CacheWarning
from ..utils.console import callers_level
from ..utils.files import names_in
from .claims import Claims
from .entries import SETTINGS, Entry, folder_name
from .results import Results
from .settings import VectorSettings

__all__ = ["Share", "VectorCache", "cache_root"]

WAIT = 0.05  # seconds between two looks at what another process is computing
PATIENCE = 60.0  # seconds of waiting without news until the others' texts are computed here
MOST_BYTES = 10**9  # of an entry with all layers; beyond it only what is asked for is stored


def cache_root(cache_dir: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder that `cache_dir` means, or None for no cache.

    Parameters
    ----------
    cache_dir : str, path-like or None
        `"auto"` is `$FROZENBERT_CACHE`, or else the user's cache folder.
    """
    if cache_dir is None:
        return None
    if cache_dir != "auto":
        return Path(cache_dir).expanduser()
    if named := os.environ.get("FROZENBERT_CACHE"):
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("frozenbert"))


@dataclass(frozen=True)
class Share:
    """A batch to compute here.

    Attributes
    ----------
    rows : numpy.ndarray of int
        Rows of the results.
    claim : contextlib.ExitStack
        Close it once the vectors are written: other processes wait for it.
    """

    rows: np.ndarray
    claim: contextlib.ExitStack


class VectorCache:
    """Vectors of one encoder under one setting, for the columns that are asked for.

    Trouble with the folder is never an error: what cannot be read counts as absent, and what
    cannot be written turns writing off, with one warning. `write` may be called from several
    threads at once.

    For as long as nothing is removed from the cache, a text has the same vector in every
    answer to the same request, bit for bit. The entry of exactly these columns is therefore
    read first, then those with all layers, the one with fewer poolings first: none of these
    gets a text that one after it served. What any other entry serves is copied to the first.

    Parameters
    ----------
    root : path-like
        The cache's folder, shared by all encoders and settings.
    settings : VectorSettings
        With the layers and poolings that are asked for.

    Examples
    --------
    >>> import tempfile
    >>> from frozenbert.vectors.results import text_keys
    >>> asked = VectorSettings("abc", 1, 2, layers=(1,), pooling=("cls",), max_length=8)
    >>> cache = VectorCache(tempfile.mkdtemp(), asked)
    >>> keys = text_keys(["first", "second"])
    >>> cache.write(keys[:1], np.ones((1, 2), dtype=np.float32), np.array([3]))
    >>> results = Results(keys, n_features=2)
    >>> cache.read(results)
    >>> results.missing.tolist(), results.vectors[0].tolist(), results.n_tokens[0].item()
    ([False, True], [1.0, 1.0], 3)
    """

    def __init__(self, root: str | os.PathLike[str], settings: VectorSettings) -> None:
        self.root = Path(root)
        self.settings = settings
        self._own = Entry(self.root, settings.in_order())
        wide = {s: Entry(self.root, s) for s in (settings.all_layers(), settings.all_layers("max"))}
        wide.pop(self._own.settings, None)
        self._wide = list(wide.values())
        self._others: list[Entry] | None = None
        self._store = self._own
        self._writable = True
        self._written: set[tuple[Path, str]] = set()
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """Folder that `write` writes to."""
        return self._store.folder

    @property
    def storing(self) -> VectorSettings:
        """Settings of what `write` takes: the columns asked for, in order, or all layers."""
        return self._store.settings

    def store_all_layers(self, n_new: int | None = None) -> None:
        """Let `write` take all layers, in cls, mean and the pooling asked for.

        Parameters
        ----------
        n_new : int or None, default=None
            Number of vectors that will be written: if the entry would exceed `MOST_BYTES`,
            nothing changes. None sets no limit.
        """
        settings = self.settings.all_layers()
        entry = next((e for e in self._wide if e.settings == settings), self._own)
        if n_new is None or entry.n_bytes(n_new) <= MOST_BYTES:
            self._store = entry

    def read(self, results: Results) -> None:
        """Fill in the missing vectors that are stored."""
        self._read_unseen(set(), results)

    def _read_unseen(self, seen: set[tuple[Path, str]], results: Results) -> None:
        """Read from the pairs not in `seen`, and add them to it."""
        self._read_from([self._own, *self._wide], seen, results)
        if results.missing.any() and self.settings.can_share:
            if self._others is None:
                self._others = self._find_others()
            self._copy(results, self._read_from(self._others, seen, results))

    def _read_from(
        self, entries: list[Entry], seen: set[tuple[Path, str]], results: Results
    ) -> list[int]:
        """Read from the unseen pairs of some entries; return the rows that were filled in."""
        rows: list[int] = []
        # Repeated until nothing is new: a pair that was listed may have been merged into
        # another and removed before it was opened.
        n_seen = -1
        while len(seen) > n_seen:
            n_seen = len(seen)
            for entry in entries:
                if results.missing.any():
                    rows += self._read_entry(entry, seen, results)
        return rows

    def _read_entry(self, entry: Entry, seen: set[tuple[Path, str]], results: Results) -> list[int]:
        blocks = self.settings.find_blocks(entry.settings)
        assert blocks is not None
        rows: list[int] = []
        for name in sorted(entry.names()):
            if (entry.folder, name) not in seen:
                seen.add((entry.folder, name))
                rows += entry.read(name, results, blocks).tolist()
                if not results.missing.any():
                    break
        return rows

    def _find_others(self) -> list[Entry]:
        """Find the other entries whose columns contain those asked for."""
        known = {entry.folder.name for entry in (self._own, *self._wide)}
        others = []
        for name in sorted(names_in(self.root / "vectors") - known):
            with contextlib.suppress(OSError, ValueError):
                path = self.root / "vectors" / name / SETTINGS
                description = path.read_text(encoding="utf-8").removesuffix("\n")
                settings = self.settings.with_columns_of(description)
                if settings is None or folder_name(description) != name:
                    continue  # another encoder or setting, or a damaged file
                if self.settings.find_blocks(settings) is not None:
                    others.append(Entry(self.root, settings))
        return others

    def _copy(self, results: Results, rows: list[int]) -> None:
        """Write what another entry served to the entry of exactly these columns."""
        if not self._writable or not rows:
            return
        vectors = self._own.settings.select(results.vectors[rows], self.settings)
        with contextlib.suppress(OSError):
            self._own.write(results.keys[rows], vectors, results.n_tokens[rows])

    def write(self, keys: np.ndarray, vectors: np.ndarray, n_tokens: np.ndarray) -> None:
        """Store vectors.

        Parameters
        ----------
        keys : numpy.ndarray of uint64, shape (n, 2)
        vectors : numpy.ndarray of float32, shape (n, storing.n_features)
        n_tokens : numpy.ndarray of int, shape (n,)
        """
        if not self._writable or not len(keys):
            return
        try:
            name = self._store.write(keys, vectors, n_tokens)
            with self._lock:
                self._written.add((self.folder, name))
        except OSError as error:
            with self._lock:
                first, self._writable = self._writable, False
            if not first:
                return
            warnings.warn(
                f"the vector cache is turned off, vectors are not stored: {self.folder} cannot be "
                f"written ({error.strerror or error}).",
                CacheWarning,
                stacklevel=callers_level(),
            )

    def share_out(
        self, batches: Iterable[np.ndarray], results: Results
    ) -> Generator[Share | None, None, None]:
        """Divide batches among the processes that compute the same texts at this time.

        Parameters
        ----------
        batches : iterable of numpy.ndarray of int
            Rows of the results, in the order in which to compute them.
        results : Results
            What another process computes is filled in.

        Yields
        ------
        Share or None
            Rows to compute, fill in and write here. None is yielded at the end, and when all
            that is left is being computed elsewhere: the consumer then finishes what it
            holds, or two processes would wait for each other.
        """
        pending, seen = deque(batches), set[tuple[Path, str]]()
        with self._lock:
            self._written.clear()
        self._read_unseen(seen, results)
        waited = 0.0
        with contextlib.ExitStack() as claimed:
            while pending:
                with Claims.looked_at(self.folder if self._writable else None, self.root) as look:
                    # Listed before reading: what is finished in between is then seen twice
                    # and not missed.
                    busy = look.of_others()
                    with self._lock:
                        seen |= self._written
                    known = len(seen)
                    self._read_unseen(seen, results)
                    waited = 0.0 if len(seen) > known else waited
                    rows = _take(pending, results, busy if waited < PATIENCE else busy[:0])
                    claim = look.make(results.keys[rows, 0]) if len(rows) else None
                if claim is not None:
                    claimed.enter_context(claim)
                    yield Share(rows, claim)
                elif pending:
                    yield None
                    time.sleep(WAIT)
                    waited += WAIT
            yield None  # what the consumer holds is written before its claims end


def _take(pending: deque[np.ndarray], results: Results, busy: np.ndarray) -> np.ndarray:
    """Take the rows of the first batch that are missing and not busy; put off the busy ones."""
    for _ in range(len(pending)):
        rows = pending.popleft()
        rows = rows[results.missing[rows]]
        taken = np.isin(results.keys[rows, 0], busy)
        if taken.any():
            pending.append(rows[taken])
        if not taken.all():
            return rows[~taken]
    return np.empty(0, dtype=np.intp)
