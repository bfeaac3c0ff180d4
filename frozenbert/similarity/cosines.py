"""Check vectors, and scale them to length 1: their products are then cosines."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError

__all__ = ["unit_vectors"]


def unit_vectors(
    vectors: ArrayLike, *, at_least: int = 2, parameter: str = "vectors"
) -> np.ndarray:
    """Return vectors of length 1, after a check; a vector of zeros stays as it is.

    Parameters
    ----------
    vectors : array-like of shape (n_texts, n_features)
    at_least : int, default=2
        Fewest rows.
    parameter : str, default="vectors"
        What the caller calls them, for the error.

    Returns
    -------
    numpy.ndarray of float32, shape (n_texts, n_features)

    Raises
    ------
    InputError
        If it is no table of finite numbers with enough rows.

    Examples
    --------
    >>> unit_vectors([[3.0, 4.0], [0.0, 0.0]]).tolist()
    [[0.6..., 0.8...], [0.0, 0.0]]
    """
    array = np.asarray(vectors)
    if array.ndim != 2 or array.dtype.kind not in "fiu" or array.shape[1] == 0:
        raise InputError("one row of numbers for each text is needed.", parameter=parameter)
    if len(array) < at_least:
        raise InputError(
            f"at least {at_least} are needed, and there are {len(array)}.", parameter=parameter
        )
    # In float64: the squares of large numbers exceed float32.
    lengths = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
    if not np.isfinite(lengths).all():
        raise InputError("a value is no finite number.", parameter=parameter)
    unit = array / np.where(lengths > 0, lengths, 1).astype(array.dtype, copy=False)[:, np.newaxis]
    return np.ascontiguousarray(unit, dtype=np.float32)
