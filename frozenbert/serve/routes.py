"""The paths of the service: what each takes and answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from ..errors import InputError
from ..reports.explanation import METHODS, explain_answer, prepare
from ..tables.writing import delimited_rows
from .guard import HEADERS
from .inputs.uploads import UploadedTable, read_upload
from .monitoring import ServiceCounters
from .request_queue import BLOCK, Columns, Items, QueueFullError, RequestQueue
from .schemas import (
    Delimiter,
    ErrorAnswer,
    Explanation,
    Health,
    ModelCard,
    PredictionAnswer,
    Readiness,
    RecordsRequest,
    TextRequest,
    TextsRequest,
    WordWeight,
)
from .service import Service

try:
    from fastapi import APIRouter, Depends, Query, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, StreamingResponse
    from pydantic import BaseModel, ValidationError
    from starlette.background import BackgroundTask
    from starlette.exceptions import HTTPException
    from starlette.middleware.exceptions import ExceptionMiddleware
    from starlette.types import ASGIApp, Receive, Scope, Send
except ImportError as error:
    raise InputError('the service needs its libraries: pip install "frozenbert[serve]".') from error

__all__ = [
    "PAGE",
    "TOKEN_RESPONSES",
    "ExitStack",
    "Queue",
    "Responses",
    "ServedModel",
    "Shortcut",
    "describe_errors",
    "metrics_router",
    "model_router",
    "page_router",
    "predict_texts",
    "read_json",
    "status_router",
]

PAGE = Path(__file__).parent / "page"

Responses = dict[int | str, dict[str, object]]


def _json_of(body: type[BaseModel]) -> dict[str, object]:
    return {"application/json": {"schema": body.model_json_schema()}}


def describe_errors(
    descriptions: Mapping[int, str], answer: type[BaseModel] = ErrorAnswer
) -> Responses:
    """Return errors as FastAPI describes them, each with its sentence."""
    return {status: {"model": answer, "description": text} for status, text in descriptions.items()}


TOKEN_RESPONSES = describe_errors({401: "The token is missing or wrong."})
_ALWAYS = describe_errors(
    {400: "The Host header, or the body's JSON, is not valid.", 500: "Internal error."}
)
_ASKS_THE_MODEL = describe_errors(
    {
        403: "A browser sent this for another site's page.",
        408: "The request did not arrive in time.",
        413: "The request is too large.",
        422: "The texts, the table or a parameter is not valid.",
        503: "Too many requests: try again after the seconds in Retry-After.",
        504: "The model did not answer in time.",
    }
)
_NOT_READY = describe_errors({503: "The queue is full."})


def _service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _queue_of(request: Request) -> RequestQueue:
    queue: RequestQueue = request.app.state.queue
    return queue


# Coroutines, because FastAPI calls functions in another thread.


async def _service(request: Request) -> Service:
    return _service_of(request)


async def _queue(request: Request) -> RequestQueue:
    return _queue_of(request)


async def _counters(request: Request) -> ServiceCounters:
    counters: ServiceCounters = request.app.state.counters
    return counters


async def _exit_stack() -> AsyncIterator[contextlib.AsyncExitStack]:
    """Close what a request has opened after its answer is sent or its client has left."""
    async with contextlib.AsyncExitStack() as stack:
        yield stack


ServedModel = Annotated[Service, Depends(_service)]
Queue = Annotated[RequestQueue, Depends(_queue)]
Counters = Annotated[ServiceCounters, Depends(_counters)]
ExitStack = Annotated[contextlib.AsyncExitStack, Depends(_exit_stack)]

model_router = APIRouter(responses=_ALWAYS, tags=["predictions"])
metrics_router = APIRouter(responses=_ALWAYS, tags=["status"])
status_router = APIRouter(responses=_ALWAYS, tags=["status"])
page_router = APIRouter(include_in_schema=False)


# The model


@model_router.post(
    "/predict",
    response_model=PredictionAnswer,
    openapi_extra={"requestBody": {"content": _json_of(TextsRequest), "required": True}},
    responses=_ASKS_THE_MODEL,
)
async def predict_texts(request: Request) -> Response:
    """Return the labels of texts, or of records, and their probabilities."""
    service, queue = _service_of(request), _queue_of(request)
    columns = await _predict_all(queue, await _read_items(request, service))
    probabilities = service.probabilities_of(columns)
    answer = {
        "labels": service.classes,
        "predictions": service.labels_of(columns),
        "probabilities": None if probabilities is None else probabilities.tolist(),
    }
    return JSONResponse(answer)


async def _read_items(request: Request, service: Service) -> Items:
    """Return the texts of a request; or its records, if the model reads columns."""
    # A body as a parameter would be the same, but FastAPI's way to it costs as much as a text.
    body = await read_json(request)
    try:
        if service.form is None:
            texts = TextsRequest.model_validate(body).texts
            service.check(texts)
            return texts
        records = RecordsRequest.model_validate(body).records
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from error
    await asyncio.to_thread(service.check_records, records)  # it reads dates
    return records


async def read_json(request: Request) -> object:
    """Return the parsed body; of another type than JSON, the bytes, which no model accepts."""
    body = await request.body()
    if not body:
        raise HTTPException(422, "body: Field required.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not re.fullmatch(r"application/(.+\+)?json", kind):
        return body
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is not valid JSON.") from error


async def _predict_all(queue: RequestQueue, items: Items) -> Columns:
    """Return the columns of any number of texts or records.

    Texts of about one length are asked for together, because they make fuller batches.
    """
    if len(items) <= BLOCK:
        return await queue.ask(items)
    order = np.argsort([len(str(item)) for item in items], kind="stable")[::-1]
    parts = [part async for part in queue.blocks([items[i] for i in order.tolist()])]
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return {name: np.concatenate([part[name] for part in parts])[places] for name in parts[0]}


class Shortcut:
    """ASGI middleware that calls one endpoint without the application's routing.

    The application describes the endpoint, and answers all other requests.

    Parameters
    ----------
    app : callable
        The ASGI application behind it.
    path : str
    endpoint : callable
        From a request to a response.
    handlers : mapping of exception types to callables
        The application's.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        endpoint: Callable[[Request], Awaitable[Response]],
        handlers: Mapping[Any, Callable[[Request, Any], Response | Awaitable[Response]]],
    ) -> None:
        self._app = app
        self._path = path
        self._endpoint = endpoint
        self._direct = ExceptionMiddleware(self._call, handlers=handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        is_posted = scope["type"] == "http" and scope["method"] == "POST"
        app = self._direct if is_posted and scope["path"] == self._path else self._app
        await app(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._endpoint(Request(scope, receive))
        await response(scope, receive, send)


@model_router.post("/explain", responses=_ASKS_THE_MODEL)
async def explain_text(asked: TextRequest, service: ServedModel, queue: Queue) -> Explanation:
    """Return the effect of each word on a label's probability; approximate."""
    service.check([asked.text])
    if service.form is not None:
        raise InputError("this model reads other columns too; words alone do not explain it.")
    if not service.has_probabilities:
        raise InputError("this model predicts no probabilities, so there is nothing to explain.")
    loop = asyncio.get_running_loop()

    def ask(texts: list[str]) -> np.ndarray:
        columns = asyncio.run_coroutine_threadsafe(_predict_all(queue, texts), loop).result()
        probabilities = service.probabilities_of(columns)
        assert probabilities is not None
        return probabilities

    found = await asyncio.to_thread(explain_answer, ask, service.classes, asked.text, asked.label)
    return Explanation(
        label=found.label,
        probability=found.probability,
        words=[WordWeight(**asdict(word)) for word in found.words],
        n_words=found.n_words,
        without=found.without,
        method=METHODS[found.method],
    )


# Without schemas: a JSON schema cannot describe a table.
_TABLE: dict[str, dict[str, object]] = {
    "text/csv": {"example": "id,text\n1,a stirring film\n"},
    "text/tab-separated-values": {"example": "id\ttext\n1\ta stirring film\n"},
}
_LABELLED: dict[str, dict[str, object]] = {
    "text/csv": {
        "example": '"id","text","prediction","proba_bad","proba_good"\n'
        '"1","a stirring film","good",0.04,0.96\n'
    },
    "text/tab-separated-values": {
        "example": '"id"\t"text"\t"prediction"\t"proba_bad"\t"proba_good"\n'
        '"1"\t"a stirring film"\t"good"\t"0.04"\t"0.96"\n'
    },
}


@model_router.post(
    "/predict.csv",
    response_class=StreamingResponse,
    openapi_extra={"requestBody": {"content": _TABLE, "required": True}},
    responses={
        **_ASKS_THE_MODEL,
        200: {"content": _LABELLED, "description": "The rows and their predictions."},
    },
)
async def predict_table(
    request: Request,
    service: ServedModel,
    queue: Queue,
    stack: ExitStack,
    text_column: Annotated[
        str | None,
        Query(
            description="Column of the texts. Default: the only sensible choice. Not for a model "
            "that reads columns: it finds them by their names."
        ),
    ] = None,
    header: Annotated[
        bool | None, Query(description="Whether the first row names the columns. Default: a guess.")
    ] = None,
    delimiter: Annotated[
        Delimiter | None, Query(description="Default: recognized from the rows.")
    ] = None,
) -> StreamingResponse:
    """Return the rows of a table with predictions, with the same delimiter.

    The header `X-Rows` is the number of rows to come. If the answer has fewer rows, an error
    has cut it short.
    """
    is_tsv = "tab-separated" in request.headers.get("content-type", "")
    table = await asyncio.to_thread(
        read_upload,
        await request.body(),
        "tsv" if is_tsv else "csv",
        service.limits.texts,
        text_column=text_column,
        header=header,
        delimiter="\t" if delimiter == "tab" else delimiter,
        form=service.form,
    )
    if service.form is None:
        service.check(table.items, "row")
    else:
        await asyncio.to_thread(service.check_records, table.items, "row")
    for name in service.column_names:
        if name in table.columns:
            raise InputError(
                f"the table has a column {name!r} already, which the predictions would hide: "
                f"rename it."
            )
    # Closed after the answer, so that a client that leaves gives its place in the queue back.
    blocks = await stack.enter_async_context(contextlib.aclosing(queue.blocks(table.items)))
    first = await anext(blocks)  # an error of the queue is answered before an answer begins

    async def rows() -> AsyncIterator[str]:
        yield _rows_of(table, 0, first)
        for start in range(BLOCK, len(table.items), BLOCK):
            yield _rows_of(table, start, await anext(blocks))

    kind = "text/tab-separated-values" if table.delimiter == "\t" else "text/csv"
    return StreamingResponse(
        rows(), media_type=f"{kind}; charset=utf-8", headers={"X-Rows": str(len(table.items))}
    )


def _rows_of(table: UploadedTable, start: int, predictions: dict[str, np.ndarray]) -> str:
    """Return a block of rows with predictions; the first one has the header."""
    block = {name: cells[start : start + BLOCK] for name, cells in table.columns.items()}
    # A reader of tsv tells by quotes around every field that quotes are no part of the text.
    return delimited_rows(
        {**block, **predictions},
        table.delimiter,
        header=not start,
        quote_all=table.delimiter == "\t",
    )


@model_router.get("/model")
async def describe_model(request: Request) -> ModelCard:
    """Return what is known of the model: labels, encoder, data, figures, limits."""
    card: ModelCard = request.app.state.card
    return card


# Status


@status_router.head("/healthz", include_in_schema=False)
@status_router.get("/healthz")
async def health() -> Health:
    """Tell that the process is alive."""
    return Health()


@status_router.head("/readyz", include_in_schema=False)
@status_router.get("/readyz", responses=_NOT_READY)
async def readiness(queue: Queue) -> Readiness:
    """Tell whether a text would be accepted now."""
    if not queue.has_room(1):
        raise QueueFullError("the queue is full")
    return Readiness(waiting_texts=queue.waiting)


@metrics_router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": "frozenbert_waiting_texts 0.0\n",
                }
            }
        }
    },
)
async def metrics(counters: Counters) -> Response:
    """Return counters for Prometheus."""
    return Response(counters.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


# The page


@page_router.api_route("/", methods=["GET", "HEAD"], response_model=None)
async def page(service: ServedModel) -> FileResponse | RedirectResponse:
    """Return the page; an encoder alone has none but the description of its API."""
    if not service.predicts:
        return RedirectResponse("/docs")
    # Its visitors may ask which words matter; whoever only predicts does not pay for it.
    later = BackgroundTask(prepare) if service.has_probabilities else None
    return FileResponse(PAGE / "index.html", background=later)


@page_router.get("/docs")
async def docs() -> FileResponse:
    """Return the description of the API by Swagger UI."""
    # Its style sheet contains pictures as data.
    policy = f"{HEADERS['content-security-policy']}; img-src 'self' data:"
    return FileResponse(PAGE / "docs.html", headers={"content-security-policy": policy})
