"""Compare the models that a few-shot classifier holds."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold

from ..errors import FrozenbertWarning, InputError
from ..heads.scoring import is_unbalanced
from ..heads.words import make_words_baseline
from ..reports.metrics import intervals, score
from ..reports.schema import Interval, Score
from ..utils.cleaning import clean_texts
from ..utils.console import bars, progress_bar

if TYPE_CHECKING:
    from .classifier import FewShotClassifier

__all__ = ["BASELINE", "Compared", "compare_by_folds", "recommended", "score_models"]

BASELINE = "TF-IDF, no pool"
FOLDS = 5


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


@dataclass(frozen=True)
class Compared:
    """The score of a model on labelled rows that it was not trained on.

    Attributes
    ----------
    scoring : {"accuracy", "macro_f1"}
        Macro F1 if the classes are unbalanced.
    score : float
    interval : list of float
        95 %, of resampled rows.
    above_teacher : float
        Difference of the scores.
    above_teacher_interval : list of float
        95 %, paired: of the same resampled rows.
    per_class : dict of str to float
        F1 of each class.
    """

    scoring: str
    score: float
    interval: Interval
    above_teacher: float
    above_teacher_interval: Interval
    per_class: dict[str, float]

    @property
    def standard_error(self) -> float:
        """Of the difference to the teacher, from its interval."""
        low, high = self.above_teacher_interval
        return (high - low) / (2 * 1.96)


def compare_by_folds(
    classifier: FewShotClassifier,
    texts: Sequence[str],
    labels: np.ndarray,
    unlabelled: Sequence[str],
) -> dict[str, Compared]:
    """Compare a few-shot classifier's models by folds of the labelled rows.

    For each of up to 5 folds, all models are trained on the other labelled rows and the whole
    pool, and predict the rows of the fold. They are compared by accuracy, or by macro F1 if the
    largest class has over five times the rows of the smallest.

    Parameters
    ----------
    classifier : FewShotClassifier
        Its parameters count; it need not be fitted.
    texts : sequence of str
        The labelled texts.
    labels : numpy.ndarray of shape (n_texts,)
    unlabelled : sequence of str
        The pool; labelled texts in it are left out.

    Returns
    -------
    dict of str to Compared
        For "experts", "teacher", "student" and "student_words".

    Raises
    ------
    InputError
        If a class has fewer than three texts, or encoders are trained, which takes too long.
    """
    if classifier.experts != "frozen":
        raise InputError("experts that train encoders are not compared by folds: that takes long.")
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 3:
        raise InputError(
            f"the class {str(classes[counts.argmin()])[:40]!r} has {counts.min()} rows, and folds "
            f"need three."
        )
    known = set(texts)
    pool = [text for text in dict.fromkeys(unlabelled) if text not in known]
    seed = classifier.random_state
    folds = StratifiedKFold(min(FOLDS, int(counts.min())), shuffle=True, random_state=seed)
    predicted: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        for category in (FrozenbertWarning, ConvergenceWarning):  # those of the fit say enough
            warnings.simplefilter("ignore", category)
        model: FewShotClassifier = clone(classifier)
        if model.vectorizer is not None and model.vectorizer.cache_dir is None:
            model.vectorizer.set_params(cache_dir=folder)
        comparing = progress_bar("auto", folds.get_n_splits(), "Comparing models", "folds")
        with comparing as bar, bars(False):
            for train, test in folds.split(labels, labels):
                model.fit([texts[i] for i in train], labels[train], pool)
                asked = [texts[i] for i in test]
                for name, one in model.models().items():
                    predicted.setdefault(name, np.empty_like(labels))[test] = one.predict(asked)
                bar.update()
    scoring: Literal["accuracy", "macro_f1"] = "macro_f1" if is_unbalanced(labels) else "accuracy"
    return {
        name: _compared(labels, own, predicted["teacher"], scoring)
        for name, own in predicted.items()
    }


def _compared(
    labels: np.ndarray,
    predicted: np.ndarray,
    teacher: np.ndarray,
    scoring: Literal["accuracy", "macro_f1"],
) -> Compared:
    own, ends = score(labels, predicted), intervals(labels, predicted, teacher)
    return Compared(
        scoring,
        own[scoring],
        ends[scoring],
        own[scoring] - score(labels, teacher)[scoring],
        ends[f"{scoring}_above_baseline"],
        {name: figures["f1-score"] for name, figures in own["per_class"].items()},
    )


def recommended(compared: dict[str, Compared]) -> str:
    """Return the model to use: the teacher, unless another is better by a standard error.

    Parameters
    ----------
    compared : dict of str to Compared
        From `compare_by_folds`.

    Examples
    --------
    >>> same = Compared("accuracy", 0.7, [0.6, 0.8], 0.0, [0.0, 0.0], {})
    >>> better = Compared("accuracy", 0.75, [0.65, 0.85], 0.05, [-0.01, 0.11], {})
    >>> recommended({"experts": better, "teacher": same})
    'experts'
    """
    better = [
        name
        for name, one in compared.items()
        if one.above_teacher > 0 and one.above_teacher >= one.standard_error
    ]
    return max(better, key=lambda name: compared[name].score, default="teacher")
