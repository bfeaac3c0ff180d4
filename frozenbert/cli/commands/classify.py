"""Label new texts with a trained classifier.

Loading a .joblib file runs the code in it; loading a .skops file does not.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ...errors import InputError
from ...utils.extras import require
from ..arguments import add_cache, add_debug, add_model, add_streams, add_table

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--data", metavar="FILE", help="table of texts to label; -: standard input, see --format"
    )
    what.add_argument(
        "--text",
        action="append",
        help="a text; its label is printed; given several times: a column for each",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="table to write: the rows of --data with their labels; -: standard output, with "
        "everything else on stderr",
    )
    add_debug(parser)
    add_model(parser)
    add_table(parser)
    add_streams(parser, what="standard input and output")
    add_cache(parser)


def run(arguments: argparse.Namespace) -> None:
    """Label the rows of a table, or texts."""
    from ...persistence.models import load_model
    from ..options import cache_dir, move_here
    from ..streams import check_formats, rows_on_stdout

    _check(arguments)
    check_formats(arguments)
    with rows_on_stdout(arguments):
        model = load_model(arguments.model)
        model = getattr(model, "best_estimator_", model)  # of a search over the whole Pipeline
        move_here(model, arguments, cache_dir(arguments))
        if arguments.text is not None:
            _label_texts(model, arguments.text)
        else:
            _label_table(model, arguments)


def _check(arguments: argparse.Namespace) -> None:
    """Raise `InputError` if the input does not exist, or the output cannot be written."""
    from ...tables.table import table_format
    from ..options import check_output
    from ..streams import check_exists, is_stdin, is_stdout

    check_exists(arguments, "data")
    if arguments.data is not None and arguments.out is None:
        raise InputError("name the file to write; --data requires it.", parameter="out")
    if arguments.out is not None and arguments.data is None:
        raise InputError("requires --data; the label of --text is printed.", parameter="out")
    streams = ((arguments.data, is_stdin), (arguments.out, is_stdout))
    files = [name for name, is_stream in streams if name is not None and not is_stream(name)]
    if "parquet" in [table_format(name) for name in files]:
        require("pandas", "pyarrow", purpose="a parquet file")
    if arguments.out is not None and not is_stdout(arguments.out):
        check_output(arguments, "out")


def _label_texts(model: BaseEstimator, texts: list[str]) -> None:
    """Print the labels and probabilities, a column for each text."""
    from ...pipeline import predict, read_columns
    from ...reports.metrics import short

    if columns := read_columns(model):
        raise InputError(
            f"the model reads the columns {', '.join(columns)}; label a table that has them.",
            parameter="text",
        )
    for name, column in predict(model, texts).items():
        is_float = column.dtype.kind == "f"  # a probability, or the answer of a regression
        cells = [f"{x:.4f}" if is_float else short(x) for x in column]
        print(short(name), *cells, sep="\t")


def _label_table(model: BaseEstimator, arguments: argparse.Namespace) -> None:
    from ...pipeline import column_names, predict, read_columns
    from ...tables.table import table_format
    from ...tables.writing import write_table
    from ..options import label_columns, read_table_of, read_texts
    from ..output import count, describe_numbers, describe_table, say
    from ..streams import is_stdout, open_data, stdout_format, write_stdout

    source = open_data(arguments)
    on_stdout = is_stdout(arguments.out)
    kind = stdout_format(arguments, source) if on_stdout else table_format(arguments.out)
    if columns := read_columns(model):
        table = read_table_of(arguments, source, columns)
        text_column, texts = columns[0], table.frame
    else:
        table, text_column, texts = read_texts(
            arguments, source, _column_trained_on(arguments.model), label_columns(arguments)
        )
    for name in column_names(model):
        if name in table.columns:
            raise InputError(
                f"{source}: column {name!r} exists already, and the predictions would "
                f"overwrite it; rename it."
            )
    found = predict(model, texts)
    cells = {name: table.columns[name] for name in table.columns} | found
    # The tabs of a tsv belong to its format, and not into a csv.
    delimiter = table.delimiter if table_format(table.path) == "csv" else None
    say("data", describe_table(table, text_column))
    flags = {name: flags for name, flags in found.items() if name.startswith("prediction_")}
    if not flags and not hasattr(model, "classes_"):
        say("numbers", describe_numbers(found["prediction"]))
    else:
        say("labels", count(flags or found["prediction"]))
    if on_stdout:
        write_stdout(cells, kind, delimiter)
        return
    write_table(cells, arguments.out, delimiter=delimiter)
    say("written", str(arguments.out))


def _column_trained_on(model: str) -> str | None:
    """Return the column of texts that a model was trained on, if its `model.json` names it."""
    from ...reports.sidecar import read_sidecar

    training = read_sidecar(model).get("training")
    name = training.get("text_column") if isinstance(training, dict) else None
    return name if isinstance(name, str) else None
