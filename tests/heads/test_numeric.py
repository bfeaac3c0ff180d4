"""Targets that are numbers or grades: tasks, ridge regression, cut points."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.metrics import cohen_kappa_score
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict

from frozenbert import make_text_regressor
from frozenbert.errors import InputError
from frozenbert.heads.numeric.ordinal import (
    CumulativeClassifier,
    CutPoints,
    OrdinalHead,
    learn_cut_points,
)
from frozenbert.heads.numeric.ridge import RidgeHead, ridge_path
from frozenbert.heads.numeric.tasks import (
    check_target,
    find_task,
    kappa_and_mae,
    quadratic_kappa,
    spearman,
    split_rows,
)
from frozenbert.heads.numeric.word_regression import WordPredictions
from frozenbert.reports.numeric.figures import number_intervals, score_numbers


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 8))
    return X, X[:, 0] - 2 * X[:, 1] + 0.1 * rng.normal(size=120) + 5


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (list(range(20)), "classification"),
        (list(range(21)), "regression"),
        ([1.0, 2.0, 5.0], "classification"),
        ([1.0, 2.5], "regression"),
        (["1", "x"], "classification"),
        ([True, False], "classification"),
        ([[0, 1], [1, 1]], "classification"),
    ],
)
def test_up_to_twenty_whole_numbers_are_classes_and_others_a_regression(target, task):
    assert find_task(target) == task


@pytest.mark.parametrize(
    ("y", "task", "message"),
    [
        ([1.0, float("inf")], "regression", r"y: row 1 \(counted from 0\) is inf"),
        ([1.0, float("nan")], "ordinal", "is nan"),
        ([2, 2, 2], "regression", "all 3 rows have the same target"),
        (["a", "b"], "regression", "no numbers.*make_text_classifier"),
        (list(range(51)), "ordinal", "51 distinct values; grades are at most 50"),
        ([[1, 2], [3, 4]], "regression", "one number for each text"),
    ],
)
def test_a_target_that_cannot_be_learned_is_refused(y, task, message):
    with pytest.raises(InputError, match=message):
        check_target(y, task)


def test_quadratic_kappa_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    a, b = rng.integers(1, 6, 200), rng.integers(1, 6, 200)
    expected = cohen_kappa_score(a, b, weights="quadratic")
    assert quadratic_kappa(a, b) == pytest.approx(expected)
    assert score_numbers(a, b, [1, 2, 3, 4, 5])["quadratic_kappa"] == pytest.approx(expected)
    assert score_numbers(a, b)["spearman"] == pytest.approx(spearman(a, b))


def test_scores_of_a_constant_prediction_are_zero_and_no_error():
    y = np.array([1, 2, 3])
    assert quadratic_kappa(y, np.full(3, 2)) == 0.0
    assert spearman(y, np.full(3, 2)) == 0.0
    assert kappa_and_mae(y, np.full(3, 2)) == 0.0


def test_the_path_of_all_strengths_is_that_of_single_regressions(rows):
    X, y = rows
    splits = list(KFold(4).split(X))
    found = ridge_path(X, y, [1.0, 100.0], splits)
    for alpha, predicted in zip([1.0, 100.0], found, strict=True):
        expected = cross_val_predict(Ridge(alpha=alpha), X, y, cv=splits)
        assert predicted == pytest.approx(expected, abs=1e-8)


def test_layers_and_pooling_are_chosen_by_the_rows(rows):
    X, y = rows
    names = [f"layer{layer}_{how}_0" for layer in (1, 2, 3, 4) for how in ("cls", "mean")]
    frame = pd.DataFrame(np.random.default_rng(2).normal(size=X.shape), columns=names)
    frame["layer3_mean_0"] = y - y.mean()
    head = RidgeHead(search="features").fit(frame, y)
    assert head.best_params_["layers"] == (3,)
    assert "mean" in head.best_params_["pooling"]
    assert np.corrcoef(head.predict(frame), y)[0, 1] > 0.99
    with pytest.raises(InputError, match=r"search=.features.|have no names"):
        RidgeHead(search="features").fit(X, y)


def test_words_are_used_if_they_help_out_of_fold(rows):
    X, y = rows
    noise = np.random.default_rng(3).normal(size=(len(y), 1))
    useful = RidgeHead(with_words="auto").fit(np.hstack([noise, y[:, None]]), y)
    useless = RidgeHead(with_words="auto").fit(np.hstack([X, noise]), y)
    assert useful.parts_ in ("words", "vote")
    assert useless.parts_ == "vectors"
    assert [step["step"] for step in useless.ladder_] == ["words", "vectors", "both"]
    assert useless.predict(np.hstack([X, noise])) == pytest.approx(y, abs=1)


def test_groups_stay_together(rows):
    X, y = rows
    groups = np.repeat(np.arange(12), 10)
    head = RidgeHead(cv=GroupKFold(3)).fit(X, y, groups=groups)
    assert head.scores_.shape == (13, 3)
    with pytest.raises(InputError, match="in no test part"):
        RidgeHead(cv=[(np.arange(60), np.arange(60, 100))]).fit(X, y)
    with pytest.raises(InputError, match="too few for 5 folds"):
        split_rows("auto", y[:9])


def test_word_predictions_are_out_of_fold_when_fitted_and_not_later():
    texts = [f"word{i} film" for i in range(40)]
    y = np.arange(40.0)
    words = WordPredictions()
    held_out = words.fit_transform(texts, y)
    assert held_out.shape == (40, 1)
    assert abs(np.corrcoef(held_out[:, 0], y)[0, 1]) < 0.9
    assert np.corrcoef(words.transform(texts)[:, 0], y)[0, 1] > 0.99


def test_cut_points_are_those_of_a_search_over_all():
    rng = np.random.default_rng(4)
    codes = rng.integers(0, 3, 60)
    places = codes + rng.normal(scale=0.6, size=60)
    found = learn_cut_points(places, codes, 3, "mae")
    error = np.abs(np.searchsorted(found, places, side="right") - codes).mean()
    middles = (np.sort(places)[1:] + np.sort(places)[:-1]) / 2
    best = min(
        np.abs(np.searchsorted([low, high], places, side="right") - codes).mean()
        for low in middles
        for high in middles[middles >= low]
    )
    assert error <= best + 1 / 60


@pytest.mark.parametrize("scoring", ["kappa_and_mae", "quadratic_kappa", "mae", "accuracy"])
def test_grades_are_learned_with_probabilities_that_sum_to_one(rows, scoring):
    X, y = rows
    grades = np.digitize(y, [3, 5, 7]) * 10
    head = OrdinalHead(RidgeHead(), scoring=scoring).fit(X, grades)
    p = head.predict_proba(X)
    assert p.shape == (120, 4)
    assert p.sum(axis=1) == pytest.approx(1)
    assert (p >= 0).all()
    assert set(head.predict(X)) <= {0, 10, 20, 30}
    assert quadratic_kappa(grades, head.predict(X)) > 0.8
    assert (head.predict(X) == head.labels_from_proba(p)).all()
    assert sum(step["kept"] for step in head.ladder_) == 1
    again = pickle.loads(pickle.dumps(head))
    assert (again.predict(X) == head.predict(X)).all()
    assert again.held_out() is None


def test_a_grade_of_one_row_is_refused(rows):
    X, y = rows
    grades = np.digitize(y, [5])
    grades[0] = 9
    with pytest.raises(InputError, match="the grade 9 has 1 training row"):
        OrdinalHead(RidgeHead()).fit(X, grades)


def test_cumulative_probabilities_never_rise():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(80, 20))
    model = CumulativeClassifier(C=10.0).fit(X, rng.integers(1, 5, 80))
    above = model.above(rng.normal(size=(50, 20)))
    assert (np.diff(above, axis=1) <= 0).all()
    assert clone(CutPoints("mae")).scoring == "mae"


def test_a_wrong_score_names_those_that_exist():
    with pytest.raises(InputError, match=r"scoring='f1': one of r2, mae, spearman"):
        RidgeHead(scoring="f1").fit([[0.0]] * 10, range(10))


def test_intervals_contain_the_difference_to_the_baseline():
    rng = np.random.default_rng(6)
    y = rng.normal(size=200)
    good, bad = y + 0.1 * rng.normal(size=200), rng.normal(size=200)
    ends = number_intervals(y, good, bad)
    assert ends["r2_above_baseline"][0] > 0
    assert ends["mae_above_baseline"][1] < 0
    assert ends["spearman"][0] > 0.9


@pytest.mark.parametrize(("task", "title"), [("regression", "r2"), ("ordinal", "grades by")])
def test_the_summary_of_a_model_of_numbers_shows_its_steps(tiny, task, title):
    texts = ["a good film", "a dull film", "so slow and dull", "warm and funny"] * 5
    model = make_text_regressor(tiny, task=task, recipe="plain", cache_dir=None, cv=2)
    shown = str(model.fit(texts, [3, 1, 1, 3] * 5).summary())
    assert "ridge regression, alpha = " in shown
    assert re.search(rf"{title}.*\n.*-?\d\.\d{{4}}  kept", shown, flags=re.S)
