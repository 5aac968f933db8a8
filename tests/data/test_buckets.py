"""Batches of sequences of similar length: each sequence once, in the narrowest bucket that holds it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlstm.data import Buckets, Ragged, pad

SIDES = st.sampled_from(["pre", "post"])


@st.composite
def problems(draw):
    """Draw numbered sequences, as the arguments of `Buckets`."""
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=30))
    sequences = [[100 * number + step for step in range(1, length + 1)] for number, length in enumerate(lengths)]
    widths = sorted(draw(st.sets(st.integers(1, 10), min_size=1, max_size=4)))
    return sequences, draw(st.integers(1, 7)), widths, draw(st.none() | st.integers(0, 3))


@given(problems(), st.integers(0, 3), SIDES, SIDES)
def test_every_sequence_counts_once_a_pass(problem, number, padding, truncating):
    """Each comes with its label and length, padded or cut to the narrowest width that holds it, else the widest."""
    sequences, size, widths, seed = problem
    sides = {"padding": padding, "truncating": truncating}
    labels = np.arange(len(sequences))
    batches = Buckets(Ragged.of(sequences), labels, size, widths, seed, **sides)
    counted_labels, batched = [], list(batches.epoch(number))
    assert len(batched) == len(batches)
    for (tokens, lengths, batch_labels), weights in batched:
        assert tokens.shape == (size, tokens.shape[1])
        assert (tokens.dtype, lengths.dtype, weights.dtype) == (np.int32, np.int32, np.float32)
        for row, length, label, weight in zip(tokens, lengths, batch_labels, weights, strict=True):
            sequence = sequences[label]
            width = next((width for width in widths if len(sequence) <= width), widths[-1])
            assert row.tolist() == pad([sequence], width, **sides)[0].tolist()
            assert length == min(len(sequence), width)
            counted_labels += [label] * int(weight)
    assert sorted(counted_labels) == labels.tolist()


@given(problems(), st.integers(0, 3))
def test_no_more_is_filled_up_than_one_batch_a_bucket(problem, number):
    """Only the last batch of each bucket has rows of weight 0, and none has only such rows."""
    sequences, size, widths, seed = problem
    batches = list(Buckets(Ragged.of(sequences), np.arange(len(sequences)), size, widths, seed).epoch(number))
    unfilled = [batch.examples.tokens.shape[1] for batch in batches if not batch.weights.all()]
    assert len(unfilled) == len(set(unfilled))
    assert all(batch.weights.any() for batch in batches)


@given(problems())
def test_without_a_seed_the_given_order_stays(problem):
    """Buckets go from the narrowest to the widest, and keep the given order inside."""
    sequences, size, widths, _ = problem
    batches = Buckets(Ragged.of(sequences), np.arange(len(sequences)), size, widths)
    order = np.concatenate([batch.examples.labels[batch.weights == 1] for batch in batches.epoch(0)]).tolist()
    assert order == sorted(range(len(sequences)), key=lambda number: np.searchsorted(widths[:-1], len(sequences[number])))


def test_series_of_real_numbers_are_sorted_too():
    """Sequences of feature vectors keep their dtype, also when given as lists of arrays."""
    sequences = [np.full((length, 2), number, np.float16) for number, length in enumerate([3, 1, 2, 1])]
    first, second = Buckets(sequences, [0.5, 1.5, 2.5, 3.5], 2, (1, 3)).epoch(0)
    assert first.examples.tokens.tolist() == [[[1, 1]], [[3, 3]]]
    assert (second.examples.tokens.shape, second.examples.tokens.dtype) == ((2, 3, 2), np.float16)
    assert second.examples.lengths.tolist() == [3, 2]
    assert second.examples.tokens[1].tolist() == [[2, 2], [2, 2], [0, 0]]


def test_a_width_is_compiled_once():
    """Two hundred sequences of up to nine steps, in two widths, compile two programs."""
    traced = []

    @jax.jit
    def total(tokens):
        traced.append(tokens.shape)
        return jnp.sum(tokens)

    lengths = np.random.default_rng(0).integers(1, 10, 200)
    for number in range(2):
        for batch in Buckets(Ragged.of([[1] * n for n in lengths]), lengths, 16, (4, 9), seed=0).epoch(number):
            total(batch.examples.tokens)
    assert sorted(traced) == [(16, 4), (16, 9)]


def test_buckets_and_seeds_have_orders_of_their_own():
    """No two buckets or seeds share an order of fifty sequences."""
    rows, labels = Ragged.of([[1]] * 50 + [[1, 1]] * 50), np.arange(100)
    orders = {}
    for seed in (0, 1):
        for batch in Buckets(rows, labels, 50, (1, 2), seed).epoch(0):
            order = batch.examples.labels
            orders[tuple(order % 50)] = (seed, order[0] // 50)
    assert len(orders) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1]], [0], 1, ()), r"widths must be at least one number above 0, and grow, got \[\]"),
        (([[1]], [0], 1, (0, 2)), r"widths .* got \[0, 2\]"),
        (([[1]], [0], 1, (3, 3)), r"widths .* got \[3, 3\]"),
        (([[1]], [0, 1], 1, (3,)), "a label for each, got 1 sequences and 2 labels"),
        (([], [], 1, (3,)), "there must be sequences, and a label for each, got 0 sequences and 0 labels"),
        (([[1]], [0], 0, (3,)), "size must be a whole number of at least 1, got 0"),
        (([[1]], [0], 1, (3,), -1), "seed must be a whole number of at least 0 or None, got -1"),
    ],
)
def test_what_cannot_be_sorted_into_buckets_is_refused(arguments, message):
    """Wrong arguments are refused at once, not when the first batch is asked for."""
    sequences, *options = arguments
    with pytest.raises(ValueError, match=message):
        Buckets(Ragged.of(sequences), *options)
