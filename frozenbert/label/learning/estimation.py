"""The accuracy on the pool from a random sample, the advice to stop, and agreement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy.stats import binomtest

from ..items import Advice, CurvePoint, Estimate

__all__ = ["advise", "estimate_accuracy", "expected_gain", "krippendorff_alpha"]

MIN_SAMPLE = 10  # labelled texts of the random sample, before there is an estimate
ENOUGH = 0.01  # accuracy that twice as many labels have to bring


def estimate_accuracy(right: Sequence[bool] | np.ndarray) -> Estimate | None:
    """Return the accuracy on the pool, from answers to a random sample of it.

    Parameters
    ----------
    right : sequence of bool
        Whether the answer to each text of the sample is right. Each is given by a model that
        was fitted without the text.

    Returns
    -------
    Estimate or None
        With the 95 % interval of Wilson; None of fewer than 10 texts.

    Examples
    --------
    >>> value, low, high, n = estimate_accuracy([True] * 30 + [False] * 10)
    >>> value, round(low, 2), round(high, 2), n
    (0.75, 0.6, 0.86, 40)
    """
    n, hits = len(right), int(np.sum(right))
    if n < MIN_SAMPLE:
        return None
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return Estimate(hits / n, float(interval.low), float(interval.high), n)


def krippendorff_alpha(answers: Collection[Mapping[str | None, Sequence[str]]]) -> float | None:
    """Return Krippendorff's alpha for nominal labels, None without texts shown to two.

    Parameters
    ----------
    answers : collection of mapping
        For each text, what each annotator said. Several labels of a text are one value.

    References
    ----------
    K. Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011.

    Examples
    --------
    >>> said = [{"anna": ["a"], "ben": ["a"]}, {"anna": ["b"], "ben": ["b"]}]
    >>> krippendorff_alpha(said), krippendorff_alpha([{"anna": ["a"]}])
    (1.0, None)
    >>> round(krippendorff_alpha([*said, {"anna": ["a"], "ben": ["b"]}]), 3)
    0.444
    """
    units = [
        Counter(tuple(sorted(labels)) for labels in said.values())
        for said in answers
        if len(said) > 1
    ]
    if not units:
        return None
    totals: Counter[tuple[str, ...]] = Counter()
    for unit in units:
        totals += unit
    n = totals.total()
    observed = sum(
        (unit.total() ** 2 - sum(k * k for k in unit.values())) / (unit.total() - 1)
        for unit in units
    )
    expected = (n * n - sum(k * k for k in totals.values())) / (n - 1)
    return 1.0 if expected == 0 else float(1 - observed / expected)


def expected_gain(before: np.ndarray, now: np.ndarray, n_before: int, n: int) -> float:
    """Return the accuracy that twice as many labels are expected to bring at most.

    A model's answers to the same unlabelled texts, now and when it had fewer labels, need no
    further labels: where they agree, accuracy has not changed. The share that changed from
    half of the labels to all is, as far as learning curves fall evenly, the share that twice
    as many would change.

    Parameters
    ----------
    before, now : numpy.ndarray of float, shape (n_texts, n_labels)
        Probabilities by the model of `n_before` labels and of `n`.
    n_before, n : int
    """
    changed = before.argmax(axis=1) != now.argmax(axis=1)
    rows = np.arange(len(now))
    better = now.max(axis=1) - now[rows, before.argmax(axis=1)]
    doublings = np.log2(n / max(1, n_before))
    return float((better * changed).mean() / max(doublings, 1e-9))


def advise(gain: float | None, curve: Sequence[CurvePoint], enough: float = ENOUGH) -> Advice:
    """Return whether to stop.

    Parameters
    ----------
    gain : float or None
        From `expected_gain`; None before there is one.
    curve : sequence of CurvePoint
    enough : float, default=0.01
    """
    if gain is None:
        return Advice(False, "Go on: too few labels to tell what more would bring.")
    points = f"{100 * gain:.1f} points of accuracy"
    if gain < enough:
        return Advice(True, f"Stop: twice as many labels would bring about {points}.")
    return Advice(False, f"Go on: twice as many labels would bring about {points}.")
