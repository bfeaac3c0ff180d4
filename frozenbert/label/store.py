"""Answers on disk: one SQLite file is the project."""

from __future__ import annotations

import datetime
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import InputError
from ..utils.files import make_private_folder, writing

__all__ = ["IMPORTED", "Answer", "Store"]

FILE = "project.sqlite"
BACKUP = "project.backup.sqlite"
LOCK = "project.lock"
APPLICATION_ID = 0x66726F7A  # "froz"; tells a project from other SQLite files
FORMAT = 1
IMPORTED = "import"  # the reason of imported answers
BACK_UP_EVERY = 50  # answers

SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE answers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    answer_id TEXT NOT NULL UNIQUE,
    item_id TEXT NOT NULL,
    text TEXT NOT NULL,
    labels TEXT,
    annotator TEXT,
    answered TEXT NOT NULL,
    guess TEXT,
    probability REAL,
    reason TEXT,
    undone INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE curve (n INTEGER PRIMARY KEY, accuracy REAL, low REAL, high REAL);
"""
COLUMNS = "answer_id, item_id, text, labels, annotator, answered, guess, probability, reason"


@dataclass(frozen=True)
class Answer:
    """One answer of one annotator.

    Attributes
    ----------
    answer_id : str
        A retry with the same id is stored once.
    item_id, text : str
    labels : list of str or None
        None if the text was skipped.
    annotator : str or None
    answered : str
        When, in UTC.
    guess, probability : str and float, or None
        The model's guess at that time.
    reason : str or None
        Why the text was shown.
    """

    answer_id: str
    item_id: str
    text: str
    labels: list[str] | None
    annotator: str | None = None
    answered: str = ""
    guess: str | None = None
    probability: float | None = None
    reason: str | None = None


class Store:
    """The answers of a project, in a folder or in memory.

    An answer is on disk when `add` returns. While the store is open, another process (or
    another store of this one) cannot open the folder.

    Parameters
    ----------
    folder : path-like or None
        The project's folder, which is created with mode 0700. None is a store in memory.

    Raises
    ------
    InputError
        If the folder contains other things, is in use, or its file is damaged.

    Examples
    --------
    >>> store = Store(None)
    >>> _ = store.add([Answer("1", "a-0", "a fine film", ["good"])])
    >>> [answer.labels for answer in store.answers()]
    [['good']]
    >>> store.undo(None).item_id, list(store.answers())
    ('a-0', [])
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._mutex = threading.RLock()
        self._lock: FileLock | None = None
        self._open: sqlite3.Connection | None = None
        self._is_new = self._is_new_folder = False
        self._n_added = 0  # since the last backup
        if self.folder is None:
            self._open = _connect(":memory:")
            self._db.executescript(SCHEMA)
            return
        _check_folder(self.folder)
        self._is_new_folder = not self.folder.exists()
        self._is_new = not (self.folder / FILE).exists()
        try:
            make_private_folder(self.folder)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be written ({error.strerror}).") from error
        self._lock = _claim(self.folder)
        try:
            self._open = _open(self.folder / FILE)
            self.set_fact("address", None)
        except BaseException:
            self._lock.release()
            raise

    @property
    def _db(self) -> sqlite3.Connection:
        if self._open is None:
            raise InputError("the session is closed.")
        return self._open

    def fact(self, name: str) -> object:
        """Return a fact about the project, None if it has none of this name."""
        with self._mutex:
            row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_fact(self, name: str, value: object) -> None:
        """Store a fact: anything that JSON can contain."""
        with self._mutex, self._writing():
            self._db.execute(
                "INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value))
            )

    def add(self, answers: Iterable[Answer]) -> list[Answer]:
        """Store answers, all or none, and return them with their time.

        An answer whose id is there already is stored once.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        added = [replace(answer, answered=answer.answered or now) for answer in answers]
        with self._mutex, self._writing():
            self._db.executemany(
                f"INSERT INTO answers ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
                f"ON CONFLICT (answer_id) DO NOTHING",
                [_row_of(answer) for answer in added],
            )
            self._n_added += len(added)
        return added

    def has(self, answer_id: str) -> bool:
        """Tell whether an answer of this id is stored, undone or not."""
        with self._mutex:
            found = self._db.execute("SELECT 1 FROM answers WHERE answer_id = ?", (answer_id,))
            return found.fetchone() is not None

    def answers(self) -> Iterator[Answer]:
        """Yield all answers but those undone, the oldest first."""
        with self._mutex:
            rows = self._db.execute(
                f"SELECT {COLUMNS} FROM answers WHERE NOT undone ORDER BY number"
            ).fetchall()
        yield from map(_answer_of, rows)

    def text_of(self, item_id: str) -> str | None:
        """Return the text of an answer, undone or not; None if there is none of this id."""
        with self._mutex:
            row = self._db.execute(
                "SELECT text FROM answers WHERE item_id = ? LIMIT 1", (item_id,)
            ).fetchone()
        return None if row is None else row[0]

    def undo(self, annotator: str | None) -> Answer | None:
        """Take back the annotator's last answer that is not undone, and return it.

        Imported answers stay.
        """
        with self._mutex, self._writing():
            row = self._db.execute(
                f"SELECT number, {COLUMNS} FROM answers WHERE NOT undone AND annotator IS ? "
                f"AND reason IS NOT ? ORDER BY number DESC LIMIT 1",
                (annotator, IMPORTED),
            ).fetchone()
            if row is None:
                return None
            self._db.execute("UPDATE answers SET undone = 1 WHERE number = ?", row[:1])
        return _answer_of(row[1:])

    def curve(self) -> list[tuple[int, float, float, float]]:
        """Return the points of the curve, by their number of labels."""
        with self._mutex:
            return self._db.execute("SELECT * FROM curve ORDER BY n").fetchall()

    def add_point(self, n: int, accuracy: float, low: float, high: float) -> None:
        """Store a point of the curve; it replaces one of the same number of labels."""
        with self._mutex, self._writing():
            self._db.execute(
                "INSERT OR REPLACE INTO curve VALUES (?, ?, ?, ?)", (n, accuracy, low, high)
            )

    def back_up(self) -> None:
        """Copy the project to its backup file, whole or not at all."""
        if self.folder is None:
            return
        self._n_added = 0
        # A connection of its own, so that answers can be stored meanwhile.
        with (
            writing(self.folder / BACKUP) as temporary,
            closing(_connect(self.folder / FILE)) as db,
        ):
            _private_file(temporary)
            with closing(sqlite3.connect(temporary)) as copy:
                db.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")

    def back_up_if_due(self) -> None:
        """Back up after each 50 answers."""
        if self._n_added >= BACK_UP_EVERY:
            self.back_up()

    def close(self) -> None:
        """Close the file, and let other processes open it."""
        with self._mutex:
            if self._open is None:
                return
            with suppress(InputError, sqlite3.Error):
                self.set_fact("address", None)
            self._open.close()
            self._open = None
            if self._lock is not None:
                self._lock.release()

    def discard(self) -> None:
        """Close the file; remove the project if this store made it and it has no answer."""
        with self._mutex:
            if self._open is not None and self.folder is not None and self._is_new:
                (n,) = self._open.execute("SELECT count(*) FROM answers").fetchone()
                if n == 0:
                    self._open.close()
                    self._open = None
                    _remove(self.folder, with_folder=self._is_new_folder)
                    assert self._lock is not None
                    self._lock.release()
            self.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Make a transaction, which is on disk at the end."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            with suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise InputError(f"{self.folder}: the answer cannot be stored: {error}.") from error


def _row_of(answer: Answer) -> tuple[object, ...]:
    labels = None if answer.labels is None else json.dumps(answer.labels, ensure_ascii=False)
    return (
        answer.answer_id,
        answer.item_id,
        answer.text,
        labels,
        answer.annotator,
        answer.answered,
        answer.guess,
        answer.probability,
        answer.reason,
    )


def _answer_of(row: tuple[Any, ...]) -> Answer:
    answer_id, item_id, text, labels, *others = row
    return Answer(answer_id, item_id, text, None if labels is None else json.loads(labels), *others)


def _connect(path: str | Path) -> sqlite3.Connection:
    # Autocommit; transactions are begun by hand. `Store` has a mutex for its threads.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _private_file(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, and a project is a folder: name another one.")
    if folder.is_dir():
        names = set(os.listdir(folder)) - {LOCK}
        if names and FILE not in names:
            raise InputError(
                f"{folder}: is no labelling project, and not empty: name a new folder."
            )


def _remove(folder: Path, *, with_folder: bool) -> None:
    """Remove the files of a project, and its folder if there is nothing else in it."""
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm", BACKUP, LOCK):
        (folder / name).unlink(missing_ok=True)
    if with_folder:
        with suppress(OSError):
            folder.rmdir()


def _claim(folder: Path) -> FileLock:
    """Lock the project for this process; the lock ends with the process."""
    lock = FileLock(folder / LOCK, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        address = None
        with suppress(sqlite3.Error, ValueError), closing(_connect(folder / FILE)) as db:
            row = db.execute("SELECT value FROM facts WHERE name = 'address'").fetchone()
            address = row and json.loads(row[0])
        where = f" at {address}" if address else ""
        raise InputError(
            f"{folder}: another process has the project open{where}: go on there, or end it."
        ) from None
    return lock


def _open(path: Path) -> sqlite3.Connection:
    is_new = not path.exists()
    if is_new:
        _private_file(path)
    db = _connect(path)
    try:
        if is_new or path.stat().st_size == 0:
            _create(db)
        else:
            _check(db, path)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
    except sqlite3.DatabaseError as error:
        db.close()
        raise _damaged(path, error) from error
    except BaseException:
        db.close()
        raise
    return db


def _create(db: sqlite3.Connection) -> None:
    db.executescript(
        f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
        f"PRAGMA user_version = {FORMAT}; COMMIT;"
    )


def _check(db: sqlite3.Connection, path: Path) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise InputError(f"{path}: is no labelling project: name a new folder.")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version != FORMAT:
        raise InputError(
            f"{path}: has the format {version}, and this version of frozenbert reads {FORMAT}: "
            f"install a newer one."
        )
    (state,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise sqlite3.DatabaseError("its content does not pass SQLite's check")


def _damaged(path: Path, error: sqlite3.Error) -> InputError:
    backup = path.with_name(BACKUP)
    remedy = "it has no backup"
    if backup.exists():
        when = datetime.datetime.fromtimestamp(backup.stat().st_mtime).isoformat(" ", "minutes")
        remedy = f"its backup of {when} is {backup}: copy that over it"
    return InputError(f"{path}: is damaged ({error}); {remedy}.")
