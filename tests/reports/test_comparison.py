"""Models side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from frozenbert.cli.main import main


def sidecar(accuracy: float, low: float, high: float, **changes) -> dict:
    figures = {"accuracy": accuracy, "macro_f1": accuracy}
    ends = {"accuracy": [low, high], "macro_f1": [low, high]}
    ends["accuracy_above_baseline"] = [low - 0.7, high - 0.7]
    baseline = {"name": "words", "accuracy": 0.7, "macro_f1": 0.7}
    baseline["intervals"] = {"accuracy": [0.68, 0.72], "macro_f1": [0.68, 0.72]}
    metrics = {**figures, "intervals": ends, "baseline": baseline, "n_train": 9, "n_test": 5}
    columns = {"text_column": "text", "label_column": "label"}
    content = {
        "metrics": metrics,
        "training": {"sha256": "a", **columns},
        "test": {"description": "a quarter"},
        "seconds": {"search": 2.0, "baseline of words": 1.0},
    }
    return {**content, **changes}


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Write folders of models from their sidecars."""
    monkeypatch.chdir(tmp_path)

    def models(**sidecars: dict) -> list[str]:
        for name, content in sidecars.items():
            Path(name).mkdir()
            Path(name, "model.json").write_text(json.dumps(content))
        return list(sidecars)

    return models


def test_the_better_one_is_named(models, capsys):
    folders = models(plain=sidecar(0.8, 0.78, 0.82), rich=sidecar(0.9, 0.88, 0.92))
    assert main(["compare", *folders]) == 0
    out = capsys.readouterr().out
    assert "plain    0.8000  0.7800 to 0.8200    0.8000      3.0\n" in out
    assert "rich     0.9000  0.8800 to 0.9200    0.9000      3.0\n" in out
    assert "words    0.7000  0.6800 to 0.7200    0.7000\n" in out
    assert out.endswith("use      rich: the best accuracy, by more than chance explains\n")


def test_what_may_be_chance_is_said(models, capsys):
    folders = models(plain=sidecar(0.8, 0.78, 0.82), rich=sidecar(0.81, 0.79, 0.83))
    assert main(["compare", *folders]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("use      rich: the best accuracy; plain may do as well")


def test_one_test_row_has_no_interval(models, capsys):
    one = sidecar(1.0, 0, 0)
    one["metrics"]["intervals"] = one["metrics"]["baseline"]["intervals"] = {}
    assert main(["compare", *models(one=one)]) == 0
    assert "words may do as well" in capsys.readouterr().out


def test_the_baseline_may_be_the_best(models, capsys):
    assert main(["compare", *models(plain=sidecar(0.6, 0.58, 0.62))]) == 0
    assert "use      words: the best accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (sidecar(0.8, 0.7, 0.9, training={"sha256": "b", "text_column": 0, "label_column": 1}),
         "one and two were not measured on the same rows (training)"),
        (sidecar(0.8, 0.7, 0.9, test={"description": "all of x"}), "the same rows (test)"),
        ({"metrics": {}}, "two: holds no model.json with figures"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared(models, capsys, other, match):
    assert main(["compare", *models(one=sidecar(0.8, 0.78, 0.82), two=other)]) == 2
    assert match in capsys.readouterr().err


def test_a_folder_that_is_not_there(capsys):
    assert main(["compare", "nowhere"]) == 2
    assert "nowhere: holds no model.json with figures" in capsys.readouterr().err
