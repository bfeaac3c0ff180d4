"""Errors and warnings that a user can act on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = [
    "BudgetWarning",
    "CacheWarning",
    "CheckpointWarning",
    "ColumnWarning",
    "EncoderMismatchError",
    "EncoderNotFoundError",
    "FrozenbertWarning",
    "HubUnreachableError",
    "InputError",
    "LabelWarning",
    "LeakageWarning",
    "MissingLibraryError",
    "NeverAnsweredWarning",
    "PairLimitWarning",
    "PoolWarning",
    "PrecisionWarning",
    "RareClassWarning",
    "RemoteEncoderError",
    "TruncationWarning",
]

_ABSENT: Any = object()


class InputError(ValueError):
    """The user's input is wrong: a file, a column, a parameter, a path.

    The message is a full sentence that names the place (parameter, or file and line), the
    value received, and what is allowed. A library function names its own parameter; the
    command line and the web service put that name into their users' words.

    Parameters
    ----------
    message : str
        What is wrong and what would be right, without the parameter's name.
    parameter : str, optional
        The parameter to change, as the Python function calls it.
    value : object, optional
        What it was given. Leave it out where the value is no help, or may be someone's text.

    Attributes
    ----------
    message, parameter
        As given.

    Examples
    --------
    >>> error = InputError("at least 2 folds.", parameter="cv", value=1)
    >>> str(error)
    'cv=1: at least 2 folds.'
    >>> error.worded(lambda parameter, value: f"--{parameter} {value}")
    '--cv 1: at least 2 folds.'
    """

    def __init__(self, message: str, *, parameter: str | None = None, value: Any = _ABSENT) -> None:
        super().__init__(message)
        self.message = message
        self.parameter = parameter
        # Kept as text, so that the error can be pickled whatever the value is.
        self._value = None if value is _ABSENT else (repr(value), str(value))

    def worded(self, name: Callable[[str, str | None], str]) -> str:
        """Return the message in another interface's words.

        Parameters
        ----------
        name : callable
            From the parameter and its value as plain text (None if there is none) to what the
            interface's user calls that.

        Returns
        -------
        str
        """
        if self.parameter is None:
            return self.message
        value = None if self._value is None else self._value[1]
        return f"{name(self.parameter, value)}: {self.message}"

    def __str__(self) -> str:
        if self.parameter is None:
            return self.message
        value = "" if self._value is None else f"={self._value[0]}"
        return f"{self.parameter}{value}: {self.message}"


class EncoderNotFoundError(InputError, OSError):
    """No encoder of this name exists, or it cannot be used."""


class HubUnreachableError(EncoderNotFoundError):
    """The encoder is not on disk and the Hugging Face hub does not answer."""


class EncoderMismatchError(InputError):
    """The encoder under a fitted vectorizer's name is not the one it was fitted with."""


class RemoteEncoderError(RuntimeError):
    """A remote encoder refuses a request, or does not answer.

    Vectors that were received before are in the cache.
    """


class MissingLibraryError(InputError, ImportError):
    """A library is not installed; the message names the extra that brings it."""


class FrozenbertWarning(UserWarning):
    """Base of all warnings of this package; the commands print them, one line each."""


class TruncationWarning(FrozenbertWarning):
    """Some texts are longer than the encoder reads, and were cut.

    Parameters
    ----------
    message : str
        Without a full stop.
    remedy : str, optional
        The value of `long_text` that would read them whole.

    Examples
    --------
    >>> print(TruncationWarning("2 texts were cut", remedy="windows"))
    2 texts were cut; long_text='windows' reads them whole.
    """

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def worded(self, remedy: str | None) -> str:
        """Return the message with a remedy in another interface's words."""
        return f"{self.message}{f'; {remedy} reads them whole' if remedy else ''}."

    def __str__(self) -> str:
        return self.worded(self.remedy and f"long_text={self.remedy!r}")


class CacheWarning(FrozenbertWarning):
    """The vector cache is damaged, or cannot be written; vectors are returned all the same."""


class PairLimitWarning(FrozenbertWarning):
    """More pairs of near-duplicates exist than are listed."""


class PrecisionWarning(FrozenbertWarning):
    """A reduced precision is slow on this CPU, or far from float32."""


class RareClassWarning(FrozenbertWarning):
    """A class or label has too few rows for what was asked."""


class NeverAnsweredWarning(FrozenbertWarning):
    """A classifier predicts a class for none of the training rows, out of fold."""


class LabelWarning(FrozenbertWarning):
    """Labels are hardly classes: two differ in case or spaces alone, or they are many numbers."""


class ColumnWarning(FrozenbertWarning):
    """A column of texts contains numbers alone."""


class LeakageWarning(FrozenbertWarning):
    """Test texts were also trained on, so that scores on them are too high."""


class PoolWarning(FrozenbertWarning):
    """Unlabelled texts were removed, because they are labelled or used for testing."""


class BudgetWarning(FrozenbertWarning):
    """A budget of time does not suffice, or a step that it was spent on failed."""


class CheckpointWarning(FrozenbertWarning):
    """Checkpoints of another training are discarded."""
