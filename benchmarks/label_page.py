"""Time from a key to the next text on the page of a labelling session, and the memory it takes.

A pool of texts with made-up vectors of two clouds, labelled by keys in Chromium while the session
learns; with --embed, the packaged encoder computes the vectors meanwhile. Needs the extra `dev`,
and chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from frozenbert import DistilBertVectorizer
from frozenbert.encoders.sources import PACKAGED_ENCODER
from frozenbert.label import Session
from frozenbert.label.web.annotators import Annotators
from frozenbert.label.web.labelling import LabellingService
from frozenbert.label.web.site import make_label_app
from frozenbert.serve.process import bind, host_names, make_server

WIDTH = 384
# Presses a key, and resolves with the milliseconds until another text is shown.
PRESS = """key => new Promise(resolve => {
    const text = document.querySelector("#text");
    const before = text.textContent;
    const started = performance.now();
    const watch = new MutationObserver(() => {
        if (text.textContent === before) return;
        watch.disconnect();
        requestAnimationFrame(() => resolve(performance.now() - started));
    });
    watch.observe(text, { childList: true, characterData: true, subtree: true });
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
})"""


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds to read a text")
    parser.add_argument("--embed", action="store_true", help="compute the vectors meanwhile")
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    is_good = rng.random(arguments.texts) < 0.5
    texts = [f"text {n:06} is {'good' if good else 'bad'}" for n, good in enumerate(is_good)]
    with tempfile.TemporaryDirectory() as folder:
        pool = from_encoder(Path(folder)) if arguments.embed else made_up(is_good, rng)
        before = resident()
        started = time.perf_counter()
        with Session(texts, ["bad", "good"], folder=Path(folder, "p"), **pool) as session:
            opened = time.perf_counter() - started
            milliseconds = label(session, Path(folder, "p"), arguments.labels, arguments.pause)
            figures = {
                "texts": arguments.texts,
                "labels": session.progress().n_labelled,
                "seconds_to_open": round(opened, 1),
                "median_ms": round(statistics.median(milliseconds), 1),
                "p95_ms": round(float(np.percentile(milliseconds, 95)), 1),
                "max_ms": round(max(milliseconds), 1),
                "vectors_computed": session.progress().n_vectors,
                "memory_above_encoder_mb" if arguments.embed else "memory_above_vectors_mb": round(
                    resident() - before
                ),
                "problem": session.problem,
            }
    print(json.dumps(figures))


def made_up(is_good: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Return vectors of two clouds, as a parameter of a session."""
    vectors = rng.normal(size=(len(is_good), WIDTH)).astype(np.float32)
    vectors[:, 0] += np.where(is_good, 1.0, -1.0)
    return {"vectors": vectors}


def from_encoder(folder: Path) -> dict[str, Any]:
    """Return the packaged encoder, which was used already, as a parameter of a session."""
    encoder = DistilBertVectorizer(PACKAGED_ENCODER, cache_dir=folder / "cache", progress=False)
    encoder.fit_transform([f"warm up {n}" for n in range(256)])
    return {"encoder": encoder}


def label(session: Session, folder: Path, n: int, pause: float) -> list[float]:
    """Label `n` texts in a browser; return the milliseconds from each key to the next text."""
    from playwright.sync_api import sync_playwright

    people = Annotators.one()
    service = LabellingService(session, people, title="pool", folder=folder)
    listening = bind("127.0.0.1", 0)
    server = make_server(make_label_app(service, host_names("127.0.0.1", ())), 20)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    ((_, address),) = people.addresses(f"http://127.0.0.1:{listening.getsockname()[1]}")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    found = []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(address)
            page.wait_for_function("() => document.querySelector('#text').textContent")
            for _ in range(n):
                page.wait_for_timeout(1000 * pause)
                is_good = "good" in page.locator("#text").inner_text()
                found.append(page.evaluate(PRESS, "2" if is_good else "1"))
            browser.close()
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
    return found


def resident() -> float:
    """Return the memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    main()
