"""The script that downloads the sample reviews: labels, split, errors."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent
REVIEWS = ROOT / "data" / "movie_reviews"


def load_script():
    spec = importlib.util.spec_from_file_location(
        "fetch_movie_reviews", ROOT / "data" / "fetch_movie_reviews.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fetch = load_script()
Row = fetch.Row


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def tar(name, content):
    """A tar.gz with one file in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        folder = tarfile.TarInfo(name.split("/")[0])
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def tsv(rows, column="label"):
    return "".join(f"{row.text}\t{getattr(row, column)}\n" for row in rows).encode()


LINES = [f"{i}\t{rating}\tThis is film number {i}, “très” fin." for i, rating in
         enumerate([-3.5, -1.25, -0.51, -0.5, 0.0, 0.5, 0.51, 1.75, 4.0, 2.0, -2.0])]  # fmt: skip


@pytest.fixture
def packed(monkeypatch):
    """An invented source distribution whose hashes the script accepts."""
    member = "\r\n".join(LINES).encode()
    archive = tar("hutto/" + fetch.MEMBER, member)
    sdist = tar("vaderSentiment-3.3.2/additional_resources/" + fetch.ARCHIVE, archive)
    monkeypatch.setattr(fetch, "MEMBER_SHA256", sha256(member))
    monkeypatch.setattr(fetch, "ARCHIVE_SHA256", sha256(archive))
    monkeypatch.setattr(fetch, "SDIST_SHA256", sha256(sdist))
    train, test = fetch.split(fetch.label(LINES))
    parts = {"test.tsv": test, "train.tsv": train}
    hashes = {name: sha256(tsv(rows)) for name, rows in parts.items()}
    hashes |= {f"ratings-{name}": sha256(tsv(rows, "rating")) for name, rows in parts.items()}
    monkeypatch.setattr(fetch, "SPLIT_SHA256", hashes)
    return sdist


class FakePip:
    """Replaces `subprocess.run`: writes the distribution, records the calls."""

    def __init__(self, sdist=None, says=""):
        self.sdist, self.says, self.commands, self.wanted = sdist, says, [], ""

    def __call__(self, command, **options):
        self.commands.append(command)
        self.wanted = Path(command[command.index("--requirement") + 1]).read_text("utf-8")
        if self.sdist is not None:
            folder = Path(command[command.index("--dest") + 1])
            (folder / "vaderSentiment-3.3.2.tar.gz").write_bytes(self.sdist)
        return subprocess.CompletedProcess(command, int(self.sdist is None), self.says)


@pytest.fixture
def pip(monkeypatch, packed):
    fake = FakePip(packed)
    monkeypatch.setattr(fetch.subprocess, "run", fake)
    return fake


def test_ratings_near_neutral_are_dropped_and_the_sign_is_the_label():
    rows = fetch.label(LINES)
    assert [(int(row.text.split()[4].strip(",")), row.label) for row in rows] == [
        (0, 0), (1, 0), (2, 0), (6, 1), (7, 1), (8, 1), (9, 1), (10, 0)
    ]  # fmt: skip


@pytest.mark.parametrize("line", ["1\t2.5", "1\t2.5\ta tab\tin the text"])
def test_a_line_without_three_fields_is_refused(line):
    with pytest.raises(fetch.FetchError, match=r"line 2: [24] fields instead of id, rating"):
        fetch.label([LINES[0], line])


def test_the_split_sets_a_quarter_of_each_class_aside():
    rows = [Row(f"text {i}", int(i % 5 == 0)) for i in range(1000)]
    train, test = fetch.split(rows)
    assert (len(train), sum(row.label for row in train)) == (750, 150)
    assert (len(test), sum(row.label for row in test)) == (250, 50)
    assert sorted(train + test) == sorted(rows)


def test_the_split_does_not_depend_on_the_order_of_the_rows():
    rows = [Row(f"text {i}", i % 2) for i in range(100)]
    assert fetch.split(rows) == fetch.split(rows[::-1])


def test_both_parts_are_shuffled():
    """The source is sorted by film; the first rows should resemble the others."""
    rows = [Row(f"text {i:04}", int(i >= 500)) for i in range(1000)]
    train, test = fetch.split(rows)
    for part in (train, test):
        assert part != sorted(part)
        first = [row.label for row in part[: len(part) // 2]]
        assert 0.4 < sum(first) / len(first) < 0.6


@given(st.lists(st.builds(Row, st.text("abc", max_size=3), st.integers(0, 1)), max_size=60))
def test_no_text_is_in_both_parts_and_no_row_is_lost(rows):
    train, test = fetch.split(rows)
    assert not {row.text for row in train} & {row.text for row in test}
    assert sorted(train + test) == sorted(rows)


def test_fetching_writes_labels_and_ratings_of_both_parts(tmp_path, pip, capsys):
    out = tmp_path / "deep" / "reviews"
    assert fetch.main(["--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "ratings-test.tsv", "ratings-train.tsv", "test.tsv", "train.tsv"
    ]  # fmt: skip
    train, test = ((out / name).read_bytes() for name in ("train.tsv", "test.tsv"))
    assert train.count(b"\n") == 6
    assert test.count(b"\n") == 2
    assert b"\r" not in train + test
    expected = sorted(tsv(fetch.label(LINES)).decode().splitlines())
    assert sorted((train + test).decode().splitlines()) == expected
    assert "6 sentences in train.tsv, 2 in test.tsv, 4 positive in both" in (
        capsys.readouterr().out
    )


def test_ratings_are_of_the_same_sentences_in_the_same_order(tmp_path, pip):
    fetch.main(["--out", str(tmp_path)])
    given = {line.split("\t")[2]: float(line.split("\t")[1]) for line in LINES}
    for part in ("train.tsv", "test.tsv"):
        labels, ratings = (
            [line.split("\t") for line in (tmp_path / name).read_text("utf-8").splitlines()]
            for name in (part, f"ratings-{part}")
        )
        assert [text for text, _ in ratings] == [text for text, _ in labels]
        assert [float(rating) for _, rating in ratings] == [given[text] for text, _ in ratings]
        assert [str(int(float(rating) > 0)) for _, rating in ratings] == [y for _, y in labels]


def test_pip_is_told_the_hash_and_to_build_nothing_else(tmp_path, pip):
    fetch.main(["--out", str(tmp_path)])
    assert pip.wanted.split() == ["vaderSentiment==3.3.2", f"--hash=sha256:{fetch.SDIST_SHA256}"]
    assert {"--no-deps", "--no-binary", ":all:", "--no-build-isolation"} <= set(pip.commands[0])


def test_a_repeat_fetches_nothing(tmp_path, pip, capsys):
    fetch.main(["--out", str(tmp_path)])
    pip.sdist = None
    assert fetch.main(["--out", str(tmp_path)]) == 0
    assert len(pip.commands) == 1
    assert "already exist" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["train.tsv", "ratings-test.tsv"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("cut off", "utf-8")])
def test_a_missing_or_damaged_file_is_made_again(tmp_path, pip, name, damage):
    fetch.main(["--out", str(tmp_path)])
    whole = (tmp_path / name).read_bytes()
    damage(tmp_path / name)
    assert fetch.main(["--out", str(tmp_path)]) == 0
    assert len(pip.commands) == 2
    assert (tmp_path / name).read_bytes() == whole


@pytest.mark.parametrize(
    ("constant", "name"),
    [
        ("SDIST_SHA256", "vaderSentiment-3.3.2.tar.gz"),
        ("ARCHIVE_SHA256", "hutto_ICWSM_2014.tar.gz"),
        ("MEMBER_SHA256", "movieReviewSnippets_GroundTruth.txt"),
    ],
)
def test_another_content_is_refused_on_the_way(monkeypatch, pip, constant, name):
    found = getattr(fetch, constant)
    monkeypatch.setattr(fetch, constant, "0" * 64)
    with pytest.raises(
        fetch.FetchError, match=f"^{name} has the SHA-256 {found}, but {'0' * 64} was expected"
    ):
        fetch.unpack(fetch.download())


@pytest.mark.parametrize("name", ["train.tsv", "ratings-test.tsv"])
def test_another_split_is_refused(tmp_path, monkeypatch, pip, capsys, name):
    monkeypatch.setitem(fetch.SPLIT_SHA256, name, "0" * 64)
    assert fetch.main(["--out", str(tmp_path)]) == 1
    assert f"The split's {name} has the SHA-256 " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_source_distribution_without_the_archive_is_refused():
    with pytest.raises(fetch.FetchError, match=r"hutto_ICWSM_2014\.tar\.gz is not in the archive"):
        fetch.member(tar("folder/other.tar.gz", b""), fetch.ARCHIVE)


@pytest.mark.parametrize(
    ("says", "answer"),
    [
        (
            "WARNING: Retrying ...\nERROR: Could not find a version\n"
            "ERROR: No matching distribution found for vaderSentiment==3.3.2\n",
            "(ERROR: No matching distribution found for vaderSentiment==3.3.2). Connect to the net",
        ),
        ("/usr/bin/python3: No module named pip\n", "(/usr/bin/python3: No module named pip)"),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n    vaderSentiment==3.3.2:\n"
            f"        Expected sha256 {'a' * 64}\n             Got        {'b' * 64}\n",
            f"vaderSentiment 3.3.2 has the SHA-256 {'b' * 64}, but ",
        ),
        ("", "(no output)"),
    ],
)
def test_what_pip_could_not_do_is_one_line_and_exit_1(tmp_path, pip, capsys, says, answer):
    pip.sdist, pip.says = None, says
    assert fetch.main(["--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("fetch_movie_reviews: ")
    assert answer in error
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line_and_exit_1(tmp_path, pip, capsys):
    (tmp_path / "file").touch()
    assert fetch.main(["--out", str(tmp_path / "file" / "folder")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Not a directory" in error


@pytest.mark.slow
def test_pip_itself_refuses_a_wrong_hash_before_it_runs_anything(tmp_path, monkeypatch, capsys):
    """Real pip, on a source distribution whose setup.py would leave a trace."""
    trace = tmp_path / "trace"
    setup = f"import pathlib\npathlib.Path({str(trace)!r}).touch()\n".encode()
    links = tmp_path / "links"
    links.mkdir()
    sdist = tar("vaderSentiment-3.3.2/setup.py", setup)
    (links / "vaderSentiment-3.3.2.tar.gz").write_bytes(sdist)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    assert fetch.main(["--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert f"vaderSentiment 3.3.2 has the SHA-256 {sha256(sdist)}, but 5d7c06e0" in error
    assert not trace.exists()


@pytest.mark.slow
@pytest.mark.skipif(not REVIEWS.exists(), reason="the reviews have not been downloaded")
def test_the_real_reviews_match_the_readme():
    parts = {}
    for name in ("train", "test"):
        assert fetch.is_intact(REVIEWS / f"{name}.tsv")
        assert fetch.is_intact(REVIEWS / f"ratings-{name}.tsv")
        lines = (REVIEWS / f"{name}.tsv").read_bytes().decode("utf-8").removesuffix("\n")
        parts[name] = [Row(*line.split("\t")) for line in lines.split("\n")]
    counts = {name: (len(p), sum(row.label == "1" for row in p)) for name, p in parts.items()}
    assert counts == {"train": (7532, 3736), "test": (2511, 1246)}
    assert sum(rows for rows, _ in counts.values()) == 10_043
    assert sum(positive for _, positive in counts.values()) == 4_982
    assert {row.label for part in parts.values() for row in part} == {"0", "1"}
    assert not {row.text for row in parts["train"]} & {row.text for row in parts["test"]}
    readme = (ROOT / "data" / "README.md").read_text("utf-8")
    for name, (rows, positive) in counts.items():
        assert f"| `{name}.tsv` | {rows:,} | {positive:,} |" in readme
