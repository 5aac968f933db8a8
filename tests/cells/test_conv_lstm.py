"""The convolutional LSTM against closed forms, its use in layers, and its refusals."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlstm import LSTM, RNN, Bidirectional, ConvLSTMCell, LSTMCell, Stack, cell_states, linen
from jlstm.cells.wrappers import Highway, Residual
from jlstm.introspect import gradient_flow, saturation, trace
from problems import BATCH, TIME, UNITS, apply, assert_close, small_problem

pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize("peephole", [False, True])
def test_with_a_window_of_one_every_place_has_an_lstm_of_its_own(peephole, x64):
    """All places share the kernels, and each has its own peephole weights."""
    layer, params, xs, carry = small_problem(RNN(ConvLSTMCell(UNITS, 1, (2, 5), peephole=peephole)))
    lstm = RNN(LSTMCell(UNITS, peephole=peephole))
    last, ys = apply(layer, params, xs, carry)
    for row, column in np.ndindex(2, 5):
        place_params = {name: np.squeeze(kernel) for name, kernel in params.items() if name != "peephole_kernel"}
        if peephole:
            place_params["peephole_kernel"] = params["peephole_kernel"][:, row, column]
        at_place = jax.tree.map(lambda leaf, row=row, column=column: leaf[:, row, column], (carry, last))
        expected = apply(lstm, place_params, xs[:, :, row, column], at_place[0])
        assert_close((at_place[1], ys[:, :, row, column]), expected, atol=1e-13)


def test_what_moves_moves_what_comes_out(x64):
    """A shift of the inputs shifts the outputs, away from the borders."""
    layer, params, xs, _ = small_problem(RNN(ConvLSTMCell(UNITS, 3, (12,), padding="same")), time=2)
    shifted = np.roll(xs, 1, axis=2)
    np.testing.assert_allclose(apply(layer, params, shifted)[1][:, :, 6], apply(layer, params, xs)[1][:, :, 5], atol=1e-14)


@pytest.mark.parametrize("time_major", [False, True])
def test_time_stands_before_the_spatial_axes(time_major, x64):
    """Inputs, outputs and states have time after the batch, or first if `time_major`."""
    cell = ConvLSTMCell(UNITS, (2, 3), (3, 4))
    layer, params, xs, _ = small_problem(RNN(cell))
    transpose = partial(jnp.moveaxis, source=1, destination=0) if time_major else lambda leaf: leaf
    carry, ys = apply(RNN(cell, time_major=time_major), params, transpose(xs), lengths=np.array([4, 2]))
    last, states = cell_states(RNN(cell, time_major=time_major), params, transpose(xs), lengths=np.array([4, 2]))
    assert_close(transpose(ys), apply(layer, params, xs, lengths=np.array([4, 2]))[1], atol=1e-14)
    assert_close(last, carry, atol=0)
    assert_close(states.h, ys, atol=1e-14)
    assert transpose(ys).shape == (BATCH, TIME, 2, 2, UNITS)
    np.testing.assert_array_equal(transpose(states.c)[1, 2:], 0)
    np.testing.assert_array_equal(transpose(states.c)[0, 3], carry.c[0])


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_traces_obey_the_equations(time_major, reverse, x64):
    """At every step that counts, c and h follow from the traced gates and the previous c."""
    layer = RNN(ConvLSTMCell(UNITS, (2, 3), (3, 4), peephole=True), reverse=reverse, time_major=time_major)
    problem = small_problem(replace(layer, time_major=False))
    move_time = partial(np.moveaxis, source=1, destination=0) if time_major else np.asarray
    traced = jax.jit(partial(trace, layer))(problem.params, move_time(problem.xs), problem.carry, lengths=np.array([TIME, 2]))
    traced = jax.tree.map(move_time, traced)
    assert_close(traced.h, apply(problem.layer, *problem[1:], lengths=np.array([TIME, 2]))[1], atol=1e-13)
    for b, length in enumerate((TIME, 2)):
        c = problem.carry.c[b]
        for t in reversed(range(length)) if reverse else range(length):
            c = traced.f[b, t] * c + traced.i[b, t] * traced.g[b, t]
            np.testing.assert_allclose(traced.c[b, t], c, atol=1e-13)
            np.testing.assert_allclose(traced.h[b, t], traced.o[b, t] * np.tanh(c), atol=1e-13)
        np.testing.assert_array_equal(traced.f[b, length:], 0)
    assert saturation(traced).below.f.shape == (UNITS,)


def test_equal_cells_are_equal():
    """Cells are equal however their sizes are written, and repr shows only options that are not defaults."""
    cells = [ConvLSTMCell(4, 3, (8, 6)), ConvLSTMCell(4, (3, 3), [8, np.int64(6)], strides=(1, 1), dilation=[1, 1])]
    assert len(set(cells)) == 1
    assert repr(cells[1]) == "ConvLSTMCell(filters=4, kernel_size=3, spatial=(8, 6))"
    assert ConvLSTMCell(4, 3, 8) == ConvLSTMCell(4, (3,), (8,))


def test_layers_tell_the_sizes_that_they_take_and_yield():
    """A Stack has the input size of its first layer and the output size of its last."""
    first = RNN(ConvLSTMCell(4, 2, (9, 7), strides=2))
    second = Bidirectional(RNN(ConvLSTMCell(3, (2, 3), (4, 3))))
    stack = Stack((first, second))
    assert (stack.spatial_in, stack.spatial_out, stack.features_out) == ((9, 7), (3, 1), 6)
    params = stack.init(jax.random.key(0), 2)
    carry, ys = apply(stack, params, jnp.ones((5, 9, 7, 2)))
    assert ys.shape == (5, 3, 1, 6)
    assert carry[0].h.shape == stack.initial_carry(params, ())[0].h.shape == (4, 3, 4)


RNN_2D = RNN(ConvLSTMCell(4, 3, (8, 6)))
PARAMS = RNN_2D.init(jax.random.key(0), 2)


def test_gradient_flow_is_for_units():
    """`gradient_flow` refuses a cell with spatial axes."""
    with pytest.raises(TypeError, match="gradient_flow needs layers without spatial axes"):
        gradient_flow(RNN_2D, PARAMS, np.ones((2, 5, 8, 6, 2), np.float32))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: RNN_2D.apply(PARAMS, np.ones((2, 5, 9, 6, 2), np.float32)),
            "xs must have the spatial sizes (8, 6) before its features, got (9, 6) in shape (2, 5, 9, 6, 2): resize xs, or "
            "make the cell with spatial=(9, 6)",
        ),
        (
            lambda: RNN_2D.apply(PARAMS, np.ones((5, 8, 2), np.float32)),
            "xs must have at least the axes (time, 8, 6, features), got shape (5, 8, 2)",
        ),
        (lambda: RNN_2D.step(PARAMS, None, np.ones((8, 2), np.float32)), "x must have at least the axes (8, 6, features)"),
        (lambda: RNN_2D.step(PARAMS, None, np.ones((6, 8, 2), np.float32)), "got (6, 8) in shape (6, 8, 2): resize x"),
        (
            lambda: linen.Outputs(RNN_2D).init(jax.random.key(0), np.ones((2, 5, 6, 8, 2), np.float32)),
            "xs must have the spatial sizes (8, 6)",
        ),
        (lambda: RNN_2D.apply(PARAMS, np.ones((5, 8, 6, 3), np.float32)), "params['kernel'] must have shape (3, 3, 3, 16)"),
        (
            lambda: RNN_2D.apply(PARAMS, np.ones((2, 5, 8, 6, 2), np.float32), mask=np.ones((2, 5, 8), bool)),
            "mask must have shape (2, 5)",
        ),
        (
            lambda: RNN_2D.apply(PARAMS, np.ones((5, 8, 6, 2), np.float32), dropout_masks={"recurrent": np.ones((4, 8, 6, 4))}),
            "dropout_masks['recurrent'] must have shape (4, 6, 4, 4) or (1, 6, 4, 4), got (4, 8, 6, 4)",
        ),
        (
            lambda: Stack((RNN_2D, RNN_2D)),
            "a layer must take what the one below it yields, spatial sizes (6, 4), but one takes (8, 6): make it for (6, 4)",
        ),
        (lambda: Stack((RNN_2D, LSTM(4))), "spatial sizes (6, 4), but one takes ()"),
        (
            lambda: RNN(Residual(RNN_2D.cell)).init(jax.random.key(0), 4),
            "Residual adds inputs to outputs: the cell must keep their spatial sizes (8, 6), but makes (6, 4) of them",
        ),
        (lambda: RNN(Highway(RNN_2D.cell)).init(jax.random.key(0), 4), "Highway adds inputs to outputs"),
        (lambda: ConvLSTMCell(4, 3, ()), "spatial must be 1, 2 or 3 sizes"),
        (lambda: ConvLSTMCell(4, 3, (2, 2, 2, 2)), "spatial must be 1, 2 or 3 sizes"),
        (lambda: ConvLSTMCell(4, 3, (2, 0)), "spatial must be a whole number of at least 1, got 0"),
        (lambda: ConvLSTMCell(0, 3, (8,)), "filters must be a whole number of at least 1, got 0"),
        (
            lambda: ConvLSTMCell(4, (3, 3), (8,)),
            "kernel_size must be one whole number or 1, one for each spatial axis, got (3, 3)",
        ),
        (lambda: ConvLSTMCell(4, 3, (8, 8), strides=(1, 0)), "strides must be a whole number of at least 1, got 0"),
        (lambda: ConvLSTMCell(4, 3, (8, 8), padding="full"), "padding must be one of 'valid', 'same', got 'full'"),
        (
            lambda: ConvLSTMCell(4, 3, (8, 4), dilation=2),
            "kernel_size 3 with dilation 2 must fit into the spatial sizes (8, 4): make it smaller, or padding='same'",
        ),
    ],
)
def test_refusals_are_one_sentence(call, words):
    """The sentence says what was expected, what came and what to do."""
    with pytest.raises(ValueError, match=re.escape(words)):
        call()


@pytest.mark.slow
def test_gradients_are_right_as_a_user_compiles_them():
    """With all of XLA's optimizations, in float64: that of JAX 0.10 mistakes loops that read parts of arrays of a high rank."""
    program = """
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
from jlstm import RNN, ConvLSTMCell
layer = RNN(ConvLSTMCell(5, (2, 3), (5, 4), padding="same"))
params = jax.tree.map(jnp.float64, layer.init(jax.random.key(0), features=3))
xs, weights = (jax.random.normal(jax.random.key(k), (4, 3, 5, 4, n)) for k, n in ((1, 3), (2, 5)))
gradient = jax.grad(lambda params, xs: jnp.vdot(layer.apply(params, xs)[1], weights), (0, 1))
compiled = jax.jit(gradient)(params, xs)
with jax.disable_jit():
    expected = gradient(params, xs)
jax.tree.map(lambda a, b: print(float(abs(a - b).max() / abs(b).max())), compiled, expected)
"""
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    errors = [float(line) for line in process.stdout.split()]
    assert len(errors) == 4
    assert max(errors) < 1e-13
