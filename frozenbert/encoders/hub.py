"""Asking the Hugging Face hub: an answer in time or none, and files in a safe order."""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import EncoderNotFoundError, HubUnreachableError
from ..utils.console import first_line, is_watched

__all__ = [
    "HUB_ANSWERS_WITHIN",
    "download",
    "ensure_cached",
    "is_legal_name",
]

HUB_ANSWERS_WITHIN = 10.0  # seconds
TRY_AGAIN_LATER = (408, 429)  # request timeout, too many requests


def is_legal_name(name: str) -> bool:
    """Tell whether a model on the hub could have this name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def download(
    name: str,
    revision: str | None,
    small: Sequence[str],
    optional: str,
    weights: Sequence[str],
    asked: str,
    ways_out: str,
) -> None:
    """Fetch what an encoder needs, once the hub has answered in time.

    Parameters
    ----------
    name : str
    revision : str or None
    small, weights : sequence of str
        Patterns of the files to fetch. The weights come last: where they are, a
        download that broke off has left the rest too.
    optional : str
        A file of which it is noted on disk if the hub has none.
    asked, ways_out : str
        What was asked for and what else could be done, for the messages.

    Raises
    ------
    HubUnreachableError
        If the hub does not answer within `HUB_ANSWERS_WITHIN` seconds.
    EncoderNotFoundError
        If the hub has no such model, or the download broke off.
    """
    from huggingface_hub import snapshot_download

    begun = False
    try:
        with _quiet_client():
            check_reachable(name, revision)
            begun = True
            folder = snapshot_download(name, revision=revision, allow_patterns=list(small))
            commit = Path(folder).name
            _fetch(name, commit, optional)
            snapshot_download(name, revision=commit, allow_patterns=list(weights))
    except Exception as error:
        raise _explain(error, asked, ways_out, begun) from error


@functools.cache
def ensure_cached(name: str, commit: str, file: str) -> None:
    """Fetch a file unless it is known on disk, or known that the hub has none.

    The hub is asked once: its client notes on disk that there is no such file. Where
    it does not answer, what is on disk has to do.
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
    """Raise unless the hub has the model and says so within `HUB_ANSWERS_WITHIN` seconds."""
    from huggingface_hub import HfApi

    answers: queue.Queue[Exception | None] = queue.Queue()

    def ask() -> None:
        try:
            HfApi().model_info(name, revision=revision, timeout=HUB_ANSWERS_WITHIN)
        except Exception as error:
            answers.put(error)
        else:
            answers.put(None)

    # A thread, because a name server that hangs heeds no timeout of the HTTP client.
    threading.Thread(target=ask, daemon=True).start()
    try:
        error = answers.get(timeout=HUB_ANSWERS_WITHIN)
    except queue.Empty:
        error = TimeoutError(f"no answer within {HUB_ANSWERS_WITHIN:g} seconds")
    if error is not None:
        raise error


def _explain(error: Exception, asked: str, ways_out: str, begun: bool) -> EncoderNotFoundError:
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, RevisionNotFoundError):
        return EncoderNotFoundError(f"{asked}: the hub has no such revision.")
    if isinstance(error, GatedRepoError):  # comes with the first file, after a friendly answer
        return EncoderNotFoundError(
            f"{asked}: the hub asks you to accept its terms and log in (hf auth login)."
        )
    if isinstance(error, RepositoryNotFoundError):
        return EncoderNotFoundError(
            f"{asked}: there is no such folder, and no such model on the hub, or it is private "
            f"(hf auth login)."
        )
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if 400 <= status < 500 and status not in TRY_AGAIN_LATER:
        return EncoderNotFoundError(f"{asked}: the hub refuses ({first_line(error)}).")
    if begun:
        return EncoderNotFoundError(
            f"{asked}: the download from the hub broke off ({first_line(error)}): "
            f"run it again, what has arrived is kept."
        )
    return HubUnreachableError(
        f"{asked} is not on disk and the hub does not answer ({first_line(error)}): connect "
        f"once, {ways_out}."
    )


@contextlib.contextmanager
def _quiet_client() -> Iterator[None]:
    """Keep the client's warnings off stderr, and its bars where nobody watches them."""
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
