"""List what a cache's folder contains, and remove a part of it.

Everything in it can be computed again. Only files that frozenbert itself writes are touched.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np

from ..utils.files import names_in
from .entries import KEYS, LEFTOVERS_AFTER, VECTORS

__all__ = ["Holding", "Piece", "holdings", "pieces", "prune", "size_text"]

Kind = Literal["vectors", "graph", "leftover"]

_NAME = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Piece:
    """Smallest unit to remove: a pair of files with vectors, a graph, or a leftover.

    Attributes
    ----------
    kind : {"vectors", "graph", "leftover"}
        Leftovers are files of killed processes, and damaged files that were set aside.
    folder : pathlib.Path
        Folder of its encoder and setting.
    paths : tuple of pathlib.Path
        Its files, in the order in which to remove them.
    n_vectors : int
        Number of texts, whatever number of layers is stored of each.
    n_bytes : int
    used : float
        Time of the last use in seconds since 1970; for vectors and graphs within a day.
    """

    kind: Kind
    folder: Path
    paths: tuple[Path, ...]
    n_vectors: int
    n_bytes: int
    used: float


@dataclass(frozen=True)
class Holding:
    """All pieces of one kind, encoder and setting.

    Attributes
    ----------
    kind : {"vectors", "graph", "leftover"}
    settings : dict
        What shapes the vectors, as stored in the cache: encoder (content hash), pooling,
        layers, precision and others.
    n_vectors, n_bytes : int
    used : float
        Time of the last use of one of them, in seconds since 1970.
    """

    kind: Kind
    settings: dict[str, object]
    n_vectors: int
    n_bytes: int
    used: float

    def describe(self) -> str:
        """Return a description of a few words.

        Examples
        --------
        >>> settings = {"encoder": "53aa51172d14", "pooling": ["cls", "mean"],
        ...             "layers": [0, 1, 2, 3, 6], "precision": "float32"}
        >>> Holding("vectors", settings, n_vectors=1, n_bytes=1, used=0.0).describe()
        '53aa51172d14 cls+mean 0-3,6 float32'
        """
        if self.kind == "leftover":
            return "damaged or left over"
        pooling, layers = self.settings.get("pooling"), self.settings.get("layers")
        words = [
            str(self.settings.get("encoder", "?"))[:12],
            "+".join(map(str, pooling)) if isinstance(pooling, list) else "?",
            _ranges(layers) if isinstance(layers, list) else "?",
            str(self.settings.get("precision", "?")),
        ]
        return " ".join(["graph", *words] if self.kind == "graph" else words)


def _ranges(layers: Sequence[int]) -> str:
    """Write numbers that follow each other as a range."""
    runs = [
        [layer for _, layer in run]
        for _, run in groupby(enumerate(layers), key=lambda pair: pair[1] - pair[0])
    ]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def size_text(number: float) -> str:
    """Write a number of bytes in a suitable unit.

    Examples
    --------
    >>> size_text(999), size_text(12_345_678)
    ('999 B', '12.3 MB')
    """
    if number < 1000:
        return f"{number:.0f} B"
    power = min(4, int(math.log10(number) // 3))
    return f"{number / 1000**power:.1f} {('', 'kB', 'MB', 'GB', 'TB')[power]}"


def pieces(root: Path) -> list[Piece]:
    """List the contents of a cache's folder.

    Parameters
    ----------
    root : pathlib.Path
        The cache's folder. One that does not exist is empty.
    """
    return [
        *(piece for folder in _folders(root / "vectors") for piece in _vectors(folder)),
        *(piece for folder in _folders(root / "exports") for piece in _graph(folder)),
    ]


def holdings(root: Path) -> list[Holding]:
    """Sum the pieces of a cache's folder by encoder and setting, the largest first.

    Parameters
    ----------
    root : pathlib.Path
        The cache's folder.
    """
    groups: dict[tuple[Path, str], list[Piece]] = {}
    for piece in pieces(root):
        groups.setdefault((piece.folder, piece.kind), []).append(piece)
    summed = [
        Holding(
            group[0].kind,
            _settings(folder),
            sum(piece.n_vectors for piece in group),
            sum(piece.n_bytes for piece in group),
            max(piece.used for piece in group),
        )
        for (folder, _), group in groups.items()
    ]
    return sorted(summed, key=lambda holding: -holding.n_bytes)


def prune(
    root: Path, *, older_than: float | None = None, max_bytes: int | None = None
) -> list[Piece]:
    """Remove what was not used for some time, and then the oldest until the rest is small enough.

    Processes that use the cache at the same time compute again what they miss. Leftovers are
    removed first, unless a process may still be writing them.

    Parameters
    ----------
    root : pathlib.Path
        The cache's folder.
    older_than : float or None
        Seconds; remove what was last used longer ago.
    max_bytes : int or None
        Remove what was used longest ago, until the rest is at most this large.

    Returns
    -------
    list of Piece
        The pieces that were removed.

    Raises
    ------
    OSError
        If a file cannot be removed.
    """
    found = sorted(pieces(root), key=lambda piece: (piece.kind != "leftover", piece.used))
    now, total = time.time(), sum(piece.n_bytes for piece in found)
    removed = []
    for piece in found:
        age = now - piece.used
        old = older_than is not None and age > older_than
        too_much = max_bytes is not None and total > max_bytes
        leftover = piece.kind == "leftover"
        if leftover and age <= LEFTOVERS_AFTER and piece.paths[0].parent.name != "damaged":
            continue  # a process may be writing it
        if old or too_much or leftover:
            for path in piece.paths:
                path.unlink(missing_ok=True)
            total -= piece.n_bytes
            removed.append(piece)
    for folder in {piece.folder for piece in removed}:
        _remove_if_empty(folder)
    return removed


def _folders(above: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(p for p in above.iterdir() if _NAME.fullmatch(p.name) and p.is_dir())
    return []


def _graph(folder: Path) -> Iterator[Piece]:
    names = ("graph.json", "graph.xml", "graph.bin")
    paths = [folder / name for name in names if (folder / name).exists()]
    if paths:
        # `graph.json` is written last: without it the rest is what a killed export left.
        yield from _piece("graph" if paths[0].name == names[0] else "leftover", folder, paths)
    for hidden in sorted(name for name in names_in(folder) if name.startswith(".")):
        within = sorted(name for name in names_in(folder / hidden) if name.startswith("graph."))
        for name in within:
            yield from _piece("leftover", folder, [folder / hidden / name])
        if hidden.startswith(".graph.json.") and hidden.endswith(".tmp"):
            yield from _piece("leftover", folder, [folder / hidden])


def _vectors(folder: Path) -> Iterator[Piece]:
    names = names_in(folder)
    for name in sorted(names):
        if name.endswith(KEYS):
            vectors = name.removesuffix(KEYS) + VECTORS
            # The keys are removed first: no reader then finds half of a pair.
            yield from _piece("vectors", folder, [folder / name, folder / vectors])
        without_keys = name.endswith(VECTORS) and name.removesuffix(VECTORS) + KEYS not in names
        if without_keys or name.endswith(".tmp"):
            yield from _piece("leftover", folder, [folder / name])
    for name in sorted(names_in(folder / "damaged")):
        if name.endswith(".npy"):
            yield from _piece("leftover", folder, [folder / "damaged" / name])


def _piece(kind: Kind, folder: Path, paths: list[Path]) -> Iterator[Piece]:
    """Yield a piece, or nothing if it was removed meanwhile."""
    sizes = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    with contextlib.suppress(FileNotFoundError):
        first = paths[0].stat()
        n_vectors = _count_vectors(paths[0]) if kind == "vectors" else 0
        yield Piece(kind, folder, tuple(paths), n_vectors, sum(sizes), first.st_mtime)


def _count_vectors(keys: Path) -> int:
    """Return the number of columns of a keys file; 0 if its header is damaged."""
    try:
        return int(np.load(keys, mmap_mode="r").shape[-1])
    except (OSError, ValueError, EOFError, LookupError):
        return 0


def _settings(folder: Path) -> dict[str, object]:
    for name in ("settings.json", "graph.json"):
        with contextlib.suppress(OSError, ValueError):
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            settings = content.get("settings", content)
            return settings if isinstance(settings, dict) else {}
    return {}


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder that contains no vectors, graphs, claims or foreign files any more."""
    for name in names_in(folder):
        if name.startswith("."):
            with contextlib.suppress(OSError):
                os.rmdir(folder / name)  # temporary folder of an export
    left = names_in(folder) - {"settings.json", "merge.lock", "claims", "damaged"}
    at_work = names_in(folder / "claims") - {"all.lock"}
    if not (left or at_work or names_in(folder / "damaged")):
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        os.rmdir(folder.parent)
