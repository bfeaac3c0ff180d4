"""Find the steps of a Pipeline, at any depth, and what notebooks show of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any, TypeVar

from sklearn.frozen import FrozenEstimator

__all__ = ["LinkedToDocs", "docs_address", "find_step", "find_steps", "shorten_numbers"]

_Step = TypeVar("_Step")

_NUMBERS = re.compile(r"\[([-+.\de]+),(?:\s*[-+.\de]+,){3,}\s*([-+.\de]+)\]")


def shorten_numbers(shown: str) -> str:
    """Abridge lists of more than four numbers.

    Examples
    --------
    >>> shorten_numbers("{'C': [0.1, 0.3, 1.0, 3.0, 10.0, 30.0]}")
    "{'C': [0.1, ..., 30.0]}"
    """
    return _NUMBERS.sub(r"[\1, ..., \2]", shown)


# Any in place of None: most callers know that the step exists, and need not check.
def find_step(model: object, kind: type[_Step]) -> _Step | Any:
    """Return the first step of a class in a Pipeline, at any depth, or None.

    Parameters
    ----------
    model : Pipeline or other estimator
    kind : type
        The step's class.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> find_step(make_pipeline(make_pipeline(StandardScaler())), StandardScaler)
    StandardScaler()
    """
    return next(find_steps(model, kind), None)


def find_steps(model: object, kind: type[_Step]) -> Iterator[_Step]:
    """Yield each distinct step of a class in a Pipeline, at any depth.

    Parameters
    ----------
    model : Pipeline or other estimator
    kind : type
        The steps' class.

    Yields
    ------
    estimator
    """
    seen = set[int]()
    for step in _steps(model):
        if isinstance(step, kind) and id(step) not in seen:
            seen.add(id(step))
            yield step


def _steps(model: object) -> Iterator[object]:
    yield model
    for _, step in [*getattr(model, "steps", ()), *getattr(model, "transformer_list", ())]:
        yield from _steps(step)
    for part in getattr(model, "estimators_", ()):
        yield from _steps(part)
    if hasattr(model, "estimator_"):
        yield from _steps(model.estimator_)
    if isinstance(model, FrozenEstimator):
        yield from _steps(model.estimator)


def docs_address() -> str:
    """Return the address that the installed package names for its documentation.

    It is `Documentation` under `[project.urls]` in `pyproject.toml`.

    Returns
    -------
    str
        Without a slash at the end; empty if the package names none.
    """
    try:
        named = metadata("frozenbert").get_all("Project-URL") or ()
    except PackageNotFoundError:  # a folder that was only put on the path
        return ""
    addresses = dict(entry.split(", ", 1) for entry in named)
    return addresses.get("Documentation", "").rstrip("/")


class LinkedToDocs:
    """Mixin of estimators that have a page in the API reference.

    scikit-learn shows the link in an estimator's HTML. Without an address there is none.
    """

    _doc_page: str | None = None  # None is the page of the class in its module

    def _get_doc_link(self) -> str:
        kind, address = type(self), docs_address()
        page = self._doc_page or f"{kind.__module__}.{kind.__qualname__}"
        return f"{address}/api/generated/{page}.html" if address else ""
