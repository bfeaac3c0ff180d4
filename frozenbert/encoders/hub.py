"""Encoders on the Hugging Face hub: some known by a short name, and the download of any."""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import EncoderNotFoundError, HubUnreachableError
from ..utils.console import first_line, is_watched

__all__ = [
    "HUB_ANSWERS_WITHIN",
    "KNOWN_ENCODERS",
    "HubFiles",
    "KnownEncoder",
    "download",
    "ensure_cached",
    "find_known",
    "is_legal_name",
    "on_hub",
]

HUB_ANSWERS_WITHIN = 10.0  # seconds
TRY_AGAIN_LATER = (408, 429)  # HTTP: request timeout, too many requests


@dataclass(frozen=True)
class KnownEncoder:
    """An encoder on the hub that has a short name.

    Attributes
    ----------
    name : str
        Its name on the hub.
    revision : str
        The commit that the short name stands for.
    megabytes : int
        Size of its weights.
    licence, languages : str
    prompt : str, default=""
        What its authors put before each text to classify or compare.
    """

    name: str
    revision: str
    megabytes: int
    licence: str
    languages: str
    prompt: str = ""


KNOWN_ENCODERS = {
    "distilbert": KnownEncoder(
        "distilbert-base-uncased",
        "12040accade4e8a0f71eabdb258fecc2e7e948be",
        268,
        "Apache-2.0",
        "English",
    ),
    "bge-small-en-v1.5": KnownEncoder(
        "BAAI/bge-small-en-v1.5",
        "5c38ec7c405ec4b44b94cc5a9bb96e735b38267a",
        133,
        "MIT",
        "English",
    ),
    "bge-base-en-v1.5": KnownEncoder(
        "BAAI/bge-base-en-v1.5",
        "a5beb1e3e68b9ab74eb54cfd186867f64f240e1a",
        438,
        "MIT",
        "English",
    ),
    "e5-small-v2": KnownEncoder(
        "intfloat/e5-small-v2",
        "ffb93f3bd4047442299a41ebb6fa998a38507c52",
        133,
        "MIT",
        "English",
        prompt="query: ",
    ),
    "multilingual-e5-small": KnownEncoder(
        "intfloat/multilingual-e5-small",
        "fd1525a9fd15316a2d503bf26ab031a61d056e98",
        471,
        "MIT",
        "94 languages",
        prompt="query: ",
    ),
    "paraphrase-multilingual-MiniLM-L12-v2": KnownEncoder(
        "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
        "e8f8c211226b894fcb81acc59f3b34ba3efd5f42",
        471,
        "Apache-2.0",
        "over 50 languages",
    ),
}


def find_known(name: str) -> KnownEncoder | None:
    """Return the known encoder of a short name, or of its name on the hub.

    Examples
    --------
    >>> find_known("e5-small-v2") is find_known("intfloat/e5-small-v2")
    True
    >>> find_known("e5-small-v2").prompt
    'query: '
    """
    if name in KNOWN_ENCODERS:
        return KNOWN_ENCODERS[name]
    return next((known for known in KNOWN_ENCODERS.values() if known.name == name), None)


def on_hub(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """Return the name and the revision to ask the hub for.

    Parameters
    ----------
    name : str
        A short name, or a name on the hub.
    revision : str or None
        None is the pinned commit of a short name, or else the main branch.

    Examples
    --------
    >>> on_hub("bge-small-en-v1.5", "main")
    ('BAAI/bge-small-en-v1.5', 'main')
    >>> on_hub("bert-base-uncased")
    ('bert-base-uncased', None)
    """
    if known := KNOWN_ENCODERS.get(name):
        return known.name, revision or known.revision
    return name, revision


@dataclass(frozen=True)
class HubFiles:
    """Files of an encoder on the hub.

    Attributes
    ----------
    small, weights : tuple of str
        Patterns of file names. The weights are downloaded last: if they are on disk, the
        small files are, too.
    optional : tuple of str
        Files that many encoders do not have.
    """

    small: tuple[str, ...]
    optional: tuple[str, ...]
    weights: tuple[str, ...]


def is_legal_name(name: str) -> bool:
    """Return whether a model on the hub could have this name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def download(name: str, revision: str | None, files: HubFiles, alternatives: str) -> None:
    """Download an encoder into the hub's cache, once the hub has answered in time.

    Parameters
    ----------
    name : str
    revision : str or None
        Branch, tag or commit; None is the main branch.
    files : HubFiles
    alternatives : str
        What the user can do without the hub, for the error message.

    Raises
    ------
    HubUnreachableError
        If the hub does not answer within `HUB_ANSWERS_WITHIN` seconds.
    EncoderNotFoundError
        If the hub has no such model, refuses it, or the download breaks off.
    """
    from huggingface_hub import snapshot_download

    begun = False
    try:
        with _quiet_client():
            check_reachable(name, revision)
            begun = True
            folder = snapshot_download(name, revision=revision, allow_patterns=list(files.small))
            commit = Path(folder).name
            for file in files.optional:
                _fetch(name, commit, file)
            snapshot_download(name, revision=commit, allow_patterns=list(files.weights))
    except Exception as error:  # of the HTTP client, the file system, the hub's library
        if refusal := _refusal(error, name, revision):
            raise refusal from error
        at_revision = f" (revision {revision!r})" if revision else ""
        if begun:
            raise EncoderNotFoundError(
                f"the download{at_revision} from the hub broke off ({first_line(error)}); run it "
                f"again: it continues with the files that are missing.",
                parameter="model_name",
                value=name,
            ) from error
        raise HubUnreachableError(
            f"the encoder{at_revision} is not on disk, and the hub does not answer "
            f"({first_line(error)}). {alternatives}",
            parameter="model_name",
            value=name,
        ) from error


@functools.cache
def ensure_cached(name: str, commit: str, file: str) -> None:
    """Download a file of the hub into its cache, unless it is there or known not to exist.

    The hub is asked once: its client stores on disk that a file does not exist. If the hub
    does not answer, nothing is downloaded and no error is raised.

    Parameters
    ----------
    name : str
    commit : str
        40 hexadecimal digits.
    file : str
        Path of the file within the model.
    """
    from huggingface_hub import try_to_load_from_cache

    if try_to_load_from_cache(name, file, revision=commit) is None:
        with contextlib.suppress(Exception), _quiet_client():
            check_reachable(name, commit)
            _fetch(name, commit, file)


def _fetch(name: str, commit: str, file: str) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    with contextlib.suppress(RemoteEntryNotFoundError):
        hf_hub_download(name, file, revision=commit)


def check_reachable(name: str, revision: str | None) -> None:
    """Raise an error unless the hub confirms the model within `HUB_ANSWERS_WITHIN` seconds.

    Raises
    ------
    TimeoutError
        If the hub does not answer in time.
    Exception
        The error of the hub's client, if the hub refuses.
    """
    from huggingface_hub import HfApi

    answers: queue.Queue[Exception | None] = queue.Queue()

    def ask() -> None:
        try:
            HfApi().model_info(name, revision=revision, timeout=HUB_ANSWERS_WITHIN)
        except Exception as error:
            answers.put(error)
        else:
            answers.put(None)

    # In a thread, because the HTTP client's timeout does not limit a name server that hangs.
    threading.Thread(target=ask, daemon=True).start()
    try:
        error = answers.get(timeout=HUB_ANSWERS_WITHIN)
    except queue.Empty:
        error = TimeoutError(f"no answer within {HUB_ANSWERS_WITHIN:g} seconds")
    if error is not None:
        raise error


def _refusal(error: Exception, name: str, revision: str | None) -> EncoderNotFoundError | None:
    """Return the error for a refusal by the hub; None for any other failure."""
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, RevisionNotFoundError):
        return EncoderNotFoundError(
            f"the hub has no such revision of {name!r}.", parameter="revision", value=revision
        )
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, GatedRepoError):  # raised for the first file, after a successful check
        problem = "the hub asks you to accept its terms and log in (hf auth login)."
    elif isinstance(error, RepositoryNotFoundError):
        problem = (
            "there is no such folder, and no such model on the hub, or it is private "
            "(hf auth login)."
        )
    elif 400 <= status < 500 and status not in TRY_AGAIN_LATER:
        problem = f"the hub refuses the request ({first_line(error)})."
    else:
        return None
    return EncoderNotFoundError(problem, parameter="model_name", value=name)


@contextlib.contextmanager
def _quiet_client() -> Iterator[None]:
    """Keep the client's warnings off stderr, and its progress bars if nobody sees them."""
    from huggingface_hub import constants
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    no_bars = not is_watched() and constants.HF_HUB_DISABLE_PROGRESS_BARS is None
    verbosity = logging.get_verbosity()
    logging.set_verbosity(50)  # logging.CRITICAL
    if no_bars:
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if no_bars:
            enable_progress_bars()
