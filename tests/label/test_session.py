"""Labelling sessions: what is asked, what is learned, what is doubted."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

from frozenbert import DistilBertVectorizer
from frozenbert.errors import InputError, RareClassWarning
from frozenbert.label import Session
from frozenbert.label.asking import OPEN_SECONDS, OVERLAP_EVERY, SAMPLE_EVERY
from frozenbert.label.learning.learner import batch_size
from frozenbert.label.learning.queries import uncertain
from frozenbert.label.project import check_labels

LABELS = ["a", "b", "c"]


def pool(n=300, n_labels=3, spread=0.6, seed=0):
    """Return texts, vectors in clusters, and the label of each text."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_labels, n)
    centres = rng.normal(size=(n_labels, 8))
    X = centres[y] + spread * rng.normal(size=(n, 8))
    return [f"text number {i}" for i in range(n)], X, y


def session(texts, X=None, labels=LABELS, **options):
    return Session(texts, labels, vectors=X, background=False, learn=X is not None, **options)


def answer_all(one, truth, n, annotator=None):
    """Answer `n` texts; return the items."""
    items = []
    for _ in range(n):
        item = one.next(annotator)
        items.append(item)
        one.answer(item.id, truth[item.text], annotator=annotator)
    return items


def truth_of(texts, y, labels=LABELS):
    return {text: labels[label] for text, label in zip(texts, y, strict=True)}


def test_next_is_the_same_text_until_it_is_answered():
    with session(["one", "two"]) as one:
        item = one.next()
        assert one.next() == item
        assert one.next(skip_ids=[item.id]).id != item.id
        assert one.next() == item
        one.answer(item.id, "a")
        assert one.next().id != item.id
        one.answer(one.next().id, None)
        assert one.next() is None
        assert (one.progress().n_labelled, one.progress().n_skipped) == (1, 1)


def test_the_first_of_each_five_texts_is_the_next_of_the_random_sample():
    texts, X, y = pool()
    with session(texts, X) as one:
        items = answer_all(one, truth_of(texts, y), 100)
        sample = [item for item in items if item.reason == "sample"]
        assert [item.reason == "sample" for item in items] == [
            n % SAMPLE_EVERY == 0 for n in range(100)
        ]
        # The sample is the beginning of one order of the pool, but for texts asked otherwise.
        places = [one._queue.order.index(one._queue.rows[item.id]) for item in sample]
        assert places == sorted(places)
        others = {item.reason for item in items} - {"sample"}
        assert "uncertain" in others


def test_the_random_sample_does_not_depend_on_the_order_of_the_rows():
    texts = [f"text {i}" for i in range(50)]
    with session(texts) as one, session(texts[::-1]) as other:
        first = [item.text for item in answer_all(one, dict.fromkeys(texts, "a"), 20)]
        assert first == [item.text for item in answer_all(other, dict.fromkeys(texts, "a"), 20)]
    with session(texts, seed=1) as another:
        assert first != [item.text for item in answer_all(another, dict.fromkeys(texts, "a"), 20)]


def test_it_learns_and_guesses():
    texts, X, y = pool()
    truth = truth_of(texts, y)
    with session(texts, X) as one:
        answer_all(one, truth, 60)
        right = 0
        for item in answer_all(one, truth, 60):
            assert len(item.guesses) == 3
            assert sum(p for _, p in item.guesses) == pytest.approx(1)
            right += item.guesses[0][0] == truth[item.text]
        assert right > 30
        progress = one.progress()
        assert progress.estimate.low < progress.estimate.value <= progress.estimate.high
        assert progress.curve
        assert [point.n for point in progress.curve] == sorted(p.n for p in progress.curve)
        assert sum(progress.per_label.values()) == progress.n_labelled == 120


def test_the_estimate_is_of_texts_the_model_was_not_fitted_on():
    """Labels by lot: any honest estimate is near one in three, however well the model fits."""
    texts, X, _ = pool(n=600)
    y = np.random.default_rng(5).integers(0, 3, 600)
    with session(texts, X) as one:
        answer_all(one, truth_of(texts, y), 300)
        estimate = one.progress().estimate
        assert estimate.n >= 300 // SAMPLE_EVERY
        assert estimate.low < 1 / 3 < estimate.high


def test_uncertain_texts_are_close_to_the_border():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=200)
    X = rng.normal(size=(200, 4))
    chosen = uncertain(X, np.column_stack([p, 1 - p]), 5)
    assert len(set(chosen)) == 5
    margins = np.abs(2 * p - 1)
    assert margins[chosen].max() <= np.sort(margins)[9]


def test_names_of_labels_bring_rare_classes_up_early(packaged):
    """Of 300 texts, 6 are of a class that is named; at random, 15 texts have it one in four."""
    common = [f"my card number {i} has not arrived in the post" for i in range(294)]
    rare = [f"the weather in town {i} is sunny and warm" for i in range(6)]
    encoder = DistilBertVectorizer(packaged, progress=False)
    truth = dict.fromkeys(common, "card delivery") | dict.fromkeys(rare, "weather")
    one = Session(common + rare, ["card delivery", "weather"], encoder=encoder, background=False)
    items = answer_all(one, truth, 10)
    assert sum(truth[item.text] == "weather" for item in items) >= 2
    assert "name" in {item.reason for item in items}
    one.close()


def test_many_labels():
    texts, X, y = pool(n_labels=2)
    flags = {text: LABELS[:2] if k else [] for text, k in zip(texts, y, strict=True)}
    with session(texts, X, multi_label=True) as one:
        answer_all(one, flags, 80)
        progress = one.progress()
        assert progress.per_label["a"] == progress.per_label["b"] > 20
        assert progress.per_label["c"] == 0
        assert progress.n_labelled == 80
        assert progress.estimate is not None
        texts_, frame = one.training_rows()
        assert list(frame.columns) == ["a", "b"]
        assert len(texts_) == 80
        with pytest.raises(InputError, match=r"label='d': is no label of this session"):
            one.answer(one.next().id, ["a", "d"])


def test_stopping_is_advised_once_more_labels_change_nothing():
    texts, X, y = pool(n=500, spread=0.1)
    with session(texts, X) as one:
        answer_all(one, truth_of(texts, y), 60)
        assert not one.progress().advice.stop
        answer_all(one, truth_of(texts, y), 140)
        advice = one.progress().advice
        assert advice.stop
        assert "Stop: twice as many labels would bring about 0.0 points" in advice.reason


def test_stopping_is_not_advised_while_labels_still_help():
    texts, X, y = pool(n=600)
    X = np.hstack([X, np.random.default_rng(1).normal(size=(600, 300))])  # hard to see through
    with session(texts, X) as one:
        answer_all(one, truth_of(texts, y), 130)
        assert not one.progress().advice.stop
        assert "Go on: twice as many labels would bring" in one.progress().advice.reason


def test_wrong_labels_are_doubted_and_mended():
    texts, X, y = pool(spread=0.2)
    truth = truth_of(texts, y)
    wrong = texts[7]
    with session(texts, X) as one:
        name = one._queue.ids[7]
        one.answer(name, "b" if truth[wrong] == "a" else "a")
        answer_all(one, truth, 100)
        doubts = [doubt for doubt in one.audit() if doubt.kind == "label"]
        assert doubts[0].texts == [wrong]
        assert doubts[0].suggestion == truth[wrong]
        assert wrong not in doubts[0].why
        one.answer(doubts[0].ids[0], doubts[0].suggestion)
        assert [doubt.ids for doubt in one.audit() if doubt.kind == "label"] == [
            doubt.ids for doubt in doubts[1:]
        ]


def test_near_duplicates_with_different_labels_and_outliers_are_doubted():
    texts, X, y = pool(spread=0.2)
    X[1] = X[0] + 1e-3
    X[2] = -20 * X.mean(axis=0)
    with session(texts, X) as one:
        answer_all(one, truth_of(texts, y), 60)
        one.answer(one._queue.ids[0], "a")
        one.answer(one._queue.ids[1], "b")
        one.answer(one._queue.ids[2], "a")
        doubts = one.audit()
        pair = next(doubt for doubt in doubts if set(doubt.texts) == {texts[0], texts[1]})
        assert (pair.kind, set(pair.labels)) == ("duplicate", {"a", "b"})
        assert pair.suggestion in ("a", "b")
        assert [texts[2]] in [doubt.texts for doubt in doubts if doubt.kind == "outlier"]
        one.confirm(pair)
        assert pair not in one.audit()
        one.answer(one._queue.ids[1], "c")  # a new contradiction
        assert {texts[0], texts[1]} in [set(doubt.texts) for doubt in one.audit()]


def test_groups_are_of_unlabelled_texts_that_are_alike():
    texts, X, y = pool(spread=0.05)
    with session(texts, X) as one:
        answer_all(one, truth_of(texts, y), 30)
        groups = one.groups()
        assert groups
        answered = set(one._queue.answered)
        for group in groups:
            rows = [one._queue.rows[name] for name in group.ids]
            assert len({y[row] for row in rows}) == 1
            assert group.guess == LABELS[y[rows[0]]]
            assert not answered & set(group.ids)
            assert group.texts == [texts[row] for row in rows]


def test_two_annotators_get_different_texts_and_some_of_each_other():
    texts = [f"text {i}" for i in range(200)]
    with session(texts) as one:
        shown = {"anna": [], "ben": []}
        for _ in range(3 * OVERLAP_EVERY):
            items = {who: one.next(who) for who in shown}
            assert items["anna"].id != items["ben"].id
            for who, item in items.items():
                shown[who].append(item.id)
                one.answer(item.id, "a" if item.id < "8" else "b", annotator=who)
        both = set(shown["anna"]) & set(shown["ben"])
        assert 4 <= len(both) <= 6
        assert one.progress().agreement == 1.0
        again = next(iter(both))
        one.answer(again, "c", annotator="ben")
        assert one.progress().agreement < 1


def away(one, monkeypatch):
    """Give a session a clock that a test sets; return its hands."""
    hands = [0.0]
    monkeypatch.setattr(one._queue, "_clock", lambda: hands[0])
    return hands


def test_a_text_that_is_open_at_one_annotator_is_shown_to_another_after_a_while(monkeypatch):
    with session(["one", "two"]) as one:
        clock = away(one, monkeypatch)
        first, second = one.next("anna"), one.next("ben")
        assert one.next("carl") is None
        clock[0] += OPEN_SECONDS / 2
        assert one.next("ben") == second
        clock[0] += OPEN_SECONDS / 2
        assert one.next("carl").id == first.id, "anna is away, and ben is not"
        assert one.next("anna") is None, "her text is carl's now"
        one.answer(first.id, "a", annotator="anna")  # her page had it still
        assert {who for said in one._queue.answered.values() for who in said} == {"anna"}


def test_an_annotator_who_comes_back_sees_the_same_text_if_nobody_got_it(monkeypatch):
    texts = [f"text {i}" for i in range(20)]
    with session(texts) as one:
        clock = away(one, monkeypatch)
        item = one.next("anna")
        clock[0] += 10 * OPEN_SECONDS
        assert one.next("anna") == item
        clock[0] += 10 * OPEN_SECONDS
        one.answer(item.id, "a", annotator="anna")
        assert [answer.reason for answer in one.store.answers()] == [item.reason]


def test_a_text_of_the_sample_that_is_left_open_is_the_next_of_the_sample(monkeypatch):
    texts = [f"text {i}" for i in range(100)]
    with session(texts) as one:
        clock = away(one, monkeypatch)
        left = one.next("anna")
        assert left.reason == "sample"
        n = 2 * SAMPLE_EVERY
        answer_all(one, dict.fromkeys(texts, "a"), n, "ben")
        n_sample = len(one._queue.sample())
        clock[0] += OPEN_SECONDS
        assert len(one._queue.sample()) == n_sample > 0
        items = answer_all(one, dict.fromkeys(texts, "a"), SAMPLE_EVERY + 1, "ben")
        assert left.id in [item.id for item in items if item.reason == "sample"]


def test_most_annotators_decide_and_the_last_of_equally_many():
    with session(["text"]) as one:
        name = one.next().id
        for who, label in (("anna", "a"), ("ben", "b")):
            one.answer(name, label, annotator=who)
        assert one._queue.labels_of(name) == ["b"]
        one.answer(name, "a", annotator="carl")
        assert one._queue.labels_of(name) == ["a"]


@pytest.mark.parametrize(
    ("label", "match"),
    [
        ("d", "label='d': is no label of this session"),
        (["a", "b"], "label: one label for each text"),
        ([], "label: one label for each text"),
        (1, "label=1: is no label of this session"),
        ([["a"]], r"label=\['a'\]: is no label of this session"),
    ],
)
def test_a_wrong_answer_is_refused_and_stores_nothing(label, match):
    with session(["text"]) as one:
        with pytest.raises(InputError, match=match):
            one.answer(one.next().id, label)
        with pytest.raises(InputError, match="item_id='x': no text has this id"):
            one.answer("x", "a")
        with pytest.raises(InputError, match="no text has this id"):
            one.answer(one.next(), "a")
        assert list(one.store.answers()) == []


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (["a"], "2 to 200 labels are needed, and there are 1"),
        ([str(i) for i in range(201)], "2 to 200 labels are needed, and there are 201"),
        (["a", "a"], "it has 'a' twice"),
        (["a", " A"], "it has 'A' and 'a', which differ by case alone"),
        (["a", " "], "a label's name is empty"),
        ("ab", "a list of names"),
    ],
)
def test_labels_are_checked(labels, match):
    with pytest.raises(InputError, match=match):
        check_labels(labels)


def test_a_closed_session_says_so():
    one = session(["text"])
    name = one.next().id
    one.close()
    one.close()
    for ask in (lambda: one.answer(name, "a"), one.undo, one.progress):
        with pytest.raises(InputError, match="the session is closed"):
            ask()


def test_missing_texts_are_counted_and_what_helps_is_possible():
    with pytest.raises(InputError, match=r"2 texts are missing, such as texts\[1\]: drop them"):
        session(["one", None, float("nan")])
    session(["one", ""]).close()


def test_an_empty_pool_is_refused():
    with pytest.raises(InputError, match="there are no texts to label"):
        session([])


def test_a_project_keeps_its_labels_encoder_and_seed(tmp_path):
    session(["text"], folder=tmp_path / "p", seed=3).close()
    with pytest.raises(InputError, match=r"add_labels: is needed for labels .* not have: 'd'"):
        session(["text"], labels=[*LABELS, "d"], folder=tmp_path / "p")
    with pytest.raises(InputError, match="labels='a, b': the project has the labels 'a', 'b', 'c'"):
        session(["text"], labels=["a", "b"], folder=tmp_path / "p")
    with pytest.raises(InputError, match="'A' and 'a', which differ by case alone"):
        session(["text"], labels=["A", "d"], folder=tmp_path / "p", add_labels=True)
    with pytest.raises(InputError, match="the project has one label a text"):
        session(["text"], folder=tmp_path / "p", multi_label=True)
    with pytest.raises(InputError, match="the project has the encoder 'all-MiniLM-L6-v2'"):
        session(["text"], folder=tmp_path / "p", encoder="distilbert-base-uncased")
    options = {"folder": tmp_path / "p", "add_labels": True}
    with session(["text"], labels=["d", "e"], **options) as one:
        assert one.labels == [*LABELS, "d", "e"]
        assert one.seed == 3


def test_a_project_keeps_the_descriptions_of_its_labels(tmp_path):
    session(["text"], folder=tmp_path / "p", descriptions={"a": "one", "b": "two"}).close()
    with session(["text"], folder=tmp_path / "p", descriptions={"b": "three"}) as one:
        assert one.descriptions == {"a": "one", "b": "three"}


def test_a_new_project_that_cannot_be_opened_is_not_left_behind(tmp_path):
    for wrong in ({"labels": ["a"]}, {"X": [[1.0]], "labels": ["a", "b"]}):
        with pytest.raises(InputError, match=r"2 to 200 labels|1 vectors for 2 texts"):
            session(["one", "two"], folder=tmp_path / "p", **wrong)
        assert not (tmp_path / "p").exists()
    (tmp_path / "p").mkdir()
    with pytest.raises(InputError, match="2 to 200 labels are needed"):
        session(["one", "two"], folder=tmp_path / "p", labels=["a"])
    assert list((tmp_path / "p").iterdir()) == []


def test_a_project_with_an_answer_is_never_discarded(tmp_path):
    for _ in range(2):
        one = session(["one", "two"], folder=tmp_path / "p")
        if item := one.next():
            one.answer(item.id, "a")
        one.discard()
        assert (tmp_path / "p" / "project.sqlite").exists()
    session(["one", "two"], folder=tmp_path / "p").close()
    with pytest.raises(InputError, match="the project has the labels"):
        session(["one", "two"], folder=tmp_path / "p", labels=["b", "x"])
    with session(["one", "two"], folder=tmp_path / "p") as one:
        assert one.progress().n_labelled == 2


def test_an_unknown_encoder_is_an_error_at_once(tmp_path):
    with pytest.raises(InputError, match="no-such-encoder"):
        Session(["text"], LABELS, encoder=str(tmp_path / "no-such-encoder"), folder=tmp_path / "p")
    Session(["text"], LABELS, folder=tmp_path / "p", learn=False, encoder="other").close()


def test_the_curve_and_the_answers_survive_a_restart(tmp_path):
    texts, X, y = pool()
    with session(texts, X, folder=tmp_path / "p") as one:
        answer_all(one, truth_of(texts, y), 100)
        before = one.progress()
    with session(texts, X, folder=tmp_path / "p") as one:
        after = one.progress()
        assert after.curve[: len(before.curve)] == before.curve
        assert after.per_label == before.per_label
        assert after.estimate is not None


def test_learning_goes_on_in_the_background(tiny):
    texts = [f"a {w} film {i}" for i in range(150) for w in ("good", "bad")]
    encoder = DistilBertVectorizer(tiny, progress=False, cache_dir=None)
    truth = {text: "good" if "good" in text else "bad" for text in texts}
    with Session(texts, ["good", "bad"], encoder=encoder) as one:
        end = time.monotonic() + 60
        while one.progress().n_vectors < len(texts) and time.monotonic() < end:
            time.sleep(0.05)
        answer_all(one, truth, 30)
        while not (item := one.next()).guesses and time.monotonic() < end:
            time.sleep(0.05)
        assert item.guesses
        assert one.problem is None


def test_threads_may_answer_at_once(tmp_path):
    texts, X, y = pool()
    truth = truth_of(texts, y)
    with Session(texts, LABELS, vectors=X, folder=tmp_path / "p") as one:
        threads = [
            threading.Thread(target=answer_all, args=(one, truth, 30, who)) for who in "uvwx"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert one.problem is None
        answers = list(one.store.answers())
        assert len(answers) == len({(a.item_id, a.annotator) for a in answers}) == 120


def test_a_failure_while_learning_is_told_and_texts_still_come(monkeypatch):
    texts, X, y = pool()
    monkeypatch.setattr(
        "frozenbert.label.learning.learner.fit_quick",
        lambda *a, **k: (_ for _ in ()).throw(OSError("full")),
    )
    with Session(texts, LABELS, vectors=X) as one:
        items = answer_all(one, truth_of(texts, y), 20)
        end = time.monotonic() + 30
        while one.problem is None and time.monotonic() < end:
            time.sleep(0.02)
        assert one.problem == "OSError: full"
        assert {item.reason for item in items} <= {"sample", "random"}


def test_the_model_is_of_the_commands_recipe(tiny):
    texts = [f"a {w} film {i % 10}{i}" for i in range(8) for w in ("good", "bad", "slow")]
    encoder = DistilBertVectorizer(tiny, progress=False, cache_dir=None)
    with session(texts, labels=["good", "bad", "slow"], encoder=encoder) as one:
        with pytest.raises(InputError, match="label two texts or more of each of two labels"):
            one.model()
        for name, text in zip(one._queue.ids, texts, strict=True):
            one.answer(name, next((w for w in ("good", "bad") if w in text), None))
        one.answer(one._queue.ids[2], "slow")
        with pytest.warns(
            RareClassWarning, match=r"labels of a single text are left out: 'slow'\."
        ):
            model = one.model()
        assert [*model.named_steps] == ["features", "classify"]
        assert set(model.predict(["a good film", "a bad film"])) <= {"good", "bad"}


def test_it_works_where_fastapi_cannot_be_imported():
    code = (
        "import sys; sys.modules['fastapi'] = None; sys.modules['uvicorn'] = None\n"
        "from frozenbert.label import Session\n"
        "s = Session(['one', 'two'], ['a', 'b'], learn=False)\n"
        "s.answer(s.next().id, 'a'); print(s.progress().n_labelled)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_fit_is_due_after_a_twentieth_more_labels():
    assert [batch_size(n) for n in (0, 99, 100, 1000)] == [5, 5, 5, 50]


def test_no_warning_comes_from_learning():
    texts, X, y = pool(n_labels=3)
    with warnings.catch_warnings(), session(texts, X) as one:
        warnings.simplefilter("error")
        answer_all(one, truth_of(texts, y), 30)
        one.audit()
