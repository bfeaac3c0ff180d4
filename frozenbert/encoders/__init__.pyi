from .encoder import load_encoder
from .sources import find_encoder

__all__ = ["find_encoder", "load_encoder"]
