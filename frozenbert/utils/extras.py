"""Libraries that not every installation has, and the extras that bring them."""

from __future__ import annotations

import importlib.util
import sys

from ..errors import MissingLibraryError

__all__ = ["EXTRAS", "is_installed", "require"]

# The extra of this package that installs a library.
EXTRAS = {
    "accelerate": "finetune",
    "datasets": "contrastive",
    "distributed": "cluster",
    "fastapi": "serve",
    "huggingface_hub": "train",
    "jinja2": "train",
    "matplotlib": "train",
    "openai": "remote",
    "openvino": "runtime",
    "pandas": "train",
    "pyarrow": "train",
    "sentence_transformers": "contrastive",
    "shap": "explain",
    "skops": "train",
    "skrub": "columns",
    "torch": "train",
    "transformers": "train",
}


def require(*libraries: str, purpose: str | None = None) -> None:
    """Raise an error that names the extra to install, unless all libraries are installed.

    Parameters
    ----------
    *libraries : str
        Names of modules, keys of `EXTRAS`. None of them is imported.
    purpose : str, optional
        What needs them, for the message.

    Raises
    ------
    MissingLibraryError
        An `InputError` and an `ImportError`.

    Examples
    --------
    >>> require("torch", "transformers", purpose="training")
    """
    for library in libraries:
        if not is_installed(library):
            what = (
                f"{purpose} needs {library}, which is not installed"
                if purpose
                else (f"{library} is not installed")
            )
            raise MissingLibraryError(f'{what}: pip install "frozenbert[{EXTRAS[library]}]".')


def is_installed(library: str) -> bool:
    """Tell whether a library could be imported, without importing it."""
    if library in sys.modules:
        return sys.modules[library] is not None  # None forbids an import
    return importlib.util.find_spec(library) is not None
