"""The cache of vectors: nothing is lost, mixed up or damaged, and each text is computed once."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import types
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozenbert.errors import CacheWarning
from frozenbert.vectors import cache as cache_module
from frozenbert.vectors import claims as claims_module
from frozenbert.vectors import entries as entries_module
from frozenbert.vectors.cache import Share, VectorCache, cache_root
from frozenbert.vectors.entries import KEYS, MERGE_AT, VECTORS, Entry
from frozenbert.vectors.results import Results, text_keys
from frozenbert.vectors.settings import VectorSettings

WIDTH = 8
SETTINGS = VectorSettings("abc", 2, WIDTH, layers=(2,), pooling=("cls",), max_length=16)
DAMAGED = "contains damaged vectors: they are computed again, and set aside in damaged/"


def vectors_of(texts: Sequence[str]) -> np.ndarray:
    """Return vectors as from an encoder: numbers that are different for each text."""
    keys = text_keys(texts).view(np.uint8).reshape(len(texts), 16)
    return keys[:, :WIDTH].astype(np.float32) / 7


def counts_of(texts: Sequence[str]) -> np.ndarray:
    return np.array([len(text) + 2 for text in texts], dtype=np.int64)


def make(root: Path | str, **other: Any) -> VectorCache:
    return VectorCache(root, dataclasses.replace(SETTINGS, **other))


def fill(cache: VectorCache, texts: Sequence[str]) -> None:
    cache.write(text_keys(texts), vectors_of(texts), counts_of(texts))


class Work(Results):
    """Results of some texts; vectors that are not filled in are recognisable."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        super().__init__(text_keys(self.texts), WIDTH)
        self.vectors[:] = self.n_tokens[:] = -1

    def compute(self, rows: np.ndarray) -> list[str]:
        texts = [self.texts[row] for row in rows]
        self.fill(rows, vectors_of(texts), counts_of(texts))
        return texts

    def found(self) -> list[str]:
        """Return the texts whose vectors are known, after a check of all that is filled in."""
        there = np.flatnonzero(~self.missing)
        texts = [self.texts[row] for row in there]
        assert np.array_equal(self.vectors[there], vectors_of(texts))
        assert np.array_equal(self.n_tokens[there], counts_of(texts))
        assert (self.vectors[self.missing] == -1).all()
        assert (self.n_tokens[self.missing] == -1).all()
        return texts


def read(cache: VectorCache, texts: Sequence[str]) -> list[str]:
    work = Work(texts)
    cache.read(work)
    return work.found()


def finish(cache: VectorCache, work: Work, share: Share) -> list[str]:
    """Compute, write and give back a share; return its texts."""
    texts = work.compute(share.rows)
    cache.write(work.keys[share.rows], work.vectors[share.rows], work.n_tokens[share.rows])
    share.claim.close()
    return texts


def run(
    cache: VectorCache,
    texts: Sequence[str],
    size: int = 10,
    in_hand: int = 1,
    when_claimed: Callable[[], object] = lambda: None,
) -> list[str]:
    """Share the work as the vectorizer does; return the texts that were computed here."""
    work = Work(texts)
    batches = [np.arange(i, min(i + size, len(texts))) for i in range(0, len(texts), size)]
    computed, held = [], deque[Share]()
    for share in cache.share_out(batches, work):
        if share is not None:
            held.append(share)
            when_claimed()
        while len(held) >= (1 if share is None else in_hand):
            computed += finish(cache, work, held.popleft())
    while held:
        computed += finish(cache, work, held.popleft())
    assert work.found() == list(texts)
    return computed


def files(cache: VectorCache, end: str) -> list[Path]:
    return sorted(cache.folder.glob("*" + end))


def claims(cache: VectorCache) -> list[str]:
    return [p.name for p in (cache.folder / "claims").glob("*") if p.name != "all.lock"]


def flip(path: Path, byte: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "artifacts" / "cache"


@pytest.fixture
def cache(root: Path) -> VectorCache:
    return make(root)


@pytest.fixture(autouse=True)
def _no_other_warnings() -> Iterator[None]:
    """Fail a test that issues a warning it does not expect."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# Writing and reading


some_texts = st.lists(st.text(max_size=6), max_size=12)


@given(st.lists(some_texts, max_size=25), some_texts)
@settings(deadline=None, max_examples=40)
def test_what_was_written_is_read_and_nothing_else(
    batches: list[list[str]], asked: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for batch in batches:
            fill(make(folder), batch)
        written = {text for batch in batches for text in batch}
        wanted = [*asked, *reversed(sorted(written)), *asked]
        assert read(make(folder), wanted) == [text for text in wanted if text in written]


def test_rows_that_are_not_wanted_are_left_alone(cache: VectorCache) -> None:
    fill(cache, ["a", "b"])
    work = Work(["a", "b"])
    work.missing[0] = False
    cache.read(work)
    assert work.vectors[0].tolist() == [-1] * WIDTH
    assert work.vectors[1].tolist() == vectors_of(["b"])[0].tolist()


def test_two_texts_that_share_half_a_hash_are_both_found(cache: VectorCache) -> None:
    keys = np.array([[5, 1], [5, 2], [5, 3]], dtype=np.uint64)
    vectors = np.arange(3 * WIDTH, dtype=np.float32).reshape(3, WIDTH)
    cache.write(keys[:2], vectors[:2], np.array([7, 8]))
    work = Work(["x", "y", "z"])
    work.keys = keys
    cache.read(work)
    assert work.missing.tolist() == [False, False, True]
    assert np.array_equal(work.vectors[:2], vectors[:2])


def test_the_order_of_the_key_array_in_memory_does_not_matter(cache: VectorCache) -> None:
    texts = ["a", "b", "c"]
    cache.write(np.asfortranarray(text_keys(texts)), vectors_of(texts), counts_of(texts))
    assert read(make(cache.root), texts) == texts


def test_an_empty_cache_is_not_created(cache: VectorCache) -> None:
    assert read(cache, ["a"]) == []
    cache.write(text_keys([]), vectors_of([]), counts_of([]))
    assert not cache.root.exists()


@pytest.mark.parametrize(
    "other",
    [
        {"encoder": "abd"},
        {"layers": (1,)},
        {"pooling": ("mean",)},
        {"max_length": 17},
        {"precision": "bfloat16"},
        {"quantization": "x"},
    ],
    ids=str,
)
def test_encoders_and_settings_are_separate(root: Path, other: dict[str, Any]) -> None:
    fill(make(root), ["a"])
    assert read(make(root, **other), ["a"]) == []
    assert read(make(root), ["a"]) == ["a"]


# Files and folders


def test_the_files_are_plain_npy_of_the_documented_shapes(cache: VectorCache) -> None:
    texts = ["b", "a", "c", "a"]
    fill(cache, texts)
    [keys_file], [vectors_file] = files(cache, KEYS), files(cache, VECTORS)
    keys = np.load(keys_file, mmap_mode="r")
    vectors = np.load(vectors_file, mmap_mode="r")
    assert (keys.shape, keys.dtype) == ((3, 3), np.uint64)
    assert (vectors.shape, vectors.dtype) == ((3, WIDTH), np.float32)
    assert isinstance(vectors, np.memmap)
    expected = sorted((*text_keys([t])[0].tolist(), len(t) + 2, t) for t in set(texts))
    assert [*zip(*keys[:2].tolist(), (keys[2] >> 32).tolist(), strict=True)] == [
        row[:3] for row in expected
    ]
    assert np.array_equal(vectors, vectors_of([row[3] for row in expected]))


def test_the_folders_are_their_owners_alone_but_not_those_above(cache: VectorCache) -> None:
    before = os.umask(0o022)
    try:
        run(cache, ["a", "b"])
        flip(files(cache, VECTORS)[0], -1)
        with pytest.warns(CacheWarning, match=DAMAGED):
            read(cache, ["a", "b"])
    finally:
        os.umask(before)
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in cache.root.rglob("*") if p.is_dir()}
    assert {p.name for p in modes} == {"vectors", cache.folder.name, "claims", "damaged"}
    assert set(modes.values()) == {0o700}
    assert stat.S_IMODE(cache.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(cache.root.parent.stat().st_mode) == 0o755


@pytest.mark.parametrize("first", [run, fill])
def test_the_settings_are_written_beside_the_vectors(cache: VectorCache, first: Any) -> None:
    first(cache, ["a"])
    assert json.loads((cache.folder / "settings.json").read_text()) == {
        "encoder": "abc",
        "layers": [2],
        "max_length": 16,
        "pooling": ["cls"],
        "precision": "float32",
        "version": 2,
    }


def test_no_temporary_file_is_left(cache: VectorCache) -> None:
    run(cache, [str(i) for i in range(30)], size=1)
    assert not [*cache.root.rglob("*.tmp")]


def test_the_keys_come_last(cache: VectorCache, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cache, ["a"])
    placed, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (placed.append(Path(b).name), replace(a, b)))
    fill(cache, ["b"])
    assert [name.partition(".")[2] for name in placed] == ["vectors.npy", "keys.npy"]


def test_half_written_files_are_ignored(cache: VectorCache) -> None:
    fill(cache, ["a", "b"])
    [keys], [vectors] = files(cache, KEYS), files(cache, VECTORS)
    os.rename(keys, cache.folder / f".{keys.name}.0123456789ab.tmp")
    assert read(cache, ["a", "b"]) == []
    (cache.folder / f".{vectors.name}.0123456789ab.tmp").write_bytes(b"\x93NUM")
    assert read(cache, ["a", "b"]) == []
    fill(cache, ["a"])
    assert read(cache, ["a", "b"]) == ["a"]


def test_cache_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("FROZENBERT_CACHE", "~/named")
    assert cache_root("auto") == tmp_path / "named"
    assert cache_root("~/x") == tmp_path / "x"
    assert cache_root(tmp_path / "y") == tmp_path / "y"
    assert cache_root(None) is None
    monkeypatch.setenv("FROZENBERT_CACHE", "")
    automatic = cache_root("auto")
    assert automatic is not None
    assert automatic.name == "frozenbert"
    assert tmp_path in automatic.parents


# Merging


@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=9), min_size=1, max_size=60))
@settings(deadline=None, max_examples=15)
def test_merging_keeps_every_vector_and_bounds_the_files(batches: list[list[int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = make(folder)
        for batch in batches:
            fill(cache, [str(i) for i in batch])
        written = [str(i) for i in sorted({i for batch in batches for i in batch})]
        assert read(make(folder), written) == written
        # At most 61 rows per pair: size classes of up to 3, 31 and 255 rows.
        assert len(files(cache, KEYS)) <= 3 * (MERGE_AT - 1)
        assert len(files(cache, VECTORS)) == len(files(cache, KEYS))


def test_large_pairs_are_not_merged(cache: VectorCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries_module, "LARGEST_MERGE", 10 * (4 * WIDTH + 24))
    for i in range(MERGE_AT):
        fill(cache, [f"{i} {j}" for j in range(10)])
    assert len(files(cache, KEYS)) == MERGE_AT
    for i in range(MERGE_AT):
        fill(cache, [f"small {i} {j}" for j in range(9)])
    assert len(files(cache, KEYS)) == MERGE_AT + 1


def test_a_sound_copy_does_not_lose_against_damaged_ones(cache: VectorCache) -> None:
    for i in range(MERGE_AT - 1):
        fill(cache, ["copied", f"own {i}"])
        for path in files(cache, VECTORS):
            vectors = np.load(path)
            if (rows := (vectors == vectors_of(["copied"])).all(axis=1)).any():
                flip(path, 128 + 4 * WIDTH * int(np.flatnonzero(rows)[0]))
    with pytest.warns(CacheWarning, match=DAMAGED) as caught:
        fill(cache, ["copied", "own 7"])
    assert len(caught) == 1
    assert len(files(cache, KEYS)) == 1
    texts = ["copied", *(f"own {i}" for i in range(MERGE_AT))]
    assert read(make(cache.root), texts) == texts
    assert len([*(cache.folder / "damaged").iterdir()]) == 2 * (MERGE_AT - 1)


def test_a_merge_may_come_between_list_and_open(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"text {i}" for i in range(MERGE_AT)]
    for text in texts[:-1]:
        fill(cache, [text])
    reader = make(cache.root)
    names = Entry.names

    def list_then_merge(entry: Entry) -> set[str]:
        listed = names(entry)
        monkeypatch.setattr(Entry, "names", names)
        fill(cache, texts[-1:])
        assert not listed & names(entry)
        return listed

    monkeypatch.setattr(Entry, "names", list_then_merge)
    assert read(reader, texts) == texts


def test_a_pair_may_vanish_between_its_two_files(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, ["a"])
    open_memmap = np.lib.format.open_memmap

    def vanish(path: Path, **kwargs: Any) -> Any:
        for file in (*files(cache, KEYS), *files(cache, VECTORS)):
            file.unlink()
        return open_memmap(path, **kwargs)

    monkeypatch.setattr(np.lib.format, "open_memmap", vanish)
    assert read(cache, ["a"]) == []
    assert not (cache.folder / "damaged").exists()


def test_old_leftovers_are_removed(cache: VectorCache) -> None:
    fill(cache, ["a"])
    names = [f"lonely{VECTORS}", ".x.keys.npy.0123.tmp", f"new{VECTORS}", ".new.tmp", "other.txt"]
    for name in names:
        (cache.folder / name).touch()
        if "new" not in name:
            os.utime(cache.folder / name, (0, 0))
    for i in range(MERGE_AT):
        fill(cache, [str(i)])
    assert [name for name in names if (cache.folder / name).exists()] == names[2:]


# Damage


TEXTS = [f"text {i}" for i in range(20)]


def lose_vectors(keys: Path, vectors: Path) -> None:
    vectors.unlink()


def truncate_vectors(keys: Path, vectors: Path) -> None:
    os.truncate(vectors, vectors.stat().st_size - 10)


def truncate_keys(keys: Path, vectors: Path) -> None:
    os.truncate(keys, keys.stat().st_size - 10)


def truncate_header(keys: Path, vectors: Path) -> None:
    os.truncate(vectors, 50)


def empty_vectors(keys: Path, vectors: Path) -> None:
    os.truncate(vectors, 0)


def empty_keys(keys: Path, vectors: Path) -> None:
    os.truncate(keys, 0)


def no_rows(keys: Path, vectors: Path) -> None:
    np.save(keys, np.empty((3, 0), dtype=np.uint64))
    np.save(vectors, np.empty((0, WIDTH), dtype=np.float32))


def another_width(keys: Path, vectors: Path) -> None:
    np.save(vectors, np.load(vectors)[:, :-1])


def fewer_rows(keys: Path, vectors: Path) -> None:
    np.save(vectors, np.load(vectors)[:-1])


def float64(keys: Path, vectors: Path) -> None:
    np.save(vectors, np.load(vectors).astype(np.float64))


def signed_keys(keys: Path, vectors: Path) -> None:
    np.save(keys, np.load(keys).astype(np.int64))


def pickled(keys: Path, vectors: Path) -> None:
    np.save(keys, np.array([{"a": 1}], dtype=object))


def text_file(keys: Path, vectors: Path) -> None:
    keys.write_text("no array\n" * 100)


def zip_file(keys: Path, vectors: Path) -> None:
    with open(keys, "wb") as file:
        np.savez(file, np.load(vectors))


WHOLE = [lose_vectors, truncate_vectors, truncate_keys, truncate_header, empty_vectors]
WHOLE += [empty_keys, no_rows, another_width, fewer_rows, float64, signed_keys, pickled]
WHOLE += [text_file, zip_file]


@pytest.mark.parametrize("damage", WHOLE, ids=lambda d: d.__name__)
def test_a_damaged_file_is_set_aside_and_computed_again(
    cache: VectorCache, damage: Callable[[Path, Path], None]
) -> None:
    fill(cache, TEXTS)
    [keys], [vectors] = files(cache, KEYS), files(cache, VECTORS)
    fill(cache, ["sound"])
    damage(keys, vectors)
    left = {p.name for p in (keys, vectors) if p.exists()}
    with pytest.warns(CacheWarning, match=DAMAGED) as caught:
        assert read(cache, [*TEXTS, "sound"]) == ["sound"]
    assert len(caught) == 1
    assert {p.name for p in (cache.folder / "damaged").iterdir()} == left
    assert run(make(cache.root), [*TEXTS, "sound"]) == TEXTS
    assert read(make(cache.root), TEXTS) == TEXTS


@given(st.integers(0, 19), st.integers(0, 4 * WIDTH - 1), st.integers(0, 7))
@settings(deadline=None, max_examples=40)
def test_a_flipped_bit_in_a_vector_costs_that_row(row: int, byte: int, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fill(make(folder), TEXTS)
        flip(files(make(folder), VECTORS)[0], 128 + 4 * WIDTH * row + byte, bit)
        check_that_one_row_was_lost(folder)


@given(st.integers(0, 3 * 8 * 20 - 1), st.integers(0, 7))
@settings(deadline=None, max_examples=60)
def test_a_flipped_bit_in_the_keys_costs_that_row(byte: int, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fill(make(folder), TEXTS)
        flip(files(make(folder), KEYS)[0], 128 + byte, bit)
        check_that_one_row_was_lost(folder)


def check_that_one_row_was_lost(folder: str) -> None:
    with pytest.warns(CacheWarning, match=DAMAGED) as caught:
        found = read(make(folder), TEXTS)
    assert (len(found), len(caught)) == (len(TEXTS) - 1, 1)
    assert read(make(folder), TEXTS) == found  # rescued, and no second warning
    aside = files(make(folder), "damaged")[0]
    assert len([*aside.glob("*.npy")]) == 2


@pytest.mark.parametrize("end", [KEYS, VECTORS])
@given(st.integers(0, 127), st.integers(0, 7))
@settings(deadline=None, max_examples=60)
def test_a_flipped_bit_in_a_header_never_gives_a_wrong_vector(
    end: str, byte: int, bit: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fill(make(folder), TEXTS)
        flip(files(make(folder), end)[0], byte, bit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(make(folder), TEXTS)
            run(make(folder), TEXTS)
        assert read(make(folder), TEXTS) == TEXTS


def test_damage_in_a_row_that_is_not_asked_for_is_noticed(cache: VectorCache) -> None:
    fill(cache, TEXTS)
    flip(files(cache, KEYS)[0], 128 + 8 * 19)
    work = Work(TEXTS[:1])
    with pytest.warns(CacheWarning, match=DAMAGED):
        cache.read(work)
    with_the_rest = read(make(cache.root), TEXTS)
    assert len(with_the_rest) == 19


def test_many_damaged_pairs_are_one_warning(cache: VectorCache) -> None:
    for i in range(MERGE_AT - 1):
        fill(cache, [str(i)])
    for path in files(cache, VECTORS):
        flip(path, -1)
    with pytest.warns(CacheWarning, match=DAMAGED) as caught:
        assert read(cache, [str(i) for i in range(MERGE_AT)]) == []
    assert len(caught) == 1


def test_a_damaged_token_count_does_not_reach_the_caller(cache: VectorCache) -> None:
    fill(cache, ["a"])
    flip(files(cache, KEYS)[0], -4)  # the upper half of the last word
    work = Work(["a"])
    work.n_tokens[:] = 3  # as the tokenizer said
    with pytest.warns(CacheWarning, match=DAMAGED):
        [share, _] = cache.share_out([np.array([0])], work)
    assert share is not None
    assert (share.rows.tolist(), work.n_tokens.tolist()) == ([0], [3])


def test_a_file_that_cannot_be_opened_is_not_taken_for_damaged(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, TEXTS)
    with monkeypatch.context() as patch:

        def fail(*args: Any, **kwargs: Any) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        patch.setattr(np.lib.format, "open_memmap", fail)
        assert read(cache, TEXTS) == []
    assert read(cache, TEXTS) == TEXTS


def test_foreign_files_and_folders_are_left_alone(cache: VectorCache) -> None:
    fill(cache, ["a"])
    (cache.folder / "notes.txt").write_text("mine")
    (cache.folder / f"folder{KEYS}").mkdir()
    (cache.folder / "other.npy").write_bytes(b"")
    for i in range(MERGE_AT + 2):
        fill(cache, [str(i)])
    assert read(cache, ["a", "1"]) == ["a", "1"]
    assert (cache.folder / "notes.txt").read_text() == "mine"


# A folder that cannot be written


OFF = "the vector cache is turned off, vectors are not stored: .* cannot be written"


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every write fail as on a full disk; file modes do not stop root."""

    def fail(file: Any, array: np.ndarray) -> None:
        if not isinstance(file, Path):
            file.write(b"\x93NUMPY")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    monkeypatch.setattr(entries_module, "write_array", fail)


def test_a_full_disk_turns_writing_off_with_one_warning(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, ["a"])
    fill_the_disk(monkeypatch)
    with pytest.warns(CacheWarning, match=OFF + r".*No space left on device") as caught:
        assert run(cache, ["a", *TEXTS], size=5) == TEXTS
    assert len(caught) == 1
    assert read(cache, ["a", *TEXTS]) == ["a"]
    assert not [*cache.root.rglob("*.tmp")]
    assert claims(cache) == []


def test_on_a_full_disk_sound_rows_stay_until_they_can_be_rescued(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, TEXTS)
    flip(files(cache, VECTORS)[0], -1)
    with monkeypatch.context() as patch:
        fill_the_disk(patch)
        with pytest.warns(
            CacheWarning, match="stay where they are, because the folder cannot"
        ) as caught:
            found = read(cache, TEXTS)
    assert (len(found), len(caught)) == (len(TEXTS) - 1, 1)
    with pytest.warns(CacheWarning, match=DAMAGED):
        assert read(make(cache.root), TEXTS) == found
    assert read(make(cache.root), TEXTS) == found


@pytest.mark.parametrize("below", ["", "cache", "a/b/cache"])
def test_a_cache_below_a_file_is_one_warning(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = make(tmp_path / "file" / below)
    with pytest.warns(CacheWarning, match=OFF) as caught:
        assert run(cache, TEXTS) == TEXTS
    assert len(caught) == 1
    assert read(cache, TEXTS) == []
    assert (tmp_path / "file").read_text() == "not a folder"


def test_the_folder_may_be_deleted_between_calls(cache: VectorCache) -> None:
    fill(cache, TEXTS)
    shutil.rmtree(cache.root)
    assert read(cache, TEXTS) == []
    fill(cache, TEXTS)
    assert read(cache, TEXTS) == TEXTS


def test_the_folder_may_be_deleted_in_the_middle(cache: VectorCache) -> None:
    work = Work(TEXTS)
    batches = np.arange(20).reshape(4, 5)
    for share in filter(None, cache.share_out(list(batches), work)):
        finish(cache, work, share)
        shutil.rmtree(cache.root)
    assert work.found() == TEXTS


def test_without_locks_nothing_is_claimed_and_all_is_computed(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(claims_module.filelock.FileLock, "acquire", fail)
    assert run(cache, TEXTS) == TEXTS
    assert read(cache, TEXTS) == TEXTS


# Sharing out


@given(
    st.lists(st.integers(0, 40), unique=True),
    st.sets(st.integers(0, 40)),
    st.integers(1, 9),
    st.integers(1, 4),
)
@settings(deadline=None, max_examples=30)
def test_alone_each_missing_text_comes_once(
    asked: list[int], known: set[int], size: int, in_hand: int
) -> None:
    texts = [str(i) for i in asked]
    with tempfile.TemporaryDirectory() as folder:
        fill(make(folder), [str(i) for i in known])
        computed = run(make(folder), texts, size, in_hand)
        assert computed == [str(i) for i in asked if i not in known]
        assert run(make(folder), texts, size, in_hand) == []
        assert claims(make(folder)) == []


def test_no_claims_are_left(cache: VectorCache) -> None:
    run(cache, TEXTS)
    assert claims(cache) == []


def test_a_loop_that_fails_leaves_no_claim(cache: VectorCache) -> None:
    in_hand = []

    def fail() -> None:
        for share in cache.share_out(np.arange(20).reshape(4, 5), Work(TEXTS)):
            in_hand.append(share)
            if len(in_hand) == 3:
                assert len(claims(cache)) == 2 * 3
                raise RuntimeError("the encoder failed")

    with pytest.raises(RuntimeError, match="encoder failed"):
        fail()
    assert claims(cache) == []
    assert run(make(cache.root), TEXTS) == TEXTS
    assert claims(cache) == []


class Clock(types.SimpleNamespace):
    """Replacement for the module `time`; a test decides what happens during a sleep."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, while_asleep: Callable[[], None]) -> None:
        super().__init__(now=0.0, time=time.time)
        self.while_asleep = while_asleep
        monkeypatch.setattr(cache_module, "time", self)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.while_asleep()


def never() -> None:
    raise AssertionError("waited although no other process computes")


def test_the_failed_loops_traceback_does_not_block_the_next_try(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, never)
    kept = cache.share_out([np.arange(20)], Work(TEXTS))  # as in the traceback of a notebook
    next(kept)
    assert run(make(cache.root), TEXTS) == TEXTS
    kept.close()
    assert claims(cache) == []


class OtherThread:
    """Claims one batch, and finishes it when told to."""

    def __init__(self, cache: VectorCache, texts: Sequence[str]) -> None:
        self.cache, self.work = cache, Work(texts)
        self.claimed, self.may_finish = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()
        assert self.claimed.wait(60)

    def loop(self) -> None:
        work = self.work
        batches = [np.arange(len(work.texts))]
        for share in filter(None, self.cache.share_out(batches, work)):
            self.claimed.set()
            assert self.may_finish.wait(60)
            finish(self.cache, work, share)

    def finish(self) -> None:
        self.may_finish.set()
        self.thread.join(60)
        assert not self.thread.is_alive()


def test_claimed_texts_are_left_to_the_other_and_waited_for_last(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = OtherThread(make(root), TEXTS[:7])
    Clock(monkeypatch, other.finish)
    assert run(make(root), TEXTS, size=5) == TEXTS[7:]


def test_each_claim_ends_by_itself(cache: VectorCache) -> None:
    work = Work(TEXTS)
    shares = cache.share_out(np.arange(20).reshape(4, 5), work)
    first, second, third = (next(shares) for _ in range(3))
    left = []
    for share in (second, first, third):
        assert share is not None
        finish(cache, work, share)
        left.append(len(claims(cache)))
    assert left == [4, 2, 0]
    shares.close()


def test_the_last_claim_holds_until_its_batch_is_written(cache: VectorCache) -> None:
    work = Work(TEXTS)
    shares = cache.share_out([np.arange(20)], work)
    share = next(shares)
    assert share is not None
    assert next(shares) is None
    assert len(claims(cache)) == 2
    finish(cache, work, share)
    assert list(shares) == claims(cache) == []


def test_the_signal_to_finish_comes_only_when_nothing_else_is_left(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = OtherThread(make(root), TEXTS[:7])
    Clock(monkeypatch, other.finish)
    cache, work = make(root), Work(TEXTS)
    seen = []
    for share in cache.share_out(np.arange(20).reshape(4, 5), work):
        seen.append(None if share is None else share.rows.tolist())
        if share is not None:
            finish(cache, work, share)
    assert seen == [[7, 8, 9], [*range(10, 15)], [*range(15, 20)], None, None]


def test_two_that_hold_what_the_other_needs_both_finish(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds everything it claims until it is told to finish."""
    monkeypatch.setattr(cache_module, "PATIENCE", 3600.0)
    both_claimed = threading.Barrier(2)
    computed: list[str] = []

    def loop(texts: list[str]) -> None:
        met: list[int] = []

        def meet() -> None:
            if not met:
                met.append(both_claimed.wait(60))

        computed.extend(run(make(root), texts, size=5, in_hand=99, when_claimed=meet))

    threads = [
        threading.Thread(target=loop, args=(texts,), daemon=True) for texts in (TEXTS, TEXTS[::-1])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(computed) == sorted(TEXTS)
    assert claims(make(root)) == []


def test_a_batch_finished_between_listing_and_reading_is_not_missed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = OtherThread(make(root), TEXTS[:7])
    Clock(monkeypatch, never)
    cache = make(root)
    read_unseen, times = cache._read_unseen, []

    def read_then_let_finish(*args: Any) -> None:
        read_unseen(*args)
        times.append(1)
        if len(times) == 2:  # the first time under the lock
            other.finish()

    monkeypatch.setattr(cache, "_read_unseen", read_then_let_finish)
    assert run(cache, TEXTS, size=5) == TEXTS[7:]


def test_waiting_for_a_stopped_process_ends(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = OtherThread(make(root), TEXTS[:7])
    clock = Clock(monkeypatch, lambda: None if clock.now < 2 else never())
    monkeypatch.setattr(cache_module, "PATIENCE", 1.0)
    assert sorted(run(make(root), TEXTS, size=5)) == sorted(TEXTS)
    assert 1 < clock.now < 2
    other.finish()


def test_a_lock_that_is_never_released_costs_no_vectors(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "LOCKED", 0.05)
    cache = make(root)
    fill(cache, ["a"])
    (cache.folder / "claims").mkdir()
    with claims_module.filelock.FileLock(cache.folder / "claims" / "all.lock"):
        assert run(make(root), TEXTS, size=10) == TEXTS


# With real processes


def start(what: str, root: Path, *arguments: object) -> subprocess.Popen[str]:
    script = f"import sys; sys.path[:0] = {sys.path!r}; import test_cache; test_cache.{what}()"
    return subprocess.Popen(
        [sys.executable, "-c", script, str(root), *map(str, arguments)],
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def claim_and_hang() -> None:
    work = Work(TEXTS)
    for share in make(sys.argv[1]).share_out([np.arange(10)], work):
        assert share is not None
        print(len(share.rows), flush=True)
        sys.stdin.read()


def work_on_a_range() -> None:
    root, (first, last, step) = sys.argv[1], map(int, sys.argv[2:])
    cache, compute = make(root), Work.compute

    def slowly(work: Work, rows: np.ndarray) -> list[str]:
        time.sleep(0.003)
        return compute(work, rows)

    Work.compute = slowly  # type: ignore[method-assign]
    print("ready", flush=True)
    sys.stdin.readline()
    computed = run(cache, [str(i) for i in range(first, last, step)], size=10, in_hand=3)
    print(*computed, flush=True)


@pytest.mark.slow
def test_processes_with_overlapping_texts_share_the_work(root: Path) -> None:
    ranges = [(0, 600, 1), (200, 800, 1), (799, -1, -1)]
    others = [start("work_on_a_range", root, *r) for r in ranges]
    for other in others:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
    for other in others:
        assert other.stdin is not None
        other.stdin.write("go\n")
        other.stdin.flush()
    computed = [other.communicate(timeout=120)[0].split() for other in others]
    assert [other.returncode for other in others] == [0, 0, 0]
    every = [text for part in computed for text in part]
    assert set(every) == {str(i) for i in range(800)}
    assert len(every) <= 1.1 * 800
    assert all(len(part) > 100 for part in computed)
    assert read(make(root), [str(i) for i in range(800)]) == [str(i) for i in range(800)]
    assert claims(make(root)) == []


@pytest.mark.slow
def test_the_claim_of_a_killed_process_ends_with_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = start("claim_and_hang", root)
    assert other.stdout is not None
    assert other.stdout.readline() == "10\n"

    def kill() -> None:
        other.send_signal(signal.SIGKILL)
        other.communicate(timeout=60)

    clock = Clock(monkeypatch, kill)
    assert run(make(root), TEXTS, size=5) == [*TEXTS[10:], *TEXTS[:10]]
    assert clock.now == cache_module.WAIT
    assert claims(make(root)) == []


def test_the_folder_of_the_claims_may_vanish_before_it_is_read(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_others = claims_module.Claims.of_others

    def vanish(self: claims_module.Claims) -> np.ndarray:
        shutil.rmtree(cache.root)
        return of_others(self)

    monkeypatch.setattr(claims_module.Claims, "of_others", vanish)
    assert run(cache, TEXTS) == TEXTS


def test_leftovers_of_processes_killed_while_claiming_are_removed(cache: VectorCache) -> None:
    fill(cache, ["a"])
    folder = cache.folder / "claims"
    folder.mkdir()
    for name in ("1.lock", "2.lock", "2.npy", "3.lock"):
        (folder / name).touch()
    (folder / "3.npy").write_bytes(b"\x93NUM")
    assert run(cache, TEXTS) == TEXTS
    assert claims(cache) == []
