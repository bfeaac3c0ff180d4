"""Validate the vectorizer's parameters and resolve them for an encoder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeGuard

import numpy as np

from ..encoders.batching import LONG_TEXT
from ..encoders.hub import find_known
from ..encoders.openvino.instructions import fast_precisions
from ..encoders.remote.remote_encoder import RemoteModel
from ..encoders.sources import POOLINGS, EncoderFiles
from ..errors import InputError
from ..reports.agreement import agrees, measure_trial

if TYPE_CHECKING:
    from ..reports.schema import PrecisionTrial

__all__ = [
    "BACKENDS",
    "KEEP_LAYERS",
    "PRECISIONS",
    "Parameters",
    "VectorSettings",
    "check_parameters",
    "check_remote",
    "choose_precision",
    "faster_precisions",
    "resolve_backend",
    "resolve_layers",
    "resolve_max_length",
    "resolve_pooling",
    "resolve_prompt",
    "resolve_width",
]

# Part of every vector's key: raise it with any change that changes vectors.
VECTORS_VERSION = 2
PRECISIONS = ("float32", "bfloat16", "int8")
BACKENDS = ("auto", "torch", "openvino")
KEEP_LAYERS = ("auto", "asked", "all")
CHOICES: dict[str, tuple[str | bool, ...]] = {
    "long_text": LONG_TEXT,
    "missing": ("error", "empty"),
    "precision": (*PRECISIONS, "auto"),
    "backend": BACKENDS,
    "progress": ("auto", True, False),
    "keep_layers": KEEP_LAYERS,
    "normalize": (True, False),
    "allow_remote": (True, False),
}
# What a remote encoder leaves open: its server decides all of it.
WITHOUT_EFFECT_ON_REMOTE: dict[str, tuple[object, ...]] = {
    "revision": (None,),
    "pooling": ("auto",),
    "layers": (-1,),
    "max_length": (None,),
    "long_text": ("truncate",),
    "precision": ("float32",),
    "backend": ("auto",),
    "device": (None,),
    "max_batch_tokens": (None,),
    "store_weights": (False,),
}


class Parameters(Protocol):
    """The parameters of a `DistilBertVectorizer`."""

    model_name: str
    revision: str | None
    pooling: str | Sequence[str]
    layers: int | Sequence[int] | str
    max_length: int | None
    long_text: str
    missing: str
    precision: str
    backend: str
    device: str | None
    num_threads: int | None
    max_batch_tokens: int | None
    progress: bool | Literal["auto"]
    keep_layers: str
    prompt: str | None
    normalize: bool
    truncate_dim: int | None
    allow_remote: bool


@dataclass(frozen=True)
class VectorSettings:
    """Everything that shapes a vector except its text.

    Attributes
    ----------
    encoder : str
        Content hash of the weights, tokenizer and config, 64 hexadecimal digits.
    n_layers, hidden_size : int
        Shape of the encoder, which the content hash already determines.
    layers : tuple of int
        Indices into `hidden_states`, 0 (the embeddings) to `n_layers`.
    pooling : tuple of {"cls", "mean", "max"}
    max_length : int
        Most tokens of a piece.
    precision : {"float32", "bfloat16", "int8"}
    engine : {"torch", "openvino", "remote"} or None
        None where engines agree within 1e-5.
    quantization : str or None
        Identifies the method of quantization; None without one.
    ladder : str or None
        Identifies the lengths that texts are padded to; None where they make no difference.

    Examples
    --------
    >>> asked = VectorSettings("abc", 6, 768, layers=(6, 5), pooling=("mean",), max_length=512)
    >>> asked.blocks
    ((6, 'mean'), (5, 'mean'))
    >>> asked.all_layers().pooling, asked.all_layers().n_features
    (('cls', 'mean'), 10752)
    >>> asked.find_blocks(asked.all_layers())
    [13, 11]
    """

    encoder: str
    n_layers: int
    hidden_size: int
    layers: tuple[int, ...]
    pooling: tuple[str, ...]
    max_length: int
    precision: str = "float32"
    engine: str | None = None
    quantization: str | None = None
    ladder: str | None = None

    @property
    def blocks(self) -> tuple[tuple[int, str], ...]:
        """Layer and pooling of each block of `hidden_size` columns, in order."""
        return tuple((layer, how) for layer in self.layers for how in self.pooling)

    @property
    def n_features(self) -> int:
        """Columns of a vector."""
        return len(self.layers) * len(self.pooling) * self.hidden_size

    @property
    def can_share(self) -> bool:
        """Whether a layer's vector is the same (within 1e-5) whatever else is computed with it.

        In the reduced precisions it is not: the [CLS] shortcut rounds differently, OpenVINO
        fuses the operations of each graph differently, and a difference in the last bit can
        move an int8 value by a whole level. So these vectors are stored for exactly the columns
        that are asked for, and a text has one vector for each such request. A remote encoder
        shows no layers.
        """
        return self.precision == "float32" and self.engine != "remote"

    def in_order(self) -> VectorSettings:
        """Return the settings with layers and poolings in the order in which they are stored."""
        if not self.can_share:
            return self
        pooling = tuple(how for how in POOLINGS if how in self.pooling)
        return dataclasses.replace(self, layers=tuple(sorted(self.layers)), pooling=pooling)

    def all_layers(self, *also: str) -> VectorSettings:
        """Return the settings with all layers, 0 included, in cls, mean and the pooling asked for.

        Parameters
        ----------
        *also : {"cls", "mean", "max"}
            More poolings.

        Returns
        -------
        VectorSettings
            In a reduced precision these same settings.
        """
        if not self.can_share:
            return self
        poolings = {"cls", "mean", *self.pooling, *also}
        pooling = tuple(how for how in POOLINGS if how in poolings)
        return dataclasses.replace(self, layers=tuple(range(self.n_layers + 1)), pooling=pooling)

    def find_blocks(self, wider: VectorSettings) -> list[int] | None:
        """Return where the blocks of these settings are among those of wider ones.

        Returns
        -------
        list of int, or None
            None if `wider` lacks a block, or differs in anything else.
        """
        if dataclasses.replace(wider, layers=self.layers, pooling=self.pooling) != self:
            return None
        if not self.can_share and wider != self:
            return None
        places = {block: place for place, block in enumerate(wider.blocks)}
        if not places.keys() >= set(self.blocks):
            return None
        return [places[block] for block in self.blocks]

    def select(self, vectors: np.ndarray, wider: VectorSettings) -> np.ndarray:
        """Return the columns of these settings from vectors of wider ones.

        Parameters
        ----------
        vectors : numpy.ndarray, shape (n, wider.n_features)
        wider : VectorSettings
            Contains these settings.

        Returns
        -------
        numpy.ndarray, shape (n, n_features)
        """
        places = self.find_blocks(wider)
        assert places is not None
        if places == list(range(len(wider.blocks))):
            return vectors
        blocks = vectors.reshape(len(vectors), len(wider.blocks), self.hidden_size)
        return blocks[:, places].reshape(len(vectors), self.n_features)

    def to_json(self) -> str:
        """Return what identifies the vectors in the cache."""
        fields = {**dataclasses.asdict(self), "version": VECTORS_VERSION}
        for name in ("n_layers", "hidden_size"):
            del fields[name]
        return json.dumps({k: v for k, v in fields.items() if v is not None}, sort_keys=True)

    def with_columns_of(self, description: str) -> VectorSettings | None:
        """Return these settings with the layers and poolings of a `to_json`.

        Returns
        -------
        VectorSettings or None
            None if the description differs in anything else, or is not a valid one.
        """
        try:
            fields = json.loads(description)
            layers, pooling = tuple(fields["layers"]), tuple(fields["pooling"])
            other = dataclasses.replace(self, layers=layers, pooling=pooling)
            return other if json.loads(other.to_json()) == fields else None
        except (ValueError, LookupError, TypeError):
            return None


def check_parameters(vectorizer: Parameters) -> None:
    """Check the parameters that can be checked without an encoder.

    Parameters
    ----------
    vectorizer : DistilBertVectorizer

    Raises
    ------
    InputError
        If a parameter has an illegal value.
    """
    if not isinstance(vectorizer.model_name, str) or not vectorizer.model_name:
        raise InputError(
            "a name or a folder, as a string.", parameter="model_name", value=vectorizer.model_name
        )
    if vectorizer.revision is not None and not isinstance(vectorizer.revision, str):
        raise InputError(
            "a branch, tag or commit, or None.", parameter="revision", value=vectorizer.revision
        )
    for name, legal in CHOICES.items():
        value = getattr(vectorizer, name)
        if not isinstance(value, str | bool) or value not in legal:
            raise InputError(f"one of {', '.join(map(repr, legal))}.", parameter=name, value=value)
    if vectorizer.precision == "int8" and vectorizer.backend == "torch":
        raise InputError(
            "precision 'int8' is computed by OpenVINO alone: use 'auto'.",
            parameter="backend",
            value="torch",
        )
    if vectorizer.prompt is not None and not isinstance(vectorizer.prompt, str):
        raise InputError(
            "a string that is put before each text ('' is none), or None for the encoder's own.",
            parameter="prompt",
            value=vectorizer.prompt,
        )
    for name in ("max_length", "num_threads", "max_batch_tokens", "truncate_dim"):
        value = getattr(vectorizer, name)
        if value is not None and not (_is_integer(value) and value >= 1):
            raise InputError("a whole number of at least 1, or None.", parameter=name, value=value)
    _check_pooling(vectorizer.pooling)


def check_remote(vectorizer: Parameters) -> None:
    """Check the parameters that a remote encoder does not have.

    Parameters
    ----------
    vectorizer : DistilBertVectorizer

    Raises
    ------
    InputError
        If one of them is set.
    """
    for name, legal in WITHOUT_EFFECT_ON_REMOTE.items():
        value = getattr(vectorizer, name)
        if value not in legal:
            raise InputError(
                f"a remote encoder returns one vector for each text, and takes no such setting "
                f"(encoder {vectorizer.model_name!r}).",
                parameter=name,
                value=value,
            )


def _check_pooling(pooling: str | Sequence[str]) -> None:
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
            "must be 'auto', 'cls', 'mean' or 'max', or several of the last three, each once.",
            parameter="pooling",
            value=pooling,
        )


def resolve_backend(backend: str, precision: str, device: str) -> str:
    """Resolve "auto" to torch in float32 and on a GPU, and to OpenVINO otherwise.

    Parameters
    ----------
    backend : {"auto", "torch", "openvino"}
    precision : {"float32", "bfloat16", "int8"}
    device : str
        A torch device.

    Returns
    -------
    {"torch", "openvino"}

    Raises
    ------
    InputError
        If OpenVINO is needed and the device is not the CPU.

    Examples
    --------
    >>> resolve_backend("auto", "float32", "cpu"), resolve_backend("auto", "int8", "cpu")
    ('torch', 'openvino')
    """
    on_cpu = device == "cpu"
    if not on_cpu and (backend == "openvino" or precision == "int8"):
        raise InputError(
            f"with precision {precision!r} and backend {backend!r} OpenVINO computes, which runs "
            f"on the CPU here: use device 'cpu', or precision 'float32' or 'bfloat16' with backend "
            f"'auto'.",
            parameter="device",
            value=device,
        )
    if backend == "auto":
        return "openvino" if on_cpu and precision != "float32" else "torch"
    return backend


def faster_precisions(backend: str, device: str) -> list[str]:
    """Return the precisions that are faster than float32 here, the fastest first.

    Parameters
    ----------
    backend : {"auto", "torch", "openvino"}
    device : str
        A torch device.

    Examples
    --------
    >>> faster_precisions("auto", "meta")
    []
    """
    kind = device.partition(":")[0]
    if kind == "cpu":
        by_torch = backend == "torch"
        return [name for name in fast_precisions() if name != "int8" or not by_torch]
    if kind == "cuda" and backend != "openvino":
        import torch

        return ["bfloat16"] if torch.cuda.is_bf16_supported(including_emulation=False) else []
    return []


def choose_precision(
    names: Iterable[str],
    compute: Callable[[str], np.ndarray],
    exact: np.ndarray,
    labels: np.ndarray | None,
) -> tuple[str, dict[str, PrecisionTrial], InputError | None]:
    """Choose the first precision whose vectors agree with those of float32.

    Parameters
    ----------
    names : iterable of str
        Precisions, the fastest first.
    compute : callable
        From a precision to the vectors of some texts.
    exact : numpy.ndarray
        Their float32 vectors.
    labels : numpy.ndarray or None
        As for `frozenbert.reports.agreement.measure_trial`.

    Returns
    -------
    precision : str
        "float32" if none agrees.
    trials : dict of str to dict
        What was measured of each precision.
    problem : InputError or None
        Why the last of those that cannot be computed here cannot; None if one agrees.
    """
    trials: dict[str, PrecisionTrial] = {}
    problem = None
    for name in names:
        try:
            vectors = compute(name)
        except InputError as error:
            problem = error
            continue
        trials[name] = measure_trial(vectors, exact, labels)
        if agrees(trials[name]):
            return name, trials, None
    return "float32", trials, problem


def resolve_prompt(prompt: str | None, name: str, files: EncoderFiles) -> str:
    """Resolve None to the prompt that the encoder declares, or that its authors ask for.

    Parameters
    ----------
    prompt : str or None
    name : str
        The encoder's name as the user gave it.
    files : EncoderFiles
        The encoder of this name.
    """
    if prompt is not None:
        return prompt
    declared, known = files.fetch_default_prompt(), find_known(name)
    if declared is None and known is not None:
        return known.prompt
    return declared or ""


def resolve_width(truncate_dim: int | None, files: EncoderFiles | RemoteModel) -> int:
    """Resolve the columns of each layer and pooling; None is all.

    Raises
    ------
    InputError
        If the encoder has fewer.
    """
    if truncate_dim is None:
        return files.hidden_size
    if truncate_dim > files.hidden_size:
        raise InputError(
            f"the vectors of encoder {files.name!r} have {files.hidden_size} columns.",
            parameter="truncate_dim",
            value=truncate_dim,
        )
    return int(truncate_dim)


def resolve_pooling(pooling: str | Sequence[str], files: EncoderFiles) -> tuple[str, ...]:
    """Resolve "auto" to the poolings that the encoder declares, or else to [CLS]."""
    if pooling == "auto":
        return files.fetch_declared_pooling() or ("cls",)
    return (pooling,) if isinstance(pooling, str) else tuple(pooling)


def resolve_layers(layers: int | Sequence[int] | str, files: EncoderFiles) -> tuple[int, ...]:
    """Resolve layers to indices into `hidden_states`, none of them negative.

    Raises
    ------
    InputError
        If the encoder does not have such a layer, or one is named twice.
    """
    n_layers = files.n_layers
    if isinstance(layers, str) and layers == "all":
        return tuple(range(1, n_layers + 1))
    several = layers if isinstance(layers, tuple | list) else (layers,)
    if several and all(_is_integer(i) and -n_layers <= i + 1 <= n_layers + 1 for i in several):
        resolved = tuple(int(i) % (n_layers + 1) for i in several)
        if len(set(resolved)) == len(resolved):
            return resolved
    raise InputError(
        f"must be 'all', a whole number from {-n_layers - 1} to {n_layers} (encoder "
        f"{files.name!r} has {n_layers} layers; 0 is its embeddings), or several, each once.",
        parameter="layers",
        value=layers,
    )


def resolve_max_length(max_length: int | None, files: EncoderFiles) -> int:
    """Resolve the longest input in tokens; None is what the encoder can take.

    Raises
    ------
    InputError
        If the encoder takes fewer tokens, or `max_length` is None and it declares no limit.
    """
    if max_length is None:
        return files.max_length
    try:
        longest = files.max_length
    except InputError:
        return int(max_length)
    if max_length > longest:
        raise InputError(
            f"encoder {files.name!r} takes at most {longest} tokens.",
            parameter="max_length",
            value=max_length,
        )
    return int(max_length)


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
