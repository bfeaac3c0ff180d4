"""The page of a labelling session in a real browser."""

from __future__ import annotations

import contextlib
import csv
import re
from collections import Counter

import pytest

from frozenbert.label.asking import identify
from frozenbert.label.items import Advice, Doubt, Group

from .labelling_server import FILMS, labelling

pytestmark = pytest.mark.slow

TEXTS = dict(zip(identify(FILMS), FILMS, strict=True))
MANY = [f"topic {n:02}" for n in range(1, 15)] + ["economy", "école", "sports, local"]


@contextlib.contextmanager
def opened(browser, served, name=None, **settings):
    """The page in a browser of its own; it must ask no other host and raise no error."""
    context = browser.new_context(accept_downloads=True, **settings)
    page = context.new_page()
    page.set_default_timeout(20_000)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda entry: errors.append(entry.text) if entry.type == "error" else None)
    page.errors = errors
    page.goto(served.address(name))
    text_of(page)
    yield page
    own = f"http://127.0.0.1:{served.port}/"
    assert all(url.startswith((own, f"blob:{own}")) for url in asked), asked
    assert not any(served.tokens[name] in url.partition("#")[0] for url in asked)
    assert errors == []
    context.close()


@pytest.fixture
def served(tmp_path):
    with labelling(tmp_path / "films") as served:
        yield served


@pytest.fixture
def page(browser, served):
    with opened(browser, served) as page:
        yield page


def text_of(page):
    page.wait_for_function(
        "() => document.querySelector('#text').textContent"
        " || !document.querySelector('#all-done').hidden"
    )
    return page.locator("#text").text_content()


def press(page, key):
    """Press a key that answers, and wait for the next text."""
    before = page.locator("#text").text_content()
    page.keyboard.press(key)
    page.wait_for_function(
        "before => document.querySelector('#text').textContent !== before"
        " || !document.querySelector('#all-done').hidden",
        arg=before,
    )


def stored(served):
    return {one.text: one.labels for one in served.session.store.answers()}


def labels_of(served, item_id):
    """The labels of the last answer to a text."""
    return [one.labels for one in served.session.store.answers() if one.item_id == item_id][-1]


def test_thirty_texts_by_keys_with_undo_and_reload(page, served):
    expected = {}
    for n in range(30):
        text = text_of(page)
        key, labels = [("1", ["negative"]), ("2", ["positive"]), ("0", None)][n % 3]
        expected[text] = labels
        press(page, key)
    assert len(expected) == 30
    assert stored(served) == expected
    assert page.locator("#count").inner_text() == "20 of 80 texts labelled, 10 skipped."

    last = list(expected)[-2:]
    for text in reversed(last):
        press(page, "Control+z")
        assert text_of(page) == text
        del expected[text]
    assert stored(served) == expected

    text = text_of(page)
    page.reload()
    page.wait_for_function("t => document.querySelector('#text').textContent === t", arg=text)
    press(page, "2")
    assert stored(served) == {**expected, text: ["positive"]}
    assert "token" not in page.url


def test_the_next_text_is_announced(page):
    live = page.locator("#live")
    assert live.inner_text() == f"Text: {text_of(page)}"
    press(page, "2")
    assert live.inner_text() == f"positive. Next text: {text_of(page)}"
    press(page, "Control+z")
    assert live.inner_text() == f"Undone. Text: {text_of(page)}"


def test_a_held_key_answers_once(page, served):
    page.keyboard.down("1")
    for _ in range(5):
        page.keyboard.down("1")  # the browser marks it as a repetition
    page.keyboard.up("1")
    page.wait_for_timeout(300)
    assert len(stored(served)) == 1


def test_without_a_mouse_and_without_single_keys(page, served):
    text = text_of(page)
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    page.get_by_label("Use single keys").press("Space")
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    page.get_by_role("button", name="positive").focus()
    press(page, "Enter")
    assert stored(served) == {text: ["positive"]}
    assert page.evaluate("document.activeElement.dataset.label") == "positive", "it keeps the focus"


def test_markup_right_to_left_and_long_texts(browser, tmp_path):
    texts = [
        "<script>document.title='hacked'</script> <img src=x onerror=alert(1)>",
        "زه نن یو ښه فلم وکوت",
        "word " * 2000,
        "",
        "x" * 3000,
    ]
    labels = ["<b>negative</b>", "مثبت"]
    with labelling(tmp_path / "odd", texts, labels) as served, opened(browser, served) as page:
        for n, _ in enumerate(texts, start=1):
            text = text_of(page)
            if len(text) > 500:
                assert len(text) < 1000
                more = page.get_by_role("button", name=re.compile("Show all [0-9,]+ characters"))
                assert more.get_attribute("aria-expanded") == "false"
                page.keyboard.press("m")
                assert page.locator("#text").text_content() in texts
                page.get_by_role("button", name="Show less").click()
            else:
                assert text in (*texts, "(empty text)")
            if text == texts[1]:
                style = "getComputedStyle(document.querySelector('#text')).direction"
                assert page.evaluate(style) == "rtl"
            assert page.locator("#text *").count() == 0
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.keyboard.press("1")
            page.wait_for_function(
                "n => document.querySelector('#count').textContent.startsWith(`${n} of 5`)"
                " && !document.querySelector('#view-label').ariaBusy",
                arg=n,
            )
        assert "hacked" not in page.title()
        assert len(stored(served)) == 5
        assert page.locator("#all-done-text").inner_text() == "Every text is labelled or skipped."


def test_many_labels_are_filtered(browser, tmp_path):
    with labelling(tmp_path / "topics", labels=MANY) as served, opened(browser, served) as page:
        text = text_of(page)
        page.keyboard.type("eco")
        options = page.locator("#choices .options").last.locator("button")
        assert options.all_inner_texts() == ["economy", "école"]  # accents do not matter
        page.keyboard.press("Escape")
        assert options.count() == len(MANY)
        page.keyboard.type("loc")
        assert page.locator("#live").inner_text() == "Enter takes sports, local."
        press(page, "Enter")
        assert stored(served) == {text: ["sports, local"]}
        page.keyboard.press("Enter")  # nothing is typed
        page.wait_for_timeout(200)
        assert len(stored(served)) == 1
        assert options.count() == len(MANY)


def test_the_guesses_stay_on_1_to_3(browser, tmp_path, monkeypatch):
    guesses = [("economy", 0.5), ("école", 0.3), ("topic 03", 0.2)]
    with labelling(tmp_path / "topics", labels=MANY) as served:
        monkeypatch.setattr(served.session, "_guesses", lambda row: guesses)
        with opened(browser, served) as page:
            text = text_of(page)
            keys = page.get_by_role("list", name="The model’s guesses").get_by_role("button")
            assert keys.all_inner_texts() == ["1economy", "2école", "3topic 03"]
            press(page, "2")
            assert stored(served) == {text: ["école"]}


def test_the_guess_is_shown_only_if_asked(browser, tmp_path, monkeypatch):
    with labelling(tmp_path / "films") as served:
        monkeypatch.setattr(served.session, "_guesses", lambda row: [("positive", 0.625)])
        with opened(browser, served) as page:
            assert not page.locator("#guess").is_visible()
            page.keyboard.press("g")
            guess = "Model: positive 62.5\N{NO-BREAK SPACE}% (from the random sample)"
            assert page.locator("#guess").inner_text() == guess
            page.reload()
            text_of(page)
            assert page.locator("#guess").inner_text() == guess


def test_several_labels(browser, tmp_path):
    labels = ["warm", "funny", "short"]
    settings = {"multi_label": True}
    with (
        labelling(tmp_path / "m", labels=labels, **settings) as served,
        opened(browser, served) as page,
    ):
        texts = [text_of(page)]
        page.keyboard.press("3")
        page.keyboard.press("1")
        page.keyboard.press("2")
        page.keyboard.press("2")  # removed again
        pressed = page.locator("#choices [aria-pressed=true]")
        assert pressed.all_inner_texts() == ["1warm", "3short"]
        press(page, "Enter")
        texts.append(text_of(page))
        press(page, "Enter")
        assert stored(served) == {texts[0]: ["warm", "short"], texts[1]: []}


def test_two_people_at_once(browser, tmp_path):
    people = ["anna", "ben"]
    with labelling(tmp_path / "films", FILMS[:30], annotators=people) as served:
        with opened(browser, served, "anna") as anna, opened(browser, served, "ben") as ben:
            assert anna.locator("#who").inner_text() == "anna"
            for _ in range(15):
                for page in (anna, ben):
                    if page.locator("#item").is_visible():
                        press(page, "2")
        answers = list(served.session.store.answers())
        counts = Counter(one.annotator for one in answers)
        assert min(counts.values()) >= 10
        assert counts.keys() == set(people)
        pairs = {(one.annotator, one.item_id) for one in answers}
        assert len(pairs) == len(answers)


def test_a_second_tab(browser, served):
    with opened(browser, served) as page:
        other = page.context.new_page()
        other.goto(served.address())
        assert text_of(other) != text_of(page)
        mine, theirs = text_of(page), text_of(other)
        press(other, "1")
        press(page, "2")
        assert stored(served) == {mine: ["positive"], theirs: ["negative"]}


def test_texts_of_a_closed_tab_come_to_the_other_one(browser, tmp_path):
    with labelling(tmp_path / "films", FILMS[:2]) as served, opened(browser, served) as page:
        other = page.context.new_page()
        other.goto(served.address())
        other.get_by_text("The last 2 texts are open in another tab").first.wait_for()
        page.evaluate("dispatchEvent(new Event('pagehide'))")  # as when it is closed
        assert text_of(page) in FILMS
        other.wait_for_function("() => !document.querySelector('#item').hidden")
        press(other, "2")
        press(other, "2")
        assert stored(served) == {text: ["positive"] for text in FILMS[:2]}


def test_a_long_text_leaves_its_buttons_in_sight(browser, tmp_path):
    phone = {"viewport": {"width": 390, "height": 844}}
    texts, settings = ["word " * 4000], {"labels": MANY, "multi_label": True}
    with (
        labelling(tmp_path / "long", texts, **settings) as served,
        opened(browser, served, **phone) as page,
    ):
        page.get_by_role("button", name="economy").click()
        box = page.get_by_role("button", name="Next Enter").bounding_box()
        assert box["y"] + box["height"] <= 844
        assert page.evaluate("scrollY") == 0
        page.get_by_role("button", name="Next Enter").click()
        page.locator("#all-done").wait_for()
        assert stored(served) == {texts[0]: ["economy"]}


def test_a_wrong_token_and_a_pasted_address(browser, served):
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{served.port}/")
    page.get_by_label("Address or token").fill("wrong")
    page.keyboard.press("Enter")
    page.locator("#door-why", has_text="an earlier start").wait_for()
    assert not page.locator("#main").is_visible()
    page.get_by_label("Address or token").fill(served.address())
    page.keyboard.press("Enter")
    assert text_of(page) in FILMS
    page.close()


def answered(served, n=12):
    """Label texts without the page; return their ids."""
    ids = []
    for place in range(n):
        item = served.session.next()
        served.session.answer(item.id, served.session.labels[place % 2])
        ids.append(item.id)
    return ids


def doubts_of(served, ids):
    texts = [TEXTS[name] for name in ids]
    return [
        Doubt("label", ids[:1], texts[:1], "86 % for another", ["negative"], "positive"),
        Doubt("duplicate", ids[:2], texts[:2], "they differ in one word", ["negative", "positive"]),
        Doubt("outlier", ids[2:3], texts[2:3], "far from all others", ["negative"]),
        Doubt("label", ids[3:4], texts[3:4], "80 % for another", ["positive"], "negative"),
    ]


def test_labels_are_checked_and_mended(browser, served, monkeypatch):
    ids = answered(served)
    confirmed = []
    monkeypatch.setattr(served.session, "audit", lambda: doubts_of(served, ids))
    monkeypatch.setattr(served.session, "confirm", confirmed.append)
    with opened(browser, served) as page:
        page.get_by_role("button", name="Check", exact=True).click()
        status = page.locator("#check-status")
        page.locator("#check-status", has_text="1 of 4").wait_for()
        assert page.locator("#check-why").inner_text().endswith("wrong. 86 % for another")
        for key in ("2", "1", "0", "Enter"):
            before = status.inner_text()
            page.keyboard.press(key)
            page.wait_for_function(
                "b => document.querySelector('#check-status').textContent !== b", arg=before
            )
        assert status.inner_text() == "All 4 are checked."
        labels = [labels_of(served, name) for name in ids[:4]]
        assert labels == [["negative"], ["negative"], None, ["positive"]]
        assert [doubt.why for doubt in confirmed] == ["80 % for another"]


def test_a_mended_label_can_be_given_back(browser, served, monkeypatch):
    ids = answered(served)
    monkeypatch.setattr(served.session, "audit", lambda: doubts_of(served, ids)[:2])
    with opened(browser, served) as page:
        page.get_by_role("button", name="Check", exact=True).click()
        page.locator("#check-status", has_text="1 of 2").wait_for()
        page.keyboard.press("2")
        page.locator("#check-status", has_text="2 of 2").wait_for()
        assert labels_of(served, ids[0]) == ["positive"]
        page.keyboard.press("Control+z")
        page.locator("#check-status", has_text="1 of 2").wait_for()
        assert labels_of(served, ids[0]) == ["negative"]


def group_of(served, n=4):
    texts = FILMS[:n]
    ids = [name for name, text in TEXTS.items() if text in texts]
    return Group(ids, texts, "positive")


def test_a_group_is_labelled_after_a_look_at_each(browser, served, monkeypatch):
    group = group_of(served)
    monkeypatch.setattr(served.session, "groups", lambda: [group])
    with opened(browser, served) as page:
        page.get_by_role("button", name="Groups").click()
        page.locator("#groups-status", has_text="Group 1 of 1: 4 texts").wait_for()
        page.keyboard.press("2")
        page.locator("#groups-status", has_text="Tick the texts").wait_for()
        assert stored(served) == {}
        page.keyboard.press("Space")
        page.keyboard.press("Space")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Space")
        page.keyboard.press("2")
        page.locator("#groups-status", has_text="These were all groups").wait_for()
        expected = {group.texts[place]: ["positive"] for place in (0, 1, 3)}
        assert stored(served) == expected


def test_labels_are_downloaded(page, served):
    expected = {}
    for key, label in [("1", "negative"), ("2", "positive")]:
        expected[text_of(page)] = label
        press(page, key)
    page.get_by_role("button", name="Finish").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="csv", exact=True).click()
    assert download.value.suggested_filename == "labelled.csv"
    rows = csv.DictReader(download.value.path().open(newline="", encoding="utf-8"))
    assert {row["text"]: row["label"] for row in rows} == expected


def test_advice_to_stop_is_said_once(browser, served, monkeypatch):
    from dataclasses import replace

    progress = served.session.progress
    advice = Advice(True, "50 more labels are expected to bring less than 0.5 points.")
    monkeypatch.setattr(served.session, "progress", lambda: replace(progress(), advice=advice))
    with opened(browser, served) as page:
        page.get_by_text("less than 0.5 points").first.wait_for()
        page.get_by_role("button", name="Go on labelling").click()
        press(page, "1")
        assert not page.locator("#advice").is_visible()
        page.get_by_role("button", name="Progress").click()
        page.locator("#progress-advice", has_text=advice.reason).wait_for()


# Every state, as axe and the narrow screen see it


STATES = {
    "label": ("Label", lambda page: page.locator("#item").wait_for()),
    "check": ("Check", lambda page: page.locator("#check-card").wait_for()),
    "groups": ("Groups", lambda page: page.locator("#groups-card").wait_for()),
    "progress": ("Progress", lambda page: page.locator("#curve svg").wait_for()),
    "finish": ("Finish", lambda page: page.locator("#train").wait_for()),
}


def violations(page, axe):
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(axe)
    found = page.evaluate("axe.run()")
    assert found["passes"]
    return [
        f"{one['id']}: {node['html'][:200]} {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("labels", [["negative", "positive"], MANY], ids=["few", "many"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_state_has_a_violation(browser, tmp_path, monkeypatch, axe, labels, scheme, width):
    texts = [*FILMS, "long " * 1000]
    with labelling(tmp_path / "films", texts, labels) as served:
        ids = answered(served)
        monkeypatch.setattr(served.session, "audit", lambda: doubts_of(served, ids))
        monkeypatch.setattr(served.session, "groups", lambda: [Group(ids[:3], FILMS[:3])])
        for n in (10, 20, 40):
            served.session.store.add_point(n, 0.5 + n / 100, 0.4 + n / 100, 0.55 + n / 100)
        view = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
        with opened(browser, served, **view) as page:
            for name, ready in STATES.values():
                page.locator("#views").get_by_role("button", name=name, exact=True).click()
                ready(page)
                assert violations(page, axe) == [], name
                assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            page.get_by_role("button", name="Keys").click()
            assert violations(page, axe) == []
            page.keyboard.press("Escape")
            page.locator("#views").get_by_role("button", name="Label").click()
            while page.locator("#item").is_visible():
                press(page, "0")
            assert violations(page, axe) == []
            page.evaluate("sessionStorage.clear()")
            page.reload()
            page.locator("#door").wait_for()
            assert violations(page, axe) == []
            page.errors.clear()  # the browser reports the 401 itself
