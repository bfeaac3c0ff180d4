"""Serve a trained classifier: a web page to try it on, and an API.

Takes the safe form of the model (.skops) if there is one. An address that other machines can
reach requires a token: $FROZENBERT_TOKEN.
"""

from __future__ import annotations

import argparse
import sys

from ...errors import InputError
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
    """Serve a model until told to stop."""
    from ...embed import DistilBertVectorizer
    from ...persistence import SAFE, load_model, safest
    from ...pipeline import predict
    from ...serve.app import Service, make_app
    from ...serve.guard import Limits
    from ...serve.process import bind, host_names, run, token_for
    from ...utils.steps import find_steps
    from ..options import cache_dir, move_here
    from ..output import say

    for name in ("max_body", "timeout"):
        if not getattr(arguments, name) > 0:
            raise InputError("must be above 0.", parameter=name)
    hosts = host_names(arguments.host, arguments.allowed_host)
    token = token_for(arguments.host)
    path = safest(arguments.model)
    with bind(arguments.host, arguments.port) as listening:
        model = load_model(path)
        model = getattr(model, "best_estimator_", model)
        move_here(model, arguments, None if arguments.cache_dir is None else cache_dir(arguments))
        for embed in find_steps(model, DistilBertVectorizer):
            embed.set_params(progress=False)
            if embed.precision == "bfloat16":
                # It rounds otherwise in other batches; so that no answer depends on the others,
                # each text is one.
                embed.set_params(max_batch_tokens=1)
        predict(model, ["The first answer loads the encoder."])
        service = Service(
            model,
            path,
            Limits(
                body=arguments.max_body,
                texts=arguments.max_texts,
                characters=arguments.max_characters,
                seconds=arguments.timeout,
            ),
            max_waiting=arguments.max_waiting,
            token=token,
            hosts=hosts,
        )
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        say("model", str(path) + ("" if path.suffix == SAFE else " (no safe form is there)"))
        say("serving", f"http://{host}:{listening.getsockname()[1]} (Ctrl-C stops)")
        sys.stdout.flush()
        run(make_app(service), listening, arguments.timeout)
    say("stopped", str(path))
