"""The commands: what they take, and how they end."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..errors import FrozenbertWarning, InputError
from .arguments import (
    ENCODERS,
    Parser,
    add_cluster,
    add_encoder,
    add_other,
    add_table,
    age,
    folds,
    jobs,
    names,
    parse_c_values,
    positive,
    seed,
    size,
)

__all__ = [
    "cache",
    "classify",
    "compare",
    "embed",
    "fewshot",
    "finetune",
    "main",
    "serve",
    "train",
]

CLEAN = "leave web addresses and @mentions out of the texts, and turn HTML entities into text"


def main(argv: Sequence[str] | None = None) -> int:
    """Run `frozenbert COMMAND`, the installed command."""
    commands = {
        "train": train,
        "classify": classify,
        "compare": compare,
        "embed": embed,
        "fewshot": fewshot,
        "finetune": finetune,
        "serve": serve,
        "cache": cache,
    }
    parser = Parser(
        prog="frozenbert",
        description="Text classification with frozen encoders and scikit-learn.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        subparsers.add_parser(name, help=command.__doc__, add_help=False)
    arguments = list(sys.argv[1:] if argv is None else argv)
    known = parser.parse_args(arguments[:1])
    return commands[known.command](arguments[1:], prog=f"frozenbert {known.command}")


def train(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Train a text classifier on a file of texts and labels, measure it and save it."""
    parser = Parser(prog=prog, description=train.__doc__)
    parser.add_argument("--data", required=True, metavar="FILE", help="texts and labels")
    parser.add_argument(
        "--test", metavar="FILE", help="rows to measure on; without it a stratified quarter"
    )
    parser.add_argument("--out", metavar="FOLDER", help="default: artifacts/NAME of the data file")
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N rows only")
    parser.add_argument("--cv", type=folds, default=5, metavar="FOLDS", help="default: 5")
    parser.add_argument(
        "--C",
        type=parse_c_values,
        metavar="VALUES",
        help="values to try, separated by commas; default: 20 from 1e-5 to 10 (many labels: 7)",
    )
    parser.add_argument(
        "--seed", type=seed, default=0, help="of the split and the folds; default 0"
    )
    parser.add_argument("--n-jobs", type=jobs, metavar="N", help="processes for the search")
    parser.add_argument(
        "--no-examples", action="store_true", help="no text of a row stands in the report"
    )
    parser.add_argument("--clean", action="store_true", help=CLEAN)
    head = parser.add_argument_group("classifier")
    head.add_argument(
        "--search",
        choices=("head", "features"),
        default="head",
        help="choose C alone (default), or layers and pooling too",
    )
    head.add_argument(
        "--with-tfidf", action="store_true", help="words and pairs of words beside the vectors"
    )
    head.add_argument(
        "--calibrate",
        choices=("sigmoid", "isotonic"),
        help="map probabilities, out of fold, to shares of rows",
    )
    head.add_argument(
        "--class-weight", choices=("balanced",), help="rare classes count as much as frequent ones"
    )
    head.add_argument(
        "--scoring",
        metavar="NAME",
        help="a scikit-learn scorer; default: accuracy, and average precision of many labels",
    )
    head.add_argument(
        "--label-separator",
        metavar="SEP",
        help="the label column holds lists such as a|b: any number of labels a text",
    )
    add_table(parser)
    add_encoder(parser)
    add_cluster(parser)
    return _run(parser, argv, "train")


def classify(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Label new texts with a saved model."""
    parser = Parser(
        prog=prog,
        description=f"{classify.__doc__} Loading a joblib file runs code, and a .skops file none.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", metavar="FILE", help="texts to label")
    what.add_argument("--text", help="a single text; the answer is printed")
    parser.add_argument("--out", metavar="FILE", help="where the labelled rows go (with --data)")
    parser.add_argument(
        "--encoder", metavar="NAME", help="where the model's encoder is now: a folder or a name"
    )
    add_table(parser)
    add_encoder(parser, "model.joblib or model.skops, or their folder", model_required=True)
    return _run(parser, argv, "classify")


def compare(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Show trained models side by side, and say which to use."""
    parser = Parser(prog=prog, description=compare.__doc__)
    parser.add_argument("models", nargs="+", metavar="FOLDER", help="of models, as from training")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return _run(parser, argv, "compare")


def embed(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Turn a file of texts into a file of vectors, row by row; or many files, on many machines."""
    parser = Parser(prog=prog, description=embed.__doc__)
    parser.add_argument(
        "--data", required=True, metavar="FILE", help="texts; or a pattern for several: 'in/*.csv'"
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help=".npy: float32, a row a text; .parquet: the rows with their vectors; "
        "of several tables or from a cluster, a folder of such .parquet files",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N rows only")
    add_table(parser)
    add_encoder(parser)
    add_cluster(parser)
    return _run(parser, argv, "embed")


def fewshot(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Train on few labels and many texts without: experts, and students that they teach."""
    parser = Parser(prog=prog, description=fewshot.__doc__)
    parser.add_argument("--data", required=True, metavar="FILE", help="texts and labels")
    parser.add_argument(
        "--unlabelled", required=True, metavar="FILE", help="the pool: texts of the same kind"
    )
    parser.add_argument("--test", metavar="FILE", help="rows to measure on")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FOLDER",
        help="where teacher.joblib, student.joblib and student_words.joblib go",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N labelled rows")
    parser.add_argument("--clean", action="store_true", help=CLEAN)
    parser.add_argument(
        "--suggest", type=positive, metavar="N", help="write the N texts to label next, suggest.csv"
    )
    parser.add_argument(
        "--soft-labels", metavar="FILE", help="write the pool with the teacher's probabilities"
    )
    experts = parser.add_argument_group("experts")
    experts.add_argument(
        "--experts",
        choices=("frozen", "finetuned"),
        default="frozen",
        help="heads on frozen vectors (default), or a fine-tuned encoder for each",
    )
    experts.add_argument("--n-experts", type=positive, default=8, metavar="N", help="default: 8")
    experts.add_argument(
        "--epochs", type=positive, default=8, help="of fine-tuned experts; default: 8"
    )
    experts.add_argument(
        "--batch-size", type=positive, default=8, help="of fine-tuned experts; default: 8"
    )
    experts.add_argument("--seed", type=seed, default=0, help="default: 0")
    experts.add_argument("--n-jobs", type=jobs, metavar="N", help="processes for the experts")
    add_table(parser)
    add_encoder(parser)
    return _run(parser, argv, "fewshot")


def finetune(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Fine-tune an encoder on texts and labels; what comes out is an encoder for --model."""
    parser = Parser(prog=prog, description=finetune.__doc__)
    parser.add_argument("--data", required=True, metavar="FILE", help="texts and labels")
    parser.add_argument(
        "--valid", metavar="FILE", help="rows to choose the epoch on; without it one row of ten"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the encoder goes")
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N rows only")
    parser.add_argument("--clean", action="store_true", help=CLEAN)
    add_table(parser)
    parser.add_argument(
        "--label-separator", metavar="SEP", help="the label column holds lists such as a|b"
    )
    parser.add_argument(
        "--soft-label-column",
        metavar="NAME",
        action="append",
        help="in place of labels, the probability of the positive class; given again: the "
        "probabilities of several classes",
    )
    recipe = parser.add_argument_group("training (Hugging Face's Trainer, AdamW)")
    recipe.add_argument("--epochs", type=positive, default=4, help="default: 4")
    recipe.add_argument("--lr", type=float, default=5e-5, help="of the encoder; default: 5e-5")
    recipe.add_argument(
        "--head-lr", type=float, default=1e-3, help="of the layer on top; default: 1e-3"
    )
    recipe.add_argument("--dropout", type=float, default=0.1, help="default: 0.1")
    recipe.add_argument("--weight-decay", type=float, default=0.01, help="default: 0.01")
    recipe.add_argument("--batch-size", type=positive, default=16, help="default: 16")
    recipe.add_argument(
        "--gradient-accumulation-steps", type=positive, default=1, help="batches a step; default: 1"
    )
    recipe.add_argument(
        "--early-stopping", type=positive, metavar="EPOCHS", help="end after so many no better"
    )
    recipe.add_argument(
        "--freeze-layers", type=int, default=0, metavar="K", help="the K lowest stay as they are"
    )
    recipe.add_argument("--max-length", type=positive, metavar="TOKENS", help="cut texts here")
    recipe.add_argument("--pooling", type=names, default="auto", help="auto, cls, mean, max")
    recipe.add_argument("--seed", type=seed, default=0, help="default: 0")
    recipe.add_argument("--device", help="a torch device, cpu or cuda")
    encoder = parser.add_argument_group("encoder")
    encoder.add_argument("--model", metavar="NAME", help=ENCODERS)
    encoder.add_argument("--revision", help="branch, tag or commit on the hub")
    encoder.add_argument("--offline", action="store_true", help="never ask the hub")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return _run(parser, argv, "finetune")


def serve(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Serve a saved model: a page to try it on, and an API."""
    parser = Parser(
        prog=prog,
        description=f"{serve.__doc__} Of a model's two forms the safe one is taken, where it is "
        f"there. Beyond loopback, a token is demanded: $FROZENBERT_TOKEN.",
    )
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="a model's folder, or a file in it"
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0: any that is free")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name that the service is called by (the Host header)",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-body", type=size, default="10MB", metavar="SIZE", help="of a request; default: 10MB"
    )
    limits.add_argument(
        "--max-texts",
        type=positive,
        default=10_000,
        metavar="N",
        help="of a request; default: 10,000",
    )
    limits.add_argument(
        "--max-characters",
        type=positive,
        default=10_000,
        metavar="N",
        help="of a text; default: 10,000",
    )
    limits.add_argument(
        "--max-waiting",
        type=positive,
        default=1024,
        metavar="N",
        help="texts in the queue; beyond them requests are refused (503); default: 1,024",
    )
    limits.add_argument(
        "--timeout",
        type=age,
        default="60s",
        metavar="TIME",
        help="for the next 64 texts of an answer; default: 60s",
    )
    encoder = parser.add_argument_group("encoder")
    encoder.add_argument(
        "--encoder", metavar="NAME", help="where the model's encoder is now: a folder or a name"
    )
    encoder.add_argument("--device", help="a torch device, cpu or cuda")
    encoder.add_argument("--offline", action="store_true", help="never ask the hub")
    encoder.add_argument(
        "--cache-dir", metavar="FOLDER", help="keep vectors of requests there; default: nowhere"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(no_cache=False)
    return _run(parser, argv, "serve")


def cache(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Say what the cache of vectors holds, or make it smaller."""
    parser = Parser(prog=prog, description=cache.__doc__)
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
    return _run(parser, argv, "cache")


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None, command: str) -> int:
    """Run a command; 0 done, 2 the input is wrong, 1 something else failed."""
    arguments = parser.parse_args(argv)
    from . import actions as commands  # only now: --help needs none of it

    if hasattr(sys.stdout, "reconfigure"):
        # A label that the terminal cannot show is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            if not arguments.debug:
                warnings.showwarning = _show_warning  # type: ignore[assignment]
            getattr(commands, command)(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        kept = "; vectors computed so far are kept"
        if command == "embed" and (arguments.workers or arguments.scheduler):
            kept = "; tables that are done are kept"
        elif command == "finetune":
            kept = "; finished epochs are kept, and the same command goes on after them"
        elif command in ("cache", "compare", "serve") or arguments.no_cache:
            kept = ""
        print(f"{parser.prog}: interrupted{kept}.", file=sys.stderr)
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


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    # What a user can act on; libraries' notes to programmers are for --debug.
    from sklearn.exceptions import InconsistentVersionWarning

    ours = category is UserWarning or issubclass(category, FrozenbertWarning)
    if ours or issubclass(category, InconsistentVersionWarning):
        print("warning: " + " ".join(str(message).split()), file=sys.stderr)
