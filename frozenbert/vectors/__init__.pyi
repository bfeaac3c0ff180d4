from .cache import VectorCache
from .job import Job

__all__ = ["Job", "VectorCache"]
