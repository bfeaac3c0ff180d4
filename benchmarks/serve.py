"""The service under load, compared with a server that runs one forward pass per request.

    python benchmarks/serve.py [--requests 500] [--clients 50] [--rounds 3]

One model (the packaged encoder, mean pooling, trained on SST-2's first 2,000 rows in
$FROZENBERT_TEXTS), one sentence of dev.tsv per request, all clients at once on loopback. Each
round starts a new process for each server, in turn; the clients run in a separate process.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import real
from report import write_figures

from frozenbert import make_text_classifier, save_model
from frozenbert.cli.arguments import Parser, positive
from frozenbert.encoders.sources import PACKAGED_ENCODER

HERE = Path(__file__).resolve().parent
NAIVE = "one request, one forward pass"
WAYS = {
    "frozenbert serve": ["frozenbert", "serve", "--model", "{model}", "--port", "{port}"],
    f"{NAIVE}, in FastAPI's threads": [
        "{here}/naive_server.py", "{model}/model.joblib", "{port}", "threads",
    ],
    f"{NAIVE}, one at a time": [
        "{here}/naive_server.py", "{model}/model.joblib", "{port}", "loop",
    ],
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; return the exit code."""
    parser = Parser(prog="serve.py", description="The service under load.")
    parser.add_argument("--requests", type=positive, default=500)
    parser.add_argument("--clients", type=positive, default=50)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args(arguments)
    folder = real.texts_folder("serve.py")
    facts = {"n_requests": options.requests, "n_clients": options.clients}
    report, path = real.new_report("serve", options.out, model=PACKAGED_ENCODER, **facts)
    texts, y = real.sst2(folder, "train", 2000)
    dev, _ = real.sst2(folder, "dev")
    asked = [dev[i % len(dev)] for i in range(options.requests)]
    with tempfile.TemporaryDirectory() as scratch:
        model = make_text_classifier(PACKAGED_ENCODER, progress=False).fit(texts, y)
        save_model(model, Path(scratch) / "model.joblib")
        expected = model.predict_proba(asked)
        for number in range(options.rounds):
            for way, command in WAYS.items():
                with _server(command, scratch) as port:
                    row = _load(port, asked, options.clients, expected)
                report["rows"].append({"way": way, "round": number, **row})
                rate = row["texts_a_second"]
                print(f"  {number}, {way}: {rate:.0f} texts/s", file=sys.stderr, flush=True)
                write_figures(report, path)
    print(to_markdown(report))
    print(f"\nWritten: {path}")
    return 0


@contextlib.contextmanager
def _server(command: Sequence[str], model: str) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [word.format(here=HERE, model=model, port=port) for word in command]
    if words[0].endswith(".py"):
        words = [sys.executable, *words]
    else:
        words[0] = str(Path(sys.executable).with_name(words[0]))
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                _ask(http.client.HTTPConnection("127.0.0.1", port, timeout=60), "ready?")
                break
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{words} did not start")
            time.sleep(0.2)
        yield port
    finally:
        server.terminate()
        server.wait(60)


def _ask(connection: http.client.HTTPConnection, text: str) -> list[float]:
    body = json.dumps({"texts": [text]})
    connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = json.loads(response.read())
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {content}")
    return content["probabilities"][0]


def _load(port: int, texts: Sequence[str], n_clients: int, expected: np.ndarray) -> dict[str, Any]:
    """Ask for all texts, and check the answers."""
    seconds = np.zeros(len(texts))
    probabilities = np.zeros_like(expected)

    def client(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        for i in range(first, len(texts), n_clients):
            begun = time.perf_counter()
            probabilities[i] = _ask(connection, texts[i])
            seconds[i] = time.perf_counter() - begun
        connection.close()

    begun = time.perf_counter()
    with ThreadPoolExecutor(n_clients) as pool:
        list(pool.map(client, range(n_clients)))
    whole = time.perf_counter() - begun
    p50, p95, p99 = (1000 * np.quantile(seconds, [0.5, 0.95, 0.99])).tolist()
    return {
        "texts_a_second": len(texts) / whole,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "largest_difference": float(np.abs(probabilities - expected).max()),
    }


def to_markdown(report: dict[str, Any]) -> str:
    """Return the table: medians over the rounds."""
    lines = [
        f"{real.measured(report)} {report['n_requests']:,} requests of "
        f"{report['n_clients']} clients.",
        "",
        "| | texts/s | p50 | p95 | p99 | largest difference of a probability |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for way in WAYS:
        rows = [row for row in report["rows"] if row["way"] == way]
        if rows:
            mid = {
                key: float(np.median([row[key] for row in rows]))
                for key in ("texts_a_second", "p50_ms", "p95_ms", "p99_ms")
            }
            largest = max(row["largest_difference"] for row in rows)
            lines.append(
                f"| {way} | {mid['texts_a_second']:.0f} | {mid['p50_ms']:.0f} ms | "
                f"{mid['p95_ms']:.0f} ms | {mid['p99_ms']:.0f} ms | {largest:.0e} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
