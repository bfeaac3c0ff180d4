"""Export the graphs of sentence-transformers' ONNX and OpenVINO backends, each by its own means."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ways import OPENVINO_INT8_GRAPH, exported


def export(folder: str, backend: str, calibration: str) -> None:
    """Write an encoder's graphs for one backend: as it is exported, and in int8.

    Parameters
    ----------
    folder : str
        The encoder.
    backend : str
        "onnx" or "openvino".
    calibration : str
        File of texts (JSON) that fix the ranges of the static int8 graph.
    """
    from sentence_transformers import SentenceTransformer

    options = {"export": True} | ({"provider": "CPUExecutionProvider"} if backend == "onnx" else {})
    model = SentenceTransformer(folder, device="cpu", backend=backend, model_kwargs=options)
    target = Path(f"{exported(folder, backend)}.part")
    model.save_pretrained(str(target))
    if backend == "onnx":
        from sentence_transformers import export_dynamic_quantized_onnx_model

        export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(target))
    else:
        texts = json.loads(Path(calibration).read_text(encoding="utf-8"))
        _export_static_int8(model, texts, target)
    # Whole or not at all: a later run takes what is there.
    target.rename(exported(folder, backend))


def _export_static_int8(model: Any, texts: list[str], target: Path) -> None:
    """Quantize as `export_static_quantized_openvino_model`, which asks the hub for its texts."""
    from datasets import Dataset
    from optimum.intel import OVConfig, OVQuantizationConfig, OVQuantizer

    rows = [dict(model.tokenizer(text, truncation=True)) for text in texts]
    quantizer = OVQuantizer.from_pretrained(model[0].auto_model)
    config = OVConfig(quantization_config=OVQuantizationConfig(num_samples=len(rows)))
    with tempfile.TemporaryDirectory() as scratch:
        quantizer.quantize(
            calibration_dataset=Dataset.from_list(rows), save_directory=scratch, ov_config=config
        )
        (graph,) = Path(scratch).rglob("openvino_model.xml")
        destination = target / OPENVINO_INT8_GRAPH
        for suffix in (".xml", ".bin"):
            shutil.copy(graph.with_suffix(suffix), destination.with_suffix(suffix))
