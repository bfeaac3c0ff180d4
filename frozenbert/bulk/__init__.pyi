from .stream import embed_table

__all__ = ["embed_table"]
