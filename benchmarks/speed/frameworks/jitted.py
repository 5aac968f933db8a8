"""What all frameworks on JAX share: compile, call, and wait for the result."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.speed.points import Point

Jobs = dict[str, Callable[[], Any]]


def waiting(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """Compile the function, and return a call of it with arguments on the device. It returns the leaves of the result."""
    compiled, given = jax.jit(function), jax.block_until_ready(jax.device_put(arguments))
    return lambda: jax.tree.leaves(jax.block_until_ready(compiled(*given)))


def sequence(outputs: Callable[[Any, jax.Array], jax.Array], params: Any, point: Point, *, batch_major: bool = False) -> Jobs:
    """The jobs of a function of parameters and inputs that returns the outputs of all steps.

    Inputs are (time, batch, features) unless `batch_major`. Padding must have outputs of zero: it counts in the loss.
    """
    xs = point.inputs()
    xs = np.ascontiguousarray(xs.swapaxes(0, 1)) if batch_major else xs

    def loss(params: Any, xs: jax.Array) -> jax.Array:
        return jnp.sum(outputs(params, xs) ** 2)

    return {"forward": waiting(outputs, params, xs), "training": waiting(jax.grad(loss), params, xs)}


def unpadded(ys: jax.Array, point: Point) -> jax.Array:
    """Time-major outputs, with zeros where padding is: for frameworks that leave something else there."""
    mask = jnp.arange(point.time)[:, None] < point.lengths
    return jnp.where(mask[:, :, None], ys, 0.0)
