"""Run a step in a process of its own, which can be stopped at any moment."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from joblib.externals.loky import ProcessPoolExecutor

__all__ = ["StepProcess", "StoppedError"]

Result = TypeVar("Result")
CHECKED = 0.5  # seconds between two looks at the parent process


class StoppedError(Exception):
    """A step took longer than it was given."""


class StepProcess:
    """A process that runs one function after another, and dies with the process that made it.

    Examples
    --------
    >>> with StepProcess() as process:
    ...     process.call(sum, [1, 2], limit=60.0)
    3
    """

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> StepProcess:
        self._warnings.__enter__()
        # A process whose memory has grown, as it does in a training, is replaced by a new one.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._executor is not None:  # it has nothing to do
            self._executor.shutdown(wait=True)
            self._executor = None
        self.stop()
        self._warnings.__exit__(kind, error, trace)

    def call(self, function: Callable[..., Result], *arguments: object, limit: float) -> Result:
        """Return what a function returns.

        Parameters
        ----------
        function : callable
            With its arguments and its result it has to be picklable.
        *arguments
        limit : float
            Seconds after which the process is stopped.

        Raises
        ------
        StoppedError
            If the limit was reached.
        Exception
            What the function raises.
        """
        if self._executor is None:
            self._executor = ProcessPoolExecutor(max_workers=1, initializer=_begin)
        future = self._executor.submit(function, *arguments)
        try:
            result: Result = future.result(timeout=max(0.0, limit))
        except concurrent.futures.TimeoutError as error:
            its_own = future.done()
            self.stop()
            if its_own:
                raise
            raise StoppedError from error
        except concurrent.futures.process.BrokenProcessPool:
            self.stop()
            raise
        return result

    def stop(self) -> None:
        """Kill the process, if it runs."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None


def _begin() -> None:
    """Prepare the process: libraries say nothing, and it ends when the parent has ended."""
    os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
    from tqdm import tqdm

    warnings.simplefilter("ignore")
    # Its own lock is a semaphore, which Python warns of at the end if the process was killed.
    tqdm.set_lock(threading.RLock())
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(CHECKED)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
