"""Serve a trained classifier: a web page to try it on, and an API; or an encoder's vectors.

Takes the safe form of the model (.skops) if there is one. Vectors are answered as OpenAI's API
does, at /v1/embeddings. An address that other machines can reach requires a token:
$FROZENBERT_TOKEN.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ...errors import InputError
from ..arguments import (
    add_address,
    add_cache,
    add_debug,
    add_model_or_encoder,
    age,
    positive,
    size,
)

if TYPE_CHECKING:
    from ...serve.service import Service

__all__ = ["add_arguments", "run"]


class _Serving(TypedDict):
    """What `serve_model` and `serve_encoder` take both."""

    host: str
    port: int
    allowed_hosts: list[str]
    max_body: int
    max_texts: int
    max_characters: int
    max_waiting: int
    timeout: float
    cache_dir: str | Path | None
    title: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_address(parser, 8000)
    parser.add_argument(
        "--title",
        metavar="TEXT",
        help="title of the page; default: the name in model.json, else the model's folder",
    )
    add_debug(parser)
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-body",
        type=size,
        default="10MB",
        metavar="SIZE",
        help="size of a request; default: 10MB",
    )
    limits.add_argument(
        "--max-texts",
        type=positive,
        default=10_000,
        metavar="N",
        help="texts in a request; default: 10,000",
    )
    limits.add_argument(
        "--max-characters",
        type=positive,
        default=10_000,
        metavar="N",
        help="characters in a text; default: 10,000",
    )
    limits.add_argument(
        "--max-waiting",
        type=positive,
        default=1024,
        metavar="N",
        help="texts in the queue, beyond which requests are refused (503); default: 1,024",
    )
    limits.add_argument(
        "--timeout",
        type=age,
        default="60s",
        metavar="TIME",
        help="for the next 64 texts of a response; default: 60s",
    )
    add_model_or_encoder(parser)
    add_cache(parser, default="none; vectors of requests are not stored", optional=False)


def run(arguments: argparse.Namespace) -> None:
    """Serve a model or an encoder until SIGTERM or Ctrl-C."""
    from ..options import cache_dir

    serving: _Serving = {
        "host": arguments.host,
        "port": arguments.port,
        "allowed_hosts": arguments.allowed_host,
        "max_body": arguments.max_body,
        "max_texts": arguments.max_texts,
        "max_characters": arguments.max_characters,
        "max_waiting": arguments.max_waiting,
        "timeout": arguments.timeout,
        "title": arguments.title,
        "cache_dir": None if arguments.cache_dir is None else cache_dir(arguments),
    }
    if arguments.model is None:
        _serve_encoder(arguments, serving)
    else:
        _serve_model(arguments, serving)


def _serve_model(arguments: argparse.Namespace, serving: _Serving) -> None:
    from ...persistence.models import SAFE, safest
    from ...serve.process import serve_model
    from ..options import SETTINGS
    from ..output import say

    for name in SETTINGS:
        if name != "device" and getattr(arguments, name) is not None:
            raise InputError(
                "a saved model has its own setting; this one is for an encoder.", parameter=name
            )
    path = safest(arguments.model)

    def say_address(_: Service, url: str) -> None:
        say("model", f"{path}{'' if path.suffix == SAFE else ' (no safe form exists)'}")
        say("serving", f"{url} (Ctrl-C stops)")

    serve_model(
        path,
        **serving,
        encoder_path=arguments.encoder_path,
        device=arguments.device,
        local_files_only=arguments.offline,
        allow_remote=arguments.allow_remote,
        on_ready=say_address,
    )
    say("stopped", str(path))


def _serve_encoder(arguments: argparse.Namespace, serving: _Serving) -> None:
    from ...embed import DistilBertVectorizer
    from ...serve.process import serve_encoder
    from ..options import encoder_settings
    from ..output import say, say_encoder

    if arguments.encoder_path is not None:
        raise InputError(
            "is the place of a saved model's encoder; no model is served.",
            parameter="encoder_path",
            value=arguments.encoder_path,
        )

    def say_address(served: Service, url: str) -> None:
        say_encoder(served.model)
        say("serving", f"{url}/v1 (Ctrl-C stops)")

    settings, _ = encoder_settings(arguments)
    serve_encoder(DistilBertVectorizer(**settings), **serving, on_ready=say_address)
    say("stopped", settings["model_name"])
