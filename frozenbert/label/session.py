"""A labelling session: which text to ask, what is known, and what came of it."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest
from sklearn.pipeline import Pipeline

from ..embed import DistilBertVectorizer
from ..encoders.sources import PACKAGED_ENCODER
from ..errors import InputError
from ..pipeline import make_text_classifier
from ..tables.writing import write_table
from ..utils.texts import check_texts
from .items import Advice, CurvePoint, Doubt, Estimate, Group, Item, Progress, Reason
from .learner import Learned, Vectors, learn
from .store import Answer, Store

__all__ = ["Session", "check_labels", "identify"]

MIN_LABELS, MAX_LABELS = 2, 200
SAMPLE_EVERY = 4  # one text in so many is the next of the random sample
MIN_SAMPLE = 10  # labelled texts of the sample, before there is an estimate
REFIT_SHARE = 0.05  # of the labels so far, that start a new fit
REFIT_LEAST = 5
GUESSES = 3


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


def check_labels(labels: Sequence[str]) -> list[str]:
    """Return the labels' names, without spaces around them.

    Raises
    ------
    InputError
        Unless there are 2 to 200, not empty, that differ by more than case and spaces.

    Examples
    --------
    >>> check_labels(["good ", "bad"])
    ['good', 'bad']
    """
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise InputError("a list of names.", parameter="labels")
    names = [" ".join(label.split()) for label in labels]
    if not all(names):
        raise InputError("a label's name is empty.", parameter="labels")
    known: dict[str, str] = {}
    for name in names:
        if other := known.get(name.casefold()):
            what = "twice" if other == name else f"and {other!r}: they differ by case alone"
            raise InputError(f"has {name!r} {what}.", parameter="labels")
        known[name.casefold()] = name
    if not MIN_LABELS <= len(names) <= MAX_LABELS:
        raise InputError(
            f"{MIN_LABELS} to {MAX_LABELS} labels are needed, and there are {len(names)}.",
            parameter="labels",
        )
    return names


class Session:
    """Label texts one by one, with a model that learns meanwhile.

    Parameters
    ----------
    texts : sequence of str
        The pool.
    labels : sequence of str
        Names of the labels, 2 to 200.
    folder : path-like or None, default=None
        The project's folder, which is created or continued. None keeps all in memory.
    multi_label : bool, default=False
        Whether a text may have any number of labels.
    encoder : str, DistilBertVectorizer or None, default=None
        Name or folder of the encoder, or an unfitted vectorizer. None is the packaged encoder.
    descriptions : mapping of str to str, optional
        A sentence about some labels.
    add_labels : bool, default=False
        Whether `labels` may have names that the project does not have yet.
    seed : int, default=0
    learn : bool, default=True
        Whether to learn; otherwise texts come at random and the encoder is not loaded.
    background : bool, default=True
        Whether to learn in a thread; otherwise `answer` waits for it.
    vectors : array-like of shape (n_texts, n_features), optional
        The texts' vectors, if they are there already.

    Raises
    ------
    InputError
        If the pool is empty, labels are not valid, or the folder is no project, belongs to
        another set of labels or encoder, or is open in another process.

    Examples
    --------
    >>> session = Session(["a fine film", "a dull film"], ["good", "bad"], learn=False)
    >>> item = session.next()
    >>> session.answer(item.id, "good")
    >>> session.progress().n_labelled
    1
    >>> session.undo() == item
    True
    >>> session.close()
    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        folder: str | os.PathLike[str] | None = None,
        multi_label: bool = False,
        encoder: str | DistilBertVectorizer | None = None,
        descriptions: Mapping[str, str] | None = None,
        add_labels: bool = False,
        seed: int = 0,
        learn: bool = True,
        background: bool = True,
        vectors: ArrayLike | None = None,
    ) -> None:
        self._texts = check_texts(texts, "error")
        if not self._texts:
            raise InputError("there are no texts to label.", parameter="texts")
        self.labels = check_labels(labels)
        self.descriptions = dict(descriptions or {})
        self.multi_label = multi_label
        self.seed = seed
        self._ids = identify(self._texts)
        self._rows = {name: row for row, name in enumerate(self._ids)}
        # Seeded hashes: the order of the random sample does not depend on the rows' order, and
        # rows that are added later take their places in it.
        keys = [hashlib.sha256(f"{seed} {name}".encode()).digest() for name in self._ids]
        self._order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
        self._mutex = threading.RLock()
        self._pending: dict[str | None, list[tuple[int, Reason]]] = {}
        self._learned: Learned | None = None
        self._answered: dict[str, dict[str | None, Answer]] = {}
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.problem: str | None = None
        embed = _vectorizer(encoder)
        self._encoder = embed
        self._vectors: Vectors | None = None
        if vectors is not None:
            self._vectors = Vectors.of(np.asarray(vectors))
        elif learn:
            self._vectors = Vectors(self._texts, embed.fit(self._texts[:1]), self._order)
        self.store = Store(folder)
        try:
            self._settle_facts(add_labels)
        except BaseException:
            self.store.close()
            raise
        for answer in self.store.answers():
            self._note(answer)
        if learn and background:
            self._thread = threading.Thread(target=self._work, name="label", daemon=True)
            self._thread.start()
            self._wake.set()
        elif self._vectors is not None and vectors is None:
            while not self._vectors.is_complete:
                self._vectors.fill()

    def set_address(self, address: str) -> None:
        """Store where this process serves the project, for the message to a second one."""
        self.store.set_fact("address", address)

    def next(self, annotator: str | None = None, skip_ids: Collection[str] = ()) -> Item | None:
        """Return the text to label next; the same one until it is answered.

        Parameters
        ----------
        annotator : str, optional
        skip_ids : collection of str
            Texts to pass over, such as one that is on the page already.

        Returns
        -------
        Item or None
            None if no text is left.
        """
        with self._mutex:
            pending = self._pending.setdefault(annotator, [])
            pending[:] = [one for one in pending if not self._is_done(one[0], annotator)]
            for row, reason in pending:
                if self._ids[row] not in skip_ids:
                    return self._item(row, reason)
            chosen = self._choose(set(skip_ids))
            if chosen is None:
                return None
            pending.append(chosen)
            return self._item(*chosen)

    def answer(
        self,
        item_id: str,
        label: str | Sequence[str] | None,
        *,
        answer_id: str | None = None,
        annotator: str | None = None,
    ) -> None:
        """Store an answer; it is on disk when this returns.

        Parameters
        ----------
        item_id : str
        label : str, sequence of str, or None
            None skips the text. With many labels, a list, which may be empty.
        answer_id : str, optional
            A retry with the same id is stored once.
        annotator : str, optional

        Raises
        ------
        InputError
            If the id or a label is unknown.
        """
        labels = self._check_answer(label)
        with self._mutex:
            text = self._text_of(item_id)
            if text is None:
                raise InputError("no text has this id.", parameter="item_id", value=item_id)
            answer_id = answer_id or uuid.uuid4().hex
            if self.store.has(answer_id):
                return
            row = self._rows.get(item_id)
            guesses = [] if row is None else self._guesses(row)
            reasons = dict(self._pending.get(annotator, []))
            answer = Answer(
                answer_id,
                item_id,
                text,
                labels,
                annotator,
                guess=guesses[0][0] if guesses else None,
                probability=guesses[0][1] if guesses else None,
                reason=None if row is None else reasons.get(row),
            )
            self.store.add([answer])
            self._note(answer)
        self._wake.set()
        if self._thread is None:
            self._learn_if_due()

    def undo(self, annotator: str | None = None) -> Item | None:
        """Take back the annotator's last answer, and return its text; None if there is none."""
        with self._mutex:
            answer = self.store.undo(annotator)
            if answer is None:
                return None
            self._answered.clear()
            for other in self.store.answers():
                self._note(other)
            row = self._rows.get(answer.item_id)
            if row is None:
                return Item(answer.item_id, answer.text, [], "random", self._n_left())
            pending = self._pending.setdefault(annotator, [])
            pending[:] = [one for one in pending if one[0] != row]
            reason: Reason = answer.reason or "random"  # type: ignore[assignment]
            pending.insert(0, (row, reason))
            return self._item(row, reason)

    def progress(self) -> Progress:
        """Return how far the session is."""
        with self._mutex:
            present = {name: self._labels_of(name) for name in self._answered if name in self._rows}
            labelled = {name: labels for name, labels in present.items() if labels is not None}
            counts = Counter(label for labels in labelled.values() for label in labels)
            return Progress(
                n_texts=len(self._texts),
                n_labelled=len(labelled),
                n_skipped=len(present) - len(labelled),
                n_removed=len(self._answered) - len(present),
                n_vectors=0 if self._vectors is None else int(self._vectors.ready.sum()),
                per_label={label: counts[label] for label in self.labels},
                curve=[CurvePoint(*point) for point in self.store.curve()],
                estimate=self._estimate(),
                advice=Advice(False, "Go on: too few labels to tell what more would bring."),
            )

    def audit(self) -> list[Doubt]:
        """Return labelled texts to look at again, the most doubtful first."""
        doubts = []
        with self._mutex:
            learned = self._learned
            for row, p in (learned.out_of_fold if learned else {}).items():
                labels = self._labels_of(self._ids[row])
                if labels is None or self.multi_label:
                    continue
                best = int(p.argmax())
                given = self.labels.index(labels[0])
                if best != given and p[best] - p[given] > 0.3:
                    why = f"a model of the other texts gives {100 * p[best]:.0f} % to another label"
                    doubts.append(
                        (
                            p[best] - p[given],
                            Doubt(
                                "label",
                                [self._ids[row]],
                                [self._texts[row]],
                                why,
                                [labels[0]],
                                self.labels[best],
                            ),
                        )
                    )
        return [doubt for _, doubt in sorted(doubts, key=lambda one: -one[0])]

    def groups(self) -> list[Group]:
        """Return groups of unlabelled texts that are alike."""
        return []

    def model(self) -> Pipeline:
        """Return the classifier of the commands' recipe, fitted on the labelled texts."""
        with self._mutex:
            texts, labels = self._labelled()
        model = make_text_classifier(multi_label=self.multi_label, **self._encoder.get_params())
        return model.fit(texts, labels)

    def export(
        self, path: str | os.PathLike[str], format: str | None = None, *, raw: bool = False
    ) -> None:
        """Write the labelled texts: a csv file."""
        rows = [answer for answer in self.store.answers() if answer.labels is not None]
        write_table(
            {
                "text": [answer.text for answer in rows],
                "label": ["|".join(answer.labels or []) for answer in rows],
                "annotator": [answer.annotator for answer in rows],
                "answered": [answer.answered for answer in rows],
                "guess": [answer.guess for answer in rows],
            },
            Path(path),
        )

    def import_answers(self, path: str | os.PathLike[str], format: str | None = None) -> int:
        """Add labels from a file; return how many."""
        raise InputError("no format is readable yet.", parameter="format", value=format)

    @property
    def vectorizer(self) -> DistilBertVectorizer:
        """The vectorizer of the pool."""
        return self._encoder

    @property
    def learns(self) -> bool:
        """Whether a model learns while texts are labelled."""
        return self._vectors is not None

    def labels_of(self, item_id: str) -> list[str] | None:
        """Return the present labels of a text; None if it is skipped or not answered."""
        with self._mutex:
            return self._labels_of(item_id)

    def labelled(self) -> tuple[list[str], list[list[str]]]:
        """Return all labelled texts and the labels of each."""
        with self._mutex:
            found = {name: self._labels_of(name) for name in self._answered}
            names = [name for name, labels in found.items() if labels is not None]
            return [self._text_of(name) or "" for name in names], [found[n] or [] for n in names]

    def close(self) -> None:
        """End the learning, and let other processes open the project."""
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self.store.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _settle_facts(self, add_labels: bool) -> None:
        """Compare labels and encoder with the project's, or store them in a new one."""
        known = self.store.fact("labels")
        if isinstance(known, list):
            new = [label for label in self.labels if label not in known]
            missing = [label for label in known if label not in self.labels]
            if missing or (new and not add_labels):
                raise InputError(
                    f"the project has the labels {', '.join(map(repr, known))}.",
                    parameter="labels",
                    value=", ".join(self.labels),
                )
            if bool(self.store.fact("multi_label")) != self.multi_label:
                raise InputError("the project has another value.", parameter="multi_label")
            self.labels = [*known, *new]
        encoder = self.store.fact("encoder")
        if encoder not in (None, self._encoder.model_name):
            raise InputError(
                f"the project has the encoder {encoder!r}.",
                parameter="encoder",
                value=self._encoder.model_name,
            )
        self.store.set_fact("labels", self.labels)
        self.store.set_fact("multi_label", self.multi_label)
        self.store.set_fact("encoder", self._encoder.model_name)

    def _check_answer(self, label: str | Sequence[str] | None) -> list[str] | None:
        if label is None:
            return None
        labels = [label] if isinstance(label, str) else list(label)
        if unknown := [one for one in labels if one not in self.labels]:
            raise InputError("is no label of this session.", parameter="label", value=unknown[0])
        if not self.multi_label and len(labels) != 1:
            raise InputError("one label for each text.", parameter="label")
        return [one for one in self.labels if one in labels]

    def _text_of(self, item_id: str) -> str | None:
        row = self._rows.get(item_id)
        if row is not None:
            return self._texts[row]
        answers = self._answered.get(item_id)
        if answers:
            return next(iter(answers.values())).text
        return None

    def _note(self, answer: Answer) -> None:
        self._answered.setdefault(answer.item_id, {})[answer.annotator] = answer

    def _labels_of(self, item_id: str) -> list[str] | None:
        """Return what most annotators said, the last one of equally many; None is skipped."""
        answers = [
            one for one in self._answered.get(item_id, {}).values() if one.labels is not None
        ]
        if not answers:
            return None
        counts = Counter(tuple(one.labels or ()) for one in answers)
        most = max(counts.values())
        for one in sorted(answers, key=lambda one: one.answered, reverse=True):
            if counts[tuple(one.labels or ())] == most:
                return one.labels
        return None

    def _is_done(self, row: int, annotator: str | None) -> bool:
        return annotator in self._answered.get(self._ids[row], {})

    def _labelled(self) -> tuple[list[str], list[str]]:
        texts, labels = [], []
        for name in self._answered:
            found = self._labels_of(name)
            if found is not None:
                texts.append(self._text_of(name) or "")
                labels.append(found[0] if found else "")
        return texts, labels

    def _n_left(self) -> int:
        return len(self._texts) - sum(name in self._rows for name in self._answered)

    def _item(self, row: int, reason: Reason) -> Item:
        return Item(self._ids[row], self._texts[row], self._guesses(row), reason, self._n_left())

    def _guesses(self, row: int) -> list[tuple[str, float]]:
        if self._learned is None or self._vectors is None or not self._vectors.ready[row]:
            return []
        (p,) = self._learned.head.predict_proba(self._vectors.scaled([row]))
        best = np.argsort(-p, kind="stable")[:GUESSES]
        return [(self.labels[place], float(p[place])) for place in best if p[place] > 0]

    def _choose(self, skip_ids: set[str]) -> tuple[int, Reason] | None:
        taken = {row for rows in self._pending.values() for row, _ in rows}

        def is_open(row: int) -> bool:
            name = self._ids[row]
            return row not in taken and name not in self._answered and name not in skip_ids

        n = len(self._answered) + len(taken)
        if self._learned is not None and n % SAMPLE_EVERY:
            while self._learned.queue:
                row = self._learned.queue.pop(0)
                if is_open(row):
                    return row, "uncertain"
        for row in self._order.tolist():
            if is_open(row):
                return row, "sample"
        return None

    def _sample(self) -> list[int]:
        """Return the labelled rows of the random sample."""
        taken = {row for rows in self._pending.values() for row, _ in rows}
        found = []
        for row in self._order.tolist():
            answers = self._answered.get(self._ids[row])
            if answers is None and row not in taken:
                break
            if answers and self._labels_of(self._ids[row]) is not None:
                found.append(row)
        return found

    def _estimate(self) -> Estimate | None:
        if self._learned is None:
            return None
        rows = [row for row in self._sample() if row in self._learned.out_of_fold]
        if len(rows) < MIN_SAMPLE:
            return None
        right = sum(self._is_right(row, self._learned.out_of_fold[row]) for row in rows)
        interval = binomtest(right, len(rows)).proportion_ci(method="wilson")
        return Estimate(right / len(rows), float(interval.low), float(interval.high), len(rows))

    def _is_right(self, row: int, p: np.ndarray) -> bool:
        flags = self._flags(self._labels_of(self._ids[row]) or [])
        if self.multi_label:
            return bool(((p >= 0.5) == flags).all())
        return bool(p.argmax() == flags.argmax())

    def _flags(self, labels: Sequence[str]) -> np.ndarray:
        return np.array([label in labels for label in self.labels], dtype=int)

    def _learn_if_due(self) -> bool:
        """Learn if there are enough new labels; return whether it was done."""
        if self._vectors is None:
            return False
        with self._mutex:
            labels = {}
            for name in self._answered:
                row, found = self._rows.get(name), self._labels_of(name)
                if row is not None and found is not None:
                    labels[row] = self._flags(found)
            before = self._learned.n if self._learned else 0
            if len(labels) < 2 or len(labels) - before < max(REFIT_LEAST, REFIT_SHARE * before):
                return False
            taken = {row for rows in self._pending.values() for row, _ in rows}
            is_open = np.ones(len(self._texts), dtype=bool)
            is_open[[self._rows[name] for name in self._answered if name in self._rows]] = False
            is_open[list(taken)] = False
        learned = learn(
            self._vectors,
            labels,
            np.flatnonzero(is_open),
            multi_label=self.multi_label,
            seed=self.seed,
        )
        with self._mutex:
            self._learned = learned
            estimate = self._estimate()
            if estimate is not None:
                self.store.add_point(learned.n, *estimate[:3])
        return True

    def _work(self) -> None:
        """Fill the vectors and learn, in the background."""
        vectors = self._vectors
        assert vectors is not None
        try:
            while not self._closed.is_set():
                if self._learn_if_due():
                    continue
                if not vectors.is_complete:
                    vectors.fill()
                    continue
                self._wake.wait()
                self._wake.clear()
        except Exception as error:  # it is shown; texts then come at random
            self.problem = f"{type(error).__name__}: {error}"


def _vectorizer(encoder: str | DistilBertVectorizer | None) -> DistilBertVectorizer:
    if isinstance(encoder, DistilBertVectorizer):
        return DistilBertVectorizer(**encoder.get_params())
    return DistilBertVectorizer(encoder or PACKAGED_ENCODER, progress=False)
