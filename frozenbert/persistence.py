"""Saved models: a joblib file, which runs code when loaded, and a safe form beside it."""

from __future__ import annotations

import copy
import functools
import io
import json
import os
import types
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import joblib
import numpy as np
import skops.io
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from .errors import InputError
from .reports.sidecar import read_sidecar
from .utils.archives import check_array, read_archive
from .utils.files import sha256_of_file, writing

__all__ = [
    "MODEL",
    "SAFE",
    "TRUSTED",
    "joblib_hash",
    "load_model",
    "safest",
    "save_model",
]

MODEL = "model.joblib"
SAFE = ".skops"

# What a safe form may hold besides numbers, strings, dictionaries, lists and NumPy's arrays. skops
# itself trusts all of scikit-learn's estimators, of which some open files that a text names. None
# of these opens files or runs what it is given: check that before adding one.
TRUSTED = (
    "builtins.str",
    "frozenbert.embed.DistilBertVectorizer",
    "frozenbert.fewshot.averaging.MeanOfProbabilities",
    "frozenbert.fewshot.classifier.FewShotClassifier",
    "frozenbert.fewshot.distillation.DistilledClassifier",
    "frozenbert.fewshot.experts.Experts",
    "frozenbert.finetune.recipe.Recipe",
    "frozenbert.heads.folds.Folds",
    "frozenbert.heads.multilabel.MultiLabelClassifier",
    "frozenbert.heads.scoring.mean_average_precision",
    "frozenbert.heads.search.FeatureSearch",
    "frozenbert.heads.search.HeadSearch",
    "frozenbert.heads.selection.SelectVectors",
    "frozenbert.heads.stacking.StackedSearch",
    "frozenbert.heads.words.CompactTfidfVectorizer",
    "frozenbert.heads.words.NBLogisticRegression",
    "frozenbert.heads.words.WordScores",
    "frozenbert.pipeline.FineTunedClassifier",
    "frozenbert.utils.cleaning.clean_texts",
    "numpy.float32",
    "numpy.float64",
    "sklearn.calibration.CalibratedClassifierCV",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.feature_extraction.text.TfidfTransformer",
    "sklearn.frozen._frozen.FrozenEstimator",
    "sklearn.isotonic.IsotonicRegression",
    "sklearn.linear_model._logistic.LogisticRegression",
    # Scorers, by the names that `scoring` takes.
    "sklearn.metrics._classification.accuracy_score",
    "sklearn.metrics._classification.balanced_accuracy_score",
    "sklearn.metrics._classification.brier_score_loss",
    "sklearn.metrics._classification.d2_brier_score",
    "sklearn.metrics._classification.d2_log_loss_score",
    "sklearn.metrics._classification.f1_score",
    "sklearn.metrics._classification.jaccard_score",
    "sklearn.metrics._classification.log_loss",
    "sklearn.metrics._classification.matthews_corrcoef",
    "sklearn.metrics._classification.precision_score",
    "sklearn.metrics._classification.recall_score",
    "sklearn.metrics._ranking.average_precision_score",
    "sklearn.metrics._ranking.roc_auc_score",
    "sklearn.metrics._ranking.top_k_accuracy_score",
    "sklearn.metrics._scorer._CurveScorer",
    "sklearn.metrics._scorer._PassthroughScorer",
    "sklearn.metrics._scorer._Scorer",
    "sklearn.metrics._scorer.negative_likelihood_ratio",
    "sklearn.metrics._scorer.positive_likelihood_ratio",
    "sklearn.model_selection._classification_threshold.TunedThresholdClassifierCV",
    "sklearn.model_selection._search.GridSearchCV",
    "sklearn.model_selection._split.GroupKFold",
    "sklearn.model_selection._split.KFold",
    "sklearn.model_selection._split.LeaveOneGroupOut",
    "sklearn.model_selection._split.PredefinedSplit",
    "sklearn.model_selection._split.StratifiedGroupKFold",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.multiclass.OneVsRestClassifier",
    "sklearn.pipeline.FeatureUnion",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._function_transformer.FunctionTransformer",
    "sklearn.preprocessing._label.LabelBinarizer",
    "sklearn.preprocessing._label.LabelEncoder",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils._metadata_requests.MetadataRequest",
    "sklearn.utils._metadata_requests.MethodMetadataRequest",
)
# skops' kinds of nodes: those with data only, and those that name a class or a function. No model
# here needs the others, which call what they name.
DATA = ("DictNode", "JsonNode", "ListNode", "MaskedArrayNode", "NdArrayNode", "TupleNode")
NAMED = ("FunctionNode", "ObjectNode", "TypeNode")

SCHEMA = "schema.json"  # in the safe form: the tree of objects, as skops writes it
PAIR = "pair.json"  # in the safe form: the SHA-256 of the joblib file that was saved with it
# Bytes of these two; values and levels of nesting in the first. A searched model of 40 labels has
# 12 MiB, 150,000 values and 40 levels.
LIMITS = {SCHEMA: 64 * 2**20, PAIR: 1024}
VALUES = 2_000_000
DEPTH = 250

# Modules that held classes of models before the package had folders.
EARLIER = frozenset(
    f"frozenbert.{name}"
    for name in (
        "classify",
        "clean",
        "distil",
        "experts",
        "folds",
        "search",
        "select",
        "stacking",
        "words",
    )
)

Model = TypeVar("Model", bound=BaseEstimator)


class Portable(Protocol):
    """What holds paths of this machine, and can be saved for another one."""

    def _prepare_to_save(self) -> None:
        """Remove the paths; called on the copy that is saved."""

    def _note_loaded_from(self, folder: Path) -> None:
        """Look for files beside the model's file; called on the loaded model."""


def save_model(model: BaseEstimator, path: str | os.PathLike[str]) -> Path:
    """Save a fitted model with joblib, for use anywhere, and in a safe form beside it.

    The saved copies have their vector cache turned off, name an encoder from a folder by
    the folder's name alone, and hold the encoder's content hash, so that another encoder
    under that name is refused. Weights are left out unless `store_weights=True`.

    Parameters
    ----------
    model : estimator
        A fitted Pipeline or any other estimator that holds a `DistilBertVectorizer`.
    path : str or path-like
        The file, such as `artifacts/NAME/model.joblib`. It appears whole or not at all, and so
        does the safe form beside it, `model.skops`. A model with classes that are not in
        `TRUSTED` has no safe form.

    Returns
    -------
    pathlib.Path
        The joblib file.

    Raises
    ------
    InputError
        If the file cannot be written.

    See Also
    --------
    load_model : Load either form.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.dummy import DummyClassifier
    >>> folder = Path(tempfile.mkdtemp())
    >>> model = DummyClassifier().fit(["a text"], ["label"])
    >>> save_model(model, folder / "model.joblib").name
    'model.joblib'
    >>> load_model(folder).predict(["another text"]).tolist()
    ['label']
    """
    path = Path(path)
    beside = path.with_suffix(SAFE)
    if beside == path:
        raise InputError(f"{path}: ends like the safe form; name the joblib file, such as {MODEL}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        portable = _portable(model)
        with writing(path) as fresh:
            joblib.dump(portable, fresh)
            safe = _safe_form(portable, sha256_of_file(fresh))
            beside.unlink(missing_ok=True)  # so that no kill leaves a pair that does not match
        if safe is not None:
            with writing(beside) as fresh:
                fresh.write_bytes(safe)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from error
    return path


def _portable(model: Model) -> Model:
    """Return a copy of a model without paths of this machine."""
    portable = copy.deepcopy(model)
    for part in _portable_parts(portable):
        part._prepare_to_save()
    return portable


def _portable_parts(model: object) -> Iterator[Portable]:
    """Yield all `Portable` objects in a model, also inside classes of other packages."""
    left, seen = [model], dict[int, object]()
    while left:
        part = left.pop()
        if id(part) in seen:
            continue
        seen[id(part)] = part
        left.extend(_parts(part))
        if hasattr(type(part), "_prepare_to_save"):
            yield part  # type: ignore[misc]


def _parts(whole: object) -> Iterable[object]:
    """Return the objects that an object holds."""
    if isinstance(whole, type | types.ModuleType | types.FunctionType | str | bytes):
        return ()
    parts: list[object] = []
    if isinstance(whole, dict):
        parts += [*whole.keys(), *whole.values()]
    elif isinstance(whole, list | tuple | set | frozenset):
        parts += whole
    elif isinstance(whole, np.ndarray):
        if whole.dtype == object:
            parts += whole.ravel().tolist()
    elif isinstance(whole, functools.partial):
        parts += [whole.func, whole.args, whole.keywords]
    elif isinstance(whole, types.MethodType):
        parts.append(whole.__self__)
    parts += getattr(whole, "__dict__", {}).values()
    for kind in type(whole).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(whole, name):
                parts.append(getattr(whole, name))
    return parts


def _safe_form(model: BaseEstimator, joblib_sha256: str) -> bytes | None:
    """Return the model as skops writes it, or None if it would not be loaded again."""
    try:
        buffer = io.BytesIO(skops.io.dumps(model, compression=zipfile.ZIP_DEFLATED))
        with zipfile.ZipFile(buffer, "a") as file:
            file.writestr(PAIR, json.dumps({"joblib_sha256": joblib_sha256}))
        _check_members(read_archive(buffer, LIMITS))
    except MemoryError:
        raise
    except Exception:  # of any kind, from the states of classes that skops does not know
        return None
    return buffer.getvalue()


class _ForbiddenError(ValueError):
    """A safe form names classes or kinds of nodes that are not on the lists.

    Attributes
    ----------
    names : set of str
    modules : set of str
        Of the classes.
    """

    def __init__(self, names: set[str], modules: set[str]) -> None:
        super().__init__(", ".join(sorted(names))[:500])
        self.names, self.modules = names, modules


def _check_members(members: Mapping[str, bytes]) -> list[str]:
    """Check the members of a safe form, and return the names of those that skops reads.

    Raises
    ------
    _ForbiddenError
        If it names what is not in `TRUSTED`, `DATA` or `NAMED`.
    ValueError
        If it is too large or too deep, or an array does not hold what it declares.
    """
    schema = members[SCHEMA]
    if sum(map(schema.count, b"{[,")) > VALUES:
        raise ValueError(f"{SCHEMA} has more than {VALUES:,} values")
    names, modules, arrays = set(), set(), set()
    for number, node in enumerate(_nodes(json.loads(schema))):
        kind = node.get("__loader__", "JsonNode")
        module = str(node.get("__module__"))
        name = f"{module}.{node.get('__class__')}"
        if kind in NAMED and name not in TRUSTED:
            names.add(name)
            modules.add(module)
        elif kind not in (*NAMED, *DATA):
            names.add(str(kind))
        if "file" in node and isinstance(node["file"], str):
            # skops reads nodes of one `__id__` only once.
            key = json.dumps(node["__id__"]) if "__id__" in node else f"node {number}"
            arrays.add((node["file"], key))
    if names:
        raise _ForbiddenError(names, modules)
    used = {name for name, _ in arrays}
    for name in used:
        check_array(members[name])
    if sum(len(members[name]) for name, _ in arrays) > sum(map(len, members.values())):
        raise ValueError("one array is read into several objects")
    return [SCHEMA, *used]


def _nodes(schema: object) -> Iterator[dict[str, Any]]:
    """Yield all dictionaries in a tree of JSON; raise `ValueError` if it is too deep."""
    left = [(schema, 1)]
    while left:
        node, depth = left.pop()
        if depth > DEPTH:
            raise ValueError(f"{SCHEMA} has more than {DEPTH} levels")
        if isinstance(node, dict):
            left.extend((part, depth + 1) for part in node.values())
            yield node
        elif isinstance(node, list):
            left.extend((part, depth + 1) for part in node)


def safest(path: str | os.PathLike[str]) -> Path:
    """Return the safe form of a saved model if it exists, else the joblib file.

    Parameters
    ----------
    path : str or path-like
        Either file, or the folder that holds a `model.joblib` or a `model.skops`.

    Returns
    -------
    pathlib.Path
    """
    path = Path(path)
    path = path / MODEL if path.is_dir() else path
    beside = path.with_suffix(SAFE)
    return beside if beside.is_file() else path


def load_model(path: str | os.PathLike[str]) -> Any:
    """Load a saved model.

    Loading a joblib file runs code that is in it: load only what you trust. The safe form
    holds no code, only classes on the list `TRUSTED`, and is read within bounds of memory.

    Parameters
    ----------
    path : str or path-like
        A joblib file, or a safe form (`.skops`); or the folder that holds a `model.skops` or
        a `model.joblib`, of which the first is taken. An encoder from a folder is also
        searched beside the file.

    Returns
    -------
    estimator
        The model.

    Raises
    ------
    InputError
        If the file does not exist or holds no fitted model, a safe form holds what it must
        not or unpacks to far more than its size, the two forms side by side are of different
        models, or an earlier version with other modules saved the model.

    See Also
    --------
    save_model : Write both forms.
    """
    path = Path(path)
    if path.is_dir():
        path = safest(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such model file.")
    _check_pair(path)
    read_sidecar(path, joblib_hash(path) or "")  # checks the format
    model = _load(path)
    if not (hasattr(model, "fit") and hasattr(model, "predict")):
        raise InputError(f"{path}: holds a {type(model).__name__}, which is no model.")
    try:
        check_is_fitted(model)
    except NotFittedError:
        raise InputError(
            f"{path}: holds a {type(model).__name__} that is not fitted: fit it, and save it again."
        ) from None
    for part in _portable_parts(model):
        part._note_loaded_from(path.parent)
    return model


def _load(path: Path) -> Any:
    try:
        return _load_safe(path) if path.suffix == SAFE else joblib.load(path)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in EARLIER:
            raise InputError(_of_earlier(path)) from error
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"{path}: is no saved model, or a damaged one ({type(error).__name__}: {reason})."
        ) from error


def _load_safe(path: Path) -> Any:
    with open(path, "rb") as file:
        members = read_archive(file, LIMITS)
    try:
        used = _check_members(members)
    except _ForbiddenError as error:
        if error.modules & EARLIER:
            raise InputError(_of_earlier(path)) from error
        raise InputError(
            f"{path}: is not loaded, because it holds what no safe form may hold: {error}."
        ) from error
    # Written anew from what was checked: skops would decompress members without a bound.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in used:
            file.writestr(name, members[name])
    return skops.io.loads(buffer.getvalue(), trusted=TRUSTED)


def _of_earlier(path: Path) -> str:
    return f"{path}: saved by an earlier layout, train again."


def joblib_hash(path: Path) -> str | None:
    """Return the SHA-256 of a joblib file, or of the one that a safe form was saved with.

    Parameters
    ----------
    path : pathlib.Path
        Either form.

    Returns
    -------
    str or None
        64 hexadecimal digits; None for a safe form that was not written by `save_model`.
    """
    if path.suffix != SAFE:
        return sha256_of_file(path)
    try:
        with open(path, "rb") as file:
            pair = read_archive(file, LIMITS, only=PAIR)[PAIR]
        return str(json.loads(pair)["joblib_sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, zipfile.BadZipFile):
        return None


def _check_pair(path: Path) -> None:
    """Raise `InputError` if a joblib file and the safe form beside it are of two models."""
    plain = path.with_suffix(".joblib") if path.suffix == SAFE else path
    safe = path.with_suffix(SAFE)
    if not (plain.is_file() and safe.is_file()):
        return
    if joblib_hash(safe) != joblib_hash(plain):
        raise InputError(
            f"{safe} and {plain.name} beside it are not of one model: train or save the model "
            f"again, or remove the file that you do not trust."
        )
