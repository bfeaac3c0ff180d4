"""The server of the page: who may ask what, and what becomes of answers."""

from __future__ import annotations

import json
import logging
import os
import stat

import pytest

from frozenbert import InputError
from frozenbert.label import Session
from frozenbert.label.web.annotators import load_annotators
from frozenbert.label.web.site import label_in_browser

from .labelling_server import FILMS, labelling


@pytest.fixture
def page(tmp_path):
    with labelling(tmp_path / "films") as page:
        yield page


def test_an_answer_is_stored_before_it_is_confirmed(page):
    item, ahead = page.next(2)["items"]
    assert item["text"] in FILMS
    assert item["id"] != ahead["id"]
    answer = page.answer(item["id"], ["positive"])
    assert (answer.status, answer.json["problems"]) == (200, [])
    assert answer.json["progress"]["n_labelled"] == 1
    (stored,) = page.session.store.answers()
    assert (stored.text, stored.labels) == (item["text"], ["positive"])
    assert page.next(1, skip=[ahead["id"]])["items"][0]["id"] not in (item["id"], ahead["id"])


def test_a_retry_is_stored_once(page):
    (item,) = page.next()["items"]
    for _ in range(2):
        assert page.answer(item["id"], ["positive"], "one-and-the-same").status == 200
    assert len(list(page.session.store.answers())) == 1


def test_undo_returns_the_text(page):
    (item,) = page.next()["items"]
    page.answer(item["id"], ["positive"])
    undone = page.ask("POST", "/api/undo", {"tab": "t"}).json
    assert (undone["item"]["id"], undone["progress"]["n_labelled"]) == (item["id"], 0)
    assert page.ask("POST", "/api/undo", {"tab": "t"}).json["item"] is None


def test_two_tabs_have_different_texts_and_a_reload_has_the_same(page):
    first = {item["id"] for item in page.next(3, tab="one")["items"]}
    second = {item["id"] for item in page.next(3, tab="two")["items"]}
    assert len(first) == len(second) == 3
    assert not first & second
    assert {item["id"] for item in page.next(3, tab="one")["items"]} == first


def test_a_closed_tab_gives_its_texts_back(page):
    first = {item["id"] for item in page.next(3, tab="one")["items"]}
    assert page.ask("POST", "/api/release", {"tab": "one"}).status == 200
    assert {item["id"] for item in page.next(3, tab="two")["items"]} == first


def test_texts_of_another_tab_are_no_end(tmp_path):
    with labelling(tmp_path / "films", FILMS[:2]) as page:
        assert len(page.next(5, tab="one")["items"]) == 2
        assert page.next(5, tab="two") == {"items": [], "elsewhere": 2}


def test_what_cannot_be_stored_does_not_hold_the_rest_up(page):
    (item,) = page.next()["items"]
    answers = [
        {"item": item["id"], "labels": ["mixed"], "answer_id": "12345678"},
        {"item": "gone-0", "labels": None, "answer_id": "12345679"},
        {"item": item["id"], "labels": ["negative"], "answer_id": "12345670"},
    ]
    answer = page.ask("POST", "/api/answers", {"tab": "t", "answers": answers})
    assert len(answer.json["problems"]) == 2
    assert "no label of this session" in answer.json["problems"][0]
    assert [one.labels for one in page.session.store.answers()] == [["negative"]]


@pytest.mark.parametrize("path", ["/api/project", "/api/progress", "/api/doubts", "/api/final"])
def test_every_path_of_the_session_needs_the_token(page, path):
    assert page.ask("GET", path).status == 200
    assert page.ask("GET", path, name="wrong-token-wrong-token").status == 401
    assert page.ask("GET", path, headers={"Authorization": ""}).status == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "example.org"}, 400),
        ({"Authorization": ""}, 401),
    ],
)
def test_writes_are_json_of_this_origin(page, headers, status):
    (item,) = page.next()["items"]
    one = {"item": item["id"], "labels": ["positive"], "answer_id": "12345678"}
    answer = page.ask("POST", "/api/answers", {"tab": "t", "answers": [one]}, headers=headers)
    assert answer.status == status
    assert list(page.session.store.answers()) == []


def test_the_page_itself_opens_without_the_token(page):
    for path in ("/", "/label/main.js", "/label/label.css", "/page/page.css", "/page/icon.svg"):
        answer = page.ask("GET", path, headers={"Authorization": ""})
        assert answer.status == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert page.ask("GET", "/label/../project.sqlite", headers={"Authorization": ""}).status == 401


@pytest.mark.parametrize(
    ("path", "content", "detail"),
    [
        ("/api/next", {"tab": "t", "n": 1000}, "n: Input should be less than or equal to 10"),
        ("/api/next", {}, "tab: Field required"),
        ("/api/answers", {"tab": "t", "answers": []}, "answers: List should have at least 1"),
        ("/api/answers", b"{", "the body is not valid JSON"),
        ("/api/export", {"format": "../../etc/passwd"}, "format: Input should be 'csv'"),
    ],
)
def test_a_wrong_request_is_one_sentence(page, path, content, detail):
    answer = page.ask("POST", path, content)
    assert answer.status in (400, 422)
    assert detail in answer.json["detail"]


def test_names_follow_from_tokens(tmp_path):
    with labelling(tmp_path / "films", annotators=["anna", "ben"]) as page:
        file = tmp_path / "films" / "annotators.json"
        assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
        assert json.loads(file.read_text()) == page.tokens
        assert page.ask("GET", "/api/project", name="anna").json["annotator"] == "anna"
        for name in ("anna", "ben"):
            (item,) = page.next(name=name)["items"]
            page.answer(item["id"], ["positive"], name=name)
        assert {one.annotator for one in page.session.store.answers()} == {"anna", "ben"}
        assert len({one.item_id for one in page.session.store.answers()}) == 2
    again = load_annotators(tmp_path / "films", ["clara"])
    names = dict(again.addresses(""))
    assert names.keys() == {"anna", "ben", "clara"}
    assert names["anna"] == f"/#token={page.tokens['anna']}"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["anna", "Anna"], "annotators='Anna': is given twice"),
        ([" "], "a name of 1 to 60 characters"),
        (["x" * 61], "a name of 1 to 60 characters"),
    ],
)
def test_wrong_names(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        load_annotators(tmp_path, names)


@pytest.mark.parametrize("content", ["{", "[]", '{"anna": "short"}', '{"anna": 1}'])
def test_a_damaged_file_of_tokens_is_refused(tmp_path, content):
    (tmp_path / "annotators.json").write_text(content)
    with pytest.raises(InputError, match=r"annotators\.json: (cannot be read|must contain)"):
        load_annotators(tmp_path, [])


def test_beyond_loopback_people_have_names(tmp_path):
    with (
        Session(FILMS, ["bad", "good"], folder=tmp_path / "films", learn=False) as session,
        pytest.raises(InputError, match="annotators: other machines can reach this address"),
    ):
        label_in_browser(session, tmp_path / "films", host="0.0.0.0", port=0)


def test_the_log_has_neither_token_nor_text(page, caplog):
    caplog.set_level(logging.DEBUG)
    (item,) = page.next()["items"]
    page.answer(item["id"], ["positive"])
    page.ask("GET", f"/api/project?{page.tokens[None]}")
    page.ask("GET", f"/{item['text'].replace(' ', '-')}")
    assert page.tokens[None] not in caplog.text
    assert item["text"] not in caplog.text
    assert item["text"].replace(" ", "-") not in caplog.text


def test_a_doubt_that_is_kept_is_confirmed(page, monkeypatch):
    from frozenbert.label.items import Doubt

    (item,) = page.next()["items"]
    page.answer(item["id"], ["positive"])
    doubt = Doubt("label", [item["id"]], [item["text"]], "why", ["positive"], "negative")
    monkeypatch.setattr(page.session, "audit", lambda: [doubt])
    (shown,) = page.ask("GET", "/api/doubts").json["doubts"]
    assert shown["items"] == [{"id": item["id"], "text": item["text"], "labels": ["positive"]}]
    assert shown["guesses"] == [{"label": "negative", "probability": 1.0}]
    confirmed = []
    monkeypatch.setattr(page.session, "confirm", confirmed.append)
    page.ask("POST", "/api/keep", {"kind": "label", "items": [item["id"]]})
    page.ask("POST", "/api/keep", {"kind": "label", "items": ["unknown-0"]})
    assert confirmed == [doubt]


def test_too_few_labels_for_a_final_model_are_said(page):
    assert page.ask("GET", "/api/final").json["status"] == "idle"
    assert page.ask("POST", "/api/final", {}).json["status"] in ("running", "failed")
    page.service.wait()
    final = page.ask("GET", "/api/final").json
    assert (final["status"], final["facts"]) == ("failed", [])
    assert final["problem"] == "label four texts or more of each of two labels first."


@pytest.mark.parametrize("kind", ["csv", "label-studio", "jsonl"])
def test_labels_go_out_and_come_back(page, tmp_path, kind):
    for label in ("positive", "negative", "positive"):
        (item,) = page.next()["items"]
        page.answer(item["id"], [label])
    exported = page.ask("POST", "/api/export", {"format": kind})
    assert exported.status == 200
    assert 'filename="labelled.' in exported.headers["content-disposition"]
    content = exported.body.decode()
    with labelling(tmp_path / "again") as other:
        taken = other.ask("POST", "/api/import", {"format": kind, "content": content})
        assert taken.json == {"n": 3}
        labels = sorted(one.labels for one in other.session.store.answers())
        assert labels == [["negative"], ["positive"], ["positive"]]
        wrong = content.replace("positive", "mixed")
        answer = other.ask("POST", "/api/import", {"format": kind, "content": wrong})
        assert answer.status == 422
        assert "/tmp" not in answer.json["detail"]
