"""Ragged sequences behave as lists of lists, and are padded as Keras pads them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlstm.data import Ragged, pad

SEQUENCES = st.lists(st.lists(st.integers(-9, 99), max_size=9), max_size=9)
SIDES = st.sampled_from(["pre", "post"])


def padded(sequence, length, padding, truncating, value):
    """What `pad` does to one sequence, in lists."""
    while len(sequence) > length:
        sequence = sequence[1:] if truncating == "pre" else sequence[:-1]
    while len(sequence) < length:
        sequence = [value, *sequence] if padding == "pre" else [*sequence, value]
    return sequence


@given(SEQUENCES)
def test_sequences_come_out_as_they_went_in(sequences):
    """One by one, with their lengths; with a value in front, and without some values."""
    rows = Ragged.of(sequences)
    assert [row.tolist() for row in rows] == sequences
    assert rows.lengths.tolist() == [len(sequence) for sequence in sequences]
    assert len(rows) == len(sequences)
    assert rows.values.dtype == np.int32
    assert [row.tolist() for row in rows.prefixed(7)] == [[7, *sequence] for sequence in sequences]
    kept = rows.keep(rows.values % 2 == 0)
    assert [row.tolist() for row in kept] == [[value for value in sequence if value % 2 == 0] for sequence in sequences]


@given(SEQUENCES.filter(len), st.data())
def test_take_is_indexing(sequences, data):
    """By positions, repeated and from the end too, by a slice, and by booleans: what NumPy takes from an array of objects."""
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
    """No first one, another than 0, a fall, values left over or missing."""
    with pytest.raises(ValueError, match="offsets must rise from 0 to 3, the number of values, got"):
        Ragged(np.arange(3), np.array(offsets, int))


@pytest.mark.parametrize(
    ("sequences", "error", "message"),
    [
        ([1, 2], TypeError, "a sequence must be a list or an array of whole numbers, got 1"),
        ([[1], [1.5]], TypeError, r"whole numbers, got \[1.5\]"),
        ([[[1, 2]]], TypeError, r"whole numbers, got \[\[1, 2\]\]"),
        (["text"], TypeError, "whole numbers, got 'text'"),
        ([[1], [2**31]], ValueError, "must fit into int32, got some from 1 to 2147483648"),
    ],
)
def test_sequences_of_something_else_are_refused(sequences, error, message):
    """One sequence instead of several, fractions, rows of rows, words, and numbers that int32 would wrap."""
    with pytest.raises(error, match=message):
        Ragged.of(sequences)


@given(SEQUENCES, st.integers(1, 12), SIDES, SIDES, st.integers(-3, 3))
def test_padding_is_the_textbooks(sequences, length, padding, truncating, value):
    """Shorter, longer, empty, none at all; lists or ragged; and the lengths that the docstring gives count what is no padding."""
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
    """With the same options, by the same names."""
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
    """Keras' length 0 is no truncation for "pre"."""
    with pytest.raises(ValueError, match=message):
        pad([[1]], **options)
