"""Windows cut a text into streams, hand each on from window to window, and ask for each token once."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlstm.data import Windows


@st.composite
def problems(draw):
    """Draw numbered tokens, some of which are left over, a number of streams and a number of steps."""
    size, steps, length, over = (draw(st.integers(*span)) for span in ((1, 5), (1, 6), (2, 20), (0, 4)))
    return np.arange(size * length + min(over, size - 1), dtype=np.int32), size, steps


@given(problems())
def test_each_token_but_the_first_of_a_stream_is_a_target_once(problem):
    """The counted steps of all windows make up the streams. Left-over tokens are dropped."""
    tokens, size, steps = problem
    length = len(tokens) // size
    streams = [tokens[row * length : (row + 1) * length].tolist() for row in range(size)]
    windows = [batch.examples for batch in Windows(tokens, size, steps).epoch(0)]
    for row, stream in enumerate(streams):
        counted = [window.mask[row] == 1 for window in windows]
        assert np.concatenate([w.targets[row][c] for w, c in zip(windows, counted, strict=True)]).tolist() == stream[1:]
        assert np.concatenate([w.inputs[row][c] for w, c in zip(windows, counted, strict=True)]).tolist() == stream[:-1]


@given(problems())
def test_a_stream_goes_on_where_the_batch_before_left_it(problem):
    """The last target of a window is the first input of the next, so that a carry fits."""
    windows = [batch.examples for batch in Windows(*problem).epoch(0)]
    for previous, after in pairwise(windows):
        assert previous.mask.all()
        np.testing.assert_array_equal(previous.targets[:, -1], after.inputs[:, 0])


@given(problems())
def test_whole_windows_are_those_of_tensorflows_reader(problem):
    """ptb_producer cuts (length of a stream - 1) // steps windows, with targets one token later."""
    tokens, size, steps = problem
    length = len(tokens) // size
    data = tokens[: size * length].reshape(size, length)
    batches = list(Windows(tokens, size, steps).epoch(0))
    for i in range((length - 1) // steps):
        np.testing.assert_array_equal(batches[i].examples.inputs, data[:, i * steps : (i + 1) * steps])
        np.testing.assert_array_equal(batches[i].examples.targets, data[:, i * steps + 1 : (i + 1) * steps + 1])
        assert batches[i].examples.mask.all()


@given(problems(), st.integers(0, 3))
def test_all_windows_have_one_shape(problem, number):
    """All windows, also the last, have one shape. All streams count, and all passes are the same."""
    tokens, size, steps = problem
    windows = Windows(tokens, size, steps)
    batches = list(windows.epoch(number))
    assert len(batches) == len(windows) == -(-(len(tokens) // size - 1) // steps)
    for batch, first in zip(batches, windows.epoch(0), strict=True):
        assert [array.shape for array in batch.examples] == [(size, steps)] * 3
        assert [array.dtype.name for array in batch.examples] == ["int32", "int32", "float32"]
        assert batch.weights.tolist() == [1] * size
        np.testing.assert_array_equal(batch.examples, first.examples)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.arange(9), 0, 3), "size must be a whole number of at least 1, got 0"),
        ((np.arange(9), 3, 0), "steps must be a whole number of at least 1, got 0"),
        ((np.arange(9), 5, 3), "9 tokens are too few for 5 streams of at least 2: choose a smaller size"),
        ((np.arange(0), 1, 3), "0 tokens are too few for 1 streams"),
        ((np.zeros((4, 5), int), 2, 3), r"tokens must be one long sequence of numbers, got an array of shape \(4, 5\)"),
        (("a text", 2, 3), r"tokens must be one long sequence of numbers, got an array of shape \(\)"),
    ],
)
def test_what_cannot_be_cut_is_refused(arguments, message):
    """Wrong arguments are refused at once, not when the first window is asked for."""
    with pytest.raises(ValueError, match=message):
        Windows(*arguments)
