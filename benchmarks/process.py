"""The caller's end of `worker.py`: start a process, ask it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve().parent / "worker.py"


class WorkerError(Exception):
    """A way cannot be run here."""


class Worker:
    """A process that runs one way when it is asked to."""

    def __init__(self, python: str, request: dict[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            # No way may ask the hub.
            env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"},
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
            self._errors.seek(0)
            said = [text for text in self._errors.read().splitlines() if text.strip()]
            raise WorkerError(f"{said[-1].strip() if said else 'no word'} (exit code {code})")
        parsed: dict[str, Any] = json.loads(answer)
        return parsed

    def close(self) -> None:
        """End the process, at once if it does not end by itself."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()
