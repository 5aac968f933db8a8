"""The numbers of a problem, which all sides start from."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jlstm._src import checks
from jlstm.cells import Dropout
from parity.problem import Arrays, Problem, mask_of


class Values(NamedTuple):
    """The numbers of a problem. They are float64, but representable in its dtype, so that all sides start from the same numbers.

    Args:
        params: the layer's parameters.
        xs: the inputs (batch, time, *spatial sizes, features).
        carry: the initial carry; None for zeros.
        mask: which steps count, bool (batch, time); None if all do.
        dropout_masks: the dropout masks of every layer; None without dropout.
        d_carry: the cotangent of the last carry.
        d_ys: the cotangent of the outputs, in their shape.
    """

    params: Arrays
    xs: np.ndarray
    carry: Arrays
    mask: np.ndarray | None
    dropout_masks: Arrays
    d_carry: Arrays
    d_ys: Arrays


def draw(problem: Problem) -> Values:
    """Draw the numbers that a problem does not set, from its seed.

    Args:
        problem: its `params` and `xs` are used if they are set.

    Returns:
        Parameters, inputs, carry, masks, and the cotangents of all results.

    Raises:
        ValueError: `params` do not fit the number of features of `xs`.
    """
    # The order of the draws below fixes the numbers that belong to a seed.
    rng = np.random.default_rng(problem.seed)

    def normal(shape: tuple[int, ...], scale: float = 1.0) -> np.ndarray:
        return rounded(scale * rng.standard_normal(shape), problem.dtype)

    layer = problem.layer
    xs_shape = (problem.batch, problem.time, *layer.spatial_in, problem.features)
    xs = normal(xs_shape) if problem.xs is None else rounded(problem.xs, problem.dtype)
    batch, time, features = *xs.shape[:2], xs.shape[-1]
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), features))
    if problem.params is not None:
        params = problem.params
        checks.tree("params", params, shapes, f"pass parameters of this layer for xs with {features} features")
    elif problem.weights == "initial":
        params = layer.init(jax.random.key(problem.seed), features)
    else:
        params = jax.tree.map(lambda leaf: normal(leaf.shape, 0.3), shapes)
    params = jax.tree.map(lambda leaf: rounded(leaf, problem.dtype), params)
    carries = jax.eval_shape(lambda: layer.initial_carry(params, (batch,), "float32"))
    carry = jax.tree.map(lambda leaf: normal(leaf.shape, 0.5), carries)
    d_carry = jax.tree.map(lambda leaf: normal(leaf.shape), carry)
    steps = time if problem.outputs == "all" else problem.batches
    ys_shapes = _ys_shapes(problem, params, xs)
    d_ys = jax.tree.map(lambda leaf: normal((batch, steps, *leaf.shape[2:])), ys_shapes)
    dropout_masks = None
    if layer.stochastic:
        dropout_masks = layer.map(lambda leaf, leaf_params: _dropout_masks(leaf, leaf_params, batch, rng, problem.dtype), params)
    return Values(params, xs, carry if problem.initial_carry else None, mask_of(problem), dropout_masks, d_carry, d_ys)


def _ys_shapes(problem: Problem, params: Arrays, xs: np.ndarray) -> Arrays:
    """Return the shapes of all outputs, batch first."""
    layer = problem.layer
    if layer.time_major:
        xs = xs.swapaxes(0, 1)
    with jax.enable_x64(True):  # a layer may be set to compute in float64
        ys = jax.eval_shape(lambda p, x: layer.apply(p, x)[1], params, xs)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*xs.shape[:2], *leaf.shape[2:]), leaf.dtype), ys)


def rounded(values: Any, dtype: str) -> np.ndarray:
    """Round to `dtype` and return the result as float64."""
    return np.asarray(values).astype(jnp.dtype(dtype)).astype(np.float64)


def _dropout_masks(layer: Any, params: Arrays, batch: int, rng: np.random.Generator, dtype: str) -> Arrays:
    """Draw the dropout masks of an RNN."""
    if isinstance(layer.cell, Dropout):
        cell, carry = layer.cell, jax.eval_shape(lambda: layer.initial_carry(params, (batch,), "float32"))
        sizes = {"inputs": cell.features_in(params), "outputs": cell.features_out, "state": carry.h.shape[-1]}
        rates = {name: getattr(cell, name) for name in sizes}
        shapes = {name: (batch, size) for name, size in sizes.items()}
        return _masks(rates, shapes, rng, dtype)
    # Only the shapes of the cell's own masks are taken. The masks come from NumPy, because every framework gets the same ones.
    context = jax.eval_shape(lambda: layer.cell.begin(params, (batch,), "float32", key=jax.random.key(0))[1])
    rates = {"inputs": layer.cell.dropout, "recurrent": layer.cell.recurrent_dropout}
    return _masks(rates, {name: mask.shape for name, mask in context.items()}, rng, dtype)


def _masks(rates: Mapping[str, float], shapes: Mapping[str, Any], rng: np.random.Generator, dtype: str) -> Arrays:
    return {name: rounded((rng.random(shapes[name]) >= rate) / (1 - rate), dtype) for name, rate in rates.items() if rate}
