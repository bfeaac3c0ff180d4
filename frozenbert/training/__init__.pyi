from .budget.clock import Deadline
from .fitting import Training, train
from .mixed import train_columns
from .regression import hold_out_numbers, train_numbers
from .rows import check_classes, hold_out
from .saving import save_training, uses_words

__all__ = [
    "Deadline",
    "Training",
    "check_classes",
    "hold_out",
    "hold_out_numbers",
    "save_training",
    "train",
    "train_columns",
    "train_numbers",
    "uses_words",
]
