"""The page of a labelling session as an ASGI application, and its process."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from ... import __version__
from ...errors import InputError
from ...serve.app import add_error_answers
from ...serve.guard import Guard, Limits
from ...serve.process import bind, host_names, is_loopback, run
from ...serve.routes import PAGE as SHARED_PAGE
from ..session import Session
from .annotators import Annotators, load_annotators
from .labelling import LabellingService
from .paths import PAGE, router

try:
    from fastapi import FastAPI
    from fastapi.staticfiles import StaticFiles
    from starlette.routing import Route
except ImportError as error:
    raise InputError('the page needs its libraries: pip install "frozenbert[serve]".') from error

__all__ = ["LIMITS", "label_in_browser", "make_label_app"]

LIMITS = Limits(body=50_000_000, seconds=20.0)


def make_label_app(service: LabellingService, hosts: Sequence[str]) -> FastAPI:
    """Return the ASGI application.

    Parameters
    ----------
    service : LabellingService
    hosts : sequence of str
        Accepted values of the Host header.

    Returns
    -------
    fastapi.FastAPI
    """
    app = FastAPI(
        title="frozenbert label",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.service = service
    app.include_router(router)
    app.mount("/label", StaticFiles(directory=PAGE))
    app.mount("/page", StaticFiles(directory=SHARED_PAGE))
    add_error_answers(app)
    files = {f"/label/{file.name}" for file in PAGE.iterdir()}
    files |= {f"/page/{name}" for name in ("page.css", "icon.svg")}
    paths = {route.path for route in router.routes if isinstance(route, Route)}
    app.add_middleware(
        Guard,
        limits=LIMITS,
        token=service.annotators.tokens,
        hosts=hosts,
        paths_without_token=frozenset(files | {"/"}),
        known_paths=frozenset(files | paths),
        on_answer=lambda *_: None,
    )
    return app


def label_in_browser(
    session: Session,
    folder: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8001,
    allowed_hosts: Sequence[str] = (),
    annotators: Sequence[str] = (),
    title: str | None = None,
    on_ready: Callable[[list[tuple[str | None, str]]], None] | None = None,
    on_stop: Callable[[LabellingService], None] | None = None,
) -> None:
    """Serve the page of a session until SIGTERM or Ctrl-C. The session stays open.

    Parameters
    ----------
    session : Session
    folder : path-like
        The project's folder, where the final model is written.
    host : str, default="127.0.0.1"
        The address to listen on. Beyond loopback, `annotators` are required.
    port : int, default=8001
        0 chooses a free one.
    allowed_hosts : sequence of str, default=()
        Further names of the page's server, as in the Host header.
    annotators : sequence of str, default=()
        Names of people. Each one gets a token, which is stored in the project's folder.
    title : str, optional
        By default the name of the folder.
    on_ready : callable, optional
        Receives each annotator's name and address. The addresses contain the tokens: they open
        the page, and are for these people only.
    on_stop : callable, optional
        Receives the service after the last answer was stored.

    Raises
    ------
    frozenbert.InputError
        If a parameter is not valid, or the address is not free.
    """
    hosts = host_names(host, allowed_hosts)
    with closing(bind(host, port)) as listening:
        known = load_annotators(folder, annotators)  # its file is written once all else is right
        if not known.tokens:
            if not is_loopback(host):
                raise InputError(
                    "other machines can reach this address: name each person who labels, and "
                    "each gets an address with a token.",
                    parameter="annotators",
                )
            known = Annotators.one()
        name = title or Path(folder).absolute().name
        service = LabellingService(session, known, title=name, folder=Path(folder))
        app = make_label_app(service, hosts)
        url = f"http://{_reachable_name(host)}:{listening.getsockname()[1]}"
        session.set_address(url)
        if on_ready is not None:
            on_ready(known.addresses(url))
        run(app, listening, LIMITS.seconds, log_requests=False)
    if on_stop is not None:
        on_stop(service)


def _reachable_name(host: str) -> str:
    """Return the name by which a browser reaches an address that is listened on."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
