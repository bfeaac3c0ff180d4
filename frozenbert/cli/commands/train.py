"""Train a model of texts on a table of texts and labels or numbers, evaluate it and save it."""

from __future__ import annotations

import argparse
import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..arguments import (
    add_cache,
    add_clean,
    add_cluster,
    add_debug,
    add_encoder,
    add_label_separator,
    add_limit,
    add_n_jobs,
    add_seed,
    add_table,
    folds,
    parse_c_values,
)

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from ...training import Deadline
    from ..options import EncoderSettings, Rows

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--data", required=True, metavar="FILE", help="table of texts and labels")
    parser.add_argument(
        "--test",
        metavar="FILE",
        help="table to evaluate on; default: a stratified quarter of --data",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="where the model goes; default: artifacts/NAME of --data"
    )
    add_limit(parser)
    add_clean(parser)
    add_seed(parser)
    add_n_jobs(parser)
    parser.add_argument(
        "--title",
        metavar="TEXT",
        help="what the model is called in its report and on the page of `serve`; default: the "
        "name of --data, and of the folder",
    )
    parser.add_argument("--no-examples", action="store_true", help="write no texts into the report")
    add_debug(parser)
    _add_classifier(parser)
    add_table(parser, columns=True)
    add_encoder(parser)
    add_cache(parser)
    add_cluster(parser)


def _add_classifier(parser: argparse.ArgumentParser) -> None:
    head = parser.add_argument_group("model")
    _add_recipe(head)
    head.add_argument(
        "--search",
        choices=("head", "features"),
        default="auto",
        help="what cross-validation chooses: C alone (head), or also layers and pooling (features)",
    )
    head.add_argument(
        "--with-tfidf",
        action=argparse.BooleanOptionalAction,
        default="auto",
        help="add TF-IDF of words and word pairs; default: if it helps",
    )
    head.add_argument(
        "--calibrate",
        choices=("none", "sigmoid", "isotonic"),
        default="auto",
        help="calibrate the probabilities on out-of-fold predictions; default: if it helps",
    )
    head.add_argument(
        "--class-weight",
        choices=("none", "balanced"),
        default="auto",
        help="weight rows so that all classes count the same; default: if the classes are "
        "unbalanced and it helps",
    )
    head.add_argument(
        "--scoring",
        metavar="NAME",
        default="auto",
        help="score that decides. Regression: r2 (default), mae, spearman. Ordinal: "
        "kappa_and_mae (default), quadratic_kappa, mae, accuracy. Classification: a "
        "scikit-learn scorer; default: average precision if a text has "
        "several labels; with the recipe auto, macro F1 if the largest class has over 5 times "
        "the rows of the smallest; else accuracy",
    )
    head.add_argument(
        "--cv",
        type=folds,
        metavar="FOLDS",
        help="folds of the search; default: 5; with the recipe auto, fewer if a class has fewer "
        "rows, and 3 of more than 20,000 rows",
    )
    head.add_argument(
        "--C",
        type=parse_c_values,
        metavar="VALUES",
        help="values to try, separated by commas; default: 20 from 1e-5 to 10, or 7 if a text has "
        "several labels",
    )
    head.add_argument(
        "--alpha",
        type=parse_c_values,
        metavar="VALUES",
        help="of a regression or ordinal model: strengths of regularisation to try; default: 13 "
        "from 1 to 1e6",
    )
    add_label_separator(head)


def _add_recipe(head: argparse._ArgumentGroup) -> None:
    head.add_argument(
        "--task",
        choices=("auto", "classification", "regression", "ordinal"),
        default="auto",
        help="auto (default): regression of numbers, classification of anything else and of up to "
        "20 distinct whole numbers; ordinal: grades in an order, such as 1 to 5 stars",
    )
    head.add_argument(
        "--recipe",
        choices=("auto", "plain"),
        default="auto",
        help="auto (default): out-of-fold scores of the training rows decide what the options "
        "below leave open; plain: one layer, and a logistic regression with a search for C",
    )
    head.add_argument(
        "--budget",
        metavar="TIME",
        help="spend up to this time in all on better answers, such as 15m or 2h: further steps, "
        "each kept if it is better out of fold by more than chance; a killed command goes on "
        "when it is repeated",
    )
    head.add_argument(
        "--unlabelled",
        metavar="FILE",
        help="with --budget: table of more texts of the same kind, from which document vectors are "
        "learned; those in the test rows are removed",
    )


def run(arguments: argparse.Namespace) -> None:
    """Train, evaluate and save a classifier; print its figures."""
    from ...training import check_classes, save_training, train, train_columns, train_numbers
    from ..options import encoder_settings
    from ..output import (
        count,
        describe_files,
        describe_numbers,
        describe_table,
        print_columns,
        print_step,
        print_training,
        say,
    )
    from ..streams import check_exists

    started = time.perf_counter()
    deadline = _deadline(arguments)
    check_exists(arguments, "data", "test", "unlabelled")
    out = _folder(arguments)
    _title(arguments)
    rows, left_out = _read_rows(arguments)
    say("data", describe_table(rows.table, rows.text_column, rows.label_column))
    if rows.kinds is not None:
        print_columns(rows.kinds, left_out)
    source = {
        **_file(arguments.data),
        "text_column": rows.text_column,
        "label_column": rows.label_column,
        **({} if rows.kinds is None else {"columns": dict(rows.kinds)}),
    }
    _say_task(arguments, rows)
    rows, test_rows, test = _split(arguments, rows)
    if rows.task == "classification":
        check_classes(rows.labels, _least_folds(arguments))
    target = describe_numbers(rows.labels) if rows.task == "regression" else count(rows.labels)
    say("train", f"{len(rows.texts):,} rows; {target}")
    if arguments.test is None:
        say("test", f"{len(test_rows.texts):,} rows, {test['description']}")
    else:
        say("test", describe_table(test_rows.table, test_rows.text_column, test_rows.label_column))
    spending: dict[str, Any] = {}
    if deadline is not None:
        texts = _unlabelled(arguments, rows)
        spending = {"budget": deadline, "folder": out, "unlabelled": texts, "on_step": print_step}
    settings, notice = encoder_settings(arguments)
    model = _make_model(arguments, settings, rows)
    reading = time.perf_counter() - started
    examples, lines = not arguments.no_examples, (rows.table.lines, test_rows.table.lines)
    both = (rows.texts, rows.labels, test_rows.texts, test_rows.labels)
    with _searching(arguments):
        if rows.frame is not None:
            frames = (rows.frame, rows.labels, test_rows.frame, test_rows.labels)
            training = train_columns(model, *frames, examples=examples, numbers=lines)
        elif rows.task == "classification":
            training = train(model, *both, examples=examples, numbers=lines, **spending)
        else:
            training = train_numbers(model, *both, examples=examples, numbers=lines)
    training.seconds = {"reading": reading, **training.seconds}
    # Saved before it is printed: whoever reads our output may close the pipe.
    facts = {"notice": notice, "training": source, "test": test, "name": _title(arguments)}
    save_training(training, out, facts)
    print_training(training)
    say("in all", f"{time.perf_counter() - started:.1f} s")
    say("written", describe_files(out))


def _title(arguments: argparse.Namespace) -> str | None:
    if arguments.title is not None and not arguments.title.strip():
        raise InputError("is empty; give a name, or leave it out.", parameter="title")
    return None if arguments.title is None else " ".join(arguments.title.split())


def _read_rows(arguments: argparse.Namespace) -> tuple[Rows, dict[str, str]]:
    """Return the rows of `--data`, and the columns that are left out."""
    from ..options import read_columns, read_rows

    several = arguments.text_column is not None and len(arguments.text_column) > 1
    others = ("number_column", "category_column", "date_column", "columns")
    if several or any(getattr(arguments, name) is not None for name in others):
        return read_columns(arguments, arguments.data)
    if arguments.text_column is not None:
        (arguments.text_column,) = arguments.text_column
    return read_rows(arguments, arguments.data), {}


# Options of classifiers alone, and their defaults.
_OF_CLASSIFIERS = {
    "calibrate": "auto",
    "class_weight": "auto",
    "C": None,
    "budget": None,
    "workers": None,
    "scheduler": None,
}


def _make_model(arguments: argparse.Namespace, settings: EncoderSettings, rows: Rows) -> Pipeline:
    """Return the unfitted model; raise `InputError` if an option does not suit the task."""
    import numpy as np

    from ...pipeline import make_text_classifier, make_text_regressor

    if rows.task == "classification":
        if arguments.alpha is not None:
            raise InputError(
                "is for a regression or ordinal model; a classifier has --C.", parameter="alpha"
            )
        return make_text_classifier(
            **settings,
            recipe=arguments.recipe,
            search=arguments.search,
            with_tfidf=arguments.with_tfidf,
            clean=arguments.clean,
            multi_label=np.ndim(rows.labels) == 2,
            calibrate=_or_none(arguments.calibrate),
            class_weight=_or_none(arguments.class_weight),
            scoring=arguments.scoring,
            C=arguments.C,
            cv="auto" if arguments.cv is None else arguments.cv,
            random_state=arguments.seed,
            n_jobs=arguments.n_jobs,
            columns=rows.kinds,
        )
    for name, default in _OF_CLASSIFIERS.items():
        if getattr(arguments, name, default) != default:
            raise InputError(
                f"is for classifiers, and the task is {rows.task}; leave it out.",
                parameter=name,
                value=getattr(arguments, name),
            )
    return make_text_regressor(
        **settings,
        task=rows.task,
        recipe=arguments.recipe,
        search=arguments.search,
        with_tfidf=arguments.with_tfidf,
        clean=arguments.clean,
        alpha=arguments.alpha,
        scoring=arguments.scoring,
        cv="auto" if arguments.cv is None else arguments.cv,
        random_state=arguments.seed,
        columns=rows.kinds,
    )


def _say_task(arguments: argparse.Namespace, rows: Rows) -> None:
    """Print what the target was taken for, where it is made of numbers."""
    import numpy as np

    from ..output import say

    if arguments.task != "auto" or not isinstance(rows.labels, np.ndarray):
        return
    n = len(np.unique(rows.labels)) if rows.labels.dtype.kind in "if" else 0
    if rows.task == "regression":
        say("task", f"regression: {n:,} distinct numbers")
    elif n > 2:
        say(
            "task",
            f"classification: {n} whole numbers are classes; if they are grades in an order, use "
            f"--task ordinal",
        )


def _deadline(arguments: argparse.Namespace) -> Deadline | None:
    """Return the end of the budget, which counts from the start of the process."""
    from ...training.budget.clock import Deadline, process_started

    if arguments.budget is None:
        if arguments.unlabelled is not None:
            raise InputError(
                "requires --budget.", parameter="unlabelled", value=arguments.unlabelled
            )
        return None
    deadline = Deadline.of(arguments.budget, process_started())
    if arguments.recipe == "plain":
        raise InputError(
            "requires the recipe auto; plain has nothing to decide.",
            parameter="budget",
            value=arguments.budget,
        )
    return deadline


def _unlabelled(arguments: argparse.Namespace, rows: Rows) -> list[str]:
    """Return the texts without labels."""
    from ..options import read_texts
    from ..output import describe_table, say

    if arguments.unlabelled is None:
        return []
    table, column, texts = read_texts(
        arguments, arguments.unlabelled, rows.text_column, rows.label_column
    )
    say("unlabelled", describe_table(table, column))
    return texts


def _or_none(value: str) -> str | None:
    return None if value == "none" else value


def _least_folds(arguments: argparse.Namespace) -> int:
    """Return how many rows each class needs."""
    if arguments.cv is not None:
        return int(arguments.cv)
    return 2 if arguments.recipe == "auto" else 5


def _folder(arguments: argparse.Namespace) -> Path:
    """Return the folder to write; raise `InputError` if that is not possible."""
    from ...utils.files import check_can_write

    data = Path(arguments.data)
    name = re.sub(r"(\.[^.]+)?(\.gz)?$", "", data.name, count=1, flags=re.IGNORECASE)
    out = Path(arguments.out or Path("artifacts") / name)
    if out.exists() and not out.is_dir():
        raise InputError("is a file; name a folder.", parameter="out", value=out)
    check_can_write(out / "model.joblib")
    return out


def _split(arguments: argparse.Namespace, rows: Rows) -> tuple[Rows, Rows, dict[str, str]]:
    """Return the rows to train on, those to test on, and what `model.json` says of the latter."""
    import numpy as np

    from ...training import hold_out, hold_out_numbers
    from ..options import read_test_rows

    if arguments.test is not None:
        test_rows = read_test_rows(arguments, arguments.test, rows)
        described = f"all of {Path(arguments.test).name}"
        return rows, test_rows, {"description": described, **_file(arguments.test)}
    places = [str(place) for place in range(len(rows.texts))]
    if isinstance(rows.labels, np.ndarray) and rows.task != "classification":
        parts = hold_out_numbers(places, rows.labels, arguments.seed, task=rows.task)
    else:
        parts = hold_out(places, rows.labels, arguments.seed)
    left, held, labels, test_labels = parts
    name = Path(arguments.data).name
    drawn = "random" if rows.task == "regression" else "stratified"
    return (
        rows.take([int(place) for place in left], labels),
        rows.take([int(place) for place in held], test_labels),
        {"description": f"a {drawn} quarter of {name} (seed {arguments.seed})"},
    )


def _file(path: str) -> dict[str, str]:
    from ...utils.files import sha256_of_file

    return {"file": Path(path).name, "sha256": sha256_of_file(path)}


@contextlib.contextmanager
def _searching(arguments: argparse.Namespace) -> Iterator[None]:
    """Let the search run on a cluster, if one is asked for."""
    if not (arguments.workers or arguments.scheduler):
        yield
        return
    from ...bulk.cluster import cluster, describe_workers, searched_on
    from ..output import say

    with cluster(arguments.scheduler, arguments.workers) as client:
        say("cluster", describe_workers(client))
        with searched_on(client):
            yield
