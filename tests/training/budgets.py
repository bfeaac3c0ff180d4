"""Rows for trainings with a budget."""

from __future__ import annotations

import numpy as np

SIGNS = {"bad": "qx", "good": "zv"}


def spelled(n: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Return texts whose words are all new: the class is in two letters within a word."""
    rng = np.random.default_rng(seed)
    labels = np.array(["bad", "good"] * (n // 2))
    texts = []
    for label in labels:
        ends = ["".join(rng.choice(list("abcdefghij"), 4)) for _ in range(4)]
        texts.append(f"{ends[0]}{SIGNS[label]}{ends[1]} {ends[2]}{ends[3]}")
    return texts, labels
