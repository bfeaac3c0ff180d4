"""The ways from texts to vectors that are compared.

A way is a function that loads an encoder's folder and returns another, which takes the texts and
returns their vectors. Ours are in `OURS`: to add one, add a line.

Nothing but the standard library and NumPy is imported before a way is loaded: each way runs in a
process of its own, some in another environment, and should pay for its own imports alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Encode = Callable[[Sequence[str]], np.ndarray]

BATCH = 32


@dataclass(frozen=True)
class Job:
    """What a way is to load: an encoder, as `inputs.make_encoder` has written it."""

    folder: str
    pooling: str  # "cls" or "mean"
    max_length: int
    texts: Sequence[str]  # all of them: the warm cache is filled with their vectors


@dataclass(frozen=True)
class Way:
    """A row of the table."""

    title: str
    load: Callable[..., Encode]
    pooling: str | None = None  # None is what the encoder declares
    environment: str = "bench"  # or "onnx", the one with sentence-transformers' ONNX backend
    needs_export: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)  # handed on to `load`


def load_tutorial(job: Job) -> Encode:
    """All texts padded to the longest of them, as one batch, and the first position's vectors."""
    import torch

    tokenizer, model = _load_plainly(job)

    def encode(texts: Sequence[str]) -> np.ndarray:
        ids = [
            tokenizer.encode(
                text, add_special_tokens=True, truncation=True, max_length=job.max_length
            )
            for text in texts
        ]
        longest = max(map(len, ids))
        padded = np.array([row + [0] * (longest - len(row)) for row in ids])
        mask = np.where(padded != 0, 1, 0)
        with torch.no_grad():
            states = model(torch.tensor(padded), attention_mask=torch.tensor(mask))
        return states[0][:, 0, :].numpy()

    return encode


def load_plain(job: Job) -> Encode:
    """Plain `AutoModel`, one text at a time: what all others are compared with.

    Both poolings side by side, the first position's vector and then the mean.
    """
    import torch

    tokenizer, model = _load_plainly(job)

    def encode(texts: Sequence[str]) -> np.ndarray:
        rows = []
        with torch.inference_mode():
            for text in texts:
                inputs = tokenizer(
                    text, truncation=True, max_length=job.max_length, return_tensors="pt"
                )
                states = model(**inputs).last_hidden_state[0]
                rows.append(torch.cat([states[0], states.mean(0)]).numpy())
        return np.stack(rows)

    return encode


def load_pipeline(job: Job) -> Encode:
    """Hugging Face's pipeline. Tensors, not its lists of numbers, which take even longer."""
    from transformers import pipeline

    pipe = pipeline("feature-extraction", model=job.folder, tokenizer=job.folder, device="cpu")
    cut = {"truncation": True, "max_length": job.max_length}

    def encode(texts: Sequence[str]) -> np.ndarray:
        states = pipe(list(texts), batch_size=BATCH, return_tensors=True, tokenize_kwargs=cut)
        return np.stack([text[0].reshape(-1, text.shape[-1])[0].numpy() for text in states])

    return encode


def load_sentence_transformers(job: Job, graph: str | None = None) -> Encode:
    """sentence-transformers on torch, or on one of the graphs that `worker.export` writes."""
    from sentence_transformers import SentenceTransformer

    if graph is None:
        model = SentenceTransformer(job.folder, device="cpu")
    else:
        model = SentenceTransformer(
            exported(job.folder),
            device="cpu",
            backend="onnx",
            model_kwargs={"file_name": graph, "provider": "CPUExecutionProvider"},
        )
    model.max_seq_length = job.max_length

    def encode(texts: Sequence[str]) -> np.ndarray:
        return model.encode(list(texts), batch_size=BATCH, show_progress_bar=False)

    return encode


def load_skrub(job: Job) -> Encode:
    """The encoder of skrub, without its PCA and the one factor that it divides all by."""
    import pandas as pd
    from skrub import LLMEncoder

    encoder = LLMEncoder(job.folder, n_components=None, batch_size=BATCH, device="cpu")
    encoder.fit_transform(pd.Series(job.texts[:2], name="text"))

    def encode(texts: Sequence[str]) -> np.ndarray:
        vectors = encoder.transform(pd.Series(texts, name="text")).to_numpy()
        return vectors * encoder.scaling_factor_

    return encode


def load_embetter(job: Job) -> Encode:
    """The `SentenceEncoder` of embetter, which has no batch size to set: 32 here too."""
    from embetter.text import SentenceEncoder

    encoder = SentenceEncoder(job.folder)
    return lambda texts: encoder.transform(list(texts))


def load_fastembed(job: Job) -> Encode:
    """fastembed on the float32 graph of sentence-transformers' export."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model="local/encoder",
        pooling=PoolingType[job.pooling.upper()],
        normalization=False,
        sources=ModelSource(url="file:///none"),  # never asked: the files are there
        dim=_width(job.folder),
        model_file=FLOAT32_GRAPH,
    )
    model = TextEmbedding("local/encoder", specific_model_path=exported(job.folder))
    return lambda texts: np.stack(list(model.embed(list(texts), batch_size=BATCH)))


def load_ours(job: Job, **parameters: Any) -> Encode:
    """`DistilBertVectorizer` without a cache."""
    from frozenbert import DistilBertVectorizer

    settings = {"cache_dir": None, "progress": False, "max_length": job.max_length}
    vectorizer = DistilBertVectorizer(job.folder, **settings | parameters)
    vectorizer.fit(list(job.texts[:2]))
    return lambda texts: vectorizer.transform(list(texts))


def load_ours_warm(job: Job, **parameters: Any) -> Encode:
    """`DistilBertVectorizer` when the cache holds every vector already."""
    # Beside the encoder, and removed with it.
    folder = tempfile.mkdtemp(prefix="cache-", dir=Path(job.folder).parent)
    encode = load_ours(job, cache_dir=folder, **parameters)
    encode(job.texts)
    return encode


FLOAT32_GRAPH = "onnx/model.onnx"
INT8_GRAPH = "onnx/model_qint8_avx512_vnni.onnx"


def exported(folder: str) -> str:
    """Where the graphs of an encoder's folder are."""
    return f"{folder}-onnx"


# The two that the others are set in relation to.
TUTORIAL = "tutorial"
SENTENCE_TRANSFORMERS = "st"

RIVALS = {
    TUTORIAL: Way("the tutorial: all padded, one batch", load_tutorial, pooling="cls"),
    "pipeline": Way('transformers pipeline("feature-extraction")', load_pipeline, pooling="cls"),
    SENTENCE_TRANSFORMERS: Way("sentence-transformers, torch", load_sentence_transformers),
    "st-onnx": Way(
        "sentence-transformers, ONNX float32",
        load_sentence_transformers,
        environment="onnx",
        needs_export=True,
        parameters={"graph": FLOAT32_GRAPH},
    ),
    "st-onnx-int8": Way(
        "sentence-transformers, ONNX int8",
        load_sentence_transformers,
        environment="onnx",
        needs_export=True,
        parameters={"graph": INT8_GRAPH},
    ),
    "skrub": Way("skrub LLMEncoder", load_skrub),
    "embetter": Way("embetter SentenceEncoder", load_embetter),
    "fastembed": Way("fastembed, ONNX float32", load_fastembed, needs_export=True),
}

# The part of the name behind "ours-", and the parameters of the vectorizer. Without `pooling`,
# that which the encoder declares, as the others have it.
OURS: list[tuple[str, dict[str, Any]]] = [
    ("cls", {"pooling": "cls"}),
    ("mean", {"pooling": "mean"}),
    ("openvino", {"backend": "openvino"}),
    ("bfloat16", {"precision": "bfloat16"}),
    ("int8", {"precision": "int8"}),
]
WARM = ("warm", {})


def title_of_ours(parameters: dict[str, Any], prefix: str = "frozenbert") -> str:
    """Say how a row of ours differs from the default."""
    said = (f"{k}={v}" for k, v in parameters.items() if k != "pooling")
    return ", ".join([prefix, *said])


WAYS: dict[str, Way] = RIVALS | {
    f"ours-{name}": Way(title_of_ours(p), load_ours, pooling=p.get("pooling"), parameters=p)
    for name, p in OURS
}
WAYS[f"ours-{WARM[0]}"] = Way(
    title_of_ours(WARM[1], "frozenbert, warm cache"),
    load_ours_warm,
    pooling=WARM[1].get("pooling"),
    parameters=WARM[1],
)
PLAIN = Way("plain AutoModel", load_plain)


def _load_plainly(job: Job) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.folder)
    return tokenizer, AutoModel.from_pretrained(job.folder).eval()


def _width(folder: str) -> int:
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(folder).hidden_size)
