"""What `metrics.json` and `model.json` contain."""

from __future__ import annotations

from typing import NotRequired, TypedDict

__all__ = [
    "Added",
    "Agreement",
    "Baseline",
    "Calibration",
    "ClassScore",
    "DataSummary",
    "EncoderFacts",
    "Example",
    "FeatureResult",
    "Interval",
    "LadderResult",
    "Metrics",
    "Parameters",
    "PrecisionTrial",
    "Score",
    "SearchSummary",
    "Sidecar",
    "TestFacts",
    "TrainingFacts",
]

Interval = list[float]  # lower and upper end

# In this form because "f1-score", scikit-learn's name, is no identifier.
ClassScore = TypedDict(
    "ClassScore",
    {
        "precision": float,
        "recall": float,
        "f1-score": float,
        "support": int,  # test rows
        "average_precision": NotRequired[float | None],  # None for a label without rows
        "threshold": NotRequired[float],
    },
)


class Score(TypedDict):
    """Accuracy and F1 of predictions, as fractions; with many labels more averages."""

    accuracy: float
    macro_f1: float
    per_class: dict[str, ClassScore]
    micro_f1: NotRequired[float]
    n_labels: NotRequired[int]
    macro_average_precision: NotRequired[float | None]


class Baseline(Score):
    """The score of a classifier of words on the same rows."""

    name: str
    intervals: dict[str, Interval]


class FeatureResult(TypedDict):
    """The cross-validated score of one choice of layers and pooling."""

    layers: list[int]
    pooling: list[str]
    C: float
    score: float
    std: float
    train_rows: NotRequired[int]


class LadderResult(TypedDict):
    """The out-of-fold score of one part that `recipe="auto"` compared; None if left out."""

    step: str
    score: float | None
    log_loss: float | None
    kept: bool
    seconds: NotRequired[float]
    note: NotRequired[str]


class SearchSummary(TypedDict):
    """The search by cross-validation: what was tried, and what was best."""

    scoring: str
    folds: int
    best_C: float
    best_score: float
    best_score_std: float
    C: list[float]
    mean_score: list[float]
    std_score: list[float]
    best_layers: NotRequired[list[int]]
    best_pooling: NotRequired[list[str]]
    features: NotRequired[list[FeatureResult]]
    ladder: NotRequired[list[LadderResult]]
    chosen: NotRequired[str]  # a sentence about the ladder
    never_answered: NotRequired[list[str]]  # classes, out of fold


class CalibrationFigures(TypedDict):
    """Brier score and expected calibration error of probabilities."""

    brier: float
    ece: float


class Calibration(CalibrationFigures):
    """The same, and of a calibrated model also `before` calibration."""

    before: NotRequired[CalibrationFigures]


class Agreement(TypedDict):
    """How far a reduced precision agrees with float32."""

    n_texts: int
    mean_cosine: float
    equal_predictions: float  # fraction; of numbers, within a hundredth of their deviation


class PrecisionTrial(TypedDict):
    """How far a precision that `precision="auto"` tried agrees with float32."""

    n_texts: int
    mean_cosine: float
    equal_labels: float | None  # fraction; None without labels


class DataSummary(TypedDict):
    """Properties of the data that limit what the scores mean."""

    words: list[int]  # in a training text: median, 95th percentile, maximum
    n_duplicates: int
    n_contradictions: int
    n_in_both: int
    n_longer: int
    n_trained_on: NotRequired[int]


class Added(TypedDict):
    """Out-of-fold scores of texts alone, of other columns alone, and of both."""

    scoring: str
    text: float
    columns: NotRequired[float]  # these two unless there are texts alone
    both: NotRequired[float]
    without: NotRequired[dict[str, float]]  # each of several columns of texts


class Metrics(Score):
    """The content of `metrics.json`."""

    task: str
    n_train: int
    n_test: int
    n_truncated: int
    unread: float  # fraction of the training texts' tokens
    intervals: dict[str, Interval]  # 95 %
    baseline: Baseline
    search: SearchSummary
    calibration: Calibration
    data: DataSummary
    agreement: NotRequired[Agreement]
    added: NotRequired[Added]  # of a model with columns
    at_half: NotRequired[dict[str, float]]  # with many labels: F1 with thresholds of 0.5


class EncoderFacts(TypedDict):
    """What a fitted vectorizer computes."""

    name: str
    source: str
    revision: str | None
    content_hash: str
    pooling: list[str]
    layers: list[int]
    max_length: int
    long_text: str
    precision: str
    precision_trials: NotRequired[dict[str, PrecisionTrial]]  # only with precision="auto"
    n_features: int
    prompt: NotRequired[str]  # these three only where they are used
    normalize: NotRequired[bool]
    truncate_dim: NotRequired[int]


class Parameters(TypedDict):
    """The parameters of a training."""

    recipe: NotRequired[str]
    budget: NotRequired[float]  # seconds
    cv: int
    seed: int | None
    C: float
    search: str
    with_tfidf: bool
    clean: bool
    multi_label: bool
    calibrate: str | None
    class_weight: dict[str, float] | str | None


class TrainingFacts(TypedDict):
    """Where the training rows are from."""

    file: str
    sha256: str
    text_column: str | int
    label_column: str | int | list[str] | list[int]
    columns: NotRequired[dict[str, list[str]]]  # of a model with columns, by their kind


class TestFacts(TypedDict):
    """Where the test rows are from."""

    description: str
    file: NotRequired[str]
    sha256: NotRequired[str]
    n_trained_on: NotRequired[int]


class Sidecar(TypedDict):
    """The content of `model.json`."""

    format: int
    model_sha256: str
    created: str
    versions: dict[str, str]
    notice: str | None
    training: TrainingFacts
    test: TestFacts
    encoder: EncoderFacts
    labels: list[str | int | float | bool]
    parameters: Parameters
    metrics: Metrics
    seconds: dict[str, float]
    name: NotRequired[str]  # what people call the model


class Example(TypedDict):
    """A text with its label and another prediction."""

    text: str
    label: str
    predicted: str
    probability: float
    number: NotRequired[int]
