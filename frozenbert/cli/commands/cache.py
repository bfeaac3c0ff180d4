"""Show what the cache of vectors contains, or make it smaller."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import InputError
from ..arguments import add_cache, add_debug, age, size

if TYPE_CHECKING:
    from ...vectors.pruning import Holding

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of this command, and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, does in {
        "info": "show what the cache contains",
        "prune": "remove vectors that were not used for long, or exceed a size",
        "clear": "remove everything",
    }.items():
        action = actions.add_parser(name, help=does, description=f"{does.capitalize()}.")
        if name == "prune":
            action.add_argument(
                "--older-than", type=age, metavar="AGE", help="not used for this time: 30d, 12h"
            )
            action.add_argument(
                "--max-size", type=size, metavar="SIZE", help="keep at most this size: 5GB, 500MB"
            )
        add_cache(action, optional=False)
        add_debug(action)


def run(arguments: argparse.Namespace) -> None:
    """Remove what is asked for, and print what the cache contains."""
    from ...vectors.cache import cache_root
    from ...vectors.pruning import Piece, holdings, prune, size_text
    from ..options import cache_dir
    from ..output import say

    root = cache_root(cache_dir(arguments))
    assert root is not None  # there is no --no-cache
    removed: list[Piece] = []
    if arguments.action == "prune":
        if arguments.older_than is None and arguments.max_size is None:
            raise InputError(
                "prune: say what to remove: --older-than 30d, --max-size 5GB, or both."
            )
        removed = prune(root, older_than=arguments.older_than, max_bytes=arguments.max_size)
    elif arguments.action == "clear":
        removed = prune(root, max_bytes=0)
    say("cache", str(root))
    if arguments.action != "info":
        n_vectors = sum(piece.n_vectors for piece in removed)
        say("removed", f"{n_vectors:,} vectors, {size_text(sum(p.n_bytes for p in removed))}")
    stored = holdings(root)
    n_vectors, n_bytes = sum(h.n_vectors for h in stored), sum(h.n_bytes for h in stored)
    say("holds", f"{n_vectors:,} vectors, {size_text(n_bytes)}")
    if arguments.action == "info" and stored:
        _print_holdings(stored)


def _print_holdings(stored: Sequence[Holding]) -> None:
    from ...vectors.pruning import size_text

    print(f"\n{'':44}{'vectors':>12}{'size':>11}  last used")
    for holding in stored:
        number = f"{holding.n_vectors:,}" if holding.kind == "vectors" else ""
        used = time.strftime("%Y-%m-%d", time.localtime(holding.used))
        print(f"{holding.describe():44}{number:>12}{size_text(holding.n_bytes):>11}  {used}")
