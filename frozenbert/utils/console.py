"""The console: whether anybody sees it, progress bars, errors on one line, users' lines."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = [
    "bars",
    "callers_level",
    "first_line",
    "hide_widget_hint",
    "is_watched",
    "progress_bar",
    "shows_bar",
]

SHOWN_AFTER = 1.0  # seconds

_BARS: ContextVar[bool | Literal["auto"]] = ContextVar("bars", default="auto")

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


def progress_bar(
    show: bool | Literal["auto"],
    total: float | None,
    what: str = "Vectors",
    unit: str = "texts",
    *,
    done: int = 0,
) -> tqdm:
    """Return a progress bar on stderr, which is removed at its end.

    Parameters
    ----------
    show : bool or "auto"
        "auto" shows the bar in a terminal or a notebook, once the work has taken a second.
    total : float or None
        The number of units, if known. A bar of one unit is shown if `show` is True only: it
        would not move before the end.
    what : str, default="Vectors"
        What is in progress.
    unit : str, default="texts"
        What is counted. "" counts amounts of work, and shows the percentage alone.
    done : int, default=0
        Units that were done before.

    Returns
    -------
    tqdm.tqdm
    """
    from tqdm import tqdm

    short = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
    return tqdm(
        total=total,
        initial=done,
        desc=what,
        unit=f" {unit}",
        bar_format=None if unit else short,
        disable=not shows_bar(show) or (total == 1 and show is not True),
        delay=0 if show is True else SHOWN_AFTER,
        leave=False,
    )


@contextlib.contextmanager
def bars(show: bool | Literal["auto"]) -> Iterator[None]:
    """Show the bars that are "auto" always (True), or never (False), in this context.

    "auto" leaves them as they are in the context around it.
    """
    token = _BARS.set(_BARS.get() if show == "auto" else show)
    try:
        yield
    finally:
        _BARS.reset(token)


def hide_widget_hint() -> None:
    """Import tqdm's bars of notebooks without their hint at ipywidgets.

    Other libraries import them. Our own bars are drawn as text, and need no widgets. Call it
    before such a library is imported.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import tqdm.auto  # noqa: F401  # the hint comes with the first import


def shows_bar(show: bool | Literal["auto"]) -> bool:
    """Tell whether `progress_bar` shows a bar."""
    show = _BARS.get() if show == "auto" else show
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
