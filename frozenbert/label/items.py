"""What a labelling session shows: a text, the progress, a doubt, a group."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Advice", "CurvePoint", "Doubt", "Estimate", "Group", "Item", "Progress", "Reason"]

Reason: TypeAlias = Literal["sample", "uncertain", "name", "random"]


@dataclass(frozen=True)
class Item:
    """A text to be labelled.

    Attributes
    ----------
    id : str
        Hash of the text, and its occurrence among equal texts.
    text : str
    guesses : list of (str, float)
        Labels and their probabilities, the most probable first; empty before there is a model.
    reason : {"sample", "uncertain", "name", "random"}
        Why it is shown: a member of the random sample that the estimate is made from; a text
        that the model is unsure of; one that resembles the name of a rare label; or one at
        random.
    n_left : int
        Texts that are neither labelled nor skipped, this one included.
    """

    id: str
    text: str
    guesses: list[tuple[str, float]]
    reason: Reason
    n_left: int


class Estimate(NamedTuple):
    """The accuracy on the pool with its 95 % interval, from `n` texts of the random sample."""

    value: float
    low: float
    high: float
    n: int


class CurvePoint(NamedTuple):
    """The estimate when `n` texts were labelled."""

    n: int
    accuracy: float
    low: float
    high: float


class Advice(NamedTuple):
    """Whether to stop, and why."""

    stop: bool
    reason: str


@dataclass(frozen=True)
class Progress:
    """How far a session is.

    Attributes
    ----------
    n_texts, n_labelled, n_skipped : int
        Of the pool as it is now.
    n_removed : int
        Answered texts that are no longer in the pool; their answers are kept.
    n_vectors : int
        Texts whose vector is there.
    per_label : dict of str to int
        Labelled texts of each label.
    curve : list of CurvePoint
    estimate : Estimate or None
        None before enough texts of the random sample are labelled.
    advice : Advice
    agreement : float or None
        Krippendorff's alpha of the annotators, where texts were shown to two.
    """

    n_texts: int
    n_labelled: int
    n_skipped: int
    n_removed: int
    n_vectors: int
    per_label: dict[str, int]
    curve: list[CurvePoint]
    estimate: Estimate | None
    advice: Advice
    agreement: float | None = None


@dataclass(frozen=True)
class Doubt:
    """Labelled texts to look at again.

    Attributes
    ----------
    kind : {"label", "duplicate", "outlier"}
        A label that the model of other texts contradicts; near-duplicates with different
        labels; a text unlike all others.
    ids, texts : list of str
        One text, or the two near-duplicates.
    why : str
        A sentence for the annotator. It contains no text.
    labels : list of (str, or list of str)
        The present label of each text; with many labels, its labels.
    suggestion : str or None
        The label that would mend it, if there is one.
    """

    kind: Literal["label", "duplicate", "outlier"]
    ids: list[str]
    texts: list[str]
    why: str
    labels: list[str | list[str]] = field(default_factory=list)
    suggestion: str | None = None


@dataclass(frozen=True)
class Group:
    """Unlabelled texts that are alike, to be labelled together after a look at each.

    Attributes
    ----------
    ids, texts : list of str
    guess : str or None
        The label that the model expects for them.
    """

    ids: list[str]
    texts: list[str]
    guess: str | None = None
