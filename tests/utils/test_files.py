"""Files written whole or not at all; private folders; checks of paths; hashes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from frozenbert.errors import InputError
from frozenbert.utils import files
from frozenbert.utils.files import (
    check_can_write,
    check_is_no_device,
    make_private_folder,
    sha256_of_file,
    writing,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    with writing(str(target)) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.parent == tmp_path
    assert target.read_text() == "new"
    assert [*tmp_path.iterdir()] == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")

    def fail() -> None:
        with writing(target) as temporary:
            temporary.write_text("ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert target.read_text() == "old"
    assert [*tmp_path.iterdir()] == [target]


def test_a_failed_rename_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="out"), writing(tmp_path / "out") as temporary:
        temporary.write_text("text")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_content_is_flushed_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda f: (calls.append("fsync"), fsync(f)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    with writing(tmp_path / "out") as temporary:
        temporary.write_text("x")
    assert calls == ["fsync", "replace"]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with writing(target) as first, writing(target) as second:
        first.write_text("1" * 1000)
        second.write_text("2")
    assert target.read_text() == "1" * 1000
    assert [*tmp_path.iterdir()] == [target]


def test_can_write_where_folders_are_still_missing(tmp_path: Path) -> None:
    check_can_write(tmp_path / "new")
    check_can_write(tmp_path / "a" / "b" / "new")
    assert not [*tmp_path.iterdir()]


def test_cannot_write_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"x\.csv: cannot be written, because .*file is a file"):
        check_can_write(tmp_path / "file" / "x.csv")


def test_cannot_write_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests may run as root, whom no mode stops.
    monkeypatch.setattr(files.os, "access", lambda path, how: not how & os.W_OK)
    with pytest.raises(InputError, match=f"you may not write to {tmp_path}"):
        check_can_write(tmp_path / "x.csv")


def test_a_device_is_not_replaced_by_a_file() -> None:
    with pytest.raises(InputError, match=r"/dev/null: .*neither a file nor a folder"):
        check_can_write("/dev/null")


@pytest.mark.usefixtures("_usual_umask")
def test_a_private_folder_has_ordinary_parents(tmp_path: Path) -> None:
    folder = make_private_folder(tmp_path / "artifacts" / "cache")
    assert (mode(folder), mode(folder.parent)) == (0o700, 0o755)


@pytest.mark.usefixtures("_usual_umask")
def test_from_the_top_down_all_folders_are_private(tmp_path: Path) -> None:
    top = tmp_path / "artifacts" / "cache"
    folder = make_private_folder(str(top / "vectors" / "abc"), str(top))
    assert [mode(f) for f in (folder, folder.parent, top)] == [0o700] * 3
    assert mode(top.parent) == 0o755


def test_an_existing_folder_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o750)
    assert mode(make_private_folder(tmp_path / "open")) == 0o750


@pytest.mark.parametrize("below", ["file", "file/folder"])
def test_no_folder_in_place_of_a_file(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((FileExistsError, NotADirectoryError), match="file"):
        make_private_folder(tmp_path / below)


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "f").write_bytes(content)
    assert sha256_of_file(tmp_path / "f") == hashlib.sha256(content).hexdigest()


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for check in (check_is_no_device, sha256_of_file):
        with pytest.raises(InputError, match=r"pipe: is a named pipe; write its content to a file"):
            check(tmp_path / "pipe")
    with pytest.raises(InputError, match="/dev/null: is a device; write"):
        check_is_no_device("/dev/null")


def test_files_folders_and_missing_paths_are_no_devices(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_is_no_device(tmp_path)
    check_is_no_device(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="missing"):
        check_is_no_device(tmp_path / "missing")
