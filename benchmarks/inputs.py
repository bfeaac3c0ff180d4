"""Encoders and texts for the comparison."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frozenbert.encoders.sources import PACKAGED_ENCODER, find_encoder, quiet_transformers
from frozenbert.errors import InputError
from frozenbert.tables.reading import read_table

ENCODERS = ("distilbert", "minilm")
TEXTS = ("sentences", "reviews")

MAX_LENGTH = 512
SEED = 0

# Mean number of word pieces and the shape of their distribution (gamma), for the generator.
LENGTHS = {"sentences": (22, 4.5), "reviews": (250, 3.0)}

# What a tokenizer file may declare of truncation and padding. It is removed: all libraries get the
# same settings.
CUTTING = ("max_length", "padding", "truncation_strategy", "stride", "pad_to_multiple_of")


@dataclass(frozen=True)
class EncoderFolder:
    """An encoder's folder that every library can load."""

    name: str
    folder: Path
    pooling: str
    max_length: int


def make_encoder(name: str, work: Path) -> EncoderFolder:
    """Write an encoder into a folder of `work`, without normalisation and fixed padding.

    Parameters
    ----------
    name : str
        "distilbert" (the shape of DistilBERT-base, random weights), "minilm" (the packaged
        all-MiniLM-L6-v2), or the folder of another encoder.
    work : pathlib.Path
        Where to put it.
    """
    packaged = find_encoder(PACKAGED_ENCODER) if name in ENCODERS else None
    source = packaged or find_encoder(name)
    target = work / Path(name).name
    if target.resolve() == Path(source.folder).resolve():
        raise InputError(f"{target}: is the encoder itself; another folder for its copy.")
    if name == "distilbert":
        if not target.exists():
            _write_distilbert(target, source.folder)
        pooling, max_length = "cls", MAX_LENGTH
    else:
        if not target.exists():
            shutil.copytree(source.folder, target)
        pooling = (source.fetch_declared_pooling() or ("cls",))[0]
        max_length = min(MAX_LENGTH, source.max_length)
    if pooling not in ("cls", "mean"):
        raise InputError(f"encoder {name!r} declares the pooling {pooling!r}: only cls and mean.")
    _declare(target, pooling, max_length)
    return EncoderFolder(target.name, target, pooling, max_length)


def _write_distilbert(target: Path, tokenizer: Path) -> None:
    import torch
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(SEED)
    with quiet_transformers():
        DistilBertModel(DistilBertConfig()).save_pretrained(target)
    shutil.copy(tokenizer / "tokenizer.json", target)


def _declare(folder: Path, pooling: str, max_length: int) -> None:
    """Write the settings that sentence-transformers and tokenizers read, the same for all."""
    tokenizer = _read(folder / "tokenizer.json") | {"truncation": None, "padding": None}
    _write(folder / "tokenizer.json", tokenizer)
    config = _read(folder / "config.json")
    path = folder / "tokenizer_config.json"
    declared = _read(path) if path.exists() else {}
    others = {k: v for k, v in declared.items() if k not in CUTTING}
    special = {k: f"[{k.removesuffix('_token').upper()}]" for k in _SPECIAL_TOKENS}
    inputs = ["input_ids", "attention_mask"]
    if config["model_type"] == "bert":
        inputs.insert(1, "token_type_ids")
    _write(
        path,
        special
        | others
        | {
            # A class that every version of transformers has; it reads tokenizer.json.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_length,
            "model_input_names": inputs,
        },
    )
    modules = (("", "Transformer"), ("1_Pooling", "Pooling"))
    _write(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ],
    )
    _write(
        folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False}
    )
    (folder / "1_Pooling").mkdir(exist_ok=True)
    width = config.get("hidden_size") or config["dim"]
    modes = {"cls_token": pooling == "cls", "mean_tokens": pooling == "mean"}
    _write(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": width} | {f"pooling_mode_{k}": v for k, v in modes.items()},
    )


_SPECIAL_TOKENS = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def make_texts(kind: str, number: int) -> tuple[list[str], str]:
    """Return distinct texts, "sentences" or "reviews", and the name of their source.

    They are the first texts of a file under `$FROZENBERT_TEXTS`. Missing ones are generated.
    """
    folder = os.environ.get("FROZENBERT_TEXTS")
    found: list[str] = []
    source = "generated"
    if folder:
        if kind == "sentences":
            frame = read_table(Path(folder) / "sst2" / "train.tsv", header=False).frame
            source = "SST-2"
        else:
            frame = read_table(Path(folder) / "imdb" / "train.csv.gz", header=True).frame
            source = "IMDB"
        found = list(dict.fromkeys(frame.iloc[:, 0]))[:number]
    if folder and len(found) < number:
        source += f" ({len(found)}), then generated"
    return found + generate(kind, number - len(found)), source


def generate(kind: str, number: int) -> list[str]:
    """Generate texts of whole words from the packaged encoder's vocabulary."""
    vocabulary = find_encoder(PACKAGED_ENCODER).folder / "vocab.txt"
    pieces = vocabulary.read_text(encoding="utf-8").splitlines()
    words = [p for p in pieces if p.isascii() and p.isalpha() and len(p) > 2]
    random = np.random.default_rng(SEED)
    mean, shape = LENGTHS[kind]
    lengths = np.maximum(2, random.gamma(shape, mean / shape, size=number).round().astype(int))
    # Zipf's law, roughly: a vocabulary lists its words in the order of their frequency.
    odds = 1 / np.arange(10, 10 + len(words))
    drawn = random.choice(len(words), size=int(lengths.sum()), p=odds / odds.sum())
    ends = lengths.cumsum()
    return [
        " ".join(words[i] for i in drawn[end - n : end])
        for n, end in zip(lengths, ends, strict=True)
    ]


def count_tokens(texts: list[str], encoder: EncoderFolder) -> list[int]:
    """Return each text's number of tokens after truncation, special tokens included."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(encoder.folder / "tokenizer.json"))
    lengths = (len(encoding) for encoding in tokenizer.encode_batch(texts))
    return [min(length, encoder.max_length) for length in lengths]


def several(value: str) -> list[str]:
    """Parse names between commas."""
    return list(dict.fromkeys(value.split(",")))


def known(legal: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a parser of names between commas that accepts only these."""

    def names(value: str) -> list[str]:
        found = several(value)
        if unknown := [name for name in found if name not in legal]:
            raise ValueError(unknown)
        return found

    return names


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
