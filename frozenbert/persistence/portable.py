"""Find the objects in a model that hold paths of this machine, and copy it without them."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

__all__ = ["portable_copy", "portable_parts"]

Model = TypeVar("Model", bound="BaseEstimator")


class Portable(Protocol):
    """What holds paths of this machine, and can be saved for another one."""

    def _prepare_to_save(self) -> None:
        """Remove the paths; called on the copy that is saved."""

    def _note_loaded_from(self, folder: Path) -> None:
        """Look for files beside the model's file; called on the loaded model."""


def portable_copy(model: Model) -> Model:
    """Return a copy of a model without paths of this machine."""
    portable = copy.deepcopy(model)
    for part in portable_parts(portable):
        part._prepare_to_save()
    return portable


def portable_parts(model: object) -> Iterator[Portable]:
    """Yield all `Portable` objects in a model, also inside classes of other packages."""
    left, seen = [model], dict[int, object]()
    while left:
        part = left.pop()
        if id(part) in seen:
            continue
        seen[id(part)] = part
        left.extend(_parts(part))
        if hasattr(type(part), "_prepare_to_save"):
            yield part  # type: ignore[misc]


def _parts(whole: object) -> Iterable[object]:
    """Return the objects that an object holds."""
    if isinstance(whole, type | types.ModuleType | types.FunctionType | str | bytes):
        return ()
    parts: list[object] = []
    if isinstance(whole, dict):
        parts += [*whole.keys(), *whole.values()]
    elif isinstance(whole, list | tuple | set | frozenset):
        parts += whole
    elif isinstance(whole, np.ndarray):
        if whole.dtype == object:
            parts += whole.ravel().tolist()
    elif isinstance(whole, functools.partial):
        parts += [whole.func, whole.args, whole.keywords]
    elif isinstance(whole, types.MethodType):
        parts.append(whole.__self__)
    parts += getattr(whole, "__dict__", {}).values()
    for kind in type(whole).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(whole, name):
                parts.append(getattr(whole, name))
    return parts
