"""What requests and answers of /v1 contain, as /openapi.json describes it."""

from __future__ import annotations

from typing import Annotated, Literal

from ...errors import InputError

try:
    from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
    from pydantic_core import PydanticCustomError
except ImportError as error:
    raise InputError('the service needs its libraries: pip install "frozenbert[serve]".') from error

__all__ = [
    "ApiErrorAnswer",
    "EmbeddingsAnswer",
    "EmbeddingsRequest",
    "ModelsAnswer",
    "ServedName",
]


def _as_texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise PydanticCustomError("input", "must be a text or a list of texts")
    if not value:
        raise PydanticCustomError("input", "is an empty list: send at least one text")
    if all(isinstance(text, str) for text in value):
        return value
    if all(isinstance(part, int | list) for part in value):
        raise PydanticCustomError("input", "token ids are not supported: send texts")
    raise PydanticCustomError("input", "must be a list of texts alone")


class EmbeddingsRequest(BaseModel):
    """The body of /v1/embeddings."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"input": ["a stirring film"], "model": "all-MiniLM-L6-v2"}]
        }
    )

    input: Annotated[
        list[str],
        BeforeValidator(_as_texts),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "items": {"type": "string"}, "minItems": 1},
                ],
                "description": "A text, or a list of texts. Token ids are not supported.",
                "examples": ["a stirring film", ["a stirring film", "a dull film"]],
            }
        ),
    ]
    model: str = Field(description="The name that /v1/models answers.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Lists of numbers; or the bytes of little-endian float32 in base64."
    )
    dimensions: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Columns to keep, from the first. Default: all."
    )
    user: str | None = Field(None, description="Ignored.")


class _Embedding(BaseModel):
    object: Literal["embedding"]
    index: int = Field(description="Place of the text in the input.")
    embedding: list[float] | str


class _Usage(BaseModel):
    prompt_tokens: int = Field(description="Tokens of all texts, special tokens included.")
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """The answer of /v1/embeddings."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "object": "list",
                    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}],
                    "model": "all-MiniLM-L6-v2",
                    "usage": {"prompt_tokens": 5, "total_tokens": 5},
                }
            ]
        }
    )

    object: Literal["list"]
    data: list[_Embedding] = Field(description="In the order of the input.")
    model: str
    usage: _Usage


class ServedName(BaseModel):
    """A model in the answer of /v1/models."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "all-MiniLM-L6-v2",
                    "object": "model",
                    "created": 1_767_225_600,
                    "owned_by": "frozenbert",
                }
            ]
        }
    )

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When the service started, in seconds since 1970.")
    owned_by: str = "frozenbert"


class ModelsAnswer(BaseModel):
    """The answer of /v1/models."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "object": "list",
                    "data": [
                        {
                            "id": "all-MiniLM-L6-v2",
                            "object": "model",
                            "created": 1_767_225_600,
                            "owned_by": "frozenbert",
                        }
                    ],
                }
            ]
        }
    )

    object: Literal["list"] = "list"
    data: list[ServedName]


class _ApiError(BaseModel):
    message: str = Field(description="One sentence: what is wrong, and what would be right.")
    type: str
    param: str | None = Field(description="The part of the request that is wrong.")
    code: str | None


class ApiErrorAnswer(BaseModel):
    """The answer to a request below /v1 that is refused or failed."""

    error: _ApiError
