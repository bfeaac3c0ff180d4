"""The routes of the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, TypedDict

from ...errors import InputError
from .labelling import (
    FinalState,
    LabellingService,
    NextItems,
    Project,
    ShownDoubt,
    ShownGroup,
    Stored,
    Undone,
)
from .messages import (
    AnswersRequest,
    ExportRequest,
    ImportRequest,
    KeepRequest,
    NextRequest,
    ShownProgress,
    TabRequest,
)

try:
    from fastapi import APIRouter, Depends, Request, Response
    from fastapi.responses import FileResponse
    from starlette.exceptions import HTTPException
except ImportError as error:
    raise InputError('the page needs its libraries: pip install "frozenbert[serve]".') from error

__all__ = ["PAGE", "router"]

PAGE = Path(__file__).parent / "page"
_JSON = re.compile(r"application/(.+\+)?json", re.IGNORECASE)


class Doubts(TypedDict):
    """What to look at again."""

    doubts: list[ShownDoubt]


class Groups(TypedDict):
    """Groups of like texts."""

    groups: list[ShownGroup]


class Imported(TypedDict):
    """The number of labels that were stored."""

    n: int


async def _require_json(request: Request) -> None:
    """Refuse what a form of another site could send."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if request.method == "POST" and not _JSON.fullmatch(kind):
        raise HTTPException(415, "the body must be JSON: Content-Type: application/json.")


async def _service(request: Request) -> LabellingService:
    service: LabellingService = request.app.state.service
    return service


async def _annotator(request: Request) -> str | None:
    service: LabellingService = request.app.state.service
    return service.annotators.name_of(request.headers.get("authorization", ""))


Served = Annotated[LabellingService, Depends(_service)]
Annotator = Annotated["str | None", Depends(_annotator)]

router = APIRouter(dependencies=[Depends(_require_json)])


@router.api_route("/", methods=["GET", "HEAD"])
async def page() -> FileResponse:
    """Return the page."""
    return FileResponse(PAGE / "index.html")


# Functions, no coroutines: they wait for the disk or the session, in a thread.


@router.get("/api/project", response_model=None)
def project(service: Served, annotator: Annotator) -> Project:
    """Return the labels, and who asks."""
    return service.project(annotator)


@router.post("/api/next", response_model=None)
def next_items(asked: NextRequest, service: Served, annotator: Annotator) -> NextItems:
    """Return the next texts."""
    return service.next_items(annotator, asked.tab, asked.skip, asked.n)


@router.post("/api/answers", response_model=None)
def store_answers(asked: AnswersRequest, service: Served, annotator: Annotator) -> Stored:
    """Store answers; they are on disk when this is answered."""
    return service.answer(annotator, asked.tab, asked.answers)


@router.post("/api/undo", response_model=None)
def undo(asked: TabRequest, service: Served, annotator: Annotator) -> Undone:
    """Take back the last answer of the person who asks."""
    return service.undo(annotator, asked.tab)


@router.post("/api/release", response_model=None)
def release(asked: TabRequest, service: Served, annotator: Annotator) -> dict[str, bool]:
    """Note that a tab was closed."""
    service.release(annotator, asked.tab)
    return {"released": True}


@router.get("/api/progress", response_model=None)
def progress(service: Served) -> ShownProgress:
    """Return how far the session is."""
    return service.progress()


@router.get("/api/doubts", response_model=None)
def doubts(service: Served) -> Doubts:
    """Return labelled texts to look at again."""
    return {"doubts": service.doubts()}


@router.post("/api/keep", response_model=None)
def keep(asked: KeepRequest, service: Served) -> dict[str, bool]:
    """Note that a doubtful label is right."""
    service.keep(asked.kind, asked.items)
    return {"kept": True}


@router.get("/api/groups", response_model=None)
def groups(service: Served) -> Groups:
    """Return groups of like texts without labels."""
    return {"groups": service.groups()}


@router.get("/api/final", response_model=None)
def final(service: Served) -> FinalState:
    """Return the state of the final training."""
    return service.final()


@router.post("/api/final", response_model=None)
def start_final(service: Served) -> FinalState:
    """Train the final model in the background."""
    return service.start_final()


@router.post("/api/export", response_model=None)
def export(asked: ExportRequest, service: Served) -> Response:
    """Return the labels as a file."""
    name, content = service.export(asked.format)
    return Response(
        content,
        media_type="application/octet-stream",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


@router.post("/api/import", response_model=None)
def import_answers(asked: ImportRequest, service: Served, annotator: Annotator) -> Imported:
    """Store the labels of a file."""
    return {"n": service.import_answers(annotator, asked.format, asked.content)}
