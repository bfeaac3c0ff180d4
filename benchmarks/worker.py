"""Run one library in a process of its own, for `bench.py`.

Each line on stdin and each answer is one line of JSON. The first line is the job. Each further line
requests one measurement: `{"measure": "throughput", "vectors": FILE}`, where the file (a `.npy`) or
null receives the vectors, or `{"measure": "one-text", "calls": N}`.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import exports
import numpy as np
import ways

WARM_UP = 8
PACKAGES = (
    "frozenbert",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scikit-learn",
    "sentence-transformers",
    "optimum-onnx",
    "onnxruntime",
    "optimum-intel",
    "nncf",
    "openvino",
    "skrub",
    "embetter",
    "fastembed",
    "setfit",
    "fasttext-numpy2-wheel",
    "scipy",
)


def main() -> None:
    """Answer the lines on stdin until its end."""
    # Libraries print to stdout, so answers go to the caller on a stream of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(**content: Any) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    request = json.loads(sys.stdin.readline())
    if "export" in request:
        exports.export(**request["export"])
        answer(exported=True)
        return
    texts = json.loads(Path(request["texts"]).read_text(encoding="utf-8"))
    way = ways.PLAIN if request["way"] == "plain" else ways.WAYS[request["way"]]
    job = ways.Job(request["folder"], request["pooling"], request["max_length"], texts)
    start = time.perf_counter()
    encode = way.load(job, **way.parameters)
    encode(texts[:WARM_UP])
    seconds = time.perf_counter() - start
    gc.collect()
    resident = memory_mb("VmRSS")
    answer(load_seconds=seconds, resident_mb=resident, versions=versions())
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["measure"] == "one-text":
            answer(**time_one_text(encode, texts, asked["calls"]))
        else:
            answer(**time_all(encode, texts, asked["vectors"]))


def time_all(encode: ways.Encode, texts: list[str], target: str | None) -> dict[str, Any]:
    """Encode all texts once; return the seconds and the memory, and save the vectors."""
    forget_peak()
    start = time.perf_counter()
    vectors = encode(texts)
    seconds = time.perf_counter() - start
    peak = memory_mb("VmHWM")
    if target:
        np.save(target, vectors)
    result_mb = vectors.nbytes / 1e6
    del vectors
    gc.collect()
    return {"seconds": seconds, "peak_mb": peak, "result_mb": result_mb}


def time_one_text(encode: ways.Encode, texts: list[str], calls: int) -> dict[str, Any]:
    """Encode texts one a call, each once before; return the calls' median and p99."""
    asked = [texts[i % len(texts)] for i in range(calls)]
    for text in asked:
        encode([text])
    seconds = []
    for text in asked:
        start = time.perf_counter()
        encode([text])
        seconds.append(time.perf_counter() - start)
    median, p99 = 1000 * np.quantile(seconds, [0.5, 0.99])
    return {"median_ms": float(median), "p99_ms": float(p99)}


def versions() -> dict[str, str]:
    """Return the versions of the installed packages among `PACKAGES`."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def memory_mb(what: str) -> float | None:
    """Return this process's resident memory in MB: now (`VmRSS`) or at its peak (`VmHWM`)."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None  # not Linux
    (line,) = (line for line in status.splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024 / 1e6


def forget_peak() -> None:
    """Reset the peak to what is resident now."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return  # the peak then includes loading


if __name__ == "__main__":
    main()
