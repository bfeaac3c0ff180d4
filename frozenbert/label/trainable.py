"""The labelled texts that a model can be trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import InputError
from .exchange import LabelledText

__all__ = ["Trainable", "trainable_rows"]


@dataclass(frozen=True)
class Trainable:
    """Texts with labels that enough texts have.

    Attributes
    ----------
    texts : list of str
    labels : numpy.ndarray of str, or DataFrame of 0 and 1 with many labels
    left_out : list of str
        The other labels.
    """

    texts: list[str]
    labels: np.ndarray | pd.DataFrame
    left_out: list[str]


def trainable_rows(
    rows: Sequence[LabelledText], names: Sequence[str], least: int, *, multi_label: bool
) -> Trainable:
    """Return the texts of labels that enough texts have.

    Parameters
    ----------
    rows : sequence of LabelledText
    names : sequence of str
        The labels of the project.
    least : int
        Texts that each label needs.
    multi_label : bool

    Raises
    ------
    InputError
        If fewer than two labels have as many texts.
    """
    counts = Counter(label for row in rows for label in row.labels)
    enough = [name for name in names if counts[name] >= least]
    if len(enough) < 2:
        number = {2: "two", 4: "four"}.get(least, least)
        raise InputError(f"label {number} texts or more of each of two labels first.")
    left_out = [name for name in names if name not in enough]
    if multi_label:
        flags = [[int(name in row.labels) for name in enough] for row in rows]
        frame = pd.DataFrame(flags, columns=enough)
        return Trainable([row.text for row in rows], frame, left_out)
    rows = [row for row in rows if row.labels[0] in enough]
    labels = np.array([row.labels[0] for row in rows])
    return Trainable([row.text for row in rows], labels, left_out)
