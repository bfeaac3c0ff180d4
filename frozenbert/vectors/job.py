"""A job: texts are looked up in the cache, the absent ones computed and stored."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np

from ..encoders.remote.remote_encoder import RemoteTokenizer
from ..encoders.threads import in_streams
from ..encoders.tokenizing import TextTokenizer
from ..errors import InputError
from ..utils.texts import distinct_texts
from .cache import Share, VectorCache
from .engines import AnyEncoder, Engine, EngineOptions, gives_all_layers, make_engine
from .results import Results, text_keys
from .settings import VectorSettings

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Job", "block_rows"]

MOST_TEXTS = 20_000  # distinct texts of a job that stores all layers by itself
BLOCK_BYTES = 2**25  # of vectors


class Job:
    """Texts, and all that turns them into vectors.

    Parameters
    ----------
    texts : list of str
        In any order; repeated texts are computed once.
    settings : VectorSettings
        What to return.
    long_text : {"truncate", "head_tail", "windows"}
        What happens to texts of more than `settings.max_length` tokens.
    cache : VectorCache or None
        For the same settings.
    keep_layers : {"auto", "asked", "all"}, default="asked"
        What to store of texts that are computed: the columns asked for, all layers, or all
        layers if there are at most `MOST_TEXTS` distinct texts and the cache has room.
    options : EngineOptions, optional

    Attributes
    ----------
    results : Results
        Of the distinct texts.

    Examples
    --------
    >>> from frozenbert.encoders.encoder import load_encoder
    >>> from frozenbert.encoders.sources import find_encoder
    >>> files = find_encoder("all-MiniLM-L6-v2")
    >>> settings = VectorSettings(files.content_hash, 6, 384, (6,), ("mean",), max_length=128)
    >>> job = Job(["a good film", "a dull film", "a good film"], settings, "truncate", None)
    >>> vectors, n_tokens = job.run(lambda: load_encoder(files, "cpu"))
    >>> vectors.shape, n_tokens.tolist(), len(job.results.vectors)
    ((3, 384), [5, 5, 5], 2)
    """

    def __init__(
        self,
        texts: list[str],
        settings: VectorSettings,
        long_text: str,
        cache: VectorCache | None,
        *,
        keep_layers: str = "asked",
        options: EngineOptions | None = None,
    ) -> None:
        self.texts, self._inverse = distinct_texts(texts)
        self.settings = settings
        self.long_text = long_text
        self.cache = cache
        self.keep_layers = keep_layers
        self.options = options or EngineOptions()
        self.results = Results(text_keys(self.texts), settings.n_features)

    def run(
        self,
        load_encoder: Callable[[], AnyEncoder],
        make_bar: Callable[[int], AbstractContextManager[tqdm | None]] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Look up all texts and compute the absent ones.

        Parameters
        ----------
        load_encoder : callable
            Returns the encoder; called only if a text is not in the cache.
        make_bar : callable, optional
            From the number of texts to compute to a progress bar for them.

        Returns
        -------
        vectors : numpy.ndarray of float32, shape (n_texts, n_features)
            In the order of the texts.
        n_tokens : numpy.ndarray of int64, shape (n_texts,)
            Lengths before cutting.
        """
        self._read_cache()
        n_missing = int(self.results.missing.sum())
        if n_missing:
            encoder = load_encoder()
            pieces = self._tokenize(encoder.tokenizer)
            self._choose_columns(encoder)
            with make_bar(n_missing) if make_bar else contextlib.nullcontext() as bar:
                self._compute(encoder, pieces, bar)
        return self._per_text(self.results.vectors), self._per_text(self.results.n_tokens)

    def count_tokens(
        self, load_tokenizer: Callable[[], TextTokenizer | RemoteTokenizer]
    ) -> np.ndarray:
        """Return the lengths of all texts; only those that are not in the cache are tokenized.

        Parameters
        ----------
        load_tokenizer : callable

        Returns
        -------
        numpy.ndarray of int64, shape (n_texts,)
            Tokens before cutting, in the order of the texts.
        """
        self._read_cache()
        if self.results.missing.any():
            self._tokenize(load_tokenizer())
        return self._per_text(self.results.n_tokens)

    @property
    def has_few_texts(self) -> bool:
        """Whether the distinct texts are few enough to store all their layers by default."""
        return len(self.texts) <= MOST_TEXTS

    def _per_text(self, values: np.ndarray) -> np.ndarray:
        return values if len(self.texts) == len(self._inverse) else values[self._inverse]

    def _read_cache(self) -> None:
        if self.cache is None:
            return
        results = self.results
        self.cache.read(results)
        if self.long_text == "truncate":
            return
        # A text that fits has the same vector whatever happens to long ones, which therefore
        # have a key of their own. Which of the missing texts are long is unknown until they
        # are tokenized.
        results.missing |= results.n_tokens > self.settings.max_length
        rows, plain = np.flatnonzero(results.missing), results.keys
        results.keys = self._with_long_keys(rows)
        self.cache.read(results)
        found = rows[~results.missing[rows]]
        keys = plain.copy()
        keys[found] = results.keys[found]
        results.keys = keys

    def _with_long_keys(self, rows: np.ndarray) -> np.ndarray:
        """Return the keys, with those for long texts in some rows."""
        keys = self.results.keys.copy()
        keys[rows] = text_keys([self.texts[row] for row in rows.tolist()], self.long_text)
        return keys

    def _tokenize(self, tokenizer: TextTokenizer | RemoteTokenizer) -> dict[int, list[np.ndarray]]:
        """Return the pieces of each missing text by row, and note its length."""
        results, longest = self.results, self.settings.max_length
        pieces = {}
        for row in np.flatnonzero(results.missing).tolist():
            pieces[row], results.n_tokens[row] = tokenizer.split(
                self.texts[row], longest, self.long_text
            )
        if self.long_text != "truncate":
            rows = np.flatnonzero(results.missing & (results.n_tokens > longest))
            results.keys = self._with_long_keys(rows)
        return pieces

    def _choose_columns(self, encoder: AnyEncoder) -> None:
        """Let the cache take all layers, if that is asked for or is reasonable."""
        if self.cache is None or self.keep_layers == "asked":
            return
        if self.keep_layers == "auto" and not self.has_few_texts:
            return
        if gives_all_layers(encoder, self.settings.all_layers(), self.options.backend):
            n_missing = int(self.results.missing.sum())
            self.cache.store_all_layers(n_missing if self.keep_layers == "auto" else None)

    def _compute(
        self,
        encoder: AnyEncoder,
        pieces: dict[int, list[np.ndarray]],
        bar: tqdm | None,
    ) -> None:
        """Compute the missing vectors; each batch is stored as soon as it is computed."""
        computed = self.cache.storing if self.cache is not None else self.settings
        engine = make_engine(encoder, computed, self.options)
        pieces = {row: engine.pad(several) for row, several in pieces.items()}
        rows = np.array(list(pieces))
        lengths = np.array([sum(map(len, several)) for several in pieces.values()])
        planned, max_tokens = engine.plan(lengths)
        batches = [rows[batch] for batch in planned]
        engine = engine.for_batches(len(batches))

        def compute(share: Share) -> None:
            vectors = engine.encode_texts([pieces[row] for row in share.rows], max_tokens)
            self._store(share.rows, vectors, computed)

        self._compute_in_streams(compute, batches, engine, bar)

    def _store(self, rows: np.ndarray, vectors: np.ndarray, computed: VectorSettings) -> None:
        results = self.results
        n_tokens = results.n_tokens[rows]
        results.fill(rows, self.settings.select(vectors, computed), n_tokens)
        if self.cache is not None:
            # In the stream that computed them, so that a kill loses no more than the batches
            # in flight.
            self.cache.write(results.keys[rows], vectors, n_tokens)

    def _compute_in_streams(
        self,
        compute: Callable[[Share], None],
        batches: list[np.ndarray],
        engine: Engine,
        bar: tqdm | None,
    ) -> None:
        n_streams = min(engine.n_cores, len(batches))
        shares: Generator[Share | None, None, None]
        if self.cache is None:
            shares = (Share(rows, contextlib.ExitStack()) for rows in batches)
        else:
            shares = self.cache.share_out(batches, self.results)
        torch_threads = max(1, engine.n_cores // n_streams) if engine.uses_torch else None
        finished = in_streams(compute, shares, n_streams, torch_threads)
        # Closed, so that after an error no other process waits for texts that are not coming.
        with contextlib.closing(shares), contextlib.closing(finished):
            n_left = int(self.results.missing.sum())
            for several in finished:
                for share, _ in several:
                    share.claim.close()
                # Another process may have computed some of the texts.
                n_now = int(self.results.missing.sum())
                if bar is not None:
                    bar.update(n_left - n_now)
                n_left = n_now


def block_rows(n_features: int, asked: int | None = None) -> int:
    """Return how many texts of a stream are taken at a time.

    Parameters
    ----------
    n_features : int
        Columns of a vector.
    asked : int or None, default=None
        None is as many as make vectors of 32 MiB, at most 8,192.

    Raises
    ------
    InputError
        If `asked` is not a whole number of at least 1.
    """
    if asked is None:
        return max(1, min(8192, BLOCK_BYTES // (4 * n_features)))
    if not (isinstance(asked, int) and asked >= 1):
        raise InputError(
            "a whole number of at least 1 is needed, or None.", parameter="block_size", value=asked
        )
    return asked
