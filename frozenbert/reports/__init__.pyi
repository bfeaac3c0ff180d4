from .comparison import compare_models
from .report import write_report

__all__ = ["compare_models", "write_report"]
