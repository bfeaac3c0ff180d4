"""The tokenizer alone: no weights, one object for all that use the same encoder."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import make_encoder

from frozenbert.encoders import tokenizing
from frozenbert.encoders.encoder import load_encoder
from frozenbert.encoders.sources import find_encoder
from frozenbert.encoders.tokenizing import TextTokenizer, load_tokenizer
from frozenbert.errors import EncoderNotFoundError, InputError

TEXTS = ["a good film", "", "the plot is dull; the actors are not", "good film " * 40]


def test_no_weights_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = find_encoder(str(make_encoder(tmp_path / "encoder", seed=3)))
    expected = [load_encoder(files, "cpu").tokenizer.split(text, 9) for text in TEXTS]

    def no_weights(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("transformers.AutoModel.from_pretrained", no_weights)
    tokenizing._load_once.cache_clear()
    tokenizer = load_tokenizer(files)
    for text, (pieces, n_tokens) in zip(TEXTS, expected, strict=True):
        found, found_n_tokens = tokenizer.split(text, 9)
        assert found_n_tokens == n_tokens
        np.testing.assert_array_equal(found, pieces)


def test_the_encoder_shares_the_tokenizer(tmp_path: Path) -> None:
    files = find_encoder(str(make_encoder(tmp_path / "encoder", seed=4)))
    tokenizer = load_tokenizer(files)
    assert load_encoder(files, "cpu").tokenizer is tokenizer
    assert load_tokenizer(find_encoder(str(tmp_path / "encoder"))) is tokenizer


def test_threads_load_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    files = find_encoder(str(make_encoder(tmp_path / "encoder", seed=5)))
    load, loads = AutoTokenizer.from_pretrained, []

    def counted(*arguments: object, **options: object) -> object:
        loads.append(arguments)
        return load(*arguments, **options)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", counted)
    found: list[TextTokenizer] = []
    threads = [
        threading.Thread(target=lambda: found.append(load_tokenizer(files))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(map(id, found))) == len(loads) == 1


def test_the_length_is_that_of_the_whole_text(tiny: str) -> None:
    tokenizer = load_tokenizer(find_encoder(tiny))
    (whole,), n_tokens = tokenizer.split(TEXTS[3], 1000)
    (cut,), n_of_cut = tokenizer.split(TEXTS[3], 9)
    windows, n_of_windows = tokenizer.split(TEXTS[3], 9, "windows")
    assert len(whole) == n_tokens == n_of_cut == n_of_windows == 82
    assert [len(cut), *map(len, windows)] == [9] * (1 + len(windows))
    assert cut.tolist() == [*whole[:8].tolist(), whole[-1]]


def test_it_is_stored_as_json(tiny: str) -> None:
    tokenizer = load_tokenizer(find_encoder(tiny))
    again = TextTokenizer.from_json(tokenizer.to_json(), tokenizer.pad_token_id)
    for text in TEXTS:
        np.testing.assert_array_equal(again.split(text, 9)[0], tokenizer.split(text, 9)[0])


def test_one_written_in_python_is_not_stored(tmp_path: Path) -> None:
    from transformers import ByT5Tokenizer

    tokenizer = TextTokenizer(ByT5Tokenizer(), pad_token_id=0)
    (ids,), n_tokens = tokenizer.split("a film", 4)
    assert (len(ids), n_tokens, ids[-1]) == (4, 7, 1)
    with pytest.raises(InputError, match=r"store_weights=True: .* written in Python"):
        tokenizer.to_json()


def test_a_damaged_tokenizer(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path / "broken")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(EncoderNotFoundError, match=r"the tokenizer in .*broken cannot be loaded"):
        load_tokenizer(find_encoder(str(folder)))
