"""What the commands do, and what they print."""

from __future__ import annotations

import argparse
import contextlib
import glob
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from ..bulk.cluster import cluster, describe_workers, embed_partitions
from ..bulk.stream import (
    FORMATS,
    EmbedResult,
    embed_partition,
    embed_table,
    partition_targets,
    validate,
)
from ..embed import DistilBertVectorizer
from ..errors import InputError
from ..persistence import SAFE, load_model, safest
from ..pipeline import column_names, predict
from ..reports.comparison import compare_models
from ..reports.metrics import short
from ..reports.sidecar import read_sidecar
from ..tables.cells import texts_of
from ..tables.columns import find_columns
from ..tables.reading import read_table
from ..tables.table import table_format
from ..tables.writing import write_table
from ..utils.files import check_can_write
from ..utils.steps import find_steps
from ..vectors.cache import cache_root
from ..vectors.pruning import Piece, holdings, prune, size_text
from .options import (
    cache_dir,
    check_can_write_file,
    encoder_settings,
    label_columns,
)
from .output import count, describe_table, pace, say, say_encoder
from .training_actions import fewshot, finetune, train

__all__ = ["cache", "classify", "compare", "embed", "fewshot", "finetune", "serve", "train"]


def classify(arguments: argparse.Namespace) -> None:
    """Label the rows of a table, or one text."""
    if arguments.data is not None and arguments.out is None:
        raise InputError("--out is missing: say where the labelled rows of --data are to go.")
    if arguments.out is not None:
        if arguments.data is None:
            raise InputError("--out goes with --data; the answer to --text is printed.")
        table_format(arguments.out)
        check_can_write_file(Path(arguments.out))
    model = load_model(arguments.model)
    model = getattr(model, "best_estimator_", model)  # of a search over the whole Pipeline
    _prepare(model, arguments)
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


def embed(arguments: argparse.Namespace) -> None:
    """Write the vectors of a table, or of many."""
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


def _attempt(function: Callable[..., EmbedResult], *arguments: Any, **settings: Any) -> Any:
    """Return what a function returns, or the error it ends with."""
    try:
        return function(*arguments, **settings)
    except Exception as error:
        return error


def _collect(
    done: Iterable[tuple[Path, EmbedResult | Exception]], total: int
) -> tuple[list[EmbedResult], dict[Path, Exception]]:
    written, failed, n_texts = list[EmbedResult](), dict[Path, Exception](), 0
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
    return {
        "header": arguments.header,
        "text_column": arguments.text_column,
        "label_column": label_columns(arguments),
    }


def compare(arguments: argparse.Namespace) -> None:
    """Print models side by side."""
    print("\n".join(compare_models(arguments.models)))


def serve(arguments: argparse.Namespace) -> None:
    """Serve a model until told to stop."""
    from ..serve.app import make_app
    from ..serve.guard import Limits
    from ..serve.process import bind, host_names, run, token_for
    from ..serve.service import Service

    for name, value in (("--max-body", arguments.max_body), ("--timeout", arguments.timeout)):
        if not value > 0:
            raise InputError(f"{name}: must be above 0.")
    hosts = host_names(arguments.host, arguments.allowed_host)
    token = token_for(arguments.host)
    path = safest(arguments.model)
    with bind(arguments.host, arguments.port) as listening:
        model = load_model(path)
        model = getattr(model, "best_estimator_", model)
        for embed in _vectorizers(model, arguments):
            embed.set_params(
                cache_dir=None if arguments.cache_dir is None else cache_dir(arguments),
                local_files_only=arguments.offline,
                progress=False,
            )
            if arguments.device is not None:
                embed.set_params(device=arguments.device)
            if embed.precision == "bfloat16":
                # It rounds otherwise in other batches; so that no answer depends on the others,
                # each text is one.
                embed.set_params(max_batch_tokens=1)
        predict(model, ["The first answer loads the encoder."])
        service = Service(
            model,
            path,
            Limits(
                body=arguments.max_body,
                texts=arguments.max_texts,
                characters=arguments.max_characters,
                seconds=arguments.timeout,
            ),
            max_waiting=arguments.max_waiting,
            token=token,
            hosts=hosts,
        )
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        say("model", str(path) + ("" if path.suffix == SAFE else " (no safe form is there)"))
        say("serving", f"http://{host}:{listening.getsockname()[1]} (Ctrl-C stops)")
        sys.stdout.flush()
        run(make_app(service), listening, arguments.timeout)
    say("stopped", str(path))


def cache(arguments: argparse.Namespace) -> None:
    """Say what the cache holds, or remove some of it."""
    root = cache_root(cache_dir(arguments))
    assert root is not None  # that takes --no-cache
    removed: list[Piece] = []
    if arguments.action == "prune":
        if arguments.older_than is None and arguments.max_size is None:
            raise InputError("prune: say what is to go: --older-than 30d, --max-size 5GB, or both.")
        removed = prune(root, older_than=arguments.older_than, max_bytes=arguments.max_size)
    elif arguments.action == "clear":
        removed = prune(root, max_bytes=0)
    say("cache", str(root))
    if arguments.action != "info":
        n_vectors = sum(piece.n_vectors for piece in removed)
        say("removed", f"{n_vectors:,} vectors, {size_text(sum(p.n_bytes for p in removed))}")
    there = holdings(root)
    n_vectors, n_bytes = sum(h.n_vectors for h in there), sum(h.n_bytes for h in there)
    say("holds", f"{n_vectors:,} vectors, {size_text(n_bytes)}")
    if arguments.action == "info" and there:
        print(f"\n{'':44}{'vectors':>12}{'size':>11}  last used")
        for holding in there:
            number = f"{holding.n_vectors:,}" if holding.kind == "vectors" else ""
            used = time.strftime("%Y-%m-%d", time.localtime(holding.used))
            print(f"{holding.describe():44}{number:>12}{size_text(holding.n_bytes):>11}  {used}")


def _column_trained_on(model: str) -> str | None:
    training = read_sidecar(model).get("training")
    name = training.get("text_column") if isinstance(training, dict) else None
    return name if isinstance(name, str) else None


def _prepare(model: Any, arguments: argparse.Namespace) -> None:
    """Give a loaded model this machine's cache and device; its vectors' shape is settled."""
    for embed in _vectorizers(model, arguments):
        _prepare_one(embed, arguments)


def _vectorizers(model: Any, arguments: argparse.Namespace) -> list[DistilBertVectorizer]:
    """Return a model's vectorizers, told where their encoder is if `--encoder` says so."""
    several = list(find_steps(model, DistilBertVectorizer))
    if arguments.encoder is not None:
        if len({embed.encoder_hash_ for embed in several}) > 1:
            raise InputError(
                "--encoder: this model has several encoders, one for each expert; put their "
                "folders beside it, or under $FROZENBERT_ENCODERS."
            )
        for embed in several:
            embed.set_params(model_name=arguments.encoder)
    return several


def _prepare_one(embed: DistilBertVectorizer, arguments: argparse.Namespace) -> None:
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
