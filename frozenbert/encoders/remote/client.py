"""Ask a server for vectors, in the form that OpenAI's clients speak."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

import numpy as np

from ...errors import EncoderNotFoundError, InputError, RemoteEncoderError
from ...utils.extras import require

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

__all__ = ["RemoteClient"]

KEY = "OPENAI_API_KEY"
BASE_URL = "OPENAI_BASE_URL"
DEFAULT_URL = "https://api.openai.com/v1"
ANSWERS_WITHIN = 60.0  # seconds
RETRIES = 5  # with growing pauses, or those that the server asks for


class RemoteClient:
    """Asks one model of a server for vectors; key and address come from the environment alone.

    Parameters
    ----------
    model : str
        Its name there.

    Attributes
    ----------
    url : str
        The server's address, as it identifies vectors.
    server : str
        Its name and port, for messages.

    Raises
    ------
    RemoteEncoderError
        If `OPENAI_API_KEY` is not set.
    InputError
        If the address is no URL with https; http is possible on this machine alone.
    """

    def __init__(self, model: str) -> None:
        require("openai", purpose="a remote encoder")
        self.model = model
        given = os.environ.get(BASE_URL, "").strip() or DEFAULT_URL
        parts, self._on_this_machine = _check(given)
        self.url = given.rstrip("/")
        self.server = parts.netloc
        self._key = os.environ.get(KEY, "").strip()
        if not self._key:
            raise RemoteEncoderError(
                f"{KEY} is not set, and {self.server} needs a key; for a server of your own "
                f"without one, set any."
            )

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts, from one request.

        Parameters
        ----------
        texts : sequence of str
            Not empty.

        Returns
        -------
        numpy.ndarray of float32, shape (n_texts, n_features)

        Raises
        ------
        RemoteEncoderError
            If the server refuses the request, or does not answer.
        EncoderNotFoundError
            If it has no such model.
        """
        import openai

        try:
            answer = self._connection().embeddings.create(input=list(texts), model=self.model)
        except openai.APITimeoutError:
            problem = f"did not answer within {ANSWERS_WITHIN:.0f} s, {RETRIES + 1} times"
        except openai.APIConnectionError as error:
            problem = f"cannot be reached ({type(error.__cause__ or error).__name__})"
        except openai.APIStatusError as error:
            problem = self._refusal(error, len(texts))
        except (openai.OpenAIError, AttributeError, TypeError, ValueError) as error:
            problem = f"gave an answer that cannot be read ({type(error).__name__})"
        else:
            return self._vectors(answer, len(texts))
        # Not `from error`: the errors of the client contain the texts.
        raise RemoteEncoderError(f"{self.server} {problem}.")

    def _connection(self) -> OpenAI:
        return _open(self.url, self._key, self._on_this_machine, ANSWERS_WITHIN, RETRIES)

    def _refusal(self, error: APIStatusError, n_texts: int) -> str:
        """Return what a status means; of the server's words, only a code without spaces."""
        status, code = error.status_code, str(error.code or "")
        if status == 404 or code == "model_not_found":
            raise EncoderNotFoundError(
                f"{self.server} has no such model.", parameter="model_name", value=self.model
            ) from None
        shown = f"{status}, {code}" if re.fullmatch(r"[\w.-]{1,60}", code) else str(status)
        match status:
            case 401 | 403:
                return f"refuses the key in {KEY} ({shown})"
            case 429:
                return f"answers no more requests for now, or the credit is used up ({shown})"
            case _ if 400 <= status < 500:
                return (
                    f"refuses a request of {n_texts} texts ({shown}); one may be longer than the "
                    f"model reads"
                )
            case _:
                return f"failed ({shown})"

    def _vectors(self, answer: object, n_texts: int) -> np.ndarray:
        try:
            entries = sorted(answer.data, key=lambda entry: entry.index)  # type: ignore[attr-defined]
            vectors = np.array([entry.embedding for entry in entries], dtype=np.float32)
        except (AttributeError, ValueError, TypeError):
            vectors = np.empty(0, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != n_texts or not np.isfinite(vectors).all():
            raise RemoteEncoderError(f"{self.server} gave an answer that contains no vectors.")
        return vectors


@functools.lru_cache(maxsize=4)  # connections stay open from one call to the next
def _open(url: str, key: str, on_this_machine: bool, seconds: float, retries: int) -> OpenAI:
    import openai

    http = openai.DefaultHttpxClient(
        # A redirect could send the texts somewhere else, and without encryption.
        follow_redirects=False,
        # A proxy would carry plain http to another machine.
        trust_env=not on_this_machine,
    )
    return openai.OpenAI(
        api_key=key, base_url=url, timeout=seconds, max_retries=retries, http_client=http
    )


def _check(url: str) -> tuple[SplitResult, bool]:
    """Return the parts of an address, and whether it is one of this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.username is not None or parts.query or parts.fragment:
        raise InputError(f"{BASE_URL}: an address such as {DEFAULT_URL} is needed.")
    loopback = host == "localhost"
    with contextlib.suppress(ValueError):  # a name
        loopback = loopback or ipaddress.ip_address(host).is_loopback
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise InputError(
            f"{BASE_URL}: https is needed for {parts.netloc}, so that nobody in between reads the "
            f"texts; http is possible on this machine alone."
        )
    return parts, loopback
