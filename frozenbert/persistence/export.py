"""Export a saved model with its encoder, for machines without torch."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from pathlib import Path

from sklearn.base import BaseEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline

from ..embed import DistilBertVectorizer
from ..encoders.encoder import Encoder
from ..encoders.exported import ENCODER_KEY, TOKENIZER_KEY
from ..encoders.openvino.exporting import load_graph
from ..encoders.openvino.graph import import_openvino
from ..errors import InputError
from ..heads.columns.joint import JointModel
from ..heads.selection import predict_from_arrays
from ..reports.sidecar import describe_encoder, read_sidecar, versions, write_json
from ..utils.extras import require
from ..utils.files import check_can_write, sha256_of_file
from ..utils.steps import find_step
from .models import SAFE, joblib_hash, load_model, safest
from .portable import portable_copy
from .runtime import (
    FORMAT,
    GRAPH,
    HEAD,
    MOST_ENCODERS,
    RUNTIME,
    WEIGHTS,
    encoder_kind,
    encoder_names,
    is_export,
    load_export,
    vectorizers_in,
)
from .safe_form import safe_form

__all__ = ["export_model"]


def export_model(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    encoder_path: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Path:
    """Export a saved model with its encoder: one folder that needs neither torch nor transformers.

    The folder contains the model's safe form, the tokenizer, the encoder as a graph of
    OpenVINO in the model's precision, and `runtime.json` with sizes and hashes of these. Of a
    model with several encoders, or settings of one, it contains a graph for each.
    It contains no texts, vectors, report or absolute path; but a model with words contains the
    vocabulary of its training texts. `load_model` loads it, with `frozenbert[runtime]` alone.

    Parameters
    ----------
    path : str or path-like
        A saved model, as for `load_model`, with a safe form.
    out : str or path-like
        The folder to write. An earlier export is replaced whole.
    encoder_path : str or path-like, optional
        Where the model's encoder is now. Default: where the model says.
    local_files_only : bool, default=False
        Whether never to ask the hub.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    InputError
        If the model has no safe form, or more than nine encoders; it reads other columns; an
        encoder cannot be exported; its tokenizer is written in Python; or `out` exists and is
        no export.
    MissingLibraryError
        If OpenVINO or torch is not installed.

    See Also
    --------
    load_model : Load the folder.

    Examples
    --------
    >>> import tempfile
    >>> from frozenbert import load_model, make_text_classifier, save_model
    >>> folder = Path(tempfile.mkdtemp())
    >>> model = make_text_classifier("all-MiniLM-L6-v2", recipe="plain", cache_dir=None, cv=2)
    >>> texts = ["a stirring film", "what a delight", "a dull film", "what a bore"]
    >>> _ = save_model(model.fit(texts, [1, 1, 0, 0]), folder / "reviews" / "model.joblib")
    >>> exported = export_model(folder / "reviews", folder / "reviews-runtime")
    >>> sorted(file.name for file in exported.iterdir())
    ['graph.bin', 'graph.xml', 'head.skops', 'runtime.json', 'tokenizer.json']
    >>> load_model(exported).predict(["so boring"]).tolist()
    [0]
    """
    source, out = safest(path), Path(out)
    if source.name == HEAD:
        raise InputError(f"{source.parent}: is an export already; copy the folder.")
    model = load_model(source)
    if joint := find_step(model, JointModel):
        raise InputError(
            f"{source}: reads the columns {', '.join(joint.reader_.names)}, which takes pandas and "
            f"skrub; an export needs neither. Use the model itself, with frozenbert[columns]."
        )
    if source.suffix != SAFE:
        raise InputError(
            f"{source}: has no safe form ({source.with_suffix(SAFE).name}), and nothing else is "
            f"exported. Models of this package's and scikit-learn's classes have one: save the "
            f"model again."
        )
    _check_target(out)
    require("openvino", "torch", "transformers", purpose="an export")
    embeds = _one_of_each_kind(source, vectorizers_in(model), encoder_path, local_files_only)
    _write_export(out, source, model, embeds)
    return out


def _write_export(
    out: Path, source: Path, model: BaseEstimator, embeds: list[DistilBertVectorizer]
) -> None:
    """Write the folder under another name, load it as a check, and rename it."""
    head = portable_copy(model)
    head = _without_searches(head)
    predict_from_arrays(head)
    for part in vectorizers_in(head):
        part._prepare_to_export()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = out.with_name(f".{out.name}.{secrets.token_hex(6)}.tmp")
        fresh.mkdir()
        try:
            for i, embed in enumerate(embeds):
                _write_encoder(fresh, encoder_names(i), embed)
            safe = safe_form(head, joblib_hash(source) or "")
            if safe is None:
                raise InputError(f"{source}: its safe form cannot be written again.")
            (fresh / HEAD).write_bytes(safe)
            write_json(_facts(fresh, source, model, embeds), fresh / RUNTIME)
            _flush(fresh)
            load_export(fresh)
            _replace(out, fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{out}: cannot be written ({error.strerror or error}).") from error


def _without_searches(model: BaseEstimator) -> BaseEstimator:
    """Replace a search for parameters, as a step or the whole model, by the best estimator.

    Its scores are no part of a prediction, and its code need not be imported.
    """
    if isinstance(model, BaseSearchCV):
        return _without_searches(model.best_estimator_)
    if isinstance(model, Pipeline):
        model.steps = [(name, _without_searches(step)) for name, step in model.steps]
    return model


def _check_target(out: Path) -> None:
    check_can_write(out)
    if os.path.lexists(out) and not (out.is_dir() and not out.is_symlink() and is_export(out)):
        raise InputError(
            "exists, and is no earlier export; name another folder.", parameter="out", value=out
        )


def _one_of_each_kind(
    source: Path,
    vectorizers: list[DistilBertVectorizer],
    encoder_path: str | os.PathLike[str] | None,
    local_files_only: bool,
) -> list[DistilBertVectorizer]:
    """Return a model's vectorizers; of those of one encoder and settings, the first."""
    embeds = list({encoder_kind(embed): embed for embed in reversed(vectorizers)}.values())[::-1]
    if not embeds:
        raise InputError(f"{source}: has no encoder, so there is nothing to export.")
    if len(embeds) > MOST_ENCODERS:
        raise InputError(
            f"{source}: has {len(embeds)} encoders, and an export holds at most {MOST_ENCODERS}. "
            f"Distil the model into one first."
        )
    if encoder_path is not None and len({embed.encoder_hash_ for embed in embeds}) > 1:
        raise InputError(
            "this model has several encoders; put their folders beside the model, or into "
            "$FROZENBERT_ENCODERS.",
            parameter="encoder_path",
            value=str(encoder_path),
        )
    for embed in embeds:
        if embed.encoder_source_ == "remote":
            raise InputError(
                f"{source}: its encoder {embed.encoder_name_!r} computes on another machine; "
                f"there is nothing to export."
            )
        embed.set_params(local_files_only=local_files_only, device="cpu")
        if encoder_path is not None:
            embed.set_params(model_name=str(encoder_path))
    return embeds


def _torch_encoder(embed: DistilBertVectorizer) -> Encoder:
    encoder = embed._encoder()
    assert isinstance(encoder, Encoder)  # the model is no export
    return encoder


def _write_encoder(folder: Path, names: tuple[str, str, str], embed: DistilBertVectorizer) -> None:
    graph, _, tokens = names
    encoder = _torch_encoder(embed)
    tokenizer = encoder.tokenizer
    if not tokenizer.is_data:
        raise InputError(
            f"the tokenizer of encoder {embed.encoder_name_!r} is written in Python; only those "
            f"with a tokenizer.json can be exported."
        )
    (folder / tokens).write_text(tokenizer.to_json(), encoding="utf-8")
    openvino = import_openvino()
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        cache = Path(temporary)
        load_graph(
            encoder,
            embed.encoder_hash_,
            embed.pooling_,
            embed.layers_,
            embed.precision_,
            cache,
            1,
        )
        (stored,) = (cache / "exports").iterdir()
        model = openvino.Core().read_model(stored / GRAPH, stored / WEIGHTS)
        model.set_rt_info(embed.encoder_hash_, ENCODER_KEY)
        model.set_rt_info(sha256_of_file(folder / tokens), TOKENIZER_KEY)
        openvino.save_model(model, folder / graph, compress_to_fp16=False)
        del model  # it maps the file that is removed now


def _facts(
    folder: Path,
    source: Path,
    model: BaseEstimator,
    embeds: list[DistilBertVectorizer],
) -> dict[str, object]:
    """Return the content of `runtime.json`; its keys are those of a model's `model.json`."""
    sha256 = joblib_hash(source)
    training = read_sidecar(source, sha256 or "").get("training")
    column = training.get("text_column") if isinstance(training, dict) else None
    labels = getattr(model, "classes_", None)
    names = [HEAD, *(name for i in range(len(embeds)) for name in encoder_names(i))]
    first, *others = (
        {
            **describe_encoder(embed),
            "pad_token_id": _torch_encoder(embed).tokenizer.pad_token_id,
        }
        for embed in embeds
    )
    return {
        "format": FORMAT,
        "files": {
            name: {"size": (folder / name).stat().st_size, "sha256": sha256_of_file(folder / name)}
            for name in names
        },
        "encoder": first,
        "more_encoders": others,
        "labels": None if labels is None else [*labels.tolist()],
        "training": {"text_column": column},
        "model_sha256": sha256,
        "versions": versions(),
    }


def _flush(folder: Path) -> None:
    """Write the files to the disk, so that a crash leaves no export with empty ones."""
    for path in folder.iterdir():
        with open(path, "rb+") as file:
            os.fsync(file.fileno())


def _replace(out: Path, fresh: Path) -> None:
    """Put a finished folder in the place of another one; a reader sees one of them or none."""
    if not out.exists():
        fresh.rename(out)
        return
    earlier = out.with_name(f".{out.name}.{secrets.token_hex(6)}.old")
    out.rename(earlier)
    try:
        fresh.rename(out)
    except OSError:
        earlier.rename(out)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
