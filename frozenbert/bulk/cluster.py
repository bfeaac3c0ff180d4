"""Work on more than one machine, by Dask: tables to vectors, and the head's search.

A scheduler runs any code that is sent to it: who reaches it can do on its workers
whatever their user can.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib

from ..encoders.encoder import usable_cores
from ..errors import InputError
from .stream import Written, embed_partition

if TYPE_CHECKING:
    from ..embed import DistilBertVectorizer

__all__ = ["cluster", "describe_workers", "embed_partitions", "searched_on"]

CONNECTING = 20.0  # seconds to wait for a scheduler, and for its first worker


@contextlib.contextmanager
def cluster(scheduler: str | None, n_workers: int | None) -> Iterator[Any]:
    """Reach a Dask cluster, or start one on this machine, on loopback and without dashboard.

    Parameters
    ----------
    scheduler : str or None
        Its address, such as "tls://host:8786" (with the certificates that Dask's
        configuration names) or "tcp://host:8786".
    n_workers : int or None
        Without a scheduler: how many processes to start. They share this process's cores.

    Yields
    ------
    distributed.Client

    Raises
    ------
    InputError
        If Dask is not installed, no scheduler answers, or it has no workers.
    """
    try:
        import distributed
    except ImportError as error:
        raise InputError(
            '--scheduler and --workers need Dask: pip install "frozenbert[cluster]".'
        ) from error
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            assert n_workers is not None  # one of the two is given
            local = distributed.LocalCluster(
                n_workers=n_workers,
                threads_per_worker=max(1, usable_cores() // n_workers),
                host="127.0.0.1",
                dashboard_address=None,
                memory_limit=0,  # the blocks are small, and a worker that is shot costs a table
                silence_logs=logging.CRITICAL,
            )
            client = stack.enter_context(distributed.Client(stack.enter_context(local)))
        else:
            try:
                client = distributed.Client(scheduler, timeout=CONNECTING)
            except (OSError, ValueError, TypeError, RuntimeError) as error:
                raise InputError(
                    f"--scheduler {scheduler}: no Dask scheduler can be reached there "
                    f"({' '.join(str(error).split()) or type(error).__name__})."
                ) from error
            stack.enter_context(client)
            try:
                client.wait_for_workers(1, timeout=CONNECTING)
            except TimeoutError as error:
                raise InputError(
                    f"--scheduler {scheduler}: has no workers; start some: dask worker {scheduler}"
                ) from error
        yield client


def describe_workers(client: Any) -> str:
    """Say where the work is done: workers, threads, scheduler."""
    threads = client.nthreads()
    return (
        f"{len(threads)} workers with {sum(threads.values())} threads, scheduler "
        f"{client.scheduler.address}"
    )


def embed_partitions(
    client: Any, vectorizer: DistilBertVectorizer, targets: Mapping[Path, Path], **columns: Any
) -> Iterator[tuple[Path, Written | Exception]]:
    """Write each table's vectors where a worker has time; one that dies is made up for.

    Parameters
    ----------
    client : distributed.Client
    vectorizer : DistilBertVectorizer
        Fitted. Each worker loads the encoder once.
    targets : mapping of pathlib.Path
        From tables to the `.parquet` files to write, as every worker sees them.
    **columns
        As for `embed_partition`.

    Yields
    ------
    path : pathlib.Path
        A table, in the order in which they are done.
    written : Written or Exception
        What became of it, or why it failed.
    """
    import distributed

    waiting = iter(targets.items())
    futures: dict[Any, Path] = {}
    done = distributed.as_completed()

    def submit() -> None:
        # As many as there are workers: Dask suspects all that a worker held when it died.
        while len(futures) < max(1, len(client.nthreads())):
            for path, target in itertools.islice(waiting, 1):
                # Not pure: a file of that name may have other rows than the last time.
                future = client.submit(_on_worker, vectorizer, path, target, columns, pure=False)
                futures[future] = path
                done.add(future)
                break
            else:
                return

    try:
        submit()
        for future in done:
            path = futures.pop(future)
            if future.status == "finished":
                yield path, future.result()
            elif future.status == "error":
                yield path, _plain(future.exception())
            else:
                yield path, RuntimeError("the scheduler was lost; what is done is kept.")
            submit()
    finally:
        client.cancel(list(futures))


@contextlib.contextmanager
def searched_on(client: Any) -> Iterator[None]:
    """Let scikit-learn's searches run on a cluster's workers."""
    with joblib.parallel_config("dask", client=client):
        yield


def _on_worker(
    vectorizer: DistilBertVectorizer, path: Path, target: Path, columns: dict[str, Any]
) -> Written:
    from distributed import get_worker

    # One table at a time with all of the worker's threads: a block in memory, not several.
    with _working, warnings.catch_warnings():
        # Counted, and said once for all tables where the command runs.
        warnings.filterwarnings("ignore", message=".*longer than max_length")
        vectorizer.set_params(num_threads=get_worker().state.nthreads, progress=False)
        return embed_partition(vectorizer, path, target, **columns)


_working = threading.Lock()


def _plain(error: Exception) -> Exception:
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return RuntimeError("its worker died, again and again: too little memory, perhaps.")
    return error
