from .cache import VectorCache

__all__ = ["VectorCache"]
