"""The arguments that the commands share, and what is legal in them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = [
    "CLEAN",
    "DEFAULT_CACHE",
    "ENCODERS",
    "Parser",
    "add_cluster",
    "add_encoder",
    "add_other",
    "add_table",
    "age",
    "folds",
    "jobs",
    "layers",
    "names",
    "parse_c_values",
    "positive",
    "seed",
    "size",
]

DEFAULT_CACHE = "artifacts/cache"
CLEAN = "leave web addresses and @mentions out of the texts, and turn HTML entities into text"
ENCODERS = (
    "a name on the hub, a folder, or all-MiniLM-L6-v2 (packaged); "
    "default: distilbert-base-uncased, or the packaged one where the hub cannot be reached"
)


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def add_encoder(
    parser: argparse.ArgumentParser, model_help: str = ENCODERS, model_required: bool = False
) -> None:
    """Add the options of a frozen encoder and of the cache of its vectors."""
    encoder = parser.add_argument_group("encoder")
    encoder.add_argument("--model", metavar="NAME", required=model_required, help=model_help)
    encoder.add_argument("--revision", help="branch, tag or commit on the hub")
    encoder.add_argument("--pooling", type=names, help="auto, cls, mean, max, or several: cls,mean")
    encoder.add_argument("--layers", type=layers, help="-1 (last), 6, 4,5,6 or all")
    encoder.add_argument("--max-length", type=positive, metavar="TOKENS", help="cut texts here")
    encoder.add_argument(
        "--long-text", help="truncate (default), head_tail, or windows: read all, in pieces"
    )
    encoder.add_argument("--precision", help="float32, bfloat16 or int8; default: float32")
    encoder.add_argument("--backend", help="auto, torch or openvino; default: auto")
    encoder.add_argument("--device", help="a torch device, cpu or cuda")
    encoder.add_argument("--offline", action="store_true", help="never ask the hub")
    add_other(parser).add_argument(
        "--no-cache", action="store_true", help="keep no vectors on disk"
    )


def add_table(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what stands where in a table."""
    table = parser.add_argument_group("table (tsv, csv, jsonl, each also .gz; parquet)")
    table.add_argument("--text-column", metavar="NAME", help="0, 1, ... without a header")
    table.add_argument(
        "--label-column",
        metavar="NAME",
        action="append",
        help="0, 1, ... without a header; given again: several columns of 0 and 1, one a label",
    )
    table.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="the first row of a tsv or csv names the columns, or not; default: guess, and say so",
    )


def add_other(parser: argparse.ArgumentParser) -> Any:
    """Add `--cache-dir` and `--debug`, and return their group."""
    other = parser.add_argument_group("other")
    other.add_argument(
        "--cache-dir",
        metavar="FOLDER",
        help=f"default: {DEFAULT_CACHE}; auto: the user's, which notebooks use",
    )
    other.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return other


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the work is done, if not here."""
    cluster = parser.add_argument_group("cluster (needs the extra `cluster`)")
    where = cluster.add_mutually_exclusive_group()
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster: tls://host:8786, tcp://..."
    )
    where.add_argument(
        "--workers", type=positive, metavar="N", help="start so many processes on this machine"
    )


def positive(value: str) -> int:
    """Parse a whole number of at least 1."""
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def folds(value: str) -> int:
    """Parse a number of folds."""
    number = int(value)
    if number < 2:
        raise argparse.ArgumentTypeError(f"{number} is not at least 2 folds")
    return number


def jobs(value: str) -> int:
    """Parse a number of processes, or -1 for all cores."""
    number = int(value)
    if number == 0:
        raise argparse.ArgumentTypeError("0 is neither a number of processes nor -1 (all cores)")
    return number


def seed(value: str) -> int:
    """Parse a seed, as NumPy takes it."""
    number = int(value)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{number} is not between 0 and {2**32 - 1}")
    return number


def age(value: str) -> float:
    """Parse a time such as 30d, 12h, 15m or 90s, and return seconds."""
    return _with_unit(value, {"s": 1, "m": 60, "h": 3600, "d": 86_400})


def size(value: str) -> int:
    """Parse a size such as 5GB, 500MB or 1GiB, and return bytes."""
    powers = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
    powers |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
    return int(_with_unit(value, powers))


def _with_unit(value: str, units: Mapping[str, float]) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", value.strip().lower())
    if not found or found[2] not in units:
        known = ", ".join(unit for unit in units if unit)
        raise argparse.ArgumentTypeError(f"{value!r} is no number with a unit: {known}")
    return float(found[1]) * units[found[2]]


def parse_c_values(value: str) -> list[float]:
    """Parse values of C, separated by commas."""
    values = [float(part) for part in value.split(",")]
    if not all(0 < v < float("inf") for v in values):
        raise argparse.ArgumentTypeError(f"{value} holds a number that is not above 0")
    return values


def names(value: str) -> str | tuple[str, ...]:
    """Parse one name, or several separated by commas."""
    several = tuple(value.split(","))
    return several if len(several) > 1 else value


def layers(value: str) -> str | int | tuple[int, ...]:
    """Parse 'all', one layer or several separated by commas."""
    if value == "all":
        return value
    numbers = tuple(int(part) for part in value.split(","))
    return numbers if len(numbers) > 1 else numbers[0]


# argparse names the type in its messages.
for _type, _name in {
    positive: "whole number",
    folds: "whole number",
    jobs: "whole number",
    seed: "whole number",
    parse_c_values: "list of numbers",
    layers: "list of layers",
    age: "time",
    size: "size",
}.items():
    _type.__name__ = _name
