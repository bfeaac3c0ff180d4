"""An app on a real server on loopback, in a thread of the test process, and requests to it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

DEADLINE = 60  # seconds for anything that happens soon; a busy machine needs some of them


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(
    port: int,
    method: str,
    path: str,
    body: bytes | dict | list | Iterable[bytes] | None = None,
    headers: dict[str, str] | None = None,
    seconds: float = DEADLINE,
) -> Answer:
    """Send a request; a dict or a list is sent as JSON."""
    fields = dict(headers or {})
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
        fields.setdefault("Content-Type", "application/json")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request(method, path, body, fields)
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, named, response.read())
    finally:
        connection.close()


@contextlib.contextmanager
def on_loopback(app: Any, port: int = 0) -> Iterator[int]:
    """Serve an ASGI application; give its port."""
    from frozenbert.serve.process import bind, make_server

    listening = bind("127.0.0.1", port)
    server = make_server(app, 20)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(DEADLINE)
        listening.close()
        assert not thread.is_alive()
