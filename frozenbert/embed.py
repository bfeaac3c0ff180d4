"""`DistilBertVectorizer`: a scikit-learn transformer around a frozen encoder."""

from __future__ import annotations

import contextlib
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import length_hint
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .encoders.batching import LADDER
from .encoders.encoder import Encoder, choose_device, load_encoder
from .encoders.exported import ExportedEncoder, ExportedFiles, load_exported
from .encoders.hub import on_hub
from .encoders.openvino.graph import int8_rest
from .encoders.openvino.quantization import scheme
from .encoders.remote.remote_encoder import (
    RemoteEncoder,
    RemoteModel,
    RemoteTokenizer,
    connect,
    find_remote,
    is_remote,
)
from .encoders.sources import EncoderFiles, find_encoder
from .encoders.tokenizing import TextTokenizer, load_tokenizer
from .errors import EncoderMismatchError, EncoderNotFoundError, InputError, PrecisionWarning
from .utils.console import callers_level, progress_bar, shows_bar
from .utils.steps import LinkedToDocs
from .utils.texts import check_texts, is_stream
from .vectors.cache import VectorCache, cache_root
from .vectors.engines import EngineOptions
from .vectors.job import Job, block_rows
from .vectors.results import Reading, cut_and_normalize, sample_rows
from .vectors.settings import (
    VectorSettings,
    check_parameters,
    check_remote,
    choose_precision,
    faster_precisions,
    resolve_backend,
    resolve_layers,
    resolve_max_length,
    resolve_pooling,
    resolve_prompt,
    resolve_width,
)

if TYPE_CHECKING:
    from sklearn.utils import Tags
    from tqdm import tqdm

    from .reports.schema import PrecisionTrial

__all__ = ["DistilBertVectorizer"]

ADDED_LATER = {"prompt": None, "normalize": False, "truncate_dim": None, "allow_remote": False}
TRIAL_TEXTS = 256  # on which `precision="auto"` compares precisions


class DistilBertVectorizer(LinkedToDocs, TransformerMixin, BaseEstimator):
    """Turn texts into vectors with a frozen DistilBERT or any other encoder.

    Vectors of texts that were seen before are read from the cache on disk; the encoder is
    loaded for the first text that is not in the cache.

    A text has the same vector whatever other texts are in the batch: within 1e-5 in
    float32, also on another CPU, and exactly if it comes from the cache. The reduced
    precisions stay the same within a bound that the documentation states.

    Parameters
    ----------
    model_name : str, default="distilbert-base-uncased"
        A name on the Hugging Face hub, a folder, `"all-MiniLM-L6-v2"`, the installed
        packaged encoder, or a short name such as `"e5-small-v2"`, which stands for a commit
        on the hub (`frozenbert.encoders.hub.KNOWN_ENCODERS`). Every encoder that
        `transformers.AutoModel` loads from `.safetensors` works.
    revision : str or None, default=None
        Branch, tag or commit on the hub. None is the main branch, or the commit that a short
        name stands for.
    pooling : {"auto", "cls", "mean", "max"} or tuple of the last three, default="auto"
        How the token vectors of a text become one vector: the first position, their mean,
        or their maximum (special tokens included). "auto" is what the encoder declares in
        `1_Pooling/config.json`, or else "cls".
    layers : int, tuple of int or "all", default=-1
        Indices into `hidden_states`: 0 is the embeddings, 1 the first layer, -1 the
        last; "all" is 1 to the last. Columns are ordered by layer, then by pooling.
    max_length : int or None, default=None
        Most tokens of a text, special tokens included. None is the limit of the encoder
        and its tokenizer.
    long_text : {"truncate", "head_tail", "windows"}, default="truncate"
        What happens to longer texts. "truncate" cuts the end off. "head_tail" leaves the
        middle out and gives a quarter of the room to the beginning. "windows" reads the
        whole text in overlapping windows and averages their vectors.
    missing : {"error", "empty"}, default="error"
        Whether None and NaN raise an error or count as the empty text.
    precision : {"float32", "bfloat16", "int8", "auto"}, default="float32"
        Number format the encoder computes in. The reduced ones are faster on a CPU that
        has the instructions, and not exact. With "auto", `fit` selects the fastest one that
        this CPU (or GPU) has instructions for and that agrees with float32 on 256 of the
        texts: mean cosine of at least 0.999, and, if `y` contains classes or labels, at
        least 99.5 % equal predictions of logistic regressions fitted on float32 vectors of
        the other folds. If none agrees, it is float32. Without `y` the cosine alone decides.
    backend : {"auto", "torch", "openvino"}, default="auto"
        The engine; "auto" is torch in float32 and on a GPU, and OpenVINO otherwise.
    device : str or None, default=None
        A torch device; None is "cuda" if torch has it, or else "cpu".
    num_threads : int or None, default=None
        Threads the encoder computes with. None is torch's own setting, but not more than
        the cores that the process may use (affinity, a container's share).
    max_batch_tokens : int or None, default=None
        Most tokens of a batch; None is 1,024 on a CPU and 32,768 on CUDA.
    cache_dir : str, path-like or None, default="auto"
        Folder for the vectors. "auto" is `$FROZENBERT_CACHE` or else the user's cache
        folder; None stores nothing.
    store_weights : bool, default=False
        Whether a pickle of the fitted vectorizer contains the encoder itself, as arrays.
    local_files_only : bool, default=False
        Whether to never ask the hub.
    progress : {"auto", True, False}, default="auto"
        Whether to show a progress bar on stderr; "auto" shows it in a terminal or a notebook.
    keep_layers : {"auto", "asked", "all"}, default="auto"
        What the cache stores of a text that is computed. One forward pass has every layer,
        so storing all of them (with cls, mean and the pooling asked for) lets a search over
        `layers` and `pooling` encode each text once. "auto" does that in `fit`,
        `fit_transform`, and `transform` of a vectorizer that was fitted in this process, for
        up to 20,000 distinct texts and up to 1 GB on disk. Beyond that, in `transform` of a
        loaded vectorizer and in `transform_iter` it stores what is asked for, which is
        faster for the last layer with "cls". "asked" never stores more, "all" always stores
        all layers. Reduced precisions store what is asked for, because there a layer's
        vector depends on what is computed with it.
    prompt : str or None, default=None
        What is put before each text, such as "query: "; "" is nothing. None is the encoder's
        own: the default of its `config_sentence_transformers.json`, or that of a known encoder.
    normalize : bool, default=False
        Whether to scale vectors to length 1; of several layers or poolings, each one's.
    truncate_dim : int or None, default=None
        Columns to keep, from the first; of several layers or poolings, of each one. Vectors
        are cut, then normalised. The cache stores them as they were before.
    allow_remote : bool, default=False
        Whether texts may be sent to a remote encoder, `model_name="openai:MODEL"`. Its key and
        address are those of the environment (`OPENAI_API_KEY`, `OPENAI_BASE_URL`). It is never
        stored: a copy, or a loaded model, must be allowed again by `set_params`. Vectors that
        are in the cache need no permission.

    Attributes
    ----------
    encoder_name_ : str
        Name of the encoder; for a folder, its last part.
    encoder_source_ : {"folder", "package", "hub", "remote"}
        Kind of place where it was found.
    encoder_revision_ : str or None
        Its commit on the hub.
    encoder_hash_ : str
        SHA-256 over its weights, tokenizer and config, 64 hexadecimal digits; of a remote one,
        over its address, name and width, and the vector of a fixed text.
    pooling_ : tuple of str
        Resolved `pooling`.
    layers_ : tuple of int
        Resolved `layers`, none negative.
    max_length_ : int
        Resolved `max_length`, in tokens; 0 of a remote encoder, whose server counts them.
    precision_ : {"float32", "bfloat16", "int8"}
        Resolved `precision`; `transform` computes in it on every machine.
    precision_trials_ : dict of str to dict
        With "auto", the agreement of each precision that `fit` compared with float32:
        `n_texts`, `mean_cosine` and `equal_labels` (None without classes). Otherwise empty.
    prompt_ : str
        Resolved `prompt`.
    normalize_ : bool
        As given to `fit`.
    hidden_size_ : int
        Columns of a layer of the encoder.
    n_layers_ : int
        Layers of the encoder.
    n_features_out_ : int
        Columns of the result.
    n_long_, n_truncated_ : int
        Number of training texts longer than `max_length_`, and of those that were not read
        whole.
    unread_ : float
        Share of the training texts' tokens that was not read, 0 to 1.

    Examples
    --------
    >>> from frozenbert import DistilBertVectorizer
    >>> embed = DistilBertVectorizer("all-MiniLM-L6-v2", cache_dir=None)
    >>> vectors = embed.fit_transform(["a stirring film", "a dull film"])
    >>> vectors.shape, vectors.dtype, embed.pooling_
    ((2, 384), dtype('float32'), ('mean',))
    """

    _doc_page = "frozenbert.DistilBertVectorizer"

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
        keep_layers: str = "auto",
        prompt: str | None = None,
        normalize: bool = False,
        truncate_dim: int | None = None,
        allow_remote: bool = False,
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
        self.keep_layers = keep_layers
        self.prompt = prompt
        self.normalize = normalize
        self.truncate_dim = truncate_dim
        self.allow_remote = allow_remote

    def fit(self, X: Iterable[object], y: object = None) -> DistilBertVectorizer:
        """Find the encoder, resolve the parameters and count the texts that are too long.

        Only the tokenizer is loaded, and no vector is computed, unless `precision` is "auto".

        Parameters
        ----------
        X : sequence of str
            List, tuple, array, Series or one-column DataFrame of texts.
        y : array-like, optional
            Classes, or columns of 0 and 1. Only `precision="auto"` uses them.

        Returns
        -------
        DistilBertVectorizer
            Itself.

        Raises
        ------
        InputError
            A `ValueError`: `X` is empty, a text is missing, or a parameter is illegal.
        TypeError
            If a text is not a string.
        EncoderNotFoundError
            An `InputError`: the encoder does not exist or cannot be loaded.

        Warns
        -----
        PrecisionWarning
            If `precision="auto"` resolves to float32 because OpenVINO is missing or cannot
            compute this encoder.
        """
        texts, files = self._resolve(X)
        self._resolve_precision(texts, y)
        job = self._job(texts, self._cache())
        self._note_fit(job, job.count_tokens(lambda: _tokenizer_of(files)))
        return self

    def fit_transform(
        self, X: Iterable[object], y: object = None, **fit_params: object
    ) -> np.ndarray:
        """Fit, and return the vectors of the same texts; each is tokenized once.

        Parameters
        ----------
        X : sequence of str
            The texts.
        y : array-like, optional
            As for `fit`.
        **fit_params : ignored

        Returns
        -------
        numpy.ndarray of float32, shape (n_samples, n_features)
            In the order of `X`.
        """
        texts, _ = self._resolve(X)
        self._resolve_precision(texts, y)
        job = self._job(texts, self._cache())
        vectors, n_tokens = job.run(self._encoder, self._bar)
        self._note_fit(job, n_tokens)
        return self._finish(vectors)

    def transform(self, X: Iterable[object]) -> np.ndarray:
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
            If the encoder of this name is not the one that was fitted with.
        EncoderNotFoundError
            If the encoder is needed, and does not exist or cannot be loaded.
        """
        check_is_fitted(self)
        check_parameters(self)
        fitted_here = self._in_process().stores_all
        job = self._job(check_texts(X, self.missing), self._cache(), bounded=fitted_here)
        vectors, n_tokens = job.run(self._encoder, self._bar)
        self._reading().add(n_tokens).warn()
        return self._finish(vectors)

    @overload
    def transform_iter(
        self,
        X: Iterable[object],
        *,
        block_size: int | None = None,
        return_n_tokens: Literal[False] = False,
    ) -> Iterator[np.ndarray]: ...

    @overload
    def transform_iter(
        self,
        X: Iterable[object],
        *,
        block_size: int | None = None,
        return_n_tokens: Literal[True],
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]: ...

    def transform_iter(
        self,
        X: Iterable[object],
        *,
        block_size: int | None = None,
        return_n_tokens: bool = False,
    ) -> Iterator[np.ndarray] | Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the vectors of more texts than fit into memory, block by block.

        Parameters
        ----------
        X : iterable of str
            The texts, such as a generator. If it has a length (or a `__length_hint__`), the
            progress bar knows its end.
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
            A `ValueError`: a text is missing, or `block_size` is illegal. Blocks that were
            yielded before are valid, and their vectors are in the cache.
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
        self, texts: Iterator[object], size: int, total: int | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        # One cache for all blocks: it remembers what each file on disk contains.
        cache, done, reading = self._cache(), 0, self._reading()
        with progress_bar(self.progress, total) as bar:
            while block := list(itertools.islice(texts, size)):
                job = self._job(check_texts(block, self.missing, done), cache, bounded=False)
                vectors, n_tokens = job.run(self._encoder, lambda _: contextlib.nullcontext(bar))
                done += len(block)
                bar.update(done - bar.n)  # counts cached and repeated texts too
                reading.add(n_tokens)
                yield self._finish(vectors), n_tokens
        reading.warn()

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the columns' names, like `layer6_mean_0`; of a remote encoder `layer0_remote_0`.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        numpy.ndarray of object, shape (n_features,)
        """
        check_is_fitted(self)
        width = self.n_features_out_ // self._n_blocks
        names = [
            f"layer{layer}_{how}_{i}"
            for layer in self.layers_
            for how in self.pooling_
            for i in range(width)
        ]
        return np.array(names, dtype=object)

    def set_params(self, **params: object) -> DistilBertVectorizer:
        """Set parameters.

        After `fit`, most take effect with the next `fit`. The others say where and how to
        compute and store: `precision` (other than "auto"), `backend`, `device`, `cache_dir` and
        the like; they take effect at once.

        Parameters
        ----------
        **params

        Returns
        -------
        DistilBertVectorizer
            Itself.
        """
        super().set_params(**params)
        if hasattr(self, "precision_") and params.get("precision", "auto") != "auto":
            self.precision_ = self.precision
        return self

    def __sklearn_tags__(self) -> Tags:
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
        state["allow_remote"] = False
        if self.store_weights and hasattr(self, "encoder_hash_") and "_stored" not in state:
            encoder = self._encoder()
            if isinstance(encoder, Encoder):
                state["_stored"] = encoder.to_arrays()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # What was saved before these existed: vectors as they come from the encoder.
        super().__setstate__({**ADDED_LATER, **state})
        if not hasattr(self, "encoder_hash_"):
            return
        if not hasattr(self, "precision_"):
            self.precision_ = self.precision
        if not hasattr(self, "prompt_"):
            self.prompt_, self.normalize_ = "", False
            self.hidden_size_ = state["n_features_out_"] // self._n_blocks

    def _prepare_to_save(self) -> None:
        """Turn the cache off and name an encoder's folder by its last part.

        `save_model` calls this on the copy that it saves.
        """
        self.cache_dir = None
        self.__dict__.pop("_exported", None)
        if getattr(self, "encoder_source_", None) == "folder" or Path(self.model_name).is_dir():
            self.model_name = Path(self.model_name).name

    def _note_loaded_from(self, folder: Path) -> None:
        """Look for the encoder's folder in `folder` too; `load_model` calls this."""
        self._beside = folder
        self.cache_dir = None  # a file does not decide where vectors are stored

    def _prepare_to_export(self) -> None:
        """Set the parameters to those of an export; `export_model` calls this on its copy."""
        self.model_name = self.encoder_name_
        self.precision = self.precision_
        self.backend, self.device = "openvino", None
        self.store_weights = False
        for with_weights in ("_stored", "_exported"):
            self.__dict__.pop(with_weights, None)

    def _use_exported(self, files: ExportedFiles) -> None:
        """Compute vectors with an exported encoder; `load_model` calls this."""
        self._exported = files
        self.cache_dir = None

    def _resolve(self, X: Iterable[object]) -> tuple[list[str], EncoderFiles | RemoteModel]:
        """Check parameters and texts, find the encoder, and set the attributes that describe it."""
        check_parameters(self)
        texts = check_texts(X, self.missing)
        if not texts:
            raise InputError("X holds no texts: at least one is needed to fit.")
        for of_earlier_fit in ("_stored", "_exported", "encoder_check_"):
            self.__dict__.pop(of_earlier_fit, None)
        self._loaded = _InProcess()
        files = self._find_remote() if is_remote(self.model_name) else self._find(self.revision)
        self.encoder_name_ = Path(files.name).name if files.source == "folder" else files.name
        self.encoder_source_ = files.source
        self.encoder_revision_ = files.revision
        self.encoder_hash_ = files.content_hash
        if isinstance(files, EncoderFiles):
            self.pooling_ = resolve_pooling(self.pooling, files)
            self.layers_ = resolve_layers(self.layers, files)
            self.max_length_ = resolve_max_length(self.max_length, files)
            self.prompt_ = resolve_prompt(self.prompt, self.model_name, files)
        else:
            self.pooling_, self.layers_, self.max_length_ = ("remote",), (0,), 0
            self.prompt_ = self.prompt or ""
            self.encoder_check_ = files.check_vector
        self.normalize_ = bool(self.normalize)
        self.n_layers_, self.hidden_size_ = files.n_layers, files.hidden_size
        self.n_features_out_ = self._n_blocks * resolve_width(self.truncate_dim, files)
        return texts, files

    def _resolve_precision(self, texts: list[str], y: Any) -> None:
        """Set `precision_`; "auto" is the fastest precision that agrees with float32."""
        self.precision_trials_: dict[str, PrecisionTrial] = {}
        if self.precision != "auto":
            self.precision_ = self.precision
            return
        self.precision_ = "float32"
        names = faster_precisions(self.backend, choose_device(self._device()))
        if not names:
            return
        rows = sample_rows(texts, TRIAL_TEXTS)
        sample = [texts[row] for row in rows]
        labels = None if y is None else np.asarray(y.toarray() if hasattr(y, "toarray") else y)
        if labels is not None:
            if len(labels) != len(texts):
                raise InputError(f"{len(labels):,} labels for {len(texts):,} texts.", parameter="y")
            labels = labels[rows]
        self.precision_, self.precision_trials_, problem = choose_precision(
            names,
            lambda name: self._trial_vectors(sample, name),
            self._trial_vectors(sample, "float32"),
            labels,
        )
        if problem is not None:
            warnings.warn(
                f"precision='auto' computes in float32: {problem}",
                PrecisionWarning,
                stacklevel=callers_level(),
            )

    def _trial_vectors(self, sample: list[str], precision: str) -> np.ndarray:
        self.precision_ = precision  # the job reads it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PrecisionWarning)  # what the trial is there to decide
            return self._job(sample, self._cache(), bounded=False).run(self._encoder)[0]

    def _find(self, revision: str | None, hub: bool = True) -> EncoderFiles:
        return find_encoder(
            self.model_name,
            revision,
            local_files_only=self.local_files_only,
            beside=getattr(self, "_beside", None),
            hub=hub,
        )

    def _find_remote(self) -> RemoteModel:
        check_remote(self)
        return find_remote(
            self.model_name,
            allowed=self.allow_remote,
            offline=self.local_files_only,
            root=cache_root(self.cache_dir),
        )

    def _cache(self) -> VectorCache | None:
        root = cache_root(self.cache_dir)
        return None if root is None else VectorCache(root, self._settings())

    def _job(self, texts: list[str], cache: VectorCache | None, *, bounded: bool = True) -> Job:
        """Return the job for some texts; with `bounded`, "auto" may store all layers."""
        root = None if cache is None else cache.root
        return Job(
            # The cache finds a vector by what the encoder reads: prompt and text.
            [self.prompt_ + text for text in texts] if self.prompt_ else texts,
            self._settings(),
            self.long_text,
            cache,
            keep_layers="asked" if self.keep_layers == "auto" and not bounded else self.keep_layers,
            options=EngineOptions(self.backend, self.num_threads, self.max_batch_tokens, root),
        )

    @property
    def _n_blocks(self) -> int:
        return len(self.layers_) * len(self.pooling_)

    def _finish(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors as the parameters ask for them, from those that the cache stores."""
        width = self.n_features_out_ // self._n_blocks
        return cut_and_normalize(vectors, self._n_blocks, width, normalize=self.normalize_)

    def _settings(self) -> VectorSettings:
        engine = quantization = None
        if self.encoder_source_ == "remote":
            engine = "remote"
        elif self.precision_ == "bfloat16":
            # Engines agree within 1e-5 in float32 only, and int8 is computed by OpenVINO alone.
            engine = resolve_backend(self.backend, self.precision_, choose_device(self._device()))
        if self.precision_ == "int8":
            quantization = _quantization()
        return VectorSettings(
            self.encoder_hash_,
            self.n_layers_,
            self.hidden_size_,
            self.layers_,
            self.pooling_,
            self.max_length_,
            self.precision_,
            engine,
            quantization,
            # In float32, padding changes vectors by less than engines differ.
            LADDER if quantization or engine == "openvino" else None,
        )

    def _encoder(self) -> Encoder | ExportedEncoder | RemoteEncoder:
        """Load the encoder that was fitted with.

        Raises
        ------
        EncoderMismatchError, EncoderNotFoundError
            As by `transform`.
        """
        # With another name, the encoder is found by that.
        if hasattr(self, "_exported") and self.model_name == self.encoder_name_:
            if self._device() not in (None, "cpu"):
                raise InputError(
                    "an exported encoder runs on the CPU.", parameter="device", value=self.device
                )
            return load_exported(self._exported)
        if hasattr(self, "_stored"):
            loaded = self._in_process()
            if loaded.encoder is None:
                loaded.encoder = Encoder.from_arrays(self._stored, choose_device(self._device()))
            return loaded.encoder
        if is_remote(self.model_name):
            return self._remote_encoder()
        files = self._fitted_files()
        if files.content_hash != self.encoder_hash_:
            raise EncoderMismatchError(
                f"encoder {self.model_name!r} at {files.folder} has the content "
                f"{files.content_hash[:12]}, but this vectorizer was fitted with "
                f"{self.encoder_name_!r} of content {self.encoder_hash_[:12]}: their vectors do "
                f"not mix. Bring that encoder back, or fit again."
            )
        return load_encoder(files, self._device())

    def _remote_encoder(self) -> RemoteEncoder:
        if not hasattr(self, "encoder_check_"):
            raise EncoderMismatchError(
                f"encoder {self.model_name!r} is not the one fitted with, {self.encoder_name_!r}: "
                f"their vectors do not mix. Fit again."
            )
        check_remote(self)
        client = connect(self.model_name, allowed=self.allow_remote, offline=self.local_files_only)
        return RemoteEncoder(client, self.encoder_check_)

    def _fitted_files(self) -> EncoderFiles:
        """Find the encoder that was fitted with; again only if the place or a file changed."""
        revision = self.revision
        if revision is None and on_hub(self.model_name)[0] == self.encoder_name_:
            revision = self.encoder_revision_
        # What the place depends on.
        place = (
            self.model_name,
            revision,
            self.local_files_only,
            getattr(self, "_beside", None),
            os.environ.get("FROZENBERT_ENCODERS"),
            os.getcwd(),
        )
        process = self._in_process()
        if process.found is not None:
            former, stamp, files = process.found
            if former == place and stamp == files.stamp():
                return files
        try:
            files = self._find(revision, hub=self.encoder_source_ == "hub")
        except EncoderNotFoundError as error:
            raise type(error)(
                f"{error} (Fitted with {self.encoder_name_!r}, content {self.encoder_hash_[:12]}.)"
            ) from error
        process.found = (place, files.stamp(), files)
        return files

    def _in_process(self) -> _InProcess:
        if not hasattr(self, "_loaded"):
            self._loaded = _InProcess()
        return self._loaded

    def _device(self) -> str | None:
        """Return the device asked for; None lets torch choose."""
        by_openvino = self.precision_ == "int8" or self.backend == "openvino"
        return "cpu" if self.device is None and by_openvino else self.device

    def _bar(self, total: int) -> contextlib.AbstractContextManager[tqdm | None]:
        if not shows_bar(self.progress):
            return contextlib.nullcontext()
        return progress_bar(self.progress, total)

    def _reading(self) -> Reading:
        return Reading(self.max_length_, self.long_text)

    def _note_fit(self, job: Job, n_tokens: np.ndarray) -> None:
        self._loaded.stores_all = job.has_few_texts
        reading = self._reading().add(n_tokens)
        self.n_long_, self.n_truncated_ = reading.n_long, reading.n_truncated
        self.unread_ = reading.unread
        reading.warn()


def _tokenizer_of(files: EncoderFiles | RemoteModel) -> TextTokenizer | RemoteTokenizer:
    return RemoteTokenizer() if isinstance(files, RemoteModel) else load_tokenizer(files)


def _quantization() -> str:
    """Return what identifies int8 vectors: the method, and the precision of the rest here."""
    try:
        return f"{scheme()}-{int8_rest()}"
    except ImportError:  # the engine will say that OpenVINO is missing
        return scheme()


@dataclass
class _InProcess:
    """State of a fitted vectorizer in this process alone; pickles leave it out.

    Attributes
    ----------
    stores_all : bool
        Whether it was fitted here, on few enough texts that `transform` stores all layers of
        its texts too.
    encoder : Encoder or None
        Rebuilt from the arrays that a pickle contained.
    found : tuple or None
        What the place of the encoder's files depends on, their stamp, and the files.
    """

    stores_all: bool = False
    encoder: Encoder | None = None
    found: tuple[tuple[object, ...], tuple[object, ...], EncoderFiles] | None = None
