"""The commands: what they take, what they print, and how they end."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .arguments import Parser, add_shared, folds, jobs, positive, seed, strengths
from .errors import InputError
from .files import check_can_write, sha256_of_file, writing

if TYPE_CHECKING:
    import numpy as np

    from .embed import DistilBertVectorizer
    from .pipeline import Training
    from .tables import Table

__all__ = ["classify", "embed", "main", "train"]

# `--pooling mean` is a parameter of the vectorizer, and for `classify` part of the model.
SHAPING = ("revision", "pooling", "layers", "max_length", "precision")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `frozenbert COMMAND`, the installed command."""
    commands = {"train": train, "classify": classify, "embed": embed}
    parser = Parser(
        prog="frozenbert",
        description="Text classification with frozen encoders and scikit-learn.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        subparsers.add_parser(name, help=command.__doc__, add_help=False)
    arguments = list(sys.argv[1:] if argv is None else argv)
    known = parser.parse_args(arguments[:1])
    return commands[known.command](arguments[1:], prog=f"frozenbert {known.command}")


def train(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Train a text classifier on a file of texts and labels, measure it and save it."""
    parser = Parser(prog=prog, description=train.__doc__)
    parser.add_argument("--data", required=True, metavar="FILE", help="texts and labels")
    parser.add_argument(
        "--test", metavar="FILE", help="rows to measure on; without it a stratified quarter"
    )
    parser.add_argument("--out", metavar="FOLDER", help="default: artifacts/NAME of the data file")
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N rows only")
    parser.add_argument("--cv", type=folds, default=5, metavar="FOLDS", help="default: 5")
    parser.add_argument(
        "--C",
        type=strengths,
        metavar="VALUES",
        help="values to try, separated by commas; default: 20 from 1e-5 to 10",
    )
    parser.add_argument(
        "--seed", type=seed, default=0, help="of the split and the folds; default 0"
    )
    parser.add_argument("--n-jobs", type=jobs, metavar="N", help="processes for the search")
    add_shared(parser)
    return _run(parser, argv, _train)


def classify(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Label new texts with a saved model."""
    parser = Parser(
        prog=prog,
        description=f"{classify.__doc__} Loading a joblib file runs code: use models you trust.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", metavar="FILE", help="texts to label")
    what.add_argument("--text", help="a single text; the answer is printed")
    parser.add_argument("--out", metavar="FILE", help="where the labelled rows go (with --data)")
    parser.add_argument(
        "--encoder", metavar="NAME", help="where the model's encoder is now: a folder or a name"
    )
    add_shared(parser, model_help="model.joblib, or the folder that holds it", model_required=True)
    return _run(parser, argv, _classify)


def embed(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Turn a file of texts into a NumPy file of vectors, row by row."""
    parser = Parser(prog=prog, description=embed.__doc__)
    parser.add_argument("--data", required=True, metavar="FILE", help="texts")
    parser.add_argument("--out", required=True, metavar="FILE.npy", help="float32, a row a text")
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N rows only")
    add_shared(parser)
    return _run(parser, argv, _embed)


def _run(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    command: Callable[[argparse.Namespace], None],
) -> int:
    """Run a command; 0 done, 2 the input is wrong, 1 something else failed."""
    arguments = parser.parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        # A label that the terminal cannot show is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            if not arguments.debug:
                warnings.showwarning = _show_warning  # type: ignore[assignment]
            command(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        kept = "" if arguments.no_cache else "; vectors computed so far are kept"
        print(f"{parser.prog}: interrupted{kept}.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
        message = " ".join(str(error).split())
        if isinstance(error, InputError):
            print(f"{parser.prog}: {message}", file=sys.stderr)
            return 2
        where = "" if arguments.debug else " (--debug shows where)"
        print(f"{parser.prog}: {type(error).__name__}: {message}{where}", file=sys.stderr)
        return 1
    return 0


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    # What a user can act on; libraries' notes to programmers are for --debug.
    from sklearn.exceptions import InconsistentVersionWarning

    if category is UserWarning or issubclass(category, InconsistentVersionWarning):
        print("warning: " + " ".join(str(message).split()), file=sys.stderr)


def _train(arguments: argparse.Namespace) -> None:
    from .columns import labels_of, texts_of
    from .pipeline import check_classes, hold_out, make_text_classifier, save_training
    from .pipeline import train as train_model

    started = time.perf_counter()
    data = Path(arguments.data)
    name = re.sub(r"(\.[^.]+)?(\.gz)?$", "", data.name, count=1, flags=re.IGNORECASE)
    out = Path(arguments.out or Path("artifacts") / name)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; a folder's name is needed.")
    check_can_write(out / "model.joblib")

    table, text_column, label_column = _read(arguments, data, need_label=True)
    texts, labels = texts_of(table, text_column), labels_of(table, str(label_column))
    source = {
        "file": data.name,
        "sha256": sha256_of_file(data),
        "text_column": text_column,
        "label_column": label_column,
    }
    _say("data", _describe(table, text_column, label_column))
    if arguments.test is None:
        texts, test_texts, labels, test_labels = hold_out(texts, labels, arguments.seed)
        test = {"description": f"a stratified quarter of {data.name} (seed {arguments.seed})"}
        test_described = f"{len(test_texts):,} rows, {test['description']}"
    else:
        table, test_texts, test_labels = _read_test(
            arguments, text_column, str(label_column), labels
        )
        test = {
            "description": f"all of {Path(arguments.test).name}",
            "file": Path(arguments.test).name,
            "sha256": sha256_of_file(arguments.test),
        }
        test_described = _describe(table, text_column, label_column)
    check_classes(labels, arguments.cv)
    _say("train", f"{len(texts):,} rows; {_count(labels)}")
    _say("test", test_described)

    settings, notice = _encoder_settings(arguments)
    model = make_text_classifier(
        **settings,
        C=arguments.C,
        cv=arguments.cv,
        random_state=arguments.seed,
        n_jobs=arguments.n_jobs,
    )
    reading = time.perf_counter() - started
    training = train_model(model, texts, labels, test_texts, test_labels)
    training.seconds = {"reading": reading, **training.seconds}
    # Saved before it is shown: whoever reads our output may be gone by now.
    save_training(training, out, {"notice": notice, "training": source, "test": test})
    _print_training(training)
    _say("in all", f"{time.perf_counter() - started:.1f} s")
    _say("written", f"{out}: {', '.join(sorted(f.name for f in out.iterdir() if f.is_file()))}")


def _classify(arguments: argparse.Namespace) -> None:
    import pandas as pd

    from .columns import find_columns, texts_of
    from .pipeline import load_model, predict
    from .report import short
    from .tables import read_table, table_format, write_table

    if arguments.data is not None and arguments.out is None:
        raise InputError("--out is missing: say where the labelled rows of --data are to go.")
    if arguments.out is not None:
        if arguments.data is None:
            raise InputError("--out goes with --data; the answer to --text is printed.")
        table_format(arguments.out)
        _check_can_write_file(Path(arguments.out))
    model = load_model(arguments.model)
    model = getattr(model, "best_estimator_", model)  # of a search over the whole Pipeline
    _prepare(model, arguments)
    if arguments.text is not None:
        labels, probabilities = predict(model, [arguments.text])
        print(f"prediction\t{short(labels[0])}")
        for name, column in probabilities.items():
            print(f"{short(name)}\t{column[0]:.4f}")
        return

    text_column = arguments.text_column or _column_trained_on(arguments.model)
    expected = [text_column] if text_column else []
    table = read_table(arguments.data, header=arguments.header, columns=expected)
    if text_column not in table.frame.columns:
        text_column = arguments.text_column
    text_column, _ = find_columns(table, text_column, arguments.label_column, need_label=False)
    texts = texts_of(table, text_column)
    classes = getattr(model, "classes_", ())
    for name in ("prediction", *(f"proba_{label}" for label in classes)):
        if name in table.frame.columns:
            raise InputError(
                f"{arguments.data} has a column {name!r} already, which the predictions would "
                f"overwrite: rename it."
            )
    labels, probabilities = predict(model, texts)
    found = pd.DataFrame({"prediction": labels, **probabilities})
    write_table(pd.concat([table.frame, found], axis="columns"), arguments.out)
    _say("data", _describe(table, text_column, None))
    _say("found", _count(labels))
    _say("written", str(arguments.out))


def _embed(arguments: argparse.Namespace) -> None:
    import numpy as np

    from .columns import texts_of
    from .embed import DistilBertVectorizer
    from .report import describe_encoder, versions, write_json

    out = Path(arguments.out)
    if out.suffix.lower() != ".npy":
        raise InputError(f"--out {out}: the vectors go into a file whose name ends in .npy.")
    beside = out.with_suffix(".json")
    for file in (out, beside):
        _check_can_write_file(file)
    table, text_column, _ = _read(arguments, Path(arguments.data), need_label=False)
    _say("data", _describe(table, text_column, None))
    settings, notice = _encoder_settings(arguments)
    vectorizer = DistilBertVectorizer(**settings)
    started = time.perf_counter()
    vectors = vectorizer.fit_transform(texts_of(table, text_column))
    seconds = time.perf_counter() - started
    _say_encoder(vectorizer)
    sidecar = {
        "notice": notice,
        "data": {"file": Path(arguments.data).name, "text_column": text_column},
        "encoder": describe_encoder(vectorizer),
        "n_texts": len(vectors),
        "n_truncated": vectorizer.n_truncated_,
        "versions": versions(),
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with writing(out) as array, writing(beside) as facts:
            with open(array, "wb") as stream:
                np.save(stream, vectors)
            write_json(sidecar, facts)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror or error}).") from error
    _say("time", f"{seconds:.1f} s, {len(vectors) / seconds:,.0f} texts a second")
    _say("written", f"{out}: float32 {vectors.shape}; {beside.name}")


def _check_can_write_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"--out: {path} is a folder; a file's name is needed.")
    check_can_write(path)


def _read(
    arguments: argparse.Namespace, path: Path, need_label: bool
) -> tuple[Table, str, str | None]:
    from .columns import find_columns
    from .tables import read_table

    text, label = arguments.text_column, arguments.label_column
    table = read_table(path, header=arguments.header, columns=[a for a in (text, label) if a])
    if arguments.limit is not None:
        table = table.head(arguments.limit)
    return table, *find_columns(table, text, label, need_label=need_label)


def _read_test(
    arguments: argparse.Namespace, text_column: str, label_column: str, known: np.ndarray
) -> tuple[Table, list[str], np.ndarray]:
    """Read the rows to measure on; their labels have to be among those trained on."""
    import numpy as np

    from .columns import find_columns, labels_of, shown, texts_of
    from .tables import read_table

    columns = [text_column, label_column]
    table = read_table(arguments.test, header=arguments.header, columns=columns)
    find_columns(table, text_column, label_column, need_label=True)
    classes = {str(label): label for label in known.tolist()}
    labels = []
    for row, label in enumerate(labels_of(table, label_column).tolist()):
        if str(label) not in classes:
            names = ", ".join(map(shown, sorted(classes)[:20]))
            raise InputError(
                f"{table.where(row)}: the label {shown(label)} does not stand in the training "
                f"rows, whose labels are {names}{' and others' if len(classes) > 20 else ''}."
            )
        labels.append(classes[str(label)])
    return table, texts_of(table, text_column), np.array(labels, dtype=known.dtype)


def _column_trained_on(model: str) -> str | None:
    from .report import read_sidecar

    training = read_sidecar(model).get("training")
    name = training.get("text_column") if isinstance(training, dict) else None
    return name if isinstance(name, str) else None


def _encoder_settings(arguments: argparse.Namespace) -> tuple[dict[str, Any], str | None]:
    """Parameters for the vectorizer, and why the encoder is not the default one."""
    from .sources import DEFAULT_ENCODER, find_default_encoder

    settings = {
        name: getattr(arguments, name)
        for name in (*SHAPING, "backend", "device")
        if getattr(arguments, name) is not None
    }
    settings["local_files_only"] = arguments.offline
    settings["cache_dir"] = _cache_dir(arguments)
    notice = None
    if arguments.model is not None:
        name = arguments.model
    elif arguments.revision is not None:
        name = DEFAULT_ENCODER  # its revision was asked for, so nothing may stand in for it
    else:
        files, notice = find_default_encoder(local_files_only=arguments.offline)
        name = files.name
        if notice:
            print(notice, file=sys.stderr)
    return {"model_name": name, **settings}, notice


def _cache_dir(arguments: argparse.Namespace) -> Path | None:
    return None if arguments.no_cache else Path(arguments.cache_dir)


def _prepare(model: Any, arguments: argparse.Namespace) -> None:
    """Give a loaded model this machine's cache and device; its vectors' shape is settled."""
    from .embed import DistilBertVectorizer

    steps = [step for _, step in getattr(model, "steps", ())]
    embed = next((step for step in steps if isinstance(step, DistilBertVectorizer)), None)
    if embed is None:
        return
    settled = {
        "revision": embed.encoder_revision_,
        "pooling": embed.pooling_,
        "layers": embed.layers_,
        "max_length": embed.max_length_,
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
    embed.set_params(cache_dir=_cache_dir(arguments), local_files_only=arguments.offline)
    for name in ("backend", "device"):
        if getattr(arguments, name) is not None:
            embed.set_params(**{name: getattr(arguments, name)})
    if arguments.encoder is not None:
        embed.set_params(model_name=arguments.encoder)


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _print_training(training: Training) -> None:
    from .report import score_as_text

    metrics, search = training.metrics, training.metrics["search"]
    embed = training.model.named_steps["embed"]
    _say_encoder(embed)
    if agreement := metrics.get("agreement"):
        _say(
            embed.precision,
            f"agrees with float32 on {agreement['n_texts']} test texts: mean cosine "
            f"{agreement['mean_cosine']:.4f}, {100 * agreement['equal_predictions']:.1f} % of the "
            f"predictions the same",
        )
    _say(
        "head",
        f"C = {search['best_C']:.3g}, the best of {len(search['C'])}: {search['scoring']} "
        f"{search['best_score']:.4f} ± {search['best_score_std']:.4f} in {search['folds']} folds",
    )
    rows = {
        f"{embed.encoder_name_} + logistic regression": metrics,
        metrics["baseline"]["name"]: metrics["baseline"],
    }
    width = max(len(name) for name in rows)
    print(f"\n{'':{width}}  accuracy  macro F1")
    for name, figures in rows.items():
        print(f"{name:{width}}  {figures['accuracy']:8.4f}  {figures['macro_f1']:8.4f}")
    print(f"\n{score_as_text(training.y_test, training.predicted)}")
    _say("time", ", ".join(f"{name} {s:.2f} s" for name, s in training.seconds.items()))


def _say_encoder(embed: DistilBertVectorizer) -> None:
    origin = {"hub": f"revision {str(embed.encoder_revision_)[:12]}", "package": "packaged"}
    _say(
        "encoder",
        f"{embed.encoder_name_} ({origin.get(embed.encoder_source_, embed.encoder_source_)}, "
        f"content {embed.encoder_hash_[:12]}): pooling {'+'.join(embed.pooling_)}, "
        f"layer {', '.join(map(str, embed.layers_))}, at most {embed.max_length_} tokens, "
        f"{embed.precision}",
    )


def _describe(table: Table, text_column: str, label_column: str | None) -> str:
    header = {True: "first row is the header", False: "no header", None: None}[table.header]
    parts = [f"{len(table.frame):,} rows"]
    if header:
        option = "--no-header" if table.header else "--header"
        parts.append(header + (f" (a guess; else {option})" if table.header_guessed else ""))
    parts.append(f"text in column {text_column!r}")
    if label_column is not None:
        parts.append(f"label in column {label_column!r}")
    return f"{table.path}: {', '.join(parts)}"


def _count(labels: np.ndarray, most: int = 20) -> str:
    from .report import short

    counts = Counter(labels.tolist()).most_common()
    more = f" and {len(counts) - most} more" if len(counts) > most else ""
    return ", ".join(f"{short(label)}: {n:,}" for label, n in counts[:most]) + more


def _say(what: str, value: str) -> None:
    print(f"{what:9}{value}", flush=True)
