"""A saved model as a web service: a page to try it on, and an API."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from .. import __version__
from ..errors import InputError
from ..heads.multilabel import MultiLabelClassifier
from ..persistence import joblib_hash
from ..pipeline import column_names, predict
from ..reports.sidecar import read_sidecar
from ..tables.columns import find_columns, texts_of
from ..tables.reading import read_blocks
from ..tables.records import Upload
from ..utils.steps import find_step
from .guard import HEADERS, Guard, Limits
from .queue import Batcher, Columns, QueueFullError

try:
    import fastapi_offline
    import prometheus_client
    from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
    from fastapi.security import HTTPBearer
    from fastapi.staticfiles import StaticFiles
    from pydantic import BaseModel, Field
    from starlette.exceptions import HTTPException as StarletteHTTPException
    from starlette.middleware.trustedhost import TrustedHostMiddleware
except ImportError as error:
    raise InputError('the service needs its libraries: pip install "frozenbert[serve]".') from error

__all__ = ["Service", "make_app"]

EXPLAINED_WORDS = 64
BLOCK = 64  # texts of a request that go through the queue at a time
LONG_REQUESTS = 8  # that have more texts than that, at once
COLUMNS = 1000  # of a table
PAGE = Path(__file__).parent / "page"
_SURROGATE = re.compile("[\ud800-\udfff]")
OPEN = {"/", "/healthz", "/readyz", "/docs", "/openapi.json"}


class Texts(BaseModel):
    """What /predict takes."""

    # The first wrong one is enough to say: each would be noted otherwise, and there may be many.
    texts: Annotated[list[str], Field(min_length=1, fail_fast=True, examples=[["a stirring film"]])]


class Text(BaseModel):
    """What /explain takes."""

    text: str = Field(examples=["a stirring film"])
    label: str | None = Field(None, description="as /predict names it; default: the likeliest")


class Predictions(BaseModel):
    """What /predict answers; all lists are in the order of the texts."""

    labels: list[Any] = Field(description="all labels, in the order of the probabilities")
    predictions: list[Any] = Field(description="of each text its label, or the list of its labels")
    probabilities: list[list[float]] | None = Field(description="of each text and label")


class Word(BaseModel):
    """A word and what it adds."""

    word: str
    start: int = Field(description="place of its first character in the text")
    weight: float = Field(description="the label's probability, less that without this word")


class Explanation(BaseModel):
    """What /explain answers."""

    label: Any
    probability: float
    words: list[Word]
    n_words: int = Field(description=f"of the text; at most the first {EXPLAINED_WORDS} are tried")
    method: str = "leave one word out: approximate, as words act together"


@dataclass
class Service:
    """A model, and how it is served.

    Parameters
    ----------
    model : estimator
        Fitted, as from `frozenbert.load_model`.
    path : pathlib.Path
        Its file, for the card.
    limits : frozenbert.serve.guard.Limits
    max_waiting : int, default=1024
        Texts that may wait.
    token : str, optional
    hosts : sequence of str
        What the Host header may say.
    """

    model: Any
    path: Path
    limits: Limits = field(default_factory=Limits)
    max_waiting: int = 1024
    token: str | None = None
    hosts: Sequence[str] = ("localhost", "127.0.0.1", "[::1]")

    def __post_init__(self) -> None:
        self.many = find_step(self.model, MultiLabelClassifier) is not None
        self.classes = np.asarray(getattr(self.model, "classes_", [])).tolist()

    def card(self) -> dict[str, Any]:
        """Return what is known of the model; figures only if they are this model's."""
        found = read_sidecar(self.path)
        if not found or found.get("model_sha256") != joblib_hash(self.path):
            found = {}
        metrics, training = found.get("metrics", {}), found.get("training", {})
        figures = {
            name: value
            for name, value in metrics.items()
            if name in ("accuracy", "macro_f1", "micro_f1", "n_train", "n_test")
        }
        if "baseline" in metrics:
            figures["baseline_accuracy"] = metrics["baseline"].get("accuracy")
            figures["baseline_macro_f1"] = metrics["baseline"].get("macro_f1")
        return {
            "name": self.path.absolute().parent.name,
            "file": self.path.name,
            "labels": self.classes,
            "many_labels": self.many,
            "probabilities": hasattr(self.model, "predict_proba"),
            "encoder": found.get("encoder"),
            "data": training.get("file"),
            "tested_on": found.get("test", {}).get("description"),
            "figures": figures,
            "created": found.get("created"),
            "frozenbert": __version__,
            "limits": {**asdict(self.limits), "explained_words": EXPLAINED_WORDS},
        }

    def answers(self, columns: Columns) -> tuple[list[Any], np.ndarray | None]:
        """Return predictions and probabilities as /predict gives them."""
        probabilities = None
        if self.classes and f"proba_{self.classes[0]}" in columns:
            probabilities = np.stack([columns[f"proba_{c}"] for c in self.classes], axis=1)
        if not self.many:
            return columns["prediction"].tolist(), probabilities
        flags = np.stack([columns[f"prediction_{c}"] for c in self.classes], axis=1)
        chosen = [[c for c, flag in zip(self.classes, row, strict=True) if flag] for row in flags]
        return chosen, probabilities


class _Figures:
    """What /metrics tells."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        new: dict[str, Any] = {"registry": self.registry, "namespace": "frozenbert"}
        self.requests = prometheus_client.Counter(
            "requests", "Requests answered.", ["path", "status"], **new
        )
        self.seconds = prometheus_client.Histogram(
            "request_seconds", "From a request to the end of its answer.", ["path"], **new
        )
        self.texts = prometheus_client.Counter("texts", "Texts answered.", **new)
        self.batch = prometheus_client.Histogram(
            "batch_texts", "Texts of a batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128), **new
        )
        self.waiting = prometheus_client.Gauge("waiting_texts", "Texts in the queue.", **new)

    def on_answer(self, path: str, status: int, seconds: float) -> None:
        self.requests.labels(path, status or "none").inc()
        self.seconds.labels(path).observe(seconds)

    def on_batch(self, n_texts: int, n_requests: int) -> None:
        self.texts.inc(n_texts)
        self.batch.observe(n_texts)


class _Desk:
    """Where all requests ask."""

    def __init__(self, batcher: Batcher, seconds: float) -> None:
        self.batcher = batcher
        self.seconds = seconds
        self.n_long = 0

    async def ask(self, texts: list[str], patiently: bool = False) -> Columns:
        """Ask for some texts; a request that was let in waits for room, and is answered whole."""
        try:
            async with asyncio.timeout(self.seconds):
                while patiently and not self.batcher.has_room(len(texts)):
                    await asyncio.sleep(0.01)
                return await self.batcher.ask(texts)
        except InputError as error:
            # The texts were looked at before: it is the model that cannot be used.
            raise RuntimeError from error
        except QueueFullError:
            raise _busy(f"{self.batcher.waiting:,} texts are waiting already") from None
        except TimeoutError:
            raise HTTPException(504, f"no answer within {self.seconds:g} seconds.") from None


class _Turn:
    """One request's turn: block by block, so that nobody's many texts keep others waiting long."""

    def __init__(self, desk: _Desk) -> None:
        self.desk = desk
        self.is_long = False

    async def blocks(self, texts: list[str]) -> AsyncIterator[Columns]:
        if len(texts) > BLOCK:
            if self.desk.n_long >= LONG_REQUESTS:
                raise _busy(f"{LONG_REQUESTS} requests of more than {BLOCK} texts are here already")
            self.desk.n_long, self.is_long = self.desk.n_long + 1, True
        for start in range(0, len(texts), BLOCK):
            yield await self.desk.ask(texts[start : start + BLOCK], patiently=start > 0)

    def end(self) -> None:
        self.desk.n_long -= self.is_long


async def _turn(request: Request) -> AsyncIterator[_Turn]:
    turn = _Turn(request.app.state.desk)
    try:
        yield turn
    finally:  # after the answer is sent, or its client gone
        turn.end()


Turn = Annotated[_Turn, Depends(_turn)]


def _busy(said: str) -> HTTPException:
    return HTTPException(503, f"{said}: try again in a second.", {"Retry-After": "1"})


def make_app(service: Service) -> FastAPI:
    """Return the ASGI application.

    Parameters
    ----------
    service : Service
    """
    figures = _Figures()
    limits = service.limits
    about = service.card()
    batcher = Batcher(
        lambda texts: predict(service.model, texts),
        max_waiting=service.max_waiting,
        max_batch=BLOCK,
        on_batch=figures.on_batch,
    )
    figures.waiting.set_function(lambda: batcher.waiting)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with batcher.running():
            yield

    app = FastAPI(
        title=f"frozenbert: {about['name']}",
        version=__version__,
        description="Labels and their probabilities for texts. Requests of one moment are answered "
        "together; no answer depends on the others.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        # For /docs to ask for it; Guard looks at it.
        dependencies=[Depends(HTTPBearer(auto_error=False))] if service.token else [],
    )

    desk = app.state.desk = _Desk(batcher, limits.seconds)

    def check(texts: list[str], kind: str) -> None:
        if len(texts) > limits.texts:
            raise HTTPException(
                422, f"{len(texts):,} {kind}s; the limit is {limits.texts:,}: send them in parts."
            )
        for number, text in enumerate(texts):
            if len(text) > limits.characters:
                raise HTTPException(
                    422,
                    f"{kind} {number} (counted from 0) has {len(text):,} characters; the limit "
                    f"is {limits.characters:,}.",
                )
            if _SURROGATE.search(text):
                raise HTTPException(
                    422,
                    f"{kind} {number} (counted from 0) holds a lone surrogate, which is no Unicode "
                    f"text.",
                )

    @app.post("/predict")
    async def predictions(asked: Texts, turn: Turn) -> Predictions:
        """Label texts."""
        check(asked.texts, "text")
        parts = [part async for part in turn.blocks(asked.texts)]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        found, probabilities = service.answers(columns)
        return Predictions(
            labels=service.classes,
            predictions=found,
            probabilities=None if probabilities is None else probabilities.tolist(),
        )

    @app.post("/explain")
    async def explanation(asked: Text) -> Explanation:
        """Say which words carried the answer: approximate."""
        check([asked.text], "text")
        names = [str(label) for label in service.classes]
        if asked.label is not None and asked.label not in names:
            raise HTTPException(422, "label: is none of this model's; /model names them.")
        if not about["probabilities"]:
            raise HTTPException(422, "this model tells no probabilities to explain.")
        words = list(re.finditer(r"\S+", asked.text))
        tried = words[:EXPLAINED_WORDS]
        texts = [asked.text, *(_without(asked.text, word) for word in tried)]
        _, probabilities = service.answers(await desk.ask(texts))
        assert probabilities is not None
        place = int(probabilities[0].argmax()) if asked.label is None else names.index(asked.label)
        of_label = probabilities[:, place]
        return Explanation(
            label=service.classes[place],
            probability=of_label[0],
            words=[
                Word(word=word.group(), start=word.start(), weight=of_label[0] - without)
                for word, without in zip(tried, of_label[1:], strict=True)
            ],
            n_words=len(words),
        )

    @app.post(
        "/predict.csv",
        response_class=StreamingResponse,
        openapi_extra={"requestBody": {"content": {"text/csv": {"schema": {"type": "string"}}}}},
        responses={200: {"content": {"text/csv": {}}, "description": "the rows with predictions"}},
    )
    async def table(
        request: Request,
        turn: Turn,
        text_column: Annotated[str | None, Query(description="default: found by itself")] = None,
        header: Annotated[bool | None, Query(description="default: guessed")] = None,
    ) -> StreamingResponse:
        """Label the rows of a csv (or, as text/tab-separated-values, tsv) table.

        `X-Rows` says how many will come. An answer that breaks off was cut short by an error.
        """
        kind = "tsv" if "tab-separated" in request.headers.get("content-type", "") else "csv"
        content = await request.body()
        frame, texts = await asyncio.to_thread(
            _read, content, kind, text_column, header, limits.texts
        )
        check(texts, "row")
        if taken := [name for name in column_names(service.model) if name in frame.columns]:
            raise HTTPException(
                422, f"there is a column {taken[0]!r} already, which the predictions would hide."
            )
        parts = turn.blocks(texts)
        first = await anext(parts)  # so that an answer begins only if it is let in

        async def rows() -> AsyncIterator[str]:
            for start in range(0, len(texts), BLOCK):
                found = await anext(parts) if start else first
                block = frame.iloc[start : start + BLOCK].reset_index(drop=True)
                yield pd.concat([block, pd.DataFrame(found)], axis="columns").to_csv(
                    index=False,
                    header=not start,
                    lineterminator="\n",
                    quoting=csv.QUOTE_NONNUMERIC,
                )

        return StreamingResponse(
            rows(), media_type="text/csv; charset=utf-8", headers={"X-Rows": str(len(texts))}
        )

    @app.get("/model")
    async def card() -> dict[str, Any]:
        """Say what the model is: encoder, data, figures, limits."""
        return about

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthy() -> dict[str, str]:
        """Say that the process is alive."""
        return {"status": "ok"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz")
    async def ready() -> dict[str, Any]:
        """Say whether a text would be let in now: 503 while the queue is full."""
        if not batcher.has_room(1):
            raise HTTPException(503, "the queue is full.", {"Retry-After": "1"})
        return {"status": "ok", "waiting_texts": batcher.waiting}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Count for Prometheus."""
        content = prometheus_client.generate_latest(figures.registry)
        return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        # Swagger UI's style sheet holds its pictures itself.
        own = HEADERS["content-security-policy"]
        policy = {"content-security-policy": f"{own}; img-src 'self' data:"}
        return FileResponse(PAGE / "docs.html", headers=policy)

    app.mount("/page", StaticFiles(directory=PAGE))
    assets = Path(fastapi_offline.__file__).parent / "static"
    app.mount("/docs/assets", StaticFiles(directory=assets))
    _add_errors(app)
    static = {f"/page/{file.name}" for file in PAGE.iterdir()}
    static |= {f"/docs/assets/{file.name}" for file in assets.iterdir()}
    routes = {path for route in app.routes if (path := getattr(route, "path", None))}
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(service.hosts), www_redirect=False)
    # The last one added is the first that a request meets.
    app.add_middleware(
        Guard,
        limits=limits,
        token=service.token,
        open_paths=frozenset(OPEN | static),
        paths=frozenset(routes | static),
        on_answer=figures.on_answer,
    )
    return app


def _without(text: str, word: re.Match[str]) -> str:
    return text[: word.start()] + text[word.end() :].lstrip()


def _read(
    content: bytes, kind: str, text_column: str | None, header: bool | None, most: int
) -> tuple[pd.DataFrame, list[str]]:
    """Read a table of at most so many rows, and find its texts."""
    upload = Upload(f"table.{kind}", content)
    if content.partition(b"\n")[0].count(b"\t" if kind == "tsv" else b",") >= COLUMNS:
        raise InputError(f"{upload}: has more than {COLUMNS:,} columns.")
    expected = [text_column] if text_column else []
    found = read_blocks(upload, most, header=header, columns=expected)
    table = next(found)
    if len(table.frame) == most and next(found, None) is not None:
        raise InputError(f"{upload}: has more than {most:,} rows, which is the limit: send parts.")
    text_column, _ = find_columns(table, text_column, None, need_label=False)
    return table.frame, texts_of(table, text_column)


def _add_errors(app: FastAPI) -> None:
    """Say what is wrong in one sentence, and only to who asked."""

    def said(status: int, detail: str, headers: Any = None) -> JSONResponse:
        return JSONResponse({"detail": detail}, status, headers)

    @app.exception_handler(StarletteHTTPException)
    async def http(_: Request, error: StarletteHTTPException) -> JSONResponse:
        return said(error.status_code, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return said(400, "the body is no JSON.")
        places = [str(place) for place in first["loc"] if place != "body"]
        return said(422, f"{'.'.join(places) or 'body'}: {first['msg']}.")

    @app.exception_handler(InputError)
    async def wrong(_: Request, error: InputError) -> JSONResponse:
        message = " ".join(str(error).split())
        # What the commands call options are parameters here.
        for option, parameter in (("--text-column ", "text_column="), ("--header", "header=true")):
            message = message.replace(option, parameter)
        return said(422, message)
