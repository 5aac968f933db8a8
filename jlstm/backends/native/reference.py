"""The computations of the native kernel, written in JAX: used for second derivatives and on other platforms."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.backends import fused
from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.backends.native.operands import Inputs, Run, residual_shapes


def forward(run: Run, inputs: Inputs, *, keep: bool) -> list[Array]:
    """Return the fields of `Outputs` and, with `keep`, zeros as residuals: the derivatives below do not read them."""
    zeros = jax.tree.map(jnp.zeros_like, inputs.carry)
    mask, resets = (steps if steps.size else None for steps in (inputs.mask, inputs.resets))
    run_inputs = RunInputs(inputs.params, {}, zeros, inputs.carry, inputs.xs, mask, resets)
    carry, (ys, _) = fused.run(run.cell, run_inputs, RunOptions(run.reverse))
    residuals = [jnp.zeros(shape, inputs.xs.dtype) for shape in residual_shapes(inputs)] if keep else []
    return [ys, *carry, *residuals]


def tangent(run: Run, inputs: Inputs, tangents: Sequence[Array]) -> list[Array]:
    """Return the tangents of the outputs, from those of the leaves of `inputs.differentiable`."""
    outputs, operands = _outputs(run, inputs)
    return list(jax.jvp(outputs, operands, tuple(tangents))[1])


def transposed(run: Run, inputs: Inputs, cotangents: Sequence[Array]) -> list[Array]:
    """Return the gradients of the leaves of `inputs.differentiable`, from those of the outputs."""
    outputs, operands = _outputs(run, inputs)
    return list(jax.vjp(outputs, *operands)[1](list(cotangents)))


def _outputs(run: Run, inputs: Inputs) -> tuple[Callable[..., list[Array]], tuple[Any, ...]]:
    """Return the outputs of a run as a function of the leaves of `inputs.differentiable`, and these."""
    operands = tuple(jax.tree.leaves(inputs.differentiable))
    return lambda *leaves: forward(run, run.inputs((*leaves, inputs.mask, inputs.resets)), keep=False), operands
