"""Turn a file of texts into a file of vectors, row by row; or many files, on many machines."""

from __future__ import annotations

import argparse
import contextlib
import glob
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..arguments import add_cluster, add_encoder, add_table, positive

if TYPE_CHECKING:
    from ...bulk.stream import Written

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--data", required=True, metavar="FILE", help="texts; or a pattern for several: 'in/*.csv'"
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help=".npy: float32, a row a text; .parquet: the rows with their vectors; "
        "of several tables or from a cluster, a folder of such .parquet files",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N rows only")
    add_table(parser)
    add_encoder(parser)
    add_cluster(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the vectors of a table, or of many."""
    from ...bulk.stream import FORMATS, embed_table, validate
    from ...embed import DistilBertVectorizer
    from ..options import check_can_write_file, encoder_settings
    from ..output import describe_table, pace, say, say_encoder

    out = Path(arguments.out)
    paths = _tables(arguments.data)
    file = out.suffix.lower() in FORMATS
    if paths or arguments.workers or arguments.scheduler or (out.is_dir() and not file):
        _embed_many(arguments, paths or [Path(arguments.data)], out)
        return
    if not file:
        raise InputError(
            f"--out {out}: the vectors of one table go into a file whose name ends in "
            f"{' or '.join(FORMATS)}; those of several, as in --data 'in/*.csv', into a folder."
        )
    array, beside = out.suffix.lower() == ".npy", out.with_suffix(".json")
    for path in (out, beside) if array else (out,):
        check_can_write_file(path)
    if out.exists() and Path(arguments.data).exists() and out.samefile(arguments.data):
        raise InputError(f"--out {out}: is the table itself; name another file.")
    if array and beside.exists() and not out.exists():
        raise InputError(
            f"--out {out}: {beside}, which goes beside it, stands there already and is none of "
            f"its; name another --out."
        )
    source = validate(
        arguments.data,
        limit=arguments.limit,
        for_parquet=not array,
        **_columns(arguments),
    )
    say("data", describe_table(source.first, source.text_column, None, source.n_rows))
    settings, notice = encoder_settings(arguments)
    vectorizer = DistilBertVectorizer(**settings).fit([""])
    say_encoder(vectorizer)
    written = embed_table(vectorizer, source, out, {"notice": notice})
    say("time", pace(written.n_texts, written.seconds))
    shape = (written.n_texts, written.n_features)
    say("written", f"{out}: float32 {shape}{f'; {beside.name}' if array else ''}")


def _embed_many(arguments: argparse.Namespace, paths: list[Path], out: Path) -> None:
    """Write a parquet file for each table, here or on a cluster; what is done stays done."""
    from ...bulk.cluster import cluster, describe_workers, embed_partitions
    from ...bulk.stream import FORMATS, embed_partition, partition_targets
    from ...embed import DistilBertVectorizer
    from ...utils.files import check_can_write
    from ..options import encoder_settings
    from ..output import pace, say, say_encoder

    if out.is_file() or out.suffix.lower() in FORMATS:
        raise InputError(
            f"--out {out}: the vectors of several tables, or from a cluster, go into a folder."
        )
    if arguments.limit is not None:
        raise InputError("--limit: goes with one table and without a cluster.")
    # Absolute: a worker stands elsewhere.
    targets = partition_targets([path.absolute() for path in paths], out.absolute())
    check_can_write(out / "x")
    for path in paths:
        if not path.is_file():
            raise InputError(f"--data {path}: there is no such file.")
    say("data", f"{arguments.data}: {len(paths):,} tables")
    settings, _ = encoder_settings(arguments)
    on_cluster = bool(arguments.workers or arguments.scheduler)
    if on_cluster:
        # A worker stands in another folder. Without a cache a table's vectors are kept when
        # all of it is done.
        if arguments.cache_dir is None:
            settings["cache_dir"] = None
        elif isinstance(settings["cache_dir"], Path):
            settings["cache_dir"] = settings["cache_dir"].absolute()
        if Path(settings["model_name"]).is_dir():
            settings["model_name"] = str(Path(settings["model_name"]).absolute())
    vectorizer = DistilBertVectorizer(**settings, progress=False).fit([""])
    say_encoder(vectorizer)
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        if on_cluster:
            client = stack.enter_context(cluster(arguments.scheduler, arguments.workers))
            say("cluster", describe_workers(client))
            done = embed_partitions(client, vectorizer, targets, **_columns(arguments))
        else:
            done = (
                (path, _attempt(embed_partition, vectorizer, path, target, **_columns(arguments)))
                for path, target in targets.items()
            )
        written, failed = _collect(done, len(targets))
    seconds = time.perf_counter() - started
    new = [w for w in written if not w.skipped]
    if before := len(written) - len(new):
        say("before", f"{before:,} tables were done already")
    n_texts = sum(w.n_texts for w in new)
    say("time", pace(n_texts, seconds))
    if on_cluster and (truncated := sum(w.n_truncated for w in written)):
        print(
            f"warning: {truncated:,} texts are longer than {vectorizer.max_length_} tokens and "
            f"were cut.",
            file=sys.stderr,
        )
    say("written", f"{out}: {len(new):,} parquet files, {n_texts:,} texts")
    if failed:
        for path, error in list(failed.items())[1:]:
            print(f"{path.name}: {error}", file=sys.stderr)
        path, error = next(iter(failed.items()))
        kind = InputError if isinstance(error, InputError) else RuntimeError
        raise kind(
            f"{len(failed):,} of {len(targets):,} tables failed, the others are done. {error}"
        ) from error


def _attempt(function: Callable[..., Written], *arguments: Any, **settings: Any) -> Any:
    """Return what a function returns, or the error it ends with."""
    try:
        return function(*arguments, **settings)
    except Exception as error:
        return error


def _collect(
    done: Iterable[tuple[Path, Written | Exception]], total: int
) -> tuple[list[Written], dict[Path, Exception]]:
    from tqdm import tqdm

    written: list[Written] = []
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


def _tables(data: str) -> list[Path] | None:
    """Return the tables that a pattern names, or None where it names one file."""
    if Path(data).exists() or not glob.has_magic(data):
        return None
    paths = sorted(Path(name) for name in glob.glob(data, recursive=True))
    if not paths:
        raise InputError(f"--data {data}: no file's name is like that.")
    return paths


def _columns(arguments: argparse.Namespace) -> dict[str, Any]:
    from ..options import label_columns

    return {
        "header": arguments.header,
        "text_column": arguments.text_column,
        "label_column": label_columns(arguments),
    }
