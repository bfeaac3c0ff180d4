"""Label texts in the browser, with a model that learns meanwhile, and train a classifier on them.

Prints the address of the page, which opens on this machine only. Each answer is stored in --out at
once, and the same command goes on where the last one stopped. --finish trains the final model.
The encoder is the packaged one by default.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError
from ..arguments import add_address, add_cache, add_debug, add_encoder, add_seed, add_table

if TYPE_CHECKING:
    from ...label import Session
    from ...label.web.labelling import LabellingService

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--data", required=True, metavar="FILE", help="table of texts: the pool")
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="the project: a new folder, or one to go on"
    )
    parser.add_argument(
        "--finish",
        action="store_true",
        help="train the final model on the labels, as the button of the page does, and exit",
    )
    add_seed(parser)
    add_debug(parser)
    labels = parser.add_argument_group("labels (a project that goes on has its own)")
    names = labels.add_mutually_exclusive_group()
    names.add_argument("--labels", metavar="NAMES", help="2 to 200 names, separated by commas")
    names.add_argument(
        "--labels-file",
        metavar="FILE",
        help="a name a line; after a tab, a sentence that describes it",
    )
    labels.add_argument(
        "--multi-label", action="store_true", help="a text may have any number of labels"
    )
    labels.add_argument(
        "--add-label",
        action="store_true",
        help="accept names that the project does not have yet",
    )
    files = parser.add_argument_group(
        "labels from and to files (.csv; .json of Label Studio; .jsonl of Argilla and datasets)"
    )
    files.add_argument("--import", metavar="FILE", help="store these labels before the start")
    files.add_argument("--export", metavar="FILE", help="write the labels to a file, and exit")
    files.add_argument(
        "--raw",
        action="store_true",
        help="write cells that begin with = + - @ as they are; default: put ' before them in a "
        "csv, because spreadsheets run them as formulas",
    )
    page = parser.add_argument_group("page")
    add_address(page, 8001)
    page.add_argument(
        "--annotator",
        action="append",
        default=[],
        metavar="NAME",
        help="a person who labels; given several times: each gets an address with a token, which "
        "the project stores",
    )
    page.add_argument("--title", metavar="TEXT", help="title of the page; default: the folder")
    add_table(parser)
    add_encoder(parser)
    add_cache(parser)


def run(arguments: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C, or finish or export without it."""
    from ..streams import check_exists

    check_exists(arguments, "data")
    if not (arguments.finish or arguments.export):
        importlib.import_module("frozenbert.label.web.site")  # its libraries may be missing
    for option in ("import", "export"):  # before there is a project
        if (path := vars(arguments)[option]) is not None:
            _check_suffix(option, path)
    os.umask(0o077)  # texts and who labelled them: the files are for their owner
    with _session(arguments) as session:
        _say_removed(session)
        if vars(arguments)["import"] is not None:
            _import(session, arguments)
        if arguments.export is not None:
            _export(session, arguments)
        elif arguments.finish:
            _finish(session, arguments)
        else:
            _serve(session, arguments)


@contextmanager
def _session(arguments: argparse.Namespace) -> Iterator[Session]:
    from ...embed import DistilBertVectorizer
    from ...encoders.sources import PACKAGED_ENCODER
    from ...label import Session
    from ..options import encoder_settings, read_texts
    from ..output import describe_table, say

    labels, descriptions, multi_label = _labels(arguments)
    if multi_label and (bad := next((name for name in labels if "|" in name), None)) is not None:
        raise InputError(
            f"{bad!r} contains '|', which separates the labels of a text in exported tables; "
            f"choose another name.",
            parameter="labels" if arguments.labels_file is None else "labels_file",
        )
    table, column, texts = read_texts(arguments, arguments.data, None, arguments.label_column)
    say("data", describe_table(table, column))
    if arguments.encoder is None and arguments.revision is None:
        arguments.encoder = PACKAGED_ENCODER
    settings, _ = encoder_settings(arguments)
    serves = not (arguments.finish or arguments.export)
    try:
        session = Session(
            texts,
            labels,
            folder=arguments.out,
            multi_label=multi_label,
            encoder=DistilBertVectorizer(**settings, progress=False),
            descriptions=descriptions,
            add_labels=arguments.add_label,
            seed=arguments.seed,
            learn=serves,
        )
    except InputError as error:
        if error.parameter == "labels" and arguments.labels_file is not None:
            raise InputError(
                error.message, parameter="labels_file", value=arguments.labels_file
            ) from error
        raise
    try:
        yield session
    except InputError:
        session.discard()  # a new project is not left behind
        raise
    finally:
        session.close()


def _say_removed(session: Session) -> None:
    from ..output import say

    if n := session.progress().n_removed:
        say("removed", f"{n:,} answered texts are not in this table any more; they are kept")


def _labels(arguments: argparse.Namespace) -> tuple[list[str], dict[str, str], bool]:
    """Return the labels' names, their descriptions, and whether a text may have several."""
    from ...label.store import FILE, Store

    multi_label: bool = arguments.multi_label
    if arguments.labels is not None:
        return arguments.labels.split(","), {}, multi_label
    if arguments.labels_file is not None:
        labels, descriptions = _read_labels(Path(arguments.labels_file))
        return labels, descriptions, multi_label
    if not (Path(arguments.out) / FILE).exists():
        raise InputError("a new project needs the names of its labels: --labels positive,negative.")
    store = Store(arguments.out)
    try:
        known = store.fact("labels")
        return (
            [str(name) for name in known] if isinstance(known, list) else [],
            {},
            bool(store.fact("multi_label")),
        )
    finally:
        store.close()


def _read_labels(path: Path) -> tuple[list[str], dict[str, str]]:
    """Read a name a line, each with a description after a tab if there is one."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror}).", parameter="labels_file", value=path
        ) from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8.", parameter="labels_file", value=path) from error
    labels: list[str] = []
    descriptions: dict[str, str] = {}
    for line in lines:
        name, _, description = line.partition("\t")
        if not line.strip():
            continue
        labels.append(name)
        if description.strip():
            descriptions[" ".join(name.split())] = description.strip()
    return labels, descriptions


def _import(session: Session, arguments: argparse.Namespace) -> None:
    from ..options import label_columns
    from ..output import say

    path = vars(arguments)["import"]  # a keyword of Python
    label_column = label_columns(arguments)
    if label_column is not None and not isinstance(label_column, str):
        raise InputError("name one column of labels.", parameter="label_column")
    # The columns of --data and of an exported file may have different names.
    text_column = None if label_column is None else arguments.text_column
    n = session.import_answers(path, text_column=text_column, label_column=label_column)
    say("imported", f"{n:,} labels from {path}")


def _export(session: Session, arguments: argparse.Namespace) -> None:
    from ..options import check_output
    from ..output import say

    path = arguments.export
    check_output(arguments, "export")
    session.export(path, "argilla" if path.lower().endswith(".jsonl") else None, raw=arguments.raw)
    say("written", path)


def _check_suffix(option: str, path: str) -> None:
    if Path(path).suffix.lower() not in (".csv", ".json", ".jsonl"):
        raise InputError(
            "the name must end in .csv, .json (Label Studio) or .jsonl (Argilla, datasets).",
            parameter=option,
            value=path,
        )


def _finish(session: Session, arguments: argparse.Namespace) -> None:
    from ...label.web.finishing import describe, finish
    from ..output import say

    say("training", "the final model, as `frozenbert train` does")
    for name, value in describe(finish(session, arguments.out)):
        say(name, value)


def _serve(session: Session, arguments: argparse.Namespace) -> None:
    from ...label.web.site import label_in_browser
    from ..output import say

    def say_addresses(addresses: list[tuple[str | None, str]]) -> None:
        progress = session.progress()
        say("project", f"{arguments.out}: {progress.n_labelled:,} of {progress.n_texts:,} labelled")
        for name, address in addresses:
            say(name or "page", address)
        say(
            "",
            "Open the address in a browser; it contains a token, so show it to nobody else. "
            "Ctrl-C stops.",
        )

    def say_files(service: LabellingService) -> None:
        if service.is_training:
            say("training", "the final model is not ready yet; Ctrl-C ends that, too")
            service.wait()

    label_in_browser(
        session,
        arguments.out,
        host=arguments.host,
        port=arguments.port,
        allowed_hosts=arguments.allowed_host,
        annotators=arguments.annotator,
        title=arguments.title,
        on_ready=say_addresses,
        on_stop=say_files,
    )
    _say_what_is_there(session, arguments)


def _say_what_is_there(session: Session, arguments: argparse.Namespace) -> None:
    """Write the labels, and print where everything is and how to go on."""
    from ...label.web.finishing import LABELLED
    from ..output import say

    out, progress = Path(arguments.out), session.progress()
    has_labels = progress.n_labelled + progress.n_removed > 0
    if has_labels:  # before the first line, because the terminal may be closed
        session.export(out / LABELLED, raw=arguments.raw)
    skipped = f", {progress.n_skipped:,} skipped" if progress.n_skipped else ""
    say("stopped", f"{progress.n_labelled:,} of {progress.n_texts:,} texts labelled{skipped}")
    if has_labels:
        say("labels", str(out / LABELLED))
    for name, file in (("model", "model.skops"), ("report", "report.html")):
        if (out / file).exists():
            say(name, str(out / file))
        else:
            say(name, "none yet: --finish trains the final model, and writes model and report")
            break
    say("go on", "with the same command")
