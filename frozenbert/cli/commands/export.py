"""Export a trained classifier with its encoder: a folder that needs neither torch nor transformers.

The folder contains the model's safe form (model.skops), its tokenizer, and its encoder as a graph
of OpenVINO. `frozenbert classify` and `frozenbert serve` take it as their --model.
"""

from __future__ import annotations

import argparse

from ..arguments import add_debug, add_model

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--out",
        required=True,
        metavar="FOLDER",
        help="folder to write; an earlier export there is replaced",
    )
    add_debug(parser)
    add_model(parser, device=False)


def run(arguments: argparse.Namespace) -> None:
    """Write the folder, and print what it contains."""
    from ...heads.words import WordScores
    from ...persistence.export import export_model
    from ...persistence.models import load_model
    from ...persistence.runtime import vectorizers_in
    from ...utils.steps import find_step
    from ..output import describe_files, say, say_encoder, warn

    out = export_model(
        arguments.model,
        arguments.out,
        encoder_path=arguments.encoder_path,
        local_files_only=arguments.offline,
    )
    model = load_model(out)
    say_encoder(vectorizers_in(model)[0])
    size = sum(file.stat().st_size for file in out.iterdir())
    say("written", f"{describe_files(out)}; {size / 1e6:,.1f} MB")
    if find_step(model, WordScores) is not None:
        warn(
            f"{out} contains the vocabulary of the training texts, which may name people; a model "
            f"without words contains none."
        )
