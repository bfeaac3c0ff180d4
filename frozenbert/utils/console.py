"""The console: whether anybody sees it, progress bars, errors on one line, users' lines."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["callers_level", "first_line", "is_watched", "progress_bar", "shows_bar"]

# Packages that call this one for their users.
CALLERS = ("frozenbert", "sklearn", "joblib")


def is_watched() -> bool:
    """Tell whether somebody sees stderr: in a terminal or a notebook."""
    ipython = sys.modules.get("IPython")
    # A process that only starts a notebook has imported ipykernel too.
    kernel = (
        "ipykernel" in sys.modules and ipython is not None and ipython.get_ipython() is not None
    )
    return bool(kernel or (sys.stderr is not None and sys.stderr.isatty()))


def progress_bar(show: bool | Literal["auto"], total: int | None) -> tqdm:
    """Return a progress bar on stderr that counts texts.

    Parameters
    ----------
    show : bool or "auto"
        "auto" shows the bar in a terminal or a notebook.
    total : int or None
        The number of texts, if known.

    Returns
    -------
    tqdm.tqdm
    """
    from tqdm import tqdm

    return tqdm(total=total, desc="Vectors", unit=" texts", disable=not shows_bar(show))


def shows_bar(show: bool | Literal["auto"]) -> bool:
    """Tell whether `progress_bar` shows a bar."""
    if show == "auto":
        # A worker process would draw its bar over those of the others.
        return multiprocessing.parent_process() is None and is_watched()
    return show


def callers_level() -> int:
    """Return the `stacklevel` with which a warning names the user's line.

    scikit-learn wraps `transform`, and calls it in files of its own, as often as Pipelines are
    nested. Call it where `warnings.warn` is called.

    Examples
    --------
    >>> callers_level()
    1
    """
    packages = (sys.modules[name] for name in CALLERS if name in sys.modules)
    folders = tuple(
        os.path.dirname(package.__file__) + os.sep for package in packages if package.__file__
    )
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith(folders)
        or frame.f_code.co_filename == contextlib.__file__
    ):
        frame, level = frame.f_back, level + 1
    return level


def first_line(error: BaseException) -> str:
    r"""Return the first line of another library's error, for a message of one line.

    Examples
    --------
    >>> first_line(ValueError("bad value\ndetails")), first_line(KeyError())
    ('bad value', 'KeyError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
