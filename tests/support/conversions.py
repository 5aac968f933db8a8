"""Helpers that the tests of all converters share: refusals, equal bits, spoiled weights and damaged files."""

import warnings

import jax
import numpy as np
import pytest
from hypothesis import strategies as st


def refusal(call):
    """Return the message of the ValueError that a call raises. It has to be one line, with a remedy after a colon."""
    with pytest.raises(ValueError, match=r"(?s).") as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence, sentence
    assert ": " in sentence, sentence
    return sentence


def with_negative_zeros(params):
    """Return the parameters with -0.0 in place of the larger ones, so that a lost sign is noticed."""
    return jax.tree.map(lambda leaf: np.where(leaf > 0.2, leaf.dtype.type(-0.0), leaf), params)


def assert_same_bits(got, expected):
    """Assert that two trees have the same structure, dtypes and bytes, not only equal numbers."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes()), jax.tree_util.keystr(path)


SPOILS = {
    "shorter": lambda array, axis: array.take(range(array.shape[axis] - 1), axis),
    "longer": lambda array, axis: np.concatenate([array, array], axis),
    "another axis": lambda array, axis: array[None],
    "no axis": lambda array, axis: array.sum(),
    "empty": lambda array, axis: array[:0],
    "whole numbers": lambda array, axis: array.astype(int),
    "complex": lambda array, axis: array.astype(complex),
    "text": lambda array, axis: array.astype(str),
    "objects": lambda array, axis: array.astype(object),
    "another dtype": lambda array, axis: array.astype(np.float32 if array.dtype == np.float64 else np.float64),
}


@st.composite
def spoiled(draw, weights, axis):
    """Draw weights of which one is missing, one is too many, or one has a wrong shape or dtype. The gates lie along `axis`."""
    name = draw(st.sampled_from(sorted(weights)))
    damage_kind = draw(st.sampled_from(["missing", "too many", *SPOILS]))
    if damage_kind == "missing":
        return {key: array for key, array in weights.items() if key != name}
    if damage_kind == "too many":
        return weights | {f"{name}_more": weights[name]}
    return weights | {name: SPOILS[damage_kind](weights[name], axis)}


def damaged(content):
    """Draw a file's content with some bytes changed, or cut off."""
    changes = st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=8)
    return st.one_of(
        st.integers(0, len(content) - 1).map(lambda size: content[:size]),
        changes.map(lambda chosen: _with_bytes(content, chosen)),
    )


def _with_bytes(content, changes):
    result = bytearray(content)
    for place, value in changes:
        result[place] = value
    return bytes(result)


def survives(reader, path, content):
    """Assert that a damaged file is read, or refused in one sentence."""
    path.write_bytes(content)
    sentence = "read: all of it"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a skipped layer warns
            reader(path)
    except ValueError as error:
        sentence = str(error)
    assert "\n" not in sentence
    assert ": " in sentence
