"""A batch is a function of its position: every example comes once a pass, from any start, in parts that make up the whole.

The tests here hold for all `Batches`. Windows and buckets have their own test files.
"""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlstm.data import Buckets, Minibatches, Ragged, Split, Windows
from jlstm.data.batches import share, take
from problems import assert_equal


@st.composite
def problems(draw):
    """Draw minibatches of numbered examples, and the number of a pass."""
    count, size = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    seed = draw(st.none() | st.integers(0, 3))
    return Minibatches((np.arange(count), np.arange(count) * 2.5), size, seed), draw(st.integers(0, 3))


KINDS = {
    "minibatches": lambda size, seed: Minibatches((np.arange(23), np.arange(23) * 2.5), size, seed),
    "windows": lambda size, seed: Windows(np.arange(150, dtype=np.int32), size, 3),
    "buckets": lambda size, seed: Buckets(Ragged.of([[n] * (n % 7) for n in range(41)]), np.arange(41), size, (2, 3, 5), seed),
}


@st.composite
def kinds(draw, divisor=1):
    """Draw a function that makes new `Batches` each time it is called, and the number of a pass."""
    kind, size, seed = (
        draw(st.sampled_from(sorted(KINDS))),
        draw(st.integers(1, 6)) * divisor,
        draw(st.none() | st.integers(0, 3)),
    )
    return lambda: KINDS[kind](size, seed), draw(st.integers(0, 3))


@given(problems())
def test_every_example_counts_once_a_pass(problem):
    """The examples of weight 1 are all examples. All batches have one size; only the last is filled up."""
    batches, number = problem
    batched = list(batches.epoch(number))
    assert len(batched) == len(batches)
    assert {batch.weights.shape for batch in batched} == {(batches.size,)}
    assert all(batch.weights.all() for batch in batched[:-1])
    counted = np.concatenate([batch.examples[0][batch.weights == 1] for batch in batched])
    assert sorted(counted) == list(range(batches.count))
    assert {batch.weights.dtype for batch in batched} == {np.dtype("float32")}


@given(problems())
def test_rows_of_all_arrays_stay_together(problem):
    """All arrays are shuffled alike, including the rows that fill up."""
    batches, number = problem
    for batch in batches.epoch(number):
        np.testing.assert_array_equal(batch.examples[0] * 2.5, batch.examples[1])


@given(kinds(), st.data())
def test_a_pass_begun_later_is_the_tail_of_the_whole(kind, data):
    """A pass resumed at batch `start` gives the rest of the interrupted pass."""
    make, number = kind
    batches = make()
    start = data.draw(st.integers(0, len(batches)))
    assert_equal(list(batches.epoch(number, start)), list(make().epoch(number))[start:])


@given(st.data(), st.integers(1, 4))
def test_the_parts_together_are_the_whole(data, count):
    """The shares of several processes, in order, make up each batch."""
    make, number = data.draw(kinds(divisor=count))
    shares = [list(make().epoch(number, part=(index, count))) for index in range(count)]
    joined = [jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts) for parts in zip(*shares, strict=True)]
    assert_equal(joined, list(make().epoch(number)))


@given(kinds())
def test_the_order_depends_on_seed_and_number_alone(kind):
    """A second object that ran other passes before gives the same batches, as many as it declares."""
    make, number = kind
    batches = make()
    list(batches.epoch(number + 1))
    assert_equal(list(batches.epoch(number)), list(make().epoch(number)))
    assert len(list(batches.epoch(number))) == len(batches)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3))
def test_without_a_seed_the_given_order_stays(count, size, number):
    """The order is the given one in every pass."""
    examples = [batch.examples for batch in Minibatches(np.arange(count), size).epoch(number)]
    assert np.concatenate(examples)[:count].tolist() == [*range(count)]


@pytest.mark.parametrize("kind", ["minibatches", "buckets"])
def test_passes_differ(kind):
    """Two passes have different orders."""
    first, second = (list(KINDS[kind](4, 0).epoch(number)) for number in range(2))
    with pytest.raises(AssertionError):
        assert_equal(first, second)


def test_another_seed_or_pass_is_another_order():
    """Two orders of fifty examples agree by chance once in 50! times."""
    orders = {
        (seed, number): next(Minibatches(np.arange(50), 50, seed).epoch(number)).examples.tobytes()
        for seed in range(3)
        for number in range(3)
    }
    assert len(set(orders.values())) == 9


def test_any_tree_can_be_batched():
    """A NamedTuple of arrays gives batches that are NamedTuples."""
    split = Split(np.arange(5, dtype=np.float32)[:, None, None], np.arange(5, dtype=np.int32))
    batch = next(Minibatches(split, 4, seed=0).epoch(0))
    assert isinstance(batch.examples, Split)
    np.testing.assert_array_equal(batch.examples.images[:, 0, 0], batch.examples.labels)


@pytest.mark.parametrize(
    ("examples", "size", "error", "message"),
    [
        (np.arange(3), 0, ValueError, "size must be a whole number of at least 1, got 0"),
        ((np.arange(3), np.arange(4)), 2, ValueError, r"one and the same number of rows, at least 1, got \[3, 4\]"),
        (np.arange(0), 2, ValueError, r"at least 1, got \[0\]"),
        ((), 2, ValueError, r"at least 1, got \[\]"),
        ([1, 2, 3], 2, TypeError, "make lists arrays with np.asarray"),
        ((Ragged.of([[1], []]), np.arange(2)), 2, TypeError, "examples must be arrays with a row for each: pad sequences"),
    ],
)
def test_what_cannot_be_batched_is_refused(examples, size, error, message):
    """Wrong arguments are refused at once, not when the first batch is asked for."""
    with pytest.raises(error, match=message):
        Minibatches(examples, size)


def test_a_seed_below_0_is_refused():
    """A negative seed is refused: NumPy's generators take none."""
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0 or None, got -1"):
        Minibatches(np.arange(3), 2, seed=-1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": (0, 2)}, "a batch of 5 cannot be divided among 2 processes: choose a size that is a multiple of 2"),
        ({"part": (5, 5)}, r"part must be \(i, n\) with i from 0 to n - 1, got \(5, 5\)"),
        ({"part": (-1, 5)}, r"part must be .* got \(-1, 5\)"),
        ({"start": 999}, r"start must be from 0 to \d+, the number of batches in a pass, got 999"),
        ({"start": -1}, "start must be from 0 .* got -1"),
    ],
)
def test_a_place_where_nothing_is_is_refused(kind, options, message):
    """The first batch raises, in a sentence that names the numbers."""
    with pytest.raises(ValueError, match=message):
        next(KINDS[kind](5, 0).epoch(0, **options))


def test_share_and_take():
    """The second of three shares of six rows is taken from every array."""
    assert share(6, (1, 3)) == slice(2, 4)
    part = take({"x": np.arange(6), "y": np.arange(12).reshape(6, 2)}, share(6, (1, 3)))
    assert part["x"].tolist() == [2, 3]
    assert part["y"].tolist() == [[4, 5], [6, 7]]
