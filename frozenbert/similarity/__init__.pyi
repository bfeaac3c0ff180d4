from .clusters import find_clusters
from .duplicates import find_near_duplicates
from .neighbours import find_neighbours, score_outliers

__all__ = ["find_clusters", "find_near_duplicates", "find_neighbours", "score_outliers"]
