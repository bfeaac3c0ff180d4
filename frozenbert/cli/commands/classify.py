"""Label new texts with a saved model.

Loading a joblib file runs code, and a .skops file none.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..arguments import add_encoder, add_table

if TYPE_CHECKING:
    from ...embed import DistilBertVectorizer

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", metavar="FILE", help="texts to label")
    what.add_argument("--text", help="a single text; the answer is printed")
    parser.add_argument("--out", metavar="FILE", help="where the labelled rows go (with --data)")
    parser.add_argument(
        "--encoder", metavar="NAME", help="where the model's encoder is now: a folder or a name"
    )
    add_table(parser)
    add_encoder(parser, "model.joblib or model.skops, or their folder", model_required=True)


def run(arguments: argparse.Namespace) -> None:
    """Label the rows of a table, or one text."""
    import pandas as pd

    from ...persistence import load_model
    from ...pipeline import column_names, predict
    from ...reports.metrics import short
    from ...tables.columns import find_columns, texts_of
    from ...tables.reading import read_table, table_format, write_table
    from ..options import check_can_write_file, label_columns, vectorizers
    from ..output import count, describe_table, say

    if arguments.data is not None and arguments.out is None:
        raise InputError("--out is missing: say where the labelled rows of --data are to go.")
    if arguments.out is not None:
        if arguments.data is None:
            raise InputError("--out goes with --data; the answer to --text is printed.")
        table_format(arguments.out)
        check_can_write_file(Path(arguments.out))
    model = load_model(arguments.model)
    model = getattr(model, "best_estimator_", model)  # of a search over the whole Pipeline
    for vectorizer in vectorizers(model, arguments.encoder):
        _prepare(vectorizer, arguments)
    if arguments.text is not None:
        for name, column in predict(model, [arguments.text]).items():
            value = f"{column[0]:.4f}" if name.startswith("proba_") else short(column[0])
            print(f"{short(name)}\t{value}")
        return

    text_column = arguments.text_column or _column_trained_on(arguments.model)
    expected = [text_column] if text_column else []
    table = read_table(arguments.data, header=arguments.header, columns=expected)
    if text_column not in table.frame.columns:
        text_column = arguments.text_column
    text_column, _ = find_columns(table, text_column, label_columns(arguments), need_label=False)
    texts = texts_of(table, text_column)
    for name in column_names(model):
        if name in table.frame.columns:
            raise InputError(
                f"{arguments.data} has a column {name!r} already, which the predictions would "
                f"overwrite: rename it."
            )
    found = pd.DataFrame(predict(model, texts))
    write_table(pd.concat([table.frame, found], axis="columns"), arguments.out)
    say("data", describe_table(table, text_column, None))
    answers = [name for name in found.columns if name.startswith("prediction_")]
    say("found", count(found[answers] if answers else found["prediction"].to_numpy()))
    say("written", str(arguments.out))


def _column_trained_on(model: str) -> str | None:
    from ...reports.sidecar import read_sidecar

    training = read_sidecar(model).get("training")
    name = training.get("text_column") if isinstance(training, dict) else None
    return name if isinstance(name, str) else None


def _prepare(embed: DistilBertVectorizer, arguments: argparse.Namespace) -> None:
    """Give a loaded model this machine's cache and device; its vectors' shape is settled."""
    from ..options import cache_dir

    settled = {
        "revision": embed.encoder_revision_,
        "pooling": embed.pooling_,
        "layers": embed.layers_,
        "max_length": embed.max_length_,
        "long_text": embed.long_text,
        "precision": embed.precision,
    }
    for name, value in settled.items():
        asked = getattr(arguments, name)
        # What the model's own parameter says, such as -1 for the last layer, is as good.
        same = (_tuple(value), _tuple(getattr(embed, name)))
        if asked is not None and _tuple(asked) not in same:
            raise InputError(
                f"--{name.replace('_', '-')} {','.join(map(str, _tuple(asked)))}: this model was "
                f"trained with {','.join(map(str, _tuple(value)))}; leave the option out, or train "
                f"another model."
            )
    embed.set_params(cache_dir=cache_dir(arguments), local_files_only=arguments.offline)
    for name in ("backend", "device"):
        if getattr(arguments, name) is not None:
            embed.set_params(**{name: getattr(arguments, name)})


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
