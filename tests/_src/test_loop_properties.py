"""Laws that every layer obeys on any input and with any weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jlstm import LSTM, Bidirectional, Stack
from problems import BATCH, TIME, UNITS, apply, assert_close, cotangent_of, differentiate, flags, small_problem, textbook_results

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("x64")]

LAYERS = {
    "plain": LSTM(UNITS),
    "backwards": LSTM(UNITS, reverse=True),
    "remat": LSTM(UNITS, remat=2),
    "bidirectional": Bidirectional(LSTM(UNITS)),
    "stack": Stack((LSTM(UNITS), LSTM(6))),
}
STEPS = arrays(bool, (BATCH, TIME))


@settings(max_examples=50)
@given(mask=STEPS, resets=STEPS, seed=st.integers(0, 99), name=st.sampled_from(["plain", "backwards", "remat", "bidirectional"]))
def test_any_mask_and_resets_equal_the_textbook(mask, resets, seed, name):
    """Values and gradients for whatever pattern of padding and resets are those of the textbook."""
    problem = small_problem(LAYERS[name], seed=seed)
    cotangent = cotangent_of(problem)
    got = differentiate(problem.layer, cotangent, *problem[1:], mask=mask, resets=resets)
    assert_close(got, textbook_results(*problem, cotangent, mask, resets), atol=1e-12)  # float64 rounding over five steps


@settings(max_examples=8)
@given(
    batch=st.integers(1, 3), time=st.integers(1, 7), features=st.integers(1, 4), units=st.integers(1, 4), size=st.integers(1, 8)
)
def test_any_sizes_equal_the_textbook(batch, time, features, units, size):
    """Values and gradients equal the textbook's for any batch, time, features, units and chunk size."""
    problem = small_problem(LSTM(units, remat=size), batch=batch, time=time, features=features)
    cotangent = cotangent_of(problem)
    assert_close(differentiate(problem.layer, cotangent, *problem[1:]), textbook_results(*problem, cotangent), atol=1e-12)


@given(order=st.permutations(range(3)), name=st.sampled_from(sorted(LAYERS)))
def test_a_permuted_batch_permutes_results(order, name):
    """Sequences of a batch do not influence each other."""
    layer, params, xs, carry = small_problem(LAYERS[name], batch=3)
    mask, order = flags(0.6, batch=3), np.array(order)
    permute = lambda tree: jax.tree.map(lambda leaf: leaf[order], tree)
    expected = permute(apply(layer, params, xs, carry, mask=mask))
    assert_close(apply(layer, params, xs[order], permute(carry), mask=mask[order]), expected, atol=1e-15)


@given(t=st.integers(0, TIME), name=st.sampled_from(["plain", "remat", "stack"]))
def test_a_sequence_split_anywhere_equals_the_whole(t, name):
    """A carry handed on from the first part to the second leaves no trace of the cut."""
    layer, params, xs, carry = small_problem(LAYERS[name])
    resets = flags(0.4)
    whole = apply(layer, params, xs, carry, resets=resets)
    middle, first = apply(layer, params, xs[:, :t], carry, resets=resets[:, :t])
    last, second = apply(layer, params, xs[:, t:], middle, resets=resets[:, t:])
    assert_close((last, jnp.concatenate([first, second], axis=1)), whole, atol=1e-15)


@pytest.mark.parametrize("name", ["plain", "remat", "bidirectional", "stack"])
def test_reverse_is_flip_run_flip(name):
    """A layer turned round is the layer on flipped inputs, outputs flipped back."""
    layer, params, xs, carry = small_problem(LAYERS[name])
    mask, resets = flags(0.6), flags(0.4)
    last, ys = apply(layer, params, xs[:, ::-1], carry, mask=mask[:, ::-1], resets=resets[:, ::-1])
    got = apply(layer.flipped(), params, xs, carry, mask=mask, resets=resets)
    assert_close(got, (last, ys[:, ::-1]), atol=1e-15)
    assert layer.flipped().flipped() == layer


@pytest.mark.parametrize("name", ["plain", "stack"])
def test_step_by_step_equals_apply(name):
    """Streaming with `step` gives the outputs and the last carry of the whole sequence."""
    layer, params, xs, carry = small_problem(LAYERS[name])
    expected, step, ys = apply(layer, params, xs, carry), jax.jit(layer.step), []
    for t in range(TIME):
        carry, y = step(params, carry, xs[:, t])
        ys.append(y)
    assert_close((carry, np.stack(ys, axis=1)), expected, atol=1e-15)


def test_step_starts_from_the_layers_own_carry():
    """Without a carry `step` starts as `apply` does, and takes inputs of any batch shape."""
    layer, params, xs, _ = small_problem(LAYERS["stack"])
    last, ys = layer.apply(params, xs[:, :1])
    assert_close(layer.step(params, None, xs[:, 0]), (last, ys[:, 0]), atol=1e-15)
    assert_close(layer.step(params, None, xs[0, 0])[1], ys[0, 0], atol=1e-15)


@pytest.mark.table(quick=4)
@pytest.mark.parametrize(
    "options",
    [
        {"unroll": 2},
        {"unroll": True},
        {"remat": True},
        {"remat": 2},
        {"backend": "scan"},
        {"backend": "fused"},
        {"backend": "cpu"},
    ],
    ids=repr,
)
def test_how_it_is_run_changes_nothing(options):
    """Unrolling, remat and backends change speed and memory, not values and gradients."""
    problem = small_problem(LSTM(UNITS))
    cotangent, mask = cotangent_of(problem), flags(0.6)
    expected = differentiate(problem.layer, cotangent, *problem[1:], mask=mask)
    got = differentiate(LSTM(UNITS, **options), cotangent, *problem[1:], mask=mask)
    assert_close(got, expected, atol=1e-14)  # sums over time may be ordered otherwise


def test_swapped_gates_would_be_seen():
    """These tests can tell gates apart: exchanging any two of them changes the result."""
    layer, params, xs, carry = small_problem(LAYERS["plain"])
    _, ys = apply(layer, params, xs, carry)
    for a, b in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        order = np.arange(4)
        order[[a, b]] = b, a
        columns = np.arange(4 * UNITS).reshape(4, UNITS)[order].ravel()
        swapped = {name: value[..., columns] for name, value in params.items()}
        assert np.abs(apply(layer, swapped, xs, carry)[1] - ys).max() > 0.01
