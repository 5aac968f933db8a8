"""Results have the requested dtype, are computed in it, and are as accurate as it allows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

import jlstm
from jlstm import LSTM, Bidirectional, Stack
from problems import FEATURES, TIME, UNITS, apply, cotangent_of, differentiate, flags, small_problem, textbook_results

pytestmark = pytest.mark.no_cover

DTYPES = ["float64", "float32", "bfloat16", "float16"]


def layers(**options):
    """Return one layer of each kind with these options."""
    return {
        "LSTM": LSTM(UNITS, **options),
        "remat": LSTM(UNITS, remat=2, **options),
        "Bidirectional": Bidirectional(LSTM(UNITS, **options), "ave"),
        "Stack": Stack((LSTM(UNITS, **options), LSTM(6, **options))),
    }


def dtypes_of(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


@pytest.mark.table(quick=4)
@pytest.mark.parametrize("param_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_everything_has_the_dtype_asked_for(x64, dtype, param_dtype):
    """Parameters and their gradients have `param_dtype`; all results `dtype`, whatever the inputs and the carry have."""
    options = {"dtype": dtype, "param_dtype": param_dtype}
    layer = Stack((Bidirectional(LSTM(UNITS, **options)), LSTM(6, remat=2, **options)))
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), FEATURES))
    assert dtypes_of(params) == {param_dtype}
    xs = jax.ShapeDtypeStruct((2, TIME, FEATURES), "bfloat16")
    carry = jax.eval_shape(lambda p: layer.initial_carry(p, (2,), "float16"), params)
    assert dtypes_of(jax.eval_shape(layer.apply, params, xs, carry)) == {dtype}
    assert dtypes_of(jax.eval_shape(lambda p, xs: jlstm.cell_states(layer, p, xs), params, xs)) == {dtype}
    assert dtypes_of(jax.eval_shape(jax.grad(lambda p, xs: layer.apply(p, xs)[1].sum()), params, xs)) == {param_dtype}
    top, (params, carry) = layer.layers[1], (tree[1] for tree in (params, carry))
    assert dtypes_of(jax.eval_shape(top.step, params, carry, jax.ShapeDtypeStruct((2, 8), "bfloat16"))) == {dtype}


@pytest.mark.parametrize("name", layers())
@pytest.mark.parametrize("dtype", DTYPES)
def test_without_dtype_the_inputs_decide(x64, dtype, name):
    """With dtype=None outputs and carries have the inputs' dtype."""
    layer = layers()[name]
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), FEATURES))
    assert dtypes_of(params) == {"float32"}
    assert dtypes_of(jax.eval_shape(layer.apply, params, jax.ShapeDtypeStruct((2, TIME, FEATURES), dtype))) == {dtype}


def test_dtype_of_the_initial_carry():
    """The argument takes precedence over the layer's dtype, and that over the parameters' dtype."""
    for layer in (LSTM(UNITS, dtype="float32", param_dtype="float16"), LSTM(UNITS, param_dtype="float16")):
        params = layer.init(jax.random.key(0), FEATURES)
        assert dtypes_of(layer.initial_carry(params, (2,), "bfloat16")) == {"bfloat16"}
        assert dtypes_of(layer.initial_carry(params, (2,))) == {"float32" if layer.dtype else "float16"}


def avals(jaxpr):
    """Return the result types of all equations, in all nested programs."""
    for eqn in jaxpr.eqns:
        yield from (variable.aval for variable in eqn.outvars)
        for inner in jaxprs_in_params(eqn.params):
            yield from avals(inner)


@pytest.mark.table(quick=4)
@pytest.mark.parametrize("name", layers())
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bits_stay_16_bits(dtype, name):
    """In a 16-bit run by XLA and its gradient no intermediate is wider."""
    layer = layers(dtype=dtype, param_dtype=dtype, backend="fused")[name]
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), FEATURES))
    xs = jax.ShapeDtypeStruct((2, TIME, FEATURES), dtype)
    mask = jnp.asarray(flags(0.6))
    run = lambda p, xs: layer.apply(p, xs, mask=mask)
    pull = lambda p, xs: jax.vjp(run, p, xs)[1](jax.tree.map(jnp.ones_like, run(p, xs)))
    computed = {aval.dtype.name for aval in avals(jax.make_jaxpr(pull)(params, xs).jaxpr)}
    assert {name for name in computed if "float" in name} == {dtype}


@pytest.mark.table(quick=3)
@pytest.mark.usefixtures("full_precision")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("layer", [LSTM(UNITS), LSTM(UNITS, remat=2), Bidirectional(LSTM(UNITS))], ids=repr)
def test_close_to_the_truth(dtype, layer):
    """Values and gradients lie within a few rounding errors of the float64 truth for the same, rounded, numbers."""
    eps = float(jnp.finfo(dtype).eps)
    problem, cotangent = small_problem(layer), cotangent_of(small_problem(layer))
    rounded = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (problem[1:], cotangent))
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), rounded)
    got = differentiate(layer, rounded[1], *rounded[0])
    expected = textbook_results(layer, *exact[0], exact[1])
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        # five steps of some ten roundings each, most of which cancel; gradients grow beyond the values' scale of 1
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=0, atol=16 * eps * max(1, np.abs(b).max()))


def test_mixed_precision_rounds_only_once():
    """float32 parameters in a bfloat16 run are cast once, at the beginning."""
    _, params, xs, carry = small_problem(LSTM(UNITS), dtype=np.float32)
    params, xs, carry = jax.tree.map(jnp.asarray, (params, xs, carry))
    half = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), (params, xs, carry))
    for a, b in zip(
        jax.tree.leaves(apply(LSTM(UNITS, dtype="bfloat16"), params, xs, carry)),
        jax.tree.leaves(apply(LSTM(UNITS), *half)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
