"""Train the final model of a session by the recipe of `frozenbert train`, and write its files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.pipeline import Pipeline

from ...embed import DistilBertVectorizer
from ...fewshot.suggestion import reasons, suggest
from ...pipeline import make_text_classifier
from ...tables.writing import write_table
from ...training import hold_out, save_training, train
from ...utils.files import sha256_of_file
from ...utils.steps import find_step
from ..exchange import SEPARATOR, defused
from ..learning.queries import least_clear
from ..session import Session
from ..trainable import trainable_rows

__all__ = ["LABELLED", "Finished", "describe", "finish"]

LABELLED = "labelled.csv"
SUGGESTIONS = "suggest.csv"
LEAST_TEXTS = 4  # of a label: three train, one tests
SUGGESTED = 50  # texts to label next
COMPARED = 2000  # unlabelled texts that they are chosen from


@dataclass(frozen=True)
class Finished:
    """A final model and its figures.

    Attributes
    ----------
    folder : pathlib.Path
        With `model.skops`, `report.html`, `labelled.csv` and the other files of a training.
    n_train, n_test : int
    accuracy, low, high : float
        On the texts that were held out, with the 95 % interval.
    left_out : list of str
        Labels that too few texts have.
    n_suggested : int
        Texts to label next, in `suggest.csv`.
    """

    folder: Path
    n_train: int
    n_test: int
    accuracy: float
    low: float
    high: float
    left_out: list[str]
    n_suggested: int = 0


def finish(session: Session, folder: str | os.PathLike[str]) -> Finished:
    """Train on three quarters of the labelled texts, test on the last, and write all files.

    Parameters
    ----------
    session : Session
        Labelling may go on meanwhile.
    folder : path-like
        Files of the same names in it are replaced.

    Returns
    -------
    Finished

    Raises
    ------
    InputError
        If there are too few labelled texts, or the folder cannot be written.
    """
    folder = Path(folder)
    rows = trainable_rows(
        session.labelled(), session.labels, LEAST_TEXTS, multi_label=session.multi_label
    )
    train_texts, test_texts, y_train, y_test = hold_out(rows.texts, rows.labels, session.seed)
    model = make_text_classifier(
        **session.vectorizer.get_params(),
        multi_label=session.multi_label,
        random_state=session.seed,
    )
    training = train(model, train_texts, y_train, test_texts, y_test)
    session.export(folder / LABELLED)
    source = {
        "file": LABELLED,
        "sha256": sha256_of_file(folder / LABELLED),
        "text_column": "text",
        "label_column": "label",
    }
    test = {"description": f"a stratified quarter of {LABELLED} (seed {session.seed})"}
    save_training(training, folder, {"notice": None, "training": source, "test": test})
    n_suggested = _suggest(session, training.model, folder)
    metrics = training.metrics
    low, high = metrics["intervals"]["accuracy"]
    return Finished(
        folder,
        len(train_texts),
        len(test_texts),
        metrics["accuracy"],
        low,
        high,
        rows.left_out,
        n_suggested,
    )


def _suggest(session: Session, model: Pipeline, folder: Path) -> int:
    """Write texts that are worth a label next; return how many."""
    (folder / SUGGESTIONS).unlink(missing_ok=True)
    texts = session.unlabelled()
    if not texts:
        return 0
    if len(texts) > COMPARED:
        rows = np.random.default_rng(session.seed).choice(len(texts), COMPARED, replace=False)
        texts = [texts[row] for row in np.sort(rows)]
    probabilities = np.asarray(model.predict_proba(texts))
    vectors = find_step(model, DistilBertVectorizer).transform(texts)
    doubt = least_clear(probabilities) if session.multi_label else probabilities
    chosen = suggest(vectors, doubt, SUGGESTED, session.seed)
    names = [str(name) for name in model.classes_]
    why = _reasons if session.multi_label else reasons
    columns = {"text": [texts[row] for row in chosen], **why(probabilities[chosen], names)}
    safe = {name: [defused(cell) for cell in cells] for name, cells in columns.items()}
    write_table(safe, folder / SUGGESTIONS)
    return len(chosen)


def _reasons(probabilities: np.ndarray, names: Sequence[str]) -> dict[str, list[object]]:
    """Return guesses and reasons, as `reasons` does, where a text may have several labels."""
    places = np.abs(probabilities - 0.5).argmin(axis=1)
    return {
        "guess": [
            SEPARATOR.join(name for name, p in zip(names, row, strict=True) if p >= 0.5)
            for row in probabilities
        ],
        "reason": [
            f"least clear: {names[place][:60]!r} {100 * row[place]:.0f} %"
            for row, place in zip(probabilities, places.tolist(), strict=True)
        ],
    }


def describe(done: Finished) -> list[tuple[str, str]]:
    """Return what a final training gave, as names and values.

    Examples
    --------
    >>> done = Finished(Path("artifacts/films"), 75, 25, 0.84, 0.68, 0.96, [])
    >>> for name, value in describe(done):
    ...     print(f"{name}: {value}")
    accuracy: 84.0 % of 25 held-out texts (95 % interval 68.0 to 96.0 %); 75 texts trained
    model: artifacts/films/model.skops
    labels: artifacts/films/labelled.csv
    report: artifacts/films/report.html
    """
    facts = [
        (
            "accuracy",
            f"{100 * done.accuracy:.1f} % of {done.n_test:,} held-out texts (95 % interval "
            f"{100 * done.low:.1f} to {100 * done.high:.1f} %); {done.n_train:,} texts trained",
        ),
        ("model", str(done.folder / "model.skops")),
        ("labels", str(done.folder / LABELLED)),
        ("report", str(done.folder / "report.html")),
    ]
    if done.n_suggested:
        facts.append(("next", f"{done.n_suggested} texts to label: {done.folder / SUGGESTIONS}"))
    if done.left_out:
        facts.append(("left out", f"{', '.join(done.left_out)}: too few texts"))
    return facts
