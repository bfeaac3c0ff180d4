"""Engines that compute vectors: torch or OpenVINO, with their batch size and threads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..encoders.batching import pad, plan_batches
from ..encoders.encoder import Encoder
from ..encoders.exported import ExportedEncoder
from ..encoders.openvino.exporting import load_graph
from ..encoders.packed import can_be_packed
from ..encoders.remote.remote_encoder import RemoteEncoder
from ..encoders.threads import usable_cores
from .settings import VectorSettings, resolve_backend

__all__ = ["AnyEncoder", "Engine", "EngineOptions", "gives_all_layers", "make_engine"]

AnyEncoder = Encoder | ExportedEncoder | RemoteEncoder

BATCH_TOKENS = {"cpu": 1024, "cuda": 32_768}
REQUEST_TEXTS, REQUEST_BYTES = 128, 200_000  # most of a request to a remote encoder
REQUESTS = 4  # at a time


@dataclass(frozen=True)
class EngineOptions:
    """How vectors are computed; in float32, they depend on none of this.

    Attributes
    ----------
    backend : {"auto", "torch", "openvino"}
    num_threads : int or None
        Most cores to use; None is torch's setting.
    max_batch_tokens : int or None
        Most tokens of a batch; None is 1,024 on a CPU and 32,768 on CUDA.
    root : pathlib.Path or None
        Folder of the cache, which stores exported graphs; None stores none.
    """

    backend: str = "auto"
    num_threads: int | None = None
    max_batch_tokens: int | None = None
    root: Path | None = None


@dataclass(frozen=True)
class Engine:
    """A function from token ids to vectors, and how to call it.

    Attributes
    ----------
    encode : callable
        From the token ids of a batch to float32 vectors; it may be called from several
        threads at once.
    max_tokens : int
        Most tokens of a batch.
    n_cores : int
        Cores to use.
    uses_torch : bool
        Whether torch computes.
    longest : int or None
        Most tokens of a piece; None if it takes pieces of any length as they are.
    encode_single : callable or None
        Does what `encode` does, with all cores: for a batch that is the only one. None if
        `encode` does so.
    most_texts : int or None
        Most texts of a batch.
    """

    encode: Callable[[Sequence[np.ndarray]], np.ndarray]
    max_tokens: int
    n_cores: int
    uses_torch: bool
    longest: int | None
    encode_single: Callable[[Sequence[np.ndarray]], np.ndarray] | None = None
    most_texts: int | None = None

    def for_batches(self, number: int) -> Engine:
        """Return the engine that is faster for a number of batches."""
        if number > 1 or self.encode_single is None:
            return self
        return dataclasses.replace(self, encode=self.encode_single)

    def pad(self, pieces: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Give the pieces of a text the lengths that the engine computes."""
        longest = self.longest
        return list(pieces) if longest is None else [pad(ids, longest) for ids in pieces]

    def plan(self, lengths: np.ndarray) -> tuple[list[np.ndarray], int]:
        """Divide texts into batches.

        Parameters
        ----------
        lengths : numpy.ndarray of int, shape (n_texts,)
            Tokens of each text.

        Returns
        -------
        batches : list of numpy.ndarray of int
            Indices into `lengths`.
        max_tokens : int
            Most tokens of a batch, unless a single text has more.
        """
        if self.most_texts is not None:
            batches = plan_batches(lengths, self.max_tokens)
            parts = ((b, range(self.most_texts, len(b), self.most_texts)) for b in batches)
            return [part for b, cuts in parts for part in np.split(b, cuts)], self.max_tokens
        # A job of few tokens is divided among all cores too.
        max_tokens = min(self.max_tokens, -(-int(lengths.sum()) // self.n_cores))
        return plan_batches(lengths, max_tokens), max_tokens

    def encode_texts(self, texts: Sequence[Sequence[np.ndarray]], max_tokens: int) -> np.ndarray:
        """Encode the pieces of each text, and average them.

        All windows of a text have one length, so each has the same weight.

        Parameters
        ----------
        texts : sequence of sequences of numpy.ndarray, each of shape (n_tokens,)
            The pieces of each text, at least one.
        max_tokens : int
            Most tokens of a call of `encode`.

        Returns
        -------
        numpy.ndarray of float32, shape (n_texts, n_features)
        """
        pieces = [piece for text in texts for piece in text]
        if len(pieces) == len(texts):
            return self.encode(pieces)
        step = max(1, max_tokens // max(map(len, pieces)))
        parts = [self.encode(pieces[at : at + step]) for at in range(0, len(pieces), step)]
        counts = np.array([len(text) for text in texts])
        sums = np.add.reduceat(np.concatenate(parts), np.cumsum(counts) - counts, axis=0)
        return np.asarray(sums / counts[:, np.newaxis], dtype=np.float32)


def make_engine(
    encoder: Encoder | ExportedEncoder | RemoteEncoder,
    settings: VectorSettings,
    options: EngineOptions,
) -> Engine:
    """Return the engine for an encoder on its device.

    Parameters
    ----------
    encoder : Encoder, ExportedEncoder or RemoteEncoder
    settings : VectorSettings
        What to compute.
    options : EngineOptions

    Raises
    ------
    InputError
        If OpenVINO is needed and cannot be used.
    """
    if isinstance(encoder, RemoteEncoder):
        return Engine(
            encoder.encode,
            REQUEST_BYTES,
            options.num_threads or REQUESTS,
            uses_torch=False,
            longest=None,
            most_texts=REQUEST_TEXTS,
        )
    kind = encoder.device.partition(":")[0]
    n_cores = usable_cores(options.num_threads) if kind == "cpu" else 1
    max_tokens = options.max_batch_tokens or BATCH_TOKENS.get(kind, BATCH_TOKENS["cpu"])
    pooling, layers, precision = settings.pooling, settings.layers, settings.precision
    if isinstance(encoder, ExportedEncoder):
        graph = encoder.graph(pooling, layers, precision, n_cores)
        longest = settings.max_length
        return Engine(graph.encode, max_tokens, n_cores, False, longest, graph.encode_single)
    if resolve_backend(options.backend, precision, encoder.device) == "openvino":
        graph = load_graph(
            encoder, settings.encoder, pooling, layers, precision, options.root, n_cores
        )
        longest = settings.max_length
        return Engine(graph.encode, max_tokens, n_cores, False, longest, graph.encode_single)

    def encode(ids: Sequence[np.ndarray]) -> np.ndarray:
        return encoder.encode(ids, pooling, layers, precision)

    return Engine(encode, max_tokens, n_cores, True, None)


def gives_all_layers(encoder: AnyEncoder, settings: VectorSettings, backend: str) -> bool:
    """Tell whether one pass gives every layer, each of the same width.

    A few families return fewer hidden states than layers, or narrower ones; only a layer that
    is asked for by number may fail because of that.

    Parameters
    ----------
    encoder : Encoder, ExportedEncoder or RemoteEncoder
    settings : VectorSettings
        With all layers.
    backend : {"auto", "torch", "openvino"}
    """
    if isinstance(encoder, ExportedEncoder | RemoteEncoder):
        return False
    if can_be_packed(encoder.model):
        return True
    if resolve_backend(backend, settings.precision, encoder.device) == "openvino":
        return (
            False  # the export of a graph with more outputs may fail where a smaller one does not
        )
    import torch

    token = torch.full((1, 1), encoder.tokenizer.pad_token_id, device=encoder.device)
    try:
        with torch.inference_mode():
            vectors = encoder.pooled(settings.pooling, settings.layers)(token)
    except (LookupError, RuntimeError, TypeError):  # no such state, or of another width
        return False
    return tuple(vectors.shape) == (1, settings.n_features)
