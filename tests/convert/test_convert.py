"""Behavior that all converters share. It needs no other framework."""

import jax.numpy as jnp
import numpy as np
import pytest

from conversions import refusal
from jlstm import LSTM, RNN, MinLSTMCell, Stack, convert
from jlstm.convert import layout, torch
from jlstm.convert.arrays import FLOATS, floating
from problems import UNITS, small_problem

CONVERTERS = [getattr(convert, name) for name in convert.__all__ if name not in ("FileLayers", "OtherLayer")]
NO_WEIGHTS = [
    *(None, 3, "x", {}, [], [[], []], [np.ones(3)] * 3, {1: np.ones((3, 3))}, {"a": {"b": 1}}),
    *({"params": 3}, {"cell": 3}, {"forward_rnn": 3, "backward_rnn": 3}, {"gates/kernel": 1}, {"w": 3}, {"R": 1, "W": 2}),
    *({"weight_hh_l0": np.ones((16, 4))}, {"weight_hh_l0": [[1, 2], [3]]}, {"w_h": np.ones((2, 6)), "w_i": 1, "b": 1}),
    *([{"R": np.ones((1, 8, 2))}], {"R": np.ones((1, 8, 2)), "W": np.ones((1, 8, 2)), "direction": ["a"]}),
]


@pytest.mark.parametrize("converter", CONVERTERS, ids=lambda module: module.__name__)
@pytest.mark.parametrize("weights", NO_WEIGHTS, ids=lambda value: repr(value)[:40])
def test_what_is_no_weights_is_one_sentence(converter, weights):
    """None, other objects and incomplete weights are refused in one sentence."""
    refusal(lambda: converter.load(weights))


@pytest.mark.parametrize("converter", CONVERTERS, ids=lambda module: module.__name__)
def test_what_is_no_parameters_or_another_cell_is_one_sentence(converter):
    """Every converter refuses parameters of another layer, and cells that only jlstm has."""
    for params in (None, {}, 3, {"kernel": 3}, ()):
        refusal(lambda params=params: converter.dump(LSTM(UNITS), params))
    refusal(lambda: converter.dump(Stack((LSTM(UNITS),)), ()))
    minimal = RNN(MinLSTMCell(UNITS))
    assert "has no MinLSTMCell" in refusal(lambda: converter.dump(minimal, small_problem(minimal).params))


@pytest.mark.parametrize("dtype", FLOATS)
def test_dtypes_and_byte_orders(dtype, x64):
    """The dtype stays, and a foreign byte order is converted."""
    array = np.arange(6).astype(np.float32).reshape(2, 3)
    params = {"kernel": array[:, :1].repeat(4, 1), "recurrent_kernel": array[:1, :1].repeat(4, 1), "bias": np.ones(4, "f4")}
    weights = torch.dump(LSTM(1), params)
    layer, params = torch.load({name: value.astype(jnp.dtype(dtype)) for name, value in weights.items()})
    assert params["kernel"].dtype.name == dtype == layer.param_dtype.name
    converted = floating("weights", {"a": array.astype(">f4")})["a"]
    assert converted.dtype.isnative
    np.testing.assert_array_equal(converted, array)


def test_gates_are_put_in_order_and_back():
    """Every reordering of gates is undone by its inverse. A missing gate becomes zeros."""
    columns = np.arange(8.0)
    for order in ("ifgo", "igfo", "iofg"):
        np.testing.assert_array_equal(layout.order(layout.order(columns, "ifgo", order), order, "ifgo"), columns)
    np.testing.assert_array_equal(layout.order(columns[:6], "igo", "ifgo"), [0, 1, 0, 0, 2, 3, 4, 5])
