"""Vectors on disk: found by what shapes them, written whole and once, checked when read.

One folder holds the vectors of one encoder under one setting, in pairs of files:

    NAME.vectors.npy    float32 (n, n_features)
    NAME.keys.npy       uint64 (3, n), columns sorted by the first two rows:
                        the text's hash (two rows), and token count << 32 | CRC-32

NAME ends in the CRC-32 of the keys, so that a damaged hash shows too. The keys file is
written last and makes the pair count. Pairs are never changed: small ones are merged into
a new pair before they are removed. So no lock is needed to be right; the claims below only
save two processes from computing the same text.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import threading
import time
import warnings
import zlib
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.files import make_private_folder, names_in, note_use, write_array, writing
from .claims import Claims, lock

__all__ = ["VectorCache", "cache_root", "text_keys"]

VECTORS = ".vectors.npy"
KEYS = ".keys.npy"
MERGE_AT = 8  # pairs of one size class; a class spans a factor of eight in rows
LARGEST_MERGE = 2**23  # bytes; larger pairs stay as they are, so a merge holds 8 x this twice
LEFTOVERS_AFTER = 3600.0  # seconds until a file without a partner is no write in progress
WAIT = 0.05  # seconds between two looks at what another process is computing
HASHES = 2**26  # bytes of hashes held in memory, 8 a vector; other pairs are opened each time
PATIENCE = 60.0  # seconds of waiting without news until the others' texts are computed here


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


def text_keys(texts: Sequence[str], kind: str = "") -> np.ndarray:
    """Hash texts (BLAKE2b, 128 bits) for looking them up.

    Parameters
    ----------
    texts : sequence of str
    kind : str, default=""
        Keeps vectors apart that are of the same text and were made in different ways; at
        most 16 ASCII characters.

    Returns
    -------
    numpy.ndarray of uint64, shape (n_texts, 2)

    Examples
    --------
    >>> keys = text_keys(["a", "b", "a"])
    >>> bool((keys[0] == keys[2]).all()), bool((keys[0] == keys[1]).any())
    (True, False)
    """
    person = kind.encode()
    digests = b"".join(
        hashlib.blake2b(t.encode(), digest_size=16, person=person).digest() for t in texts
    )
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2).copy()


class VectorCache:
    """The vectors of one encoder under one setting.

    Trouble with the folder never reaches the caller as an error: what cannot be read
    counts as absent, and what cannot be written turns writing off, with one warning.
    `write` may be called from several threads at once.

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
        self.root = Path(root)
        self.folder = self.root / "vectors" / name
        self.n_features = n_features
        self._description = description
        self._writable = True
        self._warned = False
        self._written: set[str] = set()
        self._hashes: dict[str, np.ndarray] = {}  # of pairs that were sound when opened
        self._lock = threading.Lock()

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
        self._read_unseen(set(), _Wanted(keys, vectors, n_tokens, missing))

    def _read_unseen(self, seen: set[str], wanted: _Wanted) -> None:
        """Read from the pairs not in `seen`, and add them to it."""
        # Once more until nothing is new: a pair that was listed may have been merged into
        # another and removed before it was opened.
        while wanted.missing.any():
            listed = self._names()
            self._hashes = {name: h for name, h in self._hashes.items() if name in listed}
            names = listed - seen
            if not names:
                return
            seen |= names
            for name in names:
                self._read_pair(name, wanted)

    def _read_pair(self, name: str, wanted: _Wanted) -> None:
        if name in self._hashes and not wanted.stand_in(self._hashes[name]):
            return
        self._hashes.pop(name, None)
        pair = self._open(name)
        if pair is None:
            return
        stored, values = pair
        rows, at = wanted.match(stored)
        packed, found = stored[2, at], values[at]
        sound = _pack(wanted.keys[rows], packed >> np.uint64(32), found) == packed
        whole = bool(sound.all()) and name.endswith(f"-{_crc(stored)}")
        rows = rows[sound]
        wanted.vectors[rows] = found[sound]
        wanted.n_tokens[rows] = packed[sound] >> np.uint64(32)
        wanted.missing[rows] = False
        if not whole:
            self._rescue(name, stored, values)
            return
        if sum(hashes.nbytes for hashes in self._hashes.values()) < HASHES:
            self._hashes[name] = stored[0].copy()
        if len(rows):
            note_use(self.folder / (name + KEYS))

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
            if not (self.folder / "settings.json").exists():
                make_private_folder(self.folder, self.root)
                with writing(self.folder / "settings.json") as temporary:
                    temporary.write_text(self._description + "\n")
            packed = _pack(keys, n_tokens, vectors)
            written = self._write_pair(np.stack([*keys.T, packed]), vectors)
            with self._lock:
                self._written |= written
            self._merge()
        except OSError as error:
            with self._lock:
                first, self._writable = self._writable, False
            if not first:
                return
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
    ) -> Generator[tuple[np.ndarray, contextlib.ExitStack] | None, None, None]:
        """Divide batches among the processes that compute the same texts just now.

        Parameters
        ----------
        batches : iterable of numpy.ndarray of int
            Rows of `keys`, in the order they are to be computed.
        keys, vectors, n_tokens, missing : numpy.ndarray
            As for `read`. What another process computes is filled in.

        Yields
        ------
        rows : numpy.ndarray of int
            Rows to compute and write here; the consumer sets them False in `missing`.
        claim : contextlib.ExitStack
            To be closed once they are written: others wait for it.

        None comes instead at the end, and where all that is left is being computed elsewhere:
        the consumer finishes what it has in hand, or two processes would wait for each other.
        """
        pending, seen = deque(batches), set[str]()
        with self._lock:
            self._written.clear()
        wanted = _Wanted(keys, vectors, n_tokens, missing)
        self._read_unseen(seen, wanted)
        waited = 0.0
        with contextlib.ExitStack() as claimed:
            while pending:
                with Claims.looked_at(self.folder if self._writable else None, self.root) as look:
                    # Before reading: what is finished in between is then met twice, not missed.
                    busy = look.of_others()
                    with self._lock:
                        seen |= self._written
                    known = len(seen)
                    self._read_unseen(seen, wanted)
                    waited = 0.0 if len(seen) > known else waited
                    rows = _take(pending, keys, missing, busy if waited < PATIENCE else busy[:0])
                    claim = look.make(keys[rows, 0]) if len(rows) else None
                if claim is not None:
                    claimed.enter_context(claim)
                    yield rows, claim
                elif pending:
                    yield None
                    time.sleep(WAIT)
                    waited += WAIT
            yield None  # what is in hand is written before its claims end

    def _names(self) -> set[str]:
        return {f.removesuffix(KEYS) for f in names_in(self.folder) if f.endswith(KEYS)}

    def _open(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Map a pair of files; None where there is none (any more) or it is damaged."""
        stored: np.ndarray = np.empty(0)
        values: np.ndarray = np.empty(0)
        try:
            with open(self.folder / (name + KEYS), "rb") as file:
                stored = np.lib.format.read_array(file, allow_pickle=False)
            values = np.asarray(np.lib.format.open_memmap(self.folder / (name + VECTORS), mode="r"))
        except FileNotFoundError:
            if not (self.folder / (name + KEYS)).exists():
                return None
        except OSError:
            return None  # no access, no more handles: that says nothing about the file
        except Exception:  # a damaged header is parsed as Python, and fails in all its ways
            stored = np.empty(0)
        n = stored.shape[-1] if stored.ndim == 2 else 0
        shapes = (stored.shape, values.shape) == ((3, n), (n, self.n_features))
        if n and shapes and stored.dtype == np.uint64 and values.dtype == np.float32:
            return stored, values
        self._set_aside(name)
        return None

    def _write_pair(self, stored: np.ndarray, values: np.ndarray) -> set[str]:
        """Write a pair, its rows in order and each hash once; return its name, if any."""
        order = np.lexsort((stored[1], stored[0]))
        again = (stored[:2, order[1:]] == stored[:2, order[:-1]]).all(axis=0)
        order = np.delete(order, np.flatnonzero(again) + 1)
        if not len(order):
            return set()
        stored = np.ascontiguousarray(stored[:, order])
        name = f"{secrets.token_hex(8)}-{_crc(stored)}"
        with writing(self.folder / (name + VECTORS)) as temporary, open(temporary, "wb") as file:
            write_array(file, values[order])
        with writing(self.folder / (name + KEYS)) as temporary, open(temporary, "wb") as file:
            write_array(file, stored)
        return {name}

    def _rescue(self, name: str, stored: np.ndarray, values: np.ndarray) -> None:
        """Keep the sound rows of a damaged pair, and set the pair aside."""
        sound = _sound(stored, values)
        try:
            self._write_pair(stored[:, sound], values[sound])
        except OSError:
            self._warn_of_damage("and stay where they are, as the folder cannot be written")
        else:
            self._set_aside(name)

    def _set_aside(self, name: str) -> None:
        aside = self.folder / "damaged"
        with contextlib.suppress(OSError):
            make_private_folder(aside, self.root)
            for end in (KEYS, VECTORS):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self.folder / (name + end), aside / (name + end))
        self._warn_of_damage("and set aside in damaged/")

    def _warn_of_damage(self, fate: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"the vector cache in {self.folder} holds damaged vectors: they are computed "
                f"again, {fate}.",
                stacklevel=2,
            )

    def _merge(self) -> None:
        """Turn many small pairs into one; the old ones go once the new one stands."""
        sizes: dict[int, list[str]] = {}
        bytes_a_row = 4 * self.n_features + 24
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    n = (entry.stat().st_size - 128) // 24 if entry.name.endswith(KEYS) else None
                    if n is not None and n * bytes_a_row < LARGEST_MERGE:
                        name = entry.name.removesuffix(KEYS)
                        sizes.setdefault(n.bit_length() // 3, []).append(name)
        for names in sizes.values():
            if len(names) < MERGE_AT:
                continue
            with lock(self.folder / "merge.lock", wait=False) as held:
                if held:
                    self._merge_pairs(names)
                    self._sweep()

    def _merge_pairs(self, names: list[str]) -> None:
        pairs = {name: pair for name in names if (pair := self._open(name)) is not None}
        if len(pairs) < 2:
            return
        # A damaged row must not displace a sound copy of it in another pair.
        sound = {name: _sound(*pair) for name, pair in pairs.items()}
        self._write_pair(
            np.concatenate([keys[:, sound[name]] for name, (keys, _) in pairs.items()], axis=1),
            np.concatenate([vectors[sound[name]] for name, (_, vectors) in pairs.items()]),
        )
        for name in pairs:
            if not sound[name].all():
                self._set_aside(name)
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


class _Wanted:
    """Texts looked for, and where to put what is found of them."""

    def __init__(
        self, keys: np.ndarray, vectors: np.ndarray, n_tokens: np.ndarray, missing: np.ndarray
    ) -> None:
        self.keys, self.vectors, self.n_tokens, self.missing = keys, vectors, n_tokens, missing
        self.order = np.argsort(keys[:, 0])
        self.sorted = keys[self.order, 0]

    def stand_in(self, hashes: np.ndarray) -> bool:
        """Whether one of the missing ones may stand among sorted hashes."""
        looked_for = self.sorted[self.missing[self.order]]
        at = np.searchsorted(hashes, looked_for)
        return bool((hashes[np.minimum(at, len(hashes) - 1)] == looked_for).any())

    def match(self, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the missing rows that stand in `stored`, and where they stand there."""
        # Stored hashes are looked up among the wanted ones: for a small pair that is little
        # work however many are wanted, and it finds what it can where hashes are damaged.
        start = np.searchsorted(self.sorted, stored[0], "left")
        counts = np.searchsorted(self.sorted, stored[0], "right") - start
        at = np.repeat(np.arange(stored.shape[1]), counts)
        within = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = self.order[np.repeat(start, counts) + within]
        fits = self.missing[rows] & (self.keys[rows, 1] == stored[1, at])
        return rows[fits], at[fits]


def _take(
    pending: deque[np.ndarray], keys: np.ndarray, missing: np.ndarray, busy: np.ndarray
) -> np.ndarray:
    """Take the rows of the first batch that are missing and not busy; put off the busy ones."""
    for _ in range(len(pending)):
        rows = pending.popleft()
        rows = rows[missing[rows]]
        taken = np.isin(keys[rows, 0], busy)
        if taken.any():
            pending.append(rows[taken])
        if not taken.all():
            return rows[~taken]
    return np.empty(0, dtype=np.intp)


def _crc(stored: np.ndarray) -> str:
    return f"{zlib.crc32(stored.tobytes()):08x}"


def _sound(stored: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Tell which rows of a pair are as they were written."""
    return _pack(stored[:2].T, stored[2] >> np.uint64(32), values) == stored[2]


def _pack(keys: np.ndarray, n_tokens: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Token count << 32 | CRC-32 over hash, token count and vector, one uint64 a row."""
    counts = np.asarray(n_tokens).astype(np.uint64)
    head = np.ascontiguousarray(np.column_stack([keys, counts]))
    checks = [
        zlib.crc32(vector, zlib.crc32(start))
        for start, vector in zip(head, np.ascontiguousarray(vectors), strict=True)
    ]
    return (counts << np.uint64(32)) | np.array(checks, dtype=np.uint64)
