"""Text classification with frozen encoders and scikit-learn.

Text goes in once through a frozen transformer encoder; scikit-learn does everything
after that. Importing this package loads neither torch nor transformers nor matplotlib:
`__init__.pyi` lists the public names, and each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
