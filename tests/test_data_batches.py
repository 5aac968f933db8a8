"""A batch is a function of its position: every example once a pass, resumed anywhere, in parts that make up the whole."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlstm.data import Batch, Minibatches, Ragged, Split
from jlstm.data.batches import share, take


@st.composite
def problems(draw):
    """Minibatches of numbered examples, and the number of a pass."""
    count, size = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    seed = draw(st.none() | st.integers(0, 3))
    return Minibatches((np.arange(count), np.arange(count) * 2.5), size, seed), draw(st.integers(0, 3))


def assert_equal(got: list[Batch], expected: list[Batch]) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@given(problems())
def test_every_example_counts_once_a_pass(problem):
    """The examples of weight 1 are all examples; all batches have one size, and only the last is filled up."""
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
    """What is shuffled is shuffled together, what fills up included."""
    batches, number = problem
    for batch in batches.epoch(number):
        np.testing.assert_array_equal(batch.examples[0] * 2.5, batch.examples[1])


@given(problems(), st.data())
def test_a_pass_begun_later_is_the_tail_of_the_whole(problem, data):
    """What resumes at batch `start` sees what the interrupted pass would have seen."""
    batches, number = problem
    start = data.draw(st.integers(0, len(batches)))
    assert_equal(list(batches.epoch(number, start)), list(batches.epoch(number))[start:])


@given(problems(), st.integers(1, 4))
def test_the_parts_together_are_the_whole(problem, count):
    """Processes that each take their share make up each batch, in order."""
    batches, number = problem
    batches = Minibatches(batches.examples, batches.size * count, batches.seed)
    shares = [list(batches.epoch(number, part=(index, count))) for index in range(count)]
    together = [jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts) for parts in zip(*shares, strict=True)]
    assert_equal(together, list(batches.epoch(number)))


@given(problems())
def test_the_order_depends_on_seed_and_number_alone(problem):
    """Another object, asked for other passes before, gives the same; without a seed the order is the given one."""
    batches, number = problem
    other = Minibatches(batches.examples, batches.size, batches.seed)
    list(other.epoch(number + 1))
    assert_equal(list(other.epoch(number)), list(batches.epoch(number)))
    if batches.seed is None:
        assert np.concatenate([batch.examples[0] for batch in batches.epoch(number)])[: batches.count].tolist() == [
            *range(batches.count)
        ]


def test_another_seed_or_pass_is_another_order():
    """Of fifty examples, two orders are the same once in 50! times."""
    orders = {
        (seed, number): next(Minibatches(np.arange(50), 50, seed).epoch(number)).examples.tobytes()
        for seed in range(3)
        for number in range(3)
    }
    assert len(set(orders.values())) == 9


def test_any_tree_can_be_batched():
    """A NamedTuple stays one."""
    split = Split(np.arange(5, dtype=np.float32)[:, None, None], np.arange(5, dtype=np.int32))
    batch = next(Minibatches(split, 4, seed=0).epoch(0))
    assert isinstance(batch.examples, Split)
    np.testing.assert_array_equal(batch.examples.images[:, 0, 0], batch.examples.labels)


@pytest.mark.parametrize(
    ("examples", "size", "message"),
    [
        (np.arange(3), 0, "size must be a whole number of at least 1, got 0"),
        ((np.arange(3), np.arange(4)), 2, r"one and the same number of rows, at least 1, got \[3, 4\]"),
        (np.arange(0), 2, r"at least 1, got \[0\]"),
        ((), 2, r"at least 1, got \[\]"),
    ],
)
def test_what_cannot_be_batched_is_refused(examples, size, message):
    """At once, not when the first batch is asked for."""
    with pytest.raises(ValueError, match=message):
        Minibatches(examples, size)


def test_a_batch_that_cannot_be_shared_is_refused():
    """The sentence names both numbers."""
    with pytest.raises(ValueError, match="a batch of 5 cannot be divided among 2 processes: choose a size"):
        next(Minibatches(np.arange(7), 5).epoch(0, part=(0, 2)))


@pytest.mark.parametrize("start", [-1, 3])
def test_a_start_that_is_not_there_is_refused(start):
    """A run that resumes with other data is told so."""
    with pytest.raises(ValueError, match=f"start must be from 0 to 2, the number of batches in a pass, got {start}"):
        next(Minibatches(np.arange(7), 5).epoch(0, start))


def test_a_negative_seed_is_refused():
    """At once."""
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0, or None, got -1"):
        Minibatches(np.arange(7), 5, seed=-1)


@pytest.mark.parametrize("examples", [[1, 2, 3], np.float32(1), Ragged.of([[1], [2, 3]])])
def test_examples_without_rows_are_refused(examples):
    """A list is a tree of numbers, and ragged sequences are no array."""
    with pytest.raises(TypeError, match=r"examples must be arrays with a row for each: pad sequences, make lists arrays"):
        Minibatches(examples, 2)


def test_share_and_take():
    """The second of three shares of six rows, of every array."""
    assert share(6, (1, 3)) == slice(2, 4)
    taken = take({"x": np.arange(6), "y": np.arange(12).reshape(6, 2)}, share(6, (1, 3)))
    assert taken["x"].tolist() == [2, 3]
    assert taken["y"].tolist() == [[4, 5], [6, 7]]
