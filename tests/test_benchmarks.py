"""The benchmarks run on a few texts in the project's own environment."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

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
        "ours-cls",
        "ours-mean",
        "ours-openvino",
        "ours-warm",
    ]
    options = ["--encoders", tiny, "--texts", "sentences", "--sentences", "5", "--rounds", "2"]
    options += ["--ways", ",".join(ways), "--onnx-python", str(tmp_path / "none")]
    done = run("bench.py", *options, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr

    order = re.findall(r"round \d, ([\w-]+):", done.stderr)
    assert order == [way for way in ways if way != "st-onnx"] * 2
    (raw,) = tmp_path.glob("*.json")
    report = json.loads(raw.read_text(encoding="utf-8"))
    assert report["machine"]["cores"] >= 1
    assert report["versions"]["bench"]["torch"]
    (comparison,) = report["comparisons"]
    assert comparison["n_texts"] == comparison["n_checked"] == 5
    rows = {row["key"]: row for row in comparison["rows"]}
    assert "left_out" in rows.pop("st-onnx")
    table = raw.with_suffix(".md").read_text(encoding="utf-8")
    for row in rows.values():
        assert len(row["seconds"]) == 2
        assert row["difference"] < 1e-5, row["title"]
        per_second = f"{5 / statistics.median(row['seconds']):,.0f}"
        assert re.search(rf"^\| {re.escape(row['title'])} \|.* {per_second} \|", table, re.M)
    assert [row["pooling"] for row in rows.values()] == ["cls", "cls", "cls", "mean", "cls", "cls"]
    assert table.strip() in done.stdout
    assert raw.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_library_is_one_line(tmp_path):
    done = run("bench.py", "--ways", "st,none", "--out", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"bench\.py: argument --ways: .*none.*\n", done.stderr)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-onnx.txt"])
def test_the_environments_are_pinned_exactly(name):
    lines = (BENCHMARKS / name).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    names = [canonicalize_name(pin.name) for pin in pins]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in pins)
    assert dict(zip(names, pins, strict=True))["torch"].specifier.contains("2.13.0")


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


@pytest.mark.slow
@pytest.mark.parametrize("script", ["accuracy.py", "fewshot.py", "finetune.py"])
def test_missing_texts_are_one_line(script):
    done = run(script)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{script}: set FROZENBERT_TEXTS to the folder of texts.\n"


def test_an_unknown_measurement_is_one_line():
    done = run("accuracy.py", "--only", "sst3")
    assert done.returncode == 2
    assert (
        "--only sst3: of sst2, calibration, imdb, windows, windows-and-words, emotions"
        in done.stderr
    )


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
