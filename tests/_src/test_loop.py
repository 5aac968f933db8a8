"""The loop over time: outputs, last carry and all gradients equal the textbook's for all options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlstm
from jlstm import LSTM, Bidirectional, Stack
from problems import TIME, UNITS, apply, assert_close, cotangent_of, differentiate, flags, small_problem, textbook_results

pytestmark = [pytest.mark.every_backend, pytest.mark.no_cover, pytest.mark.usefixtures("x64")]

STEPS = np.arange(TIME)
MASKS = {
    "right": np.array([[3], [5]]) > STEPS,
    "left": np.array([[2], [0]]) <= STEPS,
    "holes": flags(0.6),
    "a row of padding": np.array([[0], [4]]) > STEPS,
    "nothing": np.zeros((2, TIME), bool),
}
CASES = {
    "plain": (LSTM(UNITS), {}),
    "resets": (LSTM(UNITS), {"resets": flags(0.4)}),
    "resets backwards": (LSTM(UNITS, reverse=True), {"resets": flags(0.4)}),
    **{f"mask: {name}": (LSTM(UNITS), {"mask": mask}) for name, mask in MASKS.items()},
    **{f"mask backwards: {name}": (LSTM(UNITS, reverse=True), {"mask": mask}) for name, mask in MASKS.items()},
    "resets in padding": (LSTM(UNITS), {"mask": flags(0.5), "resets": flags(0.5, seed=3)}),
    "unrolled by 2": (LSTM(UNITS, unroll=2), {"mask": flags(0.6)}),
    "unrolled": (LSTM(UNITS, unroll=True), {"resets": flags(0.4)}),
    "remat": (LSTM(UNITS, remat=True), {}),
    "remat by 3 of 5": (LSTM(UNITS, remat=3), {"resets": flags(0.4)}),
    "remat by 2 backwards": (LSTM(UNITS, remat=2, reverse=True), {"mask": MASKS["holes"], "resets": flags(0.4)}),
    "remat, unrolled": (LSTM(UNITS, remat=2, unroll=True), {"mask": MASKS["left"]}),
    "remat by more than there is": (LSTM(UNITS, remat=99), {}),
    "backend": (LSTM(UNITS, backend="scan"), {"mask": MASKS["right"], "resets": flags(0.4)}),
    "no bias": (LSTM(UNITS, use_bias=False), {}),
    "bidirectional": (Bidirectional(LSTM(UNITS)), {"mask": MASKS["holes"], "resets": flags(0.4)}),
    "stack": (Stack((LSTM(UNITS), LSTM(6, reverse=True))), {"mask": MASKS["left"], "resets": flags(0.4)}),
}


@pytest.mark.table(quick=9)
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_equal_the_textbook(name):
    """Outputs, last carry and the gradients for weights, inputs and carry equal float64 NumPy, gate by gate."""
    layer, sequence = CASES[name]
    problem = small_problem(layer)
    cotangent = cotangent_of(problem)
    # float64 rounding over five steps
    assert_close(
        differentiate(layer, cotangent, *problem[1:], **sequence), textbook_results(*problem, cotangent, **sequence), atol=1e-12
    )


def test_no_carry_means_zeros():
    """A sequence without a carry starts from zeros, and so says `initial_carry`."""
    layer, params, xs, carry = small_problem(LSTM(UNITS))
    zeros = jax.tree.map(np.zeros_like, carry)
    assert_close(layer.initial_carry(params, (2,)), zeros, atol=0)
    assert_close(apply(layer, params, xs), apply(layer, params, xs, zeros), atol=0)


@pytest.mark.parametrize("layer", [LSTM(UNITS), LSTM(UNITS, reverse=True), LSTM(UNITS, remat=2)], ids=repr)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_lengths_are_a_mask(layer, dtype):
    """Lengths of any integer dtype mean the mask whose first steps count, zero and all steps included."""
    layer, params, xs, carry = small_problem(layer, batch=3)
    lengths = np.array([0, TIME, 2], dtype)
    mask = np.arange(TIME) < lengths[:, None]
    assert_close(apply(layer, params, xs, carry, lengths=lengths), apply(layer, params, xs, carry, mask=mask), atol=0)


def test_small_integers_count_long_sequences():
    """Lengths in int8 are right for more steps than int8 can count."""
    layer, params, xs, carry = small_problem(LSTM(UNITS), time=200)
    lengths = np.array([3, 100], np.int8)
    _, ys = apply(layer, params, xs, carry, lengths=lengths)
    np.testing.assert_array_equal(np.any(ys != 0, axis=-1), np.arange(200) < lengths[:, None].astype(int))


def test_traced_lengths_are_clipped():
    """Lengths known only at run time are clipped to the number of steps."""
    layer, params, xs, carry = small_problem(LSTM(UNITS))
    got = apply(layer, params, xs, carry, lengths=np.array([-3, 99]))
    assert_close(got, apply(layer, params, xs, carry, lengths=np.array([0, TIME])), atol=0)


def test_zero_lengths_return_the_given_carry():
    """Where nothing counts, the carry comes back bit by bit and the outputs are zero."""
    layer, params, xs, carry = small_problem(LSTM(UNITS))
    assert_close(apply(layer, params, xs, carry, lengths=np.zeros(2, int)), (carry, np.zeros((2, TIME, UNITS))), atol=0)


@pytest.mark.table(quick=7)
@pytest.mark.parametrize("options", [{}, {"remat": True}, {"remat": 3}, {"unroll": True}, {"reverse": True}], ids=repr)
@pytest.mark.parametrize(("batch", "time"), [(2, 0), (0, 5), (0, 0)])
def test_empty_axes(options, batch, time):
    """Without time steps or sequences the carry comes back, and weight gradients are zero."""
    problem = small_problem(LSTM(UNITS, **options), batch=batch, time=time)
    (carry, ys), (for_params, *_) = differentiate(problem.layer, cotangent_of(problem), *problem[1:])
    assert_close((carry, ys), (problem.carry, np.zeros((batch, time, UNITS))), atol=0)
    assert_close(for_params, jax.tree.map(np.zeros_like, problem.params), atol=0)


def test_time_major_swaps_axes():
    """With time_major inputs, outputs, mask and resets have time first, and nothing else changes."""
    layer, params, xs, carry = small_problem(LSTM(UNITS))
    sequence = {"mask": flags(0.6), "resets": flags(0.4)}
    last, ys = apply(layer, params, xs, carry, **sequence)
    swapped = {name: value.T for name, value in sequence.items()}
    got = apply(LSTM(UNITS, time_major=True), params, xs.swapaxes(0, 1), carry, **swapped)
    assert_close(got, (last, ys.swapaxes(0, 1)), atol=0)


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("batch_shape", [(), (6,), (2, 3), (3, 1, 2)])
def test_any_number_of_batch_axes(batch_shape, time_major):
    """Inputs, carry, lengths and resets may have any number of leading batch axes."""
    layer, params, xs, carry = small_problem(LSTM(UNITS, time_major=time_major), batch=int(np.prod(batch_shape)))
    lengths, resets = np.arange(len(xs)) % (TIME + 1), flags(0.4, batch=len(xs))
    expected, ys = apply(LSTM(UNITS), params, xs, carry, lengths=lengths, resets=resets)
    shaped = lambda leaf: jnp.reshape(leaf, batch_shape + leaf.shape[1:])
    move = (lambda leaf: jnp.moveaxis(leaf, len(batch_shape), 0)) if time_major else (lambda leaf: leaf)
    got = apply(
        layer, params, move(shaped(xs)), jax.tree.map(shaped, carry), lengths=shaped(lengths), resets=move(shaped(resets))
    )
    assert_close(got, (jax.tree.map(shaped, expected), move(shaped(ys))), atol=1e-15)  # products may be ordered otherwise


def test_cell_states_are_the_carries_of_all_prefixes():
    """`cell_states` gives h and c after every step: the last carries of all prefixes; zero where a step does not count."""
    layer, params, xs, carry = small_problem(LSTM(UNITS))
    prefixes = [apply(layer, params, xs[:, : t + 1], carry)[0] for t in range(TIME)]
    last, states = jlstm.cell_states(layer, params, xs, carry, lengths=np.array([TIME, 3]))
    expected = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *prefixes)
    counts = np.arange(TIME) < np.array([[TIME], [3]])
    assert_close(states, jax.tree.map(lambda leaf: leaf * counts[..., None], expected), atol=1e-15)
    assert_close(last, apply(layer, params, xs, carry, lengths=np.array([TIME, 3]))[0], atol=1e-15)


def test_cell_states_keep_the_axes_of_the_inputs():
    """With time_major, and in pieces for remat, the states' time axis is where the inputs have it."""
    problem = small_problem(LSTM(UNITS))
    _, expected = jlstm.cell_states(*problem)
    swapped = jlstm.cell_states(LSTM(UNITS, time_major=True, remat=2), problem.params, problem.xs.swapaxes(0, 1), problem.carry)[
        1
    ]
    assert_close(swapped, jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), expected), atol=1e-15)


def test_a_change_of_any_input_changes_what_follows():
    """No step, feature or weight is ignored: every gradient of the plain layer is nonzero."""
    problem = small_problem(LSTM(UNITS))
    _, gradients = differentiate(problem.layer, cotangent_of(problem), *problem[1:])
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(gradients))
