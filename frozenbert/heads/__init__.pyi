from .logistic import make_head
from .search import FeatureSearch

__all__ = ["FeatureSearch", "make_head"]
