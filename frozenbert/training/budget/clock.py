"""The clock of a budget: how long it is, since when it runs, and what is left."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError

__all__ = ["Deadline", "format_seconds", "parse_duration", "process_started"]

UNITS = {"s": 1, "m": 60, "h": 3600}
_IMPORTED = time.time()


def parse_duration(value: str) -> float:
    """Parse a duration such as 90s, 15m, 2h or 1h30m into seconds.

    Raises
    ------
    InputError
        If it is no such duration, or 0.

    Examples
    --------
    >>> parse_duration("15m"), parse_duration("1h30m")
    (900.0, 5400.0)
    >>> parse_duration("15")
    Traceback (most recent call last):
    frozenbert.errors.InputError: budget='15': a time above 0 with its unit: 90s, 15m, 2h or 1h30m.
    """
    text = str(value).strip().lower()
    number = r"[0-9]{1,6}(?:\.[0-9]{1,6})?"
    parts = re.findall(rf"({number})([smh])", text)
    seconds = sum(float(count) * UNITS[unit] for count, unit in parts)
    if not re.fullmatch(rf"(?:{number}[smh])+", text) or seconds <= 0:
        raise InputError(
            "a time above 0 with its unit: 90s, 15m, 2h or 1h30m.", parameter="budget", value=value
        )
    return seconds


def process_started() -> float:
    """Return when this process started, in seconds since 1970.

    Where the system does not tell, it is the time at which this module was imported.
    """
    try:
        fields = Path("/proc/self/stat").read_text("utf-8").rpartition(")")[2].split()
        ticks = int(fields[19])  # of the 22 fields, the last is the start; a name is cut off
        uptime = float(Path("/proc/uptime").read_text("utf-8").split()[0])
        age = uptime - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return _IMPORTED
    return min(time.time() - age, _IMPORTED)


@dataclass(frozen=True)
class Deadline:
    """A budget of time.

    Attributes
    ----------
    seconds : float
    started : float
        When it began, in seconds since 1970.

    Examples
    --------
    >>> 899 < Deadline.of("15m").left <= 900
    True
    """

    seconds: float
    started: float

    @classmethod
    def of(cls, budget: str, started: float | None = None) -> Deadline:
        """Return the deadline of a budget that began now, or at another time.

        Parameters
        ----------
        budget : str
            As for `parse_duration`.
        started : float, optional
            In seconds since 1970.
        """
        return cls(parse_duration(budget), time.time() if started is None else started)

    @property
    def used(self) -> float:
        """Seconds since the start."""
        return time.time() - self.started

    @property
    def left(self) -> float:
        """Seconds to the end; below 0 afterwards."""
        return self.seconds - self.used


def format_seconds(seconds: float) -> str:
    """Return a duration as people write it.

    Examples
    --------
    >>> format_seconds(59.6), format_seconds(754), format_seconds(7260), format_seconds(-3)
    ('1:00', '12:34', '2:01:00', '0:00')
    """
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
