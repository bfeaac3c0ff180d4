"""A labelling session: which text to ask, what is known, and what came of it."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from ..embed import DistilBertVectorizer
from ..encoders.sources import PACKAGED_ENCODER
from ..errors import InputError, RareClassWarning
from ..pipeline import make_text_classifier
from ..utils.texts import check_texts
from .audits import Labelled, groups_of
from .estimation import advise, estimate_accuracy, krippendorff_alpha
from .exchange import MOST_LISTED, ImportedLabel, list_problems, read_labels, write_labels
from .items import CurvePoint, Doubt, Estimate, Group, Item, Progress, Reason
from .learner import Learner, Vectors
from .queries import TextQueue
from .store import IMPORTED, Answer, Store

__all__ = ["Session", "check_labels"]

MIN_LABELS, MAX_LABELS = 2, 200
GUESSES = 3
COMPARED = 3000  # texts that groups and outliers are looked for among
DOUBTS = 50  # of each kind
BACK_UP_EVERY = 50  # answers


def check_labels(labels: Sequence[str]) -> list[str]:
    """Return the labels' names, with single spaces.

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
            what = "twice" if other == name else f"and {other!r}, which differ by case alone"
            raise InputError(f"it has {name!r} {what}.", parameter="labels")
        known[name.casefold()] = name
    if not MIN_LABELS <= len(names) <= MAX_LABELS:
        raise InputError(
            f"{MIN_LABELS} to {MAX_LABELS} labels are needed, and there are {len(names)}.",
            parameter="labels",
        )
    return names


class Session:
    """Label texts one by one, with a model that learns meanwhile.

    One text in five is the next of a random sample of the pool; the accuracy is estimated on
    these alone. The others are texts that the model is unsure of; in the beginning, texts
    that resemble the names of labels that have few.

    The methods can be called from several threads.

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
        Of the random sample; a project keeps its first one.
    learn : bool, default=True
        Whether to learn; otherwise texts come at random and the encoder is not loaded.
    background : bool, default=True
        Whether to learn in a thread; otherwise `answer` waits for it.
    vectors : array-like of shape (n_texts, n_features), optional
        The texts' vectors, if they are there already. Without an `encoder`, names of labels
        then have no part in the choice.

    Attributes
    ----------
    labels : list of str
    descriptions : dict of str to str
    multi_label : bool
    problem : str or None
        Why learning in the background ended, if it failed; texts then come at random.
    store : Store

    Raises
    ------
    InputError
        If the pool is empty, labels are not valid, or the folder is no project, has other
        labels or another encoder, or is open in another process.

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
        self.problem: str | None = None
        self._mutex = threading.RLock()
        self._closed, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._backed_up = 0
        self._learner: Learner | None = None
        self._encoder = _vectorizer(encoder)
        self.store = Store(folder)
        try:
            self._check_facts(add_labels, seed)
            self._queue = TextQueue(self._texts, self.seed)
            self._queue.read(self.store.answers())
            if learn:
                named = vectors is None or encoder is not None
                self._learner = self._make_learner(vectors, with_names=named)
            self._store_facts()
        except BaseException:
            self.store.close()
            raise
        self._start(background)

    def _make_learner(self, vectors: ArrayLike | None, *, with_names: bool) -> Learner:
        fitted = self._encoder.fit(self._texts[:1]) if with_names else None
        rows = None if vectors is None else np.asarray(vectors)
        if rows is not None and len(rows) != len(self._texts):
            raise InputError(
                f"{len(rows):,} vectors for {len(self._texts):,} texts.", parameter="vectors"
            )
        described = [
            f"{label}. {self.descriptions[label]}" if self.descriptions.get(label) else label
            for label in (name.replace("_", " ") for name in self.labels)
        ]
        return Learner(
            Vectors(self._texts, fitted, np.array(self._queue.order), rows),
            described if with_names else [],
            len(self.labels),
            multi_label=self.multi_label,
            seed=self.seed,
        )

    def _start(self, background: bool) -> None:
        if self._learner is None:
            return
        if background:
            self._thread = threading.Thread(target=self._work, name="label", daemon=True)
            self._thread.start()
            return
        while not self._learner.vectors.is_complete:
            self._learner.vectors.fill()
        self._learn_if_due()

    def set_address(self, address: str) -> None:
        """Store where this process serves the project, for the message to a second one."""
        self.store.set_fact("address", address)

    def next(self, annotator: str | None = None, skip_ids: Collection[str] = ()) -> Item | None:
        """Return the text to label next; the same one until it is answered.

        Parameters
        ----------
        annotator : str, optional
            Two annotators get different texts, but for one in ten that another one labelled.
        skip_ids : collection of str
            Texts to pass over, such as one that is on the page already.

        Returns
        -------
        Item or None
            None if no text is left.
        """
        with self._mutex:
            pending = self._queue.shown(annotator)
            for row, reason in pending:
                if self._queue.ids[row] not in skip_ids:
                    return self._item(row, reason)
            learned = self._learner.learned if self._learner else None
            asked = learned.queue if learned else []
            chosen = self._queue.choose(annotator, set(skip_ids), asked)
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

        An annotator's second answer to a text replaces the first.

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
            If the id or a label is unknown, or the answer cannot be stored.
        """
        labels = self._check_answer(label)
        with self._mutex:
            text = None
            if isinstance(item_id, str):
                text = self._queue.text_of(item_id)  # it may be empty
                text = self.store.text_of(item_id) if text is None else text
            if text is None:
                value = item_id if isinstance(item_id, str) else type(item_id).__name__
                raise InputError("no text has this id.", parameter="item_id", value=value)
            answer_id = answer_id or uuid.uuid4().hex
            if self.store.has(answer_id):
                return
            row = self._queue.rows.get(item_id)
            guesses = [] if row is None else self._guesses(row)
            reasons = dict(self._queue.pending.get(annotator, []))
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
            self._queue.note(self.store.add([answer])[0])
        if self._thread is None:
            self._learn_if_due()
        self._wake.set()

    def undo(self, annotator: str | None = None) -> Item | None:
        """Take back the annotator's last answer, and return its text; None if there is none."""
        with self._mutex:
            answer = self.store.undo(annotator)
            if answer is None:
                return None
            self._queue.read(self.store.answers())
            row = self._queue.rows.get(answer.item_id)
            if row is None:
                return Item(answer.item_id, answer.text, [], "random", self._queue.n_left)
            pending = self._queue.pending.setdefault(annotator, [])
            pending[:] = [one for one in pending if one[0] != row]
            reason: Reason = answer.reason or "random"  # type: ignore[assignment]
            pending.insert(0, (row, reason))
            return self._item(row, reason)

    def progress(self) -> Progress:
        """Return how far the session is."""
        with self._mutex:
            present = {
                name: self._queue.labels_of(name)
                for name in self._queue.answered
                if name in self._queue.rows
            }
            labelled = {name: labels for name, labels in present.items() if labels is not None}
            counts = Counter(label for labels in labelled.values() for label in labels)
            learner = self._learner
            curve = [CurvePoint(*point) for point in self.store.curve()]
            learned = learner.learned if learner else None
            gain = learned.gain if learned else None
            return Progress(
                n_texts=len(self._texts),
                n_labelled=len(labelled),
                n_skipped=len(present) - len(labelled),
                n_removed=len(self._queue.answered) - len(present),
                n_vectors=int(learner.vectors.ready.sum()) if learner else 0,
                per_label={label: counts[label] for label in self.labels},
                curve=curve,
                estimate=self._estimate(),
                advice=advise(gain, curve),
                agreement=krippendorff_alpha(
                    [
                        {who: one.labels for who, one in said.items() if one.labels is not None}
                        for said in self._queue.answered.values()
                    ]
                ),
            )

    def audit(self) -> list[Doubt]:
        """Return labelled texts to look at again, of each kind the most doubtful first.

        A doubt is gone once its label changes, or after `confirm`.

        Returns
        -------
        list of Doubt
            At most 50 of each kind.
        """
        if self._learner is None:
            return []
        with self._mutex:
            flags = self._flags_by_row()
        probabilities = self._learner.out_of_fold(flags)
        rows = list(probabilities)
        if not rows:
            return []
        vectors = self._learner.vectors
        ids = [self._queue.ids[row] for row in rows]
        labelled = Labelled(
            ids,
            [self._texts[row] for row in rows],
            [
                [one for one, flag in zip(self.labels, flags[row], strict=True) if flag]
                for row in rows
            ],
            np.array([flags[row] for row in rows]),
            vectors.rows[rows],
            np.array([probabilities[row] for row in rows]),
            self.labels,
            self.multi_label,
        )
        others = np.setdiff1d(np.flatnonzero(vectors.ready)[:COMPARED], rows)
        found = labelled.doubts(vectors.rows[others])
        confirmed = self._confirmed()
        open_doubts = [one for one in found if _key(one) not in confirmed]
        return [
            doubt
            for kind in ("label", "duplicate", "outlier")
            for doubt in [one for one in open_doubts if one.kind == kind][:DOUBTS]
        ]

    def confirm(self, doubt: Doubt) -> None:
        """Do not return a doubt again, as long as the labels are those it has now."""
        with self._mutex:
            self.store.set_fact("confirmed", [*self._confirmed(), _key(doubt)])

    def groups(self) -> list[Group]:
        """Return groups of unlabelled texts that are alike, the largest first.

        They are looked for among 3,000 texts, whose vectors are there.
        """
        if self._learner is None:
            return []
        vectors = self._learner.vectors
        with self._mutex:
            free = self._queue.open_rows()
            free = free[vectors.ready[free]]
            learned = self._learner.learned
        if len(free) > COMPARED:
            free = np.random.default_rng(len(self._queue.answered)).choice(
                free, COMPARED, replace=False
            )
        groups = []
        for members in groups_of(vectors.rows[free]) if len(free) else []:
            rows = free[members]
            guess = None
            if learned is not None and learned.head is not None:
                guess = self.labels[learned.predict_proba(vectors.rows[rows]).mean(axis=0).argmax()]
            names, texts = (
                [self._queue.ids[row] for row in rows],
                [self._texts[row] for row in rows],
            )
            groups.append(Group(names, texts, guess))
        return groups

    def model(self) -> Pipeline:
        """Return the classifier of the commands' recipe, fitted on the labelled texts.

        Returns
        -------
        sklearn.pipeline.Pipeline
            From `make_text_classifier`.

        Raises
        ------
        InputError
            If fewer than two labels have two texts.

        Warns
        -----
        RareClassWarning
            If labels of a single text are left out.
        """
        texts, y = self.training_rows()
        parameters = self._encoder.get_params()
        return make_text_classifier(multi_label=self.multi_label, **parameters).fit(texts, y)

    def training_rows(self) -> tuple[list[str], np.ndarray | pd.DataFrame]:
        """Return the labelled texts that a model can be trained on, and their labels.

        Returns
        -------
        texts : list of str
        labels : numpy.ndarray of str, or DataFrame of 0 and 1 with many labels

        Raises
        ------
        InputError, RareClassWarning
            As for `model`.
        """
        with self._mutex:
            rows = self._queue.labelled()
        counts = Counter(label for row in rows for label in row.labels)
        few = [label for label in self.labels if counts[label] < 2]
        if len(self.labels) - len(few) < 2:
            raise InputError("label two texts or more of each of two labels first.")
        if lost := [label for label in few if counts[label]]:
            warnings.warn(
                f"{len(lost)} labels have one text each, and are left out: "
                f"{', '.join(map(repr, lost[:MOST_LISTED]))}.",
                RareClassWarning,
                stacklevel=3,
            )
        if self.multi_label:
            kept = [label for label in self.labels if label not in few]
            flags = [[int(label in row.labels) for label in kept] for row in rows]
            return [row.text for row in rows], pd.DataFrame(flags, columns=kept)
        rows = [row for row in rows if row.labels[0] not in few]
        return [row.text for row in rows], np.array([row.labels[0] for row in rows], dtype=object)

    def export(
        self, path: str | os.PathLike[str], format: str | None = None, *, raw: bool = False
    ) -> None:
        """Write the labelled texts to a file, whole or not at all.

        Texts that are no longer in the pool are included.

        Parameters
        ----------
        path, format, raw
            As for `frozenbert.label.exchange.write_labels`.
        """
        with self._mutex:
            rows = self._queue.labelled()
        if not rows:
            raise InputError("no text has a label yet.")
        write_labels(rows, path, format, multi_label=self.multi_label, raw=raw)

    def import_answers(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,
        *,
        text_column: str | None = None,
        label_column: str | None = None,
        annotator: str | None = None,
    ) -> int:
        """Add labels from a file: all of them, or none.

        A text that the same annotator has answered already keeps that answer. `undo` does not
        take imported labels back.

        Parameters
        ----------
        path, format, text_column, label_column
            As for `frozenbert.label.exchange.read_labels`.
        annotator : str, optional
            Of labels whose file names none.

        Returns
        -------
        int
            The number of labels that were added.

        Raises
        ------
        InputError
            If the file cannot be read, or contains unknown texts or labels; nothing is added.
        """
        imported = read_labels(
            path,
            format,
            multi_label=self.multi_label,
            text_column=text_column,
            label_column=label_column,
        )
        with self._mutex:
            answers = self._match(imported, annotator)
            self.store.back_up()
            for answer in self.store.add(answers):
                self._queue.note(answer)
        if self._thread is None:
            self._learn_if_due()
        self._wake.set()
        return len(answers)

    @property
    def vectorizer(self) -> DistilBertVectorizer:
        """The vectorizer of the pool."""
        return self._encoder

    @property
    def learns(self) -> bool:
        """Whether a model learns while texts are labelled."""
        return self._learner is not None

    def unlabelled(self) -> list[str]:
        """Return the texts that are neither labelled nor skipped."""
        with self._mutex:
            names = zip(self._queue.ids, self._texts, strict=True)
            return [text for name, text in names if name not in self._queue.answered]

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

    def _check_facts(self, add_labels: bool, seed: int) -> None:
        """Compare labels and encoder with the project's; set the labels and the seed."""
        known = self.store.fact("labels")
        if isinstance(known, list):
            new = [label for label in self.labels if label not in known]
            missing = [label for label in known if label not in self.labels]
            if missing or (new and not add_labels):
                raise InputError(
                    f"the project has the labels {', '.join(map(repr, known))}"
                    + ("; new ones have to be allowed." if new and not missing else "."),
                    parameter="labels",
                    value=", ".join(self.labels),
                )
            if bool(self.store.fact("multi_label")) != self.multi_label:
                several = "any number of labels" if not self.multi_label else "one label"
                raise InputError(f"the project has {several} a text.", parameter="multi_label")
            self.labels = [*known, *new]
        encoder = self.store.fact("encoder")
        if encoder not in (None, self._encoder.model_name):
            raise InputError(
                f"the project has the encoder {encoder!r}.",
                parameter="encoder",
                value=self._encoder.model_name,
            )
        kept = self.store.fact("seed")
        self.seed = kept if isinstance(kept, int) else seed

    def _store_facts(self) -> None:
        """Store what a project keeps."""
        facts = {
            "labels": self.labels,
            "multi_label": self.multi_label,
            "encoder": self._encoder.model_name,
            "seed": self.seed,
        }
        for name, value in facts.items():
            if self.store.fact(name) != value:
                self.store.set_fact(name, value)

    def _check_answer(self, label: str | Sequence[str] | None) -> list[str] | None:
        if label is None:
            return None
        if not isinstance(label, str | Sequence):
            raise InputError("is no label of this session.", parameter="label", value=label)
        labels = [label] if isinstance(label, str) else list(label)
        if unknown := [one for one in labels if one not in self.labels]:
            raise InputError("is no label of this session.", parameter="label", value=unknown[0])
        if not self.multi_label and len(labels) != 1:
            raise InputError("one label for each text.", parameter="label")
        return [one for one in self.labels if one in labels]

    def _match(self, imported: Iterable[ImportedLabel], annotator: str | None) -> list[Answer]:
        """Return answers for labels of a file, of which each must have its text and label."""
        by_text: dict[str, list[str]] = {}
        for item_id, text in zip(self._queue.ids, self._texts, strict=True):
            by_text.setdefault(text, []).append(item_id)
        used: Counter[tuple[str, str | None]] = Counter()
        answers: list[Answer] = []
        no_text: list[str] = []
        no_label: list[str] = []
        for one in imported:
            who = one.annotator or annotator
            name = one.id if self._queue.text_of(one.id or "") is not None else None
            if name is None:  # the first such row is the first occurrence, and so on
                names = by_text.get(one.text) or by_text.get(one.text.removeprefix("'")) or []
                place = used[one.text, who]
                used[one.text, who] += 1
                name = names[min(place, len(names) - 1)] if names else None
            try:
                labels = self._check_answer(one.labels)
            except InputError:
                no_label.append(one.where)
                continue
            if name is None:
                no_text.append(one.where)
            elif who not in self._queue.answered.get(name, {}):
                key = f"{name} {who} {labels} {one.answered}"
                answer_id = f"import-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
                text, when = self._queue.text_of(name) or one.text, one.answered or ""
                answers.append(Answer(answer_id, name, text, labels, who, when, reason=IMPORTED))
        list_problems(no_text, no_label)
        return [one for one in answers if not self.store.has(one.answer_id)]

    def _item(self, row: int, reason: Reason) -> Item:
        return Item(
            self._queue.ids[row], self._texts[row], self._guesses(row), reason, self._queue.n_left
        )

    def _guesses(self, row: int) -> list[tuple[str, float]]:
        learner = self._learner
        learned = learner.learned if learner else None
        if learner is None or learned is None or learned.head is None:
            return []
        if not learner.vectors.ready[row]:
            return []
        (p,) = learned.predict_proba(learner.vectors.rows[[row]])
        best = np.argsort(-p, kind="stable")[:GUESSES]
        return [(self.labels[place], float(p[place])) for place in best if p[place] > 0]

    def _estimate(self) -> Estimate | None:
        learned = self._learner.learned if self._learner else None
        if learned is None:
            return None
        known = learned.held_out
        return estimate_accuracy(
            [self._is_right(row, known[row]) for row in self._queue.sample() if row in known]
        )

    def _is_right(self, row: int, p: np.ndarray) -> bool:
        flags = self._flags(self._queue.labels_of(self._queue.ids[row]) or [])
        if self.multi_label:
            return bool(((p >= 0.5) == flags).all())
        return bool(p.argmax() == flags.argmax())

    def _flags(self, labels: Sequence[str]) -> np.ndarray:
        return np.array([label in labels for label in self.labels], dtype=int)

    def _flags_by_row(self) -> dict[int, np.ndarray]:
        """Return the labels of the rows that are in the pool, in the order of the answers."""
        flags = {}
        for name in self._queue.answered:
            row, labels = self._queue.rows.get(name), self._queue.labels_of(name)
            if row is not None and labels is not None:
                flags[row] = self._flags(labels)
        return flags

    def _confirmed(self) -> list[str]:
        stored = self.store.fact("confirmed")
        return stored if isinstance(stored, list) else []

    def _learn_if_due(self) -> bool:
        """Learn if there are enough new labels; return whether it was done."""
        learner = self._learner
        if learner is None:
            return False
        with self._mutex:
            labels = self._flags_by_row()
            if not learner.is_due(len(labels)):
                return False
            free, sample = self._queue.open_rows(), self._queue.sample()
        deep = learner.learned.n_deep if learner.learned else 0
        learned = learner.learn(labels, free, sample)
        with self._mutex:
            estimate = self._estimate()
            if estimate is not None and learned.n_deep != deep:
                self.store.add_point(learned.n, *estimate[:3])
        return True

    def _work(self) -> None:
        """Fill the vectors and learn, in the background."""
        assert self._learner is not None
        vectors = self._learner.vectors
        try:
            while not self._closed.is_set():
                self._back_up_if_due()
                if self._learn_if_due():
                    continue
                if not vectors.is_complete:
                    vectors.fill()
                    continue
                self._wake.wait()
                self._wake.clear()
        except Exception as error:  # the page shows it; texts then come at random
            self.problem = f"{type(error).__name__}: {error}"

    def _back_up_if_due(self) -> None:
        if len(self._queue.answered) >= self._backed_up + BACK_UP_EVERY:
            self._backed_up = len(self._queue.answered)
            self.store.back_up()


def _key(doubt: Doubt) -> str:
    return f"{doubt.kind} {doubt.ids} {doubt.labels}"


def _vectorizer(encoder: str | DistilBertVectorizer | None) -> DistilBertVectorizer:
    if isinstance(encoder, DistilBertVectorizer):
        return DistilBertVectorizer(**encoder.get_params())
    return DistilBertVectorizer(encoder or PACKAGED_ENCODER, progress=False)
