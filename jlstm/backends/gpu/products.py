"""The matrix products around the kernel, over all steps at once, which XLA computes. They follow `jax_default_matmul_precision`.

Arrays with gates have the four gates one after the other, and the units of each gate are filled up to `padded_units`. The
products read and write these arrays as they are: only weights are padded, and only gradients of weights are cut.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jlstm._src.arrays import broadcast_leading
from jlstm.backends.native.columns import Weights
from jlstm.backends.native.operands import Inputs, padded_units

Gates = Float[Array, "time batch columns"]  # 4 · padded units columns


def project(xs: Float[Array, "time batch features"], weights: Weights) -> Gates:
    """Return x W + b. In the columns that are added it is zero."""
    kernel, bias = _pad(weights.kernel), _pad(weights.bias)
    zs = _multiply(xs, kernel, (2,), (0,))
    return zs + broadcast_leading(bias, zs)


def input_gradient(dzs: Gates, weights: Weights) -> Float[Array, "time batch features"]:
    """Return the gradient of the inputs, dz Wᵀ."""
    return _multiply(dzs, _pad(weights.kernel), (2,), (1,))


def weight_gradients(
    inputs: Inputs, hs: Float[Array, "time batch units"], dzs: Gates, dpeepholes: Float[Array, "batch 3 units"], *, reverse: bool
) -> Weights:
    """Return the gradients of the weights, summed over all steps and sequences.

    Steps that do not count have dz = 0, and x = 0: the loop over time puts zeros there before it calls a backend, see
    `without_padding`.

    Args:
        inputs: the operands of the run.
        hs: h before each step. Without a mask and resets the outputs, from which it follows.
        dzs: the gradients of the pre-activations.
        dpeepholes: those of the peepholes by sequence, or (0, 0, 0).
        reverse: whether the run goes from the last step to the first.
    """
    units, rows = inputs.carry.h.shape[-1], (0, 1)
    if inputs.stores_h:
        recurrent = _multiply(hs, dzs, rows, rows)
    else:
        # h before a step is the output of the step before, and h0 for the first. XLA may multiply parts of the arrays in place.
        first, others, previous = (-1, slice(None, -1), slice(1, None)) if reverse else (0, slice(1, None), slice(None, -1))
        recurrent = _multiply(inputs.carry.h, dzs[first], (0,), (0,)) + _multiply(hs[previous], dzs[others], rows, rows)
    kernel, bias = _multiply(inputs.xs, dzs, rows, rows), dzs.sum(rows)
    projection = jnp.zeros((0, 0), kernel.dtype)  # this kernel has none
    return Weights(_cut(kernel, units), _cut(recurrent, units), _cut(bias, units), dpeepholes.sum(0), projection)


def _multiply(a: Array, b: Array, a_axes: tuple[int, ...], b_axes: tuple[int, ...]) -> Array:
    """Return the sums of products over some axes of both. The axes that remain are those of a, and then those of b."""
    return lax.dot_general(a, b, ((a_axes, b_axes), ((), ())))


def _pad(columns: Float[Array, "*rows columns"]) -> Float[Array, "*rows padded"]:
    """Fill up the units of each gate by zeros."""
    *rows, count = columns.shape
    units = count // 4
    gates = columns.reshape(*rows, 4, units)
    added = padded_units(units, columns.dtype) - units
    return jnp.pad(gates, [*((0, 0),) * (len(rows) + 1), (0, added)]).reshape(*rows, -1)


def _cut(columns: Float[Array, "*rows padded"], units: int) -> Float[Array, "*rows columns"]:
    """Undo `_pad`."""
    *rows, padded = columns.shape
    return columns.reshape(*rows, 4, padded // 4)[..., :units].reshape(*rows, 4 * units)
