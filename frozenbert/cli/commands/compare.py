"""Show trained models side by side, and say which to use."""

from __future__ import annotations

import argparse

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("models", nargs="+", metavar="FOLDER", help="of models, as from training")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(arguments: argparse.Namespace) -> None:
    """Print models side by side."""
    from ...reports.comparison import compare_models

    print("\n".join(compare_models(arguments.models)))
