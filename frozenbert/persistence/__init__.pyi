from .export import export_model
from .models import load_model, save_model

__all__ = ["export_model", "load_model", "save_model"]
