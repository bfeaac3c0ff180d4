"""Compare the models that a few-shot classifier holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..heads.words import make_words_baseline
from ..reports.metrics import score
from ..reports.schema import Score
from ..utils.cleaning import clean_texts

if TYPE_CHECKING:
    from ..reports.schema import Score
    from .classifier import FewShotClassifier

__all__ = ["BASELINE", "score_models"]

BASELINE = "TF-IDF, no pool"


def score_models(
    classifier: FewShotClassifier,
    texts: Sequence[str],
    labels: np.ndarray,
    test_texts: Sequence[str],
    test_labels: np.ndarray,
) -> dict[str, Score]:
    """Score the models of a few-shot classifier, and a baseline of words, on test texts.

    Parameters
    ----------
    classifier : FewShotClassifier
        Fitted on `texts` and `labels`.
    texts, test_texts : sequence of str
    labels, test_labels : numpy.ndarray of shape (n_texts,)

    Returns
    -------
    dict
        For "TF-IDF, no pool", trained here on `texts`, and each model of the classifier
        ("experts", "teacher", "student", "student_words"), what
        `frozenbert.reports.metrics.score` returns: `accuracy` and `macro_f1` as fractions, and
        `per_class`.
    """
    seen, asked = list(texts), list(test_texts)
    if classifier.clean:
        seen, asked = clean_texts(seen), clean_texts(asked)
    folds = min(5, int(np.unique(labels, return_counts=True)[1].min()))
    baseline = make_words_baseline(cv=folds, random_state=classifier.random_state)
    predictions = {BASELINE: baseline.fit(seen, labels).predict(asked)}
    for name, model in classifier.models().items():
        predictions[name] = model.predict(test_texts)
    return {name: score(test_labels, predicted) for name, predicted in predictions.items()}
