"""Text classification with frozen encoders and scikit-learn.

Text goes in once through a frozen transformer encoder; scikit-learn does everything
after that. Importing this package loads neither torch nor transformers nor matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .embed import DistilBertVectorizer
    from .errors import EncoderMismatchError, EncoderNotFoundError, InputError
    from .persistence import load_model, save_model
    from .pipeline import make_text_classifier

__version__ = "0.1.0"

__all__ = [
    "DistilBertVectorizer",
    "EncoderMismatchError",
    "EncoderNotFoundError",
    "InputError",
    "load_model",
    "make_text_classifier",
    "save_model",
]

_HOMES = {
    "DistilBertVectorizer": "embed",
    "EncoderMismatchError": "errors",
    "EncoderNotFoundError": "errors",
    "InputError": "errors",
    "load_model": "persistence",
    "make_text_classifier": "pipeline",
    "save_model": "persistence",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
