"""What requests and answers of the service contain, as /openapi.json describes it."""

from __future__ import annotations

from typing import Annotated, Literal

from ..reports.explanation import MAX_WORDS, METHODS

try:
    from pydantic import BaseModel, ConfigDict, Field, JsonValue
except ImportError as error:
    from ..errors import InputError

    raise InputError('the service needs its libraries: pip install "frozenbert[serve]".') from error

__all__ = [
    "ERRORS",
    "EXPLAINED_WORDS",
    "TAGS",
    "Delimiter",
    "ErrorAnswer",
    "Explanation",
    "Health",
    "ModelCard",
    "PredictionAnswer",
    "Readiness",
    "RecordsRequest",
    "RequestLimits",
    "TextRequest",
    "TextsRequest",
    "WordWeight",
]

EXPLAINED_WORDS = MAX_WORDS

TAGS = {
    "predictions": "Labels of texts and tables, and what is known of the model.",
    "vectors": "Vectors of texts, in the form of OpenAI's API.",
    "status": "Whether the service is alive and ready, and its counters for Prometheus.",
}
# An answer for each status of an error.
ERRORS = {
    400: "the body is not valid JSON.",
    401: "send the token: Authorization: Bearer ...",
    403: "a browser sent this for another site's page.",
    404: "this service has 'all-MiniLM-L6-v2' alone.",
    408: "the request did not arrive within 60 seconds.",
    413: "the body has more than 10,000,000 bytes: send it in parts.",
    422: 'texts: Field required. The body is {"texts": ["a stirring film"]}, with a list of texts.',
    500: "internal error.",
    503: "1,024 texts are waiting already: try again in a second.",
    504: "no answer within 60 seconds.",
}


def _example(**content: JsonValue) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [content]})


Label = bool | int | float | str
Delimiter = Literal[",", ";", "\t", "|", "tab"]


class TextsRequest(BaseModel):
    """The body of /predict."""

    model_config = _example(texts=["a stirring film", "a dull film"])

    # fail_fast: an error for each of a million wrong texts would fill the memory.
    texts: Annotated[list[str], Field(min_length=1, fail_fast=True, examples=[["a stirring film"]])]


class RecordsRequest(BaseModel):
    """The body of /predict for a model that reads columns."""

    records: Annotated[
        list[dict[str, str | int | float | bool | None]], Field(min_length=1, fail_fast=True)
    ]


class TextRequest(BaseModel):
    """The body of /explain."""

    model_config = _example(text="a stirring film")

    text: str = Field(examples=["a stirring film"])
    label: str | None = Field(
        None, description="One of the model's labels. Default: the most probable label."
    )


class PredictionAnswer(BaseModel):
    """The answer of /predict; all lists are in the order of the texts."""

    model_config = _example(
        labels=["bad", "good"], predictions=["good"], probabilities=[[0.04, 0.96]]
    )

    labels: list[Label] = Field(description="All labels, in the order of the probabilities.")
    predictions: list[Label | list[Label]] = Field(
        description="For each text its label, a list of labels if the model is multi-label, or "
        "a number if it is a regression."
    )
    probabilities: list[list[float]] | None = Field(
        description="For each text the probability of each label; null without probabilities."
    )


class WordWeight(BaseModel):
    """A word and its effect on a label's probability."""

    word: str
    start: int = Field(description="Position of the word's first character in the text.")
    weight: float = Field(description="Above 0 if the word speaks for the label.")


class Explanation(BaseModel):
    """The answer of /explain."""

    model_config = _example(
        label="good",
        probability=0.96,
        words=[
            {"word": "a", "start": 0, "weight": 0.01},
            {"word": "stirring", "start": 2, "weight": 0.42},
            {"word": "film", "start": 11, "weight": -0.02},
        ],
        n_words=3,
        without=0.41,
        method=METHODS["shapley"],
    )

    label: Label
    probability: float
    words: list[WordWeight] = Field(
        description="Empty if the words do not explain the answer: without the five strongest ones "
        "together, the probability changes by less than 0.1."
    )
    n_words: int = Field(
        description=f"Number of words in the text; at most the first {EXPLAINED_WORDS} are tried."
    )
    without: float = Field(description="The probability without the strongest words.")
    method: str = Field(description="By Shapley values if shap is installed.")


class RequestLimits(BaseModel):
    """The limits of one request."""

    body: int = Field(description="Bytes of a request's body.")
    texts: int = Field(description="Texts of a request, or rows of a table.")
    characters: int = Field(description="Characters of a text.")
    seconds: float = Field(description="Seconds for the next 64 texts.")
    explained_words: int = Field(description="Words that /explain tries.")


class ModelCard(BaseModel):
    """The answer of /model: what is known of the served model."""

    model_config = _example(
        name="movie_reviews",
        title="Film reviews",
        file="model.skops",
        labels=["bad", "good"],
        many_labels=False,
        task="classification",
        columns={},
        probabilities=True,
        encoder={"name": "all-MiniLM-L6-v2", "pooling": ["mean"], "layers": [6]},
        data="train.tsv",
        tested_on="all of test.tsv",
        figures={"accuracy": 0.81, "macro_f1": 0.81, "n_train": 6920, "n_test": 872},
        created="2026-01-31T12:00:00+00:00",
        frozenbert="0.1.0",
        limits={
            "body": 10_000_000,
            "texts": 10_000,
            "characters": 10_000,
            "seconds": 60.0,
            "explained_words": EXPLAINED_WORDS,
        },
    )

    name: str = Field(description="The model's folder.")
    title: str = Field(description="What the page is called.")
    file: str
    labels: list[Label] = Field(description="All labels or grades; none of a regression.")
    many_labels: bool = Field(description="Whether a text may have any number of labels.")
    task: str = Field(description="classification, regression or ordinal.")
    columns: dict[str, str] = Field(
        description="The columns of a record, and their kinds: text, number, category or date. "
        "Empty if the model reads texts alone."
    )
    probabilities: bool = Field(description="Whether the model predicts probabilities.")
    encoder: dict[str, JsonValue] | None
    data: str | None = Field(description="File of the training rows.")
    tested_on: str | None = Field(description="Rows on which the figures were measured.")
    figures: dict[str, float | None] = Field(
        description="Scores on the test rows, and numbers of rows."
    )
    created: str | None
    frozenbert: str = Field(description="Version of the package.")
    limits: RequestLimits


class Health(BaseModel):
    """The answer of /healthz."""

    model_config = _example(status="ok")

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """The answer of /readyz."""

    model_config = _example(status="ok", waiting_texts=0)

    status: Literal["ok"] = "ok"
    waiting_texts: int


class ErrorAnswer(BaseModel):
    """The answer to a request that is refused or failed."""

    detail: str = Field(description="One sentence: what is wrong, and what would be right.")
