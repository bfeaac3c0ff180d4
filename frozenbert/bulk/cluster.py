"""Run on several machines with Dask: embed tables on free workers, search heads.

A scheduler runs any code that is sent to it: whoever can reach it can do on its workers
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
from typing import TYPE_CHECKING, Unpack

import joblib

from ..encoders.threads import usable_cores
from ..errors import InputError, TruncationWarning
from .stream import EmbedResult, ReadOptions, embed_partition

if TYPE_CHECKING:
    from distributed import Client, Future

    from ..embed import DistilBertVectorizer

__all__ = ["cluster", "describe_workers", "embed_partitions", "searched_on"]

CONNECTING = 20.0  # seconds to wait for a scheduler, and for its first worker


@contextlib.contextmanager
def cluster(scheduler: str | None = None, n_workers: int | None = None) -> Iterator[Client]:
    """Connect to a Dask cluster, or start one on this machine.

    A cluster on this machine listens on loopback only and has no dashboard.

    Parameters
    ----------
    scheduler : str, optional
        The scheduler's address, such as "tls://host:8786" (with the certificates that
        Dask's configuration names) or "tcp://host:8786".
    n_workers : int, optional
        Without a scheduler: the number of processes to start. They share this process's
        cores.

    Yields
    ------
    distributed.Client

    Raises
    ------
    InputError
        If Dask is not installed, neither parameter is given, no scheduler answers, or it
        has no workers.
    """
    try:
        import distributed
    except ImportError as error:
        raise InputError(
            'a cluster needs Dask: pip install "frozenbert[cluster]".',
            parameter="n_workers" if scheduler is None else "scheduler",
        ) from error
    with contextlib.ExitStack() as stack:
        if scheduler is not None:
            yield stack.enter_context(_connected(scheduler))
            return
        if n_workers is None or n_workers < 1:
            raise InputError(
                "at least 1 worker is needed, or the address of a scheduler.",
                parameter="n_workers",
                value=n_workers,
            )
        local = distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=max(1, usable_cores() // n_workers),
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,  # blocks are small, and a killed worker costs a whole table
            silence_logs=logging.CRITICAL,
        )
        yield stack.enter_context(distributed.Client(stack.enter_context(local)))


@contextlib.contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    import distributed

    try:
        client = distributed.Client(scheduler, timeout=CONNECTING)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"no Dask scheduler can be reached there "
            f"({' '.join(str(error).split()) or type(error).__name__}).",
            parameter="scheduler",
            value=scheduler,
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECTING)
        except TimeoutError as error:
            raise InputError(
                f"has no workers; start some: dask worker {scheduler}",
                parameter="scheduler",
                value=scheduler,
            ) from error
        yield client


def describe_workers(client: Client) -> str:
    """Describe a cluster in one line: workers, threads, scheduler."""
    threads = client.nthreads()
    return (
        f"{len(threads)} workers with {sum(threads.values())} threads, scheduler "
        f"{client.scheduler_info()['address']}"
    )


def embed_partitions(
    client: Client,
    vectorizer: DistilBertVectorizer,
    targets: Mapping[Path, Path],
    **options: Unpack[ReadOptions],
) -> Iterator[tuple[Path, EmbedResult | Exception]]:
    """Embed tables on free workers; retry the table of a worker that died.

    Parameters
    ----------
    client : distributed.Client
    vectorizer : DistilBertVectorizer
        Fitted. Each worker loads the encoder once.
    targets : mapping of pathlib.Path
        From tables to the `.parquet` files to write, as every worker sees them.
    **options
        As for `embed_partition`.

    Yields
    ------
    path : pathlib.Path
        A table, in the order in which they finish.
    result : EmbedResult or Exception
        Its result, or the error it failed with.
    """
    import distributed

    waiting = iter(targets.items())
    futures: dict[Future[EmbedResult], Path] = {}
    done = distributed.as_completed()

    def submit() -> None:
        # One table a worker: Dask suspects every task that a worker held when it died.
        free = max(1, len(client.nthreads())) - len(futures)
        for path, target in itertools.islice(waiting, max(0, free)):
            # Not pure: a file of that name may have other rows than the last time.
            future = client.submit(_on_worker, vectorizer, path, target, options, pure=False)
            futures[future] = path
            done.add(future)

    try:
        submit()
        for future in done:
            path = futures.pop(future)
            if future.status == "finished":
                yield path, future.result()
            elif future.status == "error":
                yield path, _explained(future.exception())
            else:
                yield path, RuntimeError("the scheduler was lost; finished tables are on disk.")
            submit()
    finally:
        client.cancel(list(futures))


@contextlib.contextmanager
def searched_on(client: Client) -> Iterator[None]:
    """Run scikit-learn's searches in the block on a cluster's workers."""
    with joblib.parallel_config("dask", client=client):
        yield


_one_table = threading.Lock()


def _on_worker(
    vectorizer: DistilBertVectorizer, path: Path, target: Path, options: ReadOptions
) -> EmbedResult:
    from distributed import get_worker

    # One table at a time with all of the worker's threads: one block in memory, not several.
    with _one_table, warnings.catch_warnings():
        # The results count truncated texts, so the caller can warn once.
        warnings.simplefilter("ignore", TruncationWarning)
        vectorizer.set_params(num_threads=get_worker().state.nthreads, progress=False)
        return embed_partition(vectorizer, path, target, **options)


def _explained(error: BaseException) -> Exception:
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return RuntimeError("its worker died repeatedly, perhaps for lack of memory.")
    return error if isinstance(error, Exception) else RuntimeError(type(error).__name__)
