"""Batches computed in threads that outlive a call, across forks, and up to the process's end."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozenbert.encoders.threads import in_streams, usable_cores

# Streams


class Watched:
    """Batches and a `compute` function that count what is drawn, computed and received."""

    def __init__(self, batches: list[int | None]) -> None:
        self.batches = batches
        self.drawn: list[int] = []
        self.computed: list[int] = []
        self.received: list[int] = []
        self.computing = self.most_computing = self.most_in_hand = 0
        self.lock = threading.Lock()

    def __iter__(self) -> Iterator[int | None]:
        for batch in self.batches:
            if batch is None:
                yield None
                assert sorted(self.received) == sorted(self.drawn), "not all was finished"
                continue
            self.drawn.append(batch)
            self.most_in_hand = max(self.most_in_hand, len(self.drawn) - len(self.received))
            yield batch

    def compute(self, batch: int) -> int:
        with self.lock:
            self.computed.append(batch)
            self.computing += 1
            self.most_computing = max(self.most_computing, self.computing)
        time.sleep(0.0005 * (batch % 3))
        with self.lock:
            self.computing -= 1
        return -batch


numbered = st.lists(st.booleans(), max_size=25).map(
    lambda kinds: [i if kind else None for i, kind in enumerate(kinds)]
)


@given(numbered, st.integers(1, 4), st.sampled_from([None, 1]))
@settings(deadline=None, max_examples=40)
def test_every_batch_is_computed_once_and_few_are_in_hand(
    batches: list[int | None], n_streams: int, torch_threads: int | None
) -> None:
    watched = Watched(batches)
    for finished in in_streams(watched.compute, watched, n_streams, torch_threads):
        assert finished
        assert all(result == -batch for batch, result in finished)
        watched.received += [batch for batch, _ in finished]
    expected = [batch for batch in batches if batch is not None]
    assert sorted(watched.received) == sorted(watched.computed) == expected
    assert watched.most_computing <= n_streams
    assert watched.most_in_hand <= n_streams + 1
    assert watched.computing == 0


def test_streams_do_run_side_by_side() -> None:
    together = threading.Barrier(3)
    results = in_streams(lambda _: together.wait(30), range(6), 3)
    assert len([*itertools.chain(*results)]) == 6


@pytest.mark.parametrize("n_streams", [1, 3])
def test_an_error_reaches_the_caller_and_nothing_goes_on(n_streams: int) -> None:
    watched, drawn = Watched([]), itertools.count()

    def fail_at_five(batch: int) -> int:
        if batch == 5:
            raise RuntimeError("the encoder failed")
        return watched.compute(batch)

    with pytest.raises(RuntimeError, match="the encoder failed"):
        list(in_streams(fail_at_five, drawn, n_streams))
    assert watched.computing == 0
    assert next(drawn) <= 5 + n_streams + 1
    assert [*itertools.chain(*in_streams(fail_at_five, [1], n_streams))] == [(1, -1)]


def test_an_error_between_batches_reaches_the_caller_and_nothing_goes_on() -> None:
    watched = Watched([])

    def batches() -> Iterator[int]:
        yield from range(3)
        raise RuntimeError("the cache failed")

    with pytest.raises(RuntimeError, match="the cache failed"):
        list(in_streams(watched.compute, batches(), 2))
    assert watched.computing == 0


def test_closing_early_draws_no_more() -> None:
    watched, drawn = Watched([]), itertools.count()
    results = in_streams(watched.compute, drawn, 2)
    next(results)
    results.close()
    assert watched.computing == 0
    assert next(drawn) == 3


def test_streams_that_were_never_asked_start_nothing() -> None:
    drawn = itertools.count()
    in_streams(lambda batch: batch, drawn, 2).close()
    assert next(drawn) == 0


def test_a_single_stream_that_is_not_torchs_runs_on_the_calling_thread() -> None:
    results = in_streams(lambda _: threading.get_ident(), [0], 1)
    assert [*itertools.chain(*results)] == [(0, threading.get_ident())]


@pytest.mark.parametrize(("n_streams", "torch_threads"), [(1, 2), (2, 1), (3, None)])
def test_calls_share_their_threads(n_streams: int, torch_threads: int | None) -> None:
    def used() -> set[int]:
        found = in_streams(lambda _: threading.get_ident(), range(9), n_streams, torch_threads)
        return {thread for _, thread in itertools.chain(*found)}

    first, n_threads = used(), threading.active_count()
    threads = set.union(first, *(used() for _ in range(5)))
    assert threading.get_ident() not in threads
    assert len(threads) <= n_streams
    assert threading.active_count() <= n_threads + n_streams - len(first)


def test_torch_uses_the_threads_that_are_asked_for_in_the_streams_alone() -> None:
    import torch

    before = torch.get_num_threads()
    for number in (1, 2):
        counts = in_streams(lambda _: torch.get_num_threads(), range(3), 2, number)
        assert {count for _, count in itertools.chain(*counts)} == {number}
    assert torch.get_num_threads() == before


def test_several_threads_may_compute_at_once() -> None:
    found: dict[int, list[int]] = {}

    def work(first: int) -> None:
        results = in_streams(lambda batch: 2 * batch, range(first, first + 20), 2)
        found[first] = sorted(result for _, result in itertools.chain(*results))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert found == {first: [2 * (first + i) for i in range(20)] for first in range(8)}


@pytest.mark.parametrize(
    ("torch_threads", "cores", "asked", "expected"),
    [(3, 1, None, 1), (3, 8, None, 3), (3, 8, 2, 2), (1, 8, 5, 5), (3, 2, 5, 2)],
)
def test_threads_are_those_that_the_process_may_use(
    monkeypatch: pytest.MonkeyPatch,
    torch_threads: int,
    cores: int,
    asked: int | None,
    expected: int,
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: torch_threads)
    monkeypatch.setattr("joblib.cpu_count", lambda: cores)
    assert usable_cores(asked) == expected


# Other processes


def run(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["", "1", "2,1"])
@pytest.mark.parametrize("of_mkl", ["", "1"])
def test_without_torch_the_number_of_threads_is_the_one_that_torch_will_take(
    threads: str, of_mkl: str
) -> None:
    code = """
import sys
from frozenbert.encoders.threads import usable_cores
before = usable_cores()
assert "torch" not in sys.modules
import torch
print(before, usable_cores())
"""
    before, after = run(code, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=of_mkl).split()
    assert before == after


FORKED = """
import os, sys
from frozenbert import DistilBertVectorizer

embed = DistilBertVectorizer({encoder!r}, cache_dir=None, device="cpu").fit(["a"])
here = embed.transform(["a good film"])
embed.transform(["a dull film " * 9, "one more"] * 5)
child = os.fork()
if not child:
    vectors = embed.transform(["a good film"])
    embed.transform(["a dull film " * 9, "one more"] * 5)
    sys.exit(0 if abs(vectors - here).max() < 1e-5 else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
embed.transform(["a good film"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_fork_of_a_process_that_has_computed_computes_too(tiny: str) -> None:
    assert run(FORKED.format(encoder=tiny), OMP_NUM_THREADS="2").split() == ["0"]


AT_EXIT = """
import threading
from frozenbert import DistilBertVectorizer

embed = DistilBertVectorizer({encoder!r}, cache_dir=None, device="cpu", **{parameters!r}).fit(["a"])
embed.transform(["a good film"])
embed.transform([f"a film {{i}}" * (i % 9) for i in range(200)])
threading.Thread(target=lambda: embed.transform([f"a good film {{i}}" for i in range(999)])).start()
print("end")
"""


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [{}, {"precision": "int8"}])
def test_a_process_ends_while_threads_wait_and_another_computes(
    tiny: str, parameters: dict[str, str]
) -> None:
    if parameters:
        pytest.importorskip("openvino")
    assert run(AT_EXIT.format(encoder=tiny, parameters=parameters)).split() == ["end"]


JOBLIB = """
import joblib, numpy as np
from frozenbert import DistilBertVectorizer

embed = DistilBertVectorizer({encoder!r}, cache_dir=None, device="cpu").fit(["a"])
texts = [["a good film", "dull " * i] for i in range(4)]
alone = [embed.transform(several) for several in texts]
for backend in ("loky", "threading", "multiprocessing"):
    found = joblib.Parallel(n_jobs=2, backend=backend)(
        joblib.delayed(embed.transform)(several) for several in texts
    )
    print(max(abs(a - b).max() for a, b in zip(alone, found)) < 1e-5)
"""


@pytest.mark.slow
def test_joblibs_workers_compute_the_same(tiny: str) -> None:
    assert run(JOBLIB.format(encoder=tiny), OMP_NUM_THREADS="2").split() == ["True"] * 3
