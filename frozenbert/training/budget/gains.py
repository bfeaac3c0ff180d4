"""Whether one classifier is better than another by more than chance, on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...heads.votes.decisions import DecisionClassifier, log_odds

__all__ = ["Gain", "measure_gain", "measure_log_loss"]

GROUPS = 100  # of rows; more take longer and hardly change the interval
TINY = 1e-12  # the least probability that the log loss counts


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

    @property
    def inverted(self) -> Gain:
        """The same gain, of what is the better the lower it is."""
        return Gain(-self.difference, -self.high, -self.low)

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
    classifier = DecisionClassifier().fit(y, y)
    decisions = [log_odds(p, many=y.ndim == 2) for p in (new, old)]

    def difference(rows: np.ndarray) -> float:
        one, other = (scorer(classifier, scores[rows], y[rows]) for scores in decisions)
        return float(one - other)

    return _jackknife(difference, len(y))


def measure_log_loss(y: np.ndarray, new: np.ndarray, old: np.ndarray) -> Gain:
    """Compare two classifiers by how much lower the log loss of the first one is.

    It tells small gains from chance that scores of decisions do not: each row counts by how
    probable its answer was, and not only by whether it was right.

    Parameters
    ----------
    y : numpy.ndarray of shape (n_samples,) or (n_samples, n_labels)
    new, old : numpy.ndarray of shape (n_samples, n_classes)

    Examples
    --------
    >>> y = np.array([0, 1] * 100)
    >>> sure, unsure = (np.column_stack([1 - y, y]) * width + 0.1 for width in (0.8, 0.4))
    >>> measure_log_loss(y, sure, unsure).is_clear
    True
    """
    flags = y if y.ndim == 2 else (y[:, None] == np.unique(y)).astype(float)
    probable = [np.where(flags > 0, p, 1 - p) for p in (new, old)]
    if y.ndim == 1:
        probable = [(flags * p).sum(axis=1) for p in (new, old)]
    better, before = (np.log(np.clip(p, TINY, 1)) for p in probable)
    rows = (better - before).reshape(len(y), -1).mean(axis=1)
    return _jackknife(lambda some: float(rows[some].mean()), len(y))


def _jackknife(difference: Callable[[np.ndarray], float], n_rows: int) -> Gain:
    """Return a difference and its interval, by leaving out one group of rows after another."""
    from scipy.stats import t  # takes a while to import

    n_groups = min(GROUPS, n_rows)
    groups = np.random.default_rng(0).permutation(n_rows) % n_groups
    without = np.array([difference(np.flatnonzero(groups != group)) for group in range(n_groups)])
    spread = np.sqrt((n_groups - 1) * without.var()) * t.ppf(0.975, n_groups - 1)
    whole = difference(np.arange(n_rows))
    return Gain(whole, whole - float(spread), whole + float(spread))
