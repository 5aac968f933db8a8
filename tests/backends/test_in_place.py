"""Few rows by the native kernel, which reads the weights in place: single steps, and short windows."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlstm import GRU, LSTM, Stack, backends
from problems import (
    FEATURES,
    UNITS,
    apply,
    assert_close,
    cotangent_of,
    differentiate,
    flags,
    small_problem,
    textbook_results,
)

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("native")]

LAYERS = {  # coupled gates have three columns for each unit, as the GRU's do
    "LSTM": LSTM,
    "GRU": GRU,
    "peephole": partial(LSTM, peephole=True, cell_clip=0.5, use_bias=False),
    "i=1-f": partial(LSTM, peephole=True, coupled="i=1-f", activation="relu"),
    "f=1-i": partial(LSTM, coupled="f=1-i", gate_clip=0.7, recurrent_activation="hard_sigmoid_0.2"),
}


def kernel_calls(function, *args):
    """Return the names of the kernel's functions that the compiled program calls."""
    return re.findall(r'custom_call_target="jlstm_(\w+)"', jax.jit(function).lower(*args).compile().as_text())


SIZES = {  # batch, time, features, units: the last block of units, and the last vector of columns, are filled in part or whole
    "a step": (1, 1, 11, 21),
    "a step of three sequences": (3, 1, 5, 16),
    "a window of two sequences": (2, 2, 9, 35),
}


@pytest.mark.table(quick=5)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("kind", LAYERS)
def test_few_rows_equal_the_textbook(kind, name, dtype):
    """Values and gradients are those of the textbook, backward with a mask and resets if there are several steps."""
    batch, time, features, units = SIZES[name]
    layer = LAYERS[kind](units, reverse=time > 1, backend="cpu")
    problem = small_problem(layer, batch=batch, time=time, features=features)
    _, params, xs, carry = problem
    params = jax.tree.map(lambda leaf: leaf / np.sqrt(units), params)  # without this, long sums magnify small differences
    cotangent = cotangent_of(problem)
    sequence = {"mask": flags(0.7, batch=batch, time=time), "resets": flags(0.3, batch=batch, time=time)} if time > 1 else {}
    expected, gradients = textbook_results(layer, params, xs, carry, cotangent, **sequence)
    cast = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
    arguments = cast((params, xs, carry))
    tolerance = 200 * np.finfo(dtype).eps  # sums over up to 57 rows of weights
    assert_close(apply(layer, *arguments, **sequence), expected, atol=tolerance)
    assert_close(differentiate(layer, cast(cotangent), *arguments, **sequence), (expected, gradients), atol=10 * tolerance)


@pytest.mark.table(quick=2)
@pytest.mark.parametrize("kind", LAYERS)
def test_bits_are_those_of_packed_weights(kind):
    """A sequence has the same bits alone, with weights in place, and among many, with packed weights."""
    layer, params, xs, carry = small_problem(LAYERS[kind](37, backend="cpu"), batch=40, time=2, features=13, dtype=np.float32)
    few, first = slice(3, 5), lambda tree: jax.tree.map(lambda leaf: leaf[3:5], tree)
    assert kernel_calls(layer.apply, params, xs, carry) == ["forward"]
    assert kernel_calls(layer.apply, params, xs[few], first(carry)) == ["in_place"]
    assert_close(apply(layer, params, xs[few], first(carry)), first(apply(layer, params, xs, carry)), atol=0)


@pytest.mark.newest_jax
@pytest.mark.parametrize("backend", ["auto", "cpu"])
def test_a_step_calls_the_kernel(backend):
    """Each layer of a stack makes its step by the kernel, with the results of `scan`."""
    stack = lambda backend: Stack((LSTM(UNITS, backend=backend), GRU(UNITS, backend=backend)))
    layer, params, xs, carry = small_problem(stack(backend), batch=1, dtype=np.float32)
    arguments = params, carry, xs[:, 0]
    with backends.auto():  # as users have it
        assert kernel_calls(layer.step, *arguments) == ["in_place", "in_place"]
        assert_close(jax.jit(layer.step)(*arguments), stack("scan").step(*arguments), atol=1e-6)


def test_other_steps_are_left_to_xla():
    """Steps of many sequences, in 16 bits, and by a backend of another name do not call the kernel."""
    with backends.auto():
        for options, batch, dtype in (({}, 3, "float32"), ({}, 1, "bfloat16"), ({"backend": "fused"}, 1, "float32")):
            layer = LSTM(UNITS, **options)
            params = jax.eval_shape(lambda layer=layer: layer.init(jax.random.key(0), FEATURES))
            assert not kernel_calls(layer.step, params, None, jax.ShapeDtypeStruct((batch, FEATURES), dtype))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["GRU", pytest.param("peephole", marks=pytest.mark.slow)])
def test_steps_under_transformations_equal_scans(kind):
    """A loop of steps with resets has the results of `scan`, also under `vmap`, and its first and second derivatives."""
    _, params, xs, carry = small_problem(LAYERS[kind](UNITS), batch=3, time=4)
    resets = flags(0.3, batch=3, time=4)
    results = []
    for backend in ("cpu", "scan"):
        step = LAYERS[kind](UNITS, backend=backend).step

        def loss(params, xs, carry, resets, step=step):
            body = lambda carry, inputs: step(params, carry, inputs[0], reset=inputs[1])
            return jax.lax.scan(body, carry, (jnp.moveaxis(xs, 1, 0), resets.T))[1].sum()

        def all_of(params, xs, carry, resets, loss=loss):
            direction = jax.tree.map(jnp.cos, params)
            gradient = lambda params: jax.grad(loss, (0, 1, 2))(params, xs, carry, resets)
            second = jax.jvp(gradient, (params,), (direction,))
            sequences = jax.tree.map(lambda leaf: leaf[:, None], (xs, carry, resets))
            of_each = jax.vmap(jax.value_and_grad(loss), (None, 0, 0, 0))(params, *sequences)
            weights = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)
            return second, of_each, jax.vmap(loss, (0, None, None, None))(weights, xs, carry, resets)

        results.append(jax.jit(all_of)(params, xs, carry, resets))
    assert_close(*results, atol=1e-11)
