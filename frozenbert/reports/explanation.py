"""Explain one answer of a classifier by the words of its text."""

from __future__ import annotations

import contextlib
import html
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.base import BaseEstimator

from ..errors import InputError, TruncationWarning
from ..utils.console import bars
from ..utils.steps import find_steps

__all__ = ["MAX_WORDS", "Explanation", "WordWeight", "explain", "explain_answer"]

MAX_WORDS = 64
STRONGEST = 5  # words that are left out together, to see whether they explain the answer
LEAST = 0.1  # by how much the probability has to change then

Ask = Callable[[list[str]], np.ndarray]


@dataclass(frozen=True)
class WordWeight:
    """A word of a text, and its effect on a label's probability.

    Attributes
    ----------
    word : str
    start : int
        Place of its first character.
    weight : float
        Above 0 if the word speaks for the label.
    """

    word: str
    start: int
    weight: float


@dataclass(frozen=True)
class Explanation:
    """The words behind an answer.

    Attributes
    ----------
    text : str
    label : object
    probability : float
        Of the label.
    words : list of WordWeight
        In the order of the text. Empty if the words do not explain the answer.
    n_words : int
        Words of the text, of which the first 64 are tried.
    without : float
        The label's probability without the strongest words for it; or, if that changes more,
        without those against it.
    """

    text: str
    label: object
    probability: float
    words: list[WordWeight] = field(default_factory=list)
    n_words: int = 0
    without: float = 0.0

    def __repr__(self) -> str:
        head = f"{str(self.label)!r}, probability {self.probability:.3f}"
        if not self.words:
            return f"{head}: no single words explain it"
        ranked = sorted(self.words, key=lambda word: -abs(word.weight))
        shown = [f"{word.weight:+.3f}  {word.word}" for word in ranked[:10]]
        return "\n".join([f"{head}; without its strongest words {self.without:.3f}", *shown])

    def _repr_html_(self) -> str:
        if not self.words:
            return f"<p>{html.escape(repr(self))}</p>"
        largest = max(abs(word.weight) for word in self.words) or 1.0
        parts, place = [], 0
        for word in self.words:
            colour = "46, 125, 50" if word.weight > 0 else "198, 40, 40"
            style = f"background: rgba({colour}, {0.6 * abs(word.weight) / largest:.2f})"
            parts += [html.escape(self.text[place : word.start])]
            parts += [f'<span style="{style}" title="{word.weight:+.3f}">']
            parts += [html.escape(word.word), "</span>"]
            place = word.start + len(word.word)
        parts.append(html.escape(self.text[place:]))
        head = html.escape(f"{self.label}, probability {self.probability:.3f}")
        return f"<p><b>{head}</b>; green speaks for it, red against it</p><p>{''.join(parts)}</p>"


def explain(model: BaseEstimator, text: str, label: object = None) -> Explanation:
    """Return which words of a text speak for a label, and which against it.

    Parameters
    ----------
    model : estimator
        A fitted classifier of texts with probabilities.
    text : str
        Its first 64 words are tried.
    label : optional
        One of the model's labels. Default: the most probable one.

    Returns
    -------
    Explanation
        It shows itself in a notebook.

    Raises
    ------
    InputError
        If the text is no string, the model has no such label, or it predicts no probabilities.

    Notes
    -----
    The weight of a word is how much the label's probability falls without it. If it changes by
    less than 0.1 without the five strongest words together, no words are returned: the answer
    then follows from more than single words.

    Examples
    --------
    >>> from frozenbert.heads.words import make_words_baseline
    >>> texts = ["a stirring film", "a fine film", "a dull film", "a boring film"] * 5
    >>> model = make_words_baseline(cv=2).fit(texts, ["good", "good", "bad", "bad"] * 5)
    >>> found = explain(model, "such a dull plot")
    >>> found.label, max(found.words, key=lambda word: word.weight).word
    ('bad', 'dull')
    """
    if not isinstance(text, str):
        raise InputError("one text, as a string.", parameter="text")
    if not hasattr(model, "predict_proba") or not hasattr(model, "classes_"):
        raise InputError("this model predicts no probabilities, so there is nothing to explain.")
    with _without_cache(model), warnings.catch_warnings(), bars(False):
        warnings.simplefilter("ignore", TruncationWarning)
        return explain_answer(model.predict_proba, list(model.classes_), text, label)


@contextlib.contextmanager
def _without_cache(model: BaseEstimator) -> Iterator[None]:
    """Store no vectors of parts of the text."""
    steps = [step for step in find_steps(model, BaseEstimator) if hasattr(step, "cache_dir")]
    before = [step.cache_dir for step in steps]
    try:
        for step in steps:
            step.set_params(cache_dir=None)
        yield
    finally:
        for step, folder in zip(steps, before, strict=True):
            step.set_params(cache_dir=folder)


def explain_answer(
    ask: Ask, classes: Sequence[object], text: str, label: object = None
) -> Explanation:
    """Explain the answer to a text, by asking for the probabilities of parts of it.

    Parameters
    ----------
    ask : callable
        From texts to probabilities of shape (n_texts, n_classes).
    classes : sequence
    text : str
    label : optional
        As for `explain`.

    Returns
    -------
    Explanation
    """
    names = [str(one) for one in classes]
    if label is not None and str(label) not in names:
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise InputError(f"this model has no such label; it has {shown}.", parameter="label")
    words = list(re.finditer(r"\S+", text))
    tried = words[:MAX_WORDS]
    variants = [text, *(_without(text, [word]) for word in tried)]
    probabilities = np.asarray(ask(variants))
    place = int(probabilities[0].argmax()) if label is None else names.index(str(label))
    whole, *without = probabilities[:, place].tolist()
    weights = [whole - p for p in without]
    found = [
        WordWeight(word.group(), word.start(), weight)
        for word, weight in zip(tried, weights, strict=True)
    ]
    rest = whole
    if tried:
        parts = [_strongest(tried, weights, sign) for sign in (1, -1)]
        changed = np.asarray(ask([_without(text, part) for part in parts]))[:, place].tolist()
        rest = max(changed, key=lambda p: abs(p - whole))
    explained = abs(rest - whole) >= LEAST
    return Explanation(text, classes[place], whole, found if explained else [], len(words), rest)


def _strongest(
    words: Sequence[re.Match[str]], weights: Sequence[float], sign: int
) -> list[re.Match[str]]:
    """Return the words with the largest weights of one sign."""
    order = sorted(range(len(words)), key=lambda i: -sign * weights[i])
    return [words[i] for i in order[:STRONGEST] if sign * weights[i] > 0]


def _without(text: str, words: Sequence[re.Match[str]]) -> str:
    """Return the text without some words, and without the spaces after them."""
    for word in sorted(words, key=lambda word: -word.start()):
        text = text[: word.start()] + text[word.end() :].lstrip()
    return text
