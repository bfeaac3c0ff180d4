"""Compare the accuracy of classifiers on the same rows: a table that fills cell by cell.

    python benchmarks/accuracy.py [--only sst2,tweets] [--way setfit-8,plain] [--again] [--quick]
    python benchmarks/accuracy.py --table [--into docs/results/accuracy.md]

The texts are those of $FROZENBERT_TEXTS, each data set with one fixed split. Everything that is
tuned is tuned within the training rows. Each cell is one file in results/accuracy, written when it
is measured; a cell whose file exists is skipped, so that the same command resumes. README.md in
this folder describes the method.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import accuracy_table
import real
from classifiers import WAYS
from process import ENVIRONMENT, wait_for
from report import write_figures

from frozenbert.cli.arguments import Parser
from frozenbert.errors import InputError

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "accuracy"
QUICK_DATA = "sst2-2000"
QUICK_WAYS = ("tfidf", "nb", "fasttext", "st", "skrub", "setfit-8", "plain", "searched")
QUICK_RESULTS = HERE.parent / "artifacts" / "accuracy-quick"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the missing cells, and print the table; return the exit code."""
    options = _parser().parse_args(arguments)
    if options.out is None:
        options.out = QUICK_RESULTS if options.quick else RESULTS
    failed = 0
    if not options.table:
        real.texts_folder("accuracy.py")
        for data, way in _cells(options):
            failed += not _measure(data, way, options)
    try:
        table = accuracy_table.to_markdown(accuracy_table.read(options.out))
        if options.into:
            accuracy_table.replace(options.into, table)
    except InputError as error:
        print(f"accuracy.py: {error}", file=sys.stderr)
        return 2
    print(table)
    return 1 if failed else 0


def _cells(options: Any) -> Iterator[tuple[str, str]]:
    """Yield the data and ways that are to be measured."""
    for data in options.only or ([QUICK_DATA] if options.quick else real.TASKS):
        many = real.TASKS[data].many_labels
        for way in options.way or (QUICK_WAYS if options.quick else WAYS):
            if many and not WAYS[way].many_labels:
                print(f"  {data}, {way}: not for many labels", file=sys.stderr)
            elif (options.out / f"{data}.{way}.json").exists() and not options.again:
                print(f"  {data}, {way}: measured before", file=sys.stderr)
            else:
                yield data, way


def _measure(data: str, way: str, options: Any) -> bool:
    """Measure one cell in a process of its own; return whether it succeeded."""
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile("w+") as errors:
        target = Path(scratch) / "cell.json"
        command = [sys.executable, str(HERE / "cell.py"), data, way, str(target)]
        command += ["--minutes", str(options.minutes)]
        command += ["--cache", str(options.cache)] if options.cache else []
        busy, begun = _busy_seconds(), time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=os.environ | ENVIRONMENT,
            text=True,
        )
        ended = wait_for(process, errors)
        if ended.reason:
            print(f"  {data}, {way}: failed: {ended.reason}", file=sys.stderr)
            return False
        cell: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
        cell["peak_mb"] = ended.peak_mb
        cell["cores_of_others"] = None
        if busy is not None:
            others = _busy_seconds() - busy - ended.cpu_seconds
            cell["cores_of_others"] = max(0.0, others / (time.perf_counter() - begun))
    write_figures(cell, options.out / f"{data}.{way}.json")
    said = ", ".join(f"{name} {value:.4f}" for name, value in cell["figures"].items())
    print(f"  {data}, {way}: {said}, {cell['seconds']:.0f} s", file=sys.stderr, flush=True)
    return True


def _busy_seconds() -> float | None:
    """Return the seconds that all cores together have worked since the machine's start (Linux)."""
    try:
        total = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _, _, *others = map(int, total[:8])
    return (user + nice + system + sum(others[:2])) / os.sysconf("SC_CLK_TCK")


def _chosen(legal: Collection[str]) -> Callable[[str], list[str]]:
    """Return a parser of names between commas; one that is none is all that begin with it.

    `sst2` is `sst2-2000` and `sst2-6920`.
    """

    def names(value: str) -> list[str]:
        found: dict[str, None] = {}
        for given in value.split(","):
            matching = [given]
            if given not in legal:
                matching = [name for name in legal if name.startswith(f"{given}-")]
            if not matching:
                raise ValueError(given)
            found |= dict.fromkeys(matching)
        return list(found)

    return names


def _parser() -> Parser:
    parser = Parser(prog="accuracy.py", description="Compare classifiers on the same rows.")
    parser.add_argument(
        "--only",
        type=_chosen(real.TASKS),
        metavar="NAMES",
        help=f"data, of {', '.join(real.TASKS)}; sst2 is all that begin so (default: all)",
    )
    parser.add_argument(
        "--way",
        type=_chosen(WAYS),
        metavar="NAMES",
        help=f"classifiers, of {', '.join(WAYS)}; setfit is all that begin so (default: all)",
    )
    parser.add_argument("--again", action="store_true", help="measure cells that exist, too")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"measure {QUICK_DATA} only, without the slow ways, into {QUICK_RESULTS.name}",
    )
    parser.add_argument("--table", action="store_true", help="print the table, measure nothing")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="write the table between this file's marks"
    )
    parser.add_argument(
        "--minutes", type=float, default=30, help="at most, for a row of SetFit (default: 30)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="frozenbert's stored vectors; the time is then marked (default: none)",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: results/accuracy")
    return parser


if __name__ == "__main__":
    sys.exit(main())
