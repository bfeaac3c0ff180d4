"""Defer a module that another library imports, until something in it is used."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

__all__ = ["deferred"]


@contextlib.contextmanager
def deferred(name: str) -> Iterator[None]:
    """Let modules import another one, in this block, without running it.

    They get stand-ins for the module and for its names, which import it as soon as one is
    called or asked for an attribute. An import after the block gets the module itself.

    `importlib.util.LazyLoader` does not do: a statement `import NAME`, and `from NAME import X`
    at the latest, runs the module.

    Parameters
    ----------
    name : str
        Of a module that is used by calling its functions. If it has been imported, nothing is
        deferred.

    Examples
    --------
    >>> with deferred("tabnanny"):
    ...     from tabnanny import format_witnesses
    >>> "tabnanny" in sys.modules, format_witnesses([(4, 1, 1)]), "tabnanny" in sys.modules
    (False, 'at tab size 4', True)
    """
    if name in sys.modules:
        yield
        return
    stand_in = sys.modules[name] = _Module(name)
    stand_in.__spec__ = importlib.util.spec_from_loader(name, loader=None)
    try:
        yield
    finally:
        _remove(stand_in)


def _remove(stand_in: ModuleType) -> None:
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]


class _Module(ModuleType):
    """Stands in for a module."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Name(self, name)


class _Name:
    """Stands in for a function or class of a module."""

    def __init__(self, module: ModuleType, name: str) -> None:
        self._module = module
        self._name = name

    def _imported(self) -> object:
        _remove(self._module)
        return getattr(importlib.import_module(self._module.__name__), self._name)

    def __call__(self, *args: object, **settings: object) -> object:
        return self._imported()(*args, **settings)  # type: ignore[operator]

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._imported(), name)

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[object, ...]:
        return (self._imported(),)
