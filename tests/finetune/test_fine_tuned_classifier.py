"""`FineTunedClassifier`: an encoder and a head from one `fit`."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from conftest import make_encoder
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from frozenbert import DistilBertVectorizer, InputError, load_model, save_model
from frozenbert.pipeline import FineTunedClassifier, predict

pytest.importorskip("accelerate", reason="fine-tuning needs accelerate")

GOOD = ["good film", "great fun", "a warm and funny film", "fine acting", "very stirring"]
BAD = ["bad film", "dull and slow", "a cold and boring plot", "poor acting", "very hollow"]
TEXTS, LABELS = (GOOD + BAD) * 4, (["good"] * 5 + ["bad"] * 5) * 4
FAST = {"epochs": 2, "lr": 1e-3, "head_lr": 1e-2, "batch_size": 8}


@pytest.fixture
def tuned(tiny, tmp_path):
    return FineTunedClassifier(tiny, tmp_path / "mine", **FAST)


@parametrize_with_checks([FineTunedClassifier(folder="mine")])
@pytest.mark.filterwarnings("ignore:Can't test estimator")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_it_fine_tunes_and_predicts(tuned, tmp_path):
    epochs = []
    assert tuned.fit(TEXTS, LABELS, on_epoch=epochs.append) is tuned
    assert epochs == tuned.history_
    assert tuned.metrics_ in tuned.history_
    assert tuned.score(TEXTS, LABELS) > 0.7
    facts = json.loads((tmp_path / "mine" / "finetune.json").read_text())
    assert (facts["n_train"], facts["n_valid"]) == (36, 4)
    vectors = DistilBertVectorizer(str(tmp_path / "mine"), progress=False).fit_transform(TEXTS)
    np.testing.assert_allclose(tuned.pipeline_["embed"].transform(TEXTS), vectors, atol=1e-5)
    p = tuned.predict_proba(GOOD)
    assert tuned.predict(GOOD).tolist() == tuned.classes_[p.argmax(axis=1)].tolist()
    assert predict(tuned, GOOD)["prediction"].tolist() == tuned.predict(GOOD).tolist()


def test_validation_texts_and_the_same_training_again(tuned, tmp_path):
    tuned.fit(TEXTS, LABELS, GOOD + BAD, LABELS[:10])
    facts = json.loads((tmp_path / "mine" / "finetune.json").read_text())
    assert (facts["n_train"], facts["n_valid"]) == (40, 10)
    stamp = (tmp_path / "mine" / "model.safetensors").stat().st_mtime_ns
    again = clone(tuned).fit(TEXTS, LABELS, GOOD + BAD, LABELS[:10])
    assert (tmp_path / "mine" / "model.safetensors").stat().st_mtime_ns == stamp
    np.testing.assert_allclose(again.predict_proba(GOOD), tuned.predict_proba(GOOD), atol=1e-5)
    assert again.metrics_ == tuned.metrics_


def test_a_saved_one_finds_its_encoder_beside_the_model(tmp_path):
    encoder = make_encoder(tmp_path / "encoders" / "tiny")
    tuned = FineTunedClassifier(str(encoder), tmp_path / "mine", clean=True, **FAST)
    expected = tuned.fit(TEXTS, LABELS).predict_proba(GOOD)
    path = save_model(tuned, tmp_path / "out" / "model.joblib")
    assert str(tmp_path).encode() not in path.read_bytes()
    shutil.move(tmp_path / "mine", path.parent / "mine")
    shutil.rmtree(encoder)
    for form in (path, path.with_suffix(".skops")):
        loaded = load_model(form)
        np.testing.assert_allclose(loaded.predict_proba(GOOD), expected, atol=1e-5)
        assert loaded.pipeline_["embed"].cache_dir is None


@pytest.mark.parametrize(
    ("settings", "y", "message"),
    [
        ({"folder": None}, LABELS, "folder=None: name a folder for the fine-tuned encoder"),
        ({"epochs": 0}, LABELS, "epochs=0: a whole number of at least 1"),
        ({"validation_fraction": 1}, LABELS, "validation_fraction=1: above 0 and below 1"),
        ({}, LABELS[:-1], "y: 39 labels for 40 texts"),
        ({}, ["good"] * 40, "y: at least two classes with two texts each are needed"),
        ({}, ["rare", *LABELS[1:]], "y: at least two .* and the class 'rare' has 1 of 40"),
    ],
)
def test_illegal_values(tuned, settings, y, message, tmp_path):
    with pytest.raises(InputError, match=message):
        tuned.set_params(**settings).fit(TEXTS, y)
    assert not list(tmp_path.iterdir())


def test_validation_texts_without_labels(tuned):
    with pytest.raises(InputError, match="X_valid: give both X_valid and y_valid, or neither"):
        tuned.fit(TEXTS, LABELS, GOOD)
