"""Encoders that a budget trains for each fold: where they are, and that models find them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from budgets import FACTS, spelled
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import PredefinedSplit

from frozenbert import load_model, make_text_classifier
from frozenbert.embed import DistilBertVectorizer
from frozenbert.errors import InputError
from frozenbert.heads.folds import Folds
from frozenbert.persistence import export_model
from frozenbert.training import save_training, train
from frozenbert.training.budget import spending
from frozenbert.training.budget.by_folds import contrastive, cross_fitting
from frozenbert.training.budget.by_folds.contrastive import ContrastiveTuning
from frozenbert.training.budget.by_folds.cross_fitting import _classifier_on as classifier_on
from frozenbert.training.budget.by_folds.tuning import FineTuning
from frozenbert.training.budget.candidates import Material, held_out_part
from frozenbert.training.budget.gains import Gain
from frozenbert.utils.steps import find_steps


def material(tiny: str, folder: Path, y: np.ndarray | None = None) -> Material:
    texts, labels = spelled(40)
    embed = DistilBertVectorizer(tiny, cache_dir=None, progress=False).fit(texts)
    y = labels if y is None else y
    return Material(texts, y, Folds(2), "accuracy", embed, True, [], folder)


def test_contrastive_tuning_says_what_it_needs(tiny, tmp_path, monkeypatch):
    flags = np.ones((40, 2), dtype=int)
    step = ContrastiveTuning()
    assert step.why_not(material(tiny, tmp_path, flags)) == "it needs one class for each text"
    monkeypatch.setattr(contrastive, "is_installed", lambda library: library != "datasets")
    assert step.why_not(material(tiny, tmp_path)) == (
        'it needs sentence-transformers: pip install "frozenbert[contrastive]"'
    )


@pytest.mark.slow
@pytest.mark.parametrize("step", [FineTuning(n_folds=2, epochs=1), ContrastiveTuning(n_folds=2)])
def test_a_step_scores_rows_that_its_encoders_have_not_seen(step, tiny, tmp_path):
    for library in ("accelerate", *(contrastive.LIBRARIES if "contrastive" in step.name else ())):
        pytest.importorskip(library)
    rows = material(tiny, tmp_path)
    assert step.sized(rows, 600.0)[1] > 0
    assert list(tmp_path.iterdir()) == []
    member = step.run(rows)
    assert member.scores.shape == (40, 1)
    for number, (_, test) in enumerate(rows.splits, 1):
        folder = tmp_path / f"2-{step.epochs}-{number}"
        model = classifier_on(folder, rows)
        train = np.setdiff1d(np.arange(40), test)
        model.fit([rows.texts[i] for i in train], rows.y[train])
        p = model.predict_proba([rows.texts[i] for i in test])
        assert np.log(p[:, 1] / p[:, 0]) == pytest.approx(member.scores[test, 0], abs=1e-4)
    encoders = list(find_steps(member.transformer, DistilBertVectorizer))
    assert len(encoders) == step.n_encoders == 1
    assert encoders[0].encoder_hash_ != rows.embed.encoder_hash_


@pytest.mark.parametrize(
    ("seconds", "size"), [(9999.0, (3, 4)), (1000.0, (3, 2)), (500.0, (2, 1)), (1.0, (2, 1))]
)
def test_a_step_takes_the_largest_size_that_fits(seconds, size, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(cross_fitting, "_time_training", lambda *_: (2.0, 0.0))
    rows = replace(material(tiny, tmp_path), folds=Folds(5))
    step, expected = FineTuning().sized(rows, seconds)
    assert (step.n_folds, step.epochs) == size
    assert (expected <= seconds) == (seconds > 1)
    assert FineTuning(n_folds=2).sized(rows, 9999.0)[0].n_folds == 2


def test_fewer_folds_keep_rows_together():
    texts, labels = spelled(40)
    groups = np.repeat(np.arange(5), 8)
    rows = Material(texts, labels, PredefinedSplit(groups), None, None, True, [], Path())  # type: ignore[arg-type]
    few = rows.in_folds(3)
    assert few.folds.get_n_splits() == 3
    tests = [test for _, test in few.splits]
    assert sorted(np.concatenate(tests).tolist()) == list(range(40))
    of_group = [{number for number, test in enumerate(tests) if row in test} for row in range(40)]
    assert all(of_group[row] == of_group[8 * (row // 8)] for row in range(40))
    assert rows.in_folds(5) is rows


@pytest.mark.slow
def test_tuned_encoders_are_beside_the_model(tiny, tmp_path, monkeypatch):
    pytest.importorskip("accelerate")
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(Path(tiny).parent))
    monkeypatch.setattr(spending, "CANDIDATES", (FineTuning(epochs=1), FineTuning("again", 1)))
    monkeypatch.setattr(spending, "measure_gain", lambda *_: Gain(0.1, 0.1, 0.1))
    texts, labels = spelled(60)
    folder = tmp_path / "model"
    (folder / "encoders" / "fine-tuning-0123abcd").mkdir(parents=True)  # of an earlier model
    model = make_text_classifier(tiny, C=0.1, cv=2, cache_dir=None, progress=False)
    training = train(
        model, texts[:40], labels[:40], texts[40:], labels[40:], budget="20m", folder=folder
    )
    expected = training.model.predict_proba(texts)
    save_training(training, folder, FACTS)
    names = sorted(path.name for path in (folder / "encoders").iterdir())
    assert [name[:-8] for name in names] == ["again-", "fine-tuning-"]
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    monkeypatch.chdir(moved.parent)
    for name in ("model.joblib", "model.skops"):
        assert str(tmp_path).encode() not in (moved / name).read_bytes()
        assert load_model(moved / name).predict_proba(texts) == pytest.approx(expected, abs=1e-5)
    exported = load_model(export_model(moved, tmp_path / "runtime"))
    assert exported.predict_proba(texts) == pytest.approx(expected, abs=1e-3)
    with pytest.raises(InputError, match="this model has several encoders; put their folders"):
        export_model(moved, tmp_path / "other", encoder_path=tiny)
    shutil.rmtree(moved / "encoders" / names[0])
    with pytest.raises(InputError, match=names[0]):
        load_model(moved).predict_proba(texts)
    with pytest.raises(InputError, match=r"fit\(\) does not train the steps of a budget"):
        training.model.fit(texts, labels)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=3, max_size=60).filter(lambda y: len(set(y)) < len(y)),
    st.sampled_from([0.01, 0.1, 0.3]),
)
def test_no_class_is_in_the_validation_rows_alone(y, share):
    labels = np.array(y)
    train, valid = held_out_part(labels, share, seed=0)
    assert len(valid) >= 1
    assert sorted([*train, *valid]) == list(range(len(y)))
    assert set(labels[valid]) <= set(labels[train])
