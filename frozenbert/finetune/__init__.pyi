from .finetuning import finetune
from .recipe import Recipe

__all__ = ["Recipe", "finetune"]
