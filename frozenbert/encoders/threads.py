"""Threads that compute: how many there may be, and pools of them that outlive a call."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

import joblib

__all__ = ["in_streams", "set_threads", "usable_cores"]

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def usable_cores(at_most: int | None = None) -> int:
    """Return the number of cores that the process may use.

    Without `at_most` this respects the CPU affinity, a container's share, `MKL_NUM_THREADS`,
    `OMP_NUM_THREADS`, `torch.set_num_threads` and joblib's division of the cores among its
    workers. It does not import torch.

    Parameters
    ----------
    at_most : int or None
        Upper limit that replaces torch's number of threads.
    """
    # torch counts the cores of the affinity mask, but does not know a container's share.
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    cores = _count_cores(joblib.cpu_count, affinity, os.environ.get("LOKY_MAX_CPU_COUNT"))
    return min(_default_threads() if at_most is None else at_most, cores)


@functools.lru_cache(maxsize=8)
def _count_cores(count: Callable[[], int], affinity: int | None, limit: str | None) -> int:
    """Count the cores; again only if the affinity or joblib's limit changes."""
    return int(count())


def _default_threads() -> int:
    """Return torch's number of threads, or what it will be."""
    if (torch := sys.modules.get("torch")) is not None:
        return int(torch.get_num_threads())
    for name in ("MKL_NUM_THREADS", "OMP_NUM_THREADS"):  # torch asks MKL, and that asks OpenMP
        first = os.environ.get(name, "").partition(",")[0].strip()
        if first.isdecimal() and int(first) > 0:
            return int(first)
    return int(joblib.cpu_count(only_physical_cores=True))


def set_threads(number: int) -> None:
    """Let torch compute with `number` threads when it is called from this thread."""
    import torch

    # A new thread gets the number that any thread set last. Another thread therefore restores
    # the former number, for the threads that the program starts later.
    with _setting_threads:
        former = torch.get_num_threads()
        torch.set_num_threads(number)
        restore = threading.Thread(target=torch.set_num_threads, args=(former,))
        restore.start()
        restore.join()


_setting_threads = threading.Lock()


class Pools:
    """Pools of threads that live as long as the process.

    A thread that computes with torch has a team of OpenMP threads of its own, which is slow to
    start. A fork takes no threads along: the child starts with no pools.
    """

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._pools: dict[tuple[int, int | None], ThreadPoolExecutor] = {}
        self._lock = threading.Lock()

    def get(self, n_streams: int, torch_threads: int | None) -> ThreadPoolExecutor:
        """Return the pool of `n_streams` threads; torch uses `torch_threads` in each."""
        with self._lock:
            pool = self._pools.get((n_streams, torch_threads))
            if pool is None:
                set_up = functools.partial(set_threads, torch_threads) if torch_threads else None
                pool = ThreadPoolExecutor(n_streams, "frozenbert", initializer=set_up)
                self._pools[n_streams, torch_threads] = pool
            return pool


_pools = Pools()


def in_streams(
    compute: Callable[[Batch], Result],
    batches: Iterable[Batch | None],
    n_streams: int,
    torch_threads: int | None = None,
) -> Generator[list[tuple[Batch, Result]], None, None]:
    """Compute batches in parallel threads, which wait for the next call afterwards.

    On a CPU, several streams of one thread each are faster than one stream of several threads,
    which wait for each other after each matrix product.

    Parameters
    ----------
    compute : callable
        Function from a batch to its result.
    batches : iterable
        The next batch is drawn when a stream is about to become free. A None in `batches`
        is a barrier: all batches drawn so far are finished and yielded before the next one
        is drawn.
    n_streams : int
        Number of threads. Calls with the same number share them.
    torch_threads : int or None, default=None
        Threads that torch computes with in each stream; None if it is not torch that computes.
        A single stream then runs on the calling thread.

    Yields
    ------
    list of (batch, result)
        Batches finished since the last item, in arbitrary order.

    Examples
    --------
    >>> items = in_streams(lambda batch: 2 * batch, [1, 2, 3], n_streams=2)
    >>> sorted(result for finished in items for _, result in finished)
    [2, 4, 6]
    """
    if n_streams == 1 and torch_threads is None:
        for batch in batches:
            if batch is not None:
                yield [(batch, compute(batch))]
        return
    running: dict[Future[Result], Batch] = {}

    def finished(at_most: int) -> Generator[list[tuple[Batch, Result]], None, None]:
        while len(running) > at_most:
            done = wait(running, return_when=FIRST_COMPLETED).done
            yield [(running.pop(future), future.result()) for future in done]

    try:
        for batch in batches:
            if batch is not None:
                pool = _pools.get(n_streams, torch_threads)
                running[pool.submit(compute, batch)] = batch
            # One more batch than streams, so that no stream waits for the caller.
            yield from finished(n_streams if batch is not None else 0)
        yield from finished(0)
    finally:
        wait([future for future in running if not future.cancel()])
