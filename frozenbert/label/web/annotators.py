"""Who labels: a token for each person, from which the name follows."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...errors import InputError
from ...utils.files import writing

__all__ = ["FILE", "Annotators", "load_annotators"]

FILE = "annotators.json"
TOKEN_BYTES = 24
LONGEST_NAME = 60


class Annotators:
    """The tokens that open the page, and whose they are.

    Parameters
    ----------
    tokens : mapping of str to (str or None)
        The name of each token; None for the only user of this machine.

    Examples
    --------
    >>> annotators = Annotators({"secret": "anna"})
    >>> annotators.name_of("Bearer secret")
    'anna'
    """

    def __init__(self, tokens: Mapping[str, str | None]) -> None:
        self._tokens = dict(tokens)

    @classmethod
    def one(cls) -> Annotators:
        """Return a single user, whose token is made now and stored nowhere."""
        return cls({_new_token(): None})

    @property
    def tokens(self) -> list[str]:
        """The tokens."""
        return list(self._tokens)

    def name_of(self, authorization: str) -> str | None:
        """Return the name behind the header `Authorization`, whose token was checked already."""
        given = authorization.partition(" ")[2].encode()
        for token, name in self._tokens.items():
            if hmac.compare_digest(given, token.encode()):
                return name
        raise InputError("this token is unknown.")

    def addresses(self, url: str) -> list[tuple[str | None, str]]:
        """Return each person's address of the page, with the token in its fragment."""
        return [(name, f"{url}/#token={token}") for token, name in self._tokens.items()]


def load_annotators(folder: str | os.PathLike[str], names: Iterable[str]) -> Annotators:
    """Return the annotators of a project; new ones get a token, which is stored (0600).

    Parameters
    ----------
    folder : path-like
        The project's folder.
    names : iterable of str
        Further people; those of earlier starts stay.

    Raises
    ------
    InputError
        If a name is empty, too long or given twice, or the file cannot be used.
    """
    path = Path(folder) / FILE
    known = _read(path)
    wanted = [name.strip() for name in names]
    for place, name in enumerate(wanted):
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise InputError(
                f"a name of 1 to {LONGEST_NAME} characters.", parameter="annotators", value=name
            )
        if name.casefold() in map(str.casefold, wanted[:place]):
            raise InputError("is given twice.", parameter="annotators", value=name)
        if name not in known and name.casefold() in map(str.casefold, known):
            raise InputError(
                "differs by case alone from a name of this project.",
                parameter="annotators",
                value=name,
            )
    new = [name for name in wanted if name not in known]
    if new:
        known |= {name: _new_token() for name in new}
        _write(path, known)
    return Annotators({token: name for name, token in known.items()})


def _new_token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    valid = isinstance(found, dict) and all(
        isinstance(token, str) and len(token) >= TOKEN_BYTES for token in found.values()
    )
    if not valid:
        raise InputError(f"{path}: must contain a name and a token for each annotator.")
    return found


def _write(path: Path, tokens: Mapping[str, str]) -> None:
    try:
        with writing(path) as temporary:
            descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(tokens, file, ensure_ascii=False, indent=1)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from error
