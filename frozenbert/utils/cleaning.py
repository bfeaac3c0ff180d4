"""Leave out of texts what says little about them: addresses, names of accounts, markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from .texts import check_texts

__all__ = ["clean_texts"]

_ADDRESS = re.compile(r"(?<!\w)(?:https?://|www\.(?=\w))\S+", re.IGNORECASE)
_MENTION = re.compile(r"(?<!\w)@\w+")  # and no e-mail address
_AMPERSAND = re.compile(r"&(?:(?:amp|#0*38|#x0*26);)+", re.IGNORECASE)  # escaped again and again
_ENTITY = re.compile(r"&(?:#\d+|#x[\da-f]+|\w+);", re.IGNORECASE)
_TAG = re.compile(r"<br\s*/?>", re.IGNORECASE)


def clean_texts(texts: Iterable[str], missing: str = "error") -> list[str]:
    """Leave out web addresses, mentions and line breaks of HTML; turn its entities into text.

    What is left out becomes a space, and any white space one space. Cleaned texts stay as
    they are when cleaned again.

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
    # Some texts were escaped twice, and what is left out may have hidden an entity.
    before = None
    while text != before:
        before = text
        text = _ENTITY.sub(lambda found: html.unescape(found[0]), _AMPERSAND.sub("&", text))
        for what in (_TAG, _ADDRESS, _MENTION):
            text = what.sub(" ", text)
        text = " ".join(text.split())
    return text
