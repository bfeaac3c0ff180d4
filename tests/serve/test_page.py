"""The page in a real browser."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil

import pytest
from serving import WordModel, serving

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        assert not os.environ.get("CI"), "CI must have chromium: .ci/run installs it"
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
    """The page; it must send no request elsewhere and raise no error."""
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(10_000)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda entry: errors.append(entry.text) if entry.type == "error" else None)
    own = f"http://127.0.0.1:{served.port}/"
    page.goto(own)
    page.locator("#card dd").first.wait_for()
    page.errors = errors
    yield page
    assert all(url.startswith((own, f"blob:{own}")) for url in asked), asked
    assert errors == []
    context.close()


def test_the_answer_appears_when_typing_pauses(page, served):
    page.get_by_label("Text", exact=True).press_sequentially("a good film", delay=20)
    page.locator("#answer", has_text="Answer: good, 66.7 %").wait_for()
    bars = page.locator("#bars li")
    assert bars.all_inner_texts() == ["bad\n33.3 %", "good\n66.7 %"]
    widths = [bars.nth(i).locator(".bar").bounding_box()["width"] for i in range(2)]
    page.wait_for_timeout(300)
    widths = [bars.nth(i).locator(".bar").bounding_box()["width"] for i in range(2)]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.05)
    assert len(served.model.calls) < 4, "not after every key"
    page.get_by_label("Text", exact=True).fill("")
    page.locator("#answer", has_text="Answer").wait_for(state="detached")
    assert bars.count() == 0


def test_markup_is_text(page):
    text = "<script>document.title='hacked'</script> <img src=x onerror=alert(1)> good"
    page.get_by_label("Text", exact=True).fill(text)
    page.locator("#answer", has_text="Answer: good").wait_for()
    page.get_by_role("button", name="Which words matter?").click()
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
    # Alone among three, or by Shapley values.
    assert marks.nth(3).get_attribute("title") in ("−15.0 points", "−16.7 points")
    assert "Without the strongest words it has" in page.locator("#note").inner_text()


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
        page.get_by_text("Paste rows, or choose").click()
        page.get_by_label("Rows; the first one").fill(table.read_text(encoding="utf-8"))
        page.get_by_role("button", name="Label these rows").click()
    link = page.get_by_role("link", name="Download rows-labelled.csv")
    link.wait_for()
    assert page.locator("#table-answer").inner_text() == "150 rows labelled."
    if way != "paste":
        assert page.locator("#chosen").inner_text() == "rows.csv"
    assert page.locator("#file").bounding_box()["width"] <= 1  # or it says "No file chosen"
    with page.expect_download() as download:
        link.click()
    labelled = list(csv.DictReader(download.value.path().open(newline="", encoding="utf-8")))
    assert [row["id"] for row in labelled] == [row["id"] for row in rows]
    assert {row["prediction"] for row in labelled} == {"good"}


def test_rows_of_a_spreadsheet_stay_tsv(page):
    page.get_by_text("Paste rows, or choose").click()
    page.get_by_label("Rows; the first one").fill('id\ttext\n1\ta "good, film\n2\tbad')
    page.get_by_role("button", name="Label these rows").click()
    link = page.get_by_role("link", name="Download rows-labelled.tsv")
    with page.expect_download() as download:
        link.click()
    file = download.value.path().open(newline="", encoding="utf-8")
    assert [row[:3] for row in csv.reader(file, delimiter="\t")] == [
        ["id", "text", "prediction"], ["1", 'a "good, film', "good"], ["2", "bad", "bad"]
    ]  # fmt: skip


def test_a_delimiter_can_be_chosen(page):
    page.get_by_text("Paste rows, or choose").click()
    page.get_by_label("Rows; the first one").fill("a;text,c\nd;bad,f\n")
    page.get_by_role("button", name="Label these rows").click()
    page.locator("#table-answer", has_text="delimiter").wait_for()
    page.errors.clear()  # the browser reports the 422 itself
    page.get_by_label("Delimiter").select_option("semicolon")
    page.get_by_label("Column of the texts").fill("1")
    page.get_by_role("button", name="Label these rows").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download rows-labelled.csv").click()
    file = download.value.path().open(newline="", encoding="utf-8")
    assert [row[1:3] for row in csv.reader(file, delimiter=";")][-1] == ["bad,f", "bad"]


def test_a_file_dropped_elsewhere_is_ignored(page):
    page.get_by_label("Text", exact=True).fill("a good film")
    prevented = page.evaluate(
        """() => !document.body.dispatchEvent(new DragEvent("drop", {
            bubbles: true, cancelable: true, dataTransfer: new DataTransfer()
        }))"""
    )
    assert prevented
    assert page.get_by_label("Text", exact=True).input_value() == "a good film"


def test_an_invalid_table_is_reported(page, tmp_path):
    (tmp_path / "rows.csv").write_text("text,n\nfine,1\nbad\n", encoding="utf-8")
    page.get_by_label("Drop a file here").set_input_files(tmp_path / "rows.csv")
    page.locator("#table-answer", has_text="line 3: the number of fields is 1").wait_for()
    assert page.get_by_role("link", name="Download").count() == 0
    page.errors.clear()  # the browser reports the 422 itself


def test_an_incomplete_answer_is_reported(page, tmp_path, served):
    rows = "".join(f"good {n}\n" for n in range(200)) + "unbearable\n"
    (tmp_path / "rows.csv").write_text("text\n" + rows, encoding="utf-8")
    page.get_by_label("Drop a file here").set_input_files(tmp_path / "rows.csv")
    page.locator("#table-answer", has_text=re.compile("ended after .* of 201 rows")).wait_for()
    assert page.get_by_role("link", name="Download").count() == 0
    page.errors.clear()


def test_the_token_form(browser, tmp_path):
    token = "a-token-that-is-long-enough"
    with serving(WordModel(), tmp_path, token=token) as client:
        page = browser.new_page()
        page.goto(f"http://localhost:{client.port}/")
        page.get_by_label("This service requires a token").fill("wrong")
        page.keyboard.press("Enter")
        page.locator("#about", has_text="requires its token").wait_for()
        assert not page.get_by_label("Text", exact=True).is_visible()
        page.get_by_label("This service requires a token").fill(token)
        page.get_by_role("button", name="Enter").click()
        page.get_by_label("Text", exact=True).fill("a bad film")
        page.locator("#answer", has_text="Answer: bad").wait_for()
        page.close()


def test_the_description_of_the_api(browser, served):
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"http://127.0.0.1:{served.port}/docs")
    page.get_by_role("button", name="POST /predict Predict Texts").wait_for()
    assert all(u.startswith((f"http://127.0.0.1:{served.port}/", "data:")) for u in asked), asked
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_has_contrast(browser, served, width, scheme):
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


def test_the_page_works_with_the_keyboard(page):
    page.keyboard.press("Tab")
    page.keyboard.type("a good film")
    page.locator("#answer", has_text="Answer: good").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#words mark").first.wait_for()
    named = [
        json.loads(name)
        for name in page.evaluate(
            """() => [...document.querySelectorAll("input, textarea, select, progress")].filter(
                e => !e.hidden).map(e => JSON.stringify(e.labels.length))"""
        )
    ]
    assert all(named), "each field has a label"
