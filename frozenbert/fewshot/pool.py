"""Check the labelled texts and the pool of unlabelled ones."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import numpy as np

from ..errors import InputError, LeakageWarning, PoolWarning
from ..utils.cleaning import clean_texts
from ..utils.console import callers_level
from ..utils.texts import check_texts

__all__ = ["check_labelled", "known_rows", "remove_known", "warn_of_overlap"]


def check_labelled(texts: Sequence[str], labels: np.ndarray) -> None:
    """Check that texts and labels suffice to train on.

    Parameters
    ----------
    texts : sequence of str
        Cleaned, if the models clean their texts.
    labels : numpy.ndarray of shape (n_texts,)

    Raises
    ------
    InputError
        If the numbers of texts and labels differ, there are fewer than two classes, a class has
        fewer than two texts, or no text contains a letter or a digit.
    """
    if len(texts) != len(labels):
        raise InputError(f"{len(labels):,} labels for {len(texts):,} texts.", parameter="y")
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise InputError("at least two classes are needed.", parameter="y")
    if counts.min() < 2:
        rare = str(classes[counts.argmin()])[:80]
        raise InputError(
            f"the class {rare!r} has one row: label another text of it, or drop the class.",
            parameter="y",
        )
    if not any(re.search(r"\w", text) for text in texts):
        raise InputError("no labelled text contains a letter or a digit.", parameter="X")


def known_rows(pool: Sequence[str], known: Sequence[str], *, clean: bool = False) -> np.ndarray:
    """Return which texts of the pool are among other texts.

    Parameters
    ----------
    pool, known : sequence of str
    clean : bool, default=False
        Whether texts are compared after `frozenbert.utils.cleaning.clean_texts`.

    Returns
    -------
    numpy.ndarray of bool, shape (n_pool,)

    Examples
    --------
    >>> known_rows(["a film", "a plot"], ["a film"]).tolist()
    [True, False]
    """
    others = set(_seen(known, clean))
    return np.array([text in others for text in _seen(pool, clean)], dtype=bool)


def remove_known(
    pool: Sequence[str],
    known: Sequence[str],
    *,
    where: str = "among the labelled texts",
    clean: bool = False,
) -> list[str]:
    """Remove texts from the pool that are labelled, or used for testing.

    Parameters
    ----------
    pool : sequence of str
    known : sequence of str
        The labelled texts, or the test texts.
    where : str, default="among the labelled texts"
        Where the known texts are from, for the warning: "rows of test.csv".
    clean : bool, default=False
        Whether texts are compared after `frozenbert.utils.cleaning.clean_texts`.

    Returns
    -------
    list of str
        The other texts of the pool, in their order.

    Warns
    -----
    PoolWarning
        If texts were removed, with their number.

    Examples
    --------
    >>> remove_known(["a film", "a plot"], ["another film"])
    ['a film', 'a plot']
    """
    is_known = known_rows(pool, known, clean=clean)
    if is_known.any():
        warnings.warn(
            f"{is_known.sum():,} of {len(is_known):,} unlabelled texts are removed from the pool: "
            f"they are {where}.",
            PoolWarning,
            stacklevel=callers_level(),
        )
    return [text for text, drop in zip(pool, is_known, strict=True) if not drop]


def warn_of_overlap(
    texts: Sequence[str],
    test_texts: Sequence[str],
    *,
    where: str = "among the test texts",
    clean: bool = False,
) -> int:
    """Warn if labelled texts are also test texts, which makes scores too good.

    Parameters
    ----------
    texts : sequence of str
        The labelled texts.
    test_texts : sequence of str
    where : str, default="among the test texts"
        Where the test texts are from, for the warning.
    clean : bool, default=False
        Whether texts are compared after `frozenbert.utils.cleaning.clean_texts`.

    Returns
    -------
    int
        The number of distinct texts in both.

    Warns
    -----
    LeakageWarning
    """
    both = len(set(_seen(texts, clean)) & set(_seen(test_texts, clean)))
    if both:
        warnings.warn(
            f"{both:,} labelled texts are also {where}: scores on them are too good.",
            LeakageWarning,
            stacklevel=callers_level(),
        )
    return both


def _seen(texts: Sequence[str], clean: bool) -> list[str]:
    """Return texts as the models see them."""
    return clean_texts(texts) if clean else check_texts(texts, missing="error")
