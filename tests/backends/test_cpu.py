"""The native kernel: results under every transformation, at odd sizes and for extreme numbers, and its refusals."""

import re
import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jlstm import GRU, LSTM
from problems import TIME, UNITS, apply, assert_close, cotangent_of, differentiate, flags, small_problem

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("native")]

LAYERS = {
    "LSTM": LSTM,
    "GRU": GRU,
    "peephole": partial(LSTM, peephole=True, cell_clip=0.5),
    "i=1-f": partial(LSTM, peephole=True, coupled="i=1-f", output_activation="hard_tanh", activation="relu"),
    "f=1-i": partial(LSTM, peephole=True, coupled="f=1-i", gate_clip=0.7, recurrent_activation="hard_sigmoid_0.2"),
    "projection": partial(LSTM, projection=3),
    "projection of a variant": partial(
        LSTM, projection=37, peephole=True, projection_bias=True, projection_clip=0.3, cell_clip=0.9
    ),
}

FLAGS = {"mask": flags(0.6), "resets": flags(0.3)}

# --- at all sizes ---

SIZES = {  # batch, time, features, units
    "one": (1, 1, 1, 1),
    "few": (2, 3, 2, 3),
    "one block and one unit": (3, 4, 5, 17),
    "one batch row": (1, 9, 5, 33),
    "more rows than a tile has": (20, 4, 30, 70),
    "rows shared out": (64, 3, 16, 24),
    "weights beyond the cache": (2, 3, 200, 650),
    "inputs and gradients of weights in pieces": (7, 400, 2, 40),
    "no rows": (0, 3, 2, 4),
    "no steps": (2, 0, 3, 4),
}


@pytest.mark.table(quick=5)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reverse", [False, True], ids=["plain", "reverse, mask and resets"])
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("kind", LAYERS)
def test_any_size_equals_scan(kind, name, reverse, dtype):
    """Values and gradients equal those of `scan`: forward without flags, backward with a mask and resets."""
    batch, time, features, units = SIZES[name]
    problem = small_problem(LAYERS[kind](units, reverse=reverse, backend="cpu"), batch=batch, time=time, features=features)
    cotangent, (_, params, xs, carry) = cotangent_of(problem), problem
    params = jax.tree.map(lambda leaf: leaf / np.sqrt(units), params)  # without this, long sums magnify small differences
    cast = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
    shares = {"mask": 0.6, "resets": 0.3} if reverse else {}
    sequence = {name: flags(share, batch=batch, time=time) for name, share in shares.items()}
    truth = differentiate(LAYERS[kind](units, reverse=reverse, backend="scan"), cotangent, params, xs, carry, **sequence)
    got = differentiate(problem.layer, *map(cast, (cotangent, params, xs, carry)), **sequence)
    scale = max([1.0, *(np.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(truth))])
    assert_close(got, truth, atol=scale * 50 * np.finfo(dtype).eps)  # sums over up to 650 units and 192 rows


@pytest.mark.newest_jax
@pytest.mark.parametrize("kind", LAYERS)
def test_programs_call_the_kernel(kind):
    """The compiled program calls the kernel. The other tests here would pass without it."""
    layer, params, xs, carry = small_problem(LAYERS[kind](UNITS, backend="cpu"), dtype=np.float32)
    loss = lambda params: layer.apply(params, xs, carry)[1].sum()
    kernel_calls = lambda function: set(re.findall(r"jlstm_\w+", jax.jit(function).lower(params).compile().as_text()))
    assert "jlstm_forward" in kernel_calls(loss)
    assert {"jlstm_forward", "jlstm_backward"} <= kernel_calls(jax.grad(loss))


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_16_bits_are_rounded_once(dtype):
    """Outputs and gradients of a 16-bit run are those of the same numbers in float32, rounded."""
    problem = small_problem(LSTM(UNITS, backend="cpu"), dtype=np.float32)
    cotangent, (layer, params, xs, carry) = cotangent_of(problem), problem
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (cotangent, params, xs, carry))
    widened = jax.tree.map(lambda leaf: leaf.astype("float32"), half)
    exact, got = differentiate(layer, *widened, **FLAGS), differentiate(layer, *half, **FLAGS)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(exact), strict=True):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, b.astype(dtype))


# --- under every transformation ---


def scalar(layer, cotangent, sequence):
    """Return a loss of params, xs and carry whose second derivatives are not zero."""

    def loss(params, xs, carry):
        out = layer.apply(params, xs, carry, **sequence)
        return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, out, cotangent))) ** 2

    return loss


def two(tree):
    return jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), tree)


def broadcast_leading(primals):
    return jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape)), primals)


def biases(params):
    return {name: leaf for name, leaf in params.items() if name.endswith("bias")}


def hessian_times(outer, inner):
    """Return a function that multiplies the Hessian by a direction, with one mode of differentiation over another."""

    def product(f, *args):
        if inner == "reverse":
            gradient = lambda *args: jax.grad(f, (0, 1, 2))(*args)
            if outer == "forward":
                return jax.jvp(gradient, args, broadcast_leading(args))[1]
            return jax.vjp(gradient, *args)[1](broadcast_leading(args))
        slope = lambda *args: jax.jvp(f, args, broadcast_leading(args))[1]
        return jax.grad(slope, (0, 1, 2))(*args) if outer == "reverse" else jax.jvp(slope, args, broadcast_leading(args))[1]

    return product


MODES = {  # w, c: the parameters and the carry
    "grad": lambda f, w, xs, c: jax.grad(f, (0, 1, 2))(w, xs, c),
    "grad of xs": lambda f, w, xs, c: jax.grad(f, 1)(w, xs, c),
    "grad of weights": lambda f, w, xs, c: jax.jit(jax.grad(f))(w, xs, c),
    "grad of the biases": lambda f, w, xs, c: jax.grad(lambda biases: f(w | biases, xs, c))(biases(w)),
    "grad of the carry": lambda f, w, xs, c: jax.grad(f, 2)(w, xs, c),
    "jvp": lambda f, w, xs, c: jax.jvp(f, (w, xs, c), broadcast_leading((w, xs, c))),
    "linearize": lambda f, w, xs, c: jax.linearize(f, w, xs, c)[1](*broadcast_leading((w, xs, c))),
    "jacfwd": lambda f, w, xs, c: jax.jacfwd(f, 2)(w, xs, c),
    "jacrev": lambda f, w, xs, c: jax.jacrev(f, (0, 2))(w, xs, c),
    "forward over reverse": hessian_times("forward", "reverse"),
    "reverse over reverse": hessian_times("reverse", "reverse"),
    "reverse over forward": hessian_times("reverse", "forward"),
    "forward over forward": hessian_times("forward", "forward"),
    "hessian": lambda f, w, xs, c: jax.jit(jax.hessian(f, 2))(w, xs, c),
    "vmap over data": lambda f, w, xs, c: jax.vmap(jax.grad(f, (1, 2)), (None, 0, 0))(w, two(xs), two(c)),
    "a gradient for each example": lambda f, w, xs, c: jax.vmap(jax.grad(f), (None, 0, 0))(w, two(xs), two(c)),
    "vmap over inputs only": lambda f, w, xs, c: jax.vmap(f, (None, 0, None))(w, two(xs), c),
    "vmap over the carry only": lambda f, w, xs, c: jax.vmap(jax.grad(f, 2), (None, None, 0))(w, xs, two(c)),
    "vmap over another axis": lambda f, w, xs, c: jax.vmap(f, (None, 1, None))(w, jnp.stack([xs, xs + 1], 1), c),
    "vmap over weights": lambda f, w, xs, c: jax.vmap(jax.grad(f, (0, 1)), (0, None, None))(two(w), xs, c),
    "vmap over all": lambda f, w, xs, c: jax.vmap(jax.grad(f, (0, 1, 2)))(*map(two, (w, xs, c))),
    "vmap twice": lambda f, w, xs, c: jax.vmap(jax.vmap(f, (None, 0, 0)), (None, 0, None))(w, two(two(xs)), two(c)),
    "grad of vmap": lambda f, w, xs, c: jax.grad(lambda *a: jax.vmap(f, (None, 0, 0))(*a).sum())(w, two(xs), two(c)),
    "vmap over nothing": lambda f, w, xs, c: jax.vmap(jax.grad(f, 1), (None, 0, None))(w, two(xs)[:0], c),
    "checkpoint": lambda f, w, xs, c: jax.grad(jax.checkpoint(f))(w, xs, c),
    "inside scan": lambda f, w, xs, c: jax.grad(lambda p: lax.scan(lambda s, x: (s + f(p, x, c), 0), 0.0, two(xs))[0])(w),
    "inside cond": lambda f, w, xs, c: jax.jit(jax.grad(lambda p, yes: lax.cond(yes, f, lambda *_: 0.0, p, xs, c)))(w, True),
}


WITHOUT_FLAGS = ("grad", "jvp", "reverse over forward", "vmap over data", "vmap over weights", "vmap twice")  # each rule once


@pytest.mark.newest_jax
@pytest.mark.table(quick=4)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", LAYERS)
def test_every_transformation_equals_scans(kind, mode):
    """First and second derivatives in all orders, `vmap`, recomputation and control flow equal those of `scan`."""
    _, *args = problem = small_problem(LAYERS[kind](UNITS, backend="cpu"))
    for sequence in (FLAGS, {}) if mode in WITHOUT_FLAGS else (FLAGS,):
        functions = (scalar(LAYERS[kind](UNITS, backend=name), cotangent_of(problem), sequence) for name in ("cpu", "scan"))
        got, expected = (jax.jit(lambda f=function: MODES[mode](f, *args))() for function in functions)
        scale = max(1.0, *(float(np.abs(leaf).max(initial=0)) for leaf in jax.tree.leaves(expected)))
        assert_close(got, expected, atol=1e-12 * scale)


@pytest.mark.newest_jax
def test_without_jit():
    """The kernel runs under `jax.disable_jit` too."""
    layer, params, xs, carry = small_problem(LSTM(UNITS, backend="cpu"), dtype=np.float32)
    with jax.disable_jit():
        got = layer.apply(params, xs, carry)
    assert_close(got, apply(layer, params, xs, carry), atol=0)


@pytest.mark.newest_jax
def test_an_exported_program_runs_without_the_kernel():
    """An exported program is plain JAX, so that it runs on machines without the kernel."""
    layer, params, xs, carry = small_problem(LSTM(UNITS, backend="cpu"), dtype=np.float32)
    exported = jax.export.export(jax.jit(layer.apply))(params, xs, carry)
    assert "jlstm_forward" not in exported.mlir_module()
    assert_close(exported.call(params, xs, carry), apply(layer, params, xs, carry), atol=1e-6)


# --- to the bit ---


@pytest.mark.table(quick=4)
@pytest.mark.parametrize("kind", LAYERS)
def test_results_are_the_same_to_the_bit_whatever_the_batch(kind):
    """Bits do not change between runs, with a part of the batch, or when residuals are kept for a gradient."""
    layer, params, xs, carry = small_problem(LAYERS[kind](24, backend="cpu"), batch=70, time=12, features=9, dtype=np.float32)
    whole = apply(layer, params, xs, carry)
    assert_close(apply(layer, params, xs, carry), whole, atol=0)
    for part in (slice(0, 1), slice(3, 8), slice(10, 70)):
        part_result = apply(layer, params, xs[part], jax.tree.map(lambda leaf, part=part: leaf[part], carry))
        assert_close(part_result, jax.tree.map(lambda leaf, part=part: leaf[part], whole), atol=0)
    assert_close(differentiate(layer, whole, params, xs, carry)[0], whole, atol=0)


# --- odd numbers ---


@pytest.mark.table(quick=20)
@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e4, 1e38], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_saturated_gates_and_tiny_numbers_equal_scan(kind, scale):
    """With saturated gates and subnormal numbers there is no NaN, and the results are those of `scan`."""
    _, params, xs, carry = small_problem(LAYERS[kind](UNITS), dtype=np.float32)
    args = params, xs * np.float32(scale), carry
    got, expected = (apply(LAYERS[kind](UNITS, backend=name), *args) for name in ("cpu", "scan"))
    assert_close(got, expected, rtol=1e-6, atol=1e-6)  # with ReLU, c grows like the inputs


@pytest.mark.table(quick=15)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_what_is_not_finite_comes_through_as_in_scan(kind, value):
    """Numbers that are not finite affect their own sequence alone, as in `scan`."""
    _, params, xs, carry = small_problem(LAYERS[kind](UNITS), batch=3, dtype=np.float32)
    xs[1, 2, 0] = value
    got, expected = (apply(LAYERS[kind](UNITS, backend=name), params, xs, carry) for name in ("cpu", "scan"))
    assert_close(got, expected, atol=1e-6)  # equal_nan
    assert np.isfinite(np.asarray(got[1])[[0, 2]]).all()


@pytest.mark.parametrize("kind", LAYERS)
def test_an_infinite_carry_that_no_step_reads_poisons_no_gradient(kind):
    """A sequence of length 0 returns its infinite carry, and all gradients stay finite."""
    layer, params, xs, carry = small_problem(LAYERS[kind](UNITS, backend="cpu"), dtype=np.float32)
    carry = jax.tree.map(lambda leaf: np.where(np.arange(2)[:, None] == 0, np.float32(np.inf), leaf), carry)
    loss = lambda params: (layer.apply(params, xs, carry, lengths=np.array([0, TIME]))[1] ** 2).sum()
    gradients = jax.jit(jax.grad(loss))(params)
    assert all(np.isfinite(leaf).all() for leaf in gradients.values())


# --- many at once ---


@pytest.mark.newest_jax
def test_calls_from_many_threads_at_once():
    """Calls from many threads share one pool. They do not block or disturb each other."""
    cases, wrong, failed = [], [], []
    for batch, time, features, units in ((64, 20, 8, 24), (1, 50, 8, 96)):  # rows are shared out, and units
        layer = LSTM(units, backend="cpu")
        _, params, xs, _ = small_problem(layer, batch=batch, time=time, features=features, dtype=np.float32)
        gradient = jax.jit(jax.grad(lambda params, xs, layer=layer: (layer.apply(params, xs)[1] ** 2).sum()))
        cases.append((gradient, params, xs, gradient(params, xs)))

    def call(case):
        gradient, params, xs, expected = case
        try:
            for _ in range(20):
                got = gradient(params, xs)
                wrong.extend(name for name in got if not np.array_equal(got[name], expected[name]))
        except Exception as error:  # a thread would only print it
            failed.append(error)

    threads = [threading.Thread(target=call, args=(cases[k % 2],), daemon=True) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads)
    assert not failed + wrong
