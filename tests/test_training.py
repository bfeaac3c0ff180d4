"""Training: what is measured, warned of and saved."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import make_encoder
from sklearn.model_selection import GroupKFold, ShuffleSplit

from frozenbert import InputError, make_text_classifier
from frozenbert.errors import LeakageWarning
from frozenbert.finetune.encoder_folder import TRAINED_ON, _digests
from frozenbert.heads.words import make_words_baseline
from frozenbert.reports.schema import Metrics
from frozenbert.training import check_classes, hold_out, save_training, train

LABELS = np.array(["a"] * 40 + ["b"] * 16 + ["c"] * 8)


def test_hold_out_is_stratified_and_repeatable():
    texts = [str(i) for i in range(64)]
    train_texts, test_texts, y_train, y_test = hold_out(texts, LABELS, 3)
    assert sorted(train_texts + test_texts) == sorted(texts)
    assert [(y_test == c).sum() for c in "abc"] == [10, 4, 2]
    for text, label in zip(train_texts + test_texts, [*y_train, *y_test], strict=True):
        assert LABELS[int(text)] == label
    assert hold_out(texts, LABELS, 3)[1] == test_texts
    assert hold_out(texts, LABELS, 4)[1] != test_texts


@pytest.mark.parametrize("labels", [["a"] * 20 + ["b"], ["a", "b", "a", "b"]])
def test_too_few_rows_to_hold_out(labels):
    with pytest.raises(InputError, match="too few rows to hold out one of 4 for testing"):
        hold_out(["x"] * len(labels), np.array(labels))


def test_check_classes():
    check_classes(LABELS, 8)
    with pytest.raises(
        InputError, match="1 of 3 classes have fewer training rows than the 9 folds"
    ):
        check_classes(LABELS, 9)
    with pytest.raises(InputError, match=r"only one class \('a'\) in the training rows"):
        check_classes(LABELS[:5], 2)


WORDS = {"good": "good fine warm", "bad": "dull poor slow"}
TEXTS = [f"{WORDS[label]} film {i}" for i in range(12) for label in WORDS]
TRUTH = np.array([1, 0] * 12)
TEST_TEXTS, TEST_TRUTH = ["a good one", "bad", "fine"], np.array([1, 0, 1])
SOURCE = {"file": "x.csv", "sha256": "0" * 64, "text_column": "text", "label_column": "label"}
FACTS = {"notice": None, "training": SOURCE, "test": {"description": "three rows"}}


def classifier(encoder: str, **options):
    return make_text_classifier(
        encoder, recipe="plain", **{"C": [0.001, 0.1], "cv": 2, "cache_dir": None, **options}
    )


@pytest.fixture(scope="module")
def training(tiny):
    return train(classifier(tiny), TEXTS, TRUTH, TEST_TEXTS, TEST_TRUTH)


def test_the_metrics_are_those_of_the_model(training):
    metrics, predicted = training.metrics, training.model.predict(TEST_TEXTS)
    np.testing.assert_array_equal(training.outcome.y_pred, predicted)
    assert metrics["accuracy"] == pytest.approx((predicted == TEST_TRUTH).mean())
    assert (metrics["n_train"], metrics["n_test"]) == (24, 3)
    assert metrics["search"]["best_C"] == training.model["classify"].best_params_["C"]
    assert metrics["search"]["C"] == [0.001, 0.1]


def test_the_baseline_is_measured_on_the_same_rows(training):
    baseline = make_words_baseline(cv=2).fit(TEXTS, TRUTH).predict(TEST_TEXTS)
    figures = training.metrics["baseline"]
    assert figures["accuracy"] == pytest.approx((baseline == TEST_TRUTH).mean())
    assert figures["per_class"]["1"]["support"] == 2


def test_the_metrics_have_the_names_that_are_fixed(training):
    assert training.metrics["task"] == "classification"
    assert {"accuracy", "macro_f1", "n_train", "n_test", "baseline"} <= set(training.metrics)
    assert set(training.metrics) <= set(Metrics.__annotations__)
    assert {"accuracy", "macro_f1"} <= set(training.metrics["baseline"])


def test_each_part_is_timed(training):
    assert list(training.seconds) == [
        "vectors of the training texts",
        "search",
        "vectors and labels of the test texts",
        "baseline of words",
        "metrics",
        "doubtful labels",
    ]
    assert sum(training.seconds.values()) > 0


def test_what_is_saved(training, tmp_path):
    save_training(training, tmp_path / "mine", FACTS)
    sidecar = json.loads((tmp_path / "mine" / "model.json").read_text())
    assert sidecar["format"] == 1
    assert sidecar["metrics"] == json.loads((tmp_path / "mine" / "metrics.json").read_text())
    assert sidecar["parameters"]["cv"] == 2
    assert sidecar["parameters"]["seed"] == 0
    assert "n_trained_on" not in sidecar["test"]
    assert "fine-tuned" not in (tmp_path / "mine" / "report.html").read_text()


def test_no_warning_without_a_reason(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakageWarning)
        train(classifier(tiny), TEXTS, TRUTH, TEST_TEXTS, TEST_TRUTH, examples=False)


def test_test_texts_that_are_training_texts(tiny):
    texts, truth = [*TEST_TEXTS, TEXTS[0]], [*TEST_TRUTH, TRUTH[0]]
    with pytest.warns(LeakageWarning, match="1 of the 4 test rows have a text that is also a"):
        training = train(classifier(tiny), TEXTS, TRUTH, texts, np.array(truth), examples=False)
    assert training.metrics["data"]["n_in_both"] == 1


@pytest.mark.parametrize("clean", [False, True])
def test_test_texts_that_the_encoder_was_fine_tuned_on(tmp_path, clean):
    encoder = make_encoder(tmp_path / "tuned")
    np.save(encoder / TRAINED_ON, np.unique(_digests(["bad", "fine"])))
    texts = ["a good one", "bad <br> " if clean else "bad", "fine"]
    model = classifier(str(encoder), clean=clean)
    with pytest.warns(LeakageWarning, match="fine-tuned on 2 of the 3 test rows"):
        training = train(model, TEXTS, TRUTH, texts, TEST_TRUTH, examples=False)
    assert training.metrics["data"]["n_trained_on"] == 2
    save_training(training, tmp_path / "model", FACTS)
    sidecar = json.loads((tmp_path / "model" / "model.json").read_text())
    assert sidecar["test"] == {"description": "three rows", "n_trained_on": 2}
    page = (tmp_path / "model" / "report.html").read_text()
    assert "The encoder was fine-tuned on 2 of the 3 test rows" in page


def test_groups_of_the_training_rows(tiny, monkeypatch):
    groups, seen = np.arange(24) // 4, []
    split = GroupKFold.split

    def recorded(self, X, y=None, groups=None):
        for parts in split(self, X, y, groups):
            seen.append(parts)
            yield parts

    monkeypatch.setattr(GroupKFold, "split", recorded)
    model = classifier(tiny, cv=GroupKFold(3), with_tfidf=True, calibrate="sigmoid")
    training = train(model, TEXTS, TRUTH, TEST_TEXTS, TEST_TRUTH, groups=groups)
    assert training.metrics["search"]["folds"] == 3
    assert len(seen) >= 12  # head, words, both out of fold, baseline
    assert all(not set(groups[fitted]) & set(groups[test]) for fitted, test in seen)


def test_doubtful_labels_need_a_partition(tiny, monkeypatch):
    model = classifier(tiny, cv=ShuffleSplit(3, random_state=0))
    with pytest.raises(InputError, match=r"cv=ShuffleSplit.*each row in exactly one"):
        train(model, TEXTS, TRUTH, TEST_TEXTS, TEST_TRUTH)
    training = train(model, TEXTS, TRUTH, TEST_TEXTS, TEST_TRUTH, examples=False)
    assert training.outcome.doubtful == []


def test_class_weights_are_checked_before_the_encoder_is_used():
    model = classifier("no such encoder", class_weight={"x": 2.0})
    with pytest.raises(InputError, match="class_weight: no training row has the class 'x'"):
        train(model, TEXTS, TRUTH, TEST_TEXTS, TEST_TRUTH)


def test_a_reduced_precision_is_compared_without_a_change_of_the_model(tiny):
    model = classifier(tiny, precision="bfloat16", backend="torch")
    training = train(model, TEXTS, TRUTH, TEST_TEXTS, TEST_TRUTH, examples=False)
    assert training.metrics["agreement"]["n_texts"] == 3
    assert 0.98 < training.metrics["agreement"]["mean_cosine"] < 1
    assert model["embed"].precision == "bfloat16"


def test_the_checks_of_many_labels():
    flags = pd.DataFrame({"a": [0, 1] * 4, "b": [0] * 7 + [1]})
    check_classes(flags, 4)
    with pytest.raises(InputError, match="cv=5: no label has 5 training rows with it and 5"):
        check_classes(flags, 5)
    with pytest.raises(InputError, match="One label is two classes, with and without it"):
        check_classes(flags[["a"]], 2)
