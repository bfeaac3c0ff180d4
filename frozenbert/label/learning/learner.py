"""Learn from the labels so far: guesses, the texts to ask next, and out-of-fold answers."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..items import Reason
from .estimation import expected_gain
from .pool_vectors import Scale, Vectors
from .queries import by_name, closeness, least_clear, uncertain
from .quick_head import QuickHead, fit_quick

__all__ = ["Learned", "Learner", "batch_size"]

CANDIDATES = 4000  # unlabelled texts that are compared after each fit
NAME_CANDIDATES = 20_000
FOLDS = 5
LEAST_BATCH, BATCH_SHARE = 5, 0.05  # new labels that start a new fit
DEEP_SHARE = 0.05  # new labels that start new folds
LEAST_FOR_GAIN = 100  # labels, before half of them say something
LAST_GAINS = 3  # of which the largest counts
NAMED_TEXTS, NAMED_EACH = 20, 2  # labels in all, or of each label, until names have no part


def batch_size(n: int) -> int:
    """Return how many new labels start a new fit.

    Examples
    --------
    >>> batch_size(0), batch_size(200)
    (5, 10)
    """
    return max(LEAST_BATCH, int(BATCH_SHARE * n))


@dataclass
class Learned:
    """What was learned from the labels so far.

    Attributes
    ----------
    n : int
        Labelled texts.
    scale : tuple of numpy.ndarray
        Means and deviations of the vectors.
    head : QuickHead or None
        None before there is a label.
    queue : list of (int, str)
        Rows to ask next, with the reason.
    held_out : dict of int to numpy.ndarray
        Probabilities of the labelled rows of the random sample, by models that were fitted
        without them.
    n_deep : int
        Labelled texts when these were computed, and the gain.
    gains : list of float
        Accuracy that twice as many labels were expected to bring, each time it was computed.
    """

    n: int
    scale: Scale
    head: QuickHead | None
    queue: list[tuple[int, Reason]]
    held_out: dict[int, np.ndarray] = field(default_factory=dict)
    n_deep: int = 0
    gains: list[float] = field(default_factory=list)

    @property
    def gain(self) -> float | None:
        """The largest of the last gains: a single one may be small by chance."""
        return max(self.gains[-LAST_GAINS:], default=None)

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        """Return probabilities of texts by their vectors, which are not scaled."""
        assert self.head is not None
        return self.head.predict_proba(self.scaled(vectors))

    def scaled(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors with mean 0 and deviation 1 over the pool."""
        return np.asarray((vectors - self.scale[0]) / self.scale[1], dtype=np.float32)


class Learner:
    """Learns from a session's labels.

    Parameters
    ----------
    vectors : Vectors
    names : list of str
        Of the labels, each with its description; empty if names have no part.
    n_labels : int
    multi_label : bool
    seed : int

    Attributes
    ----------
    learned : Learned or None
        The last result.
    """

    def __init__(
        self, vectors: Vectors, names: list[str], n_labels: int, *, multi_label: bool, seed: int
    ) -> None:
        self.vectors = vectors
        self.learned: Learned | None = None
        self._names = names
        self._name_vectors: np.ndarray | None = None
        self._n_labels = n_labels
        self._multi_label = multi_label
        self._seed = seed
        self._busy = threading.Lock()

    def is_due(self, n: int) -> bool:
        """Tell whether `n` labels are enough for a new fit."""
        if self.learned is None:
            return bool(self.vectors.ready.any())
        return n >= self.learned.n + batch_size(self.learned.n) or n < self.learned.n

    def learn(
        self, labels: Mapping[int, np.ndarray], open_rows: np.ndarray, sample: Sequence[int]
    ) -> Learned:
        """Learn from labelled rows.

        Parameters
        ----------
        labels : mapping of int to numpy.ndarray
            0 and 1 for each label, by row; in the order of the answers.
        open_rows : numpy.ndarray of int
            Rows that may be asked.
        sample : sequence of int
            The labelled rows of the random sample.
        """
        with self._busy:
            rows, before = list(labels), self.learned
            self.vectors.ensure(rows)
            learned = Learned(len(rows), self.vectors.scale(), None, [])
            Y = np.array([labels[row] for row in rows]).reshape(-1, self._n_labels)
            X = learned.scaled(self.vectors.rows[rows])
            if rows:
                learned.head = self._fit(X, Y)
            if before:
                learned.held_out, learned.n_deep = before.held_out, before.n_deep
                learned.gains = before.gains
            rng = np.random.default_rng([self._seed, len(rows)])
            candidates = open_rows[self.vectors.ready[open_rows]]
            # What is asked must not depend on the answers of the random sample: texts near them
            # would not be asked, and a model without them would look worse than the model is.
            asks = ~np.isin(rows, sample)
            head = self._fit(X[asks], Y[asks]) if asks.any() else None
            learned.queue = self._queue(learned, head, Y[asks], candidates, rng)
            if abs(len(rows) - learned.n_deep) >= max(LEAST_BATCH, DEEP_SHARE * learned.n_deep):
                held = np.isin(rows, sample)
                P = self._hold_out(X, Y, held)
                learned.held_out = dict(zip(np.array(rows)[held].tolist(), P[held], strict=True))
                learned.n_deep = len(rows)
                some = _some(candidates, CANDIDATES, rng)
                learned.gains = learned.gains + self._gain(learned, X, Y, some)
            self.learned = learned
            return learned

    def _queue(
        self,
        learned: Learned,
        head: QuickHead | None,
        Y: np.ndarray,
        candidates: np.ndarray,
        rng: np.random.Generator,
    ) -> list[tuple[int, Reason]]:
        n, counts = batch_size(len(Y)), Y.sum(axis=0)
        named: list[int] = []
        if self._names and len(Y) < max(NAMED_TEXTS, NAMED_EACH * self._n_labels):
            order = np.lexsort((rng.random(self._n_labels), counts))
            wanted = [label for label in order.tolist() if counts[label] < NAMED_EACH][:n]
            some = _some(candidates, NAME_CANDIDATES, rng)
            if wanted and len(some):
                names = learned.scaled(self._vectors_of_names())
                close = closeness(learned.scaled(self.vectors.rows[some]), names)
                named = some[by_name(close, wanted)].tolist()
        queue: list[tuple[int, Reason]] = [(row, "name") for row in named]
        some = _some(candidates, CANDIDATES, rng)
        if head is not None and len(some) and np.count_nonzero(counts) > 1:
            X = learned.scaled(self.vectors.rows[some])
            P = self._doubt(head.predict_proba(X))
            # The rest is asked if the next fit is late.
            chosen = uncertain(X, P, max(1, n - len(named)), seed=self._seed)
            late = np.argsort(np.diff(np.sort(P, axis=1)[:, -2:], axis=1)[:, 0], kind="stable")
            known = {*named, *some[chosen].tolist()}
            queue += [(row, "uncertain") for row in some[chosen].tolist() if row not in named]
            queue += [
                (row, "uncertain") for row in some[late[: 4 * n]].tolist() if row not in known
            ]
        return queue

    def _fit(self, X: np.ndarray, Y: np.ndarray) -> QuickHead:
        return fit_quick(X, Y, multi_label=self._multi_label)

    def _doubt(self, P: np.ndarray) -> np.ndarray:
        """Return probabilities of classes; of many labels, with and without the least clear."""
        return least_clear(P) if self._multi_label else P

    def _vectors_of_names(self) -> np.ndarray:
        if self._name_vectors is None:
            assert self.vectors.vectorizer is not None
            self._name_vectors = self.vectors.vectorizer.transform(self._names)
        return self._name_vectors

    def out_of_fold(self, labels: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Return the probabilities of each labelled row by models of other rows.

        Parameters
        ----------
        labels : mapping of int to numpy.ndarray
            As for `learn`.
        """
        rows = [row for row in labels if self.vectors.ready[row]]
        if len(rows) < 2 or self.learned is None:
            return {}
        X = self.learned.scaled(self.vectors.rows[rows])
        Y = np.array([labels[row] for row in rows])
        return dict(zip(rows, self._hold_out(X, Y, np.ones(len(rows), bool)), strict=True))

    def _hold_out(self, X: np.ndarray, Y: np.ndarray, held: np.ndarray) -> np.ndarray:
        """Return probabilities of the held rows, each by a model without it.

        The held rows are parted into folds; the others are in every fit. So models for the few
        texts of the random sample are fitted on almost all labels.
        """
        P = np.zeros(Y.shape)
        places = np.random.default_rng(self._seed).permutation(np.flatnonzero(held))
        for fold in np.array_split(places, min(FOLDS, len(places)) or 1):
            rest = np.setdiff1d(np.arange(len(X)), fold)
            if len(rest) and len(fold):
                head = fit_quick(X[rest], Y[rest], multi_label=self._multi_label)
                P[fold] = head.predict_proba(X[fold])
        return P

    def _gain(
        self, learned: Learned, X: np.ndarray, Y: np.ndarray, candidates: np.ndarray
    ) -> list[float]:
        """Return the accuracy that twice as many labels are expected to bring, or nothing."""
        if len(X) < LEAST_FOR_GAIN or not len(candidates) or learned.head is None:
            return []
        half = len(X) // 2
        before = fit_quick(X[:half], Y[:half], multi_label=self._multi_label)
        asked = learned.scaled(self.vectors.rows[candidates])
        now, then = (head.predict_proba(asked) for head in (learned.head, before))
        return [expected_gain(self._doubt(then), self._doubt(now), half, len(X))]


def _some(rows: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= n else rng.choice(rows, n, replace=False)
