"""Compile an encoder's OpenVINO graph and run it; this needs no torch."""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..batching import of_one_length

if TYPE_CHECKING:
    from types import ModuleType

    from openvino import InferRequest, Model

__all__ = ["Graph", "fork_guard", "import_openvino"]

HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


class Graph:
    """Compiled graph of an encoder and its pooling.

    Parameters
    ----------
    model : openvino.Model
        Graph from token ids of shape (n_rows, n_tokens) to vectors. `PADDING` may fill the
        ends of its rows.
    precision : {"float32", "bfloat16", "int8"}
    n_streams : int
        Number of batches that can be computed in parallel, with one thread each.
    """

    def __init__(self, model: Model, precision: str, n_streams: int) -> None:
        compiled = (
            import_openvino()
            .Core()
            .compile_model(
                model,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": HINTS[precision],
                    "NUM_STREAMS": n_streams,
                    "INFERENCE_NUM_THREADS": n_streams,
                    # Pinning puts two processes on the same cores.
                    "ENABLE_CPU_PINNING": False,
                    # Number of shapes whose kernels are cached. The default of 5,000 takes
                    # hundreds of MB with texts of many lengths and is not faster.
                    "CPU_RUNTIME_CACHE_CAPACITY": 500,
                },
            )
        )
        self._requests: queue.SimpleQueue[InferRequest] = queue.SimpleQueue()
        for _ in range(n_streams):
            self._requests.put(compiled.create_infer_request())

    def encode(self, ids: Sequence[np.ndarray]) -> np.ndarray:
        """Compute the vectors of one batch; several threads may call it at once.

        Parameters
        ----------
        ids : sequence of numpy.ndarray, each of shape (n_tokens,)

        Returns
        -------
        numpy.ndarray of float32, shape (len(ids), n_features)
        """
        request = self._requests.get()
        try:
            # A copy, because the next run writes to the same memory.
            runs = [np.array(request.infer([group])[0]) for group in of_one_length(ids)]
            return np.concatenate(runs)
        finally:
            self._requests.put(request)


class ForkGuard:
    """Whether this process was forked after OpenVINO had run; its threads do not survive that."""

    def __init__(self) -> None:
        self.in_use = False
        self.forked = False
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self.forked = self.forked or self.in_use


fork_guard = ForkGuard()


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which reports the import to Intel."""
    name, first = "openvino_telemetry", "openvino" not in sys.modules
    telemetry = sys.modules.get(name)
    if first:
        sys.modules[name] = None  # type: ignore[assignment]  # OpenVINO then uses its own stub
    try:
        import openvino
    finally:
        if first:
            del sys.modules[name]
            if telemetry is not None:
                sys.modules[name] = telemetry
    return openvino
