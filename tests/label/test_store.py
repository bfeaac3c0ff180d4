"""The project's file: nothing is lost, nothing is stored twice."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozenbert.errors import InputError
from frozenbert.label import Session
from frozenbert.label.store import BACKUP, FILE, Answer, Store

TEXTS = [f"text {i}" for i in range(6)]
LABELS = ["good", "bad"]


def session(texts=TEXTS, folder=None, **options):
    return Session(texts, LABELS, folder=folder, learn=False, **options)


def labels_of(one):
    """Return the labels of all answered texts."""
    return {row.text: row.labels for row in one._queue.labelled()}


def test_answers_come_back_in_their_order(tmp_path):
    answers = [
        Answer("1", "a-0", "a", ["good"], "anna", "2026-01-01T10:00:00", "bad", 0.75, "sample"),
        Answer("2", "b-0", "b", None, None, "2026-01-01T10:00:01"),
        Answer("3", "c-0", "ç", [], None, "2026-01-01T10:00:02"),
    ]
    store = Store(tmp_path / "project")
    store.add(answers)
    store.close()
    again = Store(tmp_path / "project")
    assert list(again.answers()) == answers
    again.close()


def test_folder_and_files_are_private(tmp_path):
    folder = tmp_path / "project"
    with session(folder=folder) as one:
        one.answer(one.next().id, "good")
        one.store.back_up()
        names = {path.name for path in folder.iterdir()}
        assert {FILE, BACKUP, f"{FILE}-wal"} <= names
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}


def test_an_answer_is_flushed_to_the_disk(tmp_path):
    store = Store(tmp_path / "project")
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    store.close()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("answer"), st.integers(0, 5), st.sampled_from([*LABELS, None])),
            st.tuples(st.just("retry"), st.integers(0, 5), st.sampled_from(LABELS)),
            st.tuples(st.just("undo"), st.none(), st.none()),
            st.tuples(st.just("reopen"), st.none(), st.none()),
        ),
        max_size=25,
    )
)
@settings(max_examples=25, deadline=None)
def test_any_history_is_that_of_a_list(history):
    """Answers, retries, undos and restarts in any order, compared with a plain list."""
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "project"
        one = session(folder=folder)
        ids = {text: name for name, text in zip(one._queue.ids, one._texts, strict=True)}
        expected, used = [], set()
        for number, (what, place_of, label) in enumerate(history):
            if what == "answer":
                one.answer(ids[TEXTS[place_of]], label, answer_id=str(number))
                used.add(str(number))
                expected.append((str(number), TEXTS[place_of], label))
            elif what == "retry" and used:
                one.answer(ids[TEXTS[place_of]], label, answer_id=sorted(used)[0])
            elif what == "undo":
                item = one.undo()
                assert (item.text if item else None) == (expected[-1][1] if expected else None)
                expected = expected[:-1]
            elif what == "reopen":
                one.close()
                one = session(folder=folder)
        last = {text: label for _, text, label in expected}
        assert labels_of(one) == {text: [label] for text, label in last.items() if label}
        assert one.progress().n_skipped == sum(label is None for label in last.values())
        one.close()


def test_undo_goes_back_to_the_beginning(tmp_path):
    folder = tmp_path / "project"
    with session(folder=folder) as one:
        shown = []
        while item := one.next():
            shown.append(item.text)
            one.answer(item.id, "good")
    with session(folder=folder) as one:
        undone = []
        while item := one.undo():
            undone.append(item.text)
            assert one.next().text == item.text
        assert undone == shown[::-1]
        assert one.progress().n_labelled == 0
        assert one.undo() is None


def test_undo_is_of_the_annotator_alone():
    with session() as one:
        for who in ("anna", "ben", "anna"):
            one.answer(one.next(who).id, "good", annotator=who)
        assert one.undo("ben") is not None
        assert one.undo("ben") is None
        assert one.progress().n_labelled == 2


@given(st.permutations(range(6)), st.integers(0, 6), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_rows_may_be_reordered_removed_and_added(order, n_kept, n_added):
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "project"
        with session(["same", "same", *TEXTS], folder=folder) as one:
            names = dict(zip(one._queue.ids, one._texts, strict=True))
            for name, text in names.items():
                one.answer(name, "good" if text in TEXTS[:3] else "bad")
            before = labels_of(one)
        kept = [TEXTS[i] for i in order[:n_kept]]
        added = [f"new {i}" for i in range(n_added)]
        with session([*added, *kept, "same"], folder=folder) as one:
            progress = one.progress()
            assert progress.n_labelled == n_kept + 1
            assert progress.n_removed == 8 - (n_kept + 1)
            assert labels_of(one) == before  # also those of the removed rows
            left = set()
            while item := one.next():
                left.add(item.text)
                one.answer(item.id, None)
            assert left == set(added)


def test_equal_texts_are_told_apart_by_their_occurrence():
    with session(["same", "same"]) as one:
        first = one.next()
        one.answer(first.id, "good")
        second = one.next()
        assert (second.text, second.id) != ("same", first.id)
        assert second.text == "same"


def start(folder, n=400):
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("answering.py")), str(folder), str(n)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_kill_in_mid_answer_loses_and_doubles_nothing(tmp_path, seed):
    folder = tmp_path / "project"
    pause = random.Random(seed).uniform(0.0, 0.2)
    stored = set()
    for _ in range(2):  # killed, started again on the same project, killed
        process = start(folder)
        assert process.stdout.readline() == "ready\n"
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        words = [line.split() for line in process.stdout.read().splitlines()]
        process.wait()
        done = {word[1] for word in words if word[0] == "done"}
        begun = {word[1] for word in words if word[0] == "begun"}
        assert len(begun - done) <= 1
        before = stored
        with session([f"text {i}" for i in range(400)], folder=folder) as one:
            answers = [answer.item_id for answer in one.store.answers()]
            for name in begun:  # the page sends what it has no receipt for once more
                one.answer(name, "good", answer_id=f"answer-{name}")
            again = [answer.item_id for answer in one.store.answers()]
        assert max(Counter(answers).values(), default=1) == 1
        assert before | done <= set(answers) <= before | begun
        assert sorted(again) == sorted(before | begun)
        stored = set(again)
    assert stored


@pytest.mark.slow
def test_a_second_process_is_refused_with_the_address_of_the_first(tmp_path):
    folder = tmp_path / "project"
    process = start(folder, n=2)
    try:
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(InputError, match=r"another process has .* at http://127.0.0.1:8123"):
            session(folder=folder)
    finally:
        process.kill()
        process.wait()
    session(["text 0"], folder=folder).close()  # the lock ended with the process


def test_a_second_session_of_this_process_is_refused(tmp_path):
    with (
        session(folder=tmp_path / "p"),
        pytest.raises(InputError, match="another process has the project open: go on there"),
    ):
        session(folder=tmp_path / "p")


def test_a_failed_start_does_not_keep_the_project_locked(tmp_path):
    session(folder=tmp_path / "p").close()
    with pytest.raises(InputError, match="the project has the labels 'good', 'bad'"):
        Session(TEXTS, ["yes", "no"], folder=tmp_path / "p", learn=False)
    session(folder=tmp_path / "p").close()


def test_another_folder_is_no_project(tmp_path):
    (tmp_path / "letter.txt").write_text("dear anna")
    with pytest.raises(InputError, match="is no labelling project, and not empty"):
        session(folder=tmp_path)
    with pytest.raises(InputError, match="is a file, and a project is a folder"):
        session(folder=tmp_path / "letter.txt")
    other = tmp_path / "other"
    other.mkdir()
    with sqlite3.connect(other / FILE) as db:
        db.execute("CREATE TABLE facts (name TEXT)")
    with pytest.raises(InputError, match="is no labelling project: name a new folder"):
        session(folder=other)
    assert (tmp_path / "letter.txt").read_text() == "dear anna"


@pytest.mark.parametrize("backed_up", [True, False])
def test_a_damaged_file_is_told_with_its_backup(tmp_path, backed_up):
    folder = tmp_path / "project"
    with session(folder=folder) as one:
        one.answer(one.next().id, "good")
        if backed_up:
            one.store.back_up()
    content = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    remedy = f"its backup of .* is .*{BACKUP}: copy that over it" if backed_up else "it has no"
    with pytest.raises(InputError, match=f"{FILE}: is damaged .*{remedy}"):
        session(folder=folder)
    if backed_up:
        (folder / FILE).write_bytes((folder / BACKUP).read_bytes())
        with session(folder=folder) as one:
            assert one.progress().n_labelled == 1


def test_a_newer_format_is_refused(tmp_path):
    session(folder=tmp_path / "p").close()
    with sqlite3.connect(tmp_path / "p" / FILE) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(InputError, match="has the format 99, and this version"):
        session(folder=tmp_path / "p")


def test_a_full_disk_is_an_error_and_not_a_lost_answer(tmp_path):
    with session(folder=tmp_path / "p") as one:
        first = one.next()
        one.answer(first.id, "good")
        pages = one.store._db.execute("PRAGMA page_count").fetchone()[0]
        one.store._db.execute(f"PRAGMA max_page_count = {pages}")
        item = one.next()

        def fill():
            for i in range(100):
                one.answer(item.id, "good", answer_id=f"{i} {'x' * 500}")

        with pytest.raises(InputError, match="the answer cannot be stored"):
            fill()
        stored = len(list(one.store.answers()))
        assert stored == len({answer.answer_id for answer in one.store.answers()}) >= 1
