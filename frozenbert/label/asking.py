"""Who is asked which text: the random sample, the model's choices, and a little of each other's."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..errors import InputError
from ..utils.texts import check_texts, is_missing
from .exchange import LabelledText
from .items import Reason
from .store import Answer

__all__ = ["TextQueue", "check_pool", "identify"]

SAMPLE_EVERY = 5  # one text in so many is the next of the random sample
OVERLAP_EVERY = 10  # one text in so many was labelled by somebody else
OPEN_SECONDS = 1800.0  # without a sign of an annotator, until others get the texts shown there


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


def check_pool(texts: Sequence[str]) -> list[str]:
    """Return the texts to label as a list.

    Raises
    ------
    InputError
        If there are none, or some are missing.
    """
    if not isinstance(texts, str) and any(map(is_missing, texts)):
        rows = [row for row, text in enumerate(texts) if is_missing(text)]
        raise InputError(
            f"{len(rows):,} texts are missing, such as texts[{rows[0]}]: drop them, or make them "
            f"empty strings.",
            parameter="texts",
        )
    checked = check_texts(texts, "error")
    if not checked:
        raise InputError("there are no texts to label.", parameter="texts")
    return checked


class TextQueue:
    """The texts of a session: who answered them, who sees them, and which is next.

    Parameters
    ----------
    texts : list of str
    seed : int
        Of the random order.
    clock : callable
        Returns seconds, which tell how long an annotator was away.

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
        By annotator, the rows that are shown, with the reason. If there is no sign of the
        annotator for half an hour, others may get them.

    Examples
    --------
    >>> queue = TextQueue(["a film", "a play"], 0)
    >>> row, reason = queue.choose(None, set(), [])
    >>> reason, queue.n_left
    ('sample', 2)
    """

    def __init__(
        self, texts: list[str], seed: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.texts = texts
        self.ids = identify(texts)
        self.rows = {name: row for row, name in enumerate(self.ids)}
        keys = [hashlib.sha256(f"{seed} {name}".encode()).digest() for name in self.ids]
        self.order = sorted(range(len(keys)), key=keys.__getitem__)
        self.answered: dict[str, dict[str | None, Answer]] = {}
        self.pending: dict[str | None, list[tuple[int, Reason]]] = {}
        self._labels: dict[str, list[str] | None] = {}  # what most annotators said
        self._clock = clock
        self._seen: dict[str | None, float] = {}

    @property
    def n_left(self) -> int:
        """Texts that nobody answered."""
        return len(self.texts) - sum(name in self.rows for name in self.answered)

    def read(self, answers: Iterable[Answer]) -> None:
        """Replace all answers."""
        self.answered.clear()
        self._labels.clear()
        for answer in answers:
            self.note(answer)

    def note(self, answer: Answer) -> None:
        """Note an answer, which replaces the annotator's former one to this text."""
        said = self.answered.setdefault(answer.item_id, {})
        said.pop(answer.annotator, None)  # the last one is last
        said[answer.annotator] = answer
        self._labels[answer.item_id] = _most_said([one.labels for one in said.values()])

    def text_of(self, item_id: str) -> str | None:
        """Return a text of the pool, or one that was answered; None if there is none."""
        row = self.rows.get(item_id)
        if row is not None:
            return self.texts[row]
        said = self.answered.get(item_id) or {}
        return next((one.text for one in said.values()), None)

    def labels_of(self, item_id: str) -> list[str] | None:
        """Return what most annotators said, the last one of equally many; None is skipped."""
        return self._labels.get(item_id)

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
        """Return the labelled rows of the random sample: those before the first open one.

        Rows that are shown to somebody, however long ago, do not end it.
        """
        shown, found = {row for rows in self.pending.values() for row, _ in rows}, []
        for row in self.order:
            said = self.answered.get(self.ids[row])
            if said is None and row not in shown:
                break
            if said and self.labels_of(self.ids[row]) is not None:
                found.append(row)
        return found

    def touch(self, annotator: str | None) -> None:
        """Note a sign of an annotator, who loses the texts that others got meanwhile."""
        was_away = self._is_away(annotator)
        self._seen[annotator] = self._clock()
        if was_away:
            others = self._taken(but=annotator)
            pending = self.pending.get(annotator, [])
            pending[:] = [
                one
                for one in pending
                if one[0] not in others and self.ids[one[0]] not in self.answered
            ]

    def shown(self, annotator: str | None) -> list[tuple[int, Reason]]:
        """Return the rows that an annotator sees and has not answered."""
        self.touch(annotator)
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

    def _taken(self, but: str | None = "") -> set[int]:
        """Return the rows that are shown to somebody who is not away, nor is `but`."""
        return {
            row
            for annotator, rows in self.pending.items()
            if annotator != but and not self._is_away(annotator)
            for row, _ in rows
        }

    def _is_away(self, annotator: str | None) -> bool:
        now = self._clock()
        return now - self._seen.get(annotator, now) >= OPEN_SECONDS


def _most_said(labels: list[list[str] | None]) -> list[str] | None:
    given = [one for one in labels if one is not None]
    if len(given) < 2:
        return given[0] if given else None
    counts = Counter(map(tuple, given))
    most = max(counts.values())
    return next(one for one in reversed(given) if counts[tuple(one)] == most)
