"""The first second: from the start of a process to its first prediction, and its memory.

    python benchmarks/start.py [--repeats 7] [--ways saved,exported,st]

Each repeat starts one new process per way, in turn. The process loads a classifier of one sentence
(MiniLM, mean pooling, logistic regression), predicts, and ends. The files are in the system's
memory from the process before, as they are where a service or a command starts again.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib
from inputs import known, make_encoder, make_texts
from process import ENVIRONMENT, Worker, WorkerError, wait_for
from report import machine, write_figures
from sklearn.linear_model import LogisticRegression
from ways import OPENVINO_GRAPH, OPENVINO_INT8_GRAPH, exported
from worker import versions

from frozenbert import make_text_classifier, save_model
from frozenbert.cli.arguments import Parser, positive
from frozenbert.encoders.sources import PACKAGED_ENCODER

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = ("openvino", "runtime")
N_TRAINING = 300

OURS = """
import sys
from frozenbert import load_model
print(load_model(sys.argv[1]).predict([sys.argv[2]])[0], flush=True)
"""
PEER = """
import sys
import joblib
from sentence_transformers import SentenceTransformer
head, encoder, text, backend, graph = sys.argv[1:]
options = {"file_name": graph} if graph else {}
model = SentenceTransformer(encoder, device="cpu", backend=backend, model_kwargs=options)
print(joblib.load(head).predict(model.encode([text]))[0], flush=True)
"""


@dataclass(frozen=True)
class Way:
    """A row of the table: a script and what it is called with, in {braces} what is made for it."""

    title: str
    script: str
    arguments: tuple[str, ...]
    environment: str = "bench"  # or one of `ENVIRONMENTS`


def _peer(title: str, backend: str, graph: str = "") -> Way:
    folder, environment = ("{encoder}", "bench") if not graph else ("{graphs}", backend)
    arguments = ("{head}", folder, "{text}", backend, graph)
    return Way(f"sentence-transformers, {title}", PEER, arguments, environment)


def _exported(precision: str, environment: str) -> Way:
    where = "" if environment == "bench" else ", without torch installed"
    folder = f"{{export-{precision}}}"
    return Way(f"frozenbert, export, {precision}{where}", OURS, (folder, "{text}"), environment)


PRECISIONS = ("float32", "bfloat16", "int8")
WAYS = {
    "st": _peer("torch", "torch"),
    "st-openvino": _peer("OpenVINO", "openvino", OPENVINO_GRAPH),
    "st-openvino-int8": _peer("OpenVINO static int8", "openvino", OPENVINO_INT8_GRAPH),
    "saved": Way("frozenbert, saved model, float32", OURS, ("{model}", "{text}")),
    **{f"exported-{name}": _exported(name, "bench") for name in PRECISIONS},
    **{f"runtime-{name}": _exported(name, "runtime") for name in PRECISIONS},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; return the exit code."""
    parser = Parser(prog="start.py", description="From process start to the first prediction.")
    parser.add_argument("--ways", type=known(WAYS), default=list(WAYS))
    parser.add_argument("--repeats", type=positive, default=7)
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    for name in ENVIRONMENTS:
        default = HERE.parent / f".venv-bench-{name}" / "bin" / "python"
        parser.add_argument(f"--{name}-python", type=Path, default=default, metavar="FILE")
    options = parser.parse_args(arguments)
    started = datetime.now(UTC)
    rows: list[dict[str, Any]] = [
        {"key": key, "title": WAYS[key].title, "runs": []} for key in options.ways
    ]
    report: dict[str, Any] = {
        "date": started.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "repeats": options.repeats,
        "rows": rows,
    }
    path = options.out / started.strftime("start-%Y-%m-%d-%H%M%S.json")
    with tempfile.TemporaryDirectory(prefix="frozenbert-bench-") as work:
        made, missing = _make(Path(work), options)
        for number in range(options.repeats):
            for row in rows:
                if "left_out" in row:
                    continue
                run = _start(WAYS[row["key"]], made, missing, options)
                if "left_out" in run:
                    row |= run
                else:
                    row["runs"].append(run)
                said = run.get("left_out") or f"{run['seconds']:.2f} s"
                print(f"  repeat {number + 1}, {row['key']}: {said}", file=sys.stderr)
            write_figures(report, path)
    print(to_markdown(report))
    print(f"\nWritten: {path}")
    return 0


def _make(work: Path, options: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Make encoder, models, graphs and exports; return their places, and why some are missing."""
    encoder = make_encoder("minilm", work)
    texts, _ = make_texts("sentences", N_TRAINING)
    y = [i % 2 for i in range(len(texts))]
    made, missing = {"encoder": str(encoder.folder), "text": texts[0]}, {}
    needed = {argument for key in options.ways for argument in WAYS[key].arguments}
    for precision in PRECISIONS:
        # The head of the others is made from the vectors in float32.
        if precision != "float32" and f"{{export-{precision}}}" not in needed:
            continue
        folder = work / precision
        model = make_text_classifier(
            PACKAGED_ENCODER,
            recipe="plain",
            C=[0.01, 0.1],
            cv=2,
            precision=precision,
            progress=False,
        ).fit(texts, y)
        save_model(model, folder / "model.joblib")
        target = work / f"export-{precision}"
        frozenbert = str(Path(sys.executable).with_name("frozenbert"))
        command = [frozenbert, "export", "--model", str(folder), "--out", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            missing[target.name] = done.stderr.strip().splitlines()[-1]
        made[target.name] = str(target)
        if precision == "float32":
            head = LogisticRegression(max_iter=1000).fit(model[:1].transform(texts), y)
            joblib.dump(head, work / "head.joblib")
            made |= {"model": str(folder / "model.joblib"), "head": str(work / "head.joblib")}
    if "{graphs}" in needed:
        texts_file = work / "calibration.json"
        texts_file.write_text(json.dumps(texts), encoding="utf-8")
        request = {"folder": made["encoder"], "backend": "openvino", "calibration": str(texts_file)}
        try:
            Worker(str(options.openvino_python), {"export": request}).close()
        except (WorkerError, OSError) as error:
            missing["graphs"] = f"the export failed: {error}"
        made["graphs"] = exported(made["encoder"], "openvino")
    return made, missing


def _start(way: Way, made: dict[str, str], missing: dict[str, str], options: Any) -> dict[str, Any]:
    """Run one process; return its seconds and its largest memory, or why it cannot run."""
    for argument in way.arguments:
        if reason := missing.get(argument.strip("{}")):
            return {"left_out": reason}
    python = Path(sys.executable)
    if way.environment != "bench":
        python = getattr(options, f"{way.environment}_python")
    if not python.is_file():
        return {"left_out": f"{python} does not exist (make bench-start creates it)"}
    words = [argument.format_map(made) for argument in way.arguments]
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(python), "-c", way.script, *words],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | ENVIRONMENT,
            text=True,
        )
        label = process.stdout.readline().strip()
        seconds = time.perf_counter() - start
        process.stdout.close()
        ended = wait_for(process, errors)
        if ended.reason or label not in ("0", "1"):
            return {"left_out": ended.reason or f"printed {label!r} in place of a label"}
    return {"seconds": seconds, "peak_mb": ended.peak_mb}


def to_markdown(report: dict[str, Any]) -> str:
    """Return the table: medians over the repeats."""
    m = report["machine"]
    lines = [
        f"Measured {report['date']}, {report['repeats']} repeats in turn, medians; {m['cpu']}, "
        f"{m['cores']} cores; {' '.join(m['instructions'])}.",
        "",
        f"frozenbert at commit {m['commit']}.",
        "",
        "| | s to the first prediction (fastest, slowest) | peak MB |",
        "|---|--:|--:|",
    ]
    for row in report["rows"]:
        if "left_out" in row:
            continue
        seconds = [run["seconds"] for run in row["runs"]]
        peak = statistics.median(run["peak_mb"] for run in row["runs"])
        low, high = min(seconds), max(seconds)
        middle = statistics.median(seconds)
        lines.append(f"| {row['title']} | {middle:.2f} ({low:.2f}, {high:.2f}) | {peak:,.0f} |")
    left_out = [row for row in report["rows"] if "left_out" in row]
    lines += [""] if left_out else []
    lines += [f"Left out: {row['title']}: {row['left_out']}" for row in left_out]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
