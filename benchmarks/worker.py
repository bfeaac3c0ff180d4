"""Run one library in a process of its own, for `bench.py`.

The first line on stdin is the job, as JSON. Each further line requests one timed run; it contains
the path for the vectors (a `.npy`), or nothing. Each line is answered by one line of JSON.
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
    "openvino",
    "skrub",
    "embetter",
    "fastembed",
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
        export(request["export"])
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
        forget_peak()
        start = time.perf_counter()
        vectors = encode(texts)
        seconds = time.perf_counter() - start
        peak = memory_mb("VmHWM")
        if line.strip():
            np.save(line.strip(), vectors)
        result_mb = vectors.nbytes / 1e6
        del vectors
        gc.collect()
        answer(seconds=seconds, peak_mb=peak, result_mb=result_mb)


def export(folder: str) -> None:
    """Export the graphs of sentence-transformers' ONNX backend, float32 and int8."""
    from sentence_transformers import SentenceTransformer, export_dynamic_quantized_onnx_model

    model = SentenceTransformer(
        folder,
        device="cpu",
        backend="onnx",
        model_kwargs={"export": True, "provider": "CPUExecutionProvider"},
    )
    target = ways.exported(folder)
    model.save_pretrained(target)
    export_dynamic_quantized_onnx_model(model, "avx512_vnni", target)


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
