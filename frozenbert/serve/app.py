"""The web service of a model or an encoder as an ASGI application: an API, and a page."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import InputError
from ..tables.writing import delimited_rows
from .embeddings.endpoints import TOKEN_ERRORS, ApiError, describe_embeddings, embeddings_router
from .guard import Guard, error_content
from .monitoring import ServiceCounters
from .request_queue import AnswerTimeoutError, QueueFullError, RequestQueue
from .routes import (
    PAGE,
    TOKEN_RESPONSES,
    Responses,
    Shortcut,
    metrics_router,
    model_router,
    page_router,
    predict_texts,
    status_router,
)
from .schemas import ERRORS, TAGS
from .service import Service

try:
    import fastapi_offline
    from fastapi import APIRouter, Depends, FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from fastapi.security import HTTPBearer
    from fastapi.staticfiles import StaticFiles
    from starlette.exceptions import HTTPException
    from starlette.routing import Route
except ImportError as error:
    raise InputError('the service needs its libraries: pip install "frozenbert[serve]".') from error

__all__ = ["add_error_answers", "make_app"]

SWAGGER_UI = Path(fastapi_offline.__file__).parent / "static"
EMBEDDINGS = "/v1/embeddings"
WITHOUT_TOKEN = {"/", "/healthz", "/readyz", "/docs", "/openapi.json"}


def make_app(service: Service) -> FastAPI:
    """Return the ASGI application.

    Parameters
    ----------
    service : Service
        As from `frozenbert.serve.service.load_service`.

    Returns
    -------
    fastapi.FastAPI
    """
    assert service.predicts or service.embedder is not None
    queue = RequestQueue(
        service.predict,
        max_waiting=service.max_waiting,
        seconds=service.limits.seconds,
        warm_up=service.warm_up,
        on_batch=lambda n_texts: counters.count_batch(n_texts),
    )
    counters = ServiceCounters(lambda: queue.waiting)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with queue.running():
            yield

    app = FastAPI(
        title=f"frozenbert: {service.title}",
        version=__version__,
        description=_describe(service),
        openapi_tags=[
            {"name": name, "description": TAGS[name]}
            for router, _ in _routers(service)
            for name in dict.fromkeys(map(str, router.tags))
            if name != "status"
        ]
        + [{"name": "status", "description": TAGS["status"]}],
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service, app.state.queue = service, queue
    app.state.counters = counters
    kind = "texts" if service.form is None else "records"
    app.state.bodies = {
        "/predict": f"{json.dumps(service.example)}, with a list of {kind}.",
        "/explain": '{"text": "a stirring film"}, with one text.',
    }
    if service.predicts:
        app.state.card = service.card()
    for router, token_errors in _routers(service):
        if service.token is None or not token_errors:
            app.include_router(router)
        else:
            # The dependency is for /docs, which then asks for the token; Guard checks it.
            wants_token = [Depends(HTTPBearer(auto_error=False))]
            app.include_router(router, dependencies=wants_token, responses=token_errors)
    app.mount("/page", StaticFiles(directory=PAGE))
    app.mount("/docs/assets", StaticFiles(directory=SWAGGER_UI))
    add_error_answers(app)
    if service.predicts:
        app.add_middleware(
            Shortcut, path="/predict", endpoint=predict_texts, handlers=app.exception_handlers
        )
    _add_guard(app, service, counters)
    # The description is built once; now it can name this model's labels, and this encoder.
    described = app.openapi()
    _describe_served(described, service)
    if service.embedder is not None:
        describe_embeddings(described["paths"][EMBEDDINGS]["post"], service.embedder)
    return app


def _describe_served(described: dict[str, Any], service: Service) -> None:
    """Name the model's labels and columns, and give each error an example of its answer."""
    if service.classes:
        label = described["components"]["schemas"]["TextRequest"]["properties"]["label"]
        label["anyOf"][0]["enum"] = [str(name) for name in service.classes]
    if service.form is not None:
        paths, form = described["paths"], service.form
        body = paths["/predict"]["post"]["requestBody"]
        body["content"] = {"application/json": {"schema": form.schema()}}
        columns = {name: [cell] for name, cell in form.example().items()}
        for kind, content in paths["/predict.csv"]["post"]["requestBody"]["content"].items():
            delimiter = "\t" if "tab" in kind else ","
            content["example"] = delimited_rows(columns, delimiter, header=True, quote_all=False)
        del paths["/explain"]
    for path, operations in described["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if detail := ERRORS.get(int(status)):
                    example = error_content(path, int(status), detail)
                    response["content"]["application/json"]["example"] = example


def _describe(service: Service) -> str:
    """Return the introduction to the API."""
    what = "Vectors of texts."
    if service.predicts:
        what = "Labels and their probabilities for texts"
        if service.form is not None:
            what += " with other columns"
        what += ", and their vectors." if service.embedder is not None else "."
    below = " (below /v1 in the form of OpenAI's API)" if service.embedder is not None else ""
    return (
        f"{what} Concurrent requests share batches; no answer depends on other requests. Every "
        f"error is answered as a JSON object whose `detail` is one sentence{below}; an unknown "
        f"path gives 404, another method 405."
    )


def _routers(service: Service) -> list[tuple[APIRouter, Responses]]:
    """Return the routers of a service, with their errors of the token if they require one."""
    routers: list[tuple[APIRouter, Responses]] = []
    if service.predicts:
        routers.append((model_router, TOKEN_RESPONSES))
    if service.embedder is not None:
        routers.append((embeddings_router, TOKEN_ERRORS))
    return [*routers, (metrics_router, TOKEN_RESPONSES), (status_router, {}), (page_router, {})]


def _add_guard(app: FastAPI, service: Service, counters: ServiceCounters) -> None:
    paths = {
        route.path
        for router, _ in _routers(service)
        for route in router.routes
        if isinstance(route, Route)
    }
    files = {f"/page/{file.name}" for file in PAGE.iterdir()}
    files |= {f"/docs/assets/{file.name}" for file in SWAGGER_UI.iterdir()}
    app.add_middleware(
        Guard,
        limits=service.limits,
        token=service.token,
        hosts=service.hosts,
        paths_without_token=frozenset(WITHOUT_TOKEN | files),
        known_paths=frozenset(paths | files | {"/openapi.json"}),
        on_answer=counters.count_request,
    )


def add_error_answers(app: FastAPI) -> None:
    """Make an application answer each error with one sentence.

    Parameters
    ----------
    app : fastapi.FastAPI
    """

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return _error(request, error.status_code, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return _error(request, 400, "the body is not valid JSON.")
        place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
        detail = f"{place or 'body'}: {first['msg']}.{_hint(request, first['type'], first['loc'])}"
        return _error(request, 422, detail)

    @app.exception_handler(InputError)
    async def input_error(request: Request, error: InputError) -> JSONResponse:
        return _error(request, 422, " ".join(error.worded(_query_parameter).split()))

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        path, message = request.url.path, str(error)
        content = error_content(path, error.status, message, param=error.param, code=error.code)
        return JSONResponse(content, error.status)

    @app.exception_handler(QueueFullError)
    async def queue_full(request: Request, error: QueueFullError) -> JSONResponse:
        return _error(request, 503, f"{error}: try again in a second.", {"Retry-After": "1"})

    @app.exception_handler(AnswerTimeoutError)
    async def answer_timeout(request: Request, error: AnswerTimeoutError) -> JSONResponse:
        return _error(request, 504, str(error))


def _hint(request: Request, error: str, place: Sequence[object]) -> str:
    """Return a sentence that shows what the body is, if that is what a client did not know."""
    example = getattr(request.app.state, "bodies", {}).get(request.url.path)
    if example is None or "query" in place:
        return ""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    # A body of another type is bytes, and no object.
    if error.startswith("model_") and not kind.lower().endswith("json"):
        was = f"and not {kind[:60]}" if kind else "which is missing"
        return f" Send JSON with the header Content-Type: application/json, {was}: {example}"
    return f" The body is {example}"


def _error(
    request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(error_content(request.url.path, status, detail), status, headers)


def _query_parameter(parameter: str, value: str | None) -> str:
    return parameter if value is None else f"{parameter}={value}"
