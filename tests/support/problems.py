"""Small random problems in which batch, time, features and units all differ, and helpers that run and compare them."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import jlstm
from parity import textbook

BATCH, TIME, FEATURES, UNITS = 2, 5, 3, 4


class Problem(NamedTuple):
    """A layer with parameters, inputs and initial carry, in NumPy."""

    layer: jlstm.Layer
    params: Any
    xs: np.ndarray
    carry: Any


def small_problem(layer, *, batch=BATCH, time=TIME, features=FEATURES, dtype=np.float64, seed=0):
    """Return a problem with random weights (biases too), inputs and carry, batch first."""
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), features))
    carry = jax.eval_shape(lambda p: layer.initial_carry(p, (batch,)), params)
    draw = partial(normal, rng=np.random.default_rng(seed), dtype=dtype)
    return Problem(layer, draw(params), draw(np.empty((batch, time, *layer.spatial_in, features))), draw(carry))


def normal(tree, *, rng, dtype=np.float64):
    """Return a tree of the same shapes, filled with random numbers."""
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(dtype), tree)


def flags(share, *, batch=BATCH, time=TIME, seed=1):
    """Return random booleans, of which the given share is true."""
    return np.random.default_rng(seed).random((batch, time)) < share


@partial(jax.jit, static_argnums=0)
def apply(layer, params, xs, carry=None, **sequence):
    """`layer.apply`, compiled."""
    return layer.apply(params, xs, carry, **sequence)


@partial(jax.jit, static_argnums=0)
def differentiate(layer, cotangent, params, xs, carry, **sequence):
    """Return the results of `apply`, and the gradients for params, xs and carry under `cotangent`."""
    out, pullback = jax.vjp(lambda *args: layer.apply(*args, **sequence), params, xs, carry)
    return out, pullback(cotangent)


@partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})  # compiling is nearly all it takes
def differentiate_drawn(layer, cotangent, key, offsets, xs, carry):
    """Return initial parameters, dropout masks, (params, xs, carry), and what `differentiate` returns for them, from one program.

    The parameters are the initial ones plus `offsets`. All that is random is drawn from the key.
    """
    initial = layer.init(key, FEATURES)
    params = jax.tree.map(jax.numpy.add, initial, offsets)
    masks = layer.cell.begin(params, (BATCH,), "float64", key=key)[1]
    out, gradients = differentiate(layer, cotangent, params, xs, carry, key=key)
    return initial, masks, (params, xs, carry), out, gradients


def textbook_results(layer, params, xs, carry, cotangent, mask=None, resets=None, dropout_masks=None):
    """Return the same as `differentiate`, computed by the NumPy textbook."""
    last, ys, pullback = textbook.run(layer, params, xs, carry, mask, resets, dropout_masks)
    return (last, ys), pullback(*cotangent)


def cotangent_of(problem, seed=2):
    """Return a random cotangent for all that `apply` returns."""
    shapes = jax.eval_shape(lambda p, xs, c: problem.layer.apply(p, xs, c), *problem[1:])
    return normal(shapes, rng=np.random.default_rng(seed), dtype=problem.xs.dtype)


def assert_equal(got, expected):
    """Assert that both trees have the same structure and the same numbers."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def assert_close(got, expected, atol, rtol=0.0):
    """Assert that both trees have the same structure, and that each leaf is within the tolerance."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol, atol, err_msg=jax.tree_util.keystr(path)
        )


def assert_slopes(expected, values, gradients, cotangent):
    """Assert that each gradient equals the slope along a random direction, by central differences of the NumPy function."""
    leaves, structure = jax.tree.flatten(values)
    for k, (leaf, gradient) in enumerate(zip(leaves, jax.tree.leaves(gradients), strict=True)):
        direction = normal(leaf, rng=np.random.default_rng(k))
        shifted_leaves = [[*leaves[:k], leaf + far * direction, *leaves[k + 1 :]] for far in (1e-6, -1e-6)]
        plus, minus = (_weighted_sum(expected(*jax.tree.unflatten(structure, shifted)), cotangent) for shifted in shifted_leaves)
        assert np.vdot(gradient, direction) == pytest.approx((plus - minus) / 2e-6, rel=1e-6, abs=1e-6)


def _weighted_sum(results, cotangent):
    """Return the number whose gradient `cotangent` asks for."""
    return sum(np.vdot(*pair) for pair in zip(jax.tree.leaves(results), jax.tree.leaves(cotangent), strict=True))
