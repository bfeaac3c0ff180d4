"""Run a command: exit codes, warnings and errors in the words of the command line."""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from .. import __version__
from ..errors import FrozenbertWarning, InputError
from .arguments import Parser

__all__ = ["main", "run_command"]

COMMANDS = ("train", "classify", "compare", "embed", "fewshot", "finetune", "serve", "cache")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `frozenbert COMMAND`, the installed command."""
    parser = Parser(
        prog="frozenbert",
        description="Text classification with frozen encoders and scikit-learn.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        about = str(_module(name).__doc__)
        subparsers.add_parser(name, help=about.splitlines()[0], add_help=False)
    arguments = list(sys.argv[1:] if argv is None else argv)
    known = parser.parse_args(arguments[:1])
    return run_command(known.command, arguments[1:], prog=f"frozenbert {known.command}")


def run_command(name: str, argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run a command; 0 done, 2 the input is wrong, 1 something else failed.

    Parameters
    ----------
    name : str
        The command's, such as "train".
    argv : sequence of str, optional
        Its arguments; by default the process's.
    prog : str, optional
        What its messages begin with; by default the name of the file that was run.
    """
    command = _module(name)
    parser = Parser(prog=prog, description=" ".join(str(command.__doc__).split()))
    command.add_arguments(parser)
    arguments = parser.parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        # A label that the terminal cannot show is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            if not arguments.debug:
                warnings.showwarning = _show_warning  # type: ignore[assignment]
            command.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted{_kept(name, arguments)}.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
        message = " ".join(str(error).split())
        if isinstance(error, InputError):
            print(f"{parser.prog}: {message}", file=sys.stderr)
            return 2
        where = "" if arguments.debug else " (--debug shows where)"
        print(f"{parser.prog}: {type(error).__name__}: {message}{where}", file=sys.stderr)
        return 1
    return 0


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.commands.{name}")


def _kept(name: str, arguments: argparse.Namespace) -> str:
    """Say what an interrupted command leaves behind."""
    if name == "embed" and (arguments.workers or arguments.scheduler):
        return "; tables that are done are kept"
    if name == "finetune":
        return "; finished epochs are kept, and the same command goes on after them"
    if name in ("cache", "compare", "serve") or arguments.no_cache:
        return ""
    return "; vectors computed so far are kept"


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    # What a user can act on; libraries' notes to programmers are for --debug.
    from sklearn.exceptions import InconsistentVersionWarning

    ours = category is UserWarning or issubclass(category, FrozenbertWarning)
    if ours or issubclass(category, InconsistentVersionWarning):
        print("warning: " + " ".join(str(message).split()), file=sys.stderr)


train, classify, compare, embed = (
    functools.partial(run_command, name) for name in ("train", "classify", "compare", "embed")
)
