"""The real service: its own process, under load and to its end, and its page in a real browser."""

from __future__ import annotations

import contextlib
import csv
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from serving import Client, WordModel, serving

from frozenbert import load_model, make_text_classifier, save_model
from frozenbert.pipeline import predict

pytestmark = pytest.mark.slow

NOUNS = ["film", "plot", "cast", "score", "scene", "script", "ending", "camera", "hero", "joke"]
GOOD = ["stirring", "warm", "funny", "clever", "moving", "graceful"]
BAD = ["dull", "hollow", "clumsy", "tired", "boring", "lifeless"]
TEXTS = [
    f"a {word} {noun}" for noun in NOUNS for pair in zip(GOOD, BAD, strict=True) for word in pair
]
LABELS = ["good", "bad"] * (len(TEXTS) // 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model on trained weights, in both forms."""
    from frozenbert.encoders.sources import PACKAGED_ENCODER

    folder = tmp_path_factory.mktemp("models") / "films"
    model = make_text_classifier(PACKAGED_ENCODER, C=0.01, cv=2, cache_dir=None)
    save_model(model.fit(TEXTS, LABELS), folder / "model.joblib")
    return folder


@contextlib.contextmanager
def process(folder: Path, *options: str, **environment: str) -> Iterator[tuple]:
    """Start the command, and stop it in the end if nobody else has."""
    command = [shutil.which("frozenbert") or "frozenbert", "serve", "--model", str(folder)]
    server = subprocess.Popen(
        [*command, "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
    )
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(server.stderr))  # or its pipe gets full
    reader.start()
    try:
        said = []
        for line in server.stdout:
            said.append(line)
            if line.startswith("serving"):
                break
        assert "serving" in "".join(said), (said, errors)
        port = int(re.search(r":(\d+) ", said[-1])[1])
        yield server, Client(port), said, errors
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
        reader.join(10)
        server.stdout.close()
        server.stderr.close()


def test_500_requests_of_50_clients(packaged, folder):
    texts = [f"a {a} {noun} with a {b} ending" for a in GOOD for b in BAD for noun in NOUNS]
    texts = (texts * 2)[:500]
    expected = predict(load_model(folder), texts)
    before = set(folder.iterdir())
    with process(folder) as (_, client, said, errors), ThreadPoolExecutor(50) as pool:
        assert said[0].split() == ["model", f"{folder}/model.skops"]
        answers = list(pool.map(client.predict, texts))
        metrics = client("GET", "/metrics").body.decode()
    assert {answer.status for answer in answers} == {200}
    found = np.array([answer.json["probabilities"][0] for answer in answers])
    of_python = np.stack([expected["proba_bad"], expected["proba_good"]], axis=1)
    np.testing.assert_allclose(found, of_python, atol=1e-6)
    assert [answer.json["predictions"][0] for answer in answers] == expected["prediction"].tolist()
    assert "frozenbert_texts_total 500.0" in metrics
    batches = float(re.search(r"^frozenbert_batch_texts_count (\S+)", metrics, re.MULTILINE)[1])
    assert batches < 250, "they shared"
    assert set(folder.iterdir()) == before, "nothing is written"
    assert not any(word in "".join(errors) for word in (*GOOD, *BAD))


def test_a_small_queue_under_load_answers_or_refuses(packaged, folder):
    with process(folder, "--max-waiting", "8") as (_, client, _, _), ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(client.predict, [TEXTS[i % 120] for i in range(300)]))
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {200, 503}
    assert {answer.headers["retry-after"] for answer in answers if answer.status == 503} == {"1"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_under_load_loses_no_accepted_request(packaged, folder, number):
    """Each request gets a whole answer, or finds nobody there: none is cut or left without."""
    answered, unanswered = [], []
    ended = threading.Event()

    def ask_on(i: int) -> None:
        """Ask until nobody is there; half of the clients keep their connection."""
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
        for n in range(10_000):
            body = json.dumps({"texts": [f"{TEXTS[(i + n) % 120]} {n}"]})
            try:
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                assert response.status == 200
                answered.append(json.loads(response.read())["predictions"])
            except (ConnectionError, http.client.BadStatusLine) as error:
                unanswered.append((error, ended.is_set()))
                return
            if i % 2:
                connection.close()

    with process(folder) as (server, client, _, errors), ThreadPoolExecutor(16) as pool:
        done = [pool.submit(ask_on, i) for i in range(16)]
        time.sleep(2)
        ended.set()
        server.send_signal(number)
        last = server.stdout.read()
        assert server.wait(30) == 0
        for future in done:
            future.result()
    assert last.split() == ["stopped", f"{folder}/model.skops"]
    assert len(answered) > 50
    # Each client finds nobody once, in the end. What it sent then was read by nobody: each
    # request that the service took in it logged, and each of those was answered.
    assert len(unanswered) == 16
    assert all(after for _, after in unanswered)
    assert sum("POST /predict 200" in line for line in errors) == len(answered)
    assert not any("no answer" in line for line in errors)


def test_the_service_starts_without_the_joblib_file(packaged, folder, tmp_path):
    shutil.copy(folder / "model.skops", tmp_path / "model.skops")
    token = "a-token-that-is-long-enough"
    with process(tmp_path, "--host", "127.0.0.1", FROZENBERT_TOKEN=token) as (_, client, _, _):
        assert client.predict("a dull film").status == 401
        answer = client.predict("a dull film", headers={"Authorization": f"Bearer {token}"})
        assert answer.json["predictions"] == ["bad"]


def test_vectors_are_kept_only_where_told(packaged, folder, tmp_path):
    with process(folder, "--cache-dir", str(tmp_path / "kept")) as (_, client, _, _):
        assert client.predict("a dull film").status == 200
    assert (tmp_path / "kept" / "vectors").is_dir()


# The page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        assert not os.environ.get("CI"), "CI has to have chromium: .ci/run installs it"
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def served(tmp_path):
    model = WordModel()
    with serving(model, tmp_path / "films") as client:
        client.model = model
        yield client


@pytest.fixture
def page(browser, served):
    """The page, which may ask nobody but its own service and may not err."""
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(10_000)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    own = f"http://127.0.0.1:{served.port}/"
    page.goto(own)
    page.locator("#card dd").first.wait_for()
    page.errors = errors
    yield page
    assert all(url.startswith((own, f"blob:{own}")) for url in asked), asked
    assert errors == []
    context.close()


def test_an_answer_comes_when_typing_ends(page, served):
    page.get_by_label("Text", exact=True).press_sequentially("a good film", delay=20)
    page.locator("#answer", has_text="Answer: good, 66.7 %").wait_for()
    bars = page.locator("#bars li")
    assert bars.all_inner_texts() == ["bad\n33.3 %", "good\n66.7 %"]
    widths = [bars.nth(i).locator(".bar").bounding_box()["width"] for i in range(2)]
    page.wait_for_timeout(300)
    widths = [bars.nth(i).locator(".bar").bounding_box()["width"] for i in range(2)]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.05)
    assert len(served.model.calls) < 4, "not at every key"
    page.get_by_label("Text", exact=True).fill("")
    page.locator("#answer", has_text="Answer").wait_for(state="detached")
    assert bars.count() == 0


def test_markup_is_text(page):
    text = "<script>document.title='hacked'</script> <img src=x onerror=alert(1)> good"
    page.get_by_label("Text", exact=True).fill(text)
    page.locator("#answer", has_text="Answer: good").wait_for()
    page.get_by_role("button", name="Which words carried the answer?").click()
    page.locator("#words mark").first.wait_for()
    assert page.locator("#words").inner_text() == text
    assert page.locator("#words img, #words script").count() == 0
    assert "hacked" not in page.title()


def test_words_are_marked(page):
    page.get_by_label("Text", exact=True).fill("🙂 a good, bad good film")
    page.get_by_role("button", name="Which words").click()
    marks = page.locator("#words mark")
    marks.first.wait_for()
    assert marks.all_inner_texts() == ["🙂", "a", "good,", "bad", "good", "film"]
    assert [m.get_attribute("class") or None for m in marks.all()] == [
        None, None, "plus", "minus", "plus", None
    ]  # fmt: skip
    assert marks.nth(3).get_attribute("title") == "−15.0 points"
    assert "Approximate" in page.locator("#note").inner_text()


@pytest.mark.parametrize("way", ["choose", "drop", "paste"])
def test_a_table_is_labelled_and_downloaded(page, tmp_path, way):
    rows = [{"id": str(n), "text": f'"good", {n}\n<b>bad</b> good'} for n in range(150)]
    table = tmp_path / "rows.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "text"])
        writer.writeheader()
        writer.writerows(rows)
    if way == "choose":
        page.get_by_label("Drop a file here, or choose one").set_input_files(table)
    elif way == "drop":
        data = page.evaluate_handle(
            """content => {
                const data = new DataTransfer();
                data.items.add(new File([content], "rows.csv"));
                return data;
            }""",
            table.read_text(encoding="utf-8"),
        )
        page.dispatch_event("#drop", "drop", {"dataTransfer": data})
    else:
        page.get_by_text("Paste rows, or name the column").click()
        page.get_by_label("Rows, the first one").fill(table.read_text(encoding="utf-8"))
        page.get_by_role("button", name="Label these rows").click()
    link = page.get_by_role("link", name="Download rows-labelled.csv")
    link.wait_for()
    assert page.locator("#table-answer").inner_text() == "150 rows are labelled."
    with page.expect_download() as download:
        link.click()
    found = list(csv.DictReader(download.value.path().open(newline="", encoding="utf-8")))
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert {row["prediction"] for row in found} == {"good"}


def test_rows_of_a_spreadsheet_are_tsv(page):
    page.get_by_text("Paste rows, or name the column").click()
    page.get_by_label("Rows, the first one").fill('id\ttext\n1\ta "good, film\n2\tbad')
    page.get_by_role("button", name="Label these rows").click()
    link = page.get_by_role("link", name="Download rows-labelled.csv")
    with page.expect_download() as download:
        link.click()
    found = list(csv.reader(download.value.path().open(newline="", encoding="utf-8")))
    assert [row[:3] for row in found] == [
        ["id", "text", "prediction"], ["1", 'a "good, film', "good"], ["2", "bad", "bad"]
    ]  # fmt: skip


def test_a_file_beside_the_field_does_no_harm(page):
    page.get_by_label("Text", exact=True).fill("a good film")
    prevented = page.evaluate(
        """() => !document.body.dispatchEvent(new DragEvent("drop", {
            bubbles: true, cancelable: true, dataTransfer: new DataTransfer()
        }))"""
    )
    assert prevented
    assert page.get_by_label("Text", exact=True).input_value() == "a good film"


def test_a_table_that_is_wrong_is_said(page, tmp_path):
    (tmp_path / "rows.csv").write_text("text,n\nfine,1\nbad\n", encoding="utf-8")
    page.get_by_label("Drop a file here").set_input_files(tmp_path / "rows.csv")
    page.locator("#table-answer", has_text="line 3: the number of fields is 1").wait_for()
    assert page.get_by_role("link", name="Download").count() == 0
    page.errors.clear()  # the browser notes the 422 itself


def test_an_answer_that_breaks_off_is_said(page, tmp_path, served):
    rows = "".join(f"good {n}\n" for n in range(200)) + "unbearable\n"
    (tmp_path / "rows.csv").write_text("text\n" + rows, encoding="utf-8")
    page.get_by_label("Drop a file here").set_input_files(tmp_path / "rows.csv")
    page.locator("#table-answer", has_text=re.compile("broke off after .* of 201 rows")).wait_for()
    assert page.get_by_role("link", name="Download").count() == 0
    page.errors.clear()


def test_the_door(browser, tmp_path):
    token = "a-token-that-is-long-enough"
    with serving(WordModel(), tmp_path, token=token) as client:
        page = browser.new_page()
        page.goto(f"http://localhost:{client.port}/")
        page.get_by_label("This service wants its token").fill("wrong")
        page.keyboard.press("Enter")
        page.locator("#about", has_text="wants its token").wait_for()
        assert not page.get_by_label("Text", exact=True).is_visible()
        page.get_by_label("This service wants its token").fill(token)
        page.get_by_role("button", name="Enter").click()
        page.get_by_label("Text", exact=True).fill("a bad film")
        page.locator("#answer", has_text="Answer: bad").wait_for()
        page.close()


def test_the_api_is_described_from_here(browser, served):
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"http://127.0.0.1:{served.port}/docs")
    page.get_by_role("button", name="POST /predict Predictions").wait_for()
    assert all(u.startswith((f"http://127.0.0.1:{served.port}/", "data:")) for u in asked), asked
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_can_be_read(browser, served, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto(f"http://127.0.0.1:{served.port}/")
    page.get_by_label("Text", exact=True).fill("good " + "x" * 300)
    page.get_by_role("button", name="Which words").click()
    page.locator("#words mark").first.wait_for()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    # WCAG 2.1, 1.4.3: at least 4.5 for text; the formulas of relative luminance and contrast.
    colours = page.evaluate(
        """() => Object.fromEntries(["ink", "soft", "page", "card", "main", "on-main", "wrong"].map(
            name => [name, getComputedStyle(document.documentElement).getPropertyValue("--" + name)]
        ))"""
    )
    for ink, paper in (
        ("ink", "page"), ("ink", "card"), ("soft", "page"), ("soft", "card"), ("main", "page"),
        ("on-main", "main"), ("wrong", "page"),
    ):  # fmt: skip
        assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
    page.close()


def contrast(one: str, other: str) -> float:
    lights = sorted(map(luminance, (one, other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(colour: str) -> float:
    digits = colour.strip().lstrip("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    r, g, b = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_the_keyboard_suffices(page):
    page.keyboard.press("Tab")
    page.keyboard.type("a good film")
    page.locator("#answer", has_text="Answer: good").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#words mark").first.wait_for()
    named = [
        json.loads(name)
        for name in page.evaluate(
            """() => [...document.querySelectorAll("input, textarea, progress")].filter(
                e => !e.hidden).map(e => JSON.stringify(e.labels.length))"""
        )
    ]
    assert all(named), "each field has a label"


# The container

REPO = Path(__file__).parents[2]


def dockerfile() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, each with all it says."""
    text = re.sub(r"^#.*\n", "", (REPO / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def test_the_containers_commands_in_a_clean_folder(packaged, folder, tmp_path):
    """No engine is at hand to build it, so what it would run is run here."""
    source, opt = tmp_path / "src", tmp_path / "opt"
    instructions = dockerfile()
    for kind, said in instructions:
        if kind == "COPY" and not said.startswith("--from"):
            *names, target = said.split()
            for name in names:
                where = source / target / ("" if target == "./" else ".")
                if (REPO / name).is_dir():
                    shutil.copytree(REPO / name, where, ignore=shutil.ignore_patterns("__*__"))
                else:
                    where.mkdir(parents=True, exist_ok=True)
                    shutil.copy(REPO / name, where)
    arguments = dict(said.split("=", 1) for kind, said in instructions if kind == "ARG")
    # Where a CPU build of torch is found is said in the environment, if it is not PyPI.
    arguments["TORCH_INDEX"] = os.environ.get("PIP_EXTRA_INDEX_URL", "")
    (command,) = (said for kind, said in instructions if kind == "RUN")
    done = subprocess.run(
        ["sh", "-ec", command.replace("/opt/venv", str(opt / "venv"))],
        cwd=source,
        env={**os.environ, **arguments},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)

    of_kind = {kind: said for kind, said in instructions}
    program, *options = [*json.loads(of_kind["ENTRYPOINT"]), *json.loads(of_kind["CMD"])]
    options = [str(folder) if option == "/model" else option for option in options]
    python = opt / "venv" / "bin" / "python"
    environment = {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path / "nowhere"),
        "FROZENBERT_TOKEN": "a-token-that-is-long-enough",
    }
    server = subprocess.Popen(
        [python.parent / program, *options, "--port", "0"],
        cwd=opt,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = [server.stdout.readline() for _ in range(2)]
        assert "serving" in said[-1], (said, server.stderr.read())
        client = Client(int(re.search(r":(\d+) ", said[-1])[1]))
        health = json.loads(of_kind["HEALTHCHECK"].partition("CMD ")[2])
        health = [word.replace("8000", str(client.port)) for word in health]
        subprocess.run(health, env=environment, check=True)
        right = {"Authorization": f"Bearer {environment['FROZENBERT_TOKEN']}"}
        assert client.predict("a dull film", headers=right).json["predictions"] == ["bad"]
        assert client.predict("a dull film").status == 401
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert server.returncode == 0


def test_the_container_is_no_roots_and_small():
    instructions = dockerfile()
    assert ("USER", "10001:10001") in instructions
    assert instructions[-1] == ("CMD", '["--model", "/model"]')
    (extras,) = (said for kind, said in instructions if said.startswith("EXTRAS"))
    assert extras == "EXTRAS=serve"
    ignored = (REPO / ".dockerignore").read_text().split()
    assert ignored[0] == "*", "only what is named goes into it: no data, no models"
    copied = {name for kind, said in instructions if kind == "COPY" for name in said.split()[:-1]}
    assert {line[1:] for line in ignored if line.startswith("!")} <= copied
