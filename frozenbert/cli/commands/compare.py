"""Show trained models side by side, and say which one to use."""

from __future__ import annotations

import argparse

from ..arguments import add_debug

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("models", nargs="+", metavar="FOLDER", help="folders of trained models")
    parser.add_argument(
        "--scoring",
        metavar="NAME",
        help="score that decides: accuracy, macro_f1, or micro_f1 (many labels), "
        "r2, mae, spearman, quadratic_kappa (numbers and grades); default: macro_f1 "
        "where the classes are unbalanced, else accuracy",
    )
    add_debug(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print a table of the models and a verdict."""
    from ...reports.comparison import compare_models

    print("\n".join(compare_models(arguments.models, scoring=arguments.scoring)))
