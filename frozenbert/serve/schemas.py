"""What requests and answers of the service contain, as /openapi.json describes it."""

from __future__ import annotations

from typing import Annotated, Literal

try:
    from pydantic import BaseModel, Field, JsonValue
except ImportError as error:
    from ..errors import InputError

    raise InputError('the service needs its libraries: pip install "frozenbert[serve]".') from error

__all__ = [
    "EXPLAINED_WORDS",
    "Delimiter",
    "ErrorAnswer",
    "Explanation",
    "Health",
    "ModelCard",
    "PredictionAnswer",
    "Readiness",
    "RequestLimits",
    "TextRequest",
    "TextsRequest",
    "WordWeight",
]

EXPLAINED_WORDS = 64

Label = bool | int | float | str
Delimiter = Literal[",", ";", "\t", "|", "tab"]


class TextsRequest(BaseModel):
    """The body of /predict."""

    # fail_fast: an error for each of a million wrong texts would fill the memory.
    texts: Annotated[list[str], Field(min_length=1, fail_fast=True, examples=[["a stirring film"]])]


class TextRequest(BaseModel):
    """The body of /explain."""

    text: str = Field(examples=["a stirring film"])
    label: str | None = Field(
        None, description="One of the model's labels. Default: the most probable label."
    )


class PredictionAnswer(BaseModel):
    """The answer of /predict; all lists are in the order of the texts."""

    labels: list[Label] = Field(description="All labels, in the order of the probabilities.")
    predictions: list[Label | list[Label]] = Field(
        description="For each text its label, or a list of labels if the model is multi-label."
    )
    probabilities: list[list[float]] | None = Field(
        description="For each text the probability of each label; null without probabilities."
    )


class WordWeight(BaseModel):
    """A word and its effect on a label's probability."""

    word: str
    start: int = Field(description="Position of the word's first character in the text.")
    weight: float = Field(description="The label's probability minus that without this word.")


class Explanation(BaseModel):
    """The answer of /explain."""

    label: Label
    probability: float
    words: list[WordWeight]
    n_words: int = Field(
        description=f"Number of words in the text; at most the first {EXPLAINED_WORDS} are tried."
    )
    method: str = "leave one word out: approximate, because words act together"


class RequestLimits(BaseModel):
    """The limits of one request."""

    body: int = Field(description="Bytes of a request's body.")
    texts: int = Field(description="Texts of a request, or rows of a table.")
    characters: int = Field(description="Characters of a text.")
    seconds: float = Field(description="Seconds for the next 64 texts.")
    explained_words: int = Field(description="Words that /explain tries.")


class ModelCard(BaseModel):
    """The answer of /model: what is known of the served model."""

    name: str
    file: str
    labels: list[Label]
    many_labels: bool = Field(description="Whether a text may have any number of labels.")
    probabilities: bool = Field(description="Whether the model predicts probabilities.")
    encoder: dict[str, JsonValue] | None
    data: str | None = Field(description="File of the training rows.")
    tested_on: str | None = Field(description="Rows on which the figures were measured.")
    figures: dict[str, float | None] = Field(description="Accuracy, F1 and numbers of rows.")
    created: str | None
    frozenbert: str = Field(description="Version of the package.")
    limits: RequestLimits


class Health(BaseModel):
    """The answer of /healthz."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """The answer of /readyz."""

    status: Literal["ok"] = "ok"
    waiting_texts: int


class ErrorAnswer(BaseModel):
    """The answer to a request that is refused or failed."""

    detail: str = Field(description="One sentence: what is wrong, and what would be right.")
