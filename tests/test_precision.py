"""`precision="auto"`: what it chooses, on which texts, and what remembers the choice."""

from __future__ import annotations

import copy
import pickle
import random
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from frozenbert import DistilBertVectorizer, InputError, load_model, make_text_classifier
from frozenbert import embed as embedding
from frozenbert.encoders.encoder import Encoder
from frozenbert.encoders.openvino import exporting
from frozenbert.encoders.openvino.quantization import SAMPLE
from frozenbert.errors import PrecisionWarning
from frozenbert.persistence import save_model
from frozenbert.reports import agreement
from frozenbert.reports.agreement import agrees, measure_trial
from frozenbert.reports.sidecar import describe_encoder
from frozenbert.vectors import job as jobs
from frozenbert.vectors.results import sample_rows
from frozenbert.vectors.settings import faster_precisions

WORDS = {"good": ("good", "fine", "warm", "funny"), "bad": ("bad", "dull", "slow", "cold")}
TEXTS = [f"a {WORDS[label][n % 4]} film {n}" for n in range(20) for label in WORDS]
LABELS = [label for _ in range(20) for label in WORDS]
SAME = {"rtol": 0, "atol": 1e-5}
NEAR_FLOAT32 = {"int8": 1e-4, "bfloat16": 2**-6}  # two computations in the same precision


@pytest.fixture(autouse=True)
def _a_fast_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    exporting._load_once.cache_clear()
    monkeypatch.setattr(exporting, "SAMPLE", SAMPLE[::8])  # most of an export's time
    has(monkeypatch, "avx512_vnni", "avx512_bf16")


def has(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the CPU have these instructions."""
    known = dict.fromkeys(names, True)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: known, raising=False)


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let int8 agree, as it does with trained weights."""
    monkeypatch.setattr(agreement, "LEAST_COSINE", 0.9)
    monkeypatch.setattr(agreement, "LEAST_EQUAL", 0.5)


def auto(encoder: str, **parameters: object) -> DistilBertVectorizer:
    settings = {"precision": "auto", "device": "cpu", "cache_dir": None, **parameters}
    return DistilBertVectorizer(encoder, **settings)


# The choice.


@pytest.mark.usefixtures("close")
def test_the_fastest_precision_that_agrees_is_chosen(tiny):
    embed = auto(tiny)
    vectors = embed.fit_transform(TEXTS, LABELS)
    assert (embed.precision_, embed.precision) == ("int8", "auto")
    assert list(embed.precision_trials_) == ["int8"]
    trial = embed.precision_trials_["int8"]
    assert trial["n_texts"] == len(TEXTS)
    assert 0.9 < trial["mean_cosine"] < 1
    assert 0.5 < trial["equal_labels"] <= 1
    explicit = DistilBertVectorizer(tiny, precision="int8", device="cpu", cache_dir=None)
    np.testing.assert_allclose(vectors, explicit.fit_transform(TEXTS), rtol=0, atol=1e-4)
    np.testing.assert_allclose(embed.transform(TEXTS), vectors, rtol=0, atol=1e-4)
    exact = DistilBertVectorizer(tiny, device="cpu", cache_dir=None).fit_transform(TEXTS)
    assert np.abs(vectors - exact).max() > 1e-3


def test_a_precision_that_does_not_agree_is_passed_over(tiny, monkeypatch):
    monkeypatch.setattr(agreement, "LEAST_EQUAL", 0)
    monkeypatch.setattr(agreement, "LEAST_COSINE", 0.9999)
    embed = auto(tiny).fit(TEXTS, LABELS)
    assert embed.precision_ == "bfloat16"
    cosines = [embed.precision_trials_[name]["mean_cosine"] for name in ("int8", "bfloat16")]
    assert cosines[0] < 0.9999 <= cosines[1]
    monkeypatch.setattr(agreement, "LEAST_COSINE", 1.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectors = embed.fit_transform(TEXTS, LABELS)
    assert embed.precision_ == "float32"
    assert list(embed.precision_trials_) == ["int8", "bfloat16"]
    exact = DistilBertVectorizer(tiny, device="cpu", cache_dir=None).fit_transform(TEXTS)
    np.testing.assert_allclose(vectors, exact, **SAME)


@pytest.mark.usefixtures("close")
@pytest.mark.parametrize(
    ("names", "backend", "chosen"),
    [
        (["avx512_vnni", "avx512_bf16"], "auto", "int8"),
        (["avx512_vnni", "avx512_bf16"], "openvino", "int8"),
        (["avx512_vnni", "avx512_bf16"], "torch", "bfloat16"),
        (["avx_vnni"], "auto", "int8"),
        (["avx_vnni"], "torch", "float32"),
        (["amx_bf16"], "auto", "bfloat16"),
        (["avx2", "avx512_f"], "auto", "float32"),
    ],
)
def test_the_cpu_has_instructions_for_what_is_chosen(tiny, monkeypatch, names, backend, chosen):
    has(monkeypatch, *names)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        assert auto(tiny, backend=backend).fit(TEXTS[:8]).precision_ == chosen


def test_without_instructions_nothing_is_computed_to_compare(tiny, monkeypatch):
    has(monkeypatch)
    monkeypatch.setattr(Encoder, "encode", None)
    embed = auto(tiny).fit(TEXTS, LABELS)
    assert (embed.precision_, embed.precision_trials_) == ("float32", {})


def test_on_a_gpu_it_is_bfloat16_or_float32(monkeypatch):
    for supported, expected in ((True, ["bfloat16"]), (False, [])):
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: supported)  # noqa: B023
        assert faster_precisions("auto", "cuda:0") == expected
        assert faster_precisions("torch", "cuda") == expected
        assert faster_precisions("openvino", "cuda") == []
    assert faster_precisions("auto", "mps") == []


def test_every_precision_is_noted(tiny):
    for precision in ("float32", "bfloat16", "int8"):
        embed = DistilBertVectorizer(tiny, precision=precision, device="cpu").fit(TEXTS)
        assert (embed.precision_, embed.precision_trials_) == (precision, {})
        assert describe_encoder(embed)["precision"] == precision
        assert "precision_trials" not in describe_encoder(embed)


@pytest.mark.parametrize("problem", ["missing", "family"])
def test_float32_if_openvino_is_of_no_use(tiny, monkeypatch, problem):
    def fail(*_):
        if problem == "missing":
            raise ImportError
        raise RuntimeError("no such operation")

    monkeypatch.setattr(exporting, "import_openvino" if problem == "missing" else "_trace", fail)
    why = {"missing": "OpenVINO is not installed", "family": "reproduce .*no such operation"}
    embed = auto(tiny)
    with pytest.warns(PrecisionWarning, match=f"'auto' computes in float32: .*{why[problem]}"):
        vectors = embed.fit_transform(TEXTS, LABELS)
    assert embed.precision_ == "float32"
    exact = DistilBertVectorizer(tiny, device="cpu", cache_dir=None).fit_transform(TEXTS)
    np.testing.assert_allclose(vectors, exact, **SAME)


def test_only_auto_and_the_three_are_legal(tiny):
    with pytest.raises(InputError, match=r"'int3': one of 'float32', 'bfloat16', 'int8', 'auto'"):
        DistilBertVectorizer(tiny, precision="int3").fit(TEXTS)
    with pytest.raises(InputError, match="3 labels for 40 texts"):
        auto(tiny).fit(TEXTS, LABELS[:3])


# The texts that it is chosen on.


def test_the_sample_depends_on_the_texts_alone():
    texts = [f"text {n}" for n in range(1000)]
    rows = sample_rows(texts, 256)
    assert len(rows) == len(set(rows)) == 256
    assert (np.diff(rows) > 0).all()
    chosen = {texts[row] for row in rows}
    other = random.Random(0).sample(texts * 2, 2000)
    assert {other[row] for row in sample_rows(other, 256)} == chosen
    fold = texts[:800]
    assert chosen & set(fold) <= {fold[row] for row in sample_rows(fold, 256)}
    assert [len(sample_rows(texts[:n], 256)) for n in (1, 255, 257)] == [1, 255, 256]


@pytest.mark.usefixtures("close")
def test_vectors_of_the_sample_go_into_the_cache(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "TRIAL_TEXTS", 10)
    settings = {"cache_dir": tmp_path, "keep_layers": "asked"}
    auto(tiny, **settings).fit(TEXTS, LABELS)
    rows: list[int] = []
    encode = Encoder.encode

    def counting(self, ids, *args, **kwargs):
        rows.append(len(ids))
        return encode(self, ids, *args, **kwargs)

    monkeypatch.setattr(Encoder, "encode", counting)
    DistilBertVectorizer(tiny, device="cpu", **settings).fit_transform(TEXTS)
    assert sum(rows) == len(TEXTS) - 10
    rows.clear()
    auto(tiny, **settings).fit(TEXTS, LABELS)
    assert rows == []


@pytest.mark.usefixtures("close")
@pytest.mark.parametrize("kind", ["sparse", "frame", "list"])
def test_several_labels_may_come_in_any_container(tiny, kind):
    flags = np.array([[n % 2, n % 4 == 0] for n in range(len(TEXTS))], dtype=int)
    y = {"sparse": csr_matrix(flags), "frame": pd.DataFrame(flags), "list": flags.tolist()}[kind]
    trial = auto(tiny).fit(TEXTS, y).precision_trials_["int8"]
    assert trial["equal_labels"] is not None


@pytest.mark.usefixtures("close")
def test_a_few_texts_or_one_are_enough(tiny):
    for texts, labels in ((["one"], None), (["one"], ["a"]), (TEXTS[:4], LABELS[:4])):
        embed = auto(tiny).fit(texts, labels)
        assert embed.precision_ == "int8"
        assert embed.precision_trials_["int8"]["equal_labels"] is None


# The measure.


def halves(n: int = 200, n_features: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors and two classes that they tell apart."""
    numbers = np.random.default_rng(0)
    labels = np.arange(n) % 2
    return numbers.normal(size=(n, n_features)) + 4 * labels[:, None], labels


def test_equal_labels_are_counted_on_other_texts_than_were_fitted():
    exact, labels = halves()
    assert measure_trial(exact, exact, labels)["equal_labels"] == 1
    reduced = exact.copy()
    reduced[:20] = exact[1:21]  # each now has the vector of the other class
    trial = measure_trial(reduced, exact, labels)
    assert trial["equal_labels"] == pytest.approx(0.9, abs=0.02)
    assert not agrees(trial)
    # Labels that no vector tells: predictions differ, whatever was fitted on the same rows.
    noise = np.random.default_rng(1).normal(scale=0.5, size=exact.shape)
    guessed = measure_trial(exact + noise, exact, np.random.default_rng(2).permutation(labels))
    assert guessed["equal_labels"] < 0.99


@pytest.mark.parametrize(
    "labels",
    [
        halves()[1],
        np.array(["no", "yes"], dtype=object)[halves()[1]],
        np.stack([halves()[1], 1 - halves()[1]], axis=1),
    ],
)
def test_labels_of_many_kinds_are_compared(labels):
    exact, _ = halves()
    trial = measure_trial(exact + 1e-4, exact, labels)
    assert trial["equal_labels"] == 1
    assert trial["mean_cosine"] == pytest.approx(1, abs=1e-6)
    assert agrees(trial)


@pytest.mark.parametrize(
    "targets", [None, np.linspace(0, 1, 200), np.full(200, "same"), np.full((200, 2), 0.5)]
)
def test_without_classes_the_cosine_decides(targets):
    exact, _ = halves()
    trial = measure_trial(exact, exact, targets)
    assert trial["equal_labels"] is None
    assert agrees(trial)
    assert not agrees({**trial, "mean_cosine": 0.9989})
    assert not agrees({**trial, "mean_cosine": float("nan")})
    assert not agrees({**trial, "equal_labels": 0.9949})
    assert agrees({**trial, "equal_labels": 0.995})


def test_many_columns_and_classes_are_no_wait():
    numbers = np.random.default_rng(0)
    exact = numbers.normal(size=(256, 2000))
    trial = measure_trial(exact * (1 + 1e-6), exact, numbers.integers(0, 77, 256))
    assert trial["equal_labels"] > 0.9


# What remembers the choice.


@pytest.mark.usefixtures("close")
def test_a_model_predicts_in_its_precision_on_every_cpu(tiny, tmp_path, monkeypatch):
    model = make_text_classifier(
        tiny, recipe="plain", C=0.1, cv=2, cache_dir=None, precision="auto", device="cpu"
    )
    model.fit(TEXTS, LABELS)
    expected = model.predict_proba(TEXTS)
    assert model["embed"].precision_ == "int8"
    save_model(model, tmp_path / "model.joblib")  # and model.skops
    has(monkeypatch, "avx2")
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(tmp_path))
    for name in ("model.joblib", "model.skops"):
        loaded = load_model(tmp_path / name).set_params(embed__model_name=tiny)
        assert loaded["embed"].precision_ == "int8"
        assert loaded["embed"].precision_trials_ == model["embed"].precision_trials_
        exporting._load_once.cache_clear()
        with pytest.warns(PrecisionWarning, match="'int8': this CPU has no instructions for it"):
            found = loaded.predict_proba(TEXTS)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    assert clone(model).fit(TEXTS, LABELS)["embed"].precision_ == "float32"


def test_a_model_from_before_has_the_precision_that_it_names(tiny):
    embed = DistilBertVectorizer(tiny, precision="bfloat16", device="cpu", cache_dir=None)
    state = embed.fit(TEXTS).__getstate__()
    del state["precision_"], state["precision_trials_"]
    old = DistilBertVectorizer.__new__(DistilBertVectorizer)
    old.__setstate__(state)
    assert old.precision_ == "bfloat16"
    bound = {"rtol": 0, "atol": NEAR_FLOAT32["bfloat16"]}
    np.testing.assert_allclose(old.transform(TEXTS), embed.transform(TEXTS), **bound)
    unfitted = pickle.loads(pickle.dumps(DistilBertVectorizer(tiny)))
    assert not hasattr(unfitted, "precision_")


@pytest.mark.usefixtures("close")
def test_a_precision_that_is_set_later_counts_at_once(tiny):
    embed = auto(tiny).fit(TEXTS)
    reduced = embed.transform(TEXTS)
    exact = copy.deepcopy(embed).set_params(precision="float32")
    assert (embed.precision_, exact.precision_) == ("int8", "float32")
    expected = DistilBertVectorizer(tiny, device="cpu", cache_dir=None).fit_transform(TEXTS)
    np.testing.assert_allclose(exact.transform(TEXTS), expected, **SAME)
    assert np.abs(reduced - expected).max() > 1e-3
    assert embed.set_params(precision="auto").precision_ == "int8"
    with pytest.raises(InputError, match="precision='int3': one of"):
        embed.set_params(precision="int3").transform(TEXTS)


@pytest.mark.usefixtures("close")
def test_a_grid_search_chooses_in_every_fold(tiny, tmp_path):
    pipeline = make_pipeline(auto(tiny, cache_dir=tmp_path), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1]}, cv=3, error_score="raise")
    search.fit(TEXTS, LABELS)
    best = search.best_estimator_[0]
    assert best.precision_ == "int8"
    assert best.precision_trials_["int8"]["equal_labels"] is not None
    again = clone(best).fit(TEXTS, LABELS)
    assert again.precision_trials_ == best.precision_trials_  # from the cache, so exactly


@pytest.mark.slow
@pytest.mark.numeric
def test_trained_weights_get_a_reduced_precision(packaged, tmp_path, real_texts, monkeypatch):
    monkeypatch.setattr(exporting, "SAMPLE", SAMPLE)
    lines = (real_texts / "sst2" / "train.tsv").read_text("utf-8").splitlines()[:600]
    texts, labels = zip(*(line.rsplit("\t", 1) for line in lines), strict=True)
    embed = auto(packaged, cache_dir=tmp_path).fit(list(texts), list(labels))
    assert embed.precision_ in ("int8", "bfloat16")
    trial = embed.precision_trials_[embed.precision_]
    assert trial["n_texts"] == 256
    assert trial["mean_cosine"] >= 0.999
    assert trial["equal_labels"] >= 0.995


def test_a_shared_cache_keeps_int8_vectors_of_cpus_with_and_without_bfloat16_apart(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    computed = []
    make_engine = jobs.make_engine
    monkeypatch.setattr(jobs, "make_engine", lambda *args: computed.append(1) or make_engine(*args))
    embed = DistilBertVectorizer(tiny, precision="int8", cache_dir=tmp_path, progress=False)
    for rest in ("bf16", "f32", "bf16", "f32"):
        monkeypatch.setattr(embedding, "int8_rest", lambda rest=rest: rest)
        embed.fit_transform(TEXTS)
    assert len(computed) == 2
