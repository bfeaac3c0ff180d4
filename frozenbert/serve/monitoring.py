"""Counters of the service in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InputError

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
except ImportError as error:
    raise InputError('the service needs its libraries: pip install "frozenbert[serve]".') from error

__all__ = ["ServiceCounters"]

PREFIX = "frozenbert"
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class ServiceCounters:
    """Requests, texts, batches and waiting texts of one service.

    Parameters
    ----------
    waiting_texts : callable
        Returns the number of texts that wait for the model now.
    """

    def __init__(self, waiting_texts: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "requests", "Requests answered.", ["path", "status"], PREFIX, registry=registry
        )
        self._seconds = Histogram(
            "request_seconds",
            "Seconds from a request to the end of its answer.",
            ["path"],
            PREFIX,
            registry=registry,
        )
        self._texts = Counter("texts", "Texts answered.", namespace=PREFIX, registry=registry)
        self._batches = Histogram(
            "batch_texts",
            "Number of texts in a batch.",
            namespace=PREFIX,
            registry=registry,
            buckets=BATCH_SIZES,
        )
        waiting = Gauge("waiting_texts", "Texts in the queue.", namespace=PREFIX, registry=registry)
        waiting.set_function(waiting_texts)
        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request; status 0 means that it got no answer."""
        requests, duration = self._labelled(path, status)
        requests.inc()
        duration.observe(seconds)

    def _labelled(self, path: str, status: int) -> tuple[Counter, Histogram]:
        # The paths and the statuses are few.
        key = path, status
        if key not in self._children:
            requests = self._requests.labels(path, status or "none")
            self._children[key] = requests, self._seconds.labels(path)
        return self._children[key]

    def count_batch(self, n_texts: int) -> None:
        """Count a batch that the model has answered."""
        self._texts.inc(n_texts)
        self._batches.observe(n_texts)

    def exposition(self) -> bytes:
        """Return all counters in the text format of Prometheus."""
        return generate_latest(self._registry)
