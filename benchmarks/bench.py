"""Compare libraries that turn texts into vectors, in turn: A B C A B C ...

    make bench                                            # all of it, in its own environment
    python benchmarks/bench.py --ways st,ours-mean --encoders minilm --texts sentences --rounds 3

Each library runs in a process of its own, which loads the encoder, warms up, and then encodes all
texts once per turn, while the others wait. README.md in this folder describes the method.
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
from inputs import ENCODERS, TEXTS, EncoderFolder, count_tokens, make_encoder, make_texts
from process import Worker, WorkerError
from report import machine, write_report
from ways import WAYS, exported

from frozenbert.cli.arguments import Parser, positive
from frozenbert.errors import InputError

HERE = Path(__file__).resolve().parent
ONNX_PYTHON = HERE.parent / ".venv-bench-onnx" / "bin" / "python"


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
        with tempfile.TemporaryDirectory(prefix="frozenbert-bench-") as work:
            for name in options.encoders:
                encoder = make_encoder(name, Path(work))
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

    rows = {key: {"key": key, "title": WAYS[key].title, "seconds": []} for key in options.ways}
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
        for number, key in _turns(options.rounds, list(workers)):
            row, vectors = rows[key], work / f"{key}.npy"
            if "left_out" in row:
                continue
            try:
                run = workers[key].ask("" if number else str(vectors))
            except WorkerError as error:
                row["left_out"] = str(error)
                print(f"  {key}: left out: {error}", file=sys.stderr)
                continue
            print(f"  round {number + 1}, {key}: {run['seconds']:.2f} s", file=sys.stderr)
            row["seconds"].append(run["seconds"])
            row["result_mb"] = run["result_mb"]
            if run["peak_mb"] is not None:
                row["peak_mb"] = max(run["peak_mb"], row.get("peak_mb", 0))
            if not number:
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
        worker.ask(str(target))
    finally:
        worker.close()
    return np.load(target)


def _python(key: str, options: Any) -> str:
    return str(options.onnx_python) if WAYS[key].environment == "onnx" else sys.executable


def _export(encoder: EncoderFolder, options: Any) -> dict[str, str]:
    """Export the graphs that some libraries need; return which cannot run, and why."""
    needy = [key for key in options.ways if WAYS[key].needs_export]
    if not needy:
        return {}
    problem = None
    if not options.onnx_python.is_file():
        problem = f"{options.onnx_python} does not exist (make bench creates it)"
    else:
        try:
            Worker(str(options.onnx_python), {"export": str(encoder.folder)}).close()
        except WorkerError as error:
            problem = f"the export failed: {error}"
    if problem is None and not Path(exported(str(encoder.folder))).is_dir():
        problem = "the export wrote nothing"
    return dict.fromkeys(needy, problem) if problem else {}


def _parser() -> Parser:
    parser = Parser(
        prog="bench.py", description="Compare libraries that turn texts into vectors, in turn."
    )
    parser.add_argument(
        "--ways",
        type=_known(WAYS),
        default=list(WAYS),
        metavar="NAMES",
        help=f"libraries in this order, separated by commas: {','.join(WAYS)} (default: all)",
    )
    parser.add_argument(
        "--encoders",
        type=_several,
        default=list(ENCODERS),
        metavar="NAMES",
        help=f"of {','.join(ENCODERS)}, or folders (default: these two)",
    )
    parser.add_argument(
        "--texts",
        type=_known(TEXTS),
        default=list(TEXTS),
        metavar="NAMES",
        help=f"of {','.join(TEXTS)} (default: both)",
    )
    parser.add_argument("--sentences", type=positive, default=600, help="how many (default: 600)")
    parser.add_argument("--reviews", type=positive, default=200, help="how many (default: 200)")
    parser.add_argument("--rounds", type=positive, default=5, help="default: 5")
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
        "--onnx-python",
        type=Path,
        default=ONNX_PYTHON,
        metavar="FILE",
        help="the Python with sentence-transformers' ONNX backend (default: .venv-bench-onnx's)",
    )
    return parser


def _several(value: str) -> list[str]:
    return list(dict.fromkeys(value.split(",")))


def _known(legal: Any) -> Any:
    def names(value: str) -> list[str]:
        found = _several(value)
        if unknown := [name for name in found if name not in legal]:
            raise ValueError(unknown)
        return found

    return names


if __name__ == "__main__":
    sys.exit(main())
