"""Progress bars, and the user's line."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
from tqdm import tqdm

from frozenbert import DistilBertVectorizer
from frozenbert.fewshot.classifier import FewShotClassifier
from frozenbert.fewshot.evaluation import compare_by_folds
from frozenbert.heads.logistic import make_head
from frozenbert.heads.votes.out_of_fold import out_of_fold
from frozenbert.utils import console

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 8)), RNG.integers(0, 2, 60)


@pytest.fixture
def watched(monkeypatch):
    """Let somebody watch stderr, and show bars at once, and each step of them."""
    init = functools.partialmethod(tqdm.__init__, mininterval=0)
    monkeypatch.setattr(tqdm, "__init__", init)
    monkeypatch.setattr(console, "is_watched", lambda: True)
    monkeypatch.setattr(console, "SHOWN_AFTER", 1e-6)


def titles(capsys):
    return {part.split(":")[0].strip() for part in capsys.readouterr().err.split("\r")} - {""}


def test_each_part_of_a_search_has_a_bar(watched, capsys):
    make_head(C=[0.1, 1.0, 10.0], cv=3).fit(X, Y)
    assert titles(capsys) == {"Search for C"}
    make_head(C=[0.1, 1.0], cv=2, multi_label=True).fit(X, np.stack([Y, 1 - Y], axis=1))
    assert titles(capsys) == {"Search for C", "Out-of-fold scores", "Thresholds"}
    names = [
        f"layer{layer}_{how}_{i}" for layer in (1, 2) for how in ("cls", "mean") for i in (0, 1)
    ]
    make_head(C=[0.1, 1.0], cv=2, search="features").fit(pd.DataFrame(X, columns=names), Y)
    assert titles(capsys) == {"Layers and pooling, round 1 of 1", "Search for C"}


def test_out_of_fold_probabilities_have_a_bar(watched, capsys):
    head = make_head(C=[0.1, 1.0], cv=3).fit(X, Y)
    capsys.readouterr()
    out_of_fold(head, X, Y, "predict_proba")
    shown = capsys.readouterr().err
    assert "Out-of-fold scores" in shown
    assert "3/3" in shown


def test_each_part_of_learning_from_few_labels_has_a_bar(watched, tiny, capsys):
    texts = [f"{word} {noun}" for word in ("good", "bad") for noun in ("film", "plot", "cast")]
    labels = np.array(["good"] * 3 + ["bad"] * 3)
    embed = DistilBertVectorizer(tiny, layers="all", pooling=("cls", "mean"), cache_dir=None)
    few = FewShotClassifier(vectorizer=embed, n_experts=2)
    few.fit(texts, labels, ["good scene", "bad scene"])
    assert titles(capsys) == {"Vectors", "Experts", "Students"}
    compare_by_folds(few, texts, labels, ["good scene", "bad scene"])
    assert titles(capsys) == {"Comparing models"}
    embed.set_params(progress=False)
    few.fit(texts, labels, ["good scene", "bad scene"])
    assert titles(capsys) == set()


def test_a_bar_has_the_time_left_and_is_removed(watched, capsys):
    make_head(C=[0.1, 1.0, 10.0], cv=3).fit(X, Y)
    shown = capsys.readouterr().err
    assert "/9 [" in shown
    assert "<" in shown
    assert shown.rsplit("\r", 1)[1].strip() == ""


def test_nobody_watches(capsys):
    make_head(C=[0.1, 1.0], cv=2).fit(X, Y)
    assert capsys.readouterr().err == ""


def test_bars_of_a_context(watched, capsys):
    with console.bars(False):
        make_head(C=[0.1, 1.0], cv=2).fit(X, Y)
        with console.bars("auto"):
            make_head(C=[0.1, 1.0], cv=2).fit(X, Y)
    assert capsys.readouterr().err == ""


def test_one_text_has_no_bar_unless_it_is_asked_for(tiny, watched, capsys):
    embed = DistilBertVectorizer(tiny, cache_dir=None).fit([""])
    embed.transform(["a film"])
    assert capsys.readouterr().err == ""
    embed.set_params(progress=True).transform(["a film"])
    shown = capsys.readouterr().err
    assert "Vectors" in shown
    assert shown.rsplit("\r", 1)[1].strip() == ""


def test_no_bar_stays_behind_for_blocks_that_are_soon_ready(tiny, monkeypatch, capsys):
    monkeypatch.setattr(console, "is_watched", lambda: True)
    monkeypatch.setattr(console, "SHOWN_AFTER", 60.0)
    embed = DistilBertVectorizer(tiny, cache_dir=None).fit([""])
    assert sum(map(len, embed.transform_iter(["a film", "a plot", "a film"], block_size=2))) == 3
    assert capsys.readouterr().err == ""
