"""A real browser, and axe-core from npm."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip
HERE = Path(__file__).parent
AXE = HERE / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")  # two at once in a process are refused
def browser():
    if CHROMIUM is None:
        assert not os.environ.get("CI"), "CI must have chromium: .ci/run installs it"
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core, in the version that package-lock.json pins."""
    if not AXE.exists():
        npm = shutil.which("npm")
        done = npm and subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=HERE,
            capture_output=True,
            timeout=120,
        )
        if not done or done.returncode:
            assert not os.environ.get("CI"), "CI must have axe-core: npm ci in tests/label/web"
            pytest.skip("axe-core is not installed: npm ci in tests/label/web")
    return AXE.read_text(encoding="utf-8")
