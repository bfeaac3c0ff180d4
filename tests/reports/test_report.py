"""The report's page, at the widths of telephones and of screens."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from frozenbert.cli.main import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDER = """() => [...document.querySelectorAll("table, .plots img, h1, p")].filter(
    (element) => element.getBoundingClientRect().right > document.documentElement.clientWidth
).map((element) => element.outerHTML.slice(0, 80))"""


def put(path: Path, n: int, what: str) -> None:
    rng = np.random.default_rng(0)
    words = ["good", "fine", "bad", "dull", "slow"]
    kinds = ["a rather long name of a class", "neither-the-one-nor-the-other", "third"]
    drawn = rng.integers(0, 5, n)
    frame = pd.DataFrame({"text": [f"a {words[i]} film " * 12 for i in drawn]})
    noisy = np.where(rng.random(n) < 0.2, rng.integers(0, 3, n), drawn % 3)
    if what == "many labels":
        for place, kind in enumerate(kinds):
            frame[kind] = (noisy >= place).astype(int) ^ (rng.random(n) < 0.2)
        frame[kinds] = frame[kinds].astype(int)
    elif what == "grades":
        frame["label"] = noisy + 1
    elif what == "numbers":
        frame["label"] = (drawn + rng.normal(size=n)).round(2)
    else:
        frame["label"] = [kinds[i] for i in noisy]
    if what == "columns":
        frame["shop"] = rng.choice(["north", "south"], n)
    frame.to_csv(path, index=False)


KINDS = {
    "classes": ["--C", "0.1"],
    "many labels": ["--C", "0.1"],
    "columns": ["--recipe", "plain", "--category-column", "shop", "--text-column", "text"],
    "grades": ["--recipe", "plain", "--task", "ordinal"],
    "numbers": ["--recipe", "plain", "--task", "regression"],
}


@pytest.mark.slow
@pytest.mark.parametrize("what", KINDS)
def test_no_table_is_cut_off_and_examples_have_their_lines(tiny, tmp_path, what, monkeypatch):
    if CHROMIUM is None:
        assert not os.environ.get("CI"), "CI must have chromium: .ci/run installs it"
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    monkeypatch.chdir(tmp_path)
    put(Path("films.csv"), 120, what)
    columns = pd.read_csv("films.csv").columns.drop(["text", "shop"], errors="ignore")
    labels = [option for name in columns for option in ("--label-column", name)]
    options = ["--encoder", tiny, "--no-cache", "--out", "model", *labels, *KINDS[what]]
    assert main(["train", "--data", "films.csv", "--title", "Films <1>", *options]) == 0
    lines = Path("films.csv").read_text("utf-8").splitlines()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (390, 1280):
            page = browser.new_page(viewport={"width": width, "height": 800})
            page.goto(f"file://{tmp_path}/model/report.html")
            assert page.evaluate(WIDER) == [], width
            assert page.locator("h1").inner_text() == "Films <1>"
            rows = page.locator("table.examples tr:not(.head)")
            assert rows.count() > 5
            for cell in page.locator("table.labels td:first-child").all():
                assert cell.bounding_box()["width"] > 180, "the name is above the figures"
            for row in range(rows.count()):
                number, text = (rows.nth(row).locator("td").nth(i).inner_text() for i in (0, 1))
                assert lines[int(number) - 1].startswith(text[:40])
        browser.close()
