"""The benchmarks run on a few texts in the project's own environment."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def run(script: str, *arguments: str, texts: str = "") -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "FROZENBERT_TEXTS"}
    if texts:
        clean["FROZENBERT_TEXTS"] = texts
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_ours_and_the_plain_ways_in_turn(tmp_path, tiny, packaged):
    ways = [
        "tutorial",
        "pipeline",
        "st-onnx",
        "st-openvino-int8",
        "ours-cls",
        "ours-mean",
        "ours-openvino",
        "ours-warm",
    ]
    options = ["--encoders", tiny, "--texts", "sentences", "--sentences", "5", "--rounds", "2"]
    options += ["--calls", "7", "--ways", ",".join(ways)]
    options += ["--onnx-python", str(tmp_path / "none"), "--openvino-python", str(tmp_path / "no")]
    done = run("bench.py", *options, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr

    order = re.findall(r"round \d, ([\w-]+):", done.stderr)
    # Twice all texts, then twice one text per call.
    assert order == [way for way in ways if not way.startswith("st-")] * 4
    (raw,) = tmp_path.glob("*.json")
    report = json.loads(raw.read_text(encoding="utf-8"))
    assert report["machine"]["cores"] >= 1
    assert report["versions"]["bench"]["torch"]
    (comparison,) = report["comparisons"]
    assert comparison["n_texts"] == comparison["n_checked"] == 5
    rows = {row["key"]: row for row in comparison["rows"]}
    for way in ("st-onnx", "st-openvino-int8"):
        assert "does not exist (make bench creates it)" in rows.pop(way)["left_out"]
    table = raw.with_suffix(".md").read_text(encoding="utf-8")
    for row in rows.values():
        assert len(row["seconds"]) == 2
        assert row["difference"] < 1e-5, row["title"]
        assert all(0 < run["median_ms"] <= run["p99_ms"] for run in row["one_text"])
        per_second = f"{5 / statistics.median(row['seconds']):,.0f}"
        one_text = f"{statistics.median(run['median_ms'] for run in row['one_text']):.1f}"
        cells = rf"^\| {re.escape(row['title'])} \|.* {per_second} \|.* {one_text} \|"
        assert re.search(cells, table, re.M)
    assert [row["pooling"] for row in rows.values()] == ["cls", "cls", "cls", "mean", "cls", "cls"]
    assert table.strip() in done.stdout
    assert raw.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_library_is_one_line(tmp_path):
    done = run("bench.py", "--ways", "st,none", "--out", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"bench\.py: argument --ways: .*none.*\n", done.stderr)


@pytest.mark.parametrize("name", sorted(file.name for file in BENCHMARKS.glob("requirements*")))
def test_the_environments_are_pinned_exactly(name):
    lines = (BENCHMARKS / name).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    names = [canonicalize_name(pin.name) for pin in pins]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in pins)
    pinned = dict(zip(names, pins, strict=True))
    if name == "requirements-runtime.txt":
        assert not {"torch", "transformers", "pandas", "pyarrow", "matplotlib"} & set(names)
    else:
        assert pinned["torch"].specifier.contains("2.13.0")


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-accuracy.txt"])
def test_the_environment_has_what_the_package_needs(name):
    project = tomllib.loads((BENCHMARKS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    lines = (BENCHMARKS / name).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in pins}
    for needed in map(Requirement, project["project"]["dependencies"]):
        assert needed.specifier.contains(pinned[canonicalize_name(needed.name)]), needed


@pytest.mark.parametrize(("pooling", "lengths"), [("mean", [5]), ("cls", [5]), ("mean", [3, 9])])
def test_operations_are_those_that_torch_counts(pooling, lengths, monkeypatch):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import DistilBertConfig, DistilBertModel

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    limit = importlib.import_module("limit")
    shape = limit.Shape(width=16, layers=3)
    sizes = {"vocab_size": 30, "dim": 16, "hidden_dim": 64, "n_layers": 3, "n_heads": 2}
    config = DistilBertConfig(**sizes, attn_implementation="eager")
    model = DistilBertModel(config).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        for length in lengths:
            model(torch.ones(1, length, dtype=torch.long))
    expected = counted.get_total_flops()
    if pooling == "cls":
        # Of the last layer, only keys and values of the positions after the first are needed.
        one_row = 2 * 16 * 16 * (2 + 8) + 4 * lengths[0] * 16
        expected -= sum(length - 1 for length in lengths) * one_row
    assert shape.flop(lengths, pooling) == pytest.approx(expected)


@pytest.mark.slow
def test_limit_report(tmp_path, packaged):
    options = ["--encoders", "minilm", "--rows", "8", "--rounds", "1", "--out", str(tmp_path)]
    done = run("limit.py", *options, "--sentences", "4", "--reviews", "2")
    assert done.returncode == 0, done.stderr
    (raw,) = tmp_path.glob("limit-*.json")
    (encoder,) = json.loads(raw.read_text(encoding="utf-8"))["encoders"]
    assert encoder["width"] == 384
    for precision, rates in encoder["rates"].items():
        fastest = max(rates.values())
        texts = fastest / encoder["gflop_per_text"]["sentences"]
        assert re.search(
            rf"minilm \| {precision} \| .* \| {fastest:,.0f} \| {texts:,.0f} ", done.stdout
        )
    assert set(encoder["rates"]) == {"float32", "bfloat16", "int8"}


@pytest.mark.slow
def test_start_report(tmp_path, packaged):
    options = ["--ways", "saved,st-openvino-int8", "--repeats", "2", "--out", str(tmp_path)]
    done = run("start.py", *options, "--openvino-python", str(tmp_path / "none"))
    assert done.returncode == 0, done.stderr
    (raw,) = tmp_path.glob("start-*.json")
    saved, missing = json.loads(raw.read_text(encoding="utf-8"))["rows"]
    assert len(saved["runs"]) == 2
    # A process of torch takes longer than a tenth of a second, and more than 100 MB.
    assert all(run["seconds"] > 0.1 and run["peak_mb"] > 100 for run in saved["runs"])
    middle = statistics.median(run["seconds"] for run in saved["runs"])
    assert f"| {saved['title']} | {middle:.2f} (" in done.stdout
    assert "none" in missing["left_out"]
    assert f"Left out: {missing['title']}: {missing['left_out']}" in done.stdout


def test_an_unknown_start_is_one_line():
    done = run("start.py", "--ways", "saved,none")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"start\.py: argument --ways: .*none.*\n", done.stderr)


@pytest.mark.slow
def test_precision_report(tmp_path, tiny, packaged):
    folder = tmp_path / "sst2"
    folder.mkdir()
    rows = [f"a {('dull', 'moving')[n % 2]} film, number {n}\t{n % 2}" for n in range(60)]
    (folder / "train.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "precision.py", "--model", tiny, "--out", tmp_path],
        env=os.environ | {"FROZENBERT_TEXTS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (raw,) = tmp_path.glob("precision-*.json")
    report = json.loads(raw.read_text(encoding="utf-8"))
    assert (report["rows"], report["source"]) == (60, "SST-2")
    exact = report["results"].pop("float32")
    assert (exact["difference"], exact["interval"]) == (0, 0)
    assert set(report["results"]) == {"bfloat16", "int8"}
    for name, result in report["results"].items():
        assert result["difference"] == pytest.approx(result["accuracy"] - exact["accuracy"])
        assert 0.98 < result["mean_cosine"] < 1, name
        assert f"| {name} | {result['accuracy']:.4f} | " in done.stdout
    assert f"auto selects {report['auto']['precision']} (" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    ["ablation.py", "accuracy.py", "explain.py", "fewshot.py", "finetune.py", "label.py"],
)
def test_missing_texts_are_one_line(script):
    done = run(script)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{script}: set FROZENBERT_TEXTS to the folder of texts.\n"


def test_explanations_of_a_text_are_compared(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import explain

    class Good:
        def predict_proba(self, texts):
            p = np.array([0.1 + 0.8 * ("good" in text.split()) for text in texts])
            return np.stack([1 - p, p], axis=1)

    asked = explain.Asked(Good(), "a good film and plot")
    assert asked.place == 1
    for method in (explain.one_by_one, explain.spans(3), explain.spans(2, rest=True)):
        weights = method(asked, None)
        assert weights.argmax() == 1
    assert explain.one_by_one(asked, None) == pytest.approx([0, 0.8, 0, 0, 0])
    pytest.importorskip("shap")
    assert explain.shapley(2)(asked, None) == pytest.approx([0, 0.8, 0, 0, 0])


def test_an_unknown_measurement_is_one_line():
    done = run("ablation.py", "--only", "sst3")
    assert done.returncode == 2
    assert "--only sst3: of calibration, imdb, windows, windows-and-words" in done.stderr


@pytest.mark.parametrize("option", ["--only", "--way"])
def test_an_unknown_cell_is_one_line(option):
    done = run("accuracy.py", option, "sst3")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"accuracy\.py: argument {option}: .*sst3.*\n", done.stderr)


def test_the_part_before_a_hyphen_is_several_cells(monkeypatch):
    names = module("accuracy", monkeypatch)._chosen(
        ["skrub", "skrub-linear", "setfit-8", "setfit-64"]
    )
    assert names("setfit") == ["setfit-8", "setfit-64"]
    assert names("setfit-64,skrub,setfit") == ["setfit-64", "skrub", "setfit-8"]
    with pytest.raises(ValueError, match="set"):
        names("set")


def module(name, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


@pytest.mark.slow
def test_cells_are_measured_once_and_one_that_fails_stops_no_other(tmp_path, packaged):
    folder = tmp_path / "texts" / "sst2"
    folder.mkdir(parents=True)
    words = ("dull", "moving")
    for name, n in (("train", 60), ("dev", 20)):
        rows = [f"a {words[i % 2]} film, number {i} of {name}\t{i % 2}" for i in range(n)]
        (folder / f"{name}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    results = tmp_path / "results"
    options = ["--only", "sst2-2000", "--out", str(results)]

    # The project's own environment has no SetFit.
    done = run("accuracy.py", *options, "--way", "setfit-8,tfidf", texts=str(folder.parent))
    assert done.returncode == 1
    assert "sst2-2000, setfit-8: failed: ModuleNotFoundError: No module named" in done.stderr
    (file,) = results.iterdir()
    assert file.name == "sst2-2000.tfidf.json"
    cell = json.loads(file.read_text(encoding="utf-8"))
    assert (cell["n_train"], cell["n_test"]) == (60, 20)
    assert cell["figures"] == {"accuracy": 1.0}
    assert cell["right"] == ["fffff0"]
    assert cell["resampled"]["accuracy"].split() == ["1.0000"] * 1000
    assert cell["peak_mb"] > 50
    assert cell["machine"]["cores"] >= 1
    assert cell["versions"]["scikit-learn"]

    done = run("accuracy.py", *options, "--way", "tfidf,plain", texts=str(folder.parent))
    assert done.returncode == 0, done.stderr
    assert "sst2-2000, tfidf: measured before" in done.stderr
    assert json.loads(file.read_text(encoding="utf-8")) == cell
    plain = json.loads((results / "sst2-2000.plain.json").read_text(encoding="utf-8"))
    assert plain["rows"] == cell["rows"]
    assert f"**{plain['figures']['accuracy']:.3f}**" in done.stdout
    assert "TF-IDF, logistic regression" in done.stdout

    done = run("accuracy.py", *options, "--way", "tfidf", "--again", texts=str(folder.parent))
    assert done.returncode == 0, done.stderr
    assert json.loads(file.read_text(encoding="utf-8"))["date"] > cell["date"]


def made_cell(way, right, *, data="sst2-2000", rows="a", seconds=3.0, others=0.0):
    """Return a cell whose test rows are right where `right` is 1."""
    drawn = np.random.default_rng(0).integers(len(right), size=(1000, len(right)))
    machine = {"cpu": "C", "cores": 2, "instructions": ["avx2"], "commit": "abc1234"}
    return {
        "data": data,
        "way": way,
        "rows": rows,
        "date": "2026-11-23T12:00:00+00:00",
        "figures": {"accuracy": float(np.mean(right))},
        "resampled": {"accuracy": " ".join(f"{v:.4f}" for v in right[drawn].mean(axis=1))},
        "seconds": seconds,
        "cores_of_others": others,
        "stored_vectors": False,
        "peak_mb": 100.0,
        "machine": machine,
    }


def test_the_table_says_where_frozenbert_loses(monkeypatch):
    table = module("accuracy_table", monkeypatch)
    better, worse = np.arange(100) >= 5, np.arange(100) >= 20
    cells = [made_cell("plain", worse), made_cell("setfit-all", better, others=1.0)]
    text = table.to_markdown(cells)
    first, second = (line for line in text.splitlines() if "0.950" in line or "0.800" in line)
    assert first.startswith("| SetFit, all rows that fit 30 minutes | **0.950** | 0.9")
    assert first.endswith("|  |  | 3† | 100 |")
    assert second.startswith("| **frozenbert, plain** | 0.800 |")
    # Of 100 rows, 15 are right for one alone: 15 points, with a standard deviation of 3.6.
    low, high = map(float, re.search(r"\| 15\.0 \| ([\d.]+) to ([\d.]+) \| 3 \|", second).groups())
    assert 6 < low < 10
    assert 20 < high < 24
    assert "- sst2-2000, accuracy: SetFit, all rows that fit 30 minutes is 15.0 points" in text
    assert "above frozenbert, plain: more than chance explains." in text

    assert "- tweets: not known, because no row of frozenbert is measured yet." in text

    # The rows a class are compared with each other only.
    monkeypatch.setattr(table, "TASKS", {"sst2-2000": table.TASKS["sst2-2000"]})
    text = table.to_markdown([cells[0], made_cell("setfit-8", better)])
    assert "Nowhere, in these rows." in text
    text = table.to_markdown([made_cell("setfit-all", worse), made_cell("plain", better)])
    assert "Nowhere, in these rows." in text


def test_the_table_refuses_cells_of_different_rows(monkeypatch):
    table = module("accuracy_table", monkeypatch)
    right = np.ones(10)
    cells = [made_cell("plain", right), made_cell("tfidf", right, rows="b")]
    with pytest.raises(table.InputError, match="sst2-2000: cells of different rows"):
        table.to_markdown(cells)
    with pytest.raises(table.InputError, match="no cell is measured yet"):
        table.to_markdown([])


def test_the_table_is_written_between_marks(tmp_path, monkeypatch):
    table = module("accuracy_table", monkeypatch)
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{table.BEGIN}\nold\n{table.END}\n\nafter\n", encoding="utf-8")
    table.replace(page, "| new |")
    expected = f"before\n\n{table.BEGIN}\n\n| new |\n\n{table.END}\n\nafter\n"
    assert page.read_text(encoding="utf-8") == expected
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(table.InputError, match="needs one line"):
        table.replace(page, "| new |")


def test_the_page_has_the_table_of_the_committed_cells(monkeypatch):
    table = module("accuracy_table", monkeypatch)
    cells = table.read(BENCHMARKS / "results" / "accuracy")
    page = (BENCHMARKS.parent / "docs" / "results" / "accuracy.md").read_text(encoding="utf-8")
    between = page.split(table.BEGIN)[1].split(table.END)[0]
    assert between.strip() == table.to_markdown(cells)


def test_a_cell_has_its_resamples_and_the_rows_that_are_right(monkeypatch):
    cell = module("cell", monkeypatch)
    answer = module("classifiers", monkeypatch).Answer
    truth = np.arange(60) % 3
    half = np.where(np.arange(60) < 30, truth, (truth + 1) % 3)
    found = cell._scores(answer([truth, half]), truth, ("accuracy", "macro F1"))
    assert found["figures"]["accuracy"] == pytest.approx(0.75)
    assert [draw["accuracy"] for draw in found["draws"]] == [1.0, 0.5]
    assert found["right"] == ["f" * 15 + "0", "f" * 7 + "c" + "0" * 8]
    resampled = np.array(found["resampled"]["accuracy"].split(), dtype=float)
    assert len(resampled) == 1000
    # The mean of two draws, of which one is right in half of the rows.
    assert resampled.std() == pytest.approx(0.5 * 0.5 / 60**0.5, rel=0.15)
    assert resampled.mean() == pytest.approx(0.75, abs=0.01)
    flags = np.array([[1, 0], [1, 1], [0, 0], [0, 1]])
    wrong = np.array([[1, 0], [1, 0], [0, 0], [0, 1]])
    found = cell._scores(answer([wrong]), flags, ("macro F1", "micro F1"))
    assert found["figures"] == pytest.approx({"macro F1": (1 + 2 / 3) / 2, "micro F1": 6 / 7})
    assert found["right"] == ["b0"]


@pytest.mark.parametrize("many", [False, True])
def test_the_pairs_of_an_epoch_are_counted(many, monkeypatch):
    classifiers = module("classifiers", monkeypatch)
    y = np.random.default_rng(0).integers(0, 2, size=(23, 4)) if many else np.arange(23) % 5
    pairs = itertools.combinations_with_replacement(y.tolist(), 2)
    like = [any(map(min, zip(a, b, strict=True))) if many else a == b for a, b in pairs]
    more = max(sum(like), len(like) - sum(like))
    assert classifiers._setfit_steps(y) == math.ceil(2 * more / 16)


def test_the_split_is_fixed_stratified_and_has_no_row_twice(monkeypatch):
    real = module("real", monkeypatch)
    texts, y = [f"text {i}" for i in range(100)], np.array(["a"] * 80 + ["b"] * 20)
    load = real._in_fifths(lambda folder: (texts, y))
    split = load(Path())
    assert load(Path()).fingerprint() == split.fingerprint()
    assert sorted(split.texts + split.test_texts) == sorted(texts)
    assert np.bincount(split.test_y).tolist() == [16, 4]
    few = real._in_fifths(lambda folder: (texts, y), 30)(Path())
    assert few.texts == split.texts[:30]
    assert few.test_texts == split.test_texts
    assert few.fingerprint() != split.fingerprint()


@pytest.mark.slow
def test_fewshot_report(tmp_path, packaged):
    (tmp_path / "hate").mkdir()
    kinds = (("what a lovely day", "neither"), ("what an awful man", "offensive"))
    rows = [f"{text} number {i},{label}" for i in range(60) for text, label in kinds]
    (tmp_path / "hate" / "tweets.csv").write_text("\n".join(["tweet,class", *rows]))
    options = ["--only", "tweets", "--draws", "1", "--labels", "20", "--out", str(tmp_path)]
    done = run("fewshot.py", *options, texts=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (raw,) = tmp_path.glob("*.json")
    found = {row["way"]: row for row in json.loads(raw.read_text(encoding="utf-8"))["rows"]}
    assert found["student b: words"]["f1"] == 1
    # The student of words needs no encoder.
    of_words, of_vectors = (
        found[name]["texts_per_second"] for name in ("student b: words", "student a: vectors")
    )
    assert of_words > of_vectors
    assert 0.2 < found["random"]["f1"] < 0.8
    assert "| tweets | one expert | 100.0 |" in done.stdout


@pytest.mark.slow
def test_simulated_annotators_are_resumed(tmp_path, packaged):
    (tmp_path / "hate").mkdir()
    kinds = (("what a lovely day", "neither"), ("what an awful man", "offensive"))
    rows = [f"{text} number {i},{label}" for i in range(60) for text, label in kinds]
    (tmp_path / "hate" / "tweets.csv").write_text("\n".join(["tweet,class", *rows]))
    options = ["--only", "tweets", "--way", "random,ours,uncertainty", "--out", str(tmp_path)]
    options += ["--cache", str(tmp_path / "cache")]
    done = run("label.py", *options, "--draws", "1", texts=str(tmp_path))
    assert done.returncode == 0, done.stderr
    again = run("label.py", *options, "--draws", "2", texts=str(tmp_path))
    assert again.returncode == 0, again.stderr
    assert "draw 0" not in again.stderr
    ours = json.loads((tmp_path / "tweets.ours.json").read_text(encoding="utf-8"))["draws"]
    assert [*ours] == ["0", "1"]
    assert ours["0"]["steps"]["50"] == 1
    assert "| random | 2 | " in again.stdout
    assert "All labels of the pool: 100.0." in again.stdout


def test_labels_saved_are_read_off_the_curves(monkeypatch):
    table = module("label_table", monkeypatch)
    assert table.labels_needed({20: 0.5, 100: 0.7}, 0.7) == pytest.approx(100)
    assert table.labels_needed({20: 0.5, 80: 0.7}, 0.6) == pytest.approx(40)
    assert table.labels_needed({20: 0.5}, 0.4) == 20
    assert table.labels_needed({20: 0.5}, 0.6) is None

    def one(way, *steps):
        draws = {str(seed): {"steps": {"50": a, "100": b}} for seed, (a, b) in enumerate(steps)}
        return {"data": "d", "way": way, "draws": draws}

    random, ours = one("random", (0.5, 0.7), (0.5, 0.7)), one("ours", (0.7, 0.8), (0.7, 0.9))
    assert table.difference(ours, random, 50) == pytest.approx((0.2, 0))
    mean, half = table.difference(ours, random, 100)
    assert (mean, half) == pytest.approx((0.15, 12.706 * 0.05), abs=1e-3)
    assert table._saved({"random": random, "ours": ours}, "ours") == pytest.approx(0.25)


def test_figures_of_several_runs_are_joined(tmp_path):
    def report(texts, rows):
        machine = {"cpu": "C", "cores": 2, "instructions": ["avx2"], "commit": "abc1234"}
        common = {"encoder": "minilm", "kind": "sentences", "n_texts": texts}
        return {"date": "2026-11-23", "machine": machine, "comparisons": [common | {"rows": rows}]}

    def row(key, seconds, milliseconds):
        one_text = [{"median_ms": ms, "p99_ms": 2 * ms} for ms in milliseconds]
        times = {"seconds": seconds, "one_text": one_text}
        return {"key": key, "title": key.upper(), "pooling": "mean"} | times

    speed = [row("st", [2, 4, 3], []), row("ours-mean", [1, 2, 1.5], []), row("st-onnx", [9], [])]
    late = [row("st", [], [8, 9, 7]), row("ours-mean", [], [3, 2]), row("ours-int8", [], [1])]
    missing = {"key": "skrub", "title": "skrub", "seconds": [], "left_out": "no skrub"}
    files = []
    for number, rows in enumerate((speed, [*late, missing])):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(report(300, rows)), encoding="utf-8")
    done = run("summary.py", *map(str, files))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2026-11-23, C, 2 cores, avx2, commit abc1234.") == 2
    assert "| ST | 100 | 8.0 | 16.0 |" in done.stdout
    assert "| OURS-MEAN (mean) | 200 | 2.5 | 5.0 |" in done.stdout
    assert "skrub" not in done.stdout
    # Twice as many texts as the fastest other; 2.5 of 8 milliseconds. Int8 has no other.
    assert "| float32 | 2.00 | 0.31 | 0.31 |" in done.stdout
    assert "| int8 |  |  |  |" in done.stdout


@pytest.mark.slow
def test_similar_texts_beside_brute_force(tmp_path, packaged):
    for name, column, word in (
        ("emotions/train", "text", "film"),
        ("emotions/dev", "text", "plot"),
        ("banking77/train", "text", "card"),
    ):
        path = tmp_path / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        rows = [f"a {word} of {i} scenes,0" for i in range(40)] + [f"A {word} of 3 scenes!,0"]
        path.write_text("\n".join([f"{column},category", *rows]), encoding="utf-8")
    done = run("similar.py", "--out", str(tmp_path), "--rows", "100", texts=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (raw,) = tmp_path.glob("similar-*.json")
    report = json.loads(raw.read_text(encoding="utf-8"))
    assert report["n_texts"] == 100
    assert all(row["seconds"] > 0 for row in report["rows"])
    assert [row["threshold"] for row in report["checked"]] == [0.95, 0.9, 0.8]
    assert report["checked"][0]["pairs"] > 0
    assert {row["missed"] + row["wrong"] for row in report["checked"]} == {0}


def test_raw_figures_have_a_line_for_each_row(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    rows = [{"data": "a", "curve": [0.1, 1 / 3]}, {"data": "b", "curve": []}]
    long = {"predicted": [0.25] * 400, "alpha": 1.0}
    figures = {"cpu": {"cores": 2}, "rows": rows, "found": {"text": long}, "none": []}
    path = importlib.import_module("report").write_figures(figures, tmp_path / "raw.json")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert json.loads("\n".join(lines)) == figures
    assert '  {"data": "a", "curve": [0.1, 0.3333333333333333]},' in lines
    assert '   "alpha": 1.0' in lines
    assert len(lines) == 14
