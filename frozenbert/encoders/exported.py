"""An exported encoder: its tokenizer and its graph, which need neither torch nor transformers."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..utils.console import first_line
from ..utils.extras import require
from .openvino.graph import Graph, fork_guard, import_openvino
from .tokenizing import TextTokenizer

if TYPE_CHECKING:
    from openvino import Model

__all__ = ["ENCODER_KEY", "TOKENIZER_KEY", "ExportedEncoder", "ExportedFiles", "load_exported"]

# Facts that a graph file itself tells, so that files of several exports cannot be mixed.
ENCODER_KEY = "frozenbert_encoder"
TOKENIZER_KEY = "frozenbert_tokenizer"


@dataclass(frozen=True)
class ExportedFiles:
    """Files of an exported encoder, and what its graph computes.

    Attributes
    ----------
    graph, weights, tokenizer : pathlib.Path
        OpenVINO's two files, and the `tokenizer.json`.
    tokenizer_sha256 : str
    content_hash : str
        Of the encoder that was exported.
    pooling : tuple of {"cls", "mean", "max"}
    layers : tuple of int
    precision : {"float32", "bfloat16", "int8"}
    n_features : int
        Columns of a vector.
    pad_token_id : int
    """

    graph: Path
    weights: Path
    tokenizer: Path
    tokenizer_sha256: str
    content_hash: str
    pooling: tuple[str, ...]
    layers: tuple[int, ...]
    precision: str
    n_features: int
    pad_token_id: int


class ExportedEncoder:
    """Encoder that OpenVINO computes from an exported graph, on the CPU.

    It computes the poolings and layers, and in the precision, that it was exported for.

    Parameters
    ----------
    files : ExportedFiles
    model : openvino.Model
    tokenizer : TextTokenizer
    """

    device = "cpu"

    def __init__(self, files: ExportedFiles, model: Model, tokenizer: TextTokenizer) -> None:
        self.files = files
        self.tokenizer = tokenizer
        self._model = model
        self._graphs: dict[int, Graph] = {}
        self._compiling = threading.Lock()

    def graph(
        self, pooling: tuple[str, ...], layers: tuple[int, ...], precision: str, n_streams: int
    ) -> Graph:
        """Return the compiled graph.

        Parameters
        ----------
        pooling, layers, precision
            What it is to compute.
        n_streams : int
            As for `Graph`.

        Raises
        ------
        InputError
            If it was exported for something else, or the process was forked.
        """
        files = self.files
        for name, asked, exported in (
            ("pooling", pooling, files.pooling),
            ("layers", layers, files.layers),
            ("precision", precision, files.precision),
        ):
            if asked != exported:
                raise InputError(
                    f"the encoder was exported for {exported!r}; export the model again for "
                    f"another value.",
                    parameter=name,
                    value=asked,
                )
        if fork_guard.forked:
            raise InputError(
                "this process was forked from one that had computed with OpenVINO, which would "
                "hang here; start processes by 'spawn' or 'forkserver' (joblib does without fork)."
            )
        with self._compiling:
            if n_streams not in self._graphs:
                fork_guard.in_use = True
                # One number of streams at a time: each has its own copy of the weights.
                self._graphs = {n_streams: Graph(self._model, precision, n_streams)}
            return self._graphs[n_streams]


def load_exported(files: ExportedFiles) -> ExportedEncoder:
    """Load an exported encoder; the last two stay loaded.

    Parameters
    ----------
    files : ExportedFiles
        Their hashes have been checked.

    Raises
    ------
    InputError
        If a file cannot be read, or they are not of one encoder.
    MissingLibraryError
        If OpenVINO is not installed.
    """
    with _loading:
        return _load_once(files)


_loading = threading.Lock()  # `lru_cache` alone lets two threads load the same files


@functools.lru_cache(maxsize=2)
def _load_once(files: ExportedFiles) -> ExportedEncoder:
    require("openvino", purpose="an export")
    folder = files.graph.parent
    try:
        tokenizer = TextTokenizer.from_json(
            files.tokenizer.read_text(encoding="utf-8"), files.pad_token_id
        )
        model = import_openvino().Core().read_model(files.graph, files.weights)
        width = model.outputs[0].get_partial_shape()[-1]
    except Exception as error:  # OpenVINO and tokenizers raise many kinds
        raise InputError(
            f"{folder}: its tokenizer or its graph cannot be read ({first_line(error)}); export "
            f"the model again."
        ) from error
    facts = {key: _fact(model, key) for key in (ENCODER_KEY, TOKENIZER_KEY)}
    expected = {ENCODER_KEY: files.content_hash, TOKENIZER_KEY: files.tokenizer_sha256}
    if facts != expected or width.is_dynamic or width.get_length() != files.n_features:
        raise InputError(
            f"{folder}: {files.graph.name} is the graph of another encoder; export the model again."
        )
    return ExportedEncoder(files, model, tokenizer)


def _fact(model: Model, key: str) -> str | None:
    return str(model.get_rt_info(key).value) if model.has_rt_info(key) else None
