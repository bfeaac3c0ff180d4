"""Model files from strangers: what unpacks to gigabytes is refused before it is read."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from frozenbert import InputError, load_model, save_model
from frozenbert.heads.words import make_tfidf
from frozenbert.persistence.safe_form import SCHEMA
from frozenbert.utils.archives import read_archive

TEXTS = [f"{word} film {n}" for n in range(10) for word in ("good", "bad")]
MIB = 2**20
GIB = 2**30


@pytest.fixture
def members(tmp_path) -> dict[str, bytes]:
    """The members of a safe form that loads."""
    model = make_pipeline(make_tfidf(), LogisticRegression()).fit(TEXTS, ["yes", "no"] * 10)
    save_model(model, tmp_path / "good" / "model.joblib")
    with zipfile.ZipFile(tmp_path / "good" / "model.skops") as file:
        return {name: file.read(name) for name in file.namelist()}


def write(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def array_in(members: dict[str, bytes]) -> str:
    return next(name for name in members if name.endswith(".npy"))


def repeated(path: Path, name: str, start: bytes, block: bytes, size: int) -> Path:
    """Add a member that begins with `start` and repeats `block` up to `size` bytes."""
    chunk = block * (MIB // len(block))
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file,
        file.open(name, "w", force_zip64=True) as member,
    ):
        member.write(start)
        for _ in range((size - len(start)) // len(chunk)):
            member.write(chunk)
        member.write(block * ((size - len(start)) % len(chunk) // len(block)))
    return path


def header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def understated(path: Path, name: str, size: int) -> Path:
    """Let a member declare another size than it unpacks to."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        member = file.getinfo(name)
    struct.pack_into("<I", content, member.header_offset + 22, size)
    at = -1
    while (at := content.find(b"PK\1\2", at + 1)) >= 0:
        (length,) = struct.unpack_from("<H", content, at + 28)
        if content[at + 46 : at + 46 + length] == name.encode():
            struct.pack_into("<I", content, at + 24, size)
    path.write_bytes(content)
    return path


def load_with(path: Path, room: int) -> str:
    """Load a model in a process that may reserve `room` more bytes; return its output."""
    code = f"""
        import resource, sys
        from frozenbert import InputError, load_model
        import frozenbert.persistence.models, frozenbert.heads.words, sklearn.linear_model
        (used,) = [int(line.split()[1]) << 10 for line in open("/proc/self/status")
                   if line.startswith("VmSize")]
        resource.setrlimit(resource.RLIMIT_AS, (used + {room}, used + {room}))
        try:
            load_model(sys.argv[1])
            print("loaded")
        except InputError as error:
            print(error)
    """
    run = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_schema_of_spaces(members, tmp_path):
    schema = members.pop(SCHEMA)
    path = repeated(write(tmp_path / "bomb.skops", members), SCHEMA, schema, b" ", GIB)
    assert path.stat().st_size < 2 * MIB
    assert "'schema.json' would unpack to 1,02" in load_with(path, 300 * MIB)


def test_an_array_of_zeros(members, tmp_path):
    name = array_in(members)
    del members[name]
    path = write(tmp_path / "bomb.skops", members)
    repeated(path, name, header((GIB // 8,)), b"\0" * 8, GIB + 128)
    assert path.stat().st_size < 2 * MIB
    assert f"'{name}' would unpack to 1,02" in load_with(path, 300 * MIB)


@pytest.mark.slow
def test_a_model_within_the_bounds_is_loaded(members, tmp_path):
    assert load_with(write(tmp_path / "good.skops", members), 300 * MIB) == "loaded\n"


def test_many_members_of_a_legal_size(members, tmp_path):
    path = write(tmp_path / "bomb.skops", members)
    for number in range(5):
        repeated(path, f"{number}.npy", b"", b"\0" * 8, 50 * MIB)
    with pytest.raises(InputError, match="the content would unpack to 250"):
        load_model(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [SCHEMA, "an array"])
def test_a_size_that_is_a_lie(name, members, tmp_path):
    name = array_in(members) if name == "an array" else name
    start = members.pop(name)
    path = repeated(write(tmp_path / "bomb.skops", members), name, start, b"  ", GIB)
    understated(path, name, len(start))
    with zipfile.ZipFile(path) as file:
        assert file.getinfo(name).file_size == len(start)
    assert "is no saved model, or a damaged one (BadZipFile: Bad CRC-32" in load_with(
        path, 300 * MIB
    )


@pytest.mark.parametrize(
    ("shape", "descr"),
    [((10**12,), "<f8"), ((3, 10**12), "<f8"), ((10**15,), "|V0"), ((1,), "<f8")],
)
def test_an_array_declares_what_it_does_not_hold(shape, descr, members, tmp_path):
    members[array_in(members)] = header(shape, descr) + b"\0" * 16
    with pytest.raises(InputError, match="an array of 16 bytes declares the shape"):
        load_model(write(tmp_path / "bomb.skops", members))


def test_one_array_read_a_thousand_times(members, tmp_path):
    schema = json.loads(members[SCHEMA])
    name = array_in(members)
    node = {
        "__class__": "ndarray",
        "__module__": "numpy",
        "__loader__": "NdArrayNode",
        "type": "numpy",
        "file": name,
    }
    schema["more"] = [{**node, "__id__": number} for number in range(100_000)]
    members[SCHEMA] = json.dumps(schema).encode()
    with pytest.raises(InputError, match="one array is read into several objects"):
        load_model(write(tmp_path / "bomb.skops", members))


@pytest.mark.parametrize(
    ("schema", "match"),
    [
        ("[" * 300 + "]" * 300, "schema.json has more than 250 levels"),
        ("[" * 10**6 + "]" * 10**6, "RecursionError"),
        ("[" + "{}," * 2_000_000 + "{}]", "schema.json has more than 2,000,000 values"),
    ],
)
def test_a_schema_that_is_deep_or_wide(schema, match, members, tmp_path):
    members[SCHEMA] = schema.encode()
    with pytest.raises(InputError, match=match):
        load_model(write(tmp_path / "bomb.skops", members))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_a_bound(method, members, tmp_path):
    with pytest.raises(InputError, match="is not compressed with deflate"):
        load_model(write(tmp_path / "bomb.skops", members, method))


def test_two_members_of_one_name(members, tmp_path):
    path = write(tmp_path / "bomb.skops", members)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr(SCHEMA, members[SCHEMA])
    with pytest.raises(InputError, match="two members have the same name"):
        load_model(path)


@pytest.mark.slow
def test_a_mark_of_the_pair_that_is_a_bomb(members, tmp_path):
    good = tmp_path / "good"
    del members["pair.json"]
    path = repeated(write(good / "model.skops", members), "pair.json", b"{}", b" ", GIB)
    # The joblib file beside it: the mark is read before anything else.
    assert "are not of one model" in load_with(path, 300 * MIB)


def test_a_large_model_is_read(tmp_path):
    rng = np.random.default_rng(0)
    content = io.BytesIO()
    np.save(content, rng.normal(size=(9_000_000,)))
    path = write(tmp_path / "large.zip", {"a.npy": content.getvalue()}, zipfile.ZIP_STORED)
    with open(path, "rb") as file:
        assert len(read_archive(file)["a.npy"]) > 64 * MIB


def test_a_model_that_would_be_refused_has_no_safe_form(tmp_path):
    model = make_pipeline(make_tfidf(), LogisticRegression()).fit(TEXTS, ["yes", "no"] * 10)
    model[1].zeros_ = np.zeros(9_000_000)
    assert zipfile.is_zipfile(io.BytesIO(skops.io.dumps(model)))
    save_model(model, tmp_path / "model.joblib")
    assert [file.name for file in tmp_path.iterdir()] == ["model.joblib"]
