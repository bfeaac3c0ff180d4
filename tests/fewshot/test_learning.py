"""Few labels and a pool: experts, what they teach, which texts they ask for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from frozenbert import DistilBertVectorizer, InputError, load_model
from frozenbert.cli import main as cli
from frozenbert.fewshot import evaluation
from frozenbert.fewshot.classifier import FewShotClassifier
from frozenbert.fewshot.distillation import DistilledClassifier, sharpened
from frozenbert.fewshot.evaluation import Compared, compare_by_folds
from frozenbert.fewshot.experts import Experts, bootstrap, views
from frozenbert.fewshot.suggestion import suggest, uncertainty
from frozenbert.heads.words import NBLogisticRegression

RNG = np.random.default_rng(0)


def random_rows(n=60, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    sets = [(layer, how) for layer in (1, 2) for how in ("cls", "mean")]
    names = [f"layer{layer}_{how}_{i}" for layer, how in sets for i in (0, 1)]
    X = rng.normal(size=(n, 8)) + y[:, None] * np.array([1, 0] * 4)
    return pd.DataFrame(X, columns=names), y


# ------------------------------------------------------------------------- what is taught


def test_labels_are_certain_probabilities():
    X, y = random_rows()
    plain = LogisticRegression().fit(X.to_numpy(), y)
    taught = DistilledClassifier(LogisticRegression(), [0, 1]).fit(X, np.eye(2)[y])
    np.testing.assert_allclose(
        taught.predict_proba(X), plain.predict_proba(X.to_numpy()), atol=1e-4
    )


def test_it_learns_the_probabilities_themselves():
    X, _ = random_rows(400)
    p = 1 / (1 + np.exp(-X.to_numpy()[:, 0]))
    P = np.column_stack([1 - p, p])
    taught = DistilledClassifier(LogisticRegression(C=1e5, tol=1e-8), ["no", "yes"]).fit(X, P)
    np.testing.assert_allclose(taught.predict_proba(X), P, atol=1e-3)
    assert taught.classes_.tolist() == ["no", "yes"]
    # Minus the cross-entropy, which has its best at the probabilities' own entropy.
    entropy = -(P * np.log(P)).sum(axis=1).mean()
    assert taught.score(X, P) == pytest.approx(-entropy, abs=1e-5)


def test_the_order_of_classes_is_the_caller_s():
    X, y = random_rows()
    taught = DistilledClassifier(LogisticRegression(), ["yes", "no"]).fit(X, np.eye(2)[y])
    np.testing.assert_array_equal(
        taught.predict(X[:6]) == "no", taught.predict_proba(X[:6])[:, 1] > 0.5
    )
    assert np.mean((taught.predict(X) == "no") == (y == 1)) > 0.8


def test_shares_make_up_for_a_pool_with_others():
    X, y = random_rows(400)
    rows = np.flatnonzero((y == 0) | (np.arange(400) < 40))  # nine of ten are of one class
    P = np.eye(2)[y[rows]]
    as_it_is = DistilledClassifier(LogisticRegression(), [0, 1]).fit(X.iloc[rows], P)
    even = DistilledClassifier(LogisticRegression(), [0, 1], shares=[0.5, 0.5]).fit(X.iloc[rows], P)
    assert as_it_is.predict(X).mean() < 0.42 < even.predict(X).mean() < 0.58


def test_both_copies_of_a_row_stand_in_one_fold():
    X, y = random_rows()
    P = np.where(np.eye(2)[y] == 1, 0.9, 0.1)
    seen = []

    class Spy(LogisticRegression):
        def fit(self, X, y, sample_weight=None):
            seen.append(X)
            return super().fit(X, y, sample_weight)

    taught = DistilledClassifier(Spy(), [0, 1])
    GridSearchCV(taught, {"estimator__C": [1.0]}, cv=5, refit=False).fit(X.to_numpy(), P)
    assert len(seen) == 5
    for rows in seen:
        assert (np.unique(rows, axis=0, return_counts=True)[1] == 2).all()


@given(
    st.lists(st.lists(st.floats(0.001, 1), min_size=3, max_size=3), min_size=1, max_size=5),
    st.floats(0.05, 5),
)
def test_sharpened_probabilities_are_some_and_keep_their_order(weights, temperature):
    P = np.array(weights) / np.sum(weights, axis=1, keepdims=True)
    found = sharpened(P, temperature)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found.argmax(axis=1) == P.argmax(axis=1)).all() or np.isclose(
        np.sort(P)[:, -1], np.sort(P)[:, -2]
    ).any()
    if temperature < 1:
        assert (found.max(axis=1) >= P.max(axis=1) - 1e-9).all()


@pytest.mark.parametrize("P", [[[0.5, 0.6]], [[1.5, -0.5]], [[np.nan, 1.0]], [0.5, 0.5]])
def test_what_is_no_probability(P):
    with pytest.raises(InputError, match="probabilities of the classes, shape"):
        sharpened(P, 1.0)


def test_other_errors_of_teaching():
    with pytest.raises(InputError, match=r"temperature=0: a number above 0"):
        sharpened([[0.5, 0.5]], 0)
    with pytest.raises(InputError, match="y: 2 columns of probabilities for 3 classes"):
        DistilledClassifier(LogisticRegression(), ["a", "b", "c"]).fit([[1]], [[0.5, 0.5]])


def test_words_of_several_classes_are_each_held_against_the_rest():
    from sklearn.multiclass import OneVsRestClassifier

    rng = np.random.default_rng(0)
    X = rng.random((60, 9)) * (rng.random((60, 9)) > 0.5)
    y = rng.choice(["a", "b", "c"], 60)
    each = NBLogisticRegression(tol=1e-6)
    several = NBLogisticRegression(tol=1e-6).fit(X, y)
    expected = OneVsRestClassifier(each).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(several.predict_proba(X), expected, atol=1e-9)
    assert several.coef_.shape == (3, 9)


def test_a_row_of_words_with_weight_two_is_two_rows():
    rng = np.random.default_rng(0)
    X, y = rng.random((30, 5)), rng.integers(0, 2, 30)
    weights = rng.integers(1, 4, 30)
    weighted = NBLogisticRegression(tol=1e-8).fit(X, y, weights)
    rows = np.repeat(np.arange(30), weights)
    repeated = NBLogisticRegression(tol=1e-8).fit(X[rows], y[rows])
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-4)
    assert not np.allclose(
        NBLogisticRegression(tol=1e-8).fit(X, y).coef_, repeated.coef_, rtol=0.01
    )


# ------------------------------------------------------------------------------- experts


def test_experts_differ_and_their_mean_is_the_answer():
    X, y = random_rows()
    experts = Experts(6, random_state=3).fit(X, y)
    each = np.stack([expert.predict_proba(X) for expert in experts.experts_])
    np.testing.assert_allclose(experts.predict_proba(X), each.mean(axis=0), atol=1e-5)
    assert len({p.tobytes() for p in each}) == 6
    assert experts.score(X, y) > 0.6
    again = Experts(6, random_state=3).fit(X, y)
    np.testing.assert_allclose(again.predict_proba(X), experts.predict_proba(X), atol=1e-5)
    assert len({str(expert["select"]) for expert in experts.experts_}) > 1


def test_one_expert_without_sampling_sees_all_rows():
    X, y = random_rows()
    (expert,) = Experts(1, bootstrap=False).fit(X, y).experts_
    assert expert["select"].get_feature_names_out().tolist() == ["layer2_mean_0", "layer2_mean_1"]
    assert expert["scale"].n_samples_seen_ == 60


def test_an_expert_chooses_within_its_own_rows(monkeypatch):
    X, y = random_rows()
    seen = []
    plain = GridSearchCV.fit

    def fit(self, X, y=None, **kwargs):
        seen.append((len(X), len(np.unique(X, axis=0)), kwargs["sample_weight"].sum()))
        return plain(self, X, y, **kwargs)

    monkeypatch.setattr(GridSearchCV, "fit", fit)
    Experts(3).fit(X, y)
    for rows, different, weight in seen:
        assert rows == different < 60  # no row stands in two folds
        assert weight == 60


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 99))
def test_a_sample_has_as_many_rows_of_each_class(a, b, seed):
    y = np.array([0] * a + [1] * b)
    weights = bootstrap(y, np.random.default_rng(seed))
    assert [weights[y == label].sum() for label in (0, 1)] == [a, b]
    assert min(np.count_nonzero(weights[y == label]) for label in (0, 1)) >= 2


def test_what_experts_see():
    assert views((6,), ("mean",)) == [((6,), ("mean",))]
    several = views((1, 2, 3, 4, 5, 6), ("cls", "mean"))
    assert len(several) == len(set(several)) == 8
    assert {layer for layers, _ in several for layer in layers} == {4, 5, 6}


@pytest.mark.parametrize(
    ("y", "says"),
    [
        ([0] * 8, "y: experts need two classes, and all rows have one class, '0'"),
        ([0] * 7 + [1], "y: experts need two rows of each class, and the class '1' has one of 8"),
    ],
)
def test_too_few_labels(y, says):
    X, _ = random_rows(8)
    with pytest.raises(InputError, match=says):
        Experts().fit(X, y)
    with pytest.raises(InputError, match="n_experts=0: at least 1"):
        Experts(0).fit(X, [0, 1] * 4)


# ---------------------------------------------------------------------------- which next


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 5))
def test_suggestions_are_different_rows_and_as_many_as_asked(n, rows, seed):
    rng = np.random.default_rng(seed)
    p = rng.random(rows)
    found = suggest(rng.normal(size=(rows, 3)), np.column_stack([p, 1 - p]), n)
    assert len(set(found.tolist())) == len(found) == min(n, rows)
    doubt = uncertainty(np.column_stack([p, 1 - p]))[found]
    assert (np.diff(doubt) <= 1e-9).all()


def test_suggestions_are_uncertain_and_unlike_one_another():
    rng = np.random.default_rng(0)
    centres = np.repeat([[0, 0], [9, 0], [0, 9], [9, 9]], 25, axis=0)
    vectors = centres + rng.normal(size=(100, 2))
    p = np.full(100, 0.5)
    assert {int(row) // 25 for row in suggest(vectors, np.column_stack([p, p]), 4)} == {0, 1, 2, 3}
    p[:50] = 0.99  # what is known needs no label
    found = suggest(vectors, np.column_stack([p, 1 - p]), 5)
    assert (found >= 50).all()


def test_rows_that_are_all_alike_can_be_suggested_too():
    assert len(suggest(np.zeros((8, 2)), np.full((8, 2), 0.5), 3)) == 3


def test_errors_of_suggestions():
    with pytest.raises(InputError, match="n=0: at least 1"):
        suggest(np.zeros((2, 1)), np.full((2, 2), 0.5), 0)
    with pytest.raises(InputError, match="no rows to suggest from"):
        suggest(np.zeros((0, 1)), np.zeros((0, 2)), 1)


# ------------------------------------------------------------------------------ together

GOOD, BAD = ("good", "great", "fun", "warm", "funny"), ("bad", "dull", "poor", "slow", "cold")


def sentences(n, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    things, verbs = ("film", "movie", "plot", "scene", "actor"), ("is", "was")
    texts = [
        f"the {rng.choice(things)} {rng.choice(verbs)} {rng.choice((BAD, GOOD)[label])} "
        f"and {rng.choice((BAD, GOOD)[label])}"
        for label in y
    ]
    return texts, np.where(y == 1, "good", "bad")


@pytest.fixture
def vectorizer(tiny):
    return DistilBertVectorizer(tiny, layers="all", pooling=("cls", "mean"), progress=False)


def test_the_pool_teaches(vectorizer):
    texts, labels = sentences(16, 0)
    pool, _ = sentences(300, 1)
    test, truth = sentences(200, 2)
    learned = FewShotClassifier(vectorizer=vectorizer).fit(texts, labels, pool)
    scores = {name: model.score(test, truth) for name, model in learned.models().items()}
    assert min(scores.values()) > 0.75, scores
    assert scores["student_words"] > 0.9, scores
    assert list(scores) == ["experts", "teacher", "student", "student_words"]
    assert learned.pool_probabilities_.shape == (len(set(pool) - set(texts)), 2)
    assert learned.classes_.tolist() == ["bad", "good"]
    mean = (learned.experts_.predict_proba(test) + learned.student_words_.predict_proba(test)) / 2
    np.testing.assert_allclose(learned.teacher_.predict_proba(test), mean, atol=1e-5)
    np.testing.assert_allclose(learned.predict_proba(test), mean, atol=1e-5)
    again = FewShotClassifier(vectorizer=vectorizer).fit(texts, labels, pool)
    np.testing.assert_allclose(again.pool_probabilities_, learned.pool_probabilities_, atol=1e-5)


def test_three_classes(vectorizer):
    texts, labels = sentences(30, 0)
    labels[::3] = "none"
    learned = FewShotClassifier(vectorizer=vectorizer, n_experts=2)
    for model in learned.fit(texts, labels, sentences(60, 1)[0]).models().values():
        p = model.predict_proba(texts[:4])
        assert p.shape == (4, 3)
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)


def test_an_empty_pool(vectorizer):
    texts, labels = sentences(16, 0)
    for pool in ([], texts):
        with pytest.raises(InputError, match="unlabelled: no text that is not labelled already"):
            FewShotClassifier(vectorizer=vectorizer).fit(texts, labels, pool)


@pytest.fixture
def files(tmp_path):
    for name, n, seed in (("few.csv", 20, 0), ("pool.csv", 200, 1), ("test.csv", 80, 2)):
        texts, labels = sentences(n, seed)
        frame = pd.DataFrame({"text": texts, "label": labels})
        frame.drop(columns="label" if name == "pool.csv" else []).to_csv(
            tmp_path / name, index=False
        )
    return tmp_path


def command(files, tiny, *more):
    return cli.main(
        [
            "fewshot",
            *("--data", str(files / "few.csv"), "--unlabelled", str(files / "pool.csv")),
            *("--model", tiny, "--out", str(files / "out"), "--n-experts", "2", *more),
        ]
    )


def test_the_command(files, tiny, capsys):
    more = ["--test", str(files / "test.csv"), "--suggest", "5", "--clean"]
    more += ["--soft-labels", str(files / "soft.csv")]
    assert command(files, tiny, *more) == 0
    captured = capsys.readouterr()
    assert "student_words" in captured.out
    assert "removed from the pool: they are labelled in few.csv" in captured.err
    assert "removed from the pool: they are rows of" in captured.err
    found = json.loads((files / "out" / "fewshot.json").read_text())
    assert set(found["metrics"]) == {
        *("TF-IDF, no pool", "experts", "teacher", "student", "student_words")
    }
    suggested = pd.read_csv(files / "out" / "suggest.csv")
    soft = pd.read_csv(files / "soft.csv")
    assert len(suggested) == 5
    known = set(pd.read_csv(files / "few.csv")["text"]) | set(
        pd.read_csv(files / "test.csv")["text"]
    )
    assert not set(soft["text"]) & known
    assert set(suggested["text"]) <= set(soft["text"])
    np.testing.assert_allclose(soft["proba_bad"] + soft["proba_good"], 1, atol=1e-5)
    for name in ("teacher", "student", "student_words"):
        out = files / f"{name}.csv"
        model = ["--model", str(files / "out" / f"{name}.joblib"), "--encoder", tiny]
        assert (
            cli.main(["classify", *model, "--data", str(files / "test.csv"), "--out", str(out)])
            == 0
        )
        answers = pd.read_csv(out)
        accuracy = (answers["prediction"] == answers["label"]).mean()
        assert accuracy == pytest.approx(found["metrics"][name]["accuracy"])


def test_an_empty_pool_and_one_of_known_texts(files, tiny, capsys):
    pd.read_csv(files / "few.csv")[["text"]].to_csv(files / "pool.csv", index=False)
    assert command(files, tiny) == 2
    assert "has no text that is not in the other files already" in capsys.readouterr().err
    (files / "pool.csv").write_text("text\n")
    assert command(files, tiny) == 2
    assert "pool.csv" in capsys.readouterr().err
    assert not (files / "out").exists()


def test_what_would_be_overwritten(files, tiny, capsys):
    before = (files / "pool.csv").read_bytes()
    assert command(files, tiny, "--soft-labels", str(files / "pool.csv")) == 2
    assert "reads the same file" in capsys.readouterr().err
    assert (files / "pool.csv").read_bytes() == before


def test_a_class_with_one_row(files, tiny, capsys):
    few = pd.read_csv(files / "few.csv")
    few.loc[0, "label"] = "fair"
    few.to_csv(files / "few.csv", index=False)
    assert command(files, tiny) == 2
    assert "the class 'fair' has one row: label another text of it" in capsys.readouterr().err


def test_cleaned_texts_of_the_pool_are_known_too(files, tiny, capsys):
    test = pd.read_csv(files / "test.csv")
    pool = pd.concat([pd.read_csv(files / "pool.csv"), test[["text"]] + " @someone"])
    pool.to_csv(files / "pool.csv", index=False)
    more = ["--clean", "--test", str(files / "test.csv"), "--soft-labels", str(files / "s.csv")]
    assert command(files, tiny, *more) == 0
    assert not any("@someone" in text for text in pd.read_csv(files / "s.csv")["text"])


def test_labelled_rows_that_are_measured_on(files, tiny, capsys):
    assert command(files, tiny, "--test", str(files / "few.csv")) == 0
    assert "labelled texts are also rows of" in capsys.readouterr().err


def test_a_student_goes_through_the_encoder_once(vectorizer, monkeypatch):
    from frozenbert.pipeline import predict

    texts, labels = sentences(16, 0)
    few = FewShotClassifier(vectorizer=vectorizer, n_experts=1, clean=True)
    few.fit(texts, labels, sentences(60, 1)[0])
    calls = []
    plain = DistilBertVectorizer.transform
    monkeypatch.setattr(DistilBertVectorizer, "transform", lambda *a: calls.append(1) or plain(*a))
    for model in (few.student_, few.teacher_, few):
        calls.clear()
        found = predict(model, texts[:3])
        assert len(calls) == 1
        assert found["prediction"].tolist() == model.predict(texts[:3]).tolist()
        assert set(found) == {"prediction", "proba_bad", "proba_good"}


def test_the_model_to_use_is_named_and_lies_in_the_folder(files, tiny, capsys, monkeypatch):
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(Path(tiny).parent))
    assert command(files, tiny) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("compared"))
    assert re.search(r"in \d+\.\d s: accuracy, above the teacher", lines[start])
    rows = {line.split()[0]: line for line in lines[start + 1 : start + 5]}
    assert list(rows) == ["experts", "teacher", "student", "student_words"]
    (chosen,) = [name for name, line in rows.items() if line.endswith("to be used")]
    facts = json.loads((files / "out" / "fewshot.json").read_text())
    assert facts["model"] == chosen
    assert lines[-1].endswith(f"({chosen}): classify --model {files / 'out'}")
    texts = pd.read_csv(files / "test.csv")["text"].tolist()
    expected = load_model(files / "out" / f"{chosen}.joblib").predict(texts)
    for name in ("model.joblib", "model.skops"):
        assert load_model(files / "out" / name).predict(texts).tolist() == expected.tolist()
    arguments = ["--model", str(files / "out"), "--no-cache", "--text", texts[0]]
    assert cli.main(["classify", *arguments]) == 0
    assert f"prediction\t{expected[0]}" in capsys.readouterr().out


def test_rows_of_a_fold_teach_nobody(vectorizer, monkeypatch):
    texts, labels = sentences(20, 0)
    pool = [*sentences(30, 1)[0], *texts[:5]]
    seen = []
    plain = FewShotClassifier.fit
    monkeypatch.setattr(
        FewShotClassifier, "fit", lambda self, *rows: seen.append(rows) or plain(self, *rows)
    )
    few = FewShotClassifier(vectorizer=vectorizer, n_experts=1)
    found = compare_by_folds(few, texts, np.array(labels), pool)
    assert set(found) == {"experts", "teacher", "student", "student_words"}
    assert len(seen) == 5
    assert not any(set(unlabelled) & set(texts) for _, _, unlabelled in seen)
    held_out = [text for known, _, _ in seen for text in set(texts) - set(known)]
    assert sorted(held_out) == sorted(set(texts))
    for one in found.values():
        assert one.scoring == "accuracy"
        assert one.interval[0] <= one.score <= one.interval[1]
        assert one.above_teacher == pytest.approx(one.score - found["teacher"].score)
        assert set(one.per_class) == {"bad", "good"}


def test_unbalanced_classes_are_compared_by_macro_f1(vectorizer):
    texts, labels = sentences(60, 0)
    rows = np.concatenate(
        [np.flatnonzero(labels == "good")[:20], np.flatnonzero(labels == "bad")[:3]]
    )
    few = FewShotClassifier(vectorizer=vectorizer, n_experts=1)
    found = compare_by_folds(few, [texts[i] for i in rows], labels[rows], sentences(30, 1)[0])
    for one in found.values():
        assert one.scoring == "macro_f1"
        assert one.score == pytest.approx(np.mean(list(one.per_class.values())))


def test_models_that_folds_cannot_compare(vectorizer):
    texts, labels = ["good", "fine", "bad", "poor", "dull"], np.array([1, 1, 0, 0, 0])
    few = FewShotClassifier(vectorizer=vectorizer)
    with pytest.raises(InputError, match="the class '1' has 2 rows, and folds need three"):
        compare_by_folds(few, texts, labels, ["a film"])
    few.set_params(experts="finetuned")
    with pytest.raises(InputError, match="experts that train encoders are not compared by folds"):
        compare_by_folds(few, texts, labels, ["a film"])


def test_the_loop_of_labelling_works_from_files(files, tiny, capsys):
    assert command(files, tiny, "--suggest", "4") == 0
    asked = pd.read_csv(files / "out" / "suggest.csv")
    asked["label"] = ["good" if any(w in t.split() for w in GOOD) else "bad" for t in asked["text"]]
    few = pd.read_csv(files / "few.csv")
    asked.to_csv(files / "out" / "suggest.csv", index=False)
    pd.concat([few, asked]).to_csv(files / "few.csv", index=False)
    assert command(files, tiny, "--suggest", "4") == 2  # work of somebody's hands
    assert "suggest.csv: has labels filled in, which would be" in capsys.readouterr().err
    (files / "out" / "suggest.csv").unlink()
    assert command(files, tiny, "--suggest", "4") == 0
    assert f"{len(few) + 4} rows" in capsys.readouterr().out
    assert not set(pd.read_csv(files / "out" / "suggest.csv")["text"]) & set(asked["text"])


def test_options_of_a_training_that_does_not_take_place(files, tiny, capsys):
    for more in (["--epochs", "1"], ["--batch-size", "4", "--experts", "contrastive"]):
        assert command(files, tiny, *more) == 2
        said = capsys.readouterr().err
        assert f"{more[0]} {more[1]}: is for fine-tuned experts only." in said
    assert not (files / "out").exists()


def test_a_class_of_which_nothing_is_recognised_is_named(files, tiny, capsys, monkeypatch):
    one = Compared("accuracy", 0.5, [0.4, 0.6], 0.0, [0.0, 0.0], {"bad": 0.7, "good": 0.0})
    monkeypatch.setattr(evaluation, "compare_by_folds", lambda *_: {"teacher": one})
    assert command(files, tiny) == 0
    said = capsys.readouterr().out
    assert "missed       teacher recognises no held-out row of 'good': label more of them" in said


def test_experts_that_are_finetuned(files, tiny, capsys):
    pytest.importorskip("accelerate", reason="fine-tuning needs accelerate")
    more = ["--experts", "finetuned", "--epochs", "1", "--test", str(files / "test.csv")]
    assert command(files, tiny, *more) == 0
    assert (files / "out" / "expert-2" / "model.safetensors").is_file()
    capsys.readouterr()
    # The encoders stand beside the model.
    model = ["--model", str(files / "out" / "teacher.joblib"), "--no-cache"]
    assert cli.main(["classify", *model, "--text", "the film was good and warm"]) == 0
    assert "proba_good" in capsys.readouterr().out


@pytest.mark.slow
def test_the_words_need_no_encoder(files, tiny):
    assert command(files, tiny) == 0
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name in ('torch', 'transformers', 'tokenizers'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import joblib\n"
        "model = joblib.load(sys.argv[1])\n"
        "print(model.predict(['the film was good and warm']).tolist())\n"
    )
    arguments = [sys.executable, "-c", code, str(files / "out" / "student_words.joblib")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout == "['good']\n"
    assert joblib.load(files / "out" / "student_words.joblib")["classify"].C == 3
