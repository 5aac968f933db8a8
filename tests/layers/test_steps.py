"""Streaming: steps with resets, and a carry that is handed on from window to window."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from family import CELLS
from jlstm import GRU, LSTM, RNN, Bidirectional, Stack
from jlstm.cells import LSTMCell, WeightDrop
from jlstm.linen import Step
from problems import FEATURES, TIME, UNITS, flags, small_problem

pytestmark = pytest.mark.no_cover

LAYERS = {
    "LSTM": LSTM(UNITS, backend="scan"),
    "GRU": GRU(UNITS, backend="scan"),
    "Stack": Stack((LSTM(UNITS, backend="scan"), RNN(WeightDrop(LSTMCell(6)), backend="scan"))),
    "time-major": LSTM(UNITS, backend="scan", time_major=True),
}


def stepped(layer, params, xs, carry, resets):
    """Run the layer by `step` in `lax.scan`."""

    def step(carry, inputs):
        x, reset = inputs
        return layer.step(params, carry, x, reset=reset)

    carry, ys = jax.lax.scan(step, carry, (jnp.moveaxis(jnp.asarray(xs), 1, 0), resets.T))
    return carry, ys if layer.time_major else jnp.moveaxis(ys, 0, 1)


@pytest.mark.parametrize("name", LAYERS)
def test_reset_in_a_step_is_resets_in_a_sequence(name):
    """Bits agree, compiled: stepwise acting and training on whole sequences see the same states."""
    layer, params, xs, carry = small_problem(LAYERS[name], dtype=np.float32)
    resets = flags(0.4)
    assert resets.any()
    whole = jnp.moveaxis(jnp.asarray(xs), 1, 0) if layer.time_major else xs
    got = jax.jit(lambda *args: stepped(layer, *args, resets))(params, xs, carry)
    expected = jax.jit(lambda p, xs, c: layer.apply(p, xs, c, resets=resets.T if layer.time_major else resets))(
        params, whole, carry
    )
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.table(quick=7)
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_starts_anew(name, x64):
    """After a reset a sequence goes on like a new one. A sequence without a reset goes on as before."""
    layer, params, xs, carry = small_problem(RNN(CELLS[name]))
    reset = np.array([True, False])

    @jax.jit
    def steps(params, carry, x):
        return layer.step(params, carry, x, reset=reset), layer.step(params, None, x), layer.step(params, carry, x)

    got, fresh, continued = steps(params, carry, xs[:, 0])
    jax.tree.map(lambda a, b, c: np.testing.assert_array_equal(a, np.stack([b[0], c[1]])), got, fresh, continued)


def test_a_reset_without_a_carry_changes_nothing():
    """Without a carry a step starts from the initial carry anyway."""
    layer, params, xs, _ = small_problem(LSTM(UNITS), dtype=np.float32)
    got, expected = layer.step(params, None, xs[:, 0], reset=np.array([True, False])), layer.step(params, None, xs[:, 0])
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_linen_steps_take_resets():
    """The linen module takes resets as its third argument, in `nn.scan` too."""
    layer, params, xs, carry = small_problem(LSTM(UNITS), dtype=np.float32)
    resets = flags(0.4)
    scanned = nn.scan(Step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)(layer)
    got = scanned.apply({"params": params}, carry, xs, resets)
    expected = layer.apply(params, xs, carry, resets=resets)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), got, expected)  # projected step by step


@pytest.mark.parametrize(
    ("layer", "reset", "sentence"),
    [
        (LSTM(UNITS), np.zeros(3, bool), r"reset must have shape \(2,\), that of x without its features, got \(3,\)"),
        (LSTM(UNITS), np.zeros(2), r"reset must be boolean, got float"),
        (LSTM(UNITS), "no", "reset must be an array of numbers, got 'no'"),
        (Bidirectional(LSTM(UNITS)), np.zeros(2, bool), "Bidirectional needs the whole sequence"),
        (LSTM(UNITS, reverse=True), np.zeros(2, bool), "this layer has reverse=True"),
    ],
    ids=str,
)
def test_resets_that_do_not_fit_are_refused(layer, reset, sentence):
    """Wrong resets are refused in one sentence."""
    _, params, xs, _ = small_problem(layer, dtype=np.float32)
    with pytest.raises((ValueError, TypeError), match=sentence):
        layer.step(params, None, xs[:, 0], reset=reset)


WINDOWED = {
    "LSTM": LSTM(UNITS),
    "GRU": GRU(UNITS),
    "remat": LSTM(UNITS, remat=2),
    "Stack": Stack((LSTM(UNITS), LSTM(6, dtype="bfloat16"))),
    "Bidirectional": Bidirectional(LSTM(UNITS)),
}


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("name", WINDOWED)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_scan_over_windows_goes_with_inputs_of_any_width(dtype, name):
    """`initial_carry` without a dtype starts it, and the carry keeps its dtype: what `lax.scan` asks for."""
    layer = WINDOWED[name]
    windows = np.random.default_rng(1).normal(size=(3, 2, TIME, FEATURES)).astype(dtype)

    @jax.jit
    def run(key):
        params = layer.init(key, FEATURES)
        start = layer.initial_carry(params, (2,))
        return start, *jax.lax.scan(lambda carry, xs: layer.apply(params, xs, carry), start, windows)

    start, last, ys = run(jax.random.key(0))
    assert jax.tree.map(lambda leaf: leaf.dtype, last) == jax.tree.map(lambda leaf: leaf.dtype, start)
    assert ys.dtype == (jnp.bfloat16 if name == "Stack" else dtype)


@pytest.mark.table(quick=1)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_windows_equal_the_whole(dtype):
    """A wider carry between them holds the same numbers, in steps too, and their gradient is the same.

    XLA rounds the carry at each step. A native kernel rounds it only between windows.
    """
    layer = LSTM(UNITS, backend="fused")
    params = layer.init(jax.random.key(0), FEATURES)
    xs = jax.random.normal(jax.random.key(1), (2, 12, FEATURES)).astype(dtype)
    windows = xs.reshape(2, 3, 4, FEATURES).swapaxes(0, 1)

    def by_windows(params):
        return jax.lax.scan(lambda carry, xs: layer.apply(params, xs, carry), layer.initial_carry(params, (2,)), windows)

    def by_steps(params):
        step = lambda carry, x: layer.step(params, carry, x)
        return jax.lax.scan(step, layer.initial_carry(params, (2,)), xs.swapaxes(0, 1))

    carry, ys = layer.apply(params, xs)
    last, pieces = by_windows(params)
    np.testing.assert_array_equal(pieces.swapaxes(0, 1).reshape(2, 12, UNITS), ys)
    jax.tree.map(np.testing.assert_array_equal, last, carry)
    np.testing.assert_array_equal(by_steps(params)[1].swapaxes(0, 1), ys)
    got = jax.grad(lambda p: by_windows(p)[1].astype("float32").sum())(params)
    expected = jax.grad(lambda p: layer.apply(p, xs)[1].astype("float32").sum())(params)
    eps = float(jnp.finfo(dtype).eps)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=8 * eps * np.abs(b).max()), got, expected)


def test_a_narrower_carry_is_widened():
    """A carry narrower than the compute dtype comes back in the compute dtype, so that no digits are lost."""
    layer = LSTM(UNITS)
    params = layer.init(jax.random.key(0), FEATURES)
    xs = np.ones((2, TIME, FEATURES), np.float32)
    for dtype in ("bfloat16", "float16"):
        carry = layer.initial_carry(params, (2,), dtype)
        assert layer.apply(params, xs, carry)[0].c.dtype == np.float32
        assert layer.step(params, carry, xs[:, 0])[0].c.dtype == np.float32
    result = layer.apply(params, xs.astype("bfloat16"), layer.initial_carry(params, (2,), "float16"))[0]
    assert result.c.dtype == jnp.bfloat16  # neither dtype can represent the other
