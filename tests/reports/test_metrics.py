"""Figures of what a model is worth."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score

from frozenbert.reports.metrics import (
    brier_score,
    calibration_error,
    doubtful_labels,
    intervals,
    mistakes,
    score,
    score_as_text,
    summarize,
)


def answers(seed: int, n: int, many: bool):
    rng = np.random.default_rng(seed)
    if many:
        return (rng.random((2, n, 3)) < [0.5, 0.2, 0.05]).astype(int)
    true = np.array(["a", "b", "c"], dtype=object)[rng.integers(0, 3, n)]
    return true, np.where(rng.random(n) < 0.7, true, "b")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 60), st.booleans())
def test_figures_are_scikit_learns(seed, n, many):
    true, predicted = answers(seed, n, many)
    figures = score(true, predicted)
    assert figures["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    expected = f1_score(true, predicted, average="macro", zero_division=0)
    assert figures["macro_f1"] == pytest.approx(expected)
    if many:
        expected = f1_score(true, predicted, average="micro", zero_division=0)
        assert figures["micro_f1"] == pytest.approx(expected)


@pytest.mark.parametrize("many", [False, True])
def test_intervals_hold_the_figure_and_shrink(many):
    widths = []
    for n in (100, 1600):
        true, predicted = answers(0, n, many)
        other = np.roll(predicted, 1, axis=0)
        found = intervals(true, predicted, other)
        figures, others = score(true, predicted), score(true, other)
        for key in ("accuracy", "macro_f1"):
            low, high = found[key]
            assert low < figures[key] < high
            low, high = found[f"{key}_above_baseline"]
            assert low < figures[key] - others[key] < high
        widths.append(found["accuracy"][1] - found["accuracy"][0])
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.4)


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    held = 0
    for seed in range(60):
        right = np.random.default_rng(seed).random(300) < 0.8
        low, high = intervals(np.ones(300, dtype=int), right.astype(int))["accuracy"]
        held += low <= 0.8 <= high
    assert held >= 51  # 57 of 60 on average


def test_intervals_of_equal_answers_and_of_one_row():
    true, predicted = answers(0, 50, False)
    assert intervals(true, predicted, predicted)["accuracy_above_baseline"] == [0, 0]
    assert intervals(true[:1], predicted[:1]) == {}


@pytest.mark.parametrize("n_classes", [2, 4])
def test_brier_score(n_classes):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(n_classes), 200)
    y = rng.integers(0, n_classes, 200)
    classes = [f"c{i}" for i in range(n_classes)]
    named = np.array(classes, dtype=object)[y]
    found = brier_score(named, p, classes)
    if n_classes == 2:
        assert found == pytest.approx(brier_score_loss(y, p[:, 1]))
    else:
        assert found == pytest.approx(((p - np.eye(n_classes)[y]) ** 2).sum(axis=1).mean())


def test_calibration_error_of_what_is_calibrated_and_of_what_is_not():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 20_000)
    p = np.column_stack([1 - sure, sure])
    y = (rng.random(20_000) < sure).astype(int)
    assert calibration_error(y, p, [0, 1]) < 0.02
    boasting = np.column_stack([1 - np.sqrt(sure), np.sqrt(sure)])
    expected = float(np.mean(np.sqrt(sure) - sure))
    assert calibration_error(y, boasting, [0, 1]) == pytest.approx(expected, abs=0.02)
    flags = np.column_stack([y, 1 - y])
    assert calibration_error(flags, np.column_stack([sure, 1 - sure]), ["a", "b"]) < 0.02
    assert calibration_error(np.array([1]), np.array([[0.0, 1.0]]), [0, 1]) == 0


def test_the_surest_mistakes_come_first():
    texts = list("abcd")
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.01, 0.99]])
    true, predicted = np.array(["n", "n", "n", "y"]), np.array(["n", "y", "y", "y"])
    found = mistakes(texts, true, predicted, p, ["n", "y"])
    assert [(one["text"], one["probability"]) for one in found] == [("b", 0.8), ("c", 0.6)]
    assert (found[0]["label"], found[0]["predicted"]) == ("n", "y")
    assert [one["text"] for one in doubtful_labels(texts, true, p, ["n", "y"], most=1)] == ["b"]


def test_mistakes_of_many_labels_name_the_label():
    true, predicted = np.array([[1, 0], [0, 1]]), np.array([[0, 0], [0, 1]])
    p = np.array([[0.2, 0.1], [0.1, 0.9]])
    (found,) = mistakes(["x", "y"], true, predicted, p, ["toxic", "spam"])
    assert found == {"text": "x", "label": "toxic", "predicted": "not toxic", "probability": 0.8}


def test_what_the_data_is_like():
    found = summarize(["a b c", "a", "a", ""], np.array([[1, 0], [0, 0], [1, 0], [0, 0]]), ["a"], 3)
    assert found["n_duplicates"] == 1
    assert found["n_contradictions"] == 1
    assert found["n_in_both"] == 1
    assert found["n_longer"] == 3
    assert found["words"][2] == 3


def test_many_classes_for_few_test_rows_are_no_warning():
    y = np.array([f"c{i % 20}" for i in range(30)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(y, y)["accuracy"] == 1
        assert "c19" in score_as_text(y, y)
