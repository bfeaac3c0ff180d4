"""Remove web addresses, mentions and markup from texts: a function, and a step of a Pipeline."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator, TransformerMixin

from .texts import check_texts

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = ["TextCleaner", "clean_texts"]

_ADDRESS = re.compile(r"(?<!\w)(?:https?://|www\.(?=\w))\S+", re.IGNORECASE)
_MENTION = re.compile(r"(?<!\w)@\w+")  # not an e-mail address
_AMPERSAND = re.compile(r"&(?:(?:amp|#0*38|#x0*26);)+", re.IGNORECASE)  # escaped repeatedly
_ENTITY = re.compile(r"&(?:#\d+|#x[\da-f]+|\w+);", re.IGNORECASE)
_TAG = re.compile(r"<br\s*/?>", re.IGNORECASE)


def clean_texts(texts: Iterable[str], missing: str = "error") -> list[str]:
    """Remove web addresses, mentions and line breaks of HTML, and decode its entities.

    Each removed part becomes a space, and any white space one space. Cleaning a cleaned text
    does not change it.

    Parameters
    ----------
    texts : iterable of str
    missing : {"error", "empty"}, default="error"
        Whether None and NaN are an error or the empty text.

    Returns
    -------
    list of str

    Examples
    --------
    >>> clean_texts(["@anna  so &lt;good&gt; &amp;amp; cheap:<br/>https://example.org/x?a=1"])
    ['so <good> & cheap:']
    """
    return [_clean(text) for text in check_texts(texts, missing)]


class TextCleaner(  # type: ignore[call-arg]  # scikit-learn has no types
    TransformerMixin, BaseEstimator, auto_wrap_output_keys=None
):
    """Transformer that cleans texts by `clean_texts`.

    Its output is a list of texts whatever `set_output` says, because the next step reads texts.

    Parameters
    ----------
    missing : {"error", "empty"}, default="error"
        Whether None and NaN are an error or the empty text.

    Examples
    --------
    >>> TextCleaner().set_output(transform="pandas").fit_transform(["so<br>good"])
    ['so good']
    """

    def __init__(self, missing: str = "error") -> None:
        self.missing = missing

    def fit(self, X: Iterable[str], y: object = None) -> TextCleaner:
        """Do nothing; return itself."""
        return self

    def transform(self, X: Iterable[str]) -> list[str]:
        """Return the cleaned texts."""
        return clean_texts(X, self.missing)

    def set_output(self, *, transform: str | None = None) -> TextCleaner:
        """Do nothing; return itself."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Tags:
        tags: Any = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = self.missing == "empty"
        tags.requires_fit = False
        return tags


def _clean(text: str) -> str:
    # Some texts were escaped twice, and removing a part may complete an entity.
    previous = None
    while text != previous:
        previous = text
        text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), _AMPERSAND.sub("&", text))
        for pattern in (_TAG, _ADDRESS, _MENTION):
            text = pattern.sub(" ", text)
        text = " ".join(text.split())
    return text
