"""Heads: classifiers on vectors and on words, and the searches that tune them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
