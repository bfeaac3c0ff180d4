"""Export encoders to OpenVINO graphs, which are stored on disk and loaded from there.

One folder under the cache's `exports/` contains the graph of one encoder with one setting:
`graph.xml` and `graph.bin` in OpenVINO's format, and `graph.json`, which is written last, with
their hashes and the versions of the libraries. If any of these does not match, the graph is
exported again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import tempfile
import threading
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import CacheWarning, InputError, PrecisionWarning
from ...utils.console import callers_level, first_line
from ...utils.files import make_private_folder, note_use, sha256_of_file, writing
from ..batching import PADDING
from ..encoder import Encoder
from ..sources import FAMILIES_WITH_POSITION_OFFSET, quiet_transformers
from .graph import Graph, fork_guard, import_openvino
from .instructions import has_instructions
from .quantization import SAMPLE, quantize, scheme

if TYPE_CHECKING:
    from openvino import Model

__all__ = ["load_graph"]

TOLERANCE = 1e-5  # largest difference between the float32 graph and torch
LEAST_COSINE = 0.95  # a reduced precision with a lower mean cosine on the sample is warned of
NAMES = ("graph.xml", "graph.bin")
VERSIONED = ("openvino", "torch", "transformers")


def load_graph(
    encoder: Encoder,
    content_hash: str,
    pooling: tuple[str, ...],
    layers: tuple[int, ...],
    precision: str,
    root: Path | None,
    n_streams: int,
) -> Graph:
    """Load an encoder's graph and export it if necessary; the last two stay loaded.

    Parameters
    ----------
    encoder : Encoder
        Encoder on the CPU.
    content_hash : str
        The encoder's hash, by which its graph is stored.
    pooling, layers
        As for `Encoder.encode`.
    precision : {"float32", "bfloat16", "int8"}
    root : pathlib.Path or None
        Folder of the cache; None stores nothing on disk.
    n_streams : int
        As for `Graph`.

    Returns
    -------
    Graph

    Raises
    ------
    InputError
        If OpenVINO is not installed, does not support this encoder, or was used before a fork.

    Warns
    -----
    PrecisionWarning
        If the precision is slow on this CPU, or changes the vectors of this encoder a lot.
    CacheWarning
        If the graph cannot be stored.
    """
    if fork_guard.forked:
        raise _not_usable(
            precision,
            "this process was forked from one that had computed with OpenVINO, which would hang "
            "here; start processes by 'spawn' or 'forkserver' (joblib does without fork), or use "
            "the torch backend in float32.",
        )
    which = (encoder, content_hash, pooling, layers, precision, n_streams)
    with _loading:
        # Without a cache, a graph that was loaded from one does as well.
        graph = _loaded.get(which) if root is None else None
        if graph is None:
            graph = _load_once(encoder, content_hash, pooling, layers, precision, root, n_streams)
            _loaded[which] = graph
        return graph


_loading = threading.Lock()  # `lru_cache` alone lets two threads export the same graph
_loaded: weakref.WeakValueDictionary[tuple[object, ...], Graph] = weakref.WeakValueDictionary()


def _not_usable(precision: str, problem: str) -> InputError:
    """Return an error for the parameter that asks for OpenVINO."""
    if precision == "float32":
        return InputError(problem, parameter="backend", value="openvino")
    return InputError(problem, parameter="precision", value=precision)


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
        raise _not_usable(
            precision, 'OpenVINO is not installed: pip install "frozenbert[openvino]".'
        ) from error
    fork_guard.in_use = True
    _warn_if_slow(precision)
    settings: dict[str, object] = {"encoder": content_hash, "pooling": pooling, "layers": layers}
    settings["input"] = "padded"
    # For bfloat16, OpenVINO converts the float32 graph when it compiles it.
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
    model = _export(encoder, pooling, layers, precision)
    exact = Graph(model.clone(), "float32", 1)
    if precision == "int8":
        model = quantize(model, [ids[None] for ids in _sample(encoder)])
    if folder is not None and root is not None:
        _store(model, folder, root, settings)
    graph = Graph(model, precision, n_streams)
    _warn_if_far(graph, exact, encoder, precision)
    return graph


def _export(
    encoder: Encoder, pooling: tuple[str, ...], layers: tuple[int, ...], precision: str
) -> Model:
    """Export an encoder to a float32 graph, and check that its vectors are those of torch."""
    try:
        model = _trace(encoder, pooling, layers)
        graph = Graph(model, "float32", 1)
        problem = _difference(graph, encoder, pooling, layers)
    except InputError:
        raise
    except Exception as error:  # encoders of unknown families fail in many ways
        problem = first_line(error.__cause__ or error)
    if problem:
        raise _not_usable(
            precision,
            f"OpenVINO does not reproduce this encoder ({problem}); use the torch backend in "
            f"float32.",
        )
    return model


def _trace(encoder: Encoder, pooling: tuple[str, ...], layers: tuple[int, ...]) -> Model:
    import torch

    import_openvino()
    # `openvino.convert_model` is not used: it reports each conversion to Intel.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    pooled = encoder.pooled(pooling, layers, padded=True)
    encoder.model.requires_grad_(False)  # the tracer refuses weights that require gradients
    example = np.stack([_sample(encoder)[0]] * 2)
    with _quiet_tracer(), quiet_transformers(), torch.no_grad():
        decoder = TorchScriptPythonDecoder(pooled, example_input=(torch.from_numpy(example),))
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))


def _difference(
    graph: Graph, encoder: Encoder, pooling: tuple[str, ...], layers: tuple[int, ...]
) -> str:
    """Describe how far the graph's vectors differ from torch's; empty within the tolerance."""
    longest = _longest(encoder)
    for ids in _sample(encoder):
        expected = encoder.encode([ids], pooling, layers)
        n_more = min(3, longest - len(ids))
        padded = np.pad(ids, (0, n_more), constant_values=PADDING)
        difference = np.abs(graph.encode([ids, padded]) - expected).max()
        if not difference <= TOLERANCE * max(1, np.abs(expected).max()):
            return f"a text's vector is off by {difference:.1e}"
    return ""


def _sample(encoder: Encoder) -> list[np.ndarray]:
    """Return the token ids of the sample texts, cut to the encoder's longest input."""
    longest = _longest(encoder)
    return [encoder.tokenizer.split(text, longest)[0][0].astype(np.int64) for text in SAMPLE]


def _longest(encoder: Encoder) -> int:
    """Return the most tokens of a sample text: 128, or what the encoder can take."""
    config, longest = encoder.model.config, 128
    positions = getattr(config, "max_position_embeddings", None) or longest
    if config.model_type in FAMILIES_WITH_POSITION_OFFSET:
        positions -= (1 if config.pad_token_id is None else config.pad_token_id) + 1
    return min(longest, positions) if positions > 0 else longest


def _warn_if_far(graph: Graph, exact: Graph, encoder: Encoder, precision: str) -> None:
    """Warn if the vectors of a reduced precision are far from those of float32."""
    if precision == "float32":
        return
    cosines = []
    for ids in _sample(encoder):
        a, b = graph.encode([ids])[0], exact.encode([ids])[0]
        cosines.append(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    if not np.mean(cosines) >= LEAST_COSINE:
        warnings.warn(
            f"precision={precision!r} changes this encoder's vectors a lot: their mean cosine "
            f"with those of float32 is {np.mean(cosines):.3f} on texts of many kinds.",
            PrecisionWarning,
            stacklevel=callers_level(),
        )


def _warn_if_slow(precision: str) -> None:
    """Warn if this CPU has no instructions for a reduced precision."""
    if has_instructions(precision) is False:
        warnings.warn(
            f"precision={precision!r}: this CPU has no instructions for it; it is hardly faster "
            f"than 'float32', which is exact.",
            PrecisionWarning,
            stacklevel=callers_level(),
        )


def _read(folder: Path) -> Model | None:
    """Return the graph that is stored in a folder; None if it is missing, damaged or outdated."""
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


def _store(model: Model, folder: Path, root: Path, settings: dict[str, object]) -> None:
    """Store a graph on disk, or warn that this is not possible."""
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
            f"{folder} cannot be written ({first_line(error)}); the graph is exported again next "
            f"time.",
            CacheWarning,
            stacklevel=callers_level(),
        )


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in VERSIONED}


@contextlib.contextmanager
def _quiet_tracer() -> Iterator[None]:
    """Keep the warnings of torch's tracer and of OpenVINO's logger off stderr."""
    logger = logging.getLogger("openvino")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
