"""What a request has to pass before it is answered, and what is noted of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["HEADERS", "Guard", "Limits", "refuse"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_log = logging.getLogger("frozenbert.serve.app")

# Of every answer. The page is one file each of HTML, CSS and JavaScript, all ours.
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
# Bodies that may be in memory at once: so many of the largest size, or so many small ones.
BODIES = 8
SMALL_BODIES = 1000
SMALL = 16_384  # bytes that a request counts for at least


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Attributes
    ----------
    body : int
        Bytes of a request's body.
    texts : int
        Texts of a request, and rows of a table.
    characters : int
        Characters of a text.
    seconds : float
        Time for a body to arrive, for the next 64 texts to be answered, and for the client to
        take the next part of its answer.
    """

    body: int = 10_000_000
    texts: int = 10_000
    characters: int = 10_000
    seconds: float = 60.0


@dataclass
class Guard:
    """ASGI middleware: a token, requests of other sites, bodies that are too large or slow.

    It reads bodies itself, so that memory is bounded however many come at once, and logs
    each request without anything of its content.

    Parameters
    ----------
    app : callable
        The ASGI application behind it.
    limits : Limits
    token : str or None
        What the header `Authorization: Bearer` has to hold, except for `open_paths`.
    open_paths : frozenset of str
        Paths that need no token: what holds no answer of the model.
    paths : frozenset of str
        All paths that there are; any other is noted as "other", as it may be somebody's text.
    on_answer : callable
        Is given path, status and seconds of each request.
    """

    app: Any
    limits: Limits
    token: str | None
    open_paths: frozenset[str]
    paths: frozenset[str]
    on_answer: Callable[[str, int, float], None]
    held: int = field(default=0, init=False)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in HEADERS.items()
                        if name.encode() not in there
                    ),
                ]
            async with asyncio.timeout(self.limits.seconds):
                await send(message)

        try:
            await self._pass(scope, receive, noted)
        except Exception as error:
            # Without its message, which may quote a text. Of an answer that has begun, the
            # server sees that it was not ended, and closes the connection.
            _log.error("%s at %s", type(error).__name__, _place(error))
            if not status:
                await refuse(noted, 500, "this went wrong here, and is noted in the log.")
        finally:
            seconds = time.perf_counter() - started
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.on_answer(path, status, seconds)
            said = status or "no answer"
            _log.info("%s %s %s %.0f ms", scope["method"], path, said, 1000 * seconds)

    async def _pass(self, scope: Any, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if scope["method"] != "POST":
            if self._may(scope["path"], headers):
                await self.app(scope, receive, send)
            else:
                await _ask_for_token(send)
            return
        if _is_of_another_site(headers):
            await refuse(send, 403, "requests of other sites' pages are not answered.")
            return
        if not self._may(scope["path"], headers):
            await _ask_for_token(send)
            return
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self.limits.body:
            if b"expect" not in headers:
                await self._discard(receive)
            await self._refuse_size(send)
            return
        held = _Held(self)
        try:
            body = await self._read(receive, send, held)
            if body is not None:
                await self._answer(scope, body, receive, send)
        finally:
            held.let_go()

    async def _read(self, receive: Receive, send: Send, held: _Held) -> bytes | None:
        """Return the body; nothing if there is none that is whole, and then it was said."""
        body = bytearray()
        seconds = self.limits.seconds
        try:
            async with asyncio.timeout(seconds):
                more = True
                while more:
                    # Counted as it arrives: who declares much and sends little holds little.
                    if not held.grow(max(len(body), SMALL)):
                        busy = "too many requests at once; try again."
                        await refuse(send, 503, busy, {"retry-after": "1"})
                        return None
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self.limits.body:
                        body.clear()
                        await self._discard(receive)
                        await self._refuse_size(send)
                        return None
        except TimeoutError:
            await refuse(send, 408, f"the request did not arrive within {seconds:g} seconds.")
            return None
        held.grow(max(len(body), SMALL))
        return bytes(body)

    async def _answer(self, scope: Any, body: bytes, receive: Receive, send: Send) -> None:
        """Let the application answer, unless the client goes away before it has."""
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        ended = False

        async def replay() -> Message:
            return whole.pop() if whole else await asyncio.shield(gone)

        async def noted(message: Message) -> None:
            nonlocal ended
            ended = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        # After its body, a request brings nothing but its end.
        gone = asyncio.ensure_future(receive())
        app = asyncio.ensure_future(self.app(scope, replay, noted))
        try:
            await asyncio.wait({gone, app}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not ended:
                app.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await app
        finally:
            gone.cancel()
            app.cancel()

    def _may(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if self.token is None or path in self.open_paths:
            return True
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given, self.token.encode())

    async def _discard(self, receive: Receive) -> None:
        """Read on for a while: a client that is still sending would not see the refusal."""
        left = 4 * self.limits.body + 1_000_000
        try:
            async with asyncio.timeout(5):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            return

    async def _refuse_size(self, send: Send) -> None:
        await refuse(
            send, 413, f"the request is larger than {self.limits.body:,} bytes: send it in parts."
        )


class _Held:
    """What one request's body takes of the memory for all."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.size = 0

    def grow(self, size: int) -> bool:
        """Take so much; say no if that is too much, with what the others have."""
        others = self.guard.held - self.size
        limit = max(BODIES * self.guard.limits.body, SMALL_BODIES * SMALL)
        if others and others + size > limit:
            return False
        self.guard.held, self.size = others + size, size
        return True

    def let_go(self) -> None:
        """Give all of it back."""
        self.guard.held -= self.size
        self.size = 0


def _is_of_another_site(headers: dict[bytes, bytes]) -> bool:
    """Whether a browser sends it for another site's page, which is not its visitor's wish."""
    if b"sec-fetch-site" in headers:
        return headers[b"sec-fetch-site"] not in (b"same-origin", b"none")
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


def _place(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


async def _ask_for_token(send: Send) -> None:
    await refuse(
        send,
        401,
        "this service wants its token: Authorization: Bearer ...",
        {"www-authenticate": "Bearer"},
    )


async def refuse(
    send: Send, status: int, detail: str, headers: dict[str, str] | None = None
) -> None:
    """Answer with an error, as JSON."""
    content = json.dumps({"detail": detail}).encode()
    fields = {"content-type": "application/json", "content-length": str(len(content))}
    fields |= headers or {}
    encoded = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})
