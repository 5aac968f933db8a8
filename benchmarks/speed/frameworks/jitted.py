"""Compile a function with JAX, call it, and wait for the result. All frameworks on JAX share this."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.speed.job import Job, relative_error
from benchmarks.speed.points import Point

Jobs = dict[str, Callable[[], Any]]


def blocking_call(function: Callable[..., Any], *arguments: Any, exact: Callable[..., Any] | None = None) -> Job:
    """Return a job that calls the compiled function and waits for its result.

    Args:
        function: the function.
        *arguments: its arguments, which are put on the device now, so that the copy is not timed.
        exact: a function that computes the same in float64 on a CPU, for the job's error.

    Returns:
        The job, whose result is the leaves of that of the function. The first call compiles.
    """
    compiled, device_arguments = jax.jit(function), jax.block_until_ready(jax.device_put(arguments))

    def memory() -> int:
        sizes: Any = compiled.lower(*device_arguments).compile().memory_analysis()  # of the program that the first call compiled
        return sizes.temp_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes

    def error() -> float:
        return relative_error(job(), in_float64(exact or function, *arguments))

    def wait(result: Any) -> Any:
        # `jax.block_until_ready` would flatten the tree once more, in Python, which takes a good part of the time of a step.
        return [leaf.block_until_ready() for leaf in jax.tree.leaves(result)]

    job = Job(lambda: compiled(*device_arguments), wait, memory, error if exact else None)
    return job


def in_float64(function: Callable[..., Any], *arguments: Any) -> list[np.ndarray]:
    """Return the leaves of the result of a function that JAX computes in float64 on the CPU."""
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), arguments)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        return list(map(np.asarray, jax.tree.leaves(jax.jit(function)(*wide))))


def sequence(
    outputs: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    point: Point,
    *,
    batch_major: bool = False,
    dtype: str = "float32",
    exact: Callable[[Any, jax.Array], jax.Array] | None = None,
) -> Jobs:
    """Return the jobs "forward" and "training" of a recurrent network.

    Args:
        outputs: a function of parameters and inputs that returns the outputs of all steps. They must be zero where padding is,
            because the loss is the sum of all squared outputs.
        params: the parameters.
        point: the point, which draws the inputs.
        batch_major: whether `outputs` takes inputs of shape (batch, time, features) instead of (time, batch, features).
        dtype: of the inputs.
        exact: what computes the same as `outputs` in float64 on a CPU, for the jobs' errors.
    """
    xs = point.inputs()
    xs = np.ascontiguousarray(xs.swapaxes(0, 1)) if batch_major else xs

    def gradients(outputs: Callable[[Any, jax.Array], jax.Array]) -> Callable[..., Any]:
        return jax.grad(lambda params, xs: jnp.sum(outputs(params, xs) ** 2))

    arguments = params, jnp.asarray(xs, dtype)
    return {
        "forward": blocking_call(outputs, *arguments, exact=exact),
        "training": blocking_call(gradients(outputs), *arguments, exact=exact and gradients(exact)),
    }


def unpadded(ys: jax.Array, point: Point) -> jax.Array:
    """Set time-major outputs to zero where padding is, for frameworks that return other values there."""
    mask = jnp.arange(point.time)[:, None] < point.lengths
    return jnp.where(mask[:, :, None], ys, 0.0)
