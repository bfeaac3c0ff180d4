"""The command in its own process: killed in mid-answer, stopped, trained on what it exports."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import DEADLINE

from .labelling_server import FILMS

pytestmark = pytest.mark.slow

INSTALLED = shutil.which("frozenbert") or str(Path(sys.executable).with_name("frozenbert"))


@pytest.fixture
def start(tmp_path, tiny):
    """Start the command on a port that stays the same; give the process and the address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with (tmp_path / "pool.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in FILMS)])

    @contextlib.contextmanager
    def start(*options: str) -> Iterator[tuple]:
        command = [INSTALLED, "label", "--data", "pool.csv", "--labels", "negative,positive"]
        command += ["--out", "films", "--port", str(port), "--encoder", tiny, *options]
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.extend(process.stderr))
        reader.start()
        try:
            output = ""
            while "Ctrl-C stops" not in output:
                line = process.stdout.readline()
                assert line, (output, errors)
                output += line
            yield process, re.search(r"http://\S+", output)[0], errors
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(DEADLINE)
            reader.join(DEADLINE)
            process.stdout.close()
            process.stderr.close()

    return start


def stored(folder: Path) -> list[tuple[str, str]]:
    """The text and the labels of each stored answer, undone ones left out."""
    with contextlib.closing(sqlite3.connect(folder / "project.sqlite")) as db:
        return db.execute("SELECT text, labels FROM answers WHERE NOT undone").fetchall()


def stop(process) -> str:
    """Stop the command as Ctrl-C does; return the rest of its output."""
    process.send_signal(signal.SIGINT)
    out = process.stdout.read()
    assert process.wait(DEADLINE) == 0
    return out


def text_of(page):
    page.wait_for_function("() => document.querySelector('#text').textContent")
    return page.locator("#text").text_content()


def answer(page, key):
    before = text_of(page)
    page.keyboard.press(key)
    page.wait_for_function(
        "before => document.querySelector('#text').textContent !== before", arg=before
    )
    return before


@pytest.mark.parametrize("moment", ["before it is stored", "after it is stored"])
@pytest.mark.parametrize("comes_back", ["same tab", "new tab"])
def test_a_kill_in_mid_answer(browser, start, tmp_path, moment, comes_back):
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(1000 * DEADLINE)
    with start() as (process, address, _):
        page.goto(address)
        expected = [answer(page, "1") for _ in range(3)]

        def kill(route):
            if moment == "after it is stored":
                route.fetch()
            process.kill()
            process.wait(DEADLINE)
            route.abort()

        page.route("**/api/answers", kill, times=1)
        expected.append(text_of(page))
        page.keyboard.press("2")
        page.get_by_text("Your answer is kept here and sent again").wait_for()
        assert text_of(page) == expected[-1]
    n_stored = 4 if moment == "after it is stored" else 3
    assert len(stored(tmp_path / "films")) == n_stored
    with start() as (process, address, _):
        if comes_back == "new tab":
            page.close()
            page = context.new_page()
        page.goto(address)
        page.wait_for_function(
            "before => ![before, ''].includes(document.querySelector('#text').textContent)",
            arg=expected[-1],
        )
        expected += [answer(page, "1") for _ in range(3)]
        out = stop(process)
        assert "7 of 80 texts labelled" in out
    answers = stored(tmp_path / "films")
    assert sorted(text for text, _ in answers) == sorted(expected)
    labels = dict(answers)
    assert labels[expected[3]] == '["positive"]'
    context.close()


def test_a_second_process_and_the_way_to_a_model(browser, start, tmp_path, tiny):
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(1000 * DEADLINE)
    with start() as (process, address, errors):
        url = address.partition("/#")[0]
        second = subprocess.run(
            [INSTALLED, "label", "--data", "pool.csv", "--out", "films", "--encoder", tiny],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert second.returncode == 2
        assert f"another process has the project open at {url}" in second.stderr
        assert second.stderr.count("\n") == 1

        page.goto(address)
        for _ in range(48):
            good = any(word in text_of(page) for word in ("warm", "funny", "stirring", "great"))
            answer(page, "2" if good else "1")
        page.get_by_role("button", name="Finish", exact=True).click()
        with page.expect_download() as download:
            page.get_by_role("button", name="csv", exact=True).click()
        download.value.save_as(tmp_path / "export.csv")
        page.get_by_role("button", name="Train the final model").click()
        page.get_by_text("films/model.skops").wait_for(timeout=300_000)
        out = stop(process)
        assert re.search(r"^model +films/model\.skops$", out, re.MULTILINE)
        assert re.search(r"^report +films/report\.html$", out, re.MULTILINE)
        assert not any(text in out + "".join(errors) for text in FILMS)
    context.close()
    environment = {**os.environ, "FROZENBERT_ENCODERS": str(Path(tiny).parent)}
    for command in (
        ["classify", "--model", "films", "--text", FILMS[0]],
        ["train", "--data", "export.csv", "--text-column", "text", "--label-column", "label",
         "--encoder", tiny, "--recipe", "plain", "--C", "0.1", "--cv", "2", "--out", "again"],
    ):  # fmt: skip
        done = subprocess.run(
            [INSTALLED, *command], cwd=tmp_path, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("_heard_hangups")
def test_a_closed_terminal_ends_it_with_the_labels_written(browser, start, tmp_path):
    with start() as (process, address, _), contextlib.closing(browser.new_page()) as page:
        page.set_default_timeout(1000 * DEADLINE)
        page.goto(address)
        expected = [answer(page, "1") for _ in range(3)]
        process.stdout.close()
        process.send_signal(signal.SIGHUP)
        process.wait(DEADLINE)
    with (tmp_path / "films" / "labelled.csv").open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == expected
