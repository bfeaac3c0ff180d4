"""What the vectorizer's parameters may be, and what they come to with a certain encoder."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..encoders.batching import LONG_TEXT
from ..encoders.sources import POOLINGS, EncoderFiles
from ..errors import InputError

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "check_parameters",
    "resolve_backend",
    "resolve_layers",
    "resolve_max_length",
    "resolve_pooling",
]

PRECISIONS = ("float32", "bfloat16", "int8")
BACKENDS = ("auto", "torch", "openvino")
CHOICES: dict[str, tuple[Any, ...]] = {
    "long_text": LONG_TEXT,
    "missing": ("error", "empty"),
    "precision": PRECISIONS,
    "backend": BACKENDS,
    "progress": ("auto", True, False),
}


def check_parameters(vectorizer: Any) -> None:
    """Raise `InputError` if a parameter is not legal, whatever the encoder.

    Parameters
    ----------
    vectorizer : DistilBertVectorizer
    """
    if not isinstance(vectorizer.model_name, str) or not vectorizer.model_name:
        raise InputError(f"model_name={vectorizer.model_name!r}: a name or a folder, as a string.")
    if vectorizer.revision is not None and not isinstance(vectorizer.revision, str):
        raise InputError(f"revision={vectorizer.revision!r}: a branch, tag or commit, or None.")
    for name, legal in CHOICES.items():
        value = getattr(vectorizer, name)
        if not isinstance(value, str | bool) or value not in legal:
            raise InputError(f"{name}={value!r}: one of {', '.join(map(repr, legal))}.")
    if vectorizer.precision == "int8" and vectorizer.backend == "torch":
        raise InputError("precision='int8' with backend='torch': int8 is OpenVINO's; use 'auto'.")
    for name in ("max_length", "num_threads", "max_batch_tokens"):
        value = getattr(vectorizer, name)
        if value is not None and not (_is_integer(value) and value >= 1):
            raise InputError(f"{name}={value!r}: a whole number of at least 1, or None.")
    pooling = vectorizer.pooling
    poolings = (pooling,) if isinstance(pooling, str) else pooling
    alone = {"auto"} if isinstance(pooling, str) else set()
    if (
        not isinstance(poolings, tuple | list)
        or not poolings
        or not all(isinstance(how, str) for how in poolings)
        or not set(poolings) <= {*POOLINGS, *alone}
        or len(set(poolings)) < len(poolings)
    ):
        raise InputError(
            f"pooling={pooling!r}: 'auto', one of {list(POOLINGS)}, or a tuple of different ones."
        )


def resolve_backend(vectorizer: Any, device: str) -> str:
    """Return the engine by name: for "auto", torch in float32 and on a GPU, OpenVINO else.

    Raises
    ------
    InputError
        If OpenVINO is asked for on another device than the CPU.
    """
    backend, precision = vectorizer.backend, vectorizer.precision
    on_cpu = device == "cpu"
    if not on_cpu and (backend == "openvino" or precision == "int8"):
        raise InputError(
            f"device={device!r} with precision={precision!r}, backend={backend!r}: OpenVINO, and "
            f"so int8, runs on the CPU here: device='cpu', or another precision ('float32', "
            f"'bfloat16') with backend='auto'."
        )
    if backend == "auto":
        return "openvino" if on_cpu and precision != "float32" else "torch"
    return str(backend)


def resolve_pooling(pooling: Any, files: EncoderFiles) -> tuple[str, ...]:
    """Return the poolings by name: for "auto", those that the encoder declares, else [CLS]."""
    if pooling == "auto":
        return files.fetch_declared_pooling() or ("cls",)
    return (pooling,) if isinstance(pooling, str) else tuple(pooling)


def resolve_layers(layers: Any, files: EncoderFiles) -> tuple[int, ...]:
    """Return the layers as indices into `hidden_states`."""
    n_layers = files.n_layers
    if isinstance(layers, str) and layers == "all":
        return tuple(range(1, n_layers + 1))
    several = layers if isinstance(layers, tuple | list) else (layers,)
    if several and all(_is_integer(i) and -n_layers <= i + 1 <= n_layers + 1 for i in several):
        resolved = tuple(int(i) % (n_layers + 1) for i in several)
        if len(set(resolved)) == len(resolved):
            return resolved
    raise InputError(
        f"layers={layers!r}: 'all', a whole number from {-n_layers - 1} to {n_layers} "
        f"(encoder {files.name!r} has {n_layers} layers; 0 is its embeddings), or a "
        f"tuple of different ones."
    )


def resolve_max_length(max_length: int | None, files: EncoderFiles) -> int:
    """Return the longest input in tokens."""
    if max_length is None:
        return files.max_length
    try:
        longest = files.max_length
    except InputError:
        return int(max_length)
    if max_length > longest:
        raise InputError(
            f"max_length={max_length}: encoder {files.name!r} takes at most {longest} tokens."
        )
    return int(max_length)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
