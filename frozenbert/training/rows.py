"""Training and test rows: hold some out, and check their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from ..errors import InputError
from ..heads.folds import Folds
from ..reports.metrics import short

__all__ = ["Labels", "Rows", "check_classes", "hold_out"]

Labels: TypeAlias = np.ndarray | pd.DataFrame


def hold_out(
    texts: Sequence[str], labels: Labels, random_state: int | None = 0, *, parts: int = 4
) -> tuple[list[str], list[str], Any, Any]:
    """Split off a stratified part of the rows for testing.

    Parameters
    ----------
    texts : sequence of str
    labels : numpy.ndarray of shape (n_samples,), or DataFrame of shape (n_samples, n_labels)
        Classes; or many labels, as columns of 0 and 1; or probabilities of classes.
    random_state : int or None, default=0
    parts : int, default=4
        One row of `parts` is held out.

    Returns
    -------
    texts_train, texts_test : list of str
    labels_train, labels_test : of the type of `labels`

    Raises
    ------
    InputError
        If a class has too few rows for both parts.

    Examples
    --------
    >>> train, test, *_ = hold_out(["a", "b", "c", "d", "e", "f", "g", "h"], np.array([0, 1] * 4))
    >>> len(train), len(test)
    (6, 2)
    """
    if isinstance(labels, pd.DataFrame):
        if len(labels) < 2 * parts:
            raise InputError(
                f"{len(labels)} rows are too few to hold out one of {parts} for testing. Add rows, "
                f"or name a table of test rows."
            )
        folds = Folds(parts, shuffle=True, random_state=random_state)
        flags = labels.to_numpy()
        if flags.dtype.kind == "f":  # probabilities: stratify by the likeliest class
            flags = np.eye(flags.shape[1], dtype=int)[flags.argmax(axis=1)]
        rows, held = next(folds.split(np.zeros(len(labels)), flags))
        return (
            [texts[i] for i in rows],
            [texts[i] for i in held],
            labels.iloc[rows],
            labels.iloc[held],
        )
    rare, count = min(Counter(labels.tolist()).items(), key=lambda item: item[1])
    if count < 2 or len(labels) < parts * len(set(labels.tolist())):
        n_classes = len(set(labels.tolist()))
        raise InputError(
            f"the class {short(rare)!r} has {count} of {len(labels):,} rows, and there are "
            f"{n_classes:,} classes: too few rows to hold out one of {parts} for testing. Add "
            f"rows, drop the class, or name a table of test rows. If these are no classes, name "
            f"another column of labels.",
            parameter="y",
        )
    train_texts, test_texts, y_train, y_test = train_test_split(
        list(texts), labels, test_size=1 / parts, stratify=labels, random_state=random_state
    )
    return train_texts, test_texts, y_train, y_test


def check_classes(labels: ArrayLike, folds: int) -> None:
    """Raise `InputError` unless there are two classes, each with a row in every fold.

    Parameters
    ----------
    labels : array-like of shape (n_samples,) or (n_samples, n_labels)
        Of many labels, one must have `folds` rows with it and as many without it.
    folds : int
        Number of folds of the search.
    """
    if np.ndim(labels) == 2:
        flags = np.asarray(labels)
        if flags.shape[1] < 2:
            raise InputError(
                "there is only one label. One label is two classes, with and without it: give "
                "them in one column, without a separator."
            )
        counts = flags.sum(axis=0)
        if not (np.minimum(counts, len(flags) - counts) >= folds).any():
            raise InputError(
                f"no label has {folds} training rows with it and {folds} without it, one for "
                f"each fold of the search: add rows, or use fewer folds.",
                parameter="cv",
                value=folds,
            )
        return
    rows = Counter(np.asarray(labels).tolist())
    if len(rows) < 2:
        raise InputError(
            f"there is only one class ({short(next(iter(rows)))!r}) in the training rows: a "
            f"classifier needs two. Is this the column of labels?"
        )
    few = {label: n for label, n in rows.items() if n < folds}
    if few:
        label, n = min(few.items(), key=lambda item: item[1])
        raise InputError(
            f"{len(few)} of {len(rows)} classes have fewer training rows than the {folds} folds "
            f"of the search ({short(label)!r} has {n}): add rows, drop the class, or use fewer "
            f"folds. If {short(label)!r} is a column's name, the file has a header.",
            parameter="cv",
            value=folds,
        )


@dataclass
class Rows:
    """Training and test rows, as a training needs them."""

    texts: list[str]
    labels: Labels
    truth: np.ndarray
    seen: list[str]  # the texts as the vectorizer gets them: cleaned, if the model cleans
    test_texts: list[str]
    test_truth: np.ndarray
    test_seen: list[str]
    groups: ArrayLike | None
    numbers: Sequence[int] | None = None  # of the rows in their tables, for the report
    test_numbers: Sequence[int] | None = None

    @classmethod
    def of(
        cls,
        model: Pipeline,
        texts: Sequence[str],
        labels: Labels,
        test_texts: Sequence[str],
        test_labels: Labels,
        groups: ArrayLike | None,
    ) -> Rows:
        """Return the rows of a training of `model`."""
        texts, test_texts = list(texts), list(test_texts)
        truth, test_truth = np.asarray(labels), np.asarray(test_labels)
        if truth.ndim == 2:
            truth, test_truth = truth.astype(np.int64), test_truth.astype(np.int64)
        seen, test_seen = texts, test_texts
        if cleaner := model.named_steps.get("clean"):
            seen, test_seen = cleaner.transform(texts), cleaner.transform(test_texts)
        return cls(texts, labels, truth, seen, test_texts, test_truth, test_seen, groups)

    @property
    def many(self) -> bool:
        """Whether a text may have any number of labels."""
        return self.truth.ndim == 2
