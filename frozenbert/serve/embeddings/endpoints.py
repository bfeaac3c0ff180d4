"""The paths below /v1: what each takes and answers."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator

import numpy as np

from ...errors import InputError
from ..request_queue import BLOCK
from ..routes import ExitStack, Queue, ServedModel, describe_errors, read_json
from ..service import Embedder, Service
from .bodies import (
    ApiErrorAnswer,
    EmbeddingsAnswer,
    EmbeddingsRequest,
    ModelsAnswer,
    ServedName,
)

try:
    from fastapi import APIRouter, Request
    from fastapi.responses import StreamingResponse
    from pydantic import ValidationError
except ImportError as error:
    raise InputError('the service needs its libraries: pip install "frozenbert[serve]".') from error

__all__ = ["TOKEN_ERRORS", "ApiError", "describe_embeddings", "embeddings_router"]


class ApiError(Exception):
    """A request below /v1 is wrong.

    Parameters
    ----------
    message : str
    param : str or None
        The part of the request that is wrong.
    code : str, optional
        What programs recognise the error by.
    status : int, default=400
        Of the answer.
    """

    def __init__(
        self, message: str, param: str | None, code: str | None = None, *, status: int = 400
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
        self.status = status


TOKEN_ERRORS = describe_errors({401: "The token is missing or wrong."}, ApiErrorAnswer)
_ALWAYS = describe_errors(
    {400: "The Host header, or the body, is not valid; or no such model.", 500: "Internal error."},
    ApiErrorAnswer,
)
_NO_SUCH_MODEL = describe_errors({404: "There is no such model."}, ApiErrorAnswer)
_ASKS_THE_ENCODER = describe_errors(
    {
        403: "A browser sent this for another site's page.",
        408: "The request did not arrive in time.",
        413: "The request is too large.",
        503: "Too many requests: try again after the seconds in Retry-After.",
        504: "The encoder did not answer in time.",
    },
    ApiErrorAnswer,
)

embeddings_router = APIRouter(prefix="/v1", responses=_ALWAYS, tags=["vectors"])


@embeddings_router.post("/embeddings", response_model=EmbeddingsAnswer, responses=_ASKS_THE_ENCODER)
async def create_embeddings(
    request: Request, service: ServedModel, queue: Queue, stack: ExitStack
) -> StreamingResponse:
    """Return the vectors of texts."""
    if not await request.body():
        raise ApiError("the body is empty.", None)
    asked = _parse(await read_json(request))
    embedder = _embedder_of(service)
    if asked.model != embedder.name:
        raise ApiError(f"this service has {embedder.name!r} alone.", "model", "model_not_found")
    try:
        dimensions = embedder.check_dimensions(asked.dimensions)
        service.check(asked.input)
    except InputError as error:
        raise ApiError(str(error), error.parameter or "input") from error
    # Closed after the answer, so that a client that leaves gives its place in the queue back.
    blocks = await stack.enter_async_context(
        contextlib.aclosing(queue.blocks(asked.input, embedder.embed))
    )
    first = await anext(blocks)  # an error of the queue is answered before an answer begins

    async def parts() -> AsyncIterator[str]:
        yield '{"object": "list", "data": ['
        n_tokens = 0
        for start in range(0, len(asked.input), BLOCK):
            block = await anext(blocks) if start else first
            n_tokens += int(block["n_tokens"].sum())
            vectors = embedder.cut(block["vectors"], dimensions)
            yield (", " if start else "") + _as_json(vectors, start, asked.encoding_format)
        usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
        yield f'], "model": {json.dumps(embedder.name)}, "usage": {json.dumps(usage)}}}'

    return StreamingResponse(parts(), media_type="application/json")


@embeddings_router.get("/models")
async def list_models(service: ServedModel) -> ModelsAnswer:
    """Return the name of the encoder or model that is served."""
    name = _embedder_of(service).name
    return ModelsAnswer(data=[ServedName(id=name, created=service.started)])


# A name may contain slashes, as those on the hub do.
@embeddings_router.get("/models/{name:path}", responses=_NO_SUCH_MODEL)
async def show_model(name: str, service: ServedModel) -> ServedName:
    """Return the encoder or model of this name, if it is the one that is served."""
    served = _embedder_of(service).name
    if name != served:
        message = f"this service has {served!r} alone."
        raise ApiError(message, "model", "model_not_found", status=404)
    return ServedName(id=served, created=service.started)


def describe_embeddings(operation: dict[str, object], embedder: Embedder) -> None:
    """Put the body, with what this encoder allows, into the description of /v1/embeddings."""
    body = EmbeddingsRequest.model_json_schema()
    fields = body["properties"]
    fields["model"]["enum"] = [embedder.name]
    body["examples"] = [{"input": ["a stirring film", "a dull film"], "model": embedder.name}]
    least = 1 if embedder.can_be_cut else embedder.n_features
    fields["dimensions"]["anyOf"][0] |= {"minimum": least, "maximum": embedder.n_features}
    content = {"application/json": {"schema": body}}
    operation["requestBody"] = {"content": content, "required": True}


def _embedder_of(service: Service) -> Embedder:
    embedder = service.embedder
    assert embedder is not None  # or these paths would not exist
    return embedder


def _parse(body: object) -> EmbeddingsRequest:
    if not isinstance(body, dict):
        raise ApiError("send a JSON object, with Content-Type: application/json.", None)
    try:
        return EmbeddingsRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = str(first["loc"][0])
        raise ApiError(f"{place}: {first['msg']}.", place) from error


def _as_json(vectors: np.ndarray, start: int, encoding: str) -> str:
    """Return the entries of a block of texts, with commas between them."""
    values: list[object]
    if encoding == "base64":
        values = [base64.b64encode(v.astype("<f4").tobytes()).decode() for v in vectors]
    else:
        values = vectors.tolist()
    entries = (
        {"object": "embedding", "index": index, "embedding": value}
        for index, value in enumerate(values, start)
    )
    return ", ".join(map(json.dumps, entries))
