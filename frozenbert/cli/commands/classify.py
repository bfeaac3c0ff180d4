"""Label new texts with a trained classifier.

Loading a .joblib file runs the code in it; loading a .skops file does not.
"""

from __future__ import annotations

import argparse

from ...errors import InputError
from ...utils.extras import require
from ..arguments import add_cache, add_debug, add_model, add_table

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", metavar="FILE", help="table of texts to label")
    what.add_argument("--text", help="a single text; its label is printed")
    parser.add_argument(
        "--out", metavar="FILE", help="table to write: the rows of --data with their labels"
    )
    add_debug(parser)
    add_model(parser)
    add_table(parser)
    add_cache(parser)


def run(arguments: argparse.Namespace) -> None:
    """Label the rows of a table, or one text."""
    from ...persistence.models import load_model
    from ...tables.table import table_format
    from ..options import cache_dir, check_output, move_here

    if arguments.data is not None and arguments.out is None:
        raise InputError("name the file to write; --data requires it.", parameter="out")
    if arguments.out is not None:
        if arguments.data is None:
            raise InputError("requires --data; the label of --text is printed.", parameter="out")
        if "parquet" in (table_format(arguments.out), table_format(arguments.data)):
            require("pandas", "pyarrow", purpose="a parquet file")
        check_output(arguments, "out")
    model = load_model(arguments.model)
    model = getattr(model, "best_estimator_", model)  # of a search over the whole Pipeline
    move_here(model, arguments, cache_dir(arguments))
    if arguments.text is not None:
        _label_text(model, arguments.text)
    else:
        _label_table(model, arguments)


def _label_text(model: object, text: str) -> None:
    from ...pipeline import predict
    from ...reports.metrics import short

    for name, column in predict(model, [text]).items():
        value = f"{column[0]:.4f}" if name.startswith("proba_") else short(column[0])
        print(f"{short(name)}\t{value}")


def _label_table(model: object, arguments: argparse.Namespace) -> None:
    from ...pipeline import column_names, predict
    from ...tables.table import table_format
    from ...tables.writing import write_table
    from ..options import label_columns, read_texts
    from ..output import count, describe_table, say

    table, text_column, texts = read_texts(
        arguments, arguments.data, _column_trained_on(arguments.model), label_columns(arguments)
    )
    for name in column_names(model):
        if name in table.columns:
            raise InputError(
                f"{arguments.data}: column {name!r} exists already, and the predictions would "
                f"overwrite it; rename it."
            )
    found = predict(model, texts)
    cells = {name: table.columns[name] for name in table.columns}
    # The tabs of a tsv belong to its format, and not into a csv.
    delimiter = table.delimiter if table_format(table.path) == "csv" else None
    write_table(cells | found, arguments.out, delimiter=delimiter)
    say("data", describe_table(table, text_column))
    flags = {name: flags for name, flags in found.items() if name.startswith("prediction_")}
    say("labels", count(flags or found["prediction"]))
    say("written", str(arguments.out))


def _column_trained_on(model: str) -> str | None:
    """Return the column of texts that a model was trained on, if its `model.json` names it."""
    from ...reports.sidecar import read_sidecar

    training = read_sidecar(model).get("training")
    name = training.get("text_column") if isinstance(training, dict) else None
    return name if isinstance(name, str) else None
