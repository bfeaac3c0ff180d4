"""Save a trained classifier with its report."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from sklearn.pipeline import Pipeline

from ..embed import DistilBertVectorizer
from ..errors import InputError
from ..heads.multilabel import MultiLabelClassifier
from ..heads.numeric.ordinal import OrdinalHead
from ..heads.numeric.ridge import RidgeHead
from ..heads.search import (
    class_weight_of,
    fitted_grid,
)
from ..heads.stacking import OutOfFoldHead
from ..heads.words import WordScores
from ..persistence.models import MODEL, SAFE, save_model
from ..reports.report import PLOTS, write_report
from ..reports.schema import Parameters, Sidecar
from ..reports.sidecar import FORMAT, describe_encoder, versions
from ..utils.files import sha256_of_file
from ..utils.steps import find_step
from .budget.by_folds.encoders_beside import bring_encoders, remove_leftovers
from .budget.state import STEPS
from .fitting import Training, classifier_of
from .regression import describe_parameters, ridge_of, text_model

__all__ = ["save_training", "uses_words"]


def save_training(
    training: Training, folder: str | os.PathLike[str], facts: Mapping[str, Any]
) -> None:
    """Save a trained model with its report: all files, or none.

    Parameters
    ----------
    training : Training
        From `train`.
    folder : path-like
        Files of the same names in it are replaced, others stay.
    facts : mapping
        What else `model.json` contains: `training` and `test`, where the rows are from
        (`TrainingFacts` and `TestFacts` in `frozenbert.reports.schema`), `notice`, why
        the encoder is not the default one, or None; and `name`, what the model is called, or
        None.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
        try:
            bring_encoders(training.model, folder)
            save_model(training.model, fresh / MODEL)
            write_report(fresh, _sidecar(training, fresh / MODEL, facts), training.outcome)
            _replace_files(folder, fresh)
            if training.budget is not None or not (folder / STEPS).exists():
                remove_leftovers(folder, training.model)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            if is_new:
                with contextlib.suppress(OSError):  # it contains the files
                    folder.rmdir()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}).") from error


def _replace_files(folder: Path, fresh: Path) -> None:
    """Move the new files into the folder, and remove the plots of a former model."""
    # The safe form is removed first and moved last, so that no kill leaves a pair of two models.
    files = sorted(fresh.iterdir(), key=lambda file: file.suffix == SAFE)
    for file in files:
        if (folder / file.name).is_dir():
            raise InputError(
                f"{folder / file.name}: is a folder, and a file of this name is to be written: "
                f"remove it, or name another folder."
            )
    (folder / MODEL).with_suffix(SAFE).unlink(missing_ok=True)
    for file in files:
        os.replace(file, folder / file.name)
    for name in PLOTS - {file.name for file in files}:
        (folder / name).unlink(missing_ok=True)


def _sidecar(training: Training, model_file: Path, facts: Mapping[str, Any]) -> Sidecar:
    """Return the content of `model.json`."""
    test = dict(facts["test"])
    if n_leaked := training.metrics["data"].get("n_trained_on"):
        test["n_trained_on"] = n_leaked
    sidecar: Sidecar = {
        "format": FORMAT,
        "notice": facts.get("notice"),
        "training": facts["training"],
        "test": test,  # type: ignore[typeddict-item]
        "model_sha256": sha256_of_file(model_file),
        "encoder": describe_encoder(find_step(training.model, DistilBertVectorizer)),
        "labels": np.asarray(getattr(training.model, "classes_", [])).tolist(),
        "parameters": _parameters(training),
        "metrics": training.metrics,
        "seconds": training.seconds,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    if facts.get("name"):
        sidecar["name"] = facts["name"]
    return sidecar


def uses_words(model: Pipeline) -> bool:
    """Tell whether scores of words have a part in a fitted classifier's answers."""
    model = text_model(model)
    head = model[-1]
    if isinstance(head, RidgeHead | OrdinalHead):
        return ridge_of(head).parts_ != "vectors"
    if not isinstance(head, OutOfFoldHead) or head.parts_ == "vectors":
        return False
    return find_step(model, WordScores) is not None


def _parameters(training: Training) -> Parameters:
    model, search = text_model(training.model), training.metrics["search"]
    if isinstance(model[-1], RidgeHead | OrdinalHead):
        return cast(Parameters, describe_parameters(model, uses_words(model)))
    head = classifier_of(model)
    grid = fitted_grid(head)
    seed, weight = getattr(grid.cv, "random_state", None), class_weight_of(grid)
    if isinstance(weight, Mapping):
        weight = {str(label): float(value) for label, value in weight.items()}
    weight = getattr(head, "class_weight_", None) or weight
    parameters: Parameters = {
        "recipe": "auto" if "ladder" in search else "plain",
        "cv": search["folds"],
        "seed": seed if isinstance(seed, int) else None,
        "C": search["best_C"],
        "search": "features" if "features" in search else "head",
        "with_tfidf": uses_words(model),
        "clean": "clean" in model.named_steps,
        "multi_label": isinstance(head, MultiLabelClassifier),
        "calibrate": head.calibration_ if isinstance(head, OutOfFoldHead) else None,
        "class_weight": weight,
    }
    if training.budget is not None:
        parameters["budget"] = training.budget
    return parameters
