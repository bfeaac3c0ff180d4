"""What the page sends, and what it gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from ...errors import InputError

try:
    from pydantic import BaseModel, ConfigDict, Field
except ImportError as error:
    raise InputError('the page needs its libraries: pip install "frozenbert[serve]".') from error

if TYPE_CHECKING:
    from ..items import Item, Progress

__all__ = [
    "AnswersRequest",
    "ExportRequest",
    "ImportRequest",
    "ItemAnswer",
    "KeepRequest",
    "NextRequest",
    "ShownItem",
    "ShownProgress",
    "TabRequest",
    "shown_item",
    "shown_progress",
]

MOST_ANSWERS = 1000
MOST_AHEAD = 10  # texts that wait in a page
REASONS = {
    "sample": "from the random sample",
    "uncertain": "the model is unsure",
    "name": "resembles the name of a label",
    "random": "at random",
}

Format = Literal["csv", "label-studio", "jsonl"]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NextRequest(_Request):
    """The next texts for a tab of a browser."""

    tab: str = Field(min_length=1, max_length=100)
    skip: list[str] = Field(default=[], max_length=MOST_AHEAD + 1)
    n: int = Field(default=1, ge=1, le=MOST_AHEAD)


class ItemAnswer(_Request):
    """The labels of a text; null skips it. An id that is stored already is not stored again."""

    item: str
    labels: list[str] | None
    answer_id: str = Field(min_length=8, max_length=100)


class AnswersRequest(_Request):
    """Answers, the oldest first."""

    tab: str = Field(min_length=1, max_length=100)
    answers: list[ItemAnswer] = Field(min_length=1, max_length=MOST_ANSWERS)


class TabRequest(_Request):
    """Something that a tab of a browser asks without further details."""

    tab: str = Field(min_length=1, max_length=100)


class KeepRequest(_Request):
    """A doubtful label that is right."""

    kind: str
    items: list[str] = Field(min_length=1, max_length=100)


class ExportRequest(_Request):
    """The labels as a file."""

    format: Format


class ImportRequest(_Request):
    """The content of a file of labels."""

    format: Format
    content: str


class ShownGuess(TypedDict):
    """A label and its probability."""

    label: str
    probability: float


class ShownItem(TypedDict):
    """A text to label."""

    id: str
    text: str
    guesses: list[ShownGuess]
    reason: str


class ShownEstimate(TypedDict):
    """The accuracy on the pool, its interval, and the number of texts behind it."""

    value: float
    low: float
    high: float
    n: int


class ShownPoint(TypedDict):
    """A point of the curve."""

    n: int
    accuracy: float
    low: float
    high: float


class ShownProgress(TypedDict):
    """How far a session is."""

    n_texts: int
    n_labelled: int
    n_skipped: int
    n_removed: int
    n_vectors: int
    learns: bool
    per_label: dict[str, int]
    curve: list[ShownPoint]
    estimate: ShownEstimate | None
    stop: bool
    advice: str
    agreement: float | None
    problem: str | None


def shown_item(item: Item) -> ShownItem:
    """Return a text as the page gets it."""
    guesses: list[ShownGuess] = [
        {"label": label, "probability": probability} for label, probability in item.guesses
    ]
    reason = REASONS.get(item.reason, item.reason)
    return {"id": item.id, "text": item.text, "guesses": guesses, "reason": reason}


def shown_progress(progress: Progress, *, learns: bool, problem: str | None) -> ShownProgress:
    """Return the progress as the page gets it, with what keeps the model from learning."""
    estimate = progress.estimate
    return {
        "n_texts": progress.n_texts,
        "n_labelled": progress.n_labelled,
        "n_skipped": progress.n_skipped,
        "n_removed": progress.n_removed,
        "n_vectors": progress.n_vectors,
        "learns": learns,
        "per_label": progress.per_label,
        "curve": [
            {"n": point.n, "accuracy": point.accuracy, "low": point.low, "high": point.high}
            for point in progress.curve
        ],
        "estimate": None
        if estimate is None
        else {
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "n": estimate.n,
        },
        "stop": progress.advice.stop,
        "advice": progress.advice.reason,
        "agreement": progress.agreement,
        "problem": problem,
    }
