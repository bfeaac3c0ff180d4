"""What the recipe auto decides by out-of-fold scores: parts, weights, calibration, folds."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, get_scorer
from sklearn.model_selection import GroupKFold, cross_val_predict

from frozenbert import InputError
from frozenbert.errors import NeverAnsweredWarning, RareClassWarning
from frozenbert.heads.folds import AutoFolds, Folds, cv_splits
from frozenbert.heads.logistic import make_head
from frozenbert.heads.scoring import LABELS_SCORER, auto_scoring
from frozenbert.heads.search import fitted_grid
from frozenbert.heads.selection import MINUTE, feature_sets, plan_rounds
from frozenbert.heads.votes.decisions import DecisionClassifier, SharedVote, log_odds
from frozenbert.heads.votes.ladder import Ladder, describe_ladder
from frozenbert.heads.votes.out_of_fold import out_of_fold

AUTO = dict.fromkeys(("with_words", "calibrate", "class_weight", "cv", "scoring"), "auto")
VOTE = "vote of vectors and words"


def columns(y, vectors=0.0, words=0.0, seed=0, many=False):
    """Return columns as of an encoder and of words; both tell the classes as far as asked."""
    rng = np.random.default_rng(seed)
    known = y if many else (y[:, None] == np.unique(y)).astype(int)
    names = [f"layer{i}_{how}_{j}" for i in (1, 2) for how in ("cls", "mean") for j in range(5)]
    X = pd.DataFrame(rng.normal(size=(len(y), len(names))), columns=names)
    X.iloc[:, 15 : 15 + known.shape[1]] += vectors * known
    scores = rng.normal(size=known.shape) + words * (2 * known - 1)
    scores = scores[:, 1:] if not many and known.shape[1] == 2 else scores
    for place, column in enumerate(scores.T):
        X[f"words__score_{place}"] = column
    return X


def fitted(X, y, **options):
    return make_head(C=[0.01, 0.1, 1.0], search="features", **{**AUTO, **options}).fit(X, y)


def classes(n, *shares, seed=0):
    rng = np.random.default_rng(seed)
    return np.repeat([f"class {i}" for i in range(len(shares))], shares * np.array(n))[
        rng.permutation(sum(shares) * n)
    ]


@pytest.mark.parametrize(
    ("strength", "expected"),
    [
        ({"vectors": 3.0, "words": 0.0}, "vectors"),
        ({"vectors": 0.0, "words": 1.5}, "words"),
        ({"vectors": 1.5, "words": 0.7}, "vote"),
    ],
)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_best_part_decides(strength, expected, n_classes):
    y = classes(60, *[1] * n_classes)
    head = fitted(columns(y, **strength), y)
    steps = {step["step"]: step for step in head.ladder_}
    best = max(steps[name]["score"] for name in ("words", "vectors", VOTE))
    chosen = VOTE if head.parts_ == "vote" else head.parts_
    assert steps[chosen]["score"] == best
    assert steps[chosen]["kept"]
    new_y = classes(60, *[1] * n_classes, seed=1)
    assert head.score(columns(new_y, **strength, seed=1), new_y) > 0.75
    if expected != "vote":  # the other part knows nothing
        assert head.parts_ in (expected, "vote")
        other = {"vectors": "words", "words": "vectors"}[expected]
        assert steps[other]["score"] < best - 0.2


def test_words_alone_are_named():
    y = classes(60, 1, 1)
    X = columns(y)
    X["words__score_0"] = np.where(y == "class 1", 9.0, -9.0)
    X.iloc[::2, :20] = 0.0
    head = fitted(X, y, calibrate=None)
    head.ladder_[-1]["score"] -= 0.01  # as if the vote were worse
    for step in head.ladder_:
        step["kept"] = step["step"] == "words"
    assert "words alone, accuracy 1.0000" in describe_ladder(head.ladder_, "accuracy")
    assert "The encoder adds nothing" in describe_ladder(head.ladder_, "accuracy")


def test_words_alone_need_no_vectors_to_predict():
    y = classes(50, 1, 1, 1)
    X = columns(y, words=3.0)
    head = fitted(X, y, calibrate=None)
    head.parts_ = "words"
    head.plain_ = head.best_estimator_ = DecisionClassifier(one_vs_rest=True).fit(
        X.to_numpy()[:, 20:], y
    )
    predicted = head.predict(X)
    X.iloc[:, :20] = 0.0
    assert (head.predict(X) == predicted).all()
    assert (head.predict_proba(X).argmax(axis=1) == X.to_numpy()[:, 20:].argmax(axis=1)).all()


def test_what_is_given_is_kept():
    y = classes(60, 1, 1)
    X = columns(y, words=2.0)
    given = fitted(X, y, with_words=True, calibrate="isotonic", class_weight=None)
    assert (given.parts_, given.calibration_) == ("vote", "isotonic")
    assert not hasattr(given, "ladder_")  # nothing was to be decided
    head = fitted(X, y, with_words=True, calibrate=None, cv=3, scoring="balanced_accuracy")
    assert (head.parts_, head.calibration_) == ("vote", None)
    assert fitted_grid(head).n_splits_ == 3
    assert fitted_grid(head).scoring == "balanced_accuracy"
    assert not any(step["step"].startswith("calibration") for step in head.ladder_)


def test_calibration_is_kept_if_it_lowers_the_log_loss():
    rng = np.random.default_rng(0)
    y = classes(150, 1, 1)
    X = columns(y, vectors=0.0)
    X.iloc[:, :20] = rng.normal(size=(300, 20))
    X["words__score_0"] = 30 * (np.where(y == "class 1", 0.5, -0.5) + rng.normal(size=300))
    head = fitted(X, y)
    steps = {step["step"]: step for step in head.ladder_}
    after = steps["calibration (sigmoid)"]
    before = steps[VOTE if head.parts_ == "vote" else head.parts_]
    better = after["log_loss"] < 0.99 * before["log_loss"] and after["score"] >= before["score"]
    assert after["kept"] is better
    assert head.calibration_ == ("sigmoid" if better else None)


def test_unbalanced_classes_are_scored_by_macro_f1_and_weighed_if_that_helps():
    y = classes(6, 1, 99)
    X = columns(y, vectors=1.5, words=0.5)
    head = fitted(X, y)
    assert fitted_grid(head).scoring == "f1_macro"
    steps = {step["step"]: step for step in head.ladder_}
    weighed = steps["balanced class weights"]
    assert head.class_weight_ == ("balanced" if weighed["kept"] else None)
    assert head.never_answered_ == []
    assert f1_score(y, head.predict(X), average="macro") > 0.5
    plain = fitted(X, y, class_weight=None)
    assert "balanced class weights" not in {step["step"] for step in plain.ladder_}


def test_a_class_that_is_never_answered_is_reported():
    y = classes(4, 1, 99)
    with pytest.warns(NeverAnsweredWarning, match="never answered out of fold: 'class 0'"):
        head = fitted(columns(y), y, class_weight=None, scoring="accuracy")
    assert head.never_answered_ == ["class 0"]


@pytest.mark.parametrize("n_rows", [2, 3, 10])
def test_folds_follow_the_rarest_class(n_rows):
    y = np.array(["many"] * 30 + ["few"] * n_rows)
    folds = min(5, n_rows)
    assert AutoFolds().for_rows(y).n_splits == folds
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        head = fitted(columns(y, vectors=3.0), y)
    messages = [str(one.message) for one in given if one.category is RareClassWarning]
    expected = f"the class 'few' has {n_rows} training rows: {folds} folds instead of 5"
    assert [expected in message for message in messages] == [True] * (n_rows < 5)
    assert fitted_grid(head).n_splits_ == folds
    assert head.predict_proba(columns(y)).shape == (len(y), 2)


def test_folds_of_many_rows_and_of_many_labels():
    assert AutoFolds().get_n_splits(None, [0, 1] * 10_001) == 3
    flags = np.zeros((30, 2), dtype=int)
    flags[:3, 0] = flags[:4, 1] = 1
    assert AutoFolds().for_rows(flags).n_splits == 4
    with pytest.raises(InputError, match="no label has two training rows"):
        AutoFolds().for_rows(np.eye(1, 2, dtype=int).repeat(9, axis=0))
    with pytest.raises(InputError, match="the class 'b' has one training row, and two are needed"):
        AutoFolds().for_rows(["a", "a", "b"])


def test_scoring_by_the_labels():
    assert auto_scoring(np.array([0] * 5 + [1])) == "accuracy"
    assert auto_scoring(np.array([0] * 6 + [1])) == "f1_macro"
    assert auto_scoring(np.eye(2, dtype=int)) is LABELS_SCORER


def test_many_labels():
    rng = np.random.default_rng(0)
    flags = rng.integers(0, 2, (150, 3))
    X = columns(flags, vectors=2.0, words=1.0, many=True)
    head = fitted(X, flags, multi_label=True)
    assert "mean_average_precision" in repr(fitted_grid(head).scoring)
    steps = {step["step"]: step for step in head.ladder_}
    assert {"words", "vectors", VOTE} <= set(steps)
    assert head.parts_ == "vote"
    assert head.never_answered_ == []
    assert ((head.predict_proba(X) >= head.thresholds_) == head.predict(X)).all()
    assert (head.predict(X) == flags).mean() > 0.85


def test_a_label_that_is_never_answered_is_reported():
    rng = np.random.default_rng(0)
    flags = rng.integers(0, 2, (150, 3))
    flags[:, 2] = 0
    flags[:2, 2] = 1
    with pytest.warns(NeverAnsweredWarning, match="never answered out of fold: '2'"):
        head = fitted(columns(flags, vectors=2.0, many=True), flags, multi_label=True)
    assert head.never_answered_ == [2]


def test_groups_are_not_calibrated():
    y = classes(60, 1, 1)
    X, groups = columns(y, vectors=2.0), np.arange(120) // 10
    head = make_head(C=[0.1], search="features", **{**AUTO, "cv": GroupKFold(3)})
    head.fit(X, y, groups=groups)
    assert head.ladder_[-1]["note"] == "it needs stratified folds"
    assert head.calibration_ is None


def test_a_fitted_head_is_saved_without_out_of_fold_probabilities():
    y = classes(60, 1, 1)
    X = columns(y, vectors=1.0, words=1.0)
    head = fitted(X, y)
    p = head.held_out_proba()
    assert p.shape == (120, 2)
    # Out of fold: a row's own label had no part in its probability.
    kept = [step["log_loss"] for step in head.ladder_ if step["kept"]][-1]
    assert -np.log(p[np.arange(120), (y == "class 1").astype(int)]).mean() == pytest.approx(kept)
    loaded = pickle.loads(pickle.dumps(head))
    assert loaded.held_out_proba() is None
    np.testing.assert_allclose(loaded.predict_proba(X), head.predict_proba(X))


def frame_of(n_layers, width):
    names = [
        f"layer{i}_{how}_{j}"
        for i in range(1, n_layers + 1)
        for how in ("cls", "mean")
        for j in range(width)
    ]
    return pd.DataFrame(np.empty((1, len(names))), columns=names)


def planned(n, n_classes, limit):
    X = frame_of(6, 384)
    y = np.arange(n) % n_classes
    sets = feature_sets(tuple(range(1, 7)), ("cls", "mean"))
    values = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
    splits = cv_splits(Folds(5, shuffle=True, random_state=0), y, y)
    return sets, plan_rounds(sets, X, y, values, 20, splits, 4000, limit)


@pytest.mark.parametrize(("n", "n_classes"), [(2000, 2), (10_000, 2), (6920, 3)])
def test_small_searches_are_not_limited(n, n_classes):
    sets, plan = planned(n, n_classes, 1.5)
    assert plan == planned(n, n_classes, None)[1]
    assert (plan.sets, plan.left_out) == (sets, None)


def test_a_search_over_the_limit_leaves_out_the_widest_features():
    sets, plan = planned(10_000, 77, 1.5)
    assert len(plan.rounds) == 1
    assert len(plan.sets) < len(sets)
    assert "4 of 24 choices, of many columns, were left out" in plan.left_out
    assert planned(10_000, 77, 100.0)[1].left_out is None
    assert MINUTE > 0


def test_a_limited_search_says_so_in_the_ladder(monkeypatch):
    monkeypatch.setattr("frozenbert.heads.selection.MINUTE", 0.0)
    y = classes(60, 1, 1)
    head = fitted(columns(y, vectors=2.0), y)
    (vectors,) = (step for step in head.ladder_ if step["step"] == "vectors")
    assert "layers and pooling were compared on 1,000 rows" in vectors["note"]
    assert head.search_.left_out_ == vectors["note"]


def test_decisions_are_handed_on():
    y = np.array(["a", "b", "c"] * 4)
    decisions = np.eye(3)[[0, 1, 2] * 4] * 2.0
    for one_vs_rest in (False, True):
        model = DecisionClassifier(one_vs_rest=one_vs_rest).fit(decisions, y)
        p = model.predict_proba(decisions)
        np.testing.assert_allclose(p.sum(axis=1), 1)
        assert (model.predict(decisions) == y).all()
        np.testing.assert_allclose(
            DecisionClassifier().fit(decisions, y).predict_proba(log_odds(p)), p
        )


def test_a_ladder_scores_each_fold():
    y = np.array([0, 1] * 10)
    splits = cv_splits(5, y, y)
    ladder = Ladder(y, splits, get_scorer("accuracy"))
    p = np.column_stack([1 - y, y]) * 0.8 + 0.1
    p[:2] = p[:2, ::-1]
    assert ladder.add("words", p)["score"] == pytest.approx(0.9)
    ladder.leave_out("calibration", "too slow")
    assert ladder.steps[-1]["score"] is None
    ladder.note("words", "on few rows")
    assert ladder.steps[0]["note"] == "on few rows"


# Many classes


def many_classes(n_classes=30, per_class=12, noise=1.0, seed=0):
    """Return decisions of one good classifier and of one that guesses, and the classes."""
    rng = np.random.default_rng(seed)
    y = np.repeat([f"class {i:02}" for i in range(n_classes)], per_class)
    good = 3.0 * (y[:, None] == np.unique(y)) + rng.normal(0, noise, (len(y), n_classes))
    return np.hstack([good, rng.normal(0, 3, good.shape)]), y


def test_a_shared_vote_ignores_a_classifier_that_guesses():
    X, y = many_classes()
    vote = SharedVote().fit(X, y)
    assert vote.coef_[0] > 0.5
    assert abs(vote.coef_[1]) < 0.1
    p = cross_val_predict(vote, X, y, cv=Folds(3), method="predict_proba")
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-9)
    alone = np.mean(np.unique(y)[X[:, :30].argmax(axis=1)] == y)
    assert np.mean(vote.classes_[p.argmax(axis=1)] == y) > alone - 0.02
    per_pair = cross_val_predict(LogisticRegression(), X, y, cv=Folds(3))
    assert np.mean(per_pair == y) < alone - 0.05, "this is why the weights are shared"


def test_a_shared_vote_weighs_rows_and_classes():
    X, y = many_classes(n_classes=3, per_class=40)
    heavy = np.where(y == "class 00", 5.0, 1.0)
    by_rows = SharedVote().fit(X, y, sample_weight=heavy)
    by_class = SharedVote(class_weight={"class 00": 5.0}).fit(X, y)
    np.testing.assert_allclose(by_rows.coef_, by_class.coef_, atol=1e-4)
    assert not np.allclose(by_rows.coef_, SharedVote().fit(X, y).coef_, atol=1e-3)


@pytest.mark.parametrize(("n_classes", "kind"), [(22, SharedVote), (20, LogisticRegression)])
def test_many_classes_share_the_weights_of_the_vote(n_classes, kind):
    words, y = many_classes(n_classes, per_class=6)
    X = columns(np.repeat(["a", "b"], len(y) // 2))  # vectors that tell nothing
    X = X.loc[:, ~X.columns.str.startswith("words")]
    for place, column in enumerate(words[:, :n_classes].T):
        X[f"words__score_{place}"] = column
    head = fitted(X, y, with_words=True, cv=3)
    assert isinstance(head.plain_, kind)
    again = pickle.loads(pickle.dumps(head))
    np.testing.assert_allclose(again.predict_proba(X), head.predict_proba(X), atol=1e-9)
    assert head.score(X, y) > 0.5


@pytest.mark.parametrize("kind", [np.asarray, pd.DataFrame, scipy.sparse.csr_array])
def test_out_of_fold_is_what_scikit_learn_predicts(kind):
    rng = np.random.default_rng(1)
    labels = rng.choice(["no", "so", "yes"], 90)
    values = rng.normal(size=(90, 4)) + (labels == "yes")[:, None]
    X = kind(values)
    head = make_head(C=[0.1, 1.0], cv=3, class_weight={"no": 2.0, "so": 1.0, "yes": 0.5})
    head.fit(X, labels)
    p = out_of_fold(head, X, labels, "predict_proba")
    coded = np.searchsorted(head.classes_, labels)
    weighted = clone(head.best_estimator_).set_params(class_weight={0: 2.0, 1: 1.0, 2: 0.5})
    expected = cross_val_predict(weighted, values, coded, cv=head.cv, method="predict_proba")
    np.testing.assert_allclose(p, expected, atol=1e-6)
