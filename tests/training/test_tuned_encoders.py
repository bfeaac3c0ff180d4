"""Encoders that a budget trains for each fold: where they are, and that models find them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from budgets import FACTS, spelled

from frozenbert import load_model, make_text_classifier
from frozenbert.embed import DistilBertVectorizer
from frozenbert.errors import InputError
from frozenbert.heads.folds import Folds
from frozenbert.persistence import export_model
from frozenbert.training import save_training, train
from frozenbert.training.budget import spending
from frozenbert.training.budget.by_folds import contrastive
from frozenbert.training.budget.by_folds.contrastive import ContrastiveTuning, draw_pairs
from frozenbert.training.budget.by_folds.tuning import FineTuning
from frozenbert.training.budget.candidates import Material
from frozenbert.training.budget.gains import Gain
from frozenbert.utils.steps import find_steps


def material(tiny: str, folder: Path, y: np.ndarray | None = None) -> Material:
    texts, labels = spelled(40)
    embed = DistilBertVectorizer(tiny, cache_dir=None, progress=False).fit(texts)
    y = labels if y is None else y
    return Material(texts, y, Folds(2), "accuracy", embed, True, [], folder)


def test_pairs_are_of_one_class_and_of_two():
    y = np.array(["a", "b", "b", "c", "c", "c"])
    first, second, same = draw_pairs(y, draws=50)
    assert (first != second).all()
    assert ((y[first] == y[second]) == same.astype(bool)).all()
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    assert len(pairs) == 6 * 5  # all that exist; the only "a" has none of its own class
    assert (same == 1).sum() == 50 * 5
    assert (same == 0).sum() == 50 * 6


def test_contrastive_tuning_says_what_it_needs(tiny, tmp_path, monkeypatch):
    flags = np.ones((40, 2), dtype=int)
    step = ContrastiveTuning()
    assert step.why_not(material(tiny, tmp_path, flags)) == "it needs one class for each text"
    monkeypatch.setattr(contrastive, "is_installed", lambda library: library != "datasets")
    assert step.why_not(material(tiny, tmp_path)) == (
        'it needs sentence-transformers: pip install "frozenbert[contrastive]"'
    )


@pytest.mark.slow
@pytest.mark.parametrize("step", [FineTuning(epochs=1), ContrastiveTuning()])
def test_a_step_scores_rows_that_its_encoders_have_not_seen(step, tiny, tmp_path):
    for library in ("accelerate", *(contrastive.LIBRARIES if "contrastive" in step.name else ())):
        pytest.importorskip(library)
    rows = material(tiny, tmp_path)
    assert step.estimate(rows) > 0
    assert list(tmp_path.iterdir()) == []
    member = step.run(rows)
    assert member.scores.shape == (40, 1)
    assert step.n_encoders(rows) == len(member.transformer.estimators_) == 2
    for model, (_, test) in zip(member.transformer.estimators_, rows.splits, strict=True):
        p = model.predict_proba([rows.texts[i] for i in test])
        assert np.log(p[:, 1] / p[:, 0]) == pytest.approx(member.scores[test, 0], abs=1e-4)
    encoders = list(find_steps(member.transformer, DistilBertVectorizer))
    hashes = {embed.encoder_hash_ for embed in encoders} | {rows.embed.encoder_hash_}
    assert len(hashes) == 3


@pytest.mark.slow
def test_tuned_encoders_are_beside_the_model(tiny, tmp_path, monkeypatch):
    pytest.importorskip("accelerate")
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(Path(tiny).parent))
    monkeypatch.setattr(spending, "CANDIDATES", (FineTuning(epochs=1),))
    monkeypatch.setattr(spending, "measure_gain", lambda *_: Gain(0.1, 0.1, 0.1))
    texts, labels = spelled(60)
    folder = tmp_path / "model"
    (folder / "encoders" / "fine-tuning-9-0123abcd").mkdir(parents=True)  # of an earlier model
    model = make_text_classifier(tiny, C=0.1, cv=2, cache_dir=None, progress=False)
    training = train(
        model, texts[:40], labels[:40], texts[40:], labels[40:], budget="20m", folder=folder
    )
    expected = training.model.predict_proba(texts)
    save_training(training, folder, FACTS)
    names = sorted(path.name for path in (folder / "encoders").iterdir())
    assert [name[:14] for name in names] == ["fine-tuning-1-", "fine-tuning-2-"]
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    monkeypatch.chdir(moved.parent)
    for name in ("model.joblib", "model.skops"):
        assert str(tmp_path).encode() not in (moved / name).read_bytes()
        assert load_model(moved / name).predict_proba(texts) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(InputError, match="has 3 encoders"):
        export_model(moved, tmp_path / "runtime")
    shutil.rmtree(moved / "encoders" / names[0])
    with pytest.raises(InputError, match=names[0]):
        load_model(moved).predict_proba(texts)
    with pytest.raises(InputError, match=r"fit\(\) does not train the steps of a budget"):
        training.model.fit(texts, labels)
