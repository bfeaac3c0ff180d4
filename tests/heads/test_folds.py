"""Cross-validation as scikit-learn takes it: splitters, groups, class weights, results."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)

from frozenbert import InputError, load_model, make_text_classifier, save_model
from frozenbert.errors import RareClassWarning
from frozenbert.heads.folds import Folds, cv_splits, limit_train_rows
from frozenbert.heads.logistic import make_head
from frozenbert.heads.words import WordScores, make_words_baseline

N = 60
TEXTS = [f"{'good fine' if i % 2 else 'bad dull'} film {i % 7}" for i in range(N)]
LABELS = np.array(["bad", "good"] * (N // 2))
GROUPS = np.arange(N) // 6


def frame() -> tuple[pd.DataFrame, np.ndarray]:
    """Return columns as of an encoder, of which one tells the class."""
    rng = np.random.default_rng(0)
    names = [f"layer{i}_{how}_{j}" for i in (1, 2) for how in ("cls", "mean") for j in (0, 1)]
    X = pd.DataFrame(rng.normal(size=(N, len(names))), columns=names)
    X["layer2_mean_0"] += 2.5 * (LABELS == "good")
    return X, LABELS


def flags() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame({"good": (LABELS == "good") * 1, "odd": rng.integers(0, 2, N)})


KINDS = [
    {},
    {"search": "features"},
    {"calibrate": "sigmoid"},
    {"search": "features", "calibrate": "isotonic"},
    {"multi_label": True},
    {"multi_label": True, "calibrate": "sigmoid"},
]


def fitted(cv=3, **options):
    X, y = frame()
    head = make_head(C=[0.01, 1.0], cv=cv, **options)
    return head.fit(X, flags() if options.get("multi_label") else y)


# Results


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_each_head_has_the_search_results_of_scikit_learn(options):
    head = fitted(**options)
    results = pd.DataFrame(head.cv_results_)
    best = results.iloc[head.best_index_]
    assert best["params"] == head.best_params_
    assert best["mean_test_score"] == pytest.approx(head.best_score_)
    splits = results[[f"split{i}_test_score" for i in range(3)]]
    np.testing.assert_allclose(results["mean_test_score"], splits.mean(axis=1))
    assert results["rank_test_score"].min() == 1
    for name, value in head.best_params_.items():
        assert best[f"param_{name}"] == value


def test_results_of_a_search_for_features():
    head = fitted(search="features")
    results = pd.DataFrame(head.cv_results_)
    compared = results[results["iter"] == 0]
    assert len(compared) == len(head.features_) * 2
    assert set(compared["param_layers"]) == {(1,), (2,), (1, 2)}
    for result in head.features_:
        same = [
            params["layers"] == result["layers"] and params["pooling"] == result["pooling"]
            for params in compared["params"]
        ]
        assert sum(same) == 2
        assert compared[same]["mean_test_score"].max() == pytest.approx(result["score"])
    last = results[results["iter"] == 1]
    assert set(last["param_layers"]) == {head.best_params_["layers"]}


def test_results_of_words():
    words = WordScores(cv=2).fit(TEXTS, LABELS)
    assert words.best_params_ == words.words_["classify"].best_params_
    assert len(words.cv_results_["params"]) == 6
    baseline = make_words_baseline(cv=2).fit(TEXTS, LABELS)
    assert set(baseline["classify"].best_params_) == {"C"}


def test_results_are_saved_in_both_forms(tmp_path):
    head = fitted(search="features", calibrate="sigmoid", cv=KFold(3))
    save_model(head, tmp_path / "model.joblib")
    assert (tmp_path / "model.skops").exists()
    for name in ("model.joblib", "model.skops"):
        loaded = load_model(tmp_path / name)
        X, _ = frame()
        np.testing.assert_allclose(loaded.predict_proba(X), head.predict_proba(X), atol=1e-5)
        assert loaded.best_params_ == head.best_params_
        assert loaded.cv_results_["params"] == head.cv_results_["params"]


# Splitters


@pytest.mark.parametrize(
    "cv",
    [
        KFold(3),
        StratifiedKFold(3, shuffle=True, random_state=1),
        [(np.arange(20, 60), np.arange(20)), (np.arange(20), np.arange(20, 60))],
        None,
    ],
    ids=str,
)
@pytest.mark.parametrize("options", KINDS[:4], ids=str)
def test_any_splitter(cv, options):
    X, y = frame()
    head = clone(make_head(C=[0.1], cv=cv, **options)).fit(X, y)
    assert head.score(X, y) > 0.8


def test_an_iterator_of_splits_is_used_several_times():
    splits = list(KFold(3).split(np.zeros(N)))
    expected = fitted(cv=splits, search="features", calibrate="sigmoid")
    head = fitted(cv=iter(splits), search="features", calibrate="sigmoid")
    X, _ = frame()
    np.testing.assert_allclose(head.predict_proba(X), expected.predict_proba(X))


def test_a_number_makes_the_folds_of_scikit_learn():
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    expected, head = fitted(cv=folds), fitted(cv=4)
    for i in range(4):
        name = f"split{i}_test_score"
        np.testing.assert_allclose(head.cv_results_[name], expected.cv_results_[name])


@pytest.mark.parametrize(
    "cv", ["five", 3.5, True, [], [1, 2], object()], ids=lambda cv: type(cv).__name__
)
def test_what_is_no_splitter(cv):
    with pytest.raises(InputError, match=r"cv=.*a number of folds, a splitter of scikit-learn"):
        make_head(cv=cv)


OVERLAPPING = [(np.arange(40), np.arange(20, 60)), (np.arange(20, 60), np.arange(40))]


@pytest.mark.parametrize(
    ("cv", "says"),
    [
        (ShuffleSplit(3, random_state=0), "of 60 rows, .* are in no test part"),
        (TimeSeriesSplit(3), "15 are in no test part and 0 in several"),
        (OVERLAPPING, "0 are in no test part and 20 in several"),
    ],
    ids=str,
)
@pytest.mark.parametrize("options", KINDS[2:], ids=str)
def test_test_parts_that_are_no_partition(cv, says, options):
    with pytest.raises(InputError, match=f"^cv=.*{says}.*each row in exactly one") as caught:
        fitted(cv=cv, **options)
    assert caught.value.parameter == "cv"


def test_a_partition_is_not_needed_for_the_search_alone():
    assert fitted(cv=ShuffleSplit(3, random_state=0)).n_splits_ == 3
    with pytest.raises(InputError, match=r"cv=ShuffleSplit.*each row in exactly one"):
        WordScores(cv=ShuffleSplit(3, random_state=0)).fit_transform(TEXTS, LABELS)


def test_a_class_that_is_missing_in_a_training_part():
    X, _ = frame()
    y = np.array(["a", "b"] * 20 + ["c"] * 20)
    with pytest.raises(InputError, match="the training part of fold 2 has no row of the class 'c'"):
        make_head(C=[0.1], cv=KFold(3), calibrate="sigmoid").fit(X, y)


def test_a_rare_label_and_calibration():
    """Five rows suffice for five folds, but not for five folds within each of them."""
    X, _ = frame()
    Y = flags()
    Y["odd"] = [1] * 5 + [0] * (N - 5)
    with pytest.warns(RareClassWarning, match="label 'odd' has 5 training rows with it, too few"):
        head = make_head(C=[0.1], cv=5, multi_label=True, calibrate="sigmoid").fit(X, Y)
    assert head.thresholds_[1] == 0.5
    assert np.isfinite(head.predict_proba(X)).all()


def test_limited_training_rows_are_those_drawn_before():
    """The draw is part of a search's result, so its order of random numbers is fixed."""
    y = np.array([0, 1, 1] * 20)
    splits = cv_splits(Folds(3, shuffle=True, random_state=7), y, y)
    for (train, test), (limited, same) in zip(
        splits, limit_train_rows(splits, y, 10, 7), strict=True
    ):
        rng = np.random.default_rng(7)
        rows = [
            rng.permutation(train[y[train] == label])[: round(10 / 40 * (y[train] == label).sum())]
            for label in (0, 1)
        ]
        np.testing.assert_array_equal(limited, np.sort(np.concatenate(rows)))
        np.testing.assert_array_equal(test, same)


# Groups


@pytest.fixture
def split_rows(monkeypatch):
    """Collect the training and test rows of all splits by groups."""
    seen = []
    split = GroupKFold.split

    def recorded(self, X, y=None, groups=None):
        for train, test in split(self, X, y, groups):
            seen.append((train, test))
            yield train, test

    monkeypatch.setattr(GroupKFold, "split", recorded)
    return seen


@pytest.fixture
def predicted_rows(monkeypatch):
    """Collect the rows of each fit, and of the out-of-fold predictions that follow it."""
    rows = []
    fit, decide = LogisticRegression.fit, LogisticRegression.decision_function

    def fitted(self, X, y, *rest):
        self._rows = np.asarray(X)[:, -1].round(6)
        return fit(self, X, y, *rest)

    def decision_function(self, X):
        rows.append((self._rows, np.asarray(X)[:, -1].round(6)))
        return decide(self, X)

    monkeypatch.setattr(LogisticRegression, "fit", fitted)
    monkeypatch.setattr(LogisticRegression, "decision_function", decision_function)
    return rows


def test_no_group_is_on_both_sides_of_an_out_of_fold_prediction(predicted_rows):
    X, y = frame()
    X["layer2_mean_1"] = np.arange(N) / N  # tells the row
    head = make_head(C=[0.1], cv=GroupKFold(3), calibrate="sigmoid", scoring="accuracy")
    head.fit(X, y, groups=GROUPS)
    of_row = dict(zip(X["layer2_mean_1"].round(6), GROUPS, strict=True))
    pairs = [
        ({of_row[row] for row in train}, {of_row[row] for row in test})
        for train, test in predicted_rows
        if set(train) <= set(of_row) and set(test) <= set(of_row)
    ]
    out_of_fold = [(train, test) for train, test in pairs if len(train) < len(set(GROUPS))]
    assert len(out_of_fold) >= 3
    assert all(not train & test for train, test in out_of_fold)


@pytest.mark.parametrize("with_tfidf", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"search": "features"}, {"calibrate": "sigmoid"}, {"multi_label": True}],
    ids=str,
)
def test_groups_reach_all_folds_of_a_pipeline(tiny, split_rows, options, with_tfidf):
    y = flags() if options.get("multi_label") else LABELS
    model = make_text_classifier(
        tiny,
        recipe="plain",
        cv=GroupKFold(3),
        C=[0.1],
        cache_dir=None,
        with_tfidf=with_tfidf,
        **options,
    )
    with sklearn.config_context(enable_metadata_routing=True):
        model.fit(TEXTS, y, groups=GROUPS)
    assert len(split_rows) >= 3
    for train, test in split_rows:
        assert not set(GROUPS[train]) & set(GROUPS[test])
    assert model.predict(TEXTS[:2]).shape[0] == 2


def test_groups_of_the_baseline(split_rows):
    with sklearn.config_context(enable_metadata_routing=True):
        make_words_baseline(cv=GroupKFold(3)).fit(TEXTS, LABELS, groups=GROUPS)
    assert len(split_rows) == 3


def test_groups_without_metadata_routing():
    X, y = frame()
    for options in KINDS[:4]:
        head = make_head(C=[0.1], cv=LeaveOneGroupOut(), **options)
        assert head.fit(X, y, groups=GROUPS).score(X, y) > 0.8


def test_groups_that_are_not_given_or_not_used():
    X, y = frame()
    with pytest.raises(ValueError, match="'groups' parameter should not be None"):
        make_head(C=[0.1], cv=GroupKFold(3), calibrate="sigmoid").fit(X, y)
    with pytest.raises(TypeError, match="groups"):
        make_head(C=[0.1], cv=3, calibrate="sigmoid").fit(X, y, groups=GROUPS)
    with pytest.raises(TypeError, match="no metadata but groups, and got sample_weight"):
        make_head(C=[0.1], calibrate="sigmoid").fit(X, y, sample_weight=np.ones(N))


# Class weights


@pytest.mark.parametrize("options", [*KINDS[:2], {"with_words": True}], ids=str)
def test_class_weights_as_a_dict(options):
    X, y = frame()
    if "with_words" in options:
        X = X.assign(words__score=0.0)
    rates = []
    for weight in (None, {"good": 20.0}, {"good": 20.0, "bad": 20.0}):
        head = make_head(C=[0.01], cv=3, class_weight=weight, **options).fit(X, y)
        rates.append((head.predict(X) == "good").mean())
    assert rates[1] > rates[0] + 0.1
    assert rates[2] < rates[1]


def test_class_weights_of_words():
    weights = {"good": 20.0}
    plain, weighted = (
        WordScores(cv=2, class_weight=weight).fit(TEXTS, LABELS).transform(["film"])
        for weight in (None, weights)
    )
    assert weighted.item() > plain.item() + 1
    three = np.array(["a", "b", "c"] * (N // 3))
    plain, weighted = (
        WordScores(cv=2, class_weight=weight).fit(TEXTS, three).transform(["film"])[0]
        for weight in (None, {"b": 20.0})
    )
    assert weighted[1] > plain[1] + 1
    assert weighted[0] < plain[0]


@pytest.mark.parametrize("options", [*KINDS[:2], {"multi_label": True}], ids=str)
def test_class_weights_of_what_is_no_class(options):
    with pytest.raises(InputError, match="class_weight: no training row has the class 'fine'"):
        fitted(class_weight={"fine": 2.0}, **options)


def test_class_weights_of_classes_that_are_numbers_as_text():
    X, _ = frame()
    y = np.array(["0", "1"] * (N // 2))
    with pytest.raises(InputError, match="for the class '1' scikit-learn expects the key 1"):
        make_head(C=[0.1], cv=2, class_weight={"1": 2.0}).fit(X, y)
    head = make_head(C=[0.01], cv=2, class_weight={1: 20.0}, with_words=True)
    assert (head.fit(X.assign(words=0.0), y).predict(X.assign(words=0.0)) == "1").mean() > 0.6


# Warnings


def test_many_classes_are_one_warning():
    """Each training part has one row of a class: scikit-learn warns at each fit."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = np.repeat([f"name {i}" for i in range(30)], 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_head(C=[0.1, 1.0], cv=2, calibrate="sigmoid").fit(X, y)
    messages = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    assert not [message for message in messages if "regression problem" in message]
    (hint,) = [one for one in caught if one.category is RareClassWarning]
    assert "30 classes have 60 rows together" in str(hint.message)


def test_five_rows_a_class_are_no_warning():
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = np.repeat([f"name {i}" for i in range(12)], 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_head(C=[0.1, 1.0], cv=5).fit(X, y)
