"""Learn from the labels so far: guesses, the texts to ask next, and out-of-fold answers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ..embed import DistilBertVectorizer
from ..fewshot.suggestion import suggest

__all__ = ["Learned", "QuickHead", "Vectors", "fit_quick", "learn"]

BLOCK = 512  # texts that are embedded between two looks at new labels
SCALED_BY = 20_000  # vectors that means and deviations are computed of
CANDIDATES = 4000  # unlabelled texts that are compared after each refit
QUEUE = 60  # texts chosen after each refit
FOLDS = 10
C = 0.01


class Vectors:
    """Vectors of the pool, filled block by block; rows may be used before all are there.

    Parameters
    ----------
    texts : list of str
    vectorizer : DistilBertVectorizer
        Fitted.
    order : numpy.ndarray of int
        Rows, in the order in which they are filled.
    """

    def __init__(
        self, texts: list[str], vectorizer: DistilBertVectorizer, order: np.ndarray
    ) -> None:
        self.texts = texts
        self.vectorizer = vectorizer
        self.rows = np.zeros((len(texts), vectorizer.n_features_out_), dtype=np.float32)
        self.ready = np.zeros(len(texts), dtype=bool)
        self.n_ready = 0
        self._order = order
        self._blocks: Iterator[np.ndarray] | None = None
        self._scale: tuple[int, np.ndarray, np.ndarray] | None = None

    @classmethod
    def of(cls, rows: np.ndarray) -> Vectors:
        """Return vectors that are there already."""
        vectors = cls.__new__(cls)
        vectors.rows = np.asarray(rows, dtype=np.float32)
        vectors.ready = np.ones(len(rows), dtype=bool)
        vectors.n_ready = len(rows)
        vectors._scale = None
        return vectors

    @property
    def is_complete(self) -> bool:
        """Whether each text has its vector."""
        return self.n_ready == len(self.rows)

    def fill(self) -> None:
        """Compute the next block."""
        if self._blocks is None:
            ordered = (self.texts[row] for row in self._order)
            self._blocks = self.vectorizer.transform_iter(ordered, block_size=BLOCK)
        block = next(self._blocks)
        rows = self._order[self.n_ready : self.n_ready + len(block)]
        self.rows[rows] = block
        self.ready[rows] = True
        self.n_ready += len(block)

    def ensure(self, rows: Sequence[int]) -> None:
        """Compute the vectors of these rows now."""
        missing = [row for row in rows if not self.ready[row]]
        if missing:
            self.rows[missing] = self.vectorizer.transform([self.texts[row] for row in missing])
            self.ready[missing] = True

    def scaled(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return vectors with mean 0 and deviation 1 over the pool, as far as it is filled."""
        n = min(int(self.ready.sum()), SCALED_BY)
        if self._scale is None or n > 1.5 * self._scale[0]:
            known = self.rows[np.flatnonzero(self.ready)[:SCALED_BY]]
            deviation = known.std(axis=0)
            self._scale = (n, known.mean(axis=0), np.where(deviation > 0, deviation, 1.0))
        _, mean, deviation = self._scale
        return np.asarray((self.rows[rows] - mean) / deviation, dtype=np.float32)


@dataclass
class QuickHead:
    """A logistic regression, or one for each of many labels, over a session's labels.

    Labels that no text has yet have the probability 0.
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


def fit_quick(X: np.ndarray, Y: np.ndarray, *, multi_label: bool) -> QuickHead:
    """Fit a head.

    Parameters
    ----------
    X : numpy.ndarray of shape (n_rows, n_features)
        Scaled.
    Y : numpy.ndarray of int, shape (n_rows, n_labels)
        0 and 1; a single 1 in each row unless `multi_label`.
    multi_label : bool

    Examples
    --------
    >>> head = fit_quick(np.array([[0.0], [1.0]]), np.eye(2, dtype=int), multi_label=False)
    >>> head.predict_proba(np.array([[2.0]])).argmax()
    1
    """
    if multi_label:
        columns = [(column, _fit_one(X, Y[:, column])) for column in range(Y.shape[1])]
        return QuickHead(Y.shape[1], columns)
    y = Y.argmax(axis=1)
    if len(np.unique(y)) == 1:
        return QuickHead(Y.shape[1], [(int(y[0]), 1.0)])
    model = _fit_one(X, y)
    return QuickHead(Y.shape[1], [(-1, model)])


def _fit_one(X: np.ndarray, y: np.ndarray) -> LogisticRegression | float:
    if y.min() == y.max():
        return float(y[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=C, tol=1e-3, max_iter=200).fit(X, y)


@dataclass
class Learned:
    """What was learned from the labels so far.

    Attributes
    ----------
    n : int
        Labelled texts that were learned from.
    head : QuickHead
    queue : list of int
        Rows to ask next.
    out_of_fold : dict of int to numpy.ndarray
        Probabilities of each labelled row by models of other rows.
    """

    n: int
    head: QuickHead
    queue: list[int]
    out_of_fold: dict[int, np.ndarray] = field(default_factory=dict)


def learn(
    vectors: Vectors,
    labels: Mapping[int, np.ndarray],
    open_rows: np.ndarray,
    *,
    multi_label: bool,
    seed: int,
) -> Learned:
    """Learn from labelled rows.

    Parameters
    ----------
    vectors : Vectors
    labels : mapping of int to numpy.ndarray
        0 and 1 for each label, by row.
    open_rows : numpy.ndarray of int
        Rows that may be asked.
    multi_label : bool
    seed : int
    """
    rows = list(labels)
    vectors.ensure(rows)
    X, Y = vectors.scaled(rows), np.array([labels[row] for row in rows])
    head = fit_quick(X, Y, multi_label=multi_label)
    out_of_fold = _out_of_fold(X, Y, multi_label, seed)
    rng = np.random.default_rng(seed + len(rows))
    candidates = open_rows[vectors.ready[open_rows]]
    if len(candidates) > CANDIDATES:
        candidates = rng.choice(candidates, CANDIDATES, replace=False)
    queue: list[int] = []
    if len(candidates):
        scaled = vectors.scaled(candidates)
        P = head.predict_proba(scaled)
        if multi_label:  # the label that is least clear
            clear = np.abs(P - 0.5).argmin(axis=1)
            p = P[np.arange(len(P)), clear]
            P = np.column_stack([p, 1 - p])
        P = P[:, P.max(axis=0) > 0]
        if P.shape[1] > 1:
            chosen = suggest(scaled, P, min(QUEUE, len(candidates)), random_state=seed)
            queue = candidates[chosen].tolist()
    return Learned(len(rows), head, queue, dict(zip(rows, out_of_fold, strict=True)))


def _out_of_fold(X: np.ndarray, Y: np.ndarray, multi_label: bool, seed: int) -> np.ndarray:
    P = np.zeros(Y.shape)
    if len(X) < 2:
        return P
    folds = np.random.default_rng(seed).permutation(len(X)) % min(FOLDS, len(X))
    for fold in np.unique(folds):
        test = folds == fold
        P[test] = fit_quick(X[~test], Y[~test], multi_label=multi_label).predict_proba(X[test])
    return P
