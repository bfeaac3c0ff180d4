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
from .audits import contradictions, doubtful, groups_of, outliers
from .estimation import advise, estimate_accuracy, krippendorff_alpha
from .exchange import ImportedLabel, LabelledText, read_labels, write_labels
from .items import CurvePoint, Doubt, Estimate, Group, Item, Progress, Reason
from .learner import Learner, Vectors
from .store import IMPORTED, Answer, Store

__all__ = ["Session", "check_labels", "identify"]

MIN_LABELS, MAX_LABELS = 2, 200
SAMPLE_EVERY = 5  # one text in so many is the next of the random sample
OVERLAP_EVERY = 10  # one text in so many was labelled by somebody else
GUESSES = 3
MOST_LISTED = 10  # lines of a file that are named in a message
COMPARED = 3000  # texts that groups and outliers are looked for among
DOUBTS = 50  # of each kind
BACK_UP_EVERY = 50  # answers


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
        self._ids = identify(self._texts)
        self._rows = {name: row for row, name in enumerate(self._ids)}
        self._mutex = threading.RLock()
        self._pending: dict[str | None, list[tuple[int, Reason]]] = {}
        self._answered: dict[str, dict[str | None, Answer]] = {}
        self._closed, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._backed_up = 0
        self._learner: Learner | None = None
        self._encoder = _vectorizer(encoder)
        self.store = Store(folder)
        try:
            self._settle_facts(add_labels, seed)
            self._read_answers()
            # Seeded hashes: the order of the random sample does not depend on the rows' order,
            # and rows that are added later take their places in it.
            keys = [hashlib.sha256(f"{self.seed} {name}".encode()).digest() for name in self._ids]
            self._order: list[int] = sorted(range(len(keys)), key=keys.__getitem__)
            if learn:
                named = vectors is None or encoder is not None
                self._learner = self._make_learner(vectors, with_names=named)
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
            Vectors(self._texts, fitted, np.array(self._order), rows),
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
            pending = self._pending.setdefault(annotator, [])
            pending[:] = [one for one in pending if not self._is_done(one[0], annotator)]
            for row, reason in pending:
                if self._ids[row] not in skip_ids:
                    return self._item(row, reason)
            chosen = self._choose(annotator, set(skip_ids))
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
            self._note(self.store.add([answer])[0])
        if self._thread is None:
            self._learn_if_due()
        self._wake.set()

    def undo(self, annotator: str | None = None) -> Item | None:
        """Take back the annotator's last answer, and return its text; None if there is none."""
        with self._mutex:
            answer = self.store.undo(annotator)
            if answer is None:
                return None
            self._read_answers()
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
            learner = self._learner
            curve = [CurvePoint(*point) for point in self.store.curve()]
            learned = learner.learned if learner else None
            gain = learned.gain if learned else None
            return Progress(
                n_texts=len(self._texts),
                n_labelled=len(labelled),
                n_skipped=len(present) - len(labelled),
                n_removed=len(self._answered) - len(present),
                n_vectors=int(learner.vectors.ready.sum()) if learner else 0,
                per_label={label: counts[label] for label in self.labels},
                curve=curve,
                estimate=self._estimate(),
                advice=advise(gain, curve),
                agreement=krippendorff_alpha(
                    [
                        {who: one.labels for who, one in said.items() if one.labels is not None}
                        for said in self._answered.values()
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
            labels = self._flags_by_row()
        out_of_fold = self._learner.out_of_fold(labels)
        if not out_of_fold:
            return []
        rows = list(out_of_fold)
        flags = np.array([labels[row] for row in rows])
        vectors = self._learner.vectors.rows[rows]
        found: list[Doubt] = []
        P = np.array([out_of_fold[row] for row in rows])
        for _, place, column, give in doubtful(P, flags):
            p = 100 * P[place, column]
            why = f"A model of the other texts gives {self.labels[column]!r} {p:.0f} %."
            suggestion = self.labels[column] if give else None
            found.append(self._doubt("label", [rows[place]], why, suggestion))
        for alike, *pair in contradictions(vectors, flags):
            why = f"Nearly the same text (cosine {alike:.2f}) with different labels."
            both = [rows[i] for i in pair]
            found.append(self._doubt("duplicate", both, why, self._likelier(both, out_of_fold)))
        others = np.flatnonzero(self._learner.vectors.ready)[:COMPARED]
        with_others = np.vstack([vectors, self._learner.vectors.rows[np.setdiff1d(others, rows)]])
        for far, place in outliers(with_others, range(len(rows))):
            why = f"Unlike all other texts ({far:.0f} deviations farther from its neighbours)."
            found.append(self._doubt("outlier", [rows[place]], why))
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
            free = self._open_rows()
            free = free[vectors.ready[free]]
            learned = self._learner.learned
        if len(free) > COMPARED:
            free = np.random.default_rng(len(self._answered)).choice(free, COMPARED, replace=False)
        groups = []
        for members in groups_of(vectors.rows[free]) if len(free) else []:
            rows = free[members]
            guess = None
            if learned is not None and learned.head is not None:
                guess = self.labels[learned.predict_proba(vectors.rows[rows]).mean(axis=0).argmax()]
            names, texts = [self._ids[row] for row in rows], [self._texts[row] for row in rows]
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
            rows = self._labelled()
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
            rows = self._labelled()
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
            answers = self._check_imported(imported, annotator)
            self.store.back_up()
            for answer in self.store.add(answers):
                self._note(answer)
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
            names = zip(self._ids, self._texts, strict=True)
            return [text for name, text in names if name not in self._answered]

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

    def _settle_facts(self, add_labels: bool, seed: int) -> None:
        """Compare labels and encoder with the project's, or store them in a new one."""
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
        facts = {
            "labels": self.labels,
            "multi_label": self.multi_label,
            "encoder": self._encoder.model_name,
            "seed": self.seed,
        }
        for name, value in facts.items():
            if self.store.fact(name) != value:
                self.store.set_fact(name, value)

    def _read_answers(self) -> None:
        self._answered.clear()
        for answer in self.store.answers():
            self._note(answer)

    def _note(self, answer: Answer) -> None:
        said = self._answered.setdefault(answer.item_id, {})
        said.pop(answer.annotator, None)  # the last one is last
        said[answer.annotator] = answer

    def _check_answer(self, label: str | Sequence[str] | None) -> list[str] | None:
        if label is None:
            return None
        labels = [label] if isinstance(label, str) else list(label)
        if unknown := [one for one in labels if one not in self.labels]:
            raise InputError("is no label of this session.", parameter="label", value=unknown[0])
        if not self.multi_label and len(labels) != 1:
            raise InputError("one label for each text.", parameter="label")
        return [one for one in self.labels if one in labels]

    def _check_imported(
        self, imported: Iterable[ImportedLabel], annotator: str | None
    ) -> list[Answer]:
        """Return answers for labels of a file, of which each must have its text and label."""
        by_text: dict[str, list[str]] = {}
        for name, text in zip(self._ids, self._texts, strict=True):
            by_text.setdefault(text, []).append(name)
        used: Counter[tuple[str, str | None]] = Counter()
        answers: list[Answer] = []
        no_text: list[str] = []
        no_label: list[str] = []
        for one in imported:
            who = one.annotator or annotator
            is_known = one.id in self._rows or one.id in self._answered
            name: str | None = one.id if is_known else None
            if name is None:
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
            elif who not in self._answered.get(name, {}):
                key = f"{name} {who} {labels} {one.answered}"
                answer_id = f"import-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
                text = self._text_of(name) or one.text
                when = one.answered or ""
                answers.append(Answer(answer_id, name, text, labels, who, when, reason=IMPORTED))
        problems = [
            f"{len(places):,} rows have {what}: {', '.join(places[:MOST_LISTED])}"
            + (f" and {len(places) - MOST_LISTED:,} more" if len(places) > MOST_LISTED else "")
            for what, places in (("no text of the pool", no_text), ("no label of it", no_label))
            if places
        ]
        if problems:
            raise InputError(f"{'; '.join(problems)}. Nothing was imported.")
        return [one for one in answers if not self.store.has(one.answer_id)]

    def _text_of(self, item_id: str) -> str | None:
        row = self._rows.get(item_id)
        if row is not None:
            return self._texts[row]
        answers = self._answered.get(item_id) or {}
        stored = next((one.text for one in answers.values()), None)
        return self.store.text_of(item_id) if stored is None else stored

    def _labels_of(self, item_id: str) -> list[str] | None:
        """Return what most annotators said, the last one of equally many; None is skipped."""
        said = [one.labels for one in self._answered.get(item_id, {}).values()]
        given = [labels for labels in said if labels is not None]
        if len(given) < 2:
            return given[0] if given else None
        counts = Counter(tuple(labels) for labels in given)
        most = max(counts.values())
        return next(labels for labels in reversed(given) if counts[tuple(labels)] == most)

    def _is_done(self, row: int, annotator: str | None) -> bool:
        return annotator in self._answered.get(self._ids[row], {})

    def _labelled(self) -> list[LabelledText]:
        """Return all labelled texts, those that are no longer in the pool included."""
        rows = []
        for name, said in self._answered.items():
            labels = self._labels_of(name)
            if labels is not None:
                rows.append(LabelledText(name, self._text_of(name) or "", labels, [*said.values()]))
        return rows

    def _n_left(self) -> int:
        return len(self._texts) - sum(name in self._rows for name in self._answered)

    def _item(self, row: int, reason: Reason) -> Item:
        return Item(self._ids[row], self._texts[row], self._guesses(row), reason, self._n_left())

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

    def _taken(self) -> set[int]:
        """Return the rows that are shown to somebody."""
        return {row for rows in self._pending.values() for row, _ in rows}

    def _open_rows(self) -> np.ndarray:
        """Return the rows that may be asked."""
        is_open = np.ones(len(self._texts), dtype=bool)
        is_open[[self._rows[name] for name in self._answered if name in self._rows]] = False
        is_open[list(self._taken())] = False
        return np.flatnonzero(is_open)

    def _choose(self, annotator: str | None, skip_ids: set[str]) -> tuple[int, Reason] | None:
        taken = self._taken()

        def is_open(row: int) -> bool:
            name = self._ids[row]
            return name not in self._answered and row not in taken and name not in skip_ids

        n = len(self._answered) + len(taken)
        if (
            again := self._overlap(annotator, skip_ids | {self._ids[r] for r in taken})
        ) is not None:
            return again, "random"
        learned = self._learner.learned if self._learner else None
        is_turn = n % SAMPLE_EVERY == 0
        while learned is not None and learned.queue and not is_turn:
            row, reason = learned.queue.pop(0)
            if is_open(row):
                return row, reason
        for row in self._order:
            if is_open(row):
                return row, "sample" if is_turn else "random"
        return None

    def _overlap(self, annotator: str | None, skip_ids: set[str]) -> int | None:
        """Return a text that another annotator labelled, if it is time for one."""
        said = self._answered.values()
        n = sum(annotator in one for one in said) + len(self._pending.get(annotator, []))
        if n % OVERLAP_EVERY != OVERLAP_EVERY - 1:
            return None
        for name, answers in reversed(self._answered.items()):
            is_single = len(answers) == 1 and annotator not in answers and None not in answers
            if is_single and name in self._rows and name not in skip_ids:
                return self._rows[name]
        return None

    def _sample(self) -> list[int]:
        """Return the labelled rows of the random sample: those before the first open one."""
        taken, found = self._taken(), []
        for row in self._order:
            answers = self._answered.get(self._ids[row])
            if answers is None and row not in taken:
                break
            if answers and self._labels_of(self._ids[row]) is not None:
                found.append(row)
        return found

    def _estimate(self) -> Estimate | None:
        learned = self._learner.learned if self._learner else None
        if learned is None:
            return None
        known = learned.held_out
        return estimate_accuracy(
            [self._is_right(row, known[row]) for row in self._sample() if row in known]
        )

    def _is_right(self, row: int, p: np.ndarray) -> bool:
        flags = self._flags(self._labels_of(self._ids[row]) or [])
        if self.multi_label:
            return bool(((p >= 0.5) == flags).all())
        return bool(p.argmax() == flags.argmax())

    def _flags(self, labels: Sequence[str]) -> np.ndarray:
        return np.array([label in labels for label in self.labels], dtype=int)

    def _flags_by_row(self) -> dict[int, np.ndarray]:
        """Return the labels of the rows that are in the pool, in the order of the answers."""
        flags = {}
        for name in self._answered:
            row, labels = self._rows.get(name), self._labels_of(name)
            if row is not None and labels is not None:
                flags[row] = self._flags(labels)
        return flags

    def _doubt(
        self, kind: str, rows: Sequence[int], why: str, suggestion: str | None = None
    ) -> Doubt:
        names = [self._ids[row] for row in rows]
        given = [self._labels_of(name) or [] for name in names]
        labels: list[str | list[str]] = [
            one if self.multi_label or not one else one[0] for one in given
        ]
        texts = [self._texts[row] for row in rows]
        return Doubt(kind, names, texts, why, labels, suggestion)  # type: ignore[arg-type]

    def _likelier(self, rows: Sequence[int], known: Mapping[int, np.ndarray]) -> str | None:
        """Return which of the rows' labels the models of other texts prefer."""
        if self.multi_label:
            return None
        p = sum(known[row] for row in rows)
        given = [(self._labels_of(self._ids[row]) or [""])[0] for row in rows]
        return max(given, key=lambda label: float(p[self.labels.index(label)]))

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
            free, sample = self._open_rows(), self._sample()
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
        if len(self._answered) >= self._backed_up + BACK_UP_EVERY:
            self._backed_up = len(self._answered)
            self.store.back_up()


def _key(doubt: Doubt) -> str:
    return f"{doubt.kind} {doubt.ids} {doubt.labels}"


def _vectorizer(encoder: str | DistilBertVectorizer | None) -> DistilBertVectorizer:
    if isinstance(encoder, DistilBertVectorizer):
        return DistilBertVectorizer(**encoder.get_params())
    return DistilBertVectorizer(encoder or PACKAGED_ENCODER, progress=False)
