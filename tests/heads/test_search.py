"""Heads: features chosen, words beside vectors, many labels a text, calibration."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline

from frozenbert import DistilBertVectorizer, InputError, make_text_classifier
from frozenbert.encoders.encoder import Encoder
from frozenbert.errors import RareClassWarning
from frozenbert.heads import folds as folds_module
from frozenbert.heads import selection
from frozenbert.heads.folds import Folds, fold_threads, limit_train_rows, strata
from frozenbert.heads.logistic import make_head
from frozenbert.heads.multilabel import MultiLabelClassifier, check_flags
from frozenbert.heads.scoring import check_scoring
from frozenbert.heads.search import FeatureSearch, HeadSearch, base_search, tuned_estimator
from frozenbert.heads.selection import SelectVectors, layout, predict_from_arrays
from frozenbert.heads.stacking import StackedSearch
from frozenbert.heads.words import NBLogisticRegression, WordScores
from frozenbert.reports.metrics import brier_score, calibration_error
from frozenbert.training import check_classes

WORDS = {"good": "good fine warm", "bad": "dull poor slow"}
TEXTS = [f"{WORDS[label]} film {i}" for i in range(30) for label in ("good", "bad")]
LABELS = np.array(["good", "bad"] * 30)


def frame(n: int = 200, telling: str = "layer2_mean_0", seed: int = 0):
    """Columns of three layers and two poolings, of which one tells the class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    names = [f"layer{i}_{how}_{j}" for i in (1, 2, 3) for how in ("cls", "mean") for j in (0, 1)]
    X = pd.DataFrame(rng.normal(size=(n, len(names))), columns=names, dtype=np.float32)
    X[telling] += (2.5 * y).astype(np.float32)
    return X, y


# Columns by layer and pooling


def test_columns_are_picked_by_layer_and_pooling(tiny):
    embed = DistilBertVectorizer(tiny, layers="all", pooling=("cls", "mean"), cache_dir=None)
    every = embed.set_output(transform="pandas").fit_transform(TEXTS[:4])
    assert layout(every.columns) == ((1, 2, 3), ("cls", "mean"))
    for layers, pooling in [(2, "mean"), ((1, 3), ("cls", "mean")), ("all", "cls")]:
        picked = SelectVectors(layers, pooling).fit_transform(every)
        asked = DistilBertVectorizer(tiny, layers=layers, pooling=pooling, cache_dir=None)
        np.testing.assert_allclose(picked, asked.fit_transform(TEXTS[:4]), rtol=0, atol=1e-6)


def test_other_columns_stay():
    X, _ = frame()
    X = X.add_prefix("vectors__").assign(words__score_good=1.0)
    select = SelectVectors(layers=(3,), pooling="cls").fit(X)
    names = ["vectors__layer3_cls_0", "vectors__layer3_cls_1", "words__score_good"]
    assert select.get_feature_names_out().tolist() == names
    np.testing.assert_array_equal(select.transform(X), X[names])


@pytest.mark.parametrize(
    ("select", "X", "match"),
    [
        (SelectVectors(layers=7), frame()[0], r"layers=7: 'all', or some of \[1, 2, 3\]"),
        (SelectVectors(pooling="max"), frame()[0], "pooling='max': 'all', or some of"),
        (SelectVectors(layers=()), frame()[0], r"layers=\(\): 'all', or some"),
        (SelectVectors(layers=1), np.ones((2, 2)), "X is a ndarray, whose columns have no names"),
        (SelectVectors(), pd.DataFrame({"a": [1]}), "X has no columns of an encoder"),
    ],
)
def test_columns_that_cannot_be_picked(select, X, match):
    with pytest.raises(InputError, match=match):
        select.fit(X)


def test_fitted_on_other_columns():
    X, _ = frame()
    with pytest.raises(ValueError, match="feature names should match those that were passed"):
        SelectVectors().fit(X).transform(X.iloc[:, :2])
    with pytest.raises(ValueError, match="X has 2 features, but SelectVectors is expecting 12"):
        SelectVectors().fit(X.to_numpy()).transform(X.to_numpy()[:, :2])


@pytest.mark.parametrize("layers", [(2, 3), (1, 3)], ids=["adjacent", "apart"])
def test_columns_are_stored_by_position(layers):
    X, _ = frame()
    select = SelectVectors(layers).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picked = select.transform(X.to_numpy())
    np.testing.assert_array_equal(picked, select.transform(X))
    np.testing.assert_array_equal(picked, select.fit_transform(X))


def test_searched_models_predict_from_arrays(tiny):
    model = make_text_classifier(
        tiny, recipe="plain", search="features", with_tfidf=True, cv=2, C=[0.01], cache_dir=None
    ).fit(TEXTS, LABELS)
    before = model.predict_proba(TEXTS)
    handed_on = model[:-1].transform(TEXTS[:2])
    predict_from_arrays(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(model.predict_proba(TEXTS), before, atol=1e-6)
    assert isinstance(handed_on, pd.DataFrame)
    assert isinstance(model[:-1].transform(TEXTS[:2]), np.ndarray)
    names = model[:-1].get_feature_names_out().tolist()
    assert names == handed_on.columns.tolist()


# The search for features


def test_the_telling_features_are_found():
    X, y = frame()
    head = make_head(search="features", C=[0.01, 0.1], cv=3).fit(X, y)
    assert head.best_params_["layers"] == (2,)
    assert "mean" in head.best_params_["pooling"]
    assert len(head.features_) == 5 * 3  # three layers, the upper two, all; cls, mean, both
    assert head.score(X, y) > 0.85
    best = max(head.features_, key=lambda one: one["score"])
    assert (best["layers"], best["pooling"]) == ((2,), head.best_params_["pooling"])
    assert set(head.search_.param_grid["C"]) <= {0.01, 0.1}
    again = pickle.loads(pickle.dumps(head))
    np.testing.assert_allclose(again.predict_proba(X), head.predict_proba(X), atol=1e-5)


def test_a_grid_search_of_scikit_learn_can_choose_them_too():
    X, y = frame()
    model = Pipeline([("select", SelectVectors()), ("classify", LogisticRegression())])
    grid = {"select__layers": [1, 2, 3], "select__pooling": ["cls", "mean"], "classify__C": [0.1]}
    search = GridSearchCV(model, grid, cv=3).fit(X, y)
    assert search.best_params_["select__layers"] == 2
    assert search.best_params_["select__pooling"] == "mean"


@pytest.mark.parametrize("cv", [3, KFold(3), "splits"], ids=str)
def test_features_are_compared_on_few_rows_and_c_is_chosen_on_all(monkeypatch, cv):
    X, y = frame(300)
    if cv == "splits":
        cv = [(np.arange(200), np.arange(200, 300)), (np.arange(100, 300), np.arange(100))] * 2
        cv = cv[:3]
    fitted = []
    fit = LogisticRegression.fit

    def counted(self, X, y, **settings):
        fitted.append(len(X))
        return fit(self, X, y, **settings)

    monkeypatch.setattr(LogisticRegression, "fit", counted)
    FeatureSearch(make_head(C=[0.01], cv=cv), train_rows=50).fit(X, y)
    n_compared = 15 * 3
    assert all(n in (49, 50, 51) for n in fitted[:n_compared])
    assert fitted[n_compared:] == [200, 200, 200, 300]


@pytest.mark.parametrize("with_tfidf", [False, True])
def test_each_text_goes_through_the_encoder_once(tiny, monkeypatch, with_tfidf):
    encoded = []
    encode = Encoder.encode
    monkeypatch.setattr(
        Encoder, "encode", lambda self, ids, *rest: encoded.extend(ids) or encode(self, ids, *rest)
    )
    model = make_text_classifier(
        tiny,
        recipe="plain",
        search="features",
        with_tfidf=with_tfidf,
        cv=2,
        C=[0.01],
        cache_dir=None,
    ).fit(TEXTS, LABELS)
    assert len(encoded) == len(TEXTS)
    assert model.score(TEXTS, LABELS) > 0.9
    assert model.classes_.tolist() == ["bad", "good"]
    loaded = pickle.loads(pickle.dumps(model))
    assert loaded.predict(["a good fine film"]).tolist() == ["good"]
    copy = clone(model)  # unfitted, with equal parameters
    assert repr(copy) == repr(model)
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        copy.predict(TEXTS[:1])


def test_many_sets_are_compared_on_few_rows_first(monkeypatch):
    monkeypatch.setattr(selection, "SCREENING_ROWS", 40)
    monkeypatch.setattr(selection, "SCREENED_SETS", 4)
    X, y = frame(300)
    head = make_head(search="features", cv=3).fit(X, y)
    assert 2 in head.best_params_["layers"]
    assert "mean" in head.best_params_["pooling"]
    assert [one["train_rows"] for one in head.features_] == [200] * 4 + [40] * 11
    assert len({(one["layers"], one["pooling"]) for one in head.features_}) == 15
    rounds = np.bincount(head.cv_results_["iter"])
    assert rounds.tolist() == [15 * 3, 4 * 5, len(head.search_.cv_results_["params"])]
    best = max(head.features_[:4], key=lambda one: one["score"])
    assert best["layers"] == head.best_params_["layers"]
    assert head.cv_results_["params"][head.best_index_] == head.best_params_


# The search for C


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("scoring", [None, "neg_log_loss"])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_paths_give_the_results_of_a_grid_search(n_classes, scoring, n_jobs):
    X, y = make_classification(
        400, 20, n_informative=6, n_classes=n_classes, flip_y=0.2, random_state=0
    )
    y = np.array(["a", "b", "c"])[y]
    parameters = (LogisticRegression(tol=1e-6), {"C": [1.0, 0.001, 0.1]})
    options = {"cv": Folds(3), "scoring": scoring, "n_jobs": n_jobs}
    expected = GridSearchCV(*parameters, **options).fit(X, y)
    search = HeadSearch(*parameters, **options).fit(X, y)
    assert set(search.cv_results_) == set(expected.cv_results_)
    assert search.best_params_ == expected.best_params_
    for name, column in expected.cv_results_.items():
        if "score" in name and "time" not in name:
            np.testing.assert_allclose(search.cv_results_[name], column, atol=1e-3, err_msg=name)
    decisions = cross_val_predict(
        clone(search.best_estimator_), X, y, cv=search.cv, method="decision_function"
    )
    np.testing.assert_allclose(search.held_out_decisions(), decisions, atol=1e-2)
    assert pickle.loads(pickle.dumps(search)).held_out_decisions() is None


@pytest.mark.parametrize(
    "cv", [KFold(3), [(np.arange(200) < 100, np.arange(200) >= 100)]], ids=["folds", "masks"]
)
def test_rows_held_out_of_no_fold_have_no_decisions(cv):
    X, y = frame()
    search = make_head(C=[0.1, 1.0], cv=cv).fit(X.to_numpy(), y)
    decisions = search.held_out_decisions()
    assert (decisions is None) == isinstance(cv, list)


def test_folds_whose_copies_are_large_are_fitted_one_by_one(monkeypatch):
    X, _ = frame(300)
    splits = list(KFold(3).split(X))
    pools = [{"num_threads": 2}]
    monkeypatch.setattr(folds_module, "threadpool_info", lambda: pools)
    assert fold_threads(X.to_numpy(), splits) == 2
    monkeypatch.setattr(folds_module, "SMALL_COPIES", 0)
    assert fold_threads(X.to_numpy(), splits) == 1


# Words beside vectors


@pytest.mark.parametrize("n_classes", [2, 3])
def test_classifiers_of_words_go_on_from_their_coefficients(n_classes):
    rng = np.random.default_rng(0)
    X, y = rng.random((90, 8)) * (rng.random((90, 8)) < 0.4), rng.integers(0, n_classes, 90)
    cold = NBLogisticRegression(C=3.0, tol=1e-6).fit(X, y)
    warm = NBLogisticRegression(C=1.0, tol=1e-6, warm_start=True).fit(X, y)
    np.testing.assert_allclose(warm.set_params(C=3.0).fit(X, y).coef_, cold.coef_, atol=1e-3)
    again = warm.fit(X, y)
    assert again.n_iter_.max() <= 1


def test_each_class_against_the_rest_is_a_classifier_of_two():
    rng = np.random.default_rng(0)
    X, y = rng.random((90, 8)), rng.integers(0, 3, 90)
    weight = {0: 1.0, 1: 3.0, 2: 0.5}
    model = NBLogisticRegression(C=3.0, class_weight=weight).fit(X, y)
    rows = np.array([weight[label] for label in y])
    for label, coef in zip(model.classes_, model.coef_, strict=True):
        one = NBLogisticRegression(C=3.0).fit(X, y == label, sample_weight=rows)
        np.testing.assert_allclose(one.coef_[0], coef, atol=1e-6)


def test_scores_of_words_are_out_of_fold_where_they_are_trained_on():
    rng = np.random.default_rng(0)
    texts = [f"w{i} x{i}" for i in range(200)]  # no word comes again: nothing can be learned
    y = rng.integers(0, 2, 200)
    words = WordScores(cv=4)
    trained = words.fit_transform(texts, y)
    assert abs(np.corrcoef(trained[:, 0], y)[0, 1]) < 0.3
    assert abs(np.corrcoef(words.transform(texts)[:, 0], y)[0, 1]) > 0.9
    assert trained.dtype == np.float32


def test_names_of_scores():
    y = np.array(["a", "b", "c"] * 20)
    assert WordScores(cv=2).fit(TEXTS, LABELS).get_feature_names_out().tolist() == ["score_good"]
    three = WordScores(cv=2).fit(TEXTS, y)
    assert three.get_feature_names_out().tolist() == ["score_a", "score_b", "score_c"]
    assert three.transform(TEXTS[:2]).shape == (2, 3)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_words_and_vectors_tell_more_than_either(n_classes):
    rng = np.random.default_rng(1)
    y = rng.integers(0, n_classes, 600)
    n_words = 1 if n_classes == 2 else n_classes
    truth = (y[:, np.newaxis] == np.arange(n_classes))[:, -n_words:]
    vectors = rng.normal(size=(600, 4)) + np.pad(truth, ((0, 0), (0, 4 - n_words)))
    words = rng.normal(size=(600, n_words)) + truth
    both = np.column_stack([vectors, words])
    train, test = slice(0, 400), slice(400, 600)
    alone = make_head(C=[0.1, 1.0], cv=3).fit(vectors[train], y[train])
    head = make_head(C=[0.1, 1.0], cv=3, with_words=True).fit(both[train], y[train])
    assert isinstance(head, StackedSearch)
    assert head.score(both[test], y[test]) > alone.score(vectors[test], y[test]) + 0.02
    assert head.score(both[test], y[test]) > (
        head.score(np.column_stack([0 * vectors, words])[test], y[test])
    )
    np.testing.assert_allclose(head.predict_proba(both).sum(axis=1), 1)


def test_words_that_tell_nothing_do_no_harm():
    rng = np.random.default_rng(0)
    X, y = frame(600)
    vectors = X[["layer2_mean_0", "layer2_mean_1"]].to_numpy()
    both = np.column_stack([vectors, rng.normal(size=600)])
    alone = make_head(C=[0.1], cv=3).fit(vectors[:300], y[:300])
    head = make_head(C=[0.1], cv=3, with_words=True).fit(both[:300], y[:300])
    assert head.score(both[300:], y[300:]) >= alone.score(vectors[300:], y[300:]) - 0.02


@pytest.mark.parametrize("options", [{"with_words": True}, {"calibrate": "sigmoid"}], ids=str)
def test_scorers_that_need_scores(options):
    X, y = frame(300)
    X = X.assign(words__score_1=X["layer2_mean_0"])
    head = make_head(C=[0.1], cv=3, **options)
    assert cross_val_score(head, X, y, scoring="roc_auc", cv=3, error_score="raise").min() > 0.8


@pytest.mark.parametrize("with_words", [False, True])
def test_class_weights_reach_the_vote(with_words):
    rng = np.random.default_rng(0)
    y = (rng.random(600) < 0.05).astype(int)
    X = rng.normal(size=(600, 4)) + y[:, np.newaxis]
    plain, balanced = (
        make_head(C=[1.0], cv=3, with_words=with_words, class_weight=weight).fit(X, y).predict(X)
        for weight in (None, "balanced")
    )
    assert balanced.sum() > 2 * plain.sum()


def test_a_class_with_few_rows_and_words():
    X, y = frame(60)
    y[0] = 2
    head = make_head(C=[0.1], cv=3, with_words=True)
    both = np.column_stack([X, np.zeros((60, 3))])
    with pytest.raises(InputError, match="cv: class '2' has 1 training rows, and predictions out"):
        head.fit(both, y)


@pytest.mark.parametrize("values", [[0.01, 1.0, 10.0, 100.0], [3.0], None], ids=str)
def test_strengths_asked_for_are_tried(values):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    X = pd.DataFrame({"layer1_cls_0": y + rng.normal(size=300)}, dtype=np.float32)
    head = make_head(search="features", C=values, cv=3, scoring="neg_log_loss").fit(X, y)
    # Features are compared on small values; the best C is larger, and found all the same.
    assert head.best_params_["C"] > 0.05
    assert values is None or head.best_params_["C"] in values


# Many labels a text


def labels(n: int = 200, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6))
    chances = 1 / (1 + np.exp(-(2 * X[:, :3] - [0, 1.5, 3])))
    return X, pd.DataFrame((rng.random((n, 3)) < chances).astype(int), columns=["a", "b", "c"])


def test_thresholds_are_tuned_and_act():
    X, Y = labels(2000)
    head = make_head(multi_label=True, C=[1.0], cv=2).fit(X[:1000], Y[:1000])
    assert isinstance(head, MultiLabelClassifier)
    assert head.classes_.tolist() == ["a", "b", "c"]
    p = head.predict_proba(X)
    assert p.shape == (2000, 3)
    assert (head.thresholds_[1:] < 0.5).all()  # rare labels
    np.testing.assert_array_equal(head.predict(X), (p >= head.thresholds_).astype(int))
    tuned, half = (
        f1_score(Y[1000:], found[1000:], average="macro")
        for found in (head.predict(X), (p >= 0.5).astype(int))
    )
    assert tuned > half + 0.02


def test_thresholds_are_those_of_scikit_learn():
    X, Y = labels()
    head = make_head(multi_label=True, C=[1.0], cv=2).fit(X, Y)
    scores = np.column_stack([head._scores(X)])
    for place, estimator in enumerate(head.estimators_):
        expected = estimator.predict(scores[:, place : place + 1])
        np.testing.assert_array_equal(head.predict(X)[:, place], expected)


@pytest.mark.parametrize("calibrate", [None, "sigmoid"])
def test_rare_labels_are_answered_with_a_warning(calibrate):
    X, Y = labels()
    Y = Y[["a"]].assign(once=0, never=0, always=1)
    Y.loc[7, "once"] = 1
    head = make_head(multi_label=True, C=[0.1], cv=3, calibrate=calibrate)
    with pytest.warns(RareClassWarning, match="^label ") as caught:
        head.fit(X, Y)
    messages = [str(one.message) for one in caught]
    assert len(messages) == 3
    assert (
        "label 'once' has 1 training rows with it, too few for 3 folds: its threshold"
        in messages[0]
    )
    assert "label 'never' has 0 training rows with it" in messages[1]
    assert "label 'always' has 0 training rows without it" in messages[2]
    p, found = head.predict_proba(X), head.predict(X)
    assert np.isfinite(p).all()
    assert (found[:, 2] == 0).all()
    assert (found[:, 3] == 1).all()
    assert head.thresholds_[1] == 0.5


@pytest.mark.parametrize(
    ("y", "match"),
    [
        ([0, 1, 1], "y: many labels need a column of 0 and 1 for each"),
        ([[0, 2], [1, 0]], "y: many labels need a column of 0 and 1 for each"),
        ([["a"], ["a", "b"]], "scikit-learn's MultiLabelBinarizer makes them from lists"),
        ([[0], [1], [1]], "y: one label is two classes, with and without it"),
    ],
    ids=["one column", "a two", "lists", "one label"],
)
def test_what_is_not_many_labels(y, match):
    with pytest.raises(InputError, match=match):
        make_head(multi_label=True).fit(np.ones((len(y), 2)), y)


@pytest.mark.parametrize("kind", ["float", "bool and int", "sparse", "int8"])
def test_flags_of_any_type(kind):
    _, Y = labels()
    other = {
        "float": lambda: Y.astype(float),
        "bool and int": lambda: Y.assign(a=Y["a"].astype(bool)),
        "sparse": lambda: scipy.sparse.csr_matrix(Y.to_numpy()),
        "int8": lambda: Y.astype(np.int8),
    }[kind]()
    flags = check_flags(other)
    assert flags.dtype == np.int64
    np.testing.assert_array_equal(flags, Y)


def test_labels_that_cannot_be_told():
    _, Y = labels(60)
    with pytest.warns(UserWarning, match="label .* cannot be predicted from these features"):
        head = make_head(multi_label=True, C=[0.1], cv=3).fit(np.zeros((60, 2)), Y)
    assert (head.thresholds_ == 0.5).any()
    assert head.predict(np.zeros((5, 2))).shape == (5, 3)


def test_tags_with_a_long_tail():
    """One frequent label, and for each row one that no other has."""
    X, _ = labels(24)
    Y = np.column_stack([np.arange(24) % 2, np.eye(24, dtype=int)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head = make_head(multi_label=True, C=[0.1], cv=4).fit(X, Y)
    assert head.predict(X).shape == (24, 25)
    assert (head.thresholds_[1:] == 0.5).all()


@pytest.mark.parametrize("options", [{}, {"with_tfidf": True}, {"search": "features"}], ids=str)
def test_many_labels_of_texts(tiny, options):
    kinds = ["good", "bad", "slow"]
    texts = [
        " ".join(k for j, k in enumerate(kinds) if i >> j & 1) + f" film {i}" for i in range(40)
    ]
    Y = pd.DataFrame({k: [i >> j & 1 for i in range(40)] for j, k in enumerate(kinds)})
    model = make_text_classifier(
        tiny,
        recipe="plain",
        multi_label=True,
        cv=2,
        C=[0.01, 1.0],
        cache_dir=None,
        pooling="mean",
        **options,
    ).fit(texts, Y)
    assert model.classes_.tolist() == kinds
    assert model.predict_proba(texts).shape == (40, 3)
    assert f1_score(Y, model.predict(texts), average="macro") > 0.85


# Probabilities


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_mends_probabilities(method):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 40))
    y = (X[:, 0] + rng.normal(size=3000) > 0).astype(int)
    loose = make_head(C=[1000.0], cv=3, calibrate=method).fit(X[:150], y[:150])
    before, after = loose.uncalibrated_proba(X[150:]), loose.predict_proba(X[150:])
    truth = y[150:]
    assert calibration_error(truth, after, [0, 1]) < calibration_error(truth, before, [0, 1]) - 0.03
    assert brier_score(truth, after, [0, 1]) < brier_score(truth, before, [0, 1])


def test_calibration_is_out_of_fold():
    X, y = frame()
    head = make_head(C=[0.1], cv=3, calibrate="sigmoid").fit(X, y)
    scores = cross_val_predict(
        clone(tuned_estimator(head)), X, y, cv=base_search(head).cv, method="decision_function"
    )
    expected = LogisticRegression(max_iter=1000).fit(scores[:, np.newaxis], y)
    np.testing.assert_allclose(head.plain_.coef_, expected.coef_, rtol=1e-6)


# What cannot be


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"search": "all"}, "search='all': one of 'head', 'features'"),
        ({"calibrate": "platt"}, "calibrate='platt': one of None, 'auto', 'sigmoid', 'isotonic'"),
        (
            {"class_weight": "even"},
            "class_weight='even': None, 'balanced', or a dict",
        ),
        ({"class_weight": {"a": "2"}}, r"class_weight=\{'a': '2'\}: None, 'balanced', or a dict"),
        ({"scoring": "accurracy"}, "scoring='accurracy': a scikit-learn scorer's name"),
    ],
    ids=str,
)
def test_illegal_parameters(parameters, match):
    with pytest.raises(InputError, match=match):
        make_head(**parameters)


@pytest.mark.parametrize("scoring", ["f1_macro", "balanced_accuracy", "neg_log_loss", None])
def test_scorings_that_go_with_any_classes(scoring):
    X, y = frame()
    check_scoring(scoring, LABELS)
    head = make_head(scoring=scoring, C=[0.1], cv=3).fit(X, np.array(["no", "yes"])[y])
    assert np.isfinite(head.best_score_)


@pytest.mark.parametrize("scoring", ["f1", "roc_auc"])
def test_scorings_that_do_not_go_with_the_labels(scoring):
    with pytest.raises(InputError, match=f"scoring='{scoring}': does not suit these labels"):
        check_scoring(scoring, np.array(["a", "b", "c"] * 5))


def test_searches_of_ones_own_with_a_number_of_folds():
    X, y = frame()
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3)
    assert FeatureSearch(search).fit(X, y).best_params_["layers"][-1] in (2, 3)
    assert StackedSearch(search, calibrate="isotonic").fit(X, y).score(X, y) > 0.8


# Folds


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(2, 5), st.sampled_from([None, 10, 30]))
def test_folds(seed, n_splits, train_rows):
    rng = np.random.default_rng(seed)
    y = (rng.random((60, 4)) < [0.5, 0.3, 0.1, 0.02]).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        splits = list(Folds(n_splits, shuffle=True, random_state=seed).split(y, y))
        if train_rows is not None:
            splits = limit_train_rows(splits, y, train_rows, seed)
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(60))
    for train, test in splits:
        assert not set(train) & set(test)
        assert len(set(train)) == len(train)
        if train_rows is None:
            assert len(train) + len(test) == 60
        else:
            assert len(train) <= train_rows + 5
            known = set(strata(y, n_splits)[np.setdiff1d(np.arange(60), test)])
            assert set(strata(y, n_splits)[train]) == known  # no class is lost


def test_a_rare_label_is_spread_over_the_folds():
    y = np.zeros((100, 2), dtype=int)
    y[:, 0] = 1
    y[:5, 1] = 1
    for _, test in Folds(5, shuffle=True, random_state=0).split(y, y):
        assert y[test, 1].sum() == 1


def test_one_label_is_no_set_of_labels():
    with pytest.raises(InputError, match="One label is two classes, with and"):
        check_classes(pd.DataFrame({"a": [0, 1] * 10}), 2)
