"""Fine-tune an encoder on texts and labels; what comes out is an encoder for --model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...errors import InputError
from ..arguments import CLEAN, ENCODERS, add_table, names, positive, seed

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--data", required=True, metavar="FILE", help="texts and labels")
    parser.add_argument(
        "--valid", metavar="FILE", help="rows to choose the epoch on; without it one row of ten"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the encoder goes")
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N rows only")
    parser.add_argument("--clean", action="store_true", help=CLEAN)
    add_table(parser)
    parser.add_argument(
        "--label-separator", metavar="SEP", help="the label column holds lists such as a|b"
    )
    parser.add_argument(
        "--soft-label-column",
        metavar="NAME",
        action="append",
        help="in place of labels, the probability of the positive class; given again: the "
        "probabilities of several classes",
    )
    recipe = parser.add_argument_group("training (Hugging Face's Trainer, AdamW)")
    recipe.add_argument("--epochs", type=positive, default=4, help="default: 4")
    recipe.add_argument("--lr", type=float, default=5e-5, help="of the encoder; default: 5e-5")
    recipe.add_argument(
        "--head-lr", type=float, default=1e-3, help="of the layer on top; default: 1e-3"
    )
    recipe.add_argument("--dropout", type=float, default=0.1, help="default: 0.1")
    recipe.add_argument("--weight-decay", type=float, default=0.01, help="default: 0.01")
    recipe.add_argument("--batch-size", type=positive, default=16, help="default: 16")
    recipe.add_argument(
        "--gradient-accumulation-steps", type=positive, default=1, help="batches a step; default: 1"
    )
    recipe.add_argument(
        "--early-stopping", type=positive, metavar="EPOCHS", help="end after so many no better"
    )
    recipe.add_argument(
        "--freeze-layers", type=int, default=0, metavar="K", help="the K lowest stay as they are"
    )
    recipe.add_argument("--max-length", type=positive, metavar="TOKENS", help="cut texts here")
    recipe.add_argument("--pooling", type=names, default="auto", help="auto, cls, mean, max")
    recipe.add_argument("--seed", type=seed, default=0, help="default: 0")
    recipe.add_argument("--device", help="a torch device, cpu or cuda")
    encoder = parser.add_argument_group("encoder")
    encoder.add_argument("--model", metavar="NAME", help=ENCODERS)
    encoder.add_argument("--revision", help="branch, tag or commit on the hub")
    encoder.add_argument("--offline", action="store_true", help="never ask the hub")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(arguments: argparse.Namespace) -> None:
    """Fine-tune an encoder; print each epoch's figures."""
    from ...encoders.sources import find_encoder
    from ...finetune.finetuning import Recipe, finetune
    from ...tables.columns import texts_of
    from ...training import hold_out
    from ...utils.files import check_can_write
    from ..options import encoder_name, read_labels, read_rows, read_soft_rows, read_test_rows
    from ..output import describe_table, of_epoch, say

    out = Path(arguments.out)
    check_can_write(out / "config.json")
    recipe = Recipe(**{name: getattr(arguments, name) for name in Recipe.__dataclass_fields__})
    soft = arguments.soft_label_column
    if soft and (arguments.label_column or arguments.label_separator):
        raise InputError("--soft-label-column stands in place of labels: leave those options out.")

    if soft:
        table, text_column, labels = read_soft_rows(arguments, arguments.data)
        texts = texts_of(table, text_column)
    else:
        table, text_column, label_column = read_rows(arguments, Path(arguments.data), True)
        assert label_column is not None  # was needed
        say("data", describe_table(table, text_column, label_column))
        texts, labels = texts_of(table, text_column), read_labels(arguments, table, label_column)
    if arguments.valid is None:
        texts, valid_texts, labels, valid_labels = hold_out(texts, labels, arguments.seed, parts=10)
    elif soft:
        table, _, valid_labels = read_soft_rows(arguments, arguments.valid, text_column)
        valid_texts = texts_of(table, text_column)
    else:
        assert label_column is not None
        _, valid_texts, valid_labels = read_test_rows(
            arguments, arguments.valid, text_column, label_column, labels
        )
    say("train", f"{len(texts):,} rows")
    say("valid", f"{len(valid_texts):,} rows{'' if arguments.valid else ', one of ten'}")
    name, _ = encoder_name(arguments)
    files = find_encoder(name, arguments.revision, local_files_only=arguments.offline)
    done = finetune(
        files,
        texts,
        labels,
        valid_texts,
        valid_labels,
        out,
        recipe,
        clean=arguments.clean,
        on_epoch=lambda epoch: say(f"epoch {epoch['epoch']}", of_epoch(epoch)),
        progress=sys.stderr.isatty(),
    )
    if done.skipped:
        say("before", "the same training was done already")
    say("kept", f"epoch {done.metrics['epoch']}: {of_epoch(done.metrics)}")
    if not done.skipped:
        say("in all", f"{done.seconds:.1f} s")
    say("written", f"{out}: {', '.join(sorted(f.name for f in out.iterdir() if f.is_file()))}")
    clean = " --clean" if arguments.clean else ""
    say("next", f"pipeline.py --data {arguments.data} --test OTHER_ROWS --model {out}{clean}")
