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
from ..candidates import MARGIN, SAMPLE, Material, Member, take, timed
from .members import TunedScores, as_scores

__all__ = ["Documents"]

N_COMPONENTS = 200


@dataclass(frozen=True)
class Documents:
    """Logistic regression on latent semantic vectors (TF-IDF and a truncated SVD).

    The vectors are learned on the training rows of each fold, and on the unlabelled texts.
    """

    name: str = "document vectors"

    def why_not(self, material: Material) -> str | None:
        """Return why the step cannot be taken, or None if it can."""
        return None if material.words else "it belongs to words, which are turned off"

    def n_encoders(self, material: Material) -> int:
        """Return 0: the step trains none."""
        return 0

    def estimate(self, material: Material) -> float:
        """Return how many seconds the step takes, by a sample that is timed."""
        sample = material.sample(SAMPLE)
        return MARGIN * timed(self.run, sample) * len(material.texts) / len(sample.texts)

    def run(self, material: Material) -> Member:
        """Train."""
        models, p = [], None
        for train, test in material.splits:
            model = _fit(material, train)
            models.append(model)
            of_test = model.predict_proba(take(material.texts, test))
            p = np.zeros((len(material.y), of_test.shape[1])) if p is None else p
            p[test] = of_test
        assert p is not None
        scores = TunedScores.of(models, multi_label=material.many, missing=material.embed.missing)
        return Member(scores, as_scores(p, multi_label=material.many))


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
