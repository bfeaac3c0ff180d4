"""A labelling session behind its page on a real server, and a client for it."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopback import Answer, on_loopback, request

from frozenbert.label import Session

NOUNS = ["film", "plot", "cast", "score", "scene", "script", "ending", "camera", "hero", "joke"]
WORDS = ["warm", "funny", "stirring", "great", "dull", "slow", "boring", "hollow"]
FILMS = [f"a {word} {noun}" for noun in NOUNS for word in WORDS]


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
        content: bytes | dict | list | None = None,
        *,
        name: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        fields = {"Authorization": f"Bearer {self.tokens.get(name, name)}"}
        if content is not None:
            fields["Content-Type"] = "application/json"
        fields = {key: value for key, value in (fields | (headers or {})).items() if value}
        body = json.dumps(content).encode() if isinstance(content, (dict, list)) else content
        return request(self.port, method, path, body, fields)

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
    from frozenbert.serve.process import host_names

    settings = {"folder": folder, "learn": False, **settings}
    with Session(texts, labels, **settings) as session:
        people = load_annotators(folder, annotators) if annotators else Annotators.one()
        service = LabellingService(session, people, title="films", folder=folder)
        tokens = {name: address.partition("#token=")[2] for name, address in people.addresses("")}
        with on_loopback(make_label_app(service, host_names("127.0.0.1", ())), port) as served:
            yield Page(served, tokens, session, service)
