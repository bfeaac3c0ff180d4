"""Document vectors that are learned on the corpus itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer

from ....heads.words import CompactTfidfVectorizer
from ..candidates import FromWords, Material, Member, take
from .classifier_scores import cross_fit

__all__ = ["Documents"]

N_COMPONENTS = 200


@dataclass(frozen=True)
class Documents(FromWords):
    """Logistic regression on latent semantic vectors (TF-IDF and a truncated SVD).

    The vectors are learned on the training rows of each fold, and on the unlabelled texts.
    """

    name: str = "document vectors"

    def run(self, material: Material) -> Member:
        """Train."""
        return cross_fit(lambda _, rows: _fit(material, rows), material)


def _fit(material: Material, rows: np.ndarray) -> Pipeline:
    """Return a classifier of the rows, whose vectors know the unlabelled texts too."""
    texts = take(material.texts, rows)
    words = CompactTfidfVectorizer(sublinear_tf=True, dtype=np.float32)
    counts = words.fit_transform([*texts, *material.unlabelled])
    n_components = max(1, min(N_COMPONENTS, *(size - 1 for size in counts.shape)))
    reduce = TruncatedSVD(n_components, random_state=material.seed).fit(counts)
    normalize = Normalizer()
    head = LogisticRegression(max_iter=1000)
    if material.many:
        head = OneVsRestClassifier(head)
    vectors = normalize.fit_transform(reduce.transform(counts[: len(texts)]))
    head.fit(vectors, material.y[rows])
    steps = {"words": words, "reduce": reduce, "normalize": normalize, "classify": head}
    return Pipeline(list(steps.items()))
