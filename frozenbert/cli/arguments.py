"""The options that commands share, and the types of their values."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from ..encoders.hub import KNOWN_ENCODERS, KnownEncoder

__all__ = [
    "DEFAULT_CACHE",
    "Parser",
    "add_address",
    "add_cache",
    "add_clean",
    "add_cluster",
    "add_debug",
    "add_encoder",
    "add_fine_tuning",
    "add_label_separator",
    "add_limit",
    "add_model",
    "add_model_or_encoder",
    "add_n_jobs",
    "add_seed",
    "add_streams",
    "add_table",
    "age",
    "folds",
    "jobs",
    "layer_count",
    "layers",
    "number",
    "parse_c_values",
    "pooling",
    "port",
    "positive",
    "seed",
    "size",
]

DEFAULT_CACHE = "artifacts/cache"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and which expands no abbreviated options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with 2."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def add_table(parser: argparse.ArgumentParser, *, columns: bool = False) -> None:
    """Add the options that say how a table is read, and which columns are used.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    columns : bool, default=False
        Whether texts may be in several columns, and other columns are used, too.
    """
    table = parser.add_argument_group("table (tsv, csv, jsonl, each also .gz; parquet)")
    if columns:
        _add_columns(table)
    else:
        table.add_argument(
            "--text-column", metavar="NAME", help="column of texts; 0, 1, ... without a header"
        )
    table.add_argument(
        "--label-column",
        metavar="NAME",
        action="append",
        help="column of labels; given several times: columns of 0 and 1, one for each label",
    )
    table.add_argument(
        "--delimiter",
        metavar="CHAR",
        help="between the fields of a csv: ',' ';' '|' tab; default: recognise it, and print it "
        "if it is not a comma",
    )
    table.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first row of a tsv or csv names the columns; default: guess, and print "
        "the guess",
    )


def _add_columns(table: argparse._ArgumentGroup) -> None:
    table.add_argument(
        "--text-column",
        metavar="NAME",
        action="append",
        help="column of texts; 0, 1, ... without a header; several times: each has vectors of "
        "its own",
    )
    for kind, of_what in (("number", "numbers"), ("category", "categories"), ("date", "dates")):
        table.add_argument(
            f"--{kind}-column",
            metavar="NAME",
            action="append",
            help=f"column of {of_what} to learn from beside the texts; can be given several times "
            f"(needs the extra `columns`)",
        )
    table.add_argument(
        "--columns",
        choices=("all",),
        help="all: learn from all columns but ids, constants and copies of the label, and print "
        "what each was taken for (needs the extra `columns`)",
    )


def add_streams(parser: argparse.ArgumentParser, *, what: str) -> None:
    """Add the options of tables that come and go through pipes; `what` are those named `-`."""
    streams = parser.add_argument_group(f"{what} (-)")
    streams.add_argument(
        "--format",
        choices=("csv", "tsv", "jsonl"),
        help="format of the rows; default: jsonl if the first byte of the input is {",
    )
    streams.add_argument(
        "--max-stdin",
        type=size,
        default="2GB",
        metavar="SIZE",
        help="most bytes of standard input, which is stored in a temporary file; default: 2GB",
    )


def add_label_separator(parser: argparse._ActionsContainer) -> None:
    """Add the option for lists of labels in one column."""
    parser.add_argument(
        "--label-separator",
        metavar="SEP",
        help="the label column contains lists of labels such as a|b; any number for each text",
    )


def add_limit(parser: argparse.ArgumentParser) -> None:
    """Add the option that reads the beginning of the data only."""
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="use only the first N rows of --data"
    )


def add_clean(parser: argparse.ArgumentParser) -> None:
    """Add the option that cleans texts first."""
    parser.add_argument(
        "--clean",
        action="store_true",
        help="remove web addresses and @mentions from the texts, and decode HTML entities",
    )


def add_address(parser: argparse.ArgumentParser | argparse._ArgumentGroup, port_: int) -> None:
    """Add the options of a server's address; `port_` is the default port."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="default: 127.0.0.1, reached from this machine only"
    )
    parser.add_argument(
        "--port",
        type=port,
        default=port_,
        metavar="N",
        help=f"default: {port_}; 0: any free port",
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name by which browsers and clients reach it (in the Host header)",
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add the seed of all random choices."""
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="seed of all random choices; default: 0"
    )


def add_n_jobs(parser: argparse.ArgumentParser) -> None:
    """Add the number of processes of scikit-learn."""
    parser.add_argument(
        "--n-jobs", type=jobs, metavar="N", help="processes for scikit-learn; -1: one for each core"
    )


def add_encoder(parser: argparse.ArgumentParser, *, frozen: bool = True) -> None:
    """Add the options of the encoder.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    frozen : bool, default=True
        Whether the encoder computes vectors. If not, it is fine-tuned: in float32, all of its
        layers, by torch, and without a cache.
    """
    encoder = parser.add_argument_group("encoder")
    name = encoder.add_mutually_exclusive_group()
    name.add_argument("--encoder", metavar="NAME", help=_encoder_help())
    name.add_argument("--model", dest="encoder", help=argparse.SUPPRESS)  # its former name
    _add_vectors(encoder, frozen=frozen)
    _add_device_and_offline(encoder, remote=frozen)


def _add_vectors(encoder: argparse._ArgumentGroup, *, frozen: bool) -> None:
    encoder.add_argument("--revision", metavar="NAME", help="branch, tag or commit on the hub")
    encoder.add_argument(
        "--pooling",
        type=pooling,
        metavar="NAMES",
        help="auto (what the encoder declares, else cls; the default), cls, mean, max, or several: "
        "cls,mean",
    )
    encoder.add_argument(
        "--max-length",
        type=positive,
        metavar="TOKENS",
        help="cut texts after N tokens; default: as many as the encoder takes",
    )
    if frozen:
        encoder.add_argument(
            "--layers", type=layers, metavar="NUMBERS", help="-1 (last; the default), 6, 4,5,6, all"
        )
        encoder.add_argument(
            "--long-text",
            metavar="HOW",
            help="what to do with longer texts: truncate (default), head_tail, or windows "
            "(read the whole text in overlapping parts)",
        )
        encoder.add_argument(
            "--precision",
            metavar="TYPE",
            help="float32 (default), bfloat16, int8, or auto (the fastest on this CPU that agrees "
            "with float32 on 256 of the texts)",
        )
        encoder.add_argument("--backend", metavar="NAME", help="auto (default), torch or openvino")
        _add_prompt_and_form(encoder)


def _encoder_help() -> str:
    known = "; ".join(_describe_known(short, known) for short, known in KNOWN_ENCODERS.items())
    return (
        "a name on the hub, a folder, all-MiniLM-L6-v2 (packaged), openai:MODEL (see "
        "--allow-remote), or a short name; default (not "
        "of serve): distilbert-base-uncased, or the packaged encoder if the hub cannot be reached. "
        f"Short names stand for one revision on the hub, and are not measured here: {known}"
    )


def _describe_known(short: str, known: KnownEncoder) -> str:
    prompt = f", prompt '{known.prompt}'" if known.prompt else ""
    return f"{short} ({known.megabytes} MB, {known.licence}, {known.languages}{prompt})"


def _add_prompt_and_form(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--prompt",
        metavar="TEXT",
        help="put before each text; '' for none; default: the encoder's own prompt, if it has one",
    )
    group.add_argument(
        "--normalize",
        action="store_const",
        const=True,
        help="scale vectors to length 1; of several layers or poolings, each one's",
    )
    group.add_argument(
        "--truncate-dim",
        type=positive,
        metavar="N",
        help="keep the first N columns; of several layers or poolings, of each one",
    )


def add_model(parser: argparse.ArgumentParser, *, device: bool = True) -> None:
    """Add the options of a saved classifier; `device` tells whether it predicts."""
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        required=True,
        metavar="PATH",
        help="a trained classifier: its folder, or the model.joblib or model.skops in it"
        + ("; or an export" if device else ""),
    )
    path = model.add_mutually_exclusive_group()
    path.add_argument(
        "--encoder-path",
        metavar="NAME",
        help="where the model's encoder is on this machine: a folder, or a name on the hub",
    )
    path.add_argument("--encoder", dest="encoder_path", help=argparse.SUPPRESS)  # its former name
    _add_device_and_offline(model, device=device, remote=device)


def add_model_or_encoder(parser: argparse.ArgumentParser) -> None:
    """Add the options of what is served: a saved classifier, or an encoder alone."""
    group = parser.add_argument_group(
        "model or encoder", "With --encoder, the vectors of an encoder are served, and no labels."
    )
    which = group.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--model",
        metavar="PATH",
        help="a trained classifier: its folder, or the model.joblib or model.skops in it; or an "
        "export",
    )
    which.add_argument("--encoder", metavar="NAME", help=_encoder_help())
    group.add_argument(
        "--encoder-path",
        metavar="NAME",
        help="with --model: where its encoder is on this machine: a folder, or a name on the hub",
    )
    _add_device_and_offline(group)
    _add_vectors(parser.add_argument_group("vectors (with --encoder)"), frozen=True)


def _add_device_and_offline(
    group: argparse._ArgumentGroup, *, device: bool = True, remote: bool = True
) -> None:
    if device:
        group.add_argument(
            "--device", metavar="NAME", help="cpu or cuda; default: cuda if torch can use it"
        )
    if remote:
        group.add_argument(
            "--allow-remote",
            action="store_true",
            help="send texts to a remote encoder, openai:MODEL; its address and key are those of "
            "OPENAI_BASE_URL and OPENAI_API_KEY",
        )
    group.add_argument(
        "--offline", action="store_true", help="never contact the hub or a remote encoder"
    )


def add_cache(
    parser: argparse.ArgumentParser, *, default: str = DEFAULT_CACHE, optional: bool = True
) -> None:
    """Add the options of the cache of vectors.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    default : str
        What the help calls the default.
    optional : bool, default=True
        Whether `--no-cache` is possible.
    """
    cache = parser.add_argument_group("cache")
    cache.add_argument(
        "--cache-dir",
        metavar="FOLDER",
        help=f"folder for vectors; default: {default}; auto: the user's cache folder, which "
        f"notebooks use",
    )
    if optional:
        cache.add_argument("--no-cache", action="store_true", help="store no vectors on disk")


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Add `--debug`, which every command has."""
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error, and all warnings"
    )


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the options that move the work to other processes or machines."""
    cluster = parser.add_argument_group("cluster (needs the extra `cluster`)")
    where = cluster.add_mutually_exclusive_group()
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster: tls://host:8786, tcp://..."
    )
    where.add_argument(
        "--workers", type=positive, metavar="N", help="start N worker processes on this machine"
    )


def add_fine_tuning(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of fine-tuning that `finetune` and `fewshot` share; return their group."""
    group = parser.add_argument_group("fine-tuning (Hugging Face's Trainer, AdamW)")
    group.add_argument(
        "--epochs",
        type=positive,
        metavar="N",
        help="passes over the rows; default: 4, and 8 for experts of few labels",
    )
    group.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="texts in a batch; default: 16, and 8 for experts of few labels",
    )
    return group


def positive(value: str) -> int:
    """Parse a whole number of at least 1."""
    return _whole_number(value, at_least=1)


def folds(value: str) -> int:
    """Parse a number of folds, at least 2."""
    return _whole_number(value, at_least=2)


def layer_count(value: str) -> int:
    """Parse a number of layers, which may be 0."""
    return _whole_number(value, at_least=0)


def seed(value: str) -> int:
    """Parse a seed in the range that NumPy accepts."""
    return _whole_number(value, at_least=0, at_most=2**32 - 1)


def port(value: str) -> int:
    """Parse a TCP port; 0 means any free one."""
    return _whole_number(value, at_least=0, at_most=2**16 - 1)


def jobs(value: str) -> int:
    """Parse a number of processes, or -1 for all cores."""
    number = _whole_number(value)
    if number == 0:
        raise argparse.ArgumentTypeError("must be a number of processes or -1 (all cores), not 0")
    return number


def age(value: str) -> float:
    """Parse a time such as 30d, 12h, 15m or 90s into seconds."""
    return _with_unit(value, {"s": 1, "m": 60, "h": 3600, "d": 86_400})


def size(value: str) -> int:
    """Parse a size such as 5GB, 500MB or 1GiB into bytes."""
    powers = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
    powers |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
    return int(_with_unit(value, powers))


def number(value: str) -> float:
    """Parse a number."""
    try:
        return float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {value!r}") from None


def parse_c_values(value: str) -> list[float]:
    """Parse values of C, separated by commas."""
    try:
        values = [float(part) for part in value.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be numbers such as 0.1,1,10, not {value!r}"
        ) from None
    if not all(0 < v < float("inf") for v in values):
        raise argparse.ArgumentTypeError(f"must be numbers above 0, not {value!r}")
    return values


def pooling(value: str) -> str | tuple[str, ...]:
    """Parse one pooling, or several separated by commas."""
    several = tuple(value.split(","))
    return several if len(several) > 1 else value


def layers(value: str) -> str | int | tuple[int, ...]:
    """Parse "all", one layer, or several separated by commas."""
    if value == "all":
        return value
    try:
        numbers = tuple(int(part) for part in value.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be 'all' or numbers such as -1 or 4,5,6, not {value!r}"
        ) from None
    return numbers if len(numbers) > 1 else numbers[0]


def _whole_number(value: str, *, at_least: int | None = None, at_most: int | None = None) -> int:
    try:
        number = int(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {value!r}") from None
    if (at_least is not None and number < at_least) or (at_most is not None and number > at_most):
        limits = f"at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise argparse.ArgumentTypeError(f"must be {limits}, not {number}")
    return number


def _with_unit(value: str, units: Mapping[str, float]) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", value.strip().lower())
    if not found or found[2] not in units:
        known = ", ".join(unit for unit in units if unit)
        raise argparse.ArgumentTypeError(f"must be a number with a unit ({known}), not {value!r}")
    return float(found[1]) * units[found[2]]
