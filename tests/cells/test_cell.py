"""A cell that a user writes in a few lines runs in every layer."""

import jax
import numpy as np
import pytest

import jlstm
from jlstm import LSTM, RNN, Bidirectional, Stack
from problems import BATCH, FEATURES, TIME, assert_close, flags
from running_mean import RunningMean

pytestmark = [pytest.mark.newest_jax, pytest.mark.usefixtures("x64")]


def expected(xs, mask, resets):
    """Return the same outputs, computed by NumPy."""
    ys = np.zeros_like(xs)
    for b in range(BATCH):
        total, count = 0.0, 1
        for t in range(TIME):
            if mask[b, t]:
                total, count = (0.0, 1) if resets[b, t] else (total, count)
                total, count = total + xs[b, t], count + 1
                ys[b, t] = total / count
    return ys


XS = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES))
MASK, RESETS = flags(0.7), flags(0.4)


@pytest.mark.parametrize("options", [{}, {"remat": 2}, {"unroll": 2}], ids=repr)
def test_any_pytree_carry_is_masked_reset_and_chunked(options):
    """Masks, remat and resets, which restore the cell's own start, work for a carry of any structure."""
    layer = RNN(RunningMean(FEATURES), param_dtype="float64", **options)
    params = layer.init(jax.random.key(0), FEATURES)
    carry, ys = layer.apply(params, XS, mask=MASK, resets=RESETS)
    assert_close(ys, expected(XS, MASK, RESETS), atol=1e-15)
    assert carry.keys() == {"sum", "count"}


def test_it_runs_in_both_directions_and_in_stacks():
    """Bidirectional and Stack take a layer of this cell."""
    mean = RNN(RunningMean(FEATURES))
    layer = Stack((Bidirectional(mean, "sum"), mean, LSTM(2)))
    params = layer.init(jax.random.key(0), FEATURES)
    _, ys = layer.apply(params, XS, mask=MASK, resets=RESETS)
    summed = expected(XS, MASK, RESETS) + expected(XS[:, ::-1], MASK[:, ::-1], RESETS[:, ::-1])[:, ::-1]
    _, top = LSTM(2).apply(params[2], expected(summed, MASK, RESETS), mask=MASK, resets=RESETS)
    assert_close(ys, top, atol=1e-14)


def test_what_every_cell_can_do():
    """States, streaming, gradients and hashing need no code in the cell."""
    layer = RNN(RunningMean(FEATURES))
    params = layer.init(jax.random.key(0), FEATURES)
    carry, states = jlstm.cell_states(layer, params, XS)
    np.testing.assert_array_equal(states["count"][0, :, 0], np.arange(TIME) + 2)
    stepped = None
    for t in range(TIME):
        stepped, _ = layer.step(params, stepped, XS[:, t])
    assert_close(stepped, carry, atol=1e-15)
    gradient = jax.grad(lambda p: layer.apply(p, XS)[1].sum())(params)
    assert_close(gradient["scale"], expected(XS, MASK | True, RESETS & False).sum((0, 1)), atol=1e-6)  # params in float32
    assert layer == RNN(RunningMean(FEATURES))
    assert not layer.cell.stochastic
