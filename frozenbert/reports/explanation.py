"""Explain one answer of a classifier by the words of its text."""

from __future__ import annotations

import contextlib
import functools
import html
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ..errors import InputError, TruncationWarning
from ..utils.console import bars
from ..utils.extras import is_installed, require
from ..utils.steps import find_steps

__all__ = [
    "MAX_WORDS",
    "METHODS",
    "Explanation",
    "WordWeight",
    "explain",
    "explain_answer",
    "prepare",
]

METHODS = {
    "shapley": "Shapley values: the mean effect of a word, whichever others are left out",
    "occlusion": "leave one word out: approximate, because words act together",
}
MAX_WORDS = 64
PERMUTATIONS = 5  # of the words, forwards and backwards
MOST_ASKED = 400  # parts of a text; a long text has fewer permutations
STRONGEST = 5  # words that are left out together, to see whether they explain the answer
LEAST = 0.1  # by how much the probability has to change then

Label = bool | int | float | str
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
    label : bool, int, float or str
    probability : float
        Of the label.
    words : list of WordWeight
        In the order of the text. Empty if the words do not explain the answer.
    n_words : int
        Words of the text, of which the first 64 are tried.
    without : float
        The label's probability without the strongest words for it; or, if that changes more,
        without those against it.
    method : {"shapley", "occlusion"}
    """

    text: str
    label: Label
    probability: float
    words: list[WordWeight] = field(default_factory=list)
    n_words: int = 0
    without: float = 0.0
    method: str = "shapley"

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


def explain(
    model: BaseEstimator, text: str, label: object = None, *, method: str = "auto"
) -> Explanation:
    """Return which words of a text speak for a label, and which against it.

    Parameters
    ----------
    model : estimator
        A fitted classifier of texts with probabilities.
    text : str
        Its first 64 words are tried.
    label : optional
        One of the model's labels. Default: the most probable one.
    method : {"auto", "shapley", "occlusion"}, default="auto"
        "shapley" samples Shapley values [1]_ by the library shap, from up to 400 parts of the
        text. "occlusion" leaves out one word at a time, which is faster, and misses words of
        which others do the same. "auto" is "shapley" if shap is installed.

    Returns
    -------
    Explanation
        It shows itself in a notebook.

    Raises
    ------
    InputError
        If the text is no string, the model has no such label, or it predicts no probabilities.
    sklearn.exceptions.NotFittedError
        If the model is not fitted.
    MissingLibraryError
        If the method is "shapley", and shap is not installed.

    Notes
    -----
    If the label's probability changes by less than 0.1 without the five strongest words
    together, no words are returned: the answer then follows from more than single words.

    References
    ----------
    .. [1] Mitchell et al. 2022, "Sampling permutations for Shapley value estimation".

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
        if isinstance(model, BaseEstimator):
            check_is_fitted(model)
        raise InputError("this model predicts no probabilities, so there is nothing to explain.")
    classes = np.asarray(model.classes_).tolist()
    with _without_cache(model), warnings.catch_warnings(), bars(False):
        warnings.simplefilter("ignore", TruncationWarning)
        return explain_answer(model.predict_proba, classes, text, label, method)


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
    ask: Ask, classes: Sequence[Label], text: str, label: object = None, method: str = "auto"
) -> Explanation:
    """Explain the answer to a text, by asking for the probabilities of parts of it.

    Parameters
    ----------
    ask : callable
        From texts to probabilities of shape (n_texts, n_classes).
    classes : sequence
    text : str
    label : optional
    method : {"auto", "shapley", "occlusion"}, default="auto"
        As for `explain`.

    Returns
    -------
    Explanation
    """
    names = [str(one) for one in classes]
    if label is not None and str(label) not in names:
        known = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise InputError(f"this model has no such label; it has {known}.", parameter="label")
    method = _resolve(method)
    words = list(re.finditer(r"\S+", text))
    tried = words[:MAX_WORDS]
    parts = _Parts(ask, text, tried)
    all_words = np.ones((1, len(tried)), dtype=bool)
    place = int(parts.ask(all_words)[0].argmax()) if label is None else names.index(str(label))

    def probability(masks: np.ndarray) -> np.ndarray:
        return parts.ask(masks)[:, place]

    whole = rest = float(probability(all_words)[0])
    weights = np.zeros(0)
    if tried:
        weigh = _shapley_values if method == "shapley" and len(tried) > 1 else _effects_of_one
        weights = weigh(probability, len(tried))
        strongest = np.stack([_without_strongest(weights), _without_strongest(-weights)])
        rest = float(max(probability(strongest), key=lambda p: abs(p - whole)))
    found = [
        WordWeight(word.group(), word.start(), float(weight))
        for word, weight in zip(tried, weights, strict=True)
    ]
    shown = found if abs(rest - whole) >= LEAST else []
    return Explanation(text, classes[place], whole, shown, len(words), rest, method)


@functools.cache
def prepare() -> None:
    """Load shap and let it compile itself, which takes seconds at the first explanation."""

    def ask(texts: list[str]) -> np.ndarray:
        return np.full((len(texts), 2), 0.5)

    explain_answer(ask, ["no", "yes"], "two words")


def _resolve(method: str) -> str:
    if method == "auto":
        return "shapley" if is_installed("shap") else "occlusion"
    if method not in METHODS:
        raise InputError("'auto', 'shapley' or 'occlusion'.", parameter="method", value=method)
    if method == "shapley":
        require("shap", purpose="an explanation by Shapley values")
    return method


class _Parts:
    """The probabilities of a text without some of its words, each part asked for once."""

    def __init__(self, ask: Ask, text: str, words: Sequence[re.Match[str]]) -> None:
        self._ask, self._text, self._words = ask, text, words
        self._known: dict[str, np.ndarray] = {}

    def ask(self, masks: np.ndarray) -> np.ndarray:
        """Return the probabilities for each row of words that stay."""
        texts = [self._part(mask) for mask in masks]
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            self._known |= dict(zip(new, np.asarray(self._ask(new)), strict=True))
        return np.stack([self._known[text] for text in texts])

    def _part(self, stays: np.ndarray) -> str:
        text = self._text
        for word, kept in zip(reversed(self._words), stays[::-1], strict=True):
            if not kept:
                text = text[: word.start()] + text[word.end() :].lstrip()
        return text


def _effects_of_one(probability: Callable[[np.ndarray], np.ndarray], n: int) -> np.ndarray:
    """Return how much the probability falls without each word."""
    p = probability(np.vstack([np.ones((1, n), dtype=bool), ~np.eye(n, dtype=bool)]))
    return p[0] - p[1:]


def _shapley_values(probability: Callable[[np.ndarray], np.ndarray], n: int) -> np.ndarray:
    """Return Shapley values of the words, by sampled permutations."""
    import shap

    def masked(mask: np.ndarray, row: np.ndarray) -> np.ndarray:
        return np.asarray(mask, dtype=float)[np.newaxis]

    one = 2 * n + 1
    permutations = max(1, min(PERMUTATIONS, MOST_ASKED // one))
    state = np.random.get_state()  # shap seeds NumPy's shared generator
    try:
        explainer = shap.explainers.Permutation(
            lambda rows: probability(rows > 0.5), masked, seed=0
        )
        found = explainer(np.ones((1, n)), max_evals=permutations * one, silent=True)
    finally:
        np.random.set_state(state)
    return np.asarray(found.values[0])


def _without_strongest(weights: np.ndarray) -> np.ndarray:
    """Return which words stay without those with the largest weights above 0."""
    order = np.argsort(-weights, kind="stable")[:STRONGEST]
    stays = np.ones(len(weights), dtype=bool)
    stays[order[weights[order] > 0]] = False
    return stays
