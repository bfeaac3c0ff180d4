"""Two forms of a saved model: joblib, which runs code when loaded, and a safe one beside it."""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
from conftest import make_encoder
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from frozenbert import (
    DistilBertVectorizer,
    InputError,
    load_model,
    make_text_classifier,
    save_model,
)
from frozenbert.cli.main import main
from frozenbert.fewshot.classifier import FewShotClassifier
from frozenbert.heads.words import CompactTfidfVectorizer, make_tfidf
from frozenbert.persistence.models import joblib_hash, safest
from frozenbert.persistence.portable import portable_parts
from frozenbert.pipeline import predict
from frozenbert.reports.sidecar import FORMAT
from frozenbert.utils.cleaning import clean_texts
from frozenbert.utils.steps import find_step

TEXTS = [f"{word} film {n}" for n in range(10) for word in ("good", "bad")]
LABELS = ["yes", "no"] * 10
FLAGS = np.array([[1, 0, 1], [0, 1, 1], [1, 0, 0], [0, 1, 0]] * 5)
NEW = ["a good one", "a bad one", "", "plot &amp; scene https://example.org"]

KINDS = {
    "plain": {},
    "all there is": {
        "search": "features",
        "with_tfidf": True,
        "calibrate": "sigmoid",
        "clean": True,
    },
    "isotonic": {"calibrate": "isotonic"},
    "scorer": {"scoring": "f1_macro", "class_weight": "balanced"},
    "labels": {"multi_label": True},
    "labels and words": {"multi_label": True, "with_tfidf": True, "calibrate": "sigmoid"},
}


def fitted(tiny, **settings):
    model = make_text_classifier(tiny, recipe="plain", C=[0.01, 0.1], cv=2, **settings)
    return model.fit(TEXTS, FLAGS if settings.get("multi_label") else LABELS)


@pytest.fixture
def model(tiny):
    return fitted(tiny)


@pytest.fixture
def there(tiny, monkeypatch):
    """The tiny encoder is found by its name."""
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(Path(tiny).parent))


@pytest.mark.parametrize("kind", KINDS)
def test_the_safe_form_answers_as_the_other(kind, tiny, there, tmp_path):
    path = save_model(fitted(tiny, **KINDS[kind]), tmp_path / "model.joblib")
    safe = tmp_path / "model.skops"
    assert safest(path) == safest(tmp_path) == safest(safe) == safe
    expected, found = predict(load_model(path), NEW), predict(load_model(safe), NEW)
    assert list(found) == list(expected)
    for name, column in expected.items():
        if name.startswith("proba_"):
            np.testing.assert_allclose(found[name], column, atol=1e-5)
        else:
            np.testing.assert_array_equal(found[name], column)


def test_what_few_labels_teach_has_a_safe_form(tiny, there, tmp_path):
    pool = [f"a {word} plot {n}" for n in range(20) for word in ("good", "bad")]
    vectorizer = DistilBertVectorizer(tiny)
    few = FewShotClassifier(vectorizer=vectorizer, n_experts=2, clean=True)
    few.fit(TEXTS, LABELS, pool)
    for name, model in {**few.models(), "classifier": few}.items():
        path = save_model(model, tmp_path / f"{name}.joblib")
        safe = load_model(path.with_suffix(".skops"))
        np.testing.assert_allclose(
            safe.predict_proba(NEW), load_model(path).predict_proba(NEW), atol=1e-5, err_msg=name
        )


def test_a_safe_form_may_hold_its_encoder(tiny, tmp_path):
    model = fitted(tiny, store_weights=True)
    expected = model.predict_proba(NEW)
    save_model(model, tmp_path / "model.joblib")
    os.remove(tmp_path / "model.joblib")
    np.testing.assert_allclose(load_model(tmp_path).predict_proba(NEW), expected, atol=1e-5)


def test_no_path_and_no_cache_stand_in_it(model, tmp_path):
    save_model(model, tmp_path / "model.joblib")
    with zipfile.ZipFile(tmp_path / "model.skops") as file:
        for name in file.namelist():
            assert str(tmp_path.parent).encode() not in file.read(name)
    assert load_model(tmp_path)["embed"].cache_dir is None


def test_a_cache_that_the_file_names_is_not_used(model, tmp_path):
    save_model(model, tmp_path / "model.joblib")
    os.remove(tmp_path / "model.joblib")

    def named(content):
        return content.replace(b'"content": "null"', b'"content": "\\"/elsewhere\\""')

    rewrite(tmp_path / "model.skops", {"schema.json": named})
    with zipfile.ZipFile(tmp_path / "model.skops") as file:
        assert b"elsewhere" in file.read("schema.json")
    assert load_model(tmp_path)["embed"].cache_dir is None


def rewrite(path: Path, changes) -> None:
    """Change members of a zip file."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, changes.get(name, lambda same: same)(content))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("hacked",)


def test_a_pickle_in_disguise_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model.skops").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match=r"model\.skops: is no saved model, or a damaged one"):
        load_model("model.skops")
    assert not Path("hacked").exists()
    # The same bytes do run as the other form: the test would see it.
    os.rename("model.skops", "model.joblib")
    with pytest.raises(InputError, match="holds a NoneType"):
        load_model("model.joblib")
    assert Path("hacked").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("builtins", "eval"), ("frozenbert.persistence", "load_model")],
)
def test_a_function_that_is_not_on_the_list_is_refused(module, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = make_pipeline(FunctionTransformer(clean_texts), fitted_words())
    save_model(model, "model.joblib")
    os.remove("model.joblib")

    def crafted(content):
        content = content.replace(b"frozenbert.utils.cleaning", module.encode())
        return content.replace(b"clean_texts", name.encode())

    load_model("model.skops")  # as it was saved
    rewrite(Path("model.skops"), {"schema.json": crafted})
    with pytest.raises(InputError, match=rf"what no safe form may hold: \w*\.?\w*\.?{name}"):
        load_model("model.skops")


def fitted_words():
    from sklearn.linear_model import LogisticRegression

    return make_pipeline(make_tfidf(), LogisticRegression()).fit(TEXTS, LABELS)


def test_forms_of_two_models_are_refused(tiny, model, there, tmp_path):
    save_model(model, tmp_path / "model.joblib")
    save_model(fitted(tiny, class_weight="balanced"), tmp_path / "other" / "model.joblib")
    os.replace(tmp_path / "other" / "model.joblib", tmp_path / "model.joblib")
    for path in (tmp_path, tmp_path / "model.joblib", tmp_path / "model.skops"):
        with pytest.raises(InputError, match="are not of one model: train or save the model again"):
            load_model(path)
    # Each alone is as good as it was.
    os.remove(tmp_path / "model.joblib")
    assert load_model(tmp_path).predict(NEW).shape == (4,)


def test_a_safe_form_without_a_mark_goes_with_no_joblib_file(model, tmp_path):
    import skops.io

    path = save_model(model, tmp_path / "model.joblib")
    skops.io.dump(model, tmp_path / "model.skops")
    with pytest.raises(InputError, match="are not of one model"):
        load_model(path)


def test_a_model_with_strange_classes_has_no_safe_form(model, there, tmp_path):
    path = save_model(model, tmp_path / "model.joblib")
    strange = make_pipeline(FunctionTransformer(str_of), model)
    save_model(strange, path)
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["model.joblib"]
    assert load_model(tmp_path).predict(NEW).shape == (4,)


def str_of(texts):
    return [str(text) for text in texts]


def test_a_disk_that_is_full_for_the_second_form_leaves_the_first(
    model, there, tmp_path, monkeypatch
):
    path = save_model(model, tmp_path / "model.joblib")
    before = path.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"model\.joblib: cannot be written \(No space left"):
        save_model(model.set_params(classify__cv=3), path)
    assert path.read_bytes() != before
    assert load_model(tmp_path).predict(NEW).shape == (4,)
    assert not (tmp_path / "model.skops").exists()


def full(*_):
    raise OSError(28, "No space left on device")


def test_the_safe_form_is_no_name_for_the_joblib_file(model, tmp_path):
    with pytest.raises(InputError, match=r"model\.skops: ends like the safe form"):
        save_model(model, tmp_path / "model.skops")


def test_commands_take_either_form(model, there, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_model(model, "model/model.joblib")
    answers = []
    for name in ("model", "model/model.joblib", "model/model.skops"):
        assert main(["classify", "--model", name, "--text", "a good film", "--no-cache"]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1] == answers[2]
    assert answers[0].startswith("prediction\t")


def test_training_anew_leaves_one_pair(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{t}\t{y}\n" for t, y in zip(TEXTS, LABELS, strict=True))
    Path("train.tsv").write_text(rows, encoding="utf-8")
    base = [
        "train",
        "--recipe=plain",
        "--data",
        "train.tsv",
        "--model",
        tiny,
        "--out",
        "m",
        "--cv",
        "2",
    ]
    base += ["--text-column", "0", "--label-column", "1"]
    hashes = set()
    for C in ("0.1", "0.001"):
        assert main([*base, "--C", C, "--no-cache"]) == 0
        assert find_step(load_model("m"), DistilBertVectorizer).encoder_hash_
        with zipfile.ZipFile("m/model.skops") as file:
            hashes.add(json.loads(file.read("pair.json"))["joblib_sha256"])
        assert json.loads(Path("m/model.json").read_text())["model_sha256"] in hashes
    assert len(hashes) == 2


def test_a_vocabulary_is_saved_as_one_array(tmp_path):
    texts = ["naïve café 日本 one", "two one, three"]
    tfidf = make_tfidf().fit(texts)
    again = pickle.loads(pickle.dumps(tfidf))
    assert again.vocabulary_ == tfidf.vocabulary_
    assert list(again.get_feature_names_out()) == list(tfidf.get_feature_names_out())
    assert (again.transform(texts) != tfidf.transform(texts)).nnz == 0
    assert pickle.loads(pickle.dumps(make_tfidf())).get_params() == make_tfidf().get_params()
    # Terms that hold the separator themselves stay a dictionary.
    odd = CompactTfidfVectorizer(token_pattern=r"(?s)one.*").fit(["one\ntwo", "one\n"])
    assert pickle.loads(pickle.dumps(odd)).vocabulary_ == odd.vocabulary_ != {}


def test_an_encoder_beside_a_safe_form_is_found(tmp_path, monkeypatch):
    encoder = make_encoder(tmp_path / "encoders" / "mine")
    save_model(fitted(str(encoder)), tmp_path / "out" / "model.joblib")
    os.rename(encoder, tmp_path / "out" / "mine")
    monkeypatch.chdir(tmp_path)
    assert load_model("out/model.skops").predict(NEW).shape == (4,)


def test_another_scikit_learn_warns_of_the_safe_form_too(model, there, tmp_path):
    save_model(model, tmp_path / "model.joblib")
    os.remove(tmp_path / "model.joblib")
    version = sklearn.__version__.encode()
    rewrite(
        tmp_path / "model.skops", {"schema.json": lambda s: s.replace(version, b"0" + version[1:])}
    )
    with pytest.warns(InconsistentVersionWarning, match="from version 0"):
        load_model(tmp_path).predict(NEW)


def test_an_estimator_that_opens_files_is_refused(tmp_path):
    """CountVectorizer(input="filename"): skops would trust it, as it is scikit-learn's."""
    import skops.io
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    (tmp_path / "secret").write_text("good")
    model = make_pipeline(CountVectorizer(input="filename"), LogisticRegression())
    model.fit([str(tmp_path / "secret")] * 2, ["a", "b"])
    skops.io.dump(model, tmp_path / "model.skops")
    with pytest.raises(
        InputError, match=r"may hold: .*sklearn\.feature_extraction\.text\.CountVec"
    ):
        load_model(tmp_path)
    # Our own kind of it cannot be told to.
    tfidf = CompactTfidfVectorizer(input="filename").fit([str(tmp_path / "secret")])
    save_model(make_pipeline(tfidf, fitted_words()[1]), tmp_path / "ours" / "model.joblib")
    assert load_model(tmp_path / "ours")[0].input == "content"


def test_what_calls_what_it_names_is_refused(tmp_path):
    """skops has nodes that call a class with arguments, and ones for methods and partials."""
    save_model(fitted_words(), tmp_path / "model.joblib")
    os.remove(tmp_path / "model.joblib")
    crafted = {"schema.json": lambda s: s.replace(b'"ObjectNode"', b'"ConstructorFromReduceNode"')}
    rewrite(tmp_path / "model.skops", crafted)
    with pytest.raises(InputError, match="what no safe form may hold: ConstructorFromReduceNode"):
        load_model(tmp_path)


def test_no_file_says_where_vectors_are_kept_however_deep(tiny, there, tmp_path):
    model = fitted(tiny)
    model.set_params(embed__cache_dir=str(tmp_path / "kept"))
    joblib.dump(model, tmp_path / "model.joblib")
    loaded = load_model(tmp_path / "model.joblib")
    assert loaded["embed"].cache_dir is None
    loaded.predict(NEW)
    assert not (tmp_path / "kept").exists()


SAVED = Path(__file__).parent / "saved"


@pytest.mark.parametrize("name", ["model.joblib", "model.skops"])
def test_a_model_of_the_earlier_layout(name, tmp_path, capsys):
    shutil.copy(SAVED / "earlier" / name, tmp_path)
    says = f"{name}: saved by an earlier layout, train again"
    with pytest.raises(InputError, match=says):
        load_model(tmp_path)
    assert main(["classify", "--model", str(tmp_path), "--text", "a film"]) == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert printed.count("\n") == 1


def test_a_sidecar_without_a_format(model, there, tmp_path):
    path = save_model(model, tmp_path / "model.joblib")
    sidecar = {"model_sha256": joblib_hash(path), "metrics": {}}

    def beside(**facts):
        (tmp_path / "model.json").write_text(json.dumps({**sidecar, **facts}))

    beside()
    for form in (path, path.with_suffix(".skops")):
        with pytest.raises(InputError, match="saved by an earlier layout, train again"):
            load_model(form)
    beside(format=FORMAT)
    load_model(path)
    beside(format=FORMAT + 1)
    with pytest.raises(InputError, match="has format 2, and this version"):
        load_model(path)
    # Left in the folder by another model.
    beside(model_sha256="0" * 64)
    load_model(path)


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held


class Foreign(BaseEstimator):
    """A class of another package that keeps estimators in its own ways."""

    def __init__(self, model, hidden):
        self.model, self.hidden = model, hidden

    def fit(self, texts, labels):
        self.model.fit(texts, labels)
        return self

    def predict(self, texts):
        return self.model.predict(texts)

    def __sklearn_is_fitted__(self):
        return True


WAYS = {
    "attribute": lambda v: v,
    "slot": Slotted,
    "list of tuples": lambda v: [("a", v)],
    "dict": lambda v: {"a": {"b": v}},
    "key": lambda v: {v: 1},
    "set": lambda v: {v},
    "object array": lambda v: np.array([None, v], dtype=object),
    "partial": lambda v: functools.partial(print, v),
    "method": lambda v: v.transform,
    "itself": lambda v: Foreign(v, [v, v]),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_vectorizer_in_a_class_of_another_package(way, model, tmp_path):
    held = clone(model["embed"]).fit(TEXTS)
    path = save_model(Foreign(model, WAYS[way](held)), tmp_path / "model.joblib")
    assert str(Path(held.model_name).parent).encode() not in path.read_bytes()
    found = [part for part in portable_parts(joblib.load(path)) if isinstance(part, type(held))]
    assert len({id(part) for part in found}) >= 2
    assert {part.cache_dir for part in found} == {None}
    assert {part.model_name for part in found} == {"tiny"}
    assert {part._beside for part in portable_parts(load_model(path))} == {tmp_path}
    assert held.cache_dir == "auto"  # what was saved is a copy


def test_a_circle_of_references_is_walked_once(model, tmp_path):
    foreign = Foreign(model, [])
    foreign.hidden.append(foreign)
    assert load_model(save_model(foreign, tmp_path / "model.joblib")).hidden
