"""Folders of vectors on disk: files that are written whole and once, and checked when read.

A folder holds the vectors of one encoder under one setting, in pairs of files:

    NAME.vectors.npy    float32 (n, n_features)
    NAME.keys.npy       uint64 (2 + n_blocks, n), columns sorted by the first two rows:
                        the text's hash (two rows), and for each block of columns, which is
                        a layer in one pooling, token count << 32 | CRC-32

So a reader who needs a few blocks of many reads and checks those alone. (Pairs with several
blocks from before that have three rows: one CRC over all columns.)

NAME ends in the CRC-32 of the keys, so that a damaged hash is noticed too. The keys file is
written last and makes the pair valid. Pairs are never changed: small ones are merged into a
new pair before they are removed. So readers and writers need no lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
import warnings
import zlib
from pathlib import Path

import numpy as np

from ..errors import CacheWarning
from ..utils.console import callers_level
from ..utils.files import make_private_folder, names_in, note_use, write_array, writing
from .claims import lock
from .results import Results
from .settings import VectorSettings

__all__ = ["KEYS", "LEFTOVERS_AFTER", "SETTINGS", "VECTORS", "Entry", "folder_name"]

VECTORS = ".vectors.npy"
KEYS = ".keys.npy"
SETTINGS = "settings.json"
MERGE_AT = 8  # pairs of one size class; a class spans a factor of eight in rows
LARGEST_MERGE = 2**23  # bytes; larger pairs are not merged, so a merge holds 8 x this twice
LEFTOVERS_AFTER = 3600.0  # seconds until a file without a partner is no write in progress
HASHES = 2**26  # bytes of hashes held in memory, 8 a vector; other pairs are opened each time
HEADER = 128  # bytes before the numbers of an `.npy` of two dimensions


def folder_name(description: str) -> str:
    """Return the name of the folder for what `VectorSettings.to_json` describes."""
    return hashlib.blake2b(description.encode(), digest_size=16).hexdigest()


class Entry:
    """The stored vectors of one encoder under one setting.

    One thread at a time may call `read`; `write` may be called from several threads.

    Parameters
    ----------
    root : pathlib.Path
        The cache's folder, shared by all encoders and settings.
    settings : VectorSettings

    Attributes
    ----------
    folder : pathlib.Path
        Folder of the pairs; it exists after the first write.

    Examples
    --------
    >>> import tempfile
    >>> from frozenbert.vectors.results import text_keys
    >>> settings = VectorSettings("abc", 1, 2, layers=(1,), pooling=("cls",), max_length=8)
    >>> entry = Entry(Path(tempfile.mkdtemp()), settings)
    >>> keys = text_keys(["first", "second"])
    >>> name = entry.write(keys[:1], np.ones((1, 2), dtype=np.float32), np.array([3]))
    >>> results = Results(keys, n_features=2)
    >>> entry.read(name, results, blocks=[0])
    array([0])
    >>> results.vectors[0].tolist(), results.missing.tolist()
    ([1.0, 1.0], [False, True])
    """

    def __init__(self, root: Path, settings: VectorSettings) -> None:
        self.root = root
        self.settings = settings
        self.folder = root / "vectors" / folder_name(settings.to_json())
        self._n_blocks = len(settings.blocks)
        self._width = settings.hidden_size
        self._hashes: dict[str, np.ndarray] = {}  # of pairs that were sound when opened
        self._warned = False

    def names(self) -> set[str]:
        """Return the names of the pairs that exist now."""
        names = {f.removesuffix(KEYS) for f in names_in(self.folder) if f.endswith(KEYS)}
        self._hashes = {name: h for name, h in self._hashes.items() if name in names}
        return names

    def n_bytes(self, n_more: int = 0) -> int:
        """Return the size of the pairs on disk, with `n_more` vectors added."""
        total = n_more * self._bytes_per_row
        with contextlib.suppress(OSError), os.scandir(self.folder) as files:
            for file in files:
                if file.name.endswith((KEYS, VECTORS)):
                    with contextlib.suppress(OSError):
                        total += file.stat().st_size
        return total

    @property
    def _bytes_per_row(self) -> int:
        return 4 * self.settings.n_features + 8 * (2 + self._n_blocks)

    def read(self, name: str, results: Results, blocks: list[int]) -> np.ndarray:
        """Fill in the missing vectors that a pair holds.

        Parameters
        ----------
        name : str
            From `names`.
        results : Results
        blocks : list of int
            Blocks of the stored columns, in the order in which `results` has them.

        Returns
        -------
        numpy.ndarray of int
            Rows of `results` that were filled in.
        """
        nothing = np.empty(0, dtype=np.intp)
        if name in self._hashes and not results.may_be_in(self._hashes[name]):
            return nothing
        self._hashes.pop(name, None)
        pair = self._open(name)
        if pair is None:
            return nothing
        stored, values = pair
        rows, at = results.match(stored)
        vectors, n_tokens, sound = self._read_blocks(stored, values, at, blocks)
        rows = rows[sound]
        results.fill(rows, vectors[sound], n_tokens[sound])
        if not sound.all() or not name.endswith(f"-{_crc(stored)}"):
            self._rescue(name, stored, values)
            return rows
        if sum(hashes.nbytes for hashes in self._hashes.values()) < HASHES:
            self._hashes[name] = stored[0].copy()
        if len(rows):
            note_use(self.folder / (name + KEYS))
        return rows

    def _read_blocks(
        self, stored: np.ndarray, values: np.ndarray, at: np.ndarray, blocks: list[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return some blocks of the rows `at`, their token counts, and whether each is sound."""
        keys, checks = stored[:2, at].T, stored[2:, at]
        width, start, stop = self._width, min(blocks), max(blocks) + 1
        if len(checks) > 1 and len(blocks) < stop - start:
            # Sliced block by block, so that nothing else is read from the disk.
            parts = [values[at, b * width : (b + 1) * width] for b in blocks]
            vectors = np.concatenate(parts, axis=1)
        else:
            whole = values[at, start * width : stop * width]
            parts = [whole[:, (b - start) * width : (b - start + 1) * width] for b in blocks]
            vectors = whole if blocks == [*range(start, stop)] else np.concatenate(parts, axis=1)
        if len(checks) == self._n_blocks:
            checks = checks[blocks]
        else:
            parts = [values[at]]
        n_tokens = checks[0] >> np.uint64(32)
        sound = (_pack(keys, n_tokens, parts) == checks).all(axis=0)
        return vectors, n_tokens.astype(np.int64), sound

    def write(self, keys: np.ndarray, vectors: np.ndarray, n_tokens: np.ndarray) -> str:
        """Write vectors as one new pair, and merge pairs if there are many small ones.

        Parameters
        ----------
        keys : numpy.ndarray of uint64, shape (n, 2)
            At least one.
        vectors : numpy.ndarray of float32, shape (n, n_features)
        n_tokens : numpy.ndarray of int, shape (n,)

        Returns
        -------
        str
            Name of the new pair.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        if not (self.folder / SETTINGS).exists():
            make_private_folder(self.folder, self.root)
            with writing(self.folder / SETTINGS) as temporary:
                temporary.write_text(self.settings.to_json() + "\n")
        name = self._write_pair(self._stored(keys, vectors, n_tokens), vectors)
        self._merge()
        return name

    def _stored(self, keys: np.ndarray, vectors: np.ndarray, n_tokens: np.ndarray) -> np.ndarray:
        """Return the content of a keys file: hashes, and a check for each block."""
        parts = np.split(np.ascontiguousarray(vectors), self._n_blocks, axis=1)
        return np.concatenate([keys.T, _pack(keys, n_tokens, parts)])

    def _open(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Map a pair of files; None if it was removed meanwhile, or is damaged."""
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
            return None  # no access, or too many open files: the file itself may be sound
        except Exception:  # a damaged header is parsed as Python, and fails in many ways
            stored = np.empty(0)
        n_rows, n = stored.shape if stored.ndim == 2 else (0, 0)
        shapes_fit = values.shape == (n, self.settings.n_features)
        types_fit = stored.dtype == np.uint64 and values.dtype == np.float32
        if n and n_rows in (3, 2 + self._n_blocks) and shapes_fit and types_fit:
            return stored, values
        self._set_aside(name)
        return None

    def _write_pair(self, stored: np.ndarray, values: np.ndarray) -> str:
        """Write a pair, sorted, each hash once; return its name."""
        order = np.lexsort((stored[1], stored[0]))
        again = (stored[:2, order[1:]] == stored[:2, order[:-1]]).all(axis=0)
        order = np.delete(order, np.flatnonzero(again) + 1)
        stored = np.ascontiguousarray(stored[:, order])
        name = f"{secrets.token_hex(8)}-{_crc(stored)}"
        with writing(self.folder / (name + VECTORS)) as temporary, open(temporary, "wb") as file:
            write_array(file, values[order])
        with writing(self.folder / (name + KEYS)) as temporary, open(temporary, "wb") as file:
            write_array(file, stored)
        return name

    def _sound(self, stored: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Tell which rows of a pair are as they were written."""
        at = np.arange(stored.shape[1])
        return self._read_blocks(stored, values, at, [*range(self._n_blocks)])[2]

    def _rescue(self, name: str, stored: np.ndarray, values: np.ndarray) -> None:
        """Write the undamaged rows of a damaged pair anew, and set the pair aside."""
        sound = self._sound(stored, values)
        try:
            if sound.any():
                self._write_pair(stored[:, sound], values[sound])
        except OSError:
            self._warn_of_damage("and stay where they are, because the folder cannot be written")
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
                f"the vector cache in {self.folder} contains damaged vectors: they are computed "
                f"again, {fate}.",
                CacheWarning,
                stacklevel=callers_level(),
            )

    def _merge(self) -> None:
        """Merge many small pairs into one; remove the old ones once the new one is written."""
        sizes: dict[int, list[str]] = {}
        with os.scandir(self.folder) as files:
            for file in files:
                with contextlib.suppress(OSError):
                    if not file.name.endswith(KEYS):
                        continue
                    n = (file.stat().st_size - HEADER) // (8 * (2 + self._n_blocks))
                    if n * self._bytes_per_row < LARGEST_MERGE:
                        name = file.name.removesuffix(KEYS)
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
        sound = {name: self._sound(*pair) for name, pair in pairs.items()}
        merged = np.concatenate([values[sound[name]] for name, (_, values) in pairs.items()])
        keys = [self._upgraded(*pair)[:, sound[name]] for name, pair in pairs.items()]
        if len(merged):
            self._write_pair(np.concatenate(keys, axis=1), merged)
        for name in pairs:
            if not sound[name].all():
                self._set_aside(name)
            for end in (KEYS, VECTORS):
                (self.folder / (name + end)).unlink(missing_ok=True)

    def _upgraded(self, stored: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return the keys of a pair with one check for each block."""
        if len(stored) == 2 + self._n_blocks:
            return stored
        return self._stored(stored[:2].T, values, stored[2] >> np.uint64(32))

    def _sweep(self) -> None:
        """Remove what killed processes left: temporary files, and vectors without keys."""
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                lonely = (
                    path.name.endswith(VECTORS)
                    and not (self.folder / (path.name.removesuffix(VECTORS) + KEYS)).exists()
                )
                old = time.time() - path.stat().st_mtime > LEFTOVERS_AFTER
                if old and (lonely or path.name.endswith(".tmp")):
                    path.unlink()


def _crc(stored: np.ndarray) -> str:
    return f"{zlib.crc32(stored.tobytes()):08x}"


def _pack(keys: np.ndarray, n_tokens: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    """Return token count << 32 | CRC-32 over hash, token count and vector, uint64 (n_parts, n).

    The numbers of each row of a part are adjacent in memory.
    """
    counts = np.asarray(n_tokens).astype(np.uint64)
    head = np.ascontiguousarray(np.column_stack([keys, counts]))
    starts = [zlib.crc32(start) for start in head]
    checks = [
        [zlib.crc32(vector, start) for vector, start in zip(part, starts, strict=True)]
        for part in parts
    ]
    return (counts << np.uint64(32)) | np.array(checks, dtype=np.uint64)
