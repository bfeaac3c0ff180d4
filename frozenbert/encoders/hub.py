"""Download an encoder from the Hugging Face hub, with a limit on the time to an answer."""

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
    "HubFiles",
    "download",
    "ensure_cached",
    "is_legal_name",
]

HUB_ANSWERS_WITHIN = 10.0  # seconds
TRY_AGAIN_LATER = (408, 429)  # HTTP: request timeout, too many requests


@dataclass(frozen=True)
class HubFiles:
    """Files of an encoder on the hub.

    Attributes
    ----------
    small, weights : tuple of str
        Patterns of file names. The weights are downloaded last: if they are on disk, the
        small files are, too.
    optional : str
        A file that many encoders do not have.
    """

    small: tuple[str, ...]
    optional: str
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
            _fetch(name, commit, files.optional)
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
            f"the encoder{at_revision} is not on disk and the hub does not answer "
            f"({first_line(error)}): connect once, {alternatives}.",
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
