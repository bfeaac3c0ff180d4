from .finetuning import finetune

__all__ = ["finetune"]
