"""Plans of batches, and padding."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from frozenbert.encoders.batching import PADDING, of_one_length, pad, plan_batches

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


# Padding


@given(st.integers(1, 520), st.integers(1, 520))
def test_padding_depends_on_the_piece_alone_and_fits_the_encoder(length: int, longest: int) -> None:
    length = min(length, longest)
    ids = np.arange(length)
    padded = pad(ids, longest)
    assert padded[:length].tolist() == ids.tolist()
    assert (padded[length:] == PADDING).all()
    assert length <= len(padded) <= longest
    step = 8 if length <= 64 else 16
    assert len(padded) == longest or (len(padded) % step == 0 and len(padded) < length + step)


def test_there_are_few_padded_lengths() -> None:
    assert len({len(pad(np.arange(n), 512)) for n in range(1, 513)}) <= 40
