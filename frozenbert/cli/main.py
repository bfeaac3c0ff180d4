"""Run a command: its exit code, its warnings and its errors in the words of the command line."""

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
from typing import TextIO

from .. import __version__
from ..errors import FrozenbertWarning, InputError, MissingLibraryError, TruncationWarning
from ..utils.extras import EXTRAS, require
from .arguments import Parser

__all__ = ["main", "run_command"]

COMMANDS = (
    "train",
    "classify",
    "compare",
    "embed",
    "similar",
    "fewshot",
    "finetune",
    "export",
    "label",
    "serve",
    "cache",
)
# Options that are not named like the parameter they set; the first that a command has counts.
OPTIONS = {
    "add_labels": ("add_label",),
    "allowed_hosts": ("allowed_host",),
    "annotators": ("annotator",),
    "encoder": ("encoder", "encoder_path"),
    "local_files_only": ("offline",),
    "max_bytes": ("max_size", "max_stdin"),
    "model_name": ("encoder", "encoder_path"),
    "n_workers": ("workers",),
    "pool": ("unlabelled",),
    "random_state": ("seed",),
    "separator": ("label_separator",),
    "X": ("text_column",),
    "y": ("label_column",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `frozenbert COMMAND`, the installed command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        The exit code, as of `run_command`.
    """
    parser = Parser(
        prog="frozenbert",
        description="Text classification with frozen encoders and scikit-learn.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        subparsers.add_parser(name, help=_about(_module(name)).splitlines()[0], add_help=False)
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    arguments = list(sys.argv[1:] if argv is None else argv)
    known = parser.parse_args(arguments[:1])
    return run_command(known.command, arguments[1:], prog=f"frozenbert {known.command}")


def _complete() -> None:
    """Answer the shell, which asks how a command line goes on, if argcomplete is installed."""
    try:
        import argcomplete
    except ModuleNotFoundError:
        return
    parser = Parser(prog="frozenbert")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name in COMMANDS:
        command = _module(name)
        about = _about(command).splitlines()[0]
        command.add_arguments(subparsers.add_parser(name, help=about))
    argcomplete.autocomplete(parser)


def run_command(name: str, argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    name : str
        Such as "train".
    argv : sequence of str, optional
        Its arguments; by default those of the process.
    prog : str, optional
        What its messages begin with; by default the name of the file that runs.

    Returns
    -------
    int
        0 done, 2 the user's input is wrong, 1 anything else failed, 130 interrupted.
    """
    command = _module(name)
    parser = Parser(prog=prog, description=" ".join(_about(command).split()))
    command.add_arguments(parser)
    arguments = parser.parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        # A label that the terminal cannot show is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            if not arguments.debug:
                warnings.showwarning = _Warnings(arguments).show
            command.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted{_what_remains(name, arguments)}.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _report(error, parser.prog, arguments)
    return 0


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.commands.{name}")


def _about(command: ModuleType) -> str:
    assert command.__doc__ is not None
    return command.__doc__


def _report(error: Exception, prog: str, arguments: argparse.Namespace) -> int:
    """Print an error on one line of stderr, after its traceback if asked; return the exit code."""
    if arguments.debug:
        traceback.print_exc()
    if isinstance(error, ModuleNotFoundError) and not isinstance(error, InputError):
        error = _missing(error)
    if isinstance(error, InputError):
        message = error.worded(functools.partial(_as_option, arguments, error))
        print(f"{prog}: {' '.join(message.split())}", file=sys.stderr)
        return 2
    where = "" if arguments.debug else " (--debug shows where)"
    message = " ".join(str(error).split())
    print(f"{prog}: {type(error).__name__}: {message}{where}", file=sys.stderr)
    return 1


def _missing(error: ModuleNotFoundError) -> Exception:
    """Return an error that names the extra, if that is what the installation lacks."""
    try:
        require(*{(error.name or "").partition(".")[0]} & EXTRAS.keys(), purpose="this command")
    except MissingLibraryError as missing:
        return missing
    return error


def _as_option(
    arguments: argparse.Namespace, error: InputError, parameter: str, value: str | None
) -> str:
    """Return what a command calls a library's parameter, and the value that it was given."""
    for name in OPTIONS.get(parameter, (parameter,)):
        if name in arguments:
            option = f"--{name.replace('_', '-')}"
            given = getattr(arguments, name)
            if isinstance(given, list | tuple):
                value = value and ",".join(map(str, given))
            return option if value is None or isinstance(given, bool) else f"{option} {value}"
    return str(error).removesuffix(f": {error.message}")  # as Python shows it


def _what_remains(name: str, arguments: argparse.Namespace) -> str:
    """Return what an interrupted command leaves on disk, for its last line."""
    if name == "embed" and (arguments.workers or arguments.scheduler):
        return "; tables that are done are kept"
    if name == "finetune":
        return "; finished epochs are kept, and the same command goes on after them"
    if name == "train" and arguments.budget:
        return "; finished steps are kept, and the same command goes on after them"
    if name == "label":
        return "; every answer is stored, and the same command goes on"
    if name in ("cache", "compare", "export", "serve") or arguments.no_cache:
        return ""
    return "; vectors computed so far are kept"


class _Warnings:
    """Prints each warning that a user can act on once; `--debug` shows all others.

    Parameters
    ----------
    arguments : argparse.Namespace
        Its options name what a warning proposes.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._printed: set[str] = set()

    def show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Print a warning; the parameters are those of `warnings.showwarning`."""
        from sklearn.exceptions import InconsistentVersionWarning

        if not issubclass(category, FrozenbertWarning | InconsistentVersionWarning):
            return
        text = str(message)
        if isinstance(message, TruncationWarning):
            # A fitted model has no such option: what it reads was chosen when it was trained.
            has_option = message.remedy and "long_text" in self._arguments
            text = message.worded(f"--long-text {message.remedy}" if has_option else None)
        text = " ".join(text.split())
        if text not in self._printed:
            self._printed.add(text)
            print(f"warning: {text}", file=sys.stderr)
