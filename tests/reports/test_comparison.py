"""Models side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozenbert import InputError
from frozenbert.cli.main import main
from frozenbert.reports.comparison import compare_models
from frozenbert.reports.sidecar import FORMAT, read_sidecar


def sidecar(accuracy: float, low: float, high: float, **changes) -> dict:
    figures = {"accuracy": accuracy, "macro_f1": accuracy}
    ends = {"accuracy": [low, high], "macro_f1": [low, high]}
    ends["accuracy_above_baseline"] = [low - 0.7, high - 0.7]
    baseline = {"name": "words", "accuracy": 0.7, "macro_f1": 0.7}
    baseline["intervals"] = {"accuracy": [0.68, 0.72], "macro_f1": [0.68, 0.72]}
    score = {"precision": 0.8, "recall": 0.8, "f1-score": accuracy, "support": 5}
    per_class = {"calm": dict(score), "hate": dict(score)}
    of_words = score | {"f1-score": 0.7}
    baseline["per_class"] = {"calm": dict(of_words), "hate": dict(of_words)}
    metrics = {**figures, "intervals": ends, "baseline": baseline, "n_train": 9, "n_test": 5}
    metrics |= {"per_class": per_class, "task": "classification"}
    columns = {"text_column": "text", "label_column": "label"}
    content = {
        "format": 1,
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
    assert out.endswith("use      rich: clearly the best accuracy (95 % intervals)\n")


def unbalanced(accuracy: float, macro: float, hate: float) -> dict:
    """A model of 970 calm and 30 hateful test rows, with this recall of the latter."""
    content = sidecar(accuracy, accuracy - 0.01, accuracy + 0.01)
    metrics = content["metrics"]
    metrics["macro_f1"] = macro
    metrics["intervals"]["macro_f1"] = [macro - 0.01, macro + 0.01]
    metrics["intervals"]["macro_f1_above_baseline"] = [macro - 0.71, macro - 0.69]
    metrics["per_class"]["calm"] |= {"support": 970}
    metrics["per_class"]["hate"] |= {"support": 30, "recall": hate, "f1-score": hate}
    return content


def test_unbalanced_classes_are_compared_by_macro_f1(models, capsys):
    folders = models(deaf=unbalanced(0.97, 0.74, 0.0), fair=unbalanced(0.95, 0.80, 0.5))
    assert main(["compare", *folders]) == 0
    out = capsys.readouterr().out
    assert (
        "macro F1, in which all classes count the same: 'calm' has 970 test rows, 'hate' has 30"
        in out
    )
    assert (
        "missed   deaf recognises none of the test rows of 'hate' (30): label more of them" in out
    )
    assert "missed   fair" not in out
    assert out.endswith("use      fair: clearly the best macro F1 (95 % intervals)\n")
    lines = [line.split() for line in out.splitlines()]
    assert ["F1", "of", "each", "class", "rows", "deaf", "fair", "words"] in lines
    assert ["hate", "30", "0.0000", "0.5000", "0.7000"] in lines
    for name in ("macro_f1", "f1_macro"):
        assert main(["compare", *folders, "--scoring", name]) == 0
        assert "use      fair" in capsys.readouterr().out
    assert main(["compare", *folders, "--scoring", "accuracy"]) == 0
    assert "use      deaf" in capsys.readouterr().out
    assert main(["compare", *folders, "--scoring", "micro_f1"]) == 2
    says = "frozenbert compare: --scoring micro_f1: one of accuracy, macro_f1, which these models"
    assert capsys.readouterr().err.startswith(says)


def test_each_model_is_held_against_its_own_baseline(models, capsys):
    """Balanced class weights hold for the baseline, too."""
    plain, other = sidecar(0.8, 0.78, 0.82), sidecar(0.9, 0.88, 0.92)
    baseline = other["metrics"]["baseline"]
    baseline |= {"accuracy": 0.89, "intervals": {"accuracy": [0.87, 0.91]}}
    other["metrics"]["intervals"]["accuracy_above_baseline"] = [-0.01, 0.03]
    assert main(["compare", *models(plain=plain, other=other, same=plain)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[4:6]] == ["words", "words (of other)"]
    assert lines[-1] == (
        "use      other: the best accuracy, without a clear difference from words (of other) "
        "(95 % intervals)"
    )


def test_many_classes_are_not_all_listed(models, capsys):
    many = sidecar(0.8, 0.78, 0.82)
    score = many["metrics"]["per_class"]["calm"]
    many["metrics"]["per_class"] = {f"class {n}": {**score, "support": n + 9} for n in range(30)}
    assert main(["compare", *models(many=many)]) == 0
    out = capsys.readouterr().out
    assert "class 29" in out
    assert "class 9 " not in out
    assert "and 10 more, with fewer rows" in out


def test_what_may_be_chance_is_said(models, capsys):
    folders = models(plain=sidecar(0.8, 0.78, 0.82), rich=sidecar(0.81, 0.79, 0.83))
    assert main(["compare", *folders]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    says = (
        "use      rich: the best accuracy, without a clear difference from plain (95 % intervals)"
    )
    assert last == says


def test_one_test_row_has_no_interval(models, capsys):
    one = sidecar(1.0, 0, 0)
    one["metrics"]["intervals"] = one["metrics"]["baseline"]["intervals"] = {}
    assert main(["compare", *models(one=one)]) == 0
    assert "without a clear difference from words" in capsys.readouterr().out


def test_the_baseline_may_be_the_best(models, capsys):
    assert main(["compare", *models(plain=sidecar(0.6, 0.58, 0.62))]) == 0
    assert "use      words: clearly the best accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (sidecar(0.8, 0.7, 0.9, training={"sha256": "b", "text_column": 0, "label_column": 1}),
         "one and two were not measured on the same rows (training)"),
        (sidecar(0.8, 0.7, 0.9, test={"description": "all of x"}), "the same rows (test)"),
        ({**sidecar(0.8, 0.7, 0.9), "metrics": {**sidecar(0.8, 0.7, 0.9)["metrics"],
          "task": "regression"}}, "one is of classification, the other of regression"),
        ({"metrics": {}}, "two/model.json: saved by an earlier layout, train again"),
        ({"format": 1, "metrics": {}}, "two/model.json: damaged ('metrics.accuracy' is missing)"),
        ({"format": 2}, "two/model.json: has format 2, and this version of frozenbert reads"),
        ({"format": "1"}, "two/model.json: damaged ('format' must be a whole number"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared(models, capsys, other, match):
    assert main(["compare", *models(one=sidecar(0.8, 0.78, 0.82), two=other)]) == 2
    assert match in capsys.readouterr().err


def test_a_folder_that_does_not_exist(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("model.json").write_text(json.dumps(sidecar(0.8, 0.7, 0.9)))  # not that folder's
    assert main(["compare", "nowhere"]) == 2
    assert "nowhere: contains no model.json" in capsys.readouterr().err


DAMAGED = {
    "": "line 1: damaged, not JSON",
    "[]": r"damaged \(a list, and not an object\)",
    "{": "damaged, not JSON",
    "[" * 100_000: r"damaged \(nested too deep\)",
    '{"a":' * 100_000: r"damaged \(nested too deep\)",
    '{"format": ' + "9" * 5000 + "}": r"damaged \(a number is too long\)",
    '{"format": true}': r"damaged \('format' must be a whole number",
    '{"format": 0}': r"damaged \('format' must be a whole number",
}


@pytest.mark.parametrize(("content", "says"), DAMAGED.items(), ids=range(len(DAMAGED)))
def test_files_that_are_no_sidecars(tmp_path, content, says):
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(InputError, match=f"model.json.*{says}"):
        compare_models([tmp_path])


def test_a_file_that_is_not_utf_8(tmp_path):
    (tmp_path / "model.json").write_bytes(b'{"format": "\xff"}')
    with pytest.raises(InputError, match=r"model\.json: cannot be read \(it is not UTF-8\)"):
        compare_models([tmp_path])


def places(content, path=()):
    """Yield the path of each value in nested dicts."""
    for key, value in content.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places(value, (*path, key))


def verdict_or_error(folders):
    try:
        return compare_models(folders)[-1]
    except InputError as error:
        return str(error)


ODD = (None, True, -1, 1.5, "text", [], [1], ["a", "b"], {}, {"a": "b"}, float("nan"), 10**400)


@pytest.mark.parametrize("path", list(places(sidecar(0.8, 0.7, 0.9))), ids=".".join)
def test_a_value_of_any_type_is_compared_or_named(tmp_path, path):
    """Each value in turn is missing, or of a type that it should not have."""
    good = tmp_path / "good"
    good.mkdir()
    (good / "model.json").write_text(json.dumps(sidecar(0.8, 0.7, 0.9)))
    for value in ("missing", *ODD):
        content = sidecar(0.8, 0.7, 0.9)
        place = content
        for key in path[:-1]:
            place = place[key]
        if value == "missing":
            del place[path[-1]]
        else:
            place[path[-1]] = value
        (tmp_path / "model.json").write_text(json.dumps(content))
        for folders in ([tmp_path], [good, tmp_path]):
            outcome = verdict_or_error(folders)
            assert outcome.startswith("use ") or str(tmp_path) in outcome


@settings(deadline=None, max_examples=100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values),
        max_leaves=10,
    ),
    st.sampled_from(list(places(sidecar(0.8, 0.7, 0.9)))),
)
def test_any_json_is_compared_or_named(tmp_path_factory, value, path):
    folder = tmp_path_factory.mktemp("model")
    content = sidecar(0.8, 0.7, 0.9)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (folder / "model.json").write_text(json.dumps(content))
    outcome = verdict_or_error([folder])
    assert outcome.startswith(("use ", f"{folder}/model.json: "))


def test_a_sidecar_that_is_optional(tmp_path):
    """A model can be used without its sidecar, or beside another program's file."""
    for content in ("", "[]", "{", "[" * 100_000, '{"name": "another program"}', '{"training": 1}'):
        (tmp_path / "model.json").write_text(content)
        assert "format" not in read_sidecar(tmp_path)
    assert read_sidecar(tmp_path / "nowhere") == {}
    (tmp_path / "model.json").write_text(json.dumps(sidecar(0.8, 0.7, 0.9)))
    (tmp_path / "model.joblib").touch()
    assert read_sidecar(tmp_path / "model.joblib")["metrics"]["accuracy"] == 0.8


def test_sidecars_of_other_formats_are_refused(tmp_path):
    earlier = {"model_sha256": "0", "metrics": {}, "training": {}}
    (tmp_path / "model.json").write_text(json.dumps(earlier))
    with pytest.raises(InputError, match="saved by an earlier layout, train again"):
        read_sidecar(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({**earlier, "format": FORMAT + 1}))
    with pytest.raises(
        InputError, match=f"has format {FORMAT + 1}, .* reads formats up to {FORMAT}"
    ):
        read_sidecar(tmp_path)
