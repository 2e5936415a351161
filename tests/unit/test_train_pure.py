"""The arithmetic around the loop: learning rates, when to stop, which rows go into which step. No torch, no model."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesmith.tasks._order import length_order, token_batches
from finesmith.tasks.base import Encoded, epochs_for, pad
from finesmith.train.batches import EncodedSet, Plan
from finesmith.train.schedule import multiplier
from finesmith.train.stop import History

SCHEDULES = ("linear", "cosine", "constant")


def rates(total, warmup, schedule):
    return [multiplier(step, total, warmup=warmup, schedule=schedule) for step in range(total)]


@given(total=st.integers(1, 400), warmup=st.floats(0, 0.99), schedule=st.sampled_from(SCHEDULES))
def test_a_schedule_rises_and_then_never_rises(total, warmup, schedule):
    found, rising = rates(total, warmup, schedule), math.ceil(warmup * total)
    assert all(0 < rate <= 1 for rate in found)
    assert all(a < b for a, b in pairwise(found[: rising + 1]))
    assert all(a >= b for a, b in pairwise(found[rising:]))
    if rising < total:
        assert found[rising] == 1.0  # the peak is reached, in the step behind the warm-up


def test_schedules_by_hand():
    assert rates(4, 0.0, "linear") == [1.0, 0.75, 0.5, 0.25]
    assert rates(4, 0.5, "linear") == pytest.approx([1 / 3, 2 / 3, 1.0, 0.5])
    assert rates(4, 0.0, "cosine") == pytest.approx([1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)])
    assert rates(4, 0.25, "constant") == [0.5, 1.0, 1.0, 1.0]


def history(patience, *values):
    found = History(patience)
    for step, value in enumerate(values, 1):
        found = found.add(step, value if isinstance(value, tuple) else (value,))
    return found


def test_the_best_is_the_earliest_of_equals():
    assert History(3).best == 0 and not History(3).improved and not History(3).should_stop
    assert history(3, 1.0, 3.0, 2.0).best == 2
    assert history(3, 1.0, 3.0, 3.0).best == 2
    assert history(3, 1.0, 2.0).improved and not history(3, 2.0, 2.0).improved


def test_what_is_no_number_is_never_the_best():
    nan = math.nan
    assert history(3, nan, 0.5, 0.9).best == 3 and history(3, 0.5, nan, 0.4).best == 1
    assert history(3, nan, 0.5).improved and not history(3, nan).improved and history(3, nan, nan).best == 0
    assert history(3, (0.9, nan), (0.1, -0.5)).best == 2
    assert not history(2, nan, 0.5, 0.6).should_stop and history(2, nan, nan).should_stop


def test_ties_fall_to_the_next_value():
    assert history(3, (0.9, -0.5), (0.9, -0.4), (0.8, -0.1)).best == 2


def test_patience_counts_evaluations_since_the_best():
    assert [history(2, *values).should_stop for values in ([3], [3, 2], [3, 2, 2], [3, 2, 4], [3, 2, 4, 1])] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert not history(None, *range(100, 0, -1)).should_stop


def test_a_history_does_not_change():
    first = history(2, 1.0)
    assert first.add(2, (5.0,)).best == 2 and first.best == 1


LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=200)


@given(lengths=LENGTHS, batch_size=st.integers(1, 40), seed=st.integers(0, 2**32), number=st.integers(0, 50))
def test_an_epoch_takes_every_row_once(lengths, batch_size, seed, number):
    plan = Plan(lengths, batch_size, seed)
    batches = plan.epoch(number)
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    assert len(batches) == plan.steps_per_epoch == math.ceil(len(lengths) / batch_size)
    assert sum(len(batch) != batch_size for batch in batches) <= 1
    assert plan.epoch(number) == batches == Plan(tuple(lengths), batch_size, seed).epoch(number)


def test_epochs_and_seeds_differ():
    lengths = [length % 17 + 1 for length in range(120)]
    orders = [str(Plan(lengths, 8, seed).epoch(number)) for seed in (0, 1) for number in (0, 1)]
    assert len(set(orders)) == 4


def test_rows_of_like_length_stand_together():
    lengths = np.random.default_rng(0).integers(10, 200, 640).tolist()
    padded = sum(len(batch) * max(lengths[p] for p in batch) for batch in Plan(lengths, 8, 0).epoch(0))
    order = np.random.default_rng(0).permutation(640).reshape(-1, 8)
    unsorted = sum(8 * max(lengths[p] for p in batch) for batch in order)
    assert padded < 1.15 * sum(lengths) < unsorted


@given(lengths=LENGTHS, budget=st.integers(1, 300))
def test_passes_stay_within_the_budget(lengths, budget):
    plan = Plan(lengths, len(lengths), 0)
    batch = list(range(len(lengths)))
    passes = plan.micro_batches(batch, budget)
    assert sorted(position for one in passes for position in one) == batch
    assert lengths[passes[0][0]] == max(lengths)  # memory runs out at once or never
    for one in passes:
        assert len(one) * max(lengths[position] for position in one) <= budget or len(one) == 1


@given(lengths=LENGTHS, budget=st.integers(1, 300))
def test_token_batches_keep_the_order(lengths, budget):
    for order in (list(range(len(lengths))), length_order(lengths)):
        batches = token_batches(order, lengths, budget)
        assert [position for batch in batches for position in batch] == order
        assert all(batches)
        for batch in batches:
            assert len(batch) * max(lengths[position] for position in batch) <= budget or len(batch) == 1


def test_token_batches_by_hand():
    assert token_batches([0, 1, 2, 3], [4, 4, 1, 9], 8) == [[0, 1], [2], [3]]
    assert token_batches([], [], 8) == []


def test_longest_first():
    assert length_order([3, 9, 9, 1]) == [1, 2, 0, 3]


def test_padding():
    rows = [np.array([1, 2, 3]), np.array([4])]
    assert pad(rows, 0).tolist() == [[1, 2, 3], [4, 0, 0]]
    assert pad(rows, 7, left=True).tolist() == [[1, 2, 3], [7, 7, 4]]


def test_default_epochs():
    assert epochs_for(300, 100, least=3, most=10) == 3
    assert epochs_for(300, 1, least=3, most=10) == 10
    assert epochs_for(300, 45, least=3, most=10) == 7


def sequences(count, *, weights=True, target=False):
    random = np.random.default_rng(1)
    for row in range(count):
        size = int(random.integers(1, 30))
        tokens = random.integers(0, 50_000, size).astype(np.int32)
        chosen = random.choice(np.array([0.0, 0.25, 1.0], np.float32), size) if weights else None
        yield Encoded(row // 2, tokens, chosen, np.asarray(row % 3) if target else None)


@pytest.mark.parametrize("in_memory_tokens", [0, 1 << 20])
@pytest.mark.parametrize("form", [{"weights": True}, {"weights": False, "target": True}])
def test_an_encoded_set_gives_back_what_it_was_given(in_memory_tokens, form):
    given_ = list(sequences(40, **form))
    found = EncodedSet(iter(given_), in_memory_tokens=in_memory_tokens)
    assert len(found) == 40 and isinstance(found._tokens, np.memmap) == (in_memory_tokens == 0)
    assert found.lengths == [len(item.tokens) for item in given_]
    assert found.supervised == [item.supervised for item in given_]
    assert found.rows == [item.row for item in given_]
    for position in (*range(40), -1, -40):
        _same(found[position], given_[position])
    for left, right in zip(found[5:30:7], given_[5:30:7], strict=True):
        _same(left, right)


def _same(left, right):
    assert left.row == right.row and left.tokens.tolist() == right.tokens.tolist()
    assert (left.weights is None) == (right.weights is None)
    assert left.weights is None or left.weights.tolist() == right.weights.tolist()
    assert (left.target is None) == (right.target is None) and (left.target is None or left.target == right.target)


def test_an_index_outside_is_an_error_and_iterating_ends():
    found = EncodedSet(sequences(3))
    with pytest.raises(IndexError):
        found[3]
    assert len(list(found)) == 3


def test_an_empty_set():
    assert len(EncodedSet([])) == 0 and list(EncodedSet([])) == []


def test_the_memory_map_is_gone_with_the_set():
    found = EncodedSet(sequences(10), in_memory_tokens=0)
    folder = Path(found._folder.name)
    assert folder.exists()
    del found
    assert not folder.exists()
