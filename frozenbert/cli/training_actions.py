"""What the commands do that train: a classifier, one from few labels, an encoder."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..bulk.cluster import cluster, describe_workers, searched_on
from ..embed import DistilBertVectorizer
from ..encoders.sources import find_encoder
from ..errors import InputError
from ..fewshot.classifier import FewShotClassifier, make_expert_vectorizer
from ..fewshot.evaluation import score_models
from ..fewshot.pool import check_labelled, remove_known, warn_of_overlap
from ..finetune.encoder_folder import n_trained_on
from ..finetune.finetuning import finetune as finetune_encoder
from ..finetune.recipe import Recipe
from ..persistence import save_model
from ..pipeline import make_text_classifier
from ..reports.sidecar import describe_encoder, versions, write_json
from ..tables.columns import find_columns, labels_of, texts_of
from ..tables.reading import read_table, table_format, write_table
from ..training import check_classes, hold_out, save_training
from ..training import train as train_model
from ..utils.cleaning import clean_texts
from ..utils.files import check_can_write, sha256_of_file
from ..utils.steps import find_step
from .options import (
    check_can_write_file,
    encoder_name,
    encoder_settings,
    read_labels,
    read_rows,
    read_soft_rows,
    read_test_rows,
)
from .output import count, describe_table, of_epoch, print_training, say, say_encoder

__all__ = ["fewshot", "finetune", "train"]


def train(arguments: argparse.Namespace) -> None:
    """Train, measure and save; print what came out."""
    started = time.perf_counter()
    data = Path(arguments.data)
    name = re.sub(r"(\.[^.]+)?(\.gz)?$", "", data.name, count=1, flags=re.IGNORECASE)
    out = Path(arguments.out or Path("artifacts") / name)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; a folder's name is needed.")
    check_can_write(out / "model.joblib")

    table, text_column, label_column = read_rows(arguments, data, need_label=True)
    assert label_column is not None  # was needed
    texts = texts_of(table, text_column)
    labels = read_labels(arguments, table, label_column)
    source = {
        "file": data.name,
        "sha256": sha256_of_file(data),
        "text_column": text_column,
        "label_column": label_column,
    }
    say("data", describe_table(table, text_column, label_column))
    if arguments.test is None:
        texts, test_texts, labels, test_labels = hold_out(texts, labels, arguments.seed)
        test: dict[str, Any] = {
            "description": f"a stratified quarter of {data.name} (seed {arguments.seed})"
        }
        test_described = f"{len(test_texts):,} rows, {test['description']}"
    else:
        table, test_texts, test_labels = read_test_rows(
            arguments, arguments.test, text_column, label_column, labels
        )
        test = {
            "description": f"all of {Path(arguments.test).name}",
            "file": Path(arguments.test).name,
            "sha256": sha256_of_file(arguments.test),
        }
        test_described = describe_table(table, text_column, label_column)
    check_classes(labels, arguments.cv)
    say("train", f"{len(texts):,} rows; {count(labels)}")
    say("test", test_described)
    if arguments.model is not None:
        seen = clean_texts(test_texts) if arguments.clean else test_texts
        if trained_on := n_trained_on(arguments.model, seen):
            test["n_trained_on"] = trained_on
            print(
                f"warning: the encoder was fine-tuned on {trained_on:,} of the {len(seen):,} test "
                f"rows: the figures say nothing about new texts. Measure on others, with --test.",
                file=sys.stderr,
            )

    settings, notice = encoder_settings(arguments)
    model = make_text_classifier(
        **settings,
        search=arguments.search,
        with_tfidf=arguments.with_tfidf,
        clean=arguments.clean,
        multi_label=np.ndim(labels) == 2,
        calibrate=arguments.calibrate,
        class_weight=arguments.class_weight,
        scoring=arguments.scoring,
        C=arguments.C,
        cv=arguments.cv,
        random_state=arguments.seed,
        n_jobs=arguments.n_jobs,
    )
    reading = time.perf_counter() - started
    with contextlib.ExitStack() as stack:
        if arguments.workers or arguments.scheduler:
            client = stack.enter_context(cluster(arguments.scheduler, arguments.workers))
            say("cluster", describe_workers(client))
            stack.enter_context(searched_on(client))
        training = train_model(
            model, texts, labels, test_texts, test_labels, examples=not arguments.no_examples
        )
    training.seconds = {"reading": reading, **training.seconds}
    # Saved before it is shown: whoever reads our output may be gone by now.
    save_training(training, out, {"notice": notice, "training": source, "test": test})
    print_training(training)
    say("in all", f"{time.perf_counter() - started:.1f} s")
    say("written", f"{out}: {', '.join(sorted(f.name for f in out.iterdir() if f.is_file()))}")


def fewshot(arguments: argparse.Namespace) -> None:
    """Train experts on few labels and students on a pool; print what they are worth."""
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
    check_labelled(clean_texts(texts) if arguments.clean else texts, labels)
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
    clean, name = arguments.clean, Path(arguments.data).name
    pool = remove_known(pool, texts, where=f"labelled in {name}", clean=clean)
    pool = remove_known(pool, test_texts, where=f"rows of {arguments.test}", clean=clean)
    warn_of_overlap(texts, test_texts, where=f"rows of {arguments.test}", clean=clean)
    if not len(pool):
        raise InputError(
            f"{arguments.unlabelled} has no text that is not in the other files already.",
            parameter="unlabelled",
        )
    say("pool", f"{len(pool):,} texts")

    settings, _ = encoder_settings(arguments)
    learned = FewShotClassifier(
        vectorizer=make_expert_vectorizer(**settings),
        experts=arguments.experts,
        n_experts=arguments.n_experts,
        folder=out,
        recipe=Recipe(
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            max_length=arguments.max_length,
            pooling=arguments.pooling or "auto",
            device=arguments.device,
        ),
        clean=clean,
        random_state=arguments.seed,
        n_jobs=arguments.n_jobs,
    )
    learned.fit(
        texts, labels, pool, on_expert=lambda name, metrics: say(name, of_epoch({**metrics}))
    )
    vectorizer = find_step(learned.student_, DistilBertVectorizer)
    say_encoder(vectorizer)
    facts: dict[str, Any] = {
        "n_labelled": len(texts),
        "n_pool": len(pool),
        "classes": learned.classes_.tolist(),
        "experts": arguments.experts,
        "n_experts": arguments.n_experts,
        "clean": arguments.clean,
        "seed": arguments.seed,
        "text_column": text_column,
        "encoder": describe_encoder(vectorizer),
        "versions": versions(),
    }
    for name, model in learned.models().items():
        if name != "experts":
            save_model(model, out / f"{name}.joblib")
    if test_texts:
        facts["metrics"] = score_models(learned, texts, labels, test_texts, test_labels)
        say("figures", f"{'':18}accuracy  macro F1")
        for name, found in facts["metrics"].items():
            say("", f"{name:18}{found['accuracy']:8.4f}  {found['macro_f1']:8.4f}")
    if arguments.suggest:
        rows = learned.suggest(arguments.suggest, arguments.seed)
        chosen = pd.DataFrame({text_column: [pool[i] for i in rows], label_column: ""})
        write_table(chosen, out / "suggest.csv")
        say("suggest", f"{len(rows):,} texts to label next: {out / 'suggest.csv'}")
    if arguments.soft_labels is not None:
        soft = learned.pool_probabilities_
        p = {f"proba_{c}": soft[:, i] for i, c in enumerate(learned.classes_)}
        write_table(pd.DataFrame({text_column: pool, **p}), arguments.soft_labels)
        say("pool", f"with the teacher's probabilities: {arguments.soft_labels}")
    facts["seconds"] = time.perf_counter() - started
    write_json(facts, out / "fewshot.json")
    say("in all", f"{facts['seconds']:.1f} s")
    say("written", f"{out}: {', '.join(sorted(f.name for f in out.iterdir() if f.is_file()))}")


def _read_pool(arguments: argparse.Namespace, text_column: str) -> list[str]:
    table = read_table(arguments.unlabelled, header=arguments.header, columns=[text_column])
    column = text_column if text_column in table.frame.columns else arguments.text_column
    column, _ = find_columns(table, column, None, need_label=False)
    say("pool", describe_table(table, column, None))
    return list(dict.fromkeys(texts_of(table, column)))


def _check_suggestions(path: Path, label_column: str) -> None:
    """Raise `InputError` if somebody has begun to fill in the labels of a former run."""
    if not path.is_file():
        return
    before = pd.read_csv(path, keep_default_na=False, dtype=str)
    if label_column in before and before[label_column].ne("").any():
        raise InputError(
            f"{path}: has labels filled in, which would be overwritten: add its rows to --data, "
            f"then move it."
        )


def finetune(arguments: argparse.Namespace) -> None:
    """Fine-tune an encoder; print each epoch's figures."""
    out = Path(arguments.out)
    check_can_write(out / "config.json")
    recipe = Recipe(**{name: getattr(arguments, name) for name in Recipe.__dataclass_fields__})
    soft = arguments.soft_label_column
    if soft and (arguments.label_column or arguments.label_separator):
        raise InputError("--soft-label-column stands in place of labels: leave those options out.")

    if soft:
        table, text_column, labels = read_soft_rows(arguments, arguments.data)
        texts = texts_of(table, text_column)
    else:
        table, text_column, label_column = read_rows(arguments, Path(arguments.data), True)
        assert label_column is not None  # was needed
        say("data", describe_table(table, text_column, label_column))
        texts, labels = texts_of(table, text_column), read_labels(arguments, table, label_column)
    if arguments.valid is None:
        texts, valid_texts, labels, valid_labels = hold_out(texts, labels, arguments.seed, parts=10)
    elif soft:
        table, _, valid_labels = read_soft_rows(arguments, arguments.valid, text_column)
        valid_texts = texts_of(table, text_column)
    else:
        assert label_column is not None
        _, valid_texts, valid_labels = read_test_rows(
            arguments, arguments.valid, text_column, label_column, labels
        )
    say("train", f"{len(texts):,} rows")
    say("valid", f"{len(valid_texts):,} rows{'' if arguments.valid else ', one of ten'}")
    name, _ = encoder_name(arguments)
    files = find_encoder(name, arguments.revision, local_files_only=arguments.offline)
    done = finetune_encoder(
        files,
        texts,
        labels,
        valid_texts,
        valid_labels,
        out,
        recipe,
        clean=arguments.clean,
        on_epoch=lambda epoch: say(f"epoch {epoch['epoch']}", of_epoch({**epoch})),
        progress=sys.stderr.isatty(),
    )
    if done.skipped:
        say("before", "the same training was done already")
    say("kept", f"epoch {done.metrics['epoch']}: {of_epoch({**done.metrics})}")
    if not done.skipped:
        say("in all", f"{done.seconds:.1f} s")
    say("written", f"{out}: {', '.join(sorted(f.name for f in out.iterdir() if f.is_file()))}")
    clean = " --clean" if arguments.clean else ""
    say("next", f"pipeline.py --data {arguments.data} --test OTHER_ROWS --model {out}{clean}")
