"""The model of a session: it learns from the answers, and speaks of texts and labels."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from ...embed import DistilBertVectorizer
from ...errors import InputError
from ..asking import TextQueue
from ..items import Doubt, Estimate, Group, Reason
from ..project import ProjectFacts
from ..store import Store
from .audits import Labelled, groups_of
from .estimation import estimate_accuracy
from .learner import Learner
from .pool_vectors import Vectors

__all__ = ["SessionModel", "make_session_model"]

GUESSES = 3
COMPARED = 3000  # texts that groups and outliers are looked for among


class SessionModel:
    """Learns from a session's answers, in a thread if wanted.

    The learner knows rows, 0 and 1; this class knows the session's texts and labels.

    Parameters
    ----------
    learner : Learner
    queue : TextQueue
        The texts and their answers.
    store : Store
        Keeps the points of the curve.
    facts : ProjectFacts
        The labels.
    mutex : threading.RLock
        Of the session: it is held while the queue is read.

    Attributes
    ----------
    problem : str or None
        Why learning in the background ended, if it failed.
    """

    def __init__(
        self,
        learner: Learner,
        queue: TextQueue,
        store: Store,
        facts: ProjectFacts,
        *,
        mutex: threading.RLock,
    ) -> None:
        self.problem: str | None = None
        self._learner = learner
        self._queue = queue
        self._store = store
        self._labels = facts.labels
        self._places = {label: place for place, label in enumerate(facts.labels)}
        self._multi_label = facts.multi_label
        self._mutex = mutex
        self._closed, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    # Learning

    def start(self, *, background: bool) -> None:
        """Compute vectors and learn: in a thread, or now and whenever `notify` is called."""
        if background:
            self._thread = threading.Thread(target=self._work, name="label", daemon=True)
            self._thread.start()
            return
        while not self._learner.vectors.is_complete:
            self._learner.vectors.fill()
        self._learn_if_due()

    def notify(self) -> None:
        """Take note that there are new answers."""
        if self._thread is None:
            self._learn_if_due()
            self._store.back_up_if_due()
        self._wake.set()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._closed.is_set():
            try:
                self._store.back_up_if_due()
                if self.problem is None and (self._learn_if_due() or self._fill()):
                    continue
            except Exception as error:  # the page shows it; texts then come at random
                self.problem = f"{type(error).__name__}: {error}"
            self._wake.wait()
            self._wake.clear()

    def _fill(self) -> bool:
        """Compute a block of vectors, unless all are there."""
        vectors = self._learner.vectors
        if vectors.is_complete:
            return False
        vectors.fill()
        return True

    def _learn_if_due(self) -> bool:
        """Learn if there are enough new labels; return whether it was done."""
        learner = self._learner
        with self._mutex:
            if not learner.is_due(self._n_labelled()):
                return False
            labels = self._flags_by_row()
            free, sample = self._queue.open_rows(), self._queue.sample()
        deep = learner.learned.n_deep if learner.learned else 0
        learned = learner.learn(labels, free, sample)
        with self._mutex:
            estimate = self.estimate()
            if estimate is not None and learned.n_deep != deep:
                self._store.add_point(learned.n, *estimate[:3])
        return True

    # What is known

    @property
    def n_vectors(self) -> int:
        """Texts whose vector is there."""
        return int(self._learner.vectors.ready.sum())

    @property
    def gain(self) -> float | None:
        """The accuracy that twice as many labels are expected to bring."""
        learned = self._learner.learned
        return learned.gain if learned else None

    @property
    def asked(self) -> list[tuple[int, Reason]]:
        """The rows to ask next, with the reason; what is taken from the list is not asked again."""
        learned = self._learner.learned
        return learned.queue if learned else []

    def guesses(self, row: int) -> list[tuple[str, float]]:
        """Return the most probable labels of a row, none before there is a model."""
        learned, vectors = self._learner.learned, self._learner.vectors
        if learned is None or learned.head is None or not vectors.ready[row]:
            return []
        (p,) = learned.predict_proba(vectors.rows[[row]])
        best = np.argsort(-p, kind="stable")[:GUESSES]
        return [(self._labels[place], float(p[place])) for place in best if p[place] > 0]

    def estimate(self) -> Estimate | None:
        """Return the accuracy on the pool, by the random sample."""
        learned = self._learner.learned
        if learned is None:
            return None
        known = learned.held_out
        return estimate_accuracy(
            [self._is_right(row, known[row]) for row in self._queue.sample() if row in known]
        )

    def out_of_fold(self) -> dict[int, np.ndarray]:
        """Return the probabilities of each labelled row by models of other rows."""
        with self._mutex:
            flags = self._flags_by_row()
        return self._learner.out_of_fold(flags)

    # Looking again

    def doubts(self) -> list[Doubt]:
        """Return all labelled texts to look at again, of each kind the most doubtful first."""
        with self._mutex:
            flags = self._flags_by_row()
        probabilities = self._learner.out_of_fold(flags)
        rows = list(probabilities)
        if not rows:
            return []
        vectors = self._learner.vectors
        labelled = Labelled(
            [self._queue.ids[row] for row in rows],
            [self._queue.texts[row] for row in rows],
            [
                [one for one, flag in zip(self._labels, flags[row], strict=True) if flag]
                for row in rows
            ],
            np.array([flags[row] for row in rows]),
            vectors.rows[rows],
            np.array([probabilities[row] for row in rows]),
            self._labels,
            self._multi_label,
        )
        others = np.setdiff1d(np.flatnonzero(vectors.ready)[:COMPARED], rows)
        return labelled.doubts(vectors.rows[others])

    def groups(self) -> list[Group]:
        """Return groups of unlabelled texts that are alike, the largest first."""
        vectors = self._learner.vectors
        with self._mutex:
            free = self._queue.open_rows()
            free = free[vectors.ready[free]]
            n_answered = len(self._queue.answered)
        if not len(free):
            return []
        if len(free) > COMPARED:
            rng = np.random.default_rng(n_answered)
            free = rng.choice(free, COMPARED, replace=False)
        return [self._group(free[members]) for members in groups_of(vectors.rows[free])]

    def _group(self, rows: np.ndarray) -> Group:
        learned, guess = self._learner.learned, None
        if learned is not None and learned.head is not None:
            p = learned.predict_proba(self._learner.vectors.rows[rows]).mean(axis=0)
            guess = self._labels[p.argmax()]
        ids, texts = self._queue.ids, self._queue.texts
        return Group([ids[row] for row in rows], [texts[row] for row in rows], guess)

    # Labels as 0 and 1

    def _n_labelled(self) -> int:
        queue = self._queue
        return sum(
            name in queue.rows and queue.labels_of(name) is not None for name in queue.answered
        )

    def _flags(self, labels: Sequence[str]) -> np.ndarray:
        flags = np.zeros(len(self._labels), dtype=int)
        flags[[self._places[label] for label in labels]] = 1
        return flags

    def _flags_by_row(self) -> dict[int, np.ndarray]:
        """Return the labels of the rows that are in the pool, in the order of the answers."""
        flags = {}
        for name in self._queue.answered:
            row, labels = self._queue.rows.get(name), self._queue.labels_of(name)
            if row is not None and labels is not None:
                flags[row] = self._flags(labels)
        return flags

    def _is_right(self, row: int, p: np.ndarray) -> bool:
        flags = self._flags(self._queue.labels_of(self._queue.ids[row]) or [])
        if self._multi_label:
            return bool(((p >= 0.5) == flags).all())
        return bool(p.argmax() == flags.argmax())


def make_session_model(
    queue: TextQueue,
    store: Store,
    facts: ProjectFacts,
    vectorizer: DistilBertVectorizer | None,
    vectors: np.ndarray | None,
    *,
    mutex: threading.RLock,
) -> SessionModel:
    """Return the model of a session, which has learned nothing yet.

    Parameters
    ----------
    queue, store, facts, mutex
        As for `SessionModel`.
    vectorizer : DistilBertVectorizer or None
        Fitted; without one, names of labels have no part in the choice.
    vectors : numpy.ndarray of shape (n_texts, n_features) or None
        The vectors of the texts; without them, the vectorizer computes them.

    Raises
    ------
    InputError
        If there is not a vector for each text.
    """
    texts = queue.texts
    if vectors is not None and len(vectors) != len(texts):
        raise InputError(f"{len(vectors):,} vectors for {len(texts):,} texts.", parameter="vectors")
    learner = Learner(
        Vectors(texts, vectorizer, np.array(queue.order), vectors),
        facts.described if vectorizer is not None else [],
        len(facts.labels),
        multi_label=facts.multi_label,
        seed=facts.seed,
    )
    return SessionModel(learner, queue, store, facts, mutex=mutex)
