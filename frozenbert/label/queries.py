"""Which texts to ask next: at random, near the names of rare labels, or uncertain."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from .exchange import LabelledText
from .items import Reason
from .store import Answer

__all__ = ["TextQueue", "by_name", "closeness", "identify", "uncertain"]

SAMPLE_EVERY = 5  # one text in so many is the next of the random sample
OVERLAP_EVERY = 10  # one text in so many was labelled by somebody else

WIDTH = 2  # uncertain texts that are clustered for each one asked for


def closeness(vectors: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return how close texts are to names of labels, compared with the other texts.

    Parameters
    ----------
    vectors : numpy.ndarray of shape (n_texts, n_features)
        Scaled.
    names : numpy.ndarray of shape (n_labels, n_features)
        Vectors of the names, scaled alike.

    Returns
    -------
    numpy.ndarray of shape (n_texts, n_labels)
        Cosines, with mean 0 and deviation 1 for each name.

    Examples
    --------
    >>> closeness(np.array([[1.0, 0], [0, 1]]), np.array([[2.0, 0]])).ravel().tolist()
    [1.0, -1.0]
    """
    cosine = _unit(vectors) @ _unit(names).T
    deviation = cosine.std(axis=0)
    return np.asarray((cosine - cosine.mean(axis=0)) / np.where(deviation > 0, deviation, 1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1))


def by_name(close: np.ndarray, wanted: Sequence[int]) -> list[int]:
    """Return for each wanted label the text that is closest to its name; each text once.

    Parameters
    ----------
    close : numpy.ndarray of shape (n_texts, n_labels)
        From `closeness`.
    wanted : sequence of int
        Labels, in the order in which they choose.

    Examples
    --------
    >>> by_name(np.array([[2.0, 2.0], [0.0, 1.0]]), [0, 1])
    [0, 1]
    """
    chosen: list[int] = []
    for label in wanted[: len(close)]:
        score = close[:, label].copy()
        score[chosen] = -np.inf
        chosen.append(int(score.argmax()))
    return chosen


def uncertain(vectors: np.ndarray, probabilities: np.ndarray, n: int, seed: int = 0) -> list[int]:
    """Return texts whose two best labels are close, and that are unlike one another.

    The texts with the smallest margins, two for each one asked for, are clustered by their
    vectors; the text nearest to the centre of each cluster is returned.

    Parameters
    ----------
    vectors : numpy.ndarray of shape (n_texts, n_features)
    probabilities : numpy.ndarray of shape (n_texts, n_labels)
    n : int
    seed : int, default=0

    Returns
    -------
    list of int
        Distinct rows, as many as asked for if there are so many; the smallest margin first.

    References
    ----------
    F. Zhdanov, "Diverse mini-batch Active Learning", 2019.

    Examples
    --------
    >>> vectors = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> uncertain(vectors, np.array([[0.5, 0.5], [0.6, 0.4], [0.55, 0.45], [1.0, 0.0]]), 2)
    [0, 2]
    """
    n = min(n, len(vectors))
    if not n:
        return []
    best = np.partition(probabilities, -2, axis=1)[:, -2:]
    margins = best[:, 1] - best[:, 0]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(margins))  # ties in random order
    rows = order[np.argsort(margins[order], kind="stable")]
    near = rows[: WIDTH * n]
    with warnings.catch_warnings():
        # Equal texts make fewer clusters than asked for; the rest is filled up below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = KMeans(n, n_init=1, random_state=seed).fit(vectors[near])
    distances = clusters.transform(vectors[near])
    found = []
    for cluster in range(n):
        of_cluster = np.flatnonzero(clusters.labels_ == cluster)
        if len(of_cluster):
            found.append(int(near[of_cluster[distances[of_cluster, cluster].argmin()]]))
    found.sort(key=lambda row: margins[row])
    known = set(found)
    return found + [row for row in rows.tolist() if row not in known][: n - len(found)]


def identify(texts: Sequence[str]) -> list[str]:
    """Return an id for each text: the hash of the text, and its occurrence among equal ones.

    Examples
    --------
    >>> ids = identify(["a film", "a play", "a film"])
    >>> [name.rpartition("-")[2] for name in ids], ids[0][:8] == ids[2][:8]
    (['0', '0', '1'], True)
    """
    counts: Counter[str] = Counter()
    ids = []
    for text in texts:
        digest = hashlib.sha256(text.encode()).hexdigest()[:24]
        ids.append(f"{digest}-{counts[digest]}")
        counts[digest] += 1
    return ids


class TextQueue:
    """The texts of a session: who answered them, who sees them, and which is next.

    Parameters
    ----------
    texts : list of str
    seed : int
        Of the random order.

    Attributes
    ----------
    texts, ids : list of str
    rows : dict of str to int
        By id.
    order : list of int
        Rows in random order. Seeded hashes decide it: it does not depend on the rows' order,
        and rows that are added later take their places in it.
    answered : dict
        By id and annotator, the last answer of each.
    pending : dict
        By annotator, the rows that are shown, with the reason.

    Examples
    --------
    >>> queue = TextQueue(["a film", "a play"], 0)
    >>> row, reason = queue.choose(None, set(), [])
    >>> reason, queue.n_left
    ('sample', 2)
    """

    def __init__(self, texts: list[str], seed: int) -> None:
        self.texts = texts
        self.ids = identify(texts)
        self.rows = {name: row for row, name in enumerate(self.ids)}
        keys = [hashlib.sha256(f"{seed} {name}".encode()).digest() for name in self.ids]
        self.order = sorted(range(len(keys)), key=keys.__getitem__)
        self.answered: dict[str, dict[str | None, Answer]] = {}
        self.pending: dict[str | None, list[tuple[int, Reason]]] = {}

    @property
    def n_left(self) -> int:
        """Texts that nobody answered."""
        return len(self.texts) - sum(name in self.rows for name in self.answered)

    def read(self, answers: Iterable[Answer]) -> None:
        """Replace all answers."""
        self.answered.clear()
        for answer in answers:
            self.note(answer)

    def note(self, answer: Answer) -> None:
        """Note an answer, which replaces the annotator's former one to this text."""
        said = self.answered.setdefault(answer.item_id, {})
        said.pop(answer.annotator, None)  # the last one is last
        said[answer.annotator] = answer

    def text_of(self, item_id: str) -> str | None:
        """Return a text of the pool, or one that was answered; None if there is none."""
        row = self.rows.get(item_id)
        if row is not None:
            return self.texts[row]
        said = self.answered.get(item_id) or {}
        return next((one.text for one in said.values()), None)

    def labels_of(self, item_id: str) -> list[str] | None:
        """Return what most annotators said, the last one of equally many; None is skipped."""
        said = [one.labels for one in self.answered.get(item_id, {}).values()]
        given = [labels for labels in said if labels is not None]
        if len(given) < 2:
            return given[0] if given else None
        counts = Counter(tuple(labels) for labels in given)
        most = max(counts.values())
        return next(labels for labels in reversed(given) if counts[tuple(labels)] == most)

    def labelled(self) -> list[LabelledText]:
        """Return all labelled texts, those that are no longer in the pool included."""
        found = []
        for name, said in self.answered.items():
            labels = self.labels_of(name)
            if labels is not None:
                found.append(LabelledText(name, self.text_of(name) or "", labels, [*said.values()]))
        return found

    def open_rows(self) -> np.ndarray:
        """Return the rows that may be asked."""
        is_open = np.ones(len(self.texts), dtype=bool)
        is_open[[self.rows[name] for name in self.answered if name in self.rows]] = False
        is_open[list(self._taken())] = False
        return np.flatnonzero(is_open)

    def sample(self) -> list[int]:
        """Return the labelled rows of the random sample: those before the first open one."""
        taken, found = self._taken(), []
        for row in self.order:
            said = self.answered.get(self.ids[row])
            if said is None and row not in taken:
                break
            if said and self.labels_of(self.ids[row]) is not None:
                found.append(row)
        return found

    def shown(self, annotator: str | None) -> list[tuple[int, Reason]]:
        """Return the rows that an annotator sees and has not answered."""
        pending = self.pending.setdefault(annotator, [])
        pending[:] = [
            one for one in pending if annotator not in self.answered.get(self.ids[one[0]], {})
        ]
        return pending

    def choose(
        self, annotator: str | None, skip_ids: set[str], queue: list[tuple[int, Reason]]
    ) -> tuple[int, Reason] | None:
        """Return the next row for an annotator, and why; None if there is none.

        Parameters
        ----------
        annotator : str or None
        skip_ids : set of str
        queue : list of (int, str)
            Rows that the model chose; those that are used are taken from it.
        """
        taken = self._taken()

        def is_open(row: int) -> bool:
            name = self.ids[row]
            return name not in self.answered and row not in taken and name not in skip_ids

        again = self._overlap(annotator, skip_ids | {self.ids[row] for row in taken})
        if again is not None:
            return again, "random"
        is_turn = (len(self.answered) + len(taken)) % SAMPLE_EVERY == 0
        while queue and not is_turn:
            row, reason = queue.pop(0)
            if is_open(row):
                return row, reason
        # From the other end: what is not asked for the sample must not become its next member.
        for row in self.order if is_turn else reversed(self.order):
            if is_open(row):
                return row, "sample" if is_turn else "random"
        return None

    def _overlap(self, annotator: str | None, skip_ids: set[str]) -> int | None:
        """Return a text that another annotator labelled, if it is time for one."""
        said = self.answered.values()
        n = sum(annotator in one for one in said) + len(self.pending.get(annotator, []))
        if n % OVERLAP_EVERY != OVERLAP_EVERY - 1:
            return None
        for name, answers in reversed(self.answered.items()):
            is_single = len(answers) == 1 and annotator not in answers and None not in answers
            if is_single and name in self.rows and name not in skip_ids:
                return self.rows[name]
        return None

    def _taken(self) -> set[int]:
        """Return the rows that are shown to somebody."""
        return {row for rows in self.pending.values() for row, _ in rows}
