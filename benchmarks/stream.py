"""How the work grows with the number of texts: time, memory, look-up, from 1,000 to 1,000,000.

    make bench-stream
    python benchmarks/stream.py --rows 1000,10000 --out results

Each number of rows is a process of its own: a csv of distinct texts goes through the command's own
code to a `.npy` and a `.parquet`, with an empty cache and then with a full one. The encoder is a
stand-in that costs next to nothing (the tokenizer is real), so that what is measured is all the
rest. Memory is the peak above that of the process with the encoder loaded and one text encoded.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from report import machine, write_figures
from worker import forget_peak, memory_mb, versions

from frozenbert import DistilBertVectorizer
from frozenbert.bulk.stream import embed_table, validate
from frozenbert.cli.arguments import Parser
from frozenbert.encoders.encoder import Encoder
from frozenbert.encoders.sources import PACKAGED_ENCODER
from frozenbert.vectors.cache import VectorCache
from frozenbert.vectors.results import Results, text_keys

HERE = Path(__file__).resolve().parent
WORDS = [
    "a",
    "an",
    "the",
    "this",
    "that",
    "film",
    "movie",
    "plot",
    "actor",
    "scene",
    "story",
    "is",
    "was",
    "seems",
    "not",
    "very",
    "quite",
    "so",
    "and",
    "but",
    "or",
    "of",
    "in",
    "to",
    "with",
    "for",
    "good",
    "great",
    "fine",
    "warm",
    "funny",
    "bad",
    "dull",
    "poor",
    "slow",
    "cold",
    "boring",
    "hollow",
    "long",
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all numbers of rows; return the exit code."""
    parser = Parser(prog="stream.py", description="How the work grows with the number of texts.")
    parser.add_argument(
        "--rows",
        type=lambda value: [int(n) for n in value.split(",")],
        default=[1_000, 10_000, 100_000, 1_000_000],
        metavar="NUMBERS",
        help="default: 1000,10000,100000,1000000",
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    parser.add_argument("--work", type=Path, help="where the files go meanwhile (4 GB at 10^6)")
    parser.add_argument("--one", type=int, help="run this number of rows here, print JSON")
    options = parser.parse_args(arguments)
    if options.one is not None:
        print(json.dumps(measure(options.one, options.work)))
        return 0
    results = []
    for n in options.rows:
        with tempfile.TemporaryDirectory(dir=options.work) as work:
            one = [sys.executable, __file__, "--one", str(n), "--work", work]
            done = subprocess.run(one, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout))
        print(f"  {results[-1]}", file=sys.stderr)
    started = datetime.now(UTC)
    report = {
        "date": started.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "results": results,
    }
    path = write_figures(report, options.out / started.strftime("stream-%Y-%m-%d-%H%M%S.json"))
    print(to_markdown(report))
    print(f"\nWritten: {path}")
    return 0


def measure(n: int, work: Path) -> dict[str, Any]:
    """Embed `n` rows, cold and warm, and look them up."""
    data = work / "texts.csv"
    chance = np.random.default_rng(0)
    with open(data, "w", encoding="utf-8") as file:
        file.write("row,text\n")
        for i in range(n):
            words = chance.choice(WORDS, size=chance.integers(5, 30))
            file.write(f"{i},{i} {' '.join(words)}\n")
    stand_in()
    embed = DistilBertVectorizer(
        PACKAGED_ENCODER, cache_dir=work / "cache", progress=False, local_files_only=True
    ).fit([""])
    embed.transform(["one"])
    forget_peak()
    resident = memory_mb("VmRSS")
    result: dict[str, Any] = {"rows": n}
    ways = {"npy, cold": "a.npy", "npy, warm": "b.npy", "parquet, warm": "c.parquet"}
    for name, out in ways.items():
        forget_peak()
        start = time.perf_counter()
        source = validate(data, text_column="text", for_parquet=out.endswith("parquet"))
        looked = time.perf_counter()
        embed_table(embed, source, work / out, {})
        result[name] = {
            "look_through_us": 1e6 * (looked - start) / n,
            "embed_us": 1e6 * (time.perf_counter() - looked) / n,
            "peak_mb": memory_mb("VmHWM") - resident,
        }
    a, b = (np.load(work / f"{name}.npy", mmap_mode="r") for name in "ab")
    for start_row in range(0, n, 50_000):
        rows = slice(start_row, start_row + 50_000)
        assert (a[rows] == b[rows]).all()
    result["look_up_s"] = look_up(embed, data, min(n, 100_000))
    result["pairs"] = len([*(work / "cache").rglob("*.keys.npy")])
    return result


def look_up(embed: Any, data: Path, n: int) -> float:
    """Return the seconds from `n` texts to their vectors, in the full cache."""
    with open(data, encoding="utf-8") as file:
        next(file)
        texts = [next(file).rstrip("\n").partition(",")[2] for _ in range(n)]
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        results = Results(text_keys(texts), embed.n_features_out_)
        VectorCache(embed.cache_dir, embed._settings()).read(results)
        seconds.append(time.perf_counter() - start)
        assert not results.missing.any()
    return float(np.median(seconds))


def stand_in() -> None:
    """Put numbers that only depend on the text in the place of the forward pass."""

    def encode(self: Encoder, ids: Any, *settings: Any) -> np.ndarray:
        first = np.array([row[1] * 31 + row[-2] for row in ids], dtype=np.float32)
        return np.outer(first, np.linspace(0, 1, self.model.config.hidden_size, dtype=np.float32))

    Encoder.encode = encode  # type: ignore[method-assign]


def to_markdown(report: dict[str, Any]) -> str:
    """Return the table."""
    lines = [
        f"Measured {report['date']}; {report['machine']['cpu']}, {report['machine']['cores']} "
        f"cores; a stand-in for the encoder, 384 features.",
        "",
        "| rows | look through, µs a text | embed, µs a text | from the cache, µs | to parquet, µs "
        "| peak above the encoder, MB | look up 100,000 (or all), s | pairs of files |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for r in report["results"]:
        cold, warm, parquet = r["npy, cold"], r["npy, warm"], r["parquet, warm"]
        peak = max(cold["peak_mb"], warm["peak_mb"], parquet["peak_mb"])
        lines.append(
            f"| {r['rows']:,} | {cold['look_through_us']:.1f} | {cold['embed_us']:.0f} "
            f"| {warm['embed_us']:.0f} | {parquet['embed_us']:.0f} | {peak:.0f} "
            f"| {r['look_up_s']:.2f} | {r['pairs']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
