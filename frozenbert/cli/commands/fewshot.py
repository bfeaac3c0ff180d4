"""Train on few labels and many unlabelled texts: experts teach student models."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from ...fewshot.learning import FewShot

__all__ = ["add_arguments", "run"]


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
        help="where teacher.joblib, student.joblib and student_words.joblib go",
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
        choices=("frozen", "finetuned"),
        default="frozen",
        help="classifiers on vectors of a frozen encoder (default), or a fine-tuned encoder each",
    )
    experts.add_argument(
        "--n-experts", type=positive, default=8, metavar="N", help="number of experts; default: 8"
    )
    add_fine_tuning(parser)
    add_table(parser)
    add_encoder(parser)
    add_cache(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train experts on few labels and students on a pool; print what they are worth."""
    import numpy as np
    import pandas as pd

    from ...embed import DistilBertVectorizer
    from ...encoders.sources import find_encoder
    from ...fewshot.learning import finetuned_experts, learn
    from ...finetune.finetuning import Recipe
    from ...persistence import save_model
    from ...reports.metrics import short
    from ...reports.sidecar import describe_encoder, versions, write_json
    from ...tables.table import table_format
    from ...tables.writing import write_table
    from ...training import check_classes
    from ...utils.cleaning import clean_texts
    from ...utils.files import check_can_write
    from ...utils.steps import find_step
    from ..options import check_output, encoder_settings, read_rows, read_test_rows, read_texts
    from ..output import count, describe_epoch, describe_files, describe_table, say, say_encoder

    started = time.perf_counter()
    out = Path(arguments.out)
    check_can_write(out / "teacher.joblib")
    if arguments.soft_labels is not None:
        table_format(arguments.soft_labels)
        check_output(arguments, "soft_labels")
    rows = read_rows(arguments, arguments.data)
    table, text_column, label_column = rows.table, rows.text_column, rows.label_column
    if not isinstance(label_column, str) or not isinstance(rows.labels, np.ndarray):
        raise InputError(
            "name one column; fewshot takes one class for each text.", parameter="label_column"
        )
    texts, labels = rows.texts, rows.labels
    rare, n = min(Counter(labels.tolist()).items(), key=lambda item: item[1])
    if n < 2:
        raise InputError(f"the class {short(rare)!r} has one row; label another of it, or drop it.")
    check_classes(labels, 2)
    _check_suggestions(out / "suggest.csv", label_column)
    say("data", describe_table(table, text_column, label_column))
    say("labels", count(labels))
    table, column, pool = read_texts(arguments, arguments.unlabelled, text_column)
    pool = list(dict.fromkeys(pool))
    say("pool", describe_table(table, column))
    test_texts, test_labels = list[str](), np.array([])
    if arguments.test is not None:
        test_rows = read_test_rows(arguments, arguments.test, rows)
        test_texts, test_labels = test_rows.texts, test_rows.labels
        say("test", describe_table(test_rows.table, text_column, label_column))
    seen = clean_texts if arguments.clean else list
    pool = _left_out(pool, texts, seen, f"labelled in {Path(arguments.data).name}")
    pool = _left_out(pool, test_texts, seen, f"rows of {arguments.test}, which is measured on")
    if both := len(set(seen(texts)) & set(seen(test_texts))):
        print(
            f"warning: {both:,} labelled texts are rows of {arguments.test}, too, whose figures "
            f"are too good by that.",
            file=sys.stderr,
        )
    if not any(re.search(r"\w", text) for text in seen(texts)):
        raise InputError("none of the labelled texts holds a letter or a digit.")
    if not len(pool):
        raise InputError(
            f"--unlabelled {arguments.unlabelled}: has no text that is not in the other files "
            f"already; there is nothing to teach on."
        )
    say("pool", f"{len(pool):,} texts")

    settings, _ = encoder_settings(arguments)
    files = find_encoder(
        settings["model_name"], arguments.revision, local_files_only=arguments.offline
    )
    n = files.n_layers
    settings = {"layers": tuple(range(n // 2 + 1, n + 1)), "pooling": ("cls", "mean")} | settings
    vectorizer = DistilBertVectorizer(**settings)
    experts = None
    if arguments.experts == "finetuned":
        recipe = Recipe(
            epochs=arguments.epochs or 8,
            batch_size=arguments.batch_size or 8,
            max_length=arguments.max_length,
            pooling=arguments.pooling or "auto",
            device=arguments.device,
        )
        passed_on = ("precision", "backend", "device", "long_text", "max_length", "cache_dir")
        out.mkdir(parents=True, exist_ok=True)
        experts = finetuned_experts(
            files,
            seen(texts),
            labels,
            out,
            recipe,
            arguments.n_experts,
            arguments.seed,
            on_expert=lambda name, figures: say(name, describe_epoch(figures)),
            **{key: settings[key] for key in passed_on if key in settings},
        )
    learned = learn(
        texts,
        labels,
        pool,
        vectorizer,
        experts=experts,
        n_experts=arguments.n_experts,
        clean=arguments.clean,
        random_state=arguments.seed,
        n_jobs=arguments.n_jobs,
    )
    vectorizer = find_step(learned.student, DistilBertVectorizer)
    say_encoder(vectorizer)
    facts: dict[str, Any] = {
        "n_labelled": len(texts),
        "n_pool": len(pool),
        "classes": learned.classes,
        "experts": arguments.experts,
        "n_experts": arguments.n_experts,
        "clean": arguments.clean,
        "seed": arguments.seed,
        "text_column": text_column,
        "encoder": describe_encoder(vectorizer),
        "versions": versions(),
    }
    for name in ("teacher", "student", "student_words"):
        save_model(getattr(learned, name), out / f"{name}.joblib")
    if test_texts:
        facts["metrics"] = _few_figures(arguments, learned, texts, labels, test_texts, test_labels)
    if arguments.suggest:
        rows = learned.suggest(arguments.suggest, arguments.seed)
        chosen = pd.DataFrame({text_column: [pool[i] for i in rows], label_column: ""})
        write_table(chosen, out / "suggest.csv")
        say("suggest", f"{len(rows):,} texts to label next: {out / 'suggest.csv'}")
    if arguments.soft_labels is not None:
        p = {f"proba_{c}": learned.probabilities[:, i] for i, c in enumerate(learned.classes)}
        write_table(pd.DataFrame({text_column: pool, **p}), arguments.soft_labels)
        say("pool", f"with the teacher's probabilities: {arguments.soft_labels}")
    facts["seconds"] = time.perf_counter() - started
    write_json(facts, out / "fewshot.json")
    say("in all", f"{facts['seconds']:.1f} s")
    say("written", describe_files(out))


def _check_suggestions(path: Path, label_column: str) -> None:
    """Raise `InputError` if somebody has begun to fill in the labels of a former run."""
    import pandas as pd

    if not path.is_file():
        return
    before = pd.read_csv(path, keep_default_na=False, dtype=str)
    if label_column in before and before[label_column].ne("").any():
        raise InputError(
            f"{path}: has labels filled in, which would be overwritten: add its rows to --data, "
            f"then move it."
        )


def _left_out(
    pool: list[str], known: list[str], seen: Callable[[list[str]], list[str]], where: str
) -> list[str]:
    there = set(seen(known))
    kept = [text for text, as_seen in zip(pool, seen(pool), strict=True) if as_seen not in there]
    if len(kept) < len(pool):
        print(
            f"{len(pool) - len(kept):,} texts of the pool are left out: they are {where}.",
            file=sys.stderr,
        )
    return kept


def _few_figures(
    arguments: argparse.Namespace,
    learned: FewShot,
    texts: list[str],
    labels: Any,
    test_texts: list[str],
    test_labels: Any,
) -> dict[str, Any]:
    """Score the models, and what is there without a pool, on the test rows."""
    import numpy as np

    from ...heads.words import make_words_baseline
    from ...reports.metrics import score
    from ...utils.cleaning import clean_texts
    from ..output import say

    seen, asked = texts, test_texts
    if arguments.clean:
        seen, asked = clean_texts(texts), clean_texts(test_texts)
    folds = min(5, int(np.unique(labels, return_counts=True)[1].min()))
    words = make_words_baseline(cv=folds, random_state=arguments.seed).fit(seen, labels)
    answers = {"TF-IDF, no pool": words.predict(asked)}
    for name in ("experts", "teacher", "student", "student_words"):
        answers[name] = getattr(learned, name).predict(test_texts)
    figures = {name: score(test_labels, found) for name, found in answers.items()}
    say("figures", f"{'':18}accuracy  macro F1")
    for name, found in figures.items():
        say("", f"{name:18}{found['accuracy']:8.4f}  {found['macro_f1']:8.4f}")
    return figures
