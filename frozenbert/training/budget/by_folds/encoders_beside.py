"""The fine-tuned encoders of a model: folders beside its file, named by their content."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from sklearn.base import BaseEstimator

from ....embed import DistilBertVectorizer
from ....utils.steps import find_steps
from ..state import STEPS
from .classifier_scores import ClassifierScores

__all__ = ["bring_encoders", "find_encoders", "move_encoders", "remove_leftovers"]

ENCODERS = "encoders"
NAME = r"[a-z-]+-[0-9a-f]{8}"  # step, content


def move_encoders(scores: BaseEstimator, step: str, out: Path) -> None:
    """Move the encoders that a step trained to where the model will be saved.

    Parameters
    ----------
    scores : estimator
        Changed in place; scores of another kind have no encoders.
    step : str
        The step's name.
    out : pathlib.Path
        The folder of the model.
    """
    for embed in _tuned(scores):
        name = f"{step.replace(' ', '-')}-{embed.encoder_hash_[:8]}"
        target = out / ENCODERS / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # of a step that was killed just then
            shutil.rmtree(embed.model_name)
        else:
            os.rename(embed.model_name, target)
        _point_to(embed, target)


def find_encoders(scores: BaseEstimator, out: Path) -> bool:
    """Tell whether the encoders of a step that finished before are still in the model's folder.

    Parameters
    ----------
    scores : estimator
        Changed in place: the folder may have been moved.
    out : pathlib.Path
    """
    for embed in _tuned(scores):
        target = out / ENCODERS / Path(embed.model_name).name
        if not target.is_dir():
            return False
        _point_to(embed, target)
    return True


def bring_encoders(model: BaseEstimator, out: Path) -> None:
    """Let a model's fine-tuned encoders be in the folder that it is saved to.

    Parameters
    ----------
    model : estimator
        Changed in place.
    out : pathlib.Path
    """
    for scores in find_steps(model, ClassifierScores):
        for embed in _tuned(scores):
            target = out / ENCODERS / Path(embed.model_name).name
            if not target.exists():
                shutil.copytree(embed.model_name, target)
            _point_to(embed, target)


def remove_leftovers(out: Path, model: BaseEstimator) -> None:
    """Remove the steps of a model that is saved, and tuned encoders of no use any more.

    Parameters
    ----------
    out : pathlib.Path
        The model's folder.
    model : estimator
    """
    shutil.rmtree(out / STEPS, ignore_errors=True)
    used = {Path(embed.model_name).name for embed in find_steps(model, DistilBertVectorizer)}
    for folder in (out / ENCODERS).glob("*"):
        if re.fullmatch(NAME, folder.name) and folder.name not in used:
            shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # it contains encoders
        (out / ENCODERS).rmdir()


def _tuned(scores: BaseEstimator) -> list[DistilBertVectorizer]:
    if not isinstance(scores, ClassifierScores):
        return []
    return list(find_steps(scores, DistilBertVectorizer))


def _point_to(embed: DistilBertVectorizer, folder: Path) -> None:
    embed.set_params(model_name=str(folder.absolute()))
    embed.encoder_name_ = folder.name
