"""Tiny encoders for tests, and the places of real encoders and texts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# Set before the hub's client is imported: no test may use the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Folders and files whose tests compare computed numbers: `make test-cpus` runs them with the
# instruction sets of several CPUs.
NUMERIC = (
    "encoders",
    "heads",
    "vectors",
    "test_embed.py",
    "test_estimators.py",
    "test_long_text.py",
    "test_persistence.py",
)
# OpenVINO chooses instructions by the real CPU, and its kernels fail if oneDNN may not use them.
NOT_NUMERIC = ("openvino", "quantization")  # in the name of a file or test

WORDS = (
    "a an the this film movie plot actor scene is was not very so and but or of in to "
    "good great fine fun warm funny stirring bad dull poor slow cold boring hollow "
    "##s ##ly ##ing ##ed ! ? . , ' - 0 1 2 3 4 5 6 7 8 9 ##0 ##1 ##2 ##3 ##4 ##5 ##6 ##7 ##8 ##9"
)
TINY = {"dim": 32, "n_heads": 4, "n_layers": 3, "hidden_dim": 64, "max_position_embeddings": 40}


def make_tokenizer(folder: Path, model_max_length: int = 40) -> None:
    """Write a small WordPiece tokenizer, lower-casing like DistilBERT's."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {w: i for i, w in enumerate(dict.fromkeys([*special, *letters, *WORDS.split()]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=model_max_length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)


def make_encoder(folder: Path, seed: int = 0, **config: int) -> Path:
    """Write a DistilBERT with random weights, which depend on the seed, into a folder."""
    import torch
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(seed)
    settings = {**TINY, **config}
    model = DistilBertModel(DistilBertConfig(vocab_size=140, **settings))
    folder.mkdir(parents=True, exist_ok=True)
    # Larger weights, because random ones give all texts nearly the same vector.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    model.save_pretrained(folder)
    make_tokenizer(folder, settings["max_position_embeddings"])
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in `NUMERIC`."""
    tests = Path(__file__).parent
    for item in items:
        if not item.path.is_relative_to(tests) or any(word in item.nodeid for word in NOT_NUMERIC):
            continue
        if item.path.relative_to(tests).parts[0] in NUMERIC:
            item.add_marker(pytest.mark.numeric)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder with a tiny DistilBERT: 3 layers, 32 columns, 40 positions."""
    return str(make_encoder(tmp_path_factory.mktemp("encoders") / "tiny"))


@pytest.fixture
def _heard_hangups() -> Iterator[None]:
    """Let SIGHUP end the processes that a test starts, also where `nohup` runs the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's caches and encoders."""
    monkeypatch.setenv("FROZENBERT_CACHE", str(tmp_path / "frozenbert-cache"))
    monkeypatch.delenv("FROZENBERT_ENCODERS", raising=False)


@pytest.fixture
def packaged() -> str:
    """Name of the encoder with trained weights; in CI a missing one is an error."""
    from frozenbert.encoders.sources import PACKAGED_ENCODER, find_encoder
    from frozenbert.errors import EncoderNotFoundError

    try:
        find_encoder(PACKAGED_ENCODER)
    except EncoderNotFoundError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return PACKAGED_ENCODER


@pytest.fixture
def real_texts() -> Path:
    """Folder of real labelled texts, named by $FROZENBERT_TEXTS."""
    folder = os.environ.get("FROZENBERT_TEXTS")
    if not folder:
        pytest.skip("$FROZENBERT_TEXTS names no folder of real texts")
    return Path(folder)
