"""`DistilBertVectorizer`: a frozen encoder with the face of a scikit-learn transformer."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import length_hint
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .encoders.encoder import Encoder, choose_device, load_encoder, usable_cores
from .encoders.openvino import load_graph
from .encoders.quantization import scheme
from .encoders.sources import EncoderFiles, find_encoder
from .errors import EncoderMismatchError, EncoderNotFoundError, InputError
from .utils.console import progress_bar
from .utils.texts import check_texts, distinct_texts, is_stream
from .vectors.cache import VectorCache, cache_root
from .vectors.job import Reading, Work, block_rows
from .vectors.settings import (
    check_parameters,
    resolve_backend,
    resolve_layers,
    resolve_max_length,
    resolve_pooling,
)

__all__ = ["DistilBertVectorizer"]

# Part of every vector's key: to be raised with any change that changes vectors.
VECTORS_VERSION = 2
BATCH_TOKENS = {"cpu": 1024, "cuda": 32_768}


class DistilBertVectorizer(TransformerMixin, BaseEstimator):
    """Turn texts into vectors with a frozen DistilBERT or any other encoder.

    The vectors of texts seen before come from the cache on disk; the encoder is loaded
    when the first text is not there.

    Parameters
    ----------
    model_name : str, default="distilbert-base-uncased"
        A name on the Hugging Face hub, a folder, or `"all-MiniLM-L6-v2"`, the installed
        packaged encoder. Whatever `transformers.AutoModel` loads from `.safetensors`.
    revision : str or None, default=None
        Branch, tag or commit on the hub.
    pooling : {"auto", "cls", "mean", "max"} or tuple of the last three, default="auto"
        How a text's token vectors become one: that of the first position, their mean,
        or their maximum (special tokens included). "auto" is what the encoder itself
        declares in `1_Pooling/config.json`, else "cls". Vectors are not normalised.
    layers : int, tuple of int or "all", default=-1
        Indices into `hidden_states`: 0 is the embeddings, 1 the first layer, -1 the
        last; "all" is 1 to the last. Columns go layer by layer, in each pooling by
        pooling.
    max_length : int or None, default=None
        Tokens kept of a text, special tokens included. None is as many as the encoder
        and its tokenizer take.
    long_text : {"truncate", "head_tail", "windows"}, default="truncate"
        What happens to longer texts: the end is cut off; or the middle is left out, and a
        quarter of the room goes to the beginning; or all is read in overlapping windows,
        whose vectors are averaged.
    missing : {"error", "empty"}, default="error"
        Whether None and NaN are an error or the empty text.
    precision : {"float32", "bfloat16", "int8"}, default="float32"
        What the encoder computes with. The reduced ones are faster on a CPU that has the
        instructions, and not exact.
    backend : {"auto", "torch", "openvino"}, default="auto"
        The engine; "auto" is torch in float32 and on a GPU, OpenVINO else.
    device : str or None, default=None
        A torch device; None is "cuda" where torch has it, else "cpu".
    num_threads : int or None, default=None
        Threads the encoder computes with; None is torch's own setting, but never more
        cores than the process may use (affinity, a container's share).
    max_batch_tokens : int or None, default=None
        Tokens of a batch, padding included; None is 1,024 on a CPU, 32,768 on CUDA.
    cache_dir : str, path-like or None, default="auto"
        Folder for the vectors. "auto" is `$FROZENBERT_CACHE` or else the user's cache
        folder; None keeps none.
    store_weights : bool, default=False
        Whether a pickle of the fitted vectorizer holds the encoder itself, as arrays.
    local_files_only : bool, default=False
        Never ask the hub.
    progress : {"auto", True, False}, default="auto"
        A progress bar on stderr; "auto" shows it in a terminal or a notebook.

    Attributes
    ----------
    encoder_name_ : str
        The encoder's name; of a folder, its last part.
    encoder_source_ : {"folder", "package", "hub"}
        Where it was found.
    encoder_revision_ : str or None
        Its commit on the hub.
    encoder_hash_ : str
        SHA-256 over its weights, tokenizer and config, 64 hexadecimal digits.
    pooling_ : tuple of str
        What `pooling` came to.
    layers_ : tuple of int
        What `layers` came to, none negative.
    max_length_ : int
        What `max_length` came to, in tokens.
    n_features_out_ : int
        Columns of the result.
    n_long_, n_truncated_ : int
        Texts of the training data that were longer than `max_length_`, and those of them
        that were not read whole.
    unread_ : float
        Share of the training data's tokens that was not read.

    Examples
    --------
    >>> from frozenbert import DistilBertVectorizer
    >>> embed = DistilBertVectorizer("all-MiniLM-L6-v2", cache_dir=None)
    >>> vectors = embed.fit_transform(["a stirring film", "a dull film"])
    >>> vectors.shape, vectors.dtype, embed.pooling_
    ((2, 384), dtype('float32'), ('mean',))
    """

    def __init__(
        self,
        model_name: str = "distilbert-base-uncased",
        *,
        revision: str | None = None,
        pooling: str | Sequence[str] = "auto",
        layers: int | Sequence[int] | str = -1,
        max_length: int | None = None,
        long_text: str = "truncate",
        missing: str = "error",
        precision: str = "float32",
        backend: str = "auto",
        device: str | None = None,
        num_threads: int | None = None,
        max_batch_tokens: int | None = None,
        cache_dir: str | os.PathLike[str] | None = "auto",
        store_weights: bool = False,
        local_files_only: bool = False,
        progress: bool | Literal["auto"] = "auto",
    ) -> None:
        self.model_name = model_name
        self.revision = revision
        self.pooling = pooling
        self.layers = layers
        self.max_length = max_length
        self.long_text = long_text
        self.missing = missing
        self.precision = precision
        self.backend = backend
        self.device = device
        self.num_threads = num_threads
        self.max_batch_tokens = max_batch_tokens
        self.cache_dir = cache_dir
        self.store_weights = store_weights
        self.local_files_only = local_files_only
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> DistilBertVectorizer:
        """Find the encoder, settle the settings, and count the texts that are too long.

        Parameters
        ----------
        X : sequence of str
            List, tuple, array, Series or one-column DataFrame of texts.
        y : ignored

        Returns
        -------
        DistilBertVectorizer
            Itself.

        Raises
        ------
        InputError
            A `ValueError`: a text is missing, there is none, or a parameter is illegal.
        TypeError
            If a text is no string.
        EncoderNotFoundError
            An `InputError`: the encoder cannot be had.
        """
        texts = self._fit(X)
        distinct, inverse = distinct_texts(texts)
        work = self._work(distinct)
        work.read(self._cache())
        if work.missing.any():
            work.tokenize(self._encoder())
        self._note_reading(work.n_tokens[inverse])
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> np.ndarray:
        """Fit, and return the vectors of the same texts; each is tokenized once.

        Parameters
        ----------
        X : sequence of str
            The texts.
        y : ignored
        **fit_params : ignored

        Returns
        -------
        numpy.ndarray of float32, shape (n_samples, n_features)
            In the order of `X`.
        """
        vectors, n_tokens = self._vectors(self._fit(X), self._cache())
        self._note_reading(n_tokens)
        return vectors

    def transform(self, X: Any) -> np.ndarray:
        """Return the texts' vectors.

        Parameters
        ----------
        X : sequence of str
            The texts.

        Returns
        -------
        numpy.ndarray of float32, shape (n_samples, n_features)
            In the order of `X`.

        Raises
        ------
        EncoderMismatchError
            If another encoder is found under the name than the one fitted with.
        EncoderNotFoundError
            If the encoder is needed and cannot be had.
        """
        check_is_fitted(self)
        check_parameters(self)
        vectors, n_tokens = self._vectors(check_texts(X, self.missing), self._cache())
        self._reading().add(n_tokens).warn(stacklevel=2)
        return vectors

    def transform_iter(
        self, X: Iterable[Any], *, block_size: int | None = None, return_n_tokens: bool = False
    ) -> Iterator[Any]:
        """Yield the vectors of more texts than memory holds, block by block.

        Parameters
        ----------
        X : iterable of str
            The texts, such as a generator. One that has a length (or a `__length_hint__`)
            gives the progress bar its end.
        block_size : int or None, default=None
            Texts of a block; None is as many as make vectors of 32 MiB, at most 8,192.
        return_n_tokens : bool, default=False
            Whether to yield with each block its texts' lengths in tokens before cutting.

        Yields
        ------
        vectors : numpy.ndarray of float32, shape (n_texts, n_features)
            In the order of `X`; `block_size` rows, fewer in the last.
        n_tokens : numpy.ndarray of int64, shape (n_texts,)
            Only with `return_n_tokens`.

        Raises
        ------
        InputError
            A `ValueError`: a text is missing, or `block_size` is illegal. What was
            yielded before, and with a cache what was computed, stands.
        EncoderMismatchError, EncoderNotFoundError
            As by `transform`.

        Examples
        --------
        >>> from frozenbert import DistilBertVectorizer
        >>> embed = DistilBertVectorizer("all-MiniLM-L6-v2", cache_dir=None).fit([""])
        >>> lines = (f"line {i}" for i in range(5))
        >>> [block.shape for block in embed.transform_iter(lines, block_size=2)]
        [(2, 384), (2, 384), (1, 384)]
        """
        check_is_fitted(self)
        check_parameters(self)
        rows = block_rows(self.n_features_out_, block_size)
        texts = iter(X if is_stream(X) else check_texts(X, self.missing))
        blocks = self._blocks(texts, rows, length_hint(X) or None)
        return blocks if return_n_tokens else (vectors for vectors, _ in blocks)

    def _blocks(
        self, texts: Iterator[Any], size: int, total: int | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        cache, done, reading = self._cache(), 0, self._reading()
        with progress_bar(self.progress, total) as bar:
            while block := list(itertools.islice(texts, size)):
                vectors, n_tokens = self._vectors(
                    check_texts(block, self.missing, done), cache, bar
                )
                done += len(block)
                bar.n = done  # those from the cache, too, and each copy of a text
                bar.refresh()
                reading.add(n_tokens)
                yield vectors, n_tokens
        reading.warn(stacklevel=2)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the columns' names, like `layer6_mean_0`.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        numpy.ndarray of object, shape (n_features,)
        """
        check_is_fitted(self)
        width = self.n_features_out_ // (len(self.layers_) * len(self.pooling_))
        names = [
            f"layer{layer}_{how}_{i}"
            for layer in self.layers_
            for how in self.pooling_
            for i in range(width)
        ]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = self.missing == "empty"
        tags.transformer_tags.preserves_dtype = []  # float32, whatever comes in
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__()}
        for transient in ("_loaded", "_beside"):
            state.pop(transient, None)
        if self.store_weights and hasattr(self, "encoder_hash_") and "_stored" not in state:
            state["_stored"] = self._encoder().to_arrays()
        return state

    def _prepare_to_save(self) -> None:
        """Turn the cache off and name an encoder's folder by its last part.

        `save_model` calls this on the copy that it saves.
        """
        self.cache_dir = None
        if getattr(self, "encoder_source_", None) == "folder" or Path(self.model_name).is_dir():
            self.model_name = Path(self.model_name).name

    def _note_loaded_from(self, folder: Path) -> None:
        """Look for the encoder's folder in `folder` too; `load_model` calls this."""
        self._beside = folder
        self.cache_dir = None  # a file does not decide where vectors are stored

    def _fit(self, X: Any) -> list[str]:
        check_parameters(self)
        texts = check_texts(X, self.missing)
        if not texts:
            raise InputError("X holds no texts: at least one is needed to fit.")
        self.__dict__.pop("_stored", None)
        self.__dict__.pop("_loaded", None)
        files = self._find(self.revision)
        self.encoder_name_ = Path(files.name).name if files.source == "folder" else files.name
        self.encoder_source_ = files.source
        self.encoder_revision_ = files.revision
        self.encoder_hash_ = files.content_hash
        self.pooling_ = resolve_pooling(self.pooling, files)
        self.layers_ = resolve_layers(self.layers, files)
        self.max_length_ = resolve_max_length(self.max_length, files)
        self.n_features_out_ = len(self.layers_) * len(self.pooling_) * files.hidden_size
        return texts

    def _find(self, revision: str | None, hub: bool = True) -> EncoderFiles:
        return find_encoder(
            self.model_name,
            revision,
            local_files_only=self.local_files_only,
            beside=getattr(self, "_beside", None),
            hub=hub,
        )

    def _encoder(self) -> Encoder:
        """Load the encoder that was fitted with, or say why not."""
        if hasattr(self, "_stored"):
            if not hasattr(self, "_loaded"):
                self._loaded = Encoder.from_arrays(self._stored, choose_device(self._device()))
            return self._loaded
        revision = self.revision
        if revision is None and self.model_name == self.encoder_name_:
            revision = self.encoder_revision_
        try:
            files = self._find(revision, hub=self.encoder_source_ == "hub")
        except EncoderNotFoundError as error:
            raise type(error)(
                f"{error} (Fitted with {self.encoder_name_!r}, content {self.encoder_hash_[:12]}.)"
            ) from error
        if files.content_hash != self.encoder_hash_:
            raise EncoderMismatchError(
                f"encoder {self.model_name!r} at {files.folder} has the content "
                f"{files.content_hash[:12]}, but this vectorizer was fitted with "
                f"{self.encoder_name_!r} of content {self.encoder_hash_[:12]}: their vectors do "
                f"not mix. Bring that encoder back, or fit again."
            )
        return load_encoder(files, self._device())

    def _cache(self) -> VectorCache | None:
        root = cache_root(self.cache_dir)
        if root is None:
            return None
        settings = {
            "version": VECTORS_VERSION,
            "encoder": self.encoder_hash_,
            "pooling": self.pooling_,
            "layers": self.layers_,
            "max_length": self.max_length_,
            "precision": self.precision,
        }
        if self.precision == "bfloat16":
            # Engines agree to 1e-5 in float32 alone, and int8 is OpenVINO's.
            settings["engine"] = resolve_backend(self, choose_device(self._device()))
        if self.precision == "int8":
            settings["quantization"] = scheme()
        return VectorCache(root, settings, self.n_features_out_)

    def _vectors(
        self, texts: list[str], cache: VectorCache | None, bar: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Vectors and token counts of the texts, from the cache or computed."""
        distinct, inverse = distinct_texts(texts)
        work = self._work(distinct)
        work.read(cache)
        if todo := int(work.missing.sum()):
            own = progress_bar(self.progress, todo) if bar is None else contextlib.nullcontext(bar)
            with own as bar:
                self._compute(work, cache, bar)
        if len(distinct) == len(texts):
            return work.vectors, work.n_tokens
        return work.vectors[inverse], work.n_tokens[inverse]

    def _work(self, distinct: list[str]) -> Work:
        return Work(distinct, self.n_features_out_, self.max_length_, self.long_text)

    def _compute(self, work: Work, cache: VectorCache | None, bar: Any) -> None:
        encoder = self._encoder()
        ids = work.tokenize(encoder)
        kind = encoder.device.partition(":")[0]
        n_cores = usable_cores(self.num_threads) if kind == "cpu" else 1
        max_tokens = self.max_batch_tokens or BATCH_TOKENS.get(kind, BATCH_TOKENS["cpu"])
        encode = self._engine(encoder, n_cores)
        work.compute(ids, encode, cache, bar, max_tokens=max_tokens, n_cores=n_cores)

    def _engine(self, encoder: Encoder, n_cores: int) -> Callable[[Sequence[np.ndarray]], Any]:
        """Return the function from token ids of one length to vectors."""
        if resolve_backend(self, encoder.device) == "openvino":
            graph = load_graph(
                encoder,
                self.encoder_hash_,
                self.pooling_,
                self.layers_,
                self.precision,
                cache_root(self.cache_dir),
                n_cores,
            )
            return graph.encode
        return lambda ids: encoder.encode(ids, self.pooling_, self.layers_, self.precision)

    def _device(self) -> str | None:
        """Return the device asked for; None lets torch choose."""
        by_openvino = self.precision == "int8" or self.backend == "openvino"
        return "cpu" if self.device is None and by_openvino else self.device

    def _reading(self) -> Reading:
        return Reading(self.max_length_, self.long_text)

    def _note_reading(self, n_tokens: np.ndarray) -> None:
        reading = self._reading().add(n_tokens)
        self.n_long_, self.n_truncated_ = reading.n_long, reading.n_truncated
        self.unread_ = reading.unread
        reading.warn(stacklevel=3)
