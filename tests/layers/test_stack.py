"""Stack: layers on top of each other."""

import jax
import numpy as np
import pytest

import jlstm
from jlstm import LSTM, Bidirectional, Stack
from problems import (
    FEATURES,
    TIME,
    UNITS,
    apply,
    assert_close,
    cotangent_of,
    differentiate,
    flags,
    small_problem,
    textbook_results,
)

pytestmark = [pytest.mark.every_backend, pytest.mark.no_cover, pytest.mark.usefixtures("x64")]

STACKS = {
    "one": Stack((LSTM(UNITS),)),
    "two": Stack((LSTM(UNITS), LSTM(6, use_bias=False))),
    "both ways": Stack((Bidirectional(LSTM(UNITS)), LSTM(2, reverse=True), Bidirectional(LSTM(6), None))),
    "stacks of stacks": Stack((Stack((LSTM(UNITS), LSTM(2))), LSTM(6))),
}


@pytest.mark.parametrize("name", ["two", "both ways", "stacks of stacks"])
def test_stacks_equal_the_textbook(name):
    """Values and gradients through several layers, with padding, equal float64 NumPy."""
    problem = small_problem(STACKS[name])
    cotangent, mask = cotangent_of(problem), flags(0.6)
    assert_close(
        differentiate(problem.layer, cotangent, *problem[1:], mask=mask), textbook_results(*problem, cotangent, mask), atol=1e-12
    )


def test_a_stack_is_its_layers_in_turn():
    """Each layer gets the outputs of the one below, its own parameters and carry, and the same mask and resets."""
    layer, params, xs, carry = small_problem(STACKS["two"])
    sequence = {"mask": flags(0.6), "resets": flags(0.4)}
    below, ys = apply(layer.layers[0], params[0], xs, carry[0], **sequence)
    above, ys = apply(layer.layers[1], params[1], ys, carry[1], **sequence)
    assert_close(apply(layer, params, xs, carry, **sequence), ((below, above), ys), atol=1e-15)


def test_a_stack_of_one_is_the_layer():
    """A Stack of one layer gives that layer's results, with parameters and carry in a tuple."""
    layer, params, xs, carry = small_problem(STACKS["one"])
    last, ys = apply(layer.layers[0], params[0], xs, carry[0])
    assert_close(apply(layer, params, xs, carry), ((last,), ys), atol=1e-15)


def test_parameters_fit_from_layer_to_layer():
    """`init` gives each layer the features of the one below, doubled by a concatenation."""
    params = jax.eval_shape(lambda: STACKS["both ways"].init(jax.random.key(0), FEATURES))
    assert params[0]["forward"]["kernel"].shape == (FEATURES, 16)
    assert params[1]["kernel"].shape == (8, 8)
    assert params[2]["backward"]["kernel"].shape == (2, 24)
    assert STACKS["both ways"].features_out == 6
    same = jax.jit(Stack((LSTM(UNITS), LSTM(UNITS))).init, static_argnums=1)(jax.random.key(0), UNITS)
    assert np.all(same[0]["kernel"] != same[1]["kernel"])


def test_states_of_all_layers():
    """`cell_states` gives the carries of every layer, in the stack's structure."""
    layer, params, xs, _ = small_problem(STACKS["both ways"])
    last, states = jlstm.cell_states(layer, params, xs)
    assert jax.tree.structure(states) == jax.tree.structure(last)
    np.testing.assert_array_equal(states[1].h[:, 0], last[1].h)  # this layer runs backward
    np.testing.assert_array_equal(states[2]["forward"].c[:, TIME - 1], last[2]["forward"].c)
