"""Models on disk: as joblib files, which run code when loaded, and in a safe form beside them."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import joblib
import skops.io
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from .embed import loaded_from, saved_for_elsewhere
from .errors import InputError
from .utils.files import sha256_of_file, writing

__all__ = ["MODEL", "SAFE", "TRUSTED", "joblib_hash", "load_model", "safest", "save_model"]

MODEL = "model.joblib"
SAFE = ".skops"

# What a safe form may hold besides numbers, strings, dictionaries, lists and NumPy's arrays. skops
# itself would trust all of scikit-learn's estimators, of which some open files that a text names.
# Nothing here does, or runs what it is given; whoever adds to it has to see to that.
TRUSTED = (
    "builtins.str",
    "frozenbert.heads.scoring.mean_average_precision",
    "frozenbert.utils.cleaning.clean_texts",
    "frozenbert.fewshot.distillation.DistilledClassifier",
    "frozenbert.embed.DistilBertVectorizer",
    "frozenbert.fewshot.experts.Experts",
    "frozenbert.heads.folds.Folds",
    "frozenbert.heads.search.FeatureSearch",
    "frozenbert.heads.search.HeadSearch",
    "frozenbert.heads.selection.SelectVectors",
    "frozenbert.heads.multilabel.MultiLabelClassifier",
    "frozenbert.heads.stacking.StackedSearch",
    "frozenbert.heads.words.CompactTfidfVectorizer",
    "frozenbert.heads.words.NBLogisticRegression",
    "frozenbert.heads.words.WordScores",
    "numpy.float32",
    "numpy.float64",
    "sklearn.calibration.CalibratedClassifierCV",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._voting.VotingClassifier",
    "sklearn.feature_extraction.text.TfidfTransformer",
    "sklearn.frozen._frozen.FrozenEstimator",
    "sklearn.isotonic.IsotonicRegression",
    "sklearn.linear_model._logistic.LogisticRegression",
    # What --scoring names.
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
# skops' kinds of nodes: those that hold data alone, and those that name a class or a function. Of
# the others, which call what they name, no model here has one.
DATA = ("DictNode", "JsonNode", "ListNode", "MaskedArrayNode", "NdArrayNode", "TupleNode")
NAMED = ("FunctionNode", "ObjectNode", "TypeNode")

PAIR = "pair.json"  # in the safe form: the SHA-256 of the joblib file that was saved with it


def save_model(model: Any, path: str | os.PathLike[str]) -> Path:
    """Save a fitted model with joblib, for use anywhere, and in a safe form beside it.

    The saved copies have their vector cache turned off, name an encoder from a folder by
    the folder's name alone, and hold the encoder's content hash, so that another encoder
    under that name is refused. Weights are left out unless `store_weights=True`.

    Parameters
    ----------
    model : estimator
        A fitted Pipeline or any other estimator that holds a `DistilBertVectorizer`.
    path : str or path-like
        The file, `artifacts/NAME/model.joblib` say. It appears whole or not at all, and so does
        the safe form beside it, `model.skops`. A model with other classes than
        those in `TRUSTED` has no safe form.

    Returns
    -------
    pathlib.Path
        The joblib file.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    path = Path(path)
    beside = path.with_suffix(SAFE)
    if beside == path:
        raise InputError(f"{path}: the safe form's own name; name the joblib file, it goes beside.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as fresh:
            with saved_for_elsewhere():
                joblib.dump(model, fresh)
                safe = _safe_form(model, sha256_of_file(fresh))
            beside.unlink(missing_ok=True)  # so that no kill leaves a pair that does not match
        if safe is not None:
            with writing(beside) as fresh:
                fresh.write_bytes(safe)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from error
    return path


def _safe_form(model: Any, joblib_sha256: str) -> bytes | None:
    """Return what skops makes of a model; nothing if it would not be loaded again."""
    try:
        content = skops.io.dumps(model, compression=zipfile.ZIP_DEFLATED)
    except MemoryError:
        raise
    except Exception:  # of any kind, from the states of classes that skops does not know
        return None
    if _strange(content):
        return None
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr(PAIR, json.dumps({"joblib_sha256": joblib_sha256}))
    return buffer.getvalue()


def _strange(content: bytes) -> set[str]:
    """Return what of a safe form is not on the list."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        left, found = [json.loads(file.read("schema.json"))], set()
    while left:
        node = left.pop()
        if isinstance(node, dict):
            left.extend(node.values())
            kind = node.get("__loader__", "JsonNode")
            if kind in NAMED:
                name = f"{node.get('__module__')}.{node.get('__class__')}"
                if name not in TRUSTED:
                    found.add(name)
            elif kind not in DATA:
                found.add(str(kind))
        elif isinstance(node, list):
            left.extend(node)
    return found


def safest(path: str | os.PathLike[str]) -> Path:
    """Return the safe form of a saved model where there is one, else the joblib file.

    Parameters
    ----------
    path : str or path-like
        Either file, or the folder that holds a `model.joblib` or a `model.skops`.
    """
    path = Path(path)
    path = path / MODEL if path.is_dir() else path
    beside = path.with_suffix(SAFE)
    return beside if beside.is_file() else path


def load_model(path: str | os.PathLike[str]) -> Any:
    """Load a saved model.

    Loading a joblib file runs code that is in it: load only what you trust. The safe form
    holds no code, and nothing that is not on the list `TRUSTED`.

    Parameters
    ----------
    path : str or path-like
        A joblib file, or a safe form (`.skops`); or the folder that holds a `model.skops` or
        a `model.joblib`, of which the first is taken. An encoder from a folder is also
        looked for beside the file.

    Returns
    -------
    estimator
        The model.

    Raises
    ------
    InputError
        If there is no such file, it holds no fitted model, a safe form holds what it must
        not, or the two forms that stand side by side are not of one model.
    """
    path = Path(path)
    if path.is_dir():
        path = safest(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such model file.")
    _check_pair(path)
    try:
        with loaded_from(path.parent):
            model = _load_safe(path) if path.suffix == SAFE else joblib.load(path)
    except InputError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"{path}: is no saved model, or a damaged one ({type(error).__name__}: {reason})."
        ) from error
    if not hasattr(model, "predict"):
        raise InputError(f"{path}: holds a {type(model).__name__}, which is no model.")
    try:
        check_is_fitted(model)
    except NotFittedError:
        raise InputError(
            f"{path}: holds a {type(model).__name__} that is not fitted: fit it, and save it again."
        ) from None
    return model


def _load_safe(path: Path) -> Any:
    content = path.read_bytes()
    if strange := sorted(_strange(content)):
        raise InputError(
            f"{path}: is not loaded, because it holds what no safe form may hold: "
            f"{', '.join(strange)[:500]}."
        )
    return skops.io.loads(content, trusted=TRUSTED)


def joblib_hash(path: Path) -> str | None:
    """Return the SHA-256 of a joblib file, or of the one that a safe form was saved with.

    Parameters
    ----------
    path : pathlib.Path
        Either form; nothing is known of a safe form that was not saved here.
    """
    if path.suffix != SAFE:
        return sha256_of_file(path)
    try:
        with zipfile.ZipFile(path) as file:
            return str(json.loads(file.read(PAIR))["joblib_sha256"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _check_pair(path: Path) -> None:
    """Raise `InputError` if joblib file and safe form stand side by side, but are of two models."""
    plain = path.with_suffix(".joblib") if path.suffix == SAFE else path
    safe = path.with_suffix(SAFE)
    if not (plain.is_file() and safe.is_file()):
        return
    if joblib_hash(safe) != joblib_hash(plain):
        raise InputError(
            f"{safe} and {plain.name}, which stands beside it, are not of one model: train or save "
            f"the model again, or remove the one that you do not trust."
        )
