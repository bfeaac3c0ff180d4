"""Fine-tune an encoder on texts and labels; the result is an encoder for --encoder."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError
from ..arguments import (
    add_clean,
    add_debug,
    add_encoder,
    add_fine_tuning,
    add_label_separator,
    add_limit,
    add_seed,
    add_table,
    layer_count,
    number,
    positive,
)

if TYPE_CHECKING:
    from ..options import Rows

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--data", required=True, metavar="FILE", help="table of texts and labels")
    parser.add_argument(
        "--valid",
        metavar="FILE",
        help="table to choose the epoch on; default: a stratified tenth of --data",
    )
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="where the fine-tuned encoder goes"
    )
    add_limit(parser)
    add_clean(parser)
    add_seed(parser)
    add_label_separator(parser)
    parser.add_argument(
        "--soft-label-column",
        metavar="NAME",
        action="append",
        help="train on probabilities instead of labels: the column of the positive class; given "
        "several times: a column for each class",
    )
    add_debug(parser)
    recipe = add_fine_tuning(parser)
    recipe.add_argument(
        "--lr", type=number, metavar="RATE", help="learning rate of the encoder; default: 5e-5"
    )
    recipe.add_argument(
        "--head-lr",
        type=number,
        metavar="RATE",
        help="learning rate of the classification layer; default: 1e-3",
    )
    recipe.add_argument("--dropout", type=number, metavar="SHARE", help="default: 0.1")
    recipe.add_argument("--weight-decay", type=number, metavar="RATE", help="default: 0.01")
    recipe.add_argument(
        "--gradient-accumulation-steps",
        type=positive,
        metavar="N",
        help="batches for each optimizer step; default: 1",
    )
    recipe.add_argument(
        "--keep-epoch",
        choices=("best", "last"),
        help="the best on the validation rows, or the last one; default: best",
    )
    recipe.add_argument(
        "--early-stopping",
        type=positive,
        metavar="N",
        help="stop after N epochs without improvement; default: never",
    )
    recipe.add_argument(
        "--freeze-layers",
        type=layer_count,
        metavar="N",
        help="do not train the embeddings and the N lowest layers; default: 0, train everything",
    )
    recipe.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        help="of the products; bfloat16 is faster where the CPU or GPU has instructions for it, "
        "and auto, the default, takes it there",
    )
    add_table(parser)
    add_encoder(parser, frozen=False)


def run(arguments: argparse.Namespace) -> None:
    """Fine-tune an encoder; print the figures of each epoch."""
    from ...encoders.sources import find_encoder
    from ...finetune import Recipe, finetune
    from ...utils.files import check_can_write
    from ..options import check_not_an_input, encoder_name
    from ..output import describe_epoch, describe_files, say
    from ..streams import check_exists

    check_exists(arguments, "data", "valid")
    out = Path(arguments.out)
    check_can_write(out / "config.json")
    check_not_an_input(arguments, "out", out)
    given = {field.name: getattr(arguments, field.name) for field in fields(Recipe)}
    recipe = Recipe(**{name: value for name, value in given.items() if value is not None})
    rows, valid_rows = _read(arguments)
    say("train", f"{len(rows.texts):,} rows")
    say("valid", f"{len(valid_rows.texts):,} rows{'' if arguments.valid else ', one of ten'}")
    name, _ = encoder_name(arguments)
    files = find_encoder(name, arguments.revision, local_files_only=arguments.offline)
    done = finetune(
        files,
        rows.texts,
        rows.labels,
        valid_rows.texts,
        valid_rows.labels,
        out,
        recipe,
        clean=arguments.clean,
        on_epoch=lambda epoch: say(f"epoch {epoch['epoch']}", describe_epoch(epoch)),
    )
    if done.skipped:
        say("skipped", "the same training was done already")
    say("kept", f"epoch {done.metrics['epoch']}: {describe_epoch(done.metrics)}")
    if not done.skipped:
        say("in all", f"{done.seconds:.1f} s")
    say("written", describe_files(out))
    clean = " --clean" if arguments.clean else ""
    say("next", f"pipeline.py --data {arguments.data} --test OTHER_ROWS --encoder {out}{clean}")


def _read(arguments: argparse.Namespace) -> tuple[Rows, Rows]:
    """Return the rows to train on, and those to choose the epoch on."""
    from ...training import hold_out
    from ..options import read_probabilities, read_rows, read_test_rows
    from ..output import describe_table, say

    soft = arguments.soft_label_column
    if soft and (arguments.label_column or arguments.label_separator):
        raise InputError(
            "replaces the labels; leave out the options for them.", parameter="soft_label_column"
        )
    rows = (read_probabilities if soft else read_rows)(arguments, arguments.data)
    say("data", describe_table(rows.table, rows.text_column, rows.label_column))
    if arguments.valid is None:
        texts, valid_texts, labels, valid_labels = hold_out(
            rows.texts, rows.labels, arguments.seed, parts=10
        )
        held_out = replace(rows, texts=valid_texts, labels=valid_labels)
        return replace(rows, texts=texts, labels=labels), held_out
    if soft:
        return rows, read_probabilities(arguments, arguments.valid, rows.text_column)
    return rows, read_test_rows(arguments, arguments.valid, rows)
