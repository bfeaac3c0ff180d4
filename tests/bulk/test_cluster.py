"""A real cluster on this machine, with workers that are killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from frozenbert import DistilBertVectorizer, InputError
from frozenbert.bulk.cluster import cluster, embed_partitions, searched_on
from frozenbert.bulk.stream import partition_targets
from frozenbert.cli.main import main
from frozenbert.tables.writing import write_table

pytestmark = pytest.mark.slow
N_TABLES, N_ROWS = 12, 60


def texts_of_table(number: int) -> list[str]:
    return [f"{number} {i} good film" + " very" * (i % 7) for i in range(N_ROWS)]


@pytest.fixture
def tables(tmp_path: Path) -> list[Path]:
    paths = []
    for number in range(N_TABLES):
        path = tmp_path / "in" / f"part{number:02}.parquet"
        texts = texts_of_table(number)
        write_table(pd.DataFrame({"text": texts, "row": range(N_ROWS)}), path)
        paths.append(path)
    return paths


@pytest.fixture
def vectorizer(tiny: str) -> DistilBertVectorizer:
    return DistilBertVectorizer(tiny, cache_dir=None, progress=False).fit([""])


def check(out: Path, vectorizer: DistilBertVectorizer) -> None:
    """Check that every row occurs once, with the vectors that one process computes."""
    assert sorted(p.name for p in out.iterdir()) == [
        f"part{number:02}.parquet" for number in range(N_TABLES)
    ]
    for number in range(N_TABLES):
        table = pq.read_table(out / f"part{number:02}.parquet")
        assert table["text"].to_pylist() == texts_of_table(number)
        vectors = np.stack(table["vector"].to_numpy(zero_copy_only=False))
        assert vectors == pytest.approx(vectorizer.transform(texts_of_table(number)), abs=1e-5)


def test_the_table_of_a_killed_worker_is_retried(
    tables: list[Path], vectorizer: DistilBertVectorizer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with cluster(None, 2) as client:
        client.run(slow_down)
        pids = client.run(os.getpid)
        assert len(set(pids.values())) == 2
        assert os.getpid() not in pids.values()
        assert all(address.startswith("tcp://127.0.0.1:") for address in pids)
        results = {}
        for path, written in embed_partitions(client, vectorizer, partition_targets(tables, out)):
            results[path] = written
            if len(results) == 2:
                os.kill(next(iter(pids.values())), signal.SIGKILL)
    assert results.keys() == set(tables)
    assert [w for w in results.values() if isinstance(w, Exception)] == []
    assert sum(w.n_texts for w in results.values()) == N_TABLES * N_ROWS
    check(out, vectorizer)


def slow_down() -> None:
    from frozenbert.encoders.encoder import Encoder

    encode = Encoder.encode

    def slowly(self, ids, *settings):
        time.sleep(0.2)
        return encode(self, ids, *settings)

    Encoder.encode = slowly


def test_the_encoder_is_loaded_once_a_worker(
    tables: list[Path], vectorizer: DistilBertVectorizer, tmp_path: Path
) -> None:
    with cluster(None, 1) as client:
        list(embed_partitions(client, vectorizer, partition_targets(tables, tmp_path / "out")))
        [loaded] = client.run(times_loaded).values()
    assert loaded == 1


def times_loaded() -> int:
    from frozenbert.encoders import encoder

    return encoder._load_once.cache_info().misses


def test_a_table_that_is_wrong_does_not_stop_the_others(
    tables: list[Path], vectorizer: DistilBertVectorizer, tmp_path: Path
) -> None:
    tables[3].write_bytes(b"no parquet")
    with cluster(None, 2) as client:
        results = dict(
            embed_partitions(client, vectorizer, partition_targets(tables, tmp_path / "out"))
        )
    failed = {path.name: str(r) for path, r in results.items() if isinstance(r, Exception)}
    assert failed.keys() == {"part03.parquet"}
    assert "is damaged or not a parquet file" in failed["part03.parquet"]
    assert len([*(tmp_path / "out").iterdir()]) == N_TABLES - 1


# The commands


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = "import sys; from frozenbert.cli.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_command_and_its_restart(
    tables: list[Path], vectorizer: DistilBertVectorizer, tmp_path: Path
) -> None:
    options = ["embed", "--data", tmp_path / "in" / "*.parquet", "--out", tmp_path / "out"]
    options += ["--model", vectorizer.model_name, "--text-column", "text", "--workers", 2]
    first = run(*options)
    assert (first.returncode, first.stderr) == (0, "")
    assert "  2 workers with 2 threads, scheduler tcp://127.0.0.1:" in first.stdout
    assert f"{N_TABLES} parquet files, {N_TABLES * N_ROWS} texts" in first.stdout
    check(tmp_path / "out", vectorizer)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    lost = tmp_path / "out" / "part05.parquet"
    lost.unlink()
    again = run(*options)
    assert (again.returncode, again.stderr) == (0, "")
    assert f"{N_TABLES - 1} tables that an earlier run finished" in again.stdout
    assert f"1 parquet files, {N_ROWS} texts" in again.stdout
    check(tmp_path / "out", vectorizer)
    same = [p for p, stamp in stamps.items() if p.stat().st_mtime_ns == stamp]
    assert len(same) == N_TABLES - 1


def test_a_scheduler_elsewhere(
    tables: list[Path], vectorizer: DistilBertVectorizer, tmp_path: Path
) -> None:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as local:
        done = run(
            *["embed", "--data", tmp_path / "in" / "*.parquet", "--out", tmp_path / "out"],
            *["--model", vectorizer.model_name, "--scheduler", local.scheduler_address],
            *["--text-column", "text"],
        )
    assert (done.returncode, done.stderr) == (0, "")
    check(tmp_path / "out", vectorizer)


def test_no_scheduler_answers(
    tables: list[Path], tiny: str, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("frozenbert.bulk.cluster.CONNECTING", 1)
    code = main(
        [
            *["embed", "--data", str(tables[0]), "--out", str(tmp_path / "out"), "--model", tiny],
            *["--text-column", "text", "--scheduler", "tcp://127.0.0.1:1"],
        ]
    )
    assert code == 2
    said = capsys.readouterr().err
    assert "no Dask scheduler can be reached there" in said
    assert "tcp://127.0.0.1:1" in said
    assert said.count("\n") == 1


def test_a_scheduler_without_workers(
    tables: list[Path], tiny: str, tmp_path: Path, capsys, monkeypatch
) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr("frozenbert.bulk.cluster.CONNECTING", 1)
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as local:
        address = local.scheduler_address
        options = ["--data", str(tables[0]), "--out", str(tmp_path / "out"), "--model", tiny]
        assert main(["embed", *options, "--text-column", "text", "--scheduler", address]) == 2
    said = capsys.readouterr().err
    assert f"has no workers; start some: dask worker {address}\n" in said


def test_the_heads_search_runs_on_the_workers() -> None:
    from sklearn.model_selection import GridSearchCV

    X, y = np.zeros((20, 1)), np.arange(20) % 2
    with cluster(None, 2) as client, searched_on(client):
        pids = set(client.run(os.getpid).values())
        search = GridSearchCV(Process(), {"C": [1, 2, 3, 4]}, cv=2, refit=False).fit(X, y)
    scores = np.concatenate([search.cv_results_[f"split{i}_test_score"] for i in (0, 1)])
    assert set(scores.astype(int)) <= pids


class Process(ClassifierMixin, BaseEstimator):
    """A classifier whose score is the id of its process."""

    def __init__(self, C: float = 1) -> None:
        self.C = C

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def score(self, X, y):
        return os.getpid()


def test_train_on_a_cluster_gives_the_same_model(tiny: str, tmp_path: Path, capsys) -> None:
    rows = [(f"{i} {'good' if i % 2 else 'dull'} film", i % 2) for i in range(80)]
    write_table(pd.DataFrame(rows, columns=["text", "label"]), tmp_path / "train.csv")
    options = ["--data", str(tmp_path / "train.csv"), "--model", tiny, "--no-cache"]
    lines = {}
    for name, more in {"alone": [], "cluster": ["--workers", "2"]}.items():
        assert (
            main(["train", "--recipe=plain", *options, "--out", str(tmp_path / name), *more]) == 0
        )
        lines[name] = capsys.readouterr().out.splitlines()
    assert any(line.split()[:3] == ["cluster", "2", "workers"] for line in lines["cluster"])
    [alone] = [line for line in lines["alone"] if line.startswith("head")]
    assert alone in lines["cluster"]


def test_without_dask(tables: list[Path], tiny: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    options = ["--data", str(tables[0]), "--out", str(tmp_path / "out"), "--model", tiny]
    assert main(["embed", *options, "--text-column", "text", "--workers", "2"]) == 2
    assert 'needs Dask: pip install "frozenbert[cluster]"' in capsys.readouterr().err


def test_a_python_user_is_told_the_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frozenbert.bulk.cluster.CONNECTING", 1)
    says = r"^scheduler='tcp://127\.0\.0\.1:1': no Dask scheduler can be reached there"
    with pytest.raises(InputError, match=says), cluster("tcp://127.0.0.1:1"):
        pass
    with pytest.raises(InputError, match=r"^n_workers=0: at least 1 worker"), cluster(None, 0):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"^n_workers: a cluster needs Dask"), cluster(None, 1):
        pass


def test_over_tls(
    tables: list[Path],
    vectorizer: DistilBertVectorizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"],
            *["-subj", "/CN=127.0.0.1", "-keyout", key, "-out", certificate],
        ],
        check=True,
        capture_output=True,
    )
    # Dask's own settings, which scheduler, workers and command all read.
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", str(certificate))
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT", str(certificate))
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{role}__KEY", str(key))
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    port = free_port()
    address = f"tls://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        for command in (
            [
                *[*dask, "--protocol", "tls", "--host", "127.0.0.1", "--port", str(port)],
                "--no-dashboard",
            ],
            [
                *[sys.executable, "-m", "distributed.cli.dask_worker", address],
                *["--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"],
            ],
        ):
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        options = ["embed", "--data", tmp_path / "in" / "*.parquet", "--out", tmp_path / "out"]
        options += ["--model", vectorizer.model_name, "--text-column", "text"]
        done = run(*options, "--scheduler", address)
        assert (done.returncode, done.stderr) == (0, "")
        check(tmp_path / "out", vectorizer)
        # Without the certificate the connection is refused.
        for role in ("CERT", "KEY"):
            monkeypatch.delenv(f"DASK_DISTRIBUTED__COMM__TLS__CLIENT__{role}")
        refused = run(*options, "--scheduler", address)
        assert refused.returncode == 2
        assert "no Dask scheduler can be reached" in refused.stderr


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
