"""Vectors: jobs from texts to vectors, and the cache that stores them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
