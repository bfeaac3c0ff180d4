"""Train on few labels and many unlabelled texts: experts teach student models."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError
from ..arguments import (
    add_cache,
    add_clean,
    add_debug,
    add_encoder,
    add_fine_tuning,
    add_limit,
    add_n_jobs,
    add_seed,
    add_table,
    positive,
)

if TYPE_CHECKING:
    from ...fewshot.classifier import FewShotClassifier
    from ...finetune.recipe import Recipe
    from ...reports.schema import Score
    from ..options import Rows

__all__ = ["add_arguments", "run"]

SUGGESTIONS = "suggest.csv"
MOST_CLASSES = 20  # whose F1 is printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--data", required=True, metavar="FILE", help="table of texts and labels")
    parser.add_argument(
        "--unlabelled",
        required=True,
        metavar="FILE",
        help="table of texts of the same kind, without labels: the pool",
    )
    parser.add_argument("--test", metavar="FILE", help="table to evaluate on")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FOLDER",
        help="where the models go: model.joblib is the one to use, of the teacher, the experts "
        "and the students, which lie beside it",
    )
    add_limit(parser)
    add_clean(parser)
    add_seed(parser)
    add_n_jobs(parser)
    parser.add_argument(
        "--suggest",
        type=positive,
        metavar="N",
        help="write the N texts of the pool to label next into suggest.csv",
    )
    parser.add_argument(
        "--soft-labels",
        metavar="FILE",
        help="table to write: the pool with the teacher's probabilities",
    )
    add_debug(parser)
    experts = parser.add_argument_group("experts")
    experts.add_argument(
        "--experts",
        choices=("frozen", "contrastive", "finetuned"),
        default="frozen",
        help="classifiers on vectors of a frozen encoder (default), of one encoder that is tuned "
        "on pairs of the labelled texts, or a fine-tuned encoder each",
    )
    experts.add_argument(
        "--n-experts", type=positive, default=8, metavar="N", help="number of experts; default: 8"
    )
    add_fine_tuning(parser)
    add_table(parser)
    add_encoder(parser)
    add_cache(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train experts and students; write the models and print their figures."""
    from ...embed import DistilBertVectorizer
    from ...persistence.models import save_model
    from ...reports.sidecar import describe_encoder, versions, write_json
    from ...utils.steps import find_step
    from ..output import describe_files, say, say_encoder

    started = time.perf_counter()
    out = Path(arguments.out)
    rows, pool, test_rows = _read(arguments, out)
    texts = list(pool)
    classifier = _fit(arguments, rows, texts, out)
    vectorizer = find_step(classifier.student_, DistilBertVectorizer)
    say_encoder(vectorizer)
    facts: dict[str, object] = {
        "n_labelled": len(rows.texts),
        "n_pool": len(pool),
        "classes": classifier.classes_.tolist(),
        "experts": arguments.experts,
        "n_experts": arguments.n_experts,
        "clean": arguments.clean,
        "seed": arguments.seed,
        "text_column": rows.text_column,
        "encoder": describe_encoder(vectorizer),
        "versions": versions(),
    }
    models = classifier.models()
    for name, model in models.items():
        save_model(model, out / f"{name}.joblib")
    chosen, facts["compared"] = _compare(arguments, classifier, rows, texts)
    facts["model"] = chosen
    save_model(models[chosen], out / "model.joblib")
    if test_rows is not None:
        facts["metrics"] = _score(classifier, rows, test_rows)
    _write_tables(arguments, classifier, rows, pool, out)
    seconds = time.perf_counter() - started
    write_json({**facts, "seconds": seconds}, out / "fewshot.json")
    say("in all", f"{seconds:.1f} s")
    say("written", describe_files(out))
    say("use", f"model.joblib or model.skops ({chosen}): classify --model {out}")


def _read(arguments: argparse.Namespace, out: Path) -> tuple[Rows, dict[str, int], Rows | None]:
    """Return the labelled rows, the pool without texts of the other tables, and the test rows.

    The pool has the number of each text's first row, counted from 1 below the header.
    """
    import numpy as np

    from ...fewshot.pool import check_labelled, remove_known, warn_of_overlap
    from ...utils.cleaning import clean_texts
    from ..options import read_rows, read_test_rows, read_texts
    from ..output import count, describe_table, say
    from ..streams import check_exists

    clean = arguments.clean
    _check_training(arguments)
    check_exists(arguments, "data", "unlabelled", "test")
    _check_outputs(arguments, out)
    rows = read_rows(arguments, arguments.data)
    if not isinstance(rows.labels, np.ndarray):
        raise InputError(
            "name one column; fewshot takes one class for each text.", parameter="label_column"
        )
    check_labelled(clean_texts(rows.texts) if clean else rows.texts, rows.labels)
    _check_suggestions(arguments, out / SUGGESTIONS, str(rows.label_column))
    say("data", describe_table(rows.table, rows.text_column, rows.label_column))
    say("labels", count(rows.labels))
    table, column, texts = read_texts(arguments, arguments.unlabelled, rows.text_column)
    say("pool", describe_table(table, column))
    places = dict(zip(reversed(texts), range(len(texts), 0, -1), strict=True))
    pool = remove_known(
        list(dict.fromkeys(texts)),
        rows.texts,
        where=f"labelled in {Path(arguments.data).name}",
        clean=clean,
    )
    test_rows = None
    if arguments.test is not None:
        test_rows = read_test_rows(arguments, arguments.test, rows)
        say("test", describe_table(test_rows.table, rows.text_column, rows.label_column))
        where = f"rows of {Path(arguments.test).name}"
        pool = remove_known(pool, test_rows.texts, where=where, clean=clean)
        warn_of_overlap(rows.texts, test_rows.texts, where=where, clean=clean)
    if not pool:
        raise InputError(
            "has no text that is not in the other files already; there is nothing to teach "
            "students with.",
            parameter="unlabelled",
            value=arguments.unlabelled,
        )
    say("pool", f"{len(pool):,} texts")
    return rows, {text: places[text] for text in pool}, test_rows


def _check_training(arguments: argparse.Namespace) -> None:
    """Raise `InputError` for options of a training that does not take place."""
    for name in ("epochs", "batch_size"):
        value = getattr(arguments, name)
        if value is not None and arguments.experts != "finetuned":
            raise InputError("is for fine-tuned experts only.", parameter=name, value=value)


def _check_outputs(arguments: argparse.Namespace, out: Path) -> None:
    from ...tables.table import table_format
    from ...utils.files import check_can_write
    from ..options import check_not_an_input, check_output

    check_can_write(out / "model.joblib")
    if arguments.suggest is not None:
        check_not_an_input(arguments, "out", out / SUGGESTIONS)
    if arguments.soft_labels is not None:
        table_format(arguments.soft_labels)
        check_output(arguments, "soft_labels")


def _check_suggestions(arguments: argparse.Namespace, path: Path, label_column: str) -> None:
    """Raise `InputError` if somebody has filled in labels of an earlier run's suggestions."""
    import pandas as pd

    if arguments.suggest is None or not path.is_file():
        return
    earlier = pd.read_csv(path, keep_default_na=False, dtype=str)
    if label_column in earlier and earlier[label_column].ne("").any():
        raise InputError(
            f"{path}: has labels filled in, which would be overwritten; add its rows to --data, "
            f"then move it."
        )


def _fit(
    arguments: argparse.Namespace, rows: Rows, pool: list[str], out: Path
) -> FewShotClassifier:
    from ...fewshot.classifier import FewShotClassifier, make_expert_vectorizer
    from ..options import encoder_settings
    from ..output import describe_epoch, say

    settings, _ = encoder_settings(arguments)
    classifier = FewShotClassifier(
        vectorizer=make_expert_vectorizer(**settings),
        experts=arguments.experts,
        n_experts=arguments.n_experts,
        folder=out,
        recipe=_recipe(arguments),
        clean=arguments.clean,
        random_state=arguments.seed,
        n_jobs=arguments.n_jobs,
    )
    return classifier.fit(
        rows.texts,
        rows.labels,
        pool,
        on_expert=lambda name, metrics: say(name, describe_epoch(metrics)),
    )


def _compare(
    arguments: argparse.Namespace, classifier: FewShotClassifier, rows: Rows, pool: list[str]
) -> tuple[str, dict[str, object]]:
    """Compare the models by folds of the labelled rows; return the one to use, and the figures."""
    from dataclasses import asdict

    import numpy as np

    from ...fewshot.evaluation import compare_by_folds, recommended
    from ...reports.metrics import short
    from ..output import say

    started = time.perf_counter()
    try:
        found = compare_by_folds(classifier, rows.texts, np.asarray(rows.labels), pool)
    except InputError as error:
        say("compared", f"not by folds: {error.message} The teacher is taken.")
        return "teacher", {}
    chosen = recommended(found)
    score = {"accuracy": "accuracy", "macro_f1": "macro F1"}[found[chosen].scoring]
    took = f"in {time.perf_counter() - started:.1f} s"
    say("compared", f"by folds of the labelled rows {took}: {score}, above the teacher (95 %)")
    for name, one in found.items():
        (low, high), (worse, better) = one.interval, one.above_teacher_interval
        above = f"{one.above_teacher:+.3f} ({worse:+.3f} to {better:+.3f})"
        above = "" if name == "teacher" else above
        use = "to be used" if name == chosen else ""
        line = f"{name:14}{one.score:.3f} ({low:.3f} to {high:.3f})  {above:26}{use}"
        say("", line.rstrip())
    say("F1", f"{'':20}" + "".join(f"{name:>14}" for name in found))
    for label in list(found[chosen].per_class)[:MOST_CLASSES]:
        cells = "".join(f"{one.per_class.get(label, 0.0):14.3f}" for one in found.values())
        say("", f"{short(label, 19):20}" + cells)
    if missed := [name for name, f1 in found[chosen].per_class.items() if not f1]:
        named = ", ".join(repr(short(name)) for name in missed[:MOST_CLASSES])
        say("missed", f"{chosen} recognises no held-out row of {named}: label more of them")
    return chosen, {name: asdict(one) for name, one in found.items()}


def _score(classifier: FewShotClassifier, rows: Rows, test_rows: Rows) -> dict[str, Score]:
    """Score the models on the test rows, and print accuracy and macro F1 of each."""
    from ...fewshot.evaluation import score_models
    from ..output import say

    scores = score_models(classifier, rows.texts, rows.labels, test_rows.texts, test_rows.labels)
    say("scores", f"{'':16}accuracy  macro F1")
    for name, found in scores.items():
        say("", f"{name:16}{found['accuracy']:8.4f}  {found['macro_f1']:8.4f}")
    return scores


def _write_tables(
    arguments: argparse.Namespace,
    classifier: FewShotClassifier,
    rows: Rows,
    pool: dict[str, int],
    out: Path,
) -> None:
    """Write the texts to label next, and the pool's probabilities, if they are asked for."""
    import pandas as pd

    from ...fewshot.suggestion import reasons
    from ...tables.writing import write_table
    from ..output import say

    if arguments.suggest:
        chosen = classifier.suggest(arguments.suggest, arguments.seed)
        texts = [list(pool)[i] for i in chosen]
        why = reasons(classifier.pool_probabilities_[chosen], classifier.classes_.tolist())
        asked = {rows.text_column: texts, str(rows.label_column): [""] * len(texts)}
        more = {"row": [pool[text] for text in texts], **why}
        more = {f"{name}_" if name in asked else name: cells for name, cells in more.items()}
        write_table(asked | more, out / SUGGESTIONS)
        say("suggest", f"{len(texts):,} texts to label next: {out / SUGGESTIONS}")
    if arguments.soft_labels is not None:
        probabilities = {
            f"proba_{label}": classifier.pool_probabilities_[:, place]
            for place, label in enumerate(classifier.classes_)
        }
        frame = pd.DataFrame({rows.text_column: list(pool), **probabilities})
        write_table(frame, arguments.soft_labels)
        say("pool", f"with the teacher's probabilities: {arguments.soft_labels}")


def _recipe(arguments: argparse.Namespace) -> Recipe:
    """Return the library's recipe for experts, with what the options change in it."""
    from ...fewshot.classifier import EXPERT_RECIPE

    options = ("epochs", "batch_size", "max_length", "pooling", "device")
    given = {name: getattr(arguments, name) for name in options}
    return replace(EXPERT_RECIPE, **{k: v for k, v in given.items() if v is not None})
