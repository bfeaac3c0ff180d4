"""Budgets of time: steps that are kept if they help, kills, limits, and what is saved."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from budgets import FACTS, spelled
from sklearn.metrics import get_scorer
from sklearn.model_selection import PredefinedSplit

from frozenbert import load_model, make_text_classifier
from frozenbert.cli.main import main
from frozenbert.embed import DistilBertVectorizer
from frozenbert.errors import BudgetWarning, InputError, PoolWarning
from frozenbert.heads.folds import Folds
from frozenbert.persistence import export_model
from frozenbert.training import save_training, train
from frozenbert.training.budget import spending
from frozenbert.training.budget.by_folds import documents
from frozenbert.training.budget.by_folds.documents import Documents
from frozenbert.training.budget.candidates import Characters, Material, Member
from frozenbert.training.budget.clock import Deadline, parse_duration, process_started
from frozenbert.training.budget.gains import Gain, measure_gain
from frozenbert.training.budget.state import STEPS
from frozenbert.training.budget.workers import StepProcess, StoppedError

HERE = Path(__file__).parent

pytestmark = pytest.mark.filterwarnings("ignore::frozenbert.errors.TruncationWarning")


@pytest.fixture(autouse=True)
def _only_cheap_steps(tiny, monkeypatch):
    """Leave out what takes minutes, and let saved models find their encoder."""
    monkeypatch.setattr(spending, "CANDIDATES", (Characters(),))
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(Path(tiny).parent))


def classifier(tiny, **settings):
    # Of a text, the encoder reads the first two letters, which tell nothing.
    settings = {"C": 0.1, "cv": 2, "cache_dir": None, "progress": False, **settings}
    settings = {"max_length": 4, **settings}
    return make_text_classifier(tiny, **settings)


def spend(tiny, folder, *, budget="10m", n=80, model=None, test=None, **settings):
    texts, labels = spelled(n)
    test_texts, test_labels = test or (texts[-20:], labels[-20:])
    model = model or classifier(tiny)
    return train(
        model, texts[:-20], labels[:-20], test_texts, test_labels, budget=budget, folder=folder,
        **settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A saved model that votes with characters, its training, and the reports of its steps."""
    folder, reports = tmp_path_factory.mktemp("models") / "spelled", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spending, "CANDIDATES", (Characters(),))
        training = spend(tiny, folder, on_step=lambda step, left: reports.append((step, left)))
        inside = sorted(path.name for path in (folder / STEPS).iterdir())
        mode = stat.S_IMODE((folder / STEPS).stat().st_mode)
    save_training(training, folder, FACTS)
    return training, folder, reports, inside, mode


# The clock


@pytest.mark.parametrize(
    ("given", "seconds"), [("15m", 900), ("2h", 7200), ("1h30m", 5400), ("90s", 90), ("0.5h", 1800)]
)
def test_durations(given, seconds):
    assert parse_duration(given) == seconds


@pytest.mark.parametrize("given", ["15", "0m", "-1h", "", "m", "1d", "1h -30m", "nan", "١5m", 15])
def test_wrong_durations(given):
    with pytest.raises(InputError, match=r"budget=.*: a time above 0 with its unit"):
        parse_duration(given)


def test_a_process_knows_when_it_started():
    before = time.time()
    code = (
        "import time; time.sleep(0.3)\n"
        "from frozenbert.training.budget.clock import process_started; print(process_started())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert before - 0.1 <= float(done.stdout) <= time.time()
    assert process_started() < before
    assert Deadline(10, time.time() - 11).left < 0


# Better than chance


def test_a_gain_has_the_interval_of_the_rows_differences():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 100)
    p = [np.where(rng.random(100) < share, y, 1 - y) * 0.8 + 0.1 for share in (0.8, 0.7)]
    new, old = (np.column_stack([1 - one, one]) for one in p)
    gain = measure_gain(get_scorer("accuracy"), y, new, old)
    rows = (new.argmax(1) == y).astype(float) - (old.argmax(1) == y)
    spread = 1.984217 * rows.std(ddof=1) / 10  # of Student's t, 99 degrees of freedom
    assert gain.difference == pytest.approx(rows.mean())
    assert (gain.low, gain.high) == pytest.approx((rows.mean() - spread, rows.mean() + spread))
    assert measure_gain(get_scorer("f1_macro"), y, old, new).difference < 0


def test_chance_alone_is_rarely_clear():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 300)
    clear = 0
    for _ in range(15):
        p = [np.where(rng.random(300) < 0.8, y, 1 - y) * 0.8 + 0.1 for _ in range(2)]
        new, old = (np.column_stack([1 - one, one]) for one in p)
        clear += measure_gain(get_scorer("accuracy"), y, new, old).is_clear
    assert clear <= 2  # one in forty is expected


# Processes


def test_a_step_that_overruns_is_stopped():
    with StepProcess() as process:
        assert process.call(max, 1, 2, limit=60) == 2
        started = time.monotonic()
        with pytest.raises(StoppedError):
            process.call(time.sleep, 300, limit=0.5)
        assert time.monotonic() - started < 60
        with pytest.raises(ZeroDivisionError, match="division"):
            process.call(divmod, 1, 0, limit=60)
        assert process.call(max, 1, 2, limit=60) == 2


# A training


def test_a_step_that_helps_is_kept(trained):
    training, _, reports, inside, mode = trained
    head = training.model["classify"]
    ladder = {step["step"]: step for step in head.ladder_}
    assert ladder["characters"]["kept"]
    assert ladder["characters"]["score"] > ladder["words"]["score"] + 0.2
    assert ladder["characters"]["seconds"] > 0
    assert "95 % interval +" in ladder["characters"]["note"]
    assert [step["step"] for step, _ in reports] == ["auto", "characters"]
    assert 600 > reports[0][1] > reports[1][1] > 0
    assert mode == 0o700
    assert {"auto.joblib", "characters.joblib", "key.json"} <= set(inside)
    assert list(training.model.named_steps) == ["features", "classify"]
    assert training.metrics["accuracy"] > training.metrics["baseline"]["accuracy"] + 0.2
    chosen = training.metrics["search"]["chosen"]
    assert chosen.startswith("vote of vectors and words with characters")
    assert head.held_out_proba().shape == (60, 2)


def test_the_saved_model_is_one_like_any_other(trained, tmp_path, capsys):
    training, folder, *_ = trained
    texts, _ = spelled(20, seed=1)
    expected = training.model.predict_proba(texts)
    for name in ("model.joblib", "model.skops"):
        assert load_model(folder / name).predict_proba(texts) == pytest.approx(expected, abs=1e-6)
    assert not (folder / STEPS).exists()
    facts = json.loads((folder / "model.json").read_text("utf-8"))
    assert facts["parameters"]["budget"] == 600
    assert "characters" in (folder / "report.html").read_text("utf-8")
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "labelled.csv"
    command = ["classify", "--model", folder, "--data", tmp_path / "new.csv", "--out", out]
    assert main([str(part) for part in [*command, "--no-cache"]]) == 0
    assert pd.read_csv(out)["proba_good"].to_numpy() == pytest.approx(expected[:, 1], abs=1e-5)
    from frozenbert.serve.service import load_service

    service = load_service(folder)
    answers = service.predict(texts)
    assert answers["proba_good"] == pytest.approx(expected[:, 1], abs=1e-5)


def test_it_can_be_exported(trained, tmp_path):
    pytest.importorskip("openvino")
    training, folder, *_ = trained
    texts, _ = spelled(20, seed=1)
    exported = load_model(export_model(folder, tmp_path / "runtime"))
    assert exported.predict_proba(texts) == pytest.approx(
        training.model.predict_proba(texts), abs=1e-3
    )


def test_it_can_be_fitted_again(trained):
    from sklearn.base import clone

    training, *_ = trained
    texts, labels = spelled(60, seed=2)
    again = clone(training.model).fit(texts, labels)
    assert again.score(*spelled(20, seed=3)) > 0.8


def test_other_test_rows_give_the_same_model(trained, tiny, tmp_path):
    training, *_ = trained
    other = ["nothing of the kind"] * 30, np.array(["bad", "good"] * 15)
    same = spend(tiny, tmp_path / "other", test=other).model
    texts, _ = spelled(20, seed=1)
    assert same.predict_proba(texts) == pytest.approx(training.model.predict_proba(texts), abs=1e-6)
    ladders = [
        [(s["step"], s["kept"]) for s in m["classify"].ladder_] for m in (same, training.model)
    ]
    assert ladders[0] == ladders[1]


def test_without_words_and_with_other_classes(tiny, tmp_path):
    texts, labels = spelled(90)
    three = np.array([*labels[:60], *["else"] * 30])
    rng = np.random.default_rng(0)
    texts[60:] = ["".join(rng.choice(list("klmnop"), 9)) for _ in range(30)]
    rows = rng.permutation(90)
    texts, three = [texts[i] for i in rows], three[rows]
    parts = (texts[:70], three[:70], texts[70:], three[70:])
    training = train(classifier(tiny), *parts, budget="10m", folder=tmp_path / "three")
    assert training.model.predict_proba(texts[:3]).shape == (3, 3)
    assert training.model["classify"].ladder_[-1]["score"] > 0.6
    alone = train(
        classifier(tiny, with_tfidf=False), *parts, budget="10m", folder=tmp_path / "alone"
    )
    step = next(s for s in alone.model["classify"].ladder_ if s["step"] == "characters")
    assert step["note"] == "it belongs to words, which are turned off"
    assert "embed" in alone.model.named_steps


def test_many_labels(tiny, tmp_path):
    texts, labels = spelled(80)
    flags = pd.DataFrame({"good": (labels == "good") + 0, "odd": (np.arange(80) % 3 == 0) + 0})
    training = train(
        classifier(tiny, multi_label=True), texts[:60], flags[:60], texts[60:], flags[60:],
        budget="10m", folder=tmp_path,
    )  # fmt: skip
    step = next(s for s in training.model["classify"].ladder_ if s["step"] == "characters")
    assert step["kept"]
    assert training.model.predict(texts[60:]).shape == (20, 2)
    save_training(training, tmp_path, FACTS)
    assert load_model(tmp_path / "model.skops").predict_proba(texts) == pytest.approx(
        training.model.predict_proba(texts), abs=1e-6
    )


# Steps that fail or take too long


@dataclass(frozen=True)
class Overrun(Characters):
    name: str = "overrun"
    expected: float = 0.0

    def sized(self, material: Material, seconds: float) -> tuple[Overrun, float]:
        return self, self.expected

    def run(self, material: Material) -> Member:
        time.sleep(600)
        return super().run(material)


@dataclass(frozen=True)
class Fails(Characters):
    name: str = "fails"

    def sized(self, material: Material, seconds: float) -> tuple[Fails, float]:
        raise OSError("no such thing")


def ladder_of(training):
    return {step["step"]: step for step in training.model["classify"].ladder_}


def test_steps_that_do_not_fit_are_left_out(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(spending, "CANDIDATES", (Overrun(expected=3600.0), Fails(), Characters()))
    with pytest.warns(BudgetWarning, match=r"the step 'fails' failed \(OSError: no such thing\)"):
        ladder = ladder_of(spend(tiny, tmp_path))
    assert ladder["overrun"]["score"] is None
    assert "it would take 1:00:00, and " in ladder["overrun"]["note"]
    assert ladder["fails"]["note"] == "no such thing"
    assert ladder["characters"]["kept"]
    assert not (tmp_path / STEPS / "overrun.joblib").exists()


def test_a_budget_that_is_over_is_said(tiny, tmp_path):
    with pytest.warns(BudgetWarning, match="the recipe auto alone took longer than the budget"):
        training = spend(tiny, tmp_path, budget=Deadline(1.0, time.time() - 1))
    assert "characters" not in ladder_of(training)


@pytest.mark.slow
def test_an_overrun_ends_with_the_budget(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(spending, "CANDIDATES", (Overrun(),))
    started = time.time()
    training = spend(tiny, tmp_path, budget=Deadline(120.0, started))
    assert "the time was up" in ladder_of(training)["overrun"]["note"]
    assert time.time() - started < 180


# Unlabelled texts


@dataclass(frozen=True)
class Sees(Characters):
    name: str = "sees"

    def why_not(self, material: Material) -> str | None:
        return " ".join(material.unlabelled)


def test_test_texts_are_removed_from_the_unlabelled_ones(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(spending, "CANDIDATES", (Sees(),))
    texts, _ = spelled(80)
    with pytest.warns(PoolWarning, match="2 of 3 unlabelled texts are removed from the pool"):
        training = spend(tiny, tmp_path, unlabelled=[texts[-1], "more", texts[-2]])
    assert ladder_of(training)["sees"]["note"] == "more"


def test_document_vectors_learn_from_unlabelled_texts(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "N_COMPONENTS", 2)  # fewer than there are words
    # A word of a test row is in no training row; beside which words it is, unlabelled texts tell.
    good, bad = "warm kind bright", "cold harsh dim"
    texts, y = [good, bad] * 20, np.array([1, 0] * 20)
    more = ["radiant warm bright", "radiant kind warm", "gloomy cold dim", "gloomy harsh"] * 5
    embed = classifier(tiny).named_steps["features"].transformer_list[0][1]["embed"]
    folds = Folds(2, shuffle=True, random_state=0)
    material = Material(texts, y, folds, None, embed, True, more, tmp_path)
    member = Documents().run(material)
    assert ((member.scores[:, 0] > 0) == y).all()
    found = member.transformer.transform(["radiant", "gloomy"])[:, 0]
    assert found[0] > 0 > found[1]
    without = Documents().run(replace(material, unlabelled=[]))
    blind = without.transformer.transform(["radiant", "gloomy"])[:, 0]
    assert blind[0] == pytest.approx(blind[1])


def test_a_model_with_document_vectors_is_saved_and_loaded(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(spending, "CANDIDATES", (Documents(),))
    monkeypatch.setattr(spending, "measure_gain", lambda *_: Gain(0.1, 0.1, 0.1))
    texts, _ = spelled(80)
    training = spend(tiny, tmp_path / "model")
    assert ladder_of(training)["document vectors"]["kept"]
    save_training(training, tmp_path / "model", FACTS)
    for name in ("model.joblib", "model.skops"):
        again = load_model(tmp_path / "model" / name)
        np.testing.assert_allclose(
            again.predict_proba(texts[-9:]), training.model.predict_proba(texts[-9:]), atol=1e-5
        )


# Wrong input


def test_what_a_budget_needs(tiny, tmp_path):
    plain = classifier(tiny, recipe="plain", cv=2)
    with pytest.raises(InputError, match=r"budget: needs a classifier of the recipe auto"):
        spend(tiny, tmp_path, model=plain)
    with pytest.raises(InputError, match=r"folder=None: name the folder for the steps"):
        spend(tiny, None)
    with pytest.raises(InputError, match=r"budget='5': a time above 0"):
        spend(tiny, tmp_path, budget="5")
    with pytest.raises(InputError, match=r"unlabelled: are for a budget"):
        spend(tiny, tmp_path, budget=None, unlabelled=["a text"])
    assert list(tmp_path.iterdir()) == []


def test_steps_of_another_training_are_refused(tiny, tmp_path):
    spend(tiny, tmp_path)
    with pytest.raises(InputError, match=r"contains the steps of another training"):
        spend(tiny, tmp_path, model=classifier(tiny, C=1.0))
    with pytest.raises(InputError, match=r"contains the steps of another training"):
        spend(tiny, tmp_path, n=60)
    with pytest.raises(InputError, match=r"contains the steps of another training"):
        spend(tiny, tmp_path, unlabelled=["a text"])
    again = []
    spend(tiny, tmp_path, budget="9m", on_step=lambda step, left: again.append(step["step"]))
    assert again == ["auto", "characters"]
    os.chmod(tmp_path / STEPS, 0o755)
    with pytest.raises(InputError, match=r"must be your own folder"):
        spend(tiny, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "15"], "--budget 15: a time above 0 with its unit: 90s, 15m, 2h or 1h30m."),
        (["--budget", "0m"], "--budget 0m: a time above 0"),
        (["--budget=-1h"], "--budget -1h: a time above 0"),
        (["--budget", "15m", "--recipe", "plain"], "--budget 15m: requires the recipe auto"),
        (["--unlabelled", "train.tsv"], "--unlabelled train.tsv: requires --budget."),
        (["--budget", "15m", "--unlabelled", "none.tsv"], "none.tsv"),
    ],
)
def test_wrong_options(options, message, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("train.tsv").write_text("a film\t1\n" * 8, encoding="utf-8")
    assert main(["train", "--data", "train.tsv", "--encoder", tiny, *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert os.listdir() == ["train.tsv"]


# Kills


def run_killed(tiny, folder, speed):
    return subprocess.Popen(
        [sys.executable, HERE / "killed_training.py", tiny, folder, speed],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def children(pid):
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(child) for child in found.stdout.split()]


@pytest.mark.slow
def test_a_killed_training_goes_on(tiny, tmp_path):
    if not Path("/proc").is_dir():
        pytest.skip("the test looks at processes in /proc")
    process = run_killed(tiny, tmp_path, "slow")
    until = time.monotonic() + 240
    while not (tmp_path / STEPS / "slow" / "began").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    workers = children(process.pid)
    assert workers
    os.kill(process.pid, signal.SIGKILL)
    first = process.communicate()[0].splitlines()
    assert [line.split()[0] for line in first] == ["auto", "characters"]
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.1)
    stored = tmp_path / STEPS / "characters.joblib"
    written = stored.stat().st_mtime_ns
    again = run_killed(tiny, tmp_path, "fast")
    second = again.communicate(timeout=240)[0].splitlines()
    assert again.returncode == 0
    assert second[:2] == first  # with the seconds that they took before the kill
    assert second[2].startswith("slow ")
    assert written
    model = load_model(tmp_path)
    assert model.score(*spelled(20, seed=1)) > 0.8
    assert not (tmp_path / STEPS).exists()


def test_folds_of_a_sample_are_those_of_the_rows():
    texts, labels = spelled(80)
    material = Material(texts, labels, Folds(2), None, None, True, [], Path())  # type: ignore[arg-type]
    part = material.sample(20)
    assert len(part.texts) == len(part.y) == 20
    assert set(part.texts) < set(texts)
    assert sorted(np.unique(part.y, return_counts=True)[1].tolist()) == [10, 10]


@pytest.mark.parametrize("step", [Characters(), Documents()])
def test_time_is_estimated_with_many_classes(step):
    """A sample that lacks a class in one of its folds cannot be trained on."""
    labels = np.arange(260) % 26
    texts = [f"{chr(ord('a') + label) * 3} is a word" for label in labels]
    embed = DistilBertVectorizer()
    groups = PredefinedSplit(np.arange(260) // 52)
    for folds in (Folds(5), groups):
        rows = Material(texts, labels, folds, None, embed, True, [], Path())
        part = rows.sample(40)
        assert np.unique(part.y, return_counts=True)[1].min() == 5
        assert len(part.texts) < 200
        assert step.run(part).scores.shape == (len(part.texts), 26)


def test_a_class_that_a_fold_lacks_has_no_chance_there():
    texts = ["one", "two", "one", "two", "six", "six"]
    labels = np.array(["x", "y", "x", "y", "z", "z"])
    groups = PredefinedSplit(np.array([0, 0, 1, 1, 1, 1]))
    rows = Material(texts, labels, groups, None, DistilBertVectorizer(), True, [], Path())
    member = Documents().run(rows)
    assert member.scores.shape == (6, 3)
    assert (member.scores[4:, 2] < -20).all()
