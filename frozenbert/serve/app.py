"""The web service of a saved model as an ASGI application: an API, and a page to try it on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from .. import __version__
from ..errors import InputError
from .guard import Guard
from .monitoring import ServiceCounters
from .request_queue import AnswerTimeoutError, QueueFullError, RequestQueue
from .routes import (
    PAGE,
    TOKEN_RESPONSES,
    Shortcut,
    model_router,
    page_router,
    predict_texts,
    status_router,
)
from .service import Service

try:
    import fastapi_offline
    from fastapi import Depends, FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from fastapi.security import HTTPBearer
    from fastapi.staticfiles import StaticFiles
    from starlette.exceptions import HTTPException
    from starlette.routing import Route
except ImportError as error:
    raise InputError('the service needs its libraries: pip install "frozenbert[serve]".') from error

__all__ = ["make_app"]

SWAGGER_UI = Path(fastapi_offline.__file__).parent / "static"
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
    queue = RequestQueue(
        service.predict,
        max_waiting=service.max_waiting,
        seconds=service.limits.seconds,
        on_batch=lambda n_texts: counters.count_batch(n_texts),
    )
    counters = ServiceCounters(lambda: queue.waiting)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with queue.running():
            yield

    card = service.card()
    app = FastAPI(
        title=f"frozenbert: {card.name}",
        version=__version__,
        description="Labels and their probabilities for texts. Concurrent requests share batches; "
        "no answer depends on other requests. Every error is answered as a JSON object whose "
        "`detail` is one sentence; an unknown path gives 404, another method 405.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service, app.state.queue = service, queue
    app.state.card, app.state.counters = card, counters
    if service.token is None:
        app.include_router(model_router)
    else:
        # The dependency is for /docs, which then asks for the token; Guard checks it.
        wants_token = [Depends(HTTPBearer(auto_error=False))]
        app.include_router(model_router, dependencies=wants_token, responses=TOKEN_RESPONSES)
    app.include_router(status_router)
    app.include_router(page_router)
    app.mount("/page", StaticFiles(directory=PAGE))
    app.mount("/docs/assets", StaticFiles(directory=SWAGGER_UI))
    _add_error_answers(app)
    app.add_middleware(
        Shortcut, path="/predict", endpoint=predict_texts, handlers=app.exception_handlers
    )
    _add_guard(app, service, counters)
    if service.classes:
        # The description is built once; now it can name this model's labels.
        label = app.openapi()["components"]["schemas"]["TextRequest"]["properties"]["label"]
        label["anyOf"][0]["enum"] = [str(name) for name in service.classes]
    return app


def _add_guard(app: FastAPI, service: Service, counters: ServiceCounters) -> None:
    routers = (model_router, status_router, page_router)
    paths = {
        route.path for router in routers for route in router.routes if isinstance(route, Route)
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


def _add_error_answers(app: FastAPI) -> None:
    """Answer each error with one sentence."""

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return _error(400, "the body is not valid JSON.")
        place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
        return _error(422, f"{place or 'body'}: {first['msg']}.")

    @app.exception_handler(InputError)
    async def input_error(_: Request, error: InputError) -> JSONResponse:
        return _error(422, " ".join(error.worded(_query_parameter).split()))

    @app.exception_handler(QueueFullError)
    async def queue_full(_: Request, error: QueueFullError) -> JSONResponse:
        return _error(503, f"{error}: try again in a second.", {"Retry-After": "1"})

    @app.exception_handler(AnswerTimeoutError)
    async def answer_timeout(_: Request, error: AnswerTimeoutError) -> JSONResponse:
        return _error(504, str(error))


def _error(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


def _query_parameter(parameter: str, value: str | None) -> str:
    return parameter if value is None else f"{parameter}={value}"
