"""Whether one classifier is better than another by more than chance, on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...heads.votes.decisions import DecisionClassifier, log_odds

__all__ = ["Gain", "measure_gain"]

GROUPS = 100  # of rows; more take longer and hardly change the interval


@dataclass(frozen=True)
class Gain:
    """The difference of two scores, with its 95 % interval.

    Examples
    --------
    >>> str(Gain(0.01, 0.002, 0.018))
    '+0.0100, 95 % interval +0.0020 to +0.0180'
    """

    difference: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval is above 0."""
        return self.low > 0

    def __str__(self) -> str:
        return f"{self.difference:+.4f}, 95 % interval {self.low:+.4f} to {self.high:+.4f}"


def measure_gain(
    scorer: Callable[..., float], y: np.ndarray, new: np.ndarray, old: np.ndarray
) -> Gain:
    """Compare two classifiers by their out-of-fold probabilities of the same rows.

    The interval is that of a grouped jackknife of the difference: the rows are split into up to
    100 groups, and each is left out once. It holds for any scorer; for accuracy it is the
    interval of the mean of the rows' differences.

    Parameters
    ----------
    scorer : callable
        As scikit-learn's.
    y : numpy.ndarray of shape (n_samples,) or (n_samples, n_labels)
    new, old : numpy.ndarray of shape (n_samples, n_classes)

    Examples
    --------
    >>> from sklearn.metrics import get_scorer
    >>> y = np.array([0, 1] * 100)
    >>> good = np.column_stack([1 - y, y]) * 0.8 + 0.1
    >>> measure_gain(get_scorer("accuracy"), y, good, good[::-1]).is_clear
    True
    >>> str(measure_gain(get_scorer("accuracy"), y, good, good))
    '+0.0000, 95 % interval +0.0000 to +0.0000'
    """
    from scipy.stats import t  # takes a while to import

    classifier = DecisionClassifier().fit(y, y)
    decisions = [log_odds(p, many=y.ndim == 2) for p in (new, old)]

    def difference(rows: np.ndarray) -> float:
        one, other = (scorer(classifier, scores[rows], y[rows]) for scores in decisions)
        return float(one - other)

    n_groups = min(GROUPS, len(y))
    groups = np.random.default_rng(0).permutation(len(y)) % n_groups
    without = np.array([difference(np.flatnonzero(groups != group)) for group in range(n_groups)])
    spread = np.sqrt((n_groups - 1) * without.var()) * t.ppf(0.975, n_groups - 1)
    whole = difference(np.arange(len(y)))
    return Gain(whole, whole - float(spread), whole + float(spread))
