"""Rows for trainings with a budget."""

from __future__ import annotations

import numpy as np

SIGNS = {"bad": "qx", "good": "zv"}
FACTS = {
    "training": {"file": "a.csv", "sha256": "0" * 64, "text_column": "t", "label_column": "l"},
    "test": {"description": "other rows"},
}


def spelled(n: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Return texts whose words are all new: the class is in two letters within each."""
    rng = np.random.default_rng(seed)
    labels = np.array(["bad", "good"] * (n // 2))
    texts = []
    for label in labels:
        sides = ["".join(rng.choice(list("abcdefghij"), 3)) for _ in range(8)]
        words = [
            f"{one}{SIGNS[label]}{other}"
            for one, other in zip(sides[::2], sides[1::2], strict=True)
        ]
        texts.append(" ".join(words))
    return texts, labels
