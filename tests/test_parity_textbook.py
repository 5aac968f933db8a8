"""The float64 textbook against closed forms and finite differences: it is the judge of everything else."""

import jax
import numpy as np
import pytest

from jlstm import LSTM, Bidirectional, Stack
from parity import Problem, textbook
from parity.case import draw, truth

PROBLEMS = {
    "lstm": Problem(LSTM(4)),
    "backward, holes": Problem(LSTM(4, reverse=True), mask="holes"),
    "last output, zero": Problem(LSTM(4), mask="right", outputs="last", zero_output=True),
    "last output": Problem(LSTM(4, reverse=True), mask="left", outputs="last"),
    "row without steps": Problem(Bidirectional(LSTM(4), "mul"), mask="row", outputs="last"),
    "in three pieces": Problem(LSTM(4, use_bias=False), batches=3),
    "dropout": Problem(Bidirectional(LSTM(4, dropout=0.3, recurrent_dropout=0.4), "ave"), mask="right"),
    "stack": Problem(Stack((Bidirectional(LSTM(4, dropout=0.3), "concat"), LSTM(2, reverse=True), Bidirectional(LSTM(5), None)))),
    **{name: Problem(LSTM(4, activation=name, recurrent_activation=name)) for name in textbook.ACTIVATIONS},
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_gradients_are_those_of_finite_differences(name):
    """The pullback written by hand equals central differences of the forward pass along random directions."""
    problem = PROBLEMS[name]
    values = draw(problem)
    rng = np.random.default_rng(1)
    inputs = (values.params, values.xs, values.carry)
    direction = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), inputs)

    def loss(step):
        params, xs, carry = jax.tree.map(lambda leaf, d: leaf + step * d, inputs, direction)
        return _loss(problem, values._replace(params=params, xs=xs, carry=carry))

    quantities = truth(problem, values)
    leaves = jax.tree_util.tree_flatten_with_path(dict(zip(("d_params", "d_xs", "d_carry"), direction, strict=True)))[0]
    slope = sum(np.vdot(quantities[jax.tree_util.keystr(path, simple=True, separator=".")], leaf) for path, leaf in leaves)
    step = 1e-5
    if problem.batches > 1:  # the carry between pieces has no gradient by definition: only the first piece is a plain function
        slope, loss = _first_piece(problem, values, direction)
    np.testing.assert_allclose((loss(step) - loss(-step)) / (2 * step), slope, rtol=1e-7, atol=1e-7)  # error of order step²


def _loss(problem, values):
    quantities = truth(problem, values)
    cotangents = {"ys": values.d_ys, "carry": values.d_carry}
    leaves = jax.tree_util.tree_flatten_with_path(cotangents)[0]
    return sum(np.vdot(quantities[jax.tree_util.keystr(path, simple=True, separator=".")], leaf) for path, leaf in leaves)


def _first_piece(problem, values, direction):
    """The same for a problem cut short after its first piece, whose `d_carry` is that of the whole."""
    xs, d_ys = (np.split(a, problem.batches, 1)[0] for a in (values.xs, values.d_ys))
    whole = truth(problem, values)
    nothing = jax.tree.map(np.zeros_like, values.d_carry)

    def loss(step):
        carry = jax.tree.map(lambda leaf, d: leaf + step * d, values.carry, direction[2])
        return np.vdot(textbook.run(problem.layer, values.params, xs, carry)[1], d_ys)

    d_carry = textbook.run(problem.layer, values.params, xs, values.carry)[2](nothing, d_ys)[2]
    np.testing.assert_array_equal(d_carry.h, whole["d_carry.h"])
    return sum(np.vdot(whole[f"d_carry.{field}"], getattr(direction[2], field)) for field in ("h", "c")), loss


def test_open_forget_gate_sums_the_inputs():
    """With every gate linear and held at 1 and a linear candidate, c is the sum of the inputs so far: a closed form."""
    layer = LSTM(1, activation="linear", recurrent_activation="linear")
    kernel = np.array([[0.0, 0.0, 1.0, 0.0]])
    params = {"kernel": kernel, "recurrent_kernel": np.zeros((1, 4)), "bias": np.array([1.0, 1.0, 0.0, 1.0])}
    xs = np.arange(1.0, 6.0).reshape(1, 5, 1)
    carry, ys, _ = textbook.run(layer, params, xs)
    np.testing.assert_array_equal(ys[0, :, 0], [1, 3, 6, 10, 15])
    np.testing.assert_array_equal(carry.c, [[15]])


def test_saturated_gates_stay_finite():
    """Pre-activations of ±1000 give gates of exactly 0 and 1, without overflow."""
    np.testing.assert_array_equal(textbook.sigmoid(np.array([-1000.0, 0.0, 1000.0])), [0, 0.5, 1])


def test_unknown_layers_are_refused():
    """The textbook says which layers it knows."""
    with pytest.raises(TypeError, match="the textbook knows LSTM, Bidirectional and Stack"):
        textbook.run(object(), {}, np.ones((1, 1, 1)))
