"""The distribution of initial parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlstm import LSTM
from jlstm.initializers import INITIALIZERS

pytestmark = pytest.mark.no_cover

FEATURES, UNITS = 48, 64  # many enough for statistics
KEY = jax.random.key(7)


def test_kernel_is_glorot_uniform():
    """The kernel fills [-limit, limit] evenly, limit² = 6 / (features + 4·units), as in Keras."""
    kernel = np.asarray(LSTM(UNITS).init(KEY, FEATURES)["kernel"])
    limit = np.sqrt(6 / (FEATURES + 4 * UNITS))
    assert 0.999 * limit < np.abs(kernel).max() <= limit
    np.testing.assert_allclose(kernel.mean(), 0, atol=4 * limit / np.sqrt(3 * kernel.size))  # four standard errors
    np.testing.assert_allclose(kernel.var(), limit**2 / 3, rtol=0.05)  # 12,288 numbers: standard error below 1 %


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("bfloat16", 0.02), ("float16", 0.002)])
def test_recurrent_kernel_is_orthogonal(dtype, atol):
    """The rows of the recurrent kernel are orthonormal over all gates together, up to the rounding of the dtype."""
    kernel = LSTM(UNITS, param_dtype=dtype).init(KEY, FEATURES)["recurrent_kernel"]
    assert kernel.dtype == dtype
    rows = np.asarray(kernel, np.float64)
    np.testing.assert_allclose(rows @ rows.T, np.eye(UNITS), atol=atol)


@pytest.mark.parametrize(("forget_bias", "expected"), [(1.0, 1), (2.5, 2.5), (0.0, 0), (None, 0)])
def test_forget_bias_is_in_the_second_quarter(forget_bias, expected):
    """The bias is zero but for the forget gate's."""
    bias = LSTM(UNITS, forget_bias=forget_bias).init(KEY, FEATURES)["bias"]
    np.testing.assert_array_equal(bias, np.repeat([0, expected, 0, 0], UNITS).astype(np.float32))


def test_forget_bias_is_left_to_bias_init():
    """`forget_bias=None` leaves all of the bias to its initializer; a number overrides the second quarter."""
    np.testing.assert_array_equal(LSTM(UNITS, bias_init="ones", forget_bias=None).init(KEY, FEATURES)["bias"], np.ones(4 * UNITS))
    bias = LSTM(UNITS, bias_init="ones", forget_bias=0.5).init(KEY, FEATURES)["bias"]
    np.testing.assert_array_equal(bias, np.repeat([1, 0.5, 1, 1], UNITS).astype(np.float32))


@pytest.mark.table(quick=8)
@pytest.mark.parametrize("name", sorted(INITIALIZERS))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_name_draws_in_every_dtype(name, dtype):
    """Each initializer by name gives finite weights of the shape and dtype asked for."""
    params = LSTM(4, kernel_init=name, recurrent_init=name, param_dtype=dtype).init(KEY, 3)
    assert {leaf.shape: leaf.dtype.name for leaf in params.values()} == {(3, 16): dtype, (4, 16): dtype, (16,): dtype}
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in params.values())


def test_a_callable_draws_too():
    """An initializer may be any function of key, shape and dtype."""
    params = LSTM(4, kernel_init=lambda key, shape, dtype: jnp.full(shape, 7, dtype)).init(KEY, 3)
    np.testing.assert_array_equal(params["kernel"], np.full((3, 16), 7))


def test_float64(x64):
    """Drawn in float64 the recurrent kernel is orthogonal to float64 rounding."""
    rows = LSTM(UNITS, param_dtype="float64").init(KEY, FEATURES)["recurrent_kernel"]
    np.testing.assert_allclose(rows @ rows.T, np.eye(UNITS), atol=1e-14)


def test_the_key_decides():
    """The same key gives the same weights, another key others, and no two weights share numbers."""
    first, again, different = (LSTM(4).init(jax.random.key(seed), 4) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["kernel"], again["kernel"])
    assert np.all(first["kernel"] != different["kernel"])
    same = LSTM(4, recurrent_init="glorot_uniform").init(jax.random.key(0), 4)
    assert np.all(same["kernel"] != same["recurrent_kernel"])
