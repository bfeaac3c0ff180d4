"""The safe form of a model: a file of skops that holds no code, and only classes on a list."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import InputError
from ..utils.archives import check_array, read_archive
from ..utils.extras import require
from .safe_reader import PROTOCOL, rebuild

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

__all__ = [
    "EARLIER",
    "LIMITS",
    "PAIR",
    "SCHEMA",
    "TRUSTED",
    "load_safe_form",
    "of_earlier_layout",
    "safe_form",
]

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
    "frozenbert.heads.columns.boosting.BoostedClassifier",
    "frozenbert.heads.columns.boosting.BoostedRegressor",
    "frozenbert.heads.columns.joint.JointClassifier",
    "frozenbert.heads.columns.joint.JointOrdinal",
    "frozenbert.heads.columns.joint.JointRegressor",
    "frozenbert.heads.columns.reader.ColumnReader",
    "frozenbert.heads.folds.AutoFolds",
    "frozenbert.heads.folds.Folds",
    "frozenbert.heads.multilabel.MultiLabelClassifier",
    "frozenbert.heads.numeric.ordinal.CumulativeClassifier",
    "frozenbert.heads.numeric.ordinal.CutPoints",
    "frozenbert.heads.numeric.ordinal.OrdinalHead",
    "frozenbert.heads.numeric.ridge.RidgeHead",
    "frozenbert.heads.numeric.word_regression.WordPredictions",
    "frozenbert.heads.scoring.auto_scorer",
    "frozenbert.heads.scoring.mean_average_precision",
    "frozenbert.heads.search.FeatureSearch",
    "frozenbert.heads.search.HeadSearch",
    "frozenbert.heads.selection.SelectVectors",
    "frozenbert.heads.stacking.StackedSearch",
    "frozenbert.heads.votes.decisions.DecisionClassifier",
    "frozenbert.heads.votes.decisions.SharedVote",
    "frozenbert.heads.words.CompactTfidfVectorizer",
    "frozenbert.heads.words.NBLogisticRegression",
    "frozenbert.heads.words.WordScores",
    "frozenbert.pipeline.FineTunedClassifier",
    "frozenbert.pipeline.TextPipeline",
    "frozenbert.training.budget.by_folds.classifier_scores.ClassifierScores",
    "frozenbert.utils.cleaning.TextCleaner",
    "frozenbert.utils.cleaning.clean_texts",  # of earlier models
    "numpy.float32",
    "numpy.float64",
    "sklearn.calibration.CalibratedClassifierCV",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.compose._column_transformer.ColumnTransformer",
    "sklearn.decomposition._truncated_svd.TruncatedSVD",
    "sklearn.feature_extraction.text.TfidfTransformer",
    "sklearn.frozen._frozen.FrozenEstimator",
    "sklearn.impute._base.MissingIndicator",
    "sklearn.impute._base.SimpleImputer",
    "sklearn.isotonic.IsotonicRegression",
    "sklearn.linear_model._base.LinearRegression",
    "sklearn.linear_model._logistic.LogisticRegression",
    "sklearn.linear_model._logistic.LogisticRegressionCV",
    "sklearn.linear_model._ridge.Ridge",
    "sklearn.linear_model._ridge.RidgeCV",
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
    "sklearn.preprocessing._data.Normalizer",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._encoders.OneHotEncoder",
    "sklearn.preprocessing._function_transformer.FunctionTransformer",
    "sklearn.preprocessing._label.LabelBinarizer",
    "sklearn.preprocessing._label.LabelEncoder",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils._metadata_requests.MetadataRequest",
    "sklearn.utils._metadata_requests.MethodMetadataRequest",
    "skrub._datetime_encoder.DatetimeEncoder",
)
# skops' kinds of nodes: those with data only, and those that name a class or a function. No model
# here needs the others, which call what they name.
DATA = (
    "DTypeNode",
    "DictNode",
    "JsonNode",
    "ListNode",
    "MaskedArrayNode",
    "NdArrayNode",
    "SliceNode",
    "TupleNode",
)
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


def safe_form(model: BaseEstimator, joblib_sha256: str) -> bytes | None:
    """Return the model as skops writes it, or None if it would not be loaded again.

    Parameters
    ----------
    model : estimator
    joblib_sha256 : str
        Hash of the joblib file beside which it is saved.

    Raises
    ------
    InputError
        If skops is not installed.
    """
    require("skops")
    import skops.io

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


def load_safe_form(path: Path, content: BinaryIO) -> Any:
    """Load a safe form, of which nothing is decompressed or built before it is checked.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    content : file
        Its content, opened for reading bytes.

    Raises
    ------
    InputError
        If it holds what no safe form may hold.
    Exception
        Of any kind, if it is damaged.
    """
    members = read_archive(content, LIMITS)
    try:
        used = _check_members(members)
    except _ForbiddenError as error:
        if error.modules & EARLIER:
            raise InputError(of_earlier_layout(path)) from error
        raise InputError(
            f"{path}: is not loaded, because it holds what no safe form may hold: {error}."
        ) from error
    schema = json.loads(members[SCHEMA])
    if schema.get("protocol") == PROTOCOL:
        return rebuild(schema, members)
    require("skops")
    import skops.io

    # Written anew from what was checked: skops would decompress members without a bound.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in used:
            file.writestr(name, members[name])
    return skops.io.loads(buffer.getvalue(), trusted=TRUSTED)


def of_earlier_layout(path: Path) -> str:
    """Return the message for a model that has classes of modules that moved since."""
    return f"{path}: saved by an earlier layout, train again."
