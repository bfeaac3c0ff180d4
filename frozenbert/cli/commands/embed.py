"""Write the vectors of a table of texts into a file; or of many tables, on many machines."""

from __future__ import annotations

import argparse
import contextlib
import glob
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ...errors import InputError, TruncationWarning
from ..arguments import (
    add_cache,
    add_cluster,
    add_debug,
    add_encoder,
    add_limit,
    add_streams,
    add_table,
)

if TYPE_CHECKING:
    from ...bulk.stream import CheckedTable, EmbedResult
    from ...embed import DistilBertVectorizer
    from ..options import EncoderSettings

__all__ = ["add_arguments", "run"]

FIRST_ROWS = 1000  # of the table: `precision="auto"` takes its sample from them


class _Columns(TypedDict):
    """How each table is read, for `validate` and `embed_partition`."""

    header: bool | None
    text_column: str | None
    label_column: str | list[str] | None
    delimiter: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE",
        help="table of texts; or a pattern for several: 'in/*.csv'; -: standard input, see "
        "--format",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help=".npy: float32, one row for each text; .parquet: the rows with their vectors; "
        "for several tables or on a cluster: a folder for one .parquet file each",
    )
    add_limit(parser)
    add_debug(parser)
    add_table(parser)
    add_streams(parser, what="standard input")
    add_encoder(parser)
    add_cache(parser)
    add_cluster(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the vectors of a table, or of many."""
    from ...bulk.stream import FORMATS
    from ..streams import check_formats, is_stdin, is_stdout

    if is_stdout(arguments.out):
        raise InputError(
            "vectors are written to files alone: name a .npy or a .parquet.",
            parameter="out",
            value=arguments.out,
        )
    check_formats(arguments)
    out = Path(arguments.out)
    paths = _tables(arguments.data)
    is_file = out.suffix.lower() in FORMATS
    if is_stdin(arguments.data) and not is_file:
        raise InputError(
            f"standard input is one table, whose vectors need a file that ends in "
            f"{' or '.join(FORMATS)}.",
            parameter="out",
            value=out,
        )
    if is_stdin(arguments.data) and (arguments.workers or arguments.scheduler):
        raise InputError(
            "a cluster reads files, and not standard input.",
            parameter="data",
            value=arguments.data,
        )
    if paths or arguments.workers or arguments.scheduler or (out.is_dir() and not is_file):
        _embed_many(arguments, paths or [Path(arguments.data)], out)
    elif is_file:
        _embed_one(arguments, out)
    else:
        raise InputError(
            f"the vectors of one table need a file whose name ends in {' or '.join(FORMATS)}; "
            f"those of several, as in --data 'in/*.csv', need a folder.",
            parameter="out",
            value=out,
        )


def _tables(data: str) -> list[Path] | None:
    """Return the tables that a pattern names, or None if it names one file.

    Raises
    ------
    InputError
        If there is no such file.
    """
    from ..streams import is_stdin

    if is_stdin(data):
        return None
    if Path(data).is_dir():
        raise InputError(
            f"is a folder; name its tables by a pattern, in quotes: "
            f"'{Path(data) / '*'}{_usual_ending(Path(data))}'.",
            parameter="data",
            value=data,
        )
    if Path(data).exists():
        return None
    if not glob.has_magic(data):
        raise InputError("there is no such file.", parameter="data", value=data)
    paths = sorted(Path(name) for name in glob.glob(data, recursive=True))
    if not paths:
        raise InputError("no file has such a name.", parameter="data", value=data)
    return paths


def _usual_ending(folder: Path) -> str:
    """Return the ending that most tables of a folder have, or ".csv" if it has none."""
    from ...tables.table import table_format

    endings = Counter[str]()
    for path in folder.iterdir():
        with contextlib.suppress(InputError):
            table_format(path)
            packed = path.suffix.lower() == ".gz"
            endings["".join(path.suffixes[-2:] if packed else path.suffixes[-1:])] += 1
    return endings.most_common(1)[0][0] if endings else ".csv"


def _columns(arguments: argparse.Namespace) -> _Columns:
    from ..options import label_columns

    return {
        "header": arguments.header,
        "text_column": arguments.text_column,
        "label_column": label_columns(arguments),
        "delimiter": arguments.delimiter,
    }


def _embed_one(arguments: argparse.Namespace, out: Path) -> None:
    from ...bulk.stream import embed_table, validate
    from ...embed import DistilBertVectorizer
    from ..options import check_output, encoder_settings
    from ..output import describe_speed, describe_table, say, say_encoder
    from ..streams import open_data

    is_array, beside = out.suffix.lower() == ".npy", out.with_suffix(".json")
    check_output(arguments, "out", out, *([beside] if is_array else []))
    if is_array and beside.exists() and not out.exists():
        raise InputError(
            f"{beside}, which is written beside it, already exists and does not belong to this "
            f"output; name another file.",
            parameter="out",
            value=out,
        )
    source = validate(
        open_data(arguments),
        limit=arguments.limit,
        for_parquet=not is_array,
        **_columns(arguments),
    )
    say("data", describe_table(source.first, source.text_column, None, source.n_rows))
    settings, notice = encoder_settings(arguments)
    vectorizer = DistilBertVectorizer(**settings)
    _fit(vectorizer, source)
    say_encoder(vectorizer)
    written = embed_table(vectorizer, source, out, {"notice": notice})
    say("time", describe_speed(written.n_texts, written.seconds))
    shape = (written.n_texts, written.n_features)
    say("written", f"{out}: float32 {shape}{f'; {beside.name}' if is_array else ''}")


def _fit(vectorizer: DistilBertVectorizer, table: CheckedTable | None) -> None:
    """Fit without texts, or for `precision="auto"` on the first rows of a table."""
    from ...tables.cells import texts_of

    if vectorizer.precision != "auto" or table is None:
        vectorizer.fit([""])
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # warned of for all texts
        vectorizer.fit(texts_of(table.first.head(FIRST_ROWS), table.text_column))


def _embed_many(arguments: argparse.Namespace, paths: list[Path], out: Path) -> None:
    """Write one parquet file for each table; a second run continues where this one stops."""
    from ...bulk.stream import FORMATS, partition_targets, validate
    from ...embed import DistilBertVectorizer
    from ...encoders.remote.remote_encoder import is_remote
    from ...utils.files import check_can_write
    from ..options import encoder_settings
    from ..output import describe_speed, say, say_encoder, warn

    if out.is_file() or out.suffix.lower() in FORMATS:
        raise InputError(
            "the vectors of several tables, or from a cluster, need a folder.",
            parameter="out",
            value=out,
        )
    if arguments.limit is not None:
        raise InputError("requires a single table and no cluster.", parameter="limit")
    # Absolute, because a worker has another working directory.
    targets = partition_targets([path.absolute() for path in paths], out.absolute())
    check_can_write(out / "x")
    for path in paths:
        if not path.is_file():
            raise InputError("no such file.", parameter="data", value=path)
    say("data", f"{arguments.data}: {len(paths):,} tables")
    settings, _ = encoder_settings(arguments)
    on_cluster = bool(arguments.workers or arguments.scheduler)
    if on_cluster and is_remote(settings["model_name"]):
        raise InputError(
            "a remote encoder computes on its own machines; leave out the cluster.",
            parameter="encoder",
            value=settings["model_name"],
        )
    if on_cluster:
        _make_absolute(settings, arguments)
    vectorizer = DistilBertVectorizer(**settings, progress=False)
    auto = vectorizer.precision == "auto"
    _fit(vectorizer, validate(paths[0], limit=FIRST_ROWS, **_columns(arguments)) if auto else None)
    say_encoder(vectorizer)
    started = time.perf_counter()
    with _embedded(arguments, vectorizer, targets) as done:
        written, failed = _collect(done, len(targets))
    seconds = time.perf_counter() - started
    new = [w for w in written if not w.skipped]
    if skipped := len(written) - len(new):
        say("skipped", f"{skipped:,} tables that an earlier run finished")
    n_texts = sum(w.n_texts for w in new)
    say("time", describe_speed(n_texts, seconds))
    if on_cluster and (truncated := sum(w.n_truncated for w in written)):
        warn(f"{truncated:,} texts are longer than {vectorizer.max_length_} tokens and were cut.")
    say("written", f"{out}: {len(new):,} parquet files, {n_texts:,} texts")
    _raise_first(failed, len(targets))


def _make_absolute(settings: EncoderSettings, arguments: argparse.Namespace) -> None:
    """Let workers, whose working directory is another one, find the encoder and the cache."""
    if arguments.cache_dir is None:
        settings["cache_dir"] = None  # the default here: tables that are done need none
    elif isinstance(settings["cache_dir"], Path):
        settings["cache_dir"] = settings["cache_dir"].absolute()
    if Path(settings["model_name"]).is_dir():
        settings["model_name"] = str(Path(settings["model_name"]).absolute())


@contextlib.contextmanager
def _embedded(
    arguments: argparse.Namespace, vectorizer: DistilBertVectorizer, targets: Mapping[Path, Path]
) -> Iterator[Iterable[tuple[Path, EmbedResult | Exception]]]:
    """Embed the tables here or on a cluster; yield what became of each."""
    from ...bulk.cluster import cluster, describe_workers, embed_partitions
    from ...bulk.stream import embed_partition
    from ..output import say

    columns = _columns(arguments)
    if not (arguments.workers or arguments.scheduler):
        yield (
            (path, _attempt(partial(embed_partition, vectorizer, path, target, **columns)))
            for path, target in targets.items()
        )
        return
    with cluster(arguments.scheduler, arguments.workers) as client:
        say("cluster", describe_workers(client))
        yield embed_partitions(client, vectorizer, targets, **columns)


def _attempt(function: Callable[[], EmbedResult]) -> EmbedResult | Exception:
    try:
        return function()
    except Exception as error:
        return error


def _collect(
    done: Iterable[tuple[Path, EmbedResult | Exception]], total: int
) -> tuple[list[EmbedResult], dict[Path, Exception]]:
    from tqdm import tqdm

    written: list[EmbedResult] = []
    failed: dict[Path, Exception] = {}
    n_texts = 0
    with tqdm(total=total, desc="Tables", unit=" tables", disable=not sys.stderr.isatty()) as bar:
        for path, result in done:
            if isinstance(result, Exception):
                failed[path] = result
            else:
                written.append(result)
                n_texts += result.n_texts
                bar.set_postfix_str(f"{n_texts:,} texts", refresh=False)
            bar.update()
    return written, failed


def _raise_first(failed: Mapping[Path, Exception], total: int) -> None:
    """Raise the first table's error, after those of the others were printed."""
    if not failed:
        return
    (_, first), *others = failed.items()
    for path, error in others:
        print(f"{path.name}: {error}", file=sys.stderr)
    kind = InputError if isinstance(first, InputError) else RuntimeError
    raise kind(
        f"{len(failed):,} of {total:,} tables failed, the others are done. {first}"
    ) from first
