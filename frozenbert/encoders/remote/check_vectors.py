"""Tell remote encoders apart by the vector of a fixed text, in the place of a content hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np

from ...utils.files import make_private_folder, names_in, write_array, writing

__all__ = ["CHECK_TEXT", "content_hash", "cosine", "is_same", "recall"]

CHECK_TEXT = "The quick brown fox jumps over the lazy dog."
# Servers compute one text's vector a little differently each time. Other models are far below.
LEAST_COSINE = 0.999


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Return the cosine of two vectors; 0 for vectors of different lengths, and of zeros.

    Examples
    --------
    >>> cosine(np.array([3.0, 4.0]), np.array([4.0, 3.0])), cosine(np.ones(2), np.ones(3))
    (0.96, 0.0)
    """
    if one.shape != other.shape:
        return 0.0
    one, other = one.astype(np.float64), other.astype(np.float64)
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return round(float(one @ other) / lengths, 9) if lengths > 0 else 0.0


def is_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two vectors of the check text are of one encoder."""
    return cosine(one, other) >= LEAST_COSINE


def content_hash(url: str, model: str, check_vector: np.ndarray) -> str:
    """Return what identifies the vectors of a remote encoder, 64 hexadecimal digits.

    Parameters
    ----------
    url : str
        The server's address.
    model : str
    check_vector : numpy.ndarray of float32, shape (n_features,)
        Of `CHECK_TEXT`.
    """
    place = _place(url, model, check_vector)
    return hashlib.sha256(f"{place} ".encode() + check_vector.tobytes()).hexdigest()


def recall(root: Path | None, url: str, model: str, check_vector: np.ndarray) -> np.ndarray:
    """Return the check vector by which an encoder is known in a cache; store a new one.

    The first that was seen counts, so that a server which computes the last bits differently
    keeps its vectors.

    Parameters
    ----------
    root : pathlib.Path or None
        Folder of the cache; None stores nothing.
    url, model, check_vector
        As for `content_hash`.
    """
    if root is None:
        return check_vector
    folder = root / "remote" / _place(url, model, check_vector)
    for name in sorted(names_in(folder)):
        # A damaged file counts as absent.
        with contextlib.suppress(OSError, ValueError):
            known = np.load(folder / name, allow_pickle=False)
            if known.dtype == np.float32 and is_same(known, check_vector):
                return known
    # A folder that cannot be written is warned of when vectors are stored.
    with contextlib.suppress(OSError):
        make_private_folder(folder, root)
        name = hashlib.sha256(check_vector.tobytes()).hexdigest()[:32]
        with writing(folder / f"{name}.npy") as temporary, open(temporary, "wb") as file:
            write_array(file, check_vector)
    return check_vector


def _place(url: str, model: str, check_vector: np.ndarray) -> str:
    parts = json.dumps([url, model, len(check_vector)])
    return hashlib.sha256(parts.encode()).hexdigest()
