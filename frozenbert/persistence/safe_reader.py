"""Rebuild a model from the checked content of a safe form, without importing skops.

`import skops.io` imports all of scikit-learn, and torch where it is installed: seconds before a
first prediction. The few kinds of nodes that a safe form may hold are read here. Files that
skops wrote in another version of its format are left to skops.
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

__all__ = ["PROTOCOL", "rebuild"]

PROTOCOL = 2  # the version of skops' format that is read here

# A node of skops' schema, whose keys depend on its kind.
Node = Mapping[str, Any]


def rebuild(schema: Node, members: Mapping[str, bytes]) -> object:
    """Return the object that a schema describes.

    Parameters
    ----------
    schema : mapping
        The root node, of protocol 2. Its classes and functions have been checked: they are
        imported by name, and objects get their state by `__setstate__`.
    members : mapping of str to bytes
        The `.npy` files that it names.

    Raises
    ------
    Exception
        Of any kind, if the schema is not a valid one.
    """
    return _Reader(members).read(schema)


class _Reader:
    def __init__(self, members: Mapping[str, bytes]) -> None:
        self._members = members
        # Objects that occur several times are one object, told by the id they had when saved.
        self._done: dict[Hashable, object] = {}

    def read(self, node: Node) -> Any:
        key = node.get("__id__")
        if key is not None and key in self._done:
            return self._done[key]
        found = READERS[node["__loader__"]](self, node)
        if key is not None:
            self._done[key] = found
        return found

    def _dict(self, node: Node) -> dict[Any, object]:
        _check(node, "builtins.dict")
        kinds = self.read(node["key_types"])
        pairs = zip(kinds, node["content"].items(), strict=True)
        return {kind(key): self.read(value) for kind, (key, value) in pairs}

    def _list(self, node: Node) -> list[object]:
        _check(node, "builtins.list")
        return [self.read(item) for item in node["content"]]

    def _tuple(self, node: Node) -> tuple[object, ...]:
        _check(node, "builtins.tuple")
        return tuple(self.read(item) for item in node["content"])

    def _json(self, node: Node) -> object:
        return json.loads(node["content"])

    def _array(self, node: Node) -> object:
        if node["type"] == "json":
            _check(node, "numpy.ndarray")
            shape = self.read(node["shape"])
            items = [self.read(item) for item in node["content"]]
            array = np.empty(len(items), dtype=object)
            array[:] = items
            # The items of an array of more dimensions are its rows, as lists.
            return array if len(shape) == 1 else np.array(items, dtype=object).reshape(shape)
        stored = np.load(io.BytesIO(self._members[node["file"]]), allow_pickle=False)
        if node["__module__"] != "numpy":
            raise ValueError(f"an array of the type {node['__module__']}.{node['__class__']}")
        if node["__class__"] == "ndarray":
            return stored
        kind = getattr(np, node["__class__"])
        if not (isinstance(kind, type) and issubclass(kind, np.number | np.bool_)):
            raise ValueError(f"an array of the type numpy.{node['__class__']}")
        return kind(stored)

    def _masked_array(self, node: Node) -> object:
        _check(node, "numpy.ma.MaskedArray")
        content = node["content"]
        data, mask = self.read(content["data"]), self.read(content["mask"])
        return np.ma.MaskedArray(data, mask)

    def _dtype(self, node: Node) -> object:
        _check(node, "numpy.dtype")
        return self.read(node["content"]).dtype  # of an empty array

    def _slice(self, node: Node) -> slice:
        _check(node, "builtins.slice")
        content = node["content"]
        return slice(content["start"], content["stop"], content["step"])

    def _named(self, node: Node) -> Any:
        return getattr(importlib.import_module(node["__module__"]), node["__class__"])

    def _object(self, node: Node) -> object:
        kind = self._named(node)
        found = kind.__new__(kind)
        state = None if node.get("content") is None else self.read(node["content"])
        if state is not None:
            if hasattr(found, "__setstate__"):
                found.__setstate__(state)
            else:
                vars(found).update(state)
        return found


def _check(node: Node, name: str) -> None:
    found = f"{node['__module__']}.{node['__class__']}"
    if found != name:
        raise ValueError(f"a {node['__loader__']} of the type {found}")


READERS: dict[str, Callable[[_Reader, Node], object]] = {
    "DTypeNode": _Reader._dtype,
    "DictNode": _Reader._dict,
    "FunctionNode": _Reader._named,
    "JsonNode": _Reader._json,
    "ListNode": _Reader._list,
    "MaskedArrayNode": _Reader._masked_array,
    "NdArrayNode": _Reader._array,
    "ObjectNode": _Reader._object,
    "SliceNode": _Reader._slice,
    "TupleNode": _Reader._tuple,
    "TypeNode": _Reader._named,
}
