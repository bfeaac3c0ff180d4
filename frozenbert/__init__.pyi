from .embed import DistilBertVectorizer
from .errors import (
    CacheWarning,
    EncoderMismatchError,
    EncoderNotFoundError,
    FrozenbertWarning,
    HubUnreachableError,
    InputError,
    PrecisionWarning,
    RareClassWarning,
    TruncationWarning,
)
from .persistence import load_model, save_model
from .pipeline import make_text_classifier

__all__ = [
    "CacheWarning",
    "DistilBertVectorizer",
    "EncoderMismatchError",
    "EncoderNotFoundError",
    "FrozenbertWarning",
    "HubUnreachableError",
    "InputError",
    "PrecisionWarning",
    "RareClassWarning",
    "TruncationWarning",
    "load_model",
    "make_text_classifier",
    "save_model",
]

__version__: str
