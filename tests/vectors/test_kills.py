"""The cache under real failures: kills, several processes, full disks, folders that vanish."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import make_encoder

from frozenbert import DistilBertVectorizer
from frozenbert.vectors.cache import VectorCache
from frozenbert.vectors.entries import KEYS, VECTORS
from frozenbert.vectors.results import Results, text_keys
from frozenbert.vectors.settings import VectorSettings

HERE = Path(__file__).parent
OFF = "the vector cache is turned off, vectors are not stored: .* cannot be written"

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def texts_numbered(n: int, start: int = 0) -> list[str]:
    return [f"{i} good film" + " very" * (i % 7) for i in range(start, start + n)]


def settings_of(encoder: str, width: int) -> VectorSettings:
    return VectorSettings(encoder, 2, width, layers=(2,), pooling=("cls",), max_length=16)


@pytest.fixture
def embed(tiny: str, tmp_path: Path) -> DistilBertVectorizer:
    return DistilBertVectorizer(
        tiny, cache_dir=tmp_path / "cache", max_batch_tokens=60, progress=False
    ).fit([""])


# Kills


def kill(encoder: str, folder: Path, kills: int, seed: int = 0) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, HERE / "killed.py", encoder, folder, str(kills), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=1500,
    )
    assert done.returncode == 0
    figures = json.loads(done.stdout)
    assert figures["kills"] >= kills
    print(figures)
    return figures


@needs_fork
@pytest.mark.slow
def test_a_few_kills(tiny: str, tmp_path: Path) -> None:
    kill(tiny, tmp_path, 20)


@needs_fork
@pytest.mark.slow
@pytest.mark.long
def test_two_hundred_kills(tiny: str, tmp_path: Path) -> None:
    kill(tiny, tmp_path, 200, seed=1)


@needs_fork
@pytest.mark.slow
@pytest.mark.long
def test_kills_with_trained_weights(packaged: str, tmp_path: Path) -> None:
    kill(packaged, tmp_path, 10)


# Several processes


WORKER = """
import sys, time
sys.path[:0] = {path!r}
from frozenbert import DistilBertVectorizer
from frozenbert.encoders.encoder import Encoder
from test_kills import texts_numbered

computed, encode = [], Encoder.encode
def slowly(self, ids, *settings):
    time.sleep(0.01)
    computed.extend(range(len(ids)))
    return encode(self, ids, *settings)
Encoder.encode = slowly

embed = DistilBertVectorizer({encoder!r}, cache_dir={cache!r}, max_batch_tokens=60, num_threads=1,
                             progress=False).fit([""])
embed._encoder()
print("ready", flush=True)
sys.stdin.readline()
texts = texts_numbered({n}, {start})[::{step}]
vectors = embed.transform(texts)
import numpy as np
np.save({out!r}, vectors[::{step}])  # in the order of the numbers
print(len(computed), flush=True)
"""


@pytest.mark.slow
def test_four_processes_with_overlapping_texts(tiny: str, tmp_path: Path) -> None:
    runs = [(0, 500, 1), (250, 500, -1), (0, 750, 1), (0, 750, -1)]
    processes = []
    for number, (start, n, step) in enumerate(runs):
        code = WORKER.format(
            path=sys.path,
            encoder=tiny,
            cache=str(tmp_path / "cache"),
            out=str(tmp_path / f"{number}.npy"),
            start=start,
            n=n,
            step=step,
        )
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [int(process.communicate(timeout=300)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    print(f"computed {sum(counts)} texts for 750, in parts of {counts}")
    assert 750 <= sum(counts) <= 1.1 * 750
    assert min(counts) > 50
    expected = DistilBertVectorizer(tiny, cache_dir=None, progress=False).fit_transform(
        texts_numbered(750)
    )
    for number, (start, n, _) in enumerate(runs):
        found = np.load(tmp_path / f"{number}.npy")
        assert found == pytest.approx(expected[start : start + n], abs=1e-5)
    assert not list((tmp_path / "cache").rglob("damaged"))


# Disks and folders


LIMITED = """
import resource, signal, sys, warnings
from frozenbert import DistilBertVectorizer
embed = DistilBertVectorizer({encoder!r}, cache_dir={cache!r}, max_batch_tokens=60,
                             progress=False).fit([""])
embed._encoder()
{limit}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    vectors = embed.transform([f"{{i}} good film" for i in range(100)])
    again = embed.transform([f"{{i}} good film" for i in range(100)])
print(vectors.shape, (vectors == again).all() or abs(vectors - again).max() < 1e-5)
for warning in caught:
    print(warning.message)
"""


def under(limit: str, encoder: str, cache: Path) -> list[str]:
    code = LIMITED.format(encoder=encoder, cache=str(cache), limit=limit)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_no_room_for_another_file(tiny: str, tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="only Unix limits processes")
    # A file of a batch is larger than this: writing it fails as on a full disk.
    limit = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    )
    first, *warned = under(limit, tiny, tmp_path / "cache")
    assert first == "(100, 32) True"
    assert len(warned) == 2  # one a call
    assert all("the vector cache is turned off" in line for line in warned)
    assert "File too large" in warned[0]
    assert not [*(tmp_path / "cache").rglob("*.tmp")]


FULL = """
import resource, signal, sys
from pathlib import Path
from frozenbert import DistilBertVectorizer
from frozenbert.bulk.stream import embed_table, validate
embed = DistilBertVectorizer({encoder!r}, cache_dir=None, progress=False).fit([""])
embed.transform(["one"])
source = validate({data!r}, for_parquet=True)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (12900, 12900))
for name in ("x.npy", "x.parquet"):
    try:
        embed_table(embed, source, Path({out!r}) / name, {{}})
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_no_room_for_the_output(tiny: str, tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="only Unix limits processes")
    data, out = tmp_path / "x.csv", tmp_path / "out"
    # 12,928 bytes as an array: the last bytes exceed the limit.
    data.write_text("text,n\n" + "".join(f"{i} good film,1\n" for i in range(100)))
    code = FULL.format(encoder=tiny, data=str(data), out=str(out))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    for name, line in zip(("x.npy", "x.parquet"), lines, strict=True):
        assert line.startswith(f"InputError {out / name}: cannot be written (")
        assert "File too large" in line
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_a_folder_that_may_only_be_read(tiny: str, tmp_path: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        # Not below tmp_path, whose parents only their owner may enter.
        cache, encoder = Path(folder) / "cache", Path(folder) / "encoder"
        os.chmod(folder, 0o755)
        shutil.copytree(tiny, encoder)
        DistilBertVectorizer(str(encoder), cache_dir=cache, progress=False).fit_transform(
            [f"{i} good film" for i in range(50)]
        )
        for path in [cache, *cache.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        # File modes do not stop root, so root becomes another user.
        limit = "import os\nif os.geteuid() == 0: os.seteuid(65534)"
        first, *warned = under(limit, str(encoder), cache)
        assert first == "(100, 32) True"
        assert len(warned) == 2
        assert all("the vector cache is turned off" in line for line in warned)
        for path in [cache, *cache.rglob("*")]:
            path.chmod(0o755)


@pytest.mark.filterwarnings("ignore::frozenbert.errors.CacheWarning")
def test_a_folder_that_vanishes_under_a_running_process(
    embed: DistilBertVectorizer, tmp_path: Path
) -> None:
    texts = texts_numbered(200)
    expected = embed.set_params(cache_dir=None).transform(texts)
    folder = tmp_path / "vanishing"
    embed.set_params(cache_dir=folder)
    stop = threading.Event()

    def remove() -> None:
        while not stop.is_set():
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.002)

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for _ in range(3):
            assert embed.transform(texts) == pytest.approx(expected, abs=1e-5)
    finally:
        stop.set()
        thread.join()
        shutil.rmtree(folder, ignore_errors=True)


def test_streams_write_side_by_side(embed: DistilBertVectorizer, tmp_path: Path) -> None:
    """Four threads write, pairs are merged, and nothing is lost."""
    cache = VectorCache(tmp_path / "c", settings_of("x", 4))
    texts = [str(i) for i in range(400)]
    keys = text_keys(texts)
    vectors = np.arange(1600, dtype=np.float32).reshape(400, 4)

    def write(thread: int) -> None:
        for start in range(100 * thread, 100 * thread + 100, 5):
            rows = slice(start, start + 5)
            cache.write(keys[rows], vectors[rows], np.ones(5, dtype=int))

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results = Results(keys, 4)
    VectorCache(tmp_path / "c", settings_of("x", 4)).read(results)
    assert not results.missing.any()
    assert (results.vectors == vectors).all()


# Encoders that share a name


@pytest.mark.filterwarnings("ignore::frozenbert.errors.TruncationWarning")
def test_a_retrained_encoder_of_the_same_name_gets_its_own_vectors(
    tmp_path: Path,
) -> None:
    texts = texts_numbered(30)
    folder = tmp_path / "encoder"
    found = []
    for seed in (0, 1, 0):
        shutil.rmtree(folder, ignore_errors=True)
        make_encoder(folder, seed=seed)
        embed = DistilBertVectorizer(str(folder), cache_dir=tmp_path / "cache", progress=False)
        found.append(embed.fit_transform(texts))
    assert (found[0] == found[2]).all()
    assert (np.abs(found[0] - found[1]).max(axis=1) > 1e-3).all()


# Looking up


@pytest.mark.slow
def test_a_hundred_thousand_cached_texts_are_found_within_a_second(tmp_path: Path) -> None:
    texts = [f"text number {i}" for i in range(100_000)]
    keys, n_tokens = text_keys(texts), np.ones(100_000, dtype=np.int64)
    vectors = np.random.default_rng(0).standard_normal((100_000, 384), dtype=np.float32)
    cache = VectorCache(tmp_path, settings_of("x", 384))
    for start in range(0, 100_000, 500):
        rows = slice(start, start + 500)
        cache.write(keys[rows], vectors[rows], n_tokens[rows])
    seconds = []
    for _ in range(3):
        started = time.process_time()  # other processes do not count
        results = Results(text_keys(texts), 384)
        VectorCache(tmp_path, settings_of("x", 384)).read(results)
        seconds.append(time.process_time() - started)
        assert not results.missing.any()
        assert (results.vectors == vectors).all()
    pairs = len([*cache.folder.glob("*" + KEYS)])
    assert len([*cache.folder.glob("*" + VECTORS)]) == pairs
    print(f"{min(seconds):.2f} s for 100,000 texts in {pairs} pairs")
    assert min(seconds) < 1
