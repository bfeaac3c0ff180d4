"""Remove web addresses, mentions and markup from texts."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from .texts import check_texts

__all__ = ["clean_texts"]

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
