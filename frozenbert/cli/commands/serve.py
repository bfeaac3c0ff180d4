"""Serve a saved model: a page to try it on, and an API.

Of a model's two forms the safe one is taken, where it is there. Beyond loopback, a token is
demanded: $FROZENBERT_TOKEN.
"""

from __future__ import annotations

import argparse
import sys

from ...errors import InputError
from ..arguments import age, positive, size

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="a model's folder, or a file in it"
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0: any that is free")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name that the service is called by (the Host header)",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-body", type=size, default="10MB", metavar="SIZE", help="of a request; default: 10MB"
    )
    limits.add_argument(
        "--max-texts",
        type=positive,
        default=10_000,
        metavar="N",
        help="of a request; default: 10,000",
    )
    limits.add_argument(
        "--max-characters",
        type=positive,
        default=10_000,
        metavar="N",
        help="of a text; default: 10,000",
    )
    limits.add_argument(
        "--max-waiting",
        type=positive,
        default=1024,
        metavar="N",
        help="texts in the queue; beyond them requests are refused (503); default: 1,024",
    )
    limits.add_argument(
        "--timeout",
        type=age,
        default="60s",
        metavar="TIME",
        help="for the next 64 texts of an answer; default: 60s",
    )
    encoder = parser.add_argument_group("encoder")
    encoder.add_argument(
        "--encoder", metavar="NAME", help="where the model's encoder is now: a folder or a name"
    )
    encoder.add_argument("--device", help="a torch device, cpu or cuda")
    encoder.add_argument("--offline", action="store_true", help="never ask the hub")
    encoder.add_argument(
        "--cache-dir", metavar="FOLDER", help="keep vectors of requests there; default: nowhere"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(no_cache=False)


def run(arguments: argparse.Namespace) -> None:
    """Serve a model until told to stop."""
    from ...persistence import SAFE, load_model, safest
    from ...pipeline import predict
    from ...serve.app import Service, make_app
    from ...serve.guard import Limits
    from ...serve.process import bind, host_names, run, token_for
    from ..options import cache_dir, vectorizers
    from ..output import say

    for name, value in (("--max-body", arguments.max_body), ("--timeout", arguments.timeout)):
        if not value > 0:
            raise InputError(f"{name}: must be above 0.")
    hosts = host_names(arguments.host, arguments.allowed_host)
    token = token_for(arguments.host)
    path = safest(arguments.model)
    with bind(arguments.host, arguments.port) as listening:
        model = load_model(path)
        model = getattr(model, "best_estimator_", model)
        for embed in vectorizers(model, arguments.encoder):
            embed.set_params(
                cache_dir=None if arguments.cache_dir is None else cache_dir(arguments),
                local_files_only=arguments.offline,
                progress=False,
            )
            if arguments.device is not None:
                embed.set_params(device=arguments.device)
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
