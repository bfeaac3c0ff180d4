"""How commands end: exit codes, errors, warnings, help."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from frozenbert import __version__
from frozenbert.cli.main import COMMANDS, main
from frozenbert.encoders.encoder import Encoder
from frozenbert.encoders.hub import KNOWN_ENCODERS

from .conftest import put, rows, tree


@pytest.mark.parametrize("debug", [False, True])
def test_other_failures(run, monkeypatch, tiny, debug):
    def broken(*_, **__):
        raise RuntimeError("out of\nluck")

    monkeypatch.setattr("frozenbert.training.train", broken)
    options = ["--data", "train.tsv", "--encoder", tiny] + ["--debug"] * debug
    code, _, err = run("train", *options)
    assert code == 1
    *before, last = err.splitlines()
    if debug:
        assert before[0].startswith("Traceback")
        assert last.endswith(": RuntimeError: out of luck")
    else:
        assert before == []
        assert last.endswith(": RuntimeError: out of luck (--debug shows where)")


def test_wrong_input_with_debug(run, tiny):
    code, _, err = run("train", "--data", "none.tsv", "--encoder", tiny, "--debug")
    assert code == 2
    assert err.startswith("Traceback")
    assert err.endswith(": --data none.tsv: there is no such file.\n")


@pytest.mark.parametrize(("options", "kept"), [([], True), (["--no-cache"], False)])
def test_ctrl_c(run, monkeypatch, tiny, options, kept):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Encoder, "encode", interrupted)
    before = {*tree(), "artifacts", "artifacts/cache"}
    code, _, err = run("train", "--data", "train.tsv", "--encoder", tiny, *options)
    assert code == 130
    assert re.fullmatch(r"\S+( \S+)?: interrupted(; vectors computed so far are kept)?\.\n", err)
    assert ("kept" in err) is kept
    assert not Path("artifacts/train").exists()
    assert {path for path in tree() if "/vectors" not in path} <= before


@pytest.mark.parametrize("command", COMMANDS)
def test_help(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: frozenbert {command} [-h]")
    assert "--debug" in out or command == "cache"


def test_commands_share_their_options(run):
    shared = {
        "--encoder --revision --pooling --max-length --device --offline": "train embed fewshot "
        "finetune serve",
        "--layers --precision --backend --long-text --prompt --normalize --truncate-dim": "train "
        "embed fewshot serve",
        "--cache-dir --no-cache": "train embed fewshot",
        "--text-column --label-column --header --no-header": "train classify embed fewshot "
        "finetune",
        "--model --encoder-path --device --offline --cache-dir": "classify serve",
        "--data --limit --out": "train embed fewshot finetune",
        "--seed --clean": "train fewshot finetune",
    }
    helps = {command: run(command, "--help")[1] for command in COMMANDS}
    usage = {command: set(re.findall(r"--[\w-]+", text)) for command, text in helps.items()}
    for options, commands in shared.items():
        for command in commands.split():
            assert set(options.split()) <= usage[command]
    assert not {"--revision", "--pooling", "--layers", "--precision"} & usage["classify"]
    # One option has one help text, and so one default, in all commands.
    for option in ("epochs", "batch-size", "seed", "max-length", "encoder", "limit"):
        pattern = rf"\n  --{option} [^\n]*\n?((?:(?! +--)[^\n]+\n)*)"
        texts = {
            " ".join(found[0].split())
            for command in COMMANDS
            if (found := re.search(pattern, helps[command]))
        }
        assert len(texts) == 1, texts


def test_the_help_describes_the_encoders_with_a_short_name(run):
    text = " ".join(run("embed", "--help")[1].split()).replace("- ", "-")
    for name, known in KNOWN_ENCODERS.items():
        prompt = ", prompt 'query: '" if known.prompt else ""
        described = f"({known.megabytes} MB, {known.licence}, {known.languages}{prompt})"
        assert f"{name} {described}" in text
    assert "not measured here" in text


def test_documented_defaults_of_fine_tuning_are_those_of_the_library(run):
    from frozenbert.finetune.recipe import Recipe

    text = run("finetune", "--help")[1].partition("fine-tuning (")[2]
    for name in ("epochs", "batch_size", "lr", "head_lr", "dropout", "weight_decay"):
        said = re.search(rf"--{name.replace('_', '-')} [A-Z]+\s[^-]*default:\s+([\d.e-]+)", text)
        assert float(said[1].rstrip(".")) == getattr(Recipe(), name)


def test_main(run, capsys, monkeypatch, trained):
    assert run("--version") == (0, f"{__version__}\n", "")
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for line in (
        "train .*Train a model of texts",
        "classify .*Label new",
        "embed .*Write the vectors",
    ):
        assert re.search(line, out)
    for arguments, says in (
        (["learn"], "invalid choice: 'learn'"),
        ([], "the following arguments are required: COMMAND"),
        (["--verbose", "train"], "required: COMMAND|unrecognized arguments: --verbose"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert re.fullmatch(rf"frozenbert: .*({says}).*\n", err)
    code, out, _ = run("classify", "--model", trained, "--text", "a film")
    assert (code, out[:11]) == (0, "prediction\t")
    monkeypatch.setattr("sys.argv", ["frozenbert", "classify"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.startswith("frozenbert classify: ")


def test_labels_that_the_terminal_cannot_show(monkeypatch, trained, tiny):
    import io
    import sys

    put("train.csv", rows(labels=("好", "ñ")))
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert (
        main(
            [
                "train",
                "--recipe=plain",
                "--data",
                "train.csv",
                "--encoder",
                tiny,
                "--C",
                "0.1",
                "--cv",
                "2",
            ]
        )
        == 0
    )
    written = stdout.buffer.getvalue().decode("latin-1")
    assert "\\u597d: 18" in written
    assert "ñ: 18" in written


def test_completion_knows_all_commands_and_options(monkeypatch):
    """What argcomplete gets, which asks by this variable of the environment."""
    parsers = []
    library = types.ModuleType("argcomplete")
    library.autocomplete = parsers.append
    monkeypatch.setitem(sys.modules, "argcomplete", library)
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    with pytest.raises(SystemExit):
        main(["--version"])
    (parser,) = parsers
    asked = parser.parse_args(["classify", "--model", "m", "--data", "-", "--format", "tsv"])
    assert (asked.command, asked.format, asked.max_stdin) == ("classify", "tsv", 2_000_000_000)
    for command in COMMANDS:
        with pytest.raises(SystemExit) as end:
            parser.parse_args([command, "--help"])
        assert end.value.code == 0
