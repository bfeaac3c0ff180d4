from .app import make_app
from .process import serve_encoder, serve_model

__all__ = ["make_app", "serve_encoder", "serve_model"]
