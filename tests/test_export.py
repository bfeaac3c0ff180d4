"""Exports: a model and its encoder in one folder, for machines without torch."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import make_encoder
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline

from frozenbert import (
    DistilBertVectorizer,
    InputError,
    MissingLibraryError,
    export_model,
    load_model,
    make_text_classifier,
    save_model,
)
from frozenbert.cli.main import main
from frozenbert.persistence.models import joblib_hash, safest
from frozenbert.utils.extras import EXTRAS, require

REPO = Path(__file__).parents[1]
TEXTS = [f"{word} film {n}" for n in range(10) for word in ("good", "bad")]
LABELS = ["yes", "no"] * 10
NEW = ["a good one", "a bad one", "", "not very good, and slow", "so fine! " * 30]
FILES = ["graph.bin", "graph.xml", "head.skops", "runtime.json", "tokenizer.json"]
HEAVY = ["torch", "transformers", "pandas", "pyarrow", "matplotlib", "huggingface_hub", "skops"]


def save(encoder: str, folder: Path, **settings: object) -> Path:
    settings = {"C": [0.01, 0.1], "cv": 2, "cache_dir": None, **settings}
    model = make_text_classifier(encoder, recipe="plain", **settings).fit(TEXTS, LABELS)
    save_model(model, folder / "model.joblib")
    return folder


@pytest.fixture(scope="module")
def saved(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save(tiny, tmp_path_factory.mktemp("saved") / "films")
    shutil.copytree(tiny, folder / Path(tiny).name)
    return folder


@pytest.fixture(scope="module")
def exported(saved: Path) -> Path:
    return export_model(saved, saved.parent / "films-runtime")


@pytest.fixture
def export(exported: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(exported, tmp_path / "export"))


def rewrite(folder: Path, **changes: object) -> None:
    """Change facts in an export's `runtime.json`."""
    file = folder / "runtime.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def renew(folder: Path) -> None:
    """Give an export's `runtime.json` the sizes and hashes of its files, as a forger would."""
    files = {
        name: {
            "size": (folder / name).stat().st_size,
            "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
        }
        for name in FILES
        if name != "runtime.json"
    }
    rewrite(folder, files=files)


# What an export is


def test_an_export_has_five_files_and_names_no_path(exported, saved):
    assert sorted(file.name for file in exported.iterdir()) == FILES
    for file in exported.iterdir():
        content = file.read_bytes()
        assert str(saved.parent).encode() not in content
        assert b"good film" not in content
    facts = json.loads((exported / "runtime.json").read_text())
    assert facts["format"] == 1
    assert facts["labels"] == ["no", "yes"]
    assert facts["encoder"]["pooling"] == ["cls"]
    assert facts["model_sha256"] == joblib_hash(saved / "model.joblib")
    sizes = {name: file["size"] for name, file in facts["files"].items()}
    assert sizes == {name: (exported / name).stat().st_size for name in sizes}


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-5), ("int8", 1e-5), ("bfloat16", 1e-5)]
)
@pytest.mark.filterwarnings("ignore::frozenbert.errors.PrecisionWarning")
def test_an_export_predicts_what_the_model_does(tiny, tmp_path, monkeypatch, precision, tolerance):
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(Path(tiny).parent))
    folder = save(tiny, tmp_path / "model", precision=precision)
    out = export_model(folder, tmp_path / "out")
    monkeypatch.delenv("FROZENBERT_ENCODERS")
    shutil.copytree(tiny, folder / Path(tiny).name)
    model, light = load_model(folder), load_model(out)
    # Both are computed by OpenVINO in the reduced precisions.
    np.testing.assert_allclose(light.predict_proba(NEW), model.predict_proba(NEW), atol=tolerance)
    assert light.predict(NEW).tolist() == model.predict(NEW).tolist()


@pytest.mark.parametrize(
    "settings",
    [
        {"search": "features", "with_tfidf": True, "clean": True},
        {"layers": (1, 3), "pooling": ("mean", "max"), "long_text": "windows", "C": 0.1},
    ],
    ids=["searched, with words", "layers, windows"],
)
def test_other_recipes(tiny, tmp_path, settings):
    folder = save(tiny, tmp_path / "model", **settings)
    shutil.copytree(tiny, folder / Path(tiny).name)
    out = export_model(folder, tmp_path / "out")
    model, light = load_model(folder), load_model(out)
    np.testing.assert_allclose(light.predict_proba(NEW), model.predict_proba(NEW), atol=1e-5)


def test_the_encoder_may_be_named(tiny, tmp_path):
    folder = save(tiny, tmp_path / "model")
    with pytest.raises(InputError, match="there is no such folder"):
        export_model(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    out = export_model(folder, tmp_path / "out", encoder_path=tiny)
    assert load_model(out).predict(NEW).shape == (5,)


def test_an_export_can_be_named_by_its_files(exported):
    assert safest(exported) == exported / "head.skops"
    for name in ("", "head.skops", "runtime.json"):
        assert load_model(exported / name).predict(["good"]).tolist() == ["yes"]


def test_an_exported_vectorizer_keeps_its_promises(exported, tiny, tmp_path):
    model = load_model(exported)
    embed = model[0]
    assert (embed.backend, embed.cache_dir, embed.model_name) == (
        "openvino",
        None,
        Path(tiny).name,
    )
    together = embed.transform(NEW)
    alone = np.concatenate([embed.transform([text]) for text in NEW])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    again = pickle.loads(pickle.dumps(model))  # as a worker process gets it
    np.testing.assert_allclose(again[0].transform(NEW), together, atol=1e-6)
    embed.set_params(cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(embed.transform(NEW), embed.transform(NEW))
    assert list((tmp_path / "cache").rglob("*.npy"))
    with pytest.raises(
        InputError, match=r"precision='int8': the encoder was exported for 'float32"
    ):
        embed.set_params(precision="int8", cache_dir=None).transform(["another"])
    embed.set_params(precision="float32", device="cuda", backend="auto")
    with pytest.raises(InputError, match="device='cuda': an exported encoder runs on the CPU"):
        embed.transform(["another"])


def test_with_another_encoder_an_exported_model_is_an_ordinary_one(exported, tiny, tmp_path):
    model = load_model(exported)
    expected = model.predict_proba(NEW)
    model.set_params(embed__model_name=tiny, embed__backend="torch")
    np.testing.assert_allclose(model.predict_proba(NEW), expected, atol=1e-5)
    path = save_model(load_model(exported), tmp_path / "model.joblib")
    assert str(exported).encode() not in path.read_bytes()


# What cannot be exported


def test_a_model_without_a_safe_form(tiny, tmp_path):
    model = make_pipeline(
        DistilBertVectorizer(tiny, cache_dir=None), RandomForestClassifier(n_estimators=2)
    )
    path = save_model(model.fit(TEXTS, LABELS), tmp_path / "model.joblib")
    with pytest.raises(InputError, match=r"model\.joblib: has no safe form \(model\.skops\)"):
        export_model(path, tmp_path / "out", encoder_path=tiny)
    assert not (tmp_path / "out").exists()


def test_a_model_with_several_graphs(tiny, tmp_path):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_union

    union = make_union(
        *(DistilBertVectorizer(tiny, pooling=how, cache_dir=None) for how in ("cls", "max"))
    )
    model = make_pipeline(union, LogisticRegression()).fit(TEXTS, LABELS)
    path = save_model(model, tmp_path / "model.joblib")
    out = export_model(path, tmp_path / "out", encoder_path=tiny)
    more = ["graph-2.bin", "graph-2.xml", "tokenizer-2.json"]
    assert sorted(file.name for file in out.iterdir()) == sorted([*FILES, *more])
    exported = load_model(out)
    assert exported.predict_proba(TEXTS) == pytest.approx(model.predict_proba(TEXTS), abs=1e-5)
    (out / "graph-2.bin").rename(out / "graph-3.bin")
    with pytest.raises(InputError, match=r"graph-2\.bin is missing"):
        load_model(out)
    (out / "graph-3.bin").rename(out / "graph-2.bin")
    (out / "graph-4.xml").touch()
    with pytest.raises(InputError, match=r"'graph-4\.xml' does not belong to an export"):
        load_model(out)


def test_a_model_with_too_many_graphs(tiny, tmp_path, monkeypatch):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_union

    monkeypatch.setattr("frozenbert.persistence.export.MOST_ENCODERS", 1)
    union = make_union(
        *(DistilBertVectorizer(tiny, pooling=how, cache_dir=None) for how in ("cls", "max"))
    )
    model = make_pipeline(union, LogisticRegression()).fit(TEXTS, LABELS)
    path = save_model(model, tmp_path / "model.joblib")
    with pytest.raises(InputError, match="has 2 encoders, and an export holds at most 1"):
        export_model(path, tmp_path / "out")


def test_a_model_without_an_encoder(tmp_path):
    from frozenbert.heads.words import NBLogisticRegression, make_tfidf

    model = make_pipeline(make_tfidf(), NBLogisticRegression()).fit(TEXTS, LABELS)
    path = save_model(model, tmp_path / "model.joblib")
    with pytest.raises(InputError, match="has no encoder, so there is nothing to export"):
        export_model(path, tmp_path / "out")


def test_a_tokenizer_written_in_python(saved, tmp_path, monkeypatch):
    from frozenbert.encoders.tokenizing import TextTokenizer

    monkeypatch.setattr(TextTokenizer, "is_data", False)
    with pytest.raises(InputError, match="is written in Python; only those with a tokenizer"):
        export_model(saved, tmp_path / "out")
    assert list(tmp_path.glob("*out*")) == [] == list(tmp_path.glob(".*out*"))


def test_an_encoder_that_openvino_does_not_reproduce(saved, tmp_path, monkeypatch):
    from frozenbert.encoders.openvino import exporting

    def off(*_: object) -> str:
        return "a text's vector is off by 1"

    monkeypatch.setattr(exporting, "_difference", off)
    with pytest.raises(InputError, match="does not reproduce this encoder"):
        export_model(saved, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "frozenbert-cache"] or not list(
        tmp_path.iterdir()
    )


def test_an_export_of_an_export(exported, tmp_path):
    with pytest.raises(InputError, match="is an export already; copy the folder"):
        export_model(exported, tmp_path / "out")


@pytest.mark.parametrize("kind", ["file", "folder", "model", "link", "with more"])
def test_what_is_no_earlier_export_stays(saved, exported, tmp_path, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "folder":
        out.mkdir()
    elif kind == "model":
        shutil.copytree(saved, out)
    elif kind == "link":
        out.symlink_to(exported)
    else:
        shutil.copytree(exported, out)
        (out / "notes.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="exists, and is no earlier export; name another folder"):
        export_model(saved, out)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_earlier_export_is_replaced(saved, export):
    (export / "graph.bin").write_bytes(b"0" * (export / "graph.bin").stat().st_size)
    rewrite(export, format=77)
    export_model(saved, export)
    assert load_model(export).predict(["good"]).tolist() == ["yes"]
    assert [path.name for path in export.parent.iterdir() if "export" in path.name] == ["export"]


def test_a_failed_export_leaves_the_earlier_one(saved, export, monkeypatch):
    from frozenbert.persistence import export as module

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_flush", full)
    with pytest.raises(InputError, match=r"export: cannot be written \(No space left"):
        export_model(saved, export)
    monkeypatch.undo()
    assert load_model(export).predict(["good"]).tolist() == ["yes"]
    assert sorted(file.name for file in export.iterdir()) == FILES
    assert [path.name for path in export.parent.iterdir() if "export" in path.name] == ["export"]


# What is not loaded


@pytest.mark.parametrize("name", [name for name in FILES if name != "runtime.json"])
def test_one_changed_byte(export, name):
    content = bytearray((export / name).read_bytes())
    content[len(content) // 2] ^= 1
    (export / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is not the file that was written"):
        load_model(export)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_shortened_file(export, name):
    content = (export / name).read_bytes()
    (export / name).write_bytes(content[:-2])
    expected = f"{name} does not have the size" if name != "runtime.json" else "is not JSON"
    with pytest.raises(InputError, match=expected):
        load_model(export)
    (export / name).unlink()
    expected = f"{name} is missing" if name != "runtime.json" else "there is no such model file"
    with pytest.raises(InputError, match=expected):
        load_model(export)


@pytest.mark.parametrize("kind", ["file", "folder", "pickle"])
def test_a_foreign_file(export, kind):
    name = "model.joblib" if kind == "pickle" else "extra"
    (export / name).mkdir() if kind == "folder" else (export / name).write_bytes(b"x")
    with pytest.raises(InputError, match=f"'{name}' does not belong to an export"):
        load_model(export)


@pytest.mark.parametrize("name", FILES)
def test_a_link(export, name):
    (export / name).rename(export.parent / name)
    (export / name).symlink_to(export.parent / name)
    with pytest.raises(InputError, match=f"{name} is a link, or no file"):
        load_model(export)


def test_a_file_that_is_too_large(export, monkeypatch):
    from frozenbert.persistence import runtime

    monkeypatch.setitem(runtime.LIMITS, "tokenizer.json", 100)
    with pytest.raises(InputError, match=r"tokenizer\.json is larger than 100 bytes"):
        load_model(export)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"format": 2},
            "written by a newer version of frozenbert .* upgrade frozenbert, or export",
        ),
        ({"format": None}, "has no number of a format"),
        ({"format": "1"}, "has no number of a format"),
        ({"files": {}}, "other files than those of an export"),
        ({"files": {"graph.bin": 1}}, "other files"),
        ({"files": None}, "runtime.json: "),
        ({"encoder": {}}, "runtime.json: 'content_hash'"),
        ({"encoder": []}, "runtime.json: 'content_hash'"),
    ],
)
def test_facts_that_are_wrong(export, changes, expected):
    rewrite(export, **changes)
    with pytest.raises(InputError, match=expected):
        load_model(export)


@pytest.mark.parametrize("content", ["[]", "7", "{", "[" * 100_000, '"x"', "\ud800"])
def test_facts_that_are_none(export, content):
    (export / "runtime.json").write_text(content, errors="surrogatepass")
    with pytest.raises(InputError, match="is no export, or a damaged one"):
        load_model(export)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["graph.xml", "graph.bin"], "is the graph of another encoder"),
        (["tokenizer.json"], "is the graph of another encoder"),
        (["head.skops"], "head.skops is of another encoder"),
    ],
)
def test_files_of_another_export(export, tmp_path, names, expected):
    other = str(make_encoder(tmp_path / "other", seed=1))
    if names == ["tokenizer.json"]:
        (export / "tokenizer.json").write_text(
            (export / "tokenizer.json").read_text().replace("boring", "borong")
        )
    else:
        folder = save(other, tmp_path / "model")
        second = export_model(folder, tmp_path / "second", encoder_path=other)
        for name in names:
            shutil.copy(second / name, export / name)
    renew(export)
    with pytest.raises(InputError, match=expected):
        load_model(export)


@pytest.mark.parametrize("name", ["graph.xml", "tokenizer.json", "head.skops"])
def test_content_that_is_damaged_under_a_right_hash(export, name):
    (export / name).write_bytes(b"nonsense")
    renew(export)
    with pytest.raises(InputError, match=r"(e|E)xport the model again"):
        load_model(export)


def test_the_command(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--model", str(saved), "--out", "out"]) == 0
    said = capsys.readouterr()
    assert "graph.bin, graph.xml, head.skops, runtime.json, tokenizer.json" in said.out
    assert said.err == ""
    assert main(["classify", "--model", "out", "--text", "good"]) == 0
    assert capsys.readouterr().out.startswith("prediction\tyes\n")
    for arguments, message in [
        (["export", "--model", "out", "--out", "again"], "is an export already"),
        (["export", "--model", "nothing", "--out", "again"], "there is no such model file"),
        (["export", "--model", str(saved), "--out", "."], "--out .: exists, and is no earlier"),
        (["classify", "--model", "out/..", "--text", "x"], "there is no such model file"),
        (["classify", "--model", "out", "--device", "cuda", "--text", "x"], "runs on the CPU"),
    ]:
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error
    assert not Path("again").exists()
    (tmp_path / "out" / "graph.bin").write_bytes(b"")
    assert main(["classify", "--model", "out", "--text", "x"]) == 2
    assert "graph.bin does not have the size" in capsys.readouterr().err


def test_the_command_says_that_words_are_in_it(tiny, tmp_path, capsys):
    folder = save(tiny, tmp_path / "model", with_tfidf=True)
    out = tmp_path / "out"
    assert main(["export", "--model", str(folder), "--encoder-path", tiny, "--out", str(out)]) == 0
    assert f"warning: {out} contains the vocabulary of the training" in capsys.readouterr().err


# Without the libraries of training

WITHOUT = """
import sys
class Hiding:
    "A finder of modules that does not find the heavy ones."
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {heavy!r}:
            return self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Hiding, sys.meta_path)
import frozenbert
from frozenbert.cli.main import main
"""


def without_heavy(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process where torch and others cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(heavy=HEAVY) + code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_heavy_is_needed_to_predict(exported, tmp_path):
    expected = load_model(exported).predict(NEW).tolist()
    rows = ["text;n", *(f'"{text}";{n}' for n, text in enumerate(NEW))]
    (tmp_path / "new.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "new.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in NEW))
    done = without_heavy(
        f"""
print(frozenbert.load_model({str(exported)!r}).predict({NEW!r}).tolist())
for name in ("csv", "jsonl"):
    command = ["classify", "--model", {str(exported)!r}, "--data", "new." + name]
    assert main([*command, "--text-column", "text", "--out", "out." + name, "--no-cache"]) == 0
assert main([*command, "--out", "out.parquet", "--no-cache"]) == 2
""",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(expected)
    assert (
        'a parquet file needs pandas, which is not installed: pip install "frozenbert[train]"'
        in (done.stderr)
    )
    import pandas as pd

    table = pd.read_csv(tmp_path / "out.csv", sep=";", keep_default_na=False)
    assert table["text"].tolist() == NEW
    assert table["prediction"].tolist() == expected
    table = pd.read_json(tmp_path / "out.jsonl", lines=True)
    assert table["prediction"].tolist() == expected


def test_errors_name_the_extra(saved, exported, tmp_path):
    done = without_heavy(
        f"""
texts = ["a film", "a plot"]
for needs in (
    lambda: frozenbert.load_model({str(saved)!r}).predict(texts),
    lambda: frozenbert.DistilBertVectorizer({str(saved / "tiny")!r}).fit(texts),
    lambda: frozenbert.DistilBertVectorizer("some/name").fit(texts),
    lambda: frozenbert.export_model({str(saved)!r}, "out"),
    lambda: frozenbert.save_model(frozenbert.load_model({str(exported)!r}), "out/model.joblib"),
):
    try:
        needs()
    except frozenbert.MissingLibraryError as error:
        print(error)
assert main(["embed", "--data", "x.csv", "--out", "x.npy", "--encoder", "x"]) == 2
""",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5, lines
    assert all(line.endswith('pip install "frozenbert[train]".') for line in lines), lines
    assert done.stderr.endswith(
        'this command needs pandas, which is not installed: pip install "frozenbert[train]".\n'
    )
    assert list(tmp_path.rglob("*.tmp")) == []


def test_an_extra_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    message = (
        r'an export needs openvino, which is not installed: pip install "frozenbert\[runtime\]"'
    )
    with pytest.raises(MissingLibraryError, match=message):
        require("numpy", "openvino", purpose="an export")
    assert EXTRAS["torch"] == "train"
