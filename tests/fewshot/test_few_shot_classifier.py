"""`FewShotClassifier` as an estimator, its pool, and the average of fitted classifiers."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
from conftest import make_encoder
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from frozenbert import DistilBertVectorizer, InputError, load_model, save_model
from frozenbert.errors import LeakageWarning, PoolWarning
from frozenbert.fewshot.averaging import MeanOfProbabilities
from frozenbert.fewshot.classifier import FewShotClassifier, make_expert_vectorizer
from frozenbert.fewshot.evaluation import score_models
from frozenbert.fewshot.experts import Experts
from frozenbert.fewshot.pool import remove_known, warn_of_overlap
from frozenbert.finetune.encoder_folder import n_trained_on
from frozenbert.finetune.pairs import LIBRARIES
from frozenbert.pipeline import predict
from frozenbert.utils.steps import find_step

TEXTS = [f"a {word} film {n}" for n in range(5) for word in ("good", "bad")]
LABELS = ["yes", "no"] * 5
POOL = [f"the {word} plot {n}" for n in range(9) for word in ("good", "fine", "bad", "dull")]
NEW = ["a good one", "a bad one", ""]


@pytest.fixture
def few(tiny):
    return FewShotClassifier(tiny, n_experts=2)


def test_the_default_vectors_are_of_the_upper_half(tiny, few):
    few.fit(TEXTS, LABELS, POOL)
    embed = find_step(few.student_, DistilBertVectorizer)
    assert embed.layers_ == (2, 3)
    assert embed.pooling_ == ("cls", "mean")
    assert make_expert_vectorizer(tiny, layers=1).layers == 1
    other = FewShotClassifier(vectorizer=make_expert_vectorizer(tiny), n_experts=2)
    other.fit(TEXTS, LABELS, POOL)
    np.testing.assert_allclose(other.predict_proba(NEW), few.predict_proba(NEW), atol=1e-5)


@pytest.mark.parametrize("model", ["teacher", "student", "student_words", "experts"])
def test_the_model_that_predicts(model, few):
    few.set_params(predict_with=model).fit(TEXTS, LABELS, POOL)
    of_model = few.models()[model].predict_proba(NEW)
    np.testing.assert_allclose(few.predict_proba(NEW), of_model, atol=1e-5)
    assert few.predict(NEW).tolist() == few.classes_[of_model.argmax(axis=1)].tolist()
    assert predict(few, NEW)["prediction"].tolist() == few.predict(NEW).tolist()


def test_without_a_pool_the_experts_predict(few):
    few.fit(TEXTS, LABELS, POOL).fit(TEXTS, LABELS)
    assert list(few.models()) == ["experts"]
    assert not hasattr(few, "student_")
    assert not hasattr(few, "pool_probabilities_")
    assert few.predict_proba(NEW).shape == (3, 2)
    assert few.score(TEXTS, LABELS) > 0.8
    with pytest.raises(InputError, match="the classifier has no pool"):
        few.suggest(1)
    with pytest.raises(InputError, match="predict_with='student': students need unlabelled"):
        clone(few).set_params(predict_with="student").fit(TEXTS, LABELS)


def test_suggestions_are_places_in_what_was_given(few):
    pool = [TEXTS[0], *POOL, POOL[3], TEXTS[1]]
    with pytest.warns(PoolWarning, match="2 of 38 unlabelled texts are removed from the pool"):
        few.fit(TEXTS, LABELS, pool)
    assert few.pool_rows_.tolist() == [*range(1, 37)]
    assert few.pool_probabilities_.shape == (36, 2)
    places = few.suggest(5)
    assert len(set(places.tolist())) == 5
    assert not {pool[place] for place in places} & set(TEXTS)


def test_a_saved_classifier_holds_no_pool_and_no_path(tmp_path):
    encoder = make_encoder(tmp_path / "encoders" / "mine")
    few = FewShotClassifier(str(encoder), n_experts=2, folder=tmp_path).fit(TEXTS, LABELS, POOL)
    path = save_model(few, tmp_path / "out" / "model.joblib")
    expected = few.predict_proba(NEW)
    shutil.move(encoder, path.parent / "mine")
    for form in (path, path.with_suffix(".skops")):
        loaded = load_model(form)
        with pytest.raises(InputError, match="has no pool"):
            loaded.suggest(1)
        assert loaded.folder == tmp_path.name
        assert loaded.model_name == "mine"
        np.testing.assert_allclose(loaded.predict_proba(NEW), expected, atol=1e-5)
    assert str(tmp_path).encode() not in path.read_bytes()
    assert len(few.suggest(2)) == 2  # what was saved is a copy


@pytest.mark.parametrize(
    ("settings", "y", "message"),
    [
        ({"experts": "none"}, LABELS, "experts='none': one of 'frozen', 'contrastive'"),
        ({"predict_with": "all"}, LABELS, "predict_with='all': one of 'experts', 'teacher'"),
        ({"n_experts": 0}, LABELS, "n_experts=0: at least 1"),
        ({"experts": "finetuned"}, LABELS, "folder=None: name a folder for the trained"),
        ({"experts": "contrastive"}, LABELS, "folder=None: name a folder for the trained"),
        ({}, LABELS[:-1], "y: 9 labels for 10 texts"),
        ({}, ["yes"] * 10, "y: at least two classes"),
        ({}, ["other", *LABELS[1:]], "y: the class 'other' has one row: label another text"),
    ],
)
def test_illegal_values(few, settings, y, message):
    with pytest.raises(InputError, match=message):
        few.set_params(**settings).fit(TEXTS, y, POOL)


def test_texts_without_a_letter(few):
    with pytest.raises(InputError, match="X: no labelled text contains a letter or a digit"):
        few.fit(["!", "?"] * 5, LABELS, POOL)
    with pytest.raises(InputError, match="X: no labelled text contains a letter or a digit"):
        few.set_params(clean=True).fit(["@someone", "@other"] * 5, LABELS, POOL)


def test_a_pool_that_shares_no_word(few):
    with pytest.raises(InputError, match="unlabelled: no word is in two texts"):
        few.fit([f"text{n}" for n in range(10)], LABELS, [f"pool{n}" for n in range(9)])


def test_finetuned_experts_report_and_predict(few, tmp_path):
    pytest.importorskip("accelerate", reason="fine-tuning needs accelerate")
    from frozenbert.finetune.recipe import Recipe

    seen = {}
    few.set_params(experts="finetuned", folder=tmp_path, recipe=Recipe(epochs=1))
    few.fit(TEXTS, LABELS, POOL, on_expert=seen.__setitem__)
    assert list(seen) == ["expert-1", "expert-2"]
    facts = json.loads((tmp_path / "expert-2" / "finetune.json").read_text())
    assert seen["expert-2"] == facts["metrics"]
    assert isinstance(few.experts_, MeanOfProbabilities)
    assert predict(few, NEW)["proba_yes"].shape == (3,)


def test_experts_on_an_encoder_that_is_tuned_on_pairs(few, tmp_path):
    for library in LIBRARIES:
        pytest.importorskip(library)
    frozen = clone(few).fit(TEXTS, LABELS, POOL)
    few.set_params(experts="contrastive", folder=tmp_path).fit(TEXTS, LABELS, POOL)
    before, after = (find_step(each.experts_, DistilBertVectorizer) for each in (frozen, few))
    assert after.model_name == str(tmp_path / "tuned")
    assert after.encoder_hash_ != before.encoder_hash_
    assert (after.layers_, after.pooling_) == (before.layers_, before.pooling_)
    assert n_trained_on(tmp_path / "tuned", TEXTS) == len(TEXTS)
    expected = few.predict_proba(NEW)
    save_model(few, tmp_path / "model.joblib")
    np.testing.assert_allclose(
        load_model(tmp_path / "model.skops").predict_proba(NEW), expected, atol=1e-5
    )


# ------------------------------------------------------------------------------- the pool


def test_known_texts_are_removed_with_a_warning():
    says = "1 of 2 unlabelled texts are removed from the pool: they are rows of test.csv"
    with pytest.warns(PoolWarning, match=says):
        assert remove_known(["a", "b"], ["b", "c"], where="rows of test.csv") == ["a"]
    with pytest.warns(PoolWarning):
        assert remove_known(["a @you", "b"], ["a"], clean=True) == ["b"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert remove_known(["a @you", "b"], ["a"]) == ["a @you", "b"]


def test_labelled_texts_that_are_tested():
    with pytest.warns(LeakageWarning, match="1 labelled texts are also rows of test.csv"):
        assert warn_of_overlap(["a", "b"], ["b", "b"], where="rows of test.csv") == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert warn_of_overlap(["a"], ["b"]) == 0


def test_models_are_scored_beside_the_baseline(few):
    few.fit(TEXTS, LABELS, POOL)
    scores = score_models(few, TEXTS, LABELS, TEXTS, LABELS)
    assert list(scores) == ["TF-IDF, no pool", "experts", "teacher", "student", "student_words"]
    assert scores["teacher"]["accuracy"] == few.score(TEXTS, LABELS)
    few.fit(TEXTS, LABELS)
    assert list(score_models(few, TEXTS, LABELS, TEXTS, LABELS)) == ["TF-IDF, no pool", "experts"]


# ------------------------------------------------------------------------------ the mean


def fixed(*y):
    return DummyClassifier().fit([""] * len(y), y)


def test_the_mean_is_of_probabilities():
    mean = MeanOfProbabilities.of({"a": fixed("no", "yes"), "b": fixed("no", "no", "no", "yes")})
    np.testing.assert_allclose(mean.predict_proba(["a", "b"]), [[0.625, 0.375]] * 2, atol=1e-9)
    assert mean.predict(["a"]).tolist() == ["no"]
    copy = clone(mean).fit()  # frozen: a clone is as good
    np.testing.assert_allclose(copy.predict_proba(["a"]), [[0.625, 0.375]], atol=1e-9)


def test_errors_of_the_mean():
    with pytest.raises(InputError, match="estimators: the classes differ"):
        MeanOfProbabilities.of({"a": fixed("no", "yes"), "b": fixed("no", "maybe")})
    with pytest.raises(InputError, match="estimators: at least one fitted classifier"):
        MeanOfProbabilities([]).fit()
    with pytest.raises(NotFittedError):
        MeanOfProbabilities([("a", DummyClassifier())]).fit()
    with pytest.raises(NotFittedError):
        MeanOfProbabilities([("a", fixed("no", "yes"))]).predict(["a"])


def test_each_classifier_is_asked_once(monkeypatch):
    calls = []
    plain = DummyClassifier.predict_proba
    monkeypatch.setattr(DummyClassifier, "predict_proba", lambda *a: calls.append(1) or plain(*a))
    mean = MeanOfProbabilities.of({"a": fixed("no", "yes"), "b": fixed("no", "no", "yes")})
    found = predict(mean, ["a", "b"])
    assert len(calls) == 2
    assert set(found) == {"prediction", "proba_no", "proba_yes"}


# Not `DistilledClassifier`, which learns from probabilities: no check passes them as `y`.
@parametrize_with_checks([FewShotClassifier(), MeanOfProbabilities.of({"a": fixed("no", "yes")})])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([Experts(n_experts=2, cv=2)])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks_of_experts(estimator, check):
    check(estimator)
