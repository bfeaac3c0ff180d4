"""Fine-tuning: an encoder comes out, whole, the same each time, also after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from frozenbert import DistilBertVectorizer, InputError
from frozenbert.cli import main as cli
from frozenbert.encoders.encoder import load_encoder
from frozenbert.encoders.sources import find_encoder
from frozenbert.errors import CheckpointWarning
from frozenbert.finetune.checkpoints import TrainingFolder
from frozenbert.finetune.finetuning import finetune
from frozenbert.finetune.recipe import Recipe
from frozenbert.finetune.targets import Targets

pytest.importorskip("accelerate", reason="fine-tuning needs accelerate")

GOOD = ["good film", "great fun", "a warm and funny film", "fine acting", "very stirring"]
BAD = ["bad film", "dull and slow", "a cold and boring plot", "poor acting", "very hollow"]
TEXTS, LABELS = (GOOD + BAD) * 4, (["good"] * 5 + ["bad"] * 5) * 4
FAST = Recipe(epochs=3, lr=1e-4, head_lr=1e-2, batch_size=8)


def tune(tiny, out, recipe=FAST, labels=LABELS, valid=None, **settings):
    valid = valid or (GOOD + BAD, LABELS[:10])
    return finetune(find_encoder(tiny), TEXTS, labels, *valid, out, recipe, **settings)


def vectors(folder, texts=GOOD + BAD, **settings):
    return DistilBertVectorizer(str(folder), progress=False, **settings).fit_transform(texts)


def assert_alike(history, expected):
    assert [epoch["epoch"] for epoch in history] == [epoch["epoch"] for epoch in expected]
    for epoch, other in zip(history, expected, strict=True):
        assert epoch == pytest.approx(other, abs=1e-5)


def test_it_learns_and_what_comes_out_is_an_encoder(tiny, tmp_path):
    seen, recipe = [], replace(FAST, epochs=10, lr=1e-3)
    done = tune(tiny, tmp_path / "mine", recipe, on_epoch=seen.append)
    assert [epoch["epoch"] for epoch in done.history] == [*range(1, 11)]
    assert seen == done.history
    assert done.history[-1]["train_loss"] < done.history[0]["train_loss"]
    assert done.metrics["accuracy"] == max(epoch["accuracy"] for epoch in done.history) >= 0.9
    there = {p.name for p in (tmp_path / "mine").iterdir()}
    assert there >= {"config.json", "model.safetensors", "tokenizer.json", "finetune.json"}
    assert "losses.png" in there
    assert not TrainingFolder(tmp_path / "mine").path.exists()
    facts = json.loads((tmp_path / "mine" / "finetune.json").read_text())
    assert facts["base"]["name"] == tiny
    assert facts["labels"] == ["bad", "good"]
    assert facts["metrics"] == done.metrics
    # Both classes stand apart more than they did.
    before, after = vectors(tiny), vectors(tmp_path / "mine")

    def apart(X):
        return np.linalg.norm(X[:5].mean(0) - X[5:].mean(0)) / X.std(axis=0).mean()

    assert apart(after) > apart(before)


def test_vectors_of_before_and_after_never_mix(tiny, tmp_path):
    tune(tiny, tmp_path / "mine")
    cold = vectors(tmp_path / "mine", cache_dir=None)
    before = vectors(tiny)
    np.testing.assert_allclose(vectors(tmp_path / "mine"), cold, atol=1e-5)
    assert not np.allclose(before, cold)
    # The loaded encoder, which vectorizers share, was not trained.
    np.testing.assert_allclose(vectors(tiny, cache_dir=None), before, atol=1e-5)


def test_a_seed_makes_it_repeatable(tiny, tmp_path):
    first = tune(tiny, tmp_path / "a")
    second = tune(tiny, tmp_path / "b")
    other = tune(tiny, tmp_path / "c", replace(FAST, seed=1))
    assert_alike(first.history, second.history)
    assert first.history[-1]["loss"] != pytest.approx(other.history[-1]["loss"], abs=1e-4)
    np.testing.assert_allclose(vectors(tmp_path / "a"), vectors(tmp_path / "b"), atol=1e-4)


def test_the_pooling_is_declared(tiny, tmp_path):
    tune(tiny, tmp_path / "mine", Recipe(epochs=1, pooling=("cls", "mean")))
    vectorizer = DistilBertVectorizer(str(tmp_path / "mine"), progress=False).fit(["a"])
    assert vectorizer.pooling_ == ("cls", "mean")


def test_what_is_frozen_stays(tiny, tmp_path):
    from safetensors.numpy import load_file

    tune(tiny, tmp_path / "mine", Recipe(epochs=1, lr=1e-2, freeze_layers=2))
    before, after = (
        load_file(find_encoder(str(name)).folder / "model.safetensors")
        for name in (tiny, tmp_path / "mine")
    )
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("transformer.layer.2.") for name in changed)


def test_an_encoder_without_gradients_is_trained(tiny, tmp_path):
    """An export to OpenVINO turns the gradients of the loaded encoder off, which others share."""
    load_encoder(find_encoder(tiny)).model.requires_grad_(False)
    tune(tiny, tmp_path / "mine", Recipe(epochs=1, lr=1e-2))
    assert not np.allclose(vectors(tiny), vectors(tmp_path / "mine"), atol=1e-3)


def test_the_best_epoch_is_kept_and_training_ends_early(tiny, tmp_path):
    # A rate at which the weights explode: later epochs are no better.
    recipe = Recipe(epochs=8, lr=1e-3, batch_size=8, early_stopping=2)
    done = tune(tiny, tmp_path / "mine", recipe)
    values = [epoch["accuracy"] for epoch in done.history]
    assert done.metrics == done.history[int(np.argmax(values))]
    assert len(done.history) == done.metrics["epoch"] + 2 < 8


def test_many_labels_and_probabilities(tiny, tmp_path):
    good = np.array([label == "good" for label in LABELS]).astype(int)
    flags = pd.DataFrame({"good": good, "film": ["film" in text for text in TEXTS]}).astype(int)
    done = tune(tiny, tmp_path / "flags", labels=flags, valid=(TEXTS[:10], flags[:10]))
    assert done.history[-1]["train_loss"] < done.history[0]["train_loss"]
    p = pd.DataFrame({"bad": 0.9 - 0.8 * good, "good": 0.1 + 0.8 * good})
    done = tune(tiny, tmp_path / "soft", labels=p, valid=(TEXTS[:10], p[:10]))
    # It cannot be under the entropy of what it learns from.
    assert 0.325 < done.history[-1]["loss"] < done.history[0]["train_loss"]
    with pytest.raises(InputError, match="probabilities are from 0 to 1, and their sum"):
        tune(tiny, tmp_path / "none", labels=p * 2, valid=(TEXTS[:10], p[:10]))


def test_what_was_done_is_not_done_again(tiny, tmp_path):
    tune(tiny, tmp_path / "mine")
    stamp = (tmp_path / "mine" / "model.safetensors").stat().st_mtime_ns
    again = tune(tiny, tmp_path / "mine")
    assert again.skipped
    assert (tmp_path / "mine" / "model.safetensors").stat().st_mtime_ns == stamp
    assert not tune(tiny, tmp_path / "mine", Recipe(epochs=1)).skipped  # another one replaces it
    assert json.loads((tmp_path / "mine" / "finetune.json").read_text())["recipe"]["epochs"] == 1


def test_a_folder_of_somebody_else_is_left_alone(tiny, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"mine: contains 'thesis.txt' and is not an encoder"):
        tune(tiny, tmp_path / "mine")
    (tmp_path / "mine" / "thesis.txt").unlink()
    tune(tiny, tmp_path / "mine")
    (tmp_path / "mine" / "model.joblib").write_text("put there by its owner")
    with pytest.raises(InputError, match=r"mine: contains 'model.joblib' and is not an encoder"):
        tune(tiny, tmp_path / "mine", replace(FAST, seed=1))
    assert (tmp_path / "mine" / "model.joblib").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: already exists and is not an encoder"):
        tune(tiny, tmp_path / "file")
    assert {p.name for p in tmp_path.iterdir()} == {"mine", "file"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs=0: a whole number of at least 1"),
        ({"lr": -1.0}, "lr=-1.0: a number above 0"),
        ({"dropout": 1.0}, "dropout=1.0: from 0 to below 1"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1: 0 or above"),
        ({"freeze_layers": 4}, "freeze_layers=4: 0 to 3, the number of layers"),
        ({"max_length": 41}, "max_length=41: encoder .* takes at most 40 tokens"),
        ({"pooling": "sum"}, "pooling='sum': must be 'auto', 'cls', 'mean' or 'max'"),
        ({"pooling": ("mean", "mean")}, r"pooling=\('mean', 'mean'\): must be 'auto'"),
        ({"device": "tpu"}, "device='tpu': 'cpu', 'cuda', or None"),
    ],
)
def test_values_that_are_not_legal(tiny, tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        tune(tiny, tmp_path / "mine", Recipe(**settings))
    assert not list(tmp_path.iterdir())


def stopped_after(tiny, out, epochs):
    def stop(epoch):
        if epoch["epoch"] == epochs:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(tiny, out, on_epoch=stop)
    return sorted(folder.name for folder in TrainingFolder(out).path.glob("checkpoint-*"))


def test_what_was_begun_is_lost_to_no_mistake(tiny, tmp_path):
    kept = stopped_after(tiny, tmp_path / "mine", 2)
    assert kept
    with pytest.raises(InputError, match="takes at most 40 tokens"):
        tune(tiny, tmp_path / "mine", replace(FAST, max_length=99))
    work = TrainingFolder(tmp_path / "mine").path
    assert sorted(folder.name for folder in work.glob("checkpoint-*")) == kept
    with pytest.warns(CheckpointWarning, match="of another training .* are discarded"):
        tune(tiny, tmp_path / "mine", replace(FAST, epochs=1))


def test_a_folder_of_checkpoints_that_is_none(tiny, tmp_path):
    work = TrainingFolder(tmp_path / "mine").path
    work.mkdir()
    (work / "precious").write_text("")
    with pytest.raises(InputError, match="contains other files: move it"):
        tune(tiny, tmp_path / "mine")
    assert (work / "precious").exists()


def test_two_trainings_for_one_folder(tiny, tmp_path):
    def again(_):
        with pytest.raises(InputError, match="mine: another process is training an encoder for"):
            tune(tiny, tmp_path / "mine")

    tune(tiny, tmp_path / "mine", replace(FAST, epochs=1), on_epoch=again)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_training_that_diverges_leaves_what_is_there(tiny, tmp_path):
    tune(tiny, tmp_path / "mine")
    before = vectors(tmp_path / "mine", cache_dir=None)
    with pytest.raises(InputError, match=r"lr=1e\+20: the training diverged"):
        tune(tiny, tmp_path / "mine", replace(FAST, lr=1e20))
    np.testing.assert_allclose(vectors(tmp_path / "mine", cache_dir=None), before, atol=1e-5)


def test_what_is_written_are_the_best_epoch_s_weights(tiny, tmp_path, monkeypatch):
    from safetensors.numpy import load_file

    figures = iter([0.2, 0.9, 0.3, 0.4])
    monkeypatch.setattr(
        Targets, "score", lambda *_: dict.fromkeys(("accuracy", "macro_f1"), next(figures))
    )
    seen = {}

    def keep(epoch):
        # Those of an epoch are written after its figures are told.
        for folder in TrainingFolder(tmp_path / "mine").path.glob("checkpoint-*"):
            seen[folder.name] = load_file(folder / "model.safetensors")

    done = tune(tiny, tmp_path / "mine", replace(FAST, epochs=4), on_epoch=keep)
    assert done.metrics["epoch"] == 2
    written = load_file(tmp_path / "mine" / "model.safetensors")
    for step, same in (("checkpoint-10", True), ("checkpoint-15", False)):
        saved = seen[step]["encoder.transformer.layer.0.attention.q_lin.weight"]
        assert np.array_equal(written["transformer.layer.0.attention.q_lin.weight"], saved) == same


def test_labels_that_do_not_go_together(tiny, tmp_path):
    flags = pd.DataFrame({"a": [1, 0] * 20, "b": [0] * 40})
    valid = (TEXTS[:2], pd.DataFrame({"a": [1, 0], "b": [0, 1]}))
    with pytest.raises(InputError, match="labels: the label 'b' has no training text"):
        tune(tiny, tmp_path / "mine", labels=flags, valid=valid)
    with pytest.raises(InputError, match=r"valid_labels: the columns are \['b', 'a'\], and those"):
        tune(tiny, tmp_path / "mine", labels=flags, valid=(TEXTS[:2], valid[1][["b", "a"]]))
    with pytest.raises(InputError, match="labels: one column only"):
        tune(tiny, tmp_path / "mine", labels=flags[["a"]], valid=(TEXTS[:2], valid[1][["a"]]))
    with pytest.raises(InputError, match="all training texts have the class 'good'"):
        tune(tiny, tmp_path / "mine", labels=["good"] * 40, valid=(["a"], ["good"]))


def test_a_label_that_only_the_validation_rows_have(tiny, tmp_path):
    with pytest.raises(InputError, match="valid_labels: the class 'fair' has no training text"):
        tune(tiny, tmp_path / "mine", valid=(["so so"], ["fair"]))


def test_a_label_for_each_text(tiny, tmp_path):
    with pytest.raises(InputError, match="40 texts and 39 labels: one each"):
        tune(tiny, tmp_path / "mine", labels=LABELS[:39])


def test_no_room_says_what_to_do(tiny, tmp_path, monkeypatch):
    import torch

    def no_room(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", no_room)
    says = (
        r"batch_size=8: memory does not suffice .* lower it \(and raise "
        r"gradient_accumulation_steps by the same factor"
    )
    with pytest.raises(InputError, match=says):
        tune(tiny, tmp_path / "mine")


def test_a_checkpoint_cut_short_is_not_gone_on_from(tiny, tmp_path):
    expected = tune(tiny, tmp_path / "whole")
    seen = []

    def stop(epoch):
        seen.append(epoch)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(tiny, tmp_path / "mine", on_epoch=stop)
    work = TrainingFolder(tmp_path / "mine").path
    last = max(work.glob("checkpoint-*"), key=lambda f: int(f.name[11:]))
    (last / "trainer_state.json").write_text('{"epo')
    again = []
    done = tune(tiny, tmp_path / "mine", on_epoch=again.append)
    assert [epoch["epoch"] for epoch in again] == [2, 3]
    assert_alike(done.history, expected.history)
    np.testing.assert_allclose(vectors(tmp_path / "mine"), vectors(tmp_path / "whole"), atol=1e-4)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "train.csv"
    pd.DataFrame({"text": TEXTS, "label": LABELS}).to_csv(path, index=False)
    return path


def test_the_command(tiny, table, tmp_path, capsys):
    arguments = ["--data", str(table), "--model", tiny, "--out", str(tmp_path / "mine")]
    arguments += ["--epochs", "2", "--lr", "1e-3", "--clean", "--batch-size", "8"]
    assert cli.main(["finetune", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "4 rows, one of ten" in printed
    assert "epoch 2      loss 0." in printed
    assert f"--test OTHER_ROWS --encoder {tmp_path / 'mine'} --clean" in printed
    assert cli.main(["finetune", *arguments]) == 0
    assert "the same training was done already" in capsys.readouterr().out
    model = ["--model", str(tmp_path / "mine"), "--out", str(tmp_path / "model"), "--no-cache"]
    assert (
        cli.main(["train", "--recipe=plain", "--data", str(table), *model, "--cv", "2", "--clean"])
        == 0
    )
    # Nine of ten rows have been trained on, and the texts come several times.
    assert "fine-tuned on 10 of the 10 test rows" in capsys.readouterr().err
    sidecar = json.loads((tmp_path / "model" / "model.json").read_text())
    assert sidecar["test"]["n_trained_on"] == 10
    others = tmp_path / "others.csv"
    others.write_text("text,label\na fine plot,good\na slow plot,bad\n")
    test = ["--test", str(others), "--cv", "2", "--clean"]
    assert cli.main(["train", "--recipe=plain", "--data", str(table), *model, *test]) == 0
    assert "fine-tuned on" not in capsys.readouterr().err


def test_the_command_on_probabilities(tiny, tmp_path, capsys):
    path = tmp_path / "soft.csv"
    p = np.where(np.array(LABELS) == "good", 0.875, 0.125)
    pd.DataFrame({"text": TEXTS, "p": p}).to_csv(path, index=False)
    arguments = ["--data", str(path), "--model", tiny, "--out", str(tmp_path / "mine")]
    arguments += ["--soft-label-column", "p", "--epochs", "1"]
    assert cli.main(["finetune", *arguments]) == 0
    facts = json.loads((tmp_path / "mine" / "finetune.json").read_text())
    assert (facts["kind"], facts["labels"]) == ("probabilities", ["not p", "p"])
    capsys.readouterr()
    assert cli.main(["finetune", *arguments, "--label-column", "p"]) == 2
    assert "--soft-label-column: replaces the labels" in capsys.readouterr().err
    pd.DataFrame({"text": TEXTS, "p": [*p[:-1], 1.5]}).to_csv(path, index=False)
    assert cli.main(["finetune", *arguments]) == 2
    assert "line 41, column 'p': '1.5' is no probability" in capsys.readouterr().err


def test_the_command_and_a_label_that_only_the_validation_file_has(tiny, table, tmp_path, capsys):
    valid = tmp_path / "valid.csv"
    pd.DataFrame({"text": ["good", "fair"], "label": ["good", "fair"]}).to_csv(valid, index=False)
    arguments = ["--data", str(table), "--valid", str(valid), "--model", tiny]
    assert cli.main(["finetune", *arguments, "--out", str(tmp_path / "mine")]) == 2
    assert "valid.csv, line 3: the label 'fair' does not occur in" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


@pytest.mark.slow
def test_a_killed_training_goes_on(tiny, table, tmp_path):
    out = tmp_path / "mine"
    run = "import sys; from frozenbert.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", run, "finetune", "--data", str(table), "--model", tiny]
    command += ["--batch-size", "2"]
    command += ["--epochs", "6", "--lr", "1e-4"]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True)
    process = subprocess.Popen([*command, "--out", str(out)])
    work, deadline = TrainingFolder(out).path, time.monotonic() + 240
    seen: set[str] = set()
    while len(seen) < 2:  # the first is then complete
        seen |= {state.parent.name for state in work.glob("checkpoint-*/trainer_state.json")}
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    done = subprocess.run([*command, "--out", str(out)], check=True, capture_output=True, text=True)
    assert "epoch 1 " not in done.stdout
    assert "epoch 6 " in done.stdout
    assert not work.exists()
    # A resumed training sums in another order on some CPUs.
    np.testing.assert_allclose(vectors(out), vectors(tmp_path / "whole"), atol=1e-4)
