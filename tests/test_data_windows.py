"""Windows go on where the ones before left each stream, and every token of a stream is predicted once."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlstm.data import Windows


@st.composite
def problems(draw):
    """A text of different tokens, the number of streams, and the steps of a window."""
    size = draw(st.integers(1, 5))
    count = draw(st.integers(2 * size, 60))
    return np.arange(100, 100 + count, dtype=np.int32), size, draw(st.integers(1, 9))


def joined(batches, name: str) -> np.ndarray:
    return np.concatenate([getattr(batch.examples, name) for batch in batches], axis=1)


@given(problems())
def test_streams_are_the_text_cut_into_rows(problem):
    """Joined over time, inputs and targets are each row and the same one token later, and nothing else counts."""
    tokens, size, steps = problem
    windows = Windows(tokens, size, steps)
    batches = list(windows.epoch(0))
    length = len(tokens) // size
    streams = tokens[: size * length].reshape(size, length)
    assert len(batches) == len(windows) == -(-(length - 1) // steps)
    np.testing.assert_array_equal(joined(batches, "inputs")[:, : length - 1], streams[:, :-1])
    np.testing.assert_array_equal(joined(batches, "targets")[:, : length - 1], streams[:, 1:])
    np.testing.assert_array_equal(joined(batches, "mask"), np.arange(len(batches) * steps) < np.full((size, 1), length - 1))
    for batch in batches:
        assert {leaf.shape for leaf in batch.examples} == {(size, steps)}
        assert [leaf.dtype.name for leaf in (*batch.examples, batch.weights)] == ["int32", "int32", "float32", "float32"]
        np.testing.assert_array_equal(batch.weights, np.ones(size))


@given(problems())
def test_whole_windows_are_those_of_tensorflows_reader(problem):
    """Its ptb_producer cuts (row length - 1) // steps windows, x at i * steps and y one token later."""
    tokens, size, steps = problem
    length = len(tokens) // size
    data = tokens[: size * length].reshape(size, length)
    batches = list(Windows(tokens, size, steps).epoch(0))
    for i in range((length - 1) // steps):
        np.testing.assert_array_equal(batches[i].examples.inputs, data[:, i * steps : (i + 1) * steps])
        np.testing.assert_array_equal(batches[i].examples.targets, data[:, i * steps + 1 : (i + 1) * steps + 1])
        assert batches[i].examples.mask.all()


@given(problems(), st.data())
def test_a_pass_can_be_begun_anywhere_and_shared(problem, data):
    """From batch `start` on it is the tail of the whole, in another pass too; the processes' shares of rows make up the batch."""
    tokens, size, steps = problem
    windows = Windows(np.tile(tokens, 2), 2 * size, steps)
    start, whole = data.draw(st.integers(0, len(windows))), list(windows.epoch(0))
    tail = list(windows.epoch(3, start))
    jax.tree.map(np.testing.assert_array_equal, tail, whole[start:])
    shares = [list(windows.epoch(0, part=(index, 2))) for index in range(2)]
    together = [jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts) for parts in zip(*shares, strict=True)]
    jax.tree.map(np.testing.assert_array_equal, together, whole)


def test_the_mask_makes_the_mean_exact():
    """Summed losses over summed masks weigh each token alike, however the text is cut."""
    tokens = np.random.default_rng(0).integers(0, 50, 101).astype(np.int32)
    for steps in (1, 7, 100, 300):
        batches = list(Windows(tokens, 1, steps).epoch(0))
        losses, counts = (
            [float(np.sum(f(b.examples))) for b in batches] for f in (lambda w: w.targets * w.mask, lambda w: w.mask)
        )
        assert sum(losses) / sum(counts) == tokens[1:].mean()


@pytest.mark.parametrize(
    ("size", "steps", "message"),
    [
        (0, 2, "size must be a whole number of at least 1, got 0"),
        (2, 0, "steps must be a whole number of at least 1, got 0"),
        (6, 2, "11 tokens are too few for 6 streams of at least 2: choose a smaller size"),
    ],
)
def test_windows_that_cannot_be_cut_are_refused(size, steps, message):
    """At once, not when the first batch is asked for."""
    with pytest.raises(ValueError, match=message):
        Windows(np.arange(11, dtype=np.int32), size, steps)


def test_a_start_beyond_the_pass_is_refused():
    """The sentence tells how many there are."""
    with pytest.raises(ValueError, match="start must be from 0 to 2, the number of batches in a pass, got 3"):
        next(Windows(np.arange(11, dtype=np.int32), 2, 2).epoch(0, start=3))
