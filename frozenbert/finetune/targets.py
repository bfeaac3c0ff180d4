"""Labels as the numbers that a training learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from ..reports.metrics import score, short

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Scores", "Targets"]


class Scores(TypedDict):
    """Scores of validation texts, as fractions."""

    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class Targets:
    """Labels of the training and the validation texts as numbers.

    Attributes
    ----------
    kind : {"classes", "labels", "probabilities"}
        One class for each text, any number of labels, or the probability of each class.
    names : list of str
        Of the classes or labels.
    train, valid : numpy.ndarray
        Of int, shape (n_texts,), the index of each text's class; or of float32, shape
        (n_texts, n_names), 0 and 1 or probabilities.
    """

    kind: Literal["classes", "labels", "probabilities"]
    names: list[str]
    train: np.ndarray
    valid: np.ndarray

    @classmethod
    def of(
        cls, labels: ArrayLike | pd.DataFrame, valid_labels: ArrayLike | pd.DataFrame
    ) -> Targets:
        """Return labels as numbers.

        Raises
        ------
        InputError
            If the labels are neither classes, nor 0 and 1, nor probabilities, there are fewer
            than two, or one of them exists only in the validation texts.
        """
        if np.ndim(labels) == 1:
            return cls._of_classes(np.asarray(labels).tolist(), np.asarray(valid_labels).tolist())
        train, valid = np.asarray(labels), np.asarray(valid_labels)
        names = [str(name) for name in getattr(labels, "columns", range(train.shape[1]))]
        valid_names = [str(name) for name in getattr(valid_labels, "columns", names)]
        if valid_names != names or valid.shape[1:] != train.shape[1:]:
            raise InputError(
                f"the columns are {valid_names}, and those of the training labels {names}.",
                parameter="valid_labels",
            )
        if len(names) < 2:
            raise InputError(
                "one column only: give one class for each text, as one dimension.",
                parameter="labels",
            )
        kind: Literal["labels", "probabilities"] = "labels"
        if train.dtype.kind in "iub":
            unseen = np.flatnonzero(valid.any(axis=0) & ~train.any(axis=0))
            if len(unseen):
                raise InputError(
                    f"the label {short(names[unseen[0]])!r} has no training text: add some, or "
                    f"leave the label out.",
                    parameter="labels",
                )
        else:
            kind = "probabilities"
            for name, values in (("labels", train), ("valid_labels", valid)):
                if values.min() < 0 or not np.allclose(values.sum(axis=1), 1, atol=1e-3):
                    raise InputError(
                        "probabilities are from 0 to 1, and their sum in a row is 1.",
                        parameter=name,
                    )
        return cls(kind, names, train.astype(np.float32), valid.astype(np.float32))

    @classmethod
    def _of_classes(cls, labels: list[object], valid_labels: list[object]) -> Targets:
        classes = sorted(set(labels), key=str)
        index = {label: i for i, label in enumerate(classes)}
        if unseen := [label for label in valid_labels if label not in index]:
            raise InputError(
                f"the class {short(unseen[0])!r} has no training text, only those of "
                f"{', '.join(map(short, classes[:20]))} have: add some, or leave its validation "
                f"texts out.",
                parameter="valid_labels",
            )
        if len(classes) < 2:
            raise InputError(
                f"all training texts have the class {short(classes[0])!r}; two are needed.",
                parameter="labels",
            )
        train = np.array([index[label] for label in labels])
        valid = np.array([index[label] for label in valid_labels])
        return cls("classes", [str(label) for label in classes], train, valid)

    def score(self, truth: np.ndarray, logits: np.ndarray) -> Scores:
        """Score the logits of some texts."""
        if self.kind == "labels":
            metrics = score(truth.astype(int), (logits > 0).astype(int))
        else:
            truth = truth if self.kind == "classes" else truth.argmax(axis=1)
            metrics = score(truth, logits.argmax(axis=1))
        return {"accuracy": metrics["accuracy"], "macro_f1": metrics["macro_f1"]}
