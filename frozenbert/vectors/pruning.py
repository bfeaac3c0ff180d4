"""What a cache's folder holds, and how to make it smaller.

All of it can be computed again. Nothing is touched but what frozenbert itself writes there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..utils.files import names_in
from .entries import KEYS, LEFTOVERS_AFTER, VECTORS

__all__ = ["Holding", "Piece", "holdings", "pieces", "prune", "size_text"]

_NAME = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Piece:
    """The least that can be removed: a pair of files with vectors, a graph, a leftover.

    Attributes
    ----------
    kind : {"vectors", "graph", "leftover"}
        Leftovers are what killed processes left, and damaged files that were set aside.
    folder : pathlib.Path
        The folder of its encoder and setting.
    paths : tuple of pathlib.Path
        Its files, in the order in which they may go.
    n_vectors, n_bytes : int
    used : float
        When it was last used, in seconds since 1970; vectors and graphs within a day.
    """

    kind: Literal["vectors", "graph", "leftover"]
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
        What shapes the vectors, as the cache keeps it: encoder (content hash), pooling,
        layers, precision and others.
    n_vectors, n_bytes : int
    used : float
        When one of them was last used, in seconds since 1970.
    """

    kind: Literal["vectors", "graph", "leftover"]
    settings: dict[str, Any]
    n_vectors: int
    n_bytes: int
    used: float

    def describe(self) -> str:
        """Say in a few words what it is."""
        if self.kind == "leftover":
            return "damaged or left over"
        words = [
            str(self.settings.get("encoder", "?"))[:12],
            "+".join(map(str, self.settings.get("pooling", ()))),
            ",".join(map(str, self.settings.get("layers", ()))),
            str(self.settings.get("precision", "?")),
        ]
        return " ".join(["graph", *words] if self.kind == "graph" else words)


def size_text(number: float) -> str:
    """Say a number of bytes in the unit that suits it.

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
    """List what a cache's folder holds.

    Parameters
    ----------
    root : pathlib.Path
        The cache's folder. One that is not there holds nothing.
    """
    return [
        *(piece for folder in _folders(root / "vectors") for piece in _vectors(folder)),
        *(piece for folder in _folders(root / "exports") for piece in _graph(folder)),
    ]


def holdings(root: Path) -> list[Holding]:
    """Sum up what a cache's folder holds, the largest first.

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
    """Remove what has not been used for long, and then as much as is too much.

    Processes that use the cache meanwhile are not disturbed: what they miss they compute
    again. Leftovers go first, unless a process may still be writing them.

    Parameters
    ----------
    root : pathlib.Path
        The cache's folder.
    older_than : float or None
        Seconds; what was last used longer ago goes.
    max_bytes : int or None
        What was used longest ago goes until the rest is at most as large.

    Returns
    -------
    list of Piece
        What was removed.

    Raises
    ------
    OSError
        If a file cannot be removed.
    """
    there = sorted(pieces(root), key=lambda piece: (piece.kind != "leftover", piece.used))
    now, total = time.time(), sum(piece.n_bytes for piece in there)
    removed = []
    for piece in there:
        age = now - piece.used
        old = older_than is not None and age > older_than
        too_much = max_bytes is not None and total > max_bytes
        leftover = piece.kind == "leftover"
        if leftover and age <= LEFTOVERS_AFTER and piece.paths[0].parent.name != "damaged":
            continue  # being written, perhaps
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
        # Without the first, which is written last, it is what a killed export left.
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
            # Without its keys a pair is not there: no reader meets half of one.
            yield from _piece("vectors", folder, [folder / name, folder / vectors])
        without_keys = name.endswith(VECTORS) and name.removesuffix(VECTORS) + KEYS not in names
        if without_keys or name.endswith(".tmp"):
            yield from _piece("leftover", folder, [folder / name])
    for name in sorted(names_in(folder / "damaged")):
        if name.endswith(".npy"):
            yield from _piece("leftover", folder, [folder / "damaged" / name])


def _piece(
    kind: Literal["vectors", "graph", "leftover"], folder: Path, paths: list[Path]
) -> Iterator[Piece]:
    """Yield a piece, or nothing if it is gone meanwhile."""
    sizes = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    with contextlib.suppress(FileNotFoundError):
        first = paths[0].stat()
        n_vectors = max(0, first.st_size - 128) // 24 if kind == "vectors" else 0
        yield Piece(kind, folder, tuple(paths), n_vectors, sum(sizes), first.st_mtime)


def _settings(folder: Path) -> dict[str, Any]:
    for name in ("settings.json", "graph.json"):
        with contextlib.suppress(OSError, ValueError):
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            settings = content.get("settings", content)
            return settings if isinstance(settings, dict) else {}
    return {}


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder in which nothing is left but what goes with vectors."""
    for name in names_in(folder):
        if name.startswith("."):
            with contextlib.suppress(OSError):
                os.rmdir(folder / name)  # of an export
    left = names_in(folder) - {"settings.json", "merge.lock", "claims", "damaged"}
    at_work = names_in(folder / "claims") - {"all.lock"}
    if not (left or at_work or names_in(folder / "damaged")):
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        os.rmdir(folder.parent)
