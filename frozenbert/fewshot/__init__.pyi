from .classifier import FewShotClassifier

__all__ = ["FewShotClassifier"]
