"""A labelling session behind its page, in a thread of the test process, and a client for it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenbert.label import Session

DEADLINE = 60  # seconds for anything that happens soon; a busy machine needs some of them
NOUNS = ["film", "plot", "cast", "score", "scene", "script", "ending", "camera", "hero", "joke"]
WORDS = ["warm", "funny", "stirring", "great", "dull", "slow", "boring", "hollow"]
FILMS = [f"a {word} {noun}" for noun in NOUNS for word in WORDS]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Page:
    """The server of a page, and one person's token."""

    port: int
    tokens: dict[str | None, str]
    session: Session
    service: Any

    def address(self, name: str | None = None) -> str:
        return f"http://127.0.0.1:{self.port}/#token={self.tokens[name]}"

    def ask(
        self,
        method: str,
        path: str,
        content: object = None,
        *,
        name: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        fields = {"Authorization": f"Bearer {self.tokens.get(name, name)}"}
        body = None
        if content is not None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            fields["Content-Type"] = "application/json"
        fields |= headers or {}
        fields = {key: value for key, value in fields.items() if value}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request(method, path, body, fields)
            response = connection.getresponse()
            named = {key.lower(): value for key, value in response.getheaders()}
            return Answer(response.status, named, response.read())
        finally:
            connection.close()

    def next(self, n: int = 1, skip: Sequence[str] = (), tab: str = "t", **who: Any) -> Any:
        return self.ask("POST", "/api/next", {"tab": tab, "skip": list(skip), "n": n}, **who).json

    def answer(self, item: str, labels: object, answer_id: str | None = None, **who: Any) -> Answer:
        one = {"item": item, "labels": labels, "answer_id": answer_id or uuid.uuid4().hex}
        return self.ask("POST", "/api/answers", {"tab": "t", "answers": [one]}, **who)


@contextlib.contextmanager
def labelling(
    folder: Path,
    texts: Sequence[str] = FILMS,
    labels: Sequence[str] = ("negative", "positive"),
    *,
    annotators: Sequence[str] = (),
    port: int = 0,
    **settings: Any,
) -> Iterator[Page]:
    """Serve a session; `settings` are those of `Session`, which does not learn by default."""
    from frozenbert.label.web.annotators import Annotators, load_annotators
    from frozenbert.label.web.labelling import LabellingService
    from frozenbert.label.web.site import make_label_app
    from frozenbert.serve.process import bind, host_names, make_server

    settings = {"folder": folder, "learn": False, **settings}
    with Session(texts, labels, **settings) as session:
        people = load_annotators(folder, annotators) if annotators else Annotators.one()
        service = LabellingService(session, people, title="films", folder=folder)
        app = make_label_app(service, host_names("127.0.0.1", ()))
        listening = bind("127.0.0.1", port)
        server = make_server(app, 20)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
        thread.start()
        tokens = {name: address.partition("#token=")[2] for name, address in people.addresses("")}
        try:
            yield Page(listening.getsockname()[1], tokens, session, service)
        finally:
            server.should_exit = True
            thread.join(DEADLINE)
            listening.close()
            assert not thread.is_alive()
