"""Compile a function with JAX, call it, and wait for the result. All frameworks on JAX share this."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.speed.job import Job
from benchmarks.speed.points import Point

Jobs = dict[str, Callable[[], Any]]


def blocking_call(function: Callable[..., Any], *arguments: Any) -> Job:
    """Return a job that calls the compiled function and waits for its result.

    Args:
        function: the function.
        *arguments: its arguments, which are put on the device now, so that the copy is not timed.

    Returns:
        The job, whose result is the leaves of that of the function. The first call compiles.
    """
    compiled, device_arguments = jax.jit(function), jax.block_until_ready(jax.device_put(arguments))
    return Job(lambda: compiled(*device_arguments), lambda result: jax.tree.leaves(jax.block_until_ready(result)))


def sequence(outputs: Callable[[Any, jax.Array], jax.Array], params: Any, point: Point, *, batch_major: bool = False) -> Jobs:
    """Return the jobs "forward" and "training" of a recurrent network.

    Args:
        outputs: a function of parameters and inputs that returns the outputs of all steps. They must be zero where padding is,
            because the loss is the sum of all squared outputs.
        params: the parameters.
        point: the point, which draws the inputs.
        batch_major: whether `outputs` takes inputs of shape (batch, time, features) instead of (time, batch, features).
    """
    xs = point.inputs()
    xs = np.ascontiguousarray(xs.swapaxes(0, 1)) if batch_major else xs

    def loss(params: Any, xs: jax.Array) -> jax.Array:
        return jnp.sum(outputs(params, xs) ** 2)

    return {"forward": blocking_call(outputs, params, xs), "training": blocking_call(jax.grad(loss), params, xs)}


def unpadded(ys: jax.Array, point: Point) -> jax.Array:
    """Set time-major outputs to zero where padding is, for frameworks that return other values there."""
    mask = jnp.arange(point.time)[:, None] < point.lengths
    return jnp.where(mask[:, :, None], ys, 0.0)
