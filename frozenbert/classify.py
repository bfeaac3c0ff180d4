"""The heads: scikit-learn classifiers, tuned by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from .errors import InputError

__all__ = ["C_VALUES", "make_head", "make_words_baseline"]

# For standardised features: below the smallest a model is near constant, above the largest
# the score has long stopped rising on every data set this was tried on.
C_VALUES = tuple(float(c) for c in np.logspace(-5, 1, 20))

# TF-IDF rows have length 1, and therefore need less regularisation.
BASELINE_C_VALUES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def make_head(
    *,
    C: Sequence[float] | float | None = None,
    cv: int = 5,
    scoring: str | None = None,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> GridSearchCV:
    """Make a logistic regression whose strength C is chosen by stratified folds.

    Newton's method with conjugate gradients: on vectors of encoders, whose columns go
    together, it ends in a few steps where lbfgs, scikit-learn's default, needs hundreds.
    The tolerance is looser than the default; further digits change no prediction.

    Parameters
    ----------
    C : sequence of float, float or None, default=None
        Inverse strengths of regularisation to try. None tries 20 values from 1e-5 to 10,
        evenly spaced in their logarithm.
    cv : int, default=5
        Folds, shuffled. scikit-learn warns if a class has fewer rows than that, and
        raises an error if all have.
    scoring : str or None, default=None
        A scikit-learn scorer's name; None is accuracy.
    random_state : int or None, default=0
        Shuffles the folds.
    n_jobs : int or None, default=None
        Processes for the search, as in scikit-learn.

    Returns
    -------
    sklearn.model_selection.GridSearchCV

    Raises
    ------
    InputError
        If a value of `C` is not above 0, or `cv` is under 2.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> X, y = make_classification(random_state=0)
    >>> head = make_head(C=[0.01, 1.0]).fit(X, y)
    >>> head.best_params_["C"] in (0.01, 1.0)
    True
    """
    values = [float(c) for c in np.atleast_1d(C_VALUES if C is None else C)]
    if not values or not all(0 < c < float("inf") for c in values):
        raise InputError(f"C={C!r}: one or more numbers above 0.")
    if not cv >= 2:
        raise InputError(f"cv={cv!r}: at least 2 folds.")
    return GridSearchCV(
        LogisticRegression(solver="newton-cg", tol=1e-3, max_iter=1000),
        {"C": values},
        cv=StratifiedKFold(cv, shuffle=True, random_state=random_state),
        scoring=scoring,
        n_jobs=n_jobs,
    )


def make_words_baseline(
    *,
    cv: int = 5,
    scoring: str | None = None,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> Pipeline:
    """Make what any encoder has to beat: TF-IDF of words and pairs, logistic regression.

    Parameters
    ----------
    cv, scoring, random_state, n_jobs
        As for `make_head`.

    Returns
    -------
    sklearn.pipeline.Pipeline
        With the steps `tfidf` and `classify`; its C is tuned over the same folds.

    Examples
    --------
    >>> texts = ["good film", "fine film", "bad film", "poor film"] * 5
    >>> make_words_baseline(cv=2).fit(texts, [1, 1, 0, 0] * 5).predict(["a bad one"]).item()
    0
    """
    head = make_head(
        C=BASELINE_C_VALUES, cv=cv, scoring=scoring, random_state=random_state, n_jobs=n_jobs
    )
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    return Pipeline([("tfidf", words), ("classify", head)])
