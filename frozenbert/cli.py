"""The commands: what they take, what they print, and how they end."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .arguments import Parser, add_shared, folds, jobs, positive, strengths
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
        summary = (command.__doc__ or "").splitlines()[0]
        subparsers.add_parser(name, help=summary, add_help=False)
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
    parser.add_argument("--seed", type=int, default=0, help="of the split and the folds; default 0")
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
    try:
        with warnings.catch_warnings():
            if not arguments.debug:
                warnings.showwarning = _show_warning  # type: ignore[assignment]
            command(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; vectors computed so far are kept.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if arguments.debug:
            raise
        wrong_input = isinstance(error, InputError)
        kind = "" if wrong_input else f"{type(error).__name__}: "
        message = " ".join(f"{kind}{error}".split())
        print(
            f"{parser.prog}: {message}" + ("" if wrong_input else " (--debug shows where)"),
            file=sys.stderr,
        )
        return 2 if wrong_input else 1
    return 0


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    # What a user can act on; libraries' notes to programmers are for --debug.
    from sklearn.exceptions import InconsistentVersionWarning

    if category is UserWarning or issubclass(category, InconsistentVersionWarning):
        print("warning: " + " ".join(str(message).split()), file=sys.stderr)


def _train(arguments: argparse.Namespace) -> None:
    from .columns import labels_of, texts_of
    from .pipeline import hold_out, make_text_classifier
    from .pipeline import train as train_model

    started = time.perf_counter()
    data = Path(arguments.data)
    name = data.name.removesuffix(".gz")
    out = Path(arguments.out or Path("artifacts") / Path(name).stem)
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
    if arguments.test is None:
        texts, test_texts, labels, test_labels = hold_out(texts, labels, arguments.seed)
        test = {"description": f"a stratified quarter of {data.name} (seed {arguments.seed})"}
    else:
        test_texts, test_labels = _read_test(arguments, text_column, label_column, labels)
        test = {
            "description": f"all of {Path(arguments.test).name}",
            "file": Path(arguments.test).name,
            "sha256": sha256_of_file(arguments.test),
        }
    _say("data", _describe(table, text_column, label_column))
    _say("", ", ".join(f"{label}: {n:,}" for label, n in sorted(Counter(labels.tolist()).items())))
    _say("test", f"{len(test_texts):,} rows, {test['description']}")

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
    _print_training(training)
    _save_training(training, out, {"notice": notice, "training": source, "test": test})
    _say("in all", f"{time.perf_counter() - started:.1f} s")
    _say("written", f"{out}: {', '.join(sorted(f.name for f in out.iterdir() if f.is_file()))}")


def _classify(arguments: argparse.Namespace) -> None:
    import numpy as np

    from .columns import texts_of
    from .pipeline import load_model
    from .report import read_sidecar
    from .tables import read_table, table_format, write_table

    if arguments.data and not arguments.out:
        raise InputError("--out is missing: say where the labelled rows of --data are to go.")
    if arguments.out:
        if not arguments.data:
            raise InputError("--out goes with --data; the answer to --text is printed.")
        table_format(arguments.out)
        check_can_write(arguments.out)
    model = load_model(arguments.model)
    _prepare(model, arguments)
    if arguments.text is not None:
        labels, probabilities = _predict(model, [arguments.text])
        print(f"prediction\t{labels[0]}")
        for name, column in probabilities.items():
            print(f"{name}\t{column[0]:.4f}")
        return

    known = read_sidecar(arguments.model).get("training", {}).get("text_column")
    expected = [name for name in (arguments.text_column, known) if name]
    table = read_table(arguments.data, header=arguments.header, columns=expected)
    text_column = arguments.text_column
    if text_column is None and known in table.frame.columns:
        text_column = known
    text_column, _ = _find(table, text_column, None, need_label=False)
    texts = texts_of(table, text_column)
    labels, probabilities = _predict(model, texts)
    frame = table.frame.copy()
    for name, column in {"prediction": labels, **probabilities}.items():
        if name in frame.columns:
            raise InputError(
                f"{arguments.data} has a column {name!r} already, which the predictions would "
                f"overwrite: rename it."
            )
        frame[name] = column
    write_table(frame, arguments.out)
    _say("data", _describe(table, text_column, None))
    counts = Counter(np.asarray(labels).tolist())
    _say("", ", ".join(f"{label}: {n:,}" for label, n in sorted(counts.items())))
    _say("written", str(arguments.out))


def _embed(arguments: argparse.Namespace) -> None:
    import numpy as np

    from .columns import texts_of
    from .embed import DistilBertVectorizer
    from .report import describe_encoder, versions, write_json

    out = Path(arguments.out)
    if out.suffix.lower() != ".npy":
        raise InputError(f"--out {out}: the vectors go into a file whose name ends in .npy.")
    if out.is_dir():
        raise InputError(f"--out {out}: is a folder; a file's name is needed.")
    check_can_write(out)
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
    out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out) as temporary, open(temporary, "wb") as file:
        np.save(file, vectors)
    with writing(out.with_suffix(".json")) as temporary:
        write_json(sidecar, temporary)
    _say("time", f"{seconds:.1f} s, {len(vectors) / seconds:,.0f} texts a second")
    _say("written", f"{out}: float32 {vectors.shape}; {out.with_suffix('.json').name}")


def _read(
    arguments: argparse.Namespace, path: Path, need_label: bool
) -> tuple[Table, str, str | None]:
    from .tables import read_table

    asked = [arguments.text_column] + ([arguments.label_column] if need_label else [])
    table = read_table(path, header=arguments.header, columns=[a for a in asked if a])
    if (limit := getattr(arguments, "limit", None)) is not None:
        table = table.head(limit)
    text, label = _find(table, arguments.text_column, arguments.label_column, need_label)
    return table, text, label


def _find(
    table: Table, text: str | None, label: str | None, need_label: bool
) -> tuple[str, str | None]:
    from .columns import find_columns

    return find_columns(table, text, label, need_label=need_label)


def _read_test(
    arguments: argparse.Namespace, text_column: str, label_column: str | None, known: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """Read the rows to measure on; their labels have to be among those trained on."""
    import numpy as np

    from .columns import find_columns, labels_of, texts_of
    from .tables import read_table

    columns = [text_column, str(label_column)]
    table = read_table(arguments.test, header=arguments.header, columns=columns)
    find_columns(table, text_column, label_column, need_label=True)
    labels = labels_of(table, str(label_column))
    classes = {str(label): label for label in known.tolist()}
    for row, label in enumerate(labels.tolist()):
        if str(label) not in classes:
            raise InputError(
                f"{table.where(row)}: the label {str(label)[:60]!r} does not stand in the training "
                f"rows, whose labels are {sorted(classes)[:20]}."
            )
    return texts_of(table, text_column), np.array(
        [classes[str(label)] for label in labels.tolist()], dtype=known.dtype
    )


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
    embed = _vectorizer(model)
    if embed is None:
        return
    for name in SHAPING:
        asked = getattr(arguments, name)
        trained = getattr(embed, f"{name}_", getattr(embed, name))
        same = asked in (None, "auto", getattr(embed, name), trained)
        if not same and (asked,) != trained:
            raise InputError(
                f"--{name.replace('_', '-')} {asked}: this model was trained with {trained}; leave "
                f"the option out, or train another model."
            )
    embed.set_params(cache_dir=_cache_dir(arguments), local_files_only=arguments.offline)
    for name in ("backend", "device"):
        if getattr(arguments, name) is not None:
            embed.set_params(**{name: getattr(arguments, name)})
    if arguments.encoder is not None:
        embed.set_params(model_name=arguments.encoder)


def _vectorizer(model: Any) -> DistilBertVectorizer | None:
    from .embed import DistilBertVectorizer

    steps = [step for _, step in getattr(model, "steps", ())]
    return next((step for step in steps if isinstance(step, DistilBertVectorizer)), None)


def _predict(model: Any, texts: list[str]) -> tuple[Any, dict[str, Any]]:
    """Labels, and a column of probabilities for each class, from one pass over the texts."""
    features: Any = texts
    if hasattr(model, "steps"):
        features, model = model[:-1].transform(texts), model[-1]
    labels = model.predict(features)
    if not hasattr(model, "predict_proba"):
        return labels, {}
    columns = model.predict_proba(features).T
    names = [f"proba_{label}" for label in model.classes_]
    return labels, dict(zip(names, columns, strict=True))


def _save_training(training: Training, out: Path, facts: dict[str, Any]) -> None:
    """Write all files into a folder beside, then move them into place one by one."""
    from .pipeline import save_model
    from .report import describe_encoder, write_report

    try:
        out.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=out))
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror or error}).") from error
    try:
        model = training.model
        save_model(model, fresh / "model.joblib")
        sidecar = {
            **facts,
            "model_sha256": sha256_of_file(fresh / "model.joblib"),
            "encoder": describe_encoder(model.named_steps["embed"]),
            "labels": model.classes_.tolist(),
            "parameters": {
                "cv": training.metrics["search"]["folds"],
                "seed": model.named_steps["classify"].cv.random_state,
                "C": training.metrics["search"]["best_C"],
            },
            "metrics": training.metrics,
            "seconds": training.seconds,
        }
        write_report(fresh, sidecar, training.y_test, training.predicted)
        for file in fresh.iterdir():
            os.replace(file, out / file.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _print_training(training: Training) -> None:
    metrics, search = training.metrics, training.metrics["search"]
    embed = training.model.named_steps["embed"]
    _say_encoder(embed)
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
    print(f"\n{_classification_report(training)}")
    _say("time", ", ".join(f"{name} {s:.2f} s" for name, s in training.seconds.items()))


def _classification_report(training: Training) -> str:
    from sklearn.metrics import classification_report

    report: str = classification_report(
        training.y_test, training.predicted, digits=3, zero_division=0
    )
    return report


def _say_encoder(embed: DistilBertVectorizer) -> None:
    origin = {"hub": f"revision {str(embed.encoder_revision_)[:12]}", "package": "packaged"}
    _say(
        "encoder",
        f"{embed.encoder_name_} ({origin.get(embed.encoder_source_, embed.encoder_source_)}, "
        f"content {embed.encoder_hash_[:12]}): pooling {'+'.join(embed.pooling_)}, "
        f"layer {', '.join(map(str, embed.layers_))}, at most {embed.max_length_} tokens",
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


def _say(what: str, value: str) -> None:
    print(f"{what:9}{value}", flush=True)
