"""The service under load, beside the same model in Python, and a plain app around the peer.

    python benchmarks/serve.py [--cases minilm-float32 ...] [--rounds 3] [--soak 50000]

Each round starts a new process for each way, in turn: `predict` in Python; the service, asked by
one client, by 50 clients at once, and for 1,000 texts in one request; the service with a stub for
an encoder; and FastAPI around sentence-transformers, if the Python of --peer has it. The clients
run in a process of their own, which shares the cores.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import real
from inputs import make_encoder, make_texts
from report import write_figures

from frozenbert import load_model, make_text_classifier, save_model
from frozenbert.cli.arguments import Parser, positive
from frozenbert.heads.search import tuned_estimator
from frozenbert.pipeline import predict

HERE = Path(__file__).resolve().parent
CASES = {
    "minilm-float32": ("minilm", {}),
    "minilm-bfloat16": ("minilm", {"precision": "bfloat16"}),
    "minilm-int8": ("minilm", {"precision": "int8"}),
    "distilbert-float32": ("distilbert", {}),
    "distilbert-int8": ("distilbert", {"precision": "int8"}),
    "minilm-words": ("minilm", {"search": "features", "with_tfidf": True}),
}
WAYS = ("in Python", "service", "service without encoder", "plain")
SOAK_FIRST = 5000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; return the exit code."""
    parser = Parser(prog="serve.py", description="The service under load.")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seconds", type=positive, default=8, help="of load by 50 clients")
    parser.add_argument("--clients", type=positive, default=50)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--soak", type=int, default=0, metavar="REQUESTS", help="measure memory")
    parser.add_argument("--peer", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args(arguments)
    report, path = real.new_report(
        "serve", options.out, model=", ".join(options.cases), n_clients=options.clients
    )
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["FROZENBERT_ENCODERS"] = scratch
        made = {case: _make(case, Path(scratch)) for case in options.cases}
        for number in range(options.rounds):
            for case in options.cases:
                for way in options.ways:
                    row = {"case": case, "way": way, "round": number}
                    try:
                        row |= _measure(way, made[case], options, scratch)
                    except ServerError as error:
                        row["left_out"] = str(error)
                    report["rows"].append(row)
                    print(f"  {number}, {case}, {way}: {_said(row)}", file=sys.stderr, flush=True)
                    write_figures(report, path)
        if options.soak:
            report["soak"] = _soak(made[options.cases[0]], options.soak, options.clients)
            write_figures(report, path)
    print(to_markdown(report))
    print(f"\nWritten: {path}")
    return 0


class ServerError(Exception):
    """A server did not start, or answered with an error."""


def _make(case: str, scratch: Path) -> Path:
    """Save a model and its encoder, and return the model's folder."""
    name, settings = CASES[case]
    encoder = scratch / name
    if not encoder.exists():
        make_encoder(name, scratch)
    texts, _ = make_texts("sentences", 400)
    y = ["long" if len(text) > np.median([len(t) for t in texts]) else "short" for text in texts]
    model = make_text_classifier(
        str(encoder), recipe="plain", C=0.01, progress=False, cache_dir=None, **settings
    )
    save_model(model.fit(texts, y), scratch / case / "model.joblib")
    head = tuned_estimator(model[-1])
    if len(model.steps) == 3 and hasattr(head, "coef_"):
        np.savez(
            scratch / case / "head.npz",
            mean=model[1].mean_,
            scale=model[1].scale_,
            coef=head.coef_,
            intercept=head.intercept_,
            classes=model.classes_,
        )
    return scratch / case


def _measure(way: str, model: Path, options: Any, scratch: str) -> dict[str, Any]:
    texts, _ = make_texts("sentences", 1400)
    texts = texts[400:]
    if way == "in Python":
        command = [sys.executable, str(HERE / "offline.py"), str(model)]
        done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True)
        if done.returncode:
            raise ServerError(done.stderr.strip().splitlines()[-1])
        measured = json.loads(done.stdout)
        return {**_quantiles(measured["one"]), "texts_a_second": 1000 / min(measured["all"])}
    with _server(way, model, options.peer) as (port, process):
        _load(port, texts[:200], 1, process)
        row = _quantiles(_load(port, texts[:300], 1, process)["seconds"][-200:])
        first = _load(port, texts[:300], options.clients, process)
        n = int(options.seconds * 300 / first["whole"])
        whole = [texts[i % len(texts)] for i in range(n)]
        loaded = _load(port, whole, options.clients, process)
        for key, value in _quantiles(loaded["seconds"]).items():
            row[f"loaded_{key}"] = value
        row["texts_a_second"] = n / loaded["whole"]
        row["server_ms"] = 1000 * loaded["server_cpu"] / n
        row["client_ms"] = 1000 * loaded["cpu"] / n
        together = [_load(port, [texts], 1, process)["whole"] for _ in range(3)]
        row["together_a_second"] = len(texts) / min(together)
        if way == "service":
            row["largest_difference"] = _difference(model, texts[:300], first["answers"])
    return row


def _difference(model: Path, texts: list[str], answers: list[str]) -> float:
    """Compare probabilities with those of the same model in this process."""
    columns = predict(load_model(model), texts)
    parsed = [json.loads(answer) for answer in answers]
    got = np.array([answer["probabilities"][0] for answer in parsed])
    expected = np.stack([columns[f"proba_{label}"] for label in parsed[0]["labels"]], axis=1)
    return float(np.abs(got - expected).max())


@contextlib.contextmanager
def _server(way: str, model: Path, peer: str) -> Iterator[tuple[int, subprocess.Popen]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    if way == "plain":
        if not (model / "head.npz").exists():
            raise ServerError("sentence-transformers has no such head")
        encoder = model.parent / CASES[model.name][0]
        command = [peer, HERE / "naive_server.py", encoder, model / "head.npz", port]
    elif way == "service":
        program = Path(sys.executable).with_name("frozenbert")
        command = [sys.executable, program, "serve", "--model", model, "--port", port]
    else:
        command = [sys.executable, HERE / "stub_server.py", model, port]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        try:
            until = time.monotonic() + 180
            while not _answers(int(port)):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    lines = [line for line in log.read().splitlines() if line.strip()]
                    raise ServerError(lines[-1] if lines else "no answer for 3 minutes")
                time.sleep(0.2)
            yield int(port), process
        finally:
            process.terminate()
            process.wait(60)


def _answers(port: int) -> bool:
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=180)
    except OSError:
        return False
    # frozenbert listens before it has loaded the model, and answers afterwards.
    with connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return bool(connection.recv(1))


def _load(
    port: int, texts: Sequence[str | list[str]], n_clients: int, server: subprocess.Popen
) -> dict[str, Any]:
    """Ask for texts, or for lists of them."""
    asked = [{"texts": [text] if isinstance(text, str) else text} for text in texts]
    done = subprocess.run(
        [sys.executable, str(HERE / "clients.py"), str(port), str(n_clients)],
        input="\n".join(map(json.dumps, asked)) + "\n",
        env={**os.environ, "SERVER": str(server.pid)},
        capture_output=True,
        text=True,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    if set(measured["statuses"]) != {200}:
        raise ServerError(f"it answered {set(measured['statuses'])}")
    return measured


def _soak(model: Path, n_requests: int, n_clients: int) -> dict[str, Any]:
    """Return the resident memory after each 5,000 requests of texts of many lengths."""
    words, _ = make_texts("reviews", 500)
    drawn = np.random.default_rng(0)
    resident = {}
    with _server("service", model, "") as (port, process):
        for n in range(SOAK_FIRST, n_requests + 1, SOAK_FIRST):
            # Texts of many lengths, most of them short.
            lengths = 1 + np.minimum(drawn.exponential(25, SOAK_FIRST), 250).astype(int)
            starts = drawn.integers(0, len(words), SOAK_FIRST)
            pairs = zip(starts.tolist(), lengths.tolist(), strict=True)
            _load(port, [" ".join(words[i].split()[:k]) for i, k in pairs], n_clients, process)
            resident[n] = _resident_mb(process)
            print(f"  {n:,} requests: {resident[n]:.0f} MB", file=sys.stderr, flush=True)
    return resident


def _resident_mb(process: subprocess.Popen) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _quantiles(seconds: list[float]) -> dict[str, float]:
    p50, p99 = (1000 * np.quantile(seconds, [0.5, 0.99])).tolist()
    return {"p50_ms": p50, "p99_ms": p99}


def _said(row: dict[str, Any]) -> str:
    if "left_out" in row:
        return f"left out: {row['left_out']}"
    keys = ("p50_ms", "p99_ms", "texts_a_second", "server_ms", "client_ms", "together_a_second")
    return ", ".join(f"{key} {row[key]:.3g}" for key in keys if key in row)


def to_markdown(report: dict[str, Any]) -> str:
    """Return the table: medians over the rounds."""
    lines = [
        real.measured(report),
        "",
        f"| model | way | one text: p50 | p99 | {report['n_clients']} clients: texts/s | of Python "
        "| of what serving leaves | p50 | p99 | CPU of the server per request "
        "| 1,000 texts in a request: texts/s |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for case in dict.fromkeys(row["case"] for row in report["rows"]):
        of = {way: _medians(report, case, way) for way in WAYS}
        offline = of["in Python"].get("texts_a_second")
        stub = of["service without encoder"].get("server_ms")
        for way, row in of.items():
            if not row:
                continue
            rate = row.get("texts_a_second")
            cells = [_cell(row, "p50_ms", "{:.2f} ms"), _cell(row, "p99_ms", "{:.2f} ms")]
            cells += [_cell(row, "texts_a_second", "{:,.0f}")]
            cells += [f"{rate / offline:.2f}" if offline and rate else ""]
            left = None
            if offline and stub and way == "service":
                # Serving takes CPU time of the cores that compute the vectors.
                left = 1 / (1 / offline + stub / 1000 / report["machine"]["cores"])
            cells += [f"{rate / left:.2f}" if left and rate else ""]
            cells += [_cell(row, f"loaded_{key}", "{:.0f} ms") for key in ("p50_ms", "p99_ms")]
            cells += [_cell(row, "server_ms", "{:.2f} ms")]
            cells += [_cell(row, "together_a_second", "{:,.0f}")]
            lines.append(f"| {case} | {way} | " + " | ".join(cells) + " |")
    if "soak" in report:
        lines += ["", "| requests | resident memory |", "|--:|--:|"]
        lines += [f"| {int(n):,} | {mb:,.0f} MB |" for n, mb in report["soak"].items()]
    return "\n".join(lines)


def _medians(report: dict[str, Any], case: str, way: str) -> dict[str, float]:
    rows = [row for row in report["rows"] if (row["case"], row["way"]) == (case, way)]
    rows = [row for row in rows if "left_out" not in row]
    keys = [key for key, value in rows[0].items() if isinstance(value, float)] if rows else []
    return {key: float(np.median([row[key] for row in rows])) for key in keys}


def _cell(row: dict[str, float], key: str, form: str) -> str:
    return form.format(row[key]) if key in row else ""


if __name__ == "__main__":
    sys.exit(main())
