"""Label texts: choose what to ask, learn in the background, estimate, audit."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
