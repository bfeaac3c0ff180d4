"""The steps that a budget may be spent on, the cheapest first."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import PredefinedSplit, StratifiedKFold, train_test_split

from ...embed import DistilBertVectorizer
from ...heads.folds import Folds, Splits, cv_splits, limit_train_rows
from ...heads.words import WordScores

__all__ = ["Candidate", "Characters", "FromWords", "Material", "Member"]

SAMPLE = 400  # rows of the sample by which a step's time is estimated
MARGIN = 1.25  # an estimate is that much above what the sample tells


@dataclass(frozen=True)
class Material:
    """What a step learns from.

    Attributes
    ----------
    texts : list of str
        The training texts; cleaned, if the model cleans its texts.
    y : numpy.ndarray of shape (n_samples,) or (n_samples, n_labels)
    folds : StratifiedKFold or PredefinedSplit
        The model's own folds.
    scoring : str or None
        The name of the scorer.
    embed : DistilBertVectorizer
        The model's own, fitted.
    words : bool
        Whether the model may use words.
    unlabelled : list of str
    scratch : pathlib.Path
        Folder for the step's files.
    seed : int
    """

    texts: list[str]
    y: np.ndarray
    folds: StratifiedKFold | PredefinedSplit
    scoring: str | None
    embed: DistilBertVectorizer
    words: bool
    unlabelled: list[str]
    scratch: Path
    seed: int = 0

    @property
    def many(self) -> bool:
        """Whether a text may have any number of labels."""
        return self.y.ndim == 2

    @property
    def splits(self) -> Splits:
        """The training and test rows of each fold."""
        return cv_splits(self.folds, self.texts, self.y)

    def in_folds(self, n_folds: int) -> Material:
        """Return the rows in at most so many folds; what is in one fold stays together."""
        if self.folds.get_n_splits() <= n_folds:
            return self
        if isinstance(self.folds, PredefinedSplit):
            _, coded = np.unique(self.folds.test_fold, return_inverse=True)
            return replace(self, folds=PredefinedSplit(coded % n_folds))
        return replace(self, folds=Folds(n_folds, shuffle=True, random_state=self.seed))

    def sample(self, n_rows: int) -> Material:
        """Return about so many rows, and enough of each class that no fold lacks one."""
        n, n_folds = len(self.y), self.folds.get_n_splits()
        if n <= n_rows:
            return self
        ((rows, _),) = limit_train_rows([(np.arange(n), np.arange(0))], self.y, n_rows, self.seed)
        if not self.many:
            order = np.concatenate([rows, np.setdiff1d(np.arange(n), rows)])
            some = [order[self.y[order] == label][:n_folds] for label in np.unique(self.y)]
            rows = np.union1d(rows, np.concatenate(some))
        folds = Folds(n_folds, shuffle=True, random_state=self.seed)
        return replace(self, texts=take(self.texts, rows), y=self.y[rows], folds=folds)


@dataclass
class Member:
    """What a step brings: scores of the texts by one more classifier.

    Attributes
    ----------
    transformer : estimator
        Fitted; texts in, scores out.
    scores : numpy.ndarray of shape (n_samples, n_scores)
        Of the training texts, out of fold.
    seconds : float
    """

    transformer: BaseEstimator
    scores: np.ndarray
    seconds: float = 0.0


class Candidate(Protocol):
    """A step that a budget may be spent on; runs in a process of its own."""

    @property
    def name(self) -> str:
        """Its name in the ladder."""

    def why_not(self, material: Material) -> str | None:
        """Return why the step cannot be taken, or None if it can."""

    @property
    def n_encoders(self) -> int:
        """How many encoders the step adds to the model."""

    def sized(self, material: Material, seconds: float) -> tuple[Candidate, float]:
        """Return the most thorough size that takes at most `seconds`, and its seconds.

        A sample is timed. If none does, it is the smallest.
        """

    def run(self, material: Material) -> Member:
        """Train."""


@dataclass(frozen=True)
class FromWords(ABC):
    """A step that trains no encoder, and that belongs to the words of a model."""

    name: str

    def why_not(self, material: Material) -> str | None:
        """Return why the step cannot be taken, or None if it can."""
        return None if material.words else "it belongs to words, which are turned off"

    @property
    def n_encoders(self) -> int:
        """How many encoders the step adds to the model."""
        return 0

    def sized(self, material: Material, seconds: float) -> tuple[Candidate, float]:
        """Return the step, which has one size, and its seconds by a sample that is timed."""
        sample = material.sample(SAMPLE)
        started = time.perf_counter()
        self.run(sample)
        taken = time.perf_counter() - started
        return self, MARGIN * taken * len(material.texts) / len(sample.texts)

    @abstractmethod
    def run(self, material: Material) -> Member:
        """Train."""


@dataclass(frozen=True)
class Characters(FromWords):
    """Sequences of characters, weighted as in naive Bayes, like words."""

    name: str = "characters"

    def run(self, material: Material) -> Member:
        """Train."""
        scores = WordScores(
            cv=material.folds,
            scoring=material.scoring,
            multi_label=material.many,
            random_state=material.seed,
            missing=material.embed.missing,
            analyzer="char_wb",
        )
        return Member(scores, scores.fit_transform(material.texts, material.y))


def held_out_part(y: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return training and validation rows; each class keeps a training row.

    Examples
    --------
    >>> y = np.array(["a", "b", "b", "b", "c", "c"])
    >>> train, valid = held_out_part(y, 0.1, seed=0)
    >>> sorted(set(y[train].tolist())), sorted(y[valid].tolist())
    (['a', 'b', 'c'], ['b', 'c'])
    """
    rows, stratify = np.arange(len(y)), None
    n_valid = max(1, round(share * len(y)))
    if y.ndim == 1:
        _, coded, counts = np.unique(y, return_inverse=True, return_counts=True)
        several = rows[counts[coded] >= 2]
        n_classes = int((counts >= 2).sum())
        if n_classes:
            n_valid = min(max(n_valid, n_classes), len(several) - n_classes)
            rows, stratify = several, coded[several]
    _, valid = train_test_split(rows, test_size=n_valid, stratify=stratify, random_state=seed)
    valid = np.sort(valid)
    return np.setdiff1d(np.arange(len(y)), valid), valid


def take(texts: Sequence[str], rows: np.ndarray) -> list[str]:
    """Return some of the texts."""
    return [texts[i] for i in rows]
