"""A labelling session: which text to ask, what is known, and what came of it."""

from __future__ import annotations

import os
import threading
import uuid
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from ..embed import DistilBertVectorizer
from ..encoders.sources import PACKAGED_ENCODER
from ..errors import InputError, RareClassWarning
from ..pipeline import make_text_classifier
from .asking import TextQueue, check_pool
from .exchange import LabelledText, read_labels, write_labels
from .importing import match_labels
from .items import CurvePoint, Doubt, Group, Item, Progress, Reason
from .learning.estimation import advise, krippendorff_alpha
from .learning.session_model import SessionModel, make_session_model
from .project import settle_facts
from .store import Answer, Store
from .trainable import trainable_rows

__all__ = ["Session"]

DOUBTS = 50  # of each kind
LEAST_TEXTS = 2  # of a label, for a model
MOST_LISTED = 10  # labels that are named in a warning


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
    seed : int
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
        self._texts = check_pool(texts)
        self._encoder = _vectorizer(encoder)
        self._mutex = threading.RLock()  # of the queue
        self._model: SessionModel | None = None
        self.store = Store(folder)
        try:
            facts = settle_facts(
                self.store,
                labels,
                multi_label=multi_label,
                encoder=self._encoder.model_name,
                seed=seed,
                descriptions=descriptions or {},
                add_labels=add_labels,
            )
            self._facts = facts
            self.labels, self.descriptions = facts.labels, facts.descriptions
            self.multi_label, self.seed = facts.multi_label, facts.seed
            self._queue = TextQueue(self._texts, facts.seed)
            self._queue.read(self.store.answers())
            if learn:
                named = vectors is None or encoder is not None
                self._model = make_session_model(
                    self._queue,
                    self.store,
                    facts,
                    self._encoder.fit(self._texts[:1]) if named else None,
                    None if vectors is None else np.asarray(vectors),
                    mutex=self._mutex,
                )
            facts.store(self.store)
        except BaseException:
            self.store.discard()
            raise
        if self._model is not None:
            self._model.start(background=background)

    @property
    def problem(self) -> str | None:
        """Why learning in the background ended, if it failed; texts then come at random."""
        return self._model.problem if self._model else None

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
            asked = self._model.asked if self._model else []
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
        labels = self._facts.check_answer(label)
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
            self._queue.touch(annotator)
        self._notify()

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
            model = self._model
            curve = [CurvePoint(*point) for point in self.store.curve()]
            return Progress(
                n_texts=len(self._texts),
                n_labelled=len(labelled),
                n_skipped=len(present) - len(labelled),
                n_removed=len(self._queue.answered) - len(present),
                n_vectors=model.n_vectors if model else 0,
                per_label={label: counts[label] for label in self.labels},
                curve=curve,
                estimate=model.estimate() if model else None,
                advice=advise(model.gain if model else None, curve),
                agreement=krippendorff_alpha(
                    [
                        {who: one.labels for who, one in said.items() if one.labels is not None}
                        for said in self._queue.answered.values()
                        if len(said) > 1
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
        found = self._model.doubts() if self._model else []
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
        return self._model.groups() if self._model else []

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
        rows = self.labelled()
        found = trainable_rows(rows, self.labels, LEAST_TEXTS, multi_label=self.multi_label)
        given = {label for row in rows for label in row.labels}
        if lost := [label for label in found.left_out if label in given]:
            warnings.warn(
                f"labels of a single text are left out: {', '.join(map(repr, lost[:MOST_LISTED]))}"
                + (f" and {len(lost) - MOST_LISTED} more." if len(lost) > MOST_LISTED else "."),
                RareClassWarning,
                stacklevel=3,
            )
        return found.texts, found.labels

    def labelled(self) -> list[LabelledText]:
        """Return all labelled texts, those that are no longer in the pool included."""
        with self._mutex:
            return self._queue.labelled()

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
        rows = self.labelled()
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
            matched = match_labels(imported, self._queue, self._facts.check_answer, annotator)
            answers = [one for one in matched if not self.store.has(one.answer_id)]
            self.store.back_up()
            for answer in self.store.add(answers):
                self._queue.note(answer)
        self._notify()
        return len(answers)

    @property
    def vectorizer(self) -> DistilBertVectorizer:
        """The vectorizer of the pool."""
        return self._encoder

    @property
    def learns(self) -> bool:
        """Whether a model learns while texts are labelled."""
        return self._model is not None

    def unlabelled(self) -> list[str]:
        """Return the texts that are neither labelled nor skipped."""
        with self._mutex:
            names = zip(self._queue.ids, self._texts, strict=True)
            return [text for name, text in names if name not in self._queue.answered]

    def close(self) -> None:
        """End the learning, and let other processes open the project."""
        if self._model is not None:
            self._model.close()
        self.store.close()

    def discard(self) -> None:
        """Close the session, and remove the project if this session made it and has no answer."""
        if self._model is not None:
            self._model.close()
        self.store.discard()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _notify(self) -> None:
        if self._model is not None:
            self._model.notify()
        else:
            self.store.back_up_if_due()

    def _item(self, row: int, reason: Reason) -> Item:
        return Item(
            self._queue.ids[row], self._texts[row], self._guesses(row), reason, self._queue.n_left
        )

    def _guesses(self, row: int) -> list[tuple[str, float]]:
        return self._model.guesses(row) if self._model else []

    def _confirmed(self) -> list[str]:
        stored = self.store.fact("confirmed")
        return stored if isinstance(stored, list) else []


def _key(doubt: Doubt) -> str:
    return f"{doubt.kind} {doubt.ids} {doubt.labels}"


def _vectorizer(encoder: str | DistilBertVectorizer | None) -> DistilBertVectorizer:
    if isinstance(encoder, DistilBertVectorizer):
        return DistilBertVectorizer(**encoder.get_params())
    return DistilBertVectorizer(encoder or PACKAGED_ENCODER, progress=False)
