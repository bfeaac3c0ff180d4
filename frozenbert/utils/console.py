"""The console: whether somebody watches it, progress bars, errors on one line."""

from __future__ import annotations

import multiprocessing
import sys
from typing import Any, Literal

__all__ = ["first_line", "is_watched", "progress_bar"]


def is_watched() -> bool:
    """Tell whether somebody sees stderr: in a terminal or a notebook."""
    ipython = sys.modules.get("IPython")
    # A process that only starts a notebook has imported ipykernel, too.
    kernel = (
        "ipykernel" in sys.modules and ipython is not None and ipython.get_ipython() is not None
    )
    return bool(kernel or (sys.stderr is not None and sys.stderr.isatty()))


def progress_bar(shown: bool | Literal["auto"], total: int | None) -> Any:
    """Return a bar on stderr for texts; "auto" shows it in a terminal or a notebook."""
    from tqdm import tqdm

    if shown == "auto":
        # A worker's bar would be drawn over that of its neighbours.
        alone = multiprocessing.parent_process() is None
        shown = alone and is_watched()
    return tqdm(total=total, desc="Vectors", unit=" texts", disable=not shown)


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, for a message of one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
