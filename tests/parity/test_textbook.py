"""The float64 textbook, which judges everything else, against closed forms and finite differences."""

from dataclasses import fields, replace

import jax
import numpy as np
import pytest

import variants
from family import CELLS
from jlstm import GRU, LSTM, RNN, Bidirectional, ConvLSTMCell, ElmanCell, GRUCell, LSTMCell, MinGRUCell, Stack
from jlstm.cells import Dropout, Residual
from parity import Problem, ours, textbook
from parity.quantities import truth
from parity.textbook import conv_lstm
from parity.values import draw

SUPPORTED = {name: cell for name, cell in CELLS.items() if textbook.knows(RNN(cell))}
PROBLEMS = {
    "lstm": Problem(LSTM(4)),
    "backward, holes": Problem(LSTM(4, reverse=True), mask="holes"),
    "last output, zero": Problem(LSTM(4), mask="right", outputs="last", zero_output=True),
    "last output": Problem(LSTM(4, reverse=True), mask="left", outputs="last"),
    "row without steps": Problem(Bidirectional(LSTM(4), "mul"), mask="row", outputs="last"),
    "in three pieces": Problem(LSTM(4, use_bias=False), batches=3),
    "dropout": Problem(Bidirectional(LSTM(4, dropout=0.3, recurrent_dropout=0.4), "ave"), mask="right"),
    "stack": Problem(Stack((Bidirectional(LSTM(4, dropout=0.3), "concat"), LSTM(2, reverse=True), Bidirectional(LSTM(5), None)))),
    "dropout of g": Problem(LSTM(4, dropout=0.3, recurrent_dropout=0.4, recurrent_dropout_on="g"), mask="holes"),
    "gru stack": Problem(Stack((Bidirectional(GRU(4)), GRU(2, reset_after=False, reverse=True))), mask="holes"),
    "gru with dropout": Problem(GRU(4, dropout=0.3, recurrent_dropout=0.4, reset_after=False), outputs="last", mask="right"),
    "conv stack": Problem(Stack((RNN(ConvLSTMCell(4, 2, (5,))), RNN(ConvLSTMCell(2, 3, (4,), strides=3), reverse=True)))),
    "conv with holes": Problem(RNN(ConvLSTMCell(2, 2, (3, 4), padding="same")), mask="holes", outputs="last"),
    "residual": Problem(RNN(Residual(LSTMCell(3, projection=3)), reverse=True), mask="holes"),
    "dropout around": Problem(RNN(Residual(Dropout(LSTMCell(3), variational=True))), batches=3),
    "dropout around, drawn": Problem(
        RNN(Dropout(LSTMCell(4), inputs=0.3, outputs=0.4, state=0.5, variational=True)), mask="right"
    ),
    **{f"cell {name}": Problem(RNN(cell)) for name, cell in SUPPORTED.items()},
    **{name: Problem(LSTM(4, activation=name, recurrent_activation=name)) for name in textbook.ACTIVATIONS},
}


@pytest.mark.table(quick=24)
@pytest.mark.parametrize("name", PROBLEMS)
def test_gradients_are_those_of_finite_differences(name):
    """The hand-written pullback equals central differences along random directions."""
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
    """Return the same for the problem's first piece alone, with the `d_carry` of the whole."""
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
    """With linear gates held at 1 and a linear candidate, c is the sum of the inputs so far."""
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
    """The textbook says which layers it knows, and never ignores an option."""
    for layer in (object(), LSTM(4, layer_norm="ba2016"), RNN(MinGRUCell(4)), RNN(Dropout(LSTMCell(4), outputs=0.5))):
        with pytest.raises(TypeError, match="the textbook knows LSTM, GRU, ElmanCell and ConvLSTM"):
            textbook.run(layer, {}, np.ones((1, 1, 1)))
        assert not textbook.knows(layer)
    assert not textbook.knows(LSTM(4, activation=np.tanh))
    values = draw(Problem(LSTM(1)))
    with pytest.raises(ValueError, match="does not know the activation 'selu'"):
        truth(Problem(LSTM(1, activation="selu")), values)


def test_all_cells_that_can_be_compared_are_known():
    """Unknown are only layer normalization, wrappers and the families that no peer has."""
    assert {name for name in CELLS if isinstance(CELLS[name], GRUCell | ConvLSTMCell | ElmanCell)} <= SUPPORTED.keys()
    assert {name for name, cell in CELLS.items() if isinstance(cell, LSTMCell) and not cell.layer_norm} <= SUPPORTED.keys()
    assert len(SUPPORTED) >= 17


@pytest.mark.parametrize("name", [name for name, cell in SUPPORTED.items() if isinstance(cell, LSTMCell)])
def test_variants_are_those_written_from_the_papers(name):
    """Every variant equals a second loop, written independently, to the last bits."""
    cell, values = SUPPORTED[name], draw(PROBLEMS[f"cell {name}"])
    options = {field.name: getattr(cell, field.name) for field in fields(cell)}
    h, c, ys = variants.run(options, values.params, values.xs, *values.carry, values.dropout_masks or {})
    carry, got, _ = textbook.run(RNN(cell), values.params, values.xs, values.carry, dropout_masks=values.dropout_masks)
    for ours_, expected in zip((*carry, got), (h, c, ys), strict=True):
        np.testing.assert_allclose(ours_, expected, rtol=0, atol=1e-14)


@pytest.mark.table(quick=4)
@pytest.mark.parametrize("name", [*(f"cell {name}" for name in SUPPORTED), "residual", "dropout around", "dropout around, drawn"])
def test_all_gradients_of_the_family_are_those_of_the_textbook(name):
    """JAX's gradients with padding equal the hand-written ones, for all cells."""
    problem = replace(PROBLEMS[name], dtype="float64", mask="holes")
    values = draw(problem)
    expected, got = truth(problem, values), ours.run(problem, values)
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=0, atol=1e-12 * np.abs(value).max(), err_msg=key)


def test_convolution_is_a_sum_over_the_window():
    """In one dimension y_j = Σ_w x_{2 j + 3 w} k_w, with and without zero padding."""
    x, kernel = np.arange(1.0, 10.0).reshape(1, 9, 1), np.array([1.0, 10.0, 100.0]).reshape(3, 1, 1)
    valid, _ = conv_lstm.convolve(x, kernel, (2,), (3,), "valid")
    np.testing.assert_array_equal(valid[0, :, 0], [1 + 40 + 700, 3 + 60 + 900])
    same, _ = conv_lstm.convolve(x, kernel, (2,), (3,), "same")  # with three zeros before and behind
    np.testing.assert_array_equal(same[0, :, 0], [10 + 400, 30 + 600, 2 + 50 + 800, 4 + 70, 6 + 90])
