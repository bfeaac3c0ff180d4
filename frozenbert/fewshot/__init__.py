"""Few labels: experts, distillation, and what to label next."""

from .classifier import FewShotClassifier

__all__ = ["FewShotClassifier"]
