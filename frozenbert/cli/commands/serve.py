"""Serve a trained classifier: a web page to try it on, and an API.

Takes the safe form of the model (.skops) if there is one. An address that other machines can
reach requires a token: $FROZENBERT_TOKEN.
"""

from __future__ import annotations

import argparse

from ..arguments import add_cache, add_debug, add_model, age, port, positive, size

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="default: 127.0.0.1, reached from this machine only"
    )
    parser.add_argument(
        "--port", type=port, default=8000, metavar="N", help="default: 8000; 0: any free port"
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name that clients use for the service (in the Host header)",
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
    add_model(parser)
    add_cache(parser, default="none; vectors of requests are not stored", optional=False)


def run(arguments: argparse.Namespace) -> None:
    """Serve a model until SIGTERM or Ctrl-C."""
    from ...persistence.models import SAFE, safest
    from ...serve.process import serve_model
    from ..options import cache_dir
    from ..output import say

    path = safest(arguments.model)

    def say_address(_: object, url: str) -> None:
        say("model", f"{path}{'' if path.suffix == SAFE else ' (no safe form exists)'}")
        say("serving", f"{url} (Ctrl-C stops)")

    serve_model(
        path,
        host=arguments.host,
        port=arguments.port,
        allowed_hosts=arguments.allowed_host,
        max_body=arguments.max_body,
        max_texts=arguments.max_texts,
        max_characters=arguments.max_characters,
        max_waiting=arguments.max_waiting,
        timeout=arguments.timeout,
        encoder_path=arguments.encoder_path,
        device=arguments.device,
        local_files_only=arguments.offline,
        cache_dir=None if arguments.cache_dir is None else cache_dir(arguments),
        on_ready=say_address,
    )
    say("stopped", str(path))
