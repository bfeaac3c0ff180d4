"""A logistic regression that is fitted after every few labels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

__all__ = ["QuickHead", "fit_quick"]

C = 0.01


@dataclass
class QuickHead:
    """A logistic regression, or one for each of many labels, over a session's labels.

    Labels that no text has yet have the probability 0.

    Attributes
    ----------
    n_labels : int
    models : list
        Pairs of a column and what predicts it: a model, or a constant probability. The column
        -1 is all columns.
    """

    n_labels: int
    models: list[tuple[int, LogisticRegression | float]]

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return probabilities, shape (n_rows, n_labels)."""
        P = np.zeros((len(X), self.n_labels))
        for column, model in self.models:
            if isinstance(model, float):
                P[:, column] = model
            elif column < 0:
                P[:, model.classes_] = model.predict_proba(X)
            else:
                P[:, column] = model.predict_proba(X)[:, 1]
        return P


def fit_quick(X: np.ndarray, Y: np.ndarray, *, multi_label: bool = False) -> QuickHead:
    """Fit a head.

    Parameters
    ----------
    X : numpy.ndarray of shape (n_rows, n_features)
        Scaled.
    Y : numpy.ndarray of int, shape (n_rows, n_labels)
        0 and 1; a single 1 in each row unless `multi_label`.
    multi_label : bool, default=False

    Examples
    --------
    >>> head = fit_quick(np.array([[0.0], [1.0]]), np.eye(2, dtype=int))
    >>> int(head.predict_proba(np.array([[2.0]])).argmax())
    1
    """
    if multi_label:
        columns = [(column, _fit_one(X, Y[:, column])) for column in range(Y.shape[1])]
        return QuickHead(Y.shape[1], columns)
    y = Y.argmax(axis=1)
    if y.min() == y.max():
        return QuickHead(Y.shape[1], [(int(y[0]), 1.0)])
    return QuickHead(Y.shape[1], [(-1, _fit_one(X, y))])


def _fit_one(X: np.ndarray, y: np.ndarray) -> LogisticRegression | float:
    if y.min() == y.max():
        return float(y[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Labels of texts are classes, also where most have one text so far.
        warnings.filterwarnings("ignore", message="The number of unique classes is greater")
        return LogisticRegression(C=C, tol=1e-3, max_iter=200).fit(X, y)
