"""Gradient norms equal JAX's Jacobians and closed forms, with padding, resets and wrappers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlstm
from jlstm import LSTM, RNN, Bidirectional, ElmanCell, Stack
from jlstm.cells import Dropout, Highway, Residual, WeightDrop
from jlstm.introspect import Flow, gradient_flow, trace
from parity import textbook
from problems import BATCH, FEATURES, TIME, UNITS, assert_close, flags, small_problem

pytestmark = pytest.mark.usefixtures("x64")


flowed = jax.jit(gradient_flow, static_argnums=(0, 3))


def unrolled(layer, params, xs, disturbance, loss_fn, counts, resets):
    """Return the loss and the last carry of an unrolled loop, with a disturbance added to every carry and output."""
    initial = carry = layer.initial_carry(params, xs.shape[:1])
    ys = []
    where = lambda flags, a, b: jax.tree.map(lambda a, b: jnp.where(flags[:, None], a, b), a, b)
    for t in range(xs.shape[1]):
        after, y = layer.step(params, where(resets[:, t], initial, carry), xs[:, t])
        step_disturbance = jax.tree.map(lambda leaf, t=t: leaf[t], disturbance)
        ys.append(where(counts[:, t], y + step_disturbance.h, jnp.zeros_like(y)))
        carry = where(counts[:, t], jax.tree.map(jnp.add, after, step_disturbance), carry)
    return loss_fn(jnp.stack(ys, 1)), carry


def weighted(ys):
    """Return a loss in which every output counts, and not linearly."""
    return jnp.sum(jnp.sin(ys) * jnp.cos(jnp.arange(ys.size, dtype=ys.dtype)).reshape(ys.shape))


def judged_flow(layer, params, xs, loss_fn, mask=None, resets=None):
    """Return the norms by JAX's Jacobians of the unrolled loop, over the sequences whose step counts."""
    counts = np.ones(xs.shape[:2], bool) if mask is None else mask
    resets = np.zeros(xs.shape[:2], bool) if resets is None else resets
    run = partial(unrolled, layer, params, xs, loss_fn=loss_fn, counts=counts, resets=resets)
    carry = jax.eval_shape(lambda: layer.initial_carry(params, xs.shape[:1], xs.dtype))
    zero = jax.tree.map(lambda leaf: np.zeros((xs.shape[1], *leaf.shape)), carry)
    gradient = jax.jit(jax.grad(lambda d: run(disturbance=d)[0]))(zero).h
    name = "c" if hasattr(carry, "c") else "h"
    jacobian = jax.jit(jax.jacobian(lambda d: getattr(run(disturbance=d)[1], name)))(zero)
    of_state = np.asarray(getattr(jacobian, name))  # (batch, units, time, batch, units)
    squares = [
        [np.mean(np.linalg.svd(of_state[b, :, t, b], compute_uv=False) ** 2) for b in range(len(xs)) if counts[b, t]]
        for t in range(xs.shape[1])
    ]
    return np.linalg.norm(gradient, axis=(1, 2)), np.array(
        [np.sqrt(np.mean(step_squares)) if step_squares else 0 for step_squares in squares]
    )


@pytest.mark.table(quick=2)
@pytest.mark.parametrize("cell", [jlstm.LSTMCell(UNITS), jlstm.GRUCell(UNITS)], ids=repr)
@pytest.mark.parametrize("reverse", [False, True])
def test_padding_and_resets_are_where_the_gradient_ends(cell, reverse):
    """Norms equal JAX's Jacobians with NaN in padding. A step that no sequence counts has zeros."""
    mask, resets = flags(0.7, seed=5), flags(0.3, seed=6)
    mask[:, 3] = False
    layer, params, xs, _ = small_problem(RNN(cell, reverse=reverse))
    padded = np.where(mask[..., None], xs, np.nan)
    got = flowed(layer, params, padded, weighted, mask=mask, resets=resets)
    flipped = lambda array: array[:, ::-1] if reverse else array
    expected = judged_flow(RNN(cell), params, flipped(xs), lambda ys: weighted(flipped(ys)), flipped(mask), flipped(resets))
    assert_close((got.loss, got.state), tuple(norms[::-1] if reverse else norms for norms in expected), rtol=1e-12, atol=1e-15)
    assert np.all(got.state[3] == 0)


@pytest.mark.slow
def test_lengths_of_a_flow_are_the_mask_they_stand_for():
    """Without a loss, L is the sum of each sequence's last output, in stacks too."""
    layer, params, xs, carry = small_problem(Stack((Bidirectional(LSTM(UNITS)), LSTM(6))))
    lengths = np.array([TIME, 2])
    mask = np.arange(TIME) < lengths[:, None]
    padded = np.where(mask[..., None], xs, np.nan)
    got = flowed(layer, params, padded, None, carry, lengths=lengths)
    last = lambda ys: sum(ys[b, n - 1].sum() for b, n in enumerate(lengths))
    assert_close(got, flowed(layer, params, xs, last, carry, mask=mask), rtol=1e-12, atol=0)
    short = jax.tree.map(lambda leaf: leaf[1:], carry)
    short_flow = flowed(layer, params, xs[1:, :2], None, short)
    joined = flowed(layer, params, np.concatenate([padded[1:], padded[1:]]), None, two(short), lengths=np.array([2, 2]))
    norms = jax.tree.map(lambda leaf: leaf[:2], joined)
    assert_close(norms[1].state, short_flow[1].state, rtol=1e-12, atol=0)
    assert_close(norms[1].loss, np.sqrt(2) * short_flow[1].loss, rtol=1e-12, atol=0)


def two(tree):
    """Return each sequence twice."""
    return jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), tree)


def test_a_flow_knows_what_stands_around_the_cell():
    """Wrappers belong to the loss, while the states are those of the LSTM."""
    cell = jlstm.LSTMCell(FEATURES)
    _, params, xs, _ = small_problem(RNN(Highway(cell)))
    t = textbook.sigmoid(xs @ params["kernel"] + params["bias"])
    losses = {
        "Highway": (Highway(cell), params, lambda ys: weighted(t * ys + (1 - t) * xs)),
        "Residual": (Residual(Dropout(WeightDrop(cell), outputs=0.5)), params["cell"], lambda ys: weighted(ys + xs)),
    }
    for wrapped, p, loss in losses.values():
        got = flowed(RNN(wrapped), p, xs, weighted)
        assert_close((got.loss, got.state), judged_flow(RNN(cell), params["cell"], xs, loss), rtol=1e-12, atol=0)
        assert_close(got.forget, flowed(RNN(cell), params["cell"], xs).forget, rtol=1e-12, atol=0)


@pytest.mark.parametrize("cell", [jlstm.LSTMCell(UNITS), ElmanCell(UNITS)], ids=repr)
def test_gradient_flow_equals_jacobians(cell):
    """The norms are those of jax.grad and jax.jacobian on the unrolled loop, with the singular values themselves."""
    layer, params, xs, _ = small_problem(RNN(cell))
    got = flowed(layer, params, xs, weighted)
    loss, state = judged_flow(layer, params, xs, weighted)
    assert_close((got.loss, got.state), (loss, state), rtol=1e-12, atol=0)
    if isinstance(cell, ElmanCell):
        assert got.forget is None
    else:
        f = np.asarray(trace(layer, params, xs).f)
        products = [np.prod(f[:, t + 1 :], axis=1) for t in range(TIME)]
        assert_close(got.forget, np.sqrt(np.mean(np.square(products), axis=(1, 2))), rtol=1e-13, atol=0)


def test_without_a_loss_it_is_the_last_output():
    """L is the sum of the last output, in float32, for any batch shape, time-major and compiled."""
    layer, params, xs, _ = small_problem(LSTM(UNITS), dtype=np.float32)
    expected = flowed(layer, params, xs, lambda ys: ys[:, -1].sum())
    assert_close(flowed(layer, params, xs), expected, atol=0)
    assert_close(flowed(layer, params, xs[None]), expected, rtol=1e-5, atol=0)  # float32 rounding
    swapped = flowed(LSTM(UNITS, time_major=True), params, xs.swapaxes(0, 1))
    assert_close(swapped, expected, rtol=1e-5, atol=0)
    assert expected.state.dtype == jnp.float32


def test_a_reversed_layer_flows_the_other_way():
    """The last step of a reversed layer is the first input."""
    layer, params, xs, _ = small_problem(LSTM(UNITS))
    forward = flowed(layer, params, xs[:, ::-1], lambda ys: weighted(ys[:, ::-1]))
    backward = flowed(LSTM(UNITS, reverse=True), params, xs, weighted)
    assert_close(backward, jax.tree.map(lambda leaf: leaf[::-1], forward), rtol=1e-12, atol=0)
    assert float(backward.state[0]) == pytest.approx(1, abs=1e-15)


@pytest.mark.slow
def test_in_layers_the_loss_is_that_of_the_whole():
    """The gradient reaches a lower layer through the upper ones, and each direction has its share."""
    lower, upper = Bidirectional(LSTM(UNITS), "mul"), LSTM(6)
    layer, params, xs, _ = small_problem(Stack((lower, upper)))
    (below, above) = flowed(layer, params, xs, weighted)
    (_, ys), (upper_params, lower_params) = lower.apply(params[0], xs), params[::-1]
    assert_close(above, flowed(upper, upper_params, ys, weighted), rtol=1e-12, atol=0)
    backward = LSTM(UNITS, reverse=True).apply(lower_params["backward"], xs)[1]
    upper_loss = lambda forward: weighted(upper.apply(upper_params, forward * backward)[1])
    assert_close(below["forward"], flowed(LSTM(UNITS), lower_params["forward"], xs, upper_loss), rtol=1e-12, atol=0)
    unmerged = flowed(Bidirectional(LSTM(UNITS), None), lower_params, xs)
    assert unmerged["backward"].loss[-1] > 0
    np.testing.assert_array_equal(unmerged["backward"].loss[:-1], 0)  # it runs from the end of the sequence, where L is read


def test_saturated_gates_give_a_power_of_the_forget_gate():
    """Without recurrent weights c decays by f a step, so the norms are f to the power T - t."""
    bias = np.repeat([100.0, 0.3, 0.0, 100.0], UNITS)
    params = {"kernel": np.ones((FEATURES, 4 * UNITS)) * np.repeat([1, 0, 1, 1], UNITS), "bias": bias}
    params["recurrent_kernel"] = np.zeros((UNITS, 4 * UNITS))
    _, _, xs, _ = small_problem(LSTM(UNITS), time=60)
    flow = flowed(LSTM(UNITS), params, xs)
    powers = textbook.sigmoid(np.array(0.3)) ** np.arange(60)[::-1]
    assert_close((flow.state, flow.forget), (powers, powers), rtol=1e-12, atol=0)


def test_a_linear_network_gives_powers_of_its_matrix():
    """∂h_T/∂h_t is U to the power T - t, and ∂L/∂h_t its row sums, for each of the sequences."""
    layer, params, xs, _ = small_problem(RNN(ElmanCell(UNITS, activation="linear")))
    flow = flowed(layer, params, xs)
    powers = np.array([np.linalg.matrix_power(params["recurrent_kernel"], k) for k in range(TIME)[::-1]])
    assert_close(flow.state, np.linalg.norm(powers, axis=(1, 2)) / np.sqrt(UNITS), rtol=1e-12, atol=0)
    assert_close(flow.loss, np.sqrt(BATCH) * np.linalg.norm(powers.sum(2), axis=1), rtol=1e-12, atol=0)


def test_small_gradients_are_not_lost():
    """In float32 norms go down to 1e-37, though their squares are zero."""
    layer = RNN(ElmanCell(UNITS, activation="linear"))
    params = {"kernel": np.zeros((FEATURES, UNITS)), "recurrent_kernel": 0.1 * np.eye(UNITS), "bias": np.zeros(UNITS)}
    flow = flowed(layer, params, np.ones((BATCH, 40, FEATURES), np.float32))
    assert_close(flow.state[4:], 0.1 ** np.arange(40.0)[::-1][4:], rtol=1e-5, atol=0)
    np.testing.assert_array_equal(flow.state[0], 0)


def test_gradients_are_compiled_once():
    """Other values of the same shapes run the same program."""
    layer, params, xs, _ = small_problem(LSTM(UNITS))
    compiled = jax.jit(partial(gradient_flow, layer))
    for scale in (1.0, 2.0):
        assert isinstance(compiled(params, xs * scale), Flow)
    assert compiled._cache_size() == 1
