"""Train on few labels and many texts without: experts, and students that they teach."""

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
from ..arguments import CLEAN, add_encoder, add_table, jobs, positive, seed

if TYPE_CHECKING:
    from ...fewshot.learning import FewShot

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--data", required=True, metavar="FILE", help="texts and labels")
    parser.add_argument(
        "--unlabelled", required=True, metavar="FILE", help="the pool: texts of the same kind"
    )
    parser.add_argument("--test", metavar="FILE", help="rows to measure on")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FOLDER",
        help="where teacher.joblib, student.joblib and student_words.joblib go",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N labelled rows")
    parser.add_argument("--clean", action="store_true", help=CLEAN)
    parser.add_argument(
        "--suggest", type=positive, metavar="N", help="write the N texts to label next, suggest.csv"
    )
    parser.add_argument(
        "--soft-labels", metavar="FILE", help="write the pool with the teacher's probabilities"
    )
    experts = parser.add_argument_group("experts")
    experts.add_argument(
        "--experts",
        choices=("frozen", "finetuned"),
        default="frozen",
        help="heads on frozen vectors (default), or a fine-tuned encoder for each",
    )
    experts.add_argument("--n-experts", type=positive, default=8, metavar="N", help="default: 8")
    experts.add_argument(
        "--epochs", type=positive, default=8, help="of fine-tuned experts; default: 8"
    )
    experts.add_argument(
        "--batch-size", type=positive, default=8, help="of fine-tuned experts; default: 8"
    )
    experts.add_argument("--seed", type=seed, default=0, help="default: 0")
    experts.add_argument("--n-jobs", type=jobs, metavar="N", help="processes for the experts")
    add_table(parser)
    add_encoder(parser)


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
    from ...tables.columns import labels_of, texts_of
    from ...tables.reading import table_format, write_table
    from ...training import check_classes
    from ...utils.cleaning import clean_texts
    from ...utils.files import check_can_write
    from ...utils.steps import find_step
    from ..options import check_can_write_file, encoder_settings, read_rows, read_test_rows
    from ..output import count, describe_table, of_epoch, say, say_encoder

    started = time.perf_counter()
    out = Path(arguments.out)
    check_can_write(out / "teacher.joblib")
    if arguments.soft_labels is not None:
        table_format(arguments.soft_labels)
        check_can_write_file(Path(arguments.soft_labels))
        for read in (arguments.data, arguments.unlabelled, arguments.test):
            if read is not None and Path(read).resolve() == Path(arguments.soft_labels).resolve():
                raise InputError(f"--soft-labels {read}: is read from; name another file.")
    table, text_column, label_column = read_rows(arguments, Path(arguments.data), True)
    if not isinstance(label_column, str):
        raise InputError("--label-column: one here; fewshot takes texts with one class each.")
    texts, labels = texts_of(table, text_column), labels_of(table, label_column)
    rare, n = min(Counter(labels.tolist()).items(), key=lambda item: item[1])
    if n < 2:
        raise InputError(f"the class {short(rare)!r} has one row; label another of it, or drop it.")
    check_classes(labels, 2)
    _check_suggestions(out / "suggest.csv", label_column)
    say("data", describe_table(table, text_column, label_column))
    say("labels", count(labels))
    pool = _read_pool(arguments, text_column)
    test_texts, test_labels = list[str](), np.array([])
    if arguments.test is not None:
        table, test_texts, test_labels = read_test_rows(
            arguments, arguments.test, text_column, label_column, labels
        )
        say("test", describe_table(table, text_column, label_column))
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
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
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
            on_expert=lambda name, figures: say(name, of_epoch(figures)),
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
    say("written", f"{out}: {', '.join(sorted(f.name for f in out.iterdir() if f.is_file()))}")


def _read_pool(arguments: argparse.Namespace, text_column: str) -> list[str]:
    from ...tables.columns import find_columns, texts_of
    from ...tables.reading import read_table
    from ..output import describe_table, say

    table = read_table(arguments.unlabelled, header=arguments.header, columns=[text_column])
    column = text_column if text_column in table.frame.columns else arguments.text_column
    column, _ = find_columns(table, column, None, need_label=False)
    say("pool", describe_table(table, column, None))
    return list(dict.fromkeys(texts_of(table, column)))


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
