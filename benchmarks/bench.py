"""Compare libraries that turn texts into vectors, in turn: A B C A B C ...

    make bench                                            # all of it, in its own environment
    python benchmarks/bench.py --ways st,ours-mean --encoders minilm --texts sentences --rounds 3

Each library runs in a process of its own, which loads the encoder, warms up, and then encodes all
texts once per turn, while the others wait; then one text per call. README.md in this folder
describes the method.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from inputs import (
    ENCODERS,
    TEXTS,
    EncoderFolder,
    count_tokens,
    known,
    make_encoder,
    make_texts,
    several,
)
from process import Worker, WorkerError
from report import machine, write_report
from ways import EXPORTERS, WAYS, exported

from frozenbert.cli.arguments import Parser, positive
from frozenbert.errors import InputError

HERE = Path(__file__).resolve().parent
PYTHONS = {name: HERE.parent / f".venv-bench-{name}" / "bin" / "python" for name in EXPORTERS}
MEASURES = ("throughput", "one-text")
N_CALIBRATION = 300


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; return the exit code."""
    options = _parser().parse_args(arguments)
    started = datetime.now(UTC)
    report: dict[str, Any] = {
        "date": started.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {},
        "rounds": options.rounds,
        "comparisons": [],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / started.strftime("%Y-%m-%d-%H%M%S")
    try:
        with _folder(options.work) as work:
            for name in options.encoders:
                encoder = make_encoder(name, work)
                unavailable = _export(encoder, options)
                for kind in options.texts:
                    # Written after each comparison, so that a later failure loses nothing.
                    comparison = compare(encoder, kind, unavailable, options, report["versions"])
                    report["comparisons"].append(comparison)
                    table = write_report(report, stem)
    except InputError as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return 2
    except WorkerError as error:
        print(f"bench.py: the reference, plain AutoModel: {error}", file=sys.stderr)
        return 1
    print(table)
    print(f"\nWritten: {stem}.md, .json and .png")
    return 0


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="frozenbert-bench-") as work:
        yield Path(work)


def compare(
    encoder: EncoderFolder,
    kind: str,
    unavailable: dict[str, str],
    options: Any,
    versions: dict[str, dict[str, str]],
) -> dict[str, Any]:
    """Compare the chosen libraries on one encoder and one kind of texts; return raw figures."""
    texts, source = make_texts(kind, getattr(options, kind))
    tokens = count_tokens(texts, encoder)
    print(f"{encoder.name}, {len(texts)} {kind} ({source})", file=sys.stderr)
    work = encoder.folder.parent
    texts_file = work / f"{kind}.json"
    texts_file.write_text(json.dumps(texts), encoding="utf-8")
    request = {
        "folder": str(encoder.folder),
        "pooling": encoder.pooling,
        "max_length": encoder.max_length,
        "texts": str(texts_file),
    }
    n_checked = min(len(texts), options.check)
    checked_file = work / f"{kind}-checked.json"
    checked_file.write_text(json.dumps(texts[:n_checked]), encoding="utf-8")
    plain = _plain_vectors(request | {"texts": str(checked_file)}, work / "plain.npy")

    rows: dict[str, dict[str, Any]] = {
        key: {"key": key, "title": WAYS[key].title, "seconds": [], "one_text": []}
        for key in options.ways
    }
    with contextlib.ExitStack() as stack:
        workers = {}
        for key, row in rows.items():
            row["pooling"] = WAYS[key].pooling or encoder.pooling
            try:
                if key in unavailable:
                    raise WorkerError(unavailable[key])
                worker = Worker(_python(key, options), request | {"way": key})
            except (WorkerError, OSError) as error:
                row["left_out"] = str(error)
                print(f"  {key}: left out: {error}", file=sys.stderr)
                continue
            stack.callback(worker.close)
            workers[key] = worker
            loaded = worker.loaded
            versions.setdefault(WAYS[key].environment, {}).update(loaded.pop("versions"))
            row |= loaded
        for measure in options.measure:
            for number, key in _turns(options.rounds, list(workers)):
                row, vectors = rows[key], work / f"{key}.npy"
                if "left_out" in row:
                    continue
                request = {
                    "measure": measure,
                    "calls": options.calls,
                    "vectors": None if number else str(vectors),
                }
                try:
                    run = workers[key].ask(json.dumps(request))
                except WorkerError as error:
                    row["left_out"] = str(error)
                    print(f"  {key}: left out: {error}", file=sys.stderr)
                    continue
                print(f"  round {number + 1}, {key}: {_in_words(run)}", file=sys.stderr)
                _add(run, row)
                if vectors.exists():
                    row["difference"] = _difference(np.load(vectors), plain, row["pooling"])
                    vectors.unlink()
    return {
        "encoder": encoder.name,
        "kind": kind,
        "source": source,
        "n_texts": len(texts),
        "n_checked": n_checked,
        "mean_tokens": float(np.mean(tokens)),
        "longest": max(tokens),
        "rows": list(rows.values()),
    }


def _in_words(run: dict[str, Any]) -> str:
    if "seconds" in run:
        return f"{run['seconds']:.2f} s"
    return f"one text {run['median_ms']:.2f} ms, p99 {run['p99_ms']:.2f} ms"


def _add(run: dict[str, Any], row: dict[str, Any]) -> None:
    """Add a measurement to its library's row."""
    if "median_ms" in run:
        row["one_text"].append(run)
        return
    row["seconds"].append(run["seconds"])
    row["result_mb"] = run["result_mb"]
    if run["peak_mb"] is not None:
        row["peak_mb"] = max(run["peak_mb"], row.get("peak_mb", 0))


def _turns(rounds: int, keys: list[str]) -> Iterator[tuple[int, str]]:
    return ((number, key) for number in range(rounds) for key in keys)


def _difference(vectors: np.ndarray, plain: np.ndarray, pooling: str) -> float:
    width = plain.shape[1] // 2
    expected = plain[:, :width] if pooling == "cls" else plain[:, width:]
    found = np.asarray(vectors[: len(plain)], dtype=np.float64)
    return float(np.abs(found - expected).max())


def _plain_vectors(request: dict[str, Any], target: Path) -> np.ndarray:
    worker = Worker(sys.executable, request | {"way": "plain"})
    try:
        worker.ask(json.dumps({"measure": "throughput", "vectors": str(target)}))
    finally:
        worker.close()
    return np.load(target)


def _python(key: str, options: Any) -> str:
    environment = WAYS[key].environment
    return sys.executable if environment == "bench" else str(_pythons(options)[environment])


def _pythons(options: Any) -> dict[str, Path]:
    return {name: getattr(options, f"{name}_python") for name in EXPORTERS}


def _export(encoder: EncoderFolder, options: Any) -> dict[str, str]:
    """Export the graphs that some libraries need; return which cannot run, and why."""
    needed = {name: [key for key in options.ways if WAYS[key].export == name] for name in EXPORTERS}
    calibration = encoder.folder.parent / "calibration.json"
    unavailable = {}
    for name, python in _pythons(options).items():
        problem = None
        target = Path(exported(str(encoder.folder), name))
        if not needed[name] or target.is_dir():
            continue
        if not python.is_file():
            problem = f"{python} does not exist (make bench creates it)"
        else:
            # Texts of the same training set that are not measured.
            texts, _ = make_texts("sentences", options.sentences + N_CALIBRATION)
            calibration.write_text(json.dumps(texts[-N_CALIBRATION:]), encoding="utf-8")
            request = {
                "folder": str(encoder.folder),
                "backend": name,
                "calibration": str(calibration),
            }
            try:
                Worker(str(python), {"export": request}).close()
            except WorkerError as error:
                problem = f"the export failed: {error}"
            else:
                if not target.is_dir():
                    problem = "the export wrote nothing"
        if problem:
            unavailable |= dict.fromkeys(needed[name], problem)
    return unavailable


def _parser() -> Parser:
    parser = Parser(
        prog="bench.py", description="Compare libraries that turn texts into vectors, in turn."
    )
    parser.add_argument(
        "--ways",
        type=known(WAYS),
        default=list(WAYS),
        metavar="NAMES",
        help=f"libraries in this order, separated by commas: {','.join(WAYS)} (default: all)",
    )
    parser.add_argument(
        "--encoders",
        type=several,
        default=list(ENCODERS),
        metavar="NAMES",
        help=f"of {','.join(ENCODERS)}, or folders (default: these two)",
    )
    parser.add_argument(
        "--texts",
        type=known(TEXTS),
        default=list(TEXTS),
        metavar="NAMES",
        help=f"of {','.join(TEXTS)} (default: both)",
    )
    parser.add_argument("--sentences", type=positive, default=600, help="how many (default: 600)")
    parser.add_argument("--reviews", type=positive, default=200, help="how many (default: 200)")
    parser.add_argument("--rounds", type=positive, default=5, help="default: 5")
    parser.add_argument(
        "--measure",
        type=known(MEASURES),
        default=list(MEASURES),
        metavar="NAMES",
        help=f"of {','.join(MEASURES)} (default: both)",
    )
    parser.add_argument(
        "--calls",
        type=positive,
        default=200,
        metavar="N",
        help="calls of one text per round (default: 200)",
    )
    parser.add_argument(
        "--check",
        type=positive,
        default=1000,
        metavar="N",
        help="compare the first N texts' vectors with plain AutoModel's (default: 1000)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=HERE / "results",
        metavar="FOLDER",
        help="for table, raw figures and plot (default: results beside this script)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        metavar="FOLDER",
        help="where encoders and graphs are kept for later runs (default: a temporary folder)",
    )
    for name, python in PYTHONS.items():
        parser.add_argument(
            f"--{name}-python",
            type=Path,
            default=python,
            metavar="FILE",
            help=f"the Python with sentence-transformers' {name} backend "
            f"(default: .venv-bench-{name}'s)",
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
