from .budget.clock import Deadline
from .fitting import Training, train
from .rows import check_classes, hold_out
from .saving import save_training, uses_words

__all__ = [
    "Deadline",
    "Training",
    "check_classes",
    "hold_out",
    "save_training",
    "train",
    "uses_words",
]
