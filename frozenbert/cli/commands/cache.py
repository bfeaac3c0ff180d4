"""Say what the cache of vectors holds, or make it smaller."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from ...errors import InputError
from ..arguments import add_other, age, size

if TYPE_CHECKING:
    from ...vectors.pruning import Piece

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, does in {
        "info": "say what it holds",
        "prune": "remove what was not used for long, or is too much",
        "clear": "remove all of it",
    }.items():
        action = actions.add_parser(name, help=does, description=f"{does.capitalize()}.")
        if name == "prune":
            action.add_argument(
                "--older-than", type=age, metavar="AGE", help="not used for so long: 30d, 12h"
            )
            action.add_argument(
                "--max-size", type=size, metavar="SIZE", help="keep at most so much: 5GB, 500MB"
            )
        add_other(action)
    parser.set_defaults(no_cache=False)


def run(arguments: argparse.Namespace) -> None:
    """Say what the cache holds, or remove some of it."""
    from ...vectors.cache import cache_root
    from ...vectors.pruning import holdings, prune, size_text
    from ..options import cache_dir
    from ..output import say

    root = cache_root(cache_dir(arguments))
    assert root is not None  # that takes --no-cache
    removed: list[Piece] = []
    if arguments.action == "prune":
        if arguments.older_than is None and arguments.max_size is None:
            raise InputError("prune: say what is to go: --older-than 30d, --max-size 5GB, or both.")
        removed = prune(root, older_than=arguments.older_than, max_bytes=arguments.max_size)
    elif arguments.action == "clear":
        removed = prune(root, max_bytes=0)
    say("cache", str(root))
    if arguments.action != "info":
        n_vectors = sum(piece.n_vectors for piece in removed)
        say("removed", f"{n_vectors:,} vectors, {size_text(sum(p.n_bytes for p in removed))}")
    there = holdings(root)
    n_vectors, n_bytes = sum(h.n_vectors for h in there), sum(h.n_bytes for h in there)
    say("holds", f"{n_vectors:,} vectors, {size_text(n_bytes)}")
    if arguments.action == "info" and there:
        print(f"\n{'':44}{'vectors':>12}{'size':>11}  last used")
        for holding in there:
            number = f"{holding.n_vectors:,}" if holding.kind == "vectors" else ""
            used = time.strftime("%Y-%m-%d", time.localtime(holding.used))
            print(f"{holding.describe():44}{number:>12}{size_text(holding.n_bytes):>11}  {used}")
