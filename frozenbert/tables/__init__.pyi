from .reading import read_table

__all__ = ["read_table"]
