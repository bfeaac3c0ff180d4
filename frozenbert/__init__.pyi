from .embed import DistilBertVectorizer
from .errors import (
    CacheWarning,
    CheckpointWarning,
    ColumnWarning,
    EncoderMismatchError,
    EncoderNotFoundError,
    FrozenbertWarning,
    HubUnreachableError,
    InputError,
    LabelWarning,
    LeakageWarning,
    MissingLibraryError,
    PoolWarning,
    PrecisionWarning,
    RareClassWarning,
    TruncationWarning,
)
from .fewshot.classifier import FewShotClassifier
from .persistence.export import export_model
from .persistence.models import load_model, save_model
from .pipeline import FineTunedClassifier, make_text_classifier, make_text_regressor
from .reports.explanation import explain

__all__ = [
    "CacheWarning",
    "CheckpointWarning",
    "ColumnWarning",
    "DistilBertVectorizer",
    "EncoderMismatchError",
    "EncoderNotFoundError",
    "FewShotClassifier",
    "FineTunedClassifier",
    "FrozenbertWarning",
    "HubUnreachableError",
    "InputError",
    "LabelWarning",
    "LeakageWarning",
    "MissingLibraryError",
    "PoolWarning",
    "PrecisionWarning",
    "RareClassWarning",
    "TruncationWarning",
    "explain",
    "export_model",
    "load_model",
    "make_text_classifier",
    "make_text_regressor",
    "save_model",
]

__version__: str
