from .reading import read_table
from .writing import write_table

__all__ = ["read_table", "write_table"]
