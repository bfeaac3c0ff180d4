"""Tokenizers of encoders: load one without its weights, split texts into token ids."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

import numpy as np

from ..errors import EncoderNotFoundError, InputError
from ..utils.console import first_line, hide_widget_hint
from ..utils.extras import require
from .batching import fit_in
from .sources import EncoderFiles, quiet_transformers

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

__all__ = ["TextTokenizer", "load_tokenizer"]


class TextTokenizer:
    """Tokenizer that splits one text at a time into pieces of token ids.

    Parameters
    ----------
    backend : tokenizers.Tokenizer or transformers.PreTrainedTokenizerBase
        A Rust tokenizer without truncation and padding, or one written in Python.
    pad_token_id : int
        Stands for a text without tokens, and fills the short rows of a padded batch.
    """

    def __init__(self, backend: Tokenizer | PreTrainedTokenizerBase, pad_token_id: int) -> None:
        self.backend = backend
        self.pad_token_id = pad_token_id

    def split(
        self, text: str, max_length: int, long_text: str = "truncate"
    ) -> tuple[list[np.ndarray], int]:
        """Split a text into token ids: one piece, or several windows of a long text.

        It takes one text per call and runs on the caller's thread: tokenizing takes a
        hundredth of the encoder's time, and the thread pool of a Rust tokenizer does not
        survive a fork.

        Parameters
        ----------
        text : str
        max_length : int
            Most tokens of a piece. Only the text is cut: each piece keeps the special tokens
            at both ends.
        long_text : {"truncate", "head_tail", "windows"}
            As for `frozenbert.encoders.batching.fit_in`.

        Returns
        -------
        pieces : list of numpy.ndarray of int32, each of shape (n_piece,)
            At most `max_length` tokens each.
        n_tokens : int
            The text's length before it is cut, special tokens included.
        """
        ids, special = self._encode(text, max_length)
        n_tokens = len(ids)
        if not ids:  # an empty text, and a tokenizer that adds no special tokens
            ids = [self.pad_token_id]
        whole = np.asarray(ids, dtype=np.int32)
        if n_tokens <= max_length or special is None:
            return [whole], n_tokens
        body = np.flatnonzero(np.asarray(special) == 0)
        # Special tokens that the text itself spells out are part of the body.
        first, last = (int(body[0]), int(body[-1]) + 1) if len(body) else (0, n_tokens)
        return fit_in(whole, first, last, max_length, long_text), n_tokens

    def _encode(self, text: str, max_length: int) -> tuple[list[int], list[int] | None]:
        """Return token ids, and the mask of special tokens if there are more than `max_length`."""
        from tokenizers import Tokenizer

        if isinstance(self.backend, Tokenizer):
            encoding = self.backend.encode(text)
            ids = encoding.ids
            return ids, encoding.special_tokens_mask if len(ids) > max_length else None
        # transformers warns about long texts unless `verbose` is off.
        fields = self.backend(text, return_special_tokens_mask=True, verbose=False)
        return fields["input_ids"], fields["special_tokens_mask"]

    @property
    def is_data(self) -> bool:
        """Whether `to_json` can store it: it is no tokenizer written in Python."""
        from tokenizers import Tokenizer

        return isinstance(self.backend, Tokenizer)

    def to_json(self) -> str:
        """Return the tokenizer as the content of a `tokenizer.json`.

        Raises
        ------
        InputError
            If the tokenizer is written in Python.
        """
        if not self.is_data:
            raise InputError(
                "the tokenizer of this encoder is written in Python and cannot be stored as "
                "data; use store_weights=False and keep the encoder's folder.",
                parameter="store_weights",
                value=True,
            )
        return str(self.backend.to_str())

    @classmethod
    def from_json(cls, content: str, pad_token_id: int) -> TextTokenizer:
        """Rebuild a tokenizer from what `to_json` returned."""
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_str(content), pad_token_id)


def load_tokenizer(files: EncoderFiles) -> TextTokenizer:
    """Load an encoder's tokenizer without its weights; the last two stay loaded.

    Parameters
    ----------
    files : EncoderFiles

    Returns
    -------
    TextTokenizer
        The object that `frozenbert.encoders.encoder.load_encoder` gives the encoder, too.

    Raises
    ------
    EncoderNotFoundError
        If transformers cannot load it.
    """
    with _loading:
        return _load_once(files.content_hash, files)


_loading = threading.Lock()  # `lru_cache` alone lets two threads load the same tokenizer


@functools.lru_cache(maxsize=2)
def _load_once(content_hash: str, files: EncoderFiles) -> TextTokenizer:
    require("transformers", purpose="an encoder")
    hide_widget_hint()
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(
                files.folder, trust_remote_code=False, local_files_only=True
            )
    except Exception as error:  # transformers raises many kinds for a damaged file
        raise EncoderNotFoundError(
            f"the tokenizer in {files.folder} cannot be loaded ({first_line(error)}).",
            parameter="model_name",
            value=files.name,
        ) from error
    pad_token_id = 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
    if not tokenizer.is_fast:
        return TextTokenizer(tokenizer, pad_token_id)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return TextTokenizer(backend, pad_token_id)
