"""The rate of bare matrix products in the shapes of the encoders: the limit of their speed.

    python benchmarks/limit.py [--encoders distilbert,minilm] [--rows 512] [--rounds 5]

The products of one layer (four square ones, one that widens fourfold, one back), each of the output
of the one before, with nothing between them but the rounding to int8 where that is measured: in
torch, and as an OpenVINO graph in one stream of all cores and in one stream per core. The way that
is fastest is the limit. From it follow the texts per second that no encoder with these products can
exceed.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from inputs import ENCODERS, TEXTS, count_tokens, make_encoder, make_texts, several
from report import machine, write_figures
from worker import versions

from frozenbert.cli.arguments import Parser, positive

HERE = Path(__file__).resolve().parent
PRECISIONS = ("float32", "bfloat16", "int8")
SQUARE, WIDENED = 4, 4  # square products in a layer; how much wider its feed-forward part is
REPEATS = 6  # layers in a row, so that a call's own costs do not count


@dataclass(frozen=True)
class Shape:
    """What an encoder multiplies."""

    width: int
    layers: int

    @property
    def widths(self) -> list[int]:
        """Widths before, between and after the products of a layer."""
        return [self.width] * (SQUARE + 1) + [WIDENED * self.width, self.width]

    def flop(self, lengths: Sequence[int], pooling: str) -> float:
        """Return the operations that texts of these lengths (in tokens) need.

        With pooling "cls", the last layer needs only keys and values of the other positions.
        """
        square = 2 * self.width**2
        layer = square * (SQUARE + 2 * WIDENED)
        total = 0.0
        for length in lengths:
            attention = 4 * length**2 * self.width
            total += self.layers * (length * layer + attention)
            if pooling == "cls":
                total -= (length - 1) * (layer - 2 * square) + attention * (1 - 1 / length)
        return total


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; return the exit code."""
    parser = Parser(prog="limit.py", description="The rate of bare matrix products.")
    parser.add_argument("--encoders", type=several, default=list(ENCODERS))
    parser.add_argument("--rows", type=positive, default=512, help="tokens per product")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--sentences", type=positive, default=600)
    parser.add_argument("--reviews", type=positive, default=200)
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args(arguments)
    started = datetime.now(UTC)
    report: dict[str, Any] = {
        "date": started.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "rows": options.rows,
        "rounds": options.rounds,
        "encoders": [],
    }
    with tempfile.TemporaryDirectory(prefix="frozenbert-bench-") as work:
        for name in options.encoders:
            encoder = make_encoder(name, Path(work))
            config = json.loads((encoder.folder / "config.json").read_text(encoding="utf-8"))
            shape = Shape(
                config.get("hidden_size") or config["dim"],
                config.get("num_hidden_layers") or config["n_layers"],
            )
            rates = measure(shape, options.rows, options.rounds)
            gflop = {}
            for kind in TEXTS:
                texts, _ = make_texts(kind, getattr(options, kind))
                lengths = count_tokens(texts, encoder)
                gflop[kind] = shape.flop(lengths, encoder.pooling) / len(texts) / 1e9
            report["encoders"].append(
                {"encoder": name, "width": shape.width, "gflop_per_text": gflop, "rates": rates}
            )
    path = options.out / started.strftime("limit-%Y-%m-%d-%H%M%S.json")
    write_figures(report, path)
    print(to_markdown(report))
    print(f"\nWritten: {path}")
    return 0


def measure(shape: Shape, rows: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return the rates in GFLOP/s, by precision and way: medians of rounds in turn."""
    ways: dict[tuple[str, str], Callable[[], int]] = {}
    for precision in PRECISIONS:
        if precision != "int8":
            ways[precision, "torch"] = _in_torch(shape, rows, precision)
        ways[precision, "OpenVINO, one stream"] = _in_openvino(shape, rows, precision, 1)
        ways[precision, "OpenVINO, a stream per core"] = _in_openvino(
            shape, rows, precision, machine()["cores"]
        )
    widths = shape.widths
    flop = REPEATS * sum(2 * rows * a * b for a, b in itertools.pairwise(widths))
    rates: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for run in ways.values():
        run()
    for _ in range(rounds):
        for way, run in ways.items():
            start = time.perf_counter()
            done = sum(run() for _ in range(3))
            rates[way].append(done * flop / (time.perf_counter() - start) / 1e9)
    found: dict[str, dict[str, float]] = {precision: {} for precision in PRECISIONS}
    for (precision, way), values in rates.items():
        found[precision][way] = statistics.median(values)
        print(f"  {shape.width}, {precision}, {way}: {found[precision][way]:,.0f} GFLOP/s",
              file=sys.stderr)  # fmt: skip
    return found


def _weights(shape: Shape) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    widths = shape.widths * REPEATS
    return [
        random.normal(scale=a**-0.5, size=(a, b)).astype(np.float32)
        for start in range(0, len(widths), len(shape.widths))
        for a, b in zip(widths[start:], widths[start + 1 : start + len(shape.widths)], strict=False)
    ]


def _in_torch(shape: Shape, rows: int, precision: str) -> Callable[[], int]:
    import torch

    dtype = getattr(torch, precision)
    weights = [torch.from_numpy(weight).to(dtype) for weight in _weights(shape)]
    first = torch.randn(rows, shape.width, dtype=dtype)

    def run() -> int:
        with torch.inference_mode():
            states = first
            for weight in weights:
                states = torch.mm(states, weight)
        return 1

    return run


def _in_openvino(shape: Shape, rows: int, precision: str, streams: int) -> Callable[[], int]:
    """Return a function that runs the products once per stream, and how often that is."""
    import openvino as ov
    from openvino import opset13 as ops

    def rounded(node: Any, levels: int) -> Any:
        low, high = (np.float32(bound) for bound in (-4, 4))
        return ops.fake_quantize(node, low, high, low, high, levels)

    first = states = ops.parameter([rows, shape.width], np.float32)
    for weight in _weights(shape):
        constant = ops.constant(weight)
        if precision == "int8":
            largest = np.abs(weight).max(axis=0, keepdims=True)
            constant = ops.fake_quantize(constant, -largest, largest, -largest, largest, 255)
            states = rounded(states, 256)
        states = ops.matmul(states, constant, False, False)
    model = ov.Model([ops.reduce_mean(states, np.array([1]))], [first])
    settings = {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": machine()["cores"],
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }
    compiled = ov.Core().compile_model(model, "CPU", settings)
    requests = [compiled.create_infer_request() for _ in range(streams)]
    batch = np.random.default_rng(1).normal(size=(rows, shape.width)).astype(np.float32)

    def run() -> int:
        for request in requests:
            request.start_async([batch])
        for request in requests:
            request.wait()
        return len(requests)

    return run


def to_markdown(report: dict[str, Any]) -> str:
    """Return the table: rates, and the texts per second that they allow."""
    m = report["machine"]
    lines = [
        f"Measured {report['date']}, {report['rounds']} rounds in turn, medians; {m['cpu']}, "
        f"{m['cores']} cores; {' '.join(m['instructions'])}.",
        "",
        "| encoder | precision | fastest way | GFLOP/s | "
        + " | ".join(f"{kind}: at most texts/s" for kind in TEXTS)
        + " |",
        "|---|---|---|--:|" + "--:|" * len(TEXTS),
    ]
    for found in report["encoders"]:
        for precision, rates in found["rates"].items():
            way = max(rates, key=lambda name: rates[name])
            limits = (f"{rates[way] / found['gflop_per_text'][kind]:,.0f}" for kind in TEXTS)
            cells = [found["encoder"], precision, way, f"{rates[way]:,.0f}", *limits]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
