"""A remote encoder in the place of a loaded one: find it, and ask it for vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import EncoderMismatchError, InputError
from .check_vectors import CHECK_TEXT, content_hash, cosine, is_same, recall
from .client import RemoteClient

__all__ = ["RemoteEncoder", "RemoteModel", "RemoteTokenizer", "connect", "find_remote", "is_remote"]

PREFIX = "openai:"


def is_remote(name: object) -> bool:
    """Tell whether an encoder's name is that of a remote one.

    Examples
    --------
    >>> is_remote("openai:text-embedding-3-small"), is_remote("all-MiniLM-L6-v2")
    (True, False)
    """
    return isinstance(name, str) and name.startswith(PREFIX)


@dataclass(frozen=True, eq=False)
class RemoteModel:
    """What is known of a remote encoder.

    Attributes
    ----------
    name : str
        With `openai:` before it.
    content_hash : str
        Identifies its vectors: address, name, width, and the vector of a fixed text.
    check_vector : numpy.ndarray of float32, shape (hidden_size,)
        The vector of that text.
    """

    name: str
    content_hash: str
    check_vector: np.ndarray
    source = "remote"
    revision = None
    n_layers = 0

    @property
    def hidden_size(self) -> int:
        """Columns of a vector."""
        return len(self.check_vector)


class RemoteTokenizer:
    """Hands texts on as they are: the server counts and cuts tokens."""

    def split(
        self, text: str, max_length: int, long_text: str = "truncate"
    ) -> tuple[list[np.ndarray], int]:
        """Return the bytes of a text as its only piece, and 0 for the unknown number of tokens."""
        # Servers refuse an empty text.
        return [np.frombuffer((text or " ").encode(), dtype=np.uint8)], 0


class RemoteEncoder:
    """A remote encoder that may be asked.

    Parameters
    ----------
    client : RemoteClient
    check_vector : numpy.ndarray of float32, shape (n_features,)
        The vector of the fixed text that is sent first in each request: another one is an error.
    """

    device = "cpu"

    def __init__(self, client: RemoteClient, check_vector: np.ndarray) -> None:
        self.client = client
        self.check_vector = check_vector
        self.tokenizer = RemoteTokenizer()

    def encode(self, pieces: Sequence[np.ndarray]) -> np.ndarray:
        """Return the vectors of texts, given as their bytes, from one request.

        Raises
        ------
        EncoderMismatchError
            If the vector of the fixed text is another one.
        RemoteEncoderError
            If the server refuses the request, or does not answer.
        """
        texts = [piece.tobytes().decode() for piece in pieces]
        check, *_ = vectors = self.client.embed([CHECK_TEXT, *texts])
        if not is_same(check, self.check_vector):
            raise EncoderMismatchError(
                f"another encoder than the one fitted with answers as {self.client.model!r} at "
                f"{self.client.server}: the vector of a fixed text has a cosine of "
                f"{cosine(check, self.check_vector):.4f} to the former one, so new vectors do not "
                f"go with the former ones. Fit again, or bring the former model back."
            )
        return vectors[1:]


def find_remote(name: str, *, allowed: bool, offline: bool, root: Path | None) -> RemoteModel:
    """Ask a remote encoder for the vector of a fixed text, which tells its width and identity.

    Parameters
    ----------
    name : str
        `openai:` and the model's name.
    allowed, offline
        As for `connect`.
    root : pathlib.Path or None
        Folder of the cache, in which the vector is stored.

    Raises
    ------
    InputError, RemoteEncoderError
        As by `connect`; or the server does not answer.
    """
    client = connect(name, allowed=allowed, offline=offline)
    (vector,) = client.embed([CHECK_TEXT])
    vector = recall(root, client.url, client.model, vector)
    return RemoteModel(name, content_hash(client.url, client.model, vector), vector)


def connect(name: str, *, allowed: bool, offline: bool) -> RemoteClient:
    """Return the client of a remote encoder; nothing is sent yet.

    Parameters
    ----------
    name : str
    allowed : bool
        Whether texts may be sent to another machine.
    offline : bool
        Whether nothing may be sent.

    Raises
    ------
    InputError
        If texts may not be sent, or the server's address is not valid.
    RemoteEncoderError
        If there is no key.
    """
    if offline:
        raise InputError(
            f"encoder {name!r} computes on another machine, and vectors are needed that are not "
            f"in the cache.",
            parameter="local_files_only",
            value=True,
        )
    if not allowed:
        raise InputError(
            f"encoder {name!r} computes on another machine, which is sent the texts; allow that "
            f"in this process.",
            parameter="allow_remote",
            value=False,
        )
    model = name.removeprefix(PREFIX)
    if not model:
        raise InputError(
            f"the model's name is missing after {PREFIX!r}.", parameter="model_name", value=name
        )
    return RemoteClient(model)
