"""The computations of the native kernels, written in JAX: used for second derivatives and on other platforms."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.backends import fused
from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.backends.native.operands import Inputs, Run, residual_shapes
from jlstm.cell import PyTree


def forward(run: Run, inputs: Inputs, *, keep: bool) -> list[Array]:
    """Return the fields of `Outputs` and, with `keep`, zeros as residuals: the derivatives below do not read them."""
    outputs, _ = run_and_keep(run, inputs, None)
    return [*outputs, *(jnp.zeros(shape, inputs.xs.dtype) for shape in residual_shapes(inputs) * keep)]


def run_and_keep(run: Run, inputs: Inputs, keep: Callable[[PyTree, PyTree, PyTree], PyTree] | None) -> tuple[list[Array], PyTree]:
    """Return the fields of `Outputs`, and what `keep` returns at each step, see `RunOptions`."""
    zeros = jax.tree.map(jnp.zeros_like, inputs.carry)
    mask, resets = (steps if steps.size else None for steps in (inputs.mask, inputs.resets))
    run_inputs = RunInputs(inputs.params, {}, zeros, inputs.carry, inputs.xs, mask, resets)
    carry, (ys, kept) = fused.run(run.cell, run_inputs, RunOptions(run.reverse, keep=keep))
    return [ys, *carry], kept


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
