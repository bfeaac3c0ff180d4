"""Train a text classifier on a file of texts and labels, measure it and save it."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..arguments import (
    CLEAN,
    add_cluster,
    add_encoder,
    add_table,
    folds,
    jobs,
    parse_c_values,
    positive,
    seed,
)

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--data", required=True, metavar="FILE", help="texts and labels")
    parser.add_argument(
        "--test", metavar="FILE", help="rows to measure on; without it a stratified quarter"
    )
    parser.add_argument("--out", metavar="FOLDER", help="default: artifacts/NAME of the data file")
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N rows only")
    parser.add_argument("--cv", type=folds, default=5, metavar="FOLDS", help="default: 5")
    parser.add_argument(
        "--C",
        type=parse_c_values,
        metavar="VALUES",
        help="values to try, separated by commas; default: 20 from 1e-5 to 10 (many labels: 7)",
    )
    parser.add_argument(
        "--seed", type=seed, default=0, help="of the split and the folds; default 0"
    )
    parser.add_argument("--n-jobs", type=jobs, metavar="N", help="processes for the search")
    parser.add_argument(
        "--no-examples", action="store_true", help="no text of a row stands in the report"
    )
    parser.add_argument("--clean", action="store_true", help=CLEAN)
    head = parser.add_argument_group("classifier")
    head.add_argument(
        "--search",
        choices=("head", "features"),
        default="head",
        help="choose C alone (default), or layers and pooling too",
    )
    head.add_argument(
        "--with-tfidf", action="store_true", help="words and pairs of words beside the vectors"
    )
    head.add_argument(
        "--calibrate",
        choices=("sigmoid", "isotonic"),
        help="map probabilities, out of fold, to shares of rows",
    )
    head.add_argument(
        "--class-weight", choices=("balanced",), help="rare classes count as much as frequent ones"
    )
    head.add_argument(
        "--scoring",
        metavar="NAME",
        help="a scikit-learn scorer; default: accuracy, and average precision of many labels",
    )
    head.add_argument(
        "--label-separator",
        metavar="SEP",
        help="the label column holds lists such as a|b: any number of labels a text",
    )
    add_table(parser)
    add_encoder(parser)
    add_cluster(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train, measure and save; print what came out."""
    import numpy as np

    from ...bulk.cluster import cluster, describe_workers, searched_on
    from ...finetune.finetuning import n_trained_on
    from ...pipeline import make_text_classifier
    from ...tables.columns import texts_of
    from ...training import check_classes, hold_out, save_training, train
    from ...utils.cleaning import clean_texts
    from ...utils.files import check_can_write, sha256_of_file
    from ..options import encoder_settings, read_labels, read_rows, read_test_rows
    from ..output import count, describe_table, print_training, say

    started = time.perf_counter()
    data = Path(arguments.data)
    name = re.sub(r"(\.[^.]+)?(\.gz)?$", "", data.name, count=1, flags=re.IGNORECASE)
    out = Path(arguments.out or Path("artifacts") / name)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; a folder's name is needed.")
    check_can_write(out / "model.joblib")

    table, text_column, label_column = read_rows(arguments, data, need_label=True)
    assert label_column is not None  # was needed
    texts = texts_of(table, text_column)
    labels = read_labels(arguments, table, label_column)
    source = {
        "file": data.name,
        "sha256": sha256_of_file(data),
        "text_column": text_column,
        "label_column": label_column,
    }
    say("data", describe_table(table, text_column, label_column))
    if arguments.test is None:
        texts, test_texts, labels, test_labels = hold_out(texts, labels, arguments.seed)
        test: dict[str, Any] = {
            "description": f"a stratified quarter of {data.name} (seed {arguments.seed})"
        }
        test_described = f"{len(test_texts):,} rows, {test['description']}"
    else:
        table, test_texts, test_labels = read_test_rows(
            arguments, arguments.test, text_column, label_column, labels
        )
        test = {
            "description": f"all of {Path(arguments.test).name}",
            "file": Path(arguments.test).name,
            "sha256": sha256_of_file(arguments.test),
        }
        test_described = describe_table(table, text_column, label_column)
    check_classes(labels, arguments.cv)
    say("train", f"{len(texts):,} rows; {count(labels)}")
    say("test", test_described)
    if arguments.model is not None:
        seen = clean_texts(test_texts) if arguments.clean else test_texts
        if trained_on := n_trained_on(arguments.model, seen):
            test["n_trained_on"] = trained_on
            print(
                f"warning: the encoder was fine-tuned on {trained_on:,} of the {len(seen):,} test "
                f"rows: the figures say nothing about new texts. Measure on others, with --test.",
                file=sys.stderr,
            )

    settings, notice = encoder_settings(arguments)
    model = make_text_classifier(
        **settings,
        search=arguments.search,
        with_tfidf=arguments.with_tfidf,
        clean=arguments.clean,
        multi_label=np.ndim(labels) == 2,
        calibrate=arguments.calibrate,
        class_weight=arguments.class_weight,
        scoring=arguments.scoring,
        C=arguments.C,
        cv=arguments.cv,
        random_state=arguments.seed,
        n_jobs=arguments.n_jobs,
    )
    reading = time.perf_counter() - started
    with contextlib.ExitStack() as stack:
        if arguments.workers or arguments.scheduler:
            client = stack.enter_context(cluster(arguments.scheduler, arguments.workers))
            say("cluster", describe_workers(client))
            stack.enter_context(searched_on(client))
        training = train(
            model, texts, labels, test_texts, test_labels, examples=not arguments.no_examples
        )
    training.seconds = {"reading": reading, **training.seconds}
    # Saved before it is shown: whoever reads our output may be gone by now.
    save_training(training, out, {"notice": notice, "training": source, "test": test})
    print_training(training)
    say("in all", f"{time.perf_counter() - started:.1f} s")
    say("written", f"{out}: {', '.join(sorted(f.name for f in out.iterdir() if f.is_file()))}")
