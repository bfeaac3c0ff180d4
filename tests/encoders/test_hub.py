"""Short names of encoders on the hub, and the prompts that encoders ask for."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozenbert import DistilBertVectorizer, load_model, make_text_classifier, save_model
from frozenbert.encoders.hub import KNOWN_ENCODERS, find_known, on_hub
from frozenbert.encoders.sources import PACKAGED_ENCODER, find_encoder
from frozenbert.errors import EncoderNotFoundError, HubUnreachableError, InputError

TEXTS = ["a good film", "a dull plot"]
PROMPTS_FILE = "config_sentence_transformers.json"
E5 = KNOWN_ENCODERS["e5-small-v2"]


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def snapshot(cache: Path, tiny: str, name: str, commit: str, *, main: bool = False) -> Path:
    """Put a tiny encoder where the hub's client has that of a name and a commit."""
    model = cache / f"models--{name.replace('/', '--')}"
    folder = model / "snapshots" / commit
    shutil.copytree(tiny, folder)
    (model / "refs").mkdir(exist_ok=True)
    if main:
        (model / "refs" / "main").write_text(commit)
    return folder


def declare(folder: Path, **content: Any) -> None:
    (folder / PROMPTS_FILE).write_text(json.dumps(content))


def vectors(name: str | Path, texts: list[str] = TEXTS, **parameters: Any) -> np.ndarray:
    embed = DistilBertVectorizer(str(name), **{"cache_dir": None, **parameters})
    return embed.fit_transform(texts)


def test_short_names_are_pinned_and_differ_from_those_on_the_hub() -> None:
    assert len(KNOWN_ENCODERS) >= 5
    for short, known in KNOWN_ENCODERS.items():
        assert re.fullmatch("[0-9a-f]{40}", known.revision)
        assert "/" not in short
        assert on_hub(short) == (known.name, known.revision)
        assert on_hub(short, "main") == (known.name, "main")
        assert on_hub(known.name) == (known.name, None)
        assert find_known(short) is find_known(known.name) is known
    assert len({known.revision for known in KNOWN_ENCODERS.values()}) == len(KNOWN_ENCODERS)
    assert {s for s, known in KNOWN_ENCODERS.items() if known.prompt} == {
        "e5-small-v2",
        "multilingual-e5-small",
    }


@pytest.mark.parametrize("short", KNOWN_ENCODERS)
def test_a_short_name_is_its_commit_on_the_hub(short: str, hub_cache: Path, tiny: str) -> None:
    known = KNOWN_ENCODERS[short]
    snapshot(hub_cache, tiny, known.name, "1" * 40, main=True)
    with pytest.raises(HubUnreachableError, match=f"revision '{known.revision}'"):
        find_encoder(short)
    snapshot(hub_cache, tiny, known.name, known.revision)
    files = find_encoder(short)
    found = files.name, files.source, files.revision
    assert found == (known.name, "hub", known.revision)
    assert find_encoder(short, "main").revision == "1" * 40
    assert find_encoder(known.name).revision == "1" * 40
    embed = DistilBertVectorizer(short, cache_dir=None).fit(TEXTS)
    assert (embed.encoder_name_, embed.encoder_revision_) == (known.name, known.revision)
    assert embed.prompt_ == known.prompt


def test_the_prompt_of_a_known_encoder(hub_cache: Path, tiny: str, tmp_path: Path) -> None:
    snapshot(hub_cache, tiny, E5.name, E5.revision, main=True)
    cache = tmp_path / "vectors"
    prompted = vectors("e5-small-v2", cache_dir=cache)
    plain = vectors("e5-small-v2", cache_dir=cache, prompt="")
    expected = vectors(tiny, [f"query: {text}" for text in TEXTS])
    np.testing.assert_allclose(prompted, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(plain, vectors(tiny), rtol=0, atol=1e-5)
    np.testing.assert_allclose(vectors(E5.name), expected, rtol=0, atol=1e-5)
    assert np.abs(prompted - plain).max() > 0.1
    # From the cache, too, which has both.
    assert (vectors("e5-small-v2", cache_dir=cache) == prompted).all()
    assert (vectors("e5-small-v2", cache_dir=cache, prompt="") == plain).all()


def test_a_fitted_vectorizer_stays_with_its_commit(
    hub_cache: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if a later version of this package pins another one."""
    snapshot(hub_cache, tiny, E5.name, E5.revision)
    embed = DistilBertVectorizer("e5-small-v2", cache_dir=None).fit(TEXTS)
    before = embed.transform(TEXTS)
    later = dataclasses.replace(E5, revision="2" * 40, prompt="other: ")
    monkeypatch.setitem(KNOWN_ENCODERS, "e5-small-v2", later)
    embed = pickle.loads(pickle.dumps(embed))
    np.testing.assert_allclose(embed.transform(TEXTS), before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["model.joblib", "model.skops"])
def test_a_saved_model_keeps_the_prompt(
    hub_cache: Path, tiny: str, tmp_path: Path, form: str
) -> None:
    snapshot(hub_cache, tiny, E5.name, E5.revision)
    model = make_text_classifier("e5-small-v2", recipe="plain", C=0.1, cv=2, cache_dir=None)
    model.set_params(embed__normalize=True, embed__truncate_dim=8)
    model.fit(TEXTS * 4, ["good", "bad"] * 4)
    save_model(model, tmp_path / "model.joblib")
    loaded = load_model(tmp_path / form)
    assert (loaded["embed"].prompt_, loaded["embed"].n_features_out_) == ("query: ", 8)
    found, expected = loaded["embed"].transform(TEXTS), model["embed"].transform(TEXTS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=0, atol=1e-5)


def test_a_folder_declares_its_default_prompt(tiny: str, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    shutil.copytree(tiny, folder)
    prompts = {"query": "query: ", "passage": "passage: "}
    declare(folder, prompts=prompts, default_prompt_name=None)
    embed = DistilBertVectorizer(str(folder), cache_dir=None).fit(TEXTS)
    assert embed.prompt_ == "", "prompts that are no default are ignored"
    declare(folder, prompts=prompts, default_prompt_name="passage")
    assert embed.fit(TEXTS).prompt_ == "passage: "
    expected = vectors(tiny, [f"passage: {text}" for text in TEXTS])
    np.testing.assert_allclose(embed.transform(TEXTS), expected, rtol=0, atol=1e-5)
    assert embed.set_params(prompt="").fit(TEXTS).prompt_ == ""
    assert embed.set_params(prompt="film: ").fit(TEXTS).prompt_ == "film: "


@pytest.mark.parametrize("prompts", [{}, {"query": 3}, ["query"], None])
def test_a_default_prompt_that_does_not_exist(tiny: str, tmp_path: Path, prompts: Any) -> None:
    folder = tmp_path / "some"
    shutil.copytree(tiny, folder)
    declare(folder, prompts=prompts, default_prompt_name="query")
    expected = "prompt: encoder '.*some' declares the default prompt 'query', and no such prompt"
    with pytest.raises(InputError, match=expected):
        vectors(folder)
    assert vectors(folder, prompt="").shape == (2, 32)


def test_the_prompt_of_a_snapshot_comes_before_that_of_its_name(hub_cache: Path, tiny: str) -> None:
    folder = snapshot(hub_cache, tiny, E5.name, E5.revision)
    declare(folder, prompts={"own": "own: "}, default_prompt_name="own")
    assert DistilBertVectorizer("e5-small-v2", cache_dir=None).fit(TEXTS).prompt_ == "own: "


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("all-miniLM-L6-v2", PACKAGED_ENCODER),
        ("ALL-MINILM-L6-V2", PACKAGED_ENCODER),
        ("sentence-transformers/All-MiniLM-L6-v2", f"sentence-transformers/{PACKAGED_ENCODER}"),
        ("E5-small-v2", "e5-small-v2"),
        ("baai/bge-small-en-v1.5", "BAAI/bge-small-en-v1.5"),
        ("DistilBERT-base-uncased", "distilbert-base-uncased"),
    ],
)
def test_a_name_in_another_case(name: str, meant: str) -> None:
    with pytest.raises(EncoderNotFoundError, match=rf"did you mean '{re.escape(meant)}'\?"):
        find_encoder(name)


def test_a_folder_may_have_a_known_name_in_another_case(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny, tmp_path / "all-minilm-l6-v2")
    monkeypatch.chdir(tmp_path)
    assert find_encoder("all-minilm-l6-v2").source == "folder"


def test_the_documentation_lists_the_short_names() -> None:
    page = Path(__file__).parents[2] / "docs" / "guide" / "parameters.md"
    table = page.read_text(encoding="utf-8").partition("## Encoders by a short name")[2]
    rows = [line for line in table.partition("## Prompts")[0].splitlines() if line[:3] == "| `"]
    expected = [
        f"| `{short}` | `{known.name}` | {known.megabytes} MB | {known.licence} "
        f"| {known.languages} |{f' `{known.prompt}` ' if known.prompt else ' '}|"
        for short, known in KNOWN_ENCODERS.items()
    ]
    assert rows == expected
