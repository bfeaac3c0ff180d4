"""Compile an encoder's OpenVINO graph and run it; this needs no torch."""

from __future__ import annotations

import functools
import os
import queue
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..batching import of_one_length

if TYPE_CHECKING:
    from types import ModuleType

    from openvino import InferRequest, Model

__all__ = ["Graph", "fork_guard", "import_openvino", "int8_rest"]

# The precision of what is not quantized, in OpenVINO's words; None depends on the CPU.
HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": None}


class Graph:
    """Compiled graph of an encoder and its pooling.

    It is compiled for parallel batches of one thread each when the first of them comes, and for
    one text with all threads when the first single text comes.

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
        self._model, self._precision, self._n_threads = model, precision, n_streams
        self._streams: queue.SimpleQueue[InferRequest] | None = None
        self._single: queue.SimpleQueue[InferRequest] | None = None
        self._compiling = threading.Lock()

    def _compile(self, model: Model, n_streams: int) -> queue.SimpleQueue[InferRequest]:
        """Compile a graph, and return a request for each stream."""
        core = import_openvino().Core()
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[self._precision] or int8_rest(),
            "NUM_STREAMS": n_streams,
            "INFERENCE_NUM_THREADS": self._n_threads,
            # Pinning puts two processes on the same cores.
            "ENABLE_CPU_PINNING": False,
            # Number of shapes whose kernels are cached. The default of 5,000 takes
            # hundreds of MB with texts of many lengths and is not faster.
            "CPU_RUNTIME_CACHE_CAPACITY": 500,
        }
        compiled = core.compile_model(model, "CPU", settings)
        requests: queue.SimpleQueue[InferRequest] = queue.SimpleQueue()
        for _ in range(n_streams):
            requests.put(compiled.create_infer_request())
        return requests

    def encode(self, ids: Sequence[np.ndarray]) -> np.ndarray:
        """Compute the vectors of one batch; several threads may call it at once.

        Parameters
        ----------
        ids : sequence of numpy.ndarray, each of shape (n_tokens,)

        Returns
        -------
        numpy.ndarray of float32, shape (len(ids), n_features)
        """
        if self._streams is None:
            with self._compiling:
                if self._streams is None:
                    self._streams = self._compile(self._model, self._n_threads)
        return _run(self._streams, self._streams.get(), of_one_length(ids))

    def encode_single(self, ids: Sequence[np.ndarray]) -> np.ndarray:
        """Compute what `encode` computes, one piece at a time with all threads.

        Of several threads that call it at once, one gets all threads and the others one each.
        """
        if self._n_threads == 1:
            return self.encode(ids)
        if self._single is None:
            with self._compiling:
                if self._single is None:
                    # OpenVINO computes faster if it knows that there is one row.
                    one_row = self._model.clone()
                    one_row.reshape([1, -1])
                    self._single = self._compile(one_row, 1)
        try:
            request = self._single.get_nowait()
        except queue.Empty:
            return self.encode(ids)
        return _run(self._single, request, [piece[None].astype(np.int64) for piece in ids])


def _run(
    requests: queue.SimpleQueue[InferRequest], request: InferRequest, groups: Sequence[np.ndarray]
) -> np.ndarray:
    """Compute the vectors of each group's rows, and put the request back to the others."""
    try:
        # A copy, because the next run writes to the same memory.
        runs = [np.array(request.infer([group], share_inputs=True)[0]) for group in groups]
        return np.concatenate(runs) if len(runs) > 1 else runs[0]
    finally:
        requests.put(request)


@functools.lru_cache(maxsize=1)
def int8_rest() -> str:
    """Return the precision of what int8 leaves unquantized on this CPU, "bf16" or "f32".

    Attention and the normalizations are a third of the time in int8. They are computed in
    bfloat16 on CPUs that have it. This is part of a vector's cache key.

    Raises
    ------
    ImportError
        If OpenVINO is not installed.
    """
    capabilities = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in capabilities else "f32"


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
