"""Vectors on disk: found by what shapes them, written whole and once, checked when read.

One folder holds the vectors of one encoder under one setting, in pairs of files:

    NAME.vectors.npy    float32 (n, n_features)
    NAME.keys.npy       uint64 (3, n), columns sorted by the first two rows:
                        the text's hash (two rows), and token count << 32 | CRC-32

The keys file is written last and makes the pair count. Pairs are never changed: small
ones are merged into a new pair before they are removed. So no lock is needed to be
right; the claims below only save two processes from computing the same text.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from .files import make_private_folder, writing

__all__ = ["VectorCache", "cache_root", "text_keys"]

VECTORS = ".vectors.npy"
KEYS = ".keys.npy"
MERGE_AT = 8  # pairs of one size class; a class spans a factor of eight in rows
LARGEST_MERGE = 2**30  # bytes; larger pairs stay as they are
LEFTOVERS_AFTER = 3600.0  # seconds until a file without a partner is no write in progress
WAIT = 0.05  # seconds between two looks at what another process is computing


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


def text_keys(texts: Sequence[str]) -> np.ndarray:
    """Hash texts (BLAKE2b, 128 bits) for looking them up.

    Returns
    -------
    numpy.ndarray of uint64, shape (n_texts, 2)

    Examples
    --------
    >>> keys = text_keys(["a", "b", "a"])
    >>> bool((keys[0] == keys[2]).all()), bool((keys[0] == keys[1]).any())
    (True, False)
    """
    digests = b"".join(hashlib.blake2b(t.encode(), digest_size=16).digest() for t in texts)
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)


class VectorCache:
    """The vectors of one encoder under one setting.

    Trouble with the folder never reaches the caller as an error: what cannot be read
    counts as absent, and what cannot be written turns writing off, with one warning.

    Parameters
    ----------
    root : path-like
        The cache's folder, shared by all encoders and settings.
    settings : dict
        All that shapes a vector but the text; JSON-serialisable.
    n_features : int
        Columns of a vector.

    Examples
    --------
    >>> import tempfile
    >>> cache = VectorCache(tempfile.mkdtemp(), {"encoder": "abc"}, n_features=2)
    >>> keys = text_keys(["first", "second"])
    >>> cache.write(keys[:1], np.ones((1, 2), dtype=np.float32), np.array([3]))
    >>> vectors, n_tokens = np.zeros((2, 2), dtype=np.float32), np.zeros(2, dtype=np.int64)
    >>> missing = np.array([True, True])
    >>> cache.read(keys, vectors, n_tokens, missing)
    >>> missing.tolist(), vectors[0].tolist(), n_tokens[0].item()
    ([False, True], [1.0, 1.0], 3)
    """

    def __init__(
        self, root: str | os.PathLike[str], settings: dict[str, Any], n_features: int
    ) -> None:
        description = json.dumps(settings, sort_keys=True)
        name = hashlib.blake2b(description.encode(), digest_size=16).hexdigest()
        self.folder = Path(root) / "vectors" / name
        self.n_features = n_features
        self._description = description
        self._writable = True

    def read(
        self, keys: np.ndarray, vectors: np.ndarray, n_tokens: np.ndarray, missing: np.ndarray
    ) -> None:
        """Fill in the vectors that are there.

        Parameters
        ----------
        keys : numpy.ndarray of uint64, shape (n, 2)
        vectors : numpy.ndarray of float32, shape (n, n_features)
            Written to where a vector was found.
        n_tokens : numpy.ndarray of int64, shape (n,)
            Written to likewise: the texts' lengths before cutting.
        missing : numpy.ndarray of bool, shape (n,)
            True where a vector is wanted; becomes False where it was found.
        """
        self._read_unseen(set(), keys, vectors, n_tokens, missing)

    def _read_unseen(self, seen: set[str], *work: np.ndarray) -> None:
        """Read from the pairs not in `seen`, and add them to it."""
        # Once more until nothing is new: a pair that was listed may have been merged into
        # another and removed before it was opened.
        while work[-1].any() and (names := self._names() - seen):
            seen |= names
            for name in names:
                self._read_pair(name, *work)

    def _read_pair(
        self,
        name: str,
        keys: np.ndarray,
        vectors: np.ndarray,
        n_tokens: np.ndarray,
        missing: np.ndarray,
    ) -> None:
        wanted = np.flatnonzero(missing)
        pair = self._open(name)
        if pair is None:
            return
        stored, values = pair
        at = np.searchsorted(stored[0], keys[wanted, 0])
        at[at == stored.shape[1]] = 0
        # Two texts that share half a hash hide each other here: computed, never confused.
        hit = (stored[0][at] == keys[wanted, 0]) & (stored[1][at] == keys[wanted, 1])
        rows, at = wanted[hit], at[hit]
        vectors[rows] = values[at]
        packed = stored[2][at]
        n_tokens[rows] = packed >> np.uint64(32)
        sound = _pack(keys[rows], n_tokens[rows], vectors[rows]) == packed
        missing[rows[sound]] = False
        if not sound.all():
            self._rescue(name, stored, values)

    def write(self, keys: np.ndarray, vectors: np.ndarray, n_tokens: np.ndarray) -> None:
        """Keep vectors as one new pair of files.

        Parameters
        ----------
        keys : numpy.ndarray of uint64, shape (n, 2)
        vectors : numpy.ndarray of float32, shape (n, n_features)
        n_tokens : numpy.ndarray of int, shape (n,)
        """
        if not self._writable or not len(keys):
            return
        try:
            if not self.folder.is_dir():
                make_private_folder(self.folder)
                with writing(self.folder / "settings.json") as temporary:
                    temporary.write_text(self._description + "\n")
            packed = _pack(keys, n_tokens, vectors)
            self._write_pair(np.stack([keys[:, 0], keys[:, 1], packed]), vectors)
            self._merge()
        except OSError as error:
            self._writable = False
            warnings.warn(
                f"the vector cache is turned off, vectors are not kept: {self.folder} cannot be "
                f"written ({error.strerror or error}).",
                stacklevel=2,
            )

    def share_out(
        self,
        batches: Iterable[np.ndarray],
        keys: np.ndarray,
        vectors: np.ndarray,
        n_tokens: np.ndarray,
        missing: np.ndarray,
    ) -> Iterator[np.ndarray]:
        """Divide batches among the processes that compute the same texts just now.

        Parameters
        ----------
        batches : iterable of numpy.ndarray of int
            Rows of `keys`, in the order they are to be computed.
        keys, vectors, n_tokens, missing : numpy.ndarray
            As for `read`. What another process computes is filled in.

        Yields
        ------
        numpy.ndarray of int
            Rows to compute and write here before the next are asked for; the consumer
            sets them False in `missing`.
        """
        pending, seen = list(batches), set[str]()
        while pending:
            with _Claims.looked_at(self.folder if self._writable else None) as claims:
                self._read_unseen(seen, keys, vectors, n_tokens, missing)
                rows = _take(pending, missing, np.isin(keys[:, 0], claims.of_others()))
                claim = claims.make(keys[rows, 0]) if len(rows) else None
            if claim is not None:
                with claim:
                    yield rows
            elif pending:
                time.sleep(WAIT)

    def _names(self) -> set[str]:
        try:
            files = os.listdir(self.folder)
        except OSError:
            return set()
        return {f.removesuffix(KEYS) for f in files if f.endswith(KEYS)}

    def _open(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Map a pair of files; None where there is none (any more) or it is damaged."""
        try:
            stored = np.load(self.folder / (name + KEYS), mmap_mode="r")
            values = np.load(self.folder / (name + VECTORS), mmap_mode="r")
        except (OSError, ValueError, EOFError):
            stored = values = np.empty(0)
        n = stored.shape[-1] if stored.ndim == 2 else 0
        shapes = (stored.shape, values.shape) == ((3, n), (n, self.n_features))
        if n and shapes and (stored.dtype, values.dtype) == (np.uint64, np.float32):
            return stored, values
        if (self.folder / (name + KEYS)).exists():
            self._set_aside(name)
        return None

    def _write_pair(self, stored: np.ndarray, values: np.ndarray) -> None:
        """Write a pair, its rows put in order."""
        order = np.lexsort((stored[1], stored[0]))
        name = secrets.token_hex(8)
        with writing(self.folder / (name + VECTORS)) as temporary, open(temporary, "wb") as file:
            np.save(file, values[order])
        with writing(self.folder / (name + KEYS)) as temporary, open(temporary, "wb") as file:
            np.save(file, stored[:, order])

    def _rescue(self, name: str, stored: np.ndarray, values: np.ndarray) -> None:
        """Keep the sound rows of a damaged pair, and set the pair aside."""
        keys = np.ascontiguousarray(stored[:2].T)
        sound = _pack(keys, stored[2] >> np.uint64(32), values) == stored[2]
        with contextlib.suppress(OSError):
            if sound.any():
                self._write_pair(stored[:, sound], values[sound])
        self._set_aside(name)

    def _set_aside(self, name: str) -> None:
        aside = self.folder / "damaged"
        with contextlib.suppress(OSError):
            make_private_folder(aside)
            for end in (KEYS, VECTORS):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self.folder / (name + end), aside / (name + end))
        warnings.warn(
            f"the vector cache holds damaged vectors: they are set aside in {aside} and computed "
            f"again.",
            stacklevel=2,
        )

    def _merge(self) -> None:
        """Turn many small pairs into one; the old ones go once the new one stands."""
        sizes: dict[int, list[str]] = {}
        bytes_a_row = 4 * self.n_features + 24
        for path in self.folder.glob("*" + KEYS):
            with contextlib.suppress(OSError):
                n = path.stat().st_size // 24
                if n * bytes_a_row < LARGEST_MERGE:
                    sizes.setdefault(n.bit_length() // 3, []).append(path.name.removesuffix(KEYS))
        for names in sizes.values():
            if len(names) < MERGE_AT:
                continue
            with _lock(self.folder / "merge.lock", wait=False) as held:
                if held:
                    self._merge_pairs(names)
                    self._sweep()

    def _merge_pairs(self, names: list[str]) -> None:
        pairs = {name: pair for name in names if (pair := self._open(name)) is not None}
        if len(pairs) < 2:
            return
        stored = np.concatenate([keys for keys, _ in pairs.values()], axis=1)
        _, first = np.unique(stored[:2], axis=1, return_index=True)
        values = np.concatenate([vectors for _, vectors in pairs.values()])
        self._write_pair(stored[:, first], values[first])
        for name in pairs:
            for end in (KEYS, VECTORS):
                (self.folder / (name + end)).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what killed processes left: temporary files, vectors without keys."""
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                lonely = (
                    path.name.endswith(VECTORS)
                    and not (self.folder / (path.name.removesuffix(VECTORS) + KEYS)).exists()
                )
                old = time.time() - path.stat().st_mtime > LEFTOVERS_AFTER
                if old and (lonely or path.name.endswith(".tmp")):
                    path.unlink()


class _Claims:
    """What the processes at work on one folder are computing just now.

    A claim is a file with hashes, next to a file that its process holds a lock on; the
    lock ends with the process, and the claim with it. No process waits while it holds
    one, so none can wait for another in a circle.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    @contextlib.contextmanager
    def looked_at(cls, vectors: Path | None) -> Iterator[_Claims]:
        """One process at a time: looking and claiming have to be one step."""
        folder = None
        if vectors is not None:
            with contextlib.suppress(OSError):
                folder = make_private_folder(vectors / "claims")
        if folder is None:
            yield cls(None)
            return
        with _lock(folder / "all.lock", wait=True) as held:
            yield cls(folder if held else None)

    def of_others(self) -> np.ndarray:
        """Return the first halves of the hashes under living claims."""
        claimed = [np.empty(0, dtype=np.uint64)]
        for path in self.folder.glob("*.npy") if self.folder else ():
            with _lock(path.with_suffix(".lock"), wait=False) as dead:
                if dead:
                    _remove_claim(path)
                    continue
            with contextlib.suppress(OSError, ValueError, EOFError):
                claimed.append(np.load(path))
        return np.concatenate(claimed)

    @contextlib.contextmanager
    def _held(self, path: Path, stack: contextlib.ExitStack) -> Iterator[None]:
        with stack:
            try:
                yield
            finally:
                _remove_claim(path)

    def make(self, keys: np.ndarray) -> contextlib.AbstractContextManager[None]:
        """Claim texts by the first halves of their hashes, until the context ends."""
        if self.folder is None:
            return contextlib.nullcontext()
        path = self.folder / f"{secrets.token_hex(8)}.npy"
        stack = contextlib.ExitStack()
        with contextlib.suppress(OSError):
            stack.enter_context(_lock(path.with_suffix(".lock"), wait=True))
            np.save(path, keys)
        return self._held(path, stack)


def _remove_claim(path: Path) -> None:
    for file in (path, path.with_suffix(".lock")):
        with contextlib.suppress(OSError):
            file.unlink()


@contextlib.contextmanager
def _lock(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock that ends with the process; False where it cannot be had."""
    lock = filelock.FileLock(path, mode=0o600)
    try:
        lock.acquire(blocking=wait)
    except (OSError, NotImplementedError, filelock.Timeout):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _take(pending: list[np.ndarray], missing: np.ndarray, busy: np.ndarray) -> np.ndarray:
    """Take the rows of the first batch that are missing and not busy; drop done batches."""
    for place in range(len(pending)):
        rows = pending[place][missing[pending[place]]]
        free = rows[~busy[rows]]
        pending[place] = rows[busy[rows]]
        if len(free):
            pending[:] = [batch for batch in pending if len(batch)]
            return free
    pending[:] = [batch for batch in pending if len(batch)]
    return np.empty(0, dtype=np.intp)


def _pack(keys: np.ndarray, n_tokens: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Token count << 32 | CRC-32 over hash, token count and vector, one uint64 a row."""
    counts = np.asarray(n_tokens).astype(np.uint64)
    head = np.column_stack([keys, counts])
    checks = [
        zlib.crc32(vector, zlib.crc32(start))
        for start, vector in zip(head, np.ascontiguousarray(vectors), strict=True)
    ]
    return (counts << np.uint64(32)) | np.array(checks, dtype=np.uint64)
