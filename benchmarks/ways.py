"""The libraries that are compared.

Each has a function that loads an encoder's folder and returns another function, from texts to
vectors. The rows of frozenbert are in `OURS`: to add one, add a line.

Only the standard library and NumPy are imported here: each library runs in a process of its own,
some in another environment, and pays for its own imports only.
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
    """The encoder to load, as `inputs.make_encoder` has written it."""

    folder: str
    pooling: str  # "cls" or "mean"
    max_length: int
    texts: Sequence[str]  # all of them, to fill the warm cache


@dataclass(frozen=True)
class Way:
    """A row of the table."""

    title: str
    load: Callable[..., Encode]
    pooling: str | None = None  # None: as the encoder declares
    environment: str = "bench"  # or one of `EXPORTERS`
    export: str | None = None  # the environment of `EXPORTERS` that makes its graph
    parameters: dict[str, Any] = field(default_factory=dict)  # passed to `load`


def load_tutorial(job: Job) -> Encode:
    """Load the tutorial's way: all texts padded to the longest, one batch, [CLS] vectors."""
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
    """Load the reference: plain `AutoModel`, one text at a time.

    It returns both poolings side by side: first [CLS], then the mean.
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
    """Load Hugging Face's pipeline, with tensors: its lists of numbers take even longer."""
    from transformers import pipeline

    pipe = pipeline("feature-extraction", model=job.folder, tokenizer=job.folder, device="cpu")
    cut = {"truncation": True, "max_length": job.max_length}

    def encode(texts: Sequence[str]) -> np.ndarray:
        states = pipe(list(texts), batch_size=BATCH, return_tensors=True, tokenize_kwargs=cut)
        return np.stack([text[0].reshape(-1, text.shape[-1])[0].numpy() for text in states])

    return encode


def load_sentence_transformers(
    job: Job, backend: str = "torch", graph: str | None = None, **options: Any
) -> Encode:
    """Load sentence-transformers on torch, or on one of the graphs that `exports.py` writes."""
    from sentence_transformers import SentenceTransformer

    folder = job.folder
    if graph is not None:
        folder, options = exported(folder, backend), options | {"file_name": graph}
    model = SentenceTransformer(folder, device="cpu", backend=backend, model_kwargs=options)
    model.max_seq_length = job.max_length

    def encode(texts: Sequence[str]) -> np.ndarray:
        return model.encode(list(texts), batch_size=BATCH, show_progress_bar=False)

    return encode


def load_compiled(job: Job) -> Encode:
    """Load sentence-transformers on torch, with the encoder compiled for all lengths at once."""
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(job.folder, device="cpu")
    model.max_seq_length = job.max_length
    model[0].auto_model = torch.compile(model[0].auto_model, dynamic=True)
    return lambda texts: model.encode(list(texts), batch_size=BATCH, show_progress_bar=False)


def load_skrub(job: Job) -> Encode:
    """Load skrub's encoder without its PCA, and undo its one scaling factor."""
    import pandas as pd
    from skrub import LLMEncoder

    encoder = LLMEncoder(job.folder, n_components=None, batch_size=BATCH, device="cpu")
    encoder.fit_transform(pd.Series(job.texts[:2], name="text"))

    def encode(texts: Sequence[str]) -> np.ndarray:
        vectors = encoder.transform(pd.Series(texts, name="text")).to_numpy()
        return vectors * encoder.scaling_factor_

    return encode


def load_embetter(job: Job) -> Encode:
    """Load embetter's `SentenceEncoder`; its batch size is fixed at 32."""
    from embetter.text import SentenceEncoder

    encoder = SentenceEncoder(job.folder)
    return lambda texts: encoder.transform(list(texts))


def load_fastembed(job: Job) -> Encode:
    """Load fastembed on the float32 graph that sentence-transformers exports."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model="local/encoder",
        pooling=PoolingType[job.pooling.upper()],
        normalization=False,
        sources=ModelSource(url="file:///none"),  # never downloaded: the files exist
        dim=_width(job.folder),
        model_file=FLOAT32_GRAPH,
    )
    model = TextEmbedding("local/encoder", specific_model_path=exported(job.folder, "onnx"))
    return lambda texts: np.stack(list(model.embed(list(texts), batch_size=BATCH)))


def load_ours(job: Job, **parameters: Any) -> Encode:
    """Load `DistilBertVectorizer` without a cache."""
    from frozenbert import DistilBertVectorizer

    settings = {"cache_dir": None, "progress": False, "max_length": job.max_length}
    vectorizer = DistilBertVectorizer(job.folder, **settings | parameters)
    vectorizer.fit(list(job.texts[:2]))
    return lambda texts: vectorizer.transform(list(texts))


def load_ours_warm(job: Job, **parameters: Any) -> Encode:
    """Load `DistilBertVectorizer` with every vector in its cache."""
    # In the temporary folder of the encoder, and removed with it.
    folder = tempfile.mkdtemp(prefix="cache-", dir=Path(job.folder).parent)
    encode = load_ours(job, cache_dir=folder, **parameters)
    encode(job.texts)
    return encode


FLOAT32_GRAPH = "onnx/model.onnx"
INT8_GRAPH = "onnx/model_qint8_avx512_vnni.onnx"
OPENVINO_GRAPH = "openvino/openvino_model.xml"
OPENVINO_INT8_GRAPH = "openvino/openvino_model_qint8_quantized.xml"

# The environments with sentence-transformers' other backends, named for the backend.
EXPORTERS = ("onnx", "openvino")


def exported(folder: str, backend: str) -> str:
    """Return the folder of an encoder's graphs for one of sentence-transformers' backends."""
    return f"{folder}-{backend}"


def _graph(title: str, backend: str, graph: str, **options: Any) -> Way:
    return Way(
        f"sentence-transformers, {title}",
        load_sentence_transformers,
        environment=backend,
        export=backend,
        parameters={"backend": backend, "graph": graph} | options,
    )


# The two references of the relative speeds.
TUTORIAL = "tutorial"
SENTENCE_TRANSFORMERS = "st"

RIVALS = {
    TUTORIAL: Way("the tutorial: all padded, one batch", load_tutorial, pooling="cls"),
    "pipeline": Way('transformers pipeline("feature-extraction")', load_pipeline, pooling="cls"),
    SENTENCE_TRANSFORMERS: Way("sentence-transformers, torch", load_sentence_transformers),
    "st-compile": Way("sentence-transformers, torch.compile", load_compiled),
    "st-bfloat16": Way(
        "sentence-transformers, torch bfloat16",
        load_sentence_transformers,
        parameters={"dtype": "bfloat16"},
    ),
    "st-onnx": _graph("ONNX float32", "onnx", FLOAT32_GRAPH, provider="CPUExecutionProvider"),
    "st-onnx-int8": _graph("ONNX int8", "onnx", INT8_GRAPH, provider="CPUExecutionProvider"),
    "st-openvino": _graph("OpenVINO", "openvino", OPENVINO_GRAPH),
    "st-openvino-f32": _graph(
        "OpenVINO float32",
        "openvino",
        OPENVINO_GRAPH,
        ov_config={"INFERENCE_PRECISION_HINT": "f32"},
    ),
    "st-openvino-int8": _graph("OpenVINO static int8", "openvino", OPENVINO_INT8_GRAPH),
    "skrub": Way("skrub LLMEncoder", load_skrub),
    "embetter": Way("embetter SentenceEncoder", load_embetter),
    "fastembed": Way("fastembed, ONNX float32", load_fastembed, export="onnx"),
}

# The part of the name after "ours-", and the vectorizer's parameters. Without `pooling`, the
# encoder's declared pooling is used, as in the other libraries.
OURS: list[tuple[str, dict[str, Any]]] = [
    ("cls", {"pooling": "cls"}),
    ("mean", {"pooling": "mean"}),
    ("openvino", {"backend": "openvino"}),
    ("bfloat16", {"precision": "bfloat16"}),
    ("int8", {"precision": "int8"}),
]
WARM = ("warm", {})


def title_of_ours(parameters: dict[str, Any], prefix: str = "frozenbert") -> str:
    """Return the title of a row: its parameters that are not the default."""
    shown = (f"{k}={v}" for k, v in parameters.items() if k != "pooling")
    return ", ".join([prefix, *shown])


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
