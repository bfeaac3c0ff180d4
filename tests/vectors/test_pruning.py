"""List the contents of a cache, and remove a part of them."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

from frozenbert.cli.main import main
from frozenbert.vectors.cache import VectorCache
from frozenbert.vectors.entries import KEYS, LEFTOVERS_AFTER, VECTORS
from frozenbert.vectors.pruning import holdings, pieces, prune
from frozenbert.vectors.results import Results, text_keys
from frozenbert.vectors.settings import VectorSettings

DAY = 86_400.0


def settings_of(encoder: str) -> VectorSettings:
    return VectorSettings(encoder, 6, 8, layers=(6,), pooling=("cls",), max_length=16)


def fill(root: Path, encoder: str, n: int, days: float = 0, start: int = 0) -> list[str]:
    """Write a pair with `n` vectors that was last used `days` ago; return its texts."""
    texts = [f"{encoder} {i}" for i in range(start, start + n)]
    cache = VectorCache(root, settings_of(encoder))
    before = {*cache.folder.glob("*.npy")}
    cache.write(text_keys(texts), np.ones((n, 8), dtype=np.float32), np.ones(n, dtype=int))
    for path in {*cache.folder.glob("*.npy")} - before:
        os.utime(path, (time.time() - days * DAY,) * 2)
    return texts


def found(root: Path, encoder: str, texts: list[str]) -> int:
    cache = VectorCache(root, settings_of(encoder))
    results = Results(text_keys(texts), 8)
    cache.read(results)
    return int((~results.missing).sum())


def put_graph(root: Path, days: float = 0) -> Path:
    folder = root / "exports" / ("e" * 32)
    folder.mkdir(parents=True)
    for name in ("graph.xml", "graph.bin"):
        (folder / name).write_bytes(b"x" * 1000)
    (folder / "graph.json").write_text('{"settings": {"encoder": "abc", "precision": "int8"}}')
    os.utime(folder / "graph.json", (time.time() - days * DAY,) * 2)
    return folder


def test_an_empty_cache(tmp_path: Path) -> None:
    assert holdings(tmp_path / "none") == []
    assert prune(tmp_path / "none", max_bytes=0) == []
    (tmp_path / "vectors").touch()
    assert pieces(tmp_path) == []


def test_holdings(tmp_path: Path) -> None:
    fill(tmp_path, "a", 10)
    fill(tmp_path, "a", 30, start=10)
    fill(tmp_path, "b", 5, days=3)
    put_graph(tmp_path)
    there = holdings(tmp_path)
    assert [(h.kind, h.settings.get("encoder"), h.n_vectors) for h in there] == [
        ("vectors", "a", 40),
        ("graph", "abc", 0),
        ("vectors", "b", 5),
    ]
    files = [p for p in tmp_path.rglob("*") if p.suffix in (".npy", ".bin", ".xml")]
    files.append(next(tmp_path.rglob("graph.json")))
    assert sum(h.n_bytes for h in there) == sum(p.stat().st_size for p in files)
    assert there[0].used == pytest.approx(time.time(), abs=60)
    assert there[2].used == pytest.approx(time.time() - 3 * DAY, abs=60)


def test_old_pieces_are_removed(tmp_path: Path) -> None:
    old, new = fill(tmp_path, "a", 10, days=31), fill(tmp_path, "a", 20, days=29, start=10)
    gone = fill(tmp_path, "b", 5, days=100)
    folder = put_graph(tmp_path, days=40)
    removed = prune(tmp_path, older_than=30 * DAY)
    assert sum(piece.n_vectors for piece in removed) == 15
    assert (found(tmp_path, "a", old), found(tmp_path, "a", new)) == (0, 20)
    assert found(tmp_path, "b", gone) == 0
    assert not folder.exists()
    assert len([*(tmp_path / "vectors").iterdir()]) == 1
    assert prune(tmp_path, older_than=30 * DAY) == []


def test_reading_counts_as_use(tmp_path: Path) -> None:
    used, unused = fill(tmp_path, "a", 10, days=31), fill(tmp_path, "b", 10, days=31)
    assert found(tmp_path, "a", used[:1]) == 1
    prune(tmp_path, older_than=30 * DAY)
    assert (found(tmp_path, "a", used), found(tmp_path, "b", unused)) == (10, 0)


def test_the_oldest_pieces_are_removed_until_the_rest_fits(tmp_path: Path) -> None:
    texts = {days: fill(tmp_path, f"e{days}", 100, days=days) for days in (3, 9, 1)}
    one = holdings(tmp_path)[0].n_bytes
    assert prune(tmp_path, max_bytes=3 * one) == []
    assert len(prune(tmp_path, max_bytes=3 * one - 1)) == 1
    assert [found(tmp_path, f"e{days}", texts[days]) for days in (1, 3, 9)] == [100, 100, 0]
    prune(tmp_path, max_bytes=0)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_leftovers_are_removed_once_no_process_can_be_writing_them(tmp_path: Path) -> None:
    texts = fill(tmp_path, "a", 10)
    [folder] = (tmp_path / "vectors").iterdir()
    (folder / "damaged").mkdir()
    for name in (f"1{VECTORS}", f".2{KEYS}.abc.tmp", f"damaged/3{KEYS}", f".4{KEYS}.abc.tmp"):
        (folder / name).write_bytes(b"x" * 50)
    old = time.time() - LEFTOVERS_AFTER - 1
    for name in (f"1{VECTORS}", f".2{KEYS}.abc.tmp"):
        os.utime(folder / name, (old, old))
    assert len(prune(tmp_path, older_than=30 * DAY)) == 3
    assert [*folder.glob("*/*.npy"), *folder.glob(".*.tmp")] == [folder / f".4{KEYS}.abc.tmp"]
    assert found(tmp_path, "a", texts) == 10
    prune(tmp_path, max_bytes=0)
    assert (folder / f".4{KEYS}.abc.tmp").exists()


def test_leftovers_of_a_killed_export_are_removed(tmp_path: Path) -> None:
    folder = put_graph(tmp_path)
    (folder / "graph.json").unlink()
    (folder / ".abc").mkdir()
    (folder / ".abc" / "graph.bin").write_bytes(b"x")
    old = time.time() - LEFTOVERS_AFTER - 1
    for path in (folder / "graph.xml", folder / ".abc" / "graph.bin"):
        os.utime(path, (old, old))
    assert [piece.kind for piece in pieces(tmp_path)] == ["leftover", "leftover"]
    prune(tmp_path, older_than=30 * DAY)
    assert not folder.exists()


def test_foreign_files_stay(tmp_path: Path) -> None:
    fill(tmp_path, "a", 10)
    [folder] = (tmp_path / "vectors").iterdir()
    foreign = [tmp_path / "mine.txt", folder / "notes.txt", tmp_path / "vectors" / "my.npy"]
    foreign += [tmp_path / "vectors" / "other" / f"x{KEYS}", tmp_path / "exports" / "x"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    prune(tmp_path, max_bytes=0)
    assert all(path.read_text() == "mine" for path in foreign)
    assert not [*folder.glob("*.npy")]


def test_a_folder_with_a_claim_stays(tmp_path: Path) -> None:
    fill(tmp_path, "a", 10)
    [folder] = (tmp_path / "vectors").iterdir()
    (folder / "claims").mkdir()
    (folder / "claims" / "1.lock").touch()
    prune(tmp_path, max_bytes=0)
    assert (folder / "claims" / "1.lock").exists()
    (folder / "claims" / "1.lock").unlink()
    fill(tmp_path, "a", 10)
    prune(tmp_path, max_bytes=0)
    assert not folder.exists()


# The command


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["cache", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, re.sub(" {2,}", "  ", out), err  # columns of any width


def test_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, "0123456789abcdef", 1234, days=3)
    put_graph(tmp_path)
    code, out, err = command(capsys, "info", "--cache-dir", tmp_path)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0] == f"cache  {tmp_path}"
    assert lines[1].startswith("holds  1,234 vectors, 71.")
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() - 3 * DAY))
    assert lines[4].split() == ["0123456789ab", "cls", "6", "float32", "1,234", "69.4", "kB", day]
    assert lines[5].startswith("graph abc")


def test_info_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "info", "--cache-dir", tmp_path / "none")
    assert (code, out.splitlines()[1]) == (0, "holds  0 vectors, 0 B")
    assert not (tmp_path / "none").exists()


def test_prune_and_clear(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, "a", 10, days=31)
    fill(tmp_path, "b", 500)
    where = ("--cache-dir", tmp_path)
    _, out, _ = command(capsys, "prune", "--older-than", "30d", *where)
    assert "removed  10 vectors, 816 B\nholds  500 vectors" in out
    _, out, _ = command(capsys, "prune", "--max-size", "1MB", *where)
    assert "removed  0 vectors, 0 B\nholds  500 vectors" in out
    _, out, _ = command(capsys, "clear", *where)
    assert "removed  500 vectors, 28.3 kB\nholds  0 vectors, 0 B" in out


def test_the_users_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROZENBERT_CACHE", str(tmp_path / "named"))
    assert command(capsys, "info", "--cache-dir", "auto")[1].startswith(
        f"cache  {tmp_path / 'named'}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["prune"], "prune: say what to remove: --older-than 30d, --max-size 5GB, or both"),
        (["prune", "--older-than", "30"], "must be a number with a unit (s, m, h, d), not '30'"),
        (["prune", "--older-than", "30x"], "must be a number with a unit (s, m, h, d), not '30x'"),
        (["prune", "--max-size", "much"], "must be a number with a unit (b, kb, mb"),
        (["info", "--no-cache"], "unrecognized arguments: --no-cache"),
        ([], "ACTION"),
    ],
)
def test_wrong_arguments(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    try:
        code = main(["cache", *arguments])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert says in capsys.readouterr().err
