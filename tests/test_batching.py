"""Batches: every text once, within the budget, little padding."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from frozenbert.batching import plan_batches

lengths = st.lists(st.integers(0, 600), max_size=200).map(lambda x: np.array(x, dtype=np.int64))
budgets = st.integers(1, 2000)


@given(lengths, budgets)
def test_every_index_stands_in_exactly_one_batch(lengths: np.ndarray, budget: int) -> None:
    batches = plan_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) for batch in batches)


@given(lengths, budgets)
def test_a_batch_keeps_the_budget_or_is_one_text(lengths: np.ndarray, budget: int) -> None:
    for batch in plan_batches(lengths, budget):
        assert len(batch) == 1 or lengths[batch].max() * len(batch) <= budget


@given(lengths, budgets)
def test_no_batch_could_have_held_the_next_text_too(lengths: np.ndarray, budget: int) -> None:
    batches = plan_batches(lengths, budget)
    for batch in batches[:-1]:
        assert max(1, lengths[batch].max()) * (len(batch) + 1) > budget


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
