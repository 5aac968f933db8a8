"""Ragged sequences behave as lists of lists, and are padded as Keras pads them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jlstm
from jlstm.data import Ragged, pad

SEQUENCES = st.lists(st.lists(st.integers(-9, 99), max_size=9), max_size=9)
SIDES = st.sampled_from(["pre", "post"])


def padded(sequence, length, padding, truncating, value):
    """Return the result of `pad` on one sequence, as a list."""
    while len(sequence) > length:
        sequence = sequence[1:] if truncating == "pre" else sequence[:-1]
    while len(sequence) < length:
        sequence = [value, *sequence] if padding == "pre" else [*sequence, value]
    return sequence


@given(SEQUENCES)
def test_sequences_come_out_as_they_went_in(sequences):
    """So do their lengths, sequences with a value in front, and sequences without some values."""
    rows = Ragged.of(sequences)
    assert [row.tolist() for row in rows] == sequences
    assert rows.lengths.tolist() == [len(sequence) for sequence in sequences]
    assert len(rows) == len(sequences)
    assert rows.values.dtype == np.int32
    assert [row.tolist() for row in rows.prefixed(7)] == [[7, *sequence] for sequence in sequences]
    filtered = rows.keep(rows.values % 2 == 0)
    assert [row.tolist() for row in filtered] == [[value for value in sequence if value % 2 == 0] for sequence in sequences]


@given(SEQUENCES.filter(len), st.data())
def test_take_is_indexing(sequences, data):
    """Positions (repeated, negative), a slice and booleans select as NumPy does from an array of objects."""
    rows, size = Ragged.of(sequences), len(sequences)
    several = data.draw(st.lists(st.integers(-size, size - 1)))
    flags = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    for chosen in (np.array(several, int), slice(None, None, -2), slice(1, 4), flags):
        expected = [sequences[index] for index in np.arange(size)[chosen]]
        assert [row.tolist() for row in rows.take(chosen)] == expected
    assert rows[-1].tolist() == sequences[-1]
    with pytest.raises(IndexError):
        rows[size]


@pytest.mark.parametrize("offsets", [[], [1, 3], [0, 2, 1, 3], [0, 2], [0, 4]])
def test_offsets_that_do_not_fit_are_refused(offsets):
    """Empty or decreasing offsets, a wrong first one, and too many or few values are refused."""
    with pytest.raises(ValueError, match="offsets must rise from 0 to 3, the number of values, got"):
        Ragged(np.arange(3), np.array(offsets, int))


@pytest.mark.parametrize(
    ("sequences", "error", "message"),
    [
        ([1, 2], TypeError, "a sequence must be a list or an array of numbers, got 1"),
        (5, TypeError, "sequences must be several lists or arrays of numbers, got 5"),
        ("text", TypeError, "sequences must be several"),
        ([[[1, 2], [3]]], TypeError, r"numbers, got \[\[1, 2\], \[3\]\]"),
        (["text"], TypeError, "numbers, got 'text'"),
        ([np.array([object()])], TypeError, "numbers, got an array of shape"),
        ([[True]], TypeError, r"numbers, got \[True\]"),
        ([[1j]], TypeError, "numbers, got"),
        ([[[1.0, 2.0]], [[1.0]]], ValueError, r"same features, got the shapes \(1,\) and \(2,\) of a step"),
        ([[1], [2**31]], ValueError, "must fit into int32, got some from 1 to 2147483648"),
    ],
)
def test_sequences_of_something_else_are_refused(sequences, error, message):
    """A single sequence, nested lists, words, booleans and numbers beyond int32 are refused."""
    with pytest.raises(error, match=message):
        Ragged.of(sequences)


@given(SEQUENCES, st.integers(1, 12), SIDES, SIDES, st.integers(-3, 3))
def test_padding_is_the_textbooks(sequences, length, padding, truncating, value):
    """`pad` equals a plain loop for shorter, longer, empty and no sequences, given as lists or ragged."""
    options = {"padding": padding, "truncating": truncating, "value": value}
    got = pad(sequences, length, **options)
    assert got.tolist() == [padded(sequence, length, **options) for sequence in sequences]
    assert got.shape == (len(sequences), length)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, pad(Ragged.of(sequences), length, **options))
    ones = pad([[1] * len(sequence) for sequence in sequences], length, padding=padding, truncating=truncating)
    np.testing.assert_array_equal(ones.sum(1), np.minimum(Ragged.of(sequences).lengths, length))


@pytest.mark.xdist_group("tensorflow")
@given(SEQUENCES.filter(len), st.integers(1, 12), SIDES, SIDES, st.integers(-3, 3))
def test_padding_is_keras(sequences, length, padding, truncating, value):
    """`pad` equals Keras's `pad_sequences` with options of the same names."""
    keras = pytest.importorskip("keras")
    options = {"padding": padding, "truncating": truncating, "value": value}
    np.testing.assert_array_equal(pad(sequences, length, **options), keras.utils.pad_sequences(sequences, length, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length must be a whole number of at least 1, got 0"),
        ({"length": 2, "padding": "left"}, "padding must be one of 'pre', 'post', got 'left'"),
        ({"length": 2, "truncating": "right"}, "truncating must be one of 'pre', 'post', got 'right'"),
    ],
)
def test_padding_that_keras_would_do_wrongly_or_not_at_all_is_refused(options, message):
    """With "pre", Keras does not truncate to length 0."""
    with pytest.raises(ValueError, match=message):
        pad([[1]], **options)


REAL = {  # sequences of three, none and one step, and the dtype that they keep
    "lists": ([[1.5, -2.0, 3.0], [], [0.5]], "float32"),
    "float64": ([np.array([1.5, -2.0, 3.0]), np.zeros(0), np.array([0.5])], "float64"),
    "float16 and whole numbers": ([np.float16([1.5, -2, 3]), [], [4]], "float16"),
    "bfloat16": ([jnp.asarray([1.5, -2, 3], "bfloat16"), [], jnp.asarray([0.5], "bfloat16")], "bfloat16"),
    "features": ([np.float32([[1, 2], [3, 4], [5, 6]]), np.zeros((0, 2), np.float32), np.float32([[7, 8]])], "float32"),
    "images": ([np.ones((3, 2, 4, 1), np.float32), [], np.zeros((1, 2, 4, 1), np.float32)], "float32"),
    "whole features": ([[[1, 2], [3, 4], [5, 6]], [], [[7, 8]]], "int32"),
}


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("name", REAL)
def test_real_numbers_and_features_are_padded(name, padding):
    """The dtype is that of the arrays, and the padding of real numbers may be NaN."""
    sequences, dtype = REAL[name]
    value = -1 if dtype == "int32" else np.nan
    for form in (sequences, Ragged.of(sequences)):
        got = pad(form, 2, padding=padding, truncating="post", value=value)
        assert (str(got.dtype), len(got)) == (dtype, 3)
        for row, sequence in zip(got, sequences, strict=True):
            truncated = np.asarray(sequence)[:2]
            begin = 2 - len(truncated) if padding == "pre" else 0
            if len(truncated):
                np.testing.assert_array_equal(row[begin : begin + len(truncated)], truncated)
            padding_values = np.delete(row, range(begin, begin + len(truncated)), axis=0).astype(float)
            np.testing.assert_array_equal(padding_values, np.full(padding_values.shape, value, float))
    rows = Ragged.of(sequences)
    assert rows.lengths.tolist() == [3, 0, 1]
    assert rows.take([2, 0]).lengths.tolist() == [1, 3]
    assert rows.prefixed(0)[1].shape == (1, *rows.values.shape[1:])


def test_a_fraction_among_whole_numbers_is_refused():
    """A fractional padding value for integers is refused: it would be truncated."""
    with pytest.raises(TypeError, match=r"value must be a whole number of int32 among whole numbers, got 0.5"):
        pad([[1]], 2, value=0.5)


@given(st.lists(st.integers(0, 7), max_size=6), st.integers(7, 9))
def test_lengths_make_the_mask_of_what_is_padded_behind(lengths, time):
    """`lengths_to_mask` works traced, and for lengths of any shape."""
    mask = pad([[1] * length for length in lengths], time, padding="post") == 1
    array = np.array(lengths, np.int32)
    np.testing.assert_array_equal(jlstm.lengths_to_mask(array, time), mask)
    np.testing.assert_array_equal(jax.vmap(lambda n: jlstm.lengths_to_mask(n, time))(array), mask)
    np.testing.assert_array_equal(jlstm.lengths_to_mask(array[None], time), mask[None])


@pytest.mark.parametrize(("lengths", "time"), [([4], 3), ([-1], 3), ([1.0], 3), ([1], 2.5), ([1], -1)])
def test_lengths_that_do_not_fit_are_refused(lengths, time):
    """Wrong lengths are refused in one sentence."""
    with pytest.raises((TypeError, ValueError), match=r"^(lengths|time) must[^\n]*$"):
        jlstm.lengths_to_mask(np.array(lengths), time)
