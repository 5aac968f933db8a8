"""Bidirectional: two layers and a merge."""

import jax
import numpy as np
import pytest

from jlstm import LSTM, Bidirectional, Stack
from problems import FEATURES, UNITS, apply, assert_close, cotangent_of, differentiate, flags, small_problem, textbook_results

pytestmark = [pytest.mark.no_cover, pytest.mark.every_backend, pytest.mark.usefixtures("x64")]


@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave", None])
def test_merges_equal_the_textbook(merge):
    """Values and gradients of every merge, with padding, equal float64 NumPy."""
    problem = small_problem(Bidirectional(LSTM(UNITS), merge))
    cotangent, mask = cotangent_of(problem), flags(0.6)
    assert_close(
        differentiate(problem.layer, cotangent, *problem[1:], mask=mask), textbook_results(*problem, cotangent, mask), atol=1e-12
    )


@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave", None])
def test_features_out_is_what_comes_out(merge):
    """`features_out` is the size of the last axis, and a Stack builds the next layer for it."""
    layer = Bidirectional(LSTM(UNITS), merge)
    _, params, xs, carry = small_problem(layer)
    _, ys = layer.apply(params, xs, carry)
    assert {leaf.shape[-1] for leaf in jax.tree.leaves(ys)} == {layer.features_out}


def test_directions_are_separate_layers():
    """Each direction is the layer with its own parameters and carry. One of them runs backward."""
    layer, params, xs, carry = small_problem(Bidirectional(LSTM(UNITS), merge=None))
    last, ys = apply(layer, params, xs, carry)
    for name, reverse in (("forward", False), ("backward", True)):
        expected = apply(LSTM(UNITS, reverse=reverse), params[name], xs, carry[name])
        assert_close((last[name], ys[name]), expected, atol=1e-15)


def test_around_a_stack_and_around_a_backward_layer():
    """Any layer can be wrapped: a stack, and a layer that runs backward itself."""
    for inner in (Stack((LSTM(UNITS), LSTM(2))), LSTM(UNITS, reverse=True)):
        layer, params, xs, carry = small_problem(Bidirectional(inner, "sum"))
        _, forward = inner.apply(params["forward"], xs, carry["forward"])
        _, backward = inner.flipped().apply(params["backward"], xs, carry["backward"])
        assert_close(layer.apply(params, xs, carry)[1], forward + backward, atol=1e-15)


def test_init_draws_each_direction_anew():
    """The two directions start from different weights."""
    params = Bidirectional(LSTM(UNITS)).init(jax.random.key(0), FEATURES)
    assert params.keys() == {"forward", "backward"}
    assert np.all(params["forward"]["kernel"] != params["backward"]["kernel"])


def test_time_major_is_the_inner_layers():
    """Time-major inner layers make a time-major Bidirectional."""
    _, params, xs, carry = small_problem(Bidirectional(LSTM(UNITS)))
    _, ys = apply(Bidirectional(LSTM(UNITS)), params, xs, carry)
    layer = Bidirectional(LSTM(UNITS, time_major=True))
    assert layer.time_major
    assert_close(apply(layer, params, xs.swapaxes(0, 1), carry)[1], ys.swapaxes(0, 1), atol=1e-15)
