"""Find the steps of a Pipeline, at whatever depth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sklearn.frozen import FrozenEstimator

__all__ = ["find_step", "find_steps"]


def find_step(model: Any, kind: type) -> Any:
    """Return the first step of a kind in a Pipeline, at whatever depth, or None.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> find_step(make_pipeline(make_pipeline(StandardScaler())), StandardScaler)
    StandardScaler()
    """
    return next(find_steps(model, kind), None)


def find_steps(model: Any, kind: type) -> Iterator[Any]:
    """Yield the different steps of a kind in a Pipeline, at whatever depth."""
    seen = set()
    for step in _steps(model):
        if isinstance(step, kind) and id(step) not in seen:
            seen.add(id(step))
            yield step


def _steps(model: Any) -> Iterator[Any]:
    yield model
    for _, step in [*getattr(model, "steps", ()), *getattr(model, "transformer_list", ())]:
        yield from _steps(step)
    for part in getattr(model, "estimators_", ()):
        yield from _steps(part)
    if isinstance(model, FrozenEstimator):
        yield from _steps(model.estimator)
