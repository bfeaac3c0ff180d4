"""Plans of batches, and batches computed in parallel."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozenbert.encoders.batching import in_streams, of_one_length, plan_batches

# Plans

lengths = st.lists(st.integers(0, 600), max_size=200).map(lambda x: np.array(x, dtype=np.int64))
budgets = st.integers(1, 2000)


@given(lengths, budgets)
def test_every_index_is_in_exactly_one_batch(lengths: np.ndarray, budget: int) -> None:
    batches = plan_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) for batch in batches)


@given(lengths, budgets)
def test_a_batch_keeps_the_budget_or_is_one_text(lengths: np.ndarray, budget: int) -> None:
    for batch in plan_batches(lengths, budget):
        assert len(batch) == 1 or lengths[batch].sum() <= budget


@given(lengths, budgets)
def test_texts_of_one_length_stay_together(lengths: np.ndarray, budget: int) -> None:
    batches = plan_batches(lengths, budget)
    for length, count in zip(*np.unique(lengths, return_counts=True), strict=True):
        holding = sum((lengths[batch] == length).any() for batch in batches)
        assert holding == -(-count // max(1, budget // max(1, length)))


@given(lengths, budgets)
def test_no_batch_could_have_held_the_next_texts_too(lengths: np.ndarray, budget: int) -> None:
    for batch, following in itertools.pairwise(plan_batches(lengths, budget)):
        first = np.maximum(1, lengths[following])[lengths[following] == lengths[following[0]]]
        assert np.maximum(1, lengths[batch]).sum() + first.sum() > budget


@given(lengths.map(lambda x: [np.arange(n) for n in x]))
def test_neighbours_of_one_length_are_stacked(ids: list[np.ndarray]) -> None:
    groups = of_one_length(ids)
    assert [row.tolist() for group in groups for row in group] == [row.tolist() for row in ids]
    assert all(a.shape[1] != b.shape[1] for a, b in itertools.pairwise(groups))


@given(lengths, budgets)
def test_the_longest_come_first_and_equals_keep_their_order(
    lengths: np.ndarray, budget: int
) -> None:
    order = [i for batch in plan_batches(lengths, budget) for i in batch]
    assert order == sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))


def test_the_lengths_are_left_alone() -> None:
    lengths = np.array([3, 9, 4])
    plan_batches(lengths, 8)
    assert lengths.tolist() == [3, 9, 4]


def test_no_texts_make_no_batches() -> None:
    assert plan_batches(np.array([], dtype=np.int64), 100) == []


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


@given(numbered, st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_every_batch_is_computed_once_and_few_are_in_hand(
    batches: list[int | None], n_streams: int
) -> None:
    watched, threads = Watched(batches), threading.active_count()
    prepared: list[int] = []
    for finished in in_streams(
        watched.compute, watched, n_streams, lambda: prepared.append(threading.get_ident())
    ):
        assert finished
        assert all(result == -batch for batch, result in finished)
        watched.received += [batch for batch, _ in finished]
    expected = [batch for batch in batches if batch is not None]
    assert sorted(watched.received) == sorted(watched.computed) == expected
    assert watched.most_computing <= n_streams
    assert watched.most_in_hand <= n_streams + 1
    assert len(prepared) <= n_streams
    assert bool(prepared) == bool(expected)
    assert threading.active_count() == threads


def test_streams_do_run_side_by_side() -> None:
    together = threading.Barrier(3)
    results = in_streams(lambda _: together.wait(30), range(6), 3, lambda: None)
    assert len([*itertools.chain(*results)]) == 6


@pytest.mark.parametrize("n_streams", [1, 3])
def test_an_error_reaches_the_caller_and_no_thread_is_left(n_streams: int) -> None:
    threads, drawn = threading.active_count(), itertools.count()

    def fail_at_five(batch: int) -> int:
        if batch == 5:
            raise RuntimeError("the encoder failed")
        return batch

    results = in_streams(fail_at_five, drawn, n_streams, lambda: None)
    with pytest.raises(RuntimeError, match="the encoder failed"):
        list(results)
    assert threading.active_count() == threads
    assert next(drawn) <= 5 + n_streams + 1


def test_an_error_between_batches_reaches_the_caller_and_no_thread_is_left() -> None:
    threads = threading.active_count()

    def batches() -> Iterator[int]:
        yield from range(3)
        raise RuntimeError("the cache failed")

    with pytest.raises(RuntimeError, match="the cache failed"):
        list(in_streams(lambda batch: batch, batches(), 2, lambda: None))
    assert threading.active_count() == threads


def test_closing_early_draws_no_more_and_leaves_no_thread() -> None:
    threads, drawn = threading.active_count(), itertools.count()
    results = in_streams(lambda batch: batch, drawn, 2, lambda: None)
    next(results)
    results.close()
    assert threading.active_count() == threads
    assert next(drawn) == 3


def test_streams_that_were_never_asked_start_no_thread() -> None:
    threads, drawn = threading.active_count(), itertools.count()
    in_streams(lambda batch: batch, drawn, 2, lambda: None).close()
    assert (threading.active_count(), next(drawn)) == (threads, 0)
