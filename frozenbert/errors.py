"""What can be wrong with what the user gave."""

from __future__ import annotations

__all__ = ["EncoderMismatchError", "EncoderNotFoundError", "HubUnreachableError", "InputError"]


class InputError(ValueError):
    """The user's input is wrong: a file, a column, a parameter, a path.

    The message is a full sentence that names the place (parameter, or file and
    line), the value received, and what would be right. The commands print it on
    one line and exit with 2.
    """


class EncoderNotFoundError(InputError, OSError):
    """No encoder of this name can be had, or what is there cannot be used."""


class HubUnreachableError(EncoderNotFoundError):
    """The encoder is not on disk and the Hugging Face hub does not answer."""


class EncoderMismatchError(InputError):
    """The encoder found under a fitted vectorizer's name is not the one it was fitted with."""
