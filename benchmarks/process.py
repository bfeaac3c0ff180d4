"""Start, query and end the processes of `worker.py`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

SCRIPT = Path(__file__).resolve().parent / "worker.py"


# No library may ask the hub.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


class WorkerError(Exception):
    """A library cannot run here."""


@dataclass(frozen=True)
class Ended:
    """What a process used, and why it failed."""

    peak_mb: float  # of the largest process, if it started others
    cpu_seconds: float
    reason: str | None  # None if it succeeded


def wait_for(process: subprocess.Popen[str], errors: IO[str]) -> Ended:
    """Wait for a process to end; `errors` is the file that receives its messages."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    seconds = usage.ru_utime + usage.ru_stime
    reason = None
    if process.returncode:
        reason = f"{last_line(errors) or 'no message'} (exit code {process.returncode})"
    return Ended(usage.ru_maxrss * unit / 1e6, seconds, reason)


def last_line(errors: IO[str]) -> str | None:
    """Return the last line of a process's messages that is not empty."""
    errors.seek(0)
    lines = [line for line in errors.read().splitlines() if line.strip()]
    return lines[-1].strip() if lines else None


class Worker:
    """A process that runs one library on request."""

    def __init__(self, python: str, request: dict[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=os.environ | ENVIRONMENT,
        )
        try:
            self.loaded = self.ask(json.dumps(request))
        except BaseException:
            self.close()
            raise

    def ask(self, line: str) -> dict[str, Any]:
        """Send one line and return the answer to it."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            code = self._process.wait()
            raise WorkerError(f"{last_line(self._errors) or 'no message'} (exit code {code})")
        parsed: dict[str, Any] = json.loads(answer)
        return parsed

    def close(self) -> None:
        """End the process; kill it after 10 seconds."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()
