"""Encoders as OpenVINO graphs: exported once, kept on disk, run in streams.

One folder under the cache's `exports/` holds the graph of one encoder under one setting:
`graph.xml` and `graph.bin` as OpenVINO writes them, and `graph.json`, written last, with
their hashes and the versions that they were made with. Where anything of that does not fit,
the graph is made anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import queue
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..utils.console import first_line
from ..utils.files import make_private_folder, note_use, sha256_of_file, writing
from .batching import of_one_length
from .encoder import Encoder
from .quantization import SAMPLE, quantize, scheme
from .sources import FAMILIES_WITH_POSITION_OFFSET, quiet_transformers

__all__ = ["Graph", "import_openvino", "load_graph"]

HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
TOLERANCE = 1e-5  # of the float32 graph, against torch
LEAST_COSINE = 0.95  # of a reduced precision on the sample, on average, before it warns
NAMES = ("graph.xml", "graph.bin")
VERSIONED = ("openvino", "torch", "transformers")
# One of these, as torch names them, makes the precision faster than float32.
INSTRUCTIONS = {
    "bfloat16": ("amx_bf16", "avx512_bf16", "bf16", "arm_bf16"),
    "int8": ("amx_int8", "avx512_vnni", "avx_vnni", "dotprod", "arm_dotprod", "i8mm"),
}


class Graph:
    """An encoder with its pooling as a compiled graph.

    Parameters
    ----------
    model : openvino.Model
        From token ids (rows, tokens), all rows of one length, to vectors.
    precision : {"float32", "bfloat16", "int8"}
    n_streams : int
        How many batches may be computed side by side, each with one thread.
    """

    def __init__(self, model: Any, precision: str, n_streams: int) -> None:
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
                    # Two processes would be pinned to the same cores.
                    "ENABLE_CPU_PINNING": False,
                    # What is kept of shapes met before; by default ten times as much, which
                    # takes hundreds of MB with texts of many lengths and is no faster.
                    "CPU_RUNTIME_CACHE_CAPACITY": 500,
                },
            )
        )
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(n_streams):
            self._requests.put(compiled.create_infer_request())

    def encode(self, ids: Sequence[np.ndarray]) -> np.ndarray:
        """Turn one batch of token ids into vectors.

        May be called from several threads at once.

        Parameters
        ----------
        ids : sequence of numpy.ndarray, each of shape (n_tokens,)

        Returns
        -------
        numpy.ndarray of float32, shape (len(ids), n_features)
        """
        request = self._requests.get()
        try:
            # Copied: the next run writes to the same memory.
            runs = [np.array(request.infer([group])[0]) for group in of_one_length(ids)]
            return np.concatenate(runs)
        finally:
            self._requests.put(request)


def load_graph(
    encoder: Encoder,
    content_hash: str,
    pooling: tuple[str, ...],
    layers: tuple[int, ...],
    precision: str,
    root: Path | None,
    n_streams: int,
) -> Graph:
    """Load an encoder's graph, made if it is not there; the last two stay loaded.

    Parameters
    ----------
    encoder : Encoder
        On the CPU.
    content_hash : str
        What the encoder is known by on disk.
    pooling, layers
        As for `Encoder.encode`.
    precision : {"float32", "bfloat16", "int8"}
    root : pathlib.Path or None
        The cache's folder; None keeps nothing on disk.
    n_streams : int
        As for `Graph`.

    Raises
    ------
    InputError
        If OpenVINO is not installed, cannot do this encoder, or was used before a fork.
    """
    if _forked:
        raise InputError(
            f"precision={precision!r}: this process was forked from one that had computed with "
            f"OpenVINO, which would hang here. Start processes by 'spawn' or 'forkserver' (joblib "
            f"does without fork), or use backend='torch' with precision='float32'."
        )
    with _loading:
        return _load_once(encoder, content_hash, pooling, layers, precision, root, n_streams)


_loading = threading.Lock()  # or two threads would both export
_forked: list[bool] = []


def _note_fork() -> None:
    if _load_once.cache_info().currsize:
        _forked.append(True)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_note_fork)


@functools.lru_cache(maxsize=2)
def _load_once(
    encoder: Encoder,
    content_hash: str,
    pooling: tuple[str, ...],
    layers: tuple[int, ...],
    precision: str,
    root: Path | None,
    n_streams: int,
) -> Graph:
    try:
        import_openvino()
    except ImportError as error:
        raise InputError(
            f"precision={precision!r} on the CPU, or backend='openvino', needs OpenVINO: "
            f'pip install "frozenbert[openvino]".'
        ) from error
    _say_if_slow(precision)
    settings: dict[str, Any] = {"encoder": content_hash, "pooling": pooling, "layers": layers}
    # OpenVINO makes bfloat16 of the float32 graph when it compiles it.
    settings["precision"] = "int8" if precision == "int8" else "float32"
    if precision == "int8":
        settings["quantization"] = scheme()
    folder = None
    if root is not None:
        name = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
        folder = root / "exports" / name.hexdigest()
    model = None if folder is None else _read(folder)
    if model is not None:
        return Graph(model, precision, n_streams)
    model = _export(encoder, pooling, layers)
    exact = Graph(model.clone(), "float32", 1)
    if precision == "int8":
        model = quantize(model, [ids[None] for ids in _sample(encoder)])
    if folder is not None and root is not None:
        _keep(model, folder, root, settings)
    graph = Graph(model, precision, n_streams)
    _warn_if_far(graph, exact, encoder, precision)
    return graph


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would tell its maker of the import itself."""
    name, absent = "openvino_telemetry", "openvino" not in sys.modules
    kept = sys.modules.get(name)
    if absent:
        sys.modules[name] = None  # type: ignore[assignment]  # OpenVINO then takes its own stub
    try:
        import openvino
    finally:
        if absent:
            del sys.modules[name]
            if kept is not None:
                sys.modules[name] = kept
    return openvino


def _export(encoder: Encoder, pooling: tuple[str, ...], layers: tuple[int, ...]) -> Any:
    """Make a graph of an encoder, and see that it does the same."""
    import_openvino()
    # Not by `openvino.convert_model`: that tells its maker about each conversion.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    pooled = encoder.pooled(pooling, layers)
    encoder.model.requires_grad_(False)  # tracing takes in no weights that could be trained
    example = np.stack([_sample(encoder)[0]] * 2)
    problem = ""
    try:
        with _quiet(), quiet_transformers(), _torch().no_grad():
            tokens = _torch().from_numpy(example)
            decoder = TorchScriptPythonDecoder(pooled, example_input=(tokens,))
            frontend = FrontEndManager().load_by_framework("pytorch")
            model = frontend.convert(frontend.load(decoder))
            graph = Graph(model, "float32", 1)
        for ids in _sample(encoder):
            expected = encoder.encode([ids], pooling, layers)
            difference = np.abs(graph.encode([ids]) - expected).max()
            if not difference <= TOLERANCE * max(1, np.abs(expected).max()):
                problem = f"a text's vector is off by {difference:.1e}"
    except InputError:
        raise
    except Exception as error:  # of whatever kind: it is tried on encoders nobody foresaw
        problem = first_line(error.__cause__ or error)
    if problem:
        raise InputError(
            f"OpenVINO does not reproduce this encoder ({problem}): use backend='torch', with "
            f"precision='float32'."
        )
    return model


def _sample(encoder: Encoder) -> list[np.ndarray]:
    config, longest = encoder.model.config, 128
    positions = getattr(config, "max_position_embeddings", None) or longest
    if config.model_type in FAMILIES_WITH_POSITION_OFFSET:
        positions -= (1 if config.pad_token_id is None else config.pad_token_id) + 1
    if positions > 0:
        longest = min(longest, positions)
    return [encoder.tokenizer.split(text, longest)[0][0].astype(np.int64) for text in SAMPLE]


def _warn_if_far(graph: Graph, exact: Graph, encoder: Encoder, precision: str) -> None:
    if precision == "float32":
        return
    cosines = []
    for ids in _sample(encoder):
        a, b = graph.encode([ids])[0], exact.encode([ids])[0]
        cosines.append(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    if not np.mean(cosines) >= LEAST_COSINE:
        warnings.warn(
            f"precision={precision!r} changes this encoder's vectors a great deal: on texts of "
            f"many kinds, their mean cosine with those of float32 is {np.mean(cosines):.3f}.",
            stacklevel=2,
        )


def _say_if_slow(precision: str) -> None:
    known = getattr(_torch().cpu, "get_capabilities", None)
    if precision == "float32" or known is None:
        return
    capabilities = known()
    if not any(capabilities.get(name) for name in INSTRUCTIONS[precision]):
        warnings.warn(
            f"precision={precision!r}: this CPU has no instructions for it, so it will hardly be "
            f"faster than 'float32', which is exact.",
            stacklevel=2,
        )


def _read(folder: Path) -> Any | None:
    """Return the graph that is kept in a folder; None if there is none that can be used."""
    openvino = import_openvino()
    try:
        facts = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
        if facts["versions"] != _versions():
            return None
        if any(sha256_of_file(folder / name) != facts["sha256"][name] for name in NAMES):
            return None
        note_use(folder / "graph.json")
        return openvino.Core().read_model(folder / NAMES[0], folder / NAMES[1])
    except (OSError, ValueError, LookupError, TypeError, RuntimeError):
        return None


def _keep(model: Any, folder: Path, root: Path, settings: dict[str, Any]) -> None:
    openvino = import_openvino()
    try:
        make_private_folder(folder, root)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
            openvino.save_model(model, Path(temporary) / NAMES[0], compress_to_fp16=False)
            hashes = {name: sha256_of_file(Path(temporary) / name) for name in NAMES}
            for name in NAMES:
                os.replace(Path(temporary) / name, folder / name)
        facts = {"settings": settings, "sha256": hashes, "versions": _versions()}
        with writing(folder / "graph.json") as file:
            file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except (OSError, RuntimeError) as error:
        warnings.warn(
            f"the exported graph is not kept and will be made again: {folder} cannot be written "
            f"({first_line(error)}).",
            stacklevel=2,
        )


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in VERSIONED}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tracer's notes to programmers off stderr."""
    logger = logging.getLogger("openvino")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _torch() -> Any:
    import torch

    return torch
