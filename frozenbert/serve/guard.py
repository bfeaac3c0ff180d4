"""Limits and checks that a request has to pass, and the log of requests."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import re
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import InputError

try:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as error:
    raise InputError('the service needs its libraries: pip install "frozenbert[serve]".') from error

__all__ = ["HEADERS", "LOGGER", "Guard", "Limits", "error_content", "refuse"]

LOGGER = "frozenbert.serve"
_log = logging.getLogger(LOGGER)

# Of every answer. The page has one file each of HTML, CSS and JavaScript, all from here.
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
# Bodies in memory at a time: 8 of the largest size, or 1,000 small ones.
BODIES = 8
SMALL_BODIES = 1000
SMALL = 16_384  # bytes; a smaller body counts as this
DISCARD_SECONDS = 5

# What load balancers ask in HTTP/1.0 and without a Host header.
PROBES = {"/healthz", "/readyz"}
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+)(:[0-9]*)?")

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Limits:
    """The limits of one request.

    Attributes
    ----------
    body : int
        Bytes of the body.
    texts : int
        Texts, or rows of a table.
    characters : int
        Characters of a text.
    seconds : float
        Time for the body to arrive, for the next 64 texts to be answered, and for the client
        to take the next part of its answer.
    """

    body: int = 10_000_000
    texts: int = 10_000
    characters: int = 10_000
    seconds: float = 60.0


@dataclass
class Guard:
    """ASGI middleware that refuses requests before the application sees them.

    It checks the Host header, the token and the origin, and reads bodies itself, so that memory
    is bounded for any number of requests. It logs each request without its content.

    Parameters
    ----------
    app : callable
        The ASGI application behind it.
    limits : Limits
    token : str, collection of str or None
        What the header `Authorization: Bearer` must contain, except for `paths_without_token`;
        of several, one.
    hosts : sequence of str
        Accepted values of the Host header; `*.example.org` accepts all subdomains.
    paths_without_token : frozenset of str
        Paths whose answers do not come from the model.
    known_paths : frozenset of str
        All paths. Any other is logged as "other", because it may be someone's text.
    on_answer : callable
        Receives path, status (0: none) and seconds of each request.
    """

    app: ASGIApp
    limits: Limits
    token: str | Collection[str] | None
    hosts: Sequence[str]
    paths_without_token: frozenset[str]
    known_paths: frozenset[str]
    on_answer: Callable[[str, int, float], None]
    held: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with_defaults(message["headers"])
            async with asyncio.timeout(self.limits.seconds):
                await send(message)

        try:
            await self._check(scope, receive, send_with_headers)
        except Exception as error:
            # Not its message, which may quote a text. If an answer has begun, the server sees
            # that it is incomplete and closes the connection.
            _log.error("%s at %s", type(error).__name__, _origin_of(error))
            if not status:
                internal = "internal error; see the service's log."
                await refuse(scope["path"], send_with_headers, 500, internal)
        finally:
            seconds = time.perf_counter() - started
            path = scope["path"] if scope["path"] in self.known_paths else "other"
            self.on_answer(path, status, seconds)
            answer = status or "no answer"
            _log.info("%s %s %s %.0f ms", scope["method"], path, answer, 1000 * seconds)

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        is_post = scope["method"] == "POST"
        if not self._accepts_host(scope):
            problem = "the Host header is missing or names another host."
            await refuse(scope["path"], send, 400, problem)
        elif is_post and _is_cross_site(headers):
            problem = "requests from other sites' pages are refused."
            await refuse(scope["path"], send, 403, problem)
        elif not self._accepts_token(scope["path"], headers):
            await refuse(
                scope["path"],
                send,
                401,
                "this service requires its token: Authorization: Bearer ...",
                {"www-authenticate": "Bearer"},
            )
        elif not is_post:
            await self.app(scope, receive, send)
        else:
            await self._pass_post(scope, headers, receive, send)

    def _accepts_host(self, scope: Scope) -> bool:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if not hosts:
            is_probe = scope["method"] == "GET" and scope["path"] in PROBES
            return is_probe and scope["http_version"] == "1.0"
        match = _HOST.fullmatch(hosts[0])
        if len(hosts) > 1 or match is None:
            return False
        host = match[1].decode("latin-1").lower()
        return any(
            host.endswith(name[1:]) if name.startswith("*.") else host == name
            for name in map(str.lower, self.hosts)
        )

    def _accepts_token(self, path: str, headers: Mapping[bytes, bytes]) -> bool:
        if self.token is None or path in self.paths_without_token:
            return True
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        tokens = [self.token] if isinstance(self.token, str) else self.token
        # All are compared, so that the time does not tell which one is nearest.
        fits = [hmac.compare_digest(given, token.encode()) for token in tokens]
        return scheme.lower() == b"bearer" and any(fits)

    async def _pass_post(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self.limits.body:
            if b"expect" not in headers:
                await self._discard(receive)
            await self._refuse_size(scope["path"], send)
            return
        memory = _BodyMemory(self)
        try:
            body = await self._read_body(scope["path"], receive, send, memory)
            if body is not None:
                await self._answer(scope, body, receive, send)
        finally:
            memory.release()

    async def _read_body(
        self, path: str, receive: Receive, send: Send, memory: _BodyMemory
    ) -> bytes | None:
        """Return the whole body, or None after a refusal or if the client has left."""
        body = bytearray()
        seconds = self.limits.seconds
        try:
            async with asyncio.timeout(seconds):
                more = True
                while more:
                    # The bytes that arrived count, and not the declared length.
                    if not memory.grow(max(len(body), SMALL)):
                        busy = "too many requests at once: try again in a second."
                        await refuse(path, send, 503, busy, {"retry-after": "1"})
                        return None
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self.limits.body:
                        body.clear()
                        await self._discard(receive)
                        await self._refuse_size(path, send)
                        return None
        except TimeoutError:
            late = f"the request did not arrive within {seconds:g} seconds."
            await refuse(path, send, 408, late)
            return None
        memory.grow(max(len(body), SMALL))
        return bytes(body)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Let the application answer, unless the client leaves before that."""
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        ended = has_left = False
        answering = asyncio.current_task()

        async def replay() -> Message:
            return messages.pop() if messages else await asyncio.shield(disconnected)

        async def send_and_note_end(message: Message) -> None:
            nonlocal ended
            ended = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        async def watch() -> Message:
            nonlocal has_left
            message = await receive()
            if not ended and answering is not None:
                has_left = True
                answering.cancel()
            return message

        # After its body, a request has no further message but the disconnection.
        disconnected = asyncio.ensure_future(watch())
        try:
            await self.app(scope, replay, send_and_note_end)
        except asyncio.CancelledError:
            if not has_left or answering is None or answering.uncancel():
                raise
        finally:
            disconnected.cancel()

    async def _discard(self, receive: Receive) -> None:
        """Read on for a while, because a client that still sends would not see the refusal."""
        left = 4 * self.limits.body + 1_000_000
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_SECONDS):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    async def _refuse_size(self, path: str, send: Send) -> None:
        problem = f"the request is larger than {self.limits.body:,} bytes: send it in parts."
        await refuse(path, send, 413, problem)


class _BodyMemory:
    """The share of one request's body in the memory for all bodies."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.size = 0

    def grow(self, size: int) -> bool:
        """Take `size` bytes in total; return False if all bodies together would be too large."""
        others = self.guard.held - self.size
        limit = max(BODIES * self.guard.limits.body, SMALL_BODIES * SMALL)
        if others and others + size > limit:
            return False
        self.guard.held, self.size = others + size, size
        return True

    def release(self) -> None:
        """Give all of it back."""
        self.guard.held -= self.size
        self.size = 0


def _with_defaults(headers: Headers) -> Headers:
    names = {name.lower() for name, _ in headers}
    missing = {name.encode(): value.encode() for name, value in HEADERS.items()}
    return [*headers, *((name, value) for name, value in missing.items() if name not in names)]


def _is_cross_site(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser sends it for another site's page, without its visitor's intent."""
    if b"sec-fetch-site" in headers:
        return headers[b"sec-fetch-site"] not in (b"same-origin", b"none")
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


def _origin_of(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


def error_content(
    path: str, status: int, detail: str, *, param: str | None = None, code: str | None = None
) -> dict[str, object]:
    """Return the body of an error; below /v1 in the form of OpenAI's API.

    Parameters
    ----------
    path : str
        Of the request.
    status : int
    detail : str
        One sentence.
    param, code : str, optional
        For the form of OpenAI: the wrong part of the request, and a name of the error.

    Examples
    --------
    >>> error_content("/predict", 400, "no.")
    {'detail': 'no.'}
    >>> error_content("/v1/embeddings", 400, "no.")["error"]["type"]
    'invalid_request_error'
    """
    if not path.startswith("/v1/"):
        return {"detail": detail}
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": detail, "type": kind, "param": param, "code": code}}


async def refuse(
    path: str, send: Send, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> None:
    """Answer with an error as JSON.

    Parameters
    ----------
    path : str
        Of the request.
    send : callable
        Of ASGI.
    status : int
    detail : str
        One sentence.
    headers : mapping of str to str, optional
        Further headers.
    """
    content = json.dumps(error_content(path, status, detail)).encode()
    fields = {"content-type": "application/json", "content-length": str(len(content))}
    fields |= headers or {}
    encoded = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})
