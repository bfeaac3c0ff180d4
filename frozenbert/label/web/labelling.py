"""What the page does: hand out texts, store answers, train the final model."""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict

from ...errors import InputError
from ..items import Doubt, Item
from ..session import Session
from .annotators import Annotators
from .finishing import LABELLED, describe, finish
from .messages import (
    ItemAnswer,
    ShownGuess,
    ShownItem,
    ShownProgress,
    shown_item,
    shown_progress,
)

__all__ = ["LabellingService"]

LEASE_SECONDS = 600.0  # texts of a tab that was closed come back after this
# The names of the files that the page downloads, and their formats.
FILES = {
    "csv": (LABELLED, "table"),
    "label-studio": ("labelled.label-studio.json", "label-studio"),
    "jsonl": ("labelled.jsonl", "argilla"),
}


class Project(TypedDict):
    """What the page shows of a project."""

    id: str
    title: str
    annotator: str | None
    labels: list[dict[str, str | None]]
    multi_label: bool


class NextItems(TypedDict):
    """Texts to label, and how many others are open in other tabs or with other people."""

    items: list[ShownItem]
    elsewhere: int


class Stored(TypedDict):
    """What became of answers: a sentence for each that could not be stored."""

    progress: ShownProgress
    problems: list[str]


class Undone(TypedDict):
    """The text whose answer was taken back, or null."""

    item: ShownItem | None
    progress: ShownProgress


class ReviewItem(TypedDict):
    """A text to look at again."""

    id: str
    text: str
    labels: list[str] | None


class ShownDoubt(TypedDict):
    """Labelled texts to look at again, and why."""

    kind: str
    why: str
    items: list[ReviewItem]
    guesses: list[ShownGuess]


class ShownGroup(TypedDict):
    """Texts that are alike, none of them labelled."""

    items: list[ReviewItem]
    guesses: list[ShownGuess]


class FinalState(TypedDict):
    """The state of the final training."""

    status: Literal["idle", "running", "done", "failed"]
    problem: str | None
    facts: list[tuple[str, str]]


class LabellingService:
    """A labelling session as several tabs and people use it at once.

    Parameters
    ----------
    session : Session
    annotators : Annotators
    title : str
    folder : path-like
        Where the final model is written.

    Attributes
    ----------
    session, annotators, title, folder
        As given.
    """

    def __init__(
        self, session: Session, annotators: Annotators, *, title: str, folder: Path
    ) -> None:
        self.session = session
        self.annotators = annotators
        self.title = title
        self.folder = Path(folder)
        self._mutex = threading.Lock()
        # The texts that each tab of a person has, and when it last asked.
        self._leases: dict[tuple[str | None, str], tuple[float, set[str]]] = {}
        self._doubts: dict[tuple[str, ...], Doubt] = {}
        self._final: FinalState = {"status": "idle", "problem": None, "facts": []}
        self._training: threading.Thread | None = None
        if session.store.fact("id") is None:
            session.store.set_fact("id", secrets.token_hex(8))

    def project(self, annotator: str | None) -> Project:
        """Return what the page shows at first."""
        return {
            "id": str(self.session.store.fact("id")),
            "title": self.title,
            "annotator": annotator,
            "labels": [
                {"name": name, "description": self.session.descriptions.get(name)}
                for name in self.session.labels
            ],
            "multi_label": self.session.multi_label,
        }

    # Texts and answers

    def next_items(self, annotator: str | None, tab: str, skip: Sequence[str], n: int) -> NextItems:
        """Return up to `n` texts that no other tab of this person has.

        Parameters
        ----------
        annotator : str or None
        tab : str
            Of the browser.
        skip : sequence of str
            The ids of the texts that the tab has.
        n : int
        """
        with self._mutex:
            now = time.monotonic()
            self._leases = {
                whose: lease
                for whose, lease in self._leases.items()
                if now - lease[0] < LEASE_SECONDS
            }
            held = set(skip)
            elsewhere = {
                one
                for (name, other), (_, ids) in self._leases.items()
                if name == annotator and other != tab
                for one in ids
            }
            items: list[Item] = []
            while len(items) < n:
                item = self.session.next(annotator, skip_ids=held | elsewhere)
                if item is None:
                    break
                items.append(item)
                held.add(item.id)
            self._leases[annotator, tab] = now, held
        n_open = 0
        if not held:
            progress = self.session.progress()
            n_open = progress.n_texts - progress.n_labelled - progress.n_skipped
        return {"items": [shown_item(item) for item in items], "elsewhere": n_open}

    def answer(self, annotator: str | None, tab: str, answers: Sequence[ItemAnswer]) -> Stored:
        """Store answers; they are on disk when this returns."""
        problems = []
        for one in answers:
            labels: str | list[str] | None = one.labels
            if labels is not None and not self.session.multi_label and len(labels) == 1:
                labels = labels[0]
            try:
                self.session.answer(one.item, labels, answer_id=one.answer_id, annotator=annotator)
            except InputError as error:
                problems.append(f"An answer could not be stored: {error}")
        with self._mutex:
            if lease := self._leases.get((annotator, tab)):
                lease[1].difference_update(one.item for one in answers)
        return {"progress": self.progress(), "problems": problems}

    def release(self, annotator: str | None, tab: str) -> None:
        """Note that a tab was closed, so that others get its texts."""
        with self._mutex:
            self._leases.pop((annotator, tab), None)

    def undo(self, annotator: str | None, tab: str) -> Undone:
        """Take back a person's last answer."""
        item = self.session.undo(annotator)
        if item is not None:
            with self._mutex:
                _, ids = self._leases.get((annotator, tab), (0.0, set()))
                self._leases[annotator, tab] = time.monotonic(), ids | {item.id}
        shown = None if item is None else shown_item(item)
        return {"item": shown, "progress": self.progress()}

    def progress(self) -> ShownProgress:
        """Return how far the session is."""
        progress, problem = self.session.progress(), self.session.problem
        return shown_progress(progress, learns=self.session.learns, problem=problem)

    # Looking again

    def doubts(self) -> list[ShownDoubt]:
        """Return labelled texts to look at again."""
        found = self.session.audit()
        with self._mutex:
            self._doubts |= {(doubt.kind, *doubt.ids): doubt for doubt in found}
        return [_shown_doubt(doubt) for doubt in found]

    def keep(self, kind: str, ids: Sequence[str]) -> None:
        """Note that the present labels of texts are right."""
        with self._mutex:
            doubt = self._doubts.get((kind, *ids))
        if doubt is not None:
            self.session.confirm(doubt)

    def groups(self) -> list[ShownGroup]:
        """Return groups of texts that are alike, none of them labelled."""
        return [
            {
                "items": [
                    {"id": name, "text": text, "labels": None}
                    for name, text in zip(group.ids, group.texts, strict=True)
                ],
                "guesses": _guess(group.guess),
            }
            for group in self.session.groups()
        ]

    # The final model, and files

    def final(self) -> FinalState:
        """Return the state of the final training."""
        return self._final

    def start_final(self) -> FinalState:
        """Train the final model in the background, unless that is under way."""
        with self._mutex:
            if self._final["status"] != "running":
                self._final = {"status": "running", "problem": None, "facts": []}
                self._training = threading.Thread(target=self._train, name="final", daemon=True)
                self._training.start()
        return self._final

    def _train(self) -> None:
        try:
            done = finish(self.session, self.folder)
        except InputError as error:
            self._final = {"status": "failed", "problem": str(error), "facts": []}
        except Exception as error:  # the page shows it; the log has no text of a row
            problem = f"The training failed ({type(error).__name__})."
            self._final = {"status": "failed", "problem": problem, "facts": []}
        else:
            self._final = {"status": "done", "problem": None, "facts": describe(done)}

    def wait(self) -> None:
        """Wait for the final training, if one is under way."""
        if self._training is not None:
            self._training.join()

    @property
    def is_training(self) -> bool:
        """Whether the final model is being trained."""
        return self._training is not None and self._training.is_alive()

    def export(self, kind: str) -> tuple[str, bytes]:
        """Return the name and the content of a file with the labels."""
        name, format = FILES[kind]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            self.session.export(path, format)
            return name, path.read_bytes()

    def import_answers(self, annotator: str | None, kind: str, content: str) -> int:
        """Store the labels of a file; all, or none if a line is wrong."""
        name, format = FILES[kind]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text(content, encoding="utf-8")
            # A jsonl file may be of either form, which its columns tell.
            chosen = None if path.suffix == ".jsonl" else format
            try:
                return self.session.import_answers(path, chosen, annotator=annotator)
            except InputError as error:
                raise InputError(str(error).replace(str(path), "the file")) from error


def _shown_doubt(doubt: Doubt) -> ShownDoubt:
    return {
        "kind": doubt.kind,
        "why": doubt.why,
        "items": [
            {"id": name, "text": text, "labels": _as_list(labels)}
            for name, text, labels in zip(doubt.ids, doubt.texts, doubt.labels, strict=True)
        ],
        "guesses": _guess(doubt.suggestion),
    }


def _guess(label: str | None) -> list[ShownGuess]:
    return [] if label is None else [{"label": label, "probability": 1.0}]


def _as_list(labels: str | Sequence[str]) -> list[str]:
    return [labels] if isinstance(labels, str) else list(labels)
